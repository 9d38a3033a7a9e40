//! Secrets and SSH agents of a build, served over its session.
//!
//! The values of secrets are read when a build begins, and are nowhere but in memory and on the
//! connection to the engine: in no fingerprint, record, log or message.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::Secrets;
use bollard_buildkit_proto::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use bollard_buildkit_proto::moby::sshforward::v1::ssh_server::Ssh;
use bollard_buildkit_proto::moby::sshforward::v1::{
    BytesMessage, CheckAgentRequest, CheckAgentResponse,
};
use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use xtask_core::workspace::config::mounts::{Agent, Secret, SecretSource};
use xtask_core::workspace::config::settings::ImageSettings;

/// The largest secret that BuildKit takes.
const MAX_SECRET: usize = 500 << 10;

/// The variable with the socket of the user's agent.
const AGENT_SOCKET: &str = "SSH_AUTH_SOCK";

/// How the header of a request says which agent it is for.
const AGENT_ID: &str = "buildkit.ssh.id";

/// What `RUN --mount` can use in one build.
#[derive(Clone, Default)]
pub(crate) struct Mounts {
    secrets: BTreeMap<String, Vec<u8>>,
    agents: BTreeMap<String, PathBuf>,
}

impl fmt::Debug for Mounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mounts(hidden)")
    }
}

impl Mounts {
    /// Reads the secrets of an image, and finds its agents.
    ///
    /// # Errors
    /// A message about a secret or agent that is not there, without any value.
    pub(crate) fn read(
        settings: &ImageSettings,
        root: &Path,
        environment: &BTreeMap<OsString, OsString>,
    ) -> Result<Self, String> {
        let mut mounts = Self::default();
        for text in &settings.secrets {
            let secret = Secret::parse(&text.value)?;
            let value = value(&secret, root, environment)
                .map_err(|error| format!("secret '{}': {error}", secret.id))?;
            mounts.secrets.insert(secret.id, value);
        }
        for text in &settings.ssh {
            let Agent { id, socket } = Agent::parse(&text.value)?;
            let own = || environment.get(&OsString::from(AGENT_SOCKET)).map(PathBuf::from);
            let socket = socket.map(|socket| root.join(socket)).or_else(own).ok_or_else(|| {
                format!("SSH agent '{id}': {AGENT_SOCKET} is not set: start an agent, and ssh-add")
            })?;
            if fs::metadata(&socket).is_ok_and(|found| found.is_file()) {
                return Err(format!(
                    "SSH agent '{id}': {} is a file, and not the socket of an agent: add the key \
                     to an agent with ssh-add",
                    socket.display()
                ));
            }
            mounts.agents.insert(id, socket);
        }
        Ok(mounts)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.secrets.is_empty() && self.agents.is_empty()
    }
}

fn value(
    secret: &Secret,
    root: &Path,
    environment: &BTreeMap<OsString, OsString>,
) -> Result<Vec<u8>, String> {
    let variable = |name: &str| environment.get(&OsString::from(name)).map(|it| it.as_bytes());
    let file = |path: &Path| {
        let full = root.join(path);
        fs::read(&full).map_err(|error| format!("{}: {error}", path.display()))
    };
    let value = match &secret.source {
        SecretSource::File(path) => file(path)?,
        SecretSource::Variable(name) => variable(name)
            .ok_or_else(|| format!("the environment variable {name} is not set"))?
            .to_vec(),
        SecretSource::Either(name) => match variable(name) {
            Some(value) => value.to_vec(),
            None => file(Path::new(name)).map_err(|error| {
                format!("there is neither a variable {name} nor such a file ({error})")
            })?,
        },
    };
    if value.len() > MAX_SECRET {
        return Err(format!("it has more than {} KiB, which BuildKit takes", MAX_SECRET >> 10));
    }
    Ok(value)
}

/// Serves the secrets of one build.
#[derive(Debug)]
pub(crate) struct SecretService(pub(crate) Mounts);

#[tonic::async_trait]
impl Secrets for SecretService {
    async fn get_secret(
        &self,
        request: Request<GetSecretRequest>,
    ) -> Result<Response<GetSecretResponse>, Status> {
        let id = request.into_inner().id;
        match self.0.secrets.get(&id) {
            Some(value) => Ok(Response::new(GetSecretResponse { data: value.clone() })),
            None => Err(Status::not_found(format!("secret {id} not found"))),
        }
    }
}

/// Forwards to the agents of one build.
#[derive(Debug)]
pub(crate) struct AgentService(pub(crate) Mounts);

impl AgentService {
    fn socket(&self, id: &str) -> Result<&Path, Status> {
        let id = if id.is_empty() { "default" } else { id };
        let socket = self.0.agents.get(id).map(PathBuf::as_path);
        socket.ok_or_else(|| Status::not_found(format!("unset ssh forward key {id}")))
    }
}

type Bytes = Pin<Box<dyn Stream<Item = Result<BytesMessage, Status>> + Send>>;

#[tonic::async_trait]
impl Ssh for AgentService {
    async fn check_agent(
        &self,
        request: Request<CheckAgentRequest>,
    ) -> Result<Response<CheckAgentResponse>, Status> {
        self.socket(&request.into_inner().id)?;
        Ok(Response::new(CheckAgentResponse {}))
    }

    type ForwardAgentStream = Bytes;

    async fn forward_agent(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Bytes>, Status> {
        let id = request.metadata().get(AGENT_ID).and_then(|id| id.to_str().ok());
        let socket = self.socket(id.unwrap_or_default())?;
        let (mut from_agent, mut to_agent) = UnixStream::connect(socket).await?.into_split();
        let mut asked = request.into_inner();
        tokio::spawn(async move {
            while let Some(Ok(message)) = asked.next().await {
                if to_agent.write_all(&message.data).await.is_err() {
                    return;
                }
            }
        });
        let (sender, answers) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut buffer = vec![0; 32 << 10];
            while let Ok(count @ 1..) = from_agent.read(&mut buffer).await {
                let message = BytesMessage { data: buffer[..count].to_vec() };
                if sender.send(Ok(message)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }
}
