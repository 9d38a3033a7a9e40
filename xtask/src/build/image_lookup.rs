//! The workspace's images in the engine: which exist, which of them we built, and under
//! which names.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use futures_util::future::join_all;
use tokio::sync::OnceCell;
use tracing::debug;
use xtask_core::dockerfile::provenance::ImageFacts;
use xtask_core::image_reference;
use xtask_core::staleness::engine_images::{
    Bases, Comparison, EngineImages, Origin, TrackedImage, Unknown,
};
use xtask_core::staleness::fingerprint::{Fingerprint, Manifest};
use xtask_core::workspace::components::Image;

use crate::build::round::Round;
use crate::build::shared_image::{BuiltImage, SharedImage};
use crate::build::step_error::{StepError, image_error};
use crate::engine::{Engine, EngineError, FoundImage, Kept};
use crate::system::slow_lists;

/// What a round knows of the workspace's images.
pub(crate) struct ImageLookup<'a, E> {
    round: &'a Round<'a, E>,
    known: RefCell<Known>,
    /// Set once the engine has listed all images, if it had not before the round.
    listed: OnceCell<()>,
    /// Whether it was noted before the round that the engine takes long to list images: then one
    /// is found only by a name that is known.
    lists_slowly: bool,
    is_slowness_noted: Cell<bool>,
}

struct Known {
    engine_images: EngineImages,
    /// By image: the fingerprint of what is in the engine now, or will be.
    fingerprints: BTreeMap<String, Fingerprint>,
    /// By image and id, of images that are not on record: whether they proved to be ours.
    proved: BTreeMap<(String, String), bool>,
    /// The fingerprints whose images were looked for beyond what is on record.
    looked_for: BTreeSet<Fingerprint>,
    /// By image, the ids on record that the engine does not have.
    gone: BTreeSet<(String, String)>,
    /// By id, what images hold, as far as that mattered.
    contents: BTreeMap<String, String>,
    /// By image, what is in the registry and was not pulled, as nothing needed it so far.
    left: BTreeMap<String, Rc<SharedImage>>,
}

impl<'a, E: Engine> ImageLookup<'a, E> {
    pub(crate) fn new(round: &'a Round<'a, E>, engine_images: EngineImages) -> Self {
        let known = RefCell::new(Known {
            engine_images,
            fingerprints: BTreeMap::new(),
            proved: BTreeMap::new(),
            looked_for: BTreeSet::new(),
            gone: BTreeSet::new(),
            contents: BTreeMap::new(),
            left: BTreeMap::new(),
        });
        let lists_slowly = slow_lists::is_noted(&round.workspace.root, &round.engine.identity());
        let is_slowness_noted = Cell::new(lists_slowly);
        Self { round, known, listed: OnceCell::new(), lists_slowly, is_slowness_noted }
    }

    pub(crate) fn into_engine_images(self) -> EngineImages {
        self.known.into_inner().engine_images
    }

    /// The id of the image that has a name. One that was left in the registry has none: what the
    /// engine has under its name is another.
    pub(crate) fn id(&self, name: &str) -> Option<String> {
        let known = self.known.borrow();
        let id = known.engine_images.id(name).filter(|_| !known.left.contains_key(name));
        id.map(str::to_owned)
    }

    /// Takes an image for what the registry has, without pulling it.
    pub(crate) fn leave(&self, image: &Image, shared: Rc<SharedImage>) {
        self.set_fingerprint(&image.name, shared.fingerprint.clone());
        let found = &shared.config.found;
        self.note_contents(&found.id, found.contents.clone());
        self.known.borrow_mut().left.insert(image.name.clone(), shared);
    }

    /// An image that is in the engine, and what it was made from.
    pub(crate) fn result(&self, image: &Image) -> Option<BuiltImage> {
        let (id, fingerprint) = (self.id(&image.name)?, self.fingerprint(&image.name)?);
        Some(BuiltImage::new(image, id, fingerprint))
    }

    /// What was left in the registry of an image's name.
    pub(crate) fn left(&self, name: &str) -> Option<Rc<SharedImage>> {
        self.known.borrow().left.get(name).cloned()
    }

    /// Notes that the engine has an image that was left in the registry.
    pub(crate) fn arrived(&self, name: &str) {
        self.known.borrow_mut().left.remove(name);
    }

