//! `trunkline forward`.

mod pump;
pub mod server;
pub mod target;

use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};
use rustix::event::{PollFd, PollFlags, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use trunkline::{ChannelId, Connection, Event, Priority, RecvTimeoutError};

use crate::arguments::{self, Reach};
use crate::client::Client;
use crate::failure::{Failure, NO_PERMISSION, Outcome, UNAVAILABLE, USAGE};
use crate::output;
use pump::{Pump, REQUESTS, STREAMS, Side, reset};
use server::{HELLO, is_out_of_descriptors};
use target::Route;

/// How long the host may take to say that it forwards.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a lost connection's streams may take to tell their readers.
const ENDING: Duration = Duration::from_secs(1);

/// A port of this machine that is listened to.
struct Port {
    listener: TcpListener,
    target: Arc<str>,
}

/// A connection that was accepted, and where it leads.
type Job = (TcpStream, Arc<str>);

pub fn run(arguments: &arguments::Forward) -> Outcome {
    let (reach, routes) = read(arguments, std::env::var("TRUNKLINE_ADDR").ok())?;
    let mut ports = Vec::new();
    let mut told = String::new();
    for route in &routes {
        let addresses = listen(route, &mut ports)?;
        told += &format!("forwarding {addresses} to {}\n", route.target);
    }
    let client = Client::connect(&reach)?;
    let requests = hello(&client, &routes)?;
    let _ = io::stdout().write_all(told.as_bytes()).and_then(|()| io::stdout().flush());
    let events = client.connection.events();
    let (told, signals) = unbounded();
    let mut heard = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    thread::Builder::new().name("trunkline-signals".to_owned()).spawn(move || {
        for signal in heard.forever() {
            let _ = told.send(signal);
        }
    })?;
    let busy = Arc::new(AtomicUsize::new(0));
    let accepting = {
        let (connection, busy) = (client.connection.clone(), Arc::clone(&busy));
        move || accept(&connection, &requests, &ports, &busy)
    };
    thread::Builder::new().name("trunkline-accept".to_owned()).spawn(accepting)?;
    loop {
        select! {
            recv(signals) -> signal => return Ok(u8::try_from(128 + signal.unwrap_or(SIGTERM)).unwrap_or(u8::MAX)),
            recv(events.ready()) -> _ => {}
        }
        while let Ok(event) = events.try_recv() {
            match event {
                Event::Suspended { .. } => output::tell("trunkline: link lost, trying"),
                Event::Resumed { .. } => output::tell("trunkline: the link is back"),
                Event::Closed(cause) => {
                    let until = Instant::now() + ENDING;
                    while busy.load(SeqCst) > 0 && Instant::now() < until {
                        thread::sleep(Duration::from_millis(5));
                    }
                    return Err(client.place.lost(cause));
                }
                _ => {}
            }
        }
    }
}

/// Which host is meant, and what is forwarded there.
fn read(arguments: &arguments::Forward, variable: Option<String>) -> Result<(Reach, Vec<Route>), Failure> {
    // An address begins with no number and a colon, or has one colon only.
    let first_is_route = arguments.words.first().is_some_and(|word| word.parse::<Route>().is_ok());
    let (address, routes) = match (first_is_route, variable) {
        (true, Some(address)) => (address, &arguments.words[..]),
        (true, None) => {
            return Err(Failure::new(USAGE, "to which host? Give its address first, or set TRUNKLINE_ADDR"));
        }
        (false, _) => (arguments.words[0].clone(), &arguments.words[1..]),
    };
    if routes.is_empty() {
        return Err(Failure::new(
            USAGE,
            "nothing to forward; give LOCAL_PORT:HOST:PORT, as 8080:localhost:80",
        ));
    }
    let routes: Result<Vec<Route>, String> = routes.iter().map(|route| route.parse()).collect();
    let routes = routes.map_err(|error| Failure::new(USAGE, error))?;
    Ok((Reach { address, key_file: arguments.key_file.clone() }, routes))
}

/// Listens on both loopback addresses: a program that looks up `localhost` may find either. Returns what they are.
fn listen(route: &Route, ports: &mut Vec<Port>) -> Result<String, Failure> {
    let failure = |address: SocketAddr, error: io::Error| {
        let text =
            format!("cannot listen at {address}: {error}; choose another local port, or 0 for a free one");
        Failure::new(UNAVAILABLE, text)
    };
    let target: Arc<str> = route.target.as_str().into();
    // A port that is free for one family can be busy for the other.
    for last in [false, false, false, true] {
        let four = SocketAddr::from((Ipv4Addr::LOCALHOST, route.local));
        let listener = TcpListener::bind(four).map_err(|error| failure(four, error))?;
        let four = listener.local_addr()?;
        let six = SocketAddr::from((Ipv6Addr::LOCALHOST, four.port()));
        let (told, other) = match TcpListener::bind(six) {
            Ok(other) => (format!("{four} and {six}"), Some(other)),
            Err(error) if is_without_family(&error) => (four.to_string(), None),
            Err(_) if route.local == 0 && !last => continue,
            Err(error) => return Err(failure(six, error)),
        };
        for listener in [Some(listener), other].into_iter().flatten() {
            listener.set_nonblocking(true)?;
            ports.push(Port { listener, target: Arc::clone(&target) });
        }
        return Ok(told);
    }
    Err(Failure::new(UNAVAILABLE, "no port is free"))
}

/// Returns `true` if this machine does not have the family of the address.
fn is_without_family(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    [rustix::io::Errno::ADDRNOTAVAIL, rustix::io::Errno::AFNOSUPPORT]
        .into_iter()
        .any(|missing| number == Some(missing.raw_os_error()))
}

/// Asks whether the host forwards at all, and to each of these. Returns what requests are sent on.
fn hello(client: &Client, routes: &[Route]) -> Result<trunkline::Sender, Failure> {
    let channel = ChannelId::new(REQUESTS);
    let requests = client.sender(channel, Priority::Normal)?;
    let answers = client.receiver(channel)?;
    let nothing = || {
        let text = "this host forwards nothing; start it with --allow-forward HOST:PORT";
        client.place.failure(NO_PERMISSION, text)
    };
    let ask = |question: String| {
        requests.send(question).map_err(|_| nothing())?;
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            match answers.recv_timeout(Duration::from_millis(20)) {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Timeout) if requests.stopped().is_some() => break,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected(cause)) => return Err(client.place.lost(cause)),
            }
        }
        Err(nothing())
    };
    ask(HELLO.to_owned())?;
    for Route { target, .. } in routes {
        let answer = ask(format!("may {target}"))?;
        if answer != "yes" {
            let why = crate::plain(&String::from_utf8_lossy(&answer));
            return Err(client.place.failure(NO_PERMISSION, format!("{target}: {why}")));
        }
    }
    Ok(requests)
}

