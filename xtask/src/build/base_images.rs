//! The images that an image is made from: found, pulled, and held to what was decided upon.
//!
//! Names of images are shared with everybody who uses the engine. So the names of our own
//! bases are checked before a build, and what the image was really made from after it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use tokio::sync::Mutex;
use xtask_core::dockerfile::parser::{self, ImageUse, Via};
use xtask_core::image_reference::{self, Reference};
use xtask_core::problem::Problem;
use xtask_core::staleness::engine_images::Bases;
use xtask_core::workspace::components::{Component, Image};

use crate::build::bake_folder::digest_of;
use crate::build::image_lookup::ImageLookup;
use crate::build::round::Round;
use crate::build::step_error::{StepError, image_error};
use crate::engine::{Built, Engine, FoundImage, Logins, domains_of};
use crate::event::Event;

/// By reference, what the engine has; none for an image that it does not have.
pub(crate) type ExternalBases = HashMap<String, Option<FoundImage>>;

/// The external bases that must be inspected before it is certain what a build reads: only
/// the engine knows what a base's `ONBUILD` and `ENV` add.
pub(crate) fn to_inspect(image: &Image) -> Vec<&ImageUse> {
    let reads_all = !image.context_reads.may_grow_with(true, &[]);
    let is_wanted = |used: &&ImageUse| !reads_all && used.via == Via::From && used.local.is_none();
    image.uses.iter().filter(is_wanted).collect()
}

/// Whether these bases can make a build read its whole context. One that is needed and not
/// in the engine is pulled before the build and inspected then; of others nothing is known.
pub(crate) fn read_all(image: &Image, bases: &[&ImageUse], found: &ExternalBases) -> bool {
    bases.iter().any(|used| match found.get(&used.reference).and_then(Option::as_ref) {
        Some(base) => image.context_reads.may_grow_with(base.has_onbuild, &base.variables),
        None => !used.is_reached,
    })
}

/// The bases of a round's images.
pub(crate) struct BaseImages<'a, E> {
    round: &'a Round<'a, E>,
    images: &'a ImageLookup<'a, E>,
    external: RefCell<ExternalBases>,
    /// By reference, whether it was pulled; whoever pulls holds the lock.
    pulls: RefCell<BTreeMap<String, Rc<Mutex<bool>>>>,
    /// By image of the workspace, how often a name of it was found not to lead to it.
    moves: RefCell<BTreeMap<String, u64>>,
}

/// How often the names of an image's bases had to be put right until a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moves(u64);

impl<'a, E: Engine> BaseImages<'a, E> {
    pub(crate) fn new(round: &'a Round<'a, E>, images: &'a ImageLookup<'a, E>) -> Self {
        Self {
            round,
            images,
            external: RefCell::default(),
            pulls: RefCell::default(),
            moves: RefCell::default(),
        }
    }

    /// The ids of all bases of an image that the engine has, and whether an external one has
    /// `ONBUILD` instructions.
    pub(crate) async fn ids(&self, image: &Image) -> Result<(Bases, bool), StepError> {
        let mut ids = Bases::new();
        let mut has_onbuild = false;
        for used in self.external(image).await? {
            if let Some(base) = self.find(image, &used).await? {
                has_onbuild |= base.has_onbuild;
                ids.insert(used.reference, base.id);
            }
        }
        for used in &image.uses {
            if let Some(id) = used.local.as_deref().and_then(|name| self.images.id(name)) {
                ids.insert(used.reference.clone(), id);
            }
        }
        Ok((ids, has_onbuild))
    }

    /// The images that a build needs and the workspace does not make. The `ONBUILD` instructions of
    /// a base are run as the Dockerfile's own: they can read any of its stages, and images that it
    /// does not name.
    async fn external(&self, image: &Image) -> Result<Vec<ImageUse>, StepError> {
        let mut needed: Vec<ImageUse> = image.external_bases().into_iter().cloned().collect();
        let mut next = 0;
        while let Some(used) = needed.get(next).cloned() {
            next += 1;
            if used.via != Via::From {
                continue;
            }
            let Some(base) = self.find(image, &used).await? else { continue };
            if base.has_onbuild {
                let external = image.uses.iter().filter(|used| used.local.is_none());
                let unreached: Vec<&ImageUse> =
                    external.filter(|used| !needed.contains(used)).collect();
                needed.extend(unreached.into_iter().cloned());
            }
            for (reference, via) in
                base.triggers.iter().flat_map(|it| parser::sources_of_trigger(it))
            {
                let is_known = image.uses.iter().chain(&needed).any(|it| it.reference == reference);
                if !is_known && !image.has_stage(&reference) {
                    self.is_not_built_later(image, &used, &reference)?;
                    needed.push(ImageUse::of(reference, used.line, via));
                }
            }
        }
        Ok(needed)
    }

