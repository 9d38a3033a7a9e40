//! Registry credentials.
//!
//! The configured credentials are used for exactly the configured domain. Every other registry
//! gets those of the docker CLI: from the credential helper that its `config.json` names for the
//! registry, else from the file itself. Without any, access is anonymous. An error on the way is
//! a warning, as the registry may allow anonymous access.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use bollard::auth::DockerCredentials;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::Mutex;
use xtask_core::problem::Problem;
use xtask_core::workspace::registry_config::{DOCKER_HUB, RegistryConfig};

use crate::engine::docker_config::{AuthConfig, DockerConfig};
use crate::engine::endpoint::Environment;
use crate::engine::waiting::Waiting;
use crate::event::Event;
use crate::event_channel::Events;
use crate::system::lines::shorten;
use crate::system::signals::Interrupt;

/// Docker Hub's key in `config.json` and in authentication headers.
pub(crate) const HUB_SERVER: &str = "https://index.docker.io/v1/";

/// Shorter than the lifetime of a helper's tokens: `watch` runs longer than they are valid.
const CACHE_TTL: Duration = Duration::from_mins(15);

const MAX_HELPER_OUTPUT: u64 = 1 << 20;

const MAX_HELPER_MESSAGE: usize = 1000;

/// The user name with which a helper marks its secret as an identity token.
const TOKEN: &str = "<token>";

/// The credentials for a registry.
pub type Login = DockerCredentials;

/// Credentials by registry.
pub type Logins = HashMap<String, Login>;

/// The docker CLI's credentials that were looked up, so that each helper runs once, and the
/// warnings that were given.
#[derive(Default)]
pub(crate) struct LoginCache {
    logins: HashMap<String, (Instant, Option<DockerCredentials>)>,
    warned: BTreeSet<String>,
}

/// Leaves out the secrets.
impl fmt::Debug for LoginCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginCache").finish_non_exhaustive()
    }
}

/// The credentials for those of the `domains` that have any.
pub(crate) async fn find(
    environment: &Environment,
    domains: Vec<String>,
    configured: Option<&RegistryConfig>,
    cache: &Mutex<LoginCache>,
    waiting: &Waiting,
    events: &Events,
) -> Logins {
    let mut found = HashMap::new();
    for domain in domains {
        let login = match configured.filter(|registry| registry.domain == domain) {
            Some(RegistryConfig { credentials: Some(credentials), .. }) => {
                Some(DockerCredentials {
                    username: Some(credentials.username.clone()),
                    password: Some(credentials.password.clone()),
                    serveraddress: Some(server_of(&domain)),
                    ..DockerCredentials::default()
                })
            }
            Some(_) | None => {
                cache.lock().await.get_or_find(&domain, environment, waiting, events).await
            }
        };
        if let Some(login) = login {
            found.insert(domain, login);
        }
    }
    found
}

/// The same without an engine.
pub(crate) async fn find_logins(
    environment: &Environment,
    domains: Vec<String>,
    configured: Option<&RegistryConfig>,
    events: &Events,
    interrupt: &Interrupt,
) -> Logins {
    let (waiting, cache) = (Waiting::new(events, interrupt), Mutex::default());
    find(environment, domains, configured, &cache, &waiting, events).await
}

impl LoginCache {
    async fn get_or_find(
        &mut self,
        domain: &str,
        environment: &Environment,
        waiting: &Waiting,
        events: &Events,
    ) -> Option<DockerCredentials> {
        let is_fresh = |(at, _): &&(Instant, _)| at.elapsed() < CACHE_TTL;
        if let Some((_, login)) = self.logins.get(domain).filter(is_fresh) {
            return login.clone();
        }
        let config = environment.docker_config(events);
        let (login, problem) = find_in_docker_config(&config, domain, waiting).await;
        if let Some(problem) = problem
            && self.warned.insert(problem.clone())
        {
            let file = environment.config_file().unwrap_or_default().display().to_string();
            events.send(Event::Warning(Problem::of_file(file, problem)));
        }
        self.logins.insert(domain.to_owned(), (Instant::now(), login.clone()));
        login
    }
}

/// The docker CLI's credentials for a registry, and what is wrong with its configuration.
async fn find_in_docker_config(
    config: &DockerConfig,
    domain: &str,
    waiting: &Waiting,
) -> (Option<DockerCredentials>, Option<String>) {
    let server = &server_of(domain);
    let mut problem = None;
    let mut login = None;
    if let Some(helper) = config.helper(server) {
        let mut wait = waiting.begin(format!("docker-credential-{helper} to return credentials"));
        match wait.until(run_helper(helper, server)).await {
            Ok(Ok(found)) => return (found.map(|login| of_server(login, server)), None),
            Ok(Err(error)) => problem = Some(error),
            // The next call to the engine returns the interrupt.
            Err(_) => return (None, None),
        }
    }
    // As the docker CLI does. Other programs write Docker Hub's domain.
    let auth = config.auth(server).or_else(|| config.auth(domain));
    match auth.map(AuthConfig::credentials) {
        Some(Ok(found)) => login = found.map(|login| of_server(login, server)),
        Some(Err(what)) => {
            problem = Some(format!(
                "auths: invalid credentials for {server}: {what}. Run 'docker login {server}' \
                 again"
            ));
        }
        None => {}
    }
    (login, problem)
}

