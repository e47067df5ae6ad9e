//! `trunkline key`.

use std::path::Path;

use trunkline::Key;

use crate::arguments;
use crate::failure::{CANNOT_CREATE, CONFIG, Failure, Outcome};

pub fn run(arguments: &arguments::Key) -> Outcome {
    Key::generate().write_new_file(&arguments.file).map_err(|error| Failure::new(CANNOT_CREATE, error))?;
    Ok(0)
}

pub fn read(file: &Path) -> Result<Key, Failure> {
    Key::from_file(file).map_err(|error| {
        let text = format!("{error}; `trunkline key {}` makes one", file.display());
        Failure::new(CONFIG, text)
    })
}
