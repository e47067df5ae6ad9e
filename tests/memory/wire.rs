//! What the library holds of what a peer sends it, counted by the allocator: a test for each kind of
//! memory, each of which tries to exceed its bound from outside.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::free_address;
use crate::support::heap::{live, wait_until};
use crate::support::wire::*;
use crate::turn;
use trunkline::{Access, ChannelId, ChannelSet, Config, Connection, Key, Listener, Received, Receiver};

const A: ChannelId = ChannelId::new(1);
const CHANNELS: u8 = 128;
const KIB: i64 = 1 << 10;
const MIB: i64 = 1 << 20;

/// What a peer sends on a channel.
type Unit = fn(u8) -> Vec<u8>;

/// What is allocated more than at its beginning.
struct Growth(i64);

impl Growth {
    fn begin() -> Self {
        Self(live())
    }

    fn now(&self) -> i64 {
        live() - self.0
    }

    #[track_caller]
    fn assert_below(&self, bound: i64, what: &str) {
        let grown = self.now();
        println!("{what}: {} KiB of {} KiB", grown / KIB, bound / KIB);
        assert!(grown <= bound, "{what}: {} KiB, the bound is {} KiB", grown / KIB, bound / KIB);
    }
}

struct Server {
    listener: Listener,
    key: RawKey,
}

impl Server {
    fn start(tune: impl FnOnce(Config) -> Config) -> Self {
        Self::start_for(Access::full(), tune)
    }

    /// A server whose clients may do what `access` says.
    fn start_for(access: Access, tune: impl FnOnce(Config) -> Config) -> Self {
        let key = random();
        let config = tune(Config::with_access(Key::from(key), access).linger(Duration::from_millis(50)));
        Self { listener: Listener::bind(free_address(), config).expect("bind"), key }
    }

    fn client(&self) -> ClientHandshake {
        ClientHandshake::new(self.listener.local_addr(), &self.key)
    }

    fn accept(&self) -> Connection {
        self.listener.accept().expect("accept returns the connection")
    }

    /// A peer that keeps no copy of what it sends, and the library's end.
    fn pair(&self) -> (RawPeer, Connection) {
        let peer = RawPeer::connect(self.listener.local_addr(), &self.key).forgetful();
        (peer, self.accept())
    }
}

/// "Until the third has been verified the server has allocated nothing for this peer beyond a fixed
/// buffer."
#[test]
fn handshakes_that_are_not_proved_cost_a_fixed_buffer() {
    let _turn = turn();
    const PEERS: usize = 200;
    const EACH: usize = 2048;
    let server = Server::start(|config| {
        config.pending_handshakes(PEERS + 10).handshake_timeout(Duration::from_secs(600))
    });
    let addr = server.listener.local_addr();
    let mut peers = Vec::with_capacity(PEERS);
    // The first of them warms up.
    let mut before = 0;
    for n in 0..PEERS {
        if n == 20 {
            before = live();
        }
        let mut client = ClientHandshake::new(addr, &server.key);
        client.send_hello().unwrap();
        client.read_server_hello().unwrap();
        peers.push(client.stream);
    }
    let each = (live() - before) / (PEERS as i64 - 20);
    println!("a handshake that is not proved costs {each} bytes");
    assert!(each < EACH as i64, "a handshake that is not proved costs {each} bytes");
}

#[test]
fn floods_of_control_frames_are_served_and_grow_nothing() {
    let _turn = turn();
    const UNITS: usize = 400_000;
    /// A queue of even 32 bytes for each would be above it.
    const ALLOWED: i64 = 12 << 20;
    let server = Server::start(|config| config);
    let mut held = Vec::new();
    let floods = [
        ("PONG", pong(1)),
        ("ACK", ack(0)),
        ("CREDIT 1", credit(1, 1)),
        ("CREDIT 0", credit(1, 0)),
        ("WAITING", [waiting(1, 1, 0), waiting(1, 0, 0)].concat()),
        ("FINISH", finish(1)),
        ("RESET", reset(1, 1)),
        ("FINISH, RESET", [finish(1), reset(1, 1)].concat()),
        ("STOP", stop(1, 1, 0)),
        ("STOP of other runs", stop(1, 1, 7)),
        ("GAP", gap(1, 1, 1)),
        ("GAP, FINISH", [gap(1, 1, 1), finish(1)].concat()),
        ("GAP, RESET, FINISH", [gap(1, 1, 1), reset(1, 1), finish(1)].concat()),
        ("extensions", control(1, 0x99, b"some")),
        ("INTERRUPT", interrupt()),
    ];
    for (what, unit) in floods {
        let (mut peer, connection) = server.pair();
        // Somebody could read, and does not; and somebody could send.
        let receiver = connection.receiver(A).unwrap();
        let sender = connection.sender(A).unwrap();
        sender.send(&b"opens the run"[..]).unwrap();
        let block = unit.repeat(2000);
        peer.expect_alive();
        let before = live();
        for _ in 0..UNITS / 2000 {
            peer.send_bytes(&block).unwrap_or_else(|error| panic!("{what}: {error}"));
        }
        peer.expect_alive();
        let grown = live() - before;
        println!("{what}: {} KiB", grown >> 10);
        assert!(grown < ALLOWED, "{what}: grew by {} KiB", grown >> 10);
        held.push((peer, connection, receiver, sender));
    }
}

