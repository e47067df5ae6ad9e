//! A kernel for a language of a few words, to see what an interpreter has to do, and what it has not.
//!
//! ```sh
//! cargo run -p trunkline-kernel --example tiny -- 127.0.0.1:4000 kernel.key
//! ```
//!
//! | statement | what it does |
//! |---|---|
//! | `say TEXT` | prints the text and a newline |
//! | `flood BYTES` | prints so many bytes in one call |
//! | `count N` | prints the numbers below N, each in a call of its own |
//! | `picture BYTES` | shows a picture of so many bytes |
//! | `ask PROMPT` | reads a line, and says it |
//! | `asks N` | reads so many lines, and says each, or that there is none |
//! | `loop TEXT` | prints the text, and runs until it is interrupted |
//! | `deaf MS` | runs for so long, and reacts to nothing |
//! | `grow` | takes more and more memory, and reacts to nothing |
//! | `panic TEXT` | panics |
//! | `die` | ends the process as a crash does |
//! | `begin`, some lines, `end` | one statement that says its lines |

use std::error::Error;
use std::hint::black_box;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use trunkline_kernel::kernel::{Introspect, Kernel, Next, Run, Settings, Stdio, StdioError};
use trunkline_kernel::layout::{Operation, Picture, Reply};
use trunkline_kernel::listen;

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A standard error that is not read is no reason to panic.
            drop(writeln!(io::stderr(), "tiny: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let kernel = match &arguments[..] {
        // Started by its console.
        [] => Kernel::serve_parent(settings(None, None))?,
        [address, key_file, limits @ ..] => {
            // For a test of its limits: how long an orphan may run on, and how much memory there is.
            let mut limits = limits.iter().map(|limit| limit.parse());
            let (grace, memory) = (limits.next().transpose()?, limits.next().transpose()?);
            let listener = listen(address, key_file, |config| config.resume_grace(Duration::from_secs(1)))?;
            drop(writeln!(io::stdout(), "listening on {}", listener.local_addr()));
            Kernel::serve(listener, settings(grace, memory))?
        }
        _ => return Err("usage: tiny [ADDRESS KEY-FILE [GRACE-MS [BYTES]]]".into()),
    };
    interpret(kernel);
    Ok(())
}

fn settings(grace: Option<u64>, memory: Option<u64>) -> Settings {
    let mut settings = Settings::new().introspect(Words);
    if let Some(ms) = grace {
        settings = settings.orphan_grace(Duration::from_millis(ms));
    }
    if let Some(bytes) = memory {
        settings = settings.memory_limit(bytes);
    }
    settings
}

/// The loop: everything that an interpreter has to do.
pub fn interpret(mut kernel: Kernel) {
    let stdio = kernel.stdio();
    let mut block = String::new();
    loop {
        match kernel.next() {
            Next::Line(line) => {
                let ends = line.trim() == "end";
                if line.trim() == "begin" || (!block.is_empty() && !ends) {
                    block += &line;
                    kernel.incomplete();
                    continue;
                }
                let statement = if ends { std::mem::take(&mut block) } else { line };
                if let Run::Done(Err(error)) = kernel.run(|| run(&statement, &stdio))
                    && error != StdioError::Interrupted
                {
                    drop(stdio.write_stderr(format!("error: {error}\n")));
                    kernel.fail();
                }
            }
            Next::Drop | Next::Arrived | Next::Gone => block.clear(),
            Next::Finished if !block.is_empty() => {
                drop(stdio.write_stderr("error: the last statement is incomplete\n"));
            }
            Next::Exit => return kernel.end(0),
            Next::Over => return,
            _ => {}
        }
    }
}

fn run(statement: &str, stdio: &Stdio) -> Result<(), StdioError> {
    if let Some(lines) = statement.strip_prefix("begin\n") {
        return stdio.write_stdout(lines);
    }
    let (word, rest) = statement.trim_end().split_once(' ').unwrap_or((statement.trim_end(), ""));
    let number = || rest.parse().unwrap_or(0);
    match word {
        "" => {}
        "say" => stdio.write_stdout(format!("{rest}\n"))?,
        "flood" => stdio.write_stdout("x".repeat(number()))?,
        "count" => {
            for number in 0..number() {
                stdio.write_stdout(format!("{number}\n"))?;
                if stdio.stop_requested() {
                    return Err(StdioError::Interrupted);
                }
            }
        }
        "picture" => {
            let body = vec![7; number()];
            stdio.show(&Picture::new("image/png", body).text("<a picture>"))?;
        }
        "ask" => {
            stdio.write_stdout(rest)?;
            let answer = stdio.read_line()?;
            stdio.write_stdout(format!("you said {}\n", answer.trim_end()))?;
        }
        "asks" => {
            for _ in 0..number() {
                match stdio.read_line() {
                    Err(StdioError::Finished) => stdio.write_stdout("none\n")?,
                    answer => stdio.write_stdout(answer?)?,
                }
            }
        }
        "secret" => {
            stdio.write_stdout(rest)?;
            let answer = stdio.read_secret()?;
            stdio.write_stdout(format!("{} bytes\n", answer.trim_ascii_end().len()))?;
        }
        "loop" => {
            stdio.write_stdout(rest)?;
            while !stdio.stop_requested() {
                std::thread::yield_now();
            }
            return Err(StdioError::Interrupted);
        }
        "deaf" => {
            let until = Instant::now() + Duration::from_millis(number() as u64);
            while Instant::now() < until {
                std::thread::yield_now();
            }
        }
        "grow" => {
            let mut all = Vec::new();
            loop {
                all.push(black_box(vec![1_u8; 1 << 20]));
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        "panic" => panic!("{rest}"),
        "die" => std::process::abort(),
        _ => stdio.write_stderr(format!("error: there is no {word:?}\n"))?,
    }
    Ok(())
}

/// What the language has to say of itself.
pub struct Words;

const WORDS: [&str; 10] = ["ask", "count", "deaf", "die", "flood", "grow", "loop", "panic", "say", "secret"];

impl Introspect for Words {
    fn answer(&self, operation: &Operation) -> Result<Reply, String> {
        match operation {
            Operation::Complete { code, cursor } => {
                let prefix: String = code.chars().take(*cursor).collect();
                let matches =
                    WORDS.iter().filter(|word| word.starts_with(&prefix)).map(|word| word.to_string());
                Ok(Reply::Complete { matches: matches.collect(), start: 0, end: *cursor })
            }
            Operation::Inspect { code, .. } if code == "panic" => panic!("an answer panics"),
            Operation::Inspect { code, .. } if code == "hang" => loop {
                std::thread::park();
            },
            Operation::Inspect { code, .. } => Ok(Reply::Inspect { text: format!("a word: {code}") }),
            Operation::Info => Ok(Reply::Info {
                language: "tiny".to_owned(),
                version: "1".to_owned(),
                banner: String::new(),
                pid: std::process::id(),
            }),
            _ => Err("the language has nothing of that kind".to_owned()),
        }
    }
}
