//! The example `repl` from end to end: its processes, scripts in and exact output out.

mod support;

use std::io::Write;
use std::thread;
use std::time::Duration;

use support::LONG;
use support::delay::Delay;
use support::kernel::{Kernel, console};
use support::process::{Outcome, Process, example, lines, rest};
use trunkline::{ChannelId, Config, Connection, Key, Receiver, RecvError, RecvTimeoutError};

use trunkline_kernel::layout::{CONTROL, INTROSPECTION, STATUS, STDERR, STDIN, STDOUT};

/// Runs a script through a console and a kernel of its own.
fn run(script: &str) -> Outcome {
    let mut process = Process::start(&mut example("repl"));
    process.write(script);
    process.finish();
    process.end()
}

/// A script that runs without a failure of console or kernel; its stdout and stderr.
#[track_caller]
fn check(script: &str, stdout: &str, stderr: &str) {
    let expected = Outcome { code: Some(0), stdout: stdout.to_owned(), stderr: stderr.to_owned() };
    let outcome = run(script);
    assert_eq!(outcome.stdout, expected.stdout, "stdout; stderr is {:?}", outcome.stderr);
    assert_eq!(outcome, expected);
}

#[test]
fn an_empty_script_ends_well() {
    check("", "", "");
}

#[test]
fn values_are_shown_as_they_are_written_in_a_program() {
    check(
        "40 + 2\n\"a\" + \"b\"\nlet x = 5\nx * 2\n[1, \"two\", 3.5, 'c', #{a: 1}]\n()\n\n// nothing\nx == 5\n",
        "42\n\"ab\"\n10\n[1, \"two\", 3.5, 'c', #{\"a\": 1}]\ntrue\n",
        "",
    );
}

#[test]
fn the_last_line_needs_no_end() {
    check("1\r\n2", "1\n2\n", "");
}

#[test]
fn print_goes_to_stdout_and_debug_to_stderr() {
    check("print(\"out\")\ndebug(\"err\")\n", "out\n", "\"err\"\n");
}

#[test]
fn errors_name_line_and_column_and_the_scope_survives() {
    check(
        "let x = 1\nnope\n1 + * 2\n  x + nope\nlet 5 = 3\n\"open\nthrow \"boom\"\n[1][4]\nx\n",
        "1\n",
        "error at line 1, column 1: Variable not found: nope\n\
         syntax error at line 1, column 5: Unexpected '*'\n\
         error at line 1, column 7: Variable not found: nope\n\
         syntax error at line 1, column 5: Expecting name of a variable\n\
         syntax error at line 1, column 1: Open string is not terminated\n\
         error at line 1, column 1: Runtime error: boom\n\
         error at line 1, column 5: Array index 4 out of bounds: only 1 element in array\n",
    );
}

#[test]
fn an_error_in_a_function_names_its_place_there_and_the_call() {
    check(
        "fn inner() {\n  let q = 1;\n  missing(q)\n}\nfn outer() { inner() }\nouter()\n",
        "",
        "error at line 3, column 3: Function not found: missing (i64)\n  \
           in inner, called at line 1, column 14\n  \
           in outer, called at line 1, column 1\n",
    );
}

#[test]
fn an_incomplete_statement_goes_on_in_the_next_lines() {
    check(
        "fn add(a, b) {\n\n  a + b\n}\nadd(1,\n  2)\n3 +\n4\nlet t = `multi\n${`in` + {\n1}} line`\nt\n\
         /* a /* nested */ comment\n\n*/ 5\nlet m = #{\n a: '}',\n}\nm.a\n\"joined \\\nline\"\n",
        "3\n7\n\"multi\\nin1 line\"\n5\n'}'\n\"joined line\"\n",
        "",
    );
}

/// Its lines must not cost the more, the more there are.
#[test]
fn a_block_of_thousands_of_lines_is_run() {
    let line = "    n += [1, `}`].len() - 1; // and one more {\n";
    let block = format!("let n = 0\nif n == 0 {{\n{}}}\nn\n", line.repeat(5000));
    check(&block, "5000\n", "");
}

