//! A way to a registry on which some requests are answered otherwise.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// The first byte of a TLS connection.
const TLS: u8 = 22;

/// What is said to requests whose first line has a text in it.
#[derive(Debug)]
pub struct Rule {
    request: String,
    /// How many of them are passed on before, and how many are answered.
    passed: usize,
    answered: usize,
    /// Of those, only each one with a number that this divides.
    nth: usize,
    seen: usize,
    /// Status, headers and body; none for no answer at all.
    answer: Option<(String, Vec<u8>)>,
}

impl Rule {
    /// Answers all requests with a text in their first line.
    pub fn new(request: &str, head: &str, body: &[u8]) -> Self {
        let answer = Some((head.to_owned(), body.to_vec()));
        Self {
            request: request.to_owned(),
            passed: 0,
            answered: usize::MAX,
            nth: 1,
            seen: 0,
            answer,
        }
    }

    /// Never answers them.
    pub fn silence(request: &str) -> Self {
        Self { answer: None, ..Self::new(request, "", b"") }
    }

    /// Answers only so many of them.
    #[must_use]
    pub fn times(self, answered: usize) -> Self {
        Self { answered, ..self }
    }

    /// Passes so many of them on before.
    #[must_use]
    pub fn after(self, passed: usize) -> Self {
        Self { passed, ..self }
    }

    /// Answers every second, third or fourth of them, and so on.
    #[must_use]
    pub fn every(self, nth: usize) -> Self {
        Self { nth, ..self }
    }

    /// Whether it is about a request, which is counted.
    fn takes(&mut self, request: &str) -> bool {
        if !request.contains(&self.request) {
            return false;
        }
        if self.passed > 0 {
            self.passed -= 1;
            return false;
        }
        self.seen += 1;
        if !self.seen.is_multiple_of(self.nth) {
            return false;
        }
        let is_answered = self.answered > 0;
        self.answered = self.answered.saturating_sub(1);
        is_answered
    }
}

/// A second address of a registry.
#[derive(Clone, Debug)]
pub struct Proxy {
    address: String,
    registry: String,
    rules: Arc<Mutex<Vec<Rule>>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Passes everything on to the registry at an address.
    ///
    /// # Panics
    ///
    /// If there is no free port.
    pub fn start(registry: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let registry = registry.to_owned();
        let proxy = Self { address, registry, rules: Arc::default(), requests: Arc::default() };
        let passing = proxy.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let proxy = passing.clone();
                // A client that goes away is the end of it.
                thread::spawn(move || drop(proxy.pass(client)));
            }
        });
        proxy
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// From now on these rules hold, and no others.
    pub fn set(&self, rules: impl IntoIterator<Item = Rule>) {
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner) = rules.into_iter().collect();
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The first lines of the requests since the rules were set.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Passes one request on, and says that the connection ends after it.
    fn pass(&self, mut client: TcpStream) -> io::Result<()> {
        let mut first = [0];
        if client.peek(&mut first)? == 1 && first[0] == TLS {
            // As a server does that speaks no TLS: containerd tries that first.
            return client.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n");
        }
        let mut reader = BufReader::new(client.try_clone()?);
        let mut head = String::new();
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
        let request = head.trim_end().to_owned();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 || line == "\r\n" {
                break;
            }
            if !line.to_lowercase().starts_with("connection:") {
                head.push_str(&line);
            }
        }
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
        let answer = {
            let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
            let rule = rules.iter_mut().find_map(|rule| rule.takes(&request).then_some(rule));
            rule.map(|rule| rule.answer.clone())
        };
        match answer {
            Some(None) => {
                thread::park();
                return Ok(());
            }
            Some(Some((status, body))) => {
                let length = body.len();
                write!(
                    client,
                    "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
                )?;
                client.write_all(&body)?;
                return client.shutdown(Shutdown::Both);
            }
            None => {}
        }
        let mut server = TcpStream::connect(&self.registry)?;
        write!(server, "{head}Connection: close\r\n\r\n")?;
        let mut upstream = server.try_clone()?;
        thread::spawn(move || drop(io::copy(&mut reader, &mut upstream)));
        let mut answer = Vec::new();
        // A registry that refuses a request may leave its body unread, and reset the connection
        // after the answer.
        drop(server.read_to_end(&mut answer));
        client.write_all(&answer)?;
        client.shutdown(Shutdown::Both)
    }
}
