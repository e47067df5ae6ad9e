//! The reader's stream against a plain model: whatever the peer sends, in whatever pieces, and
//! however it is read, every byte and every end comes once, at its place.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::id::ChannelId;
use crate::message::Message;

const CHANNEL: ChannelId = ChannelId::new(0);

/// What the peer sends.
#[derive(Clone, Debug)]
enum Sent {
    Message(Vec<u8>),
    Finish,
    Reset(u32),
    Gap(u64),
    /// Nothing has come yet when the reader looks here.
    Pause,
    /// The reader is interrupted here.
    Interrupt,
}

/// How the reader looks.
#[derive(Clone, Debug)]
enum Look {
    Read(usize),
    Line,
    Until(u8),
    Exact(usize),
    Whole,
}

/// What is read, or what the plain model says is there.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Byte(u8),
    End,
    Reset(u32),
    Gap(u64),
}

fn sent() -> impl Strategy<Value = Sent> {
    let text = prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'a'), Just(b';'), Just(0xc3)], 0..6);
    prop_oneof![
        6 => text.prop_map(Sent::Message),
        1 => (500usize..2000).prop_map(|len| Sent::Message(vec![b'x'; len])),
        1 => Just(Sent::Finish),
        1 => (0..3u32).prop_map(Sent::Reset),
        1 => (1..3u64).prop_map(Sent::Gap),
        2 => Just(Sent::Pause),
        2 => Just(Sent::Interrupt),
    ]
}

fn look() -> impl Strategy<Value = Look> {
    prop_oneof![
        (1usize..9).prop_map(Look::Read),
        Just(Look::Line),
        prop_oneof![Just(b'\n'), Just(b';')].prop_map(Look::Until),
        (1usize..9).prop_map(Look::Exact),
        Just(Look::Whole),
    ]
}

/// A source that gives what was sent, one thing at a time.
struct Source(VecDeque<Sent>);

impl Source {
    fn fetch(&mut self, stream: &mut Stream) -> Fetched {
        let why = match self.0.pop_front() {
            Some(Sent::Message(bytes)) => {
                stream.push(Message::shared(CHANNEL, bytes.into()));
                return Fetched::Some;
            }
            Some(Sent::Finish) => RecvError::Finished,
            Some(Sent::Reset(code)) => RecvError::Reset { channel: CHANNEL, code },
            Some(Sent::Gap(messages)) => RecvError::Gap { channel: CHANNEL, messages, bytes: 0 },
            Some(Sent::Pause) => return Fetched::Nothing,
            Some(Sent::Interrupt) => return Fetched::Failed(interrupted()),
            None => return Fetched::Failed(io::ErrorKind::NotConnected.into()),
        };
        stream.push_break(why);
        Fetched::Some
    }
}

fn piece(error: &io::Error) -> Option<Piece> {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<RecvError>())? {
        RecvError::Finished => Some(Piece::End),
        RecvError::Reset { code, .. } => Some(Piece::Reset(*code)),
        RecvError::Gap { messages, .. } => Some(Piece::Gap(*messages)),
        RecvError::Interrupted | RecvError::ConnectionLost(_) => None,
    }
}

/// What a plain reader of bytes sees.
fn plain(sent: &[Sent]) -> Vec<Piece> {
    let pieces = sent.iter().flat_map(|sent| match sent {
        Sent::Message(bytes) => bytes.iter().copied().map(Piece::Byte).collect(),
        Sent::Finish => vec![Piece::End],
        Sent::Reset(code) => vec![Piece::Reset(*code)],
        Sent::Gap(messages) => vec![Piece::Gap(*messages)],
        Sent::Pause | Sent::Interrupt => Vec::new(),
    });
    pieces.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_byte_and_every_end_comes_once_at_its_place(
        all in prop::collection::vec(sent(), 0..40),
        looks in prop::collection::vec(look(), 1..20),
    ) {
        let expected = plain(&all);
        let mut source = Source(all.into());
        let mut stream = Stream::default();
        let mut seen: Vec<Piece> = Vec::new();
        // A line that is cut is told before its bytes were read; a reader of lines then drops them.
        let mut told_early: Vec<Piece> = Vec::new();
        let mut looks = looks.iter().cycle();
        let mut turns = 0;
        loop {
            turns += 1;
            prop_assert!(turns < 100_000, "it never ends: {seen:?} of {expected:?}");
            let at = seen.len();
            let look = looks.next().unwrap();
            let result = match look {
                Look::Read(most) => match fill(&mut stream, |stream| source.fetch(stream)) {
                    Ok(Filled::Bytes) => {
                        let bytes = stream.bytes();
                        let bytes = bytes[..bytes.len().min(*most)].to_vec();
                        stream.consume(bytes.len());
                        seen.extend(bytes.into_iter().map(Piece::Byte));
                        Ok(())
                    }
                    Ok(Filled::End) => { seen.push(Piece::End); Ok(()) }
                    Ok(Filled::Nothing) => Ok(()),
                    Err(error) => Err(error),
                },
                Look::Line | Look::Until(_) => {
                    let delimiter = if let Look::Until(delimiter) = look { *delimiter } else { b'\n' };
                    match take_line(&mut stream, delimiter, |stream| source.fetch(stream)) {
                        Ok(Line::Whole(bytes)) => {
                            let line = stream.copy(bytes);
                            prop_assert_eq!(line.len(), bytes);
                            let inner = line[..bytes - 1].contains(&delimiter);
                            prop_assert!(!inner, "two lines as one");
                            stream.consume(bytes);
                            seen.extend(line.into_iter().map(Piece::Byte));
                            Ok(())
                        }
                        Ok(Line::End) => { seen.push(Piece::End); Ok(()) }
                        Ok(Line::None) => Ok(()),
                        Err(error) => {
                            // Told ahead of the bytes of the cut line, which are still there.
                            let (left, _) = stream.run();
                            if left > 0 && let Some(piece) = piece(&error) {
                                told_early.push(piece);
                                seen.extend(stream.copy(left).into_iter().map(Piece::Byte));
                                seen.extend(told_early.pop());
                                stream.consume(left);
                                continue;
                            }
                            Err(error)
                        }
                    }
                }
                Look::Exact(amount) => {
                    let exact = take_exact(&mut stream, *amount, |stream| source.fetch(stream));
                    let told_early = exact.as_ref().err().and_then(piece);
                    let (left, _) = stream.run();
                    match told_early {
                        // As with a line that is cut.
                        Some(end) if left > 0 => {
                            prop_assert!(left < *amount);
                            seen.extend(stream.copy(left).into_iter().map(Piece::Byte));
                            seen.push(end);
                            stream.consume(left);
                            continue;
                        }
                        _ => {}
                    }
                    exact.map(|is_there| {
                        if is_there {
                            let mut bytes = vec![0; *amount];
                            stream.copy_to(&mut bytes);
                            stream.consume(*amount);
                            seen.extend(bytes.into_iter().map(Piece::Byte));
                        }
                    })
                }
                Look::Whole => match take_run(&mut stream, |stream| source.fetch(stream)) {
                    Ok(Some(bytes)) => {
                        let run = stream.copy(bytes);
                        seen.extend(run.into_iter().map(Piece::Byte));
                        end_run(&mut stream, bytes).map(|()| seen.push(Piece::End))
                    }
                    Ok(None) => Ok(()),
                    Err(error) => Err(error),
                },
            };
            if let Err(error) = result
                && !is_interrupted(&error)
            {
                match piece(&error) {
                    Some(piece) => seen.push(piece),
                    None => break,
                }
            }
            prop_assert_eq!(&seen[at..], expected.get(at..seen.len()).unwrap_or_default());
        }
        // What is left is a line without an end on a connection that is gone: it can be read as bytes.
        let (left, _) = stream.run();
        seen.extend(stream.copy(left).into_iter().map(Piece::Byte));
        prop_assert_eq!(seen, expected);
    }
}

