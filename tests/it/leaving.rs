//! What becomes of connections when a process exits, forks, is stopped, or has an action for SIGPIPE:
//! in processes of their own, which are this program again with a role.
#![cfg(unix)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use trunkline::*;

use crate::support::wire::{RawKey, ServerHandshake};
use crate::support::{LONG, free_address};

const ROLE: &str = "TRUNKLINE_TEST_ROLE";
const ADDR: &str = "TRUNKLINE_TEST_ADDR";
const KEY: RawKey = [0x5a; 32];

const A: ChannelId = ChannelId::new(1);
const B: ChannelId = ChannelId::new(2);
const C: ChannelId = ChannelId::new(3);

fn config() -> Config {
    Config::new(Key::from(KEY))
}

/// A process that is killed if the test fails.
struct Process {
    child: Child,
    lines: Box<dyn Iterator<Item = std::io::Result<String>>>,
}

impl Process {
    fn start(role: &str, address: SocketAddr) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "leaving::a_process_of_its_own", "--nocapture"]);
        command.env(ROLE, role).env(ADDR, address.to_string()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = Box::new(BufReader::new(child.stdout.take().unwrap()).lines());
        Self { child, lines }
    }

    /// What it says next; the rest of its output is the test harness's.
    fn says(&mut self) -> String {
        let said = self.lines.find_map(|line| Some(line.unwrap().split_once("says: ")?.1.to_owned()));
        said.expect("it says something before it ends")
    }

    fn status(mut self) -> ExitStatus {
        // Its pipe must not fill.
        self.lines.by_ref().for_each(drop);
        self.child.wait().unwrap()
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn say(what: impl std::fmt::Display) {
    println!("says: {what}");
}

/// What the processes do; without a role, nothing.
#[test]
fn a_process_of_its_own() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let address: SocketAddr = std::env::var(ADDR).unwrap().parse().unwrap();
    match &*role {
        "exit" => exits(address, config()),
        "exit with a thread of its own" => exits(address, config().io_thread(&IoThread::new().unwrap())),
        "exit as a server" => exits_as_a_server(),
        "exit with an end that is dead" => exits_with_a_dead_peer(address),
        "SIGPIPE" => writes_to_lost_sockets(address),
        "fork" => forks(address),
        "be stopped" => is_stopped(address, config()),
        "be stopped without a grace" => is_stopped(address, config().resume_grace(Duration::ZERO)),
        other => panic!("{other}"),
    }
}

// ---------------------------------------------------------------------------
// Exit

fn send_much(conn: &Connection) {
    let sender = conn.sender(A).unwrap();
    for number in 0..20_000u32 {
        sender.send(number.to_be_bytes()).unwrap();
    }
    sender.send(vec![9; 3_000_000]).unwrap();
    sender.finish().unwrap();
    std::mem::forget(sender);
}

fn exit_after_a_shutdown() -> ! {
    std::process::exit(if shutdown(LONG) { 0 } else { 9 })
}

fn exits(address: SocketAddr, config: Config) {
    let conn = Connection::connect(address, config).unwrap();
    send_much(&conn);
    exit_after_a_shutdown();
}

fn exits_as_a_server() {
    let listener = Listener::bind(free_address(), config()).unwrap();
    say(listener.local_addr());
    send_much(&listener.accept().unwrap());
    exit_after_a_shutdown();
}

fn exits_with_a_dead_peer(address: SocketAddr) {
    let conn = Connection::connect(address, config().no_heartbeat().linger(LONG)).unwrap();
    conn.sender(A).unwrap().send("is anybody there").unwrap();
    let begun = Instant::now();
    assert!(!shutdown(Duration::from_millis(200)));
    // The handles fail, and wait for nothing more.
    assert!(conn.sender(B).is_err());
    std::process::exit(if begun.elapsed() < Duration::from_secs(20) { 3 } else { 4 });
}

fn receive_much(conn: &Connection) {
    let receiver = conn.receiver(A).unwrap();
    for number in 0..20_000u32 {
        assert_eq!(*receiver.recv_timeout(LONG).unwrap(), number.to_be_bytes());
    }
    assert_eq!(receiver.recv_timeout(LONG).unwrap().len(), 3_000_000);
    assert_eq!(receiver.recv_timeout(LONG).unwrap_err(), RecvError::Finished.into());
    let end = receiver.recv_timeout(LONG).unwrap_err();
    let RecvTimeoutError::Disconnected(RecvError::ConnectionLost(cause)) = end else { panic!("{end:?}") };
    assert_eq!(cause.close_code(), Some(CloseCode::SHUTTING_DOWN));
}

