//! A proxy that treats its links badly: cuts them (FIN, RST, silence), delays, throttles and splits
//! what it carries, at random by a seed that is printed.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use super::wire::Noise;

use crate::support::free_address;

/// How a link is cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    Fin,
    Reset,
    /// Nothing is said, and nothing carried any more.
    Silence,
}

/// When links are cut by themselves: after so many bytes in each direction, in the order of the
/// connections; what comes above the list lasts.
pub type Budget = [u64; 2];

struct Link {
    client: TcpStream,
    server: TcpStream,
    cut: AtomicBool,
    dead: AtomicBool,
    silent: AtomicBool,
    left: [AtomicU64; 2],
    /// How much was carried each way.
    carried: [AtomicU64; 2],
    kind: Cut,
}

struct State {
    target: Mutex<SocketAddr>,
    /// Whom the links after the next lead to.
    then: Mutex<Option<SocketAddr>>,
    links: Mutex<Vec<Arc<Link>>>,
    /// A link has carried more than a handshake.
    carries: Condvar,
    refusing: AtomicBool,
    /// Cuts at random, bad treatment.
    rough: AtomicBool,
    /// About how many bytes a link carries before it is cut.
    lifetime: AtomicU64,
    /// At most so many bytes a second each way.
    rate: AtomicU64,
    noise: Mutex<Noise>,
    planned: Mutex<std::collections::VecDeque<(Cut, Budget)>>,
    cuts: AtomicU64,
}

/// How long a link that is cut by silence stays open.
const SILENCE: Duration = Duration::from_secs(3);

/// More than both sides of a handshake.
const HANDSHAKE: u64 = 1000;

pub struct Chaos {
    pub addr: SocketAddr,
    state: Arc<State>,
}

impl Chaos {
    pub fn new(target: SocketAddr) -> Self {
        Self::with_seed(target, 1)
    }

    pub fn with_seed(target: SocketAddr, seed: u64) -> Self {
        println!("chaos: seed {seed}");
        let listener = TcpListener::bind(free_address()).unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(State {
            target: Mutex::new(target),
            then: Mutex::default(),
            links: Mutex::default(),
            carries: Condvar::new(),
            refusing: AtomicBool::new(false),
            rough: AtomicBool::new(false),
            lifetime: AtomicU64::new(u64::MAX),
            rate: AtomicU64::new(u64::MAX),
            noise: Mutex::new(Noise(seed)),
            planned: Mutex::default(),
            cuts: AtomicU64::new(0),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(client) = stream else { continue };
                if shared.refusing.load(SeqCst) {
                    reset(&client);
                    continue;
                }
                let target = {
                    let mut target = shared.target.lock().unwrap();
                    let then = shared.then.lock().unwrap().take().unwrap_or(*target);
                    std::mem::replace(&mut *target, then)
                };
                let Ok(server) = TcpStream::connect(target) else { continue };
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                let (kind, left) = {
                    let mut noise = shared.noise.lock().unwrap();
                    let lifetime = shared.lifetime.load(SeqCst);
                    let mut random = || match lifetime {
                        u64::MAX => u64::MAX,
                        lifetime => noise.below(lifetime as usize * 2) as u64,
                    };
                    let random = [random(), random()];
                    let planned = shared.planned.lock().unwrap().pop_front();
                    let kind = [Cut::Fin, Cut::Reset, Cut::Reset, Cut::Silence][noise.below(4)];
                    planned.unwrap_or((kind, random))
                };
                let link = Arc::new(Link {
                    client,
                    server,
                    cut: AtomicBool::new(false),
                    dead: AtomicBool::new(false),
                    silent: AtomicBool::new(false),
                    left: left.map(AtomicU64::new),
                    carried: Default::default(),
                    kind,
                });
                shared.links.lock().unwrap().push(Arc::clone(&link));
                for way in 0..2 {
                    let (link, state) = (Arc::clone(&link), Arc::clone(&shared));
                    thread::spawn(move || pump(&link, way, &state));
                }
            }
        });
        Self { addr, state }
    }

    /// From now on links die after about so many bytes, and everything is delayed and split.
    pub fn rough(&self, lifetime: u64) {
        self.state.lifetime.store(lifetime, SeqCst);
        self.state.rough.store(true, SeqCst);
    }

    /// From now on links carry at most so many bytes a second each way.
    pub fn throttle(&self, rate: u64) {
        self.state.rate.store(rate, SeqCst);
    }

    /// New links last.
    pub fn calm(&self) {
        self.state.lifetime.store(u64::MAX, SeqCst);
        self.state.rough.store(false, SeqCst);
    }

    /// The next links are reset after exactly so many bytes each way.
    pub fn plan(&self, budgets: impl IntoIterator<Item = Budget>) {
        self.plan_cuts(Cut::Reset, budgets);
    }

    /// The next links are cut in this way after exactly so many bytes each way.
    pub fn plan_cuts(&self, kind: Cut, budgets: impl IntoIterator<Item = Budget>) {
        self.state.planned.lock().unwrap().extend(budgets.into_iter().map(|budget| (kind, budget)));
    }

    pub fn refuse(&self, refusing: bool) {
        self.state.refusing.store(refusing, SeqCst);
    }

    /// Whom new links lead to.
    pub fn lead_to(&self, target: SocketAddr) {
        *self.state.target.lock().unwrap() = target;
    }

    /// Waits until a link has carried more than a handshake, both ways.
    pub fn wait_for_link(&self, most: Duration) {
        let mut links = self.state.links.lock().unwrap();
        while !links.iter().any(|link| link.carried.iter().all(|carried| carried.load(SeqCst) > HANDSHAKE)) {
            let (again, waited) = self.state.carries.wait_timeout(links, most).unwrap();
            assert!(!waited.timed_out(), "nobody uses a link");
            links = again;
        }
    }

    /// Whom new links lead to, after the next one.
    pub fn then_lead_to(&self, target: SocketAddr) {
        *self.state.then.lock().unwrap() = Some(target);
    }

    /// Cuts all links.
    pub fn cut(&self, kind: Cut) {
        for link in self.state.links.lock().unwrap().drain(..) {
            link.cut(kind, &self.state);
        }
    }

    pub fn cuts(&self) -> u64 {
        self.state.cuts.load(SeqCst)
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        self.state.refusing.store(true, SeqCst);
        self.cut(Cut::Reset);
    }
}

