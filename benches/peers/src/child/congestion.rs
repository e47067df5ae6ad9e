//! One congestion control for all peers. The system's default may be bbr, which paces loopback;
//! and a peer measured under another one than its neighbour is not measured beside it.

use std::fs;
use std::os::fd::{BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use socket2::{Domain, SockRef, Socket, Type};

/// The one that all sockets get: the first of these that this process may set.
pub fn choose() -> Option<String> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).ok()?;
    let may = |name: &&str| socket.set_tcp_congestion(name.as_bytes()).is_ok();
    ["cubic", "reno"].into_iter().find(may).map(str::to_owned)
}

/// Sets it on every connected TCP socket of this process and reads it back. Libraries own their
/// sockets and have no option for it (libzmq among them), so this goes by file descriptor.
pub fn apply(name: &str) -> Result<usize> {
    let until = Instant::now() + Duration::from_secs(1);
    loop {
        let set = tcp_sockets().into_iter().filter(|&fd| set(fd, name)).count();
        if set > 0 {
            return Ok(set);
        }
        if Instant::now() > until {
            bail!("no connected TCP socket would take congestion control {name}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn set(fd: RawFd, name: &str) -> bool {
    // SAFETY: the descriptor was listed a moment ago; should a thread have closed it since, the
    // call fails or touches another socket of ours, which is to be set as well.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let socket = SockRef::from(&fd);
    if socket.peer_addr().is_err() || socket.set_tcp_congestion(name.as_bytes()).is_err() {
        return false;
    }
    let back = socket.tcp_congestion().unwrap_or_default();
    back.split(|&byte| byte == 0).next() == Some(name.as_bytes())
}

fn tcp_sockets() -> Vec<RawFd> {
    let Ok(dir) = fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let is_socket = |path: &std::path::Path| {
        fs::read_link(path).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"))
    };
    dir.flatten()
        .filter(|entry| is_socket(&entry.path()))
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}
