//! A proxy that can hold up what the kernel sends, and loses links on demand. Its buffers are small, so what it
//! holds up stays in the kernel.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use rustix::net::sockopt::set_socket_recv_buffer_size;

#[derive(Default)]
struct State {
    held: bool,
    refusing: bool,
    links: Vec<TcpStream>,
}

pub struct Dam {
    pub address: SocketAddr,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Dam {
    pub fn before(kernel: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::<(Mutex<State>, Condvar)>::default();
        let dam = Arc::clone(&shared);
        thread::spawn(move || {
            for console in listener.incoming() {
                let console = console.unwrap();
                if dam.0.lock().unwrap().refusing {
                    continue;
                }
                let kernel = TcpStream::connect(kernel).unwrap();
                set_socket_recv_buffer_size(&kernel, 64 * 1024).unwrap();
                let ends = [console.try_clone().unwrap(), kernel.try_clone().unwrap()];
                dam.0.lock().unwrap().links.extend(ends);
                let (from, to) = (console.try_clone().unwrap(), kernel.try_clone().unwrap());
                thread::spawn(move || carry(from, to, || {}));
                let dam = Arc::clone(&dam);
                let open = move || drop(dam.1.wait_while(dam.0.lock().unwrap(), |state| state.held).unwrap());
                thread::spawn(move || carry(kernel, console, open));
            }
        });
        Self { address, shared }
    }

    /// Holds up what the kernel sends, or no longer.
    pub fn hold(&self, held: bool) {
        self.shared.0.lock().unwrap().held = held;
        self.shared.1.notify_all();
    }

    /// Loses the links, and lets none come until `refuse(false)`.
    pub fn cut(&self) {
        let mut state = self.shared.0.lock().unwrap();
        state.refusing = true;
        for link in state.links.drain(..) {
            // The other side may have closed it.
            let _ = link.shutdown(Shutdown::Both);
        }
    }

    pub fn mend(&self) {
        self.shared.0.lock().unwrap().refusing = false;
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, open: impl Fn()) {
    let mut buffer = [0; 64 * 1024];
    loop {
        open();
        match from.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(read) if to.write_all(&buffer[..read]).is_err() => break,
            Ok(_) => {}
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
