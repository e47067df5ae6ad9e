//! Unix sockets (protocol, section 9): what goes wrong with their files, their users and their processes
//! elsewhere.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use trunkline::*;

use crate::support::{LONG, free_address};

const DATA: ChannelId = ChannelId::new(1);

/// A directory of this user's own, and a path in it.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sock");
    (folder, path)
}

fn config(key: &Key) -> Config {
    Config::new(key.clone())
}

/// A message there and back.
fn talk(one: &Connection, other: &Connection) {
    for (from, to) in [(one, other), (other, one)] {
        from.sender(DATA).unwrap().send("hello").unwrap();
        assert_eq!(&*to.receiver(DATA).unwrap().recv_timeout(LONG).unwrap(), b"hello");
    }
}

/// This test again as a process of its own, which plays `role`.
fn process(test: &str, role: &str, key: &Key, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", &format!("unix::{test}"), "--nocapture", "--test-threads", "1"])
        .env("ROLE", role)
        .env("KEY", &*key.expose_hex())
        .env("SOCKET", path)
        .stdout(Stdio::piped());
    command
}

/// In such a process: what it plays.
fn role() -> Option<(String, Key, PathBuf)> {
    let role = std::env::var("ROLE").ok()?;
    Some((role, Key::from_env("KEY").unwrap(), std::env::var_os("SOCKET").unwrap().into()))
}

/// Killed if the test fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads what a process prints until this word, and gives the rest of its line.
fn wait_for(child: &mut Child, word: &str) -> String {
    let out = child.stdout.as_mut().unwrap();
    let mut text = Vec::new();
    let mut byte = [0];
    while out.read(&mut byte).unwrap() > 0 {
        text.push(byte[0]);
        if byte[0] == b'\n' {
            let line = String::from_utf8_lossy(&text).into_owned();
            if let Some((_, rest)) = line.split_once(word) {
                return rest.trim().to_owned();
            }
            text.clear();
        }
    }
    panic!("the process ended before it said {word:?}");
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn a_listener_and_its_client_meet_at_a_path() {
    let (folder, path) = folder();
    let key = Key::generate();
    let listener = Listener::bind_unix(&path, config(&key)).unwrap();
    assert_eq!(listener.address().to_string(), path.canonicalize().unwrap().display().to_string());
    let client = Connection::connect_unix(&path, config(&key)).unwrap();
    let server = listener.accept_timeout(LONG).unwrap();
    talk(&client, &server);
    assert_eq!((client.peer_addr(), server.local_addr()), (None, None));
    if cfg!(target_os = "linux") {
        let process = server.peer_process().expect("the system tells it");
        assert_eq!(process.id(), std::process::id());
        assert!(!process.has_exited());
        assert_eq!(client.peer_process().map(|process| process.id()), Some(std::process::id()));
    }
    drop((client, server, listener));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "the files go with the listener");
}

