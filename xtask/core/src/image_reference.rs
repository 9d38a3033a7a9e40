//! Image references: which are valid, and which name an image of the workspace.
//!
//! A reference is `[domain/]path[:tag][@digest]`, in the grammar of
//! `distribution/reference`. It names an image of the workspace if it has no digest, its
//! tag is `latest` or missing, and its repository is the image's name, with or without the
//! configured registry's `domain/namespace`. With that prefix, the configured tag counts
//! too: these are the references that `push` creates. An image whose name has a tag is named
//! by that tag alone. Everything else is an external image, which the engine resolves.

use std::fmt;

/// The prefixes that Docker Hub's references have where they are written out.
const HUB: [&str; 4] =
    ["docker.io/library/", "docker.io/", "index.docker.io/library/", "index.docker.io/"];

/// A reference as BuildKit compares it with the names of contexts, before it asks a registry: the
/// shortest one.
pub fn familiar(reference: &str) -> &str {
    let short = without_hub(reference);
    short.strip_suffix(":latest").unwrap_or(short)
}

/// A reference as people write it, without Docker Hub's prefix.
pub fn without_hub(reference: &str) -> &str {
    HUB.iter().find_map(|prefix| reference.strip_prefix(prefix)).unwrap_or(reference)
}

/// An image reference, split into its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference<'a> {
    repository: &'a str,
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

impl<'a> Reference<'a> {
    /// Splits a reference. A `:` after the last `/` starts the tag.
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

    /// The names that this reference can have as an image of the workspace, the most exact first:
    /// its repository without Docker Hub's implied prefix, or without that of one of the
    /// `registries`, and with its tag, if it has one that says more. Empty if the reference can
    /// only name an external image.
    pub fn local_names(&self, registries: &[RegistryNames]) -> Vec<String> {
        if self.digest.is_some() {
            return Vec::new();
        }
        let pushed = registries.iter().filter_map(|registry| {
            let name = self.name_in_registry(registry)?;
            Some((name, self.tag.is_some() && self.tag == registry.tag.as_deref()))
        });
        let mut prefixes = HUB.into_iter().chain(["library/"]);
        let plain = prefixes.find_map(|prefix| self.repository.strip_prefix(prefix));
        let plain = plain.into_iter().chain([self.repository]).map(|name| (name, false));
        let names: Vec<(&str, bool)> = pushed.chain(plain).collect();
        let tag = self.tag.unwrap_or("latest");
        let tagged = names.iter().map(|(name, _)| format!("{name}:{tag}"));
        let is_untagged = |is_current: &bool| *is_current || tag == "latest";
        let untagged = names.iter().filter(|(_, is_current)| is_untagged(is_current));
        tagged.chain(untagged.map(|(name, _)| (*name).to_owned())).collect()
    }

    /// The name after the registry's prefix.
    fn name_in_registry(&self, registry: &RegistryNames) -> Option<&'a str> {
        let prefix = registry.prefix.as_str();
        let index = self.repository.strip_prefix("index.");
        let index = index.filter(|repository| repository.starts_with("docker.io/"));
        let repository = index.unwrap_or(self.repository);
        let hub = || repository.strip_prefix(prefix.strip_prefix("docker.io/")?);
        repository.strip_prefix(prefix).or_else(hub)?.strip_prefix('/')
    }

    /// The repository, without the tag.
    pub fn repository(&self) -> &'a str {
        self.repository
    }

    /// The last path component of the repository.
    pub fn base_name(&self) -> &'a str {
        self.repository.rsplit('/').next().unwrap_or(self.repository)
    }
}

/// How the references of images in the configured registry are formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryNames {
    /// `domain/namespace`.
    pub prefix: String,
    /// The configured tag; `None` if there is none.
    pub tag: Option<String>,
}

/// The repository and the tag of a reference; the tag is `latest` if the reference has none.
pub fn repository_and_tag(reference: &str) -> (&str, &str) {
    let Reference { repository, tag, .. } = Reference::parse(reference);
    (repository, tag.unwrap_or("latest"))
}

