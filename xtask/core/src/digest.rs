//! Digests of sequences of fields. Each field is prefixed with its length, so that moving
//! bytes from one field to the next changes the digest.

/// A BLAKE3 digest.
pub type Digest = blake3::Hash;

/// What is hashed at once. Fields are short, and BLAKE3 is fast only for many bytes at a time.
const BLOCK: usize = 16 << 10;

/// Hashes a sequence of fields.
#[derive(Debug, Default)]
pub struct FieldHasher {
    hasher: blake3::Hasher,
    /// What was added last.
    block: Vec<u8>,
}

impl FieldHasher {
    /// Adds one field.
    pub fn add(&mut self, bytes: &[u8]) {
        self.add_joined(&[bytes]);
    }

    /// Adds one field, given as the pieces that it is concatenated from.
    pub fn add_joined(&mut self, pieces: &[&[u8]]) {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        self.block.extend_from_slice(&(length as u64).to_le_bytes());
        for piece in pieces {
            self.block.extend_from_slice(piece);
        }
        if self.block.len() >= BLOCK {
            self.hasher.update(&self.block);
            self.block.clear();
        }
    }

    /// The digest of all fields that were added.
    pub fn finish(mut self) -> Digest {
        self.hasher.update(&self.block);
        self.hasher.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_all_bytes_at_once() {
        let (mut fields, mut whole) = (FieldHasher::default(), Vec::new());
        for size in [0, 1, BLOCK - 9, 3 * BLOCK, 5] {
            let field = vec![7; size];
            fields.add_joined(&[&field[..size / 2], &field[size / 2..]]);
            whole.extend((size as u64).to_le_bytes());
            whole.extend(field);
        }
        assert_eq!(fields.finish(), blake3::hash(&whole));
    }
}
