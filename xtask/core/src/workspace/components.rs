//! What a repository holds: components, their images, hooks and declared
//! dependencies, read from `src/` in one pass.
//!
//! A component is a folder directly under `src/`. Its `build/` folder says what
//! it makes: every `NAME[.FLAVOR].dockerfile` an image `NAME`, `build-pre.sh`
//! and `build-post.sh` the hooks around them, `component.dep` (or
//! `components.dep`) the components that it needs, a name a line. A folder
//! without `build/` is source that others can depend on. Only [`FLAVORS`] are
//! flavors: any other dot belongs to an image's name, as in `python3.11`.
//!
//! Reading never stops at the first problem. What can be read is returned, and
//! what cannot is a [`Problem`], so that the whole workspace is judged at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::digest::Digest;
use crate::dockerfile::context_reads::ContextReads;
use crate::dockerfile::parser::{self, Dockerfile, ImageUse, Via};
use crate::dockerfile::provenance::Provenance;
use crate::escape;
use crate::image_reference::{self, RegistryNames};
use crate::problem::{Problem, Problems, did_you_mean};
use crate::regular_file;
use crate::workspace::hook_script;
use crate::workspace::inputs::Inputs;

/// The flavors that there are.
pub const FLAVORS: [&str; 3] = ["common", "k8s", "yarn"];

/// What decides how a workspace is read, besides its files.
#[derive(Clone, Debug, Default)]
pub struct WorkspaceOptions {
    /// Of several Dockerfiles for one image, the one of this flavor.
    pub flavor: Option<String>,
    /// Values for `ARG`s, which can name base images.
    pub build_args: BTreeMap<String, String>,
    /// Take it that every Dockerfile reads its whole context.
    pub whole_context: bool,
}

impl WorkspaceOptions {
    /// Refuses a flavor that there is not: nothing would be built under it.
    pub fn check(&self) -> Result<(), Problem> {
        match &self.flavor {
            Some(flavor) if !FLAVORS.contains(&flavor.as_str()) => {
                let hint = did_you_mean(flavor, FLAVORS);
                let known = FLAVORS.join(", ");
                let message = format!("--flavor: no flavor '{flavor}'{hint}: there are {known}");
                Err(Problem::of_request(message))
            }
            _ => Ok(()),
        }
    }
}

/// A repository and the components under its `src/`, sorted by name.
#[derive(Debug)]
pub struct Workspace {
    /// The folder that holds `src/`.
    pub root: PathBuf,
    /// Sorted by name; other parts of the core name a component by its place here.
    pub components: Vec<Component>,
    /// What is odd but does not stop a build.
    pub warnings: Vec<Problem>,
}

/// A folder directly under `src/`.
#[derive(Debug, Default)]
pub struct Component {
    /// The folder's name.
    pub name: String,
    /// The images that it makes, sorted by name.
    pub images: Vec<Image>,
    /// `build/build-pre.sh`, relative to the root, if there.
    pub pre_hook: Option<String>,
    /// `build/build-post.sh`, relative to the root, if there.
    pub post_hook: Option<String>,
    /// What `build/inputs` declares, if there, and where the file is.
    pub inputs: Option<(String, Inputs)>,
    /// What `component.dep` and `components.dep` name, in order.
    pub declared: Vec<Declared>,
    /// Where links that leave its folder lead, relative to the root, if that was asked for:
    /// its dependents get what is there.
    pub targets: Vec<PathBuf>,
}

/// One image of a component.
#[derive(Debug)]
pub struct Image {
    /// The Dockerfile's name without flavor and ending.
    pub name: String,
    /// The Dockerfile, relative to the root.
    pub dockerfile: String,
    /// Of the Dockerfile's contents.
    pub digest: Digest,
    /// The images that the Dockerfile uses.
    pub uses: Vec<ImageUse>,
    /// The names that the Dockerfile's `ARG`s declare.
    pub args: Vec<String>,
    /// What the Dockerfile can read of its context.
    pub sources: ContextReads,
    /// Whether the Dockerfile has `ONBUILD` instructions for those who build on the image.
    pub has_onbuild: bool,
    /// What the image is made from, and by which instructions.
    pub provenance: Provenance,
}

