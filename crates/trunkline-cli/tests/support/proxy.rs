//! A link that can be lost, and that can be slow.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

pub struct Proxy {
    pub address: SocketAddr,
    state: Arc<State>,
}

struct State {
    target: SocketAddr,
    /// Bytes a second towards the client; `None` is as many as there are.
    rate: Option<u32>,
    refuses: AtomicBool,
    links: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    pub fn new(target: &str, rate: Option<u32>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let target = target.parse().unwrap();
        let state =
            Arc::new(State { target, rate, refuses: AtomicBool::new(false), links: Mutex::default() });
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
        self.cut();
    }

    /// Cuts all links.
    pub fn cut(&self) {
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
        for (from, to, rate) in [(&client, &server, None), (&server, &client, self.rate)] {
            let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            if rate.is_some() {
                // What the system keeps for a slow link is as little as it takes.
                let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&from, 4096);
                let _ = rustix::net::sockopt::set_socket_send_buffer_size(&to, 4096);
            }
            thread::spawn(move || {
                let mut buffer = [0; 16 * 1024];
                let most = if rate.is_some() { 2048 } else { buffer.len() };
                while let Ok(read @ 1..) = from.read(&mut buffer[..most]) {
                    if let Some(rate) = rate {
                        thread::sleep(Duration::from_secs_f64(read as f64 / f64::from(rate)));
                    }
                    if to.write_all(&buffer[..read]).is_err() {
                        break;
                    }
                }
                let _ = to.shutdown(Shutdown::Both);
                let _ = from.shutdown(Shutdown::Both);
            });
        }
        links.extend([client, server]);
    }
}
