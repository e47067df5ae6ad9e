//! GAP: what the sender has left out.

use std::time::Duration;

use super::library::*;
use crate::support::wire::*;

/// "Discarded after STOP", and of no run: the run after it is as it was.
#[test]
fn a_gap_opens_no_run_and_takes_none_with_it() {
    let server = Server::echo(|config| config);
    let mut peer = server.connect();
    peer.send_bytes(&[gap(1, 5, 500), finish(1), gap(1, 1, 1), data(1, false, b"x")].concat()).unwrap();
    peer.expect_next(Event::Finish(1));
    assert_eq!(peer.expect_message(1), b"x");
}

/// It costs no credit.
#[test]
fn gaps_cost_no_credit() {
    let server = Server::start(|config| config.window(1024));
    let (mut peer, _connection) = server.pair(server.client());
    peer.send_data(1, false, &[0; 992]);
    for _ in 0..100 {
        peer.send_bytes(&gap(1, 1, 1)).unwrap();
    }
    peer.expect_alive();
    peer.expect_none(Duration::from_millis(30), |event| matches!(event, Event::Credit(..)));
}

mod told {
    use trunkline::RecvError;

    use super::*;

    #[track_caller]
    fn gap_of(number: u8, messages: u64, bytes: u64) -> RecvError {
        RecvError::Gap { channel: channel(number), messages, bytes }
    }

    /// "The receiver tells its application, at that place among the messages."
    #[test]
    fn a_gap_is_told_at_its_place() {
        let server = Server::start(|config| config);
        let (mut peer, connection) = server.pair(server.client());
        let receiver = connection.receiver(channel(1)).unwrap();
        let frames = [
            gap(1, 1, 10),
            data(1, false, b"a"),
            gap(1, 3, 300),
            data(1, false, b"b"),
            gap(1, 0, 0),
            finish(1),
            gap(1, 7, 70),
        ];
        peer.send_bytes(&frames.concat()).unwrap();
        assert_eq!(take_end(&receiver), gap_of(1, 1, 10));
        assert_eq!(take(&receiver), b"a");
        assert_eq!(take_end(&receiver), gap_of(1, 3, 300));
        assert_eq!(take(&receiver), b"b");
        // Whether one of nothing is told does not matter.
        let mut end = take_end(&receiver);
        if end == gap_of(1, 0, 0) {
            end = take_end(&receiver);
        }
        assert_eq!(end, RecvError::Finished);
        assert_eq!(take_end(&receiver), gap_of(1, 7, 70));
    }

    /// "Neighbouring GAPs are added, saturating": those that nobody has read.
    #[test]
    fn neighbouring_gaps_are_added() {
        let server = Server::start(|config| config);
        let (mut peer, connection) = server.pair(server.client());
        let receiver = connection.receiver(channel(1)).unwrap();
        for _ in 0..1000 {
            peer.send_bytes(&gap(1, 2, 30)).unwrap();
        }
        peer.send_data(1, false, b"between");
        peer.send_bytes(&[gap(1, u64::MAX, 5), gap(1, 1, u64::MAX)].concat()).unwrap();
        peer.expect_alive();
        assert_eq!(take_end(&receiver), gap_of(1, 2000, 30_000));
        assert_eq!(take(&receiver), b"between");
        assert_eq!(take_end(&receiver), gap_of(1, u64::MAX, u64::MAX));
    }

    /// "GAPs among merged ends are added into one before the merged end."
    #[test]
    fn gaps_among_merged_ends_lose_nothing() {
        const RUNS: u64 = 500;
        let server = Server::start(|config| config);
        let (mut peer, connection) = server.pair(server.client());
        let receiver = connection.receiver(channel(1)).unwrap();
        for _ in 0..RUNS {
            peer.send_bytes(&[gap(1, 1, 10), finish(1), gap(1, 2, 20), reset(1, 4)].concat()).unwrap();
        }
        peer.send_data(1, false, b"after them");
        peer.expect_alive();
        let (mut messages, mut bytes, mut last) = (0, 0, None);
        let message = loop {
            match receiver.recv_timeout(PATIENCE) {
                Ok(message) => break message,
                Err(trunkline::RecvTimeoutError::Disconnected(RecvError::Gap {
                    messages: m,
                    bytes: b,
                    ..
                })) => {
                    (messages, bytes) = (messages + m, bytes + b);
                    last = None;
                }
                Err(trunkline::RecvTimeoutError::Disconnected(end)) => last = Some(end),
                Err(other) => panic!("{other}"),
            }
        };
        assert_eq!(&message[..], b"after them");
        assert_eq!((messages, bytes), (3 * RUNS, 30 * RUNS));
        assert_eq!(last, Some(RecvError::Reset { channel: channel(1), code: 4 }));
    }

    #[test]
    fn a_gap_in_a_stopped_run_is_discarded() {
        let server = Server::start(|config| config);
        let (mut peer, connection) = server.pair(server.client());
        let receiver = connection.receiver(channel(1)).unwrap();
        peer.send_data(1, false, b"first");
        assert_eq!(take(&receiver), b"first");
        receiver.stop(7);
        assert_eq!(peer.expect_stop(1), (7, 0));
        let frames = [gap(1, 9, 9), reset(1, 7), gap(1, 2, 2), data(1, false, b"of the next run")];
        peer.send_bytes(&frames.concat()).unwrap();
        let mut end = take_end(&receiver);
        if matches!(end, RecvError::Reset { .. }) {
            end = take_end(&receiver);
        }
        assert_eq!(end, gap_of(1, 2, 2));
        assert_eq!(take(&receiver), b"of the next run");
    }
}

mod sent {
    use super::*;

    /// The library as the sender: at its place, never inside a message, and without credit.
    #[test]
    fn a_gap_goes_out_at_its_place() {
        let server = Server::start(|config| config);
        let (mut peer, connection) = server.pair(server.client().window(64));
        let sender = connection.sender(channel(1)).unwrap();
        sender.gap(1, 10).unwrap();
        peer.expect_next(Event::Gap(1, 1, 10));
        peer.auto_credit = true;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                sender.send([7; 100]).unwrap();
                sender.gap(3, 300).unwrap();
                sender.finish().unwrap();
            });
            assert_eq!(peer.expect_message(1), [7; 100]);
            peer.expect_next(Event::Gap(1, 3, 300));
            peer.expect_next(Event::Finish(1));
        });
    }

    /// "Opens no run": a STOP of the run that has not begun is not answered by a RESET for it.
    #[test]
    fn a_gap_that_is_sent_opens_no_run() {
        let server = Server::start(|config| config);
        let (mut peer, connection) = server.pair(server.client());
        let sender = connection.sender(channel(1)).unwrap();
        sender.gap(2, 20).unwrap();
        peer.expect_next(Event::Gap(1, 2, 20));
        peer.stop(1, 5);
        peer.expect_alive();
        assert!(sender.send("nobody wants it").is_err());
        drop(sender);
        connection.sender(channel(1)).unwrap().send("the next run").unwrap();
        peer.expect_next(Event::Reset(1, 5));
        assert_eq!(peer.expect_message(1), b"the next run");
    }

    #[test]
    fn a_client_sends_gaps_too() {
        let server = RawServer::start();
        let (connection, mut peer) = server.pair(|config| config, |_| {});
        let sender = connection.sender(channel(1)).unwrap();
        sender.gap(u64::MAX, u64::MAX).unwrap();
        peer.expect_next(Event::Gap(1, u64::MAX, u64::MAX));
    }
}
