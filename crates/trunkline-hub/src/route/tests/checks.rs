//! What must hold after any sequence of events.

use super::super::log::End;
use super::client::{Client, Got, Line1};
use super::plan::*;

/// What came from the program, for each slot, with its place.
type Said = [Vec<(u64, Got)>];

/// Each client has got the log, and its omissions are exactly those that its gaps name.
pub(super) fn log<'a>(said: &Said, clients: impl Iterator<Item = &'a Client>) {
    for client in clients {
        for (slot, channel) in DOWN.iter().enumerate() {
            if *channel == STATUS {
                latest(said, client, slot);
            } else if *channel == SCREEN {
                screen(said, client, slot);
            } else if !client.stopped[slot] {
                channel_of(said, client, slot);
            }
        }
    }
}

fn channel_of(said: &Said, client: &Client, slot: usize) {
    let log = &said[slot];
    let what = || format!("client {} on slot {slot}: got {:?} of {log:?}", client.id, client.got[slot]);
    // A channel without history begins where the client joined, with the end of a run that is over.
    let from = if DOWN[slot] == CONTROL { client.began[slot] } else { 0 };
    let mut at = from;
    // Ends that stand in a gap: the last comes behind it, and each at most once.
    let mut owed: Vec<End> = Vec::new();
    if DOWN[slot] == CONTROL {
        owed.extend(client.ended_at_join[slot]);
    }
    let mut is_paid = owed.is_empty();
    let mut after_end = false;
    for (_, got) in &client.got[slot] {
        // Ends that were trimmed are one, the last.
        while std::mem::take(&mut after_end)
            && !matches!(got, Got::End(_))
            && matches!(log.get(at), Some((_, Got::End(_))))
        {
            (at, after_end) = (at + 1, true);
        }
        match got {
            Got::Gap(messages, bytes) => {
                let (mut m, mut b) = (i128::from(*messages), i128::from(*bytes));
                while m > 0 || b > 0 {
                    match log.get(at).map(|(_, entry)| entry) {
                        Some(Got::Message(bytes)) => (m, b) = (m - 1, b - bytes.len() as i128),
                        Some(Got::Gap(messages, bytes)) => {
                            (m, b) = (m - i128::from(*messages), b - i128::from(*bytes));
                        }
                        Some(Got::End(end)) => {
                            owed.push(*end);
                            is_paid = false;
                        }
                        None => panic!("a gap goes beyond the log: {}", what()),
                    }
                    at += 1;
                }
                assert_eq!((m, b), (0, 0), "a gap that ends inside something: {}", what());
            }
            Got::Message(_) => {
                assert!(is_paid, "an end was lost: {}", what());
                owed.clear();
                assert_eq!(log.get(at).map(|(_, entry)| entry), Some(got), "at {at}: {}", what());
                at += 1;
            }
            Got::End(end) => {
                after_end = true;
                // One of several ends in the gap that is not the last, or that of the run behind them, which was trimmed, too.
                let ends = log[at..].iter().map_while(|(_, entry)| match entry {
                    Got::End(end) => Some(end),
                    _ => None,
                });
                let is_behind = owed.last() != Some(end) && ends.into_iter().any(|behind| behind == end);
                if let Some(place) = owed.iter().position(|owed| owed == end).filter(|_| !is_behind) {
                    is_paid |= owed.last() == Some(end);
                    owed.remove(place);
                    continue;
                }
                (owed, is_paid) = (Vec::new(), true);
                let mut last = None;
                while let Some((_, Got::End(next))) = log.get(at)
                    && last != Some(*end)
                {
                    last = Some(*next);
                    at += 1;
                }
                assert_eq!(last, Some(*end), "{}", what());
            }
        }
    }
    if !client.left {
        let rest = log[at..].iter().filter(|(_, entry)| !matches!(entry, Got::End(_))).count();
        assert_eq!(rest, 0, "something never came: {}", what());
        let ended = matches!(log.last(), Some((_, Got::End(_)))) && log.len() > from;
        assert!(!ended || matches!(client.got[slot].last(), Some((_, Got::End(_)))), "no end: {}", what());
    }
}

/// The newest message comes, in order, and not before what was before it in the log.
fn latest(said: &Said, client: &Client, slot: usize) {
    let log = &said[slot];
    let mut before = None;
    for (order, got) in &client.got[slot] {
        let Got::Message(bytes) = got else { continue };
        let entry = log.iter().find(|(_, entry)| matches!(entry, Got::Message(other) if other == bytes));
        let place = entry.expect("it came from upstream").0;
        assert!(before < Some(place), "statuses swap");
        before = Some(place);
        for (other, said) in said.iter().enumerate().take(2) {
            for (later, message) in &client.got[other] {
                let of_log = said.iter().find(|(_, entry)| entry == message);
                if let (Got::Message(bytes), Some((was, _))) = (message, of_log)
                    && !bytes.is_empty() // it could be any
                    && !client.stopped[other]
                {
                    assert!(later < order || *was > place, "a status overtakes output from before it");
                }
            }
        }
    }
    let newest = log.iter().rev().find(|(_, entry)| matches!(entry, Got::Message(_)));
    if let Some((place, _)) = newest
        && !client.left
        && !client.stopped[slot]
    {
        assert_eq!(before, Some(*place), "client {} lacks the newest status", client.id);
    }
}

