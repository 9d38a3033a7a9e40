//! What external bases add to what a Dockerfile reads: only the engine knows it.

use std::collections::HashMap;

use xtask_core::dockerfile::parser::{ImageUse, Via};
use xtask_core::workspace::components::Image;

use crate::engine::FoundImage;

/// What the engine said of references; none for an image that it does not hold.
pub(crate) type ExternalBases = HashMap<String, Option<FoundImage>>;

/// The bases of an image, in all its stages, of which the engine is to be asked before
/// it is certain what is read.
pub(crate) fn to_ask(image: &Image, is_local: impl Fn(&ImageUse) -> bool) -> Vec<&ImageUse> {
    // Nothing makes everything more.
    let is_certain = !image.sources.grow_with(true, &[]);
    let is_asked = |used: &&ImageUse| !is_certain && used.via == Via::From && !is_local(used);
    image.uses.iter().filter(is_asked).collect()
}

/// Whether these bases can make a build read everything. One that is needed and not
/// there is fetched before a build and looked at then; of others nobody knows.
pub(crate) fn read_all(image: &Image, bases: &[&ImageUse], found: &ExternalBases) -> bool {
    bases.iter().any(|used| match found.get(&used.reference).and_then(Option::as_ref) {
        Some(base) => image.sources.grow_with(base.has_onbuild, &base.variables),
        None => !used.reached,
    })
}
