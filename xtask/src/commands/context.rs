//! `context`: the build context that the engine would receive for an image.
//!
//! By default this needs no engine and runs no hooks. The files that hooks would add in
//! `generated/` and `dependency/` are missing, so components with hooks are listed. With
//! `--hooks`, a build runs up to the point where it would send the context. Only the engine knows
//! whether an external base image makes more files necessary, by `ONBUILD` or a variable: if so, a
//! build sends all files.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use xtask_core::context::build_context::Context;
use xtask_core::context::spec::ContextSpec;
use xtask_core::context::tree::{Kind, Tree, Wanted};
use xtask_core::context::tree_cache::TreeCache;
use xtask_core::ids::ComponentId;
use xtask_core::paths::{DEPENDENCY, TEMPORARY};
use xtask_core::plan::steps::{Plan, Step};
use xtask_core::problem::{Problem, Problems};
use xtask_core::workspace::components::{Image, Workspace, WorkspaceOptions};

use crate::build::mode::{ContextCapture, Mode};
use crate::build::options::{BuildOptions, Scope, Selection};
use crate::build::prepare::read_workspace;
use crate::build::run as build;
use crate::command_context::CommandContext;
use crate::command_error::CommandError;
use crate::system::records::read_memory;
use crate::system::temp_dirs::TempDirs;

#[derive(Clone, Debug)]
pub(crate) struct ContextOptions {
    pub(crate) components: Vec<String>,
    /// One of the components' images; all if `None`.
    pub(crate) image: Option<String>,
    pub(crate) reading: WorkspaceOptions,
    /// The file to write the exact tar stream to.
    pub(crate) tar: Option<PathBuf>,
    /// Whether to run hooks first, and build stale dependencies.
    pub(crate) hooks: bool,
}

/// The context of an image.
#[derive(Debug)]
pub(crate) struct ImageContext {
    pub(crate) component: String,
    pub(crate) image: String,
    /// Relative to the root.
    pub(crate) dockerfile: String,
    pub(crate) context: Context,
    /// The `.dockerignore` file in effect, relative to the root.
    pub(crate) ignore_file: Option<String>,
    /// The files that it excludes, by the number of its line.
    pub(crate) left_out: BTreeMap<usize, LeftOut>,
    /// The files that no instruction of the Dockerfile can read.
    pub(crate) unread: LeftOut,
    /// The hooks that would run first, relative to the root. The context lacks their outputs.
    pub(crate) hooks: Vec<String>,
}

/// Files that are not part of a context.
#[derive(Debug, Default)]
pub(crate) struct LeftOut {
    pub(crate) files: usize,
    /// Their total size.
    pub(crate) bytes: u64,
    /// The path of the first file, as it would be in the context.
    pub(crate) example: String,
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

/// Computes the contexts, and writes one to a file with `--tar`.
pub(crate) async fn run(
    options: &ContextOptions,
    ctx: &CommandContext,
) -> Result<Vec<ImageContext>, CommandError> {
    let registry = options.reading.registry()?;
    let (workspace, graph) =
        read_workspace(&ctx.root, &options.reading, registry.as_ref(), &ctx.events)?;
    let selected = workspace.find_all(&options.components)?;
    Problems::check(graph.problems(&workspace, &graph.closure(&selected)))?;
    let plan = Plan::new(&workspace, &graph, Some(&selected));
    let images = select_images(&workspace, &plan, &selected, options).map_err(Problems::from)?;
    let capture = ContextCapture {
        image: options.image.clone(),
        tar: options.tar.clone(),
        ..ContextCapture::default()
    };
    let temp_dirs = TempDirs::read(&ctx.root);
    if !options.hooks {
        temp_dirs.check(&workspace, &plan.components_read())?;
    }
    let trees = TreeCache::new(&ctx.root, read_memory(&ctx.root));
    let trees = trees.without_temporary(temp_dirs.made().clone());
    if options.hooks {
        let built = images.iter().map(|(step, _)| step.component).collect::<BTreeSet<_>>();
        let selection = Selection::Named(names(&workspace, &built));
        let scope = Scope { reading: options.reading.clone(), selection };
        let how = BuildOptions::default();
        Box::pin(build::run_with(ctx.engine(), &scope, &how, Mode::Show(&capture), ctx)).await?;
    } else {
        for (step, image) in &images {
            let context = context_without_generated(&workspace, step, image, &trees);
            let context = context.map_err(Problems::from)?;
            capture.add(image, context).map_err(CommandError::Unwritten)?;
        }
    }
    let mut contexts = Vec::new();
    for (name, context) in capture.captured.into_inner() {
        if let Some((step, image)) = images.iter().find(|(_, image)| image.name == name) {
            let mut described =
                describe(&workspace, step, image, context, &trees).map_err(Problems::from)?;
            if options.hooks {
                described.hooks.clear();
            }
            contexts.push(described);
        }
    }
    Ok(contexts)
}

fn names(workspace: &Workspace, components: &BTreeSet<ComponentId>) -> Vec<String> {
    components.iter().map(|id| workspace.components[*id].name.clone()).collect()
}

/// The images whose contexts are shown, each with the step that builds it.
fn select_images<'w>(
    workspace: &'w Workspace,
    plan: &'w Plan,
    selected: &BTreeSet<ComponentId>,
    options: &ContextOptions,
) -> Result<Vec<(&'w Step, &'w Image)>, Problem> {
    let steps = plan.steps.iter().filter(|step| selected.contains(&step.component));
    let all: Vec<(&Step, &Image)> = steps
        .flat_map(|step| {
            workspace.components[step.component].images.iter().map(move |it| (step, it))
        })
        .collect();
    let components = names(workspace, selected).join("', '");
    let builds = |one, several| if selected.len() == 1 { one } else { several };
    if all.is_empty() {
        let builds = builds("builds no images, so it has", "build no images, so they have");
        return Err(Problem::of_request(format!("'{components}' {builds} no build context")));
    }
    let names: Vec<&str> = all.iter().map(|(_, image)| image.name.as_str()).collect();
    let names = names.join(", ");
    let is_selected = |(_, image): &(&Step, &Image)| {
        options.image.as_ref().is_none_or(|selected| *selected == image.name)
    };
    let images: Vec<(&Step, &Image)> = all.into_iter().filter(is_selected).collect();
    if images.is_empty() {
        let image = options.image.as_deref().unwrap_or_default();
        let has = builds("has no image", "have no image");
        let its = builds("its", "their");
        let message = format!("'{components}' {has} '{image}': {its} images are {names}");
        return Err(Problem::of_request(message));
    }
    if options.tar.is_some() && images.len() > 1 {
        let message = format!("--tar writes a single context: add --image with one of {names}");
        return Err(Problem::of_request(message));
    }
    Ok(images)
}

