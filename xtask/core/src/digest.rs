//! The digest of fields of any length, none of which can be taken for another's end.

/// The digest of contents.
pub type Digest = blake3::Hash;

/// A digest in the making.
#[derive(Debug, Default)]
pub struct FieldHasher(blake3::Hasher);

impl FieldHasher {
    /// Adds one field.
    pub fn add(&mut self, bytes: &[u8]) {
        self.add_joined(&[bytes]);
    }

    /// Adds the pieces of one field.
    pub fn add_joined(&mut self, pieces: &[&[u8]]) {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        self.0.update(&(length as u64).to_le_bytes());
        for piece in pieces {
            self.0.update(piece);
        }
    }

    /// The digest of all that was added.
    pub fn finish(&self) -> Digest {
        self.0.finalize()
    }
}
