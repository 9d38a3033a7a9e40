//! One run of a plan, from its first step to the clean-up.
//!
//! The steps of one component: its dependencies are put under `dependency/`, its
//! `build-pre.sh` runs, its images are built, its `build-post.sh` runs. Only
//! hooks need the dependencies on disk; for a component without hooks they are
//! streamed into the context and nothing is copied. However a round ends, the
//! temporary folders of every component are gone afterwards.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use super::CommandError;
use super::build::BuildOptions;
use crate::core::config::RegistryConfig;
use crate::core::context;
use crate::core::dockerfile::ImageUse;
use crate::core::ignore::Ignore;
use crate::core::plan::{Plan, Step};
use crate::core::problem::Problem;
use crate::core::reference::Reference;
use crate::core::workspace::{Component, Image, Workspace};
use crate::effects::engine::{BuildRequest, Engine, EngineError, domains_of};
use crate::effects::hooks::{self, HookError};
use crate::effects::interrupt::Interrupt;
use crate::effects::temporary;
use crate::event::{Event, Events, Outcome, Summary};

/// Why a component was not built.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A hook failed.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// A file of the component is wrong.
    #[error("{0}")]
    File(Problem),
    /// Files of a component or of what it needs cannot be read or copied.
    #[error("component '{component}': {source}")]
    Tree {
        /// The component.
        component: String,
        /// Which file, and why.
        source: io::Error,
    },
    /// A base image is nowhere to be had.
    #[error(
        "{file}:{line}: base image '{reference}' is not in the engine and cannot be pulled: check its name, or make it first ({source})"
    )]
    Base {
        /// The Dockerfile.
        file: String,
        /// The line that names the base.
        line: usize,
        /// The base.
        reference: String,
        /// What the registry or the engine said.
        source: EngineError,
    },
    /// The engine did not make the image.
    #[error("{dockerfile}: image '{image}' failed to build: {source}")]
    Image {
        /// The Dockerfile.
        dockerfile: String,
        /// The image.
        image: String,
        /// What the engine said.
        source: EngineError,
    },
    /// The user stopped it.
    #[error("interrupted")]
    Cancelled,
}

/// All that a run of a plan needs.
pub(super) struct Round<'a> {
    pub(super) workspace: &'a Workspace,
    pub(super) plan: &'a Plan,
    pub(super) engine: &'a Engine,
    pub(super) registry: Option<&'a RegistryConfig>,
    pub(super) options: &'a BuildOptions,
    pub(super) events: &'a Events,
    pub(super) interrupt: &'a Interrupt,
}

