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
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::digest::Digest;
use crate::dockerfile::context_reads::ContextReads;
use crate::dockerfile::parser::{self, Dockerfile, ImageUse, Via};
use crate::dockerfile::platform_args::is_predefined;
use crate::dockerfile::provenance::Provenance;
use crate::escape;
use crate::ids::{ComponentId, Id, IdVec, ImageId};
use crate::image_reference::{self, Reference, RegistryNames};
use crate::paths::{BUILD, POST_HOOK, PRE_HOOK, SRC, component_dir};
use crate::problem::{Problem, Problems, did_you_mean};
use crate::regular_file;
use crate::workspace::hook_script;
use crate::workspace::inputs::Inputs;
use crate::workspace::registry_config::RegistryConfig;

/// The flavors that a Dockerfile can be for.
pub(crate) const FLAVORS: [&str; 3] = ["common", "k8s", "yarn"];

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
    /// Whether to send whole contexts, including files that no instruction reads.
    pub whole_context: bool,
}

impl WorkspaceOptions {
    /// Reads the registry's configuration, if there is to be one.
    pub fn registry(&self) -> Result<Option<RegistryConfig>, Problems> {
        self.config_dir.as_deref().map(RegistryConfig::read).transpose()
    }

    /// Rejects an unknown flavor, for which some images would silently not be built.
    pub fn check(&self) -> Result<(), Problem> {
        match &self.flavor {
            Some(flavor) if !FLAVORS.contains(&flavor.as_str()) => {
                let hint = did_you_mean(flavor, FLAVORS);
                let known = FLAVORS.join(", ");
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
    /// The folder that contains `src/`.
    pub root: PathBuf,
    /// The components, sorted by name.
    pub components: IdVec<ComponentId, Component>,
    /// Problems that do not prevent a build.
    pub warnings: Vec<Problem>,
}

/// A folder directly under `src/`.
#[derive(Debug, Default)]
pub struct Component {
    /// Its name, which is that of its folder.
    pub name: String,
    /// Its folder, relative to the root.
    pub dir: String,
    /// The images built by it, sorted by name.
    pub images: IdVec<ImageId, Image>,
    /// The path of `build/build-pre.sh`, relative to the root, if it exists.
    pub pre_hook: Option<String>,
    /// The path of `build/build-post.sh`, relative to the root, if it exists.
    pub post_hook: Option<String>,
    /// The path of `build/inputs`, relative to the root, and its contents, if it exists.
    pub inputs: Option<(String, Inputs)>,
    /// The dependencies in `component.dep` and `components.dep`, in order.
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
    /// The name of its Dockerfile, without flavor and extension.
    pub name: String,
    /// The path of its Dockerfile, relative to the root.
    pub dockerfile: String,
    /// The digest of the Dockerfile's contents.
    pub dockerfile_digest: Digest,
    /// The images that its Dockerfile uses, in the order of the file.
    pub uses: Vec<ImageUse>,
    /// The names of all `ARG`s in its Dockerfile.
    pub args: Vec<String>,
    /// The files of its context that the Dockerfile can read.
    pub context_reads: ContextReads,
    /// Whether its Dockerfile has `ONBUILD` instructions, which run in builds `FROM` it.
    pub has_onbuild: bool,
    /// Its base and instructions.
    pub provenance: Provenance,
}

/// A line of a `component.dep`.
#[derive(Debug)]
pub struct DeclaredDependency {
    /// The name of the dependency, as written.
    pub component: String,
    /// The path of the file, relative to the root.
    pub file: String,
    /// The line, starting at 1.
    pub line: usize,
}

impl Component {
    /// The path of an image's Dockerfile in the component's build context.
    pub fn dockerfile_in_context(&self, image: &Image) -> String {
        let prefix = format!("{}/", self.dir);
        image.dockerfile.strip_prefix(&prefix).unwrap_or(&image.dockerfile).to_owned()
    }

    /// Whether it has images or hooks, so that a build has a step for it. One that is broken
    /// has a step that fails.
    pub fn builds(&self) -> bool {
        !self.images.is_empty() || self.has_hooks() || !self.problems.is_empty()
    }

    /// Whether it has a hook.
    pub fn has_hooks(&self) -> bool {
        self.pre_hook.is_some() || self.post_hook.is_some()
    }
}

impl Workspace {
    /// Reads the workspace at `root`. Adds what concerns no component alone to `problems`.
    pub fn read(root: &Path, options: &WorkspaceOptions, problems: &mut Vec<Problem>) -> Self {
        problems.extend(options.check().err());
        let mut reader = WorkspaceReader::new(root, options);
        let components = reader.components();
        let mut workspace = Self { root: root.to_owned(), components, warnings: reader.warnings };
        problems.extend(reader.problems);
        workspace.report_duplicate_images();
        workspace.warn_of_undeclared(&options.build_args);
        workspace
    }

    /// The component of this name.
    pub fn find(&self, name: &str) -> Option<ComponentId> {
        let by_name = |component: &Component| component.name.as_str().cmp(name);
        self.components.as_slice().binary_search_by(by_name).ok().map(ComponentId::at)
    }

    /// The component that a path, relative to the root, is in; the innermost if several are.
    pub fn owner(&self, path: &Path) -> Option<ComponentId> {
        let components = self.components.enumerate();
        let around = components.filter(|(_, component)| path.starts_with(&component.dir));
        around.max_by_key(|(_, component)| component.dir.len()).map(|(id, _)| id)
    }

    /// The error message for a component that does not exist.
    pub(crate) fn unknown_component(&self, name: &str) -> String {
        let known = self.components.iter().map(|c| c.name.as_str());
        let hint = did_you_mean(name, known);
        format!("no component '{}' under src/{hint}", escape::line(name))
    }

    /// All images with their components, sorted by component.
    pub fn images(&self) -> impl Iterator<Item = (ComponentId, &Image)> {
        let components = self.components.enumerate();
        components.flat_map(|(id, component)| component.images.iter().map(move |image| (id, image)))
    }

    /// Finds the images of the workspace that Dockerfiles use. `registry` adds the names that
    /// they have there.
    pub fn find_local_images(&mut self, registry: Option<&RegistryNames>) {
        let names: BTreeSet<String> = self.images().map(|(_, image)| image.name.clone()).collect();
        let images = self.components.iter_mut().flat_map(|component| &mut component.images);
        for used in images.flat_map(|image| &mut image.uses) {
            let name = Reference::parse(&used.reference).local_name(registry);
            used.local = name.and_then(|name| names.get(name)).cloned();
        }
        self.widen_context_reads();
    }

    /// Marks images as reading their whole context if their base is an image of the workspace
    /// that may cause it: by its `ONBUILD` triggers, or by its `ENV`.
    fn widen_context_reads(&mut self) {
        let has_onbuild: BTreeMap<String, bool> =
            self.images().map(|(_, image)| (image.name.clone(), image.has_onbuild)).collect();
        let images = self.components.iter_mut().flat_map(|component| &mut component.images);
        for image in images {
            let bases = image
                .uses
                .iter()
                .filter(|used| used.via == Via::From)
                .filter_map(|used| has_onbuild.get(used.local.as_ref()?));
            let depends_on_args = image.context_reads.depends_on_args();
            if bases.into_iter().any(|has_onbuild| *has_onbuild || depends_on_args) {
                image.context_reads = ContextReads::All;
            }
        }
    }

    /// Warns of build args that no Dockerfile declares. What a broken one declares is unknown.
    fn warn_of_undeclared(&mut self, build_args: &BTreeMap<String, String>) {
        if self.components.iter().any(|component| !component.problems.is_empty()) {
            return;
        }
        let declared: BTreeSet<&str> =
            self.images().flat_map(|(_, image)| &image.args).map(String::as_str).collect();
        let is_unknown = |name: &&String| !declared.contains(name.as_str()) && !is_predefined(name);
        let warnings: Vec<Problem> = build_args
            .keys()
            .filter(is_unknown)
            .map(|name| {
                let hint = did_you_mean(name, declared.iter().copied());
                let name = escape::line(name);
                Problem::of_request(format!(
                    "--build-arg {name}: no Dockerfile has 'ARG {name}'{hint}"
                ))
            })
            .collect();
        self.warnings.extend(warnings);
    }

    fn report_duplicate_images(&mut self) {
        let mut first: BTreeMap<&str, (ComponentId, &Image)> = BTreeMap::new();
        let mut found = Vec::new();
        for (id, image) in self.images() {
            let (other_id, other) = *first.entry(&image.name).or_insert((id, image));
            if other_id != id {
                let (name, other) = (&image.name, &other.dockerfile);
                let message =
                    format!("image '{name}' is also built by {other}: rename one of the two files");
                found.push(([other_id, id], Problem::of_file(&image.dockerfile, message)));
            }
        }
        for (owners, problem) in found {
            for owner in owners {
                self.components[owner].problems.push(problem.clone());
            }
        }
    }
}

/// Finds the root of the workspace that contains `from`: the nearest ancestor whose `src/`
/// has a component with a `build/` folder, or else the nearest one with a `src/`.
///
/// The nearest `src/` alone is not enough, because a component may have its own `src/`, as
/// Rust crates do.
pub fn find_root(from: &Path) -> Option<PathBuf> {
    let with_src = || from.ancestors().filter(|dir| dir.join(SRC).is_dir());
    let has_component = |dir: &&Path| {
        let Ok(entries) = fs::read_dir(dir.join(SRC)) else {
            return false;
        };
        entries.flatten().any(|entry| entry.path().join(BUILD).is_dir())
    };
    with_src().find(has_component).or_else(|| with_src().next()).map(Path::to_owned)
}

struct WorkspaceReader<'a> {
    root: &'a Path,
    options: &'a WorkspaceOptions,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

/// The Dockerfiles of one image, by flavor.
type Candidates = BTreeMap<Option<String>, String>;

impl<'a> WorkspaceReader<'a> {
    fn new(root: &'a Path, options: &'a WorkspaceOptions) -> Self {
        Self { root, options, problems: Vec::new(), warnings: Vec::new() }
    }

    /// Reads all components in parallel.
    fn components(&mut self) -> IdVec<ComponentId, Component> {
        let read: Vec<(Option<Component>, Self)> = self
            .list(SRC)
            .into_par_iter()
            .map(|name| {
                let mut reader = Self::new(self.root, self.options);
                let path = component_dir(&name);
                if !self.root.join(&path).is_dir() {
                    reader.warnings.extend(stray_dockerfile(&path));
                    return (None, reader);
                }
                let is_hidden = name.starts_with('.');
                let mut component = (!is_hidden).then(|| reader.component(name));
                if let Some(component) = &mut component {
                    component.problems.append(&mut reader.problems);
                }
                (component, reader)
            })
            .collect();
        let mut components = Vec::new();
        for (component, reader) in read {
            components.extend(component);
            self.problems.extend(reader.problems);
            self.warnings.extend(reader.warnings);
        }
        if components.is_empty() && self.problems.is_empty() {
            self.problems.push(Problem::of_file(
                SRC,
                "contains no components: create a folder src/NAME/build/ with a NAME.dockerfile in it",
            ));
        }
        components.into_iter().collect()
    }

    fn component(&mut self, name: String) -> Component {
        let dir = component_dir(&name);
        let build = format!("{dir}/{BUILD}");
        let mut component = Component { name, dir, ..Component::default() };
        if !self.root.join(&build).is_dir() {
            return component;
        }
        component.build_links.extend(self.follow(&build));
        let mut images: BTreeMap<String, Candidates> = BTreeMap::new();
        for file in self.list(&build) {
            let path = format!("{build}/{file}");
            component.build_links.extend(self.follow(&path));
            if let Some(stem) = file.strip_suffix(".dockerfile") {
                let (image, flavor) = split_flavor(stem);
                images.entry(image).or_default().insert(flavor, path);
                continue;
            }
            match file.as_str() {
                PRE_HOOK => component.pre_hook = self.hook(path),
                POST_HOOK => component.post_hook = self.hook(path),
                "component.dep" | "components.dep" => {
                    component.declared.extend(self.dependencies(&path));
                }
                "inputs" => component.inputs = self.inputs(path),
                _ => {}
            }
        }
        component.images =
            images.into_iter().filter_map(|(name, files)| self.image(name, &files)).collect();
        component
    }

    /// What a link leads to, relative to the root.
    fn follow(&mut self, path: &str) -> Option<PathBuf> {
        let link = self.root.join(path);
        let target = link.is_symlink().then(|| link.canonicalize().ok()).flatten()?;
        let target = match target.strip_prefix(self.root.canonicalize().ok()?) {
            Ok(target) => return Some(target.to_owned()),
            Err(_) => target,
        };
        let message = format!(
            "is a link to {}, outside of the workspace: what is there is neither watched nor the \
             same in other checkouts",
            escape::line(&target.to_string_lossy())
        );
        self.warnings.push(Problem::of_file(path, message));
        None
    }

    /// Rejects scripts that their interpreter would misread, before anything runs. Other
    /// errors are reported when the hook is executed.
    fn hook(&mut self, path: String) -> Option<String> {
        let script = self.read(&path)?;
        if let Err(error) = hook_script::interpreter(&script)
            && let Some(line) = error.line()
        {
            self.problems.push(Problem::of_line(&path, line, error.to_string()));
        }
        Some(path)
    }

    fn read(&mut self, path: &str) -> Option<Vec<u8>> {
        let read = regular_file::read(&self.root.join(path));
        read.map_err(|error| self.unreadable(path, &error)).ok()
    }

    fn inputs(&mut self, path: String) -> Option<(String, Inputs)> {
        let text = regular_file::read_to_string(&self.root.join(&path))
            .map_err(|error| self.unreadable(&path, &error))
            .ok()?;
        match Inputs::parse(&text, &path) {
            Ok(inputs) => Some((path, inputs)),
            Err(problems) => {
                self.problems.extend(problems);
                None
            }
        }
    }

    fn image(&mut self, name: String, files: &Candidates) -> Option<Image> {
        let dockerfile = self.choose_flavor(&name, files)?;
        if let Err(error) = image_reference::check_name(&name) {
            self.problems.push(Problem::of_file(
                &dockerfile,
                format!("'{}' is not a valid image name: {error}", escape::line(&name)),
            ));
        }
        let (dockerfile_digest, Dockerfile { uses, args, context_reads, has_onbuild, provenance }) =
            self.dockerfile(&dockerfile);
        let context_reads =
            if self.options.whole_context { ContextReads::All } else { context_reads };
        Some(Image {
            name,
            dockerfile,
            dockerfile_digest,
            uses,
            args,
            context_reads,
            has_onbuild,
            provenance,
        })
    }

    /// The Dockerfile of the chosen flavor, or else the one without a flavor or of `common`.
    /// An image that has none of these is not built for that flavor.
    fn choose_flavor(&mut self, image: &str, files: &Candidates) -> Option<String> {
        if let Some(chosen) = &self.options.flavor {
            let order = [Some(chosen.clone()), None, Some("common".to_owned())];
            return order.iter().find_map(|flavor| files.get(flavor)).cloned();
        }
        let mut paths = files.values();
        let first = paths.next()?.clone();
        if files.len() > 1 {
            let others = paths.map(String::as_str).collect::<Vec<_>>().join(", ");
            let message = format!(
                "image '{image}' is also built by {others}: choose one with --flavor, or rename one"
            );
            self.problems.push(Problem::of_file(&first, message));
        }
        Some(first)
    }

    /// A Dockerfile; one that uses nothing if it cannot be read, so that the image is still
    /// known to those that use it.
    fn dockerfile(&mut self, path: &str) -> (Digest, Dockerfile) {
        let bytes = self.read(path);
        let parsed = bytes.as_ref().map(|bytes| parser::parse(bytes, &self.options.build_args));
        if let Some(Err(error)) = &parsed {
            self.problems.push(Problem {
                file: Some(path.to_owned()),
                line: error.line(),
                message: error.to_string(),
            });
        }
        let dockerfile = parsed.and_then(Result::ok).unwrap_or_default();
        (blake3::hash(&bytes.unwrap_or_default()), dockerfile)
    }

    /// Parses a `component.dep`: one name per line, `#` starts a comment.
    fn dependencies(&mut self, path: &str) -> Vec<DeclaredDependency> {
        let text = match regular_file::read_to_string(&self.root.join(path)) {
            Ok(text) => text,
            Err(error) => {
                self.unreadable(path, &error);
                return Vec::new();
            }
        };
        let without_bom = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let lines = without_bom.lines().enumerate();
        lines
            .map(|(index, line)| {
                let name = line.split_once('#').map_or(line, |(before, _)| before);
                (index + 1, name.trim())
            })
            .filter(|(_, name)| !name.is_empty())
            .map(|(line, name)| DeclaredDependency {
                component: name.to_owned(),
                file: path.to_owned(),
                line,
            })
            .collect()
    }

    /// The names in a folder, sorted. A name that is not UTF-8 is a problem.
    fn list(&mut self, dir: &str) -> Vec<String> {
        let entries = match fs::read_dir(self.root.join(dir)) {
            Ok(entries) => entries,
            Err(error) => {
                self.unreadable(dir, &error);
                return Vec::new();
            }
        };
        let mut names = Vec::new();
        for entry in entries {
            match entry.map(|entry| entry.file_name().into_string()) {
                Ok(Ok(name)) => names.push(name),
                Ok(Err(name)) => {
                    let message =
                        format!("the name {} is not UTF-8: rename the file", name.display());
                    self.problems.push(Problem::of_file(dir, message));
                }
                Err(error) => self.unreadable(dir, &error),
            }
        }
        names.sort();
        names
    }

    fn unreadable(&mut self, path: &str, error: &io::Error) {
        let message = regular_file::explain(&self.root.join(path), error);
        self.problems.push(Problem::of_file(path, message));
    }
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

fn split_flavor(stem: &str) -> (String, Option<String>) {
    match stem.rsplit_once('.') {
        Some((image, flavor)) if !image.is_empty() && FLAVORS.contains(&flavor) => {
            (image.to_owned(), Some(flavor.to_owned()))
        }
        _ => (stem.to_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_flavors_are_split_from_image_names() {
        let split = |stem| {
            let (image, flavor) = split_flavor(stem);
            (image, flavor.unwrap_or_default())
        };
        for (stem, image, flavor) in [
            ("web", "web", ""),
            ("web.k8s", "web", "k8s"),
            ("drivers-384.111", "drivers-384.111", ""),
            ("drivers-384.111.yarn", "drivers-384.111", "yarn"),
            ("python3.11.common.k8s", "python3.11.common", "k8s"),
            ("web.K8S", "web.K8S", ""),
            (".k8s", ".k8s", ""),
        ] {
            assert_eq!(split(stem), (image.to_owned(), flavor.to_owned()), "{stem}");
        }
    }
}
