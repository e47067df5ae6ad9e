//! One thread waits for several things: jobs, control, interrupts and a timer.
//!
//! `ready()` of a receiver is a crossbeam channel, so `select!` takes it beside others. After it fires,
//! `try_recv` takes the message.
//!
//! Run it with `cargo run --example select`.

use std::error::Error;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{select, tick};
use trunkline::{ChannelId, Config, Connection, Key, Priority, TryRecvError};

const JOBS: ChannelId = ChannelId::new(1);
const CONTROL: ChannelId = ChannelId::new(2);
const PROGRESS: ChannelId = ChannelId::new(3);

fn main() -> Result<(), Box<dyn Error>> {
    let (client, worker) = Connection::pair(Config::new(Key::generate()))?;
    let worker = thread::spawn(move || work(&worker).map_err(|error| error.to_string()));

    let progress = client.receiver(PROGRESS)?;
    let show = || -> Result<(), Box<dyn Error>> {
        println!("{}", String::from_utf8_lossy(&progress.recv()?));
        Ok(())
    };
    let jobs = client.sender(JOBS)?;
    jobs.send("paint")?;
    show()?;
    client.interrupt()?;
    show()?;
    // Control is urgent: it overtakes jobs that still wait to be sent.
    client.sender_with(CONTROL, Priority::Urgent)?.send("stop")?;
    show()?;
    worker.join().expect("the worker does not panic")?;
    Ok(())
}

fn work(client: &Connection) -> Result<(), Box<dyn Error>> {
    let jobs = client.receiver(JOBS)?;
    let control = client.receiver(CONTROL)?;
    let interrupts = client.interrupts();
    let progress = client.sender(PROGRESS)?;

    let (job_ready, control_ready, interrupt_ready) = (jobs.ready(), control.ready(), interrupts.ready());
    let timer = tick(Duration::from_millis(20));
    loop {
        select! {
            recv(job_ready) -> _ => match jobs.try_recv() {
                Ok(job) => progress.send(format!("job: {}", String::from_utf8_lossy(&job)))?,
                // A token is a hint: another call may have taken what was there.
                Err(TryRecvError::Empty) => {}
                // The client has finished, or is gone. Without this arm a lost connection would make
                // the loop spin.
                Err(end) => return Err(end.into()),
            },
            recv(control_ready) -> _ => if let Ok(command) = control.try_recv() {
                progress.send(format!("control: {}", String::from_utf8_lossy(&command)))?;
                return Ok(());
            },
            recv(interrupt_ready) -> _ => if interrupts.take() {
                progress.send("interrupted")?;
            },
            recv(timer) -> _ => {} // The place for what is to be done now and then.
        }
    }
}