/// A line of a `component.dep`.
#[derive(Debug)]
pub struct Declared {
    /// The component's name as written.
    pub component: String,
    /// The file, relative to the root.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
}

impl Component {
    /// The component's folder, relative to the root.
    pub fn dir(&self) -> String {
        format!("src/{}", self.name)
    }

    /// The path of an image's Dockerfile in the component's context.
    pub fn in_context(&self, image: &Image) -> String {
        let prefix = format!("{}/", self.dir());
        image.dockerfile.strip_prefix(&prefix).unwrap_or(&image.dockerfile).to_owned()
    }

    /// Whether building it does anything.
    pub fn builds(&self) -> bool {
        !self.images.is_empty() || self.has_hooks()
    }

    /// Whether scripts of the component run around its build.
    pub fn has_hooks(&self) -> bool {
        self.pre_hook.is_some() || self.post_hook.is_some()
    }
}

impl Workspace {
    /// Reads the workspace at `root`; what cannot be read is added to `problems`.
    pub fn read(root: &Path, options: &WorkspaceOptions, problems: &mut Vec<Problem>) -> Self {
        problems.extend(options.check().err());
        let mut reader = WorkspaceReader::new(root, options);
        let components = reader.components();
        let workspace = Self { root: root.to_owned(), components, warnings: reader.warnings };
        problems.extend(reader.problems);
        workspace.report_duplicate_images(problems);
        workspace
    }

    /// The component's place in [`Workspace::components`].
    pub fn find(&self, name: &str) -> Option<usize> {
        let by_name = |component: &Component| component.name.as_str().cmp(name);
        self.components.binary_search_by(by_name).ok()
    }

    /// The places of the components that `names` names.
    pub fn find_all(&self, names: &[String]) -> Result<BTreeSet<usize>, Problems> {
        let mut problems = Vec::new();
        let mut found = BTreeSet::new();
        for name in names {
            match self.find(name) {
                Some(component) => {
                    found.insert(component);
                }
                None => problems.push(Problem::of_request(self.no_component(name))),
            }
        }
        Problems::check(problems).map(|()| found)
    }

    /// The sentence for a component that is not there.
    pub fn no_component(&self, name: &str) -> String {
        let known = self.components.iter().map(|c| c.name.as_str());
        let hint = did_you_mean(name, known);
        format!("no component '{}' under src/{hint}", escape::line(name))
    }

    /// Every image with its component's place, sorted by component.
    pub fn images(&self) -> impl Iterator<Item = (usize, &Image)> {
        let components = self.components.iter().enumerate();
        components.flat_map(|(index, component)| component.images.iter().map(move |i| (index, i)))
    }

    /// Lets images read everything whose base is one of ours that can make them: by its
    /// `ONBUILD` triggers, or by variables that it may set. `registry` is the
    /// configured `domain/namespace`, under which images are ours too.
    pub fn widen_sources(&mut self, registry: Option<&RegistryNames>) {
        let triggers: BTreeMap<String, bool> =
            self.images().map(|(_, image)| (image.name.clone(), image.has_onbuild)).collect();
        let images = self.components.iter_mut().flat_map(|component| &mut component.images);
        for image in images {
            let bases = image
                .uses
                .iter()
                .filter(|used| used.via == Via::From)
                .filter_map(|used| triggers.get(used.local_name(registry)?));
            let has_args = image.sources.has_args();
            if bases.into_iter().any(|has_onbuild| *has_onbuild || has_args) {
                image.sources = ContextReads::All;
            }
        }
    }

    fn report_duplicate_images(&self, problems: &mut Vec<Problem>) {
        let mut first: BTreeMap<&str, &str> = BTreeMap::new();
        for (_, image) in self.images() {
            match first.get(image.name.as_str()) {
                None => {
                    first.insert(&image.name, &image.dockerfile);
                }
                Some(other) => problems.push(Problem::of_file(
                    &image.dockerfile,
                    format!(
                        "image '{}' is made by {other} too: rename one of the two files",
                        image.name
                    ),
                )),
            }
        }
    }
}

