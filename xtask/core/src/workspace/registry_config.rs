//! Reads the registry that images are pushed to from `services-configuration.yaml`.
//!
//! The file configures a whole deployment. This tool reads one section of it, in one of two
//! forms: `cluster.docker-registry`, or the older `cluster.docker-registry-info`, whose keys
//! begin with `docker-`. All scalars are read as written: `tag: 1.10` is the tag `1.10`, and
//! `password: 012345` keeps its leading zero.

use std::fmt;
use std::io;
use std::path::Path;

use serde::Deserialize;

use crate::image_reference::{self, RegistryNames};
use crate::problem::{Problem, Problems};
use crate::regular_file;
use crate::secret::unquoted;

/// The name of the file in the configuration folder.
const FILE_NAME: &str = "services-configuration.yaml";

/// Docker Hub's canonical domain.
pub const DOCKER_HUB: &str = "docker.io";

/// A registry, and the credentials to push to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryConfig {
    /// `host[:port]`, or `docker.io` for Docker Hub.
    pub domain: String,
    /// The path between the domain and the image name; may be empty.
    pub namespace: String,
    /// The tag for pushed images; the command line can override it.
    pub tag: Option<String>,
    /// `None` if the file has none: then those of Docker's own configuration are used.
    pub credentials: Option<Credentials>,
    /// The file and the key of the tag, for error messages.
    pub origin: String,
}

/// A username and a password. The `Debug` output contains neither.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The account in the registry.
    pub username: String,
    /// Must not be printed, logged or passed as a program argument.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(hidden)")
    }
}

impl RegistryConfig {
    /// Reads the section from `services-configuration.yaml` in `dir`.
    pub fn read(dir: &Path) -> Result<Self, Problems> {
        let path = dir.join(FILE_NAME);
        let shown = path.display().to_string();
        let text = regular_file::read_to_string(&path).map_err(|error| {
            let message = match error.kind() {
                io::ErrorKind::NotFound if !path.is_symlink() => {
                    "does not exist: -c takes the folder that contains it".to_owned()
                }
                _ => regular_file::explain(&path, &error),
            };
            Problem::of_file(&shown, message)
        })?;
        Self::parse(&text, &shown)
    }

    /// Parses the file. `shown` is its name in error messages.
    pub fn parse(text: &str, shown: &str) -> Result<Self, Problems> {
        let file: Option<File> = serde_yaml::from_str(text).map_err(|error| {
            let location = error.location();
            // It is not quoted: what is wrong with it may be that a password is in the wrong place.
            let text = unquoted(&error.to_string());
            let text = text.split(" at line ").next().unwrap_or(&text);
            let message = match &location {
                Some(location) => format!("column {}: {text}", location.column()),
                None => text.to_owned(),
            };
            Problem {
                file: Some(shown.to_owned()),
                line: location.map(|location| location.line()),
                message: message.replace('\n', " "),
            }
        })?;
        let cluster = file.and_then(|file| file.cluster).unwrap_or_default();
        let (section, keys) = match (cluster.current, cluster.older.map(Section::from)) {
            (Some(current), Some(older)) if current != older => {
                let message = "cluster.docker-registry and cluster.docker-registry-info differ: \
                               keep one of the two";
                return Err(Problem::of_file(shown, message).into());
            }
            (Some(current), _) => (current, &CURRENT_KEYS),
            (None, Some(older)) => (older, &OLDER_KEYS),
            (None, None) => {
                let message = "cluster.docker-registry is missing: add the registry to push \
                               to (domain, namespace, tag)";
                return Err(Problem::of_file(shown, message).into());
            }
        };
        section.check(shown, keys)
    }

    /// The names that images of the workspace have in this registry.
    pub fn names(&self) -> RegistryNames {
        RegistryNames { prefix: self.prefix(), tag: self.tag.clone() }
    }

    /// `domain/namespace`: the prefix of image references.
    pub fn prefix(&self) -> String {
        match self.namespace.as_str() {
            "" => self.domain.clone(),
            namespace => format!("{}/{namespace}", self.domain),
        }
    }
}

/// The full keys of one form of the section, for error messages.
struct Keys {
    domain: &'static str,
    namespace: &'static str,
    username: &'static str,
    password: &'static str,
    tag: &'static str,
}

const CURRENT_KEYS: Keys = Keys {
    domain: "cluster.docker-registry.domain",
    namespace: "cluster.docker-registry.namespace",
    username: "cluster.docker-registry.username",
    password: "cluster.docker-registry.password",
    tag: "cluster.docker-registry.tag",
};

