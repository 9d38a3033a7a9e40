//! The part of an engine's address that says which machine and port it is.

/// The host of `HOST[:PORT]`, where an IPv6 address is in brackets, and the port.
pub(crate) fn host_and_port(authority: &str) -> (&str, Option<&str>) {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    (host.trim_start_matches('[').trim_end_matches(']'), port)
}
