//! What the feature `tracing` tells, heard by a subscriber of our own.

mod support;

use std::collections::HashMap;
use std::fmt::{Debug, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use support::chaos::{Chaos, Cut};
use support::{LONG, free_address};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event as Told, Metadata, Subscriber};
use trunkline::*;

const A: ChannelId = ChannelId::new(1);

type Fields = HashMap<&'static str, String>;

/// An event, with the fields of its span.
#[derive(Clone, Debug)]
struct Heard {
    at: Instant,
    what: String,
    fields: Fields,
    span: Fields,
}

type Action = Box<dyn Fn(&Heard) + Send>;

/// Keeps all that it hears. It serves the whole process, so the tests tell what is theirs by addresses
/// and names.
#[derive(Default)]
struct Recorder {
    spans: Mutex<HashMap<u64, Fields>>,
    next: AtomicU64,
    heard: Mutex<Vec<Heard>>,
    more: Condvar,
    /// What the subscriber does at the next event, by the name of the key.
    actions: Mutex<HashMap<String, Action>>,
}

struct Fill<'a>(&'a mut Fields);

impl Visit for Fill<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

struct Global(&'static Recorder);

impl Subscriber for Global {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "trunkline"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = Fields::new();
        span.record(&mut Fill(&mut fields));
        let id = self.0.next.fetch_add(1, Ordering::Relaxed) + 1;
        self.0.spans.lock().unwrap().insert(id, fields);
        Id::from_u64(id)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut spans = self.0.spans.lock().unwrap();
        values.record(&mut Fill(spans.entry(span.into_u64()).or_default()));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Told<'_>) {
        let mut fields = Fields::new();
        event.record(&mut Fill(&mut fields));
        let span = event.parent().and_then(|id| self.0.spans.lock().unwrap().get(&id.into_u64()).cloned());
        let what = fields.remove("message").unwrap_or_default();
        let heard = Heard { at: Instant::now(), what, fields, span: span.unwrap_or_default() };
        self.0.heard.lock().unwrap().push(heard.clone());
        self.0.more.notify_all();
        let name = heard.span.get("access").cloned().unwrap_or_default();
        let action = self.0.actions.lock().unwrap().remove(&name);
        if let Some(action) = action {
            action(&heard);
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}

    fn try_close(&self, id: Id) -> bool {
        self.0.spans.lock().unwrap().remove(&id.into_u64());
        true
    }
}

fn recorder() -> &'static Recorder {
    static RECORDER: OnceLock<&'static Recorder> = OnceLock::new();
    RECORDER.get_or_init(|| {
        let recorder: &Recorder = Box::leak(Box::default());
        tracing::subscriber::set_global_default(Global(recorder)).unwrap();
        recorder
    })
}

