//! Names of images: which are valid, and which of them are ours.
//!
//! An image reference is `[domain/]path[:tag][@digest]`, by the grammar of
//! `distribution/reference`. A reference is one of ours if it names an image of
//! the workspace with no tag or `latest` and no digest, either plainly or under
//! the configured registry's `domain/namespace`, there with the configured tag too:
//! that is just what `push` makes. Everything else is an external image, for the
//! engine to find.

use std::fmt;

/// A reference split into its parts; nothing is looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference<'a> {
    repository: &'a str,
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

impl<'a> Reference<'a> {
    /// Splits `text`; the first `/`-less `:` after the last `/` starts the tag.
    pub fn parse(text: &'a str) -> Self {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        let name_start = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (repository, tag) = match rest[name_start..].split_once(':') {
            Some((name, tag)) => (&rest[..name_start + name.len()], Some(tag)),
            None => (rest, None),
        };
        Self { repository, tag, digest }
    }

    /// The name of the workspace's image that this would be, if there is one of
    /// that name: the repository without Docker Hub's implied prefix, or
    /// without the configured registry's.
    pub fn local_name(&self, registry: Option<&RegistryNames>) -> Option<&'a str> {
        if self.digest.is_some() {
            return None;
        }
        let pushed = registry.and_then(|registry| self.below(registry));
        let is_latest = self.tag.is_none_or(|tag| tag == "latest");
        if !is_latest {
            let configured = registry.and_then(|registry| registry.tag.as_deref());
            return pushed.filter(|_| self.tag == configured);
        }
        let plain = ["docker.io/library/", "index.docker.io/library/", "library/"]
            .iter()
            .find_map(|prefix| self.repository.strip_prefix(prefix))
            .or_else(|| self.repository.strip_prefix("docker.io/"));
        pushed.or(plain).or(Some(self.repository)).filter(|name| !name.contains('/'))
    }

    /// The name below the registry's prefix, if it is just one.
    fn below(&self, registry: &RegistryNames) -> Option<&'a str> {
        let prefix = registry.prefix.as_str();
        let hub = || self.repository.strip_prefix(prefix.strip_prefix("docker.io/")?);
        let name = self.repository.strip_prefix(prefix).or_else(hub)?.strip_prefix('/')?;
        (!name.contains('/')).then_some(name)
    }

    /// The last part of the repository: what the image would be called here.
    pub fn last_name(&self) -> &'a str {
        self.repository.rsplit('/').next().unwrap_or(self.repository)
    }
}

/// What images are called in the configured registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryNames {
    /// `domain/namespace`.
    pub prefix: String,
    /// The tag that they get.
    pub tag: Option<String>,
}

/// The repository and the tag of a reference without a digest; the tag is `latest` if it
/// has none.
pub fn repository_and_tag(reference: &str) -> (&str, &str) {
    let Reference { repository, tag, .. } = Reference::parse(reference);
    (repository, tag.unwrap_or("latest"))
}

/// Why a text is not the name of an image.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Registries know no upper case.
    Uppercase {
        /// The name in lower case.
        lower: String,
    },
    /// A character or a place of a separator that the grammar has no room for.
    Grammar,
    /// Over 255 bytes.
    TooLong,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uppercase { lower } => {
                write!(f, "image names have no upper case: rename it to '{lower}'")
            }
            Self::Grammar => f.write_str(
                "an image name is made of a-z and 0-9, with '.', '_', '__' or '-' between them",
            ),
            Self::TooLong => f.write_str("an image name has at most 255 bytes"),
        }
    }
}

/// Checks one path component of a repository name, by `distribution/reference`:
/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
pub fn check_name(name: &str) -> Result<(), NameError> {
    if name.len() > 255 {
        return Err(NameError::TooLong);
    }
    if is_path_component(name) {
        return Ok(());
    }
    let lower = name.to_lowercase();
    if lower != name && is_path_component(&lower) {
        return Err(NameError::Uppercase { lower });
    }
    Err(NameError::Grammar)
}

fn is_path_component(name: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let mut separators = name.split(alphanumeric).filter(|s| !s.is_empty());
    name.starts_with(alphanumeric)
        && name.ends_with(alphanumeric)
        && separators.all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

/// Whether `tag` is a tag: `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`, by
/// `distribution/reference`.
pub fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_without_a_tag_or_with_latest_names_a_local_image() {
        let cases = [
            ("base", None, Some("base")),
            ("base:latest", None, Some("base")),
            ("base:1", None, None),
            ("base@sha256:00", None, None),
            ("docker.io/library/base", None, Some("base")),
            ("library/base", None, Some("base")),
            ("other/base", None, None),
            ("r:5000/ns/base", None, None),
            ("r:5000/ns/base", Some("r:5000/ns"), Some("base")),
            ("r:5000/ns/base:latest", Some("r:5000/ns"), Some("base")),
            ("r:5000/ns/base:v1", Some("r:5000/ns"), Some("base")),
            ("r:5000/ns/base:v2", Some("r:5000/ns"), None),
            ("base:v1", Some("r:5000/ns"), None),
            ("r:5000/ns/base:v1", None, None),
            ("ns/base:v1", Some("docker.io/ns"), Some("base")),
            ("r:5000/ns2/base", Some("r:5000/ns"), None),
            ("ns/base", Some("docker.io/ns"), Some("base")),
            ("docker.io/ns/base", Some("docker.io/ns"), Some("base")),
            ("base", Some("r:5000/ns"), Some("base")),
        ];
        for (text, prefix, expected) in cases {
            let registry = prefix.map(|prefix: &str| RegistryNames {
                prefix: prefix.to_owned(),
                tag: Some("v1".to_owned()),
            });
            let found = Reference::parse(text).local_name(registry.as_ref());
            assert_eq!(found, expected, "{text} under {prefix:?}");
        }
    }

    #[test]
    fn names_follow_the_registry_grammar() {
        for good in ["a", "a.b", "a_b", "a__b", "a--b", "a-b.c_d", "0"] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in ["", "-a", "a-", "a..b", "a___b", "a._b", "a b", "ä", "a/b"] {
            assert_eq!(check_name(bad), Err(NameError::Grammar), "{bad}");
        }
        let upper = check_name("Web").unwrap_err();
        assert_eq!(upper, NameError::Uppercase { lower: "web".into() });
        assert_eq!(check_name(&"a".repeat(256)), Err(NameError::TooLong));
    }

    #[test]
    fn tags_follow_the_registry_grammar() {
        assert!(["v1", "1.10", "_x", "A-b.c"].into_iter().all(is_tag));
        assert!(!["", ".a", "-a", "a b", "a:b"].into_iter().any(is_tag));
        assert!(!is_tag(&"a".repeat(129)));
    }
}
