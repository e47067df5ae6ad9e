//! The compiled half of `trunkline.kernel` and `trunkline.console`: what must go on while Python does something else.
//!
//! | file | topic |
//! |---|---|
//! | `embedded` | a kernel in a process that has other things to do |
//! | `host` | the process with the sockets, whose child is the interpreter |
//! | `interpreter` | the kernel's loop as the interpreter drives it |
//! | `line` | the line of a stream that has no end yet |
//! | `output` | standard output and error of the interpreter, with marks |
//! | `kicks` | how a statement is interrupted from outside |
//! | `questions` | introspection, answered by a thread of Python's |
//! | `session` | a console |
//! | `sessions` | many consoles, heard by one thread |

mod embedded;
mod host;
mod interpreter;
mod kicks;
mod line;
mod output;
mod questions;
mod session;
mod sessions;

use pyo3::prelude::*;

pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<interpreter::Interpreter>()?;
    module.add_class::<interpreter::Reading>()?;
    module.add_class::<output::Output>()?;
    module.add_class::<session::Session>()?;
    module.add_class::<sessions::Sessions>()?;
    module.add_function(wrap_pyfunction!(host::_serve, module)?)?;
    module.add_function(wrap_pyfunction!(session::_attend, module)?)?;
    Ok(())
}
