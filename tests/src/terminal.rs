use std::cell::RefCell;
use std::fs;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use crate::output::replace_times;
use crate::screen_picture;
use crate::workspace::wait_until;

const ROWS: u16 = 20;

/// How a line begins that announces a wait for the engine, with and without colors.
const WAITING: [&[u8]; 2] =
    [b"\x1b[36m\x1b[1mwaiting\x1b[0m: for the engine ", b"waiting: for the engine "];

/// The binary on a terminal of its own, which `script` makes.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    keys: ChildStdin,
    written: Arc<Mutex<Vec<u8>>>,
    /// The columns, and from which byte of the output on.
    sizes: Vec<(usize, u16)>,
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
        script.env_remove("CI");
        if !command.get_envs().any(|(name, _)| name == "TERM") {
            script.env("TERM", "xterm-256color");
        }
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
        Self { child, keys, written, sizes: vec![(0, columns)], prefix: prefix.to_owned() }
    }

    /// What a person sees, without the empty lines below. A line that goes on in the next row is
    /// one: where it is broken depends on how long things took.
    pub fn screen(&self) -> String {
        let parser = self.parser();
        let screen = parser.screen();
        let mut text = String::new();
        for (row, number) in screen.rows(0, screen.size().1).zip(0..) {
            if screen.row_wrapped(number) {
                text.push_str(&row);
            } else {
                text.push_str(row.trim_end());
                text.push('\n');
            }
        }
        replace_times(&(text.trim_end().replace(&self.prefix, "tt-") + "\n"))
    }

    /// Waits until the screen shows all of these texts at once, and gives it as an SVG
    /// picture, below the command that was typed.
    pub fn picture(&self, command: &str, texts: &[&str]) -> String {
        let parser = RefCell::new(self.parser());
        wait_until(&format!("{texts:?} on the screen"), || {
            // Between two looks it may be half redrawn.
            parser.replace(self.parser());
            let shown = parser.borrow().screen().contents();
            texts.iter().all(|text| shown.contains(text))
        });
        let parser = parser.into_inner();
        screen_picture::svg(parser.screen(), command, |text| {
            named_once(&text.replace(&self.prefix, ""))
        })
    }

    /// Waits until a text was drawn so many times more.
    pub fn wait_for_redraws(&self, text: &str, times: usize) {
        let count = || {
            let written = self.written.lock().expect("no panic");
            written.windows(text.len()).filter(|part| *part == text.as_bytes()).count()
        };
        let before = count();
        wait_until(&format!("'{text}' drawn again"), || count() >= before + times);
    }

    /// Whether the first line on the screen with this text has it in red.
    pub fn is_red(&self, text: &str) -> bool {
        let parser = self.parser();
        let screen = parser.screen();
        let mut rows = screen.rows(0, screen.size().1).zip(0..);
        rows.find_map(|(row, number)| {
            let column = u16::try_from(row[..row.find(text)?].chars().count()).ok()?;
            Some(screen.cell(number, column)?.fgcolor() == vt100::Color::Idx(1))
        })
        .expect("the text is on the screen")
    }

    /// Makes the terminal narrower or wider.
    pub fn resize(&mut self, columns: u16) {
        self.stty(&["cols", &columns.to_string()]);
        let written = self.written.lock().expect("no panic").len();
        self.sizes.push((written, columns));
    }

    /// A terminal that has got everything.
    fn parser(&self) -> vt100::Parser {
        let written = self.written.lock().expect("no panic");
        let mut parser = vt100::Parser::new(ROWS, self.sizes[0].1, 0);
        let ends = self.sizes.iter().skip(1).map(|(end, _)| *end).chain([written.len()]);
        for ((start, columns), end) in self.sizes.iter().zip(ends) {
            parser.screen_mut().set_size(ROWS, *columns);
            parser.process(&without_waits(&written[*start..end]));
        }
        parser
    }

    /// Turns on line buffering and echo, as a shell does.
    pub fn cook(&self) {
        self.stty(&["icanon", "echo"]);
    }

    fn stty(&self, settings: &[&str]) {
        let tty = fs::read_link(format!("/proc/{}/fd/0", self.process())).expect("a terminal");
        let status = Command::new("stty").arg("-F").arg(tty).args(settings).status();
        assert!(status.expect("stty runs").success());
    }

    /// The binary's process.
    fn process(&self) -> String {
        let children = format!("/proc/{0}/task/{0}/children", self.child.id());
        fs::read_to_string(children).expect("a process").trim().to_owned()
    }

    /// Stops the binary, as Ctrl-Z does; `script` stops with it.
    pub fn suspend(&self) {
        let process = self.process().parse().ok().and_then(Pid::from_raw).expect("a process");
        kill_process(process, Signal::STOP).expect("it runs");
        let stat = format!("/proc/{}/stat", self.child.id());
        wait_until("script to stop", || {
            fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T "))
        });
    }

    /// Lets `script` go on, and with it the binary.
    pub fn resume(&self) {
        let script = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(script.expect("a process"), Signal::CONT).expect("it is there");
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

/// Without the lines that only a busy machine prints, as it lets anybody wait for an engine that
/// answers. On the screen they would push others out of sight.
fn without_waits(written: &[u8]) -> Vec<u8> {
    let mut out = written.to_vec();
    for beginning in WAITING {
        while let Some(start) = place(&out, beginning) {
            let rest = &out[start..];
            let end = place(rest, b"\n").map_or(out.len(), |length| start + length + 1);
            out.drain(start..end);
        }
    }
    out
}

fn place(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|it| it == part)
}

/// A line in which an image that is called like its component is named once, as the tool does.
fn named_once(line: &str) -> String {
    let twice = line.trim_start().split_once(": ").map(|(name, _)| format!("{name}: {name}: "));
    match twice {
        Some(twice) if line.contains(&twice) => line.replacen(&twice[..twice.len() / 2], "", 1),
        _ => line.to_owned(),
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A test that failed leaves it running.
        drop(self.child.kill());
    }
}
