//! Throughput and latency of the library itself, both ends in one process, and its pieces one by
//! one, with their allocations: `cargo bench`.
//!
//! A comparison with other libraries, in two processes, is the crate `benches/peers`.

use std::cell::RefCell;
use std::sync::mpsc;
use std::thread;

use bytes::Bytes;
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use trunkline::bench::End;
use trunkline::{ChannelId, ChannelSet, Config, Connection, Key, Listener, Receiver};

#[global_allocator]
static ALLOC: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}

const CHANNEL: ChannelId = ChannelId::new(1);
const BACK: ChannelId = ChannelId::new(2);

fn loopback() -> (Connection, Connection) {
    let key = Key::generate();
    let listener = Listener::bind("127.0.0.1:0", Config::new(key.clone())).unwrap();
    let client = Connection::connect(listener.local_addr(), Config::new(key)).unwrap();
    (client, listener.accept().unwrap())
}

/// A thread that takes so many messages each time it is told to, and says when it has them.
fn taker(receiver: Receiver) -> impl FnMut(usize) -> Box<dyn FnOnce()> {
    let (tell, told) = mpsc::channel::<(usize, mpsc::Sender<()>)>();
    thread::spawn(move || {
        for (count, done) in told {
            for _ in 0..count {
                divan::black_box(receiver.recv().unwrap());
            }
            let _ = done.send(());
        }
    });
    move |count| {
        let (done, wait) = mpsc::channel();
        tell.send((count, done)).unwrap();
        Box::new(move || wait.recv().unwrap())
    }
}

/// 16-byte messages one way: one `send` and one `recv` each.
#[divan::bench(sample_count = 20)]
fn small(bencher: Bencher) {
    const COUNT: usize = 500_000;
    let (here, there) = loopback();
    let sender = here.sender(CHANNEL).unwrap();
    let mut taker = taker(there.receiver(CHANNEL).unwrap());
    bencher.counter(ItemsCount::new(COUNT)).bench_local(|| {
        let done = taker(COUNT);
        for _ in 0..COUNT {
            sender.send([7; 16]).unwrap();
        }
        done();
    });
}

/// 64 KiB messages one way, not copied by the sender.
#[divan::bench(sample_count = 20)]
fn large(bencher: Bencher) {
    const COUNT: usize = 2_000;
    let (here, there) = loopback();
    let sender = here.sender(CHANNEL).unwrap();
    let mut taker = taker(there.receiver(CHANNEL).unwrap());
    let message = Bytes::from(vec![7; 65_536]);
    bencher.counter(BytesCount::new(COUNT * message.len())).bench_local(|| {
        let done = taker(COUNT);
        for _ in 0..COUNT {
            sender.send_bytes(message.clone()).unwrap();
        }
        done();
    });
}

/// 256-byte messages round robin on 128 channels, one receiver for all.
#[divan::bench(sample_count = 20)]
fn many(bencher: Bencher) {
    const ROUNDS: usize = 1_000;
    let (here, there) = loopback();
    let senders: Vec<_> = ChannelSet::ALL.iter().map(|channel| here.sender(channel).unwrap()).collect();
    let mut taker = taker(there.receiver(ChannelSet::ALL).unwrap());
    bencher.counter(ItemsCount::new(ROUNDS * 128)).bench_local(|| {
        let done = taker(ROUNDS * 128);
        for _ in 0..ROUNDS {
            for sender in &senders {
                sender.send([7; 256]).unwrap();
            }
        }
        done();
    });
}

/// A 16-byte request and its reply.
#[divan::bench(sample_count = 100, sample_size = 100)]
fn ping(bencher: Bencher) {
    let (here, there) = loopback();
    thread::spawn(move || {
        let (receiver, sender) = (there.receiver(CHANNEL).unwrap(), there.sender(BACK).unwrap());
        while let Ok(message) = receiver.recv() {
            if sender.send(message).is_err() {
                break;
            }
        }
    });
    let (sender, receiver) = (here.sender(CHANNEL).unwrap(), here.receiver(BACK).unwrap());
    bencher.bench_local(|| {
        sender.send([7; 16]).unwrap();
        receiver.recv().unwrap()
    });
}

/// What the pieces work on: a batch of 16-byte messages on its way from one end to the other.
struct Way {
    here: End,
    there: End,
    wire: Vec<u8>,
    answer: Vec<u8>,
}

/// Messages of one batch, which one read brings.
const BATCH: usize = 5000;

impl Way {
    fn new() -> RefCell<Self> {
        let way =
            Self { here: End::new(false), there: End::new(false), wire: Vec::new(), answer: Vec::new() };
        let way = RefCell::new(way);
        // Until every buffer has been used once.
        for _ in 0..100 {
            let way = &mut *way.borrow_mut();
            way.encode();
            way.drain();
            way.parse();
            way.hand_over();
        }
        way
    }

    fn encode(&mut self) {
        (0..BATCH).for_each(|_| self.here.encode(&[7; 16]));
    }

    fn drain(&mut self) {
        self.here.drain();
        self.wire.clear();
        self.here.write(&mut self.wire);
    }

    fn parse(&mut self) {
        self.there.parse(&self.wire);
    }

    /// To the receiver, and the credit back.
    fn hand_over(&mut self) {
        self.there.hand_over();
        while let Some(message) = self.there.take() {
            divan::black_box(message);
        }
        self.there.drain();
        self.answer.clear();
        self.there.write(&mut self.answer);
        self.here.receive(&self.answer);
    }
}

/// Measures the step at `measured` of the four, with the others made around it.
fn piece(bencher: Bencher, measured: usize) {
    const STEPS: [fn(&mut Way); 4] = [Way::encode, Way::drain, Way::parse, Way::hand_over];
    let way = Way::new();
    let first = RefCell::new(true);
    bencher
        .counter(ItemsCount::new(BATCH))
        .with_inputs(|| {
            let way = &mut *way.borrow_mut();
            if !first.replace(false) {
                STEPS[measured + 1..].iter().for_each(|step| step(way));
            }
            STEPS[..measured].iter().for_each(|step| step(way));
        })
        .bench_local_values(|()| STEPS[measured](&mut way.borrow_mut()));
}

/// `send` of a batch, into the send queue.
#[divan::bench(sample_count = 100, sample_size = 1)]
fn piece_1_encode(bencher: Bencher) {
    piece(bencher, 0);
}

/// The batch out of the send queue, into a socket's bytes.
#[divan::bench(sample_count = 100, sample_size = 1)]
fn piece_2_drain(bencher: Bencher) {
    piece(bencher, 1);
}

/// One read taken apart.
#[divan::bench(sample_count = 100, sample_size = 1)]
fn piece_3_parse(bencher: Bencher) {
    piece(bencher, 2);
}

/// Into the receive queue and out of it, message by message, and the credit back to the sender.
#[divan::bench(sample_count = 100, sample_size = 1)]
fn piece_4_hand_over(bencher: Bencher) {
    piece(bencher, 3);
}
