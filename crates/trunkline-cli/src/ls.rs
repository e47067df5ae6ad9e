//! `trunkline ls`.

use serde_json::json;

use crate::arguments;
use crate::failure::Outcome;
use crate::output;
use crate::reach::names;

pub fn run(arguments: &arguments::Ls) -> Outcome {
    let hosts = names::list()?;
    let mut text = String::new();
    if arguments.json {
        for (name, entry) in &hosts {
            let object = json!({
                "name": name.to_string(), "address": entry.address, "pid": entry.pid, "program": entry.program,
                "key_file": entry.key_file.to_string_lossy(),
            });
            text += &format!("{object}\n");
        }
    } else {
        let width = hosts.iter().map(|(name, _)| name.to_string().len()).max().unwrap_or(0);
        for (name, entry) in &hosts {
            let (address, program) = (crate::plain(&entry.address), crate::plain(&entry.program));
            text += &format!("{:width$}  {:>7}  {program}  ({address})\n", name.to_string(), entry.pid);
        }
    }
    output::print(text)?;
    Ok(0)
}
