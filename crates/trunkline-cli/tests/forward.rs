//! TCP ports over the one connection.

mod support;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use support::proxy::Proxy;
use support::*;

/// A server that gives each connection to a function, in a thread.
fn server(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Sends back what comes, and ends when that ends.
fn echo(mut stream: TcpStream) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..read]).is_err() {
            return;
        }
    }
}

struct Forward {
    process: Child,
    port: u16,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Forward {
    fn start(mut command: Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address =
            line.strip_prefix("forwarding ").and_then(|line| line.split(' ').next()).unwrap_or_default();
        let mut stderr = BufReader::new(process.stderr.take().unwrap());
        let Ok(address) = address.parse::<SocketAddr>() else {
            let mut text = String::new();
            stderr.read_to_string(&mut text).unwrap();
            panic!("{line:?} {text}");
        };
        Self { process, port: address.port(), stderr }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// The next line of standard error.
    fn says(&mut self) -> String {
        let mut line = String::new();
        self.stderr.read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A host that allows everything on this machine's loopback, and a forward to a target of it.
fn forward(host: &Host, target: SocketAddr) -> Forward {
    Forward::start(host.call("key", &["forward", &format!("0:{target}")]))
}

fn host() -> Host {
    Host::start(&["--pipes", "--allow-forward", "127.0.0.1:*"], "read x")
}

/// Some bytes, all different from their neighbours.
fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn reset(stream: &TcpStream) {
    rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).unwrap();
}

#[test]
fn half_closes_pass_both_ways() {
    let host = host();
    // It answers only when it has all.
    let forward = forward(
        &host,
        server(|mut stream| {
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            write!(stream, "{} bytes", text.len()).unwrap();
        }),
    );
    for _ in 0..3 {
        let mut stream = forward.connect();
        stream.write_all(&[b'x'; 100_000]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "100000 bytes");
    }
    // And the other way: the server ends first, and goes on reading.
    let (sender, got) = std::sync::mpsc::channel();
    let target = server(move |mut stream| {
        stream.write_all(b"all of mine").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        sender.send(text).unwrap();
    });
    let forward = self::forward(&host, target);
    let mut stream = forward.connect();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    stream.write_all(b"all of yours").unwrap();
    drop(stream);
    assert_eq!(
        (text.as_str(), got.recv_timeout(PATIENCE).unwrap().as_str()),
        ("all of mine", "all of yours")
    );
}

#[test]
fn what_is_broken_off_is_reset_on_the_other_side() {
    let host = host();
    // The server breaks off.
    let forward_to = forward(
        &host,
        server(|mut stream| {
            stream.write_all(b"part").unwrap();
            let mut one = [0];
            stream.read_exact(&mut one).unwrap();
            reset(&stream);
        }),
    );
    let mut stream = forward_to.connect();
    let mut part = [0; 4];
    stream.read_exact(&mut part).unwrap();
    stream.write_all(b"x").unwrap();
    let error = stream.read(&mut part).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);

    // The client breaks off: a server that waits hears it, and one whose answers are not taken too.
    for chatty in [false, true] {
        let (sender, heard) = std::sync::mpsc::channel();
        let target = server(move |mut stream| {
            let mut buffer = [0; 1024];
            let error = loop {
                let result = if chatty { stream.write(&buffer) } else { stream.read(&mut buffer) };
                match result {
                    Ok(0) => break "the end".to_owned(),
                    Ok(_) => {}
                    Err(error) => break format!("{:?}", error.kind()),
                }
            };
            sender.send(error).unwrap();
        });
        let forward = forward(&host, target);
        let mut stream = forward.connect();
        stream.write_all(b"hello").unwrap();
        if chatty {
            stream.read_exact(&mut [0; 1024]).unwrap();
        }
        thread::sleep(Duration::from_millis(100));
        reset(&stream);
        drop(stream);
        let heard = heard.recv_timeout(PATIENCE).unwrap();
        assert!(["ConnectionReset", "BrokenPipe"].contains(&heard.as_str()), "chatty {chatty}: {heard}");
    }
}

#[test]
fn a_target_that_is_refused_is_told_at_once_at_both_ends() {
    let host = Host::start(&["--pipes", "--allow-forward", "127.0.0.1:1"], "read x");
    let mut forward = Forward::start(host.call("key", &["forward", &host.address, "0:127.0.0.1:1"]));
    for _ in 0..3 {
        let mut stream = forward.connect();
        let error = stream.read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let said = forward.says();
        assert!(said.contains("refused") && said.contains("127.0.0.1:1"), "{said}");
    }
}

/// The host does not rely on being asked.
#[test]
fn a_client_that_asks_for_nothing_reaches_no_more_for_it() {
    use trunkline::{ChannelId, Config, Connection, Key};

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let there = listener.local_addr().unwrap();
    let host = Host::start(&["--pipes", "--allow-forward", "127.0.0.1:1"], "read x");
    let config = Config::new(Key::from_file(host.key("key")).unwrap());
    let client = Connection::connect(&*host.address, config).unwrap();
    let (stream, requests) = (ChannelId::new(65), ChannelId::new(64));
    let (target, requests) = (client.sender(stream).unwrap(), client.sender(requests).unwrap());
    target.send(there.to_string()).unwrap();
    requests.send("65").unwrap();
    let answer = client.receiver(stream).unwrap().recv_timeout(PATIENCE).unwrap();
    assert!(answer.starts_with(b"no the host does not allow it"), "{answer:?}");
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn who_may_not_forward_is_told_before_a_port_is_used() {
    let host = host();
    let target = "0:127.0.0.1:9";
    let (code, text, error) = host.run("watch", &["forward", target]);
    assert!(
        code == 77 && text.is_empty() && error.contains("use a key that does not only watch"),
        "{code} {error}"
    );
    let closed = Host::start(&["--pipes"], "read x");
    let (code, text, error) = closed.run("key", &["forward", target]);
    assert!(code == 77 && text.is_empty() && error.contains("--allow-forward"), "{code} {error}");
    let narrow = Host::start(&["--pipes", "--allow-forward", "127.0.0.1:1"], "read x");
    for target in ["127.0.0.1:2", "localhost:1"] {
        let (code, text, error) = narrow.run("key", &["forward", "0:127.0.0.1:1", &format!("0:{target}")]);
        let told = error.contains(target) && error.contains("--allow-forward");
        assert!(code == 77 && text.is_empty() && told, "{code} {error}");
    }
    for wrong in
        [&["forward"][..], &["forward", &host.address], &["forward", "x:1", "y"], &["forward", "0:host:port"]]
    {
        assert_eq!(host.run("key", wrong).0, 2, "{wrong:?}");
    }
    assert_eq!(host.run("key", &["host", "--allow-forward", "x", "--key-file", "k", "--", "true"]).0, 2);
}

#[test]
fn both_loopback_addresses_are_listened_at_and_each_that_is_busy_is_an_error() {
    let host = host();
    let target = server(echo);
    let forward = forward(&host, target);
    let has_six = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    let mut addresses = vec![format!("127.0.0.1:{}", forward.port)];
    addresses.extend(has_six.then(|| format!("[::1]:{}", forward.port)));
    for address in &addresses {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"there and back").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "there and back", "{address}");
    }
    drop(forward);
    for busy in ["127.0.0.1:0", "[::1]:0"].into_iter().take(addresses.len()) {
        let listener = TcpListener::bind(busy).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (code, text, error) = host.run("key", &["forward", &format!("{port}:{target}")]);
        assert!(
            code == 69 && text.is_empty() && error.contains("cannot listen at"),
            "{busy}: {code} {text} {error}"
        );
    }
}

#[test]
fn many_streams_are_carried_over_cuts_without_a_lost_byte() {
    let host = host();
    let proxy = Arc::new(Proxy::new(&host.address, None));
    let address = proxy.address.to_string();
    let forward = Forward::start(host.call("key", &["forward", &address, &format!("0:{}", server(echo))]));
    let done = Arc::new(AtomicUsize::new(0));
    let streams: Vec<_> = (0..20)
        .map(|number| {
            let (mut stream, done) = (forward.connect(), Arc::clone(&done));
            thread::spawn(move || {
                let sent = bytes(1_000_000 + number);
                let mut back = stream.try_clone().unwrap();
                let written = sent.clone();
                let writer = thread::spawn(move || {
                    stream.write_all(&written).unwrap();
                    stream.shutdown(Shutdown::Write).unwrap();
                });
                let mut got = Vec::new();
                back.read_to_end(&mut got).unwrap();
                writer.join().unwrap();
                done.fetch_add(1, SeqCst);
                assert!(got == sent, "stream {number}: {} of {} bytes", got.len(), sent.len());
            })
        })
        .collect();
    let mut cuts = 0;
    while done.load(SeqCst) < 20 && cuts < 30 {
        thread::sleep(Duration::from_millis(60));
        proxy.cut();
        cuts += 1;
    }
    for stream in streams {
        stream.join().unwrap();
    }
    assert!(cuts > 1, "nothing was cut");
}

/// Connections that come and go, some of them broken off, with few descriptors: none is left over, at either side.
#[test]
fn short_and_aborted_connections_wear_nothing_out() {
    let host = host();
    let target = server(echo);
    let mut few = command("sh");
    few.args([
        "-c",
        "ulimit -n 64; exec \"$0\" \"$@\"",
        env!("CARGO_BIN_EXE_trunkline"),
        "forward",
        &host.address,
        &format!("0:{target}"),
    ]);
    few.env("TRUNKLINE_KEY_FILE", host.key("key"));
    let forward = Arc::new(Forward::start(few));
    let descriptors = |pid: u32| -> Vec<String> {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        let links = files.filter_map(|file| std::fs::read_link(file.path()).ok());
        links.map(|link| link.to_string_lossy().into_owned()).collect()
    };
    let round_trip = |forward: &Forward| {
        let mut stream = forward.connect();
        stream.write_all(b"short").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "short");
    };
    round_trip(&forward);
    let before = (descriptors(forward.process.id()), descriptors(host.process.id()));
    // More at once than there are channels, or descriptors: the others wait.
    let (turns, one_is_aborted_of) = or_in_full((20, 5), (1000, 200));
    let threads: Vec<_> = (0..100)
        .map(|number| {
            let forward = Arc::clone(&forward);
            thread::spawn(move || {
                for turn in 0..turns {
                    if (number + turn) % one_is_aborted_of == 0 {
                        let mut stream = forward.connect();
                        let _ = stream.write_all(&[b'x'; 5000]);
                        reset(&stream);
                    } else {
                        round_trip(&forward);
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = (descriptors(forward.process.id()), descriptors(host.process.id()));
        if now.0.len() <= before.0.len() && now.1.len() <= before.1.len() {
            break;
        }
        assert!(Instant::now() < deadline, "{now:?} are more than {before:?}");
        thread::sleep(Duration::from_millis(20));
    }
    round_trip(&forward);
}

#[test]
fn an_idle_stream_lives_and_the_end_of_the_host_is_told_to_all() {
    let mut host = host();
    let forward = forward(&host, server(echo));
    let mut stream = forward.connect();
    for word in [b"one", b"two"] {
        stream.write_all(word).unwrap();
        let mut back = [0; 3];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(&back, word);
        // Longer than a look at what the other side wants; or than what is between forgets connections that say nothing.
        thread::sleep(or_in_full(Duration::from_millis(1500), Duration::from_secs(310)));
    }
    host.process.kill().unwrap();
    host.process.wait().unwrap();
    assert_eq!(stream.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let mut forward = forward;
    assert_eq!(forward.process.wait().unwrap().code(), Some(69));
}
