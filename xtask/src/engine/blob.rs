//! Digests of what a registry holds.

use std::fmt::Write;

use ring::digest::{SHA256, digest};

/// The digest of bytes, as registries write it.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    let mut text = "sha256:".to_owned();
    for byte in digest(&SHA256, bytes).as_ref() {
        // Nothing fails that writes to a string.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
