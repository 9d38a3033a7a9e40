//! What may be a secret, and what is shown of it.

use crate::dockerfile::platform_args::is_proxy;

/// What is shown in the place of a secret in a text.
const HIDDEN: &str = "…";

/// Whether the value of this name may be a secret: by the words of BuildKit's check
/// `SecretsUsedInArgOrEnv`, and proxies, which can have passwords.
pub fn may_be_secret(name: &str) -> bool {
    let words = [
        "apikey",
        "auth",
        "credential",
        "credentials",
        "key",
        "password",
        "pword",
        "passwd",
        "secret",
        "token",
    ];
    let name = name.to_lowercase();
    is_proxy(&name) || name.split(['_', '-', '.']).any(|word| words.contains(&word))
}

/// A text without what may be a secret in it: passwords in URLs, and attributes such as the
/// `secret_access_key=…` of a cache.
pub fn hide(text: &str) -> String {
    let without_passwords = hide_in_urls(text);
    let attributes = without_passwords.split(',').map(|attribute| {
        match attribute.split_once('=').filter(|(name, _)| may_be_secret(name)) {
            Some((name, _)) => format!("{name}={HIDDEN}"),
            None => attribute.to_owned(),
        }
    });
    attributes.collect::<Vec<_>>().join(",")
}

/// The passwords in `SCHEME://USER:PASSWORD@HOST`, and the users that are all that stands there
/// where a web server takes a token as one.
fn hide_in_urls(text: &str) -> String {
    let mut parts = text.split("://");
    let mut scheme = parts.next().unwrap_or_default();
    let mut hidden = scheme.to_owned();
    for part in parts {
        let end = part.find(['/', '?', '#', ',', '"', '\'', ' ', '\n']).unwrap_or(part.len());
        let (authority, rest) = part.split_at(end);
        hidden += "://";
        hidden += &match authority.rsplit_once('@') {
            Some((user, host)) => match user.split_once(':') {
                Some((user, _)) => format!("{user}:{HIDDEN}@{host}"),
                None if scheme.ends_with("http") || scheme.ends_with("https") => {
                    format!("{HIDDEN}@{host}")
                }
                None => authority.to_owned(),
            },
            None => authority.to_owned(),
        };
        hidden += rest;
        scheme = part;
    }
    hidden
}

/// What a parser says about a text that may hold secrets: without the value that it quotes.
pub fn unquoted(message: &str) -> String {
    let kinds = ["invalid type: ", "invalid value: "];
    let found = kinds.iter().find_map(|kind| message.split_once(kind));
    let Some((before, quoted)) = found else { return message.to_owned() };
    let expected = quoted.rsplit_once(", expected ").map_or("another value", |(_, it)| it);
    let expected = match expected.strip_prefix("struct ") {
        Some(name) => {
            let place = name.find(' ').map_or("", |end| &name[end..]);
            format!("a table of keys and values{place}")
        }
        None => expected.to_owned(),
    };
    format!("{before}expected {expected}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_secret_is_hidden_and_the_rest_is_not() {
        for (text, shown) in [
            ("type=s3,bucket=b,secret_access_key=s=1", "type=s3,bucket=b,secret_access_key=…"),
            ("type=gha,token=t,scope=s", "type=gha,token=…,scope=s"),
            ("API_TOKEN=x", "API_TOKEN=…"),
            ("https://u:p@git.example/x.git#a@b:c", "https://u:…@git.example/x.git#a@b:c"),
            ("https://u:p@w@h/a,https://v:q@h", "https://u:…@h/a,https://v:…@h"),
            ("https://token@h/x", "https://…@h/x"),
            ("ssh://git@h:22/x", "ssh://git@h:22/x"),
            ("ssh://admin:admin@h", "ssh://admin:…@h"),
            ("tcp://u:a:b@h:1", "tcp://u:…@h:1"),
            ("url=http://u:p@h", "url=http://u:…@h"),
            ("docker-image://r.example/x@sha256:1", "docker-image://r.example/x@sha256:1"),
            ("r.example/cache:{image}", "r.example/cache:{image}"),
            ("KEYBOARD=de", "KEYBOARD=de"),
            ("", ""),
        ] {
            assert_eq!(hide(text), shown, "{text}");
        }
    }

    #[test]
    fn a_parser_quotes_nothing() {
        for (message, said) in [
            (
                "a.b: invalid type: string \"p, expected q\", expected struct X at line 2 column 3",
                "a.b: expected a table of keys and values at line 2 column 3",
            ),
            ("invalid type: map, expected a string", "expected a string"),
            ("invalid value: string \"p\"", "expected another value"),
            ("EOF while parsing a value at line 1", "EOF while parsing a value at line 1"),
        ] {
            assert_eq!(unquoted(message), said, "{message}");
        }
    }
}
