//! The interpreter: Rhai, with one scope that lives as long as the kernel.

use std::time::{Duration, Instant};

use rhai::{AST, Dynamic, Engine, EvalAltResult, NativeCallContext, OptimizationLevel, Position, Scope};
use trunkline_kernel::kernel::{Kernel, Next, Run, Stdio, StdioError};

use crate::Failure;
use crate::names::Names;
use crate::syntax::{Parsed, Statement};

/// Runs what consoles send, until there are no more.
pub fn serve(start: impl FnOnce(Names) -> Result<Kernel, Failure>) -> Result<(), Failure> {
    let names = Names::default();
    let mut kernel = start(names.clone())?;
    let stdio = kernel.stdio();
    let engine = engine(&stdio);
    let (mut scope, mut functions) = (Scope::new(), AST::empty());
    let mut statement = Statement::default();
    // A console that is gone needs no text.
    let complain = |text: String| drop(stdio.write_stderr(text + "\n"));
    loop {
        let line = match kernel.next() {
            Next::Line(line) => line,
            Next::Finished if !statement.is_empty() => {
                complain("error: the last statement is incomplete".to_owned());
                continue;
            }
            Next::Exit | Next::Over => break,
            _ => {
                statement.clear();
                continue;
            }
        };
        let parsed = match statement.push(&engine, &line) {
            Parsed::Incomplete => {
                kernel.incomplete();
                continue;
            }
            Parsed::Wrong(error) => {
                complain(format!("syntax error{}: {}", place(error.position()), error.err_type()));
                kernel.fail();
                continue;
            }
            Parsed::Complete(parsed) => parsed,
        };
        functions.combine(parsed);
        let ended = kernel.run(|| {
            let value = engine.eval_ast_with_scope::<Dynamic>(&mut scope, &functions)?;
            if !value.is_unit() {
                // As it is written in a program, so that "1" is not 1.
                drop(stdio.write_stdout(format!("{value:?}\n")));
            }
            Ok::<(), Box<EvalAltResult>>(())
        });
        // The functions stay, what has run does not.
        functions.clear_statements();
        // The kernel says if it was interrupted.
        if let Run::Done(Err(error)) = ended
            && !matches!(error.unwrap_inner(), EvalAltResult::ErrorTerminated(..))
        {
            complain(runtime_error(*error));
            kernel.fail();
        }
        names.update(&scope, &functions);
    }
    kernel.end(0);
    Ok(())
}

/// Rhai with what connects it to a console.
fn engine(stdio: &Stdio) -> Engine {
    let mut engine = Engine::new();
    // Statements run once; and an empty loop is to loop.
    engine.set_optimization_level(OptimizationLevel::None);

    // A write that fails is that of a statement which stops at its next operation.
    let here = stdio.clone();
    engine.on_print(move |text| drop(here.write_stdout(format!("{text}\n"))));
    let here = stdio.clone();
    engine.on_debug(move |text, _, _| drop(here.write_stderr(format!("{text}\n"))));
    let here = stdio.clone();
    engine.on_progress(move |_| here.stop_requested().then_some(Dynamic::UNIT));

    let here = stdio.clone();
    engine.register_fn("input", move |context: NativeCallContext<'_>, prompt: &str| {
        input(&here, &context, prompt)
    });
    let here = stdio.clone();
    engine.register_fn("input", move |context: NativeCallContext<'_>| input(&here, &context, ""));

    let here = stdio.clone();
    engine.register_fn("sleep", move |context: NativeCallContext<'_>, ms: i64| {
        let ms = u64::try_from(ms).map_err(|_| failed(&context, "sleep takes no negative time"))?;
        let now = Instant::now();
        let until = now.checked_add(Duration::from_millis(ms));
        let slept = here.sleep_until(until.unwrap_or(now + Duration::from_secs(1 << 32)));
        if slept || !here.stop_requested() { Ok(()) } else { Err(terminated(&context)) }
    });
    engine
}

fn input(stdio: &Stdio, context: &NativeCallContext<'_>, prompt: &str) -> Result<String, Box<EvalAltResult>> {
    let line = stdio.write_stdout(prompt).and_then(|()| stdio.read_line());
    match line {
        Ok(line) => Ok(line.trim_end_matches(['\n', '\r']).to_owned()),
        Err(StdioError::Interrupted | StdioError::Gone) => Err(terminated(context)),
        Err(error) => Err(failed(context, &error.to_string())),
    }
}

/// Not an error that the program could catch.
fn terminated(context: &NativeCallContext<'_>) -> Box<EvalAltResult> {
    EvalAltResult::ErrorTerminated(Dynamic::UNIT, context.call_position()).into()
}

fn failed(context: &NativeCallContext<'_>, why: &str) -> Box<EvalAltResult> {
    EvalAltResult::ErrorRuntime(why.into(), context.call_position()).into()
}

/// What went wrong and where, and then the calls that led there.
fn runtime_error(error: EvalAltResult) -> String {
    let mut calls = String::new();
    let mut inner = error;
    while let EvalAltResult::ErrorInFunctionCall(name, _, cause, position) = inner {
        calls = format!("\n  in {name}, called{}{calls}", place(position));
        inner = *cause;
    }
    // The place is shown in front.
    let position = inner.take_position();
    format!("error{}: {inner}{calls}", place(position))
}

/// Counted in the statement: it is what the person has just written.
fn place(position: Position) -> String {
    let column = position.position().unwrap_or(1);
    position.line().map_or_else(String::new, |line| format!(" at line {line}, column {column}"))
}