#[test]
fn pings_that_are_not_read_are_answered_by_few_pongs() {
    let _turn = turn();
    const PINGS: u64 = 1_000_000;
    let server = Server::start(|config| config);
    let (mut peer, _connection) = server.pair();
    let mut block = Vec::with_capacity(70_000);
    let before = live();
    // 13 MB without reading a byte: a peer that gates its reading on its writing stops here.
    for number in 0..PINGS {
        block.extend_from_slice(&ping(number));
        if block.len() > 60_000 || number == PINGS - 1 {
            peer.send_bytes(&block).expect("the server reads on");
            block.clear();
        }
    }
    let grown = live() - before;
    println!("PING: {} KiB", grown >> 10);
    assert!(grown < 8 << 20, "grew by {} KiB", grown >> 10);
    // The pongs are some of the numbers, in order, and the last one in any case.
    let mut last = None;
    while last != Some(PINGS - 1) {
        match peer.wait_for(PATIENCE, |event| matches!(event, Event::Pong(_) | Event::Close(..))) {
            Ok(Event::Pong(number)) => {
                assert!(last.is_none_or(|last| number > last), "PONG {number} after {last:?}");
                last = Some(number);
            }
            other => panic!("after {last:?}: {other:?}"),
        }
    }
}

/// One-byte messages on many channels, unread: no more than the bound of section 3, in which each
/// message counts its length + 32.
#[test]
fn small_messages_that_nobody_reads_stay_below_the_bound() {
    let _turn = turn();
    const USED: u8 = 32;
    const WINDOW: u32 = 330_000;
    let server = Server::start(|config| config.window(WINDOW));
    for (what, payload) in [("empty", &b""[..]), ("one byte", b"x")] {
        let (mut peer, connection) = server.pair();
        peer.expect_alive();
        let cost = payload.len() + FRAME_COST;
        let block = |channel| data(channel, false, payload).repeat(WINDOW as usize / cost);
        let before = live();
        for channel in 0..USED {
            peer.send_bytes(&block(channel)).unwrap();
        }
        peer.expect_alive();
        let bound = i64::from(USED) * i64::from(WINDOW);
        let grown = live() - before;
        println!("{what}: {} KiB of {} KiB", grown >> 10, bound >> 10);
        assert!(grown < bound + (4 << 20), "{what}: grew by {} KiB, bound {} KiB", grown >> 10, bound >> 10);
        drop(connection);
    }
}

/// Fills the assemblies of all channels with as much as the library grants credit for.
fn fill_assemblies(peer: &mut RawPeer, fragment: usize, most: usize) -> usize {
    let mut sent = [0usize; CHANNELS as usize];
    loop {
        let before = sent.iter().sum::<usize>();
        for channel in 0..CHANNELS {
            let at = usize::from(channel);
            loop {
                let credit = peer.send_credit[at] - FRAME_COST as i64;
                let len = (credit.max(0) as usize).min(fragment).min(most - 1 - sent[at]);
                if len == 0 {
                    break;
                }
                let frame = data(channel, true, &vec![7; len]);
                let count =
                    if len == fragment { (credit as usize / (len + FRAME_COST)).clamp(1, 64) } else { 1 };
                let count = count.min((most - 1 - sent[at]) / len);
                peer.send_bytes(&frame.repeat(count)).unwrap();
                peer.send_credit[at] -= (count * (len + FRAME_COST)) as i64;
                sent[at] += count * len;
            }
        }
        // All credit that follows from it comes before the answer to a PING.
        peer.expect_alive();
        peer.expect_alive();
        let total = sent.iter().sum::<usize>();
        if total == before {
            return total;
        }
    }
}