const OLDER_KEYS: Keys = Keys {
    domain: "cluster.docker-registry-info.docker-registry-domain",
    namespace: "cluster.docker-registry-info.docker-namespace",
    username: "cluster.docker-registry-info.docker-username",
    password: "cluster.docker-registry-info.docker-password",
    tag: "cluster.docker-registry-info.docker-tag",
};

#[derive(Deserialize)]
struct File {
    cluster: Option<Cluster>,
}

#[derive(Default, Deserialize)]
struct Cluster {
    #[serde(rename = "docker-registry")]
    current: Option<Section>,
    #[serde(rename = "docker-registry-info")]
    older: Option<OlderSection>,
}

#[derive(Deserialize, PartialEq, Eq)]
struct Section {
    domain: Option<String>,
    namespace: Option<String>,
    username: Option<String>,
    password: Option<String>,
    tag: Option<String>,
    #[serde(rename = "secret-name")]
    secret_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct OlderSection {
    docker_registry_domain: Option<String>,
    docker_namespace: Option<String>,
    docker_username: Option<String>,
    docker_password: Option<String>,
    docker_tag: Option<String>,
    secret_name: Option<String>,
}

impl From<OlderSection> for Section {
    fn from(older: OlderSection) -> Self {
        Self {
            domain: older.docker_registry_domain,
            namespace: older.docker_namespace,
            username: older.docker_username,
            password: older.docker_password,
            tag: older.docker_tag,
            secret_name: older.secret_name,
        }
    }
}

impl Section {
    fn check(self, shown: &str, keys: &Keys) -> Result<RegistryConfig, Problems> {
        let mut problems = Vec::new();
        let mut report = |key: &str, message: &str| {
            problems.push(Problem::of_file(shown, format!("{key} {message}")));
        };
        let domain = self.domain.map_or_else(String::new, |domain| canonical_domain(&domain));
        if domain.is_empty() {
            report(keys.domain, "is missing: set it to the registry's host[:port]");
        } else if domain.contains(['/', ' ', '@']) {
            report(keys.domain, "is not a host[:port]: remove the scheme and the path");
        } else if !domain.contains(['.', ':']) && domain != "localhost" {
            let message = format!(
                "has neither a dot nor a port, so Docker would take it for a name on Docker Hub: \
                 write {domain}:443"
            );
            report(keys.domain, &message);
        } else if !is_host(&domain) {
            report(keys.domain, "is not a host[:port]");
        }
        let namespace = self.namespace.unwrap_or_else(|| {
            report(keys.namespace, "is missing: set it to the path after the domain, or to \"\"");
            String::new()
        });
        let is_path =
            |path: &str| path.split('/').all(|part| image_reference::check_name(part).is_ok());
        if !namespace.is_empty() && !is_path(&namespace) {
            report(keys.namespace, "is not a valid path: use a-z, 0-9, '.', '_', '-' and '/'");
        }
        if self.tag.as_deref().is_some_and(|tag| !image_reference::is_tag(tag)) {
            report(
                keys.tag,
                "is not a valid tag: use at most 128 letters, digits, '_', '.' and '-'",
            );
        }
        let credentials = match (non_empty(self.username), non_empty(self.password)) {
            (Some(username), Some(password)) => Some(Credentials { username, password }),
            (None, None) => None,
            (Some(_), None) => {
                report(keys.password, "is missing, but a username is set: set both or neither");
                None
            }
            (None, Some(_)) => {
                report(keys.username, "is missing, but a password is set: set both or neither");
                None
            }
        };
        Problems::check(problems)?;
        Ok(RegistryConfig {
            domain,
            namespace,
            tag: non_empty(self.tag),
            credentials,
            origin: format!("{shown}: {}", keys.tag),
        })
    }
}

fn is_host(domain: &str) -> bool {
    let port = domain.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.contains(']'));
    let is_port = |port: &str| port.parse::<u16>().is_ok();
    image_reference::check(&format!("{domain}/image")).is_ok() && port.is_none_or(is_port)
}

