//! `inputs`: builds a component with its hooks under a tracer, and tells which
//! `build/inputs` would declare all that they read.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use xtask_core::problem::{Problem, Problems};
use xtask_core::regular_file;
use xtask_core::workspace::components::{Component, WorkspaceOptions};

use crate::build::mode::Mode;
use crate::build::options::BuildOptions;
use crate::build::prepare::read_workspace;
use crate::build::run as build;
use crate::command_context::CommandContext;
use crate::command_error::CommandError;
use crate::event::Event;
use crate::system::state;
use crate::system::strace::{TRACER, TracedReads};

/// No file system has larger ones by default.
const BLOCK: usize = 64 << 10;

/// Whose inputs, and what about them.
#[derive(Clone, Debug)]
pub struct InputsOptions {
    /// The component.
    pub component: String,
    /// Compare with the file that is there.
    pub check: bool,
}

/// Traces the hooks of one component.
pub async fn run(options: &InputsOptions, ctx: &CommandContext) -> Result<(), CommandError> {
    refuse_without_tracer()?;
    let mut reading = WorkspaceOptions::default();
    ctx.add_proxies(&mut reading);
    let (workspace, _) = read_workspace(&ctx.root, &reading, None, &ctx.events)?;
    let found = workspace.find_all(std::slice::from_ref(&options.component))?;
    let component = found.first().map(|place| &workspace.components[*place]);
    let component = component.filter(|component| component.has_hooks()).ok_or_else(|| {
        let message = format!("'{}' has no hooks: there is nothing to declare", options.component);
        Problems::from(Problem::of_request(message))
    })?;
    let trace = ctx.root.join(state::DIR).join("trace");
    let made = fs::create_dir_all(ctx.root.join(state::DIR));
    made.and_then(|()| File::create(&trace)).map_err(|error| unkept(&error))?;
    let components = vec![component.name.clone()];
    let build = BuildOptions { reading, components, ..BuildOptions::default() };
    let engine = ctx.engine();
    build::run_with(engine, &build, Mode::Trace(&trace), ctx).await?;
    refuse_cut_off(&trace).map_err(|error| unkept(&error))?;
    let text = fs::read(&trace).map_err(|error| unkept(&error))?;
    let reads = TracedReads::parse(&String::from_utf8_lossy(&text), &ctx.root, &component.name);
    fs::remove_file(&trace).map_err(|error| unkept(&error))?;
    if options.check {
        return check(component, &reads);
    }
    let hooks = component.pre_hook.iter().chain(&component.post_hook);
    let scripts: Vec<String> =
        hooks.filter_map(|hook| regular_file::read_to_string(&ctx.root.join(hook)).ok()).collect();
    let is_set = |name: &str| ctx.variables.contains_key(OsStr::new(name));
    let mut lines = reads.proposal(&ctx.root, &scripts, is_set);
    if lines.is_empty() {
        lines.push("# The hooks read nothing outside this component and what it needs.".to_owned());
    }
    ctx.events.send(Event::Proposed { lines });
    Ok(())
}

fn refuse_without_tracer() -> Result<(), Problems> {
    let mut tracer = Command::new(TRACER[0]);
    let ended = tracer.arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
    match ended {
        Ok(_) => Ok(()),
        Err(_) => Err(Problem::of_request(
            "what hooks read is found out with strace, which is not installed: install it \
             (Debian: 'apt-get install strace')",
        )
        .into()),
    }
}

fn check(component: &Component, reads: &TracedReads) -> Result<(), CommandError> {
    let file = format!("{}/build/inputs", component.dir());
    let Some((_, inputs)) = &component.inputs else {
        let message = "is not there: make it of what 'cargo xtask inputs' prints";
        return Err(CommandError::Undeclared(Problem::of_file(file, message).into()));
    };
    let missing = reads.undeclared(inputs);
    let problems = missing.into_iter().map(|line| {
        Problem::of_file(&file, format!("hooks read what it does not declare: add '{line}'"))
    });
    Problems::check(problems.collect()).map_err(CommandError::Undeclared)
}

/// The tracer fails no hook where its file system is full: then there is no room for more.
fn refuse_cut_off(trace: &Path) -> io::Result<()> {
    File::options().append(true).open(trace)?.write_all("\n".repeat(BLOCK).as_bytes())
}

fn unkept(error: &io::Error) -> Problems {
    let message = format!(
        "the trace of the hooks cannot be kept: {error}. It takes a folder that can be written, \
         with room in it"
    );
    Problem::of_file(state::DIR, message).into()
}