    /// Rejects an image of the workspace that only a base's `ONBUILD` instruction names: before a
    /// round, nothing says that it is to be built first.
    fn is_not_built_later(
        &self,
        image: &Image,
        base: &ImageUse,
        reference: &str,
    ) -> Result<(), StepError> {
        let names = Reference::parse(reference).local_names(&[]);
        let mut ours = self.round.workspace.images().map(|(_, image)| &image.name);
        let is_known =
            |name: &String| image.uses.iter().any(|used| used.local.as_ref() == Some(name));
        match ours.find(|name| names.contains(name)) {
            Some(name) if !is_known(name) => {
                let message = format!(
                    "an ONBUILD instruction of {} reads '{reference}', an image of this workspace \
                     that the Dockerfile does not name, so it may be built later: put a line \
                     'FROM {reference}' before this one",
                    base.reference
                );
                Err(StepError::File(Problem::of_line(&image.dockerfile, base.line, message)))
            }
            _ => Ok(()),
        }
    }

    /// Whether an image's bases make its build read the whole context.
    pub(crate) async fn read_all(&self, image: &Image) -> Result<bool, StepError> {
        let bases = to_inspect(image);
        for used in &bases {
            self.find(image, used).await?;
        }
        Ok(read_all(image, &bases, &self.external.borrow()))
    }

    /// Inspects external bases again once they are asked for: a hook may have made or removed one.
    pub(crate) fn forget_external(&self) {
        self.external.borrow_mut().clear();
    }

    /// Inspects a base, once a round however many images use it.
    async fn find(&self, image: &Image, used: &ImageUse) -> Result<Option<FoundImage>, StepError> {
        let reference = &used.reference;
        if let Some(found) = self.external.borrow().get(reference) {
            return Ok(found.clone());
        }
        let found = self.round.engine.image(reference).await;
        let found = found.map_err(|source| image_error(image, source))?;
        if found.as_ref().is_some_and(|found| found.held.is_some()) {
            self.warn_of_own_base(image, used);
        }
        self.external.borrow_mut().insert(reference.clone(), found.clone());
        Ok(found)
    }

    /// Warns of a base that one of our builds made although no component makes an image of
    /// that name: with the configuration that names the registry, one does.
    fn warn_of_own_base(&self, image: &Image, used: &ImageUse) {
        let name = Reference::parse(&used.reference).base_name();
        let mut components = self.round.workspace.components.iter();
        let makes = |component: &&Component| component.images.iter().any(|it| it.name == name);
        if let Some(component) = components.find(makes) {
            let message = format!(
                "{} was built by component '{}' and is used as it is: pass the folder of its \
                 registry's configuration with -c to keep it up to date",
                used.reference, component.name
            );
            self.round.warn(Problem::of_line(&image.dockerfile, used.line, message));
        }
    }

    /// Pulls the external images that a build needs, or those of them that the engine does not
    /// have. Builders would pull them themselves, but say less about it and wait longer.
    pub(crate) async fn pull(
        &self,
        component: &Component,
        image: &Image,
        is_missing_only: bool,
    ) -> Result<(), StepError> {
        let mut seen = BTreeSet::new();
        // What was pulled can need more.
        loop {
            let mut bases = Vec::new();
            for used in self.external(image).await? {
                let is_wanted = !is_missing_only || self.find(image, &used).await?.is_none();
                if is_wanted && seen.insert(used.reference.clone()) {
                    bases.push(used);
                }
            }
            if bases.is_empty() {
                return Ok(());
            }
            self.pull_all(component, image, &bases).await?;
        }
    }

    async fn pull_all(
        &self,
        component: &Component,
        image: &Image,
        bases: &[ImageUse],
    ) -> Result<(), StepError> {
        let credentials = self.credentials(image).await?;
        for used in bases {
            let reference = &used.reference;
            let pull = Rc::clone(self.pulls.borrow_mut().entry(reference.clone()).or_default());
            let mut is_pulled = pull.lock().await;
            if *is_pulled {
                continue;
            }
            let reference = reference.clone();
            self.round.send(Event::Pulling {
                component: component.name.clone(),
                reference: reference.clone(),
            });
            let platform = used.platform.as_deref();
            let pulled =
                self.round.engine.pull(&component.name, &reference, platform, &credentials).await;
            self.external.borrow_mut().remove(&reference);
            pulled.map_err(|source| {
                let (file, line) = (image.dockerfile.clone(), used.line);
                StepError::Base { file, line, reference, source }
            })?;
            *is_pulled = true;
        }
        Ok(())
    }

