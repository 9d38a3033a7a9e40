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
//! the whole context unless the Dockerfile is simple. These are not: a frontend
//! (`# syntax=`) other than Docker's own, unknown flags, variables whose value is uncertain,
//! escapes in patterns, `**`, `..` after other names, and here-documents that engines before
//! 23.0 parse as instructions.
//!
//! The value of a variable is certain if it is set by either `ENV` or `ARG`, but not by both,
//! where a base's `ENV` counts too: builders disagree on which one wins. Only the engine
//! knows the `ENV` of an external base, and its `ONBUILD` triggers, which can read anything:
//! see [`ContextReads::may_grow_with`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::dockerfile::lexer::{self, Value};
use crate::dockerfile::platform_args::is_platform_arg;
use crate::dockerfile::syntax::{
    Flag, Instruction, Keyword, Syntax, is_separator, mount_fields, split,
};
use crate::path_pattern::Pattern;

/// The part of a build context that a Dockerfile can read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum ContextReads {
    /// The whole context.
    #[default]
    All,
    /// The paths that match one of the patterns, and everything below them.
    Only {
        /// Patterns for whole paths, relative to the context.
        patterns: Vec<Pattern>,
        /// The `ARG`s whose values were expanded in the patterns.
        args: BTreeSet<String>,
        /// Whether the folders above what matches are copied, too, with their modes.
        keeps_parents: bool,
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

impl ContextReads {
    /// Analyzes a Dockerfile. `build_args` override the defaults of its `ARG`s.
    pub(crate) fn of(syntax: &Syntax, text: &str, build_args: &BTreeMap<String, String>) -> Self {
        let reader = ReadsFinder {
            escape: syntax.escape,
            build_args,
            globals: Variables::new(),
            stages: Vec::new(),
            patterns: Vec::new(),
            args: BTreeSet::new(),
            keeps_parents: false,
        };
        reader.read(syntax, text).unwrap_or(Self::All)
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

    /// Whether the folders above what is read are read as well.
    pub(crate) fn keeps_parents(&self) -> bool {
        matches!(self, Self::Only { keeps_parents: true, .. })
    }

    /// Whether an instruction names a file of this name, rather than a folder that contains it
    /// or a wildcard that matches it.
    pub fn names_file(&self, name: &str) -> bool {
        let Self::Only { patterns, .. } = self else { return false };
        patterns.iter().any(|pattern| pattern.ends_in_name(name))
    }

    /// Whether a path of the context, or something below it, can be read.
    pub fn may_read(&self, path: &Path) -> bool {
        self.reach(path) != Reach::Unread
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
    escape: char,
    build_args: &'a BTreeMap<String, String>,
    globals: Variables,
    stages: Vec<StageVariables>,
    patterns: Vec<Pattern>,
    args: BTreeSet<String>,
    keeps_parents: bool,
}

impl ReadsFinder<'_> {
    fn read(mut self, syntax: &Syntax, text: &str) -> Option<ContextReads> {
        let is = |keyword| move |it: &&Instruction| it.keyword == keyword;
        let count = |keyword| syntax.instructions.iter().filter(is(keyword)).count();
        // A stage that is built FROM another stage of the file runs its triggers.
        let runs_triggers = count(Keyword::From) > 1 && count(Keyword::Onbuild) > 0;
        let is_other_frontend = match &syntax.frontend {
            Some(frontend) => !is_docker_frontend(frontend),
            None => text.lines().any(may_name_frontend),
        };
        if is_other_frontend || runs_triggers || self.build_args.contains_key("BUILDKIT_SYNTAX") {
            return None;
        }
        for instruction in &syntax.instructions {
            self.instruction(instruction)?;
        }
        let Self { patterns, args, keeps_parents, .. } = self;
        Some(ContextReads::Only { patterns, args, keeps_parents })
    }

    fn instruction(&mut self, instruction: &Instruction) -> Option<()> {
        match instruction.keyword {
            Keyword::Arg => self.arg(&instruction.arguments),
            Keyword::Env => self.env(&instruction.arguments),
            Keyword::From => {
                self.from(instruction);
                Some(())
            }
            Keyword::Add if instruction.flags.iter().any(|flag| flag.name == "from") => None,
            Keyword::Add | Keyword::Copy => self.copy(instruction),
            Keyword::Run => self.run(instruction),
            // A trigger reads nothing in this build.
            Keyword::Onbuild => (!is_ambiguous(instruction)).then_some(()),
            _ => Some(()),
        }
    }

    /// Engines before 23.0, and the classic builder, expand all variables of an instruction before
    /// any of it is set; others set one after the other.
    fn arg(&mut self, text: &str) -> Option<()> {
        let words = lexer::words(text, self.escape);
        let defaults = words.iter().map(|word| word.split_once('='));
        let before: Vec<Option<String>> =
            defaults.map(|pair| self.expand(pair.map_or("", |(_, default)| default))).collect();
        for (word, before) in words.iter().zip(before) {
            let (name, default) = match word.split_once('=') {
                Some((name, default)) => (name, Some(default)),
                None => (word.as_str(), None),
            };
            if !is_name(name) {
                return None;
            }
            let default = match default {
                Some(default) => {
                    self.expand(default).filter(|after| Some(after) == before.as_ref())
                }
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
        let words = lexer::words(text, self.escape);
        let mut set = Variables::new();
        if words.first()?.contains('=') {
            for word in &words {
                let (name, value) = word.split_once('=')?;
                set.insert(name.to_owned(), self.expand(value));
            }
        } else {
            let (name, value) = text.split_once(is_separator)?;
            set.insert(name.to_owned(), self.expand(value.trim()));
        }
        if !set.keys().all(|name| is_name(name)) {
            return None;
        }
        self.stages.last_mut()?.env.extend(set);
        Some(())
    }

    fn from(&mut self, from: &Instruction) {
        let mut words = split(&from.arguments);
        let base = words.next().unwrap_or_default().to_lowercase();
        let base_stage = self.stages.iter().rfind(|stage| stage.name.as_deref() == Some(&*base));
        let mut stage = base_stage.cloned().unwrap_or_default();
        // Builders disagree on whether the `ARG`s of a stage apply in stages `FROM` it.
        stage.args.values_mut().for_each(|value| *value = None);
        stage.base_env_unknown |= base.contains(['$', '"', '\'', self.escape]);
        stage.name = words.nth(1).map(str::to_lowercase);
        self.stages.push(stage);
    }

    fn copy(&mut self, copy: &Instruction) -> Option<()> {
        let is_known = |flag: &Flag| COPY_FLAGS.contains(&flag.name.as_str());
        if is_ambiguous(copy) || !copy.flags.iter().all(is_known) {
            return None;
        }
        if let Some(from) = copy.flags.iter().find(|flag| flag.name == "from") {
            let from = from.value.as_ref()?;
            return (!from.is_empty() && !from.contains('$')).then_some(());
        }
        if copy.is_more_than_json() {
            return None;
        }
        self.keeps_parents |= copy.flags.iter().any(|flag| flag.name == "parents");
        let words = copy.list();
        let (_, sources) = words.split_last()?;
        for source in sources.iter().filter(|source| !source.starts_with("<<")) {
            self.source(source)?;
        }
        Some(())
    }

    fn source(&mut self, word: &str) -> Option<()> {
        let is_url = |text: &str| text.starts_with("http://") || text.starts_with("https://");
        if is_url(word) {
            return Some(());
        }
        let path = self.expand(word)?;
        if is_url(&path) { Some(()) } else { self.add_pattern(&path) }
    }

    fn run(&mut self, run: &Instruction) -> Option<()> {
        if is_ambiguous(run) {
            return None;
        }
        for flag in &run.flags {
            match (flag.name.as_str(), &flag.value) {
                ("mount", Some(mount)) => self.mount(mount)?,
                (name, _) if RUN_FLAGS.contains(&name) => {}
                _ => return None,
            }
        }
        Some(())
    }

    fn mount(&mut self, mount: &str) -> Option<()> {
        let fields = mount_fields(mount);
        let field = |names: &[&str]| {
            let named = fields.iter().rfind(|(key, _)| names.contains(&key.as_str()));
            named.map(|(_, value)| value.as_str())
        };
        let (from, source) = (field(&["from"]), field(&["source", "src"]));
        match field(&["type"]).unwrap_or("bind").to_lowercase().as_str() {
            "cache" | "tmpfs" | "secret" | "ssh" => Some(()),
            "bind" if from.is_some_and(|from| !from.is_empty() && !from.contains('$')) => Some(()),
            "bind" if from.is_none() => {
                let source = source.filter(|source| !source.contains(['*', '?', '[', '$']))?;
                self.add_pattern(source)
            }
            _ => None,
        }
    }

    /// Normalizes a source and adds it as a pattern.
    fn add_pattern(&mut self, source: &str) -> Option<()> {
        let is_special = |c: char| c.is_control() || c == '$';
        let is_trimmed = source.trim() == source;
        if source.contains('\\')
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

    /// A word as it is read; `None` if it depends on a value that is uncertain.
    fn expand(&mut self, word: &str) -> Option<String> {
        let escape = self.escape;
        let value = |name: &str| self.value(name).map_or(Value::Uncertain, Value::Set);
        lexer::expand(word, escape, value).ok()
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

/// Whether a frontend is Docker's own, in a version that reads what this tool knows.
fn is_docker_frontend(frontend: &str) -> bool {
    let name = frontend.split('@').next().unwrap_or_default();
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    let (name, tag) = name.split_once(':').unwrap_or((name, "latest"));
    let is_first = tag == "1" || tag.starts_with("1.") || tag.starts_with("1-");
    let is_moving = matches!(tag, "latest" | "master" | "labs");
    matches!(name, "docker/dockerfile" | "docker/dockerfile-upstream") && (is_first || is_moving)
}

/// Whether a line may select a frontend, in a notation other than `# syntax=`.
fn may_name_frontend(line: &str) -> bool {
    let is_mark = |c: char| c.is_whitespace() || matches!(c, '/' | '{' | '"');
    let text = line.trim_start_matches(is_mark).to_lowercase();
    let rest = text.strip_prefix("syntax");
    rest.is_some_and(|rest| rest.trim_start_matches(['"', ' ', '\t']).starts_with(['=', ':']))
}

/// Whether some engines parse a here-document of an instruction as instructions of this
/// build, or what looks like one in another way.
fn is_ambiguous(instruction: &Instruction) -> bool {
    let carrier = instruction.trigger.as_deref().unwrap_or(instruction);
    let first = |line: &str| line.split_whitespace().next().unwrap_or_default().to_uppercase();
    let is_reading = |line: &str| READING_INSTRUCTIONS.contains(&first(line).as_str());
    let marks = carrier.arguments.matches("<<").count();
    let may_have = matches!(carrier.keyword, Keyword::Add | Keyword::Copy | Keyword::Run);
    may_have && marks != instruction.here_docs.len()
        || instruction.here_docs.iter().any(|it| it.text.lines().any(is_reading))
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
