//! Reads the components of a workspace from its folders.
//!
//! Without tables in `xtask.toml` that say otherwise, a component is a folder directly under
//! `src/`, and each `build/NAME[.FLAVOR].dockerfile` in it makes an image `NAME`. With them, the
//! tables find the Dockerfiles, and a component is the folder of one, or the one that
//! `{component}` marks. Either way its `build/` folder can have hooks and `component.dep`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use crate::digest::Digest;
use crate::dockerfile::context_reads::ContextReads;
use crate::dockerfile::parser::{self, Dockerfile};
use crate::dockerfile::platform_args::is_predefined;
use crate::escape;
use crate::ids::{ComponentId, IdVec};
use crate::image_reference;
use crate::paths::{BUILD, CONFIG_FILE, POST_HOOK, PRE_HOOK, SRC, TEMPORARY, join, plain};
use crate::problem::{Problem, did_you_mean};
use crate::regular_file;
use crate::workspace::components::{
    Component, DeclaredDependency, Image, Workspace, WorkspaceOptions, stray_dockerfile,
};
use crate::workspace::config::named_context::NamedContext;
use crate::workspace::config::origin::Origin;
use crate::workspace::config::settings::{ImageSettings, Sourced};
use crate::workspace::config::{Candidates, Config, Definition};
use crate::workspace::hook::Hook;
use crate::workspace::hook_script;
use crate::workspace::inputs::Inputs;
use crate::workspace::strays;

impl Workspace {
    /// Reads the workspace at `root`. Adds what concerns no component alone to `problems`.
    pub fn read(root: &Path, options: &WorkspaceOptions, problems: &mut Vec<Problem>) -> Self {
        let config = match Config::read(root, options.facts.clone()) {
            Ok(config) => config,
            Err(found) => {
                problems.extend(found.iter().cloned());
                let (root, config) = (root.to_owned(), Config::default());
                let (components, warnings) = (IdVec::new(), Vec::new());
                return Self { root, config, components, warnings };
            }
        };
        problems.extend(options.check(&config.flavors).err());
        let read = read(root, options, &config);
        problems.extend(read.problems);
        let (root, components, warnings) = (root.to_owned(), read.components, read.warnings);
        let mut workspace = Self { root, config, components, warnings };
        workspace.exclude_temporary();
        workspace.check(options, problems);
        workspace
    }

    /// The folders that hooks fill during a round are no inputs of other hooks.
    fn exclude_temporary(&mut self) {
        let with_hooks = self.components.iter().filter(|component| component.has_hooks());
        let folders = with_hooks.flat_map(|it| TEMPORARY.map(|name| join(&it.dir, name).into()));
        let folders: Arc<BTreeSet<PathBuf>> = Arc::new(folders.collect());
        for component in &mut self.components {
            if let Some((_, inputs)) = &mut component.inputs {
                inputs.set_temporary(Arc::clone(&folders));
            }
        }
    }
}

