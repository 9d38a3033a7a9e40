//! `doctor`: looks for what keeps builds from working or makes them slow, and says what to type.
//!
//! A failure is what no build can work with; a warning is what will be a surprise.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use xtask_core::context::spec::ContextSpec;
use xtask_core::dockerfile::context_reads::ContextReads;
use xtask_core::dockerfile::parser::{ImageUse, Via};
use xtask_core::image_reference::Reference;
use xtask_core::paths::{BUILD, CONFIG_FILE, GENERATED, join};
use xtask_core::plan::graph::Graph;
use xtask_core::problem::did_you_mean;
use xtask_core::workspace::components::{Component, Image, Workspace, WorkspaceOptions};
use xtask_core::workspace::config::Config;
use xtask_core::workspace::registry_config::RegistryConfig;

use crate::build::prepare::read_workspace;
use crate::command_context::CommandContext;
use crate::command_error::CommandError;
use crate::commands::clean::{self, CleanOptions};
use crate::engine::{DockerConfig, DockerEngine, Engine, EngineFacts, domains_of};
use crate::event_channel::Events;
use crate::program;
use crate::quantity;
use crate::system::hook_outputs;
use crate::system::records::ids_built;
use crate::system::temp_dirs::TempDirs;

/// Less free space than this is a warning, in bytes.
const LITTLE_SPACE: u64 = 5 << 30;

/// More images without a name than this are a warning.
const MANY_IMAGES: usize = 20;

/// Where the limit of watches is.
const WATCH_LIMIT: &str = "/proc/sys/fs/inotify/max_user_watches";

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Ok,
    Warn,
    Fail,
}

/// One check.
#[derive(Clone, Debug)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) status: Status,
    pub(crate) message: String,
    /// A command or an edit that mends it.
    pub(crate) remedy: Option<String>,
}

impl Check {
    fn ok(name: &'static str, message: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, message: message.into(), remedy: None }
    }

    fn warn(name: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = Some(remedy.into());
        Self { name, status: Status::Warn, message: message.into(), remedy }
    }

