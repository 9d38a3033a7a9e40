//! What a Dockerfile can read of its context, so that nothing else is sent.
//!
//! Docker's Dockerfile reference says who reads: `COPY` and `ADD` their sources,
//! unless these are URLs, here-documents or of another stage or image (`--from=`),
//! and `RUN --mount=type=bind` its `source`, without one the whole context. Go's
//! `filepath.Match` says what wildcards mean, and moby and BuildKit the rest: a
//! source is cleaned, `/` and `..` do not leave the context, and what matches stands
//! for all below it. All stages count: the classic builder makes those, too, that
//! nothing needs.
//!
//! Too much is only slow, too little is wrong. So whatever is not as plain as it
//! can be makes it everything: a frontend (`# syntax=`) or an escape character of
//! the file's own, an unknown flag, a variable whose value is not certain, quotes
//! and backslashes, `**`, `..` in the middle, here-documents that engines before
//! 23.0 take for instructions.
//!
//! A variable is certain if either `ENV` sets it in the file or `ARG` does, and not
//! both, a base's `ENV` included: builders do not agree on which of them wins. What an
//! external base sets is known to the engine alone, as are its `ONBUILD` triggers, which
//! can read anything: see [`ContextReads::grow_with`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use parse_dockerfile::{
    Command, CopyInstruction, Flag, FromInstruction, HereDoc, Instruction, RunInstruction, Source,
};

use crate::dockerfile::platform_args::is_platform_arg;
use crate::dockerfile::words::words;
use crate::path_pattern::Pattern;

/// What the instructions of a Dockerfile can read of its context.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ContextReads {
    /// Everything.
    All,
    /// What a pattern matches, and all below it.
    Only {
        /// Matched against whole paths, relative to the context.
        patterns: Vec<Pattern>,
        /// The `ARG`s whose values are in the patterns.
        args: BTreeSet<String>,
    },
}

/// How a path of a context stands to what can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It can be read, with all below it.
    Read,
    /// Something below it could be read.
    Above,
    /// Neither it nor anything below it can.
    Out,
}

/// Flags of `COPY` and `ADD` that say nothing of what is read, or less than all.
const FLAGS: [&str; 9] =
    ["chown", "chmod", "link", "parents", "exclude", "checksum", "keep-git-dir", "unpack", "from"];

/// What can follow `RUN --` besides `mount`.
const RUN_FLAGS: [&str; 3] = ["network", "security", "device"];

/// What makes an engine without here-documents read one.
const READERS: [&str; 5] = ["ADD", "COPY", "RUN", "ONBUILD", "FROM"];

/// No path is as long once its variables are expanded: each `ARG` can be twice the one
/// before.
const LONGEST: usize = 64 << 10;

