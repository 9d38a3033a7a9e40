//! Who we are at a registry.
//!
//! The configured credentials hold for exactly the configured domain. For every other
//! registry those of the docker CLI hold: of the helper that its `config.json` names for
//! it, else what is in that file. Where there are none nobody is logged in. What keeps a
//! login from being found is a warning, as the registry may not ask for one.

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

use super::Environment;
use crate::engine::docker_config::{DockerConfig, Login};
use crate::engine::waiting::Waiting;
use crate::event::{Event, Events};
use crate::system::lines::shorten;

/// Docker Hub's key in `config.json` and in login headers.
pub(crate) const HUB_SERVER: &str = "https://index.docker.io/v1/";

/// Tokens of helpers are good for longer than this, but not for as long as files can be
/// watched.
const FRESH: Duration = Duration::from_mins(15);

/// A login is not longer.
const LONGEST_ANSWER: u64 = 1 << 20;

/// More words of a helper help nobody.
const LONGEST_WORDS: usize = 1000;

/// The user name by which a helper says that the secret is a token.
const TOKEN: &str = "<token>";

/// Logins, by registry.
pub type Logins = HashMap<String, DockerCredentials>;

/// The docker CLI's logins that were asked for, so that each helper runs once, and the
/// warnings that were given.
#[derive(Default)]
pub(crate) struct Stored {
    logins: HashMap<String, (Instant, Option<DockerCredentials>)>,
    warned: BTreeSet<String>,
}

/// Without the secrets.
impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored").finish_non_exhaustive()
    }
}

/// The credentials for each of the `domains` that has some.
pub(crate) async fn find(
    environment: &Environment,
    domains: Vec<String>,
    configured: Option<&RegistryConfig>,
    stored: &Mutex<Stored>,
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
                stored.lock().await.login(&domain, environment, waiting, events).await
            }
        };
        if let Some(login) = login {
            found.insert(domain, login);
        }
    }
    found
}

impl Stored {
    /// The login for a registry, as it was found a while ago or is found now.
    async fn login(
        &mut self,
        domain: &str,
        environment: &Environment,
        waiting: &Waiting,
        events: &Events,
    ) -> Option<DockerCredentials> {
        if let Some((_, login)) = self.logins.get(domain).filter(|(at, _)| at.elapsed() < FRESH) {
            return login.clone();
        }
        let config = environment.docker_config(events);
        let (login, problem) = ask(&config, domain, waiting).await;
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

/// The login for a registry that the docker CLI has, and what may keep it from having one.
async fn ask(
    config: &DockerConfig,
    domain: &str,
    waiting: &Waiting,
) -> (Option<DockerCredentials>, Option<String>) {
    let server = &server_of(domain);
    let mut problem = None;
    let mut login = None;
    if let Some(helper) = config.helper(server) {
        let mut wait = waiting.begin(format!("docker-credential-{helper} to give a login"));
        match wait.answer(run(helper, server)).await {
            Ok(Ok(kept)) => return (kept.map(|login| of_server(login, server)), None),
            Ok(Err(error)) => problem = Some(error),
            // The next question says that the user stopped it.
            Err(_) => return (None, None),
        }
    }
    // What the docker CLI falls back to. Others write Docker Hub's own name.
    let kept = config.login(server).or_else(|| config.login(domain));
    match kept.map(Login::credentials) {
        Some(Ok(found)) => login = found.map(|login| of_server(login, server)),
        Some(Err(what)) => {
            problem = Some(format!("auths: the login for {server} cannot be read: {what}"));
        }
        None => {}
    }
    (login, problem)
}

fn of_server(login: DockerCredentials, server: &str) -> DockerCredentials {
    DockerCredentials { serveraddress: Some(server.to_owned()), ..login }
}

/// What a helper answers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// Asks a helper for the login for a server; none if it has none. Dropping the future ends
/// the helper and all that it started.
async fn run(helper: &str, server: &str) -> Result<Option<DockerCredentials>, String> {
    let program = format!("docker-credential-{helper}");
    let (status, output, words) = match converse(&program, server).await {
        Ok(ended) => ended,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(format!(
                "'{helper}' is to keep logins, but there is no program {program} in PATH: \
                 install it, or remove '{helper}' from credsStore and credHelpers"
            ));
        }
        Err(error) => return Err(format!("{program} does not run: {error}")),
    };
    if status.success() {
        // What it wrote is a secret, understood or not.
        let answer: Answer = serde_json::from_slice(&output)
            .map_err(|_| format!("{program} gives no login for {server} but something else"))?;
        let mut login = DockerCredentials::default();
        if answer.username == TOKEN {
            login.identitytoken = Some(answer.secret);
        } else {
            (login.username, login.password) = (Some(answer.username), Some(answer.secret));
        }
        return Ok(Some(login));
    }
    let output = String::from_utf8_lossy(&output).trim().to_owned();
    if output.starts_with("credentials not found") {
        return Ok(None);
    }
    // Helpers say what is wrong on either stream.
    let is_login = output.starts_with('{');
    let said = [String::from_utf8_lossy(&words).trim().to_owned(), output];
    let said = said
        .into_iter()
        .zip([true, !is_login])
        .filter(|(text, is_shown)| !text.is_empty() && *is_shown);
    let mut said: Vec<String> = said.map(|(text, _)| shorten(text, LONGEST_WORDS)).collect();
    if said.is_empty() {
        said.push("it says nothing".to_owned());
    }
    Err(format!(
        "{program} gives no login for {server} ({status}): {}. 'docker login {server}' may help",
        said.join("; ").replace('\n', " ")
    ))
}

/// Runs a helper: how it ended, and what it wrote to its output and errors.
async fn converse(program: &str, server: &str) -> io::Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let mut group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
    let input = child.stdin.take();
    let ask = async {
        if let Some(mut input) = input {
            // One that does not listen says why.
            drop(input.write_all(server.as_bytes()).await);
        }
    };
    let (output, words) = (read(child.stdout.take()), read(child.stderr.take()));
    let ((), output, words) = tokio::join!(ask, output, words);
    let status = child.wait().await?;
    group.0 = None;
    Ok((status, output?, words?))
}

/// Reads to the end, or to where it is too much.
async fn read(source: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(source) = source {
        source.take(LONGEST_ANSWER).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// A process group that ends when this is dropped.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It fails only if the group has ended by itself.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// What the docker CLI calls a registry.
pub(crate) fn server_of(domain: &str) -> String {
    match domain {
        DOCKER_HUB => HUB_SERVER.to_owned(),
        other => other.to_owned(),
    }
}

/// The registry that a reference names, by Docker's rule: what is before the
/// first `/`, if it looks like a host; Docker Hub otherwise.
pub(crate) fn domain_of(reference: &str) -> &str {
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
