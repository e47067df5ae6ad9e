//! `examples/echo`, run as its users run it: as processes.
//!
//! Every wait here is bounded, and only processes that a test has started are ended.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::support::process::{Process, example};
use crate::support::{LONG, free_address};
use trunkline::{ChannelId, Config, Connection, Key, Receiver, RecvError, SendTimeoutError, Sender};

/// Starts it with these arguments.
fn start<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Process {
    Process::start(example("echo").args(args).stdin(Stdio::null()))
}

/// A server, and the key file that `echo key` made for it.
struct Server {
    process: Process,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let key_file = folder.path().join("key");
        let made = start([OsStr::new("key"), "--key-file".as_ref(), key_file.as_ref()]).end();
        assert_eq!(made.code, Some(0), "{}", made.stderr);
        let serve = ["serve", "--grace", "2", "--listen", "127.0.0.1:0", "--key-file"];
        let args = serve.map(OsStr::new);
        let process = start(args.into_iter().chain([key_file.as_ref()]));
        Self { address: process.address(), process, folder }
    }

    fn key_file(&self) -> PathBuf {
        self.folder.path().join("key")
    }

    fn connect(&self) -> Connection {
        self.connect_with(|config| config)
    }

    fn connect_with(&self, tune: impl FnOnce(Config) -> Config) -> Connection {
        let key = Key::from_file(self.key_file()).expect("the key file holds a key");
        Connection::connect(self.address, tune(Config::new(key))).expect("the server answers")
    }

    fn load(&self, channels: u64, messages: u64, size: u64) -> Process {
        load(self.address, &self.key_file(), channels, messages, size)
    }

    fn expect_load(&self, channels: u64, messages: u64, size: u64) {
        expect_verified(self.load(channels, messages, size), channels, messages);
    }

    /// The server's threads, where the system tells; without clients they are two.
    #[cfg(target_os = "linux")]
    fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.process.child.id())).expect("it runs").count()
    }
}

fn load(address: SocketAddr, key_file: &Path, channels: u64, messages: u64, size: u64) -> Process {
    let [address, channels, messages, size] =
        [address.to_string(), channels.to_string(), messages.to_string(), size.to_string()];
    start(
        [
            OsStr::new("load"),
            "--connect".as_ref(),
            address.as_ref(),
            "--key-file".as_ref(),
            key_file.as_ref(),
        ]
        .into_iter()
        .chain(["--channels", &channels, "--messages", &messages, "--size", &size].map(OsStr::new)),
    )
}

fn expect_verified(load: Process, channels: u64, messages: u64) {
    let ended = load.end();
    let verified = format!("verified {} messages on {channels} channels\n", channels * messages);
    assert_eq!((ended.code, &*ended.stdout, &*ended.stderr), (Some(0), &*verified, ""));
}

/// Waits for something that only looking again can tell.
#[cfg(target_os = "linux")]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + LONG;
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "not in time: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

// ---------------------------------------------------------------------------
// Loads

#[test]
fn a_load_of_any_shape_is_verified() {
    let server = Server::start();
    for (channels, messages, size) in [
        (1, 1, 1),
        (1, 5000, 16),
        (7, 300, 1000),
        (128, 50, 100),
        // More channels than threads, and messages of several frames.
        (20, 4, 200_000),
        // Larger than the window, and than what the library takes by default.
        (2, 3, 3_000_000),
        (1, 1, 20 << 20),
        // Messages of nothing, and no messages at all.
        (9, 200, 0),
        (128, 0, 10),
    ] {
        server.expect_load(channels, messages, size);
    }
}

#[test]
fn two_loads_at_once_are_verified() {
    let server = Server::start();
    let loads = [server.load(16, 300, 5000), server.load(128, 100, 77)];
    for (load, (channels, messages)) in loads.into_iter().zip([(16, 300), (128, 100)]) {
        expect_verified(load, channels, messages);
    }
}

#[test]
fn a_client_that_does_not_read_holds_up_no_other_client_and_no_other_channel() {
    let server = Server::start();
    let rude = server.connect();
    let stuck: Vec<(Sender, u64)> = (0..3).map(|channel| fill_up(&rude, ChannelId::new(channel))).collect();

    server.expect_load(128, 30, 500);
    server.expect_load(3, 2, 2_000_000);

    // Nor its own other channel.
    let other = ChannelId::new(9);
    let (sender, receiver) = (rude.sender(other).unwrap(), rude.receiver(other).unwrap());
    for _ in 0..100 {
        sender.send("on time").unwrap();
        assert_eq!(&*next(&receiver).unwrap(), b"on time");
    }

    // And when it reads, all is there.
    for (sender, sent) in stuck {
        let receiver = rude.receiver(sender.channel()).unwrap();
        drop(sender);
        for number in 0..sent {
            let message = next(&receiver).unwrap();
            assert!(message.len() == CHUNK && message[..8] == number.to_be_bytes(), "message {number}");
        }
        assert_eq!(next(&receiver), Err(RecvError::Finished));
    }
}

