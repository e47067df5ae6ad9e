//! `trunkline interrupt`.

use crate::arguments;
use crate::client::Client;
use crate::failure::Outcome;

pub fn run(arguments: &arguments::Interrupt) -> Outcome {
    let client = Client::connect(&arguments.reach)?;
    client.connection.interrupt().map_err(|error| client.not_permitted(&error))?;
    // The host has it when this returns.
    client.leave()?;
    Ok(0)
}
