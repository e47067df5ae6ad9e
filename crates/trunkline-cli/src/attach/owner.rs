//! Who owns the input, as the roster of the hub says, and what that means for this client.

use trunkline_hub::code;
use trunkline_kernel::layout::{Client, Roster};

use crate::plain;

/// What is known of the input.
#[derive(Default, Debug)]
pub struct Owner {
    /// This client's number, and whether it owns the input.
    me: Option<u64>,
    mine: bool,
    /// The host has listed this client.
    listed: bool,
    /// The person was told that the owner's last lines were refused, and the roster has not said yet that they own it again.
    told_refusal: bool,
    /// No client owns it, as far as is known; and how many messages were passed on in all.
    free: bool,
    passed: Option<u64>,
    /// It is owned by a client with the same key whose link is lost: this person's, at another place.
    ghost: bool,
    /// It was asked for once, at the beginning.
    asked: bool,
}

/// What a note of the roster has changed.
#[derive(PartialEq, Eq, Debug)]
pub enum Change {
    /// This client owns the input. `over`: that another client has it, if the person was told so, is no longer so.
    Gained { over: bool },
    /// Another client does. The person is to be told which, if they were told nothing weightier.
    Lost { to: Option<String> },
}

/// How the input is asked for.
#[derive(PartialEq, Eq, Debug)]
pub enum Ask {
    Take,
    /// Only if no client owns it, and so many messages were passed on.
    TakeFree(u64),
}

impl Owner {
    /// Returns `true` when the host has listed this client, so what the program showed before has arrived.
    pub fn is_listed(&self) -> bool {
        self.listed
    }

    /// The person was told that what they typed was refused with this code.
    pub fn told_refusal(&mut self, code: u32) {
        self.told_refusal = code == code::TAKEN;
    }

    /// Takes in a note of the roster.
    pub fn hear(&mut self, note: &Roster) -> Option<Change> {
        self.me = note.you.or(self.me);
        self.passed = note.input.or(self.passed);
        let clients = note.clients.as_ref()?;
        let me = clients.iter().find(|client| Some(client.id) == self.me);
        // The list is cut when there are many.
        self.listed |= me.is_some() || note.count > Some(clients.len() as u64);
        let owner = clients.iter().find(|client| client.owner);
        self.free = owner.is_none();
        let mine = owner.is_some_and(|owner| Some(owner.id) == self.me);
        // A list from before the link was back names this client as one whose link is lost: that is no other.
        self.ghost =
            owner.is_some_and(|owner| !mine && owner.suspended && me.is_some_and(|me| me.name == owner.name));
        match (std::mem::replace(&mut self.mine, mine), mine, owner) {
            (false, true, _) => Some(Change::Gained { over: !std::mem::take(&mut self.told_refusal) }),
            // What became of the last lines is the weightier of two notes that come together.
            (true, false, Some(owner)) => {
                Some(Change::Lost { to: (!self.told_refusal).then(|| name(owner)) })
            }
            _ => None,
        }
    }

    /// Returns how to ask for the input, once, at the beginning. The first terminal at a program is the one that it is for; a
    /// pipe asks by sending. `take`: also if another client has it.
    pub fn ask(&mut self, terminal: bool, take: bool) -> Option<Ask> {
        // What this person's own terminal has, at home on a machine that sleeps, is for the one that is used.
        if terminal && std::mem::take(&mut self.ghost) {
            self.asked = true;
            return Some(Ask::Take);
        }
        if self.asked || self.me.is_none() {
            return None;
        }
        let ask = match self.passed {
            _ if take => Ask::Take,
            Some(passed) if terminal && self.free => Ask::TakeFree(passed),
            _ => return None,
        };
        self.asked = true;
        Some(ask)
    }
}