#[track_caller]
fn wait_until(mut done: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !done() {
        assert!(Instant::now() < end, "it does not happen");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_lazy_client_waits_for_the_file() {
    let (_folder, path) = folder();
    let key = Key::generate();
    let client = Connection::connect_lazily(Address::unix(&path), config(&key)).unwrap();
    client.sender(DATA).unwrap().send("early").unwrap();
    let listener = Listener::bind_unix(&path, config(&key)).unwrap();
    let server = listener.accept_timeout(LONG).unwrap();
    assert_eq!(&*server.receiver(DATA).unwrap().recv_timeout(LONG).unwrap(), b"early");
}

/// Of many starters at a file that a dead listener has left behind, one takes it over, clients reach it, and
/// the others neither listen nor remove its file.
#[test]
fn of_fifty_starters_at_a_stale_file_one_is_reached() {
    let key = Key::generate();
    for _ in 0..20 {
        let (folder, path) = folder();
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "it is stale");
        let barrier = Arc::new(Barrier::new(50));
        let starters: Vec<_> = (0..50)
            .map(|_| {
                let (barrier, path, config) = (Arc::clone(&barrier), path.clone(), config(&key));
                thread::spawn(move || {
                    barrier.wait();
                    Listener::bind_unix(&path, config)
                })
            })
            .collect();
        let mut listening = Vec::new();
        for starter in starters {
            match starter.join().unwrap() {
                Ok(listener) => listening.push(listener),
                Err(BindError::SocketFile(SocketFileError::InUse { .. })) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(listening.len(), 1);
        let client = Connection::connect_unix(&path, config(&key)).unwrap();
        talk(&client, &listening[0].accept_timeout(LONG).unwrap());
        drop((client, listening));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

/// Starters that come while others leave: whenever one listens, its file is there.
#[test]
fn starters_and_leavers_never_remove_each_others_files() {
    let (_folder, path) = folder();
    let key = Key::generate();
    let rounds = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while rounds.load(SeqCst) < 200 {
                    match Listener::bind_unix(&path, config(&key)) {
                        Ok(listener) => {
                            rounds.fetch_add(1, SeqCst);
                            drop(Connection::connect_unix(&path, config(&key)).expect("it is there"));
                            drop(listener);
                        }
                        Err(BindError::SocketFile(SocketFileError::InUse { .. })) => thread::yield_now(),
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
}

#[test]
fn a_listener_that_is_dropped_leaves_anothers_file_alone() {
    let (_folder, path) = folder();
    let key = Key::generate();
    let listener = Listener::bind_unix(&path, config(&key)).unwrap();
    fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    let inode = fs::metadata(&path).unwrap().ino();
    drop(listener);
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    drop(other);
}

/// A listener whose queue is full is not taken for dead: neither by clients, which all get in, nor by a
/// starter.
#[test]
fn a_full_queue_is_not_a_dead_listener() {
    const CLIENTS: usize = 1000;
    const THREADS: usize = 50;
    let (_folder, path) = folder();
    let key = Key::generate();
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    socket.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    socket.listen(1).unwrap();
    let crowd: Vec<_> = (0..2).map(|_| UnixStream::connect(&path).unwrap()).collect();
    match Listener::bind_unix(&path, config(&key)) {
        Err(BindError::SocketFile(SocketFileError::InUse { .. })) => {}
        other => panic!("{other:?}"),
    }
    let front: UnixListener = std::os::fd::OwnedFd::from(socket).into();
    let back = Listener::bind(free_address(), config(&key).backlog(CLIENTS)).unwrap();
    let started = Arc::new(Barrier::new(THREADS + 1));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                started.wait();
                for _ in 0..CLIENTS / THREADS {
                    let config = config(&key).connect_timeout(LONG).resume_grace(Duration::ZERO);
                    Connection::connect_unix(&path, config).expect("it gets in").abandon();
                }
            });
        }
        started.wait();
        for come in front.incoming().take(CLIENTS + crowd.len()) {
            back.adopt(come.unwrap()).unwrap();
        }
    });
}

/// Between the making of the file and its mode there is no moment, whatever the umask.
#[test]
fn the_file_is_private_from_its_first_moment_on() {
    let test = "the_file_is_private_from_its_first_moment_on";
    let (folder, path) = folder();
    let Some((_, key, path)) = role() else {
        let mut child = process(test, "binder", &Key::generate(), &path).spawn().unwrap();
        assert!(child.wait().unwrap().success());
        drop(folder);
        return;
    };
    // Of this process alone.
    rustix::process::umask(rustix::fs::Mode::empty());
    let over = AtomicBool::new(false);
    let seen = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(SeqCst) {
                if let Ok(file) = fs::symlink_metadata(&path) {
                    assert_eq!(file.mode() & 0o777, 0o600);
                    seen.fetch_add(1, SeqCst);
                }
            }
        });
        for _ in 0..300 {
            drop(Listener::bind_unix(&path, config(&key)).unwrap());
        }
        over.store(true, SeqCst);
    });
    assert!(seen.load(SeqCst) > 0);
}

