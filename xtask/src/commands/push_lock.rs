//! What `push --lock` writes down: see [`crate::commands::image_lock`].
//!
//! What could keep the file from being written is found before anything is pushed. It is written
//! only if all was pushed, so that it never describes half of a push.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use xtask_core::problem::Problem;
use xtask_core::staleness::engine_images::TrackedImage;

use crate::command_error::CommandError;
use crate::commands::image_lock::{ImageLock, LockedImage};
use crate::engine::{FoundImage, PushRequest};
use crate::system::{git, named_file};

/// A lock file, and what is the same for all images of a push.
pub(crate) struct PushLock {
    file: PathBuf,
    lock: ImageLock,
    commit: Option<String>,
    dirty: bool,
}

impl PushLock {
    /// Reads the file as it is, and asks git what is checked out.
    ///
    /// # Errors
    /// The file is there and no lock file, or git gives no answer.
    pub(crate) fn prepare(file: &Path, root: &Path) -> Result<Self, Problem> {
        let lock = ImageLock::read_if_any(file)?;
        let asked = git::head(root).and_then(|commit| Ok((commit, git::is_dirty(root, file)?)));
        let (commit, dirty) = asked.map_err(|error| Problem::of_request(error.to_string()))?;
        Ok(Self { file: file.to_owned(), lock, commit, dirty })
    }

    /// Writes what was pushed: the digest of each reference.
    pub(crate) fn write(
        mut self,
        images: &BTreeMap<String, FoundImage>,
        requests: &[PushRequest],
        digests: &BTreeMap<String, String>,
    ) -> Result<(), CommandError> {
        for (name, image) in images {
            let references = requests.iter().filter(|request| request.image == *name);
            let references = references.map(PushRequest::reference);
            let pushed: BTreeMap<String, String> = references
                .filter_map(|reference| Some((reference.clone(), digests.get(&reference)?.clone())))
                .collect();
            if pushed.is_empty() {
                continue;
            }
            let fingerprint = image.held.as_ref().map(TrackedImage::fingerprint);
            let locked = LockedImage {
                fingerprint: fingerprint.map(str::to_owned),
                commit: self.commit.clone(),
                dirty: self.dirty,
                pushed,
            };
            self.lock.images.insert(name.clone(), locked);
        }
        named_file::write(&self.file, self.lock.text().as_bytes())
            .map_err(|error| CommandError::unwritten(&self.file.display().to_string(), &error))
    }
}
