//! The shell around the library: reads the command line and the environment,
//! shows events, and turns results into exit codes. Nothing below it does any of
//! these.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};

use clap::Parser;
use console::Style;
use tokio::runtime::Handle;
use xtask_core::escape;
use xtask_core::problem::{Problem, Problems};
use xtask_core::workspace::components;

use crate::build::options::BuildOptions;
use crate::cli::{Cli, Command, ContextArgs, GraphArgs};
use crate::command_context::CommandContext;
use crate::command_error::CommandError;
use crate::commands::context::ContextOptions;
use crate::commands::graph::GraphOptions;
use crate::commands::push::PushOptions;
use crate::commands::watch::WatchOptions;
use crate::commands::{self};
use crate::engine::{Builder, Environment};
use crate::event::Events;
use crate::report::context as report_context;
use crate::report::graph;
use crate::system::hooks;
use crate::system::signals::{self, Interrupt};
use crate::ui::keyboard::{self, Keyboard};
use crate::ui::{self, Progress, Results, keymap};

const FAILED: u8 = 1;
const WRONG: u8 = 2;

const STANDARD_OUTPUT: &str = "standard output";

/// Runs the command line that the process was given.
pub fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| refuse(error));
    let ended = match tokio::runtime::Runtime::new() {
        Ok(runtime) => {
            let ended = runtime.block_on(run(cli));
            // A thread that still reads files for a cancelled build is not waited for.
            runtime.shutdown_background();
            ended
        }
        Err(error) => Err(CommandError::Lock(error.into())),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // What failed in a round was its last word already.
            if !matches!(error, CommandError::Failed) {
                let title = Style::new().for_stderr().red().bold().apply_to("error");
                complain(&format!("{title}: {}", escape::lines(&error.to_string())));
            }
            ExitCode::from(exit_code(&error))
        }
    }
}

/// Ends with what is wrong with the command line, which the error quotes: as it would be
/// with all control characters written out.
fn refuse(error: clap::Error) -> ! {
    let words = env::args_os().map(|word| escape::line(&word.to_string_lossy()).into_owned());
    let error = Cli::try_parse_from(words).err().unwrap_or(error);
    let message = error.render().ansi().to_string();
    if ui::shown(&message, is_github()) == message {
        let printed = error.print().and_then(|()| io::stdout().flush());
        match printed {
            // That is help, or the version.
            Err(lost) if !error.use_stderr() && lost.kind() != io::ErrorKind::BrokenPipe => {
                complain(&format!("error: {}", CommandError::unwritten(STANDARD_OUTPUT, &lost)));
                process::exit(FAILED.into());
            }
            _ => process::exit(error.exit_code()),
        }
    }
    complain(error.render().to_string().trim_end());
    process::exit(error.exit_code())
}

/// An error that cannot be written is told by the exit code alone.
fn complain(message: &str) {
    drop(writeln!(io::stderr(), "{}", ui::shown(message, is_github())));
}

fn is_set(name: &str) -> bool {
    env::var_os(name).is_some_and(|value| !value.is_empty())
}

/// Whether GitHub's runner reads all that is written.
fn is_github() -> bool {
    is_set("GITHUB_ACTIONS")
}

async fn run(cli: Cli) -> Result<(), CommandError> {
    let root = root(cli.root.as_deref())?;
    let end_at_once = || {
        hooks::kill_all();
        keyboard::restore();
    };
    let interrupt = Interrupt::install(end_at_once)
        .map_err(|error| Problem::of_request(format!("signals cannot be handled: {error}")))
        .map_err(Problems::from)?;
    let (events, hearer) = Events::heard();
    let how = cli.how(io::stderr().is_terminal(), is_github(), is_set("CI"));
    let options = cli.reproduced();
    console::set_colors_enabled_stderr(how.has_colors);
    let has_colors = cli.has_colors(console::colors_enabled());
    let is_watch = matches!(cli.command, Command::Watch(_));
    let keyboard =
        if is_watch && how.progress == Progress::Terminal { Keyboard::open() } else { None };
    let (_keyboard, keys) = keyboard.unzip();
    let (wishes, looks) = keys.map(keymap::understand).unzip();
    let shown_root = root.clone();
    let shown = tokio::task::spawn_blocking(move || {
        Handle::current().block_on(ui::show(how, &shown_root, &options, hearer, looks))
    });
    let environment = environment(cli.builder.map(Builder::from));
    let proxies = environment.proxies(&events);
    let ctx = CommandContext {
        root,
        environment,
        proxies,
        variables: env::vars_os().collect(),
        store_limit: cli.store_limit,
        events,
        interrupt,
        no_wait: cli.no_wait,
    };
    let ended = match cli.command {
        Command::Build(args) => {
            let mut options = BuildOptions::from(args);
            ctx.add_proxies(&mut options.reading);
            commands::build::run(&options, &ctx).await
        }
        Command::Inputs(args) => commands::inputs::run(&args.into(), &ctx).await,
        Command::Watch(args) => {
            let mut options = WatchOptions::from(args);
            ctx.add_proxies(&mut options.build.reading);
            if let Some(push) = &mut options.push {
                ctx.add_proxies(&mut push.reading);
            }
            commands::watch::run(&options, wishes, &ctx).await
        }
        Command::Push(args) => {
            let mut options = PushOptions::from(args);
            ctx.add_proxies(&mut options.reading);
            commands::push::run(&options, &ctx).await
        }
        Command::Context(args) => context(args, &ctx).await,
        Command::Graph(args) => draw(args, has_colors, &ctx).await,
    };
    // The last sender goes with the setting; what is in the channel is shown first.
    drop(ctx);
    let written = shown.await.map_err(io::Error::other).flatten();
    match written.map_err(|error| CommandError::unwritten(STANDARD_OUTPUT, &error)) {
        Err(lost) if matches!(ended, Ok(()) | Err(CommandError::Failed)) => Err(lost),
        _ => ended,
    }
}

