//! Finds the files that a Dockerfile can read from its build context, so that only these
//! are sent.
//!
//! According to Docker's Dockerfile reference, `COPY` and `ADD` read their sources, unless
//! these are URLs, here-documents, or from another stage or image (`--from=`), and
//! `RUN --mount=type=bind` reads its `source`, which defaults to the whole context.
//! Wildcards are those of Go's `filepath.Match`. As in moby and BuildKit, a source is
//! normalized, `/` and `..` cannot leave the context, and a folder stands for everything
//! in it. All stages count, because the classic builder also builds unused ones.
//!
//! Sending too much is only slow, but sending too little breaks the build. So the result is
//! the whole context unless the Dockerfile is simple. These are not: a custom frontend
//! (`# syntax=`) or escape character, unknown flags, variables whose value is uncertain,
//! quotes and backslashes, `**`, `..` after other names, and here-documents that engines
//! before 23.0 parse as instructions.
//!
//! The value of a variable is certain if it is set by either `ENV` or `ARG`, but not by both,
//! where a base's `ENV` counts too: builders disagree on which one wins. Only the engine
//! knows the `ENV` of an external base, and its `ONBUILD` triggers, which can read anything:
//! see [`ContextReads::may_grow_with`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use parse_dockerfile::{
    Command, CopyInstruction, Flag, FromInstruction, HereDoc, Instruction, RunInstruction, Source,
};

use crate::dockerfile::platform_args::is_platform_arg;
use crate::dockerfile::words::words;
use crate::path_pattern::Pattern;

/// The part of a build context that a Dockerfile can read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ContextReads {
    /// The whole context.
    All,
    /// The paths that match one of the patterns, and everything below them.
    Only {
        /// Patterns for whole paths, relative to the context.
        patterns: Vec<Pattern>,
        /// The `ARG`s whose values were expanded in the patterns.
        args: BTreeSet<String>,
    },
}

/// Whether a path of a context can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The path and everything below it can be read.
    Read,
    /// Some paths below it may be readable.
    Parent,
    /// Neither the path nor anything below it can be read.
    Unread,
}

/// Flags of `COPY` and `ADD` that do not add to the files that are read.
const COPY_FLAGS: [&str; 9] =
    ["chown", "chmod", "link", "parents", "exclude", "checksum", "keep-git-dir", "unpack", "from"];

/// Flags of `RUN` that read no files.
const RUN_FLAGS: [&str; 3] = ["network", "security", "device"];

/// Instructions that affect which files are read. An engine without here-documents would
/// execute them in the lines of a here-document.
const READING_INSTRUCTIONS: [&str; 5] = ["ADD", "COPY", "RUN", "ONBUILD", "FROM"];

/// The maximum length of a source after expansion, in bytes: if each `ARG` repeats the one
/// before, it grows exponentially.
const MAX_EXPANDED: usize = 64 << 10;

impl ContextReads {
    /// Analyzes a Dockerfile. `build_args` override the defaults of its `ARG`s.
    pub(crate) fn of(
        dockerfile: &parse_dockerfile::Dockerfile<'_>,
        text: &str,
        build_args: &BTreeMap<String, String>,
    ) -> Self {
        let reader = ReadsFinder {
            build_args,
            globals: Variables::new(),
            stages: Vec::new(),
            patterns: Vec::new(),
            args: BTreeSet::new(),
        };
        let read = reader.read(dockerfile, text);
        read.map_or(Self::All, |(patterns, args)| Self::Only { patterns, args })
    }

    /// Whether a build can read more than this because of its base image: the base has
    /// `ONBUILD` triggers, or sets one of the `variables` that the sources depend on.
    pub fn may_grow_with(&self, has_onbuild: bool, variables: &[String]) -> bool {
        match self {
            Self::All => false,
            Self::Only { args, .. } => {
                has_onbuild || variables.iter().any(|name| args.contains(name))
            }
        }
    }

    /// Whether a variable that a base sets could change the files that are read.
    pub(crate) fn depends_on_args(&self) -> bool {
        matches!(self, Self::Only { args, .. } if !args.is_empty())
    }

