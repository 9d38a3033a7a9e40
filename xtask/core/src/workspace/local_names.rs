//! Which images of the workspace Dockerfiles mean by their references.
//!
//! An image is meant by its name, with or without a registry of the workspace in front, and by
//! every reference that it is pushed to, with whatever tag, commit or branch. What `external`
//! in `xtask.toml` matches is never one of ours.

use std::collections::{BTreeMap, BTreeSet};

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};

use crate::dockerfile::context_reads::ContextReads;
use crate::dockerfile::parser::{ImageUse, Via};
use crate::escape;

use crate::image_reference::{Reference, RegistryNames};
use crate::problem::Problem;
use crate::workspace::components::{Image, Workspace};
use crate::workspace::config::Config;
use crate::workspace::config::settings::PUSH_WORDS;

impl Workspace {
    /// Finds the images of the workspace that Dockerfiles use. `registry` adds the names that
    /// they have there, `tag` is the one that images are pushed with.
    pub fn find_local_images(&mut self, registry: Option<&RegistryNames>, tag: Option<&str>) {
        let names = LocalNames::new(self, &self.config, registry, tag);
        let (mut found, mut warnings) = (Vec::new(), Vec::new());
        for component in &self.components {
            let (mut uses, mut problems) = (Vec::new(), Vec::new());
            for image in &component.images {
                for used in &image.uses {
                    let local = names.find(&used.reference).unwrap_or_else(|several| {
                        problems.push(ambiguous(image, used, &several));
                        None
                    });
                    let missing = if local.is_none() { names.missing(used) } else { None };
                    problems.extend(missing.map(|what| {
                        let message = format!("'{}' {what}", escape::line(&used.reference));
                        Problem::of_line(&image.dockerfile, used.line, message)
                    }));
                    let other =
                        if local.is_none() { names.other_tag(&used.reference) } else { None };
                    warnings.extend(other.map(|other| only_other_tag(image, used, other)));
                    uses.push(local);
                }
            }
            found.push((uses, problems));
        }
        self.warnings.extend(warnings);
        for (component, (uses, problems)) in self.components.iter_mut().zip(found) {
            component.problems.extend(problems);
            let images = component.images.iter_mut().flat_map(|image| &mut image.uses);
            images.zip(uses).for_each(|(used, local)| used.local = local);
        }
        self.finish_images();
    }

    /// Notes what the bases of images in the workspace change about them: their `ONBUILD`
    /// triggers and their `ENV` can make a build read the whole context, and triggers can read any
    /// stage, other images, and build args. And an `ARG` that names an image elsewhere as well does
    /// more than to name ours.
    fn finish_images(&mut self) {
        let mut triggers: BTreeMap<String, (bool, Vec<ImageUse>, Vec<String>)> = BTreeMap::new();
        for image in self.components.iter_mut().flat_map(|component| &mut component.images) {
            // Those that are ours are built before it, and so before what is built from it.
            let is_external = |used: &mut ImageUse| used.is_trigger && used.local.is_none();
            let external = image.uses.extract_if(.., is_external).collect();
            let args = if image.has_onbuild { image.args.clone() } else { Vec::new() };
            triggers.insert(image.name.clone(), (image.has_onbuild, external, args));
        }
        let images = self.components.iter_mut().flat_map(|component| &mut component.images);
        for image in images {
            let depends_on_args = image.context_reads.depends_on_args();
            for from in image.uses.clone().iter().filter(|used| used.via == Via::From) {
                let base = from.local.as_ref().and_then(|name| triggers.get(name));
                let Some((has_onbuild, named, args)) = base else { continue };
                if *has_onbuild || depends_on_args {
                    image.context_reads = ContextReads::All;
                }
                if *has_onbuild {
                    image.run_triggers(from.line, named);
                    image.naming_args.retain(|arg| !args.contains(arg));
                    image.args.extend(args.iter().cloned());
                }
            }
            for used in image.uses.iter().filter(|used| used.local.is_none()) {
                image.naming_args.retain(|arg| !used.args.contains(arg));
            }
        }
    }
}

/// The problem of a reference that can mean several images.
fn ambiguous(image: &Image, used: &ImageUse, names: &BTreeSet<&str>) -> Problem {
    let names: Vec<&str> = names.iter().copied().collect();
    let (reference, names) = (escape::line(&used.reference), names.join(", "));
    let message = format!("'{reference}' can be any of the images {names}: use one of these names");
    Problem::of_line(&image.dockerfile, used.line, message)
}

