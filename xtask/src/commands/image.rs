//! One image of a round: what it is made from is gathered and digested, and it is
//! built if the engine does not hold just that.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::round::{Known, Round, StepError, tree_error};
use crate::core::config::RegistryConfig;
use crate::core::context::{self, Context};
use crate::core::dockerfile::ImageUse;
use crate::core::fingerprint::{self, Fingerprint, Recipe};
use crate::core::holdings::{self, Bases, Reason, Verdict};
use crate::core::ignore::Ignore;
use crate::core::plan::Step;
use crate::core::problem::Problem;
use crate::core::reference::Reference;
use crate::core::workspace::{Component, Image};
use crate::effects::engine::{BuildRequest, EngineError, Logins, domains_of};
use crate::event::{Event, Outcome};

impl Round<'_> {
    /// Makes one image, unless the engine holds it already.
    pub(super) async fn image(
        &self,
        step: &Step,
        component: &Component,
        image: &Image,
        known: &mut Known,
    ) -> Result<Outcome, StepError> {
        let failed = |source| image_error(image, source);
        let external = self.external(image);
        let domains = domains_of(external.iter().map(|used| used.reference.as_str()));
        let credentials = self.engine.credentials(domains, self.registry).await;
        if self.options.pull {
            self.pull_bases(component, image, &external, known, &credentials).await?;
        }
        let context = self.context(step, component, image).await?;
        let mut wanted = self.wanted(component, image, &context, &external, known).await?;
        let built = known.records.id(&image.name, &wanted.fingerprint.to_string());
        let Wanted { fingerprint, bases } = &wanted;
        let verdict = known.holdings.verdict(&image.name, fingerprint, bases, built);
        let reason = match verdict {
            _ if self.options.no_cache => Reason::Asked,
            Verdict::Stale(reason) => reason,
            Verdict::Tag { id } => {
                self.engine.tag(&id, &image.name, "latest").await.map_err(failed)?;
                return self.finish(component, image, wanted, known, Outcome::UpToDate).await;
            }
            Verdict::UpToDate => {
                return self.finish(component, image, wanted, known, Outcome::UpToDate).await;
            }
        };
        self.events.send(Event::ImageStale {
            component: component.name.clone(),
            image: image.name.clone(),
            reason,
        });
        let is_missing = |used: &&ImageUse| !wanted.bases.contains_key(&used.reference);
        let missing: Vec<&ImageUse> = external.iter().copied().filter(is_missing).collect();
        if !missing.is_empty() {
            self.pull_bases(component, image, &missing, known, &credentials).await?;
            wanted = self.wanted(component, image, &context, &external, known).await?;
        }
        let request = BuildRequest {
            component: &component.name,
            image: &image.name,
            dockerfile: &in_context(component, image),
            context,
            build_args: &self.options.build_args,
            labels: &holdings::labels(&wanted.fingerprint, &wanted.bases),
            no_cache: self.options.no_cache,
            credentials: &credentials,
        };
        self.engine.build(request, self.events).await.map_err(failed)?;
        self.finish(component, image, wanted, known, Outcome::Built).await
    }

    /// What the image in the engine must have been made from to be up to date.
    async fn wanted(
        &self,
        component: &Component,
        image: &Image,
        context: &Context,
        external: &[&ImageUse],
        known: &Known,
    ) -> Result<Wanted, StepError> {
        let Found { ids, has_triggers } = self.bases(image, external, known).await?;
        let fingerprint = self.fingerprint(component, image, context, has_triggers, known)?;
        Ok(Wanted { fingerprint, bases: ids })
    }

    /// The bases of an image that are not of this workspace.
    pub(super) fn external<'i>(&self, image: &'i Image) -> Vec<&'i ImageUse> {
        let is_external = |used: &&ImageUse| used.reached && self.local_name(used).is_none();
        image.uses.iter().filter(is_external).collect()
    }

    /// All bases of an image that the engine holds.
    pub(super) async fn bases(
        &self,
        image: &Image,
        external: &[&ImageUse],
        known: &Known,
    ) -> Result<Found, StepError> {
        let mut ids = Bases::new();
        let mut has_triggers = false;
        for used in external {
            let found = self.engine.image(&used.reference).await;
            if let Some(base) = found.map_err(|source| image_error(image, source))? {
                has_triggers |= base.has_triggers;
                ids.insert(used.reference.clone(), base.id);
            }
        }
        for used in &image.uses {
            if let Some(id) = self.local_name(used).and_then(|name| known.holdings.id(name)) {
                ids.insert(used.reference.clone(), id.to_owned());
            }
        }
        Ok(Found { ids, has_triggers })
    }

    /// Remembers an image that is in the engine for those that are made from it.
    async fn finish(
        &self,
        component: &Component,
        image: &Image,
        wanted: Wanted,
        known: &mut Known,
        outcome: Outcome,
    ) -> Result<Outcome, StepError> {
        let failed = |source| image_error(image, source);
        let held = self.engine.image(&image.name).await.map_err(failed)?.and_then(|i| i.held);
        if let Some(held) = held {
            known.records.set(&image.name, wanted.fingerprint.to_string(), held.id.clone());
            known.holdings.add([format!("{}:latest", image.name)], &held);
        }
        for repository in self.aliases_of(image) {
            self.engine.tag(&image.name, &repository, "latest").await.map_err(failed)?;
        }
        known.fingerprints.insert(image.name.clone(), wanted.fingerprint);
        let (component, image) = (component.name.clone(), image.name.clone());
        self.events.send(match outcome {
            Outcome::Built => Event::ImageBuilt { component, image },
            _ => Event::ImageUpToDate { component, image },
        });
        Ok(outcome)
    }

    fn fingerprint(
        &self,
        component: &Component,
        image: &Image,
        context: &Context,
        base_has_triggers: bool,
        known: &Known,
    ) -> Result<Fingerprint, StepError> {
        let read = |path: &String| {
            let bytes = fs::read(self.workspace.root.join(path));
            bytes.map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))
        };
        let bases = image.uses.iter().filter_map(|used| {
            let name = self.local_name(used)?;
            Some((name.to_owned(), known.fingerprints.get(name)?.clone()))
        });
        let hooks = component.pre_hook.iter().chain(&component.post_hook).map(read);
        let digested = hooks.collect::<io::Result<Vec<_>>>().and_then(|hooks| {
            let recipe = Recipe {
                image: &image.name,
                dockerfile: &in_context(component, image),
                dockerfile_bytes: &read(&image.dockerfile)?,
                build_args: &fingerprint::relevant_args(
                    &self.options.build_args,
                    &image.args,
                    base_has_triggers,
                ),
                hooks: &hooks,
                bases: &bases.collect(),
            };
            Ok(fingerprint::fingerprint(&recipe, context))
        });
        digested.map_err(|source| tree_error(component, source))
    }

    async fn context(
        &self,
        step: &Step,
        component: &Component,
        image: &Image,
    ) -> Result<Context, StepError> {
        let own = self.workspace.root.join(component.dir());
        let dockerfile = PathBuf::from(in_context(component, image));
        let ignore = read_ignore(component, &own, &dockerfile).map_err(StepError::File)?;
        let streamed =
            if component.has_hooks() { Vec::new() } else { self.dependency_folders(step) };
        let listing = tokio::task::spawn_blocking(move || {
            Context::read(&own, &streamed, &ignore, &dockerfile)
        });
        let listed = listing.await.map_err(io::Error::other).flatten();
        listed.map_err(|source| tree_error(component, source))
    }

    /// Fetches external bases. Builders would ask the registry by themselves, but
    /// say less about it and wait longer.
    async fn pull_bases(
        &self,
        component: &Component,
        image: &Image,
        bases: &[&ImageUse],
        known: &mut Known,
        credentials: &Logins,
    ) -> Result<(), StepError> {
        for used in bases {
            if !known.pulled.insert(used.reference.clone()) {
                continue;
            }
            self.events.send(Event::Pulling {
                component: component.name.clone(),
                reference: used.reference.clone(),
            });
            let pulled =
                self.engine.pull(&used.reference, used.platform.as_deref(), credentials).await;
            pulled.map_err(|source| StepError::Base {
                file: image.dockerfile.clone(),
                line: used.line,
                reference: used.reference.clone(),
                source,
            })?;
        }
        Ok(())
    }

    pub(super) fn local_name<'u>(&self, used: &'u ImageUse) -> Option<&'u str> {
        let prefix = self.registry.map(RegistryConfig::prefix);
        let name = Reference::parse(&used.reference).local_name(prefix.as_deref())?;
        self.workspace.images().any(|(_, image)| image.name == name).then_some(name)
    }

    /// The other repositories by which Dockerfiles call an image of ours: an
    /// engine would look for those at a registry.
    fn aliases_of(&self, image: &Image) -> BTreeSet<String> {
        let uses = self.workspace.images().flat_map(|(_, image)| &image.uses);
        uses.filter(|used| self.local_name(used) == Some(&image.name))
            .map(|used| used.reference.strip_suffix(":latest").unwrap_or(&used.reference))
            .filter(|repository| *repository != image.name)
            .map(str::to_owned)
            .collect()
    }
}

