//! `inputs`: builds a component while tracing its hooks, and prints a `build/inputs` file that
//! declares everything that they read.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use xtask_core::paths::join;
use xtask_core::problem::{Problem, Problems};
use xtask_core::regular_file;
use xtask_core::workspace::components::{Component, WorkspaceOptions};
use xtask_core::workspace::hook::Hook;

use crate::build::mode::Mode;
use crate::build::options::{BuildOptions, Scope, Selection};
use crate::build::prepare::read_workspace;
use crate::build::run as build;
use crate::command_context::CommandContext;
use crate::command_error::CommandError;
use crate::event::Event;
use crate::program;
use crate::system::state;
use crate::system::strace::{TRACER, TracedReads};

/// At least the block size of common file systems.
const BLOCK: usize = 64 << 10;

#[derive(Clone, Debug)]
pub(crate) struct InputsOptions {
    pub(crate) component: String,
    /// Compare with the existing file instead of printing a new one.
    pub(crate) check: bool,
    pub(crate) reading: WorkspaceOptions,
}

pub(crate) async fn run(options: &InputsOptions, ctx: &CommandContext) -> Result<(), CommandError> {
    check_tracer()?;
    let mut reading = options.reading.clone();
    ctx.add_proxies(&mut reading);
    let registry = reading.registry()?;
    let (workspace, _) = read_workspace(&ctx.root, &reading, registry.as_ref(), &ctx.events)?;
    let id = workspace.find_one(&options.component).map_err(Problems::from)?;
    let component = &workspace.components[id];
    if !component.has_hooks() {
        let message = format!("'{}' has no hooks: there is nothing to declare", component.name);
        return Err(Problems::from(Problem::of_request(message)).into());
    }
    let trace = ctx.root.join(state::DIR).join("trace");
    let created = state::create_folder(&ctx.root);
    created.and_then(|()| File::create(&trace)).map_err(|error| trace_error(&error))?;
    let scope = Scope { reading, selection: Selection::Named(vec![component.name.clone()]) };
    let how = BuildOptions::default();
    Box::pin(build::run_with(ctx.engine(), &scope, &how, Mode::Trace(&trace), ctx)).await?;
    check_not_truncated(&trace).map_err(|error| trace_error(&error))?;
    let text = fs::read(&trace).map_err(|error| trace_error(&error))?;
    let reads = TracedReads::parse(&String::from_utf8_lossy(&text), &ctx.root, &component.dir);
    fs::remove_file(&trace).map_err(|error| trace_error(&error))?;
    if options.check {
        return check(component, &reads);
    }
    let hooks = component.hooks().filter_map(Hook::script);
    let scripts: Vec<String> =
        hooks.filter_map(|hook| regular_file::read_to_string(&ctx.root.join(hook)).ok()).collect();
    let is_set = |name: &str| ctx.variables.contains_key(OsStr::new(name));
    let mut lines = reads.proposal(&ctx.root, &scripts, is_set);
    if lines.is_empty() {
        lines.push(
            "# The hooks read nothing outside this component and its dependencies.".to_owned(),
        );
    }
    ctx.events.send(Event::Proposed { lines });
    Ok(())
}

fn check_tracer() -> Result<(), Problems> {
    let mut tracer = Command::new(TRACER[0]);
    let status = tracer.arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
    match status {
        Ok(_) => Ok(()),
        Err(_) => Err(Problem::of_request(format!(
            "'{} inputs' traces hooks with strace, which is not installed: install it (on Debian: \
             'apt-get install strace')",
            program::name()
        ))
        .into()),
    }
}

fn check(component: &Component, reads: &TracedReads) -> Result<(), CommandError> {
    let file = join(&component.dir, "build/inputs");
    let Some((_, inputs)) = &component.inputs else {
        let message = format!(
            "does not exist: create it from the output of '{} inputs {}'",
            program::name(),
            component.name
        );
        return Err(CommandError::Undeclared(Problem::of_file(file, message).into()));
    };
    let missing = reads.undeclared(inputs);
    let problems = missing.into_iter().map(|line| {
        Problem::of_file(&file, format!("hooks read an undeclared input: add '{line}'"))
    });
    Problems::check(problems.collect()).map_err(CommandError::Undeclared)
}

/// If the file system is full, strace truncates the trace without an error: checks that there
/// still is free space.
fn check_not_truncated(trace: &Path) -> io::Result<()> {
    File::options().append(true).open(trace)?.write_all("\n".repeat(BLOCK).as_bytes())
}

fn trace_error(error: &io::Error) -> Problems {
    let message = format!(
        "cannot store the trace of the hooks: {error}. Make sure that the folder is writable and \
         has free space"
    );
    Problem::of_file(state::DIR, message).into()
}
