//! What is checked once all components are read: names and references that several images have, and
//! what options and tables name that does not exist.

use std::collections::{BTreeMap, BTreeSet};

use crate::dockerfile::platform_args::is_predefined;
use crate::escape;
use crate::ids::ComponentId;
use crate::image_reference::familiar;
use crate::problem::{Problem, did_you_mean};
use crate::secret::hide;
use crate::workspace::components::{Image, Workspace, WorkspaceOptions};
use crate::workspace::config::exports::CacheEntry;
use crate::workspace::config::mounts::{Agent, Secret};
use crate::workspace::config::named_context::NamedContext;
use crate::workspace::config::origin::Origin;
use crate::workspace::config::overrides::Overrides;
use crate::workspace::config::settings::Sourced;

impl Workspace {
    /// Adds what concerns no component alone to `problems`, and the rest to the components.
    pub(super) fn check(&mut self, options: &WorkspaceOptions, problems: &mut Vec<Problem>) {
        self.report_duplicate_images();
        problems.extend(self.duplicate_tags());
        problems.extend(self.duplicate_caches());
        problems.extend(self.unknown_targets());
        self.warn_of_undeclared(options);
    }

    /// Options that count for none of these images, or for none at all if it is `None`. The
    /// workspace is the one without the options.
    pub fn unused_options(
        &self,
        given: &Overrides,
        selected: Option<&BTreeSet<String>>,
    ) -> Vec<Problem> {
        if let (Some(option), Some(true)) = (given.origin(), selected.map(BTreeSet::is_empty)) {
            return vec![option.problem("what is selected makes no image, and so it is for none")];
        }
        // What a broken Dockerfile has is unknown.
        if self.components.iter().any(|component| !component.problems.is_empty()) {
            return Vec::new();
        }
        let images = self.images().map(|(_, image)| image);
        let is_meant =
            |image: &&Image| selected.is_none_or(|selected| selected.contains(&image.name));
        let images: Vec<&Image> = images.filter(is_meant).collect();
        let contexts = unused_contexts(&images, given);
        contexts.into_iter().chain(unknown_stages(&images, given)).collect()
    }

    /// Secrets and SSH agents of options that no instruction of these images mounts.
    pub fn unused_mounts(
        &self,
        given: &Overrides,
        selected: Option<&BTreeSet<String>>,
    ) -> Vec<Problem> {
        let images = self.images().map(|(_, image)| image);
        let is_meant =
            |image: &&Image| selected.is_none_or(|selected| selected.contains(&image.name));
        let mounts: BTreeSet<&(String, String)> =
            images.filter(is_meant).flat_map(|image| &image.mounts).collect();
        let secrets = given.elements("secrets").filter_map(|text| Secret::parse(text).ok());
        let agents = given.elements("ssh").filter_map(|text| Agent::parse(text).ok());
        let secrets = secrets.map(|secret| ("secret", "secret", secret.id));
        let given = secrets.chain(agents.map(|agent| ("ssh", "SSH agent", agent.id)));
        let problem = |(kind, noun, id): (&str, &str, String)| {
            let ids = || mounts.iter().filter(|(of, _)| of == kind).map(|(_, id)| id.as_str());
            // An id may be in a variable.
            if ids().any(|known| known == id || known.contains('$')) {
                return None;
            }
            let hint = did_you_mean(&id, ids());
            let id = escape::line(&id);
            let message =
                format!("--{kind}: no RUN of these images mounts the {noun} '{id}'{hint}");
            Some(Problem::of_request(message))
        };
        given.filter_map(problem).collect()
    }

    /// Warns of build args that no Dockerfile declares. What a broken one declares is unknown, and
    /// what `xtask.toml` says may be for those of another flavor.
    fn warn_of_undeclared(&mut self, options: &WorkspaceOptions) {
        if self.components.iter().any(|component| !component.problems.is_empty()) {
            return;
        }
        let declared: BTreeSet<&str> =
            self.images().flat_map(|(_, image)| &image.args).map(String::as_str).collect();
        let is_unknown = |name: &str| !declared.contains(name) && !is_predefined(name);
        let message = |name: &str| {
            let hint = did_you_mean(name, declared.iter().copied());
            format!("no Dockerfile has 'ARG {}'{hint}", escape::line(name))
        };
        let given = options.build_args.keys().chain(&options.unset_args).map(String::as_str);
        let given = given.filter(|name| is_unknown(name)).map(|name| {
            Problem::of_request(format!("--build-arg {}: {}", escape::line(name), message(name)))
        });
        let shared = self.config.shared_args().filter(|(name, at)| {
            is_unknown(name) && (options.flavor.is_none() || !matches!(at, Origin::File(_)))
        });
        let shared = shared.map(|(name, at)| {
            at.problem(format!("'args.{}': {}", escape::line(name), message(name)))
        });
        let warnings: Vec<Problem> = given.chain(shared).collect();
        self.warnings.extend(warnings);
    }

