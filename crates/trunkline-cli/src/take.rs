//! `trunkline take`.

use crate::arguments;
use crate::client::Client;
use crate::failure::Outcome;

pub fn run(arguments: &arguments::Take) -> Outcome {
    let client = Client::connect(&arguments.reach)?;
    client.take()?;
    // It is free for the next one that types, when this returns.
    client.release()?;
    client.leave()?;
    Ok(0)
}
