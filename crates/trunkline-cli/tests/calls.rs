//! The calls that do one thing, at real hosts.

mod support;

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::*;
use trunkline_host::Size;

fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_host_at_a_unix_socket_is_used_like_any_other() {
    let mut host = Host::start(&["--pty", "--unix", "{}/s.sock"], "echo ready; read x; echo got $x; exit 4");
    assert_eq!(host.address, host.key("s.sock").to_str().unwrap());
    let mut desk = host.terminal("key", Size::default());
    desk.shows("ready");
    eventually("the owner", || host.run("key", &["status"]).1.contains("has the input"));
    // The path is taken, and stays with the one that has it.
    let key = host.key("key");
    let (code, _, text) = host
        .run("key", &["host", "--unix", &host.address, "--key-file", key.to_str().unwrap(), "--", "true"]);
    assert!(code == 69 && text.contains("another process listens at"), "{code} {text}");
    assert_eq!(host.run("key", &["send", "word", "--key", "Enter"]).0, 75);
    desk.keys("word\r");
    desk.shows("got word");
    assert_eq!(desk.end().code(), 4);
    assert_eq!(host.end(), Some(4));
    assert!(!host.key("s.sock").exists());
    let (code, _, text) = host.run("key", &["status"]);
    assert!(code == 69 && text.contains("is the host running"), "{text}");
}

#[test]
fn what_is_sent_is_typed_in_the_order_of_the_command_line() {
    let script = "stty -echo -icanon min 1; echo ready; head -c 10 | od -An -c; read x";
    let host = Host::start(&["--pty"], script);
    assert_eq!(host.run("key", &["wait", "--for", "ready"]).0, 0);
    // The address that the variable has, named once more, is not typed.
    assert_eq!(host.run("key", &["send", &host.address, "--key", "F1"]), (0, String::new(), String::new()));
    let call = ["send", "--key", "Up", "--key", "C-a", "ab", "--key", "Enter", "--key", "M-x", "--key", "-"];
    assert_eq!(host.run("key", &call), (0, String::new(), String::new()));
    let expected = "033   O   P 033   [   A 001   a   b  \\n";
    assert_eq!(host.run("key", &["wait", "--for", expected]).0, 0);
}

#[test]
fn what_is_sent_is_passed_on_or_said_to_be_refused() {
    let mut host = Host::start(&["--pipes"], "while read x; do echo got $x; done; echo end");
    for line in ["one\n", "two\n"] {
        assert_eq!(host.run("key", &["send", line]), (0, String::new(), String::new()));
    }
    // Larger than a message, and than what the program has room for.
    let long = "x".repeat(100_000) + "\n";
    assert_eq!(host.run("key", &["send", &long]).0, 0);
    assert_eq!(host.run("key", &["wait", "--for", &format!("got {}", &long[..20])]).0, 0);

    // Into a file: one whose reader is late would not get to what it has to type.
    let shown = host.key("shown");
    let file = std::fs::File::create(&shown).unwrap();
    let mut owner = host.call("key", &["attach"]).stdin(Stdio::piped()).stdout(file).spawn().unwrap();
    std::io::Write::write_all(owner.stdin.as_mut().unwrap(), b"mine\n").unwrap();
    assert_eq!(host.run("key", &["wait", "--for", "got mine"]).0, 0);
    let (code, _, text) = host.run("key", &["send", "theirs\n"]);
    assert!(code == 75 && text.contains("--take"), "{code} {text}");
    assert_eq!(host.run("key", &["send", "--take", "taken\n"]), (0, String::new(), String::new()));
    assert_eq!(host.run("key", &["wait", "--for", "got taken"]).0, 0);
    // The others can take it too, and free it.
    assert_eq!(host.run("key", &["take"]), (0, String::new(), String::new()));
    assert_eq!(host.run("key", &["send", "free\n"]).0, 0);
    assert_eq!(host.run("key", &["wait", "--for", "got free"]).0, 0);
    drop(owner.stdin.take());
    assert_eq!(finish(host.attach("key", &["--send-eof"])).0, 0);
    assert_eq!(owner.wait().unwrap().code(), Some(0));
    let output = std::fs::read_to_string(shown).unwrap();
    let short = output.replace(&"x".repeat(100_000), "long");
    assert_eq!(short, "got one\ngot two\ngot long\ngot mine\ngot taken\ngot free\nend\n");
    assert_eq!(host.end(), Some(0));
}

