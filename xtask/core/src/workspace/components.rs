//! Reads all components of a workspace: their images, hooks and declared dependencies.
//!
//! A component is a folder directly under `src/`, configured by its `build/` folder: each
//! `NAME[.FLAVOR].dockerfile` builds an image `NAME`, `build-pre.sh` and `build-post.sh` are
//! hooks that run before and after, and `component.dep` (or `components.dep`) lists the
//! components that it depends on, one name per line. A folder without `build/` only holds
//! files for its dependents. Only the names in `FLAVORS` are flavors: any other dot is a part
//! of the image's name, as in `python3.11`.
//!
//! Reading does not stop at the first error: whatever cannot be read becomes a [`Problem`] of
//! its component, which cannot be built then, nor what depends on it. All others can.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::dockerfile::context_reads::ContextReads;
use crate::dockerfile::parser::ImageUse;
use crate::dockerfile::provenance::Provenance;
use crate::escape;
use crate::ids::{ComponentId, Id, IdVec, ImageId};
use crate::paths::{BUILD, CONFIG_FILE, IGNORE_FILE, POST_HOOK, PRE_HOOK, SRC, join};
use crate::problem::{Problem, Problems, did_you_mean};
use crate::workspace::config::named_context::NamedContext;
use crate::workspace::config::overrides::Overrides;
use crate::workspace::config::settings::ImageSettings;
use crate::workspace::config::{Config, Facts};
use crate::workspace::hook::Hook;
use crate::workspace::inputs::Inputs;
use crate::workspace::registry_config::RegistryConfig;

/// Options that affect how a workspace is read.
#[derive(Clone, Debug, Default)]
pub struct WorkspaceOptions {
    /// The folder of `services-configuration.yaml`. Without it, Dockerfiles can use images of the
    /// workspace only by their plain names.
    pub config_dir: Option<PathBuf>,
    /// The flavor to choose where an image has several Dockerfiles.
    pub flavor: Option<String>,
    /// Values for `ARG`s. They can change which images a `FROM` names.
    pub build_args: BTreeMap<String, String>,
    /// The `ARG`s that are to have a value of the environment, which has none.
    pub unset_args: BTreeSet<String>,
    /// Whether to send whole contexts, including files that no instruction reads.
    pub whole_context: bool,
    /// The tag that images are pushed with.
    pub tag: Option<String>,
    /// What the command line says about images.
    pub overrides: Overrides,
    /// What templates in `xtask.toml` can use.
    pub facts: Facts,
}

impl WorkspaceOptions {
    /// Reads the registry's configuration, if there is to be one.
    pub fn registry(&self) -> Result<Option<RegistryConfig>, Problems> {
        self.config_dir.as_deref().map(RegistryConfig::read).transpose()
    }

    /// Rejects an unknown flavor, for which some images would silently not be built.
    pub fn check(&self, flavors: &[String]) -> Result<(), Problem> {
        match &self.flavor {
            Some(flavor) if !flavors.contains(flavor) => {
                let hint = did_you_mean(flavor, flavors.iter().map(String::as_str));
                let known = flavors.join(", ");
                let message =
                    format!("--flavor: unknown flavor '{flavor}'{hint}: known flavors are {known}");
                Err(Problem::of_request(message))
            }
            _ => Ok(()),
        }
    }
}

/// A workspace and its components.
#[derive(Debug)]
pub struct Workspace {
    /// The folder that contains `src/` or `xtask.toml`.
    pub root: PathBuf,
    /// What `xtask.toml` says.
    pub config: Config,
    /// The components, sorted by name.
    pub components: IdVec<ComponentId, Component>,
    /// Problems that do not prevent a build.
    pub warnings: Vec<Problem>,
}