fn of_server(login: DockerCredentials, server: &str) -> DockerCredentials {
    DockerCredentials { serveraddress: Some(server.to_owned()), ..login }
}

/// What a helper prints.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperCredentials {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// Why a helper's output is not known.
enum HelperError {
    NotStarted(io::Error),
    Output(io::Error),
    Wait(io::Error),
}

/// Gets the credentials for a server from a helper; none if it has none. Dropping the future
/// kills the helper and its children.
async fn run_helper(helper: &str, server: &str) -> Result<Option<DockerCredentials>, String> {
    let program = format!("docker-credential-{helper}");
    let (status, output, errors) =
        get_output(&program, server).await.map_err(|error| match error {
            HelperError::NotStarted(error) if error.kind() == io::ErrorKind::NotFound => format!(
                "credential helper {program} is not in PATH: install it, or remove '{helper}' \
                 from credsStore and credHelpers"
            ),
            HelperError::NotStarted(error) => format!("cannot start {program}: {error}"),
            HelperError::Output(error) => format!("cannot read the output of {program}: {error}"),
            HelperError::Wait(error) => format!("cannot wait for {program}: {error}"),
        })?;
    if status.success() {
        // Not quoted: even invalid output may contain a secret.
        let found: HelperCredentials = serde_json::from_slice(&output)
            .map_err(|_| format!("{program} returned invalid credentials for {server}"))?;
        let mut login = DockerCredentials::default();
        if found.username == TOKEN {
            login.identitytoken = Some(found.secret);
        } else {
            (login.username, login.password) = (Some(found.username), Some(found.secret));
        }
        return Ok(Some(login));
    }
    let output = String::from_utf8_lossy(&output).trim().to_owned();
    if output.starts_with("credentials not found") {
        return Ok(None);
    }
    // Helpers write their errors to either stream.
    let is_secret = output.starts_with('{');
    let messages = [String::from_utf8_lossy(&errors).trim().to_owned(), output];
    let messages = messages
        .into_iter()
        .zip([true, !is_secret])
        .filter(|(text, is_shown)| !text.is_empty() && *is_shown);
    let mut messages: Vec<String> =
        messages.map(|(text, _)| shorten(text, MAX_HELPER_MESSAGE)).collect();
    if messages.is_empty() {
        messages.push("it printed no error".to_owned());
    }
    Err(format!(
        "{program} returned no credentials for {server} ({status}): {}. Try 'docker login {server}'",
        messages.join("; ").replace('\n', " ")
    ))
}

/// Runs a helper: its exit status, standard output and standard error.
async fn get_output(
    program: &str,
    server: &str,
) -> Result<(ExitStatus, Vec<u8>, Vec<u8>), HelperError> {
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(HelperError::NotStarted)?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let mut guard = KillOnDrop(group);
    let input = child.stdin.take();
    let write = async {
        if let Some(mut input) = input {
            // A helper that closes its input reports why.
            drop(input.write_all(server.as_bytes()).await);
        }
    };
    let (output, errors) = (read(child.stdout.take()), read(child.stderr.take()));
    let ((), output, errors) = tokio::join!(write, output, errors);
    let status = child.wait().await.map_err(HelperError::Wait)?;
    guard.0 = None;
    Ok((status, output.map_err(HelperError::Output)?, errors.map_err(HelperError::Output)?))
}

/// Reads up to [`MAX_HELPER_OUTPUT`] bytes.
async fn read(source: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(source) = source {
        source.take(MAX_HELPER_OUTPUT).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// A process group to kill when this is dropped.
struct KillOnDrop(Option<Pid>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It fails only if the group has exited.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// A registry's key in the docker CLI's config and in authentication headers.
pub(crate) fn server_of(domain: &str) -> String {
    match domain {
        DOCKER_HUB => HUB_SERVER.to_owned(),
        other => other.to_owned(),
    }
}

/// The registry of a reference, by Docker's rule: what is before the first `/` if it looks like a
/// host, else Docker Hub.
pub(crate) fn domain_of(reference: &str) -> &str {
    match reference.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => DOCKER_HUB,
    }
}

/// The registries of references, without duplicates.
pub(crate) fn domains_of<'a>(references: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut domains: Vec<String> =
        references.into_iter().map(|reference| domain_of(reference).to_owned()).collect();
    domains.sort();
    domains.dedup();
    domains
}
