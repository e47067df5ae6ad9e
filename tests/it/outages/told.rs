//! What is told of an outage, and what must not be taken for one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use trunkline::*;

use crate::support::chaos::Cut;
use crate::support::line::{Line, eventually, next};
use crate::support::{LONG, free_address};

const A: ChannelId = ChannelId::new(1);
const B: ChannelId = ChannelId::new(2);

fn lose(line: &Line) {
    line.chaos.refuse(true);
    line.chaos.cut(Cut::Reset);
    eventually("both notice", || line.client.is_suspended() && line.server.is_suspended());
}

/// A flush on a lost socket says so in its own time, on both sides and in every form.
#[test]
fn a_flush_on_a_lost_socket_says_so_in_its_own_time() {
    let line = Line::new(|config| config.linger(Duration::from_millis(200)));
    lose(&line);
    for conn in [&line.client, &line.server] {
        conn.sender(A).unwrap().send("it waits").unwrap();
        let begun = Instant::now();
        assert_eq!(conn.flush(), Err(FlushError::Suspended));
        assert_eq!(conn.flush_timeout(Duration::from_millis(10)), Err(FlushError::Suspended));
        // The grace is a minute.
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }
    // One that was lost while it waited says the same, and nothing was lost.
    let receiver = line.server.receiver(A).unwrap();
    line.chaos.refuse(false);
    assert_eq!(&*receiver.recv_timeout(LONG).unwrap(), b"it waits");
    eventually("it is back", || line.client.flush().is_ok());
}

#[test]
fn a_flush_to_a_peer_that_was_never_there_says_so() {
    let free = std::net::TcpListener::bind(free_address()).unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let config = Config::new(Key::generate()).linger(Duration::from_millis(50));
    let client = Connection::connect_lazily(address, config).unwrap();
    client.sender(A).unwrap().send("it waits").unwrap();
    assert_eq!(client.flush(), Err(FlushError::Suspended));
}

/// What is sent in an outage is bounded, whatever its form, and the sender can know why.
#[test]
fn what_is_sent_in_an_outage_is_bounded() {
    let line = Line::new(|config| config.window(1 << 30).send_queue(100_000).linger(Duration::ZERO));
    lose(&line);
    for conn in [&line.client, &line.server] {
        let mut accepted = 0;
        // On many channels too: the bound is the connection's.
        for channel in 0..128 {
            let sender = conn.sender(ChannelId::new(channel)).unwrap();
            while accepted < 50 << 20 && sender.try_send([0; 1000]).is_ok() {
                accepted += 1000;
            }
            let large = sender.try_send(vec![0; 1 << 20]);
            accepted += if large.is_ok() { 1 << 20 } else { 0 };
            let timeout = sender.send_timeout([0; 1000], Duration::from_millis(1));
            if timeout.is_ok() {
                accepted += 1000;
            }
        }
        assert!(accepted < 2 << 20, "{accepted} bytes were accepted with nowhere to go");
        assert!(conn.is_suspended());
        assert_eq!(conn.close_reason(), None);
    }
}

/// The cause of an outage comes with it, also for those that begin to listen later.
#[test]
fn suspended_carries_the_cause() {
    let line = Line::new(|config| config);
    let events = [line.client.events(), line.server.events()];
    lose(&line);
    for events in &events {
        let Event::Suspended { cause } = next(events) else { panic!() };
        assert!(matches!(cause, ConnectionError::Lost { .. }), "{cause:?}");
    }
    // A silence is another cause.
    let beat = (Duration::from_millis(100), Duration::from_millis(400));
    let line = Line::new(|config| config.heartbeat(beat.0, beat.1));
    let events = line.client.events();
    line.chaos.refuse(true);
    line.chaos.cut(Cut::Silence);
    let Event::Suspended { cause } = next(&events) else { panic!() };
    assert_eq!(cause, ConnectionError::HeartbeatLost(beat.1));
}

/// A client that connected lazily, said nothing and loses its socket early is kept as any other.
#[test]
fn an_idle_client_that_connected_lazily_is_kept_for_its_grace() {
    let line = Line::new(|config| config);
    let config = crate::support::line::on(line.key.clone());
    let client = Connection::connect_lazily(line.chaos.addr, config).unwrap();
    let server = line.listener.accept().unwrap();
    line.chaos.refuse(true);
    line.chaos.cut(Cut::Reset);
    eventually("it notices", || server.is_suspended() && client.is_suspended());
    // It was forgotten after 3 s.
    thread::sleep(Duration::from_millis(3500));
    assert_eq!(server.close_reason(), None);
    line.chaos.refuse(false);
    client.sender(A).unwrap().send("back again").unwrap();
    assert_eq!(&*server.receiver(A).unwrap().recv_timeout(LONG).unwrap(), b"back again");
}

/// Memory whose owner panics when it is given back, once it is armed.
struct Bomb {
    memory: [u8; 8192],
    armed: Arc<AtomicBool>,
    exploded: Arc<AtomicBool>,
}

impl AsRef<[u8]> for Bomb {
    fn as_ref(&self) -> &[u8] {
        &self.memory
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        self.exploded.store(true, SeqCst);
        if self.armed.load(SeqCst) {
            panic!("as the test wants it");
        }
    }
}

/// User memory that panics in the middle of a resume ends its own connection, which says so, and no
/// other; and not a byte of it is sent twice or left out before.
#[test]
fn a_panic_of_user_memory_in_a_resume_ends_one_connection() {
    for server_sends in [false, true] {
        let (mut exploded_in_a_resume, mut fast) = (0, 0);
        for _ in 0..100 {
            if exploded_in_a_resume == 3 {
                break;
            }
            let line = Line::new(|config| config.linger(Duration::from_millis(100)));
            let beside =
                Connection::connect(line.listener.local_addr(), Config::new(line.key.clone())).unwrap();
            let beside_far = line.listener.accept().unwrap();
            let (from, to) =
                if server_sends { (&line.server, &line.client) } else { (&line.client, &line.server) };
            // On a busy machine a link may seem to be a slow one; then frames are short, and copied.
            if from.rtt().is_none_or(|rtt| rtt >= Duration::from_millis(3)) {
                continue;
            }
            fast += 1;
            let receiver = to.receiver(A).unwrap();
            let [armed, exploded] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
            let bomb = Bomb { memory: [7; 8192], armed: armed.clone(), exploded: exploded.clone() };
            let sender = from.sender(A).unwrap();
            sender.send_bytes(Bytes::from_owner(bomb)).unwrap();
            assert_eq!(receiver.recv_timeout(LONG).unwrap().len(), 8192);
            // It is there, and most often not acknowledged: the next socket's handshake tells.
            armed.store(true, SeqCst);
            if exploded.load(SeqCst) {
                continue;
            }
            line.chaos.cut(Cut::Reset);
            eventually("it is given back", || exploded.load(SeqCst));
            exploded_in_a_resume += 1;
            eventually("and says so", || from.close_reason().is_some());
            assert_eq!(from.close_reason(), Some(ConnectionError::IoThreadStopped));
            beside.sender(B).unwrap().send("goes on").unwrap();
            assert_eq!(&*beside_far.receiver(B).unwrap().recv_timeout(LONG).unwrap(), b"goes on");
        }
        assert!(exploded_in_a_resume > 0 || fast < 10, "no resume gave it back in {fast} rounds");
    }
}
