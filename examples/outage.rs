//! A connection outlives its socket: the link is cut in the middle of a transfer, and every message
//! arrives once and in order. Neither side does anything about it (`cargo run --example outage`).

use std::error::Error;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use trunkline::{ChannelId, Config, Connection, Event, Key, Listener};

const NUMBERS: ChannelId = ChannelId::new(1);
const COUNT: u32 = 100_000;

fn main() -> Result<(), Box<dyn Error>> {
    let key = Key::generate();
    let listener = Listener::bind("127.0.0.1:0", Config::new(key.clone()))?;
    let link = Link::to(listener.local_addr())?;
    let client = Connection::connect(link.address, Config::new(key))?;
    let server = listener.accept()?;
    let events = client.events();

    let numbers = client.sender(NUMBERS)?;
    let sender = thread::spawn(move || (0..COUNT).try_for_each(|number| numbers.send(number.to_le_bytes())));

    let received = server.receiver(NUMBERS)?;
    for expected in 0..COUNT {
        if expected == COUNT / 2 {
            link.cut();
        }
        assert_eq!(*received.recv()?, expected.to_le_bytes());
    }
    sender.join().expect("the sender does not panic")?;
    println!("{COUNT} numbers arrived, each once and in order");

    // The events are for programs that want to know.
    for event in events.iter() {
        match event {
            Event::Suspended { .. } => println!("the link was cut"),
            Event::Resumed { .. } => {
                println!("the connection went on");
                break;
            }
            _ => {}
        }
    }
    Ok(())
}

/// A link that can be cut: what connects to its address is led to the server.
struct Link {
    address: SocketAddr,
    sockets: Arc<Mutex<Vec<TcpStream>>>,
}

impl Link {
    fn to(server: SocketAddr) -> io::Result<Self> {
        let entrance = TcpListener::bind("127.0.0.1:0")?;
        let link = Self { address: entrance.local_addr()?, sockets: Arc::default() };
        let sockets = Arc::clone(&link.sockets);
        thread::spawn(move || {
            for near in entrance.incoming() {
                let (near, far) = (near?, TcpStream::connect(server)?);
                for (mut from, mut to) in [(near.try_clone()?, far.try_clone()?), (far, near.try_clone()?)] {
                    thread::spawn(move || io::copy(&mut from, &mut to).and(to.shutdown(Shutdown::Write)));
                }
                sockets.lock().unwrap().push(near);
            }
            Ok::<_, io::Error>(())
        });
        Ok(link)
    }

    fn cut(&self) {
        for socket in self.sockets.lock().unwrap().drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}