/// A folder that makes images, or holds files for other components: one directly under `src/`,
/// or one in which `xtask.toml` finds Dockerfiles.
#[derive(Debug, Default)]
pub struct Component {
    /// Its name: that of its folder, with as many of the folders above as make it unique.
    pub name: String,
    /// Its folder, relative to the root.
    pub dir: String,
    /// The images built by it, sorted by name.
    pub images: IdVec<ImageId, Image>,
    /// Images that it has no Dockerfile of for the flavor, each with the end of a sentence that says
    /// what there is.
    pub missing: BTreeMap<String, String>,
    /// What runs before its images are built: `build/build-pre.sh`, if it exists.
    pub pre_hook: Option<Hook>,
    /// What runs after its images are built: `build/build-post.sh`, if it exists.
    pub post_hook: Option<Hook>,
    /// The path of `build/inputs`, or of `xtask.toml`, relative to the root, and what it says that
    /// the hooks read.
    pub inputs: Option<(String, Inputs)>,
    /// The dependencies in `component.dep` and `components.dep`, in order, and in `depends-on`.
    pub declared: Vec<DeclaredDependency>,
    /// Whether `xtask.toml` defines its images: then it gets only what it declares under
    /// `dependency/`, and not the folders of its bases.
    pub is_configured: bool,
    /// The targets of symbolic links that leave its folder, relative to the root: dependents
    /// receive copies of them. [`Workspace::read`] leaves it empty: callers set it if needed.
    pub link_targets: Vec<PathBuf>,
    /// What links in its `build/` lead to, relative to the root, and that folder, if it is one.
    pub build_links: Vec<PathBuf>,
    /// Why it cannot be built: everything in its files that is invalid or cannot be read.
    pub problems: Vec<Problem>,
}

/// One image of a component.
#[derive(Debug)]
pub struct Image {
    /// Its name: that of its Dockerfile without flavor and extension, or the one in `xtask.toml`,
    /// which may have a tag.
    pub name: String,
    /// The path of its Dockerfile, relative to the root.
    pub dockerfile: String,
    /// The folder that is its context, relative to the root, which is the folder "".
    pub context: String,
    /// Whether other images have the same Dockerfile.
    pub shares_dockerfile: bool,
    /// What `xtask.toml` says about it.
    pub settings: ImageSettings,
    /// The values of `ARG`s: those of the command line, then those of its settings.
    pub build_args: BTreeMap<String, String>,
    /// The `ARG`s that do nothing but name images of the workspace.
    pub naming_args: BTreeSet<String>,
    /// The digest of the Dockerfile's contents.
    pub dockerfile_digest: Digest,
    /// The images that its Dockerfile uses, in the order of the file.
    pub uses: Vec<ImageUse>,
    /// The names of its stages, in lower case.
    pub stages: BTreeSet<String>,
    /// The names of all `ARG`s in its Dockerfile.
    pub args: Vec<String>,
    /// The secrets and SSH agents that its instructions mount: `secret` or `ssh`, and the id.
    pub mounts: BTreeSet<(String, String)>,
    /// The files of its context that the Dockerfile can read.
    pub context_reads: ContextReads,
    /// Whether its Dockerfile has `ONBUILD` instructions, which run in builds `FROM` it.
    pub has_onbuild: bool,
    /// Its base and instructions.
    pub provenance: Provenance,
}

impl Image {
    /// Whether its Dockerfile and its contexts are in a folder.
    pub fn is_within(&self, folder: &str) -> bool {
        Path::new(&self.context).starts_with(folder)
            && Path::new(&self.dockerfile).starts_with(folder)
            && self.named_folders().all(|(_, named)| Path::new(named).starts_with(folder))
    }

    /// Whether the value of a build arg is in the image. One that does nothing but name our
    /// images counts by what those are made from.
    pub fn reads_arg(&self, name: &String) -> bool {
        self.args.contains(name) && !self.naming_args.contains(name)
    }

    /// The folders that its Dockerfile calls by names: each name and its folder, relative to the
    /// root.
    pub fn named_folders(&self) -> impl Iterator<Item = (&str, &str)> {
        self.settings.contexts.iter().filter_map(|(name, context)| match &context.value {
            NamedContext::Folder(folder) => Some((name.as_str(), folder.as_str())),
            _ => None,
        })
    }

    /// The ignore files that its build may read, relative to the root.
    pub fn ignore_files(&self) -> [String; 2] {
        [format!("{}{IGNORE_FILE}", self.dockerfile), join(&self.context, IGNORE_FILE)]
    }

    /// The files and folders that its build begins with, relative to the root.
    pub fn sources(&self) -> impl Iterator<Item = String> {
        let files = [&self.context, &self.dockerfile].into_iter().chain(&self.settings.args_files);
        let folders = self.named_folders().map(|(_, folder)| folder.to_owned());
        files.cloned().chain(folders).chain(self.ignore_files())
    }

