//! A kernel of the example `repl` on its own, and consoles for it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::process::{Process, example};

pub struct Kernel {
    pub process: Process,
    pub address: SocketAddr,
    pub folder: tempfile::TempDir,
}

impl Kernel {
    pub fn start() -> Self {
        Self::with(&[])
    }

    pub fn with(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let process = launch(&folder.path().join("key"), options);
        Self { address: process.address(), process, folder }
    }

    /// As somebody does who finds that it is dead: with the same key, and nothing that was there.
    pub fn start_again(&mut self) {
        self.process.kill();
        self.process = launch(&self.key_file(), &[]);
        self.address = self.process.address();
    }

    pub fn key_file(&self) -> PathBuf {
        self.folder.path().join("key")
    }

    pub fn console(&self) -> Process {
        self.console_at(self.address, &[])
    }

    /// A console that connects somewhere else, where somebody leads it here.
    pub fn console_at(&self, address: SocketAddr, options: &[&str]) -> Process {
        console(address, &self.key_file(), options)
    }
}

fn launch(key_file: &Path, options: &[&str]) -> Process {
    let mut command = example("repl");
    command.args(["kernel", "--listen", "127.0.0.1:0", "--key-file"]).arg(key_file).args(options);
    Process::start(&mut command)
}

pub fn console(address: SocketAddr, key_file: &Path, options: &[&str]) -> Process {
    let mut command = example("repl");
    command.args(["console", "--connect", &address.to_string(), "--key-file"]).arg(key_file).args(options);
    Process::start(&mut command)
}