/// A process that exits loses nothing that it sent if it shuts down first, on whichever side and
/// thread its connections are.
#[test]
fn a_process_that_exits_after_a_shutdown_loses_nothing() {
    for role in ["exit", "exit with a thread of its own"] {
        let listener = Listener::bind(free_address(), config()).unwrap();
        let process = Process::start(role, listener.local_addr());
        receive_much(&listener.accept().unwrap());
        assert_eq!(process.status().code(), Some(0), "{role}");
    }
    let mut process = Process::start("exit as a server", ([127, 0, 0, 1], 0).into());
    let client = Connection::connect(process.says(), config()).unwrap();
    receive_much(&client);
    assert_eq!(process.status().code(), Some(0));
}

/// And waits no longer than it says for a peer that is dead.
#[test]
fn a_shutdown_waits_no_longer_than_it_says() {
    let server = TcpListener::bind(free_address()).unwrap();
    let process = Process::start("exit with an end that is dead", server.local_addr().unwrap());
    let _silent = ServerHandshake::accept(&server, &KEY).finish().unwrap();
    assert_eq!(process.status().code(), Some(3));
}

// ---------------------------------------------------------------------------
// SIGPIPE

/// Every write to a socket that is lost, in a process that SIGPIPE ends.
fn writes_to_lost_sockets(address: SocketAddr) {
    // SAFETY: the default action, as a program has it that is not written in Rust.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    // A socket pair tells at the first write.
    for _ in 0..20 {
        let (here, there) = Connection::pair(config().linger(Duration::from_millis(20))).unwrap();
        let sender = here.sender(A).unwrap();
        there.abandon();
        while sender.send([0; 1000]).is_ok() {}
    }
    // Over TCP: a connection, its first messages, and its handshake.
    let config = || config().resume_grace(Duration::ZERO).linger(Duration::from_millis(20));
    let mut ends = [0; 2];
    for _ in 0..60 {
        let short = config().connect_timeout(Duration::from_millis(300));
        match Connection::connect(address, short) {
            Ok(conn) => {
                let sender = conn.sender(A).unwrap();
                while sender.send(vec![0; 30_000]).is_ok() {}
                ends[0] += 1;
            }
            Err(_) => ends[1] += 1,
        }
    }
    // And a listener's side of it.
    let listener = Listener::bind(free_address(), config()).unwrap();
    for round in 0..60u64 {
        let mut stranger = crate::support::wire::ClientHandshake::new(listener.local_addr(), &KEY);
        stranger.send_hello().unwrap();
        if round % 3 > 0 {
            thread::sleep(Duration::from_micros(50 * (round % 7)));
        }
        reset(&stranger.stream);
    }
    let conn = Connection::connect(listener.local_addr(), config()).unwrap();
    drop(listener.accept_timeout(LONG).unwrap());
    drop(conn);
    say(format_args!("{ends:?}"));
    std::process::exit(0);
}

/// Ends a socket in such a way that the next write to it fails.
fn reset(stream: &std::net::TcpStream) {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
    let _ = stream.shutdown(Shutdown::Both);
}

#[test]
fn a_lost_socket_ends_no_process_whose_sigpipe_has_the_default_action() {
    let server = TcpListener::bind(free_address()).unwrap();
    let address = server.local_addr().unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let over = &over;
        scope.spawn(move || {
            let mut round = 0u64;
            while !over.load(Relaxed) {
                let Some(mut handshake) =
                    ServerHandshake::accept_within(&server, &KEY, Duration::from_millis(20))
                else {
                    continue;
                };
                round += 1;
                // In the middle of the handshake, or of the flood that follows.
                match round % 4 {
                    0 => reset(&handshake.stream),
                    1 => {
                        let _ = handshake.read_hello();
                        let _ = handshake.send_hello();
                        reset(&handshake.stream);
                    }
                    _ => {
                        if let Ok(peer) = handshake.finish() {
                            let _ = (&peer.stream).read(&mut [0; 100_000]);
                            reset(&peer.stream);
                        }
                    }
                }
            }
        });
        let mut process = Process::start("SIGPIPE", address);
        let said = catch_unwind(AssertUnwindSafe(|| process.says()));
        let status = process.status();
        over.store(true, Relaxed);
        assert_eq!((status.code(), status.signal()), (Some(0), None), "{said:?}");
    });
}

