//! A build cache in a folder of this machine (`type=local`): an OCI layout, the same that
//! `docker buildx` reads and writes. The builder reads and writes its blobs over the session.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use xtask_core::workspace::config::exports::CacheEntry;

use crate::engine::blob::hex;
use crate::engine::unique_id::unique_id;
use crate::system::state;

/// The annotation with an entry's tag.
const TAG: &str = "org.opencontainers.image.ref.name";

/// The tag of an entry, unless one is given.
const LATEST: &str = "latest";

/// Images that are built at the same time may have one folder, and tags of their own.
static INDEX: Mutex<()> = Mutex::new(());

const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// A folder with a cache, or for one.
#[derive(Clone, Debug)]
pub(crate) struct LocalCache {
    folder: PathBuf,
}

/// A blob that is being written.
pub(super) struct Upload {
    path: PathBuf,
    file: File,
    hash: Context,
    pub(super) size: u64,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    manifests: Vec<Entry>,
}

/// What leads to a cache; what it has beside the digest is kept.
#[derive(Deserialize, Serialize)]
struct Entry {
    digest: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

impl LocalCache {
    /// The folder of a cache, if it is one of this machine; the entry then has its whole path,
    /// under which the builder asks for it.
    pub(crate) fn of(cache: &mut CacheEntry, root: &Path) -> Option<Self> {
        let given = cache.folder()?;
        let folder = root.join(&*given);
        *given = folder.to_string_lossy().into_owned();
        Some(Self { folder })
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The digest of the cache with a tag; none if there is none.
    pub(crate) fn digest(&self, tag: Option<&str>) -> Option<String> {
        let tag = tag.unwrap_or(LATEST);
        let entries = self.index().manifests;
        let entry = entries
            .into_iter()
            .find(|entry| entry.annotations.get(TAG).is_some_and(|it| it == tag));
        entry.map(|entry| entry.digest)
    }

    /// Makes what the builder wrote the cache with a tag. `descriptor` is JSON that leads to it.
    pub(super) fn finish(&self, descriptor: &str, tag: Option<&str>) -> io::Result<()> {
        let mut new: Entry = serde_json::from_str(descriptor)?;
        let tag = tag.unwrap_or(LATEST).to_owned();
        let _only = INDEX.lock().unwrap_or_else(PoisonError::into_inner);
        let mut index = self.index();
        index.schema_version = 2;
        "application/vnd.oci.image.index.v1+json".clone_into(&mut index.media_type);
        index.manifests.retain(|entry| entry.annotations.get(TAG) != Some(&tag));
        new.annotations.insert(TAG.to_owned(), tag);
        index.manifests.push(new);
        state::replace(&self.folder.join("oci-layout"), LAYOUT.as_bytes())?;
        state::replace(&self.folder.join("index.json"), &serde_json::to_vec(&index)?)
    }

    /// An index that cannot be read has nothing.
    fn index(&self) -> Index {
        let bytes = fs::read(self.folder.join("index.json")).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// The size of a blob in bytes, if it is there.
    pub(super) fn size(&self, digest: &str) -> Option<u64> {
        fs::metadata(self.blob(digest)?).ok().filter(fs::Metadata::is_file).map(|it| it.len())
    }

    /// Reads from a blob; 0 at its end.
    pub(super) fn read_at(
        &self,
        digest: &str,
        offset: u64,
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        let path = self.blob(digest).ok_or(ErrorKind::NotFound)?;
        File::open(path)?.read_at(buffer, offset)
    }

    /// Begins to write a blob.
    pub(super) fn begin(&self) -> io::Result<Upload> {
        let folder = self.folder.join("ingest");
        fs::create_dir_all(&folder)?;
        let path = folder.join(unique_id());
        let file = File::create_new(&path)?;
        Ok(Upload { path, file, hash: Context::new(&SHA256), size: 0 })
    }

    /// Where a blob is; none if the digest is none.
    fn blob(&self, digest: &str) -> Option<PathBuf> {
        let digits = digest.strip_prefix("sha256:")?;
        let is_digest = digits.len() == 64 && digits.bytes().all(|it| it.is_ascii_hexdigit());
        is_digest.then(|| self.folder.join("blobs/sha256").join(digits))
    }
}

impl Upload {
    pub(super) fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.file.write_all(data)?;
        self.hash.update(data);
        self.size += data.len() as u64;
        Ok(())
    }

    /// Adds it to its cache, and returns its digest.
    pub(super) fn commit(self, cache: &LocalCache, expected: &str) -> io::Result<String> {
        let digest = format!("sha256:{}", hex(self.hash.clone().finish().as_ref()));
        if !expected.is_empty() && expected != digest {
            return Err(io::Error::other(format!("{expected} has other bytes: {digest}")));
        }
        let to = cache.blob(&digest).ok_or(ErrorKind::InvalidData)?;
        fs::create_dir_all(cache.folder.join("blobs/sha256"))?;
        fs::rename(&self.path, to)?;
        Ok(digest)
    }

    /// Begins again.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        self.file = File::create(&self.path)?;
        (self.hash, self.size) = (Context::new(&SHA256), 0);
        Ok(())
    }
}

impl Drop for Upload {
    /// What was not committed is of no use.
    fn drop(&mut self) {
        drop(fs::remove_file(&self.path));
    }
}
