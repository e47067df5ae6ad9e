//! TLS 1.3 over a raw socket, with rustls and ring: what a user would take instead of a sealed connection.
//! One stream, in the one thread of its user; AES-256-GCM, as trunkline has.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, ServerConfig, ServerConnection};
use rustls::{SignatureScheme, StreamOwned};

use crate::child;
use crate::plan::Plan;
use crate::plan::rows::Way;
use crate::work::message::Head;
use crate::worlds::blocking::{Channel, Fan, Peer};
use crate::worlds::sockets::{BUFFER, LOOPBACK};

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

pub struct Tls {
    stream: Option<Box<dyn Stream>>,
    way: Way,
}

fn provider() -> Arc<CryptoProvider> {
    let suites = vec![ring::cipher_suite::TLS13_AES_256_GCM_SHA384];
    Arc::new(CryptoProvider { cipher_suites: suites, ..ring::default_provider() })
}

impl Peer for Tls {
    type Channel = Line;
    type Fan = Line;

    fn serve(plan: &Plan) -> Result<Self> {
        let listener = TcpListener::bind(LOOPBACK)?;
        child::announce(&[listener.local_addr()?]);
        let socket = listener.accept()?.0;
        socket.set_nodelay(true)?;
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(
                vec![own.cert.der().clone()],
                PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()).into(),
            )?;
        let stream = StreamOwned::new(ServerConnection::new(Arc::new(config))?, socket);
        Ok(Self { stream: Some(Box::new(stream)), way: plan.way })
    }

    fn connect(plan: &Plan, to: &[SocketAddr]) -> Result<Self> {
        let socket = TcpStream::connect(to[0])?;
        socket.set_nodelay(true)?;
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Any(provider())))
            .with_no_client_auth();
        let name = ServerName::try_from("localhost")?;
        let stream = StreamOwned::new(ClientConnection::new(Arc::new(config), name)?, socket);
        Ok(Self { stream: Some(Box::new(stream)), way: plan.way })
    }

    fn channels(&mut self, plan: &Plan) -> Result<Vec<Line>> {
        if plan.channels != 1 {
            bail!("one stream");
        }
        Ok(vec![self.fan(plan)?])
    }

    fn fan(&mut self, plan: &Plan) -> Result<Line> {
        let stream = self.stream.take().context("no stream")?;
        let (out, buffered) = (Vec::with_capacity(BUFFER), self.way == Way::Buffered);
        Ok(Line { stream, out, buffered, read: vec![0; BUFFER], ends: (0, 0), message: vec![0; plan.size] })
    }
}

pub struct Line {
    stream: Box<dyn Stream>,
    out: Vec<u8>,
    buffered: bool,
    read: Vec<u8>,
    /// What of `read` is there.
    ends: (usize, usize),
    message: Vec<u8>,
}

impl Channel for Line {
    #[inline]
    fn send(&mut self, message: &[u8]) -> Result<()> {
        if !self.buffered {
            self.stream.write_all(message)?;
            return Ok(self.stream.flush()?);
        }
        if self.out.len() + message.len() > BUFFER {
            self.flush()?;
        }
        self.out.extend_from_slice(message);
        Ok(())
    }

    fn send_large(&mut self, message: &Bytes) -> Result<()> {
        self.send(message)
    }

    fn flush(&mut self) -> Result<()> {
        self.stream.write_all(&self.out)?;
        self.out.clear();
        Ok(self.stream.flush()?)
    }

    #[inline]
    fn recv(&mut self, len: usize) -> Result<Head> {
        if len > self.message.len() {
            self.message.resize(len, 0);
        }
        let mut have = 0;
        while have < len {
            if self.ends.0 == self.ends.1 {
                self.ends = (0, self.stream.read(&mut self.read)?);
                if self.ends.1 == 0 {
                    bail!("the stream has ended");
                }
            }
            let take = (len - have).min(self.ends.1 - self.ends.0);
            self.message[have..have + take].copy_from_slice(&self.read[self.ends.0..self.ends.0 + take]);
            have += take;
            self.ends.0 += take;
        }
        Ok(Head::parse(&self.message))
    }
}

impl Fan for Line {
    fn send_on(&mut self, _: u32, message: &[u8]) -> Result<()> {
        self.send(message)
    }

    fn flush_all(&mut self) -> Result<()> {
        self.flush()
    }

    fn recv_any(&mut self, len: usize) -> Result<Head> {
        self.recv(len)
    }
}

/// Takes every certificate: what is measured is what comes after.
#[derive(Debug)]
struct Any(Arc<CryptoProvider>);

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// What AES-256-GCM does alone on one core, in GB/s: the ceiling of every sealed row.
pub fn ceiling() -> f64 {
    use ::ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
    let key = UnboundKey::new(&AES_256_GCM, &[7; 32]).map(LessSafeKey::new).expect("32 bytes");
    let mut record = vec![0; 65_519];
    let mut best = 0.0_f64;
    for _ in 0..5 {
        let begun = std::time::Instant::now();
        for number in 0..500_u64 {
            let mut nonce = [0; 12];
            nonce[4..].copy_from_slice(&number.to_be_bytes());
            let nonce = Nonce::assume_unique_for_key(nonce);
            let tag = key.seal_in_place_separate_tag(nonce, Aad::empty(), &mut record);
            std::hint::black_box(tag.expect("it is short").as_ref());
        }
        best = best.max(500.0 * record.len() as f64 / begun.elapsed().as_secs_f64() / 1e9);
    }
    best
}
