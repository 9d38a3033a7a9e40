//! An image of the engine as blobs, for a builder that has images of its own only.
//!
//! `docker save` writes the same archive in two forms: engines before 25 name layers by folders,
//! later ones by their digests. Its `manifest.json` is the same in both, and says which file is
//! the configuration and which are the layers. From these an OCI manifest is made, as builders
//! read it. The archive stays as it is, in a file without a name.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use serde_json::json;
use tar::{Archive, EntryType};

use crate::engine::blob::digest_of;
use crate::engine::unique_id::unique_id;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// How compressed layers begin, and what their media type ends with.
const COMPRESSIONS: [(&[u8], &str); 2] =
    [(&[0x1f, 0x8b], "+gzip"), (&[0x28, 0xb5, 0x2f, 0xfd], "+zstd")];

/// The longest configuration that is read, in bytes.
const MAX_DOCUMENT: usize = 16 << 20;

/// Where blobs are by their digests, in an archive of `docker save`.
const BLOBS: &str = "blobs/sha256/";

/// An image as blobs.
#[derive(Debug)]
pub(crate) struct SavedImage {
    archive: File,
    /// By digest.
    layers: BTreeMap<String, Part>,
    config: (String, Vec<u8>),
    manifest: (String, Vec<u8>),
}

/// A part of the archive.
#[derive(Clone, Copy, Debug)]
struct Part {
    offset: u64,
    size: u64,
}

/// What `manifest.json` says of an image.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: PathBuf,
    layers: Vec<PathBuf>,
}

/// What an image's configuration says of its layers.
#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<String>,
}

/// A file that only its handle leads to, in a folder that is made if it is missing.
pub(super) fn unnamed_file(folder: &Path) -> io::Result<File> {
    fs::create_dir_all(folder)?;
    let path = folder.join(unique_id());
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

impl SavedImage {
    /// Reads what `docker save` wrote of one image.
    ///
    /// # Errors
    /// If it is not such an archive.
    pub(crate) fn read(archive: File) -> io::Result<Self> {
        let files = files_in(&archive)?;
        let part = |path: &Path| {
            let missing = || invalid(&format!("it has no {}", path.display()));
            files.get(path).copied().ok_or_else(missing)
        };
        let read = |path: &Path| part(path)?.read(&archive);
        let saved: Vec<Saved> = serde_json::from_slice(&read(Path::new("manifest.json"))?)?;
        let saved = saved.into_iter().next().ok_or_else(|| invalid("it has no image"))?;
        let config = read(&saved.config)?;
        let Config { rootfs } = serde_json::from_slice(&config)?;
        if rootfs.diff_ids.len() != saved.layers.len() {
            return Err(invalid("its layers are not those of its configuration"));
        }
        let (mut layers, mut descriptors) = (BTreeMap::new(), Vec::new());
        for (path, diff_id) in saved.layers.iter().zip(rootfs.diff_ids) {
            let layer = part(path)?;
            let compression = layer.compression(&archive)?;
            let digest = match (compression, path.strip_prefix(BLOBS)) {
                ("", _) => diff_id,
                (_, Ok(hash)) => format!("sha256:{}", hash.display()),
                (_, Err(_)) => return Err(invalid("it has a compressed layer without a digest")),
            };
            descriptors.push(json!({
                "mediaType": format!("{LAYER}{compression}"),
                "digest": digest,
                "size": layer.size,
            }));
            layers.insert(digest, layer);
        }
        let config_digest = digest_of(&config);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": { "mediaType": CONFIG, "digest": config_digest, "size": config.len() },
            "layers": descriptors,
        });
        let manifest = manifest.to_string().into_bytes();
        let manifest = (digest_of(&manifest), manifest);
        Ok(Self { archive, layers, config: (config_digest, config), manifest })
    }

    /// The digest of its manifest, which leads to all else.
    pub(crate) fn digest(&self) -> &str {
        &self.manifest.0
    }

    /// The size of a blob in bytes, if the image has it.
    pub(crate) fn size(&self, digest: &str) -> Option<u64> {
        let in_memory = self.in_memory(digest).map(|bytes| bytes.len() as u64);
        in_memory.or_else(|| Some(self.layers.get(digest)?.size))
    }

    /// Reads from a blob, as much as there is; 0 at its end, or if the image does not have it.
    pub(crate) fn read_at(
        &self,
        digest: &str,
        offset: u64,
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        if let Some(bytes) = self.in_memory(digest) {
            let offset = usize::try_from(offset).unwrap_or(usize::MAX);
            return bytes.get(offset..).unwrap_or_default().read(buffer);
        }
        let Some(layer) = self.layers.get(digest) else { return Ok(0) };
        if offset >= layer.size {
            return Ok(0);
        }
        let left = usize::try_from(layer.size - offset).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        self.archive.read_at(&mut buffer[..length], layer.offset.saturating_add(offset))
    }

    fn in_memory(&self, digest: &str) -> Option<&[u8]> {
        let found = [&self.manifest, &self.config].into_iter().find(|(it, _)| it == digest);
        found.map(|(_, bytes)| bytes.as_slice())
    }
}

