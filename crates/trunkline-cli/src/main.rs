//! `trunkline`: share a program, attach to it from anywhere, detach, come back.

#![forbid(unsafe_code)]

mod arguments;
mod attach;
mod client;
mod commands;
mod failure;
mod forward;
mod host;
mod interrupt;
mod key;
mod ls;
mod new;
mod output;
mod paper;
mod reach;
mod screen;
mod send;
mod status;
mod take;
mod top;
mod typed_key;
mod wait;
mod watch;

use std::process::ExitCode;

use arguments::{Command, parse};
use failure::Failure;

fn main() -> ExitCode {
    let result = match parse() {
        Command::Key(arguments) => key::run(&arguments),
        Command::Host(arguments) => host::run(arguments),
        Command::New(arguments) => new::run(arguments),
        Command::Ls(arguments) => ls::run(&arguments),
        Command::Attach(arguments) => attach::run(&attach::Options::attaching(arguments)),
        Command::Watch(arguments) => watch::run(arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Send(arguments) => send::run(&arguments),
        Command::Screen(arguments) => screen::run(&arguments),
        Command::Wait(arguments) => wait::run(&arguments),
        Command::Interrupt(arguments) => interrupt::run(&arguments),
        Command::Take(arguments) => take::run(&arguments),
        Command::Forward(arguments) => forward::run(&arguments),
        Command::Top(arguments) => top::run(&arguments),
        Command::Completions(arguments) => paper::completions(&arguments),
        Command::Man(arguments) => paper::man(&arguments),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(Failure { code, text }) => {
            if !text.is_empty() {
                output::tell(format!("trunkline: {text}"));
            }
            ExitCode::from(code)
        }
    }
}

/// A text from elsewhere, without what a terminal would obey, and not without end.
fn plain(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(200).collect()
}
