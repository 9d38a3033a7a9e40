//! Whether a failed push is worth a retry: after an HTTP status 408, 429 or 5xx, or a network
//! error.
//!
//! The engine returns only a text. Its format is that of the program that wrote it (the engine's
//! registry client, containerd, or Go's network library), and shows the kind of error and where
//! the registry's own message begins. That message is not matched, as it can contain anything,
//! and neither are the names of repositories.

/// Prefixes that containerd, Podman and the engine add to a cause.
const PREFIXES: [&str; 9] = [
    "error response from daemon: ",
    "failed to do request: ",
    "failed to authorize: ",
    "failed to fetch anonymous token: ",
    "failed to fetch oauth token: ",
    "failed to copy: ",
    "failed to close writer: ",
    "error from registry: ",
    "writing manifest: ",
];

/// The same, followed by a name and a colon.
const NAMED_PREFIXES: [&str; 7] = [
    "failed to push ",
    "failed commit on ref ",
    "failed to resolve reference ",
    // Podman's
    "trying to reuse blob ",
    "checking whether a blob ",
    "pinging container registry ",
    "uploading manifest ",
];

/// How containerd begins the error of a status.
const STATUS_FROM: &str = "unexpected status from ";

/// What the engine calls an error of containerd's, and a registry one that it has no code for.
const UNKNOWN: &str = "unknown: ";

/// How errors of Go's HTTP client begin: `Put "URL": cause`.
const METHODS: [&str; 6] = ["Delete", "Get", "Head", "Patch", "Post", "Put"];

/// How errors of Go's network library begin.
const NETWORK_ERRORS: [&str; 11] = [
    "dial ",
    "read ",
    "write ",
    "lookup ",
    "proxyconnect ",
    "net/http: ",
    "http: ",
    "http2: ",
    "context deadline exceeded",
    "unexpected EOF",
    "EOF",
];

/// How transient ones end. An invalid certificate, for example, is permanent.
const TRANSIENT_CAUSES: [&str; 19] = [
    "EOF",
    "broken pipe",
    "client connection force closed via ClientConn.Close",
    "client connection lost",
    "connection refused",
    "connection reset by peer",
    "connection timed out",
    "context deadline exceeded",
    "i/o timeout",
    "network is unreachable",
    "no route to host",
    "no such host",
    "server closed idle connection",
    "server misbehaving",
    "temporary failure in name resolution",
    "timeout awaiting response headers",
    "TLS handshake timeout",
    "use of closed network connection",
    "(Client.Timeout exceeded while awaiting headers)",
];

/// Whether an engine's error about a push is transient.
pub(crate) fn is_transient(text: &str) -> bool {
    let cause = cause_in(text);
    match status_in(cause) {
        Some(status) => matches!(status, 408 | 429 | 500..=599),
        None => is_busy(cause) || is_transient_network_error(cause),
    }
}

/// The cause without its prefixes.
fn cause_in(text: &str) -> &str {
    let text = text.trim();
    let rest = without_prefix(text);
    let of_containerd =
        |text: &&str| text.starts_with(STATUS_FROM) || without_prefix(text).is_some();
    match rest.or_else(|| strip(text, UNKNOWN).filter(of_containerd)) {
        Some(rest) => cause_in(rest),
        None => text,
    }
}

/// The rest of a text that begins with a prefix.
fn without_prefix(text: &str) -> Option<&str> {
    let rest = PREFIXES.iter().find_map(|prefix| strip(text, prefix));
    let named = || NAMED_PREFIXES.iter().find_map(|prefix| after_name(strip(text, prefix)?));
    rest.or_else(named)
}

/// The text after a prefix, in any case.
fn strip<'t>(text: &'t str, start: &str) -> Option<&'t str> {
    let (head, rest) = text.split_at_checked(start.len())?;
    head.eq_ignore_ascii_case(start).then_some(rest)
}

/// The text after a name and a colon. No name contains a colon and a space.
fn after_name(text: &str) -> Option<&str> {
    Some(text.split_once(": ")?.1)
}

