//! The compiled half of the Python package `trunkline`.
//!
//! Each file has one of the package's classes, or one of these:
//!
//! | file | topic |
//! |---|---|
//! | `wait` | how a call waits: the GIL, signals, the end of the interpreter |
//! | `tasks` | how a task of asyncio waits |
//! | `bell` | waking several that wait with one handle |
//! | `link` | what all handles of a connection share; forks |
//! | `take` | what a call of a receiver takes |
//! | `socket` | sockets that a program has made by itself |
//! | `errors` `arguments` `python` | what goes between the two languages |
//! | `kernel` | the kernel and the console of `trunkline.kernel` and `trunkline.console` |

mod arguments;
mod bell;
mod config;
mod connection;
mod errors;
mod events;
mod interrupter;
mod kernel;
mod key;
mod link;
mod listener;
mod message;
mod python;
mod reader;
mod receiver;
mod sender;
mod socket;
mod take;
mod tasks;
mod wait;
mod writer;

use pyo3::prelude::*;

/// The compiled half of the package.
// Not declared for builds without the GIL: it was not tested there, and such an interpreter turns the GIL on for it.
#[pymodule(gil_used = true)]
fn _trunkline(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<key::Key>()?;
    module.add_class::<key::Access>()?;
    module.add_class::<config::Config>()?;
    module.add_class::<connection::Connection>()?;
    module.add_class::<listener::Listener>()?;
    module.add_class::<sender::Sender>()?;
    module.add_class::<receiver::Receiver>()?;
    module.add_class::<message::Message>()?;
    module.add_class::<interrupter::Interrupter>()?;
    module.add_class::<events::Events>()?;
    module.add_class::<events::ListenerEvents>()?;
    module.add_class::<reader::Reader>()?;
    module.add_class::<writer::Writer>()?;
    module.add_class::<tasks::Alarm>()?;
    module.add_class::<tasks::Ticket>()?;
    module.add_class::<tasks::Operation>()?;
    kernel::add(module)?;
    module.add_function(wrap_pyfunction!(python::_check_interpreter, module)?)?;
    module.add_function(wrap_pyfunction!(wait::shutdown, module)?)?;
    module.add_function(wrap_pyfunction!(wait::_begin_exit, module)?)?;
    module.add_function(wrap_pyfunction!(wait::_end_exit, module)?)?;
    module.add_function(wrap_pyfunction!(wait::_after_fork, module)?)?;
    module.add_function(wrap_pyfunction!(errors::_every_error, module)?)?;
    Ok(())
}