#[test]
fn what_looks_like_a_bracket_in_text_is_none() {
    check(
        "'{'\n\"{ [ (\"\n#\"raw \" { \"#\nlet r = #\"\nraw \" {\n\"#\nr\n`{ ${\"}\"} (`\n/* { \" ` */ 1\n// {\n\
         \"\\\"{\"\n\"a \\\n{\"\n'\\''\n[1,\n2]\n",
        "'{'\n\"{ [ (\"\n\"raw \\\" { \"\n\"\\nraw \\\" {\\n\"\n\"{ } (\"\n1\n\"\\\"{\"\n\"a {\"\n'\\'\'\n[1, 2]\n",
        "",
    );
}

/// Neither side holds it, and the script goes on.
#[test]
fn a_line_that_is_too_long_is_told_and_the_next_ones_run() {
    let outcome = run(&format!("1\nprint(2)\n\"{}\"\n3\n", "x".repeat(40 << 20)));
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), "1\n2\n3\n"));
    assert!(
        outcome.stderr.contains("has a line of more than 16 MiB, which was not run\n"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn an_error_in_an_incomplete_statement_is_reported_at_once() {
    check(
        "fn f() {\n  let = 5;\n1\n",
        "1\n",
        "syntax error at line 2, column 7: Expecting name of a variable\n",
    );
}

#[test]
fn a_script_that_ends_inside_a_statement_is_told_so() {
    check("1\nif true {\n", "1\n", "error: the last statement is incomplete\n");
}

#[test]
fn input_reads_the_lines_that_follow_also_when_nested() {
    check(
        "let name = input(\"name? \")\nAda\nname\n\
         fn ask() { input(\"\") + input(\"\") }\nask() + ask()\n1\n2\n3\n4\n\
         let n = parse_int(input())\n41\nn + 1\n",
        "name? \"Ada\"\n\"1234\"\n42\n",
        "",
    );
}

#[test]
fn input_after_the_last_line_is_an_error_that_a_program_can_catch() {
    check("try { input(\"? \") } catch (e) { print(e) }", "? there is no more input\n", "");
}

#[test]
fn interrupts_stop_every_kind_of_loop_and_sleep() {
    let loops = [
        "loop {}",
        "while true {}",
        "do {} while true",
        "for i in 0..1000000000000 {}",
        "try { loop {} } catch { print(\"caught\") }",
        "fn f() { loop {} } f()",
        "sleep(100000000)",
    ];
    let script: String = loops.iter().map(|line| format!("{line}\n:interrupt\n1 + 1\n")).collect();
    check(&script, &"2\n".repeat(loops.len()), &"interrupted\n".repeat(loops.len()));
}

#[test]
fn an_interrupted_block_leaves_no_variables() {
    check(
        "{ let inner = 1; loop {} }\n:interrupt\ninner\n",
        "",
        "interrupted\nerror at line 1, column 1: Variable not found: inner\n",
    );
}

#[test]
fn an_interrupt_wakes_input_and_the_next_line_is_no_answer() {
    check("input(\"\")\n:interrupt\n5 + 5\n", "10\n", "interrupted\n");
}

#[test]
fn an_interrupt_drops_an_incomplete_statement() {
    check("if true {\n  print(1);\n:interrupt\n2\n", "2\n", "interrupted\n");
}

#[test]
fn an_interrupt_that_comes_too_late_hits_no_other_line() {
    // Line 1 is long done; if the second interrupt were for whatever runs, line 2 would not end.
    check(
        ":interrupt\nloop {}\n:interrupt\n:interrupt\nlet n = 0; for i in 0..100000 { n += 1 } n\n",
        "100000\n",
        "interrupted\n",
    );
}

#[test]
fn an_interrupt_waits_until_its_line_is_reached() {
    check("sleep(300); 1\nloop {}\n:interrupt\n2\n", "1\n2\n", "interrupted\n");
}

#[test]
fn questions_are_answered_after_the_lines_before_them() {
    check(
        "let counter = 41\nfn count(by) { by }\n:complete coun\n:inspect counter\n:inspect count\n:inspect nobody\n:status\n\
         if true {\n:status\n}\ninput(\"\")\n:status\nx\n",
        "count\ncounter\nlet counter: i64 = 41\nfn count(by)\nnothing is called \"nobody\"\nidle\n\
         waiting for the rest of a statement\nwaiting for input\n\"x\"\n",
        "",
    );
}

#[test]
fn questions_are_answered_while_the_kernel_is_busy() {
    check(
        "let prime = 7\nloop {}\n:complete pri\n:inspect prime\n:status\n:interrupt\nprime\n",
        "prime\nprint\nprivate\nlet prime: i64 = 7\nbusy\n7\n",
        "interrupted\n",
    );
}

#[test]
fn quit_is_the_end_of_a_script() {
    check("1\n:quit\n2\n", "1\n", "");
}

#[test]
fn two_colons_are_one_for_the_kernel_and_an_unknown_command_is_an_error() {
    let outcome = run("input(\"\")\n::quit\n:nonsense\n1\n");
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), "\":quit\"\n1\n"));
    assert!(outcome.stderr.starts_with(":nonsense: there are only"), "{}", outcome.stderr);
}