    /// Whether an image that need not be in the engine was made from these bases, and from those
    /// that were left in the registry.
    pub(crate) async fn is_made_from(
        &self,
        image: &Image,
        made: &TrackedImage,
        bases: &Bases,
    ) -> Result<bool, EngineError> {
        let mut bases = bases.clone();
        for used in &image.uses {
            if let Some(left) = used.local.as_deref().and_then(|name| self.left(name)) {
                bases.insert(used.reference.clone(), left.config.found.id.clone());
            }
        }
        loop {
            let contents_of = |id: &str| self.known.borrow().contents.get(id).cloned();
            match made.is_made_from(&bases, contents_of) {
                Ok(is_made_from) => return Ok(is_made_from),
                // Nothing that is not in the engine bears it out.
                Err(Unknown::Bases(_)) => return Ok(false),
                Err(Unknown::Origin(id) | Unknown::Contents(id)) => self.read_contents(&id).await?,
            }
        }
    }

    /// Asks the engine what an image holds.
    async fn read_contents(&self, id: &str) -> Result<(), EngineError> {
        let found = self.round.engine.image(id).await?;
        self.note_contents(id, found.map(|found| found.contents).unwrap_or_default());
        Ok(())
    }

    pub(crate) fn fingerprint(&self, name: &str) -> Option<Fingerprint> {
        self.known.borrow().fingerprints.get(name).cloned()
    }

    /// Notes the fingerprint that an image has, or will have once it is built.
    pub(crate) fn set_fingerprint(&self, name: &str, fingerprint: Fingerprint) {
        self.known.borrow_mut().fingerprints.insert(name.to_owned(), fingerprint);
    }

    /// What the image that has a name was made from, if that is on record.
    pub(crate) fn manifest(&self, name: &str) -> Option<Manifest> {
        let known = self.known.borrow();
        let held = known.engine_images.get(name)?;
        let manifest = self.round.records.borrow().manifest(name);
        manifest.filter(|manifest| held.has_fingerprint(&manifest.fingerprint))
    }

    /// Whether an image is up to date, is there under another name, or must be built.
    ///
    /// Before an image counts as stale, the one on record is inspected, and then all images
    /// are listed: an image without a name that others are made from is in no list.
    pub(crate) async fn compare(
        &self,
        image: &Image,
        wanted: &Fingerprint,
        bases: &Bases,
    ) -> Result<Comparison, StepError> {
        let decided = self.try_compare(image, wanted, bases).await;
        decided.map_err(|source| image_error(image, source))
    }

    async fn try_compare(
        &self,
        image: &Image,
        wanted: &Fingerprint,
        bases: &Bases,
    ) -> Result<Comparison, EngineError> {
        loop {
            match self.compare_known(image, wanted, bases) {
                Err(Unknown::Contents(id)) => self.read_contents(&id).await?,
                Err(Unknown::Bases(id)) => self.check_claims(image, &id).await?,
                Err(Unknown::Origin(id)) => {
                    let is_ours = self.proves_itself(image, &id).await?;
                    self.known.borrow_mut().proved.insert((image.name.clone(), id), is_ours);
                }
                Ok(Comparison::Stale(_)) if self.finds_recorded(image, wanted).await? => {}
                Ok(Comparison::Stale(_)) if self.finds_others(wanted).await? => {}
                Ok(decision) => return Ok(decision),
            }
        }
    }

    fn compare_known(
        &self,
        image: &Image,
        wanted: &Fingerprint,
        bases: &Bases,
    ) -> Result<Comparison, Unknown> {
        let (known, records) = (self.known.borrow(), self.round.records.borrow());
        let origin = |held: &TrackedImage| {
            let recorded = records.origin(&image.name, wanted, &held.id);
            let proved = known.proved.get(&(image.name.clone(), held.id.clone()));
            // What is on record may be on another engine, or removed: it says nothing of this one.
            let is_gone = || {
                let id = records.id(&image.name, wanted);
                id.is_some_and(|id| known.gone.contains(&(image.name.clone(), id.to_owned())))
            };
            match (recorded, proved) {
                // Another tool may have built it again.
                (Origin::Foreign, _) if !is_gone() && held.export.is_none() => Origin::Foreign,
                (Origin::Ours, _) | (_, Some(true)) => Origin::Ours,
                (_, Some(false)) => Origin::Foreign,
                (_, None) => Origin::Unknown,
            }
        };
        let contents_of = |id: &str| known.contents.get(id).cloned();
        known.engine_images.compare(&image.name, wanted, bases, origin, contents_of)
    }

