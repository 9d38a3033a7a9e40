//! The files that a hook read, from a trace of its system calls, and the `build/inputs` that
//! declares them.
//!
//! A file counts as read if it was opened for reading or executed. A test whether it exists
//! (`test -e`) does not count, and neither does a file that the hook made. Files are proposed one
//! by one, because their neighbours do not matter to the hook. New files matter only in a folder
//! that it listed, which gets a glob: for all files of the folder if it read all of them, or for
//! all files with one extension. A hook that writes into `target/` builds there: what it reads there
//! was made from something else.
//!
//! A trace is the output of `strace` with [`TRACER`]: a process ID, a call, and its result, where
//! `--decode-fds` adds the path of each descriptor, including the one that an `open` returns. The
//! clock is read without a system call, so only programs that print it are recognized.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use xtask_core::paths::{SRC, TARGET};
use xtask_core::workspace::inputs::{Inputs, is_never_input};

/// The tracing command, to be followed by the trace's file and the traced command.
pub(crate) const TRACER: [&str; 8] = [
    "strace",
    "--follow-forks",
    "--decode-fds=path",
    "--quiet=all",
    "--string-limit=4096",
    "--trace=open,openat,openat2,creat,execve,execveat,chdir,fchdir,getdents64,connect,rename,renameat,renameat2",
    "--output-append-mode",
    "--output",
];

/// What the results of hooks may depend on.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct TracedReads {
    /// The files that were read, relative to the root.
    files: BTreeSet<PathBuf>,
    /// The folders that were listed, relative to the root.
    listed: BTreeSet<PathBuf>,
    /// Whether files in `.git` were read.
    has_git: bool,
    /// What `build/inputs` cannot declare.
    undeclarable: BTreeSet<String>,
}

impl TracedReads {
    /// Parses a trace of a component's hooks in the workspace at `root`.
    pub(crate) fn parse(trace: &str, root: &Path, component_dir: &str) -> Self {
        let mut parser = Parser {
            root,
            component_dir: component_dir.into(),
            cwds: BTreeMap::new(),
            unfinished: BTreeMap::new(),
            written: BTreeSet::new(),
            reads: Self::default(),
        };
        for line in trace.lines() {
            parser.line(line);
        }
        if parser.written.iter().any(|file| file.starts_with(TARGET)) {
            parser.reads.files.retain(|file| !file.starts_with(TARGET));
            parser.reads.listed.retain(|folder| !folder.starts_with(TARGET));
        }
        parser.reads
    }

    /// The lines of a `build/inputs` that declares everything that was read. `scripts` are the
    /// texts of the hooks; `is_set` tells whether an environment variable is set.
    pub(crate) fn proposal(
        &self,
        root: &Path,
        scripts: &[String],
        is_set: impl Fn(&str) -> bool,
    ) -> Vec<String> {
        let mut lines = Vec::new();
        let mut left = self.files.clone();
        for folder in &self.listed {
            let all = files_below(root, folder);
            if all.len() > 1 && all.iter().all(|file| self.files.contains(file)) {
                left.retain(|file| !file.starts_with(folder));
                lines.push(format!("{}/**", escaped(folder)));
            }
        }
        for folder in &self.listed {
            let endings: BTreeSet<_> = left
                .iter()
                .filter(|file| file.parent() == Some(folder))
                .filter_map(|file| Some(file.extension()?.to_owned()))
                .collect();
            for ending in endings {
                let is_one = |file: &PathBuf| {
                    file.parent() == Some(folder) && file.extension() == Some(&ending)
                };
                let all = files_below(root, folder).into_iter().filter(is_one);
                let all: Vec<PathBuf> = all.collect();
                if all.len() > 1 && all.iter().all(|file| left.contains(file)) {
                    left.retain(|file| !is_one(file));
                    lines.push(format!("{}/*.{}", escaped(folder), escaped(Path::new(&ending))));
                }
            }
        }
        lines.extend(left.iter().map(|file| escaped(file)));
        lines.sort();
        lines.extend(variables(scripts, is_set).iter().map(|name| format!("env:{name}")));
        lines.extend(self.has_git.then(|| "git:HEAD".to_owned()));
        lines.extend(self.undeclarable.iter().map(|it| format!("# cannot be declared: {it}")));
        lines
    }

    /// The lines that `inputs` lacks.
    pub(crate) fn undeclared(&self, inputs: &Inputs) -> Vec<String> {
        let files =
            self.files.iter().filter(|file| !inputs.declares(file)).map(|file| escaped(file));
        let git = (self.has_git && !inputs.mentions_head).then(|| "git:HEAD".to_owned());
        files.chain(git).collect()
    }
}

