//! What happens on a connection or at a listener outside the channels.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pyo3::exceptions::{PyStopAsyncIteration, PyStopIteration};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use trunkline::{Event, EventError, ListenerEvent};

use crate::arguments::host_and_port;
use crate::bell::Bell;
use crate::errors::{Raised, handle_not_pickled};
use crate::link::Born;
use crate::python::{object, record};
use crate::tasks::{Outcome, coroutine};
use crate::wait;

fn event(py: Python<'_>, event: Event) -> PyResult<Bound<'_, PyAny>> {
    let (name, fields) = match event {
        Event::Opened(channel) => ("Event.Opened", vec![("channel", object(py, channel.get())?)]),
        Event::Interrupt => ("Event.Interrupt", vec![]),
        Event::Waiting { channel, waiting, taken } => (
            "Event.Waiting",
            vec![
                ("channel", object(py, channel.get())?),
                ("waiting", object(py, waiting)?),
                ("taken", object(py, taken)?),
            ],
        ),
        Event::Stopped { channel, code } => {
            ("Event.Stopped", vec![("channel", object(py, channel.get())?), ("code", object(py, code)?)])
        }
        Event::Suspended { cause } => {
            ("Event.Suspended", vec![("cause", cause.raised(py).into_value(py).into_any())])
        }
        Event::Resumed { after, attempts } => (
            "Event.Resumed",
            vec![("after", object(py, after.as_secs_f64())?), ("attempts", object(py, attempts)?)],
        ),
        Event::Closed(cause) => ("Event.Closed", vec![("cause", cause.raised(py).into_value(py).into_any())]),
        other => ("Event.Other", vec![("text", object(py, format!("{other:?}"))?)]),
    };
    record(py, name, |dict| fill(dict, fields))
}

fn listener_event(py: Python<'_>, event: ListenerEvent) -> PyResult<Bound<'_, PyAny>> {
    let text = object(py, event.to_string())?;
    let (name, mut fields) = match event {
        ListenerEvent::TurnedAway { error, peers, last } => (
            "ListenerEvent.TurnedAway",
            vec![
                ("error", error.raised(py).into_value(py).into_any()),
                ("peers", object(py, peers)?),
                ("last", object(py, last.map(host_and_port))?),
            ],
        ),
        ListenerEvent::AcceptFailed { kind } => {
            ("ListenerEvent.AcceptFailed", vec![("reason", object(py, kind.to_string())?)])
        }
        ListenerEvent::Closed => ("ListenerEvent.Closed", vec![]),
        _ => ("ListenerEvent.Other", vec![]),
    };
    fields.push(("text", text));
    record(py, name, |dict| fill(dict, fields))
}

fn fill(dict: &Bound<'_, PyDict>, fields: Vec<(&str, Py<PyAny>)>) -> PyResult<()> {
    fields.into_iter().try_for_each(|(name, value)| dict.set_item(name, value))
}

/// Both kinds are the same but for what they tell.
macro_rules! events {
    ($Events:ident, $name:literal, $documentation:literal, $of:ty, $record:ident) => {
        #[doc = $documentation]
        #[pyclass(frozen, module = "trunkline", name = $name, weakref)]
        pub(crate) struct $Events {
            events: Arc<$of>,
            bell: Arc<Bell>,
            born: Arc<Born>,
        }

        impl $Events {
            pub(crate) fn new(events: $of) -> Self {
                Self { events: Arc::new(events), bell: Arc::default(), born: Arc::new(Born::new()) }
            }

            fn poll(&self) -> impl FnMut(&mut Context<'_>) -> Poll<Result<<$of as Told>::Event, EventError>> + Send + 'static {
                let events = Arc::clone(&self.events);
                let place = self.bell.place();
                move |context| place.poll(context, |context| events.poll_recv(context))
            }

            fn coroutine<'py>(&self, py: Python<'py>, over: fn(Python<'_>) -> PyErr) -> PyResult<Bound<'py, PyAny>> {
                self.born.check(py)?;
                let mut poll = self.poll();
                coroutine(py, move |context| {
                    let told = ready!(poll(context));
                    let outcome: Outcome = Box::new(move |py| match told {
                        Ok(event) => Ok($record(py, event)?.unbind()),
                        Err(_) => Err(over(py)),
                    });
                    Poll::Ready(outcome)
                })
            }
        }

        #[pymethods]
        impl $Events {
            /// Returns the next event, and waits for it, no longer than `timeout` seconds. Raises EventsOver
            /// after the last, and EventTimedOut.
            #[pyo3(signature = (timeout = None))]
            fn recv<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
                self.born.check(py)?;
                let deadline = wait::deadline(timeout)?;
                match wait::poll(py, deadline, self.poll())? {
                    Some(Ok(event)) => $record(py, event),
                    Some(Err(error)) => Err(error.raised(py)),
                    None => Err(EventError::Empty.raised(py)),
                }
            }

            /// Returns the next event, or None if there is none now.
            fn try_recv<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
                self.born.check(py)?;
                match self.events.try_recv() {
                    Ok(event) => $record(py, event).map(Some),
                    Err(EventError::Empty) => Ok(None),
                    Err(error) => Err(error.raised(py)),
                }
            }

            /// Returns the next event, as a task of asyncio.
            fn recv_async<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
                self.coroutine(py, |py| EventError::Over.raised(py))
            }

            fn __iter__(slf: Py<Self>) -> Py<Self> {
                slf
            }

            fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
                self.born.check(py)?;
                match wait::poll(py, None, self.poll())? {
                    Some(Ok(event)) => $record(py, event),
                    _ => Err(PyStopIteration::new_err(())),
                }
            }

            fn __aiter__(slf: Py<Self>) -> Py<Self> {
                slf
            }

            fn __anext__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
                self.coroutine(py, |_| PyStopAsyncIteration::new_err(()))
            }

            fn __repr__(&self) -> &'static str {
                concat!("<trunkline.", $name, ">")
            }

            fn __reduce__(&self) -> PyResult<()> {
                Err(handle_not_pickled($name))
            }
        }
    };
}

trait Told {
    type Event;
}

impl Told for trunkline::Events {
    type Event = Event;
}

impl Told for trunkline::ListenerEvents {
    type Event = ListenerEvent;
}

events!(
    Events,
    "Events",
    "What happens on a connection outside its channels, one event after the other, from Connection.events().\n\nWhat repeats itself before it is read is told once. Iteration waits for each and ends with the connection;\n`async for` does the same. It does not keep the connection open.",
    trunkline::Events,
    event
);
events!(
    ListenerEvents,
    "ListenerEvents",
    "What happens at a listener beside the connections that it accepts, from Listener.events().\n\nIteration waits for each and ends with the listener; `async for` does the same. It does not keep the\nlistener open.",
    trunkline::ListenerEvents,
    listener_event
);
