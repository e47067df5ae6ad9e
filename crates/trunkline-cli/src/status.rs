//! `trunkline status`.

use std::time::{Duration, Instant};

use serde_json::json;
use trunkline::Received;
use trunkline_kernel::layout::{Roster, STATUS};

use crate::arguments;
use crate::client::Client;
use crate::failure::Failure;
use crate::failure::Outcome;
use crate::output;

/// How long the program's last state may take: the host sends it at once, and a program that has none is no error.
const STATE: Duration = Duration::from_secs(2);

pub fn run(arguments: &arguments::Status) -> Outcome {
    let client = Client::connect(&arguments.reach)?;
    let state = state(&client)?;
    let (you, roster) = roster(&client)?;
    let others: Vec<_> = roster.clients.iter().flatten().filter(|other| Some(other.id) != you).collect();
    let count = roster.count.map_or(others.len() as u64, |count| count.saturating_sub(1));
    // It is measured by the way; without a measurement there is none to tell.
    let _ = client.connection.flush_timeout(STATE);
    let round_trip = client.connection.rtt();
    let upstream = roster.upstream.as_deref().map(crate::plain).unwrap_or_default();
    let up = roster.up_s.unwrap_or_default();
    let text = if arguments.json {
        let clients = others.iter().map(|other| {
            json!({
                "id": other.id, "name": other.name, "owner": other.owner, "read_only": other.read_only,
                "suspended": other.suspended, "behind_bytes": other.behind_bytes, "here_s": other.here_s,
            })
        });
        let object = json!({
            "status": state, "upstream": upstream, "up_s": up, "count": count,
            "clients": clients.collect::<Vec<_>>(), "sealed": client.connection.is_sealed(),
            "round_trip_s": round_trip.map(|time| time.as_secs_f64()),
        });
        format!("{object}\n")
    } else {
        let state = match state.as_deref() {
            // What a program that is no kernel is from its beginning to its end.
            Some("busy 0") => "running".to_owned(),
            Some(state) => crate::plain(state),
            None => "says nothing of itself".to_owned(),
        };
        let link = if client.connection.is_sealed() { "sealed" } else { "plain" };
        let trip = round_trip.map(|time| format!(", round trip {:.1} ms", time.as_secs_f64() * 1e3));
        let away = if upstream == "live" { String::new() } else { format!(" ({upstream})") };
        let mut text = format!(
            "program  {state}{away}, up {}\nlink     {link}{}\nclients  {count}\n",
            ago(up),
            trip.unwrap_or_default()
        );
        for other in &others {
            let mut words = vec![format!("here {}", ago(other.here_s))];
            for (word, holds) in [
                ("has the input", other.owner),
                ("only watches", other.read_only),
                ("link lost", other.suspended),
            ] {
                words.extend(holds.then(|| word.to_owned()));
            }
            words.extend((other.behind_bytes > 0).then(|| format!("{} bytes behind", other.behind_bytes)));
            text += &format!("  {:4} {:12} {}\n", other.id, crate::plain(&other.name), words.join(", "));
        }
        text
    };
    output::print(text)?;
    Ok(0)
}

/// The program's last state, as it wrote it.
fn state(client: &Client) -> Result<Option<String>, Failure> {
    let receiver = client.receiver(STATUS)?;
    let until = Instant::now() + STATE;
    loop {
        match client.receive(&receiver, Some(until))? {
            Some(Received::Message(message)) => {
                return Ok(Some(String::from_utf8_lossy(&message).into_owned()));
            }
            Some(_) => {}
            None => return Ok(None),
        }
    }
}

/// This client's number, and the list that it is in.
pub fn roster(client: &Client) -> Result<(Option<u64>, Roster), Failure> {
    let mut you = None;
    loop {
        let note = client.note()?;
        you = note.you.or(you);
        let listed = note.clients.iter().flatten().any(|other| Some(other.id) == you);
        let cut = note.clients.as_ref().map(|clients| clients.len() as u64) < note.count;
        if note.clients.is_some() && (listed || cut) {
            return Ok((you, note));
        }
    }
}

/// A time in the largest unit that fits.
fn ago(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
