//! Letting go of a connection: both sides at once, in its own time, and of one that is dead.

use std::net::TcpListener;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use trunkline::*;

use crate::support::chaos::Cut;
use crate::support::line::{Line, eventually, next};
use crate::support::wire::{RawKey, RawPeer, ServerHandshake};
use crate::support::{LONG, free_address, loopback, pair};

const A: ChannelId = ChannelId::new(1);
const KEY: RawKey = [7; 32];
/// What a machine that is busy may add to a wait.
const MARGIN: Duration = Duration::from_secs(5);

/// A server that takes part in the handshake and then neither reads nor says anything.
struct Dead {
    socket: TcpListener,
    peers: Vec<RawPeer>,
}

impl Dead {
    fn new() -> Self {
        Self { socket: TcpListener::bind(free_address()).unwrap(), peers: Vec::new() }
    }

    fn connect(&mut self, set: impl Fn(Config) -> Config) -> Connection {
        let address = self.socket.local_addr().unwrap();
        let config = set(Config::new(Key::from(KEY)).no_heartbeat());
        thread::scope(|scope| {
            let client = scope.spawn(|| Connection::connect(address, config).unwrap());
            self.peers.push(ServerHandshake::accept(&self.socket, &KEY).finish().unwrap());
            client.join().unwrap()
        })
    }
}

#[test]
fn both_sides_may_close_at_once() {
    let key = Key::generate();
    let listener = Listener::bind(free_address(), Config::new(key.clone())).unwrap();
    let both = |round: u32, here: Connection, there: Connection| {
        if round.is_multiple_of(3) {
            here.sender(A).unwrap().send(vec![1; 10_000]).unwrap();
            there.sender(A).unwrap().send("x").unwrap();
            // What is not in the stream when the other's CLOSE comes would be dropped, and reported.
            assert_eq!((here.flush(), there.flush()), (Ok(()), Ok(())));
        }
        let at_once = Barrier::new(2);
        thread::scope(|scope| {
            let close = |conn: Connection| {
                at_once.wait();
                conn.close(CloseCode::NORMAL, "")
            };
            let other = scope.spawn(move || close(there));
            assert_eq!(close(here), Ok(()), "round {round}");
            assert_eq!(other.join().unwrap(), Ok(()), "round {round}");
        });
    };
    for round in 0..300 {
        let client = match round % 5 {
            4 => Connection::connect_lazily(listener.local_addr(), Config::new(key.clone())),
            _ => Connection::connect(listener.local_addr(), Config::new(key.clone())),
        };
        both(round, client.unwrap(), listener.accept().unwrap());
    }
    for round in 0..100 {
        let (here, there) = pair(|config| config);
        both(round, here, there);
    }
}

/// The same while the link is away: the two CLOSEs cross over the next socket, and each side hears
/// that the other has everything.
#[test]
fn both_sides_may_close_at_once_during_an_outage() {
    for round in 0..5 {
        let line = Line::new(|config| config.linger(LONG));
        let events = [line.client.events(), line.server.events()];
        line.client.sender(A).unwrap().send("from the client").unwrap();
        line.server.sender(A).unwrap().send("from the server").unwrap();
        assert_eq!((line.client.flush(), line.server.flush()), (Ok(()), Ok(())));
        line.chaos.refuse(true);
        line.chaos.cut(Cut::Reset);
        for events in &events {
            assert!(matches!(next(events), Event::Suspended { .. }));
        }
        let receivers = [line.client.receiver(A).unwrap(), line.server.receiver(A).unwrap()];
        thread::scope(|scope| {
            let closing =
                [&line.client, &line.server].map(|conn| scope.spawn(|| conn.close(CloseCode::NORMAL, "")));
            eventually("both have begun", || {
                line.client.close_reason().is_some() && line.server.close_reason().is_some()
            });
            line.chaos.refuse(false);
            for closing in closing {
                assert_eq!(closing.join().unwrap(), Ok(()), "round {round}");
            }
        });
        assert_eq!(&*receivers[0].recv().unwrap(), b"from the server");
        assert_eq!(&*receivers[1].recv().unwrap(), b"from the client");
    }
}