const CHUNK: usize = 50_000;

/// Sends without reading until nothing goes any more; how many messages went.
fn fill_up(connection: &Connection, channel: ChannelId) -> (Sender, u64) {
    let sender = connection.sender(channel).unwrap();
    for number in 0_u64.. {
        let mut message = vec![7; CHUNK];
        message[..8].copy_from_slice(&number.to_be_bytes());
        match sender.send_timeout(message, Duration::from_millis(300)) {
            Ok(()) => assert!(number < 1000, "it goes on for ever"),
            Err(SendTimeoutError::Timeout { .. }) => return (sender, number),
            Err(error) => panic!("{error}"),
        }
    }
    unreachable!("a channel fills up");
}

// ---------------------------------------------------------------------------
// What goes wrong

#[test]
fn wrong_arguments_are_told_from_failures() {
    let folder = tempfile::tempdir().unwrap();
    let key_file = folder.path().join("key");
    let key_file = key_file.to_str().unwrap();
    let load = ["load", "--connect", "127.0.0.1:1", "--key-file", key_file];
    let with = |more: &[&'static str]| load.iter().copied().chain(more.iter().copied()).collect::<Vec<_>>();
    for (args, word) in [
        (vec![], "missing"),
        (vec!["frob"], "`frob`"),
        (vec!["serve", "--key-file", key_file], "--listen"),
        (vec!["serve", "--listen", "127.0.0.1:0"], "--key-file"),
        (vec!["serve", "--listen", "127.0.0.1:0", "--key-file", key_file, "--size", "1"], "--size"),
        (with(&["--channels", "1", "--messages", "1"]), "--size"),
        (with(&["--channels", "0", "--messages", "1", "--size", "1"]), "1 to 128"),
        (with(&["--channels", "129", "--messages", "1", "--size", "1"]), "1 to 128"),
        (with(&["--channels", "1", "--messages", "-1", "--size", "1"]), "--messages is -1"),
        (with(&["--channels", "1", "--messages", "many", "--size", "1"]), "--messages is many"),
        (with(&["--channels", "1", "--messages", "1", "--size", "2000000000"]), "0 to 1073741824"),
        (vec!["serve", "--grace", "soon"], "--grace is soon"),
        (vec!["load", "--heartbeat", "0"], "--heartbeat is 0"),
    ] {
        let ended = start(&args).end();
        assert_eq!((ended.code, &*ended.stdout), (Some(2), ""), "{args:?}");
        assert!(ended.stderr.contains(word) && ended.stderr.contains("--help"), "{args:?}: {}", ended.stderr);
    }

    for args in [vec!["--help"], vec!["load", "-h"]] {
        let ended = start(&args).end();
        assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{args:?}");
        assert!(ended.stdout.contains("--channels C"), "{args:?}: {}", ended.stdout);
    }

    let ended = start(["serve", "--listen", "127.0.0.1:0", "--key-file", key_file]).end();
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("echo key --key-file"), "it says how to get one: {}", ended.stderr);

    Key::generate().write_new_file(key_file).unwrap();
    std::fs::write(key_file, "no key").unwrap();
    let ended = start(load).end();
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    let ended = start(with(&["--channels", "1", "--messages", "1", "--size", "1"])).end();
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.starts_with(&format!("echo: --key-file {key_file}: not a key")), "{}", ended.stderr);
}

/// Beyond this machine everything is encrypted, unless both sides say in so many words that it is not.
#[test]
fn an_address_that_others_reach_is_sealed_by_default() {
    let folder = tempfile::tempdir().unwrap();
    let key_file = folder.path().join("key");
    let key_path = key_file.to_str().unwrap();
    Key::generate().write_new_file(&key_file).unwrap();
    for (serve, works, fails) in
        [(&[][..], "--sealed", "--plain"), (&["--allow-plaintext"], "--plain", "--sealed")]
    {
        let args = ["serve", "--listen", "0.0.0.0:0", "--key-file", key_path];
        let server = start(args.iter().chain(serve));
        let port = server.address().port().to_string();
        let address = format!("127.0.0.1:{port}");
        let load = |kind: &str| {
            let args = ["load", "--connect", &address, "--key-file", key_path, "--channels", "2"];
            start(args.iter().chain(&["--messages", "3", "--size", "10", kind])).end()
        };
        let (works, fails) = (load(works), load(fails));
        assert_eq!(works.code, Some(0), "{serve:?}: {}", works.stderr);
        assert_eq!(fails.code, Some(1), "{serve:?}: {}", fails.stderr);
        assert!(fails.stderr.contains("--sealed and --plain"), "{}", fails.stderr);
    }
    let both = ["serve", "--listen", "0.0.0.0:0", "--key-file", key_path, "--sealed", "--allow-plaintext"];
    assert_eq!(start(both).end().code, Some(2));
}

