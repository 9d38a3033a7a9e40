//! Images that others built and shared in a registry: asked for by their fingerprints, checked, and
//! pulled instead of being built.
//!
//! What is checked is known by its digest before anything is pulled, so that it cannot become
//! another: the label, the platform, the history, and the images that it was made from. A registry
//! that does not answer is said once, and images are built here.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bytes::Bytes;
use tokio::sync::OnceCell;
use tracing::debug;
use xtask_core::problem::Problem;
use xtask_core::staleness::engine_images::Bases;
use xtask_core::staleness::fingerprint::{Fingerprint, Manifest as Ingredients};
use xtask_core::workspace::components::{Component, Image};

use crate::build::image_lookup::ImageLookup;
use crate::build::round::Round;
use crate::build::shared_hooks::{self, HookResult};
use crate::build::shared_image::{self, Answer, Rejection, SharedImage};
use crate::build::step_error::{StepError, image_error};
use crate::engine::{Engine, EngineError, FoundImage, Logins, domains_of};
use crate::event::Event;
use crate::registry::{Client, Platform, RegistryError};

/// The images that a round may pull instead of building them.
pub(crate) struct SharedImages<'a, E> {
    round: &'a Round<'a, E>,
    images: &'a ImageLookup<'a, E>,
    source: Option<Source>,
    platform: OnceCell<String>,
    answers: RefCell<BTreeMap<(String, Fingerprint), Question>>,
    is_away_said: Cell<bool>,
    refused: RefCell<BTreeSet<String>>,
}

/// Where images are asked for.
struct Source {
    /// `HOST[:PORT]/PATH`.
    prefix: String,
    client: Client,
    logins: Logins,
}

/// What becomes known once.
type Question = Rc<OnceCell<Option<Rc<Answer>>>>;

impl<'a, E: Engine> SharedImages<'a, E> {
    /// Asks below `prefix`; for nothing, if there is none.
    pub(crate) async fn new(
        round: &'a Round<'a, E>,
        images: &'a ImageLookup<'a, E>,
        prefix: Option<&str>,
    ) -> Self {
        let source = match prefix {
            Some(prefix) => {
                let domains = domains_of([format!("{prefix}/").as_str()]);
                let logins = round.engine.credentials(domains, round.registry).await;
                let client = Client::new(prefix, &logins);
                Some(Source { prefix: prefix.to_owned(), client, logins })
            }
            None => None,
        };
        Self {
            round,
            images,
            source,
            platform: OnceCell::new(),
            answers: RefCell::default(),
            is_away_said: Cell::new(false),
            refused: RefCell::default(),
        }
    }

    /// Whether there is a registry to ask.
    pub(crate) fn are_asked_for(&self) -> bool {
        self.source.is_some()
    }

    /// Asks for an image, once a round.
    pub(crate) async fn ask(&self, image: &Image, fingerprint: &Fingerprint) {
        drop(self.answer(image, fingerprint).await);
    }

    /// The image that the registry has under a fingerprint, if it proves to be that. `manifest`
    /// gives what is behind the fingerprint.
    pub(crate) async fn find(
        &self,
        image: &Image,
        fingerprint: &Fingerprint,
        bases: &Bases,
        manifest: impl FnOnce() -> Ingredients,
    ) -> Result<Option<Rc<SharedImage>>, StepError> {
        let Some(source) = &self.source else { return Ok(None) };
        let answer = self.answer(image, fingerprint).await;
        let answer = answer.map_err(|error| image_error(image, error))?;
        let Some(answer) = answer else { return Ok(None) };
        let usable = self.is_usable(image, bases, &answer).await;
        if !usable.map_err(|error| image_error(image, error))? {
            return Ok(None);
        }
        let (prefix, name) = (&source.prefix, shared_image::repository(&image.name));
        Ok(Some(Rc::new(SharedImage {
            fingerprint: fingerprint.clone(),
            manifest: manifest(),
            reference: format!("{prefix}/{name}@{}", answer.digest),
            config: answer.config.clone(),
        })))
    }

    /// What a component's hooks came to elsewhere under a key, with the archive of `generated/`.
    pub(crate) async fn find_hook_result(
        &self,
        image: &Image,
        key: &Fingerprint,
    ) -> Option<(HookResult, Bytes)> {
        let source = self.source.as_ref()?;
        self.request_hook_result(source, image, key).await.unwrap_or_else(|rejection| {
            self.say(source, image, &rejection);
            None
        })
    }

    async fn request_hook_result(
        &self,
        source: &Source,
        image: &Image,
        key: &Fingerprint,
    ) -> Result<Option<(HookResult, Bytes)>, Rejection> {
        let (client, name) = (&source.client, shared_image::repository(&image.name));
        debug!(image = image.name, %key, "ask the registry what its component's hooks come to");
        let Some(stored) = client.manifest(name, &shared_hooks::tag(key)).await? else {
            return Ok(None);
        };
        let foreign = Rejection::Hooks("was not written by --share");
        let Some((config, layer)) = shared_hooks::read_artifact(&stored.bytes) else {
            return Err(foreign);
        };
        let gone = Rejection::Hooks("leads to something that is not there");
        let Some(config) = client.blob(name, &config.digest).await? else { return Err(gone) };
        let Some(layer) = client.blob(name, &layer.digest).await? else { return Err(gone) };
        let result = HookResult::decode(&config).ok_or(foreign)?;
        Ok(Some((result, layer)))
    }

