//! One end of a conversation after the handshake, and what it sends.

use std::collections::VecDeque;
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::keys::{be32, be64};
use super::ledger::{Entry, Ledger};
use super::reading::Event;
use super::stream::{WireError, violation};
use super::*;

use crate::support::free_address;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Client,
    Server,
}

/// One end of a conversation, after the handshake, and over as many sockets as its session has.
///
/// Reading keeps the books: a peer that sends more than it was granted, on a channel it may not
/// use, a message larger than we said, an ACK of what was never sent, or anything but ACK after its
/// CLOSE, is a [`WireError::Violation`]; `books` has all of it.
pub struct RawPeer {
    pub stream: TcpStream,
    /// Of a sealed socket.
    pub seal: Option<RawSeal>,
    pub role: Role,
    pub key: RawKey,
    /// What the other side told us, seen from here: its window, its largest message, the channels
    /// *we* may send on (`may_send`) and those it may send on (`may_receive`).
    pub accept: Accept,
    /// A server's own Accept, which it repeats when the session is resumed.
    pub own_accept: Option<Accept>,
    /// The terms that we named.
    pub window: u32,
    pub max_message: u32,
    /// What the client asked for.
    pub grace: u32,
    /// The number of the newest ClientProof of the session.
    pub attempt: u32,
    /// Answer each PING that is read. On at first.
    pub auto_pong: bool,
    /// Acknowledge what is read as the page says, while something is being read. On at first.
    pub auto_ack: bool,
    /// Keep the receiver's account of section 3: a message that a test has not taken is held. Off at
    /// first.
    pub auto_credit: bool,
    /// Keep what was sent and received, so that the session can be resumed. On at first.
    pub keep: bool,
    /// What the peer may still send to us, per channel.
    pub receive_credit: Vec<i64>,
    /// What we may still send, per channel.
    pub send_credit: Vec<i64>,
    /// Bytes of the frame stream, each way; those that were received in whole frames.
    pub sent: u64,
    pub received: u64,
    /// The last ACK that came.
    pub acked: Option<u64>,
    /// How many data frames came.
    pub data_frames: u64,
    /// FINISH and RESET per channel, each way.
    pub ends_received: Vec<u32>,
    pub ends_sent: Vec<u32>,
    /// Whole messages per channel, each way.
    pub messages_received: Vec<u32>,
    pub messages_sent: Vec<u32>,
    /// The peer's CLOSE.
    pub closed: Option<(u16, String)>,
    /// The offset behind our own CLOSE.
    pub sent_close: Option<u64>,
    pub(super) resumed: bool,
    /// The highest ACK that we have sent, and when the next is due.
    pub(super) told: u64,
    pub(super) ack_due: Option<Instant>,
    pub(super) ledger: Ledger,
    pub(super) pings: VecDeque<u64>,
    pub(super) last_stop: Vec<u32>,
    pub(super) last_count: Vec<u32>,
    /// How long the message is that is being received, per channel; and what has come of it.
    pub(super) assembly: Vec<Option<usize>>,
    pub(super) partial: Vec<Option<Vec<u8>>>,
    /// Messages that no test has taken, per channel, each as its length + 32.
    pub(super) held: Vec<i64>,
    pub(super) stash: VecDeque<Event>,
    pub(super) buffer: Vec<u8>,
    pub(super) start: usize,
    /// Everything that was sent, from `history_start` on, and everything that was received.
    pub(super) history: Vec<u8>,
    pub(super) history_start: u64,
    pub(super) heard: Vec<u8>,
    /// How many of the next bytes have come before, over an older socket.
    pub(super) repeated: usize,
}

impl RawPeer {
    pub(super) fn as_client(handshake: ClientHandshake, accept: Accept) -> Self {
        let proof = &handshake.proof;
        let resumed = !proof.is_new();
        let mut peer = Self {
            window: proof.window,
            max_message: proof.max_message,
            grace: proof.grace,
            attempt: proof.attempt,
            auto_ack: handshake.auto_ack,
            receive_credit: vec![i64::from(proof.window); 128],
            sent: accept.offset,
            received: proof.offset,
            ..Self::new(handshake.stream, Role::Client, handshake.key, accept)
        };
        peer.history_start = peer.sent;
        if resumed {
            // A peer that begins in the middle knows nothing of what was before.
            peer.resumed = true;
            peer.ledger.lost = true;
            peer.keep = false;
            peer.receive_credit.fill(MAX_CREDIT);
            peer.send_credit.fill(MAX_CREDIT);
        }
        peer.acknowledge_accept();
        peer
    }

