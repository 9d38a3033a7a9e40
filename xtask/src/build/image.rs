//! One image of a round: what it is made from is read and digested, and it is built unless
//! the engine has an image made from just that.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Mutex;
use tracing::debug;
use xtask_core::context::build_context::Context;
use xtask_core::plan::steps::Step;
use xtask_core::staleness::engine_images::{self, Comparison};
use xtask_core::staleness::fingerprint::{
    self, EXPORTED_LABEL, Fingerprint, IngredientKind, Recipe,
};
use xtask_core::staleness::reason::Reason;
use xtask_core::workspace::components::{Component, Image};
use xtask_core::workspace::config::settings::BUILD_WORDS;

use crate::build::bake_folder::{BakeFolder, BakedImage};
use crate::build::base_images::BaseImages;
use crate::build::decide::{Decision, explain};
use crate::build::expected_image::ExpectedImage;
use crate::build::hook_cache::HookCache;
use crate::build::image_lookup::ImageLookup;
use crate::build::reading;
use crate::build::round::Round;
use crate::build::shared_image::{self, SharedImage};
use crate::build::shared_images::SharedImages;
use crate::build::step_error::{StepError, image_error, tree_error};
use crate::engine::{BuildRequest, Engine};
use crate::event::Event;
use crate::outcome::Outcome;
use crate::system::git;

/// How often an image is built before another checkout that takes its bases' names is given
/// up against.
const TRIES: usize = 3;

/// Decides about images, and does what was decided.
pub(crate) struct ImageBuilder<'a, E> {
    pub(crate) round: &'a Round<'a, E>,
    pub(crate) images: &'a ImageLookup<'a, E>,
    pub(crate) bases: &'a BaseImages<'a, E>,
    pub(crate) hook_cache: &'a HookCache<'a, E>,
    pub(crate) shared: &'a SharedImages<'a, E>,
    /// By image that was left in the registry; whoever pulls it holds the lock.
    brought: RefCell<BTreeMap<String, Rc<Mutex<()>>>>,
}

/// The labels that identify an image as one of ours, and those that it has from `xtask.toml`.
fn labels(
    image: &Image,
    expected: &ExpectedImage<'_>,
    contents: &BTreeMap<String, String>,
    root: &Path,
) -> BTreeMap<String, String> {
    let given = image.settings.labels.iter();
    let given = given.map(|(name, label)| (name.clone(), fill_in(&label.value, root)));
    let own = engine_images::labels(&expected.fingerprint, &expected.bases, contents);
    given.chain(own.into_iter().map(|(name, value)| (name.to_owned(), value))).collect()
}

/// Puts the words in that only a build knows: the commit and branch that are checked out, and the
/// time, by RFC 3339. What git does not tell is empty.
fn fill_in(label: &str, root: &Path) -> String {
    let mut text = label.to_owned();
    for word in BUILD_WORDS {
        let braced = format!("{{{word}}}");
        if text.contains(&braced) {
            let value = match word {
                "commit" => git::head(root).ok().flatten(),
                "branch" => git::branch(root).ok().flatten(),
                _ => Some(shared_image::now()),
            };
            text = text.replace(&braced, &value.unwrap_or_default());
        }
    }
    text
}

impl<'a, E: Engine> ImageBuilder<'a, E> {
    pub(crate) fn new(
        round: &'a Round<'a, E>,
        images: &'a ImageLookup<'a, E>,
        bases: &'a BaseImages<'a, E>,
        hook_cache: &'a HookCache<'a, E>,
        shared: &'a SharedImages<'a, E>,
    ) -> Self {
        Self { round, images, bases, hook_cache, shared, brought: RefCell::default() }
    }