#[test]
fn ten_thousand_lines_come_out_in_order() {
    let numbers: String = (0..10_000).map(|n| format!("{n}\n")).collect();
    check("for i in 0..10000 { print(i) }\n", &numbers, "");
    check(&numbers, &numbers, "");
}

#[test]
fn stdout_and_stderr_come_in_the_order_in_which_they_were_written() {
    let mut command = example("repl");
    // One pipe for both.
    let (both, writer) = std::io::pipe().unwrap();
    command.stdout(writer.try_clone().unwrap()).stderr(writer);
    let mut child = command.spawn().unwrap();
    drop(command);
    let output = lines(both);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"for i in 0..2000 { print(i); debug(i); }\nnope\n\"last\"\n").unwrap();
    drop(stdin);
    let mut expected: String = (0..2000).map(|n| format!("{n}\n{n}\n")).collect();
    expected += "error at line 1, column 1: Variable not found: nope\n\"last\"\n";
    let shown = rest(&output);
    assert!(child.wait().unwrap().success());
    assert_eq!(shown, expected);
}

#[test]
fn a_kernel_ends_with_its_console() {
    let mut process = Process::start(&mut example("repl"));
    process.write("print(\"up\"); loop {}\n");
    assert_eq!(process.line(), "up\n");
    process.child.kill().unwrap();
    // The kernel has the same stderr, so that it ends only when both have ended.
    assert_eq!(process.end().stderr, "");
}

/// A call of the interpreter that wants 32 GB, and reacts to nothing.
#[cfg(target_os = "linux")]
#[test]
fn a_kernel_has_no_more_memory_than_it_may() {
    let mut kernel = Kernel::with(&["--memory", "300"]);
    let mut console = kernel.console();
    console.write("print(\"up\")\n");
    // What a process that crashes has not given to the system is lost with it.
    assert_eq!(console.line(), "up\n");
    console.write("let all = []; all.pad(2000000000, 0);\n");
    let status = kernel.process.child.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(6), "{status}");
    let ended = console.end();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(3), ""), "{ended:?}");
    assert!(ended.stderr.contains("repl: the kernel is gone"), "{ended:?}");
}

#[test]
fn a_kernel_on_its_own_keeps_its_variables_from_console_to_console() {
    let kernel = Kernel::start();
    for (script, shown) in [("let a = 1\na\n", "1\n"), ("a += 1; a\n", "2\n")] {
        let mut console = kernel.console();
        console.write(script);
        console.finish();
        let expected = Outcome { code: Some(0), stdout: shown.to_owned(), stderr: String::new() };
        assert_eq!(console.end(), expected);
    }
}