    /// Whether a path of the context can be read.
    pub(crate) fn reach(&self, path: &Path) -> Reach {
        let Self::Only { patterns, .. } = self else { return Reach::Read };
        // Engines differ in how they match paths that are not UTF-8.
        let Some(text) = path.to_str() else { return Reach::Read };
        let ancestors = text.match_indices('/').map(|(end, _)| &text[..end]).chain([text]);
        let below = format!("{text}/");
        let is_match = |path: &str| patterns.iter().any(|pattern| pattern.matches(path));
        if ancestors.into_iter().any(is_match) {
            Reach::Read
        } else if patterns.iter().any(|pattern| pattern.may_match_below(&below)) {
            Reach::Parent
        } else {
            Reach::Unread
        }
    }
}

/// Values by name; `None` for a value that is uncertain.
type Variables = BTreeMap<String, Option<String>>;

#[derive(Clone, Default)]
struct StageVariables {
    name: Option<String>,
    env: Variables,
    args: Variables,
    /// Whether the base's `ENV` is unknown.
    base_env_unknown: bool,
}

/// Collects the patterns of all instructions. Methods return `None` as soon as the whole
/// context must be sent.
struct ReadsFinder<'a> {
    build_args: &'a BTreeMap<String, String>,
    globals: Variables,
    stages: Vec<StageVariables>,
    patterns: Vec<Pattern>,
    args: BTreeSet<String>,
}