    /// The digests in registries of an image's external bases, by their references: exactly what
    /// the engine has can be had by them. Warns of those that no registry has.
    pub(crate) async fn digests(
        &self,
        image: &Image,
    ) -> Result<BTreeMap<String, String>, StepError> {
        let mut digests = BTreeMap::new();
        for used in self.external(image).await? {
            let Some(found) = self.find(image, &used).await? else { continue };
            self.images.note_contents(&found.id, found.contents.clone());
            let reference = &used.reference;
            if reference.contains('@') {
                continue;
            }
            match digest_of(reference, &found.digests) {
                Some(digest) => drop(digests.insert(reference.clone(), digest)),
                None => self.round.warn(Problem::of_line(
                    &image.dockerfile,
                    used.line,
                    format!(
                        "{reference} has no digest of a registry: only this engine's own builder \
                         finds the same image"
                    ),
                )),
            }
        }
        Ok(digests)
    }

    /// The credentials for the registries of an image's external bases.
    pub(crate) async fn credentials(&self, image: &Image) -> Result<Logins, StepError> {
        let external = self.external(image).await?;
        let domains = domains_of(external.iter().map(|used| used.reference.as_str()));
        Ok(self.round.engine.credentials(domains, self.round.registry).await)
    }

    /// Makes the names by which a Dockerfile calls our images lead to the ones that were
    /// decided upon, and inspects the external ones again. Returns how often that had to be done
    /// before the build that follows, by it and by others.
    pub(crate) async fn pin(&self, image: &Image) -> Result<Moves, StepError> {
        let failed = |source| image_error(image, source);
        let mut pinned = self.moves(image);
        for used in &image.uses {
            let found = self.round.engine.image(&used.reference).await.map_err(failed)?;
            if let Some(found) = &found {
                self.images.note_contents(&found.id, found.contents.clone());
            }
            let Some(name) = &used.local else {
                self.external.borrow_mut().insert(used.reference.clone(), found);
                continue;
            };
            let Some(id) = self.images.id(name) else { continue };
            if found.as_ref().is_some_and(|found| found.id == id) {
                continue;
            }
            let gone = || StepError::BaseGone {
                file: image.dockerfile.clone(),
                line: used.line,
                reference: used.reference.clone(),
                image: name.clone(),
            };
            *self.moves.borrow_mut().entry(name.clone()).or_default() += 1;
            pinned.0 += 1;
            let ours = self.round.engine.image(&id).await.map_err(failed)?.ok_or_else(gone)?;
            self.images.note_contents(&ours.id, ours.contents);
            if found.is_some() {
                let message = format!(
                    "{} was tagged onto another image during the build: it is tagged onto \
                     '{name}' of this workspace again. Another checkout builds on this engine",
                    used.reference
                );
                self.round.warn(Problem::of_line(&image.dockerfile, used.line, message));
            }
            if !self.images.tag_if_there(&id, &used.reference).await.map_err(failed)? {
                return Err(gone());
            }
        }
        for used in self.external(image).await? {
            if !image.uses.contains(&used) {
                let found = self.round.engine.image(&used.reference).await.map_err(failed)?;
                self.external.borrow_mut().insert(used.reference, found);
            }
        }
        Ok(pinned)
    }

    fn moves(&self, image: &Image) -> Moves {
        let moves = self.moves.borrow();
        let names: BTreeSet<&str> =
            image.uses.iter().filter_map(|used| used.local.as_deref()).collect();
        Moves(names.into_iter().filter_map(|name| moves.get(name)).sum())
    }

    /// Whether an image was made from these bases: the engine said so, or their names lead to them
    /// as they did when it was `pinned`, and its layers begin with those of the one that it is
    /// made `FROM`. Another build of this round may have put a name right meanwhile, too late for
    /// this one.
    pub(crate) async fn are_those_of(
        &self,
        image: &Image,
        bases: &Bases,
        pinned: Moves,
        made: &FoundImage,
        built: &Built,
    ) -> Result<bool, StepError> {
        for (reference, id) in bases {
            let name = image_reference::familiar(reference);
            let mut told = built.bases.iter().filter(|(told, _)| told == name).peekable();
            if told.peek().is_some() && told.all(|(_, digest)| digest == id) {
                continue;
            }
            let found = self.round.engine.image(reference).await;
            let Some(found) = found.map_err(|source| image_error(image, source))? else {
                return Ok(false);
            };
            if self.moves(image) != pinned {
                return Ok(false);
            }
            let is_bottom = image.provenance.base.as_ref() == Some(reference);
            if found.id != *id || is_bottom && !made.layers.starts_with(&found.layers) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