    /// Makes one image, unless the engine has it.
    pub(crate) async fn make(&self, step: &Step, image: &Image) -> Result<Outcome, StepError> {
        let component = self.round.component(step);
        if self.round.options.pull {
            self.bases.pull(component, image, false).await?;
        }
        let context = self.context(step, image).await?;
        let expected = self.expected(component, image, &context).await?;
        let reasons = match self.reuse(step, image, &expected).await? {
            Ok(outcome) => return Ok(outcome),
            Err(reasons) => reasons,
        };
        if let Some(outcome) = self.take_shared(step, image, &expected).await? {
            return Ok(outcome);
        }
        self.round.send(Event::ImageStale {
            component: component.name.clone(),
            image: image.name.clone(),
            reasons,
        });
        // Boxed, as every task would be as large as a build.
        Box::pin(self.build_anew(step, image, &expected)).await
    }

    /// Takes an image that others built, if the registry has it. It is pulled if it was asked
    /// for, or hooks may use it; what only others are made from stays there until one of those
    /// is built.
    async fn take_shared(
        &self,
        step: &Step,
        image: &Image,
        expected: &ExpectedImage<'_>,
    ) -> Result<Option<Outcome>, StepError> {
        let component = self.round.component(step);
        let Some(shared) = self.find_shared(step, image, expected).await? else { return Ok(None) };
        if step.is_named || component.has_hooks() {
            let is_here = self.shared.fetch(component, image, &shared).await?;
            return Ok(is_here.then_some(Outcome::Pulled));
        }
        let reference = shared.reference.clone();
        self.images.leave(image, shared);
        let (component, image) = (component.name.clone(), image.name.clone());
        self.round.send(Event::ImageInRegistry { component, image, reference });
        Ok(Some(Outcome::InRegistry))
    }

    async fn find_shared(
        &self,
        step: &Step,
        image: &Image,
        expected: &ExpectedImage<'_>,
    ) -> Result<Option<Rc<SharedImage>>, StepError> {
        if self.round.forced_by(step).is_some() {
            return Ok(None);
        }
        let (fingerprint, bases) = (&expected.fingerprint, &expected.bases);
        self.shared.find(image, fingerprint, bases, || expected.manifest()).await
    }

    /// Sees to it that the engine has an image of the workspace, which may have been left in the
    /// registry: if it cannot be pulled after all, it is built.
    pub(crate) async fn bring(&self, name: &str) -> Result<(), StepError> {
        let lock = Rc::clone(self.brought.borrow_mut().entry(name.to_owned()).or_default());
        let _only = lock.lock().await;
        let Some(shared) = self.images.left(name) else { return Ok(()) };
        let is_it = |image: &&Image| image.name == name;
        for step in &self.round.plan.steps {
            let component = self.round.component(step);
            let Some(image) = component.images.iter().find(is_it) else { continue };
            if !self.shared.fetch(component, image, &shared).await? {
                let context = self.context(step, image).await?;
                let expected = self.expected(component, image, &context).await?;
                Box::pin(self.build_anew(step, image, &expected)).await?;
                self.images.arrived(name);
            }
        }
        Ok(())
    }

    /// Sees to it that the engine has everything that an image is made from.
    async fn build_anew(
        &self,
        step: &Step,
        image: &Image,
        expected: &ExpectedImage<'_>,
    ) -> Result<Outcome, StepError> {
        for name in image.uses.iter().filter_map(|used| used.local.as_deref()) {
            self.bring(name).await?;
        }
        self.bases.pull(self.round.component(step), image, true).await?;
        self.build(step, image, &expected.fingerprint).await
    }

    /// Writes what an image would be built from into a folder. Its bases are yet to be built.
    pub(crate) async fn export(
        &self,
        step: &Step,
        image: &Image,
        folder: &BakeFolder,
    ) -> Result<(), StepError> {
        self.bases.pull(self.round.component(step), image, true).await?;
        let context = self.context(step, image).await?;
        let mut expected = self.expected(self.round.component(step), image, &context).await?;
        self.images.set_fingerprint(&image.name, expected.fingerprint.clone());
        let digests = self.bases.digests(image).await?;
        let contents = self.images.contents(&expected.bases);
        for used in &image.uses {
            let base = used.local.as_deref().and_then(|name| self.images.fingerprint(name));
            if let Some(base) = base {
                expected.bases.insert(used.reference.clone(), engine_images::claim(&base));
            }
        }
        let mut labels = labels(image, &expected, &contents, &self.round.workspace.root);
        labels.insert(EXPORTED_LABEL.to_owned(), folder.name().to_owned());
        let aliases = self.round.aliases(&image.name).map(String::as_str).collect();
        let proxies = &self.round.ctx.proxies;
        let args =
            image.build_args.iter().filter(|(name, value)| proxies.get(*name) != Some(value));
        let args = args.map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let baked = BakedImage { image, context: &context, args, labels, aliases, digests };
        folder.add(&baked).map_err(StepError::File)
    }