    pub(super) fn as_sealed_client(handshake: SealedClient, accept: Accept) -> Self {
        let SealedClient { mut plain, seal, .. } = handshake;
        let auto_ack = std::mem::replace(&mut plain.auto_ack, false);
        let mut peer = Self::as_client(plain, accept);
        (peer.seal, peer.auto_ack) = (seal, auto_ack);
        peer.acknowledge_accept();
        peer
    }

    pub(super) fn as_server(handshake: ServerHandshake, proof: &ClientProof) -> Self {
        // Seen from this side the roles of the two windows are exchanged.
        let own = handshake.accept;
        let seen = Accept {
            window: proof.window,
            max_message: proof.max_message,
            may_send: own.may_receive,
            may_receive: own.may_send,
            ..own.clone()
        };
        Self {
            window: own.window,
            max_message: own.max_message,
            grace: proof.grace,
            attempt: proof.attempt,
            receive_credit: vec![i64::from(own.window); 128],
            own_accept: Some(own),
            seal: handshake.seal,
            ..Self::new(handshake.stream, Role::Server, handshake.key, seen)
        }
    }

    fn new(stream: TcpStream, role: Role, key: RawKey, accept: Accept) -> Self {
        Self {
            stream,
            seal: None,
            role,
            key,
            own_accept: None,
            window: 0,
            max_message: 0,
            grace: 0,
            attempt: 0,
            auto_pong: true,
            auto_ack: true,
            auto_credit: false,
            keep: accept.grace > 0,
            receive_credit: Vec::new(),
            send_credit: vec![i64::from(accept.window); 128],
            accept,
            sent: 0,
            received: 0,
            acked: None,
            data_frames: 0,
            ends_received: vec![0; 128],
            ends_sent: vec![0; 128],
            messages_received: vec![0; 128],
            messages_sent: vec![0; 128],
            closed: None,
            sent_close: None,
            resumed: false,
            told: 0,
            ack_due: None,
            ledger: Ledger::default(),
            pings: VecDeque::new(),
            last_stop: vec![0; 128],
            last_count: vec![0; 128],
            assembly: vec![None; 128],
            partial: vec![None; 128],
            held: vec![0; 128],
            stash: VecDeque::new(),
            buffer: Vec::new(),
            start: 0,
            history: Vec::new(),
            history_start: 0,
            heard: Vec::new(),
            repeated: 0,
        }
    }

    /// A handshake with nothing unusual about it.
    pub fn connect(addr: SocketAddr, key: &RawKey) -> Self {
        ClientHandshake::new(addr, key).finish().expect("the handshake succeeds")
    }

    pub fn session(&self) -> [u8; 16] {
        self.accept.session
    }

    /// Keeps no copy of anything, and follows nothing that is sent: for tests of memory.
    pub fn forgetful(mut self) -> Self {
        self.keep = false;
        self.ledger.lost = true;
        self
    }

    // -- sending ------------------------------------------------------------

