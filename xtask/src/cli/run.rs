//! The outermost layer: parses the command line, reads the environment, starts the UI, and
//! maps results to exit codes. No code below does any of these.

use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::time::SystemTime;

use clap::CommandFactory;
use console::Style;
use tokio::runtime::Handle;
use xtask_core::escape;
use xtask_core::paths::{CONFIG_FILE, SRC};
use xtask_core::problem::{Problem, Problems};
use xtask_core::workspace::components;
use xtask_core::workspace::config::{Config, schema};
use xtask_core::workspace::strays;

use crate::cli::command_line::{
    Cli, Command, ConfigArgs, ContextArgs, DoctorArgs, ListArgs, PushArgs, WhyArgs,
};
use crate::cli::completion;
use crate::cli::component_path;
use crate::cli::export::{BakeArgs, ExportCommand};
use crate::cli::graph::GraphArgs;
use crate::cli::man;
use crate::cli::trace;
use crate::command_context::CommandContext;
use crate::command_error::CommandError;
use crate::commands;
use crate::commands::build::BuildOptions;
use crate::commands::clean::CleanOptions;
use crate::commands::config::ConfigOptions;
use crate::commands::context::ContextOptions;
use crate::commands::doctor::Status;
use crate::commands::graph::GraphOptions;
use crate::commands::list::ListOptions;
use crate::commands::push::PushOptions;
use crate::commands::watch::WatchOptions;
use crate::commands::why::WhyOptions;
use crate::engine::{Builder, ChosenBuilder, Environment, GithubJob};
use crate::event::{Event, Output};
use crate::event_channel::Events;
use crate::program;
use crate::quantity::count;
use crate::report::config as report_config;
use crate::report::context as report_context;
use crate::report::doctor as report_doctor;
use crate::report::graph::draw as report_graph;
use crate::report::graph::simulation as report_simulation;
use crate::report::list as report_list;
use crate::report::why as report_why;
use crate::system::process_group;
use crate::system::signals::{self, Interrupt};
use crate::ui::keyboard::{self, Keyboard};
use crate::ui::keymap;
use crate::ui::options::Progress;
use crate::ui::show;
use crate::ui::workflow_commands::shown;

const FAILED: u8 = 1;
const WRONG: u8 = 2;

const STANDARD_OUTPUT: &str = "standard output";

/// Runs the tool with the process's arguments.
pub fn main() -> ExitCode {
    completion::answer(Cli::command);
    run(env::args_os())
}

/// Runs a command with these arguments, of which the first is the program's name, for programs
/// that have commands of their own beside these.
///
/// A usage error, `--help` and `--version` end the process.
pub fn run(arguments: impl IntoIterator<Item: Into<OsString>>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    let parsed = Cli::called_as(program::name(), &arguments);
    let cli = parsed.unwrap_or_else(|error| exit_with_usage_error(&arguments, error));
    // These need no workspace.
    let printed = match &cli.command {
        Command::Completions(args) => Some(
            completion::script(args.shell)
                .map_err(|error| CommandError::unwritten("the completion script", &error)),
        ),
        Command::Man(args) => Some(match &args.dir {
            Some(dir) => man::write(Cli::command(), dir).map(|()| String::new()),
            None => man::page(Cli::command(), args.command.as_deref()),
        }),
        Command::Config(args) if args.schema => Some(Ok(format!("{:#}\n", schema::schema()))),
        Command::Lock(command) => {
            let result = command.run().and_then(|(text, end)| {
                // A lock file may come from anybody.
                print(&shown(&text, is_github())).and(end)
            });
            return report(result);
        }
        _ => None,
    };
    if let Some(text) = printed {
        return report(text.and_then(|text| print(&text)));
    }
    let result = match tokio::runtime::Runtime::new() {
        Ok(runtime) => {
            let result = runtime.block_on(run_command(cli));
            // Do not wait for threads that still read files for a cancelled build.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(CommandError::Runtime(error)),
    };
    report(result)
}

/// The exit code, after the error is printed.
fn report(result: Result<(), CommandError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !error.is_reported() {
                let title = Style::new().for_stderr().red().bold().apply_to("error");
                print_error(&format!("{title}: {}", escape::lines(&error.to_string())));
            }
            ExitCode::from(exit_code(&error))
        }
    }
}

/// Prints a document to standard output. A reader that closes the pipe has seen enough.
fn print(text: &str) -> Result<(), CommandError> {
    let mut output = io::stdout();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CommandError::unwritten(STANDARD_OUTPUT, &error))
        }
        _ => Ok(()),
    }
}

