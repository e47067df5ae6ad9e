//! What peers of both worlds set up alike.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use tokio::net::{TcpListener, TcpStream};

use crate::child;

pub const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The application-side buffer of the rows that have one.
pub const BUFFER: usize = 64 << 10;

/// The one socket of those that are handed theirs.
pub async fn accept_one() -> Result<TcpStream> {
    let listener = TcpListener::bind(LOOPBACK).await?;
    child::announce(&[listener.local_addr()?]);
    let (socket, _) = listener.accept().await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

pub async fn connect_one(to: SocketAddr) -> Result<TcpStream> {
    let socket = TcpStream::connect(to).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}
