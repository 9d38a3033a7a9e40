use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::output::replace_times;
use crate::workspace::wait_until;

const ROWS: u16 = 20;

/// The binary on a terminal of its own, which `script` makes.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    keys: ChildStdin,
    written: Arc<Mutex<Vec<u8>>>,
    columns: u16,
    prefix: String,
}

impl Terminal {
    /// Starts a command on a terminal of so many columns; `prefix` is shown as `tt-`.
    pub(crate) fn start(command: &Command, columns: u16, prefix: &str) -> Self {
        let quoted = |text: &std::ffi::OsStr| format!("'{}'", text.to_string_lossy());
        let mut words = vec![quoted(command.get_program())];
        words.extend(command.get_args().map(quoted));
        let line = format!("stty cols {columns} rows {ROWS}; exec {}", words.join(" "));
        let mut script = Command::new("script");
        script.args(["--quiet", "--flush", "--return", "--command", &line, "/dev/null"]);
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => script.env(name, value),
                None => script.env_remove(name),
            };
        }
        script.env("TERM", "xterm-256color").env_remove("CI");
        if let Some(dir) = command.get_current_dir() {
            script.current_dir(dir);
        }
        let mut child = script
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("script runs");
        let written = Arc::new(Mutex::new(Vec::new()));
        let (shared, mut output) = (Arc::clone(&written), child.stdout.take().expect("a pipe"));
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = output.read(&mut buffer) {
                shared.lock().expect("no panic").extend_from_slice(&buffer[..read]);
            }
        });
        let keys = child.stdin.take().expect("a pipe");
        Self { child, keys, written, columns, prefix: prefix.to_owned() }
    }

    /// What a person sees, without the empty lines below.
    pub fn screen(&self) -> String {
        let mut parser = vt100::Parser::new(ROWS, self.columns, 0);
        parser.process(&self.written.lock().expect("no panic"));
        let rows: Vec<String> =
            parser.screen().rows(0, self.columns).map(|row| row.trim_end().to_owned()).collect();
        let screen = rows.join("\n").trim_end().replace(&self.prefix, "tt-");
        replace_times(&(screen + "\n"))
    }

    /// Waits until the screen shows a text.
    pub fn wait_for(&self, text: &str) {
        wait_until(&format!("'{text}' on the screen"), || self.screen().contains(text));
    }

    /// Presses Ctrl-C.
    pub fn interrupt(&mut self) {
        self.press("\x03");
    }

    /// Presses these keys.
    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("a terminal");
        self.keys.flush().expect("a terminal");
    }

    /// Waits for the end, and gives the exit code and what is left on the screen.
    pub fn finish(mut self) -> (i32, String) {
        let status = self.child.wait().expect("it ends");
        // What was written last may still be on its way.
        wait_until("the last output", || Arc::strong_count(&self.written) == 1);
        (status.code().unwrap_or(-1), self.screen())
    }
}
