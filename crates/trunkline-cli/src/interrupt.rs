//! `trunkline interrupt`.

use trunkline::{ChannelError, CloseCode};

use crate::arguments;
use crate::connect::connect;
use crate::failure::{Failure, NO_PERMISSION, Outcome, UNAVAILABLE};

pub fn run(arguments: &arguments::Interrupt) -> Outcome {
    let address = &arguments.address;
    let connection = connect(address, &arguments.key_file)?;
    connection.interrupt().map_err(|error| match error {
        ChannelError::InterruptNotPermitted => {
            Failure::new(NO_PERMISSION, format!("{address}: {error}; use a key that does not only watch"))
        }
        error => Failure::new(UNAVAILABLE, format!("{address}: {error}")),
    })?;
    // The host has it when this returns.
    connection.close(CloseCode::NORMAL, "").map_err(|error| {
        Failure::new(UNAVAILABLE, format!("{address}: the host may not have heard it: {error}"))
    })?;
    Ok(0)
}