#[test]
fn sending_to_a_program_that_takes_nothing_is_told() {
    let host = Host::start(&["--pipes"], "exec <&-; echo closed; sleep 60");
    assert_eq!(host.run("key", &["wait", "--for", "closed"]).0, 0);
    // What was passed on before the program was found to be deaf was passed on.
    let mut told = (0, String::new(), String::new());
    eventually("a refusal", || {
        told = host.run("key", &["send", "for nothing\n"]);
        told.0 != 0
    });
    assert!(told.0 == 69 && told.2.contains("closed its input"), "{told:?}");
}

#[test]
fn a_read_only_key_is_refused_whatever_it_calls() {
    let host = Host::start(
        &["--pty"],
        "trap 'echo interrupted' INT; echo ready; while read x; do echo got $x; done",
    );
    assert_eq!(host.run("watch", &["wait", "--for", "ready"]).0, 0);
    for call in [&["send", "forged\n"][..], &["send", "--take", "forged\n"], &["take"], &["interrupt"]] {
        let (code, _, text) = host.run("watch", call);
        assert!(
            code == 77 && text.contains("use a key that does not only watch") && !text.contains("channel"),
            "{call:?}: {code} {text}"
        );
    }
    // It sees what the others do.
    assert_eq!(host.run("key", &["send", "honest", "--key", "Enter"]).0, 0);
    assert_eq!(host.run("watch", &["wait", "--for", "got honest"]).0, 0);
    let (code, text, _) = host.run("watch", &["screen"]);
    assert!(
        code == 0 && text.contains("got honest") && !text.contains("forged") && !text.contains("interrupted"),
        "{text}"
    );
}

#[test]
fn waiting_ends_with_what_is_waited_for() {
    let mut host = Host::start(&["--pipes"], "echo ready; read x; echo done; sleep 0.2; exit 5");
    let (code, _, text) = host.run("key", &["wait", "--for", "done", "--timeout", "0.2"]);
    assert!(code == 1 && text.contains("too long"), "{code} {text}");
    assert_eq!(host.run("key", &["wait", "--idle"]).0, 0);
    assert_eq!(host.run("key", &["wait"]).0, 2);
    assert_eq!(host.run("key", &["wait", "--exit", "--idle"]).0, 2);
    let mut exit = host.call("key", &["wait", "--exit"]).spawn().unwrap();
    let mut shown = host.call("key", &["wait", "--for", "done"]).spawn().unwrap();
    let mut never = host.call("key", &["wait", "--for", "never"]).stderr(Stdio::null()).spawn().unwrap();
    eventually("three who wait", || {
        let status: Value = serde_json::from_str(&host.run("key", &["status", "--json"]).1).unwrap();
        status["count"] == 3
    });
    assert_eq!(host.run("key", &["send", "x\n"]).0, 0);
    assert_eq!(shown.wait().unwrap().code(), Some(0));
    assert_eq!(exit.wait().unwrap().code(), Some(5));
    assert_eq!(never.wait().unwrap().code(), Some(69));
    assert_eq!(host.end(), Some(5));
}

#[test]
fn the_screen_is_what_a_terminal_would_show() {
    let host = Host::start(&["--pty"], "printf 'gone\\033[2J\\033[3;5Hhere \\033[1mbold'; read x");
    assert_eq!(host.run("key", &["wait", "--for", "bold"]).0, 0);
    assert_eq!(host.run("key", &["screen"]), (0, "\n\n    here bold\n".to_owned(), String::new()));
    let pipes = Host::start(&["--pipes"], "echo text; read x");
    let (code, _, text) = pipes.run("key", &["screen"]);
    assert!(code == 2 && text.contains("trunkline watch"), "{code} {text}");
}