    /// The bases that the workspace does not make, of those that the build needs.
    pub fn external_bases(&self) -> Vec<&ImageUse> {
        let is_external = |used: &&ImageUse| used.is_reached && used.local.is_none();
        self.uses.iter().filter(is_external).collect()
    }

    /// Whether it has a stage of this name.
    pub fn has_stage(&self, name: &str) -> bool {
        self.stages.contains(&name.to_lowercase())
    }

    /// Adds what the `ONBUILD` instructions of the base in a line read: any of its stages, and the
    /// images that they name.
    pub(crate) fn run_triggers(&mut self, line: usize, named: &[ImageUse]) {
        let own = self.uses.iter_mut().filter(|used| !used.is_trigger);
        own.for_each(|used| used.is_reached = true);
        for used in named {
            let is_there = self.uses.iter().any(|own| own.reference == used.reference);
            if !is_there && !self.has_stage(&used.reference) {
                let used = ImageUse::of(used.reference.clone(), line, used.via);
                self.uses.push(ImageUse { is_reached: true, ..used });
            }
        }
    }

    /// Whether a build of it can read a path, relative to the root, or something below it.
    fn may_read(&self, path: &Path) -> bool {
        let is_above = |file: &str| Path::new(file).starts_with(path);
        let is_read =
            path.strip_prefix(&self.context).is_ok_and(|below| self.context_reads.may_read(below));
        let is_ignore_file = || {
            let text = path.to_string_lossy();
            text.strip_suffix(IGNORE_FILE)
                .is_some_and(|of| of == self.dockerfile || of.trim_end_matches('/') == self.context)
        };
        is_read
            || is_above(&self.context)
            || is_above(&self.dockerfile)
            || self.settings.args_files.iter().any(|file| is_above(file))
            || self.named_folders().any(|(_, dir)| path.starts_with(dir) || is_above(dir))
            || is_ignore_file()
    }

    /// The path of the Dockerfile in the context; its name alone, if it is not in the context.
    pub fn dockerfile_in_context(&self) -> &str {
        if self.context.is_empty() {
            return &self.dockerfile;
        }
        let below = self.dockerfile.strip_prefix(&self.context);
        let below = below.and_then(|below| below.strip_prefix('/'));
        below.or(self.dockerfile.rsplit('/').next()).unwrap_or(&self.dockerfile)
    }

    /// The folder of the Dockerfile, if it is not in the context.
    pub fn dockerfile_folder_elsewhere(&self) -> Option<&str> {
        let folder = self.dockerfile.rsplit_once('/').map_or("", |(folder, _)| folder);
        (!Path::new(&self.dockerfile).starts_with(&self.context)).then_some(folder)
    }
}

/// A line of a `component.dep`, or an element of `depends-on`.
#[derive(Debug)]
pub struct DeclaredDependency {
    /// The name of the dependency, as written.
    pub component: String,
    /// The path of the file, relative to the root, or the option.
    pub file: String,
    /// The line, starting at 1; 0 for an option.
    pub line: usize,
}

impl DeclaredDependency {
    /// A problem with it.
    pub(crate) fn problem(&self, message: &str) -> Problem {
        match self.line {
            0 => Problem::of_request(format!("{}: {message}", self.file)),
            line => Problem::of_line(&self.file, line, message),
        }
    }
}

impl Component {
    /// Whether it has images or hooks, so that a build has a step for it. One that is broken
    /// has a step that fails.
    pub fn builds(&self) -> bool {
        !self.images.is_empty() || self.has_hooks() || !self.problems.is_empty()
    }

    /// Whether it has a hook.
    pub fn has_hooks(&self) -> bool {
        self.hooks().next().is_some()
    }

    /// Its hooks.
    pub fn hooks(&self) -> impl Iterator<Item = &Hook> {
        self.pre_hook.iter().chain(&self.post_hook)
    }

    /// Those of its hooks that are not among its files, or of which only a link is.
    pub fn hooks_elsewhere(&self, root: &Path) -> impl Iterator<Item = &Hook> {
        let is_link = |hook: &Hook| hook.script().is_some_and(|it| root.join(it).is_symlink());
        self.hooks().filter(move |hook| !hook.is_in(&self.dir) || is_link(hook))
    }
}

impl Workspace {
    /// The component of this name.
    pub fn find(&self, name: &str) -> Option<ComponentId> {
        let by_name = |component: &Component| component.name.as_str().cmp(name);
        self.components.as_slice().binary_search_by(by_name).ok().map(ComponentId::at)
    }