    /// Any bytes; the books only follow them.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        self.write(bytes)?;
        self.enter_sent(bytes);
        Ok(())
    }

    /// To the socket, sealed if it is.
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match &mut self.seal {
            Some(seal) => {
                let records = seal.seal(bytes);
                self.stream.write_all(&records)
            }
            None => self.stream.write_all(bytes),
        }
    }

    /// Enters in the books what was sent as a part of the frame stream by other means.
    pub fn enter_sent(&mut self, bytes: &[u8]) {
        self.sent += bytes.len() as u64;
        if self.keep {
            self.history.extend_from_slice(bytes);
        }
        let mut ledger = std::mem::take(&mut self.ledger);
        let mut lost = false;
        ledger.feed(bytes, |entry| lost |= !self.enter(entry));
        ledger.lost |= lost;
        self.ledger = ledger;
    }

    /// False if the peer must not go on after it.
    fn enter(&mut self, entry: Entry<'_>) -> bool {
        match entry {
            Entry::Data { channel, more, len } => {
                let at = usize::from(channel);
                self.send_credit[at] -= (len + FRAME_COST) as i64;
                self.messages_sent[at] += u32::from(!more);
            }
            Entry::Control { channel, opcode, body, after } => {
                let at = usize::from(channel);
                match (opcode, body.len()) {
                    (opcode::CREDIT, 4) => self.receive_credit[at] += i64::from(be32(body)),
                    (opcode::FINISH, 0) | (opcode::RESET, 4) => self.ends_sent[at] += 1,
                    (opcode::PING, 8) => self.pings.push_back(be64(body)),
                    (opcode::ACK, 8) => self.told = self.told.max(be64(body)),
                    (opcode::CLOSE, 2..) => self.sent_close = Some(self.sent - after as u64),
                    (opcode::STOP | opcode::PONG | opcode::WAITING | opcode::INTERRUPT | opcode::GAP, _) => {}
                    (opcode::FIRST_EXTENSION.., _) => {}
                    _ => return false,
                }
            }
        }
        true
    }

    /// Any bytes; that the peer has closed already is no error.
    pub fn try_send_bytes(&mut self, bytes: &[u8]) {
        match self.send_bytes(bytes) {
            Ok(()) | Err(WireError::Reset) => {}
            Err(error) => panic!("writing: {error}"),
        }
    }

    /// Any bytes; they belong to the stream even if this socket is over, and are for the next one.
    pub fn send_anyway(&mut self, bytes: &[u8]) {
        let _ = self.write(bytes);
        self.enter_sent(bytes);
    }

    /// One data frame, credit or not.
    pub fn send_data(&mut self, channel: u8, more: bool, payload: &[u8]) {
        self.try_send_bytes(&data(channel, more, payload));
    }

    pub fn grant(&mut self, channel: u8, amount: u32) {
        self.try_send_bytes(&credit(channel, amount));
    }

    /// STOP of the run that is open now, as far as it is known here.
    pub fn stop(&mut self, channel: u8, code: u32) {
        let run = self.ends_received[usize::from(channel)];
        self.try_send_bytes(&stop(channel, code, run));
    }

    /// ACK of everything that has come.
    pub fn acknowledge(&mut self) {
        self.ack_due = None;
        self.try_send_bytes(&ack(self.heard()));
    }

    fn acknowledge_accept(&mut self) {
        if self.auto_ack && self.role == Role::Client && self.accept.grace > 0 {
            self.acknowledge();
        }
    }

    /// A whole message within the credit, waiting for more when it is used up.
    pub fn send_message(&mut self, channel: u8, payload: &[u8]) -> Result<(), WireError> {
        let at = usize::from(channel);
        let deadline = Instant::now() + PATIENCE;
        let mut rest = payload;
        loop {
            let fits = (self.send_credit[at] - FRAME_COST as i64).min(MAX_DATA as i64);
            if fits < 0 || (fits == 0 && !rest.is_empty()) {
                let event = self.event_from_wire(deadline)?;
                if let Event::Close(code, reason) = event {
                    return violation(format!("CLOSE {code} {reason:?} instead of credit"));
                }
                self.stash_unless_credit(event);
                continue;
            }
            let (piece, after) = rest.split_at(rest.len().min(fits as usize));
            self.send_bytes(&data(channel, !after.is_empty(), piece))?;
            rest = after;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    fn stash_unless_credit(&mut self, event: Event) {
        if !matches!(event, Event::Credit(..)) {
            self.stash.push_back(event);
        }
    }

    /// No more from us; the peer sees the end of the stream.
    pub fn shutdown_write(&mut self) {
        // It fails if the peer was faster, which is as good.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The socket is lost: the peer gets a reset, and what is on the way is gone.
    pub fn cut(&mut self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(Some(Duration::ZERO)).expect("SO_LINGER can be set");
        let gone = dangling();
        self.stream = gone;
    }

    /// Whether a frame of our own may go out now, and not into the middle of one that a test sends in
    /// pieces.
    pub(super) fn is_between_frames(&self) -> bool {
        self.ledger.lost || self.ledger.is_between_frames()
    }

    // -- other sockets for the same session ---------------------------------

    /// A handshake that resumes this session: the same terms, all that was received, and the next
    /// attempt, which counts as sent.
    pub fn come_back(&mut self, addr: SocketAddr) -> ClientHandshake {
        self.attempt += 1;
        let mut handshake = ClientHandshake::new(addr, &self.key)
            .window(self.window)
            .max_message(self.max_message)
            .grace(self.grace)
            .session(self.session(), self.heard(), self.attempt);
        handshake.auto_ack = self.auto_ack;
        handshake
    }

    /// Connects again, sealed, and goes on.
    pub fn resume_sealed(&mut self, addr: SocketAddr) -> Result<(), WireError> {
        let mut handshake = SealedClient::from_plain(self.come_back(addr));
        let accept = handshake.shake()?;
        if !accept.same_terms(&self.accept) {
            return violation(format!("{accept:?} of a session with {:?}", self.accept));
        }
        let ours = handshake.plain.proof.offset;
        self.replay_sealed(handshake.plain.stream, handshake.seal, accept.offset, ours)?;
        self.acknowledge_accept();
        Ok(())
    }

    /// Goes on over the socket of a handshake that was accepted; the old one is closed.
    pub fn go_on(&mut self, handshake: ClientHandshake, accept: &Accept) -> Result<(), WireError> {
        if !accept.same_terms(&self.accept) {
            return violation(format!("{accept:?} of a session with {:?}", self.accept));
        }
        self.replay(handshake.stream, accept.offset, handshake.proof.offset)?;
        self.acknowledge_accept();
        Ok(())
    }

    /// Connects again and goes on.
    pub fn resume(&mut self, addr: SocketAddr) -> Result<(), WireError> {
        let mut handshake = self.come_back(addr);
        let accept = handshake.shake()?;
        self.go_on(handshake, &accept)
    }

    /// Checks what a client's ClientProof says of this session.
    pub fn check_proof(&mut self, proof: &ClientProof) -> Result<(), WireError> {
        let terms = (proof.session, proof.window, proof.max_message, proof.grace);
        let known = (self.session(), self.accept.window, self.accept.max_message, self.grace);
        if terms != known {
            return violation(format!("{proof:?} of a session with {known:?}"));
        }
        if proof.attempt != self.attempt + 1 {
            return violation(format!("attempt {} after {}", proof.attempt, self.attempt));
        }
        self.attempt = proof.attempt;
        self.check_offset(proof.offset)
    }

    /// A client comes back to this server: everything up to its ClientProof.
    pub fn hear_again(
        &mut self,
        listener: &TcpListener,
    ) -> Result<(ServerHandshake, ClientProof), WireError> {
        let mut handshake = ServerHandshake::accept(listener, &self.key);
        let proof = handshake.hear()?;
        self.check_proof(&proof)?;
        Ok((handshake.resuming(self), proof))
    }

    /// The same, to the end.
    pub fn serve_again(&mut self, listener: &TcpListener) -> Result<(), WireError> {
        let (mut handshake, proof) = self.hear_again(listener)?;
        handshake.send_accept()?;
        self.replay_sealed(handshake.stream, handshake.seal, proof.offset, handshake.accept.offset)
    }

    fn check_offset(&self, offset: u64) -> Result<(), WireError> {
        let known = self.acked.unwrap_or(0);
        if !(known..=self.sent).contains(&offset) {
            return violation(format!("offset {offset}, where {known} to {} is unacknowledged", self.sent));
        }
        Ok(())
    }

    /// Over a new socket: what was sent, from what the peer named on, and of what it sends, what was
    /// not received before; `ours` is what we named.
    pub fn replay(&mut self, stream: TcpStream, theirs: u64, ours: u64) -> Result<(), WireError> {
        self.replay_sealed(stream, None, theirs, ours)
    }

    /// The same, over a socket that may be sealed.
    pub fn replay_sealed(
        &mut self,
        stream: TcpStream,
        seal: Option<RawSeal>,
        theirs: u64,
        ours: u64,
    ) -> Result<(), WireError> {
        assert!(self.keep, "a session that is resumed needs what was sent");
        self.check_offset(theirs)?;
        self.acked = Some(theirs);
        self.resumed = true;
        self.repeated = (self.heard() - ours) as usize;
        (self.stream, self.seal) = (stream, seal);
        let from = (theirs - self.history_start) as usize;
        let again = self.history[from..].to_vec();
        Ok(self.write(&again)?)
    }
}

/// A socket that leads nowhere.
fn dangling() -> TcpStream {
    let listener = TcpListener::bind(free_address()).expect("loopback");
    TcpStream::connect(listener.local_addr().expect("an address")).expect("connects to itself")
}