    /// Uses the image that the engine has; if it has none, the reasons to build one.
    async fn reuse(
        &self,
        step: &Step,
        image: &Image,
        expected: &ExpectedImage<'_>,
    ) -> Result<Result<Outcome, Vec<Reason>>, StepError> {
        let component = self.round.component(step);
        loop {
            let decision = self.decide(step, image, expected).await?;
            debug!(image = image.name, fingerprint = %expected.fingerprint, ?decision, "decided");
            let outcome = match decision {
                Decision::UpToDate => Outcome::UpToDate,
                // It may have been removed since.
                Decision::Restore { id } if !self.images.restore(image, &id).await? => continue,
                Decision::Restore { .. } => Outcome::Restored,
                Decision::Build(reasons) => return Ok(Err(reasons)),
            };
            self.up_to_date(component, image, expected).await?;
            return Ok(Ok(outcome));
        }
    }

    async fn up_to_date(
        &self,
        component: &Component,
        image: &Image,
        expected: &ExpectedImage<'_>,
    ) -> Result<(), StepError> {
        self.images.record(image, &expected.fingerprint, || expected.manifest()).await?;
        let (component, image) = (component.name.clone(), image.name.clone());
        self.round.send(Event::ImageUpToDate { component, image });
        Ok(())
    }

    /// Builds an image until it is certain what it was made from: meanwhile another checkout
    /// may tag one of its bases' names onto an image of its own. If its inputs are others than when
    /// it was `decided` to build it, the engine or the registry may have the image that they make
    /// now: files were edited, or only the bases that were pulled tell what it reads.
    async fn build(
        &self,
        step: &Step,
        image: &Image,
        decided: &Fingerprint,
    ) -> Result<Outcome, StepError> {
        let (round, component) = (self.round, self.round.component(step));
        let mut not_there = None;
        for _ in 0..TRIES {
            let pinned = self.bases.pin(image).await?;
            let context = self.context(step, image).await?;
            let expected = self.expected(component, image, &context).await?;
            if expected.fingerprint != *decided {
                if let Ok(outcome) = self.reuse(step, image, &expected).await? {
                    return Ok(outcome);
                }
                if let Some(shared) = self.find_shared(step, image, &expected).await?
                    && self.shared.fetch(component, image, &shared).await?
                {
                    return Ok(Outcome::Pulled);
                }
            }
            let begun = round.records.borrow_mut().begin(&image.name, &expected.fingerprint);
            round.warn_unwritable(begun);
            let contents = self.images.contents(&expected.bases);
            let request = BuildRequest {
                root: &round.workspace.root,
                component: &component.name,
                image: &image.name,
                dockerfile: image.dockerfile_in_context(),
                context: context.clone(),
                build_args: &image.build_args,
                bases: &expected.bases,
                labels: &labels(image, &expected, &contents, &round.workspace.root),
                settings: &image.settings,
                environment: &round.ctx.variables,
                no_cache: round.options.no_cache,
                credentials: &self.bases.credentials(image).await?,
            };
            let building = round.engine.build(request, &round.ctx.events);
            let built = round.timed(component, &image.name, building).await;
            round.trees.invalidate_unless_watched();
            let built = built.map_err(|source| image_error(image, source))?;
            let made = self.images.inspect_built(image, &built.id, &expected.fingerprint).await?;
            not_there = made.is_none().then(|| built.id.clone());
            let Some(made) = made else { continue };
            if self.bases.are_those_of(image, &expected.bases, pinned, &made, &built).await? {
                let (fingerprint, manifest) = (&expected.fingerprint, expected.manifest());
                self.images.record_built(image, fingerprint, &manifest, made.id).await?;
                let (component, image) = (component.name.clone(), image.name.clone());
                round.send(Event::ImageBuilt { component, image });
                return Ok(Outcome::Built);
            }
        }
        let (dockerfile, image) = (image.dockerfile.clone(), image.name.clone());
        Err(match not_there {
            Some(id) => StepError::NotThere { dockerfile, image, id },
            None => StepError::BasesMove { dockerfile, image },
        })
    }

