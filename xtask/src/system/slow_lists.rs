//! Which engines take long to list their images, as far as was seen: they are asked for single
//! ones. If that is no longer so, builds are only a little slower.

use std::io::{self, Write};
use std::path::Path;

use xtask_core::regular_file;

use crate::system::state::DIR;

/// The engines, in [`DIR`], one per line.
const FILE: &str = "slow-lists";

/// Whether an engine is one of them.
pub(crate) fn is_noted(root: &Path, engine: &str) -> bool {
    let text = regular_file::read_whole(&root.join(DIR).join(FILE)).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().any(|line| line == engine)
}

/// Notes that an engine is one of them.
pub(crate) fn note(root: &Path, engine: &str) -> io::Result<()> {
    if is_noted(root, engine) {
        return Ok(());
    }
    let line = format!("{engine}\n");
    regular_file::append(&root.join(DIR).join(FILE))?.write_all(line.as_bytes())
}