/// Each has closed its connection when its process has ended.
#[test]
fn consoles_that_follow_each_other_closely_wait_for_none() {
    let kernel = Kernel::start();
    for _ in 0..30 {
        let mut console = kernel.console();
        console.write("6 * 7\n");
        console.finish();
        let expected = Outcome { code: Some(0), stdout: "42\n".to_owned(), stderr: String::new() };
        assert_eq!(console.end(), expected);
    }
}

#[test]
fn interrupts_of_a_script_over_a_slow_link_hit_their_lines() {
    let kernel = Kernel::start();
    let delay = Delay::new(kernel.address, Duration::from_millis(300));
    let mut console = kernel.console_at(delay.addr, &[]);
    console.write("loop {}\n:interrupt\nprint(2)\nloop {}\n:interrupt\nprint(4)\n");
    console.finish();
    let Outcome { code, stdout, stderr } = console.end();
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(0), "2\n4\n", "interrupted\ninterrupted\n"));
}

#[test]
fn a_console_that_dies_in_a_loop_leaves_the_kernel_to_the_next() {
    // With a session that is kept for long, and with none that is kept.
    for grace in ["3600", "0"] {
        let kernel = Kernel::with(&["--grace", grace]);
        let mut first = kernel.console();
        first.write("let a = 1\nif a == 1 {\nprint(\"up\"); loop {}\n}\n");
        assert_eq!(first.line(), "up\n");
        drop(first);
        let mut second = kernel.console();
        second.write("a\n");
        second.finish();
        let outcome = second.end();
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), "1\n"));
    }
}

#[test]
fn a_wrong_key_is_refused() {
    let kernel = Kernel::start();
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("key");
    Key::generate().write_new_file(&wrong).unwrap();
    let outcome = console(kernel.address, &wrong, &[]).end();
    let says = format!(
        "repl: --key-file {}: {}: the server does not accept this key; check that both sides use the same one\n",
        wrong.display(),
        kernel.address
    );
    assert_eq!(outcome, Outcome { code: Some(3), stdout: String::new(), stderr: says });
}

#[test]
fn errors_of_keys_and_addresses_name_the_file_and_the_option() {
    let folder = tempfile::tempdir().unwrap();
    let [none, bad] = ["none", "bad"].map(|name| folder.path().join(name).display().to_string());
    Key::generate().write_new_file(&bad).unwrap();
    std::fs::write(&bad, "no key").unwrap();
    let listen =
        |address, key_file| ["kernel", "--listen", address, "--key-file", key_file].map(str::to_owned);
    let connect =
        |address, key_file| ["console", "--connect", address, "--key-file", key_file].map(str::to_owned);
    for (arguments, says) in [
        (listen("127.0.0.1:0", &bad), ["--key-file", &bad]),
        (listen("nowhere", &none), ["--listen nowhere", "cannot listen"]),
        (connect("127.0.0.1:1", &bad), ["--key-file", &bad]),
        (connect("127.0.0.1:1", &none), [&none, "a kernel makes it"]),
    ] {
        let outcome = Process::start(example("repl").args(&arguments)).end();
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(says.iter().all(|says| outcome.stderr.contains(says)), "{arguments:?}: {}", outcome.stderr);
    }
    assert!(!std::fs::exists(&none).unwrap(), "a kernel that cannot listen leaves no key behind");
}

#[test]
fn arguments_that_make_no_sense_are_explained() {
    for (arguments, says) in [
        (&["nonsense"][..], "there is no \"nonsense\""),
        (&["kernel"], "--listen ADDR is missing"),
        (&["console", "--connect", "127.0.0.1:1"], "--key-file F is missing"),
        (&["kernel", "--connect", "127.0.0.1:1"], "an option that does not belong here"),
        (&["--listen", "127.0.0.1:0"], "options belong to `kernel` or `console`"),
        (&["kernel", "--grace", "soon"], "--grace is \"soon\"; it must be a whole number"),
        (&["--frobnicate"], "invalid option '--frobnicate'"),
    ] {
        let mut command = example("repl");
        command.args(arguments);
        let outcome = Process::start(&mut command).end();
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(outcome.stderr.starts_with(&format!("repl: {says}")), "{arguments:?}: {}", outcome.stderr);
    }
    let mut command = example("repl");
    command.arg("--help");
    assert!(Process::start(&mut command).end().stdout.contains(":interrupt"));
}

