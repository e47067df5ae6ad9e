//! What a program on a terminal finds in its environment.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::process::Command;

/// What a screen here understands, in the words of every terminal database.
const TERM: &str = "xterm-256color";
/// A locale with UTF-8 that every system has.
const UTF8: &str = "C.UTF-8";
/// What describes the terminal that the host itself was started on. The program is on another.
const NOT_PASSED: [&str; 19] = [
    "COLUMNS",
    "LINES",
    "TERMCAP",
    "TERMINFO",
    "TMUX",
    "TMUX_PANE",
    "STY",
    "WINDOW",
    "WINDOWID",
    "TERM_PROGRAM",
    "TERM_PROGRAM_VERSION",
    "VTE_VERSION",
    "KITTY_WINDOW_ID",
    "KITTY_PID",
    "WEZTERM_PANE",
    "ITERM_SESSION_ID",
    "ALACRITTY_WINDOW_ID",
    "KONSOLE_VERSION",
    "WT_SESSION",
];

/// Sets what a program on a terminal needs, and removes what would mislead it. What the caller has set or
/// removed in the command itself stays.
pub(super) fn prepare(command: &mut Command) {
    prepare_from(command, &|name| std::env::var_os(name));
}

fn prepare_from(command: &mut Command, inherited: &dyn Fn(&str) -> Option<OsString>) {
    let set: BTreeMap<OsString, Option<OsString>> =
        command.get_envs().map(|(name, value)| (name.to_owned(), value.map(OsStr::to_owned))).collect();
    for name in NOT_PASSED {
        if !set.contains_key(OsStr::new(name)) {
            command.env_remove(name);
        }
    }
    // One without a terminal's name cannot use it, even if the caller has removed the name.
    if !matches!(set.get(OsStr::new("TERM")), Some(Some(_))) {
        command.env("TERM", TERM);
    }
    let value = |name: &str| match set.get(OsStr::new(name)) {
        Some(value) => value.clone(),
        None => inherited(name),
    };
    // The first that is set and not empty counts. Without any the locale is `C`, where UTF-8 becomes `_`.
    if !["LC_ALL", "LC_CTYPE", "LANG"].iter().any(|name| value(name).is_some_and(|value| !value.is_empty())) {
        command.env("LC_CTYPE", UTF8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(command: &mut Command, inherited: &[(&str, &str)], name: &str) -> Option<Option<String>> {
        prepare_from(command, &|asked| {
            inherited.iter().find(|(name, _)| *name == asked).map(|(_, value)| value.into())
        });
        let mut set = command.get_envs();
        set.find(|(set, _)| *set == name)
            .map(|(_, value)| value.map(|value| value.to_string_lossy().into_owned()))
    }

    #[test]
    fn a_locale_is_set_only_where_there_is_none() {
        let utf8 = Some(Some(UTF8.to_owned()));
        assert_eq!(prepared(&mut Command::new("x"), &[], "LC_CTYPE"), utf8);
        assert_eq!(prepared(&mut Command::new("x"), &[("LC_ALL", ""), ("LANG", "")], "LC_CTYPE"), utf8);
        for locale in ["de_DE.UTF-8", "C"] {
            for name in ["LC_ALL", "LC_CTYPE", "LANG"] {
                assert_eq!(prepared(&mut Command::new("x"), &[(name, locale)], "LC_CTYPE"), None);
                assert_eq!(
                    prepared(Command::new("x").env(name, locale), &[], "LANG").is_some(),
                    name == "LANG"
                );
            }
        }
        assert_eq!(prepared(Command::new("x").env_remove("LANG"), &[("LANG", "C")], "LC_CTYPE"), utf8);
    }

    #[test]
    fn the_host_s_own_terminal_is_not_described_and_the_caller_s_wishes_stay() {
        let mut command = Command::new("x");
        command.env("TERM", "dumb").env("TMUX", "mine");
        assert_eq!(prepared(&mut command, &[], "TERM"), Some(Some("dumb".to_owned())));
        assert_eq!(prepared(&mut command, &[], "TMUX"), Some(Some("mine".to_owned())));
        assert_eq!(prepared(&mut command, &[], "COLUMNS"), Some(None));
        assert_eq!(prepared(&mut Command::new("x"), &[], "TERM"), Some(Some(TERM.to_owned())));
        assert_eq!(prepared(Command::new("x").env_remove("TERM"), &[], "TERM"), Some(Some(TERM.to_owned())));
    }
}
