use std::process;

/// What a run of the binary left: its exit code and what it wrote, with
/// everything that differs from run to run replaced by a word in brackets.
#[derive(Debug)]
pub struct Output {
    /// The exit code; -1 if a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    pub(crate) fn new(raw: &process::Output, replacements: &[(String, String)]) -> Self {
        let text = |bytes: &[u8]| {
            let mut text = String::from_utf8(bytes.to_vec()).expect("output is UTF-8");
            for (from, to) in replacements {
                text = text.replace(from, to);
            }
            replace_digests(&replace_times(&text))
        };
        Self {
            code: raw.status.code().unwrap_or(-1),
            stdout: text(&raw.stdout),
            stderr: without_waits(&text(&raw.stderr)),
        }
    }

    /// Itself, if the exit code is `code`.
    ///
    /// # Panics
    ///
    /// With everything that was written, if it is not.
    pub fn exits_with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// The last error: from the line that begins with `error:` on, up to the command that
    /// reproduces it if there is one.
    pub fn error(&self) -> &str {
        let start = self.stderr.rfind("\nerror: ").map_or(0, |place| place + 1);
        let text = &self.stderr[start..];
        let Some(last_line) = text.find("\nto reproduce: ") else { return text };
        let end = text[last_line + 1..].find('\n').map_or(text.len(), |it| last_line + 2 + it);
        &text[..end]
    }

    /// The components that were built, sorted.
    pub fn built_by_name(&self) -> Vec<&str> {
        let mut built = self.built();
        built.sort_unstable();
        built
    }

    /// The components that were built, in the order in which they were done.
    pub fn built(&self) -> Vec<&str> {
        let lines = self.stderr.lines().filter(|line| line.contains("| built in "));
        lines.filter_map(|line| line.split_whitespace().next()).collect()
    }
}

/// Only a busy machine lets anybody wait for an engine that answers.
fn without_waits(text: &str) -> String {
    let is_wait = |line: &&str| line.starts_with("waiting: for the engine ");
    text.split_inclusive('\n').filter(|line| !is_wait(line)).collect()
}

/// `1.2s` and `1s ago` become `[TIME]`, and `1.2 jobs` becomes `[N] jobs`.
pub(crate) fn replace_times(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(|letter: char| letter.is_ascii_digit()) {
        out.push_str(&rest[..start]);
        let number = &rest[start..];
        let is_part = |letter: char| letter.is_ascii_digit() || letter == '.';
        let end = number.find(|letter| !is_part(letter)).unwrap_or(number.len());
        let (number, after) = number.split_at(end);
        let is_alone = !out.ends_with(|letter: char| letter.is_alphanumeric());
        let is_told = number.contains('.') || after.starts_with("s ago");
        let is_time = is_told && is_alone && number.parse::<f64>().is_ok();
        let ends_word = |rest: &str| !rest.starts_with(|letter: char| letter.is_alphanumeric());
        match after.strip_prefix('s').filter(|rest| is_time && ends_word(rest)) {
            Some(after) => {
                out.push_str("[TIME]");
                rest = after;
            }
            None if is_time && after.trim_start().starts_with("jobs") => {
                out.push_str("[N]");
                rest = after;
            }
            None => {
                out.push_str(number);
                rest = after;
            }
        }
    }
    out + rest
}

/// `sha256:…` becomes `[DIGEST]`.
fn replace_digests(text: &str) -> String {
    let mut parts = text.split("sha256:");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_hexdigit).count();
        out.push_str("[DIGEST]");
        out.push_str(&part[digits..]);
    }
    out
}
