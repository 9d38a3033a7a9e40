//! A program whose streams lead to an engine or a builder.

use std::process::Stdio;

use tokio::io::{AsyncReadExt, copy};
use tokio::net::UnixStream;
use tokio::process::Command;

use crate::engine::error::Trouble;

/// So much of what the program says about a failure is kept, in bytes.
const MAX_MESSAGE: u64 = 4 << 10;

/// Runs the program, and connects a client with its streams until one of them ends. `advice` is
/// what to try if it leads nowhere.
pub(super) async fn dial(
    mut command: Command,
    advice: &str,
    client: &mut UnixStream,
) -> Result<(), Trouble> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Ctrl-C is for this program, which ends the other one.
    let mut program = command
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Trouble::Refused(format!("cannot run {name}: {error}")))?;
    let (Some(mut stdin), Some(mut stdout), Some(stderr)) =
        (program.stdin.take(), program.stdout.take(), program.stderr.take())
    else {
        return Err(Trouble::Refused(format!("{name} has no streams")));
    };
    let (mut from_client, mut to_client) = client.split();
    let sending = async {
        drop(copy(&mut from_client, &mut stdin).await);
        drop(stdin);
    };
    // A client that goes away does so because it was answered, or does not care.
    let receiving = async { copy(&mut stdout, &mut to_client).await.map_or(true, |it| it > 0) };
    let mut message = String::new();
    let saying = async {
        let mut stderr = stderr.take(MAX_MESSAGE);
        drop(stderr.read_to_string(&mut message).await);
        // What is longer must not block it.
        drop(copy(&mut stderr.into_inner(), &mut tokio::io::sink()).await);
    };
    let is_answered = tokio::select! {
        // What the other end sent is passed on to the end, also after the client's last byte.
        (is_answered, ()) = async { tokio::join!(receiving, saying) } => is_answered,
        ((), ()) = async { tokio::join!(sending, std::future::pending()) } => true,
    };
    if is_answered {
        return Ok(());
    }
    let message = message.trim().trim_end_matches('.');
    let said = match message {
        "" => format!("{name} ended without a word"),
        message => message.to_owned(),
    };
    Err(Trouble::Refused(format!("{said}. Try: {advice}")))
}

/// What a docker CLI without buildx says, old ones and new ones.
const NO_BUILDX: [&str; 3] = [
    "'buildx' is not a docker command",
    "unknown command: docker buildx",
    "unknown flag: --builder",
];

/// Connects a client with the BuildKit of a builder of `docker buildx` until one of them ends.
pub(super) async fn dial_builder(name: &str, client: &mut UnixStream) -> Result<(), Trouble> {
    let mut docker = Command::new("docker");
    docker.args(["buildx", "dial-stdio", "--builder", name]);
    let advice = format!("docker buildx inspect --bootstrap {name}");
    dial(docker, &advice, client).await.map_err(|trouble| match trouble {
        Trouble::Refused(said) if NO_BUILDX.iter().any(|text| said.contains(text)) => {
            Trouble::Refused("the docker CLI has no buildx: install it, 0.13 or later".to_owned())
        }
        Trouble::Refused(said) => Trouble::Refused(said.trim_start_matches("ERROR: ").to_owned()),
        trouble @ Trouble::Away(_) => trouble,
    })
}
