//! The host's side of forwarding: what clients ask for is connected to from here.

use std::collections::BTreeMap;
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use trunkline::{ChannelId, ChannelSet, CloseCode, Connection, RecvError};

use super::pump::{Pump, REQUESTS, STREAMS, Side};
use super::target::{Allowed, split};

/// How long one address of a target may take to answer.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a stream waits for a descriptor, if the process has used all that it may have.
const DESCRIPTORS: Duration = Duration::from_secs(5);
/// What a client hears of a target that was not allowed.
const NOT_ALLOWED: &str = "the host does not allow it; start it with --allow-forward for this target";
/// What a client says at the beginning, and hears if this is a host that forwards.
pub const HELLO: &str = "forward 1";

/// All channels of forwarding.
pub fn channels() -> ChannelSet {
    STREAMS.chain([REQUESTS]).filter_map(|number| ChannelId::try_from(number).ok()).collect()
}

/// What is called with each client that joins.
pub fn forwarder(allowed: Vec<Allowed>) -> impl Fn(Connection) + Send + 'static {
    let allowed: Arc<[Allowed]> = allowed.into();
    move |client| {
        // A key that only watches may not send there.
        if client.may_receive().contains(ChannelId::new(REQUESTS)) {
            let allowed = Arc::clone(&allowed);
            let serve = move || serve(&client, &allowed);
            // Without a thread its requests are not read, and its link is all it can use up.
            let _ = thread::Builder::new().name("trunkline-forward".to_owned()).spawn(serve);
        }
    }
}

/// Serves a client until its connection is over.
fn serve(client: &Connection, allowed: &Arc<[Allowed]>) {
    let channel = ChannelId::new(REQUESTS);
    let (Ok(requests), Ok(answers)) = (client.receiver(channel), client.sender(channel)) else { return };
    let mut workers: BTreeMap<ChannelId, Worker> = BTreeMap::new();
    loop {
        let message = match requests.recv() {
            Ok(message) => message,
            Err(RecvError::ConnectionLost(_)) => return,
            Err(_) => continue,
        };
        let understood = match Request::read(&message) {
            Some(Request::Hello) => answers.send(HELLO).is_ok(),
            Some(Request::May(target)) => {
                answers.send(if allows(allowed, target) { "yes" } else { NOT_ALLOWED }).is_ok()
            }
            Some(Request::Begin(channel)) => {
                let worker = workers.entry(channel).or_insert_with(|| Worker::new(client, channel, allowed));
                worker.jobs.try_send(()).is_ok()
            }
            Some(Request::Break(channel)) => {
                if let Some(worker) = workers.get(&channel) {
                    worker.broken.store(true, SeqCst);
                }
                true
            }
            None => false,
        };
        if !understood {
            // It is no client of this kind, or one that has lost count.
            client.clone().detach_with(CloseCode::application(1), "a request that makes no sense");
            return;
        }
    }
}

/// What a client says on the channel of requests.
enum Request<'a> {
    Hello,
    /// Is this target allowed?
    May(&'a str),
    Begin(ChannelId),
    Break(ChannelId),
}

impl<'a> Request<'a> {
    fn read(message: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(message).ok()?;
        if let Some(target) = text.strip_prefix("may ") {
            return Some(Self::May(target));
        }
        if text == HELLO {
            return Some(Self::Hello);
        }
        let (breaks, number) = text.strip_prefix("break ").map_or((false, text), |number| (true, number));
        let channel = number.parse().ok().filter(|number| STREAMS.contains(number)).map(ChannelId::new)?;
        Some(if breaks { Self::Break(channel) } else { Self::Begin(channel) })
    }
}

/// The thread of one channel, as long as the connection lives.
struct Worker {
    jobs: Sender<()>,
    /// The client has said so of the stream that is served.
    broken: Arc<AtomicBool>,
}

impl Worker {
    fn new(client: &Connection, channel: ChannelId, allowed: &Arc<[Allowed]>) -> Self {
        // The one that is asked for while the one before it ends.
        let (sender, jobs) = bounded(1);
        let worker = Self { jobs: sender, broken: Arc::default() };
        let (client, allowed, broken) = (client.clone(), Arc::clone(allowed), Arc::clone(&worker.broken));
        let work = move || work(&client, channel, &jobs, &broken, &allowed);
        // Without a thread the next job finds no reader.
        let _ = thread::Builder::new().name("trunkline-forward".to_owned()).spawn(work);
        worker
    }
}

/// Serves the streams of one channel, one after the other.
fn work(
    client: &Connection,
    channel: ChannelId,
    jobs: &Receiver<()>,
    broken: &AtomicBool,
    allowed: &[Allowed],
) {
    let Ok(receiver) = client.receiver(channel) else { return };
    while jobs.recv().is_ok() {
        broken.store(false, SeqCst);
        // The ends of the stream before are nothing here.
        let target = loop {
            match receiver.recv() {
                Ok(message) => break String::from_utf8_lossy(&message).into_owned(),
                Err(RecvError::ConnectionLost(_)) => return,
                Err(_) => {}
            }
        };
        let Ok(sender) = client.sender(channel) else { return };
        // What ended the stream before, at the last moment.
        sender.clear_interrupt();
        match open(&target, allowed) {
            Ok(stream) => {
                let _ = sender.send("ok");
                Pump { side: Side::Host, stream, sender, broken, tell: &|| {} }.run(&receiver);
            }
            Err(why) => {
                let _ = sender.send(format!("no {why}"));
                while receiver.recv().is_ok() {}
                let _ = sender.finish();
            }
        }
    }
}

fn allows(allowed: &[Allowed], target: &str) -> bool {
    allowed.iter().any(|allowed| allowed.covers(target))
}

fn open(target: &str, allowed: &[Allowed]) -> Result<TcpStream, String> {
    let (host, port) = split(target).ok_or("it is no HOST:PORT")?;
    let port: u16 = port.parse().map_err(|_| "it is no HOST:PORT")?;
    if !allows(allowed, target) {
        return Err(NOT_ALLOWED.to_owned());
    }
    let until = Instant::now() + DESCRIPTORS;
    loop {
        match connect(host, port) {
            // Others end, and give theirs back.
            Err(error) if is_out_of_descriptors(&error) && Instant::now() < until => {
                thread::sleep(Duration::from_millis(20));
            }
            result => return result.map_err(|error| error.to_string()),
        }
    }
}

fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name stands for no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Returns `true` if the process, or the system, has no descriptor left.
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    number == Some(rustix::io::Errno::MFILE.raw_os_error())
        || number == Some(rustix::io::Errno::NFILE.raw_os_error())
}
