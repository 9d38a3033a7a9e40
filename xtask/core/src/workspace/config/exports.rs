//! What `cache-from`, `cache-to` and `attest` take, as `docker build` spells them: fields such as
//! `type=registry,ref=IMAGE`, separated by commas.

use std::collections::BTreeMap;
use std::fmt;

use crate::image_reference;

/// The type of GitHub Actions' cache.
pub const GITHUB: &str = "gha";

/// The type of a cache in a registry.
const REGISTRY: &str = "registry";

/// The type of a cache in a folder of this machine.
const LOCAL: &str = "local";

/// A place of the build cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheEntry {
    /// `registry`, `inline`, `local`, `gha` and the like.
    pub kind: String,
    /// Its other fields.
    pub attributes: BTreeMap<String, String>,
}

impl CacheEntry {
    /// Parses `type=TYPE[,NAME=VALUE…]`, or the reference of an image.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.contains('=') && !text.is_empty() {
            let attributes = [("ref".to_owned(), text.to_owned())].into();
            return Ok(Self { kind: REGISTRY.to_owned(), attributes });
        }
        let (kind, attributes) = typed(text)?;
        Ok(Self { kind, attributes })
    }

    /// Parses one that is read from.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub fn parse_import(text: &str) -> Result<Self, String> {
        Self::parse(text)?.with_folder("src")
    }

    /// Parses one that is written to.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub fn parse_export(text: &str) -> Result<Self, String> {
        Self::parse(text)?.with_folder("dest")
    }

    fn with_folder(self, name: &str) -> Result<Self, String> {
        let is_complete = self.kind != LOCAL
            || self.attributes.get(name).is_some_and(|folder| !folder.is_empty());
        if is_complete { Ok(self) } else { Err(format!("needs {name}=FOLDER")) }
    }

    /// The attribute with the folder of a cache of this machine: `src` to read it, `dest` to write.
    pub fn folder(&mut self) -> Option<&mut String> {
        if self.kind != LOCAL {
            return None;
        }
        let name = if self.attributes.contains_key("dest") { "dest" } else { "src" };
        self.attributes.get_mut(name)
    }

    /// The cache of one image among others: GitHub's keeps one for each scope.
    pub fn of_image(mut self, image: &str) -> Self {
        if self.kind == GITHUB {
            self.attributes.entry("scope".to_owned()).or_insert_with(|| image.to_owned());
        }
        self
    }

    /// Checks the reference of one that is in a registry.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub fn check_reference(&self) -> Result<(), String> {
        let reference = self.attributes.get("ref").filter(|_| self.kind == REGISTRY);
        let checked = reference.map_or(Ok(()), |reference| image_reference::check(reference));
        checked.map_err(|error| format!("has no valid 'ref': {error}"))
    }

    /// Where it is, whatever else its fields say.
    pub fn place(&self) -> (&str, Vec<&str>) {
        let is_place = |name: &str| match self.kind.as_str() {
            REGISTRY => name == "ref",
            LOCAL => name == "dest",
            GITHUB => name == "scope",
            _ => true,
        };
        let fields = self.attributes.iter().filter(|(name, _)| is_place(name));
        (&self.kind, fields.map(|(_, value)| value.as_str()).collect())
    }

    /// The image that has the cache in it, if it is one.
    pub fn image(&self) -> Option<&str> {
        let is_image = self.kind == REGISTRY && self.attributes.len() == 1;
        self.attributes.get("ref").filter(|_| is_image).map(String::as_str)
    }
}

impl fmt::Display for CacheEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "type={}", self.kind)?;
        self.attributes.iter().try_for_each(|(name, value)| write!(f, ",{name}={value}"))
    }
}

/// What BuildKit states about an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attestation {
    /// `provenance` or `sbom`.
    pub kind: String,
    /// Its other fields, as they are written.
    pub attributes: String,
}

impl Attestation {
    /// Parses `type=provenance[,mode=MODE]` or `type=sbom`.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (kind, attributes) = typed(text)?;
        if !["provenance", "sbom"].contains(&kind.as_str()) {
            return Err(format!("has the type '{kind}': there are provenance and sbom"));
        }
        let attributes: Vec<String> =
            attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
        Ok(Self { kind, attributes: attributes.join(",") })
    }
}

/// The type, and the other fields.
fn typed(text: &str) -> Result<(String, BTreeMap<String, String>), String> {
    let expected = || "expected type=TYPE, and fields NAME=VALUE after commas".to_owned();
    let mut fields = BTreeMap::new();
    for field in text.split(',') {
        let (name, value) = field.split_once('=').ok_or_else(expected)?;
        fields.insert(name.trim().to_owned(), value.to_owned());
    }
    let kind = fields.remove("type").filter(|kind| !kind.is_empty()).ok_or_else(expected)?;
    Ok((kind, fields))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_images_or_have_a_type() {
        let cache = |text: &str| CacheEntry::parse(text);
        assert_eq!(cache("r.example/a:1").unwrap().image(), Some("r.example/a:1"));
        assert_eq!(cache("type=registry,ref=a").unwrap().image(), Some("a"));
        let max = cache("type=registry,ref=a,mode=max").unwrap();
        assert_eq!((max.image(), max.attributes.len()), (None, 2));
        let expected = "expected type=TYPE, and fields NAME=VALUE after commas";
        for wrong in ["", "ref=a", "type=", "type=registry,ref"] {
            assert_eq!(cache(wrong), Err(expected.to_owned()), "{wrong}");
        }
    }

    #[test]
    fn a_cache_of_this_machine_has_a_folder() {
        let (from, to) = (CacheEntry::parse_import, CacheEntry::parse_export);
        assert_eq!(from("type=local,src=a").unwrap().folder().unwrap(), "a");
        assert_eq!(to("type=local,dest=b,mode=max").unwrap().folder().unwrap(), "b");
        assert_eq!(from("type=registry,ref=a,src=b").unwrap().folder(), None);
        assert_eq!(from("type=local,dest=a").unwrap_err(), "needs src=FOLDER");
        assert_eq!(to("type=local,dest=").unwrap_err(), "needs dest=FOLDER");
    }

    #[test]
    fn each_image_has_a_scope_of_its_own_in_githubs_cache() {
        let of_a = |text: &str| CacheEntry::parse(text).unwrap().of_image("a").attributes;
        assert_eq!(of_a("type=gha,mode=max")["scope"], "a");
        assert_eq!(of_a("type=gha,scope=all")["scope"], "all");
        assert!(!of_a("type=registry,ref=r").contains_key("scope"));
    }

    #[test]
    fn attestations_have_a_known_type() {
        let attestation = Attestation::parse("type=provenance,mode=max").unwrap();
        assert_eq!(
            (attestation.kind.as_str(), &*attestation.attributes),
            ("provenance", "mode=max")
        );
        assert!(Attestation::parse("type=x").unwrap_err().contains("has the type 'x'"));
    }
}
