//! The version of the API that requests are for, which each says in its path.
//!
//! As the docker CLI does it: `DOCKER_API_VERSION`, else the newest that both sides know. The
//! engine's is in its response to a ping, which has no version and is sent anyway, so that nothing
//! takes longer. Something between here and the engine may drop that header; then it is
//! [`OLDEST`], which all engines take but those that are new enough to refuse it in clear words.

use bollard::ClientVersion;

use crate::engine::error::EngineError;

/// That of Docker 20.10 and Podman 4.
const OLDEST: ClientVersion = ClientVersion { major_version: 1, minor_version: 41 };

/// The version to use with an engine that offers one, if the user chose one or did not.
pub(super) fn negotiate(
    endpoint: &str,
    offered: Option<&str>,
    chosen: Option<&str>,
) -> Result<ClientVersion, EngineError> {
    let offered = offered.and_then(parse);
    if let Some(offered) = offered.filter(|offered| *offered < OLDEST) {
        return Err(EngineError::Endpoint(format!(
            "the engine at {endpoint} knows the Docker API up to version {offered}, and {OLDEST} \
             is needed: that of Docker 20.10, or Podman 4"
        )));
    }
    let Some(chosen) = chosen.filter(|chosen| !chosen.is_empty()) else {
        let newest = *bollard::API_DEFAULT_VERSION;
        let offered = offered.unwrap_or(OLDEST);
        return Ok(if offered < newest { offered } else { newest });
    };
    let wrong = match parse(chosen) {
        None => format!("is no version of the Docker API, such as {OLDEST}"),
        Some(version) if version < OLDEST => format!("is too old: {OLDEST} or later is needed"),
        Some(version) => match offered.filter(|offered| *offered < version) {
            None => return Ok(version),
            Some(offered) => {
                format!("is too new: the engine at {endpoint} knows the Docker API up to {offered}")
            }
        },
    };
    Err(EngineError::Endpoint(format!("DOCKER_API_VERSION, which is '{chosen}', {wrong}")))
}

/// Reads `1.41`, as the docker CLI also `v1.41`.
fn parse(text: &str) -> Option<ClientVersion> {
    let (major, minor) = text.strip_prefix('v').unwrap_or(text).split_once('.')?;
    Some(ClientVersion { major_version: major.parse().ok()?, minor_version: minor.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn negotiated(offered: Option<&str>, chosen: Option<&str>) -> String {
        match negotiate("HERE", offered, chosen) {
            Ok(version) => version.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_newest_version_that_both_know_is_used() {
        let newest = bollard::API_DEFAULT_VERSION.to_string();
        assert_eq!(negotiated(Some("1.41"), None), "1.41");
        assert_eq!(negotiated(Some("1.51"), Some("")), "1.51");
        assert_eq!(negotiated(Some("1.999"), None), newest);
        assert_eq!(negotiated(Some("2.0"), None), newest);
        for unknown in [None, Some(""), Some("next")] {
            assert_eq!(negotiated(unknown, None), "1.41");
        }
    }

    #[test]
    fn the_user_s_version_is_not_negotiated() {
        assert_eq!(negotiated(Some("1.52"), Some("1.44")), "1.44");
        assert_eq!(negotiated(Some("1.999"), Some("v1.998")), "1.998");
        assert_eq!(negotiated(None, Some("1.60")), "1.60");
    }
}