/// What was found in the folders.
struct Read {
    /// Sorted by name.
    components: IdVec<ComponentId, Component>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

/// Reads all components in parallel.
fn read(root: &Path, options: &WorkspaceOptions, config: &Config) -> Read {
    let mut reader = Reader::new(root, options, config);
    let folders = if config.has_definitions() {
        reader.configured_folders()
    } else {
        reader.folders_of_src()
    };
    let defined: Vec<(String, Option<usize>)> = folders
        .iter()
        .flat_map(|folder| &folder.images)
        .map(|image| (image.name.clone(), image.table))
        .collect();
    let dockerfiles = folders.iter().flat_map(|folder| &folder.images);
    let dockerfiles = dockerfiles.flat_map(|image| image.dockerfiles.values().cloned());
    let mut shared: BTreeMap<String, usize> = BTreeMap::new();
    dockerfiles.for_each(|path| *shared.entry(path).or_default() += 1);
    let read: Vec<(Component, Reader<'_>)> = folders
        .into_par_iter()
        .map(|folder| {
            let mut reader = Reader::new(root, options, config);
            let mut component = reader.component(folder, &shared);
            component.problems.append(&mut reader.problems);
            (component, reader)
        })
        .collect();
    let mut components = Vec::new();
    for (component, other) in read {
        components.push(component);
        reader.warnings.extend(other.warnings);
    }
    components.sort_by(|one, other| one.name.cmp(&other.name));
    let names = defined.iter().map(|(name, table)| (name.as_str(), *table));
    reader.problems.extend(config.unused(&names));
    reader.warnings.extend(config.unused_axes());
    if components.is_empty() && reader.problems.is_empty() {
        reader.problems.push(nothing_to_build(root));
    }
    let Reader { problems, warnings, .. } = reader;
    Read { components: components.into_iter().collect(), problems, warnings }
}

/// The folder of a component, before its files are read.
struct Folder {
    name: String,
    dir: String,
    images: Vec<Definition>,
    build: Listing,
}

/// What is in a folder, sorted by name; empty if there is no such folder.
#[derive(Default)]
struct Listing {
    entries: Vec<Listed>,
    problems: Vec<Problem>,
}

/// A name in a folder, with what the folder itself tells of it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Listed {
    name: String,
    is_folder: bool,
    is_link: bool,
}

struct Reader<'a> {
    root: &'a Path,
    options: &'a WorkspaceOptions,
    config: &'a Config,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl<'a> Reader<'a> {
    fn new(root: &'a Path, options: &'a WorkspaceOptions, config: &'a Config) -> Self {
        Self { root, options, config, problems: Vec::new(), warnings: Vec::new() }
    }

    /// The folders directly under `src/`.
    fn folders_of_src(&mut self) -> Vec<Folder> {
        if self.config.exists && !self.root.join(SRC).exists() {
            return Vec::new();
        }
        let Listing { entries, problems } = self.list(SRC);
        self.problems.extend(problems);
        let entries = entries.into_par_iter();
        let read: Vec<_> = entries.map(|listed| self.folder_of_src(listed)).collect();
        let mut folders = Vec::new();
        for (folder, warning) in read {
            folders.extend(folder);
            self.warnings.extend(warning);
        }
        folders
    }

    /// A folder that is a component, and what is to be said of a name that makes no image.
    fn folder_of_src(&self, listed: Listed) -> (Option<Folder>, Option<Problem>) {
        let Listed { name, is_folder, is_link } = listed;
        let dir = join(SRC, &name);
        let leads_to_folder = || is_link && self.root.join(&dir).is_dir();
        if !(is_folder || leads_to_folder()) {
            return (None, stray_dockerfile(&dir));
        }
        if name.starts_with('.') || self.config.excludes(&dir) {
            return (None, None);
        }
        let build = self.build_files(&dir);
        let images = self.images_in_build(&name, &dir, &build);
        let warning = if images.is_empty() { misplaced(self.root, &dir) } else { None };
        (Some(Folder { name, dir, images, build }), warning)
    }

    /// What is in a component's `build/`.
    fn build_files(&self, dir: &str) -> Listing {
        let build = join(dir, BUILD);
        if self.root.join(&build).is_dir() { self.list(&build) } else { Listing::default() }
    }

    /// The images that a component's `build/` has Dockerfiles of.
    fn images_in_build(&self, component: &str, dir: &str, build: &Listing) -> Vec<Definition> {
        let mut images: BTreeMap<String, Candidates> = BTreeMap::new();
        for Listed { name: file, .. } in &build.entries {
            let path = join(&join(dir, BUILD), file);
            let stem = file.strip_suffix(".dockerfile");
            if let Some(stem) = stem.filter(|_| !self.config.excludes(&path)) {
                let (image, flavor) = self.split_flavor(stem);
                images.entry(image).or_default().insert(flavor, path);
            }
        }
        let definition = |(name, dockerfiles)| Definition {
            name,
            component_dir: dir.to_owned(),
            dockerfiles,
            words: [("component".to_owned(), component.to_owned())].into(),
            table: None,
        };
        images.into_iter().map(definition).collect()
    }