struct Parser<'a> {
    root: &'a Path,
    component_dir: PathBuf,
    /// The working directory of each process.
    cwds: BTreeMap<String, PathBuf>,
    /// The start of each process's call that was interrupted by another process's line.
    unfinished: BTreeMap<String, String>,
    written: BTreeSet<PathBuf>,
    reads: TracedReads,
}

impl Parser<'_> {
    /// Joins the two lines of an interrupted call.
    fn line(&mut self, line: &str) {
        let Some((process, rest)) = line.split_once(' ') else { return };
        let rest = rest.trim_start();
        if let Some(start) = rest.strip_suffix(" <unfinished ...>") {
            self.unfinished.insert(process.to_owned(), start.to_owned());
        } else if let Some((_, end)) = rest.split_once(" resumed>") {
            let start = self.unfinished.remove(process).unwrap_or_default();
            self.call(process, &format!("{start}{end}"));
        } else {
            self.call(process, rest);
        }
    }

    fn call(&mut self, process: &str, call: &str) {
        let Some((name, rest)) = call.split_once('(') else { return };
        let Some((arguments, result)) = rest.rsplit_once(" = ") else { return };
        if result.trim_start().starts_with('-') && name != "connect" {
            return;
        }
        if let Some(cwd) = between(arguments, "AT_FDCWD<", '>') {
            self.cwds.insert(process.to_owned(), unescaped(cwd).into());
        }
        match name {
            "open" | "openat" | "openat2" | "creat" => {
                if let Some(path) = between(result, "<", '>') {
                    let path = PathBuf::from(unescaped(path));
                    let is_written = name == "creat"
                        || ["O_WRONLY", "O_TRUNC", "O_CREAT"].iter().any(|f| arguments.contains(f));
                    match self.link(process, arguments, &path).filter(|_| !is_written) {
                        Some(link) if !self.is_written(&path) => self.record_open(&link, false),
                        _ => self.record_open(&path, is_written),
                    }
                }
            }
            "execve" | "execveat" => self.record_exec(process, arguments),
            "chdir" => {
                if let Some(path) = between(arguments, "\"", '"') {
                    let cwd = self.absolute(process, &unescaped(path));
                    self.cwds.insert(process.to_owned(), cwd);
                }
            }
            "getdents64" => {
                let listed = between(arguments, "<", '>').map(unescaped);
                if let Some(path) = listed.and_then(|path| self.input_path(Path::new(&path))) {
                    self.reads.listed.insert(path);
                }
            }
            "rename" | "renameat" | "renameat2" => {
                let to = arguments.rsplit('"').nth(1).map(unescaped).unwrap_or_default();
                let to = self.absolute(process, &to);
                self.record_open(&to, true);
            }
            "connect" => self.record_connect(arguments),
            _ => {}
        }
    }

    fn record_open(&mut self, path: &Path, is_written: bool) {
        let Ok(inside) = path.strip_prefix(self.root) else { return };
        if inside.starts_with(".git") {
            self.reads.has_git |= !is_written;
        } else if is_written {
            self.written.insert(inside.to_owned());
        } else if let Some(file) = self.input_path(path)
            && path.is_file()
            && !self.written.contains(&file)
        {
            self.reads.files.insert(file);
        }
    }

    /// The path by which a file was opened, if it leads through a link. An input that is a link
    /// includes what it leads to, now and once it leads elsewhere.
    fn link(&self, process: &str, arguments: &str, opened: &Path) -> Option<PathBuf> {
        let text = unescaped(between(arguments, "\"", '"')?);
        let folder = between(arguments.split('"').next()?, "<", '>').map(unescaped);
        let path = match folder {
            Some(folder) => {
                self.absolute(process, &Path::new(&folder).join(text).to_string_lossy())
            }
            None => self.absolute(process, &text),
        };
        let is_it = path != opened && path.canonicalize().is_ok_and(|path| path == opened);
        (is_it && self.input_path(&path).is_some()).then_some(path)
    }

    fn is_written(&self, path: &Path) -> bool {
        path.strip_prefix(self.root).is_ok_and(|inside| self.written.contains(inside))
    }

    fn record_exec(&mut self, process: &str, arguments: &str) {
        let Some(program) = between(arguments, "\"", '"').map(unescaped) else { return };
        let path = self.absolute(process, &program);
        if path.ends_with("date") {
            self.reads.undeclarable.insert("the clock (it runs date)".to_owned());
        }
        self.record_open(&path, false);
    }

    fn record_connect(&mut self, arguments: &str) {
        let what = if arguments.contains("AF_INET") {
            let port = between(arguments, "htons(", ')').unwrap_or("?");
            let quoted = between(arguments, "inet_addr(\"", '"');
            let address = quoted.or_else(|| between(arguments, "AF_INET6, \"", '"')).unwrap_or("?");
            format!("the network (it connects to {address}, port {port})")
        } else {
            match between(arguments, "sun_path=\"", '"') {
                Some(path) if !path.contains("nscd") => format!("the socket {path}"),
                _ => return,
            }
        };
        self.reads.undeclarable.insert(what);
    }

    fn absolute(&self, process: &str, path: &str) -> PathBuf {
        let cwd = self.cwds.get(process).map_or(self.root, PathBuf::as_path);
        let mut absolute = PathBuf::new();
        for part in cwd.join(path).components() {
            match part {
                Component::ParentDir => drop(absolute.pop()),
                Component::CurDir => {}
                part => absolute.push(part),
            }
        }
        absolute
    }

    /// A path that can be an input, relative to the root.
    fn input_path(&self, path: &Path) -> Option<PathBuf> {
        let inside = path.strip_prefix(self.root).ok()?;
        let is_input = !inside.as_os_str().is_empty()
            && inside != Path::new(SRC)
            && !inside.starts_with(&self.component_dir)
            && !is_never_input(inside);
        is_input.then(|| inside.to_owned())
    }
}