/// Why a text is not an image reference.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// It begins with a scheme, such as `https://`.
    #[error("it has no scheme: write '{rest}'")]
    Scheme {
        /// What follows the scheme.
        rest: String,
    },
    /// The part before the first `/` looks like a domain, and is none.
    #[error("'{domain}' is not a registry: write DOMAIN or DOMAIN:PORT")]
    Domain {
        /// That part.
        domain: String,
    },
    /// Two `/` follow one another, or one is at an end.
    #[error("a part of its name is empty: remove a '/'")]
    EmptyPart,
    /// Only the domain may have uppercase letters.
    #[error("repository names are lowercase: write '{lower}'")]
    Uppercase {
        /// The part of the name in lowercase.
        lower: String,
    },
    /// A part of the name has another character, or a separator at an end.
    #[error("'{part}' must consist of a-z and 0-9, separated by '.', '_', '__' or '-'")]
    Part {
        /// That part.
        part: String,
    },
    /// What follows the `:` is not a tag.
    #[error("'{tag}' is not a tag: use at most 128 letters, digits, '_', '.' and '-'")]
    Tag {
        /// What follows the `:`.
        tag: String,
    },
    /// What references are to begin with has a tag.
    #[error("it has no tag: leave out ':{tag}'")]
    TagOfPrefix {
        /// What follows the `:`.
        tag: String,
    },
    /// What follows the `@` is not a digest.
    #[error("'{digest}' is not a digest: write 'sha256:' and 64 hexadecimal digits")]
    Digest {
        /// What follows the `@`.
        digest: String,
    },
    /// It begins with a name and a password.
    #[error("it has no login: leave out what is before the '@', and run 'docker login'")]
    Login,
    /// Its name is longer than 255 bytes.
    #[error("its name has more than 255 bytes: shorten it")]
    TooLong,
}

/// Checks a reference against the grammar of `distribution/reference`, with the domain that
/// Docker implies. An image's id is none, but builders take it for one.
pub fn check(text: &str) -> Result<(), ReferenceError> {
    if is_id(text) {
        return Ok(());
    }
    if let Some((_, rest)) = text.split_once("://") {
        return Err(ReferenceError::Scheme { rest: rest.to_owned() });
    }
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (text, None),
    };
    if let Some(digest) = digest.filter(|digest| !is_digest(digest)) {
        return Err(ReferenceError::Digest { digest: digest.to_owned() });
    }
    let path = match name.split_once('/') {
        Some((domain, path)) if is_like_domain(domain) => {
            if !is_domain(domain) {
                return Err(ReferenceError::Domain { domain: domain.to_owned() });
            }
            path
        }
        _ => name,
    };
    let (path, tag) = match path.split_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (path, None),
    };
    if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
        return Err(ReferenceError::Tag { tag: tag.to_owned() });
    }
    if path.len() > 255 {
        return Err(ReferenceError::TooLong);
    }
    path.split('/').try_for_each(|part| match check_name(part) {
        Ok(()) => Ok(()),
        Err(_) if part.is_empty() => Err(ReferenceError::EmptyPart),
        Err(NameError::Uppercase { lower }) => Err(ReferenceError::Uppercase { lower }),
        Err(_) => Err(ReferenceError::Part { part: part.to_owned() }),
    })
}

/// Checks what references to push to begin with: `DOMAIN[:PORT]/PATH`.
pub fn check_prefix(prefix: &str) -> Result<(), ReferenceError> {
    let is_url = prefix.contains("://");
    if prefix.contains('@') && !is_url {
        return Err(ReferenceError::Login);
    }
    check(&format!("{prefix}/image")).map_err(|error| match error {
        ReferenceError::Scheme { rest } => {
            let rest = rest.trim_end_matches("/image").trim_end_matches('/');
            ReferenceError::Scheme { rest: without_login(rest).to_owned() }
        }
        ReferenceError::Tag { tag } => {
            ReferenceError::TagOfPrefix { tag: tag.trim_end_matches("/image").to_owned() }
        }
        other => other,
    })
}

/// What follows the name and password that some write before a domain.
pub fn without_login(prefix: &str) -> &str {
    prefix.rsplit_once('@').map_or(prefix, |(_, rest)| rest)
}

/// Whether a text is an image's id, in full and without its algorithm.
pub fn is_id(text: &str) -> bool {
    let is_hex = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
    text.len() == 64 && text.bytes().all(is_hex)
}