    /// What is done about an image, with the reasons.
    pub(crate) async fn decide(
        &self,
        step: &Step,
        image: &Image,
        expected: &ExpectedImage<'_>,
    ) -> Result<Decision, StepError> {
        if let Some(option) = self.round.forced_by(step) {
            return Ok(Decision::Build(vec![Reason::Forced { option }]));
        }
        let compared = self.images.compare(image, &expected.fingerprint, &expected.bases).await?;
        Ok(match compared {
            Comparison::UpToDate => Decision::UpToDate,
            Comparison::Tag { id } => Decision::Restore { id },
            Comparison::Stale(reason) => {
                let root = &self.round.workspace.root;
                Decision::Build(explain(
                    reason,
                    image,
                    || expected.manifest(),
                    || self.round.records.borrow().manifest(&image.name),
                    |path| root.join(path).exists(),
                ))
            }
        })
    }

    /// Whether an image would be made from the same again.
    pub(crate) async fn is_as_recorded(
        &self,
        step: &Step,
        image: &Image,
    ) -> Result<bool, StepError> {
        let context = self.context(step, image).await?;
        let expected = self.expected(self.round.component(step), image, &context).await?;
        Ok(self.images.fingerprint(&image.name) == Some(expected.fingerprint))
    }

    /// What an image would be made from, with this context.
    pub(crate) async fn expected<'c>(
        &self,
        component: &Component,
        image: &Image,
        context: &'c Context,
    ) -> Result<ExpectedImage<'c>, StepError> {
        let (bases, has_onbuild) = self.bases.ids(image).await?;
        let mut recipe = Recipe::default();
        recipe.add(IngredientKind::Image, &image.name, "");
        recipe.add(
            IngredientKind::Dockerfile,
            &image.dockerfile,
            *image.dockerfile_digest.as_bytes(),
        );
        for (name, value) in
            fingerprint::relevant_args(&image.build_args, |name| image.reads_arg(name), has_onbuild)
        {
            recipe.add(IngredientKind::Arg, name, value);
        }
        for (name, value) in fingerprint::settings(image) {
            recipe.add(IngredientKind::Setting, name, value);
        }
        for hook in component.hooks() {
            let digest = hook.digest(&self.round.workspace.root).map_err(StepError::File)?;
            recipe.add(IngredientKind::Hook, hook.to_string(), digest.as_bytes());
        }
        for name in image.uses.iter().filter_map(|used| used.local.as_deref()) {
            if let Some(base) = self.images.fingerprint(name) {
                recipe.add(IngredientKind::Base, name, base.to_string());
            }
        }
        recipe.add_context(context);
        Ok(ExpectedImage { fingerprint: recipe.fingerprint(), recipe, bases })
    }

    /// The files that the engine receives for an image.
    pub(crate) async fn context(&self, step: &Step, image: &Image) -> Result<Context, StepError> {
        let spec = self.hook_cache.context_spec(step, image);
        let trees = Arc::clone(self.round.trees);
        trees.set_reads_all(&spec, self.bases.read_all(image).await?);
        if let Some(context) = trees.cached_context(&spec) {
            return Ok(context);
        }
        let component = self.round.component(step);
        let events = &self.round.ctx.events;
        match reading::read(&component.name, events, move || trees.context(&spec)).await {
            Ok(context) => context.map_err(StepError::File),
            Err(error) => Err(tree_error(component, error)),
        }
    }
}