fn between<'t>(text: &'t str, start: &str, end: char) -> Option<&'t str> {
    let (_, rest) = text.split_once(start)?;
    let mut is_escaped = false;
    let end = rest.find(|letter| {
        let is_end = letter == end && !is_escaped;
        is_escaped = letter == '\\' && !is_escaped;
        is_end
    })?;
    Some(&rest[..end])
}

/// Unescapes the parts of a C string that occur in paths: `\"`, `\\`, `\n`, and bytes in octal.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes().peekable();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let mut number = None;
        for _ in 0..3 {
            if let Some(digit) = rest.next_if(|byte| (b'0'..=b'7').contains(byte)) {
                number = Some(number.unwrap_or(0_u32) * 8 + u32::from(digit - b'0'));
            }
        }
        match (number, rest.peek()) {
            (Some(number), _) => bytes.push(u8::try_from(number).unwrap_or(b'?')),
            (None, Some(b'n')) => bytes.push(b'\n'),
            (None, Some(b't')) => bytes.push(b'\t'),
            (None, Some(other)) => bytes.push(*other),
            (None, None) => {}
        }
        if number.is_none() {
            rest.next();
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A line of `build/inputs` that matches only this path.
fn escaped(path: &Path) -> String {
    let mut line = String::new();
    for letter in path.to_string_lossy().chars() {
        let is_special = "*?[]{}\\".contains(letter) || (line.is_empty() && "#!~".contains(letter));
        match (is_special, letter) {
            (_, char::REPLACEMENT_CHARACTER) => line.push('?'),
            (true, _) => line.push_str(&format!("[{letter}]")),
            (false, _) => line.push(letter),
        }
    }
    line
}

/// All files in a folder that can be inputs.
fn files_below(root: &Path, folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root.join(folder)).into_iter().flatten().flatten() {
        let path = folder.join(entry.file_name());
        if is_never_input(&path) {
            continue;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files_below(root, &path));
        } else {
            found.push(path);
        }
    }
    found
}

