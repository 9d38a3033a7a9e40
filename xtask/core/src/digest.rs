//! Digests of sequences of fields. Each field is prefixed with its length, so that moving
//! bytes from one field to the next changes the digest.

/// A BLAKE3 digest.
pub type Digest = blake3::Hash;

/// Hashes a sequence of fields.
#[derive(Debug, Default)]
pub struct FieldHasher(blake3::Hasher);

impl FieldHasher {
    /// Adds one field.
    pub fn add(&mut self, bytes: &[u8]) {
        self.add_joined(&[bytes]);
    }

    /// Adds one field, given as the pieces that it is concatenated from.
    pub fn add_joined(&mut self, pieces: &[&[u8]]) {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        self.0.update(&(length as u64).to_le_bytes());
        for piece in pieces {
            self.0.update(piece);
        }
    }

    /// The digest of all fields added so far.
    pub fn finish(&self) -> Digest {
        self.0.finalize()
    }
}
