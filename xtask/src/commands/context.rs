//! `context`: what an engine would receive for an image.
//!
//! That needs no engine, and by itself no hook runs for it. What hooks make in
//! `generated/` and `dependency/` comes on top in a build, so whose these are is told; or
//! they run as in a build, which ends where the context would be sent. Only the engine
//! could tell what an external base adds to what is read, by `ONBUILD` or a variable: with
//! such a base a build sends everything.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use xtask_core::context::build_context::Context;
use xtask_core::context::spec::ContextSpec;
use xtask_core::context::tree::{Kind, Tree, Wanted};
use xtask_core::context::tree_cache::TreeCache;
use xtask_core::paths::DEPENDENCY;
use xtask_core::paths::TEMPORARY;
use xtask_core::plan::steps::{Plan, Step};
use xtask_core::problem::{Problem, Problems};
use xtask_core::workspace::components::{Component, Image, Workspace, WorkspaceOptions};
use xtask_core::workspace::registry_config::RegistryConfig;

use crate::build::mode::{ContextCapture, Mode};
use crate::build::options::BuildOptions;
use crate::build::prepare::read_workspace;
use crate::build::run as build;
use crate::command_context::CommandContext;
use crate::command_error::CommandError;
use crate::system::records::read_memory;
use crate::system::temp_dirs::TempDirs;

/// Whose context, and where to.
#[derive(Clone, Debug)]
pub struct ContextOptions {
    /// The component.
    pub component: String,
    /// One of its images; all if none.
    pub image: Option<String>,
    /// The folder of `services-configuration.yaml`.
    pub config_dir: Option<PathBuf>,
    /// How Dockerfiles are read.
    pub reading: WorkspaceOptions,
    /// Write the very stream to this file.
    pub tar: Option<PathBuf>,
    /// Run the hooks before, and build what the component needs if it is stale.
    pub hooks: bool,
}

/// What the engine would receive for an image.
#[derive(Debug)]
pub struct ImageContext {
    /// The component's name.
    pub component: String,
    /// The image's name.
    pub image: String,
    /// Its Dockerfile, relative to the root.
    pub dockerfile: String,
    /// What is sent.
    pub context: Context,
    /// The file that says what is left out, relative to the root, if there is one.
    pub ignore_file: Option<String>,
    /// What its lines leave out, by line.
    pub left_out: BTreeMap<usize, LeftOut>,
    /// What no instruction of the Dockerfile can read.
    pub unread: LeftOut,
    /// Hooks that run before, relative to the root: what they make is not seen here.
    pub hooks: Vec<String>,
}

/// What is left out, by one line of a `.dockerignore` for one.
#[derive(Debug, Default)]
pub struct LeftOut {
    /// How many files.
    pub files: usize,
    /// How many bytes these have.
    pub bytes: u64,
    /// The first of them, as it would be called in the context.
    pub example: String,
}

impl LeftOut {
    fn add(&mut self, path: String, bytes: u64) {
        if self.files == 0 {
            self.example = path;
        }
        self.files += 1;
        self.bytes += bytes;
    }
}

/// Finds out what would be sent, and writes it to a file if that is asked for.
pub async fn run(
    options: &ContextOptions,
    ctx: &CommandContext,
) -> Result<Vec<ImageContext>, CommandError> {
    let registry = options.config_dir.as_deref().map(RegistryConfig::read).transpose()?;
    let (workspace, graph) =
        read_workspace(&ctx.root, &options.reading, registry.as_ref(), &ctx.events)?;
    let selected = workspace.find_all(std::slice::from_ref(&options.component))?;
    let plan = Plan::new(&workspace, &graph, Some(&selected));
    let step = plan.steps.iter().find(|step| selected.contains(&step.component));
    let component = step.map(|step| &workspace.components[step.component]);
    let (Some(step), Some(component)) = (step, component) else {
        return Err(Problems::from(makes_nothing(&options.component)).into());
    };
    let images = choose(component, options).map_err(Problems::from)?;
    let capture = ContextCapture {
        image: options.image.clone(),
        tar: options.tar.clone(),
        ..ContextCapture::default()
    };
    let folders = TempDirs::read(&ctx.root);
    if !options.hooks {
        folders.check(&workspace, &plan.components_read())?;
    }
    let trees = TreeCache::new(&ctx.root, read_memory(&ctx.root));
    let trees = trees.without_temporary(folders.made().clone());
    if options.hooks {
        let build = BuildOptions {
            config_dir: options.config_dir.clone(),
            reading: options.reading.clone(),
            components: vec![component.name.clone()],
            ..BuildOptions::default()
        };
        let engine = ctx.engine();
        build::run_with(engine, &build, Mode::Show(&capture), ctx).await?;
    } else {
        for image in &images {
            let context = context_without_generated(&workspace, step, image, &trees);
            let context = context.map_err(Problems::from)?;
            capture.add(image, context).map_err(CommandError::Unwritten)?;
        }
    }
    let mut contents = Vec::new();
    for (name, context) in capture.seen.into_inner() {
        if let Some(image) = images.iter().find(|image| image.name == name) {
            let mut described =
                describe(&workspace, step, image, context, &trees).map_err(Problems::from)?;
            if options.hooks {
                described.hooks.clear();
            }
            contents.push(described);
        }
    }
    Ok(contents)
}

