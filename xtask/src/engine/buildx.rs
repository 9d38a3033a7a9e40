//! A builder of `docker buildx` builds in the place of the engine: in a container, in a cluster, or
//! wherever it is.
//!
//! `docker buildx dial-stdio` leads to the BuildKit of a builder of any kind, so an image is the
//! same call as with the engine's own BuildKit, with the same lean context, progress, secrets and
//! cancelling. What a builder lacks is the images of the engine. So it is served its bases from
//! there, as blobs, of which it fetches what it does not have; and the engine loads what it makes.
//! Whether an image is stale, its labels, hooks and what is compared after a build stay what they
//! are, and afterwards all is up to date as if the engine had built it.
//!
//! `docker buildx bake` would build the whole graph in one call, and name the bases of images by
//! its targets. But then no image is known before all are built: the labels could not say what each
//! was made from, a hook could not run what was built before it, and a base that is up to date
//! would be built again, with another result if its Dockerfile is not reproducible.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;
use tracing::debug;

use crate::engine::address::Address;
use crate::engine::api::BuildRequest;
use crate::engine::error::{EngineError, Trouble};
use crate::engine::response;
use crate::engine::saved_image::{SavedImage, unnamed_file};
use crate::engine::solve::Solve;
use crate::engine::tunnel::{Tunnel, Way};
use crate::system::state;

/// What a builder says that is the engine's own: the images that it makes are in the engine.
const NO_EXPORTER: &str = "exporter \"docker\" could not be found";

/// A base that is being saved, or was.
type Saved = Arc<OnceCell<Arc<SavedImage>>>;

/// A builder.
#[derive(Debug)]
pub(crate) struct Buildx {
    name: String,
    tunnel: Tunnel,
    /// The bases that it is served, by reference, each with its id.
    saved: Mutex<BTreeMap<String, (String, Saved)>>,
}

impl Buildx {
    /// Makes what leads to a builder. Nothing is asked of it yet.
    ///
    /// # Errors
    /// If no socket can be made.
    pub(super) fn open(name: &str) -> Result<Self, EngineError> {
        let tunnel = Tunnel::open(Way::Builder(name.to_owned()));
        let tunnel = tunnel.map_err(|error| unusable(name, &error.to_string()))?;
        Ok(Self { name: name.to_owned(), tunnel, saved: Mutex::default() })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A connection for one build.
    pub(crate) async fn connect(&self) -> Result<Solve, EngineError> {
        let connected = Solve::connect_to_builder(&self.tunnel.socket()).await;
        connected.map_err(|error| self.explain(EngineError::Lost(error.to_string())))
    }

    /// The error of a build, with what the docker CLI said if it did not get to the builder.
    pub(crate) fn explain(&self, error: EngineError) -> EngineError {
        match (self.tunnel.trouble(), &error) {
            (Some(Trouble::Away(cause) | Trouble::Refused(cause)), EngineError::Lost(_)) => {
                unusable(&self.name, &cause)
            }
            (_, EngineError::Refused(message)) if message.contains(NO_EXPORTER) => {
                unusable(&self.name, "it is the engine's own: leave --builder out")
            }
            _ => error,
        }
    }

    /// The images that another is made from, by their references, as a builder is served them.
    /// Each is saved once.
    pub(crate) async fn save(
        &self,
        address: &Address,
        request: &BuildRequest<'_>,
    ) -> Result<BTreeMap<String, Arc<SavedImage>>, EngineError> {
        let mut bases = BTreeMap::new();
        for (reference, id) in request.bases {
            let cell = self.cell(reference, id);
            let save = async || {
                debug!(reference, id, "save image");
                let folder = request.root.join(state::DIR).join("saved");
                let file = unnamed_file(&folder).map_err(|error| unsaved(&error))?;
                let file = response::download(address, &format!("/images/{id}/get"), file).await?;
                let read = tokio::task::spawn_blocking(|| SavedImage::read(file)).await;
                let image = read.map_err(|error| EngineError::Context(error.to_string()))?;
                Ok::<_, EngineError>(Arc::new(image.map_err(|error| unsaved(&error))?))
            };
            bases.insert(reference.clone(), Arc::clone(cell.get_or_try_init(save).await?));
        }
        Ok(bases)
    }

    /// Where a base is, or will be. The one that the reference led to before is let go.
    fn cell(&self, reference: &str, id: &str) -> Saved {
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = saved.entry(reference.to_owned()).or_default();
        if entry.0 != id {
            *entry = (id.to_owned(), Saved::default());
        }
        Arc::clone(&entry.1)
    }
}

fn unusable(name: &str, cause: &str) -> EngineError {
    EngineError::Endpoint(format!("cannot use builder '{name}': {cause}"))
}

fn unsaved(error: &io::Error) -> EngineError {
    EngineError::Context(format!("a base image cannot be saved for the builder: {error}"))
}
