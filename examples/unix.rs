//! A program and its control on one machine, over a Unix socket: no port, and no other user.
//!
//! `cargo run --example unix` starts both sides; they meet at a path that only this user can reach.

#[cfg(unix)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use std::os::unix::fs::DirBuilderExt;

    use trunkline::{ChannelId, Config, Connection, Key, Listener};

    const CONTROL: ChannelId = ChannelId::new(0);
    const STATUS: ChannelId = ChannelId::new(1);

    // A directory that only its owner can write: the library takes no other.
    let directory = std::env::temp_dir().join(format!("trunkline-{}", std::process::id()));
    std::fs::DirBuilder::new().mode(0o700).create(&directory)?;
    let path = directory.join("program.sock");

    // The user id keeps other users out; the key says which of this user's programs it is.
    let key = Key::generate();
    let listener = Listener::bind_unix(&path, Config::new(key.clone()))?;
    let program = std::thread::spawn(move || -> Result<(), trunkline::RecvError> {
        let connection = listener.accept().expect("the listener is open");
        if let Some(process) = connection.peer_process() {
            println!("program: process {} has connected", process.id());
        }
        let status = connection.sender(STATUS).expect("the client may receive it");
        let control = connection.receiver(CONTROL).expect("nothing else takes it");
        for command in control.iter() {
            println!("program: {}", String::from_utf8_lossy(&command));
            status.send("done").expect("the client is there");
        }
        Ok(())
    });

    let connection = Connection::connect_unix(&path, Config::new(key))?;
    connection.sender(CONTROL)?.send("reload")?;
    let status = connection.receiver(STATUS)?.recv()?;
    println!("control: {}", String::from_utf8_lossy(&status));
    drop(connection);

    program.join().expect("it does not panic")?;
    std::fs::remove_dir(&directory)?;
    Ok(())
}

#[cfg(not(unix))]
fn main() {
    println!("this system has no Unix sockets");
}
