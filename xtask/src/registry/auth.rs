//! What a registry wants of who asks: a password, or a token that another server gives out for
//! one.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use serde::Deserialize;

use crate::engine::Login;
use crate::registry::http::Http;

/// The value of a header `Authorization` by scope, as far as it is known what is wanted.
#[derive(Default)]
pub(super) struct Authorizations(Mutex<HashMap<String, String>>);

impl Authorizations {
    pub(super) fn get(&self, scope: &str) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(scope).cloned()
    }

    pub(super) fn forget(&self, scope: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(scope);
    }

    /// Does what the header `WWW-Authenticate` asks for; false if that cannot be done.
    ///
    /// # Errors
    /// The server of tokens does not answer.
    pub(super) async fn meet(
        &self,
        challenge: &str,
        scope: &str,
        login: Option<&Login>,
        http: &Http,
    ) -> Result<bool, String> {
        let Some(authorization) = authorization(challenge, scope, login, http).await? else {
            return Ok(false);
        };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(scope.to_owned(), authorization);
        Ok(true)
    }
}

async fn authorization(
    challenge: &str,
    scope: &str,
    login: Option<&Login>,
    http: &Http,
) -> Result<Option<String>, String> {
    let (scheme, parameters) = challenge.split_once(' ').unwrap_or((challenge, ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Ok(login.and_then(basic));
    }
    let parameters = parse(parameters);
    let Some(realm) = parameters.get("realm").filter(|_| scheme.eq_ignore_ascii_case("bearer"))
    else {
        return Ok(None);
    };
    let service = parameters.get("service").map_or("", String::as_str);
    let request = token_request(realm, service, scope, login)?;
    let answer = http.send(&request).await?;
    let token = serde_json::from_slice::<Token>(&answer.body).ok();
    let token = token.filter(|_| answer.status.is_success());
    let token = token.and_then(|token| token.token.or(token.access_token));
    Ok(token.map(|token| format!("Bearer {token}")))
}

/// An answer of a server of tokens; either name is used.
#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

fn basic(login: &Login) -> Option<String> {
    let (user, password) = (login.username.as_ref()?, login.password.as_ref()?);
    Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

fn token_request(
    realm: &str,
    service: &str,
    scope: &str,
    login: Option<&Login>,
) -> Result<Request<Full<Bytes>>, String> {
    let mut fields = vec![("service", service), ("scope", scope)];
    let encode = |fields: &[(&str, &str)]| {
        serde_urlencoded::to_string(fields).map_err(|error| error.to_string())
    };
    let refresh = login.and_then(|login| login.identitytoken.as_deref());
    let request = if let Some(refresh) = refresh.filter(|token| !token.is_empty()) {
        fields.extend([
            ("grant_type", "refresh_token"),
            ("client_id", "cargo-xtask"),
            ("refresh_token", refresh),
        ]);
        Request::post(realm)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::from(encode(&fields)?))
    } else {
        let mark = if realm.contains('?') { '&' } else { '?' };
        let mut request = Request::get(format!("{realm}{mark}{}", encode(&fields)?));
        if let Some(basic) = login.and_then(basic) {
            request = request.header(AUTHORIZATION, basic);
        }
        request.body(Full::default())
    };
    request.map_err(|error| format!("{realm}: {error}"))
}

/// The parameters `name="value"` of a challenge.
fn parse(parameters: &str) -> HashMap<String, String> {
    let mut found = HashMap::new();
    let mut rest = parameters;
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_start_matches([',', ' ']).trim_end();
        let (value, after) = match after.trim_start().strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        found.insert(name.to_lowercase(), value.to_owned());
        rest = after;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_read_with_and_without_quotes() {
        let found = parse(
            r#"realm="https://auth.example/token?a=b,c",service=registry.example, scope="repository:a/b:pull,push""#,
        );
        assert_eq!(found["realm"], "https://auth.example/token?a=b,c");
        assert_eq!(found["service"], "registry.example");
        assert_eq!(found["scope"], "repository:a/b:pull,push");
    }
}
