//! `trunkline completions` and `trunkline man`: what is written about the command line.

use crate::arguments;
use crate::failure::{CANNOT_CREATE, Failure, Outcome};
use crate::output;

pub fn completions(arguments: &arguments::Completions) -> Outcome {
    // Into memory first: the generator panics if the reader is gone.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut arguments::command(), "trunkline", &mut script);
    output::print(script)?;
    Ok(0)
}

pub fn man(arguments: &arguments::Man) -> Outcome {
    let directory = &arguments.directory;
    std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(arguments::command(), directory))
        .map_err(|error| Failure::new(CANNOT_CREATE, format!("{}: {error}", directory.display())))?;
    Ok(0)
}
