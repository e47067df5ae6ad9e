//! The interpreter: Rhai, with one scope that lives as long as the kernel.

use std::rc::Rc;
use std::time::Duration;

use rhai::{
    AST, Dynamic, Engine, EvalAltResult, NativeCallContext, OptimizationLevel, ParseError, Position, Scope,
};

use crate::interrupts::Stage;
use crate::names::Names;
use crate::session::{Next, NoLine, Session};
use crate::syntax::{Parsed, Statement};

pub struct Interpreter {
    scope: Scope<'static>,
    functions: AST,
    names: Names,
}

impl Interpreter {
    pub fn new(names: Names) -> Self {
        Self { scope: Scope::new(), functions: AST::empty(), names }
    }

    /// Reads statements from a console and runs them, until it has no more.
    pub fn serve(&mut self, session: &Rc<Session>) {
        let engine = engine(session);
        let mut statement = Statement::default();
        session.enter(Stage::Idle);
        loop {
            let line = match session.next() {
                Next::Line(line) => line,
                Next::Drop => {
                    statement.clear();
                    session.complain("interrupted");
                    session.enter(Stage::Idle);
                    continue;
                }
                Next::End => {
                    if !statement.is_empty() {
                        session.complain("error: the last statement is incomplete");
                    }
                    return;
                }
            };
            match statement.push(&engine, &line) {
                Parsed::Incomplete => {
                    session.enter(Stage::Incomplete);
                    continue;
                }
                Parsed::Wrong(error) => session.complain(&syntax_error(&error)),
                Parsed::Complete(statement) => {
                    session.enter(Stage::Running);
                    self.run(&engine, session, statement);
                }
            }
            session.enter(Stage::Idle);
        }
    }

    fn run(&mut self, engine: &Engine, session: &Session, statement: AST) {
        self.functions.combine(statement);
        let result = engine.eval_ast_with_scope::<Dynamic>(&mut self.scope, &self.functions);
        // The functions stay, what has run does not.
        self.functions.clear_statements();
        match result {
            Ok(value) if value.is_unit() => {}
            // As it is written in a program, so that "1" is not 1.
            Ok(value) => session.print(&format!("{value:?}")),
            Err(error) if matches!(error.unwrap_inner(), EvalAltResult::ErrorTerminated(..)) => {
                // The interrupt has done its work; this is to be shown even if there is no room yet.
                session.interrupts.enter(Stage::Running);
                session.complain("interrupted");
            }
            Err(error) => session.complain(&runtime_error(*error)),
        }
        self.names.update(&self.scope, &self.functions);
    }
}

/// Rhai with what connects it to a console.
fn engine(session: &Rc<Session>) -> Engine {
    let mut engine = Engine::new();
    // Statements run once; and an empty loop is to loop.
    engine.set_optimization_level(OptimizationLevel::None);

    let here = Rc::clone(session);
    engine.on_print(move |text| here.print(text));
    let here = Rc::clone(session);
    engine.on_debug(move |text, _, _| here.complain(text));
    let here = Rc::clone(session);
    engine.on_progress(move |_| here.interrupts.stopping().then_some(Dynamic::UNIT));

    let here = Rc::clone(session);
    engine.register_fn("input", move |context: NativeCallContext<'_>, prompt: &str| {
        input(&here, &context, prompt)
    });
    let here = Rc::clone(session);
    engine.register_fn("input", move |context: NativeCallContext<'_>| input(&here, &context, ""));

    let here = Rc::clone(session);
    engine.register_fn("sleep", move |context: NativeCallContext<'_>, ms: i64| {
        let ms = u64::try_from(ms).map_err(|_| failed(&context, "sleep takes no negative time"))?;
        here.interrupts.sleep(Duration::from_millis(ms));
        if here.interrupts.stopping() { Err(terminated(&context)) } else { Ok(()) }
    });
    engine
}

fn input(
    session: &Session,
    context: &NativeCallContext<'_>,
    prompt: &str,
) -> Result<String, Box<EvalAltResult>> {
    session.input(prompt).map_err(|no_line| match no_line {
        NoLine::Interrupted => terminated(context),
        NoLine::Failed(why) => failed(context, &why),
    })
}

/// Not an error that the program could catch.
fn terminated(context: &NativeCallContext<'_>) -> Box<EvalAltResult> {
    EvalAltResult::ErrorTerminated(Dynamic::UNIT, context.call_position()).into()
}

fn failed(context: &NativeCallContext<'_>, why: &str) -> Box<EvalAltResult> {
    EvalAltResult::ErrorRuntime(why.into(), context.call_position()).into()
}

fn syntax_error(error: &ParseError) -> String {
    format!("syntax error{}: {}", place(error.position()), error.err_type())
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
    match (position.line(), position.position()) {
        (Some(line), Some(column)) => format!(" at line {line}, column {column}"),
        (Some(line), None) => format!(" at line {line}, column 1"),
        _ => String::new(),
    }
}
