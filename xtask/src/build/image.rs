//! One image of a round: what it is made from is gathered and digested, and it is
//! built if the engine does not hold just that.

use std::io;
use std::rc::Rc;

use xtask_core::context::build_context::Context;
use xtask_core::dockerfile::parser::ImageUse;
use xtask_core::image_reference::{self, Reference};
use xtask_core::plan::steps::Step;
use xtask_core::problem::Problem;
use xtask_core::staleness::engine_images::{self, Bases, Decision};
use xtask_core::staleness::fingerprint::{
    self, Change, ChangeKind, Fingerprint, IngredientKind, Manifest, Recipe,
};
use xtask_core::staleness::reason::Reason;
use xtask_core::workspace::components::{Component, Image};

use crate::build::base_images;
use crate::build::executor::{Round, RoundState};
use crate::build::step_error::{StepError, tree_error};
use crate::engine::{BuildRequest, Engine, EngineError, FoundImage, Logins, domains_of};
use crate::event::{Event, Outcome};

/// An image is built so often before another checkout that takes its bases' names is
/// given up against.
const TRIES: usize = 3;

impl<E: Engine> Round<'_, E> {
    /// Makes one image, unless the engine holds it already.
    pub(crate) async fn image(
        &self,
        step: &Step,
        component: &Component,
        image: &Image,
    ) -> Result<Outcome, StepError> {
        if self.options.pull {
            self.pull_bases(component, image, &self.external(image)).await?;
        }
        let context = self.context(step, component, image).await?;
        let wanted = self.wanted(component, image, &context).await?;
        let reasons = loop {
            match self.decide(step, image, &wanted).await? {
                Decision::UpToDate => {
                    self.up_to_date(component, image, &wanted).await?;
                    return Ok(Outcome::UpToDate);
                }
                Decision::Tag { id } if self.tag(image, &id).await? => {
                    self.up_to_date(component, image, &wanted).await?;
                    return Ok(Outcome::Restored);
                }
                // It went meanwhile.
                Decision::Tag { .. } => {}
                Decision::Stale(reason) => break self.reasons(image, reason, &wanted),
            }
        };
        self.events.send(Event::ImageStale {
            component: component.name.clone(),
            image: image.name.clone(),
            reasons,
        });
        let is_missing = |used: &&ImageUse| !wanted.bases.contains_key(&used.reference);
        let missing: Vec<&ImageUse> = self.external(image).into_iter().filter(is_missing).collect();
        self.pull_bases(component, image, &missing).await?;
        self.build(step, component, image).await?;
        let (component, image) = (component.name.clone(), image.name.clone());
        self.events.send(Event::ImageBuilt { component, image });
        Ok(Outcome::Built)
    }

    /// Builds an image until it is certain what it was made from: while it is built,
    /// another checkout may give the name of one of its bases to an image of its own.
    async fn build(
        &self,
        step: &Step,
        component: &Component,
        image: &Image,
    ) -> Result<(), StepError> {
        for _ in 0..TRIES {
            self.look_at_bases(image).await?;
            let context = self.context(step, component, image).await?;
            let wanted = self.wanted(component, image, &context).await?;
            let begun = self.state.borrow_mut().records.begin(&image.name, &wanted.fingerprint);
            self.warn_of(begun);
            let request = BuildRequest {
                root: &self.workspace.root,
                component: &component.name,
                image: &image.name,
                dockerfile: &component.in_context(image),
                context: context.clone(),
                build_args: &self.options.reading.build_args,
                labels: &engine_images::labels(&wanted.fingerprint, &wanted.bases),
                no_cache: self.options.no_cache,
                credentials: &self.credentials(image).await,
            };
            let building = self.engine.build(request, self.events);
            let built = self.timed(component, &image.name, building).await;
            self.trees.time_passed();
            let id = built.map_err(|source| image_error(image, source))?;
            let made = self.look_at(image, &id).await?;
            if self.is_made_from(image, &wanted.bases, &made).await? {
                let noted = self.state.borrow_mut().records.set_now(
                    &image.name,
                    &wanted.fingerprint,
                    made.id,
                );
                self.warn_of(noted);
                self.remember(image, &wanted);
                self.warn_of(
                    self.state.borrow().records.set_manifest(&image.name, &wanted.manifest()),
                );
                return self.tag_aliases(image).await;
            }
        }
        let (dockerfile, image) = (image.dockerfile.clone(), image.name.clone());
        Err(StepError::BasesMove { dockerfile, image })
    }

    /// Sees to it that the names by which a Dockerfile calls our images lead to the ones
    /// that were decided upon, and that of external ones it is known where they lead.
    async fn look_at_bases(&self, image: &Image) -> Result<(), StepError> {
        let failed = |source| image_error(image, source);
        for used in &image.uses {
            let found = self.engine.image(&used.reference).await.map_err(failed)?;
            let wanted = self
                .local_name(used)
                .map(|name| (name, self.state.borrow().engine_images.id(name).map(str::to_owned)));
            match wanted {
                None => {
                    drop(self.state.borrow_mut().externals.insert(used.reference.clone(), found))
                }
                Some((name, Some(id))) if found.as_ref().is_none_or(|found| found.id != id) => {
                    if self.engine.image(&id).await.map_err(failed)?.is_none() {
                        let (file, line) = (image.dockerfile.clone(), used.line);
                        let reference = used.reference.clone();
                        return Err(StepError::BaseGone { file, line, reference });
                    }
                    if found.is_some() {
                        let message = format!(
                            "{} was given to another image while it was needed: '{name}' of this \
                             workspace gets it back. Another checkout builds on this engine",
                            used.reference
                        );
                        let problem = Problem::of_line(&image.dockerfile, used.line, message);
                        self.events.send(Event::Warning(problem));
                    }
                    let (repository, tag) = used.repository_and_tag();
                    self.engine.tag(&id, repository, tag).await.map_err(failed)?;
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Whether an image was made from these bases: their names still lead to them, and its
    /// layers begin with those of the one that it is made `FROM`.
    async fn is_made_from(
        &self,
        image: &Image,
        bases: &Bases,
        made: &FoundImage,
    ) -> Result<bool, StepError> {
        for (reference, id) in bases {
            let found = self.engine.image(reference).await;
            let Some(found) = found.map_err(|source| image_error(image, source))? else {
                return Ok(false);
            };
            let is_bottom = image.provenance.base.as_ref() == Some(reference);
            if found.id != *id || is_bottom && !made.layers.starts_with(&found.layers) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What the image in the engine must have been made from to be up to date.
    pub(crate) async fn wanted<'c>(
        &self,
        component: &Component,
        image: &Image,
        context: &'c Context,
    ) -> Result<ExpectedImage<'c>, StepError> {
        let (bases, has_onbuild) = self.bases(image).await?;
        let mut recipe = Recipe::default();
        recipe.add(IngredientKind::Image, &image.name, "");
        recipe.add(IngredientKind::Dockerfile, &image.dockerfile, *image.digest.as_bytes());
        let args =
            fingerprint::relevant_args(&self.options.reading.build_args, &image.args, has_onbuild);
        for (name, value) in args {
            recipe.add(IngredientKind::Arg, name, value);
        }
        for (hook, digest) in self.hook_digests(component)? {
            recipe.add(IngredientKind::Hook, hook, digest);
        }
        let state = self.state.borrow();
        for used in &image.uses {
            if let Some(name) = self.local_name(used)
                && let Some(base) = state.fingerprints.get(name)
            {
                recipe.add(IngredientKind::Base, name, base.to_string());
            }
        }
        recipe.add_context(context);
        Ok(ExpectedImage { fingerprint: recipe.fingerprint(), recipe, bases })
    }

    /// What is to be done about an image.
    pub(crate) async fn decide(
        &self,
        step: &Step,
        image: &Image,
        wanted: &ExpectedImage<'_>,
    ) -> Result<Decision, StepError> {
        if self.options.no_cache {
            return Ok(Decision::Stale(Reason::Asked { option: "--no-cache" }));
        }
        if self.options.force && step.is_named {
            return Ok(Decision::Stale(Reason::Asked { option: "--force" }));
        }
        let verdict = self.verdict(image, &wanted.fingerprint, &wanted.bases).await;
        verdict.map_err(|source| image_error(image, source))
    }

    /// All that can be said of why an image is stale.
    pub(crate) fn reasons(
        &self,
        image: &Image,
        reason: Reason,
        wanted: &ExpectedImage<'_>,
    ) -> Vec<Reason> {
        match reason {
            Reason::Other { fingerprint } => {
                let before = self.state.borrow().records.manifest(&image.name);
                let before = before.filter(|then| then.fingerprint.to_string() == fingerprint);
                let Some(before) = before else { return vec![Reason::Other { fingerprint }] };
                let mut changes = wanted.manifest().since(&before);
                // What people edit is mostly the component's own.
                let own = image.dockerfile.split("build/").next().unwrap_or_default();
                changes.sort_by_key(|change| {
                    (change.what != IngredientKind::Dockerfile, !change.name.starts_with(own))
                });
                self.leave_out_unread(&mut changes);
                let is_base = |what| what == IngredientKind::Base;
                let (bases, rest): (Vec<_>, Vec<_>) =
                    changes.into_iter().partition(|change| is_base(change.what));
                let rest = (!rest.is_empty()).then_some(Reason::Changed(rest));
                let bases = bases
                    .into_iter()
                    .map(|change| Reason::Rebuilt { image: change.name, is_planned: false });
                let reasons: Vec<Reason> = rest.into_iter().chain(bases).collect();
                if reasons.is_empty() { vec![Reason::Other { fingerprint }] } else { reasons }
            }
            Reason::BaseMoved { reference, then, now } => {
                let local = image.uses.iter().find(|used| used.reference == reference);
                match local.and_then(|used| self.local_name(used)) {
                    Some(name) => {
                        vec![Reason::Rebuilt { image: name.to_owned(), is_planned: false }]
                    }
                    None => vec![Reason::BaseMoved { reference, then, now }],
                }
            }
            reason => vec![reason],
        }
    }

    /// What is only read no more is not gone: the Dockerfile or the argument that read it
    /// is what changed.
    fn leave_out_unread(&self, changes: &mut Vec<Change>) {
        let is_cause = |change: &Change| {
            matches!(change.what, IngredientKind::Dockerfile | IngredientKind::Arg)
        };
        if changes.iter().any(is_cause) {
            changes.retain(|change| {
                let is_gone =
                    change.what == IngredientKind::Path && change.fate == ChangeKind::Removed;
                !is_gone || !self.workspace.root.join(&change.name).exists()
            });
        }
    }

    /// The bases of an image that are not of this workspace.
    fn external<'i>(&self, image: &'i Image) -> Vec<&'i ImageUse> {
        let is_external = |used: &&ImageUse| used.reached && self.local_name(used).is_none();
        image.uses.iter().filter(is_external).collect()
    }

    /// The ids of all bases of an image that the engine holds, and whether one of
    /// the external ones has triggers.
    pub(crate) async fn bases(&self, image: &Image) -> Result<(Bases, bool), StepError> {
        let mut ids = Bases::new();
        let mut has_onbuild = false;
        for used in self.external(image) {
            if let Some(base) = self.external_base(image, used).await? {
                has_onbuild |= base.has_onbuild;
                ids.insert(used.reference.clone(), base.id);
            }
        }
        let state = self.state.borrow();
        for used in &image.uses {
            if let Some(id) = self.local_name(used).and_then(|name| state.engine_images.id(name)) {
                ids.insert(used.reference.clone(), id.to_owned());
            }
        }
        Ok((ids, has_onbuild))
    }

    /// One question for each base, however many images use it.
    async fn external_base(
        &self,
        image: &Image,
        used: &ImageUse,
    ) -> Result<Option<FoundImage>, StepError> {
        let reference = &used.reference;
        if let Some(found) = self.state.borrow().externals.get(reference) {
            return Ok(found.clone());
        }
        let found = self.engine.image(reference).await;
        let found = found.map_err(|source| image_error(image, source))?;
        if found.as_ref().is_some_and(|found| found.held.is_some()) {
            self.warn_of_own_base(image, used);
        }
        self.state.borrow_mut().externals.insert(reference.clone(), found.clone());
        Ok(found)
    }

    /// Warns of a base that a build made, though no component makes an image of that name:
    /// with the configuration that names the registry one does.
    fn warn_of_own_base(&self, image: &Image, used: &ImageUse) {
        let name = Reference::parse(&used.reference).last_name();
        let mut components = self.workspace.components.iter();
        let makes = |component: &&Component| component.images.iter().any(|it| it.name == name);
        if let Some(component) = components.find(makes) {
            let message = format!(
                "{} is an image that a build of component '{}' made, and is used as it is: name \
                 the folder of its registry's configuration with -c to keep it up to date",
                used.reference, component.name
            );
            let problem = Problem::of_line(&image.dockerfile, used.line, message);
            self.events.send(Event::Warning(problem));
        }
    }

    /// Gives an image its name back; false if it is there no more.
    pub(crate) async fn tag(&self, image: &Image, id: &str) -> Result<bool, StepError> {
        let failed = |source| image_error(image, source);
        if self.engine.image(id).await.map_err(failed)?.is_none() {
            self.state.borrow_mut().engine_images.forget(id);
            return Ok(false);
        }
        self.engine.tag(id, &image.name, "latest").await.map_err(failed)?;
        self.state.borrow_mut().engine_images.retag(id, &image.name);
        Ok(true)
    }

    /// Looks at the image that was built, and notes what the engine holds under its name;
    /// another checkout may have taken it since.
    async fn look_at(&self, image: &Image, id: &str) -> Result<FoundImage, StepError> {
        let failed = |source| image_error(image, source);
        let built = self.engine.image(id).await.map_err(failed)?;
        let named = self.engine.image(&image.name).await.map_err(failed)?;
        let found = match (built, named) {
            (Some(built), Some(named)) if named.id == built.id => built,
            (Some(built), _) => {
                self.engine.tag(&built.id, &image.name, "latest").await.map_err(failed)?;
                built
            }
            (None, Some(named)) => named,
            (None, None) => {
                let text = "the image that was built is not in the engine".to_owned();
                return Err(failed(EngineError::Lost(text)));
            }
        };
        self.state.borrow_mut().engine_images.renew(&image.name, found.held.clone());
        Ok(found)
    }

    async fn up_to_date(
        &self,
        component: &Component,
        image: &Image,
        wanted: &ExpectedImage<'_>,
    ) -> Result<(), StepError> {
        self.remember(image, wanted);
        self.tag_aliases(image).await?;
        let (component, image) = (component.name.clone(), image.name.clone());
        self.events.send(Event::ImageUpToDate { component, image });
        Ok(())
    }

    /// Remembers an image that is in the engine, for those that are made from it and
    /// for other days.
    fn remember(&self, image: &Image, wanted: &ExpectedImage<'_>) {
        let mut state = self.state.borrow_mut();
        let RoundState { engine_images, records, fingerprints, .. } = &mut *state;
        fingerprints.insert(image.name.clone(), wanted.fingerprint.clone());
        if let Some(id) = engine_images.id(&image.name)
            && records.set(&image.name, &wanted.fingerprint, id.to_owned())
        {
            self.warn_of(records.set_manifest(&image.name, &wanted.manifest()));
        }
    }

    /// Gives an image the other names by which Dockerfiles call it: an engine would
    /// look for those at a registry.
    async fn tag_aliases(&self, image: &Image) -> Result<(), StepError> {
        for alias in self.aliases.get(&image.name).into_iter().flatten() {
            let is_tagged = {
                let state = self.state.borrow();
                state.engine_images.id(alias) == state.engine_images.id(&image.name)
            };
            if !is_tagged {
                let (repository, tag) = image_reference::repository_and_tag(alias);
                let tagged = self.engine.tag(&image.name, repository, tag).await;
                tagged.map_err(|source| image_error(image, source))?;
            }
        }
        Ok(())
    }

    pub(crate) async fn context(
        &self,
        step: &Step,
        component: &Component,
        image: &Image,
    ) -> Result<Context, StepError> {
        let (trees, selection) =
            (self.trees.clone(), step.selection(self.workspace, image, &self.state.borrow().kept));
        let bases = base_images::to_ask(image, |used| self.local_name(used).is_some());
        for used in &bases {
            self.external_base(image, used).await?;
        }
        let is_whole = base_images::read_all(image, &bases, &self.state.borrow().externals);
        trees.set_whole(&selection, is_whole);
        if let Some(context) = trees.known_context(&selection) {
            return Ok(context);
        }
        let reading = tokio::task::spawn_blocking(move || trees.context(&selection)).await;
        match reading {
            Ok(context) => context.map_err(StepError::File),
            Err(error) => Err(tree_error(component, io::Error::other(error))),
        }
    }

    /// Fetches external bases. Builders would ask the registry by themselves, but
    /// say less about it and wait longer.
    async fn pull_bases(
        &self,
        component: &Component,
        image: &Image,
        bases: &[&ImageUse],
    ) -> Result<(), StepError> {
        let credentials = self.credentials(image).await;
        for used in bases {
            let pull =
                Rc::clone(self.state.borrow_mut().pulls.entry(used.reference.clone()).or_default());
            let mut is_pulled = pull.lock().await;
            if *is_pulled {
                continue;
            }
            self.events.send(Event::Pulling {
                component: component.name.clone(),
                reference: used.reference.clone(),
            });
            let pulled =
                self.engine.pull(&used.reference, used.platform.as_deref(), &credentials).await;
            self.state.borrow_mut().externals.remove(&used.reference);
            pulled.map_err(|source| StepError::Base {
                file: image.dockerfile.clone(),
                line: used.line,
                reference: used.reference.clone(),
                source,
            })?;
            *is_pulled = true;
        }
        Ok(())
    }

    async fn credentials(&self, image: &Image) -> Logins {
        let external = self.external(image);
        let domains = domains_of(external.iter().map(|used| used.reference.as_str()));
        self.engine.credentials(domains, self.registry).await
    }
}

/// What an image must have been made from.
pub(crate) struct ExpectedImage<'c> {
    pub(crate) fingerprint: Fingerprint,
    recipe: Recipe<'c>,
    /// Without those that the engine does not hold.
    bases: Bases,
}

impl ExpectedImage<'_> {
    /// The ingredients behind the fingerprint.
    pub(crate) fn manifest(&self) -> Manifest {
        self.recipe.manifest()
    }
}

pub(crate) fn image_error(image: &Image, source: EngineError) -> StepError {
    let (dockerfile, image) = (image.dockerfile.clone(), image.name.clone());
    StepError::Image { dockerfile, image, source }
}