impl Link {
    fn cut(&self, kind: Cut, state: &State) {
        if self.cut.swap(true, SeqCst) {
            return;
        }
        state.cuts.fetch_add(1, SeqCst);
        match kind {
            Cut::Fin => {
                let _ = self.client.shutdown(Shutdown::Both);
                let _ = self.server.shutdown(Shutdown::Both);
            }
            Cut::Reset => {
                reset(&self.client);
                reset(&self.server);
            }
            Cut::Silence => self.silent.store(true, SeqCst),
        }
        self.dead.store(true, SeqCst);
    }
}

/// It is reset when the last that has it lets go.
fn reset(stream: &TcpStream) {
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

fn pump(link: &Arc<Link>, way: usize, state: &State) {
    let (mut from, mut to) =
        if way == 0 { (&link.client, &link.server) } else { (&link.server, &link.client) };
    let _ = from.set_read_timeout(Some(Duration::from_millis(20)));
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let rough = state.rough.load(SeqCst);
        let most = if rough { 1 + state.noise.lock().unwrap().below(30_000) } else { buffer.len() };
        let left = link.left[way].load(SeqCst);
        if link.dead.load(SeqCst) {
            if link.silent.load(SeqCst) {
                // Both sides think that the link is there, for a while.
                thread::sleep(SILENCE);
            }
            return state.links.lock().unwrap().retain(|other| !Arc::ptr_eq(other, link));
        }
        if left == 0 {
            link.cut(link.kind, state);
            continue;
        }
        let rate = state.rate.load(SeqCst);
        // A hundredth of a second's worth at a time.
        let most = most.min(left.min(1 << 30) as usize).min((rate / 100).clamp(1, 1 << 30) as usize);
        let read = match from.read(&mut buffer[..most]) {
            Ok(0) => {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            Ok(read) => read,
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
            {
                continue;
            }
            Err(_) => {
                link.cut(Cut::Reset, state);
                return;
            }
        };
        if link.dead.load(SeqCst) {
            continue;
        }
        if rate != u64::MAX {
            thread::sleep(Duration::from_secs_f64(read as f64 / rate as f64));
        }
        if rough && state.noise.lock().unwrap().below(8) == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        if to.write_all(&buffer[..read]).is_err() {
            link.cut(Cut::Reset, state);
            return;
        }
        let carried = link.carried[way].fetch_add(read as u64, SeqCst);
        if carried <= HANDSHAKE && carried + read as u64 > HANDSHAKE {
            // Under the lock, so that nobody misses it between looking and waiting.
            let _links = state.links.lock().unwrap();
            state.carries.notify_all();
        }
        if left != u64::MAX {
            link.left[way].fetch_sub(read as u64, SeqCst);
        }
    }
}
