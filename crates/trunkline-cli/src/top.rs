//! `trunkline top`.

use std::io::IsTerminal;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event as Key, KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Row, Table};
use trunkline::{ChannelStats, Event, Received, Stats, TryRecvError};
use trunkline_kernel::layout::{
    CONTROL, DISPLAY, INTROSPECTION, ROSTER, Roster, STATUS, STDERR, STDIN, STDOUT,
};

use crate::arguments;
use crate::client::Client;
use crate::failure::{Failure, Outcome, USAGE};

/// How often the numbers are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// What is shown.
struct View {
    host: String,
    state: Arc<Mutex<String>>,
    you: Option<u64>,
    roster: Roster,
    link: String,
    resumes: u64,
    attempts: u64,
    before: (Instant, Stats),
    now: (Instant, Stats),
}

pub fn run(arguments: &arguments::Top) -> Outcome {
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(Failure::new(USAGE, "top needs a terminal; `trunkline status` is for scripts"));
    }
    let client = Client::connect(&arguments.reach)?;
    let state = Arc::<Mutex<String>>::default();
    follow(&client, Arc::clone(&state))?;
    // It restores the terminal also after a panic.
    let mut terminal = ratatui::try_init()?;
    let result = watch(&client, state, &mut terminal);
    ratatui::restore();
    result
}

/// Reads what the program says, so that the numbers are those of a client that keeps up.
fn follow(client: &Client, state: Arc<Mutex<String>>) -> Result<(), Failure> {
    let output = client.receiver(STDOUT | STDERR | STATUS | DISPLAY)?;
    thread::Builder::new().name("trunkline-output".to_owned()).spawn(move || {
        loop {
            match output.recv_any() {
                Ok(Received::Message(message)) if message.channel() == STATUS => {
                    *state.lock() = crate::plain(&String::from_utf8_lossy(&message));
                }
                Ok(_) => {}
                Err(_) => return,
            }
        }
    })?;
    Ok(())
}

fn watch(client: &Client, state: Arc<Mutex<String>>, terminal: &mut ratatui::DefaultTerminal) -> Outcome {
    let events = client.connection.events();
    let first = (Instant::now(), client.connection.stats());
    let mut view = View {
        host: crate::plain(&client.place.name),
        state,
        you: None,
        roster: Roster::default(),
        link: String::new(),
        resumes: 0,
        attempts: 0,
        before: first.clone(),
        now: first,
    };
    loop {
        view.read_roster(client)?;
        while let Ok(event) = events.try_recv() {
            match event {
                Event::Resumed { attempts, .. } => {
                    view.resumes += 1;
                    view.attempts += u64::from(attempts);
                }
                Event::Closed(cause) => return Err(client.place.lost(cause)),
                _ => {}
            }
        }
        let now = Instant::now();
        if now.duration_since(view.now.0) >= LOOK {
            view.before = std::mem::replace(&mut view.now, (now, client.connection.stats()));
        }
        view.link = match (client.connection.is_suspended(), client.connection.is_sealed()) {
            (true, _) => "lost, trying".to_owned(),
            (false, true) => "sealed".to_owned(),
            (false, false) => "plain".to_owned(),
        };
        terminal.draw(|frame| view.draw(frame))?;
        if event::poll(LOOK)?
            && let Key::Key(key) = event::read()?
            && (matches!(key.code, KeyCode::Char('q') | KeyCode::Esc)
                || key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL))
        {
            return Ok(0);
        }
    }
}