/// Finds the workspace that `from` lies in: the nearest folder upwards whose
/// `src/` has a component with a `build/` folder, else the nearest with a `src/`.
///
/// A component may hold a `src/` of its own (a Rust crate does), which is why
/// the nearest `src/` alone does not decide.
pub fn find_root(from: &Path) -> Option<PathBuf> {
    let with_src = || from.ancestors().filter(|dir| dir.join("src").is_dir());
    let has_component = |dir: &&Path| {
        let Ok(entries) = fs::read_dir(dir.join("src")) else {
            return false;
        };
        entries.flatten().any(|entry| entry.path().join("build").is_dir())
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

    /// Each component is read by itself, on all cores.
    fn components(&mut self) -> Vec<Component> {
        let read: Vec<(Option<Component>, Self)> = self
            .list("src")
            .into_par_iter()
            .map(|name| {
                let mut reader = Self::new(self.root, self.options);
                let path = format!("src/{name}");
                if !self.root.join(&path).is_dir() {
                    reader.warnings.extend(stray_dockerfile(&path));
                    return (None, reader);
                }
                let is_hidden = name.starts_with('.');
                ((!is_hidden).then(|| reader.component(name)), reader)
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
                "src",
                "there is no component: make a folder src/NAME/build/ with a NAME.dockerfile in it",
            ));
        }
        components
    }

    fn component(&mut self, name: String) -> Component {
        let dir = format!("src/{name}");
        let build = format!("{dir}/build");
        let mut component = Component { name, ..Component::default() };
        if !self.root.join(&build).is_dir() {
            return component;
        }
        let mut images: BTreeMap<String, Candidates> = BTreeMap::new();
        for file in self.list(&build) {
            let path = format!("{build}/{file}");
            if let Some(stem) = file.strip_suffix(".dockerfile") {
                let (image, flavor) = split_flavor(stem);
                images.entry(image).or_default().insert(flavor, path);
                continue;
            }
            match file.as_str() {
                "build-pre.sh" => component.pre_hook = self.hook(path),
                "build-post.sh" => component.post_hook = self.hook(path),
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

    /// A script that looks right and is read wrong is refused before anything runs; whether
    /// it can be run at all is found out when it is.
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
                format!("'{}' is not the name of an image: {error}", escape::line(&name)),
            ));
        }
        let (digest, Dockerfile { uses, args, sources, has_onbuild, provenance }) =
            self.dockerfile(&dockerfile)?;
        let sources = if self.options.whole_context { ContextReads::All } else { sources };
        Some(Image { name, dockerfile, digest, uses, args, sources, has_onbuild, provenance })
    }

    /// The file of the chosen flavor, else the one of none or of `common`. An
    /// image that has neither is not made under that flavor.
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
                "image '{image}' is made by {others} too: choose one with --flavor, or rename one"
            );
            self.problems.push(Problem::of_file(&first, message));
        }
        Some(first)
    }

    fn dockerfile(&mut self, path: &str) -> Option<(Digest, Dockerfile)> {
        let bytes = self.read(path)?;
        match parser::parse(&bytes, &self.options.build_args) {
            Ok(dockerfile) => Some((blake3::hash(&bytes), dockerfile)),
            Err(error) => {
                self.problems.push(Problem {
                    file: Some(path.to_owned()),
                    line: error.line(),
                    message: error.to_string(),
                });
                None
            }
        }
    }

    /// The components that a `component.dep` names: a name a line, `#` starts a
    /// comment.
    fn dependencies(&mut self, path: &str) -> Vec<Declared> {
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
            .map(|(line, name)| Declared {
                component: name.to_owned(),
                file: path.to_owned(),
                line,
            })
            .collect()
    }

    /// The names in a folder, sorted; one that is not UTF-8 is a problem.
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
                    let message = format!("the name of {} is not UTF-8: rename it", name.display());
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

/// The warning for a Dockerfile that nothing builds because of where it lies.
pub fn stray_dockerfile(path: &str) -> Option<Problem> {
    let mut folders = path.split('/').skip(2);
    let is_at_home = folders.next() == Some("build") && folders.count() == 1;
    let is_hidden = path.split('/').any(|name| name.starts_with('.'));
    if !path.ends_with(".dockerfile") || is_at_home || is_hidden {
        return None;
    }
    let message =
        "not in a component's build/ folder, so it makes no image: move it to src/NAME/build/";
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
    fn only_flavors_are_no_part_of_an_images_name() {
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
