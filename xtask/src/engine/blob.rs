//! Digests of what a registry holds.

use std::fmt::Write;

use ring::digest::{SHA256, digest};

/// The digest of bytes, as registries write it.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(digest(&SHA256, bytes).as_ref()))
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Nothing fails that writes to a string.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