#[test]
fn messages_that_are_not_whole_stay_below_max_assembly() {
    let _turn = turn();
    let small = |config: Config| config.window(64 << 10).max_message(1 << 20);
    let few = |config: Config| small(config).max_assembly(12 << 20);
    let quota = Access::full().max_assembly(12 << 20);
    for (what, server, bound, most) in [
        ("a small setting", Server::start(few), 12 * MIB, 1 << 20),
        ("a quota of the key", Server::start_for(quota, small), 12 * MIB, 1 << 20),
        ("the default", Server::start(|config| config), 128 * MIB, 16 << 20),
    ] {
        let (mut peer, connection) = server.pair();
        peer.expect_alive();
        let growth = Growth::begin();
        let sent = fill_assemblies(&mut peer, 60_000, most) as i64;
        println!("{what}: {} KiB sent", sent / KIB);
        assert!(sent > bound / 2, "the windows are there to be used: {sent}");
        growth.assert_below(bound + 2 * MIB, what);
        drop((peer, connection));
    }
}

/// A word alone says 65,536 bytes: a buffer for them, and no more, however many channels begin.
#[test]
fn declared_sizes_cost_one_buffer_and_not_more() {
    const PEERS: i64 = 50;
    let _turn = turn();
    let server = Server::start(|config| config);
    let growth = Growth::begin();
    let mut pairs: Vec<_> = (0..PEERS).map(|_| server.pair()).collect();
    for (peer, _) in &mut pairs {
        // The beginnings of messages on all channels, and at last a frame of which only the word comes.
        let begun = (0..CHANNELS).flat_map(|channel| data(channel, true, b"x")).collect::<Vec<_>>();
        peer.expect_alive();
        peer.send_bytes(&begun).unwrap();
        peer.send_bytes(&word(false, 7, true, MAX_DATA as u32)).unwrap();
    }
    for (_, connection) in &pairs {
        wait_until("the word", || connection.stats().held.unfinished > MAX_DATA as u64);
    }
    growth.assert_below(PEERS * (MAX_DATA as i64 + 48 * KIB), "words alone");
}

/// Messages larger than their window on all channels at once, whole and unread.
#[test]
fn whole_messages_above_their_windows_stay_below_max_unread() {
    const WINDOW: u32 = 64 << 10;
    const MESSAGE: usize = 1 << 20;
    let _turn = turn();
    let small = |config: Config| config.window(WINDOW).max_message(MESSAGE as u32).max_assembly(10 << 20);
    whole_messages_stay_below_8_mib(&Server::start(|config| small(config).max_unread(8 << 20)));
    whole_messages_stay_below_8_mib(&Server::start_for(Access::full().max_unread(8 << 20), small));
    // The smaller of both counts.
    whole_messages_stay_below_8_mib(&Server::start_for(Access::full().max_unread(80 << 20), |config| {
        small(config).max_unread(8 << 20)
    }));

    fn whole_messages_stay_below_8_mib(server: &Server) {
        let (mut peer, _connection) = server.pair();
        peer.expect_alive();
        let growth = Growth::begin();
        // In each round every channel sends what it has credit for.
        let mut left = [MESSAGE; CHANNELS as usize];
        loop {
            let before = left;
            for (channel, left) in left.iter_mut().enumerate() {
                while *left > 0 && peer.send_credit[channel] > FRAME_COST as i64 {
                    let len = (*left).min(peer.send_credit[channel] as usize - FRAME_COST).min(MAX_DATA);
                    *left -= len;
                    peer.send_bytes(&data(channel as u8, *left > 0, &vec![7; len])).unwrap();
                    peer.send_credit[channel] -= (len + FRAME_COST) as i64;
                }
            }
            peer.expect_alive();
            peer.expect_alive();
            if before == left {
                break;
            }
        }
        let whole = left.iter().filter(|left| **left == 0).count();
        println!("{whole} whole messages of {MESSAGE} bytes");
        assert!((8..=12).contains(&whole), "{whole} messages got through");
        growth.assert_below(8 * MIB + 8 * MIB + 2 * MIB + 2 * MIB, "messages above their windows");
    }
}