#[test]
fn a_key_is_the_owners_alone_and_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let key_file = folder.path().join("key");
    let make = || start([OsStr::new("key"), "--key-file".as_ref(), key_file.as_ref()]).end();
    assert_eq!(make().code, Some(0));
    let text = std::fs::read_to_string(&key_file).unwrap();
    assert!(text.trim_end().len() == 64 && text.trim_end().bytes().all(|byte| byte.is_ascii_hexdigit()));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&key_file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let again = make();
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("already there"), "{}", again.stderr);
    assert_eq!(std::fs::read_to_string(&key_file).unwrap(), text);
}

#[test]
fn a_wrong_key_is_refused_and_said_so() {
    let server = Server::start();
    let wrong = server.folder.path().join("wrong");
    Key::generate().write_new_file(&wrong).unwrap();
    let ended = load(server.address, &wrong, 1, 1, 1).end();
    assert_eq!((ended.code, &*ended.stdout), (Some(1), ""));
    let says = format!("echo: --key-file {}: the server does not accept this key", wrong.display());
    assert!(ended.stderr.starts_with(&says), "{}", ended.stderr);
    server.expect_load(1, 10, 10);
}

#[test]
fn when_the_server_is_killed_the_load_says_so_and_ends() {
    let mut server = Server::start();
    let (through, busy) = relay(server.address, 1 << 20);
    // More than could be done.
    let load = load(through, &server.key_file(), 16, 1 << 40, 1000);
    if let Err(error) = busy.recv_timeout(LONG) {
        panic!("the load does not get going: {error}; {}", load.end().stderr);
    }
    server.process.kill();
    let ended = load.end();
    assert_eq!((ended.code, &*ended.stdout), (Some(1), ""));
    assert!(ended.stderr.contains("connection was lost"), "{}", ended.stderr);
}

#[test]
fn when_a_client_is_killed_the_server_goes_on() {
    let server = Server::start();
    let (through, busy) = relay(server.address, 1 << 20);
    let mut load = load(through, &server.key_file(), 128, 1 << 40, 3000);
    if let Err(error) = busy.recv_timeout(LONG) {
        panic!("the load does not get going: {error}; {}", load.end().stderr);
    }
    #[cfg(target_os = "linux")]
    eventually("each channel in use has a thread", || server.threads() > 128);
    load.kill();
    server.expect_load(8, 100, 1000);
    #[cfg(target_os = "linux")]
    eventually("the threads of clients that left are gone", || server.threads() == 2);
}

#[test]
fn a_client_that_leaves_with_full_channels_leaves_no_thread_behind() {
    let server = Server::start();
    let rude = server.connect();
    for channel in [0, 127] {
        fill_up(&rude, ChannelId::new(channel));
    }
    drop(rude);
    server.expect_load(1, 10, 10);
    #[cfg(target_os = "linux")]
    eventually("the threads of clients that left are gone", || server.threads() == 2);
}

/// Passes one connection on to a server, and tells when so many bytes have come back.
fn relay(server: SocketAddr, enough: usize) -> (SocketAddr, mpsc::Receiver<()>) {
    let listener = TcpListener::bind(free_address()).unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let (client, _) = listener.accept().unwrap();
        let server = TcpStream::connect(server).unwrap();
        let (client_in, server_out) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        thread::spawn(move || pass_on(client_in, server_out, |_| {}));
        let mut passed = 0;
        pass_on(server, client, |bytes| {
            if passed < enough && passed + bytes >= enough {
                // A test that failed does not listen any more.
                let _ = tell.send(());
            }
            passed += bytes;
        });
    });
    (address, told)
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, mut count: impl FnMut(usize)) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        count(read);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    // Both sides hear of the end; one of them may be gone.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

// ---------------------------------------------------------------------------
// Runs

fn next(receiver: &Receiver) -> Result<Vec<u8>, RecvError> {
    match receiver.recv_timeout(LONG) {
        Ok(message) => Ok(message.to_vec()),
        Err(trunkline::RecvTimeoutError::Disconnected(end)) => Err(end),
        Err(trunkline::RecvTimeoutError::Timeout) => panic!("nothing came in time"),
    }
}

