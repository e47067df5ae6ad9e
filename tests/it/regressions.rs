//! Every bug that was found leaves a test here, or where the mechanism stands that had it.

use std::thread;
use std::time::Duration;

use crate::support::chaos::{Chaos, Cut};
use crate::support::wire::{self, ServerHandshake};
use crate::support::{LONG, free_address, loopback, pair};
use trunkline::*;

const A: ChannelId = ChannelId::new(1);
const B: ChannelId = ChannelId::new(2);

/// A message of which a part waits for credit, sent on channel `A`.
fn staged(conn: &Connection) -> Sender {
    let sender = conn.sender(A).unwrap();
    sender.send(vec![1; 6_000]).unwrap();
    sender.send(vec![1; 100_000]).unwrap();
    sender
}

fn small_window() -> (Connection, Connection) {
    pair(|config| config.window(10_000))
}

fn take_staged(receiver: &Receiver) {
    assert_eq!(receiver.recv_timeout(LONG).unwrap().len(), 6_000);
    assert_eq!(receiver.recv_timeout(LONG).unwrap().len(), 100_000);
}

fn end(receiver: &Receiver) -> RecvTimeoutError {
    receiver.recv_timeout(LONG).unwrap_err()
}

/// The end of an empty run took the place of the end that waited before it.
#[test]
fn two_ends_behind_a_staged_message_both_come() {
    let (here, there) = small_window();
    drop(staged(&here));
    drop(here.sender(A).unwrap());
    let receiver = there.receiver(A).unwrap();
    take_staged(&receiver);
    assert_eq!(end(&receiver), RecvError::Finished.into());
    assert_eq!(end(&receiver), RecvError::Finished.into());
}

/// A reset of the next, empty run dropped the rest of the finished run before it.
#[test]
fn a_reset_of_an_empty_run_spares_the_run_before() {
    let (here, there) = small_window();
    drop(staged(&here));
    here.sender(A).unwrap().reset(5).unwrap();
    let receiver = there.receiver(A).unwrap();
    take_staged(&receiver);
    assert_eq!(end(&receiver), RecvError::Finished.into());
    assert_eq!(end(&receiver), RecvError::Reset { channel: A, code: 5 }.into());
}

/// A STOP of a finished run whose rest waited failed the sender of the next run.
#[test]
fn a_stop_of_a_finished_run_spares_the_next_sender() {
    let (here, there) = small_window();
    drop(staged(&here));
    let next = here.sender(A).unwrap();
    let receiver = there.receiver(A).unwrap();
    while receiver.is_empty() {
        thread::yield_now();
    }
    receiver.stop(9);
    next.send_timeout("next", LONG).unwrap();
    assert_eq!(&*receiver.recv_timeout(LONG).unwrap(), b"next");
}

/// The sender that the peer had stopped, dropped last, left the next run without its end.
#[test]
fn a_stopped_sender_that_is_dropped_late_takes_no_end_away() {
    let (here, there) = pair(|config| config);
    let (stopped, receiver) = (here.sender(A).unwrap(), there.receiver(A).unwrap());
    stopped.send("one").unwrap();
    receiver.recv().unwrap();
    receiver.stop(1);
    while stopped.send("more").is_ok() {
        thread::yield_now();
    }
    let next = here.sender(A).unwrap();
    next.send("two").unwrap();
    drop(next);
    drop(stopped);
    assert_eq!(&*receiver.recv_timeout(LONG).unwrap(), b"two");
    assert_eq!(end(&receiver), RecvError::Finished.into());
}

/// A channel stayed urgent after its urgent senders were gone.
#[test]
fn a_new_sender_has_the_normal_priority() {
    let (here, _there) = pair(|config| config);
    drop(here.sender_with(A, Priority::Urgent).unwrap());
    let _normal = here.sender(A).unwrap();
    assert_eq!(here.sender_with(A, Priority::Urgent).unwrap_err(), ChannelError::PriorityInUse(A));
    here.sender_with(A, Priority::Normal).unwrap();
}

/// A server that grants a lot, and neither reads nor says anything after the handshake.
fn silent_server() -> (Connection, wire::RawPeer) {
    let key = [7; 32];
    let server = std::net::TcpListener::bind(free_address()).unwrap();
    let address = server.local_addr().unwrap();
    let accepting = thread::spawn(move || {
        let mut handshake = ServerHandshake::accept(&server, &key);
        handshake.accept.window = 1 << 30;
        handshake.finish().unwrap()
    });
    // It acknowledges nothing either, so nothing is to be kept for it.
    let config = Config::new(Key::from(key)).no_heartbeat().linger(Duration::from_millis(1));
    // A test reads from its socket as it is.
    let config = config.resume_grace(Duration::ZERO).sealing(Sealing::Never);
    let conn = Connection::connect(address, config).unwrap();
    (conn, accepting.join().unwrap())
}

/// Bulk that filled the send queue kept urgent messages out of it.
#[test]
fn bulk_does_not_keep_urgent_messages_out_of_the_queue() {
    let (here, _peer) = silent_server();
    let bulk = here.sender(A).unwrap();
    while bulk.try_send([0; 60_000]).is_ok() {}
    here.sender_with(B, Priority::Urgent).unwrap().try_send("stop that").unwrap();
}