/// A console of the test's own: what it sees is exactly what the kernel sends.
struct Wire {
    connection: Connection,
    output: Receiver,
}

impl Wire {
    fn connect(kernel: &Kernel) -> Self {
        let config = Config::new(Key::from_file(kernel.key_file()).unwrap());
        let connection = Connection::connect(kernel.address, config).unwrap();
        let output = connection.receiver(STDOUT | STDERR | STATUS).unwrap();
        Self { connection, output }
    }

    fn send(&self, channel: ChannelId, text: &str) {
        // The sender is not kept: what follows is the next run of the channel. Stdin has but one.
        self.connection.sender(channel).unwrap().send(text).unwrap();
    }

    #[track_caller]
    fn expect(&self, channel: ChannelId, text: &str) {
        let message = self.output.recv_timeout(LONG).unwrap();
        assert_eq!((message.channel(), String::from_utf8_lossy(&message).as_ref()), (channel, text));
    }
}

#[test]
fn the_status_is_reported_on_change_among_the_output() {
    let kernel = Kernel::start();
    let wire = Wire::connect(&kernel);
    let stdin = wire.connection.sender(STDIN).unwrap();
    wire.expect(STATUS, "idle 0");
    stdin.send("print(1); input(\"name? \")\n").unwrap();
    wire.expect(STATUS, "busy 1");
    wire.expect(STDOUT, "1\n");
    wire.expect(STDOUT, "name? ");
    wire.expect(STATUS, "waiting 1");
    stdin.send("Ada\n").unwrap();
    wire.expect(STATUS, "busy 2");
    wire.expect(STDOUT, "\"Ada\"\n");
    wire.expect(STATUS, "idle 2");
    // An answer that is there already is not waited for. The number is that of the message.
    stdin.send("input(\"\")\nGrace\nif true {\n}\n").unwrap();
    wire.expect(STATUS, "busy 3");
    wire.expect(STDOUT, "\"Grace\"\n");
    wire.expect(STATUS, "idle 3");
    wire.expect(STATUS, "incomplete 3");
    wire.expect(STATUS, "busy 3");
    wire.expect(STATUS, "idle 3");
    stdin.send("if true {\n").unwrap();
    wire.expect(STATUS, "incomplete 4");
    stdin.send("}\n").unwrap();
    wire.expect(STATUS, "busy 5");
    wire.expect(STATUS, "idle 5");
    stdin.send("nonsense(\n)\n").unwrap();
    wire.expect(STATUS, "incomplete 6");
    wire.expect(STATUS, "busy 6");
    wire.expect(STDERR, "error at line 1, column 1: Function not found: nonsense ()\n");
    wire.expect(STATUS, "failed 6");
    wire.expect(STATUS, "idle 6");
}

#[test]
fn an_interrupt_wakes_a_blocked_input_and_the_interpreter_survives() {
    let kernel = Kernel::start();
    let wire = Wire::connect(&kernel);
    let stdin = wire.connection.sender(STDIN).unwrap();
    wire.expect(STATUS, "idle 0");
    stdin.send("let x = input(\"name? \")\n").unwrap();
    wire.expect(STATUS, "busy 1");
    wire.expect(STDOUT, "name? ");
    wire.expect(STATUS, "waiting 1");
    wire.send(CONTROL, "interrupt");
    wire.expect(STATUS, "interrupting 1");
    wire.expect(STDERR, "interrupted\n");
    wire.expect(STATUS, "idle 1");
    // For a line that is over.
    wire.send(CONTROL, "interrupt 1");
    stdin.send("input(\"\")\n").unwrap();
    wire.expect(STATUS, "busy 2");
    wire.expect(STATUS, "waiting 2");
    wire.send(CONTROL, "interrupt 1");
    stdin.send("still read\n").unwrap();
    wire.expect(STATUS, "busy 3");
    wire.expect(STDOUT, "\"still read\"\n");
    wire.expect(STATUS, "idle 3");
}