/// The images that an image is made from, as far as the engine holds them.
pub(super) struct Found {
    pub(super) ids: Bases,
    has_triggers: bool,
}

/// What an image must have been made from.
struct Wanted {
    fingerprint: Fingerprint,
    /// Without those that the engine does not hold.
    bases: Bases,
}

fn image_error(image: &Image, source: EngineError) -> StepError {
    let (dockerfile, image) = (image.dockerfile.clone(), image.name.clone());
    StepError::Image { dockerfile, image, source }
}

/// The Dockerfile's path in its component's context.
fn in_context(component: &Component, image: &Image) -> String {
    let prefix = format!("{}/", component.dir());
    image.dockerfile.strip_prefix(&prefix).unwrap_or(&image.dockerfile).to_owned()
}

fn read_ignore(component: &Component, own: &Path, dockerfile: &Path) -> Result<Ignore, Problem> {
    for file in context::ignore_files(dockerfile) {
        let shown = format!("{}/{}", component.dir(), file.display());
        match fs::read_to_string(own.join(&file)) {
            Ok(text) => {
                return Ignore::parse(&text)
                    .map_err(|error| Problem::of_line(&shown, error.line, error.to_string()));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Problem::of_file(shown, format!("cannot be read: {error}"))),
        }
    }
    Ok(Ignore::default())
}