// ---------------------------------------------------------------------------
// Fork

/// Returns the exit code of the child, or 1000 and its signal. A child that takes longer than so many seconds is ended.
fn fork(patience: u32, child: impl FnOnce() -> i32, leave: fn(i32) -> !) -> i32 {
    // SAFETY: nothing is unsafe in what follows; this is a test of what becomes of it.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        // SAFETY: it has no pointers.
        unsafe { libc::alarm(patience) };
        let code = catch_unwind(AssertUnwindSafe(child)).unwrap_or(77);
        leave(code);
    }
    let mut status = 0;
    // SAFETY: `status` lives.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 1000 + libc::WTERMSIG(status) }
}

fn leave_at_once(code: i32) -> ! {
    // SAFETY: it does not return.
    unsafe { libc::_exit(code) }
}

fn leave_by_exit(code: i32) -> ! {
    std::process::exit(code)
}

struct Handles {
    conn: Connection,
    listener: Listener,
    sender: Sender,
    receiver: Receiver,
    merged: Receiver,
    reader: Reader,
    writer: Writer,
    events: Events,
    interrupts: Interrupts,
    flushing: Flushing,
    io: IoThread,
}

/// Every call on every handle of the parent's.
fn all_fail_at_once(handles: &mut Handles) {
    let Handles {
        conn,
        listener,
        sender,
        receiver,
        merged,
        reader,
        writer,
        events,
        interrupts,
        flushing,
        io,
    } = handles;
    let forked = ConnectionError::Forked;
    let lost = Disconnect::ConnectionLost(forked.clone());
    let mut context = Context::from_waker(Waker::noop());
    assert_eq!(sender.send("x"), Err(SendError::Disconnected { message: (), cause: lost.clone() }));
    assert!(sender.try_send([0; 100_000]).is_err());
    assert!(sender.send_bytes(bytes::Bytes::from_static(&[0; 100_000])).is_err());
    assert!(sender.send_timeout("x", LONG).is_err());
    assert!(sender.clone().finish().is_err() && sender.reset(1).is_err() && sender.gap(1, 1).is_err());
    assert!(sender.poll_ready(&mut context).is_ready());
    assert_eq!((sender.stopped(), sender.credit(), sender.peer_is_waiting()), (None, 0, false));
    for receiver in [&*receiver, &*merged, reader.receiver()] {
        assert_eq!(receiver.recv(), Err(forked.clone().into()));
        assert!(receiver.recv_any().is_err() && receiver.recv_latest().is_err());
        assert!(matches!(receiver.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected(_))));
        assert!(matches!(receiver.try_recv(), Err(TryRecvError::Disconnected(_))));
        assert_eq!(receiver.iter().count() + receiver.try_iter().count() + receiver.len(), 0);
        assert!(receiver.poll_recv(&mut context).is_ready());
        receiver.stop(1);
        receiver.set_waiting(true, 1);
    }
    assert!(reader.pending());
    reader.read_line(&mut String::new()).unwrap_err();
    reader.read(&mut [0; 8]).unwrap_err();
    reader.try_read_line().unwrap_err();
    reader.read_line_timeout(LONG).unwrap_err();
    reader.announce_waiting(true);
    reader.interrupter().interrupt();
    reader.clear_interrupt();
    writer.write_all(b"a line\n").unwrap_err();
    assert_eq!(events.recv(), Err(EventError::Over));
    assert_eq!(conn.events().recv(), Err(EventError::Over));
    assert!(!interrupts.wait() && !conn.interrupts().wait());
    assert_eq!(conn.flush(), Err(forked.clone().into()));
    assert!(conn.flush_timeout(LONG).is_err());
    assert!(matches!(
        std::future::Future::poll(std::pin::Pin::new(flushing), &mut context),
        Poll::Ready(Err(_))
    ));
    assert!(conn.poll_closed(&mut context).is_ready());
    conn.close(CloseCode::NORMAL, "").unwrap_err();
    assert!(conn.interrupt().is_err() && conn.sender(C).is_err() && conn.receiver(C).is_err());
    assert!(conn.sender_with(C, Priority::Urgent).is_err());
    conn.clone().abandon();
    conn.clone().detach();
    // What asks about the connection touches none of its locks either.
    assert_eq!(conn.close_reason(), Some(forked));
    assert!(!conn.is_suspended() && !conn.may_interrupt());
    let _ = (conn.may_send(), conn.may_receive(), conn.local_addr(), conn.peer_addr(), conn.rtt());
    let _ = (conn.stats(), format!("{conn:?}"), conn.access());
    assert_eq!(listener.accept().unwrap_err(), AcceptError::Closed);
    assert_eq!(listener.try_accept().unwrap_err(), AcceptError::Closed);
    assert_eq!(listener.accept_timeout(LONG).unwrap_err(), AcceptError::Closed);
    assert!(listener.poll_accept(&mut context).is_ready());
    assert_eq!(listener.incoming().count(), 0);
    listener.add_key(Key::generate(), Access::full());
    listener.remove_key(&Key::from(KEY));
    listener.close();
    // What is selected on counts as ready, as at any other end.
    let tokens = [sender.ready(), receiver.ready(), reader.ready(), events.ready(), interrupts.ready()];
    for ready in tokens.into_iter().chain([listener.ready()]) {
        assert!(
            ready.recv_timeout(LONG).is_err()
                && ready.try_recv() == Err(crossbeam_channel::TryRecvError::Disconnected)
        );
    }
    // The parent's I/O thread is not here, and makes nothing new.
    let config = || config().io_thread(io);
    assert!(Connection::pair(config()).is_err());
    assert!(Connection::connect(listener.local_addr(), config()).is_err());
    assert!(Connection::connect_lazily(listener.local_addr(), config()).is_err());
    assert!(Listener::bind(free_address(), config()).is_err());
    shutdown(LONG);
}

