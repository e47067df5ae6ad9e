//! A kernel in a process that has other things to do: the sockets and the hub are in it, too.

use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use parking_lot::Mutex;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use trunkline::{CloseCode, Config, Connection, Key};
use trunkline_hub::Running;
use trunkline_kernel::kernel::Kernel;

use super::host::{LAST_OUTPUT, bind, serve};
use crate::arguments::Where;
use crate::errors::Raised;
use crate::wait;

/// What lets consoles in. When it is dropped they are gone.
pub(crate) struct Embedded(Mutex<Option<Running>>);

impl Embedded {
    /// Listens. Returns the connection for the kernel as well.
    pub(crate) fn serve(py: Python<'_>, address: Where, config: Config) -> PyResult<(Self, Connection)> {
        let listener = wait::detached(py, || bind(address, config)).map_err(|error| error.raised(py))?;
        // Both ends are in this process, so the key is seen by no other.
        let pair = wait::detached(py, || Connection::pair(Config::new(Key::generate())));
        let (link, upstream) = pair.map_err(|error| error.raised(py))?;
        let hub = serve(upstream, listener).map_err(|error| PyOSError::new_err(error.to_string()))?;
        Ok((Self(Mutex::new(Some(hub))), link))
    }

    /// Where it listens, until its end.
    pub(crate) fn address(&self) -> Option<String> {
        self.0.lock().as_ref().map(|hub| hub.listener().address().to_string())
    }

    pub(crate) fn consoles(&self) -> usize {
        self.0.lock().as_ref().map_or(0, Running::clients)
    }

    /// Ends the kernel, and gives the consoles what they have not received yet, for a while.
    pub(crate) fn end(&self, py: Python<'_>, kernel: Kernel, code: i32) -> PyResult<()> {
        let Some(hub) = self.0.lock().take() else { return Ok(()) };
        let (tell, told) = mpsc::channel();
        thread::Builder::new().name("trunkline-end".to_owned()).spawn(move || {
            kernel.end(code);
            let _ = tell.send(());
        })?;
        let (tell_all, all_told) = mpsc::channel();
        thread::Builder::new().name("trunkline-hub-end".to_owned()).spawn(move || {
            // A console that takes nothing keeps the kernel from having said everything.
            if told.recv_timeout(LAST_OUTPUT).is_ok() {
                hub.wait();
            } else {
                hub.shut_down(CloseCode::SHUTTING_DOWN, "the application goes on");
            }
            let _ = tell_all.send(());
        })?;
        let all_told = Mutex::new(all_told);
        wait::wait(py, None, |look| {
            let all_told = all_told.lock();
            match look {
                Some(look) => {
                    let left = look.saturating_duration_since(Instant::now());
                    (all_told.recv_timeout(left) != Err(mpsc::RecvTimeoutError::Timeout)).then_some(())
                }
                None => all_told.recv().ok(),
            }
        })
        .map(drop)
    }
}