/// Each input message is passed on once, in order, from a client that knew what went before; or its sender knows that it
/// was refused. Each prompt is answered once. No interrupt hits another's line.
pub(super) fn input<'a>(
    all: &[Line1],
    clients: impl Iterator<Item = &'a Client>,
    interrupts: &[(u64, u64, u64)],
) {
    for (at, line) in all.iter().enumerate() {
        let number = at as u64 + 1;
        let earlier = all[..at].iter().filter(|other| other.client == line.client);
        assert!(earlier.clone().all(|other| other.own < line.own), "twice, or out of order: {line:?}");
        if let Some(knew) = line.knew {
            let unseen = all[..at].iter().skip(usize::try_from(knew).unwrap());
            let foreign = unseen.filter(|other| other.client != line.client).count();
            assert_eq!(foreign, 0, "{line:?} runs as {number} after lines that its sender had not seen");
        }
        if let Some(waiting) = line.answers {
            assert_eq!(u64::from(waiting) + 1, number, "an answer went to another prompt: {line:?}");
        }
    }
    for client in clients.filter(|client| !client.left) {
        for line in &client.lines {
            let passed = all.iter().any(|other| (other.client, other.own) == (client.id, line.own));
            let told = client.losses.iter().any(|(last, through)| *last < line.own && line.own <= *through);
            assert!(
                passed != (told || client.run_was_stopped(line)) || passed && !told,
                "{line:?}: passed {passed}, told {told}, losses {:?}",
                client.losses
            );
        }
    }
    for (client, own, number) in interrupts {
        let hit = &all[usize::try_from(*number).unwrap() - 1];
        assert_eq!((hit.client, hit.own), (*client, *own), "an interrupt hits another line");
    }
}

/// Each run begins with one snapshot, and what follows it is all that came after it; what was lost is told by a reset,
/// and a gap up to the next snapshot.
fn screen(said: &Said, client: &Client, slot: usize) {
    if client.stopped[slot] {
        return;
    }
    let log = &said[slot];
    let what = || format!("client {}: got {:?} of {log:?}", client.id, client.got[slot]);
    // How many messages and gaps of the program's there are up to an entry.
    let sums = |at: usize| {
        log[..at].iter().fold((0u64, 0u64), |(messages, gaps), (_, entry)| match entry {
            Got::Message(_) => (messages + 1, gaps),
            Got::Gap(more, _) => (messages, gaps + more),
            Got::End(_) => (messages, gaps),
        })
    };
    let mut at = None;
    let mut lost = None;
    for (_, got) in &client.got[slot] {
        match got {
            Got::Message(bytes) if bytes.starts_with(b"S") => {
                assert_eq!(at, None, "a snapshot inside a run: {}", what());
                let count: u64 = std::str::from_utf8(&bytes[1..]).unwrap().parse().unwrap();
                // Behind the message of that number, and whatever notes the snapshot was taken after.
                let from = (0..=log.len()).find(|at| sums(*at).0 == count).unwrap();
                let to = (0..=log.len()).rev().find(|at| sums(*at).0 == count).unwrap();
                if let Some((before, messages)) = lost.take() {
                    let passed = |at| sums(at).0 - sums(before).0 + sums(at).1 - sums(before).1;
                    assert!((from..=to).any(|at| passed(at) == messages), "a gap is wrong: {}", what());
                }
                at = Some(from);
            }
            Got::Message(_) => {
                let from = at.unwrap_or_else(|| panic!("a run without a snapshot: {}", what()));
                let next = (from..log.len()).find(|at| matches!(log[*at].1, Got::Message(_)));
                let next = next.unwrap_or_else(|| panic!("nothing is there: {}", what()));
                assert_eq!(&log[next].1, got, "{}", what());
                at = Some(next + 1);
            }
            Got::End(End::Reset(0)) => lost = Some((at.take().unwrap_or_else(|| panic!("{}", what())), 0)),
            Got::End(_) => at = None,
            // Between runs it tells only of what was there before the snapshot.
            Got::Gap(messages, _) => {
                if let Some((_, sum)) = &mut lost {
                    *sum += messages;
                }
            }
        }
    }
    let newest = log.iter().rev().find(|(_, entry)| !matches!(entry, Got::Gap(..)));
    if client.left {
        return;
    }
    match newest {
        Some((_, Got::Message(_))) => {
            let at = at.unwrap_or_else(|| panic!("no run: {}", what()));
            assert!(!log[at..].iter().any(|(_, entry)| matches!(entry, Got::Message(_))), "{}", what());
        }
        Some((_, Got::End(_))) => assert_eq!(at, None, "no end: {}", what()),
        _ => {}
    }
}