fn both(connection: &Connection, channel: u8) -> (Sender, Receiver) {
    let channel = ChannelId::new(channel);
    (connection.sender(channel).unwrap(), connection.receiver(channel).unwrap())
}

#[test]
fn a_finish_is_answered_with_a_finish_and_the_next_run_works() {
    let server = Server::start();
    let client = server.connect();
    let (sender, receiver) = both(&client, 5);
    for run in 0_u32..50 {
        for number in 0..run {
            sender.send([run.to_be_bytes(), number.to_be_bytes()].concat()).unwrap();
        }
        if run > 0 {
            sender.finish().unwrap();
        }
        for number in 0..run {
            assert_eq!(next(&receiver), Ok([run.to_be_bytes(), number.to_be_bytes()].concat()));
        }
        if run > 0 {
            assert_eq!(next(&receiver), Err(RecvError::Finished), "run {run}");
        }
    }
}

#[test]
fn a_finish_comes_after_all_of_a_message_that_is_larger_than_the_window() {
    let server = Server::start();
    let client = server.connect_with(|config| config.window(10_000));
    let (sender, receiver) = both(&client, 5);
    for run in 0..3 {
        let message = vec![run; 5_000_000];
        sender.send(&message).unwrap();
        sender.finish().unwrap();
        assert!(next(&receiver).is_ok_and(|echoed| echoed == message), "run {run}");
        assert_eq!(next(&receiver), Err(RecvError::Finished));
    }
}

#[test]
fn an_empty_run_is_answered_each_time() {
    let server = Server::start();
    let client = server.connect();
    let channel = ChannelId::new(77);
    let receiver = client.receiver(channel).unwrap();
    for _ in 0..20 {
        drop(client.sender(channel).unwrap());
        assert_eq!(next(&receiver), Err(RecvError::Finished));
        client.sender(channel).unwrap().reset(3).unwrap();
        assert_eq!(next(&receiver), Err(RecvError::Reset { channel, code: 3 }));
        let sender = client.sender(channel).unwrap();
        sender.send("").unwrap();
        sender.finish().unwrap();
        assert_eq!(next(&receiver), Ok(vec![]));
        assert_eq!(next(&receiver), Err(RecvError::Finished));
    }
}

#[test]
fn a_reset_is_answered_with_its_code_behind_the_whole_messages() {
    let server = Server::start();
    let client = server.connect();
    let (sender, receiver) = both(&client, 0);
    for code in [0, 77, u32::MAX] {
        sender.send("before").unwrap();
        assert_eq!(next(&receiver), Ok(b"before".to_vec()));
        sender.reset(code).unwrap();
        assert_eq!(next(&receiver), Err(RecvError::Reset { channel: ChannelId::new(0), code }));
        sender.send("after").unwrap();
        sender.finish().unwrap();
        assert_eq!(next(&receiver), Ok(b"after".to_vec()));
        assert_eq!(next(&receiver), Err(RecvError::Finished));
    }
}

#[test]
fn a_stop_ends_the_echo_of_its_run_and_the_next_run_works() {
    let server = Server::start();
    let client = server.connect();
    let (sender, receiver) = both(&client, 3);
    for run in 0..50 {
        sender.send("wanted").unwrap();
        assert_eq!(next(&receiver), Ok(b"wanted".to_vec()), "run {run}");
        receiver.stop(9);
        // The server takes the rest of the run all the same: more than a window of it.
        for _ in 0..if run == 0 { 100 } else { 3 } {
            sender.send_timeout(vec![1; 50_000], LONG).unwrap();
        }
        sender.finish().unwrap();

        let next_run = client.sender(ChannelId::new(3)).unwrap();
        next_run.send("next run").unwrap();
        next_run.finish().unwrap();
        assert_eq!(next(&receiver), Ok(b"next run".to_vec()), "run {run}");
        assert_eq!(next(&receiver), Err(RecvError::Finished), "run {run}");
    }
}

#[test]
fn a_receiver_that_is_dropped_and_made_again_gets_the_next_run() {
    let server = Server::start();
    let client = server.connect();
    let channel = ChannelId::new(3);
    for run in 0..20 {
        let (sender, receiver) = both(&client, 3);
        sender.send("one").unwrap();
        assert_eq!(next(&receiver), Ok(b"one".to_vec()), "run {run}");
        drop(receiver);
        sender.send("nobody reads this").unwrap();
        sender.finish().unwrap();

        // What comes of the run before is not for this one.
        let receiver = client.receiver(channel).unwrap();
        sender.send("two").unwrap();
        sender.finish().unwrap();
        assert_eq!(next(&receiver), Ok(b"two".to_vec()), "run {run}");
        assert_eq!(next(&receiver), Err(RecvError::Finished), "run {run}");
    }
}