/// The environment variables that shell scripts use and do not assign.
fn variables(scripts: &[String], is_set: impl Fn(&str) -> bool) -> BTreeSet<String> {
    const STANDARD: [&str; 9] =
        ["HOME", "IFS", "LANG", "OLDPWD", "PATH", "PWD", "SHELL", "TMPDIR", "USER"];
    let mut found = BTreeSet::new();
    for script in scripts {
        for text in script.split('$').skip(1) {
            let text = text.strip_prefix('{').unwrap_or(text);
            let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
            let name = &text[..text.find(|letter| !is_part(letter)).unwrap_or(text.len())];
            let is_name = name.starts_with(|letter: char| !letter.is_ascii_digit());
            let is_assigned = script.lines().any(|line| {
                let line = line.trim_start().trim_start_matches("export ");
                line.strip_prefix(name).is_some_and(|rest| rest.starts_with('='))
                    || line.strip_prefix("for ").is_some_and(|rest| rest.starts_with(name))
            });
            if is_name && !is_assigned && !STANDARD.contains(&name) && is_set(name) {
                found.insert(name.to_owned());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = r#"10 execve("/usr/bin/sh", ["sh", "src/a/build/build-pre.sh"], 0x7f /* 3 vars */) = 0
10 openat(AT_FDCWD</w>, "src/a/build/build-pre.sh", O_RDONLY) = 3</w/src/a/build/build-pre.sh>
10 openat(AT_FDCWD</w>, "made", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 3</w/made>
11 execve("/usr/bin/cat", ["cat", "x"], 0x55 /* 3 vars */ <unfinished ...>
10 <... vfork resumed>)              = 11
11 <... execve resumed>)             = 0
11 openat(AT_FDCWD</w>, "with \"quotes\"", O_RDONLY <unfinished ...>
10 getdents64(3</w/shared>, 0x55 /* 3 entries */, 32768) = 72
11 <... openat resumed>)             = 3</w/with "quotes">
11 openat(AT_FDCWD</w>, "made", O_RDONLY) = 3</w/made>
12 chdir("shared/../tools")          = 0
12 execve("./run", ["./run"], 0x55 /* 3 vars */) = 0
12 execve("/usr/bin/date", ["date"], 0x55 /* 3 vars */) = 0
12 openat(AT_FDCWD</w/tools>, ".git/HEAD", O_RDONLY) = 3</w/.git/HEAD>
13 connect(3<socket:[4]>, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("10.0.0.1")}, 16) = 0
13 connect(3<socket:[4]>, {sa_family=AF_UNIX, sun_path="/var/run/docker.sock"}, 110) = 0
--- nonsense ---
"#;

    fn root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in ["with \"quotes\"", "made", "tools/run", "shared/1.txt", "shared/2.txt"] {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        root
    }

    fn reads(root: &Path, trace: &str) -> TracedReads {
        let root_text = format!("{}", root.display());
        let trace = trace.replace("</w", &format!("<{root_text}"));
        TracedReads::parse(&trace, root, "src/a")
    }

    #[test]
    fn files_that_were_read_are_proposed_and_files_that_were_made_are_not() {
        let root = root();
        let scripts = ["echo $WORD ${OTHER-x} $1 $HOME\nOTHER=2\n".to_owned()];
        let lines = reads(root.path(), TRACE).proposal(root.path(), &scripts, |_| true);
        let expected = [
            "tools/run",
            "with \"quotes\"",
            "env:WORD",
            "git:HEAD",
            "# cannot be declared: the clock (it runs date)",
            "# cannot be declared: the network (it connects to 10.0.0.1, port 80)",
            "# cannot be declared: the socket /var/run/docker.sock",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_listed_folder_becomes_a_glob_if_all_of_it_was_read() {
        let root = root();
        let open = |file: &str| format!("1 openat(AT_FDCWD</w>, \"\", O_RDONLY) = 3</w/{file}>\n");
        let listed = "1 getdents64(3</w/shared>, 0x55 /* 3 entries */, 32768) = 72\n";
        let both = open("shared/1.txt") + &open("shared/2.txt");
        let proposal = |trace: &str| reads(root.path(), trace).proposal(root.path(), &[], |_| true);
        assert_eq!(proposal(&both), ["shared/1.txt", "shared/2.txt"]);
        assert_eq!(proposal(&(both.clone() + listed)), ["shared/**"]);
        assert_eq!(proposal(&(open("shared/1.txt") + listed)), ["shared/1.txt"]);
        fs::write(root.path().join("shared/notes.md"), "").unwrap();
        assert_eq!(proposal(&(both + listed)), ["shared/*.txt"]);
    }

    #[test]
    fn the_proposal_declares_everything_that_was_read() {
        let root = root();
        for name in ["a*b", "a[b]c", "#c", "~d", "e{f}"] {
            fs::write(root.path().join(name), "").unwrap();
            let trace = format!("1 openat(AT_FDCWD</w>, \"\", O_RDONLY) = 3</w/{name}>\n");
            let reads = reads(root.path(), &trace);
            let lines = reads.proposal(root.path(), &[], |_| true).join("\n");
            let inputs = Inputs::parse(&lines, "inputs").unwrap();
            assert!(reads.undeclared(&inputs).is_empty(), "{lines}");
            assert_eq!(reads.undeclared(&Inputs::default()).len(), 1, "{lines}");
        }
    }

    #[test]
    fn a_malformed_trace_does_not_panic() {
        for end in 0..TRACE.len() {
            if TRACE.is_char_boundary(end) {
                drop(reads(Path::new("/w"), &TRACE[end..]));
                drop(reads(Path::new("/w"), &TRACE[..end]));
            }
        }
    }
}