    fn split_flavor(&self, stem: &str) -> (String, Option<String>) {
        match stem.rsplit_once('.') {
            Some((image, flavor))
                if !image.is_empty() && self.config.flavors.iter().any(|it| it == flavor) =>
            {
                (image.to_owned(), Some(flavor.to_owned()))
            }
            _ => (stem.to_owned(), None),
        }
    }

    /// The folders in which tables find Dockerfiles, those that `{component}` marks, and those
    /// that `depends-on` names by their paths.
    fn configured_folders(&mut self) -> Vec<Folder> {
        let definitions = self.config.definitions(self.root);
        self.problems.extend(definitions.problems);
        let depended_on = self.config.depended_on(&definitions.images);
        let mut by_dir: BTreeMap<String, Vec<Definition>> =
            definitions.component_dirs.into_iter().map(|dir| (dir, Vec::new())).collect();
        for image in definitions.images {
            by_dir.entry(image.component_dir.clone()).or_default().push(image);
        }
        let leaf = |dir: &str| dir.rsplit('/').next().unwrap_or(dir).to_owned();
        let mut known: BTreeSet<String> = by_dir.keys().map(|dir| leaf(dir)).collect();
        let images = by_dir.values().flatten();
        known.extend(images.map(|image| image.name.clone()));
        for path in depended_on.iter().map(|path| plain(path)) {
            let is_folder = !path.is_empty() && self.root.join(&path).is_dir();
            if is_folder && !known.contains(&path) && !path.starts_with(['.', '/']) {
                by_dir.entry(path).or_default();
            }
        }
        let names = component_names(&by_dir.keys().map(String::as_str).collect::<Vec<_>>());
        let folders = by_dir.into_iter().zip(names);
        let folder = |((dir, images), name): ((String, _), _)| {
            let build = self.build_files(&dir);
            Folder { name, dir, images, build }
        };
        folders.map(folder).collect()
    }

    fn component(&mut self, folder: Folder, shared: &BTreeMap<String, usize>) -> Component {
        let Folder { name, dir, images: definitions, build: files } = folder;
        let build = join(&dir, BUILD);
        let is_in_build =
            |image: &Definition| image.dockerfiles.values().all(|path| path.starts_with(&build));
        let mut component = Component {
            name,
            is_configured: self.config.has_definitions() && !definitions.iter().all(is_in_build),
            dir,
            ..Component::default()
        };
        self.build_folder(&mut component, &build, files);
        let (mut images, mut inputs) = (Vec::new(), Vec::new());
        for definition in definitions {
            let flavors: Vec<&str> =
                definition.dockerfiles.keys().flatten().map(String::as_str).collect();
            let (name, flavors) = (definition.name.clone(), flavors.join(", "));
            let Some(image) = self.image(&component.name, definition, shared) else {
                let flavor = self.options.flavor.as_deref().unwrap_or_default();
                let what = format!("has no Dockerfile for the flavor {flavor}, only for {flavors}");
                component.missing.insert(name, what);
                continue;
            };
            component.declared.extend(image.settings.depends_on.iter().map(|depends_on| {
                let component = plain(&depends_on.value);
                match depends_on.at {
                    Origin::File(at) => DeclaredDependency {
                        component,
                        file: CONFIG_FILE.to_owned(),
                        line: at.line,
                    },
                    option => DeclaredDependency { component, file: option.to_string(), line: 0 },
                }
            }));
            let (pre_build, post_build) =
                (image.settings.pre_build.clone(), image.settings.post_build.clone());
            self.configured_hook(pre_build, &mut component.pre_hook, &build);
            self.configured_hook(post_build, &mut component.post_hook, &build);
            inputs.extend(image.settings.inputs.iter().cloned());
            images.push(image);
        }
        if let Some(inputs) = self.configured_inputs(&inputs) {
            component.inputs = Some(inputs);
        }
        // Without hooks, nobody reads them.
        if let Some((file, _)) = component
            .inputs
            .take_if(|_| component.pre_hook.is_none() && component.post_hook.is_none())
        {
            let message = format!(
                "'{}' has no hooks, which these would be the inputs of: remove them",
                component.name
            );
            self.warnings.push(Problem::of_file(file, message));
        }
        images.sort_by(|one, other| one.name.cmp(&other.name));
        component.images = images.into_iter().collect();
        component
    }