/// Prints a usage error, the help or the version, and exits.
///
/// An error quotes arguments. If they contain control characters, they are escaped and parsed
/// again, so that the message shows them as text.
fn exit_with_usage_error(arguments: &[OsString], error: clap::Error) -> ! {
    let words = arguments.iter().map(|word| escape::line(&word.to_string_lossy()).into_owned());
    let error = Cli::called_as(program::name(), words).err().unwrap_or(error);
    let message = error.render().ansi().to_string();
    if shown(&message, is_github()) == message {
        let printed = error.print().and_then(|()| io::stdout().flush());
        match printed {
            // Help and version go to standard output.
            Err(lost) if !error.use_stderr() && lost.kind() != io::ErrorKind::BrokenPipe => {
                print_error(&format!("error: {}", CommandError::unwritten(STANDARD_OUTPUT, &lost)));
                process::exit(FAILED.into());
            }
            _ => process::exit(error.exit_code()),
        }
    }
    print_error(error.render().to_string().trim_end());
    process::exit(error.exit_code())
}

/// If the message cannot be written, the exit code still reports the error.
fn print_error(message: &str) {
    drop(writeln!(io::stderr(), "{}", shown(message, is_github())));
}

fn is_set(name: &str) -> bool {
    env::var_os(name).is_some_and(|value| !value.is_empty())
}

/// Whether the GitHub Actions runner parses the output.
fn is_github() -> bool {
    is_set("GITHUB_ACTIONS")
}

async fn run_command(mut cli: Cli) -> Result<(), CommandError> {
    if cli.is_traced() {
        trace::install(is_github());
    }
    let here = env::current_dir()
        .map_err(|error| Problem::of_request(format!("cannot get the current folder: {error}")))
        .map_err(Problems::from)?;
    let root = root_of(&mut cli, &here)?;
    let environment = environment(cli.builder.clone()).map_err(Problems::from)?;
    let on_second_interrupt = || {
        process_group::kill_all();
        keyboard::restore();
    };
    let interrupt = Interrupt::install(on_second_interrupt)
        .map_err(|error| Problem::of_request(format!("cannot install signal handlers: {error}")))
        .map_err(Problems::from)?;
    let (events, hearer) = Events::with_reader();
    // A dumb terminal cannot move its cursor.
    let is_dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
    let is_terminal = io::stderr().is_terminal() && !is_dumb;
    let ui_options = cli.ui_options(is_terminal, is_github(), is_set("CI"));
    let reproduce_options = cli.reproduce_options();
    console::set_colors_enabled_stderr(ui_options.has_colors);
    let has_colors = cli.has_colors(console::colors_enabled());
    let is_watch = matches!(cli.command, Command::Watch(_));
    let keyboard =
        if is_watch && ui_options.progress == Progress::Terminal { Keyboard::open() } else { None };
    let (_keyboard, keys) = keyboard.unzip();
    let (user_requests, ui_commands) = keys.map(keymap::dispatch).unzip();
    let ui_root = root.clone();
    let ui = tokio::task::spawn_blocking(move || {
        let show = show::show(ui_options, &ui_root, &reproduce_options, hearer, ui_commands);
        Handle::current().block_on(show)
    });
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
    let result = match cli.command {
        Command::Build(args) => {
            let mut options = BuildOptions::from(*args);
            ctx.add_proxies(&mut options.scope.reading);
            commands::build::run(&options, &ctx).await
        }
        Command::Inputs(args) => Box::pin(commands::inputs::run(&args.into(), &ctx)).await,
        Command::Watch(args) => {
            let mut options = WatchOptions::from(args);
            ctx.add_proxies(&mut options.reading);
            if let Some(push) = &mut options.push {
                ctx.add_proxies(&mut push.reading);
            }
            commands::watch::run(&options, user_requests, &ctx).await
        }
        Command::Push(args) => push(args, &ctx).await,
        Command::Context(args) => Box::pin(context(args, &ctx)).await,
        Command::Graph(args) => graph(args, has_colors, &ctx).await,
        Command::Export(ExportCommand::Bake(args)) => export_bake(args, &ctx).await,
        Command::List(args) => list(args, &ctx).await,
        Command::Config(args) => config(args, &ctx),
        Command::Doctor(args) => doctor(args, &ctx).await,
        Command::Clean(args) => {
            let mut options = CleanOptions::from(args);
            if let Some(shared) = &mut options.shared {
                ctx.add_proxies(&mut shared.reading);
            }
            let cleaned = commands::clean::run(&options, &ctx).await;
            cleaned.map(|cleaned| print_text(cleaned.lines().join("\n") + "\n", &ctx))
        }
        Command::Init(args) => {
            commands::init::run(&args.into(), &ctx).map(|it| print_text(it, &ctx))
        }
        Command::New(args) => commands::new::run(&args.into(), &ctx).map(|it| print_text(it, &ctx)),
        Command::Why(args) => why(args, &ctx).await,
        Command::Logs(args) => commands::logs::run(&args.into(), &ctx).await,
        // They were answered before the workspace was looked for.
        Command::Completions(_) | Command::Lock(_) | Command::Man(_) => Ok(()),
    };
    let result = match result {
        Err(CommandError::Interrupted) if keymap::has_quit() => Ok(()),
        result => result,
    };
    for problem in result.as_ref().err().map(CommandError::problems).unwrap_or_default() {
        ctx.events.send(Event::Error(problem));
    }
    // What was cancelled may still hold the engine.
    ctx.environment.end_podman();
    // Dropping the last sender ends the UI, after it has shown the events in the channel.
    drop(ctx);
    let written = ui.await.map_err(io::Error::other).flatten();
    match written.map_err(|error| CommandError::unwritten(STANDARD_OUTPUT, &error)) {
        Err(lost) if result.as_ref().err().is_none_or(CommandError::is_reported) => Err(lost),
        _ => result,
    }
}