/// A line that comes byte by byte costs what it is long, in memory and in time.
#[test]
fn a_line_that_comes_byte_by_byte_is_gathered() {
    let mut stream = Stream::default();
    for _ in 0..1_000_000 {
        stream.push(Message::inline(CHANNEL, b"a").unwrap());
        assert!(matches!(stream.find_line(b'\n'), LineEnd::Open(_)));
    }
    stream.push(Message::inline(CHANNEL, b"\n").unwrap());
    assert_eq!(stream.find_line(b'\n'), LineEnd::Delimiter(1_000_001));
    assert!(stream.parts() < 100, "{} parts", stream.parts());
}

/// The line that a RESET cuts is told, can be read as bytes, and is dropped by the next line.
#[test]
fn a_cut_line_is_never_a_whole_one() {
    let reset = RecvError::Reset { channel: CHANNEL, code: 7 };
    let cut = || {
        let mut stream = Stream::default();
        stream.push(Message::inline(CHANNEL, b"rm -rf /").unwrap());
        stream.push_break(reset.clone());
        stream.push(Message::inline(CHANNEL, b"ls\n").unwrap());
        assert_eq!(stream.find_line(b'\n'), LineEnd::Cut(8));
        assert_eq!(stream.cut_line(8), Some(reset.clone()));
        stream
    };
    let mut stream = cut();
    assert_eq!(stream.find_line(b'\n'), LineEnd::Cut(8));
    assert_eq!(stream.cut_line(8), None);
    assert_eq!(stream.find_line(b'\n'), LineEnd::Delimiter(3));
    let mut stream = cut();
    stream.consume(8);
    // The end was told.
    assert!(matches!(stream.front(), Front::Bytes));
    assert_eq!(stream.bytes(), b"ls\n");
}

#[test]
fn a_task_gets_a_line_of_bytes_whole_or_nothing_of_it() {
    use crate::{Config, Connection, Key};
    let (here, there) = Connection::pair(Config::new(Key::generate())).unwrap();
    let (sender, mut reader) =
        (here.sender(CHANNEL).unwrap(), there.receiver(CHANNEL).unwrap().into_reader());
    let mut context = Context::from_waker(std::task::Waker::noop());
    let mut line = Vec::new();
    let mut look = |line: &mut Vec<u8>| {
        here.flush().unwrap();
        match reader.poll_read_until(&mut context, b'\n', line) {
            Poll::Ready(read) => Some(read.map_err(|error| error.kind())),
            Poll::Pending => None,
        }
    };
    sender.send(*b"\xffha").unwrap();
    assert_eq!((look(&mut line), line.len()), (None, 0));
    sender.send("lf\nre").unwrap();
    assert_eq!((look(&mut line), &*line), (Some(Ok(6)), &b"\xffhalf\n"[..]));
    assert_eq!(look(&mut line), None);
    sender.send("st").unwrap();
    sender.finish().unwrap();
    assert_eq!((look(&mut line), &line[6..]), (Some(Ok(4)), &b"rest"[..]));
    assert_eq!(look(&mut line), Some(Ok(0)), "the end, once");
    assert_eq!(look(&mut line), None);
    sender.send("cut").unwrap();
    sender.reset(3).unwrap();
    assert_eq!(look(&mut line), Some(Err(io::ErrorKind::ConnectionReset)));
    assert_eq!(line.len(), 10);
}
