//! `trunkline`: share a program, attach to it from anywhere, detach, come back.

#![forbid(unsafe_code)]

mod arguments;
mod attach;
mod connect;
mod failure;
mod host;
mod interrupt;
mod key;
mod paper;

use std::process::ExitCode;

use arguments::{Command, parse};
use failure::Failure;

fn main() -> ExitCode {
    let result = match parse() {
        Command::Key(arguments) => key::run(&arguments),
        Command::Host(arguments) => host::run(arguments),
        Command::Attach(arguments) => attach::run(&arguments),
        Command::Interrupt(arguments) => interrupt::run(&arguments),
        Command::Completions(arguments) => paper::completions(&arguments),
        Command::Man(arguments) => paper::man(&arguments),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(Failure { code, text }) => {
            eprintln!("trunkline: {text}");
            ExitCode::from(code)
        }
    }
}