    async fn answer(
        &self,
        image: &Image,
        fingerprint: &Fingerprint,
    ) -> Result<Option<Rc<Answer>>, EngineError> {
        let Some(source) = &self.source else { return Ok(None) };
        let Some(platform) = self.platform(image).await? else { return Ok(None) };
        let key = (image.name.clone(), fingerprint.clone());
        let answer = Rc::clone(self.answers.borrow_mut().entry(key).or_default());
        let ask = async || {
            debug!(image = image.name, %fingerprint, "ask the registry");
            let client = &source.client;
            match shared_image::look_up(client, &image.name, fingerprint, &platform).await {
                Ok(answer) => answer.map(Rc::new),
                Err(rejection) => {
                    self.say(source, image, &rejection);
                    None
                }
            }
        };
        Ok(answer.get_or_init(ask).await.clone())
    }

    /// Whether an image was made by its Dockerfile, as far as that can be told, and from the bases
    /// that a build would take.
    async fn is_usable(
        &self,
        image: &Image,
        bases: &Bases,
        answer: &Answer,
    ) -> Result<bool, EngineError> {
        let (Some(source), Some(held)) = (&self.source, &answer.config.found.held) else {
            return Ok(false);
        };
        if !self.images.is_made_from(image, held, bases).await? {
            debug!(image = image.name, "the registry has one that was made from other bases");
            return Ok(false);
        }
        // The builders write labels of `xtask.toml` differently.
        let is_own = !image.settings.labels.is_empty()
            || self
                .images
                .is_made_by_dockerfile(image, &answer.config.facts())
                .await?
                .unwrap_or(true);
        if !is_own {
            let rejection = Rejection::Wrong("leads to an image that its Dockerfile does not make");
            self.say(source, image, &rejection);
        }
        Ok(is_own)
    }

    /// Pulls an image and gives it its name; false if that did not succeed, which is said.
    pub(crate) async fn fetch(
        &self,
        component: &Component,
        image: &Image,
        shared: &SharedImage,
    ) -> Result<bool, StepError> {
        let Some(source) = &self.source else { return Ok(false) };
        let (engine, reference) = (self.round.engine, &shared.reference);
        let failed = |error| image_error(image, error);
        self.round.send(Event::Pulling {
            component: component.name.clone(),
            reference: reference.clone(),
        });
        let platform = image.settings.platforms.first().map(|platform| platform.value.as_str());
        match engine.pull(&component.name, reference, platform, &source.logins).await {
            Ok(()) => {}
            Err(EngineError::Interrupted) => return Err(failed(EngineError::Interrupted)),
            Err(error) => {
                let message = format!("{reference} cannot be pulled: {error}: it is built here");
                self.round.warn(Problem::of_request(message));
                return Ok(false);
            }
        }
        let pulled = match engine.image(reference).await {
            // The containerd image store does not pull a layer that it has in another compression,
            // and cannot use an image without it.
            Err(EngineError::InvalidResponse(_)) => None,
            pulled => pulled.map_err(failed)?,
        };
        let is_same = |pulled: &FoundImage| {
            pulled.contents == shared.config.found.contents
                && pulled.held.as_ref().is_some_and(|it| it.has_fingerprint(&shared.fingerprint))
        };
        let named = match pulled.filter(is_same) {
            Some(pulled) => {
                self.images.inspect_built(image, &pulled.id, &shared.fingerprint).await?
            }
            None => None,
        };
        let Some(named) = named else {
            let message =
                format!("the engine cannot use {reference}, which it pulled: it is built here");
            self.round.warn(Problem::of_request(message));
            drop(engine.untag(reference).await);
            return Ok(false);
        };
        self.images.arrived(&image.name);
        self.images.note_contents(&named.id, named.contents);
        // Only a name is lost that nobody looks for.
        drop(engine.untag(reference).await);
        let (fingerprint, manifest) = (&shared.fingerprint, &shared.manifest);
        self.images.record_built(image, fingerprint, manifest, named.id).await?;
        self.round.send(Event::ImagePulled {
            component: component.name.clone(),
            image: image.name.clone(),
            reference: reference.clone(),
        });
        Ok(true)
    }

    /// The platform that an image is wanted for; none if it cannot be asked for.
    async fn platform(&self, image: &Image) -> Result<Option<Platform>, EngineError> {
        let Ok(set) = shared_image::platform(image) else { return Ok(None) };
        let own = self.platform.get_or_try_init(|| self.round.engine.platform()).await?;
        Ok(Platform::parse(set.as_ref().unwrap_or(own)))
    }

    /// Says why an image of the registry is not used: what holds for all of them, once.
    fn say(&self, source: &Source, image: &Image, rejection: &Rejection) {
        let prefix = &source.prefix;
        let message = match rejection {
            Rejection::Registry(RegistryError::Away(why)) => {
                if self.is_away_said.replace(true) {
                    return;
                }
                format!("{prefix} is not asked for images: {why}: they are built here")
            }
            Rejection::Registry(RegistryError::Refused(why)) => {
                if !self.refused.borrow_mut().insert(why.clone()) {
                    return;
                }
                format!("{prefix} gives no images: {why}: they are built here")
            }
            Rejection::Registry(RegistryError::Invalid(why)) => {
                format!(
                    "{prefix}/{}: {why}: it is built here",
                    shared_image::repository(&image.name)
                )
            }
            Rejection::Wrong(why) => {
                let name = shared_image::repository(&image.name);
                format!("{prefix}/{name}: the tag of its fingerprint {why}: it is built here")
            }
            Rejection::Hooks(why) => {
                let name = shared_image::repository(&image.name);
                format!("{prefix}/{name}: the tag of its hooks' key {why}: hooks run here")
            }
        };
        self.round.warn(Problem::of_request(message));
    }
}
