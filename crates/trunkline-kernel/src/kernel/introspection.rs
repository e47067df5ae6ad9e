//! The service that answers questions while the interpreter runs.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver as Inbox, Select, Sender as Outlet, bounded, unbounded};
use trunkline::{
    ChannelError, ChannelId, ChannelSet, Connection, Disconnect, Priority, Received, Receiver, RecvError,
    Sender, TryRecvError, TrySendError,
};

use super::panic_text::panic_text;
use super::settings::{Introspect, Settings};
use crate::layout::{Answer, INTROSPECTION, Operation, Reply, Request};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many questions are answered at a time.
const WORKERS: usize = 4;
/// How many more wait for a thread.
const MOST_QUEUED: usize = 256;
/// How many answers wait for a console that does not read them, for each of its channels.
const MOST_UNREAD: usize = 16;
/// The code with which such a channel is reset.
const UNREAD: u32 = 260;

/// Answers the questions of one console after the other.
pub(super) struct Introspection {
    introspect: Arc<dyn Introspect>,
    pool: Pool,
}

impl Introspection {
    pub(super) fn new(settings: &Settings) -> Self {
        Self { introspect: Arc::clone(&settings.introspect), pool: Pool::default() }
    }

    /// Starts to answer the questions of a console, until its connection is over.
    pub(super) fn serve(&self, connection: &Connection) -> Result<(), ChannelError> {
        let channels: ChannelSet = std::iter::once(INTROSPECTION)
            .chain((64..=126).map(ChannelId::new))
            .filter(|channel| {
                connection.may_receive().contains(*channel) && connection.may_send().contains(*channel)
            })
            .collect();
        let requests = connection.receiver(channels)?;
        let (outlet, results) = unbounded();
        let mut conversations = Conversations {
            connection: connection.clone(),
            requests,
            introspect: Arc::clone(&self.introspect),
            pool: self.pool.clone(),
            outlet,
            results,
            asked: BTreeMap::new(),
            queued: VecDeque::new(),
            next: 0,
            answers: BTreeMap::new(),
        };
        let serve = move || {
            // A panic here is a fault of this crate. It ends the turn, and never the service.
            while catch_unwind(AssertUnwindSafe(|| conversations.turn())).unwrap_or(true) {}
        };
        // Without a thread there are no answers, and everything else goes on.
        drop(thread::Builder::new().name("trunkline-introspect".to_owned()).spawn(serve));
        Ok(())
    }
}

/// The questions of one console: on the introspection channel, and on those that a hub lends.
struct Conversations {
    connection: Connection,
    requests: Receiver,
    introspect: Arc<dyn Introspect>,
    pool: Pool,
    outlet: Outlet<(u64, Answer)>,
    results: Inbox<(u64, Answer)>,
    /// What is being answered, by a number of this side's.
    asked: BTreeMap<u64, Asked>,
    /// Of these, what no thread has begun.
    queued: VecDeque<(u64, Job)>,
    next: u64,
    answers: BTreeMap<ChannelId, Answers>,
}

struct Asked {
    channel: ChannelId,
    id: u64,
    until: Instant,
}

/// The way back of a channel.
struct Answers {
    sender: Sender,
    /// They wait for room.
    unread: VecDeque<Vec<u8>>,
    /// The console has ended its run: the answers end too.
    ending: bool,
}

impl Conversations {
    /// Returns `false` when the connection is over.
    fn turn(&mut self) -> bool {
        while let Ok((number, answer)) = self.results.try_recv() {
            if let Some(asked) = self.asked.remove(&number) {
                self.answer(asked.channel, &answer);
            }
        }
        self.give_up(Instant::now());
        self.run_queued();
        self.send_all();
        match self.requests.try_recv_any() {
            Ok(Received::Message(message)) => self.ask(message.channel(), &message),
            Ok(Received::Finished(channel) | Received::Reset { channel, .. }) => self.end(channel),
            Ok(_) | Err(TryRecvError::Disconnected(RecvError::Finished)) => {}
            Err(TryRecvError::Empty) => self.wait(),
            Err(_) => return false,
        }
        true
    }

    fn ask(&mut self, channel: ChannelId, message: &[u8]) {
        let request = match Request::try_from(message) {
            Ok(request) => request,
            Err(error) => return self.answer(channel, &Answer::error(error.id, error.why)),
        };
        let (id, number) = (request.id, self.next);
        self.next += 1;
        let (introspect, outlet) = (Arc::clone(&self.introspect), self.outlet.clone());
        let pool = self.pool.clone();
        let job = Job(Box::new(move || {
            let answer = answer(&*introspect, id, &request.operation);
            // Before the answer, which wakes what waits for a thread.
            pool.done();
            // A console that is gone needs no answer.
            drop(outlet.send((number, answer)));
        }));
        if self.queued.len() < MOST_QUEUED {
            self.asked.insert(number, Asked { channel, id, until: Instant::now() + PATIENCE });
            self.queued.push_back((number, job));
        } else {
            let why = format!("{MOST_QUEUED} other questions wait for an answer; ask again");
            self.answer(channel, &Answer::error(Some(id), why));
        }
    }

    /// Gives the threads what they have time for.
    fn run_queued(&mut self) {
        while let Some((number, job)) = self.queued.pop_front() {
            // One that was given up needs no thread any more.
            if self.asked.contains_key(&number)
                && let Err(job) = self.pool.run(job)
            {
                return self.queued.push_front((number, job));
            }
        }
    }

