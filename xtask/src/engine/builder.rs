//! Which builder makes the images.

use std::fmt;

use bollard::Docker;
use bollard::errors::Error as ClientError;
use bollard::models::{SystemInfo, SystemVersion};

/// The builder to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Builder {
    /// BuildKit, through the engine's own API.
    BuildKit,
    /// The classic builder, which every engine has.
    Classic,
}

/// The builder that the user chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChosenBuilder {
    /// One of the engine's own.
    Own(Builder),
    /// A builder of `docker buildx`, by its name.
    Buildx(String),
}

impl fmt::Display for ChosenBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own(Builder::BuildKit) => "buildkit",
            Self::Own(Builder::Classic) => "classic",
            Self::Buildx(name) => name,
        })
    }
}

/// Which builder an engine has, and why it is not BuildKit.
pub(crate) async fn detect_builder(
    client: &Docker,
    opens_session: impl Future<Output = bool>,
) -> Result<(Builder, Option<String>), ClientError> {
    let version = client.version().await?;
    let is_podman = is_podman(&version);
    let is_windows = version.os.as_deref() == Some("windows");
    if is_podman || is_windows {
        let name = if is_podman { "Podman" } else { "the engine on Windows" };
        return Ok((Builder::Classic, Some(format!("{name} has no BuildKit"))));
    }
    let number = version.version.unwrap_or_default();
    if is_before_27_5(&number)
        && uses_containerd_store(&client.info().await?)
        && !opens_session.await
    {
        let why = format!(
            "BuildKit of engine {number} with the containerd image store needs a session, and none \
             can be opened"
        );
        return Ok((Builder::Classic, Some(why)));
    }
    Ok((Builder::BuildKit, None))
}

/// Whether an engine is Podman.
pub(crate) fn is_podman(version: &SystemVersion) -> bool {
    let mut components = version.components.iter().flatten();
    components.any(|component| component.name.contains("Podman"))
}

/// Whether an engine keeps images in containerd, and not in a store of its own.
pub(crate) fn uses_containerd_store(info: &SystemInfo) -> bool {
    let status = info.driver_status.iter().flatten().flatten();
    status.into_iter().any(|value| value == "io.containerd.snapshotter.v1")
}

fn is_before_27_5(version: &str) -> bool {
    let mut numbers = version.split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0u32));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < (27, 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_containerd_store_accepts_streams_since_27_5() {
        assert!(is_before_27_5("26.1.5+dfsg1"));
        assert!(is_before_27_5("27.4.1"));
        assert!(!is_before_27_5("27.5.0-rc.1"));
        assert!(!is_before_27_5("28.5.2"));
    }
}