/// The I/O thread stopped after its share of writes and nobody called it for the rest.
#[test]
fn the_tail_of_a_burst_is_written_without_another_event() {
    use std::io::Read;
    let (here, mut peer) = silent_server();
    let sender = here.sender(A).unwrap();
    peer.stream.set_read_timeout(Some(LONG)).unwrap();
    let mut bytes = vec![0; 20 * 20_000];
    for _ in 0..50 {
        for _ in 0..20_000 {
            sender.send([3; 16]).unwrap();
        }
        peer.stream.read_exact(&mut bytes).unwrap();
    }
}

/// A STOP that was followed by a message left behind it, and hit what answered the message.
#[test]
fn a_stop_goes_ahead_of_what_is_sent_after_it() {
    for _ in 0..200 {
        let (here, there) = loopback(|config| config);
        let (to, from) = (here.sender(A).unwrap(), here.receiver(A).unwrap());
        let echo = thread::spawn(move || {
            let receiver = there.receiver(A).unwrap();
            // A run that is stopped, and one that answers what came behind the STOP.
            let stopped = there.sender(A).unwrap();
            stopped.send("unwanted").unwrap();
            let message = receiver.recv_timeout(LONG).unwrap();
            drop(stopped);
            there.sender(A).unwrap().send_timeout(message, LONG).unwrap();
            receiver
        });
        assert_eq!(&*from.recv_timeout(LONG).unwrap(), b"unwanted");
        from.stop(4);
        to.send("wanted").unwrap();
        assert_eq!(&*from.recv_timeout(LONG).unwrap(), b"wanted");
        drop(echo.join().unwrap());
    }
}

/// A sender that is dropped after a close finishes nothing: what the close cut short is not whole,
/// and the peer hears of the close.
#[test]
fn a_sender_dropped_after_a_close_is_no_finish() {
    let key = Key::generate();
    let config = || Config::new(key.clone()).resume_grace(LONG).linger(LONG);
    let listener = Listener::bind(free_address(), config()).unwrap();
    let chaos = Chaos::new(listener.local_addr());
    let client = Connection::connect(chaos.addr, config()).unwrap();
    let server = listener.accept().unwrap();
    let (sender, receiver) = (client.sender(A).unwrap(), server.receiver(A).unwrap());
    sender.send("half of it").unwrap();
    assert_eq!(&*receiver.recv_timeout(LONG).unwrap(), b"half of it");
    // The CLOSE waits for the link, so the drop is in time to be sent before it.
    let events = client.events();
    chaos.refuse(true);
    chaos.cut(Cut::Reset);
    assert!(matches!(events.recv_timeout(LONG), Ok(Event::Suspended { .. })));
    thread::scope(|scope| {
        let closing = scope.spawn(|| client.close(CloseCode::application(3), "out of memory"));
        assert!(matches!(events.recv_timeout(LONG), Ok(Event::Closed(_))));
        drop(sender);
        chaos.refuse(false);
        let end = receiver.recv_timeout(LONG).unwrap_err();
        assert!(
            matches!(
                &end,
                RecvTimeoutError::Disconnected(RecvError::ConnectionLost(
                    ConnectionError::ClosedByPeer { .. }
                ))
            ),
            "{end:?}"
        );
        drop(receiver);
        assert_eq!(closing.join().unwrap(), Ok(()));
    });
}

/// Found by the kernel's loop: what stands behind a gap on another channel came before it, so a console was
/// told that a statement was over, and then that its output had been cut.
#[test]
fn a_gap_keeps_its_place_among_other_channels() {
    let (here, there) = Connection::pair(Config::new(Key::generate())).unwrap();
    let (output, status) = (here.sender(ChannelId::new(1)).unwrap(), here.sender(ChannelId::new(2)).unwrap());
    let both = there.receiver(output.channel() | status.channel()).unwrap();
    for _ in 0..600 {
        // Above 16 that are unread they are merged, and what was read is told once in a pass: two rounds may count.
        for bytes in 1..=5 {
            output.gap(1, bytes).unwrap();
            status.send("over").unwrap();
        }
        for round in 1..=5 {
            let gap = Received::Gap { channel: output.channel(), messages: 1, bytes: round };
            assert_eq!(both.recv_any().unwrap(), gap);
            assert!(matches!(both.recv_any().unwrap(), Received::Message(_)));
        }
    }
}

/// The reset that is owed to a receiver that was dropped before anything was sent kept the channel at
/// its priority for ever.
#[test]
fn a_channel_whose_receiver_was_dropped_takes_any_priority() {
    let (here, there) = pair(|config| config);
    let (idle, told) = (ChannelId::new(1), ChannelId::new(2));
    let (tell, hear) = (there.sender(told).unwrap(), here.receiver(told).unwrap());
    for priority in [Priority::Urgent, Priority::Normal].into_iter().cycle().take(20) {
        drop(there.receiver(idle).unwrap());
        // Behind it on the wire: so the stop has come.
        tell.send("stopped").unwrap();
        hear.recv().unwrap();
        let sender = here.sender_with(idle, priority).unwrap();
        let receiver = there.receiver(idle).unwrap();
        sender.send("at any priority").unwrap();
        assert_eq!(&*receiver.recv().unwrap(), b"at any priority");
        sender.finish().unwrap();
        assert_eq!(receiver.recv(), Err(RecvError::Finished));
        here.flush().unwrap();
    }
}