/// What costs no credit, between messages that cost the least.
#[test]
fn notes_between_small_messages_stay_below_the_bound() {
    const WINDOW: u32 = 330_000;
    const USED: u8 = 16;
    let _turn = turn();
    let server = Server::start(|config| config.window(WINDOW));
    let bound = i64::from(USED) * i64::from(WINDOW);
    let units: [(&str, usize, Unit); 3] = [
        ("FINISH", 0, |channel| [data(channel, false, b""), finish(channel)].concat()),
        ("GAP, RESET, FINISH", 0, |channel| {
            [gap(channel, 1, 1), reset(channel, 1), data(channel, false, b""), finish(channel)].concat()
        }),
        ("large messages and FINISH", 4097, |channel| {
            [data(channel, false, &[7; 4097]), finish(channel), gap(channel, 1, 1)].concat()
        }),
    ];
    for (what, len, unit) in units {
        let (mut peer, _connection) = server.pair();
        peer.expect_alive();
        let growth = Growth::begin();
        for channel in 0..USED {
            peer.send_bytes(&unit(channel).repeat(WINDOW as usize / (len + FRAME_COST))).unwrap();
        }
        peer.expect_alive();
        // An empty message costs 32 bytes, and the notes around it take more than what is left of them.
        let most = if len == 0 { bound * 3 / 2 } else { bound * 5 / 4 };
        growth.assert_below(most + MIB, what);
    }
}

/// One small message at a time, each in a read of its own: a queue of pieces that are mostly air.
#[test]
fn messages_that_come_one_at_a_time_stay_below_the_bound() {
    const WINDOW: u32 = 64 << 10;
    const USED: u8 = 16;
    let _turn = turn();
    let server = Server::start(|config| config.window(WINDOW));
    for (what, claimed) in [("without receivers", false), ("with receivers", true)] {
        let (mut peer, connection) = server.pair();
        let receivers: Vec<_> = (0..USED)
            .filter(|_| claimed)
            .map(|channel| connection.receiver(ChannelId::new(channel)).unwrap())
            .collect();
        peer.expect_alive();
        let growth = Growth::begin();
        for _ in 0..WINDOW as usize / 40 / 8 {
            for channel in 0..USED {
                // A PING to be answered is what makes a read of its own of it.
                peer.send_bytes(&data(channel, false, b"12345678")).unwrap();
            }
            peer.expect_alive();
        }
        // In each queue one piece may be just begun.
        let bound = i64::from(USED) * (i64::from(WINDOW) / 8 * 5 / 4 + 20 * KIB);
        growth.assert_below(bound, what);
        drop(receivers);
    }
}

/// "A peer that goes on sending but lets more than that limit + 1 MiB go unacknowledged breaks the
/// protocol (code 1)": and that is what is kept at most.
#[test]
fn what_is_never_acknowledged_ends_with_code_1_before_it_grows() {
    let _turn = turn();
    let server = Server::start(|config| config.window(1024).replay_limit(256 << 10));
    let mut peer = server.client().finish().unwrap();
    (peer.keep, peer.auto_ack) = (false, false);
    let connection = server.accept();
    let (receiver, sender) = (connection.receiver(ChannelSet::ALL).unwrap(), connection.sender(A).unwrap());
    let taker = thread::spawn(move || while receiver.recv().is_ok() {});
    // As much data as may wait for an ACK, and then control frames: a CREDIT on each channel.
    while sender.try_send([7; 4000]).is_ok() {}
    peer.expect_message(1);
    let growth = Growth::begin();
    let round: Vec<u8> = (0..CHANNELS).flat_map(|channel| data(channel, false, &[7; 480])).collect();
    let mut most = 0;
    let ended = 'rounds: loop {
        peer.try_send_bytes(&round);
        while peer.send_credit.iter().any(|credit| *credit < 512) {
            match peer.event(PATIENCE) {
                Ok(Event::Close(code, _)) => break 'rounds code,
                Ok(_) => most = most.max(growth.now()),
                Err(error) => panic!("after {} bytes: {error}", peer.received),
            }
        }
        assert!(peer.received < 8 << 20, "it goes on for ever");
    };
    println!("after {} KiB {ended}, and {} KiB held", peer.received as i64 / KIB, most / KIB);
    assert_eq!(ended, code::PROTOCOL);
    // The buffer that a write ends in counts whole, and this is one write at a time: a buffer of 2 KiB
    // for a round of CREDIT. That is twice the limit + 1 MiB; the rest is what a pass has at hand.
    let bound = 2 * (MIB + 256 * KIB) + 128 * KIB;
    assert!(most < bound, "{} KiB, the bound is {} KiB", most / KIB, bound / KIB);
    drop((peer, sender, connection));
    taker.join().unwrap();
}