    /// Sets the hook that an image has in `xtask.toml`; all images of a component have the same.
    fn configured_hook(
        &mut self,
        given: Option<Sourced<Hook>>,
        hook: &mut Option<Hook>,
        build: &str,
    ) {
        let Some(given) = given else { return };
        let is_own = |hook: &Hook| hook.script().is_some_and(|path| path.starts_with(build));
        if hook.as_ref().is_some_and(|hook| *hook != given.value && !is_own(hook)) {
            let message = "the images of a component have the same hooks: name this one for all";
            self.problems.push(given.at.problem(message));
        } else if hook.as_ref() != Some(&given.value) {
            *hook = match given.value {
                Hook::Script(path) => self.hook(path),
                command @ Hook::Command(_) => Some(command),
            };
        }
    }

    /// What the hooks of a component read, from all its images.
    fn configured_inputs(&mut self, given: &[Sourced<String>]) -> Option<(String, Inputs)> {
        let first = given.first()?;
        let texts = given.iter().map(|input| input.value.as_str());
        // Several can be in one line, so problems are told apart by their places in the list.
        if let Err(problems) = Inputs::of_lines((1..).zip(texts.clone()), CONFIG_FILE) {
            for problem in problems {
                let input = problem.line.and_then(|place| given.get(place.checked_sub(1)?));
                let at = input.unwrap_or(first).at;
                self.problems.push(at.problem(format!("'inputs': {}", problem.message)));
            }
            return None;
        }
        let lines = given.iter().map(|input| input.at.line().unwrap_or_default());
        let inputs = Inputs::of_lines(lines.zip(texts), CONFIG_FILE).ok()?;
        Some((CONFIG_FILE.to_owned(), inputs))
    }