impl ReadsFinder<'_> {
    fn read(
        mut self,
        dockerfile: &parse_dockerfile::Dockerfile<'_>,
        text: &str,
    ) -> Option<(Vec<Pattern>, BTreeSet<String>)> {
        let is_onbuild =
            |instruction: &Instruction<'_>| matches!(instruction, Instruction::Onbuild(_));
        // A stage that is built FROM another stage of the file runs its triggers.
        let runs_triggers =
            dockerfile.stages().len() > 1 && dockerfile.instructions.iter().any(is_onbuild);
        let is_special = text.lines().any(is_directive) || runs_triggers;
        if is_special || self.build_args.contains_key("BUILDKIT_SYNTAX") {
            return None;
        }
        for instruction in &dockerfile.instructions {
            self.instruction(instruction)?;
        }
        Some((self.patterns, self.args))
    }

    fn instruction(&mut self, instruction: &Instruction<'_>) -> Option<()> {
        match instruction {
            Instruction::Arg(arg) => self.arg(&arg.arguments.value),
            Instruction::Env(env) => self.env(&env.arguments.value),
            Instruction::From(from) => {
                self.from(from);
                Some(())
            }
            Instruction::Copy(CopyInstruction { options, src, dest, .. }) => {
                self.copy(options, src, &dest.value)
            }
            Instruction::Add(add) => {
                let is_from = |flag: &Flag<'_>| flag.name.value == "from";
                if add.options.iter().any(is_from) {
                    return None;
                }
                self.copy(&add.options, &add.src, &add.dest.value)
            }
            Instruction::Run(run) => self.run(run),
            Instruction::Onbuild(onbuild) => check_trigger(&onbuild.instruction),
            Instruction::Cmd(_)
            | Instruction::Entrypoint(_)
            | Instruction::Expose(_)
            | Instruction::Healthcheck(_)
            | Instruction::Label(_)
            | Instruction::Maintainer(_)
            | Instruction::Shell(_)
            | Instruction::Stopsignal(_)
            | Instruction::User(_)
            | Instruction::Volume(_)
            | Instruction::Workdir(_) => Some(()),
            _ => None,
        }
    }

    fn arg(&mut self, text: &str) -> Option<()> {
        for word in words(text) {
            let (name, default) = match word.split_once('=') {
                Some((name, default)) => (name, Some(default)),
                None => (word.as_str(), None),
            };
            if !is_name(name) {
                return None;
            }
            let default = match default {
                Some(default) => unquote(default).and_then(|default| self.expand(&default)),
                None if self.stages.is_empty() => None,
                None => self.globals.get(name).cloned().flatten(),
            };
            let value = self.build_args.get(name).cloned().or(default);
            let Some(stage) = self.stages.last_mut() else {
                self.globals.insert(name.to_owned(), value);
                continue;
            };
            // Builders disagree on which of two declarations wins.
            let is_certain = !stage.args.contains_key(name) && !is_predefined(name);
            stage.args.insert(name.to_owned(), value.filter(|_| is_certain));
        }
        Some(())
    }

    fn env(&mut self, text: &str) -> Option<()> {
        if text.contains('\\') {
            return None;
        }
        let words = words(text);
        let is_legacy = !words.first()?.contains('=');
        let pairs = if is_legacy { &words[..1] } else { &words[..] };
        let mut set = Variables::new();
        for word in pairs {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, unquote(value).and_then(|value| self.expand(&value))),
                None if is_legacy => (word.as_str(), None),
                None => return None,
            };
            if !is_name(name) {
                return None;
            }
            set.insert(name.to_owned(), value);
        }
        self.stages.last_mut()?.env.extend(set);
        Some(())
    }

    fn from(&mut self, from: &FromInstruction<'_>) {
        let base = from.image.value.to_lowercase();
        let base_stage = self.stages.iter().rfind(|stage| stage.name.as_deref() == Some(&*base));
        let mut stage = base_stage.cloned().unwrap_or_default();
        // Builders disagree on whether the `ARG`s of a stage apply in stages `FROM` it.
        stage.args.values_mut().for_each(|value| *value = None);
        stage.base_env_unknown |= base.contains(['$', '"', '\'', '\\']);
        stage.name = from.as_.as_ref().map(|(_, name)| name.value.to_lowercase());
        self.stages.push(stage);
    }

    fn copy(&mut self, flags: &[Flag<'_>], sources: &[Source<'_>], dest: &str) -> Option<()> {
        let is_known = |flag: &Flag<'_>| {
            COPY_FLAGS.contains(&&*flag.name.value)
                && flag.value.as_ref().is_none_or(|value| is_literal(&value.value))
        };
        if dest.contains("<<") || !flags.iter().all(is_known) || sources.iter().any(is_ambiguous) {
            return None;
        }
        if let Some(from) = flags.iter().find(|flag| flag.name.value == "from") {
            let value = from.value.as_ref()?;
            return (!value.value.is_empty() && !value.value.contains('$')).then_some(());
        }
        for source in sources {
            if let Source::Path(path) = source {
                self.source(&path.value)?;
            }
        }
        Some(())
    }

    fn source(&mut self, text: &str) -> Option<()> {
        let is_url = |text: &str| text.starts_with("http://") || text.starts_with("https://");
        if is_url(text) {
            return Some(());
        }
        let path = self.expand(text)?;
        if is_url(&path) { Some(()) } else { self.add_pattern(&path) }
    }

    fn run(&mut self, run: &RunInstruction<'_>) -> Option<()> {
        if is_ambiguous_run(run) {
            return None;
        }
        for flag in &run.options {
            match (&*flag.name.value, &flag.value) {
                ("mount", Some(mount)) => self.mount(&mount.value)?,
                (name, _) if RUN_FLAGS.contains(&name) => {}
                _ => return None,
            }
        }
        Some(())
    }

    fn mount(&mut self, mount: &str) -> Option<()> {
        if !is_literal(mount) || mount.contains('$') {
            return None;
        }
        let (mut kind, mut from, mut source) = ("bind".to_owned(), None, None);
        for field in mount.split(',') {
            let (key, value) = field.split_once('=').unwrap_or((field, ""));
            match key.trim().to_lowercase().as_str() {
                "type" => kind = value.trim().to_lowercase(),
                "from" => from = Some(value.trim()),
                "source" | "src" => source = Some(value.trim()),
                _ => {}
            }
        }
        match (kind.as_str(), from, source) {
            ("cache" | "tmpfs" | "secret" | "ssh", _, _) => Some(()),
            ("bind", Some(from), _) if !from.is_empty() => Some(()),
            ("bind", None, Some(source)) if !source.contains(['*', '?', '[']) => {
                self.add_pattern(source)
            }
            _ => None,
        }
    }

    /// Normalizes a source and adds it as a pattern.
    fn add_pattern(&mut self, source: &str) -> Option<()> {
        let is_special = |c: char| c.is_control() || c == '$';
        let is_trimmed = source.trim() == source;
        if !is_literal(source)
            || !is_trimmed
            || source.contains(is_special)
            || source.contains("**")
        {
            return None;
        }
        let names = source.split('/').filter(|name| !matches!(*name, "" | "."));
        let names: Vec<&str> = names.skip_while(|name| *name == "..").collect();
        if names.is_empty() || names.contains(&"..") {
            return None;
        }
        self.patterns.push(Pattern::parse(&names.join("/")).ok()?);
        Some(())
    }

    /// Expands `$X` and `${X}`; `None` if a value is uncertain.
    fn expand(&mut self, text: &str) -> Option<String> {
        let (mut out, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once('$') {
            let (name, remainder) = if let Some(inside) = after.strip_prefix('{') {
                inside.split_once('}')?
            } else {
                let is_end = |c: char| !c.is_ascii_alphanumeric() && c != '_';
                after.split_at(after.find(is_end).unwrap_or(after.len()))
            };
            out.push_str(before);
            out.push_str(&self.value(name).filter(|_| is_name(name))?);
            if out.len() > MAX_EXPANDED {
                return None;
            }
            rest = remainder;
        }
        out.push_str(rest);
        Some(out)
    }

    fn value(&mut self, name: &str) -> Option<String> {
        let Some(stage) = self.stages.last() else {
            return self.globals.get(name).cloned().flatten();
        };
        if let Some(value) = stage.env.get(name) {
            return value.clone().filter(|_| !stage.args.contains_key(name));
        }
        let value = stage.args.get(name).filter(|_| !stage.base_env_unknown).cloned().flatten();
        self.args.extend(value.is_some().then(|| name.to_owned()));
        value
    }
}