/// The HTTP status, if the error has one in a known place.
fn status_in(cause: &str) -> Option<u16> {
    const BEFORE: [&str; 3] =
        ["error parsing HTTP ", "received unexpected HTTP status: ", "unexpected status: "];
    let before = BEFORE.iter().find_map(|start| strip(cause, start));
    // `unexpected status from PUT request to URL: 500 …`; in older versions `unexpected status
    // code URL: 500 …`.
    let after_url = || {
        let urls = [STATUS_FROM, "unexpected status code "];
        after_name(urls.iter().find_map(|start| strip(cause, start))?)
    };
    let (status, rest) = before.or_else(after_url)?.split_at_checked(3)?;
    let is_whole = !rest.starts_with(|letter: char| letter.is_ascii_alphanumeric());
    status.parse().ok().filter(|_| is_whole)
}

/// Whether the registry's error code says that it is busy. `unknown` does not: that of a 500 is
/// reported as the status, so this one came with a 4xx.
fn is_busy(cause: &str) -> bool {
    // Several errors are listed one per line.
    let mut errors = cause.strip_prefix("errors:\n").unwrap_or(cause).lines();
    let first = errors.next().unwrap_or_default();
    let code = first.split(": ").next().unwrap_or_default();
    ["toomanyrequests", "unavailable"].contains(&code)
}