/// Whether the part before the first `/` is a domain, and not the first part of a name in
/// Docker Hub.
fn is_like_domain(first: &str) -> bool {
    first.contains(['.', ':'])
        || first == "localhost"
        || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_domain(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            let is_address = address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
            return is_address && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let is_label = |label: &str| {
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty()
            && label.bytes().all(is_inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    port.is_none_or(is_port) && host.split('.').all(is_label)
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `ALGORITHM:HEX`, with the length that belongs to the algorithm.
fn is_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else { return false };
    let mut parts = algorithm.split(['-', '_', '+', '.']);
    let is_algorithm = parts.all(|part| {
        part.starts_with(|c: char| c.is_ascii_alphabetic())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    });
    let length = match algorithm {
        "sha256" => hex.len() == 64,
        "sha384" => hex.len() == 96,
        "sha512" => hex.len() == 128,
        _ => hex.len() >= 32,
    };
    is_algorithm && length && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Why an image name is invalid.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name has uppercase letters, which the grammar does not allow.
    Uppercase {
        /// The name in lowercase, which is valid.
        lower: String,
    },
    /// The name has an invalid character or a misplaced separator.
    Grammar,
    /// The name is longer than 255 bytes.
    TooLong,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uppercase { lower } => {
                write!(f, "image names must be lowercase: rename it to '{lower}'")
            }
            Self::Grammar => f.write_str(
                "an image name consists of a-z and 0-9, separated by '.', '_', '__' or '-'",
            ),
            Self::TooLong => f.write_str("an image name has at most 255 bytes: shorten it"),
        }
    }
}

/// Checks one path component of a repository name against `distribution/reference`:
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

/// Whether `tag` is a valid tag in `distribution/reference`:
/// `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`.
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
    fn what_is_wrong_with_a_prefix_is_said_of_the_prefix() {
        for (prefix, said) in [
            ("https://ghcr.io/team", "it has no scheme: write 'ghcr.io/team'"),
            ("https://u:pw@ghcr.io/team/", "it has no scheme: write 'ghcr.io/team'"),
            (
                "u:pw@ghcr.io/team",
                "it has no login: leave out what is before the '@', and run 'docker login'",
            ),
        ] {
            assert_eq!(check_prefix(prefix).unwrap_err().to_string(), said, "{prefix}");
        }
        for good in ["ghcr.io/team", "localhost:5000", "team"] {
            assert_eq!(check_prefix(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn a_reference_without_a_tag_or_with_latest_names_a_local_image() {
        let cases = [
            ("base", None, Some("base")),
            ("base:latest", None, Some("base")),
            ("base:1", None, None),
            ("base@sha256:00", None, None),
            ("docker.io/library/base", None, Some("base")),
            ("index.docker.io/library/base", None, Some("base")),
            ("index.docker.io/base", None, Some("base")),
            ("index.docker.io/ns/base", Some("docker.io/ns"), Some("base")),
            ("index.r.io/ns/base", Some("r.io/ns"), None),
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
            let registries: Vec<RegistryNames> = registry.into_iter().collect();
            let names = Reference::parse(text).local_names(&registries);
            let found = names.iter().map(String::as_str).find(|name| *name == "base");
            assert_eq!(found, expected, "{text} under {prefix:?}");
        }
    }

    #[test]
    fn references_follow_the_grammar_of_distribution() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let good = [
            "a",
            "a:1",
            "library/a",
            "a/b/c_d:X",
            "localhost/a",
            "localhost:5000/a/b:1",
            "r.example/a",
            "r.example:443/a.b__c",
            "Host/a",
            "[::1]:5000/a",
            "xn--7o8h.com/a",
            &format!("a@{digest}"),
            &format!("r:1/a:v1@{digest}"),
            &format!("a@other+x:{}", "f".repeat(32)),
            &"0".repeat(64),
        ];
        for good in good {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        let bad = [
            ("https://r.example/b", "it has no scheme: write 'r.example/b'"),
            ("docker/", "a part of its name is empty: remove a '/'"),
            ("a//b", "a part of its name is empty: remove a '/'"),
            ("/a", "a part of its name is empty: remove a '/'"),
            ("", "a part of its name is empty: remove a '/'"),
            ("Alpine", "repository names are lowercase: write 'alpine'"),
            ("r.example/B:1", "repository names are lowercase: write 'b'"),
            (".", "'.' must consist of a-z and 0-9, separated by '.', '_', '__' or '-'"),
            ("a%zz", "'a%zz' must consist of a-z and 0-9, separated by '.', '_', '__' or '-'"),
            ("a?b", "'a?b' must consist of a-z and 0-9, separated by '.', '_', '__' or '-'"),
            ("a:1:2", "'1:2' is not a tag: use at most 128 letters, digits, '_', '.' and '-'"),
            ("a:", "'' is not a tag: use at most 128 letters, digits, '_', '.' and '-'"),
            ("r.:x/a", "'r.:x' is not a registry: write DOMAIN or DOMAIN:PORT"),
            ("-r.example/a", "'-r.example' is not a registry: write DOMAIN or DOMAIN:PORT"),
            (
                "a@sha256:00",
                "'sha256:00' is not a digest: write 'sha256:' and 64 hexadecimal digits",
            ),
            ("a@", "'' is not a digest: write 'sha256:' and 64 hexadecimal digits"),
        ];
        for (bad, expected) in bad {
            let found = check(bad).map_err(|error| error.to_string());
            assert_eq!(found, Err(expected.to_owned()), "{bad}");
        }
        assert_eq!(check(&"a/".repeat(150)), Err(ReferenceError::TooLong));
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

    #[test]
    fn names_are_compared_as_people_write_them() {
        for (reference, expected) in [
            ("docker.io/library/alpine:latest", "alpine"),
            ("docker.io/a/b", "a/b"),
            ("index.docker.io/a", "a"),
            ("alpine:3", "alpine:3"),
        ] {
            assert_eq!(familiar(reference), expected);
        }
    }
}