    /// Contexts that are to be images of the workspace, and are none.
    fn unknown_targets(&self) -> Vec<Problem> {
        let names: BTreeSet<&str> = self.images().map(|(_, image)| image.name.as_str()).collect();
        let contexts = self.images().flat_map(|(_, image)| &image.settings.contexts);
        let problem = |(name, context): (&String, &Sourced<NamedContext>)| match &context.value {
            NamedContext::Target(image) if !names.contains(image.as_str()) => {
                let hint = did_you_mean(image, names.iter().copied());
                let (name, image) = (escape::line(name), escape::line(image));
                let message = format!("'contexts.{name}' is the unknown image '{image}'{hint}");
                Some(context.at.problem(message))
            }
            _ => None,
        };
        contexts.filter_map(problem).collect()
    }

    /// References that `xtask.toml` gives to several images, of which only one could have them.
    fn duplicate_tags(&self) -> Vec<Problem> {
        let mut first: BTreeMap<String, &Image> = BTreeMap::new();
        let mut problems = Vec::new();
        for (_, image) in self.images() {
            let given = image.settings.push_references(&image.name).into_iter();
            for tag in given.filter(|tag| tag.at != Origin::Default) {
                let other = *first.entry(tag.value.clone()).or_insert(image);
                if other.name != image.name {
                    let (one, two) = (&other.name, &image.name);
                    let message = format!(
                        "'tags': images '{one}' and '{two}' are both {}: write {{image}} where \
                         they differ",
                        escape::line(&tag.value)
                    );
                    problems.push(tag.at.problem(message));
                }
            }
        }
        problems
    }

    /// Places to which several images write their caches, where the last one would be left.
    fn duplicate_caches(&self) -> Vec<Problem> {
        let mut first: BTreeMap<(String, Vec<String>), &Image> = BTreeMap::new();
        let mut problems = Vec::new();
        for (_, image) in self.images() {
            for given in &image.settings.cache_to {
                let Ok(cache) = CacheEntry::parse(&given.value) else { continue };
                let cache = cache.of_image(&image.name);
                let (kind, place) = cache.place();
                let place = (kind.to_owned(), place.into_iter().map(str::to_owned).collect());
                let other = *first.entry(place).or_insert(image);
                if other.name != image.name && kind != "inline" {
                    let (one, two) = (&other.name, &image.name);
                    let message = format!(
                        "'cache-to': images '{one}' and '{two}' both write {}, and one would \
                         replace the other: write {{image}} where they differ",
                        escape::line(&hide(&given.value))
                    );
                    problems.push(given.at.problem(message));
                }
            }
        }
        problems
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

/// Contexts of options that no image uses.
fn unused_contexts(images: &[&Image], given: &Overrides) -> Vec<Problem> {
    let used = || images.iter().flat_map(|image| &image.uses).map(|used| used.reference.as_str());
    let is_unused = |name: &&str| {
        let is_it = |reference: &str| familiar(reference) == familiar(name);
        let mut replaced = images.iter().flat_map(|image| image.settings.contexts.keys());
        !used().any(is_it) && !replaced.any(|name| is_it(name))
    };
    let problem = |name| {
        let hint = did_you_mean(name, used());
        let name = escape::line(name);
        let message =
            format!("--build-context: no Dockerfile of a selected image uses '{name}'{hint}");
        Problem::of_request(message)
    };
    given.names("contexts").filter(is_unused).map(problem).collect()
}

/// Stages of `--no-cache-filter` that no image has.
fn unknown_stages(images: &[&Image], given: &Overrides) -> Vec<Problem> {
    let stages = || images.iter().flat_map(|image| &image.stages).map(String::as_str);
    let is_unknown = |name: &&str| !stages().any(|stage| stage == name.to_lowercase());
    let problem = |name| {
        let hint = did_you_mean(name, stages());
        let name = escape::line(name);
        let message = format!("no Dockerfile of a selected image has a stage '{name}'{hint}");
        Problem::of_request(format!("--no-cache-filter: {message}"))
    };
    given.elements("no-cache-filter").filter(is_unknown).map(problem).collect()
}
