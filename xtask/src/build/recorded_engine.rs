//! The engine as the records tell it, for a dry run that cannot reach it: what was built here last
//! counts as there.
//!
//! Whether an image has gone since, or its name was given to another one, is unknown; so is what
//! external bases hold, which then count as unchanged.

use std::collections::BTreeMap;
use std::path::Path;

use xtask_core::staleness::engine_images::{EngineImages, TrackedImage};
use xtask_core::workspace::registry_config::RegistryConfig;

use crate::engine::{BuildRequest, Built, Engine, EngineError, FoundImage, Logins};
use crate::event_channel::Events;
use crate::system::records::Records;

/// The records of one engine. What only the engine itself can do fails as the connection did.
pub(crate) struct RecordedEngine {
    endpoint: String,
    cause: String,
    records: Records,
}

impl RecordedEngine {
    /// The records of the engine that could not be reached, in the workspace at `root`.
    pub(crate) fn read(root: &Path, endpoint: &str, cause: &str) -> Self {
        let (endpoint, cause) = (endpoint.to_owned(), cause.to_owned());
        Self { records: Records::read(root, &endpoint), endpoint, cause }
    }

    /// Why it could not be reached.
    pub(crate) fn unreachable(&self) -> EngineError {
        let (endpoint, cause) = (self.endpoint.clone(), self.cause.clone());
        EngineError::Unreachable { endpoint, cause }
    }
}

impl Engine for RecordedEngine {
    fn identity(&self) -> String {
        self.endpoint.clone()
    }

    async fn engine_images(&self) -> Result<EngineImages, EngineError> {
        let mut images = EngineImages::complete();
        // The newest of a name is the last one.
        for (name, fingerprint, id) in self.records.all_built() {
            images.set_latest(name, Some(tracked(fingerprint, id)));
        }
        Ok(images)
    }

    async fn image(&self, reference: &str) -> Result<Option<FoundImage>, EngineError> {
        let all = self.records.all_built();
        let is_it = |(name, _, id): &(&str, &str, &str)| *id == reference || *name == reference;
        // The newest of a name is the last one.
        Ok(all.filter(is_it).last().map(|(_, fingerprint, id)| FoundImage {
            id: id.to_owned(),
            has_onbuild: false,
            triggers: Vec::new(),
            variables: Vec::new(),
            held: Some(tracked(fingerprint, id)),
            labels: BTreeMap::new(),
            layers: Vec::new(),
            platform: String::new(),
            contents: String::new(),
            created: None,
            digests: Vec::new(),
        }))
    }

    async fn history(&self, _: &str) -> Result<Vec<String>, EngineError> {
        Err(self.unreachable())
    }

    async fn tag(&self, _: &str, _: &str, _: &str) -> Result<(), EngineError> {
        Err(self.unreachable())
    }

    async fn pull(&self, _: &str, _: &str, _: Option<&str>, _: &Logins) -> Result<(), EngineError> {
        Err(self.unreachable())
    }

    async fn credentials(&self, _: Vec<String>, _: Option<&RegistryConfig>) -> Logins {
        Logins::default()
    }

    async fn cpus(&self) -> Result<usize, EngineError> {
        Err(self.unreachable())
    }

    async fn build(&self, _: BuildRequest<'_>, _: &Events) -> Result<Built, EngineError> {
        Err(self.unreachable())
    }
}

fn tracked(fingerprint: &str, id: &str) -> TrackedImage {
    TrackedImage::on_record(id.to_owned(), fingerprint.to_owned())
}
