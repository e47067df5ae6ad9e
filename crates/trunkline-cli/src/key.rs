//! `trunkline key`.

use std::io;

use trunkline::{Key, KeyError};

use crate::arguments;
use crate::failure::{CANNOT_CREATE, Failure, Outcome};

pub fn run(arguments: &arguments::Key) -> Outcome {
    Key::generate().write_new_file(&arguments.file).map_err(|error| {
        let file = arguments.file.display();
        match &error {
            KeyError::File { source, .. } if source.kind() == io::ErrorKind::AlreadyExists => {
                let text =
                    format!("{file}: there is a file already, which stays as it is; choose another name");
                Failure::new(CANNOT_CREATE, text)
            }
            KeyError::File { source, .. } => {
                let text = format!("cannot write {file}: {source}; choose a directory that you can write");
                Failure::new(CANNOT_CREATE, text)
            }
            error => Failure::new(CANNOT_CREATE, error),
        }
    })?;
    Ok(0)
}