fn makes_nothing(component: &str) -> Problem {
    Problem::of_request(format!("'{component}' makes no image: nothing is sent for it"))
}

fn choose<'w>(
    component: &'w Component,
    options: &ContextOptions,
) -> Result<Vec<&'w Image>, Problem> {
    let names: Vec<&str> = component.images.iter().map(|image| image.name.as_str()).collect();
    let name = &component.name;
    if names.is_empty() {
        return Err(makes_nothing(name));
    }
    let is_chosen =
        |image: &&Image| options.image.as_ref().is_none_or(|wanted| *wanted == image.name);
    let chosen: Vec<&Image> = component.images.iter().filter(is_chosen).collect();
    if chosen.is_empty() {
        let wanted = options.image.as_deref().unwrap_or_default();
        let message = format!("'{name}' makes no image '{wanted}', but {}", names.join(", "));
        return Err(Problem::of_request(message));
    }
    if options.tar.is_some() && chosen.len() > 1 {
        let message =
            format!("--tar takes one context: say --image with one of {}", names.join(", "));
        return Err(Problem::of_request(message));
    }
    Ok(chosen)
}

/// What is sent if no hook runs.
fn context_without_generated(
    workspace: &Workspace,
    step: &Step,
    image: &Image,
    trees: &TreeCache,
) -> Result<Context, Problem> {
    let own = ContextSpec::own(&workspace.components[step.component], image);
    trees.context_without_generated(&own.with_dependencies(needed(workspace, step)))
}

fn needed(workspace: &Workspace, step: &Step) -> Vec<String> {
    let names = step.dependencies.iter().map(|place| &workspace.components[*place].name);
    names.cloned().collect()
}

fn describe(
    workspace: &Workspace,
    step: &Step,
    image: &Image,
    context: Context,
    trees: &TreeCache,
) -> Result<ImageContext, Problem> {
    let component = &workspace.components[step.component];
    let selection = ContextSpec::own(component, image);
    let needed = needed(workspace, step);
    let (ignore, ignore_file) = trees.ignore(&selection)?;
    let mut left_out: BTreeMap<usize, LeftOut> = BTreeMap::new();
    let mut unread = LeftOut::default();
    let sent: HashSet<PathBuf> = context.items().map(|item| item.path()).collect();
    let own = (component.dir(), PathBuf::new());
    let others =
        needed.iter().map(|name| (format!("src/{name}"), Path::new(DEPENDENCY).join(name)));
    for (dir, at) in std::iter::once(own).chain(others) {
        let folder = workspace.root.join(&dir);
        let tree = Tree::read_filtered(&folder, wanted, &[])
            .map_err(|error| Problem::of_file(&dir, error.to_string()))?;
        for entry in tree.entries().iter().filter(|entry| entry.kind != Kind::Folder) {
            let path = at.join(&entry.path).to_string_lossy().into_owned();
            let is_dockerfile = Path::new(&path) == selection.dockerfile;
            if is_dockerfile || sent.contains(Path::new(&path)) {
                continue;
            }
            match ignore.line_for(&path) {
                Some(line) => left_out.entry(line).or_default().add(path, entry.size()),
                None => unread.add(path, entry.size()),
            }
        }
    }
    let hooked = step.dependencies.iter().chain([&step.component]);
    let hooks = hooked.flat_map(|place| {
        let hooked = &workspace.components[*place];
        let post = hooked.post_hook.iter().filter(|_| *place != step.component);
        hooked.pre_hook.iter().chain(post).cloned()
    });
    Ok(ImageContext {
        component: component.name.clone(),
        image: image.name.clone(),
        dockerfile: image.dockerfile.clone(),
        context,
        ignore_file: ignore_file.map(|file| format!("{}/{}", component.dir(), file.display())),
        left_out,
        unread,
        hooks: hooks.collect(),
    })
}

/// All but what is there during a round only.
fn wanted(path: &Path) -> Wanted {
    let is_temporary = TEMPORARY.iter().any(|name| path.starts_with(name));
    Wanted::itself_if(!is_temporary)
}
