//! Sealed sessions over a link that changes what it carries, or breaks off.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use trunkline::*;

use crate::support::chaos::Chaos;
use crate::support::line::on;
use crate::support::{LONG, free_address};

const A: ChannelId = ChannelId::new(1);
const B: ChannelId = ChannelId::new(2);

/// A link that flips a bit of record *n* on the *n*th socket, in turns of the one direction and of the other;
/// records of the handshake are spared, so that each socket gets that far.
struct Flipping {
    addr: SocketAddr,
    flipped: Arc<AtomicU64>,
}

impl Flipping {
    fn new(target: SocketAddr, sockets: u64) -> Self {
        let listener = TcpListener::bind(free_address()).unwrap();
        let addr = listener.local_addr().unwrap();
        let flipped = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&flipped);
        thread::spawn(move || {
            for (number, client) in (0..).zip(listener.incoming()) {
                let client = client.unwrap();
                let Ok(server) = TcpStream::connect(target) else { return };
                let of_direction =
                    |turn: u64| (number < sockets && number % 2 == turn).then_some((1 + number / 2, number));
                for (from, to, flip) in
                    [(&client, &server, of_direction(0)), (&server, &client, of_direction(1))]
                {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let count = Arc::clone(&count);
                    thread::spawn(move || {
                        let _ = carry(&from, &to, flip, &count);
                        for socket in [from, to] {
                            let _ = socket.shutdown(Shutdown::Both);
                        }
                    });
                }
            }
        });
        Self { addr, flipped }
    }
}

/// `flip`: in which record, and which bit of it, modulo its length.
fn carry(
    mut from: &TcpStream,
    mut to: &TcpStream,
    flip: Option<(u64, u64)>,
    count: &AtomicU64,
) -> std::io::Result<()> {
    let mut first = [0; 64];
    from.read_exact(&mut first)?;
    to.write_all(&first)?;
    for number in 0_u64.. {
        let mut length = [0; 2];
        from.read_exact(&mut length)?;
        let mut record = length.to_vec();
        record.resize(2 + usize::from(u16::from_be_bytes(length)), 0);
        from.read_exact(&mut record[2..])?;
        if let Some((at, bit)) = flip
            && at == number
        {
            // Not of the length: what is announced and does not come is waited for.
            let bit = (bit * 7919) as usize % ((record.len() - 2) * 8);
            record[2 + bit / 8] ^= 1 << (bit % 8);
            count.fetch_add(1, SeqCst);
        }
        to.write_all(&record)?;
    }
    Ok(())
}

/// Sends numbered messages both ways and checks each.
fn verify(client: &Connection, server: &Connection, messages: u32, size: usize) {
    thread::scope(|scope| {
        for (from, to, channel) in [(client, server, A), (server, client, B)] {
            let (sender, receiver) = (from.sender(channel).unwrap(), to.receiver(channel).unwrap());
            scope.spawn(move || {
                for number in 0..messages {
                    let mut message = vec![number as u8; size];
                    message[..4].copy_from_slice(&number.to_be_bytes());
                    sender.send(message).unwrap();
                }
                sender.finish().unwrap();
            });
            scope.spawn(move || {
                for number in 0..messages {
                    let message = receiver.recv_timeout(LONG * 2).unwrap();
                    assert_eq!(message[..4], number.to_be_bytes());
                    assert!(message.len() == size && message[4..].iter().all(|&byte| byte == number as u8));
                }
                assert_eq!(receiver.recv_timeout(LONG).unwrap_err(), RecvError::Finished.into());
            });
        }
    });
}

/// Whichever record of a socket is changed, in either direction: it is noticed, counted and told, the session
/// goes on, and not a byte is lost, changed or doubled.
#[test]
fn a_bit_flipped_in_any_record_costs_a_socket_and_nothing_else() {
    const SOCKETS: u64 = 60;
    let key = Key::generate();
    let listener = Listener::bind(free_address(), on(key.clone())).unwrap();
    let link = Flipping::new(listener.local_addr(), SOCKETS);
    let client = Connection::connect(link.addr, on(key).sealing(Sealing::Always)).unwrap();
    let server = listener.accept().unwrap();
    let causes = Arc::new(Mutex::new(Vec::new()));
    for connection in [&client, &server] {
        let (events, causes) = (connection.events(), Arc::clone(&causes));
        thread::spawn(move || {
            for event in events.iter() {
                if let Event::Suspended { cause } = event {
                    causes.lock().unwrap().push(cause);
                }
            }
        });
    }
    verify(&client, &server, 6000, 1000);
    let tampered = client.stats().tampered + server.stats().tampered;
    let flipped = link.flipped.load(SeqCst);
    println!("{flipped} flipped, {tampered} found");
    assert!(flipped >= SOCKETS / 2, "{flipped}");
    // One that was flipped and not read, because the other side had let go of the socket, is none.
    assert!(tampered >= flipped * 3 / 4 && tampered <= flipped, "{tampered} of {flipped}");
    let causes = causes.lock().unwrap();
    assert!(causes.contains(&ConnectionError::Tampered));
    assert!(
        causes.iter().all(|cause| matches!(cause, ConnectionError::Tampered | ConnectionError::Lost { .. })),
        "{causes:?}"
    );
}

/// A thousand cuts of a sealed session, of which every byte arrives once.
#[test]
fn a_sealed_session_survives_a_thousand_cuts() {
    const CUTS: u64 = 1000;
    let key = Key::generate();
    let config = || on(key.clone()).heartbeat(Duration::from_millis(100), Duration::from_millis(300));
    let listener = Listener::bind(free_address(), config()).unwrap();
    let chaos = Chaos::new(listener.local_addr());
    // Within the handshake, within the first records, and later.
    chaos.plan_cuts(crate::support::chaos::Cut::Reset, [[u64::MAX, u64::MAX]]);
    let client = Connection::connect(chaos.addr, config().sealing(Sealing::Always)).unwrap();
    let server = listener.accept().unwrap();
    assert!(client.is_sealed() && server.is_sealed());
    let cuts: Vec<_> = (0..CUTS).map(|cut| [200 + cut * 37 % 9000, 200 + cut * 53 % 9000]).collect();
    chaos.plan_cuts(crate::support::chaos::Cut::Reset, cuts);
    chaos.cut(crate::support::chaos::Cut::Reset);
    verify(&client, &server, 4000, 1000);
    println!("{} cuts", chaos.cuts());
    assert!(chaos.cuts() >= CUTS, "{}", chaos.cuts());
}