    /// The hooks and dependencies of a component.
    fn build_folder(&mut self, component: &mut Component, build: &str, files: Listing) {
        self.problems.extend(files.problems);
        component.build_links.extend(self.follow(build));
        for Listed { name, is_link, .. } in files.entries {
            let path = join(build, &name);
            if is_link {
                component.build_links.extend(self.follow(&path));
            }
            match name.as_str() {
                PRE_HOOK => component.pre_hook = self.hook(path),
                POST_HOOK => component.post_hook = self.hook(path),
                "component.dep" | "components.dep" => {
                    component.declared.extend(self.dependencies(&path));
                }
                "inputs" => component.inputs = self.inputs(path),
                _ => {}
            }
        }
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
    fn hook(&mut self, path: String) -> Option<Hook> {
        let script = self.read(&path)?;
        if let Err(error) = hook_script::interpreter(&script)
            && let Some(line) = error.line()
        {
            self.problems.push(Problem::of_line(&path, line, error.to_string()));
        }
        Some(Hook::Script(path))
    }

    fn read(&mut self, path: &str) -> Option<Vec<u8>> {
        let read = regular_file::read(&self.root.join(path));
        read.map_err(|error| self.problems.push(self.unreadable(path, &error))).ok()
    }

    fn inputs(&mut self, path: String) -> Option<(String, Inputs)> {
        let text = regular_file::read_to_string(&self.root.join(&path))
            .map_err(|error| self.problems.push(self.unreadable(&path, &error)))
            .ok()?;
        match Inputs::parse(&text, &path) {
            Ok(inputs) => Some((path, inputs)),
            Err(problems) => {
                self.problems.extend(problems);
                None
            }
        }
    }

    fn image(
        &mut self,
        component: &str,
        definition: Definition,
        shared: &BTreeMap<String, usize>,
    ) -> Option<Image> {
        let dockerfile = self.choose_flavor(&definition.name, &definition.dockerfiles)?;
        if definition.table.is_none()
            && let Err(error) = image_reference::check_name(&definition.name)
        {
            self.problems.push(Problem::of_file(
                &dockerfile,
                format!("'{}' is not a valid image name: {error}", escape::line(&definition.name)),
            ));
        }
        let (root, config) = (self.root, self.config);
        let (overrides, problems) = (&self.options.overrides, &mut self.problems);
        let mut settings =
            config.settings(root, &definition, component, &dockerfile, overrides, problems);
        let args = settings.args.iter().map(|(name, arg)| (name.clone(), arg.value.clone()));
        let mut build_args: BTreeMap<String, String> = args.collect();
        build_args.extend(self.options.build_args.clone());
        let target = settings.target.as_ref().map(|target| target.value.as_str());
        let platforms = settings.platform_variables();
        let (dockerfile_digest, mut parsed) =
            self.dockerfile(&dockerfile, &build_args, target, platforms);
        if let Some(parsed) = &parsed {
            self.check_args(&settings, &dockerfile, parsed);
        }
        let context = self.context(&settings, &definition.component_dir);
        if let Some(parsed) = &mut parsed {
            self.put_contexts(&mut settings, &dockerfile, parsed);
            self.check_stages(&mut settings, &dockerfile, parsed);
        }
        let parsed = parsed.unwrap_or_default();
        let Dockerfile { uses, stages, args, naming_args, context_reads, .. } = parsed;
        let Dockerfile { mounts, has_onbuild, provenance, .. } = parsed;
        let is_whole = self.options.whole_context;
        let context_reads = if is_whole { ContextReads::All } else { context_reads };
        Some(Image {
            name: definition.name,
            context,
            shares_dockerfile: shared.get(&dockerfile).is_some_and(|count| *count > 1),
            dockerfile,
            settings,
            build_args,
            naming_args,
            dockerfile_digest,
            uses,
            stages,
            args,
            mounts,
            context_reads,
            has_onbuild,
            provenance,
        })
    }

    /// The folder that is sent. A hook may make it, so only a component without one needs it.
    fn context(&mut self, settings: &ImageSettings, component_dir: &str) -> String {
        let Some(context) = &settings.context else { return component_dir.to_owned() };
        let has_hook = settings.pre_build.is_some()
            || self.root.join(component_dir).join(BUILD).join(PRE_HOOK).exists();
        let is_inside = !context.value.split('/').any(|part| part == "..");
        if is_inside && !has_hook && !self.root.join(&context.value).is_dir() {
            let shown = escape::line(&context.value);
            let message = format!("'context' is {shown}/, which does not exist");
            self.problems.push(context.at.problem(message));
        }
        context.value.clone()
    }

    /// Puts contexts in the place of the images that a Dockerfile names, and forgets those that it
    /// does not name. As with BuildKit, what takes an image's place is not replaced in turn.
    fn put_contexts(
        &mut self,
        settings: &mut ImageSettings,
        dockerfile: &str,
        parsed: &mut Dockerfile,
    ) {
        let written: Vec<String> = parsed.uses.iter().map(|used| used.reference.clone()).collect();
        let written_base = parsed.provenance.base.clone();
        for (name, context) in std::mem::take(&mut settings.contexts) {
            let is_it = |reference: &str| {
                image_reference::familiar(reference) == image_reference::familiar(&name)
            };
            let names = written.iter().map(String::as_str);
            if names.clone().any(is_it) {
                let reference = context.value.reference();
                if written_base.as_deref().is_some_and(is_it) {
                    parsed.provenance.base = reference.map(str::to_owned);
                }
                let uses = parsed.uses.iter_mut().zip(names);
                for (used, _) in uses.filter(|(_, written)| is_it(written)) {
                    reference.unwrap_or_default().clone_into(&mut used.reference);
                }
                self.check_folder(&name, &context);
                settings.contexts.insert(name, context);
                continue;
            }
            let shown = escape::line(&name);
            if parsed.stages.contains(&name.to_lowercase()) {
                let message = format!(
                    "'contexts.{shown}' is a stage of {dockerfile}: a context can only be put in \
                     the place of an image. Give one of the two another name"
                );
                self.problems.push(context.at.problem(message));
            } else if context.is_exact {
                let hint = did_you_mean(&name, names);
                let message = format!("'contexts.{shown}': {dockerfile} uses no '{shown}'{hint}");
                self.problems.push(context.at.problem(message));
            }
        }
        parsed.uses.retain(|used| !used.reference.is_empty());
    }

    /// Forgets stages to be built without cache that this Dockerfile does not have; one for this
    /// image alone must exist.
    fn check_stages(
        &mut self,
        settings: &mut ImageSettings,
        dockerfile: &str,
        parsed: &Dockerfile,
    ) {
        settings.no_cache_filter.retain(|stage| {
            let name = stage.value.to_lowercase();
            let exists = parsed.stages.contains(&name);
            if !exists && stage.is_exact {
                let hint = did_you_mean(&name, parsed.stages.iter().map(String::as_str));
                let name = escape::line(&stage.value);
                let message =
                    format!("'no-cache-filter': {dockerfile} has no stage '{name}'{hint}");
                self.problems.push(stage.at.problem(message));
            }
            exists
        });
    }

    fn check_folder(&mut self, name: &str, context: &Sourced<NamedContext>) {
        if let NamedContext::Folder(folder) = &context.value
            && !self.root.join(folder).is_dir()
        {
            let (name, folder) = (escape::line(name), escape::line(folder));
            let message = format!("'contexts.{name}' is {folder}/, which does not exist");
            self.problems.push(context.at.problem(message));
        }
    }

    /// Args for one image alone must be declared: others may be for other images.
    fn check_args(&mut self, settings: &ImageSettings, dockerfile: &str, parsed: &Dockerfile) {
        for (name, arg) in settings.args.iter().filter(|(_, arg)| arg.is_exact) {
            if !parsed.args.contains(name) && !is_predefined(name) {
                let hint = did_you_mean(name, parsed.args.iter().map(String::as_str));
                let name = escape::line(name);
                let message = format!("'args.{name}': {dockerfile} has no 'ARG {name}'{hint}");
                self.problems.push(arg.at.problem(message));
            }
        }
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

    /// The digest of a Dockerfile, and what it says for all platforms, if it can be read: the image
    /// is still known to those that use it if not.
    fn dockerfile(
        &mut self,
        path: &str,
        build_args: &BTreeMap<String, String>,
        target: Option<&str>,
        platforms: Vec<BTreeMap<String, String>>,
    ) -> (Digest, Option<Dockerfile>) {
        let bytes = self.read(path);
        let mut all: Option<Dockerfile> = None;
        for platform in platforms.into_iter().filter(|_| bytes.is_some()) {
            let bytes = bytes.as_deref().unwrap_or_default();
            match parser::parse_for(bytes, build_args, target, platform) {
                Ok(parsed) => match &mut all {
                    Some(all) => all.add_platform(parsed),
                    None => all = Some(parsed),
                },
                Err(error) => {
                    self.problems.push(Problem {
                        file: Some(path.to_owned()),
                        line: error.line(),
                        message: error.to_string(),
                    });
                    all = None;
                    break;
                }
            }
        }
        (blake3::hash(&bytes.unwrap_or_default()), all)
    }

    /// Parses a `component.dep`: one name per line, `#` starts a comment.
    fn dependencies(&mut self, path: &str) -> Vec<DeclaredDependency> {
        let text = match regular_file::read_to_string(&self.root.join(path)) {
            Ok(text) => text,
            Err(error) => {
                self.problems.push(self.unreadable(path, &error));
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

    /// What is in a folder. A name that is not UTF-8 is a problem.
    fn list(&self, dir: &str) -> Listing {
        let mut listing = Listing::default();
        let entries = match fs::read_dir(self.root.join(dir)) {
            Ok(entries) => entries,
            Err(error) => {
                listing.problems.push(self.unreadable(dir, &error));
                return listing;
            }
        };
        for entry in entries {
            let read = entry.and_then(|entry| Ok((entry.file_type()?, entry.file_name())));
            match read.map(|(kind, name)| (kind, name.into_string())) {
                Ok((kind, Ok(name))) => {
                    let (is_folder, is_link) = (kind.is_dir(), kind.is_symlink());
                    listing.entries.push(Listed { name, is_folder, is_link });
                }
                Ok((_, Err(name))) => {
                    let message =
                        format!("the name {} is not UTF-8: rename the file", name.display());
                    listing.problems.push(Problem::of_file(dir, message));
                }
                Err(error) => listing.problems.push(self.unreadable(dir, &error)),
            }
        }
        listing.entries.sort();
        listing
    }

    fn unreadable(&self, path: &str, error: &io::Error) -> Problem {
        let message = regular_file::explain(&self.root.join(path), error);
        Problem::of_file(path, message)
    }
}

/// The problem of a workspace without components, with the Dockerfiles that lie around.
fn nothing_to_build(root: &Path) -> Problem {
    let message = match strays::name_a_few(&strays::find_dockerfiles(root)) {
        None => {
            let file = "create a folder src/NAME/build/ with a NAME.dockerfile in it";
            format!("contains no components: {file}, or use the command 'new'")
        }
        Some(found) => format!(
            "contains no components, and {found} is not in src/NAME/build/: the command 'init' \
             writes an {CONFIG_FILE} that finds it"
        ),
    };
    Problem::of_file(SRC, message)
}

/// The warning for a component whose files are not where they count.
fn misplaced(root: &Path, dir: &str) -> Option<Problem> {
    let name = dir.rsplit('/').next().unwrap_or(dir);
    let advice = [
        (
            "Dockerfile",
            format!(
                "move it to {dir}/{BUILD}/{name}.dockerfile, or let the command 'init' write an \
                 {CONFIG_FILE} that finds it"
            ),
        ),
        ("build/Dockerfile", format!("rename it to {name}.dockerfile")),
        ("component.dep", format!("move it to {dir}/{BUILD}/")),
    ];
    let is_there = |(file, _): &&(&str, String)| root.join(dir).join(file).is_file();
    let (file, advice) = advice.iter().find(is_there)?;
    Some(Problem::of_file(join(dir, file), format!("is ignored: {advice}")))
}

/// The names of components: their folders' own, with as many of the folders above as make them
/// unique. The root's is `.`.
fn component_names(dirs: &[&str]) -> Vec<String> {
    let ends_with = |dir: &str, suffix: &str| {
        dir == suffix || dir.strip_suffix(suffix).is_some_and(|above| above.ends_with('/'))
    };
    let name = |dir: &&str| {
        if dir.is_empty() {
            return ".".to_owned();
        }
        let starts = dir.rmatch_indices('/').map(|(at, _)| at + 1).chain([0]);
        let mut suffixes = starts.map(|start| &dir[start..]);
        let is_unique =
            |suffix: &&str| dirs.iter().filter(|other| ends_with(other, suffix)).count() == 1;
        suffixes.find(is_unique).unwrap_or(dir).to_owned()
    };
    dirs.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_flavors_are_split_from_image_names() {
        let (options, config) = (WorkspaceOptions::default(), Config::default());
        let reader = Reader::new(Path::new("/"), &options, &config);
        for (stem, image, flavor) in [
            ("web", "web", ""),
            ("web.k8s", "web", "k8s"),
            ("drivers-384.111", "drivers-384.111", ""),
            ("drivers-384.111.yarn", "drivers-384.111", "yarn"),
            ("python3.11.common.k8s", "python3.11.common", "k8s"),
            ("web.K8S", "web.K8S", ""),
            (".k8s", ".k8s", ""),
        ] {
            let (found, found_flavor) = reader.split_flavor(stem);
            let found = (found, found_flavor.unwrap_or_default());
            assert_eq!(found, (image.to_owned(), flavor.to_owned()), "{stem}");
        }
    }

    #[test]
    fn components_have_the_shortest_unique_names() {
        let dirs = ["", "a", "images/web", "rocm/jupyter/minimal", "x/a", "x/jupyter/minimal"];
        let names = [".", "a", "web", "rocm/jupyter/minimal", "x/a", "x/jupyter/minimal"];
        assert_eq!(component_names(&dirs), names);
    }
}
