//! Which images we built, under `target/xtask/`.
//!
//! The labels on an image say what it was made from, but whoever makes an image
//! `FROM` one of ours inherits them. The id of what we built tells the two apart.
//! Losing the file loses that one check and nothing else: it is read as empty if
//! it is not there, broken, or of another version.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::core::fingerprint::{FORMAT, Fingerprint};

/// Where the records lie, relative to the root.
const FILE: &str = "target/xtask/images.json";

#[derive(Default, Deserialize, Serialize)]
struct Contents {
    format: String,
    images: BTreeMap<String, Record>,
    components: BTreeMap<String, Settled>,
}

/// What a component with declared inputs came to.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Settled {
    /// The digest of all that its hooks and images are made from.
    pub key: String,
    /// The fingerprints of its images, by name.
    pub fingerprints: BTreeMap<String, Fingerprint>,
}

#[derive(Deserialize, Serialize)]
struct Record {
    fingerprint: String,
    id: String,
}

/// The ids of the images that we built, by name.
pub struct Records {
    path: PathBuf,
    contents: Contents,
}

impl Records {
    /// Reads the records of the workspace at `root`.
    pub fn read(root: &Path) -> Self {
        let path = root.join(FILE);
        let text = fs::read(&path).unwrap_or_default();
        let contents: Contents = serde_json::from_slice(&text).unwrap_or_default();
        let contents = if contents.format == FORMAT { contents } else { Contents::default() };
        Self { path, contents }
    }

    /// The id of what we built or found under a name with a fingerprint.
    pub fn id(&self, image: &str, fingerprint: &str) -> Option<&str> {
        let record = self.contents.images.get(image)?;
        (record.fingerprint == fingerprint).then_some(record.id.as_str())
    }

    /// Remembers an image.
    pub fn set(&mut self, image: &str, fingerprint: String, id: String) {
        self.contents.images.insert(image.to_owned(), Record { fingerprint, id });
    }

    /// What a component came to when it was made from `key`.
    pub fn settled(&self, component: &str, key: &str) -> Option<&Settled> {
        self.contents.components.get(component).filter(|settled| settled.key == key)
    }

    /// Remembers what a component came to.
    pub fn settle(&mut self, component: &str, settled: Settled) {
        self.contents.components.insert(component.to_owned(), settled);
    }

    /// Writes the records in one piece.
    pub fn write(self) -> io::Result<()> {
        let contents = Contents { format: FORMAT.to_owned(), ..self.contents };
        let unfinished = self.path.with_extension("json.new");
        fs::write(&unfinished, serde_json::to_vec(&contents)?)?;
        fs::rename(unfinished, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_broken_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("target/xtask")).unwrap();
        let mut records = Records::read(dir.path());
        records.set("a", "f".to_owned(), "i".to_owned());
        records.write().unwrap();
        assert_eq!(Records::read(dir.path()).id("a", "f"), Some("i"));
        assert_eq!(Records::read(dir.path()).id("a", "g"), None);
        let path = dir.path().join(FILE);
        let whole = fs::read_to_string(&path).unwrap();
        for broken in [&whole[..whole.len() / 2], &whole.replace("\"1\"", "\"0\""), "\0"] {
            fs::write(&path, broken).unwrap();
            assert_eq!(Records::read(dir.path()).id("a", "f"), None);
        }
    }
}
