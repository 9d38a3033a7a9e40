//! Pulls and pushes, each on a connection of its own.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use bollard::auth::DockerCredentials;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http_body_util::Full;
use hyper::Request;
use serde::Serialize;

use crate::engine::address::Address;
use crate::engine::error::{EngineError, invalid_request};
use crate::engine::response::{self, ResponseLine, TransferStatus};

/// The status messages of a pull or a push.
pub(crate) type TransferStatuses<'a> = BoxStream<'a, Result<TransferStatus, EngineError>>;

/// Requests a pull or a push on a new connection.
pub(crate) async fn transfer(
    address: &Address,
    call: &str,
    login: Option<&DockerCredentials>,
) -> Result<TransferStatuses<'static>, EngineError> {
    let login = serde_json::to_vec(login.unwrap_or(&DockerCredentials::default()))
        .map_err(|error| invalid_request(&error))?;
    let request = Request::post(address.path(call))
        .header("Host", address.socket.host())
        .header("X-Registry-Auth", URL_SAFE.encode(login))
        .body(Full::new(Bytes::new()))
        .map_err(|error| invalid_request(&error))?;
    let lines = response::post(&address.socket, request).await?;
    let status = |line: ResponseLine<TransferStatus>| match line {
        ResponseLine::Message(status) => *status,
        ResponseLine::Oversized(_) => TransferStatus::new(None, None, None),
    };
    Ok(lines.map(move |line| line.map(status)).boxed())
}

/// Options as a URL's query.
pub(crate) fn query(options: &impl Serialize) -> Result<String, EngineError> {
    serde_urlencoded::to_string(options).map_err(|error| invalid_request(&error))
}

/// The bytes of an image's layers, by layer: what is done, and all.
#[derive(Debug, Default)]
pub(crate) struct LayerBytes(HashMap<String, (u64, u64)>);

impl LayerBytes {
    /// Notes what a status says of a layer. Pulled layers are also unpacked, which is counted
    /// as nothing: its bytes are others.
    pub(crate) fn note(&mut self, status: &TransferStatus) {
        let (Some(layer), Some(text)) = (&status.id, &status.status) else { return };
        match (text.as_str(), status.progress()) {
            ("Downloading" | "Pushing", Some((bytes, total))) => {
                self.0.insert(layer.clone(), (bytes, total.max(bytes)));
            }
            ("Download complete" | "Pull complete" | "Pushed", _) => {
                if let Some((bytes, total)) = self.0.get_mut(layer) {
                    *bytes = *total;
                }
            }
            _ => {}
        }
    }

    /// The bytes of all layers that are done, and all of them.
    pub(crate) fn sum(&self) -> (u64, u64) {
        let add = |(bytes, total): (u64, u64), layer: &(u64, u64)| {
            (bytes.saturating_add(layer.0), total.saturating_add(layer.1))
        };
        self.0.values().fold((0, 0), add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layers_of_an_image_are_summed() {
        let mut layers = LayerBytes::default();
        for line in [
            r#"{"status":"Pulling from library/debian","id":"12"}"#,
            r#"{"status":"Downloading","progressDetail":{"current":5,"total":100},"id":"a"}"#,
            r#"{"status":"Downloading","progressDetail":{"current":7,"total":50},"id":"b"}"#,
            r#"{"status":"Downloading","progressDetail":{"current":20,"total":100},"id":"a"}"#,
            r#"{"status":"Download complete","progressDetail":{},"id":"b"}"#,
            r#"{"status":"Extracting","progressDetail":{"current":900,"total":1000},"id":"b"}"#,
        ] {
            layers.note(&serde_json::from_str(line).unwrap());
        }
        assert_eq!(layers.sum(), (70, 150));
    }
}