impl Part {
    fn read(self, archive: &File) -> io::Result<Vec<u8>> {
        let size = usize::try_from(self.size).ok().filter(|size| *size <= MAX_DOCUMENT);
        let size = size.ok_or_else(|| invalid("it has a document that is too long"))?;
        let mut bytes = vec![0; size];
        archive.read_exact_at(&mut bytes, self.offset)?;
        Ok(bytes)
    }

    /// What the media type of a layer ends with.
    fn compression(self, archive: &File) -> io::Result<&'static str> {
        let mut start = [0; 4];
        let read = archive.read_at(&mut start, self.offset)?;
        let is = |(magic, _): &(&[u8], &str)| start[..read].starts_with(magic);
        Ok(COMPRESSIONS.into_iter().find(is).map_or("", |(_, suffix)| suffix))
    }
}

/// The files of the archive. Engines before 25 write a layer that several images have once, and
/// links to it.
fn files_in(archive: &File) -> io::Result<BTreeMap<PathBuf, Part>> {
    let (mut files, mut links) = (BTreeMap::new(), Vec::new());
    for entry in Archive::new(archive).entries_with_seek()? {
        let entry = entry?;
        let path = entry.path()?.into_owned();
        match entry.header().entry_type() {
            EntryType::Regular => {
                let part = Part { offset: entry.raw_file_position(), size: entry.size() };
                files.insert(path, part);
            }
            EntryType::Symlink => {
                if let Some(target) = entry.link_name()? {
                    links.push((path.clone(), resolve(&path, &target)));
                }
            }
            _ => {}
        }
    }
    for (path, target) in links {
        if let Some(part) = files.get(&target).copied() {
            files.insert(path, part);
        }
    }
    Ok(files)
}

