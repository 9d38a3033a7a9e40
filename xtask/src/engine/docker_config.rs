//! The docker CLI's `config.json`: credentials, credential helpers, proxies and the current
//! context, read as the CLI reads them.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::auth::DockerCredentials;
use serde::Deserialize;
use serde_json::Value;
use xtask_core::problem::Problem;
use xtask_core::regular_file;
use xtask_core::secret::unquoted;

/// The fields of `config.json` that are used here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DockerConfig {
    #[serde(rename = "currentcontext", alias = "currentContext")]
    pub(crate) current_context: Option<String>,
    auths: Option<BTreeMap<String, Option<AuthConfig>>>,
    #[serde(rename = "credhelpers", alias = "credHelpers")]
    cred_helpers: Option<BTreeMap<String, String>>,
    #[serde(rename = "credsstore", alias = "credsStore")]
    creds_store: Option<String>,
    proxies: Option<BTreeMap<String, Option<ProxyConfig>>>,
}

/// An entry of `auths`.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AuthConfig {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

/// Leaves out the secrets.
impl std::fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthConfig").finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ProxyConfig {
    #[serde(rename = "httpproxy", alias = "httpProxy")]
    http_proxy: Option<String>,
    #[serde(rename = "httpsproxy", alias = "httpsProxy")]
    https_proxy: Option<String>,
    #[serde(rename = "noproxy", alias = "noProxy")]
    no_proxy: Option<String>,
    #[serde(rename = "ftpproxy", alias = "ftpProxy")]
    ftp_proxy: Option<String>,
    #[serde(rename = "allproxy", alias = "allProxy")]
    all_proxy: Option<String>,
}