impl Round<'_> {
    /// Runs every step, up to the first that fails, and cleans up.
    pub(super) async fn run(&self) -> Result<(), CommandError> {
        let started = Instant::now();
        self.events.send(Event::RoundStarted {
            components: self
                .plan
                .steps
                .iter()
                .map(|step| self.component(step).name.clone())
                .collect(),
        });
        let (built, ended) = self.steps().await;
        let cleaned = temporary::clean(self.workspace).map_err(CommandError::Unclean);
        let steps = &self.plan.steps;
        let failed =
            usize::from(matches!(&ended, Err(error) if !matches!(error, StepError::Cancelled)));
        self.events.send(Event::RoundFinished(Summary {
            built,
            images: steps[..built].iter().map(|step| step.images.len()).sum(),
            failed,
            not_tried: steps.len() - built - failed,
            duration: started.elapsed(),
        }));
        match ended {
            Err(StepError::Cancelled) => cleaned.and(Err(CommandError::Interrupted)),
            Err(error) => Err(error.into()),
            Ok(()) => cleaned,
        }
    }

    /// How many steps succeeded, and why not all of them.
    async fn steps(&self) -> (usize, Result<(), StepError>) {
        let images = Images { aliases: self.aliases(), pulled: Mutex::default() };
        for (built, step) in self.plan.steps.iter().enumerate() {
            let component = self.component(step);
            let started = Instant::now();
            self.events.send(Event::StepStarted { component: component.name.clone() });
            let ended = self.step(step, component, &images).await;
            self.events.send(Event::StepFinished {
                component: component.name.clone(),
                outcome: match &ended {
                    Ok(()) => Outcome::Built,
                    Err(StepError::Cancelled) => Outcome::Cancelled,
                    Err(_) => Outcome::Failed,
                },
                duration: started.elapsed(),
            });
            if ended.is_err() {
                return (built, ended);
            }
        }
        (self.plan.steps.len(), Ok(()))
    }

    async fn step(
        &self,
        step: &Step,
        component: &Component,
        images: &Images,
    ) -> Result<(), StepError> {
        if component.has_hooks() {
            self.copy_dependencies(step, component).await?;
        }
        self.hook(component, component.pre_hook.as_deref()).await?;
        for image in step.images.iter().map(|place| &component.images[*place]) {
            tokio::select! {
                built = self.image(step, component, image, images) => built?,
                () = self.interrupt.wait() => return Err(StepError::Cancelled),
            }
        }
        self.hook(component, component.post_hook.as_deref()).await
    }

    async fn copy_dependencies(&self, step: &Step, component: &Component) -> Result<(), StepError> {
        let at = self.workspace.root.join(component.dir()).join("dependency");
        let copies = self.dependency_folders(step);
        let copying = tokio::task::spawn_blocking(move || {
            copies
                .iter()
                .try_for_each(|(name, from)| temporary::copy_dependency(from, &at.join(name)))
        });
        let copied = copying.await.map_err(io::Error::other).flatten();
        copied.map_err(|source| tree_error(component, source))
    }

    async fn hook(&self, component: &Component, hook: Option<&str>) -> Result<(), StepError> {
        if let Some(hook) = hook {
            let root = &self.workspace.root;
            let cancelled = self.interrupt.wait();
            let ended = hooks::run(root, hook, &component.name, self.events, cancelled).await;
            if !self.interrupt.has_come() {
                ended?;
            }
        }
        if self.interrupt.has_come() {
            return Err(StepError::Cancelled);
        }
        Ok(())
    }

    async fn image(
        &self,
        step: &Step,
        component: &Component,
        image: &Image,
        images: &Images,
    ) -> Result<(), StepError> {
        let external: Vec<&ImageUse> =
            image.uses.iter().filter(|used| self.is_external(used)).collect();
        let domains = domains_of(external.iter().map(|used| used.reference.as_str()));
        let credentials = self.engine.credentials(domains, self.registry).await;
        for used in external.into_iter().filter(|used| used.reached) {
            if images.needs_look(&used.reference) {
                self.provide_base(component, image, used, &credentials).await?;
            }
        }
        let failed = |source| StepError::Image {
            dockerfile: image.dockerfile.clone(),
            image: image.name.clone(),
            source,
        };
        let request = BuildRequest {
            component: &component.name,
            image: &image.name,
            dockerfile: &in_context(component, image),
            context: self.context(step, component, image).await?,
            build_args: &self.options.build_args,
            no_cache: self.options.no_cache,
            credentials: &credentials,
        };
        self.engine.build(request, self.events).await.map_err(failed)?;
        for repository in images.aliases.get(image.name.as_str()).into_iter().flatten() {
            self.engine.tag(&image.name, repository, "latest").await.map_err(failed)?;
        }
        self.events.send(Event::ImageBuilt {
            component: component.name.clone(),
            image: image.name.clone(),
        });
        Ok(())
    }

    async fn context(
        &self,
        step: &Step,
        component: &Component,
        image: &Image,
    ) -> Result<Vec<context::Entry>, StepError> {
        let own = self.workspace.root.join(component.dir());
        let dockerfile = PathBuf::from(in_context(component, image));
        let ignore = read_ignore(component, &own, &dockerfile).map_err(StepError::File)?;
        let streamed =
            if component.has_hooks() { Vec::new() } else { self.dependency_folders(step) };
        let listing = tokio::task::spawn_blocking(move || {
            context::list(&own, &streamed, &ignore, &dockerfile)
        });
        let listed = listing.await.map_err(io::Error::other).flatten();
        listed.map_err(|source| tree_error(component, source))
    }

    /// Sees to it that an external base is in the engine. Builders would ask the
    /// registry by themselves, but say less about it and wait longer.
    async fn provide_base(
        &self,
        component: &Component,
        image: &Image,
        used: &ImageUse,
        credentials: &std::collections::HashMap<String, bollard::auth::DockerCredentials>,
    ) -> Result<(), StepError> {
        let failed = |source| StepError::Base {
            file: image.dockerfile.clone(),
            line: used.line,
            reference: used.reference.clone(),
            source,
        };
        let is_here = self.engine.has_image(&used.reference).await.map_err(failed)?;
        if is_here && !self.options.pull {
            return Ok(());
        }
        self.events.send(Event::Pulling {
            component: component.name.clone(),
            reference: used.reference.clone(),
        });
        let platform = used.platform.as_deref();
        self.engine.pull(&used.reference, platform, credentials).await.map_err(failed)
    }

    fn component(&self, step: &Step) -> &Component {
        &self.workspace.components[step.component]
    }

    fn dependency_folders(&self, step: &Step) -> Vec<(String, PathBuf)> {
        let dependencies = step.dependencies.iter().map(|place| &self.workspace.components[*place]);
        dependencies
            .map(|component| (component.name.clone(), self.workspace.root.join(component.dir())))
            .collect()
    }

    fn local_name<'u>(&self, used: &'u ImageUse) -> Option<&'u str> {
        let prefix = self.registry.map(RegistryConfig::prefix);
        let name = Reference::parse(&used.reference).local_name(prefix.as_deref())?;
        self.workspace.images().any(|(_, image)| image.name == name).then_some(name)
    }

    fn is_external(&self, used: &ImageUse) -> bool {
        self.local_name(used).is_none()
    }

    /// The other repositories by which Dockerfiles call our images: an engine
    /// would look for those at a registry.
    fn aliases(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut aliases: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for used in self.workspace.images().flat_map(|(_, image)| &image.uses) {
            let repository = used.reference.strip_suffix(":latest").unwrap_or(&used.reference);
            match self.local_name(used) {
                Some(name) if name != repository => {
                    aliases.entry(name.to_owned()).or_default().insert(repository.to_owned());
                }
                _ => {}
            }
        }
        aliases
    }
}

/// What a round knows of images beside their components.
struct Images {
    aliases: BTreeMap<String, BTreeSet<String>>,
    pulled: Mutex<HashSet<String>>,
}

impl Images {
    /// Whether this round has not looked for the base yet.
    fn needs_look(&self, reference: &str) -> bool {
        let mut pulled = self.pulled.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        pulled.insert(reference.to_owned())
    }
}

fn tree_error(component: &Component, source: io::Error) -> StepError {
    StepError::Tree { component: component.name.clone(), source }
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