/// Whether a line may be a parser directive that selects a frontend or an escape character:
/// `# syntax=` or `# escape=`, in any notation that BuildKit accepts.
fn is_directive(line: &str) -> bool {
    let is_mark = |c: char| c.is_whitespace() || matches!(c, '#' | '/' | '{' | '"');
    let text = line.trim_start_matches(is_mark).to_lowercase();
    let rest = text.strip_prefix("syntax").or_else(|| text.strip_prefix("escape"));
    rest.is_some_and(|rest| rest.trim_start_matches(['"', ' ', '\t']).starts_with(['=', ':']))
}

/// A trigger reads nothing in this build. `None` if some engines could parse its
/// here-documents as instructions of this build.
fn check_trigger(instruction: &Instruction<'_>) -> Option<()> {
    let ambiguous = match instruction {
        Instruction::Copy(copy) => {
            copy.src.iter().any(is_ambiguous) || copy.dest.value.contains("<<")
        }
        Instruction::Add(add) => add.src.iter().any(is_ambiguous) || add.dest.value.contains("<<"),
        Instruction::Run(run) => is_ambiguous_run(run),
        _ => false,
    };
    (!ambiguous).then_some(())
}

/// Whether some engines parse a here-document in a source as instructions, or the other
/// way round.
fn is_ambiguous(source: &Source<'_>) -> bool {
    match source {
        Source::HereDoc(document) => is_ambiguous_heredoc(document),
        Source::Path(path) => path.value.contains("<<"),
        _ => true,
    }
}

fn is_ambiguous_heredoc(document: &HereDoc<'_>) -> bool {
    let first = |line: &str| line.split_whitespace().next().unwrap_or_default().to_uppercase();
    document.value.contains("<<")
        || document.value.lines().any(|line| READING_INSTRUCTIONS.contains(&first(line).as_str()))
}

fn is_ambiguous_run(run: &RunInstruction<'_>) -> bool {
    let has_heredoc = match &run.arguments {
        Command::Shell(shell) => shell.value.starts_with("--") || shell.value.contains("<<"),
        Command::Exec(words) => words.value.iter().any(|word| word.value.contains("<<")),
        _ => true,
    };
    has_heredoc || run.here_docs.iter().any(is_ambiguous_heredoc)
}

/// Whether a text has no quotes and no escapes.
fn is_literal(text: &str) -> bool {
    !text.contains(['\\', '"', '\'', '`'])
}

/// A value without its surrounding double quotes; `None` if it has other quotes or escapes.
fn unquote(text: &str) -> Option<String> {
    let quoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let text = quoted.unwrap_or(text);
    is_literal(text).then(|| text.to_owned())
}

fn is_name(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.starts_with(|c: char| !c.is_ascii_digit()) && text.chars().all(is_part)
}

/// Whether builders may predefine an `ARG`.
fn is_predefined(name: &str) -> bool {
    let name = name.to_uppercase();
    is_platform_arg(&name)
        || name.starts_with("BUILDKIT_")
        || name.ends_with("_PROXY")
        || name == "SOURCE_DATE_EPOCH"
}

#[cfg(test)]
mod tests;