async fn context(args: ContextArgs, ctx: &CommandContext) -> Result<(), CommandError> {
    let is_json = args.json;
    let mut options = ContextOptions::from(args);
    ctx.add_proxies(&mut options.reading);
    let contexts = commands::context::run(&options, ctx).await?;
    let text = if is_json {
        escape::json(&format!("{:#}\n", report_context::document(&contexts)))
    } else {
        let all: Vec<String> = contexts
            .iter()
            .map(|context| report_context::lines(context).join("\n") + "\n")
            .collect();
        ui::shown(&all.join("\n"), is_github())
    };
    print(&text)
}

/// Writes what was asked for to standard output.
fn print(text: &str) -> Result<(), CommandError> {
    let mut results = Results::default();
    results.write(text);
    results.end().map_err(|error| CommandError::unwritten(STANDARD_OUTPUT, &error))
}

async fn draw(args: GraphArgs, has_colors: bool, ctx: &CommandContext) -> Result<(), CommandError> {
    let how = args.drawing(has_colors).map_err(Problems::from)?;
    let mut options = GraphOptions::from(args);
    ctx.add_proxies(&mut options.reading);
    let chart = commands::graph::run(&options, ctx).await?;
    let drawing = graph::draw(chart, how.format, how.has_images, how.has_colors);
    match (how.file, how.is_check) {
        (Some(file), true) => graph::check(&file, &drawing),
        (Some(file), false) => graph::write(&file, &drawing),
        (None, _) => print(&ui::shown(&drawing, is_github())),
    }
}

fn root(named: Option<&Path>) -> Result<PathBuf, Problems> {
    let here = env::current_dir()
        .map_err(|error| Problem::of_request(format!("the current folder is gone: {error}")))?;
    if let Some(named) = named {
        let root = here.join(named);
        if root.join("src").is_dir() {
            return Ok(root);
        }
        let message = "there is no src/ in it: --root names the folder that holds src/";
        return Err(Problem::of_file(named.display().to_string(), message).into());
    }
    components::find_root(&here).ok_or_else(|| {
        let message = format!(
            "there is no src/ in {} or above it: go to the repository, or name it with --root",
            here.display()
        );
        Problem::of_request(message).into()
    })
}

fn environment(builder: Option<Builder>) -> Environment {
    let home_config = || env::var_os("HOME").map(|home| Path::new(&home).join(".docker"));
    let is_classic = env::var("DOCKER_BUILDKIT").is_ok_and(|value| value == "0");
    Environment {
        host: env::var("DOCKER_HOST").ok(),
        context: env::var("DOCKER_CONTEXT").ok(),
        config_dir: env::var_os("DOCKER_CONFIG").map(PathBuf::from).or_else(home_config),
        has_tls: env::var_os("DOCKER_TLS_VERIFY").is_some_and(|value| !value.is_empty()),
        builder: builder.or_else(|| is_classic.then_some(Builder::Classic)),
        ..Environment::default()
    }
}

fn exit_code(error: &CommandError) -> u8 {
    match error {
        CommandError::Wrong(_) => WRONG,
        CommandError::Interrupted => u8::try_from(signals::EXIT_CODE).unwrap_or(FAILED),
        _ => FAILED,
    }
}
