//! What public registries have beside them: a server that gives out tokens for a login.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// What a registry that wants tokens has in its configuration, and whom the server lets in.
pub(crate) struct TokenServer {
    dir: PathBuf,
    /// `Basic …`, as a client sends it.
    login: String,
}

impl TokenServer {
    /// Starts it, with a key in `dir`; returns the section of the registry's configuration.
    pub(crate) fn start(dir: &Path, user: &str, password: &str) -> String {
        let arguments = "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 \
                         -subj /CN=tests";
        let made = Command::new("openssl").args(arguments.split(' ')).current_dir(dir).output();
        assert!(made.expect("openssl runs").status.success(), "a certificate");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let login = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        let server = Self { dir: dir.to_owned(), login };
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                drop(server.answer(&client));
            }
        });
        format!(
            "auth:\n  token:\n    realm: http://{address}/token\n    service: tests\n    \
             issuer: tests\n    rootcertbundle: {}\n",
            dir.join("cert.pem").display()
        )
    }

    /// Who has no login gets a token that is good for nothing.
    fn answer(&self, client: &TcpStream) -> std::io::Result<()> {
        let lines = BufReader::new(client).lines().map_while(Result::ok);
        let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        let header = |line: &String| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("authorization").then(|| value.to_owned())
        };
        let login = head.iter().find_map(header);
        let (status, body) = match &head.first().and_then(|line| line.strip_prefix("GET ")) {
            // Clients that post ask again in the other way.
            None => ("405 Method Not Allowed", String::new()),
            Some(_) if login.as_ref().is_some_and(|login| *login != self.login) => {
                ("401 Unauthorized", String::new())
            }
            Some(path) => {
                let access = if login.is_some() { access(path) } else { Vec::new() };
                ("200 OK", json!({ "token": self.token(&access) }).to_string())
            }
        };
        let length = body.len();
        write!(
            &mut &*client,
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
    }

    fn token(&self, access: &[Value]) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs();
        let certificate = fs::read_to_string(self.dir.join("cert.pem")).expect("a certificate");
        let lines = certificate.lines().filter(|line| !line.starts_with("-----"));
        let certificate: String = lines.collect();
        let header = json!({ "typ": "JWT", "alg": "RS256", "x5c": [certificate] });
        let claims = json!({
            "iss": "tests", "sub": "somebody", "aud": "tests", "jti": "1",
            "nbf": now - 60, "iat": now, "exp": now + 300, "access": access,
        });
        let [header, claims] = [header, claims].map(|it| URL_SAFE_NO_PAD.encode(it.to_string()));
        let signed = format!("{header}.{claims}");
        let file = tempfile::NamedTempFile::new_in(&self.dir).expect("a file");
        fs::write(file.path(), &signed).expect("a file");
        let mut openssl = Command::new("openssl");
        openssl.args(["dgst", "-sha256", "-sign", "key.pem"]).arg(file.path());
        let output = openssl.current_dir(&self.dir).output().expect("openssl runs");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(output.stdout))
    }
}

/// What the query asks to do: `scope=repository:NAME:pull,push`, any number of times.
fn access(request: &str) -> Vec<Value> {
    let path = request.split(' ').next().unwrap_or_default();
    let query = path.split_once('?').map_or("", |(_, query)| query);
    let scopes = query.split('&').filter_map(|field| field.strip_prefix("scope="));
    let scopes = scopes.map(|it| it.replace("%3A", ":").replace("%2F", "/").replace("%2C", ","));
    let scopes: Vec<String> = scopes.collect();
    let scopes = scopes.iter().flat_map(|scope| scope.split(['+', ' ']));
    let access = scopes.filter_map(|scope| {
        let [kind, name, actions] = scope.split(':').collect::<Vec<_>>()[..] else { return None };
        let actions: Vec<&str> = actions.split(',').collect();
        Some(json!({ "type": kind, "name": name, "actions": actions }))
    });
    access.collect()
}