fn non_empty(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn canonical_domain(domain: &str) -> String {
    match domain.trim_end_matches('/') {
        "public" | "index.docker.io" => DOCKER_HUB.to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RegistryConfig, String> {
        RegistryConfig::parse(text, "c.yaml").map_err(|problems| problems.to_string())
    }

    #[test]
    fn both_forms_are_equivalent_and_scalars_are_read_as_written() {
        let current = "other: {x: [1]}\ncluster:\n  docker-registry:\n    domain: r.io:5000\n    \
                       namespace: 007\n    username: true\n    password: 012345\n    tag: 1.10\n";
        let older = "cluster:\n  docker-registry-info:\n    docker-registry-domain: r.io:5000\n    \
                     docker-namespace: 007\n    docker-username: true\n    docker-password: 012345\n    \
                     docker-tag: 1.10\n";
        let read = parse(current).unwrap();
        assert_eq!(read.prefix(), "r.io:5000/007");
        assert_eq!(read.tag.as_deref(), Some("1.10"));
        let credentials = read.credentials.clone().unwrap();
        assert_eq!(
            (credentials.username.as_str(), credentials.password.as_str()),
            ("true", "012345")
        );
        let from_older = parse(older).unwrap();
        assert_eq!(RegistryConfig { origin: read.origin.clone(), ..from_older }, read);
    }

    #[test]
    fn public_is_docker_hub() {
        let text = "cluster: {docker-registry: {domain: public, namespace: n}}";
        assert_eq!(parse(text).unwrap().prefix(), "docker.io/n");
    }

    #[test]
    fn a_domain_is_a_host_by_dockers_rule() {
        let domain = |domain: &str| {
            parse(&format!("cluster: {{docker-registry: {{domain: '{domain}', namespace: n}}}}"))
        };
        for good in ["r.x", "r.x:5000", "localhost", "r:443", "[::1]:5000", "public", "R.x/"] {
            assert!(domain(good).is_ok(), "{good}");
        }
        let said = domain("myregistry").unwrap_err();
        assert!(said.ends_with("on Docker Hub: write myregistry:443"), "{said}");
        for bad in ["-r.x", "r.x:99999999", "r.x:", "r..x", "https://r.x", "u@r.x"] {
            let said = domain(bad).unwrap_err();
            assert!(said.contains("cluster.docker-registry.domain is not a host[:port]"), "{said}");
        }
    }

    #[test]
    fn every_missing_key_is_named_by_its_path() {
        let error = parse("cluster: {docker-registry: {password: hunter2}}").unwrap_err();
        for key in ["domain", "namespace", "username"] {
            assert!(
                error.contains(&format!("cluster.docker-registry.{key} is missing")),
                "{error}"
            );
        }
        assert!(!error.contains("hunter2"));
        assert!(parse("").unwrap_err().contains("cluster.docker-registry is missing"));
    }

    #[test]
    fn both_forms_together_must_agree() {
        let same = "cluster: {docker-registry: {domain: r.x, namespace: n}, docker-registry-info: \
                    {docker-registry-domain: r.x, docker-namespace: n}}";
        assert!(parse(same).is_ok());
        let error = parse(&same.replace("docker-namespace: n", "docker-namespace: m")).unwrap_err();
        assert!(error.contains("differ"), "{error}");
    }

    #[test]
    fn what_is_wrong_is_not_quoted() {
        for text in [
            "aHVudGVyMg==",
            "\"hunter2, expected x\"",
            "[hunter2]",
            "cluster: hunter2",
            "cluster: {docker-registry: hunter2}",
            "cluster:\n  docker-registry:\n    domain:r.x\n    password:hunter2\n",
            "cluster: {docker-registry: {domain: r.x, password: [hunter2]}}",
            "cluster: {docker-registry: {domain: r.x, password: {hunter2: x}}}",
            "cluster: {docker-registry: {domain: r.x, domain: hunter2}}",
            "cluster: {docker-registry: {domain: r.x, password: !hunter2 x}}",
            "cluster: {docker-registry: {domain: r.x, password: hunter2",
            "cluster:\n  docker-registry: &x\n    password: *hunter2\n",
            "cluster:\n  docker-registry:\n    password: 'hunter2\n",
            "cluster:\n  docker-registry:\n    domain: u:hunter2@r.x\n    namespace: hunter2 x\n",
            "password: @hunter2",
        ] {
            let error = parse(text).unwrap_err();
            assert!(!error.contains("hunter2") && !error.contains("aHVu"), "{text}: {error}");
        }
        let error = parse("cluster: {docker-registry: hunter2}").unwrap_err();
        assert_eq!(
            error,
            "c.yaml:1: column 28: cluster.docker-registry: expected a table of keys and values"
        );
    }

    #[test]
    fn malformed_yaml_is_reported_with_line_and_column() {
        let error = parse("cluster:\n  docker-registry: {domain: [}\n").unwrap_err();
        assert!(error.starts_with("c.yaml:2: column "), "{error}");
    }
}