/// The root of the workspace; names of components take the place of paths in the arguments.
fn root_of(cli: &mut Cli, here: &Path) -> Result<PathBuf, Problems> {
    let root = match &cli.command {
        Command::Init(_) => here.join(cli.root.as_deref().unwrap_or(Path::new(""))),
        Command::New(_) if cli.root.is_none() && components::find_root(here).is_none() => {
            here.to_owned()
        }
        _ => root(here, cli.root.as_deref())?,
    };
    // What is wrong with the file is said when it is read.
    if Config::leaves_src(&root) {
        component_path::resolve(cli.command.component_words(), here, &root)?;
    } else {
        component_path::make_relative(cli.command.component_words(), here, &root);
    }
    Ok(root)
}

async fn push(args: PushArgs, ctx: &CommandContext) -> Result<(), CommandError> {
    if let Some(from_lock) = args.tags_to_put_back() {
        return commands::push_from_lock::run(&from_lock, ctx).await;
    }
    let mut options = PushOptions::from(args);
    ctx.add_proxies(&mut options.reading);
    commands::push::run(&options, ctx).await
}

async fn context(args: ContextArgs, ctx: &CommandContext) -> Result<(), CommandError> {
    let is_json = args.json;
    let mut options = ContextOptions::from(args);
    ctx.add_proxies(&mut options.reading);
    let contexts = Box::pin(commands::context::run(&options, ctx)).await?;
    let output = if is_json {
        Output::Document { document: report_context::document(&contexts) }
    } else {
        let all: Vec<String> = contexts
            .iter()
            .map(|context| report_context::lines(context).join("\n") + "\n")
            .collect();
        Output::Text { text: all.join("\n") }
    };
    ctx.events.send(Event::Output(output));
    Ok(())
}

async fn export_bake(args: BakeArgs, ctx: &CommandContext) -> Result<(), CommandError> {
    let shown = args.folder.display().to_string();
    let mut options = args.options().map_err(CommandError::Runtime)?;
    ctx.add_proxies(&mut options.scope.reading);
    let images = Box::pin(commands::export::run(&options, ctx)).await?;
    let images = count(images, "image");
    print_text(format!("{shown}: {images}. There, run docker buildx bake\n"), ctx);
    Ok(())
}

async fn list(args: ListArgs, ctx: &CommandContext) -> Result<(), CommandError> {
    let is_json = args.json;
    let mut options = ListOptions::from(args);
    ctx.add_proxies(&mut options.reading);
    let components = commands::list::run(&options, ctx).await?;
    let output = if is_json {
        Output::Document { document: report_list::document(&components) }
    } else {
        let lines = report_list::lines(&components, SystemTime::now());
        Output::Text { text: lines.join("\n") + "\n" }
    };
    ctx.events.send(Event::Output(output));
    Ok(())
}

async fn doctor(args: DoctorArgs, ctx: &CommandContext) -> Result<(), CommandError> {
    let is_json = args.json;
    let checks = commands::doctor::run(&args.into(), ctx).await?;
    let output = if is_json {
        Output::Document { document: report_doctor::document(&checks) }
    } else {
        Output::Text { text: report_doctor::lines(&checks).join("\n") + "\n" }
    };
    ctx.events.send(Event::Output(output));
    let has_failed = checks.iter().any(|check| check.status == Status::Fail);
    if has_failed { Err(CommandError::Failed) } else { Ok(()) }
}

fn print_text(text: String, ctx: &CommandContext) {
    ctx.events.send(Event::Output(Output::Text { text }));
}

