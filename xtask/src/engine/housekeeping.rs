//! What an engine is and holds, for `doctor` and `clean`.

use std::collections::HashMap;
use std::path::PathBuf;

use bollard::errors::Error as ClientError;
use bollard::query_parameters::RemoveImageOptionsBuilder;
use xtask_core::staleness::fingerprint::LABEL;
use xtask_core::staleness::image_list::ListedImage;

use crate::engine::builder::Builder;
use crate::engine::docker::DockerEngine;
use crate::engine::error::EngineError;
use crate::engine::session::{Services, Session};
use crate::engine::unique_id::unique_id;

/// What an engine is.
#[derive(Clone, Debug)]
pub(crate) struct EngineFacts {
    pub(crate) endpoint: String,
    pub(crate) version: String,
    pub(crate) is_podman: bool,
    pub(crate) has_buildkit: bool,
    /// Whether it can ask this program for files and secrets.
    pub(crate) has_session: bool,
    /// The folder that it keeps images in, if it is on this machine.
    pub(crate) folder: Option<PathBuf>,
}

/// An image without a name that one of our builds made.
#[derive(Clone, Debug)]
pub(crate) struct UntaggedImage {
    pub(crate) id: String,
    pub(crate) bytes: u64,
}

impl DockerEngine {
    pub(crate) async fn facts(&self) -> Result<EngineFacts, EngineError> {
        let version = self.call(self.client.version()).await?.version.unwrap_or_default();
        let folder = self.call(self.client.info()).await?.docker_root_dir;
        let has_buildkit = self.builder().await? == Builder::BuildKit;
        Ok(EngineFacts {
            endpoint: self.endpoint.clone(),
            version,
            is_podman: self.is_podman,
            has_buildkit,
            has_session: has_buildkit && self.opens_session().await?,
            folder: folder.filter(|_| self.is_local).map(PathBuf::from),
        })
    }

    /// Whether a session can be opened: something between here and the engine may refuse it.
    pub(super) async fn opens_session(&self) -> Result<bool, EngineError> {
        let id = unique_id();
        let opening = Session::open(&self.address, &id, Services::default());
        Ok(self.wait().until(Box::pin(opening)).await?.is_ok())
    }

    /// The images without a name that have our labels.
    pub(crate) async fn untagged_images(&self) -> Result<Vec<UntaggedImage>, EngineError> {
        let filters = HashMap::from([("dangling", vec!["true"]), ("label", vec![LABEL])]);
        let images = self.list_images(&filters).await?;
        let untagged = |image: ListedImage| UntaggedImage { bytes: image.size(), id: image.id };
        Ok(images.into_iter().map(untagged).collect())
    }

    /// Removes an image by its id, or one of its names; false if a container or another image needs
    /// it, or it is gone.
    pub(crate) async fn remove_image(&self, id: &str) -> Result<bool, EngineError> {
        let options = RemoveImageOptionsBuilder::default().build();
        match self.wait().until(self.client.remove_image(id, Some(options), None)).await? {
            Ok(_) => Ok(true),
            Err(ClientError::DockerResponseServerError { status_code: 404 | 409, .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
