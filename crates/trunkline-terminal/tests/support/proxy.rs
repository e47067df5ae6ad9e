//! A link that can be lost.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use parking_lot::Mutex;

pub struct Proxy {
    pub address: SocketAddr,
    state: Arc<State>,
}

struct State {
    target: SocketAddr,
    refuses: AtomicBool,
    links: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    pub fn new(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state =
            Arc::new(State { target, refuses: AtomicBool::new(false), links: Mutex::new(Vec::new()) });
        let shared = Arc::clone(&state);
        // It ends with the test's process.
        thread::spawn(move || {
            for client in listener.incoming().filter_map(Result::ok) {
                shared.lead(client);
            }
        });
        Self { address, state }
    }

    /// Cuts all links, and lets none be made until it is healed.
    pub fn lose(&self) {
        self.state.refuses.store(true, Ordering::SeqCst);
        for link in self.state.links.lock().drain(..) {
            let _ = link.shutdown(Shutdown::Both);
        }
    }

    pub fn heal(&self) {
        self.state.refuses.store(false, Ordering::SeqCst);
    }
}

impl State {
    fn lead(&self, client: TcpStream) {
        let mut links = self.links.lock();
        if self.refuses.load(Ordering::SeqCst) {
            return;
        }
        let Ok(server) = TcpStream::connect(self.target) else { return };
        for (from, to) in [(&client, &server), (&server, &client)] {
            let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            thread::spawn(move || {
                let mut buffer = [0; 16 * 1024];
                while let Ok(read @ 1..) = from.read(&mut buffer) {
                    if to.write_all(&buffer[..read]).is_err() {
                        break;
                    }
                }
                let _ = to.shutdown(Shutdown::Both);
            });
        }
        links.extend([client, server]);
    }
}