/// The warning for a tag of our own image that is not built.
fn only_other_tag(image: &Image, used: &ImageUse, other: &str) -> Problem {
    let reference = escape::line(&used.reference);
    let message = format!(
        "'{reference}' is used as it is at its registry: the workspace builds '{other}', but not \
         this tag. 'external' in xtask.toml says that this is meant"
    );
    Problem::of_line(&image.dockerfile, used.line, message)
}

/// The names by which images of the workspace are meant.
struct LocalNames<'c> {
    config: &'c Config,
    names: BTreeSet<String>,
    /// By its repository, the first image whose name has a tag.
    tagged: BTreeMap<String, String>,
    registries: Vec<RegistryNames>,
    /// The images that have no Dockerfile for the flavor, and what there is.
    missing: BTreeMap<&'c str, &'c str>,
    /// The references that images are pushed to, and the name of the image of each.
    pushed: GlobSet,
    pushed_images: Vec<String>,
}

impl<'c> LocalNames<'c> {
    fn new(
        workspace: &'c Workspace,
        config: &'c Config,
        registry: Option<&RegistryNames>,
        tag: Option<&str>,
    ) -> Self {
        let own = config
            .registries
            .iter()
            .map(|prefix| RegistryNames { prefix: prefix.clone(), tag: tag.map(str::to_owned) });
        let (mut pushed, mut pushed_images) = (GlobSetBuilder::new(), Vec::new());
        for (_, image) in workspace.images().filter(|_| config.exists) {
            let references = image.settings.push_references(&image.name).into_iter();
            for glob in references.filter_map(|reference| glob(&reference.value)) {
                pushed.add(glob);
                pushed_images.push(image.name.clone());
            }
        }
        let names: BTreeSet<String> =
            workspace.images().map(|(_, image)| image.name.clone()).collect();
        let repository = |name: &String| Reference::parse(name).repository().to_owned();
        let missing = workspace.components.iter().flat_map(|component| &component.missing);
        let missing = missing.map(|(name, what)| (name.as_str(), what.as_str())).collect();
        let tagged = names.iter().rev().filter(|name| name.contains(':'));
        Self {
            config,
            tagged: tagged.map(|name| (repository(name), name.clone())).collect(),
            names,
            missing,
            registries: own.chain(registry.cloned()).collect(),
            pushed: pushed.build().unwrap_or_default(),
            pushed_images,
        }
    }

    /// The image that a reference means, if it means one.
    ///
    /// # Errors
    /// The names of all, if it can mean several.
    fn find(&self, reference: &str) -> Result<Option<String>, BTreeSet<&str>> {
        if self.config.is_external(reference) {
            return Ok(None);
        }
        let names = Reference::parse(reference).local_names(&self.registries);
        if let Some(name) = names.into_iter().find(|name| self.names.contains(name)) {
            return Ok(Some(name));
        }
        let pushed = self.pushed.matches(reference).into_iter();
        let found: BTreeSet<&str> = pushed.map(|at| self.pushed_images[at].as_str()).collect();
        if found.len() > 1 {
            return Err(found);
        }
        Ok(found.first().map(|name| (*name).to_owned()))
    }

    /// What there is of an image that is used, and is not made for this flavor.
    fn missing(&self, used: &ImageUse) -> Option<&'c str> {
        if !used.is_reached || self.config.is_external(&used.reference) {
            return None;
        }
        let names = Reference::parse(&used.reference).local_names(&self.registries);
        names.iter().find_map(|name| self.missing.get(name.as_str())).copied()
    }

    /// An image of the same repository, of which a reference names a tag that is not built.
    fn other_tag(&self, reference: &str) -> Option<&str> {
        if self.config.is_external(reference) || reference.contains('@') {
            return None;
        }
        let names = Reference::parse(reference).local_names(&self.registries);
        let repositories = names.iter().map(|name| Reference::parse(name).repository());
        repositories.filter_map(|it| self.tagged.get(it)).min().map(String::as_str)
    }
}

/// Matches the references that an image is pushed to, with whatever tag; none if there is no
/// registry.
fn glob(reference: &str) -> Option<Glob> {
    let any = |pattern: String, word: &&str| pattern.replace(&format!("{{{word}}}"), "*");
    let words = PUSH_WORDS.iter().filter(|word| **word != "registry");
    let pattern = words.fold(reference.to_owned(), any);
    // What is left in braces has no value.
    let is_known = !pattern.contains('{');
    is_known.then(|| GlobBuilder::new(&pattern).literal_separator(true).build().ok()).flatten()
}