/// Where a link leads, in the archive.
fn resolve(link: &Path, target: &Path) -> PathBuf {
    let mut resolved = link.parent().map(Path::to_path_buf).unwrap_or_default();
    for component in target.components() {
        match component {
            Component::ParentDir => drop(resolved.pop()),
            Component::Normal(name) => resolved.push(name),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    resolved
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the engine saved no image: {why}"))
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use tar::{Builder, Header};

    use super::*;

    const DIFF_ID: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";

    fn archive(files: &[(&str, &[u8])], link: Option<(&str, &str)>) -> File {
        let mut builder = Builder::new(tempfile::tempfile().unwrap());
        for (path, bytes) in files {
            let mut header = Header::new_gnu();
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, path, *bytes).unwrap();
        }
        if let Some((path, target)) = link {
            let mut header = Header::new_gnu();
            header.set_entry_type(EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, path, target).unwrap();
        }
        let mut file = builder.into_inner().unwrap();
        file.flush().unwrap();
        file.rewind().unwrap();
        file
    }

    fn config(diff_ids: &[&str]) -> Vec<u8> {
        json!({ "rootfs": { "diff_ids": diff_ids } }).to_string().into_bytes()
    }

    fn manifest_of(image: &SavedImage) -> serde_json::Value {
        let mut bytes = vec![0; 4096];
        let read = image.read_at(image.digest(), 0, &mut bytes).unwrap();
        serde_json::from_slice(&bytes[..read]).unwrap()
    }

    #[test]
    fn an_old_archive_s_layers_are_known_by_what_they_hold_and_followed_through_links() {
        let saved = json!([{ "Config": "c.json", "Layers": ["a/layer.tar", "b/layer.tar"] }]);
        let saved = saved.to_string();
        let config = config(&[DIFF_ID, DIFF_ID]);
        let files: [(&str, &[u8]); 3] =
            [("a/layer.tar", b"layer"), ("c.json", &config), ("manifest.json", saved.as_bytes())];
        let image =
            SavedImage::read(archive(&files, Some(("b/layer.tar", "../a/layer.tar")))).unwrap();
        let manifest = manifest_of(&image);
        assert_eq!(manifest["layers"][1]["digest"], DIFF_ID);
        assert_eq!(manifest["layers"][0]["mediaType"], LAYER);
        assert_eq!(manifest["config"]["digest"], digest_of(&config));
        assert_eq!(image.size(DIFF_ID), Some(5));
        let mut buffer = [0; 64];
        assert_eq!(image.read_at(DIFF_ID, 2, &mut buffer).unwrap(), 3);
        assert_eq!(&buffer[..3], b"yer");
        assert_eq!(image.read_at(DIFF_ID, 9, &mut buffer).unwrap(), 0);
        assert_eq!(image.size("sha256:0"), None);
    }

    #[test]
    fn a_compressed_layer_keeps_the_digest_that_it_has_in_the_engine() {
        let path = format!("{BLOBS}2222");
        let saved = json!([{ "Config": "blobs/sha256/c", "Layers": [path] }]).to_string();
        let config = config(&[DIFF_ID]);
        let files: [(&str, &[u8]); 3] = [
            (&path, &[0x1f, 0x8b, 8, 0]),
            ("blobs/sha256/c", &config),
            ("manifest.json", saved.as_bytes()),
        ];
        let image = SavedImage::read(archive(&files, None)).unwrap();
        let layer = &manifest_of(&image)["layers"][0];
        assert_eq!(layer["digest"], "sha256:2222");
        assert_eq!(layer["mediaType"], format!("{LAYER}+gzip"));
    }

    #[test]
    fn a_damaged_archive_is_an_error_or_an_image_and_nothing_else() {
        let saved = json!([{ "Config": "c.json", "Layers": ["a/layer.tar", "b/layer.tar"] }]);
        let (saved, config) = (saved.to_string(), config(&[DIFF_ID, DIFF_ID]));
        let files: [(&str, &[u8]); 3] =
            [("a/layer.tar", b"layer"), ("c.json", &config), ("manifest.json", saved.as_bytes())];
        let mut whole = archive(&files, Some(("b/layer.tar", "../a/layer.tar")));
        let mut bytes = Vec::new();
        whole.read_to_end(&mut bytes).unwrap();
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        eprintln!("seed {seed}");
        for _ in 0..2000 {
            let mut damaged = bytes.clone();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..damaged.len());
                damaged[at] = *random.choice(b"0179\0\"[{x/\xff").unwrap();
            }
            damaged.truncate(random.usize(damaged.len() / 2..=damaged.len()));
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&damaged).unwrap();
            file.rewind().unwrap();
            if let Ok(image) = SavedImage::read(file) {
                let mut buffer = [0; 64];
                drop(image.read_at(DIFF_ID, random.u64(..), &mut buffer));
            }
        }
    }

    #[test]
    fn what_is_no_saved_image_is_an_error() {
        let saved = json!([{ "Config": "c.json", "Layers": ["a"] }]).to_string();
        let config = config(&[]);
        for files in [
            vec![],
            vec![("manifest.json", b"[]".as_slice())],
            vec![("manifest.json", saved.as_bytes())],
            vec![("a", b"".as_slice()), ("c.json", &config), ("manifest.json", saved.as_bytes())],
        ] {
            assert!(SavedImage::read(archive(&files, None)).is_err());
        }
    }
}