    /// Notes what an image holds.
    pub(crate) fn note_contents(&self, id: &str, contents: String) {
        self.known.borrow_mut().contents.insert(id.to_owned(), contents);
    }

    /// What images hold, by their references, as far as that is known.
    pub(crate) fn contents(&self, bases: &Bases) -> BTreeMap<String, String> {
        let known = self.known.borrow();
        let held = bases.iter().filter_map(|(reference, id)| {
            Some((reference.clone(), known.contents.get(id)?.clone()))
        });
        held.collect()
    }

    /// Whether something is found out about the image on record: it was not known to be in the
    /// engine, and is, or is not.
    async fn finds_recorded(
        &self,
        image: &Image,
        wanted: &Fingerprint,
    ) -> Result<bool, EngineError> {
        let id = self.round.records.borrow().id(&image.name, wanted).map(str::to_owned);
        let Some(id) = id.filter(|id| !self.known.borrow().engine_images.contains(id)) else {
            return Ok(false);
        };
        if self.known.borrow().gone.contains(&(image.name.clone(), id.clone())) {
            return Ok(false);
        }
        let held = self.round.engine.image(&id).await?.and_then(|found| found.held);
        let mut known = self.known.borrow_mut();
        match held.filter(|held| held.id == id) {
            Some(held) => known.engine_images.add([], &held),
            None => drop(known.gone.insert((image.name.clone(), id))),
        }
        Ok(true)
    }

    /// Whether something is found out about images that are not on record: by the name that keeps
    /// the one with this fingerprint, or by a list of all.
    async fn finds_others(&self, wanted: &Fingerprint) -> Result<bool, EngineError> {
        let is_new = self.known.borrow_mut().looked_for.insert(wanted.clone());
        if self.known.borrow().engine_images.is_complete() || !is_new {
            return Ok(false);
        }
        match self.round.engine.kept(&wanted.to_string()).await? {
            Kept::Named(held) if self.lists_slowly || held.is_some() => {
                let mut known = self.known.borrow_mut();
                let held = held.filter(|held| !known.engine_images.contains(&held.id));
                let is_found = held.is_some();
                if let Some(held) = held {
                    known.engine_images.add([], &held);
                }
                Ok(is_found)
            }
            // One that was pulled has a name of its registry.
            Kept::Named(_) | Kept::Unnamed => {
                let list = async || {
                    let all = self.round.engine.engine_images().await?;
                    self.known.borrow_mut().engine_images.merge(all);
                    Ok::<_, EngineError>(())
                };
                self.listed.get_or_try_init(list).await?;
                Ok(true)
            }
        }
    }

    /// Finds out whether an image was made from those images that now have the names of its
    /// bases. Its label has their fingerprints: they have to be the same, and built from the same
    /// export. The one at the bottom has to be in its history; the others must not be younger.
    async fn check_claims(&self, image: &Image, id: &str) -> Result<(), EngineError> {
        let engine = self.round.engine;
        let made = engine.image(id).await?;
        let held = made.as_ref().and_then(|made| Some((made.created, made.held.as_ref()?)));
        let mut bases = Bases::new();
        for (reference, fingerprint) in held.iter().flat_map(|(_, held)| held.claims()) {
            let used = image.uses.iter().find(|used| used.reference == reference);
            let base = match used.and_then(|used| self.id(used.local.as_deref()?)) {
                Some(id) => engine.image(&id).await?,
                None => None,
            };
            let export = held.and_then(|(_, held)| held.export.as_ref());
            let is_claimed = |base: &FoundImage| {
                let base = base.held.as_ref();
                base.is_some_and(|it| {
                    it.fingerprint() == fingerprint && it.export.as_ref() == export
                })
            };
            let base = base.filter(is_claimed);
            let is_it = match &base {
                Some(_) if image.provenance.base.as_deref() == Some(reference) => {
                    self.proves_itself(image, id).await?
                }
                Some(base) => {
                    let created = held.and_then(|(created, _)| created);
                    created.zip(base.created).is_some_and(|(it, base)| base <= it)
                }
                None => false,
            };
            let base = base.filter(|_| is_it).map(|base| base.id);
            bases.insert(reference.to_owned(), base.unwrap_or_default());
        }
        self.known.borrow_mut().engine_images.set_bases(id, &bases);
        Ok(())
    }