impl View {
    fn read_roster(&mut self, client: &Client) -> Result<(), Failure> {
        loop {
            match client.try_note() {
                Ok(note) => {
                    self.you = note.you.or(self.you);
                    if note.clients.is_some() {
                        self.roster = note;
                    }
                }
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected(cause)) => return Err(client.place.lost(cause)),
            }
        }
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let rows = self.now.1.channels.len().try_into().unwrap_or(u16::MAX);
        let areas = Layout::vertical([Constraint::Length(4), Constraint::Max(2 + rows), Constraint::Min(3)]);
        let [head, channels, clients] = areas.areas(frame.area());
        frame.render_widget(ratatui::widgets::Paragraph::new(self.head()), head);
        frame.render_widget(self.channels(), channels);
        frame.render_widget(self.clients(), clients);
    }

    fn head(&self) -> Vec<Line<'_>> {
        let stats = &self.now.1;
        let trip =
            stats.rtt.map_or_else(|| "-".to_owned(), |time| format!("{:.1} ms", time.as_secs_f64() * 1e3));
        let held = bytes(stats.held.total() as f64);
        let upstream = self.roster.upstream.as_deref().map(crate::plain).unwrap_or_default();
        vec![
            Line::from(format!("{}   {}   upstream {upstream}", self.host, self.state.lock())).bold(),
            Line::from(format!(
                "link {}   round trip {trip}   resumes {} in {} attempts   held {held}   queued {}",
                self.link, self.resumes, self.attempts, stats.queued
            )),
            Line::from("q leaves".dim()),
        ]
    }

    fn channels(&self) -> Table<'_> {
        let seconds = self.now.0.duration_since(self.before.0).as_secs_f64().max(1e-3);
        let rows = self.now.1.channels.iter().map(|now| {
            let before = self.before.1.channels.iter().find(|before| before.channel == now.channel);
            let rate = |of: fn(&ChannelStats) -> u64| {
                (of(now).saturating_sub(before.map_or(0, of))) as f64 / seconds
            };
            let name = match now.channel {
                STDIN => "stdin",
                STDOUT => "stdout",
                STDERR => "stderr",
                CONTROL => "control",
                STATUS => "status",
                INTROSPECTION => "introspection",
                DISPLAY => "display",
                ROSTER => "roster",
                _ => "",
            };
            Row::new([
                format!("{:3} {name}", now.channel.get()),
                format!("{}/s", bytes(rate(|stats| stats.bytes_received))),
                format!("{:.0}/s", rate(|stats| stats.messages_received)),
                format!("{}/s", bytes(rate(|stats| stats.bytes_sent))),
                format!("{:.0}/s", rate(|stats| stats.messages_sent)),
                bytes(now.unread_bytes as f64),
                bytes(f64::from(now.receive_credit)),
                bytes(f64::from(now.send_credit)),
            ])
        });
        let widths = [17, 11, 10, 11, 10, 9, 9, 9].map(Constraint::Length);
        let names = ["channel", "in", "messages", "out", "messages", "unread", "credit in", "out"];
        Table::new(rows, widths).header(header(names))
    }

    fn clients(&self) -> Table<'_> {
        let clients = self.roster.clients.iter().flatten();
        let rows = clients.map(|client| {
            let marks = [
                (Some(client.id) == self.you, "you"),
                (client.owner, "input"),
                (client.read_only, "watches"),
                (client.suspended, "link lost"),
            ];
            let marks: Vec<_> = marks.into_iter().filter(|(holds, _)| *holds).map(|(_, mark)| mark).collect();
            Row::new([
                client.id.to_string(),
                crate::plain(&client.name),
                marks.join(" "),
                bytes(client.behind_bytes as f64),
            ])
        });
        let widths = [8, 20, 24, 10].map(Constraint::Length);
        Table::new(rows, widths).header(header(["client", "name", "", "behind"]))
    }
}

fn header<const N: usize>(names: [&'static str; N]) -> Row<'static> {
    Row::new(names.map(Cell::from)).style(Style::new().reversed())
}

/// A number of bytes in a unit in which it is short.
fn bytes(number: f64) -> String {
    match number {
        ..1e4 => format!("{number:.0} B"),
        ..1e7 => format!("{:.0} kB", number / 1e3),
        ..1e10 => format!("{:.0} MB", number / 1e6),
        _ => format!("{:.0} GB", number / 1e9),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_are_short() {
        let shown = [0.0, 9999.0, 10_000.0, 1.2e7, 3e10].map(super::bytes);
        assert_eq!(shown, ["0 B", "9999 B", "10 kB", "12 MB", "30 GB"]);
    }
}