#[test]
fn status_says_who_is_here_and_what_they_do() {
    let host = Host::start(&["--pty"], "echo ready; read x");
    let mut desk = host.terminal("key", Size::default());
    desk.shows("ready");
    let mut wall = host.terminal("watch", Size::default());
    wall.shows("ready");
    let mut status = Value::Null;
    eventually("both, one of them the owner", || {
        status = serde_json::from_str(&host.run("watch", &["status", "--json"]).1).unwrap();
        status["clients"].as_array().unwrap().iter().any(|client| client["owner"] == true)
            && status["count"] == 2
    });
    assert_eq!(
        (&status["status"], &status["upstream"], &status["sealed"]),
        (&"busy 0".into(), &"live".into(), &true.into())
    );
    // One that is too short to be measured is not told.
    assert!(status["round_trip_s"].as_f64().is_none_or(|time| time > 0.0), "{status}");
    let clients = status["clients"].as_array().unwrap();
    let one = |name: &str| clients.iter().find(|client| client["name"] == name).unwrap();
    assert_eq!((&one("key")["owner"], &one("key")["read_only"]), (&true.into(), &false.into()));
    assert_eq!((&one("watch")["owner"], &one("watch")["read_only"]), (&false.into(), &true.into()));
    let (code, text, _) = host.run("key", &["status"]);
    assert!(
        code == 0
            && text.contains("program  running")
            && text.contains("has the input")
            && text.contains("only watches"),
        "{text}"
    );
}