    /// Answers for those that take too long.
    fn give_up(&mut self, now: Instant) {
        // The times grow with the numbers.
        while let Some(first) = self.asked.first_entry().filter(|first| first.get().until <= now) {
            let Asked { channel, id, .. } = first.remove();
            let why = format!("the kernel cannot answer now: nothing within {} s", PATIENCE.as_secs());
            self.answer(channel, &Answer::error(Some(id), why));
        }
    }

    fn answer(&mut self, channel: ChannelId, answer: &Answer) {
        if !self.answers.contains_key(&channel) {
            let Ok(sender) = self.connection.sender_with(channel, Priority::Urgent) else { return };
            let answers = Answers { sender, unread: VecDeque::new(), ending: false };
            self.answers.insert(channel, answers);
        }
        let Some(answers) = self.answers.get_mut(&channel) else { return };
        let mut message = answer.to_message();
        if message.len() > answers.sender.max_message() as usize {
            message = Answer::error(answer.id, "the answer is larger than the console takes").to_message();
        }
        answers.unread.push_back(message);
        if answers.unread.len() > MOST_UNREAD {
            // It fails only if there is no console to be told.
            drop(answers.sender.reset(UNREAD));
            self.answers.remove(&channel);
        }
    }

    fn send_all(&mut self) {
        self.answers.retain(|channel, answers| {
            while let Some(message) = answers.unread.front() {
                match answers.sender.try_send(message) {
                    Err(TrySendError::Full { .. }) => return true,
                    // The console wants no answers any more, in this run.
                    Err(TrySendError::Disconnected { cause: Disconnect::Stopped(_), .. }) => return false,
                    Ok(()) | Err(_) => drop(answers.unread.pop_front()),
                }
            }
            // Dropping the last sender ends the run, behind the last answer.
            !answers.ending || self.asked.values().any(|asked| asked.channel == *channel)
        });
    }

    /// A conversation on a channel that a hub has lent is over. The answers end when all are given.
    fn end(&mut self, channel: ChannelId) {
        if channel == INTROSPECTION {
            // It is the console's own, and its next question may come at any time.
            return;
        }
        match self.answers.get_mut(&channel) {
            Some(answers) => answers.ending = true,
            // A hub waits for the end of a conversation in which nothing was answered, too.
            None => {
                if let Ok(sender) = self.connection.sender_with(channel, Priority::Urgent) {
                    let answers = Answers { sender, unread: VecDeque::new(), ending: true };
                    self.answers.insert(channel, answers);
                }
            }
        }
    }

    fn wait(&self) {
        let mut tokens = vec![self.requests.ready()];
        let held_up = self.answers.values().filter(|answers| !answers.unread.is_empty());
        tokens.extend(held_up.map(|answers| answers.sender.ready()));
        let mut select = Select::new();
        for token in &tokens {
            select.recv(token);
        }
        let result = select.recv(&self.results);
        // Whichever it is, the next turn sees; what is in `results` is not to be taken here.
        let until = self.asked.values().next().map(|asked| asked.until);
        let ready = match until {
            Some(until) => select.ready_deadline(until).ok(),
            None => Some(select.ready()),
        };
        if let Some(at) = ready.filter(|at| *at != result) {
            let _ = tokens[at].try_recv();
        }
    }
}

fn answer(introspect: &dyn Introspect, id: u64, operation: &Operation) -> Answer {
    let reply = match catch_unwind(AssertUnwindSafe(|| introspect.answer(operation))) {
        Ok(Ok(reply)) => reply,
        Ok(Err(error)) => Reply::Error { error },
        Err(panic) => Reply::Error { error: format!("the kernel panicked over it: {}", panic_text(&*panic)) },
    };
    Answer { id: Some(id), reply }
}

/// Threads for questions, each of which may block.
#[derive(Clone)]
struct Pool {
    jobs: Outlet<Job>,
    queue: Inbox<Job>,
    /// Threads that have something to do, or will at once.
    busy: Arc<AtomicUsize>,
    threads: Arc<AtomicUsize>,
}

struct Job(Box<dyn FnOnce() + Send>);

impl Default for Pool {
    fn default() -> Self {
        let (jobs, queue) = bounded(WORKERS);
        Self { jobs, queue, busy: Arc::default(), threads: Arc::default() }
    }
}

impl Pool {
    /// Runs a job on a thread of the pool, or returns it if all of them are busy.
    fn run(&self, job: Job) -> Result<(), Job> {
        let busy = self.busy.fetch_add(1, Ordering::SeqCst);
        if busy >= WORKERS || (busy >= self.threads.load(Ordering::SeqCst) && !self.grow()) {
            self.done();
            return Err(job);
        }
        // There is room for as many jobs as there are threads.
        self.jobs.try_send(job).map_err(|refused| {
            self.done();
            refused.into_inner()
        })
    }

    /// A job is over.
    fn done(&self) {
        self.busy.fetch_sub(1, Ordering::SeqCst);
    }

    fn grow(&self) -> bool {
        let queue = self.queue.clone();
        let work = move || {
            for Job(job) in queue {
                job();
            }
        };
        let started = thread::Builder::new().name("trunkline-answers".to_owned()).spawn(work).is_ok();
        self.threads.fetch_add(usize::from(started), Ordering::SeqCst);
        started
    }
}
