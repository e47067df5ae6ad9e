//! A read-only key, attacked from outside: by a program that follows no rules but those of the wire.

use std::time::Duration;

use trunkline::{Config, Receiver, Sender};

use crate::hub::*;
use crate::support::wire::*;

/// What must go on, whatever the holder of the key does.
struct Undisturbed {
    world: World,
    line: Sender,
    output: Receiver,
    stdin: Receiver,
    others: Receiver,
    stdout: Sender,
    key: RawKey,
    round: u32,
}

impl Undisturbed {
    fn new() -> Self {
        let world = World::new();
        let key = [0x5a; 32];
        let access = trunkline::Access::read_only().named("attacker");
        world.hub.as_ref().unwrap().listener().add_key(trunkline::Key::from(key), access);
        let owner = world.client(&world.desk);
        Self {
            line: owner.sender(STDIN),
            output: owner.receiver(STDOUT),
            stdin: world.program.receiver(STDIN).unwrap(),
            others: world.program.receiver(CONTROL | TALK).unwrap(),
            stdout: world.program.sender(STDOUT).unwrap(),
            world,
            key,
            round: 0,
        }
    }

    fn attacker(&self) -> RawPeer {
        ClientHandshake::new(self.world.addr, &self.key).finish().unwrap()
    }

    /// The owner's lines go through, its output comes, and nothing else has reached the program.
    #[track_caller]
    fn check(&mut self) {
        self.round += 1;
        let line = format!("line {}", self.round);
        self.line.send(&line).unwrap();
        assert_eq!(text(&self.stdin), line);
        self.stdout.send(&line).unwrap();
        assert_eq!(text(&self.output), line);
        assert!(self.others.try_recv_any().is_err());
        assert!(!self.world.program.interrupts().take());
    }
}

#[test]
fn a_read_only_key_can_not_send_interrupt_take_or_end_anything() {
    let mut undisturbed = Undisturbed::new();
    undisturbed.check();
    let attacks: Vec<(String, Vec<u8>)> = [0, 1, 3, 4, 5, 50, 64, 126, 127]
        .into_iter()
        .flat_map(|channel| {
            [
                (format!("data on {channel}"), data(channel, false, br#"{"take":true}"#)),
                (format!("a part on {channel}"), data(channel, true, b"x")),
                (format!("FINISH on {channel}"), control(channel, opcode::FINISH, &[])),
                (format!("RESET on {channel}"), control(channel, opcode::RESET, &[0, 0, 0, 1])),
                (format!("GAP on {channel}"), control(channel, opcode::GAP, &[0; 16])),
                (format!("CREDIT for {channel}"), control(channel, opcode::CREDIT, &[0xff; 4])),
            ]
        })
        .chain([("INTERRUPT".to_owned(), control(0, opcode::INTERRUPT, &[]))])
        .collect();
    for (what, bytes) in &attacks {
        let mut peer = undisturbed.attacker();
        peer.expect_alive();
        peer.try_send_bytes(bytes);
        let close = peer.read_close();
        assert!(close.is_ok(), "{what}: it is not closed: {close:?}");
        undisturbed.check();
    }
}

/// Those who read nothing, or stop everything, or keep their socket silent.
#[test]
fn a_read_only_key_can_not_make_others_wait() {
    let mut undisturbed = Undisturbed::new();
    let mut peers = Vec::new();
    for n in 0..20u8 {
        let mut peer = ClientHandshake::new(undisturbed.world.addr, &undisturbed.key)
            .window(if n % 2 == 0 { 0 } else { 64 })
            .finish()
            .unwrap();
        for channel in [1, 2, 4, 5, 127] {
            if n % 3 == 0 {
                peer.stop(channel, 9);
            }
        }
        peers.push(peer);
    }
    let output = undisturbed.world.client(&undisturbed.world.desk);
    let output = output.receiver(STDERR);
    let err = undisturbed.world.program.sender(STDERR).unwrap();
    // More than the log keeps, so that they lag in every way.
    for n in 0..300 {
        err.send(format!("{n:010000}")).unwrap();
        assert_eq!(text(&output), format!("{n:010000}"));
    }
    undisturbed.check();
    assert!(undisturbed.world.hub.as_ref().unwrap().log_bytes() < (1 << 20) + 20_000);
    for peer in &mut peers {
        peer.cut();
    }
    undisturbed.check();
}

/// The library refuses by itself what the hub would.
#[test]
fn a_read_only_client_of_the_library_is_told_before_it_sends() {
    let world = World::new();
    let client = Client::connect(world.addr, Config::new(world.wall.clone()));
    for channel in [STDIN, CONTROL, TALK, ROSTER] {
        assert!(client.connection.sender(channel).is_err());
    }
    assert!(client.connection.interrupt().is_err());
    std::thread::sleep(Duration::from_millis(1));
}