#[test]
fn introspection_is_answered_while_the_interpreter_is_busy() {
    let kernel = Kernel::start();
    let wire = Wire::connect(&kernel);
    let answers = wire.connection.receiver(INTROSPECTION).unwrap();
    let stdin = wire.connection.sender(STDIN).unwrap();
    wire.expect(STATUS, "idle 0");
    stdin.send("let answer = [1, 2]; print(answer.len())\n").unwrap();
    stdin.send("loop {}\n").unwrap();
    wire.expect(STATUS, "busy 1");
    wire.expect(STDOUT, "2\n");
    wire.expect(STATUS, "idle 1");
    wire.expect(STATUS, "busy 2");
    for (request, answer) in [
        (r#""op":"complete","code":"1 + ans","cursor":7"#, r#""matches":["answer"],"start":4,"end":7"#),
        (r#""op":"complete","code":"zzz","cursor":3"#, r#""matches":[],"start":0,"end":3"#),
        (r#""op":"inspect","code":"answer","cursor":2"#, r#""text":"let answer: array = [1, 2]""#),
        (
            r#""op":"inspect","code":"input","cursor":5"#,
            r#""text":"input(prompt): shows the prompt and reads a line from stdin""#,
        ),
        (
            r#""op":"variables""#,
            r#""variables":[{"name":"answer","type":"array","size":"","text":"[1, 2]"}]"#,
        ),
        (
            r#""op":"dance""#,
            r#""error":"\"dance\" is not an operation; there are complete, inspect, variables, stack, info""#,
        ),
    ] {
        wire.send(INTROSPECTION, &format!("{{\"id\":7,{request}}}"));
        let message = answers.recv_timeout(LONG).unwrap();
        assert_eq!(String::from_utf8_lossy(&message), format!("{{\"id\":7,{answer}}}"), "{request}");
    }
    wire.send(CONTROL, "interrupt");
    wire.expect(STATUS, "interrupting 2");
    wire.expect(STDERR, "interrupted\n");
    wire.expect(STATUS, "idle 2");
}

#[test]
fn an_interrupt_stops_a_flood_that_nobody_reads() {
    let kernel = Kernel::start();
    let wire = Wire::connect(&kernel);
    let stdin = wire.connection.sender(STDIN).unwrap();
    stdin.send("loop { print(\"x\" + \"y\") }\n").unwrap();
    stdin.send("print(\"after\")\n").unwrap();
    // Let it run into the wall: the window is full, and nothing more can come.
    let full = |wire: &Wire| wire.output.len();
    let mut before = 0;
    while before == 0 || full(&wire) > before {
        before = full(&wire);
        thread::sleep(Duration::from_millis(100));
    }
    wire.send(CONTROL, "interrupt 1");
    let mut after = Vec::new();
    loop {
        let message = match wire.output.recv_timeout(LONG) {
            Ok(message) => message,
            // What was taken back; how much that is, is a matter of chance.
            Err(RecvTimeoutError::Disconnected(RecvError::Gap { channel: STDOUT, .. })) => continue,
            Err(error) => panic!("{error}: {after:?}"),
        };
        match message.channel() {
            STDOUT if &*message == b"xy\n" => {}
            channel => after.push((channel, String::from_utf8_lossy(&message).into_owned())),
        }
        if after.last().is_some_and(|(_, text)| text == "idle 2") {
            break;
        }
    }
    let texts: Vec<&str> = after.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(
        texts,
        ["idle 0", "busy 1", "interrupting 1", "interrupted\n", "idle 1", "busy 2", "after\n", "idle 2"]
    );
}