    /// Whether an image that is not on record is what its Dockerfile makes.
    async fn proves_itself(&self, image: &Image, id: &str) -> Result<bool, EngineError> {
        let engine = self.round.engine;
        let Some(made) = engine.image(id).await? else { return Ok(false) };
        let Some(made) = self.facts(made).await? else { return Ok(false) };
        Ok(self.is_made_by_dockerfile(image, &made).await?.unwrap_or(false))
    }

    /// Whether an image's Dockerfile makes one with these facts; none if what it is made `FROM` is
    /// unknown.
    pub(crate) async fn is_made_by_dockerfile(
        &self,
        image: &Image,
        made: &ImageFacts,
    ) -> Result<Option<bool>, EngineError> {
        let Some(mut base) = self.bottom(image).await? else { return Ok(None) };
        match image.settings.platforms.as_slice() {
            [] => {}
            [one] => base.platform = one.value.splitn(3, '/').take(2).collect::<Vec<_>>().join("/"),
            // The engine tells one of them.
            _ => base.platform.clear(),
        }
        Ok(Some(image.provenance.matches(made, &base)))
    }

    /// What is known of the image that another is made `FROM`; none if neither the engine nor the
    /// registry has it, or if its `ONBUILD` instructions hide what comes from the Dockerfile.
    async fn bottom(&self, image: &Image) -> Result<Option<ImageFacts>, EngineError> {
        let engine = self.round.engine;
        let Some(base) = &image.provenance.base else {
            let platform = engine.platform().await?;
            return Ok(Some(ImageFacts { platform, ..ImageFacts::default() }));
        };
        let used = image.uses.iter().find(|used| used.reference == *base);
        let own = used.and_then(|used| used.local.as_deref());
        if let Some(left) = own.and_then(|name| self.left(name)) {
            return Ok((!left.config.found.has_onbuild).then(|| left.config.facts()));
        }
        let own = own.and_then(|name| self.id(name));
        let found = engine.image(own.as_ref().unwrap_or(base)).await?;
        match found.filter(|base| !base.has_onbuild) {
            Some(found) => self.facts(found).await,
            None => Ok(None),
        }
    }

    /// None if the engine does not tell the image's history as Docker does: it proves nothing.
    async fn facts(&self, found: FoundImage) -> Result<Option<ImageFacts>, EngineError> {
        let history = match self.round.engine.history(&found.id).await {
            Err(
                EngineError::Refused(_)
                | EngineError::Lost(_)
                | EngineError::InvalidResponse(_)
                | EngineError::Timeout,
            ) => return Ok(None),
            history => history?,
        };
        let FoundImage { layers, labels, has_onbuild, platform, .. } = found;
        Ok(Some(ImageFacts { history, layers, labels, has_onbuild, platform }))
    }

    /// Tags an image with its name again; false if the engine no longer has it.
    pub(crate) async fn restore(&self, image: &Image, id: &str) -> Result<bool, StepError> {
        let failed = |source| image_error(image, source);
        if !self.tag_if_there(id, &image.name).await.map_err(failed)? {
            self.known.borrow_mut().engine_images.remove(id);
            return Ok(false);
        }
        self.expect_restored(image, id);
        Ok(true)
    }

    /// Asks the engine for an image by its name again: a hook may have made another one, or removed
    /// it.
    pub(crate) async fn refresh(&self, image: &Image) -> Result<(), StepError> {
        let found = self.round.engine.image(&image.name).await;
        let found = found.map_err(|source| image_error(image, source))?;
        let held = found.and_then(|found| found.held);
        self.known.borrow_mut().engine_images.set_latest(&image.name, held);
        Ok(())
    }

    /// Takes an image for one that the engine no longer has.
    pub(crate) fn forget(&self, name: &str) {
        if let Some(id) = self.id(name) {
            self.known.borrow_mut().engine_images.remove(&id);
        }
    }

    /// Takes an image for one that has its name again.
    pub(crate) fn expect_restored(&self, image: &Image, id: &str) {
        self.known.borrow_mut().engine_images.retag(id, &image.name);
    }