    fn fail(name: &'static str, message: impl Into<String>, remedy: Option<String>) -> Self {
        Self { name, status: Status::Fail, message: message.into(), remedy }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct DoctorOptions {
    pub(crate) reading: WorkspaceOptions,
    /// Mend what can be mended safely.
    pub(crate) fix: bool,
}

/// Runs all checks.
pub(crate) async fn run(
    options: &DoctorOptions,
    ctx: &CommandContext,
) -> Result<Vec<Check>, CommandError> {
    if options.fix {
        let how = CleanOptions::default();
        clean::run(&how, ctx).await?;
    }
    let mut checks = vec![git()];
    checks.extend(rust(&ctx.root));
    checks.push(docker_config(ctx));
    let engine = ctx.engine().await;
    match &engine {
        Ok(engine) => checks.extend(engine_checks(engine, options, ctx).await?),
        Err(error) => checks.push(Check::fail("engine", error.to_string(), None)),
    }
    checks.push(leftovers(ctx));
    let registry = options.reading.registry()?;
    match read_workspace(&ctx.root, &options.reading, registry.as_ref(), &Events::unread()) {
        Err(problems) => {
            for problem in problems.iter() {
                checks.push(Check::fail("workspace", problem.to_string(), None));
            }
        }
        Ok((workspace, graph)) => {
            checks.extend(workspace_checks(&workspace, &graph));
            if let Ok(engine) = &engine {
                let domains = registry.as_ref().map(|registry| registry.domain.clone());
                let own = domains_of(workspace.config.registries.iter().map(String::as_str));
                for domain in domains.into_iter().chain(own) {
                    checks.push(login(engine, &domain, registry.as_ref()).await);
                }
            }
        }
    }
    Ok(checks)
}

fn git() -> Check {
    let mut git = Command::new("git");
    let status = git.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    match status {
        Ok(_) => Check::ok("git", "is installed"),
        Err(error) => Check::warn(
            "git",
            format!("cannot be run, so files that hooks write cannot be told from yours: {error}"),
            "apt-get install git",
        ),
    }
}

/// The compiler against the one that this program needs, in a Cargo workspace, where it may be
/// compiled anew.
fn rust(root: &Path) -> Option<Check> {
    root.join("Cargo.toml").exists().then(|| {
        let name = "rust";
        let needed = env!("CARGO_PKG_RUST_VERSION");
        let output = Command::new("rustc").arg("--version").current_dir(root).output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let remedy = "install it by rustup: https://rustup.rs";
        match text.as_deref().map(str::trim) {
            Ok(version) if is_at_least(version, needed) => Check::ok(name, version),
            Ok("") => Check::warn(name, "rustc does not run", remedy),
            Ok(version) => {
                let message = format!("{version} is older than {needed}, which this tool needs");
                Check::warn(name, message, "rustup update")
            }
            Err(error) => Check::warn(name, format!("rustc cannot be run: {error}"), remedy),
        }
    })
}

/// Whether `rustc 1.96.0 (…)` is not older than `1.95`.
fn is_at_least(version: &str, needed: &str) -> bool {
    let numbers = |text: &str| -> Vec<u32> {
        let number =
            text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
        let parts = number.unwrap_or_default().split(['.', '-']);
        parts.take(2).map_while(|part| part.parse().ok()).collect()
    };
    numbers(version) >= numbers(needed)
}

/// Docker's configuration, and the credential helpers that it names.
fn docker_config(ctx: &CommandContext) -> Check {
    let name = "docker config";
    let Some(file) = ctx.environment.config_file().filter(|file| file.exists()) else {
        return Check::ok(name, "there is none");
    };
    let config = match DockerConfig::read(&file) {
        Ok(config) => config,
        Err(problem) => return Check::fail(name, problem.to_string(), None),
    };
    let is_missing = |helper: &&String| {
        let program = format!("docker-credential-{helper}");
        let mut run = Command::new(&program);
        run.arg("version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        run.spawn().map(|mut child| drop(child.wait())).is_err()
    };
    match config.helpers().into_iter().find(|helper| is_missing(helper)) {
        None => Check::ok(name, file.display().to_string()),
        Some(helper) => Check::fail(
            name,
            format!("{} names docker-credential-{helper}, which is not installed", file.display()),
            Some(format!("install it, or remove it from {}", file.display())),
        ),
    }
}

async fn engine_checks(
    engine: &DockerEngine,
    options: &DoctorOptions,
    ctx: &CommandContext,
) -> Result<Vec<Check>, CommandError> {
    let facts = ctx.unless_interrupted(async { Ok(engine.facts().await?) }).await?;
    let EngineFacts { endpoint, version, .. } = &facts;
    let mut checks = vec![Check::ok("engine", format!("{version} at {endpoint}"))];
    checks.push(match (facts.has_buildkit, facts.has_session) {
        (true, true) => Check::ok("builder", "BuildKit, with a session"),
        (true, false) => Check::warn(
            "builder",
            "BuildKit without a session: contexts are sent whole, and there are no secrets",
            "use the engine's socket, or a TCP address without TLS and without a proxy before it",
        ),
        (false, _) if facts.is_podman => Check::ok(
            "builder",
            "Podman's: without secrets, SSH agents, named contexts and caches in registries",
        ),
        (false, _) => Check::warn(
            "builder",
            "the classic builder: RUN --mount, secrets and parallel stages are not possible",
            "use Docker 23 or later (27.5 with the containerd image store)",
        ),
    });
    if let Some(folder) = &facts.folder
        && let Ok(space) = rustix::fs::statvfs(folder)
    {
        let free = space.f_bavail * space.f_frsize;
        let message = format!("{} free in {}", quantity::bytes(free), folder.display());
        checks.push(if free < LITTLE_SPACE {
            Check::warn("disk", message, format!("{} clean --images", program::name()))
        } else {
            Check::ok("disk", message)
        });
    }
    checks.push(untagged(engine, options, ctx).await?);
    Ok(checks)
}

/// The images without a name that this workspace built.
async fn untagged(
    engine: &DockerEngine,
    options: &DoctorOptions,
    ctx: &CommandContext,
) -> Result<Check, CommandError> {
    let built = ids_built(&ctx.root);
    let list = async || {
        let all = engine.untagged_images().await?;
        let own = all.into_iter().filter(|image| built.contains(&image.id));
        Ok::<_, CommandError>(own.collect::<Vec<_>>())
    };
    let mut own = list().await?;
    if options.fix && own.len() > MANY_IMAGES {
        let how = CleanOptions { images: true, ..CleanOptions::default() };
        clean::run(&how, ctx).await?;
        own = list().await?;
    }
    let (count, bytes) = (own.len(), own.iter().map(|image| image.bytes).sum());
    let message =
        format!("{count} without a name that were built here (up to {})", quantity::bytes(bytes));
    Ok(if count > MANY_IMAGES {
        Check::warn("images", message, format!("{} clean --images", program::name()))
    } else {
        Check::ok("images", message)
    })
}

async fn login(engine: &DockerEngine, domain: &str, configured: Option<&RegistryConfig>) -> Check {
    let logins = engine.credentials(vec![domain.to_owned()], configured).await;
    if logins.contains_key(domain) {
        Check::ok("registry", format!("there is a login for {domain}"))
    } else {
        let message = format!("there is no login for {domain}");
        Check::warn("registry", message, format!("docker login {domain}"))
    }
}

fn leftovers(ctx: &CommandContext) -> Check {
    let folders: Vec<String> = TempDirs::read(&ctx.root).made().iter().cloned().collect();
    if folders.is_empty() {
        return Check::ok("leftovers", "there are none");
    }
    let message = format!("a killed build left its folders in {}", folders.join(", "));
    Check::warn("leftovers", message, format!("{} clean", program::name()))
}

fn workspace_checks(workspace: &Workspace, graph: &Graph) -> Vec<Check> {
    let images = workspace.images().count();
    let components = workspace.components.len();
    let mut checks = Vec::new();
    for warning in &workspace.warnings {
        let (message, remedy) = (warning.to_string(), None);
        checks.push(Check { name: "workspace", status: Status::Warn, message, remedy });
    }
    for problem in graph.problems(workspace, &workspace.components.ids().collect()) {
        checks.push(Check::fail("workspace", problem.to_string(), None));
    }
    if checks.is_empty() {
        let (components, images) =
            (quantity::count(components, "component"), quantity::count(images, "image"));
        checks.push(Check::ok("workspace", format!("{components}, {images}")));
    }
    checks.push(watches(workspace));
    checks.extend(hooks(workspace));
    let smells = smells(workspace);
    if smells.is_empty() {
        checks.push(Check::ok("dockerfiles", "nothing that surprises"));
    }
    checks.extend(smells);
    checks
}

/// The hooks that run in every build, and those that write among their component's sources.
fn hooks(workspace: &Workspace) -> Vec<Check> {
    let mut checks: Vec<Check> = undeclared(workspace).into_iter().collect();
    for component in workspace.components.iter().filter(|it| it.has_hooks()) {
        let record = hook_outputs::read(&workspace.root, component);
        if let Some(path) = record.outputs.first() {
            let message = format!(
                "write among the sources of {}, such as {}",
                component.name,
                join(&component.dir, &path.to_string_lossy())
            );
            let remedy = format!("let them write to {}/{GENERATED}/", component.dir);
            checks.push(Check::warn("hooks", message, remedy));
        }
    }
    if checks.is_empty() {
        checks.push(Check::ok("hooks", "all declare their inputs"));
    }
    checks
}

fn undeclared(workspace: &Workspace) -> Option<Check> {
    let components = workspace.components.iter();
    let is_undeclared = |it: &&Component| it.has_hooks() && it.inputs.is_none();
    let undeclared: Vec<&Component> = components.filter(is_undeclared).collect();
    let first = undeclared.first()?;
    let names: Vec<&str> = undeclared.iter().map(|component| component.name.as_str()).collect();
    let message =
        format!("run in every build, as nothing declares what they read: {}", names.join(", "));
    let command = format!("{} inputs {}", program::name(), first.name);
    let build = join(&first.dir, BUILD);
    let remedy = if workspace.root.join(&build).is_dir() {
        format!("{command} > {build}/inputs")
    } else {
        format!("list what '{command}' prints as 'inputs' in {CONFIG_FILE}")
    };
    Some(Check::warn("hooks", message, remedy))
}

/// The limit of watches against the folders of the workspace.
fn watches(workspace: &Workspace) -> Check {
    let folders: usize =
        workspace.components.iter().map(|it| count_folders(&workspace.root.join(&it.dir))).sum();
    let limit = fs::read_to_string(WATCH_LIMIT).ok().and_then(|text| text.trim().parse().ok());
    let Some(limit) = limit.filter(|limit: &usize| *limit < folders) else {
        let folders = quantity::count(folders, "folder");
        return Check::ok("watches", format!("{folders} can be watched"));
    };
    Check::warn(
        "watches",
        format!(
            "the limit of {limit} is less than the {folders} folders of the components: some are polled"
        ),
        format!(
            "sudo sysctl fs.inotify.max_user_watches={}",
            folders.next_power_of_two().max(524_288)
        ),
    )
}

fn count_folders(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    1 + entries.filter(is_folder).map(|entry| count_folders(&entry.path())).sum::<usize>()
}

/// What Dockerfiles say that is likely not meant.
fn smells(workspace: &Workspace) -> Vec<Check> {
    let names: Vec<&str> = workspace.images().map(|(_, image)| image.name.as_str()).collect();
    let mut checks = Vec::new();
    for (_, image) in workspace.images() {
        let bases = image.uses.iter().filter(|used| used.local.is_none() && used.via == Via::From);
        checks.extend(bases.filter_map(|used| of_base(image, used, &names, &workspace.config)));
        let is_whole = image.context_reads == ContextReads::All;
        let rules = ContextSpec::own(image).ignore_rules(&workspace.root);
        if is_whole && rules.is_ok_and(|(_, file)| file.is_none()) {
            let message = format!(
                "{}: reads its whole context, and no .dockerignore leaves anything out",
                image.dockerfile
            );
            let file = join(&image.context, ".dockerignore");
            let remedy = format!("copy only what it needs, or write {file}");
            checks.push(Check::warn("dockerfiles", message, remedy));
        }
    }
    checks
}

/// A base that looks like one of ours and is none, or has no tag.
fn of_base(image: &Image, used: &ImageUse, names: &[&str], config: &Config) -> Option<Check> {
    let repository = Reference::parse(&used.reference).repository();
    let place = format!("{}:{}: '{}'", image.dockerfile, used.line, used.reference);
    let near = did_you_mean(repository, names.iter().copied());
    let is_meant = config.is_external(&used.reference);
    if !repository.contains('/') && !near.is_empty() && !is_meant {
        let message = format!("{place} is no image of this repository{near}");
        let remedy = "correct the name, or list it as 'external' in xtask.toml";
        return Some(Check::warn("dockerfiles", message, remedy));
    }
    let is_tagged = used.reference.contains('@') || used.repository() != repository;
    (!is_tagged).then(|| {
        let message = format!("{place} has no tag, so it is another image from day to day");
        Check::warn("dockerfiles", message, format!("write a tag, such as {repository}:1.2"))
    })
}