fn config(args: ConfigArgs, ctx: &CommandContext) -> Result<(), CommandError> {
    let is_json = args.json;
    let images = commands::config::run(&ConfigOptions::from(args), ctx)?;
    let output = if is_json {
        Output::Document { document: report_config::document(&images) }
    } else {
        Output::Text { text: report_config::lines(&images).join("\n") + "\n" }
    };
    ctx.events.send(Event::Output(output));
    Ok(())
}

async fn why(args: WhyArgs, ctx: &CommandContext) -> Result<(), CommandError> {
    let mut options = WhyOptions::from(args);
    ctx.add_proxies(&mut options.reading);
    let explanations = commands::why::run(&options, ctx).await?;
    let now = SystemTime::now();
    let all: Vec<String> = explanations
        .iter()
        .map(|explanation| report_why::lines(explanation, now).join("\n") + "\n")
        .collect();
    ctx.events.send(Event::Output(Output::Text { text: all.join("\n") }));
    Ok(())
}

async fn graph(
    args: GraphArgs,
    has_colors: bool,
    ctx: &CommandContext,
) -> Result<(), CommandError> {
    let output = args.output(has_colors).map_err(Problems::from)?;
    let (simulated, is_json) = (args.simulated(), args.json);
    let mut options = GraphOptions::from(args);
    ctx.add_proxies(&mut options.reading);
    if let Some(workers) = simulated {
        let simulation = commands::graph::simulation::run(&options, &workers, ctx).await?;
        ctx.events.send(Event::Output(if is_json {
            Output::Document { document: report_simulation::document(&simulation) }
        } else {
            Output::Text { text: report_simulation::lines(&simulation).join("\n") + "\n" }
        }));
        return Ok(());
    }
    let chart = commands::graph::run(&options, ctx).await?;
    let drawn = report_graph::draw(chart, output.format, output.has_images, output.has_colors);
    let (Some(file), is_check) = (&output.file, output.is_check) else {
        ctx.events.send(Event::Output(drawn));
        return Ok(());
    };
    let text = drawn.into_text();
    if is_check { report_graph::check(file, &text) } else { report_graph::write(file, &text) }
}

fn root(here: &Path, named: Option<&Path>) -> Result<PathBuf, Problems> {
    if let Some(named) = named {
        let root = here.join(named);
        if root.join(SRC).is_dir() || root.join(CONFIG_FILE).exists() {
            return Ok(root);
        }
        let message =
            "has neither src/ nor xtask.toml: --root must name the folder that contains one";
        return Err(Problem::of_file(named.display().to_string(), message).into());
    }
    components::find_root(here).ok_or_else(|| {
        let here_shown = here.display();
        let message = match strays::name_a_few(&strays::find_dockerfiles(here)) {
            None => format!(
                "neither src/ nor xtask.toml in {here_shown} or any parent folder: run this inside \
                 a repository, or pass --root"
            ),
            Some(found) => format!(
                "no xtask.toml in {here_shown}, which has {found}: run '{} init' to write one",
                program::name()
            ),
        };
        Problem::of_request(message).into()
    })
}

fn environment(builder: Option<ChosenBuilder>) -> Result<Environment, Problem> {
    let home_config = || env::var_os("HOME").map(|home| Path::new(&home).join(".docker"));
    let (is_verified, is_on) = (is_set("DOCKER_TLS_VERIFY"), is_set("DOCKER_TLS"));
    let builder = match builder {
        Some(builder) => Some(builder),
        None => is_classic()?.then_some(ChosenBuilder::Own(Builder::Classic)),
    };
    Ok(Environment {
        host: env::var("DOCKER_HOST").ok(),
        context: env::var("DOCKER_CONTEXT").ok(),
        config_dir: env::var_os("DOCKER_CONFIG").map(PathBuf::from).or_else(home_config),
        has_tls: is_verified || is_on,
        skips_verification: is_on && !is_verified,
        cert_path: env::var_os("DOCKER_CERT_PATH").filter(|it| !it.is_empty()).map(PathBuf::from),
        api_version: env::var("DOCKER_API_VERSION").ok(),
        github_job: GithubJob::of_environment(),
        builder,
        ..Environment::default()
    })
}

/// Whether `DOCKER_BUILDKIT` turns BuildKit off, in the words of the docker CLI.
fn is_classic() -> Result<bool, Problem> {
    match env::var("DOCKER_BUILDKIT").unwrap_or_default().as_str() {
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(true),
        "" | "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(false),
        other => {
            let message = format!("DOCKER_BUILDKIT is '{other}': set it to 0 or 1");
            Err(Problem::of_request(message))
        }
    }
}

fn exit_code(error: &CommandError) -> u8 {
    match error {
        CommandError::Wrong(_) => WRONG,
        CommandError::Interrupted => u8::try_from(signals::EXIT_CODE).unwrap_or(FAILED),
        _ => FAILED,
    }
}
