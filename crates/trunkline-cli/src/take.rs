//! `trunkline take`.

use crate::arguments;
use crate::client::Client;
use crate::failure::Outcome;

pub fn run(arguments: &arguments::Take) -> Outcome {
    let client = Client::connect(&arguments.reach)?;
    client.take()?;
    client.leave()?;
    Ok(0)
}
