//! `trunkline key`.

use trunkline::Key;

use crate::arguments;
use crate::failure::{CANNOT_CREATE, Failure, Outcome};

pub fn run(arguments: &arguments::Key) -> Outcome {
    Key::generate().write_new_file(&arguments.file).map_err(|error| Failure::new(CANNOT_CREATE, error))?;
    Ok(0)
}