/// A peer that reads nothing is owed CREDIT, STOP, WAITING, ACK and PONG for ever.
#[test]
fn what_is_owed_to_a_peer_that_reads_nothing_is_state_and_no_queue() {
    const ROUNDS: u64 = 150;
    const LEN: usize = 480;
    let _turn = turn();
    let server = Server::start(|config| config.window(1024));
    for what in ["CREDIT", "STOP", "WAITING"] {
        let handshake = server.client().grace(0).window(1 << 30);
        let mut peer = handshake.finish().expect("the handshake succeeds").forgetful();
        let connection = server.accept();
        let receiver = connection.receiver(ChannelSet::ALL).unwrap();
        peer.expect_alive();
        // The socket is full, so nothing that is owed goes out.
        let sender = connection.sender(A).unwrap();
        let message = bytes::Bytes::from(vec![7; 60_000]);
        let mut written = 0;
        while sender.try_send_bytes(message.clone()).is_ok() || written != connection.stats().bytes_written {
            written = connection.stats().bytes_written;
        }
        let mut growth = Growth::begin();
        for round in 0..ROUNDS {
            if round == 10 {
                growth = Growth::begin();
            }
            let block: Vec<u8> = (0..CHANNELS)
                .flat_map(|channel| [data(channel, false, &[7; LEN]), finish(channel)].concat())
                .chain(ping(round))
                .collect();
            peer.send_bytes(&block).unwrap();
            // Its credit is granted whether or not the peer reads of it.
            wait_until("the credit", || {
                while let Ok(received) = receiver.try_recv_any() {
                    match (what, received) {
                        ("STOP", Received::Message(message)) => receiver.stop_channel(message.channel(), 1),
                        ("WAITING", _) => receiver.set_waiting(round % 2 == 0, round as u32),
                        _ => {}
                    }
                }
                let channels = connection.stats().channels;
                channels
                    .iter()
                    .all(|channel| channel.messages_received == round + 1 && channel.receive_credit >= 512)
            });
        }
        growth.assert_below(100 * KIB, what);
    }
}

/// Sessions that come and go with events that nobody fetches: what repeats itself is merged.
#[test]
fn events_and_resumes_without_end_grow_nothing() {
    const RESUMES: u32 = 400;
    let _turn = turn();
    let server = Server::start(|config| config);
    let mut peer = RawPeer::connect(server.listener.local_addr(), &server.key);
    let connection = server.accept();
    let events = connection.events();
    let interrupts = connection.interrupts();
    let mut old = Vec::new();
    let mut growth = Growth::begin();
    for n in 0..RESUMES {
        if n == 50 {
            growth = Growth::begin();
        }
        // The old socket stays open; it is for the server to let go of it.
        old.push(peer.stream.try_clone().unwrap());
        peer.resume(server.listener.local_addr()).unwrap();
        let news: Vec<u8> = (0..CHANNELS)
            .flat_map(|channel| [waiting(channel, 1, 0), waiting(channel, 0, 0)].concat())
            .chain(interrupt())
            .collect();
        // It is not kept by this side, whose memory counts too.
        peer.stream.write_all(&news).unwrap();
        peer.enter_sent(&news);
        peer.expect_alive();
    }
    // What this side keeps for a resume.
    let own = (peer.sent + peer.received) as i64 * 2;
    growth.assert_below(own + 256 * KIB, "resumes");
    drop((events, interrupts, connection));
}

#[test]
fn connections_that_nobody_accepts_are_counted_and_then_refused() {
    const BACKLOG: usize = 16;
    let _turn = turn();
    let server = Server::start(|config| config.backlog(BACKLOG));
    let growth = Growth::begin();
    let mut waiting: Vec<_> =
        (0..BACKLOG).map(|_| server.client().grace(0).finish().unwrap().forgetful()).collect();
    for _ in 0..100 {
        let refused = server.client().finish().map(|_| "a connection").unwrap_err();
        assert_eq!(refused.refusal(), Some(status::TOO_BUSY), "{refused}");
    }
    for peer in &mut waiting {
        peer.expect_alive();
    }
    growth.assert_below(BACKLOG as i64 * 64 * KIB + MIB, "connections that nobody accepts");
    // A seat is free again when one was accepted, or is gone.
    let _accepted = server.accept();
    server.client().finish().expect("there is room for one");
}