/// What a process that was forked makes by itself is its own.
fn makes_its_own() {
    let (here, there) = Connection::pair(config()).unwrap();
    here.sender(A).unwrap().send("its own").unwrap();
    assert_eq!(&*there.receiver(A).unwrap().recv_timeout(LONG).unwrap(), b"its own");
}

/// Ends the threads that are busy.
struct Rest<'a>(&'a AtomicBool);

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
    }
}

fn forks(address: SocketAddr) {
    let io = IoThread::new().unwrap();
    for (round, leave) in [leave_at_once, leave_by_exit].into_iter().cycle().take(6).enumerate() {
        let config = || if round % 3 == 0 { config().io_thread(&io) } else { config() };
        let conn = Connection::connect(address, config()).unwrap();
        let (ask, answer) = (conn.sender(A).unwrap(), conn.receiver(A).unwrap());
        let echo = |text: &str| {
            ask.send(text).unwrap();
            assert_eq!(&*answer.recv_timeout(LONG).unwrap(), text.as_bytes());
        };
        let mut handles = Handles {
            listener: Listener::bind(free_address(), config()).unwrap(),
            sender: conn.sender(B).unwrap(),
            receiver: conn.receiver(B).unwrap(),
            merged: conn.receiver(ChannelId::new(10) | ChannelId::new(11)).unwrap(),
            reader: conn.receiver(ChannelId::new(12)).unwrap().into_reader(),
            writer: conn.sender(ChannelId::new(13)).unwrap().into_writer(),
            events: conn.events(),
            interrupts: conn.interrupts(),
            flushing: conn.flushing(),
            io: io.clone(),
            conn: conn.clone(),
        };
        write!(handles.writer, "half a line").unwrap();
        echo("before");
        // In some rounds other threads hold the locks all the time.
        let (busy, channels) = (AtomicBool::new(true), if round > 1 { &[20, 21][..] } else { &[] });
        // A thread that starts or ends holds locks of the standard library, for which `exit` would wait in vain.
        let begun = Barrier::new(channels.len() + 1);
        thread::scope(|scope| {
            // Also if an assertion fails: the scope waits for them.
            let rest = Rest(&busy);
            for &channel in channels {
                let (busy, begun, conn) = (&busy, &begun, conn.clone());
                scope.spawn(move || {
                    let sender = conn.sender(ChannelId::new(channel)).unwrap();
                    begun.wait();
                    while busy.load(Relaxed) {
                        sender.send([0; 100]).unwrap();
                        let _ = (conn.close_reason(), conn.may_send());
                    }
                });
            }
            begun.wait();
            let code = fork(
                20,
                || {
                    all_fail_at_once(&mut handles);
                    42
                },
                leave,
            );
            assert_eq!(code, 42, "round {round}");
            // One that does nothing but drop and leave.
            let code = fork(
                20,
                || {
                    // SAFETY: the parent's copies are in another process; these are dropped once.
                    drop(unsafe { std::ptr::read(&handles) });
                    43
                },
                leave,
            );
            assert_eq!(code, 43, "round {round}");
            // New handles take locks: those of parking_lot's table that another thread held at the fork are held for
            // ever in the child, as the system's are. So it may hang, seldom, and is tried again.
            let makes = || fork(5, || (makes_its_own(), 44).1, leave_at_once);
            let code = (0..10).map(|_| makes()).find(|code| *code != 1000 + libc::SIGALRM);
            assert_eq!(code, Some(44), "round {round}");
            drop(rest);
        });
        assert_eq!(conn.close_reason(), None, "round {round}");
        assert!(!conn.is_suspended());
        echo("after");
        // The parent's listener and its other handles are as they were.
        let client = Connection::connect(handles.listener.local_addr(), config()).unwrap();
        handles.listener.accept_timeout(LONG).unwrap();
        drop(client);
        handles.sender.send("still").unwrap();
        handles.writer.flush().unwrap();
        conn.flush_timeout(LONG).unwrap();
    }
    std::process::exit(0);
}

