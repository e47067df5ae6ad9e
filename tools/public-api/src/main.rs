//! Compares the library's public interface with `public-api.txt`, or writes that file.
//!
//! ```sh
//! cargo run -p public-api-list              # fails if the file says something else
//! cargo run -p public-api-list -- --save
//! ```
//!
//! The list comes from rustdoc's JSON, with all features. That output is unstable, so this program
//! stands in for rustdoc and switches it on (`RUSTC_BOOTSTRAP`) for rustdoc alone: set for all of
//! Cargo it would build the dependencies once more.

use std::env;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use public_api::Builder;

/// Set for the call in which this program stands in for rustdoc.
const AS_RUSTDOC: &str = "PUBLIC_API_LIST_AS_RUSTDOC";

/// Traits that the compiler implements and no caller asks for. `Send` and `Sync` are in the list.
const NOISE: [&str; 6] = [
    "Freeze for",
    "RefUnwindSafe for",
    "StructuralPartialEq for",
    "Unpin for",
    "UnsafeUnpin for",
    "UnwindSafe for",
];

fn main() -> Result<ExitCode, Box<dyn Error>> {
    if let Some(rustdoc) = env::var_os(AS_RUSTDOC) {
        let status =
            Command::new(rustdoc).args(env::args_os().skip(1)).env("RUSTC_BOOTSTRAP", "1").status()?;
        return Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }

    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).ok_or("no root")?;
    let file = root.join("public-api.txt");
    let list = list(root)?;
    if env::args().nth(1).as_deref() == Some("--save") {
        fs::write(&file, &list)?;
        return Ok(ExitCode::SUCCESS);
    }
    let known = fs::read_to_string(&file)?;
    if known == list {
        return Ok(ExitCode::SUCCESS);
    }
    let without = |these: &str, those: &str, sign: char| {
        let those: Vec<&str> = those.lines().collect();
        for line in these.lines().filter(|line| !those.contains(line)) {
            println!("{sign} {line}");
        }
    };
    without(&known, &list, '-');
    without(&list, &known, '+');
    println!(
        "The public interface is not what public-api.txt says. If that is meant, update the file with\n\
         `cargo run -p public-api-list -- --save`, and add a line to the changelog."
    );
    Ok(ExitCode::FAILURE)
}

fn list(root: &Path) -> Result<String, Box<dyn Error>> {
    let target = root.join(env::var_os("CARGO_TARGET_DIR").unwrap_or("target".into()));
    let rustdoc = env::var_os("RUSTDOC").unwrap_or("rustdoc".into());
    let status = Command::new(env!("CARGO"))
        .current_dir(root)
        .args(["rustdoc", "--quiet", "--locked", "--package", "trunkline", "--lib", "--all-features"])
        .arg("--target-dir")
        .arg(&target)
        .arg("--")
        .args(["-Z", "unstable-options", "--output-format", "json"])
        .env("RUSTDOC", env::current_exe()?)
        .env(AS_RUSTDOC, rustdoc)
        .status()?;
    if !status.success() {
        return Err("cargo rustdoc fails".into());
    }
    let api =
        Builder::from_rustdoc_json(target.join("doc/trunkline.json")).omit_blanket_impls(true).build()?;
    let lines = api.items().map(|item| item.to_string());
    let lines =
        lines.filter(|line| !line.starts_with("impl") || !NOISE.iter().any(|noise| line.contains(noise)));
    Ok(lines.map(|line| line + "\n").collect())
}