#[test]
fn a_directory_that_others_can_write_is_refused_and_the_error_says_what_to_do() {
    let (folder, path) = folder();
    let key = Key::generate();
    for mode in [0o777, 0o1777, 0o770, 0o720] {
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
        match Listener::bind_unix(&path, config(&key)) {
            Err(BindError::SocketFile(error @ SocketFileError::Exposed { .. })) => {
                let text = error.to_string();
                assert!(text.contains("mkdir -m 700") && text.contains(&format!("{mode:o}")), "{text}");
            }
            other => panic!("{other:?}"),
        }
        // And so is what is below it.
        let below = folder.path().join("below");
        fs::create_dir(&below).unwrap();
        fs::set_permissions(&below, fs::Permissions::from_mode(0o700)).unwrap();
        let bound = Listener::bind_unix(below.join("sock"), config(&key));
        assert_eq!(
            bound.is_ok(),
            mode == 0o1777,
            "{mode:o}: only the sticky bit keeps others from moving it"
        );
        drop(bound);
        fs::remove_dir(&below).unwrap();
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // By a link that stands elsewhere: what counts is where it leads.
    let link = folder.path().join("link");
    symlink("/tmp", &link).unwrap();
    match Listener::bind_unix(link.join("trunkline-test-sock"), config(&key)) {
        Err(BindError::SocketFile(SocketFileError::Exposed { .. })) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing was made");
}

#[test]
fn a_directory_of_another_user_is_refused() {
    if !is_root() {
        return eprintln!("skipped: it takes root to make a directory of another user");
    }
    let (folder, path) = folder();
    std::os::unix::fs::chown(folder.path(), Some(12_345), None).unwrap();
    match Listener::bind_unix(&path, config(&Key::generate())) {
        Err(BindError::SocketFile(SocketFileError::ForeignDirectory { user: 12_345, .. })) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_no_socket_is_never_removed() {
    let (folder, path) = folder();
    let key = Key::generate();
    let target = folder.path().join("target");
    fs::write(&target, "precious").unwrap();
    for make in
        [|path: &Path, _: &Path| fs::write(path, "data"), |path: &Path, target: &Path| symlink(target, path)]
    {
        make(&path, &target).unwrap();
        match Listener::bind_unix(&path, config(&key)) {
            Err(BindError::SocketFile(SocketFileError::NotASocket { .. })) => {}
            other => panic!("{other:?}"),
        }
        assert!(fs::symlink_metadata(&path).is_ok());
        fs::remove_file(&path).unwrap();
    }
    assert_eq!(fs::read(&target).unwrap(), b"precious");
}

#[test]
fn a_path_that_is_too_long_is_a_clear_error() {
    let (folder, _) = folder();
    let path = folder.path().join("x".repeat(120));
    let key = Key::generate();
    let bound = Listener::bind_unix(&path, config(&key)).unwrap_err().to_string();
    let connected = Connection::connect_unix(&path, config(&key)).unwrap_err().to_string();
    let lazily = Connection::connect_lazily(Address::unix(&path), config(&key)).unwrap_err().to_string();
    for text in [bound, connected, lazily] {
        assert!(text.contains("bytes") && text.contains("XDG_RUNTIME_DIR"), "{text}");
    }
    // The longest that there can be.
    let most = if cfg!(target_os = "linux") { 107 } else { 103 };
    let folder_path = folder.path().canonicalize().unwrap();
    let name = "y".repeat(most - folder_path.as_os_str().len() - 1);
    let listener = Listener::bind_unix(folder_path.join(&name), config(&key)).unwrap();
    Connection::connect_unix(folder_path.join(&name), config(&key)).unwrap();
    drop(listener);
    // An abstract name has no owner and no mode.
    assert!(Listener::bind_unix("\0abstract", config(&key)).is_err());
    assert!(Connection::connect_unix("\0abstract", config(&key)).is_err());
}

/// A program that cleans temporary directories removes the file: it is made again, and sessions live on.
#[test]
fn a_file_that_a_cleaner_removes_is_made_again() {
    let (_folder, path) = folder();
    let key = Key::generate();
    let listener = Listener::bind_unix(&path, config(&key)).unwrap();
    let client = Connection::connect_unix(&path, config(&key)).unwrap();
    let server = listener.accept_timeout(LONG).unwrap();
    let events = listener.events();
    fs::remove_file(&path).unwrap();
    fs::remove_file(path.with_file_name("sock.lock")).unwrap();
    assert!(Connection::connect_unix(&path, config(&key)).is_err());
    wait_until(|| path.exists());
    assert_eq!(events.recv_timeout(LONG), Ok(ListenerEvent::FileRemoved { again: true }));
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    let second = Connection::connect_unix(&path, config(&key)).unwrap();
    talk(&second, &listener.accept_timeout(LONG).unwrap());
    talk(&client, &server);
    match Listener::bind_unix(&path, config(&key)) {
        Err(BindError::SocketFile(SocketFileError::InUse { .. })) => {}
        other => panic!("{other:?}"),
    }
}

/// Another user's process is hung up on before a byte is read, and is not spoken to.
#[test]
fn other_users_are_strangers_on_both_sides() {
    let test = "other_users_are_strangers_on_both_sides";
    if let Some((role, key, path)) = role() {
        match &*role {
            "client" => {
                let mut socket = UnixStream::connect(&path).unwrap();
                let mut all = Vec::new();
                let _ = socket.write_all(&[0xF4; 48]);
                // A reset, if what it wrote was not read.
                let _ = socket.read_to_end(&mut all);
                assert!(all.is_empty(), "{all:?}");
                match Connection::connect_unix(&path, config(&key)) {
                    // What it sees is that root listens, whom it may trust; but root does not trust it.
                    Err(ConnectError::Handshake(HandshakeError::Disconnected)) => {}
                    other => panic!("{other:?}"),
                }
            }
            "unmapped" => {
                // It is its own user, and that id may be anybody's.
                let listener = Listener::bind_unix(&path, config(&key)).unwrap();
                match Connection::connect_unix(&path, config(&key)) {
                    Err(ConnectError::Handshake(HandshakeError::ForeignUser { user: Some(65_534) })) => {}
                    other => panic!("{other:?}"),
                }
                let mut socket = UnixStream::connect(&path).unwrap();
                assert_eq!(socket.read(&mut [0]).unwrap_or(0), 0);
                assert_eq!(listener.try_accept().unwrap_err(), AcceptError::Empty);
            }
            _ => {
                let listener = UnixListener::bind(&path).unwrap();
                println!("listening");
                let (mut come, _) = listener.accept().unwrap();
                let mut all = Vec::new();
                come.read_to_end(&mut all).unwrap();
                assert!(all.is_empty(), "{all:?}");
            }
        }
        return;
    }
    if !is_root() {
        return eprintln!("skipped: it takes root to be two users");
    }
    let (folder, path) = folder();
    let key = Key::generate();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let listener = Listener::bind_unix(&path, config(&key)).unwrap();
    // As if its mode were none.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let mut client = process(test, "client", &key, &path);
    std::os::unix::process::CommandExt::uid(&mut client, 12_345);
    assert!(client.spawn().unwrap().wait().unwrap().success());
    assert_eq!(listener.try_accept().unwrap_err(), AcceptError::Empty);

    // The id that stands for all users that have none in this namespace.
    let unmapped = folder.path().join("unmapped");
    fs::create_dir(&unmapped).unwrap();
    std::os::unix::fs::chown(&unmapped, Some(65_534), None).unwrap();
    let mut alone = process(test, "unmapped", &key, &unmapped.join("sock"));
    std::os::unix::process::CommandExt::uid(&mut alone, 65_534);
    assert!(alone.spawn().unwrap().wait().unwrap().success());

    let theirs = folder.path().join("theirs");
    fs::create_dir(&theirs).unwrap();
    std::os::unix::fs::chown(&theirs, Some(12_345), None).unwrap();
    let path = theirs.join("sock");
    let mut server = process(test, "server", &key, &path);
    std::os::unix::process::CommandExt::uid(&mut server, 12_345);
    let mut server = Killed(server.spawn().unwrap());
    wait_for(&mut server.0, "listening");
    match Connection::connect_unix(&path, config(&key)) {
        Err(ConnectError::Handshake(HandshakeError::ForeignUser { user: Some(12_345) })) => {}
        other => panic!("{other:?}"),
    }
    assert!(server.0.wait().unwrap().success());
}

/// A process that has no number in this one's namespace has none here.
#[test]
#[cfg(target_os = "linux")]
fn a_process_in_another_namespace_is_not_given_a_number() {
    let test = "a_process_in_another_namespace_is_not_given_a_number";
    if let Some((_, key, path)) = role() {
        let client = Connection::connect_unix(&path, config(&key)).unwrap();
        assert!(client.peer_process().is_none());
        return;
    }
    let (_folder, path) = folder();
    let key = Key::generate();
    let listener = Listener::bind_unix(&path, config(&key)).unwrap();
    let inner = process(test, "client", &key, &path);
    let mut outer = Command::new("unshare");
    outer.args(["--pid", "--fork"]).arg(inner.get_program()).args(inner.get_args());
    outer.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let Ok(mut child) = outer.spawn() else { return eprintln!("skipped: it takes `unshare`") };
    let status = child.wait().unwrap();
    if !is_root() && !status.success() {
        return eprintln!("skipped: it takes root to make a namespace");
    }
    assert!(status.success());
    let server = listener.accept_timeout(LONG).unwrap();
    // Seen from outside it has one, and has ended.
    let process = server.peer_process().unwrap();
    assert!(process.id() != std::process::id() && process.has_exited());
}

/// The death of a client is noticed at once, although a child of it holds its end of the socket; what it has
/// sent before is read all the same.
#[test]
#[cfg(target_os = "linux")]
fn a_killed_client_whose_child_holds_the_socket_is_noticed_at_once() {
    let test = "a_killed_client_whose_child_holds_the_socket_is_noticed_at_once";
    if let Some((_, key, path)) = role() {
        let client = Connection::connect_unix(&path, config(&key)).unwrap();
        let sender = client.sender(DATA).unwrap();
        for n in 0..100_u32 {
            sender.send(n.to_be_bytes()).unwrap();
        }
        client.flush().unwrap();
        for entry in fs::read_dir("/proc/self/fd").unwrap() {
            let number: i32 = entry.unwrap().file_name().to_str().unwrap().parse().unwrap();
            if number > 2 {
                // SAFETY: the descriptor is only borrowed for this call; should it be closed meanwhile, the
                // call fails.
                let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
                let _ = rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty());
            }
        }
        #[expect(clippy::zombie_processes, reason = "it is to outlive this process")]
        let child = Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().unwrap();
        println!("\nchild {}", child.id());
        loop {
            thread::park();
        }
    }
    let (_folder, path) = folder();
    let key = Key::generate();
    let listener = Listener::bind_unix(&path, config(&key)).unwrap();
    let mut client = Killed(process(test, "client", &key, &path).spawn().unwrap());
    let server = listener.accept_timeout(LONG).unwrap();
    let child: i32 = wait_for(&mut client.0, "child ").parse().unwrap();
    let events = server.events();
    let process = server.peer_process().unwrap();
    assert_eq!(process.id(), client.0.id());
    assert!(!process.has_exited());
    client.0.kill().unwrap();
    client.0.wait().unwrap();
    let noticed = Instant::now();
    let event = loop {
        match events.recv_timeout(Duration::from_secs(5)).expect("before any heartbeat") {
            Event::Opened(_) => {}
            event => break event,
        }
    };
    let time = noticed.elapsed();
    let holder = rustix::process::Pid::from_raw(child).unwrap();
    let held = rustix::process::test_kill_process(holder).is_ok();
    let _ = rustix::process::kill_process(holder, rustix::process::Signal::KILL);
    assert!(held, "the child has lived until now");
    assert!(matches!(event, Event::Suspended { .. }), "{event:?}");
    assert!(time < Duration::from_secs(3), "{time:?}");
    assert!(process.has_exited());
    let receiver = server.receiver(DATA).unwrap();
    for n in 0..100_u32 {
        assert_eq!(*receiver.recv_timeout(LONG).unwrap(), n.to_be_bytes());
    }
    server.abandon();
}

/// A server that is killed leaves its file: the client hears that it is gone, and the next server takes the
/// file over.
#[test]
fn a_killed_server_is_gone_and_the_next_one_takes_its_place() {
    let test = "a_killed_server_is_gone_and_the_next_one_takes_its_place";
    if let Some((_, key, path)) = role() {
        let listener = Listener::bind_unix(&path, config(&key)).unwrap();
        println!("\nlistening");
        let _kept: Vec<_> = listener.incoming().collect();
        return;
    }
    let (_folder, path) = folder();
    let key = Key::generate();
    let mut server = Killed(process(test, "server", &key, &path).spawn().unwrap());
    wait_for(&mut server.0, "listening");
    let local_grace = Duration::from_millis(100);
    let client = Connection::connect_unix(&path, config(&key).local_grace(local_grace)).unwrap();
    server.0.kill().unwrap();
    server.0.wait().unwrap();
    let receiver = client.receiver(DATA).unwrap();
    match receiver.recv_timeout(LONG) {
        Err(RecvTimeoutError::Disconnected(RecvError::ConnectionLost(ConnectionError::PeerGone))) => {}
        other => panic!("{other:?}"),
    }
    assert!(path.exists(), "what a killed process leaves");
    let listener = Listener::bind_unix(&path, config(&key)).unwrap();
    let client = Connection::connect_unix(&path, config(&key)).unwrap();
    talk(&client, &listener.accept_timeout(LONG).unwrap());
}

/// A relay between two paths, whose sockets a test cuts.
struct Relay {
    sockets: Arc<std::sync::Mutex<Vec<UnixStream>>>,
}

impl Relay {
    fn new(from: &Path, to: PathBuf) -> Self {
        let listener = UnixListener::bind(from).unwrap();
        let sockets = Arc::new(std::sync::Mutex::new(Vec::new()));
        let kept = Arc::clone(&sockets);
        thread::spawn(move || {
            for near in listener.incoming() {
                let (near, far) = (near.unwrap(), UnixStream::connect(&to).unwrap());
                kept.lock().unwrap().extend([near.try_clone().unwrap(), far.try_clone().unwrap()]);
                for (mut from, mut to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)]
                {
                    thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(std::net::Shutdown::Both);
                    });
                }
            }
        });
        Self { sockets }
    }

    fn cut(&self) {
        for socket in self.sockets.lock().unwrap().drain(..) {
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }
}

#[test]
fn a_session_resumes_over_unix_sockets() {
    let (folder, path) = folder();
    let key = Key::generate();
    let listener = Listener::bind_unix(&path, config(&key)).unwrap();
    let relay = folder.path().join("relay");
    let cutter = Relay::new(&relay, path);
    let client = Connection::connect_unix(&relay, config(&key)).unwrap();
    let server = listener.accept_timeout(LONG).unwrap();
    let (sender, receiver) = (client.sender(DATA).unwrap(), server.receiver(DATA).unwrap());
    let sending = thread::spawn(move || {
        for n in 0..20_000_u32 {
            sender.send(n.to_be_bytes()).unwrap();
        }
    });
    for n in 0..20_000_u32 {
        if n % 4000 == 0 {
            cutter.cut();
        }
        assert_eq!(*receiver.recv_timeout(LONG).unwrap(), n.to_be_bytes());
    }
    sending.join().unwrap();
    drop((client, server));
}

/// Processes that hold a duplicate, threads that ask at once: each gets the same answer.
#[test]
#[cfg(target_os = "linux")]
fn a_pinned_process_stands_for_itself_after_its_end() {
    let test = "a_pinned_process_stands_for_itself_after_its_end";
    if let Some((_, key, path)) = role() {
        let _client = Connection::connect_unix(&path, config(&key)).unwrap();
        println!("\nconnected");
        return;
    }
    let (_folder, path) = folder();
    let key = Key::generate();
    let listener = Listener::bind_unix(&path, config(&key)).unwrap();
    let mut seen = std::collections::HashSet::new();
    let (processes, kept) = std::sync::mpsc::channel();
    for _ in 0..5 {
        let mut child = process(test, "client", &key, &path).spawn().unwrap();
        let server = listener.accept_timeout(LONG).unwrap();
        processes.send(server.peer_process().unwrap()).unwrap();
        assert!(child.wait().unwrap().success());
        seen.insert(child.id());
    }
    drop(processes);
    for process in kept {
        assert!(seen.contains(&process.id()) && process.has_exited());
    }
}