/// Strangers that come and go leave nothing behind, not even an alarm for a time that they had.
#[test]
fn strangers_that_come_and_go_leave_nothing() {
    const STRANGERS: usize = 20_000;
    let _turn = turn();
    let server =
        Server::start(|config| config.pending_handshakes(50).handshake_timeout(Duration::from_secs(3600)));
    let mut growth = Growth::begin();
    for n in 0..STRANGERS {
        if n == 2000 {
            growth = Growth::begin();
        }
        let mut client = server.client();
        if n % 8 == 0 {
            client.send_hello().unwrap();
            client.read_server_hello().unwrap();
        }
    }
    RawPeer::connect(server.listener.local_addr(), &server.key).expect_alive();
    growth.assert_below(64 * KIB, "strangers that are gone");
}

/// Peers that were refused stay until they have read why, but not without number.
#[test]
fn refused_peers_that_stay_are_bounded() {
    const PEERS: usize = 400;
    let _turn = turn();
    let server = Server::start(|config| config.pending_handshakes(16));
    let mut refused = Vec::with_capacity(PEERS);
    let growth = Growth::begin();
    let begun = Instant::now();
    for _ in 0..PEERS {
        let mut client = server.client().session([7; 16], 0, 1);
        let error = client.shake().map(|_| "a session").unwrap_err();
        assert_eq!(error.refusal(), Some(status::SESSION_UNKNOWN), "{error}");
        refused.push(client.stream);
    }
    println!("{PEERS} were refused in {:?}", begun.elapsed());
    growth.assert_below(40 * KIB, "refused peers");
}

/// The ends of sessions that are over, kept for clients that may not have got them.
#[test]
fn last_words_are_few_and_short() {
    const SESSIONS: usize = 600;
    let _turn = turn();
    let server = Server::start(|config| config);
    let growth = Growth::begin();
    for _ in 0..SESSIONS {
        let mut peer = server.client().finish().unwrap();
        peer.auto_ack = false;
        let connection = server.accept();
        let sender = connection.sender(A).unwrap();
        sender.send([7; 12_000]).unwrap();
        peer.expect_message(1);
        peer.send_bytes(&close(0, b"")).unwrap();
        peer.expect_close_frame();
        peer.cut();
        drop((sender, connection));
    }
    wait_until("the end of the sessions", || growth.now() < 6 * MIB);
    assert!(growth.now() > 2 * MIB, "some of them are remembered");
    growth.assert_below(6 * MIB, "last words");
}

/// Sessions without a socket that hold all kinds of memory: what arrived whole and in parts, one byte
/// in each queue, what was not acknowledged.
#[test]
fn sessions_without_a_socket_hold_no_more_than_max_suspended() {
    const SESSIONS: usize = 200;
    const BYTES: usize = 8 << 20;
    const FIXED: i64 = 8 * KIB;
    let _turn = turn();
    let server = Server::start(|config| config.max_suspended(SESSIONS, BYTES));
    let kinds: [(&str, bool, Unit); 4] = [
        ("a byte on each channel", false, |channel| data(channel, false, b"x")),
        ("a byte on each channel, with receivers", true, |channel| data(channel, false, b"x")),
        ("beginnings", false, |channel| data(channel, true, &[7; 5000])),
        ("messages", false, |channel| data(channel, false, &[7; 1000])),
    ];
    for (what, claimed, unit) in kinds {
        let growth = Growth::begin();
        // What the application makes is its own.
        let mut handles: Vec<_> = (0..SESSIONS)
            .map(|_| {
                let (peer, connection) = server.pair();
                let receivers: Vec<Receiver> = (0..CHANNELS)
                    .filter(|_| claimed)
                    .map(|channel| connection.receiver(ChannelId::new(channel)).unwrap())
                    .collect();
                (peer, connection, receivers)
            })
            .collect();
        let own = growth.now() / SESSIONS as i64;
        let mut held = Vec::new();
        for (mut peer, connection, receivers) in handles.drain(..) {
            peer.send_bytes(&(0..CHANNELS).flat_map(unit).collect::<Vec<_>>()).unwrap();
            peer.expect_alive();
            peer.cut();
            held.push((connection, receivers));
        }
        wait_until("their outage", || {
            held.iter()
                .all(|(connection, _)| connection.is_suspended() || connection.close_reason().is_some())
        });
        // What has arrived of one that expired is there for the application until it lets go.
        held.retain(|(connection, _)| connection.is_suspended());
        assert!(!held.is_empty(), "there is room for some");
        let left = held.len() as i64;
        growth.assert_below(BYTES as i64 + left * (own + FIXED) + MIB, &format!("{what}, {left} are left"));
        drop(held);
        wait_until("the end of the sessions", || growth.now() < MIB);
    }
}