/// The context without the outputs of hooks.
fn context_without_generated(
    workspace: &Workspace,
    step: &Step,
    image: &Image,
    trees: &TreeCache,
) -> Result<Context, Problem> {
    let own = ContextSpec::own(image);
    trees.context_without_generated(
        &own.with_dependencies(step.dependency_folders(workspace, &BTreeMap::new())),
    )
}

fn describe(
    workspace: &Workspace,
    step: &Step,
    image: &Image,
    context: Context,
    trees: &TreeCache,
) -> Result<ImageContext, Problem> {
    let component = &workspace.components[step.component];
    let spec = ContextSpec::own(image);
    let (ignore, ignore_file) = trees.ignore(&spec)?;
    let mut left_out: BTreeMap<usize, LeftOut> = BTreeMap::new();
    let mut unread = LeftOut::default();
    let sent: HashSet<PathBuf> = context.items().map(|item| item.path()).collect();
    let own = (image.context.clone(), PathBuf::new());
    let others = step.received.iter().map(|id| {
        let component = &workspace.components[*id];
        (component.dir.clone(), Path::new(DEPENDENCY).join(&component.name))
    });
    for (dir, path_in_context) in std::iter::once(own).chain(others) {
        let folder = workspace.root.join(&dir);
        let tree = Tree::read_filtered(&folder, without_temporary, &[])
            .map_err(|error| Problem::of_file(&dir, error.to_string()))?;
        for entry in tree.entries().iter().filter(|entry| entry.kind != Kind::Folder) {
            let path = path_in_context.join(&entry.path).to_string_lossy().into_owned();
            let is_dockerfile = spec.elsewhere.is_none() && Path::new(&path) == spec.dockerfile;
            if is_dockerfile || sent.contains(Path::new(&path)) {
                continue;
            }
            match ignore.line_for(&path) {
                Some(line) => left_out.entry(line).or_default().add(path, entry.size()),
                None => unread.add(path, entry.size()),
            }
        }
    }
    let components = step.received.iter().chain([&step.component]);
    let hooks = components.flat_map(|id| {
        let component = &workspace.components[*id];
        let post_hook = component.post_hook.iter().filter(|_| *id != step.component);
        component.pre_hook.iter().chain(post_hook).map(ToString::to_string)
    });
    Ok(ImageContext {
        component: component.name.clone(),
        image: image.name.clone(),
        dockerfile: image.dockerfile.clone(),
        context,
        ignore_file: ignore_file.map(|file| file.display().to_string()),
        left_out,
        unread,
        hooks: hooks.collect(),
    })
}

/// Skips the folders that only exist during a round.
fn without_temporary(path: &Path) -> Wanted {
    let is_temporary = TEMPORARY.iter().any(|name| path.starts_with(name));
    Wanted::itself_if(!is_temporary)
}
