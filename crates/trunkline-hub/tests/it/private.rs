//! Private conversations.

use trunkline::{ChannelSet, Received, RecvError, RecvTimeoutError};
use trunkline_hub::code;

use crate::hub::*;
use crate::support::LONG;

/// A program that answers each request on its channel with the same and the channel, and ends its run after it
/// has read the end of the client's.
fn answer(program: trunkline::Connection) {
    let pool: ChannelSet = (64..=126).map(trunkline::ChannelId::new).collect();
    let requests = program.receiver(pool).unwrap();
    std::thread::spawn(move || {
        loop {
            let received = match requests.recv_any() {
                Ok(received) => received,
                // Each channel has ended once; others may come.
                Err(RecvError::Finished) => continue,
                Err(_) => return,
            };
            match received {
                Received::Message(message) => {
                    let mut text = message.to_vec();
                    text.extend_from_slice(format!(" on {}", message.channel()).as_bytes());
                    let answers = program.sender(message.channel()).unwrap();
                    let _ = answers.send(text);
                    // The run stays open.
                    std::mem::forget(answers);
                }
                Received::Finished(channel) | Received::Reset { channel, .. } => {
                    let _ = program.sender(channel).unwrap().finish();
                }
                _ => {}
            }
        }
    });
}

#[test]
fn each_client_has_a_conversation_of_its_own() {
    let world = World::new();
    answer(world.program.clone());
    let clients: Vec<_> = (0..10).map(|_| world.client(&world.desk)).collect();
    let talks: Vec<_> = clients.iter().map(|client| (client.sender(TALK), client.receiver(TALK))).collect();
    for round in 0..5 {
        for (n, (ask, _)) in talks.iter().enumerate() {
            ask.send(format!("{n} asks {round}")).unwrap();
        }
        for (n, (_, answers)) in talks.iter().enumerate() {
            let answer = text(answers);
            assert!(answer.starts_with(&format!("{n} asks {round} on ")), "{answer}");
        }
    }
    for (ask, answers) in &talks {
        ask.finish().unwrap();
        assert_eq!(
            answers.recv_timeout(LONG).unwrap_err(),
            RecvTimeoutError::Disconnected(RecvError::Finished)
        );
        // And another.
        ask.send("again").unwrap();
        assert!(text(answers).starts_with("again on "));
    }
}

/// The one before vanished with answers on their way.
#[test]
fn nobody_gets_the_answers_of_another() {
    let world = World::with(|hub| hub);
    answer(world.program.clone());
    for round in 0..100 {
        let client = world.client(&world.desk);
        let ask = client.sender(TALK);
        for n in 0..5 {
            ask.send(format!("{round}.{n}")).unwrap();
        }
        let answers = client.receiver(TALK);
        assert!(text(&answers).starts_with(&format!("{round}.0 on")));
        match round % 3 {
            0 => client.connection.abandon(),
            1 => answers.stop(5),
            _ => ask.reset(5).unwrap(),
        }
    }
}

#[test]
fn there_are_as_many_as_the_pool_has_channels() {
    let (program, upstream) =
        trunkline::Connection::pair(trunkline::Config::new(trunkline::Key::generate())).unwrap();
    let hub = trunkline_hub::Hub::new(upstream).private(TALK, 64..=65).roster(ROSTER);
    let world = World::serve(program, hub, |config| config);
    answer(world.program.clone());
    let clients: Vec<_> = (0..3).map(|_| world.client(&world.desk)).collect();
    let talks: Vec<_> = clients.iter().map(|client| (client.sender(TALK), client.receiver(TALK))).collect();
    for (ask, answers) in &talks[..2] {
        ask.send("x").unwrap();
        text(answers);
    }
    talks[2].0.send("x").unwrap();
    assert_eq!(stopped(&talks[2].0), code::NO_PRIVATE_CHANNEL);
    let none =
        RecvTimeoutError::Disconnected(RecvError::Reset { channel: TALK, code: code::NO_PRIVATE_CHANNEL });
    assert_eq!(talks[2].1.recv_timeout(LONG).unwrap_err(), none);
    // A question that was over already hears of it too.
    let ask = clients[2].sender(TALK);
    ask.send("y").unwrap();
    let _ = ask.finish();
    assert_eq!(talks[2].1.recv_timeout(LONG).unwrap_err(), none);
    talks[0].0.finish().unwrap();
    assert!(talks[0].1.recv_timeout(LONG).is_err());
    let ask = clients[2].sender(TALK);
    ask.send("now").unwrap();
    assert!(text(&talks[2].1).starts_with("now on"));
}