    /// The component that a `component.dep` or `depends-on` means: by its name, by that of one of
    /// its images, or by its folder. Without `xtask.toml` by its name alone.
    pub fn depended_on(&self, name: &str) -> Option<ComponentId> {
        let by_image = || self.images().find(|(_, image)| image.name == name).map(|(id, _)| id);
        let is_folder = |(_, component): &(ComponentId, &Component)| component.dir == name;
        let by_folder = || self.components.enumerate().find(is_folder).map(|(id, _)| id);
        let found = self.find(name);
        if self.config.exists { found.or_else(by_image).or_else(by_folder) } else { found }
    }

    /// The component that a path, relative to the root, is in; the innermost if several are.
    pub fn owner(&self, path: &Path) -> Option<ComponentId> {
        let components = self.components.enumerate();
        let around = components.filter(|(_, component)| path.starts_with(&component.dir));
        around.max_by_key(|(_, component)| component.dir.len()).map(|(id, _)| id)
    }

    /// The components that a path, relative to the root, is a part of: the one that it is in, and
    /// those with an image whose build can read it.
    pub fn touched_by(&self, path: &Path) -> BTreeSet<ComponentId> {
        if path == Path::new(CONFIG_FILE) {
            return self.components.ids().collect();
        }
        let may_read = |component: &Component| {
            let mut scripts = component.hooks().filter_map(Hook::script);
            component.images.iter().any(|it| it.may_read(path))
                || scripts.any(|script| Path::new(script).starts_with(path))
        };
        let components = self.components.enumerate();
        let readers = components.filter(|(_, component)| may_read(component)).map(|(id, _)| id);
        readers.chain(self.owner(path)).collect()
    }

    /// The error message for a component that does not exist.
    pub(crate) fn unknown_component(&self, name: &str) -> String {
        let known = self.components.iter().map(|c| c.name.as_str());
        if self.config.has_definitions() {
            let images = self.images().map(|(_, image)| image.name.as_str());
            let hint = did_you_mean(name, known.chain(images));
            return format!("no component or image '{}'{hint}", escape::line(name));
        }
        let hint = did_you_mean(name, known);
        format!("no component '{}' under src/{hint}", escape::line(name))
    }

    /// All images with their components, sorted by component.
    pub fn images(&self) -> impl Iterator<Item = (ComponentId, &Image)> {
        let components = self.components.enumerate();
        components.flat_map(|(id, component)| component.images.iter().map(move |image| (id, image)))
    }
}

/// Finds the root of the workspace that contains `from`: the nearest ancestor with an
/// `xtask.toml`, or whose `src/` has a component with something to build, or else the nearest one
/// with a `src/`.
///
/// The nearest `src/` alone is not enough, because a component may have its own `src/`, as
/// Rust crates do, with folders `build` of other tools.
pub fn find_root(from: &Path) -> Option<PathBuf> {
    let with_src = || from.ancestors().filter(|dir| dir.join(SRC).is_dir());
    let entries = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().flatten();
    let defines = |name: &OsStr| {
        let files = [PRE_HOOK, POST_HOOK, "component.dep", "components.dep"];
        Path::new(name).extension() == Some(OsStr::new("dockerfile"))
            || files.iter().any(|file| name == *file)
    };
    let has_component = |dir: &&Path| {
        let builds = entries(dir.join(SRC)).map(|entry| entry.path().join(BUILD));
        builds.flat_map(entries).any(|entry| defines(&entry.file_name()))
    };
    let is_root = |dir: &&Path| dir.join(CONFIG_FILE).exists() || has_component(dir);
    from.ancestors().find(is_root).or_else(|| with_src().next()).map(Path::to_owned)
}

/// The warning for a Dockerfile that is not in a `build/` folder, where it is ignored.
pub(crate) fn stray_dockerfile(path: &str) -> Option<Problem> {
    let mut folders = path.split('/').skip(2);
    let is_in_build = folders.next() == Some(BUILD) && folders.count() == 1;
    let is_hidden = path.split('/').any(|name| name.starts_with('.'));
    if !path.ends_with(".dockerfile") || is_in_build || is_hidden {
        return None;
    }
    let message =
        "is not in a component's build/ folder, so it is ignored: move it to src/NAME/build/";
    Some(Problem::of_file(path, message))
}