impl Recorder {
    /// Waits until the events that match are so many.
    fn wait_for(&self, count: usize, matches: impl Fn(&Heard) -> bool) -> Vec<Heard> {
        let deadline = Instant::now() + LONG;
        let mut heard = self.heard.lock().unwrap();
        loop {
            let ours: Vec<_> = heard.iter().filter(|heard| matches(heard)).cloned().collect();
            if ours.len() >= count {
                return ours;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} of {count}: {heard:#?}", ours.len());
            heard = self.more.wait_timeout(heard, left).unwrap().0;
        }
    }

    /// The events of the connection that this span field tells.
    fn of(&self, count: usize, field: &str, value: &str) -> Vec<Heard> {
        self.wait_for(count, |heard| heard.span.get(field).is_some_and(|known| known == value))
    }

    fn act(&self, name: &str, action: impl Fn(&Heard) + Send + 'static) {
        self.actions.lock().unwrap().insert(name.to_owned(), Box::new(action));
    }
}

/// A listener whose clients have this name, and a client by a proxy that can cut.
fn by_chaos(name: &str) -> (Listener, Chaos, Connection, Connection, Key) {
    let key = Key::generate();
    let config = Config::with_access(key.clone(), Access::full().named(name));
    let listener = Listener::bind(free_address(), config).unwrap();
    let chaos = Chaos::new(listener.local_addr());
    let client = Connection::connect(chaos.addr, Config::new(key.clone())).unwrap();
    let server = listener.accept_timeout(LONG).unwrap();
    (listener, chaos, client, server, key)
}

fn ping(from: &Connection, to: &Connection) {
    let (sender, receiver) = (from.sender(A).unwrap(), to.receiver(A).unwrap());
    sender.send("a secret message").unwrap();
    assert_eq!(&*receiver.recv_timeout(LONG).unwrap(), b"a secret message");
}

fn whats(heard: &[Heard]) -> Vec<&str> {
    heard.iter().map(|heard| heard.what.as_str()).collect()
}

#[test]
fn the_life_of_a_connection_is_told_on_both_sides() {
    let recorder = recorder();
    let (listener, chaos, client, server, key) = by_chaos("alice");
    ping(&client, &server);
    let (events, mut resumed) = (client.events(), false);
    chaos.cut(Cut::Reset);
    while !resumed {
        resumed = matches!(events.recv_timeout(LONG).unwrap(), Event::Resumed { .. });
    }
    ping(&server, &client);
    client.close(CloseCode::application(7), "a reason\nin two lines").unwrap();
    while server.close_reason().is_none() {
        thread::yield_now();
    }
    drop(server);
    let address = listener.local_addr();
    drop(listener);

    let life = ["connected", "suspended", "resumed", "closed"];
    let at_client = recorder.of(4, "peer", &chaos.addr.to_string());
    assert_eq!(whats(&at_client), life);
    assert_eq!(at_client[0].span["side"], "client");
    assert!(at_client[1].fields["cause"].contains("lost"), "{at_client:?}");
    assert!(at_client[2].fields["attempts"].parse::<u32>().unwrap() >= 1);
    assert!(!at_client[2].fields["after"].is_empty());
    assert!(at_client[3].fields["cause"].contains("closed by this side"), "{at_client:?}");
    let at_server = recorder.of(4, "access", "alice");
    assert_eq!(whats(&at_server), life);
    assert_eq!(at_server[0].span["side"], "server");
    let cause = &at_server[3].fields["cause"];
    assert!(cause.contains("a reason\u{FFFD}in two lines"), "{cause}");

    let of_listener = |heard: &Heard| heard.fields.get("address") == Some(&address.to_string());
    let of_listener = recorder.wait_for(2, of_listener);
    assert_eq!(whats(&of_listener), ["listener bound", "listener closed"]);

    let all = recorder.heard.lock().unwrap().iter().fold(String::new(), |mut all, heard| {
        write!(all, "{heard:?}").unwrap();
        all
    });
    assert!(!all.contains(&**key.expose_hex()) && !all.contains("secret"));
}

#[test]
fn a_lazy_connection_is_told_of_once_its_server_is_there() {
    let recorder = recorder();
    let key = Key::generate();
    let listener = Listener::bind(free_address(), Config::new(key.clone())).unwrap();
    let address = listener.local_addr();
    let client = Connection::connect_lazily(address, Config::new(key)).unwrap();
    let server = listener.accept_timeout(LONG).unwrap();
    ping(&client, &server);
    drop((client, server));
    let told = recorder.of(2, "peer", &address.to_string());
    assert_eq!(whats(&told), ["connected", "closed"]);
}

/// Strangers are summed up, at most once a second, and the last are told of without others after them.
#[test]
fn a_herd_of_strangers_is_summed_up() {
    const STRANGERS: u64 = 60;
    let recorder = recorder();
    let listener = Listener::bind(free_address(), Config::new(Key::generate())).unwrap();
    let address = listener.local_addr();
    for _ in 0..STRANGERS {
        drop(TcpStream::connect(address).unwrap());
    }
    let is_ours = |heard: &Heard| {
        heard.what == "turned away" && heard.fields.get("address") == Some(&address.to_string())
    };
    let count = |told: &[Heard]| {
        told.iter().map(|told| told.fields["strangers"].parse::<u64>().unwrap()).sum::<u64>()
    };
    let mut told = recorder.wait_for(1, is_ours);
    while count(&told) < STRANGERS {
        told = recorder.wait_for(told.len() + 1, is_ours);
    }
    assert_eq!(count(&told), STRANGERS);
    let pauses: Vec<_> = told.windows(2).map(|two| two[1].at - two[0].at).collect();
    assert!(!pauses.is_empty());
    // The passes of the loop are a second apart; when the subscriber is called varies a little.
    assert!(pauses.iter().all(|pause| *pause > Duration::from_millis(900)), "{pauses:?}");
    drop(listener);
}

#[test]
fn a_client_that_has_no_right_to_come_is_counted_apart() {
    let recorder = recorder();
    let key = Key::generate();
    let config = |key: &Key| Config::new(key.clone()).connect_timeout(Duration::from_millis(300));
    let listener = Listener::bind(free_address(), config(&key).max_connections(1)).unwrap();
    let address = listener.local_addr();
    let client = Connection::connect(address, config(&key)).unwrap();
    assert!(Connection::connect(address, config(&key)).is_err());
    let is_ours = |heard: &Heard| heard.fields.get("address") == Some(&address.to_string());
    let told = recorder.wait_for(2, is_ours);
    assert_eq!(told[1].what, "turned away");
    assert_eq!((&*told[1].fields["strangers"], &*told[1].fields["clients"]), ("0", "1"));
    drop((listener, client));
}

#[test]
fn a_subscriber_that_panics_ends_no_connection() {
    let recorder = recorder();
    recorder.act("panics", |heard| panic!("at {}", heard.what));
    let (listener, chaos, client, server, _) = by_chaos("panics");
    // It panicked at the first event; from now on at the next.
    recorder.act("panics", |heard| panic!("at {}", heard.what));
    ping(&client, &server);
    let events = server.events();
    chaos.cut(Cut::Reset);
    while !matches!(events.recv_timeout(LONG).unwrap(), Event::Resumed { .. }) {}
    recorder.act("panics", |heard| panic!("at {}", heard.what));
    ping(&server, &client);
    client.close(CloseCode::NORMAL, "").unwrap();
    recorder.of(4, "access", "panics");
    assert!(recorder.actions.lock().unwrap().get("panics").is_none(), "it has not panicked");
    drop(listener);
}

/// A subscriber may use the connection that it is told of: no lock is held.
#[test]
fn a_subscriber_may_call_the_library() {
    let recorder = recorder();
    let (listener, chaos, client, server, _) = by_chaos("calls");
    ping(&client, &server);
    let (receiver, sender) = (client.receiver(A).unwrap(), server.sender(A).unwrap());
    let events = server.events();
    let (told, was_told) = std::sync::mpsc::channel();
    let listener = Arc::new(listener);
    let also = Arc::clone(&listener);
    recorder.act("calls", move |heard| {
        sender.try_send(&heard.what).unwrap();
        let _ = (events.try_recv(), sender.credit(), sender.peer_is_waiting());
        let other = also.try_accept();
        told.send((server.is_suspended(), server.peer_addr(), other.is_err())).unwrap();
    });
    chaos.cut(Cut::Reset);
    let (suspended, _, _) = was_told.recv_timeout(LONG).unwrap();
    assert!(suspended);
    assert_eq!(&*receiver.recv_timeout(LONG).unwrap(), b"suspended");
}