/// The peer's CLOSE is no answer: on a link that stalls while the two cross, neither side is told
/// that the other has what it has not.
#[test]
fn closes_that_cross_on_a_stalled_link_confirm_nothing() {
    let mut dead = Dead::new();
    let client = dead.connect(|config| config.linger(Duration::from_millis(300)));
    let mut server = dead.peers.pop().unwrap();
    client.sender(A).unwrap().send("it never arrives").unwrap();
    thread::scope(|scope| {
        let closing = scope.spawn(|| client.close(CloseCode::NORMAL, ""));
        eventually("it has begun", || client.close_reason().is_some());
        // Its CLOSE is out; the other side's was under way, and it acknowledges nothing.
        server.expect_close_frame();
        server.send_bytes(&crate::support::wire::close(0, b"")).unwrap();
        let error = closing.join().unwrap().unwrap_err();
        assert_eq!(error.cause(), Some(&ConnectionError::Closed { code: CloseCode::NORMAL }));
    });
}

#[test]
fn close_timeout_waits_as_long_as_it_says() {
    let mut dead = Dead::new();
    let time = Duration::from_millis(100);
    for linger in [Duration::from_millis(1), Duration::from_secs(300)] {
        let client = dead.connect(|config| config.linger(linger));
        client.sender(A).unwrap().send("is anybody there").unwrap();
        let begun = Instant::now();
        client.close_timeout(CloseCode::NORMAL, "", time).unwrap_err();
        assert!((time..MARGIN).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        // It is over, so the drop has nothing more to wait for.
        drop(client);
        assert!(begun.elapsed() < MARGIN);
    }
    let (here, there) = loopback(|config| config.linger(Duration::ZERO));
    here.sender(A).unwrap().send("all of it").unwrap();
    assert_eq!(here.close_timeout(CloseCode::NORMAL, "", LONG), Ok(()));
    assert_eq!(&*there.receiver(A).unwrap().recv().unwrap(), b"all of it");
}

/// Abandoned, a connection is let go of at once, whatever the peer does; a peer that lives is told.
#[test]
fn abandon_waits_for_nothing_and_tells_the_peer() {
    let forever = |config: Config| config.linger(Duration::from_secs(300)).window(10_000);
    for (here, there) in [pair(forever), loopback(forever)] {
        let sender = here.sender(A).unwrap();
        while sender.try_send([0; 1000]).is_ok() {}
        let begun = Instant::now();
        here.abandon();
        assert!(matches!(sender.send("x"), Err(SendError::Disconnected { .. })));
        drop(sender);
        assert!(begun.elapsed() < MARGIN);
        eventually("it is told", || there.close_reason().is_some());
        assert_eq!(there.close_reason().unwrap().close_code(), Some(CloseCode::SHUTTING_DOWN));
    }
    let mut dead = Dead::new();
    let client = dead.connect(forever);
    let sender = client.sender(A).unwrap();
    while sender.try_send([0; 60_000]).is_ok() {}
    let begun = Instant::now();
    client.abandon();
    drop(sender);
    assert!(begun.elapsed() < MARGIN);
}

/// And one that has no socket, or whose peer was never there.
#[test]
fn abandon_and_detach_wait_for_nothing_without_a_socket() {
    for detach in [false, true] {
        let line = Line::new(|config| config.linger(Duration::from_secs(300)));
        let events = line.client.events();
        line.chaos.refuse(true);
        line.chaos.cut(Cut::Reset);
        assert!(matches!(next(&events), Event::Suspended { .. }));
        let nobody = TcpListener::bind(free_address()).unwrap();
        let address = nobody.local_addr().unwrap();
        let lazy = Connection::connect_lazily(address, Config::new(Key::generate()).linger(LONG)).unwrap();
        let begun = Instant::now();
        for conn in [line.client, line.server, lazy] {
            let sender = conn.sender(A).unwrap();
            sender.send("it is lost").unwrap();
            if detach {
                conn.detach()
            } else {
                conn.abandon()
            }
            drop(sender);
        }
        assert!(begun.elapsed() < MARGIN);
    }
}

/// Detached, what was sent still goes, while the program does something else.
#[test]
fn detach_returns_at_once_and_everything_arrives() {
    let (here, there) = loopback(|config| config.window(10_000).linger(LONG));
    let sender = here.sender(A).unwrap();
    sender.send(vec![3; 1_000_000]).unwrap();
    let begun = Instant::now();
    here.detach();
    drop(sender);
    // Nothing was read yet, so it cannot have gone.
    assert!(begun.elapsed() < MARGIN);
    assert_eq!(there.receiver(A).unwrap().recv_timeout(LONG).unwrap().len(), 1_000_000);
    eventually("and then the end", || there.close_reason().is_some());
    assert_eq!(there.close_reason().unwrap().close_code(), Some(CloseCode::NORMAL));
}

/// A program that lets go of many connections to dead peers waits about as long as for one.
#[test]
fn drops_of_many_connections_to_dead_peers_do_not_add_up() {
    let linger = Duration::from_millis(400);
    let mut dead = Dead::new();
    let clients: Vec<_> = (0..200)
        .map(|n| {
            let client = dead.connect(|config| config.linger(linger));
            if n % 2 == 0 {
                client.sender(A).unwrap().send("is anybody there").unwrap();
            }
            client
        })
        .collect();
    let begun = Instant::now();
    drop(clients);
    // 80 s if they added up; 25 ms for each that follows is what a peer that lives may need.
    assert!(begun.elapsed() < linger + Duration::from_millis(25) * 200 + MARGIN, "{:?}", begun.elapsed());
}

/// The same for what one connection has many of: writers with something that cannot go.
#[test]
fn drops_of_many_writers_to_a_dead_peer_do_not_add_up() {
    use std::io::Write;
    let linger = Duration::from_millis(400);
    let mut dead = Dead::new();
    let client = dead.connect(|config| config.linger(linger));
    let writers: Vec<_> = (0..100)
        .map(|n| {
            let sender = client.sender(ChannelId::new(n)).unwrap();
            while sender.try_send([0; 60_000]).is_ok() {}
            // What has neither credit nor room in the queue goes ahead of both.
            let mut writer = sender.into_writer();
            writeln!(writer, "a whole line").unwrap();
            write!(writer, "the beginning of a line").unwrap();
            writer
        })
        .collect();
    let begun = Instant::now();
    drop(writers);
    drop(client);
    // 40 s if they added up.
    let most = linger * 2 + Duration::from_millis(25) * 100 + MARGIN;
    assert!(begun.elapsed() < most, "{:?}", begun.elapsed());
}

/// A drop in vain takes no patience away from a peer that lives.
#[test]
fn a_drop_after_one_in_vain_still_delivers() {
    let mut dead = Dead::new();
    let lost = dead.connect(|config| config.linger(Duration::from_millis(20)));
    drop(lost);
    let (here, there) = loopback(|config| config.linger(LONG));
    here.sender(A).unwrap().send(vec![1; 500_000]).unwrap();
    thread::scope(|scope| {
        scope.spawn(move || drop(here));
        assert_eq!(there.receiver(A).unwrap().recv_timeout(LONG).unwrap().len(), 500_000);
    });
    eventually("it is over", || there.close_reason().is_some());
    assert_eq!(there.close_reason().unwrap().close_code(), Some(CloseCode::NORMAL));
}

/// A drop in an outage is bounded as any other.
#[test]
fn a_drop_in_an_outage_waits_no_longer_than_linger() {
    let linger = Duration::from_millis(100);
    let line = Line::new(|config| config.linger(linger));
    let events = [line.client.events(), line.server.events()];
    line.chaos.refuse(true);
    line.chaos.cut(Cut::Reset);
    for events in &events {
        assert!(matches!(next(events), Event::Suspended { .. }));
    }
    let Line { client, server, .. } = line;
    for conn in [client, server] {
        let sender = conn.sender(A).unwrap();
        while sender.try_send([0; 10_000]).is_ok() {}
        let begun = Instant::now();
        drop((sender, conn));
        assert!(begun.elapsed() < MARGIN, "{:?}", begun.elapsed());
    }
}

#[test]
fn a_closing_begins_at_the_call_and_tells_if_the_peer_has_everything() {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut end = |mut closing: Closing| {
        let begin = Instant::now();
        loop {
            match std::future::Future::poll(std::pin::Pin::new(&mut closing), &mut context) {
                std::task::Poll::Ready(end) => break end,
                std::task::Poll::Pending => assert!(begin.elapsed() < LONG),
            }
            thread::yield_now();
        }
    };
    let (here, there) = pair(|config| config);
    let sender = here.sender(A).unwrap();
    sender.send("the last").unwrap();
    let closing = here.closing(CloseCode::application(7), "enough");
    assert!(sender.send("too late").is_err(), "closed from the call on");
    end(closing).unwrap();
    assert_eq!(&*there.receiver(A).unwrap().recv().unwrap(), b"the last");
    eventually("the peer hears the end", || {
        there.close_reason().and_then(|cause| cause.close_code()) == Some(CloseCode::application(7))
    });

    let mut dead = Dead::new();
    let lost = dead.connect(|config| config.linger(Duration::from_secs(3600)));
    lost.sender(A).unwrap().send("nothing reads this").unwrap();
    let error = end(lost.closing_within(CloseCode::NORMAL, "", Duration::from_millis(50))).unwrap_err();
    assert!(error.cause().is_some());
    drop(lost.closing(CloseCode::NORMAL, ""));
}
