//! What an image would be made from.

use xtask_core::staleness::engine_images::Bases;
use xtask_core::staleness::fingerprint::{Fingerprint, Manifest, Recipe};

/// What an image would be made from.
pub(crate) struct ExpectedImage<'c> {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) recipe: Recipe<'c>,
    /// Without those that the engine does not have.
    pub(crate) bases: Bases,
}

impl ExpectedImage<'_> {
    /// The ingredients behind the fingerprint.
    pub(crate) fn manifest(&self) -> Manifest {
        self.recipe.manifest()
    }
}