fn name(client: &Client) -> String {
    let name = plain(&client.name);
    if name.is_empty() { "another client".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(text: &str) -> Roster {
        Roster::try_from(text.as_bytes()).unwrap()
    }

    /// A list of two clients, of which this one is number 1, and the one that owns the input.
    fn list(owner: u64) -> Roster {
        let client =
            |id: u64, name: &str| format!(r#"{{"id":{id},"name":"{name}","owner":{}}}"#, id == owner);
        note(&format!(r#"{{"clients":[{},{}],"count":2}}"#, client(1, "desk"), client(2, r"home\u001b[2J")))
    }

    fn here() -> Owner {
        let mut owner = Owner::default();
        assert_eq!(owner.hear(&note(r#"{"you":1}"#)), None);
        owner
    }

    const LOST_QUIETLY: Option<Change> = Some(Change::Lost { to: None });

    fn lost_to(name: &str) -> Option<Change> {
        Some(Change::Lost { to: Some(name.to_owned()) })
    }

    #[test]
    fn the_one_that_the_input_was_taken_from_is_told_by_whom() {
        let mut owner = here();
        assert_eq!(owner.hear(&list(2)), None, "it had nothing to lose");
        assert_eq!(owner.hear(&list(1)), Some(Change::Gained { over: true }));
        assert_eq!(owner.hear(&list(1)), None);
        assert_eq!(owner.hear(&list(2)), lost_to("home[2J"));
        assert_eq!(owner.hear(&list(0)), None);
        assert_eq!(owner.hear(&list(1)), Some(Change::Gained { over: true }));
        assert_eq!(owner.hear(&list(0)), None, "no client has it, so none has taken it");
        let nameless = note(r#"{"clients":[{"id":1},{"id":2,"owner":true}]}"#);
        assert_eq!(owner.hear(&list(1)), Some(Change::Gained { over: true }));
        assert_eq!(owner.hear(&nameless), lost_to("another client"));
    }

    /// What is typed last is worth more than who has taken the input: that note stands, whichever comes first.
    #[test]
    fn what_became_of_the_last_lines_is_not_talked_over() {
        let mut owner = here();
        owner.hear(&list(1));
        owner.told_refusal(code::TAKEN);
        assert_eq!(owner.hear(&list(2)), LOST_QUIETLY);
        // The person takes it back, and may still read the note.
        assert_eq!(owner.hear(&list(1)), Some(Change::Gained { over: false }));
        // It is one note, and for one loss.
        assert_eq!(owner.hear(&list(2)), lost_to("home[2J"));
        assert_eq!(owner.hear(&list(1)), Some(Change::Gained { over: true }));
    }

    /// A refusal of a client that does not own the input says that another does, which is over when it gets it.
    #[test]
    fn another_refusal_is_about_who_owns_the_input() {
        let mut owner = here();
        owner.hear(&list(2));
        owner.told_refusal(code::NOT_OWNER);
        assert_eq!(owner.hear(&list(1)), Some(Change::Gained { over: true }));
        owner.told_refusal(code::TAKEN);
        owner.told_refusal(code::NOT_OWNER);
        assert_eq!(owner.hear(&list(2)), lost_to("home[2J"));
    }

    #[test]
    fn the_input_is_asked_for_once_and_from_a_ghost_again() {
        let mut owner = here();
        assert_eq!(owner.ask(true, false), None, "how much was passed on is not known");
        owner.hear(&note(r#"{"input":7}"#));
        assert_eq!(owner.ask(true, false), None, "nor whether it is free");
        owner.hear(&list(0));
        assert_eq!(owner.ask(false, false), None, "a pipe asks by sending");
        assert_eq!(owner.ask(true, false), Some(Ask::TakeFree(7)));
        assert_eq!(owner.ask(true, false), None);
        let away =
            r#"{"clients":[{"id":1,"name":"desk"},{"id":3,"name":"desk","owner":true,"suspended":true}]}"#;
        owner.hear(&note(away));
        assert_eq!(owner.ask(true, false), Some(Ask::Take));
        assert_eq!(owner.ask(true, false), None);
        let mut taker = here();
        assert_eq!(taker.ask(false, true), Some(Ask::Take));
        assert_eq!(taker.ask(false, true), None);
        // Another key's, or its own: that is no ghost of this person.
        for away in [
            away.replace(r#""id":3,"name":"desk""#, r#""id":3,"name":"home""#),
            away.replace(r#""id":3"#, r#""id":1"#),
        ] {
            let mut owner = here();
            owner.hear(&note(&away));
            assert_eq!(owner.ask(true, false), None, "{away}");
        }
    }

    #[test]
    fn a_list_that_is_cut_does_for_one_that_is_whole() {
        let mut owner = here();
        owner.hear(&note(r#"{"clients":[{"id":2}],"count":1}"#));
        assert!(!owner.is_listed(), "it is older than this client");
        owner.hear(&note(r#"{"clients":[{"id":2}],"count":2}"#));
        assert!(owner.is_listed());
    }
}
