//! Runs jobs in parallel for a client. The output of each job has a channel of its own, which ends as the
//! job ends: finished if it succeeded, reset with its exit code if it failed.
//!
//! ```sh
//! cargo run --example build_runner -- serve 127.0.0.1:4000 build.key
//! cargo run --example build_runner -- run 127.0.0.1:4000 build.key "cc -c a.c" "cc -c b.c"
//! ```
//!
//! Channel 0 carries the jobs, channel 1 the progress, and the n-th job has channel n+2. A client that
//! stops the channel of a job cancels the job. This client cancels all others when one fails.

use std::error::Error;
use std::io;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use trunkline::{ChannelId, ChannelSet, Config, Connection, Key, Listener, Received, Sender};

const JOBS: ChannelId = ChannelId::new(0);
const PROGRESS: ChannelId = ChannelId::new(1);
const MOST: u8 = 126;
/// The code of a job that did not run, or did not end by itself.
const NO_CODE: u32 = 255;
const CANCELLED: u32 = 1;
/// How long a client has to come back whose link is lost. One that was killed looks the same.
const GRACE: Duration = Duration::from_secs(2);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_at_checked(3) {
        Some(([mode, address, key_file], [])) if mode == "serve" => serve(address, key_file),
        Some(([mode, address, key_file], jobs)) if mode == "run" && jobs.len() <= MOST.into() => {
            run(address, key_file, jobs)
        }
        _ => Err("usage: build_runner (serve | run) ADDRESS KEY-FILE [up to 126 JOBs]".into()),
    }
}

// ---------------------------------------------------------------------------
// The server

fn serve(address: &str, key_file: &str) -> Result<()> {
    let config = Config::new(Key::from_file_or_new(key_file)?).resume_grace(GRACE);
    let listener = Listener::bind(address, config)?;
    println!("listening on {}", listener.local_addr());
    for client in listener.incoming().flatten() {
        thread::spawn(move || build(&client));
    }
    Ok(())
}

/// Runs the jobs of one client, as many at a time as there are processors.
fn build(client: &Connection) -> Result<()> {
    let mut jobs = Vec::new();
    // Ends when the client has finished its list.
    for (number, job) in (0..MOST).zip(client.receiver(JOBS)?) {
        let output = client.sender(ChannelId::new(number + 2))?;
        jobs.push((String::from_utf8_lossy(&job).into_owned(), output));
    }
    let progress = client.sender(PROGRESS)?;
    let (begun, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| -> Result<()> {
                while let Some((job, output)) = jobs.get(begun.fetch_add(1, Ordering::Relaxed)) {
                    // An error here means that the job was cancelled.
                    let _ = match execute(client, job, output).unwrap_or(NO_CODE) {
                        0 => output.finish(),
                        code => output.reset(code),
                    };
                    let ended = ended.fetch_add(1, Ordering::Relaxed) + 1;
                    progress.send(format!("{ended} of {}: {job}", jobs.len()))?;
                }
                Ok(())
            });
        }
    });
    Ok(())
}

/// Runs a job until it ends, is cancelled, or its client is gone. Returns its exit code.
fn execute(client: &Connection, job: &str, output: &Sender) -> Result<u32> {
    let over = || output.stopped().is_some() || client.close_reason().is_some();
    if over() {
        return Ok(NO_CODE);
    }
    // One pipe for both, so that they stay in order.
    let (mut from, to) = io::pipe()?;
    let mut words = job.split_whitespace();
    let mut child = Command::new(words.next().unwrap_or_default())
        .args(words)
        .stdin(Stdio::null())
        .stdout(to.try_clone()?)
        .stderr(to)
        .spawn()?;
    thread::scope(|scope| {
        scope.spawn(|| io::copy(&mut from, &mut output.writer()));
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status.code().map_or(NO_CODE, |code| code as u32));
            }
            if over() {
                child.kill()?;
            }
            thread::sleep(Duration::from_millis(10));
        }
    })
}

// ---------------------------------------------------------------------------
// A client

fn run(address: &str, key_file: &str, jobs: &[String]) -> Result<()> {
    let server = Connection::connect(address, Config::new(Key::from_file(key_file)?))?;
    let list = server.sender(JOBS)?;
    jobs.iter().try_for_each(|job| list.send(job))?;
    list.finish()?;

    let outputs: ChannelSet = (2..).map(ChannelId::new).take(jobs.len()).collect();
    let received = server.receiver(outputs | PROGRESS)?;
    let name = |channel: ChannelId| &jobs[usize::from(channel.get()) - 2];
    let mut failed = None;
    loop {
        match received.recv_any()? {
            Received::Message(message) if message.channel() == PROGRESS => {
                println!("[{}]", String::from_utf8_lossy(&message));
            }
            Received::Message(message) => {
                println!("{}: {}", name(message.channel()), String::from_utf8_lossy(&message).trim_end());
            }
            Received::Finished(PROGRESS) => return failed.map_or(Ok(()), Err),
            Received::Reset { channel, code } if failed.is_none() => {
                failed = Some(format!("{} failed with code {code}", name(channel)).into());
                (outputs - channel).iter().for_each(|other| received.stop_channel(other, CANCELLED));
            }
            _ => {}
        }
    }
}
