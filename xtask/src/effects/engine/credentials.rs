//! Who we are at a registry.
//!
//! The configured credentials hold for exactly the configured domain. For every
//! other registry the docker CLI's own are asked (`config.json` with its
//! helpers); nobody is logged in where there are none.

use std::collections::HashMap;

use bollard::auth::DockerCredentials;
use docker_credential::DockerCredential;

use super::Environment;
use crate::core::config::{DOCKER_HUB, RegistryConfig};

/// Docker Hub's key in `config.json` and in login headers.
const HUB_SERVER: &str = "https://index.docker.io/v1/";

/// Logins, by registry.
pub type Logins = HashMap<String, DockerCredentials>;

/// The credentials for each of the `domains` that has some.
pub(super) async fn find(
    environment: &Environment,
    domains: Vec<String>,
    configured: Option<&RegistryConfig>,
) -> Logins {
    let mut found = HashMap::new();
    for domain in domains {
        let credentials = match configured.filter(|registry| registry.domain == domain) {
            Some(RegistryConfig { credentials: Some(credentials), .. }) => {
                Some(DockerCredentials {
                    username: Some(credentials.username.clone()),
                    password: Some(credentials.password.clone()),
                    serveraddress: Some(server_of(&domain)),
                    ..DockerCredentials::default()
                })
            }
            _ => stored(environment, &domain).await,
        };
        if let Some(credentials) = credentials {
            found.insert(domain, credentials);
        }
    }
    found
}

/// A helper is a process, hence not on the runtime's threads.
async fn stored(environment: &Environment, domain: &str) -> Option<DockerCredentials> {
    let config = environment.config_dir.as_ref()?.join("config.json");
    let server = server_of(domain);
    let asked = server.clone();
    let answer = tokio::task::spawn_blocking(move || {
        let file = std::fs::File::open(config).ok()?;
        docker_credential::get_credential_from_reader(file, &asked).ok()
    });
    let mut credentials =
        DockerCredentials { serveraddress: Some(server), ..DockerCredentials::default() };
    match answer.await.ok().flatten()? {
        DockerCredential::IdentityToken(token) => credentials.identitytoken = Some(token),
        DockerCredential::UsernamePassword(username, password) => {
            credentials.username = Some(username);
            credentials.password = Some(password);
        }
    }
    Some(credentials)
}

fn server_of(domain: &str) -> String {
    match domain {
        DOCKER_HUB => HUB_SERVER.to_owned(),
        other => other.to_owned(),
    }
}

/// The registry that a reference names, by Docker's rule: what is before the
/// first `/`, if it looks like a host; Docker Hub otherwise.
pub(super) fn domain_of(reference: &str) -> &str {
    match reference.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => DOCKER_HUB,
    }
}

/// The registries of several references, each once.
pub fn domains_of<'a>(references: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut domains: Vec<String> =
        references.into_iter().map(|reference| domain_of(reference).to_owned()).collect();
    domains.sort();
    domains.dedup();
    domains
}