/// What was cut between two reads is whole in each object.
#[test]
fn a_character_that_comes_in_single_bytes_is_whole_for_a_watcher() {
    let bytes =
        "ä─😀\n".bytes().map(|byte| format!("printf '\\{byte:03o}'; sleep 0.02; ")).collect::<String>();
    for how in ["--pipes", "--pty"] {
        let host = Host::start(&[how], &format!("read x; {bytes} printf '\\377'; read y"));
        let mut watch = host.call("watch", &["watch", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
        let mut texts = String::new();
        assert_eq!(host.run("key", &["send", "\n"]).0, 0);
        for object in lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap()) {
            if let Some(text) = object["text"].as_str() {
                texts.push_str(text);
            } else if object["base64"] == "/w==" {
                break;
            }
            // A terminal shows what is no text as U+FFFD.
            if how == "--pty" && texts.contains('\u{fffd}') {
                break;
            }
        }
        assert!(texts.contains("ä─😀"), "{how}: {texts:?}");
        watch.kill().unwrap();
        watch.wait().unwrap();
    }
}

/// The documented order: of what lies in both pipes standard output comes first, what was written later comes later, and
/// the end is last.
#[test]
fn a_watcher_gets_both_streams_in_order_and_the_end_last() {
    let script = "read x; for i in 1 2 3; do echo out $i; sleep 0.1; echo err $i >&2; sleep 0.1; done; echo last >&2; exit 3";
    let host = Host::start(&["--pipes"], script);
    let watch = host.call("watch", &["watch", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    eventually("the watcher", || host.run("key", &["status"]).1.contains("only watches"));
    assert_eq!(host.run("key", &["send", "\n"]).0, 0);
    let output = watch.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8(output.stdout).unwrap();
    let objects = objects(&text);
    let told: Vec<_> = objects
        .iter()
        .map(|object| {
            format!(
                "{}{}",
                object["channel"].as_str().unwrap_or(""),
                object["text"].as_str().or(object["status"].as_str()).unwrap()
            )
        })
        .collect();
    let told = told.join("|").replace('\n', "");
    assert_eq!(
        told,
        "busy 0|stdoutout 1|stderrerr 1|stdoutout 2|stderrerr 2|stdoutout 3|stderrerr 3|stderrlast|exited 3"
    );
    let times: Vec<_> = objects.iter().map(|object| object["time"].as_f64().unwrap()).collect();
    assert!(times.is_sorted() && times[0] > 1e9, "{times:?}");
}

/// A log is read by programs, which have no terminal that a screen could be painted on.
#[test]
fn a_log_begins_with_what_the_screen_shows_as_text() {
    let script = "printf '\\033[1mbold\\033[0m\\033[5;1Hfifth row\\n\\n'; read x; printf '\\033[31mred\\033[0m'; read x; exit 3";
    let host = Host::start(&["--pty", "--size", "60x20"], script);
    assert_eq!(host.run("key", &["wait", "--for", "fifth row"]).0, 0);
    let mut watch = host.call("watch", &["watch", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    let screen = loop {
        let object = next();
        if object["status"].is_null() {
            break object;
        }
    };
    assert_eq!(screen["channel"], "screen");
    assert_eq!(screen["text"], "bold\n\n\n\nfifth row\n\n");
    assert_eq!((&screen["columns"], &screen["rows"]), (&60.into(), &20.into()));
    // What it writes from now on is as it writes it.
    assert_eq!(host.run("key", &["send", "x\n"]).0, 0);
    let mut text = String::new();
    while !text.contains("red") {
        text += next()["text"].as_str().unwrap_or_default();
    }
    assert!(text.starts_with("x\r\n\x1b[31mred"), "{text:?}");
    let ends_it = host.run("key", &["send", "x\n"]);
    assert_eq!(ends_it.0, 0, "{ends_it:?}");
    assert_eq!(watch.wait().unwrap().code(), Some(3));
}

#[test]
fn a_watcher_whose_reader_is_gone_ends_and_one_that_is_late_is_told_what_it_missed() {
    let host = Host::start(&["--pipes", "--history", "524288"], "read x; seq 300000; echo ready; read y");
    let mut gone = host.call("watch", &["watch", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(gone.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("busy"));
    assert_eq!(host.run("key", &["send", "\n"]).0, 0);
    assert_eq!(gone.wait().unwrap().code(), Some(141));
    assert_eq!(host.run("key", &["wait", "--for", "ready"]).0, 0);

    // One that joins now gets the newest, and hears how much is gone.
    let mut late = host.call("watch", &["watch", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(late.stdout.take().unwrap()).lines();
    let (mut missed, mut text) = (0, String::new());
    while !text.ends_with("ready\n") {
        let object: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        missed += object["gap"]["bytes"].as_u64().unwrap_or(0);
        text.push_str(object["text"].as_str().unwrap_or(""));
    }
    let all: String = (1..=300_000).map(|number| format!("{number}\n")).collect::<String>() + "ready\n";
    assert!(missed > 0 && all.ends_with(&text), "{missed} bytes missed");
    assert_eq!(missed as usize + text.len(), all.len());
    late.kill().unwrap();
    late.wait().unwrap();
}

#[test]
fn a_watcher_at_a_terminal_types_nothing_and_leaves_it_as_it_was() {
    let host = Host::start(
        &["--pty"],
        "printf '\\033[?1049h\\033[?1002hfull screen'; while read x; do echo got $x; done",
    );
    let mut wall = Terminal::of(host.call("key", &["watch"]), Size::default());
    wall.shows("full screen");
    wall.keys("forged\r");
    wall.shows("you are watching");
    assert_eq!(host.run("key", &["send", "honest\n"]).0, 0);
    wall.shows("got honest");
    assert!(!wall.text().contains("got forged"));
    wall.keys("\x03");
    assert_eq!(wall.end().code(), 0);
    let screen = wall.program.screen().unwrap();
    assert!(!screen.is_alternate());
    assert!(!String::from_utf8_lossy(&screen.snapshot()).contains("?1002h"));
}

/// Questions to the clipboard, and titles that would be typed back, reach no viewer's terminal.
#[test]
fn what_a_terminal_would_answer_with_secrets_is_not_shown_to_it() {
    let script = "printf '\\033]2;rm -rf ~\\007\\033]52;c;?\\007\\033[21t\\033]10;?\\007\\033P+q544e\\033\\\\ready'; read x";
    let host = Host::start(&["--pty"], script);
    let mut desk = host.terminal("key", Size::default());
    desk.shows("ready");
    let shown = String::from_utf8_lossy(&desk.written).into_owned();
    for question in ["52;c;?", "[21t", "10;?", "P+q"] {
        assert!(!shown.contains(question), "{question} in {shown:?}");
    }
}

#[test]
fn a_slow_viewer_of_a_fast_screen_catches_up_to_what_a_joiner_sees() {
    let script = "read x; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); printf '\\033[%d;%dHline %d ' $((i%24+1)) $((i%50+1)) $i; done; printf ready; read y";
    let host = Host::start(&["--pty", "--size", "80x24"], script);
    let mut viewer = host.terminal("watch", Size::default());
    let pid = rustix::process::Pid::from_raw(viewer.program.pid().unwrap() as i32).unwrap();
    eventually("the viewer", || host.run("key", &["status"]).1.contains("only watches"));
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    assert_eq!(host.run("key", &["send", "\n"]).0, 0);
    assert_eq!(host.run("key", &["wait", "--for", "ready"]).0, 0);
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    viewer.shows("ready");
    let joiner = host.run("key", &["screen"]).1;
    viewer.until(|text| text.trim_end() == joiner.trim_end());
}

#[test]
fn ctrl_c_is_quick_behind_a_flood_on_a_slow_link() {
    let host = Host::start(
        &["--pty"],
        "trap 'printf \"\\nstopped\\n\"; read x' INT; echo ready; yes 0123456789012345678901234567890123456789; exit 1",
    );
    let proxy = proxy::Proxy::new(&host.address, Some(100_000));
    let address = proxy.address.to_string();
    let mut command = host.attach("key", &[]);
    command.env("TRUNKLINE_ADDR", &address);
    let mut command = trunkline();
    command.args(["attach", &address, "--key-file"]).arg(host.key("key"));
    let mut desk = Terminal::of(command, Size::default());
    desk.shows("0123456789");
    // Until the flood has filled what there is to fill.
    desk.pass(Duration::from_millis(1500));
    let typed = Instant::now();
    desk.keys("\x03");
    desk.shows("stopped");
    // 2 s on a quiet machine.
    assert!(typed.elapsed() < Duration::from_secs(20), "{:?}", typed.elapsed());
    eprintln!("stopped is seen after {:?}", typed.elapsed());
}

#[test]
fn top_shows_rates_and_clients_and_leaves_the_terminal_as_it_was() {
    let host = Host::start(&["--pipes"], "while :; do echo 0123456789; done");
    let mut top = Terminal::of(host.call("watch", &["top"]), Size::new(110, 30));
    top.until(|text| {
        let stdout = text.lines().find(|line| line.contains("stdout"));
        stdout.is_some_and(|line| line.contains(" kB/s") || line.contains(" MB/s"))
            && text.contains("busy 0")
            && text.lines().any(|line| line.contains("watch") && line.contains("you watches"))
    });
    top.keys("q");
    assert_eq!(top.end().code(), 0);
    assert!(!top.program.screen().unwrap().is_alternate());
    let (code, _, text) = host.run("watch", &["top"]);
    assert!(code == 2 && text.contains("trunkline status"), "{code} {text}");
}

#[test]
fn every_call_has_help_with_an_example() {
    let help = finish({
        let mut command = trunkline();
        command.arg("--help");
        command
    })
    .1;
    let commands =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands: Vec<_> = commands.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(commands.len() >= 16, "{commands:?}");
    for name in commands.into_iter().filter(|name| *name != "help") {
        let mut command = trunkline();
        command.args([name, "--help"]);
        let (code, text, _) = finish(command);
        assert!(
            code == 0 && text.contains("Example") && text.contains(&format!("  trunkline {name}")),
            "{text}"
        );
    }
    for text in ["69  cannot connect", "77  not authorised", "127  the program", "wrong usage"] {
        assert!(help.contains(text), "{help}");
    }
}

/// A reader that wants no more is told nothing, and not only when more is written.
#[test]
fn a_reader_that_goes_away_ends_the_call_without_a_word() {
    let host = Host::start(&["--pipes"], "echo one; echo two; read x");
    for (call, first) in [(&["watch"][..], "one\n"), (&["attach"], "one\n"), (&["watch", "--json"], "{\"")] {
        let mut command = host.call("key", call);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = child.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with(first), "{line}");
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), &output.stderr[..]), (Some(141), &b""[..]), "{call:?}");
    }
    for call in [&["status"][..], &["completions", "bash"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = host.call("key", call).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!((output.status.code(), &output.stderr[..]), (Some(141), &b""[..]), "{call:?}");
    }
    // What cannot be told ends nothing.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let wait = ["wait", "--for", "three", "--timeout", "0"];
    assert_eq!(host.call("key", &wait).stderr(writer).status().unwrap().code(), Some(1));
}