/// Accepts connections while channels are free; more of them wait unaccepted.
fn accept(connection: &Connection, requests: &trunkline::Sender, ports: &[Port], busy: &Arc<AtomicUsize>) {
    let (give_back, free) = bounded(usize::from(u8::MAX));
    let mut workers: Vec<(u8, Sender<Job>)> = Vec::new();
    let mut unused = STREAMS;
    loop {
        // One that has served before, or else one that has not.
        let number = match free.try_recv().ok().or_else(|| unused.next()) {
            Some(number) => number,
            None => match free.recv() {
                Ok(number) => number,
                Err(_) => return,
            },
        };
        let job = next(ports, &free, &give_back);
        busy.fetch_add(1, SeqCst);
        if !workers.iter().any(|(known, _)| *known == number) {
            let (sender, jobs) = unbounded();
            let worker = Worker {
                connection: connection.clone(),
                requests: requests.clone(),
                channel: ChannelId::new(number),
                busy: Arc::clone(busy),
                give_back: give_back.clone(),
            };
            let spawned =
                thread::Builder::new().name("trunkline-forward".to_owned()).spawn(move || worker.run(&jobs));
            if let Err(error) = spawned {
                output::tell(format!("trunkline: {error}"));
                busy.fetch_sub(1, SeqCst);
                reset(job.0);
                continue;
            }
            workers.push((number, sender));
        }
        if let Some((_, worker)) = workers.iter().find(|(known, _)| *known == number) {
            // A worker ends with the connection.
            let _ = worker.send(job);
        }
    }
}

/// The next connection to one of the ports.
fn next(ports: &[Port], free: &Receiver<u8>, give_back: &Sender<u8>) -> Job {
    loop {
        let mut ready: Vec<_> =
            ports.iter().map(|port| PollFd::from_borrowed_fd(port.listener.as_fd(), PollFlags::IN)).collect();
        let _ = poll(&mut ready, None);
        for (port, ready) in ports.iter().zip(&ready) {
            if ready.revents().is_empty() {
                continue;
            }
            match port.listener.accept() {
                Ok((stream, _)) => {
                    let _ = stream.set_nonblocking(false);
                    return (stream, Arc::clone(&port.target));
                }
                // It waits until another stream ends, which gives its descriptor back.
                Err(error) if is_out_of_descriptors(&error) => {
                    if let Ok(number) = free.recv_timeout(Duration::from_millis(50)) {
                        let _ = give_back.send(number);
                    }
                }
                // One that was broken off before it was accepted is none.
                Err(_) => {}
            }
        }
    }
}

/// Serves the streams of one channel, one after the other.
struct Worker {
    connection: Connection,
    requests: trunkline::Sender,
    channel: ChannelId,
    busy: Arc<AtomicUsize>,
    give_back: Sender<u8>,
}

impl Worker {
    fn run(&self, jobs: &Receiver<Job>) {
        let Ok(receiver) = self.connection.receiver(self.channel) else { return };
        while let Ok((stream, target)) = jobs.recv() {
            self.serve(stream, &target, &receiver);
            self.busy.fetch_sub(1, SeqCst);
            let _ = self.give_back.send(self.channel.get());
        }
    }

    fn serve(&self, stream: TcpStream, target: &str, receiver: &trunkline::Receiver) {
        let Ok(sender) = self.connection.sender(self.channel) else { return reset(stream) };
        // What ended the stream before, at the last moment.
        sender.clear_interrupt();
        let asked = sender.send(target).is_ok() && self.requests.send(self.channel.get().to_string()).is_ok();
        // The ends of the stream before are nothing here.
        let answer = loop {
            match receiver.recv() {
                Ok(message) => break message,
                Err(trunkline::RecvError::ConnectionLost(_)) => return reset(stream),
                Err(_) => {}
            }
        };
        if asked && answer == "ok" {
            let broken = AtomicBool::new(false);
            let tell = || drop(self.requests.send(format!("break {}", self.channel.get())));
            let side = Side::Client;
            return Pump { side, stream, sender, broken: &broken, tell: &tell }.run(receiver);
        }
        let answer = String::from_utf8_lossy(&answer);
        let why = answer.strip_prefix("no ").unwrap_or("the host refuses it");
        let _ = writeln!(io::stderr(), "trunkline: {}: {}", crate::plain(target), crate::plain(why));
        let _ = sender.finish();
        while receiver.recv().is_ok() {}
        reset(stream);
    }
}
