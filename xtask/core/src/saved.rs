//! State of the tool as bytes, for files that are read again by the same version.
//!
//! Serialization is compiled where the type is known. What has an entry for each file of a workspace
//! is therefore encoded in this crate, which is optimized.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A value as bytes.
pub fn encode<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    postcard::to_allocvec(value).map_err(io::Error::other)
}

/// Reads what [`encode`] wrote; none if it is not that.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Some(value),
        _ => None,
    }
}