/// It would block the program's introspection.
#[test]
fn a_client_that_leaves_its_answers_unread_is_reset() {
    let (program, upstream) =
        trunkline::Connection::pair(trunkline::Config::new(trunkline::Key::generate())).unwrap();
    let hub = trunkline_hub::Hub::new(upstream).private(TALK, 64..=65).roster(ROSTER).unread_answers(10_000);
    let world = World::serve(program, hub, |config| config);
    answer(world.program.clone());
    let lazy = Client::connect(world.addr, trunkline::Config::new(world.desk.clone()).window(4096));
    let (ask, answers) = (lazy.sender(TALK), lazy.receiver(TALK));
    let code = loop {
        if ask.send([b'x'; 1000]).is_err() {
            break stopped(&ask);
        }
    };
    assert_eq!(code, code::UNREAD);
    // Others are answered.
    let other = world.client(&world.desk);
    other.sender(TALK).send("quick").unwrap();
    let conversation = other.sender(TALK);
    conversation.send("quick").unwrap();
    assert!(text(&other.receiver(TALK)).contains("quick on"));
    // What it had room for, and the reset.
    loop {
        match answers.recv_timeout(LONG) {
            Ok(_) => {}
            Err(RecvTimeoutError::Disconnected(RecvError::Reset { code, .. })) => {
                assert_eq!(code, code::UNREAD);
                break;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// A person types on: the answer to the last question is not wanted any more, and the next question is on its
/// way already.
#[test]
fn a_client_that_stops_an_answer_keeps_the_next_question() {
    let world = World::new();
    let pool: ChannelSet = (64..=126).map(trunkline::ChannelId::new).collect();
    let requests = world.program.receiver(pool).unwrap();
    let question = || loop {
        match requests.recv_any() {
            Ok(Received::Message(message)) => return message,
            Ok(_) | Err(RecvError::Finished) => {}
            Err(error) => panic!("{error}"),
        }
    };
    let client = world.client(&world.desk);
    let answers = client.receiver(TALK);
    let ask = |text: &str| {
        let sender = client.sender(TALK);
        sender.send(text).unwrap();
        sender.finish().unwrap();
    };
    for round in 0..20 {
        ask("one");
        let one = question();
        assert_eq!(one, "one");
        let answer = world.program.sender(one.channel()).unwrap();
        answer.send("a part of it").unwrap();
        assert_eq!(text(&answers), "a part of it");
        ask("two");
        client.connection.flush().unwrap();
        answers.stop(5);
        client.connection.flush().unwrap();
        if round % 2 == 0 {
            // On another channel, while the first conversation comes to its end.
            let two = question();
            assert_eq!(two, "two");
            world.program.sender(two.channel()).unwrap().send("to two").unwrap();
            answer.finish().unwrap();
            world.program.sender(two.channel()).unwrap().finish().unwrap();
        } else {
            answer.finish().unwrap();
            let two = question();
            let answer = world.program.sender(two.channel()).unwrap();
            answer.send("to two").unwrap();
            answer.finish().unwrap();
        }
        assert_eq!(text(&answers), "to two");
        assert_eq!(
            answers.recv_timeout(LONG).unwrap_err(),
            RecvTimeoutError::Disconnected(RecvError::Finished)
        );
    }
}

/// It goes on in the run whose answer it does not want: it is told, since nothing of that is answered.
#[test]
fn a_question_behind_a_stopped_answer_is_refused() {
    let world = World::new();
    answer(world.program.clone());
    let client = world.client(&world.desk);
    let (ask, answers) = (client.sender(TALK), client.receiver(TALK));
    ask.send("one").unwrap();
    assert!(text(&answers).starts_with("one on"));
    answers.stop(5);
    // It learns of it in any case, whatever it sends until then.
    loop {
        if ask.send("more").is_err() {
            break;
        }
    }
    client.sender(TALK).send("two").unwrap();
    loop {
        // What was sent before the hub heard of the stop may be answered on a channel of its own.
        let answer = text(&answers);
        assert!(answer.starts_with("two on") || answer.starts_with("more on"), "{answer}");
        if answer.starts_with("two") {
            break;
        }
    }
}