impl ContextReads {
    /// Of a Dockerfile and its text; `build_args` take the place of defaults.
    pub fn of(
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

    /// Whether a base can make a build read more than this: by its `ONBUILD` triggers,
    /// or by a variable that it sets.
    pub fn grow_with(&self, has_onbuild: bool, variables: &[String]) -> bool {
        match self {
            Self::All => false,
            Self::Only { args, .. } => {
                has_onbuild || variables.iter().any(|name| args.contains(name))
            }
        }
    }

    /// Whether a variable of a base could change what is read.
    pub fn has_args(&self) -> bool {
        matches!(self, Self::Only { args, .. } if !args.is_empty())
    }

    /// How a path of the context stands to it.
    pub fn reach(&self, path: &Path) -> Reach {
        let Self::Only { patterns, .. } = self else { return Reach::Read };
        // Engines match bytes that are no text in ways of their own.
        let Some(text) = path.to_str() else { return Reach::Read };
        let tops = text.match_indices('/').map(|(end, _)| &text[..end]).chain([text]);
        let below = format!("{text}/");
        if tops.into_iter().any(|top| patterns.iter().any(|pattern| pattern.matches(top))) {
            Reach::Read
        } else if patterns.iter().any(|pattern| pattern.may_go_on(&below)) {
            Reach::Above
        } else {
            Reach::Out
        }
    }
}

/// By name; none where the value is not certain.
type Variables = BTreeMap<String, Option<String>>;

#[derive(Clone, Default)]
struct StageVariables {
    name: Option<String>,
    env: Variables,
    args: Variables,
    /// Whether nobody knows what its base sets.
    base_env_unknown: bool,
}

/// Whatever is none on the way makes it everything.
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
        let is_trigger = |it: &Instruction<'_>| matches!(it, Instruction::Onbuild(_));
        // A stage that is made from another one of the file runs its triggers.
        let runs_triggers =
            dockerfile.stages().len() > 1 && dockerfile.instructions.iter().any(is_trigger);
        let is_odd = text.lines().any(is_directive) || runs_triggers;
        if is_odd || self.build_args.contains_key("BUILDKIT_SYNTAX") {
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
            Instruction::Onbuild(onbuild) => refuse_hidden(&onbuild.instruction),
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
                Some(default) => plain(default).and_then(|default| self.expand(&default)),
                None if self.stages.is_empty() => None,
                None => self.globals.get(name).cloned().flatten(),
            };
            let value = self.build_args.get(name).cloned().or(default);
            let Some(stage) = self.stages.last_mut() else {
                self.globals.insert(name.to_owned(), value);
                continue;
            };
            // Builders disagree on which of two counts.
            let is_certain = !stage.args.contains_key(name) && !is_automatic(name);
            stage.args.insert(name.to_owned(), value.filter(|_| is_certain));
        }
        Some(())
    }

    fn env(&mut self, text: &str) -> Option<()> {
        if text.contains('\\') {
            return None;
        }
        let words = words(text);
        let is_old = !words.first()?.contains('=');
        let pairs = if is_old { &words[..1] } else { &words[..] };
        let mut set = Variables::new();
        for word in pairs {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, plain(value).and_then(|value| self.expand(&value))),
                None if is_old => (word.as_str(), None),
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
        // Whether the `ARG`s of a stage hold for those that are made from it is not agreed on.
        stage.args.values_mut().for_each(|value| *value = None);
        stage.base_env_unknown |= base.contains(['$', '"', '\'', '\\']);
        stage.name = from.as_.as_ref().map(|(_, name)| name.value.to_lowercase());
        self.stages.push(stage);
    }

    fn copy(&mut self, flags: &[Flag<'_>], sources: &[Source<'_>], to: &str) -> Option<()> {
        let is_known = |flag: &Flag<'_>| {
            FLAGS.contains(&&*flag.name.value)
                && flag.value.as_ref().is_none_or(|it| is_plain(&it.value))
        };
        if to.contains("<<") || !flags.iter().all(is_known) || sources.iter().any(hides) {
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
        if is_url(&path) { Some(()) } else { self.read_by(&path) }
    }

    fn run(&mut self, run: &RunInstruction<'_>) -> Option<()> {
        if hides_in_run(run) {
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
        if !is_plain(mount) || mount.contains('$') {
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
                self.read_by(source)
            }
            _ => None,
        }
    }

    /// Adds what a source stands for, once it is cleaned.
    fn read_by(&mut self, source: &str) -> Option<()> {
        let is_odd = |c: char| c.is_control() || c == '$';
        let is_trimmed = source.trim() == source;
        if !is_plain(source) || !is_trimmed || source.contains(is_odd) || source.contains("**") {
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

    /// Expands `$X` and `${X}`, where the value is certain.
    fn expand(&mut self, text: &str) -> Option<String> {
        let (mut out, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once('$') {
            let (name, behind) = if let Some(inside) = after.strip_prefix('{') {
                inside.split_once('}')?
            } else {
                let is_end = |c: char| !c.is_ascii_alphanumeric() && c != '_';
                after.split_at(after.find(is_end).unwrap_or(after.len()))
            };
            out.push_str(before);
            out.push_str(&self.value(name).filter(|_| is_name(name))?);
            if out.len() > LONGEST {
                return None;
            }
            rest = behind;
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

/// Whether a line could change how the file is read: `# syntax=`, `# escape=`, in all
/// the ways that a frontend may be named.
fn is_directive(line: &str) -> bool {
    let is_mark = |c: char| c.is_whitespace() || matches!(c, '#' | '/' | '{' | '"');
    let text = line.trim_start_matches(is_mark).to_lowercase();
    let rest = text.strip_prefix("syntax").or_else(|| text.strip_prefix("escape"));
    rest.is_some_and(|rest| rest.trim_start_matches(['"', ' ', '\t']).starts_with(['=', ':']))
}

/// What an image gets as a trigger is not read now, unless it is no trigger.
fn refuse_hidden(instruction: &Instruction<'_>) -> Option<()> {
    let hidden = match instruction {
        Instruction::Copy(copy) => copy.src.iter().any(hides) || copy.dest.value.contains("<<"),
        Instruction::Add(add) => add.src.iter().any(hides) || add.dest.value.contains("<<"),
        Instruction::Run(run) => hides_in_run(run),
        _ => false,
    };
    (!hidden).then_some(())
}

/// Whether there may be an instruction where the parser sees text, or the other way
/// round.
fn hides(source: &Source<'_>) -> bool {
    match source {
        Source::HereDoc(document) => hides_in(document),
        Source::Path(path) => path.value.contains("<<"),
        _ => true,
    }
}

fn hides_in(document: &HereDoc<'_>) -> bool {
    let first = |line: &str| line.split_whitespace().next().unwrap_or_default().to_uppercase();
    document.value.contains("<<")
        || document.value.lines().any(|line| READERS.contains(&first(line).as_str()))
}

fn hides_in_run(run: &RunInstruction<'_>) -> bool {
    let has_more = match &run.arguments {
        Command::Shell(shell) => shell.value.starts_with("--") || shell.value.contains("<<"),
        Command::Exec(words) => words.value.iter().any(|word| word.value.contains("<<")),
        _ => true,
    };
    has_more || run.here_docs.iter().any(hides_in)
}

/// Whether nothing in a text is taken away or protected.
fn is_plain(text: &str) -> bool {
    !text.contains(['\\', '"', '\'', '`'])
}

/// A value without the quotes around it, if these are all that is odd about it.
fn plain(text: &str) -> Option<String> {
    let quoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let text = quoted.unwrap_or(text);
    is_plain(text).then(|| text.to_owned())
}

fn is_name(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.starts_with(|c: char| !c.is_ascii_digit()) && text.chars().all(is_part)
}

/// Whether a builder may give an `ARG` a value by itself.
fn is_automatic(name: &str) -> bool {
    let name = name.to_uppercase();
    is_platform_arg(&name)
        || name.starts_with("BUILDKIT_")
        || name.ends_with("_PROXY")
        || name == "SOURCE_DATE_EPOCH"
}

#[cfg(test)]
mod tests;