fn is_transient_network_error(cause: &str) -> bool {
    let request = METHODS.iter().find_map(|method| strip(cause, method)?.strip_prefix(" \""));
    // Go escapes quotation marks in URLs.
    let cause = request.and_then(|rest| rest.split_once("\": ")).map_or(cause, |(_, why)| why);
    let is_request = request.is_some();
    (is_request || NETWORK_ERRORS.iter().any(|start| cause.starts_with(start)))
        && TRANSIENT_CAUSES.iter().any(|end| cause.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transient_statuses_are_recognized_in_the_engine_s_errors() {
        // From 20.10, for 429 with several bodies, for 408 and for 5xx.
        let transient = [
            r#"error parsing HTTP 429 response body: unexpected end of JSON input: """#,
            r#"error parsing HTTP 429 response body: invalid character '<' looking for beginning of value: "<html><title>Slow down</title></html>""#,
            r#"error parsing HTTP 429 response body: no error details found in HTTP response body: "{\"detail\":\"denied\"}""#,
            r#"error parsing HTTP 408 response body: invalid character 's' looking for beginning of value: "slow""#,
            "toomanyrequests: slow",
            "toomanyrequests",
            "unavailable: service unavailable",
            "errors:\ntoomanyrequests: slow\nunknown: x\n",
            "received unexpected HTTP status: 500 Internal Server Error",
            "received unexpected HTTP status: 502 Bad Gateway",
            "received unexpected HTTP status: 503 Service Unavailable",
            "received unexpected HTTP status: 599",
        ];
        for text in transient {
            assert!(is_transient(text), "{text}");
        }
    }

    #[test]
    fn transient_statuses_are_recognized_in_containerd_s_errors() {
        let transient = [
            "unexpected status from POST request to http://h:5/v2/n/x/blobs/uploads/: 500 Internal Server Error",
            "failed to copy: unexpected status from PUT request to https://h/v2/n/x/blobs/uploads/1?digest=sha256%3A1: 502 Bad Gateway",
            "unexpected status from HEAD request to http://h:5/v2/n/x/manifests/v1: 429 Too Many Requests\ntoomanyrequests: slow",
            "failed commit on ref \"manifest-sha256:90e1\": unexpected status: 503 Service Unavailable",
            "failed to copy: failed to do request: Put \"https://h/v2/\": write tcp 10.0.0.1:1->10.0.0.2:443: write: broken pipe",
            "failed to authorize: failed to fetch anonymous token: unexpected status from GET request to https://auth.h/token?scope=x: 503 Service Unavailable",
            "failed to push h:5/n/x:v1: failed to do request: Head \"http://h:5/v2/n/x/manifests/v1\": EOF",
            "unknown: unexpected status from HEAD request to http://h:5/v2/n/x/blobs/sha256:1: 503 Service Unavailable",
            "unknown: failed commit on ref \"manifest-sha256:1\": unexpected status from PUT request to http://h:5/v2/n/x/manifests/v1: 500 Internal Server Error",
            "unexpected status code https://h/v2/x/manifests/sha256:1: 429 Too Many Requests - Server message: toomanyrequests: slow",
        ];
        for text in transient {
            assert!(is_transient(text), "{text}");
        }
    }

    #[test]
    fn transient_errors_are_recognized_in_podman_s() {
        let transient = [
            "trying to reuse blob sha256:1 at destination: pinging container registry h:5: Get \"http://h:5/v2/\": dial tcp 10.0.0.1:5: connect: connection refused",
            "writing manifest: uploading manifest v1 to h:5/n/x: received unexpected HTTP status: 500 Internal Server Error",
        ];
        for text in transient {
            assert!(is_transient(text), "{text}");
        }
        let denied = "trying to reuse blob sha256:1 at destination: checking whether a blob sha256:1 exists in h:5/n/x: authentication required";
        assert!(!is_transient(denied));
    }

    #[test]
    fn network_errors_are_transient() {
        let transient = [
            r#"Get "http://127.0.0.1:5000/v2/": dial tcp 127.0.0.1:5000: connect: connection refused"#,
            r#"Get "https://h/v2/": dial tcp: lookup h on 10.0.0.1:53: no such host"#,
            r#"Put "https://h/v2/x": net/http: TLS handshake timeout"#,
            r#"Patch "https://h/v2/x": http: server closed idle connection"#,
            r#"Get "https://h/v2/": proxyconnect tcp: dial tcp 10.0.0.1:3128: i/o timeout"#,
            r#"Get "https://h/v2/": net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)"#,
            r#"Head "https://h/v2/": context deadline exceeded"#,
            "net/http: TLS handshake timeout",
            "dial tcp 10.0.0.1:443: connect: no route to host",
            "read tcp 10.0.0.1:1->10.0.0.2:443: read: connection reset by peer",
            "EOF",
            "unexpected EOF",
        ];
        for text in transient {
            assert!(is_transient(text), "{text}");
        }
    }

    #[test]
    fn all_other_errors_are_permanent_whatever_their_text() {
        let permanent = [
            "unauthorized: authentication required",
            "unauthorized",
            "no basic auth credentials",
            "denied: requested access to the resource is denied",
            "denied: user may not push to timeout-proxy",
            "denied: storage quota of 5 TiB: too many requests is not why",
            "denied: the upstream said: unexpected EOF",
            "denied: received unexpected HTTP status: 503 Service Unavailable",
            "errors:\ndenied: no\ntoomanyrequests: slow\n",
            "name unknown: The repository with name geofence does not exist",
            "name unknown: i/o timeout",
            "unknown: project unavailable: EOF",
            "An image does not exist locally with the tag: h:5/n/eof",
            "received unexpected HTTP status: 404 Not Found",
            "received unexpected HTTP status: 4290",
            r#"error parsing HTTP 403 response body: invalid character '<' looking for beginning of value: "<html>timeout</html>""#,
            r#"error parsing HTTP 404 response body: unexpected end of JSON input: "EOF""#,
            "unexpected status from PUT request to http://h:500/v2/503/429: 403 Forbidden",
            "unknown: unexpected status from HEAD request to http://h:5/v2/n/x/blobs/sha256:1: 401 Unauthorized",
            "failed commit on ref \"layer-eof\": unexpected status: 400 Bad Request",
            "failed to authorize: failed to fetch oauth token: unexpected status from POST request to https://h/token: 401 Unauthorized",
            "push access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed",
            r#"Get "https://h/v2/": x509: certificate signed by unknown authority"#,
            r#"Get "https://h/v2/": http: server gave HTTP response to HTTPS client"#,
            r#"Get "https://connection.refused/v2/": x509: certificate is not valid for EOF.h"#,
            "manifest invalid: manifest invalid",
            "",
        ];
        for text in permanent {
            assert!(!is_transient(text), "{text}");
        }
    }
}