impl DockerConfig {
    /// Reads the file; a missing one is empty.
    pub(crate) fn read(file: &Path) -> Result<Self, Problem> {
        let ignored = |what: &str, error: &str| {
            let message = format!(
                "{what}, so its credentials and proxies are not used: {error}. Fix it, or set \
                 DOCKER_CONFIG to another folder"
            );
            Problem::of_file(file.display().to_string(), message)
        };
        match regular_file::read(file) {
            Ok(text) if text.trim_ascii().is_empty() => Ok(Self::default()),
            // Not quoted: it may be a secret in the wrong place.
            Ok(text) => Self::parse(&text)
                .map_err(|error| ignored("is invalid", &unquoted(&error.to_string()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(ignored("cannot be read", &error.to_string())),
        }
    }

    /// Like Go, ignores the case of names and everything after the object.
    fn parse(text: &[u8]) -> serde_json::Result<Self> {
        let mut config = Value::deserialize(&mut serde_json::Deserializer::from_slice(text))?;
        fold_names(&mut config);
        for (name, value) in config.as_object_mut().into_iter().flatten() {
            if matches!(name.as_str(), "auths" | "proxies") {
                value.as_object_mut().into_iter().flatten().for_each(|(_, it)| fold_names(it));
            }
        }
        // Only an error of parsing the text has a line and column.
        let of_text = || serde_json::from_slice::<Self>(text).err();
        serde_json::from_value(config).map_err(|error| of_text().unwrap_or(error))
    }

    /// The credential helper for a server: its own, else the default. An empty name excludes the
    /// server from the default.
    pub(crate) fn helper(&self, server: &str) -> Option<&str> {
        let own = self.cred_helpers.as_ref().and_then(|helpers| helpers.get(server));
        own.or(self.creds_store.as_ref()).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// All credential helpers that it names.
    pub(crate) fn helpers(&self) -> Vec<&String> {
        let own = self.cred_helpers.iter().flat_map(|helpers| helpers.values());
        let mut helpers: Vec<&String> =
            own.chain(&self.creds_store).filter(|name| !name.is_empty()).collect();
        helpers.sort();
        helpers.dedup();
        helpers
    }

    /// The entry of `auths` for a server: the key is its name or, failing that, a URL or path with
    /// that host.
    pub(crate) fn auth(&self, server: &str) -> Option<&AuthConfig> {
        let auths = self.auths.as_ref()?;
        let auth = auths
            .get(server)
            .or_else(|| auths.iter().find(|(key, _)| host_of(key) == server).map(|(_, auth)| auth));
        auth?.as_ref()
    }

    /// The build arguments for an engine's proxies, each in upper and lower case.
    pub(crate) fn proxies(&self, engine: &str) -> BTreeMap<String, String> {
        let Some(all) = &self.proxies else { return BTreeMap::new() };
        let own = all.get(engine).or_else(|| all.get("default"));
        let proxies = own.cloned().flatten().unwrap_or_default();
        let named = [
            ("HTTP_PROXY", proxies.http_proxy),
            ("HTTPS_PROXY", proxies.https_proxy),
            ("NO_PROXY", proxies.no_proxy),
            ("FTP_PROXY", proxies.ftp_proxy),
            ("ALL_PROXY", proxies.all_proxy),
        ];
        let mut args = BTreeMap::new();
        for (name, value) in named {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                args.insert(name.to_lowercase(), value.clone());
                args.insert(name.to_owned(), value);
            }
        }
        args
    }
}

impl AuthConfig {
    /// The credentials, or none if it is empty; the error says what is invalid.
    pub(crate) fn credentials(&self) -> Result<Option<DockerCredentials>, &'static str> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let (mut username, mut password) = (given(&self.username), given(&self.password));
        if let Some(auth) = given(&self.auth) {
            // Go's decoder skips line breaks, and its JSON encoder replaces what is not UTF-8.
            let decoded = STANDARD.decode(auth.replace(['\r', '\n'], "")).ok();
            let decoded = decoded.map(|it| String::from_utf8_lossy(&it).into_owned());
            let parts = decoded.as_deref().and_then(|text| text.split_once(':'));
            let (user, secret) = parts
                .filter(|(user, _)| !user.is_empty())
                .ok_or("'auth' is not the base64 of USER:PASSWORD")?;
            let secret = secret.trim_matches('\0');
            (username, password) = (Some(user.to_owned()), Some(secret.to_owned()));
        }
        let (identitytoken, registrytoken) =
            (given(&self.identitytoken), given(&self.registrytoken));
        let is_empty = username.is_none() && identitytoken.is_none() && registrytoken.is_none();
        let credentials = DockerCredentials {
            username,
            password,
            identitytoken,
            registrytoken,
            ..DockerCredentials::default()
        };
        Ok((!is_empty).then_some(credentials))
    }
}

/// Converts the names of an object's fields to lower case.
fn fold_names(value: &mut Value) {
    if let Value::Object(fields) = value {
        let folded = std::mem::take(fields).into_iter();
        fields.extend(folded.map(|(name, value)| (name.to_ascii_lowercase(), value)));
    }
}

/// The host and port in a key of `auths`, which may be a URL, or have a path.
fn host_of(key: &str) -> &str {
    let (rest, is_url) = match key.split_once("://") {
        Some((_, rest)) => (rest, true),
        None => (key, false),
    };
    let host = rest.split('/').next().unwrap_or_default();
    if is_url { host.rsplit('@').next().unwrap_or_default() } else { host }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> DockerConfig {
        DockerConfig::parse(text.as_bytes()).unwrap()
    }

    fn user(config: &DockerConfig, server: &str) -> Option<String> {
        config.auth(server)?.credentials().unwrap()?.username
    }

    #[test]
    fn what_is_wrong_is_not_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.json");
        for text in [
            r#"{"auths":{"h":"hunter2"}}"#,
            r#"{"auths":{"h":{"auth":["hunter2"]}}}"#,
            r#"{"auths":"hunter2"}"#,
            r#"{"proxies":{"default":"http://u:hunter2@proxy"}}"#,
            r#"{"credsStore":{"hunter2":1}}"#,
            r#""hunter2""#,
            r#"{"auths":{"h":{"auth":"hunter2}}}"#,
            "hunter2",
        ] {
            std::fs::write(&file, text).unwrap();
            let problem = DockerConfig::read(&file).unwrap_err().message;
            assert!(
                problem.starts_with("is invalid, so ") && !problem.contains("hunter2"),
                "{text}: {problem}"
            );
        }
    }

    #[test]
    fn credentials_are_found_under_every_key_that_names_their_server() {
        let keys = ["h:5", "h:5/", "h:5/v2/", "http://h:5", "https://h:5/v1/", "https://u@h:5"];
        for key in keys {
            let config = config(&format!(r#"{{"auths":{{"{key}":{{"username":"me"}}}}}}"#));
            assert_eq!(user(&config, "h:5").as_deref(), Some("me"), "{key}");
            assert_eq!(user(&config, "h"), None, "{key}");
            assert_eq!(user(&config, "h:50"), None, "{key}");
        }
        let both = r#"{"auths":{"a/":{"username":"path"},"a":{"username":"exact"}}}"#;
        assert_eq!(user(&config(both), "a").as_deref(), Some("exact"));
    }

    #[test]
    fn the_file_is_read_as_go_reads_it() {
        let text = r#"{"Auths":{"H":{"userName":"me"}},"CREDSSTORE":"s",
            "proxies":{"Default":{"HTTPProxy":"not"},"default":{"HTTPProxy":"p"}}} trailing"#;
        let config = config(text);
        assert_eq!(user(&config, "H").as_deref(), Some("me"));
        assert_eq!(user(&config, "h"), None);
        assert_eq!(config.helper("a"), Some("s"));
        assert_eq!(config.proxies("unix:///x")["HTTP_PROXY"], "p");
        assert!(DockerConfig::parse(b"{").is_err());
    }

    #[test]
    fn credentials_are_read_in_all_their_forms() {
        let login = |text: &str| {
            let config = config(&format!(r#"{{"auths":{{"h":{text}}}}}"#));
            config.auth("h").map(AuthConfig::credentials)
        };
        let text = r#"{"auth":"dXNlcjpwOnc=","username":"not","password":"this"}"#;
        let found = login(text).unwrap().unwrap().unwrap();
        assert_eq!(found.username.as_deref(), Some("user"));
        assert_eq!(found.password.as_deref(), Some("p:w"));
        let found = login(r#"{"auth":"","identitytoken":"t"}"#).unwrap().unwrap().unwrap();
        assert_eq!((found.username, found.identitytoken.as_deref()), (None, Some("t")));
        let odd = "{\"AUTH\":\"dXNl\\ncjpw/w==\"}";
        let found = login(odd).unwrap().unwrap().unwrap();
        assert_eq!(found.username.as_deref(), Some("user"));
        assert_eq!(found.password.as_deref(), Some("p\u{fffd}"));
        assert!(login("{}").unwrap().unwrap().is_none());
        assert!(login("null").is_none());
        for wrong in ["%%%", "dXNlcg==", "OnB3"] {
            assert!(login(&format!(r#"{{"auth":"{wrong}"}}"#)).unwrap().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_server_has_its_own_helper_the_default_or_none() {
        let config = config(r#"{"credsStore":"all","credHelpers":{"a":"own","b":""}}"#);
        assert_eq!(config.helper("a"), Some("own"));
        assert_eq!(config.helper("b"), None);
        assert_eq!(config.helper("a:5000"), Some("all"));
        assert_eq!(DockerConfig::default().helper("a"), None);
    }

    #[test]
    fn proxies_are_those_of_the_engine_or_the_default() {
        let config = config(
            r#"{"proxies":{"default":{"httpProxy":"d","noProxy":""},"tcp://e:1":{"allProxy":"e"}}}"#,
        );
        let args = |engine: &str| config.proxies(engine).into_iter().collect::<Vec<_>>();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let default = [pair("HTTP_PROXY", "d"), pair("http_proxy", "d")];
        assert_eq!(args("unix:///x"), default);
        assert_eq!(args("tcp://e:1"), [pair("ALL_PROXY", "e"), pair("all_proxy", "e")]);
    }
}