/// A fork: the child's copies of all handles fail at once, touch no socket, wait for nothing and
/// leave the parent unharmed, also when the child drops them or exits.
#[test]
fn a_fork_has_none_of_its_parents_connections() {
    let listener = Listener::bind(free_address(), config()).unwrap();
    let process = Process::start("fork", listener.local_addr());
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let (over, listener) = (&over, &listener);
        scope.spawn(move || {
            while !over.load(Relaxed) {
                let Ok(conn) = listener.accept_timeout(Duration::from_millis(20)) else { continue };
                scope.spawn(move || {
                    let (questions, answers) = (conn.receiver(A).unwrap(), conn.sender(A).unwrap());
                    let unread = conn.receiver(ChannelId::new(20) | ChannelId::new(21)).unwrap();
                    thread::scope(|scope| {
                        scope.spawn(move || while unread.recv().is_ok() {});
                        questions.iter().for_each(|question| drop(answers.send(question)));
                    });
                });
            }
        });
        let status = process.status();
        over.store(true, Relaxed);
        assert_eq!(status.code(), Some(0), "{status:?}");
    });
}

// ---------------------------------------------------------------------------
// Stop and continue

/// Asks soon, and gives a silent peer up after a while.
const BEAT: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(1500)];

fn is_stopped(address: SocketAddr, config: Config) {
    let config = config.heartbeat(BEAT[0], BEAT[1]);
    let conn = Connection::connect(address, config).unwrap();
    let events = conn.events();
    let receiver = conn.receiver(A).unwrap();
    conn.sender(A).unwrap().send("connected").unwrap();
    say("connected");
    let received = receiver.iter().take_while(|message| **message != b"the end"[..]).count();
    let outages = events.try_iter().filter(|event| matches!(event, Event::Suspended { .. })).count();
    say(format_args!("{received} messages, {outages} outages, {:?}", conn.close_reason()));
    std::process::exit(0);
}

/// The heartbeat reads the socket before it gives a peer up: a process that was stopped for longer than
/// its timeout, in the middle of a question, finds that its peer has spoken meanwhile.
#[test]
fn a_process_that_was_stopped_does_not_give_up_a_peer_that_spoke() {
    for role in ["be stopped", "be stopped without a grace"] {
        let socket = TcpListener::bind(free_address()).unwrap();
        let mut process = Process::start(role, socket.local_addr().unwrap());
        let mut peer = ServerHandshake::accept(&socket, &KEY).finish().unwrap();
        process.says();
        for _ in 0..2 {
            // It asks, and is not answered yet.
            thread::sleep(BEAT[0] * 3);
            process.signal(rustix::process::Signal::STOP);
            peer.send_data(1, false, b"I live");
            thread::sleep(BEAT[1]);
            process.signal(rustix::process::Signal::CONT);
            // It reads what waited, and is answered in time.
            let heard = peer.wait_for(BEAT[0] * 2, |_| false);
            assert!(heard.is_err_and(|error| error.is_timeout()), "{role}: it is gone");
        }
        peer.send_data(1, false, b"the end");
        assert_eq!(process.says(), "2 messages, 0 outages, None", "{role}");
        assert_eq!(process.status().code(), Some(0));
    }
}