    /// Inspects an image that was just built, and sees to it that it has its name: another
    /// checkout may have taken that since. None if the image is gone with its name, as in the
    /// containerd store, or the engine has another one in its place.
    pub(crate) async fn inspect_built(
        &self,
        image: &Image,
        id: &str,
        fingerprint: &Fingerprint,
    ) -> Result<Option<FoundImage>, StepError> {
        let (engine, failed) = (self.round.engine, |source| image_error(image, source));
        let is_it = |found: &FoundImage| {
            found.held.as_ref().is_some_and(|held| held.has_fingerprint(fingerprint))
        };
        let named = engine.image(&image.name).await.map_err(failed)?;
        let named_id = named.as_ref().map(|named| named.id.clone());
        // Inspecting is slow in the containerd store: once is enough if it has its name. An engine
        // may tell another ID of it than the one that it is inspected by.
        let found = if named_id.as_deref() == Some(id) {
            named
        } else {
            engine.image(id).await.map_err(failed)?.filter(is_it).or(named)
        };
        let Some(found) = found.filter(is_it) else { return Ok(None) };
        if named_id.as_ref() != Some(&found.id)
            && !self.tag_if_there(&found.id, &image.name).await.map_err(failed)?
        {
            return Ok(None);
        }
        self.known.borrow_mut().engine_images.set_latest(&image.name, found.held.clone());
        Ok(Some(found))
    }

    /// Records an image that is in the engine, and tags it with its other names: an engine
    /// would look for those at a registry.
    pub(crate) async fn record(
        &self,
        image: &Image,
        fingerprint: &Fingerprint,
        manifest: impl FnOnce() -> Manifest,
    ) -> Result<(), StepError> {
        self.set_fingerprint(&image.name, fingerprint.clone());
        if let Some(id) = self.id(&image.name) {
            let recorded =
                self.round.records.borrow_mut().set(&image.name, fingerprint, id, manifest);
            self.round.warn_unwritable(recorded);
        }
        self.tag_aliases(image).await
    }

    /// Records an image that was just built, at once.
    pub(crate) async fn record_built(
        &self,
        image: &Image,
        fingerprint: &Fingerprint,
        manifest: &Manifest,
        id: String,
    ) -> Result<(), StepError> {
        self.set_fingerprint(&image.name, fingerprint.clone());
        let kept = id.clone();
        let recorded =
            self.round.records.borrow_mut().built(&image.name, fingerprint, id, manifest);
        self.round.warn_unwritable(recorded);
        if let Err(error) = self.keep(&kept, fingerprint).await {
            debug!(image = image.name, %error, "not kept: it may have to be built again");
        }
        self.tag_aliases(image).await
    }

    /// Keeps an image for as long as it is on record, in an engine that would remove it with its
    /// name.
    async fn keep(&self, id: &str, fingerprint: &Fingerprint) -> Result<(), EngineError> {
        let takes_name = self.round.engine.keep(id, &fingerprint.to_string()).await?;
        if takes_name && !self.is_slowness_noted.replace(true) {
            let root = &self.round.workspace.root;
            self.round.warn_unwritable(slow_lists::note(root, &self.round.engine.identity()));
        }
        Ok(())
    }

    /// Lets go of the earlier images that are no longer on record. An engine collects garbage
    /// before it answers, once for all that are let go of at the same time.
    pub(crate) async fn release_forgotten(&self) {
        let forgotten = self.round.records.borrow_mut().take_forgotten();
        let releases = forgotten.iter().map(|fingerprint| self.round.engine.release(fingerprint));
        for error in join_all(releases).await.into_iter().filter_map(Result::err) {
            debug!(%error, "an earlier image is kept");
        }
    }

    /// Gives an image a name; false if the engine no longer has the image.
    pub(crate) async fn tag_if_there(&self, id: &str, name: &str) -> Result<bool, EngineError> {
        let tagged = self.tag(id, name).await;
        if tagged.is_err() && self.round.engine.image(id).await?.is_none() {
            return Ok(false);
        }
        tagged.map(|()| true)
    }

    async fn tag(&self, image: &str, reference: &str) -> Result<(), EngineError> {
        let (repository, tag) = image_reference::repository_and_tag(reference);
        self.round.engine.tag(image, repository, tag).await
    }

    async fn tag_aliases(&self, image: &Image) -> Result<(), StepError> {
        for alias in self.round.aliases(&image.name) {
            if self.id(alias) != self.id(&image.name) {
                self.tag(&image.name, alias).await.map_err(|source| image_error(image, source))?;
            }
        }
        Ok(())
    }
}
