//! Finds the images that a Dockerfile uses. [`ContextReads`] finds the files that it reads.
//!
//! The rules are those of Docker's Dockerfile reference. Images are named by `FROM` in
//! every stage, by `COPY --from=` and by `RUN --mount=…,from=`. Those in `ONBUILD`
//! instructions are for the builds `FROM` this image, whose stages they can mean. Only `FROM` expands
//! variables: those of `ARG`s before the first `FROM`, and the predefined platform
//! arguments (such as `TARGETARCH`), which a build arg overrides whether or not an `ARG`
//! declares them. The name or number of an earlier stage refers to that stage and not to an
//! image; `scratch` refers to no image.
//!
//! `syntax` splits the file into instructions, `lexer` expands variables.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::dockerfile::context_reads::ContextReads;
use crate::dockerfile::lexer::{self, LexError, Value};
use crate::dockerfile::platform_args::{is_predefined, platform_variables};
use crate::dockerfile::provenance::Provenance;
use crate::dockerfile::syntax::{Instruction, Keyword, Syntax, mount_fields, split};
use crate::image_reference::{self, ReferenceError};
use crate::problem::did_you_mean;

/// The parts of a Dockerfile that matter to this tool.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Dockerfile {
    /// The images that it names, in the order of the file.
    pub uses: Vec<ImageUse>,
    /// The names of its stages, in lower case.
    pub stages: BTreeSet<String>,
    /// The names of all `ARG`s, in any stage.
    pub args: Vec<String>,
    /// Those of them before the first `FROM` that do nothing but name images.
    pub naming_args: BTreeSet<String>,
    /// The secrets and SSH agents that its instructions mount: `secret` or `ssh`, and the id.
    pub mounts: BTreeSet<(String, String)>,
    /// The files of its context that it can read.
    pub context_reads: ContextReads,
    /// Whether it has `ONBUILD` instructions, which run in builds `FROM` its image.
    pub has_onbuild: bool,
    /// The base and the instructions of its image.
    pub provenance: Provenance,
}

impl Dockerfile {
    /// Adds what it says for another platform.
    pub(crate) fn add_platform(&mut self, other: Self) {
        for used in other.uses {
            if !self.uses.contains(&used) {
                self.uses.push(used);
            }
        }
        if self.context_reads != other.context_reads {
            self.context_reads = ContextReads::All;
        }
    }

    /// Adds what it says to other engines. It is not known which one builds it, so the images that
    /// only others use must be there if they are ours, and need not be if they are not.
    fn add_reading(&mut self, other: Self) {
        for used in other.uses {
            if !self.uses.iter().any(|own| own.reference == used.reference) {
                self.uses.push(ImageUse { is_reached: false, ..used });
            }
        }
        self.uses.sort_by_key(|used| used.line);
        self.naming_args.retain(|name| other.naming_args.contains(name));
    }
}

/// One use of an image in a Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageUse {
    /// The reference, with its variables expanded.
    pub reference: String,
    /// The instruction's line, starting at 1.
    pub line: usize,
    /// The kind of instruction.
    pub via: Via,
    /// The value of `FROM --platform=`, with its variables expanded.
    pub platform: Option<String>,
    /// The `ARG`s that the reference depends on.
    pub args: BTreeSet<String>,
    /// Whether the stage that is built depends on it.
    pub is_reached: bool,
    /// Whether an `ONBUILD` instruction names it: builds `FROM` this image need it, unless they
    /// have a stage of that name.
    pub is_trigger: bool,
    /// The image of the workspace that it is. A Dockerfile alone does not tell: reading the
    /// workspace sets it.
    pub local: Option<String>,
}

impl ImageUse {
    /// A use of which nothing more is known.
    pub fn of(reference: String, line: usize, via: Via) -> Self {
        Self {
            reference,
            line,
            via,
            platform: None,
            args: BTreeSet::new(),
            is_reached: false,
            is_trigger: false,
            local: None,
        }
    }

    /// The reference without the default tag `latest`.
    pub fn repository(&self) -> &str {
        self.reference.strip_suffix(":latest").unwrap_or(&self.reference)
    }
}

/// The kind of instruction that uses an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Via {
    /// `FROM`.
    From,
    /// `COPY --from=`.
    CopyFrom,
    /// `RUN --mount=…,from=`.
    MountFrom,
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::From => "FROM",
            Self::CopyFrom => "COPY --from",
            Self::MountFrom => "RUN --mount from",
        })
    }
}

/// Why a file is not a Dockerfile.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It has no instructions.
    #[error("has no instruction: begin it with a FROM line, or remove the file")]
    Empty,
    /// It is a binary file.
    #[error("is not a text file: a Dockerfile is UTF-8 text")]
    Binary,
    /// It is not encoded in UTF-8.
    #[error("is not UTF-8: save it as UTF-8")]
    NotUtf8 {
        /// The first invalid line, starting at 1.
        line: usize,
    },
    /// An instruction is malformed.
    #[error("is not a Dockerfile: {message}")]
    Syntax {
        /// The instruction's line, starting at 1.
        line: usize,
        /// The parser's error message.
        message: String,
    },
    /// The image of a `FROM` is empty after its variables are expanded.
    #[error(
        "FROM {written} expands to nothing: set the ARG's default, 'args' in xtask.toml, or use \
         --build-arg"
    )]
    EmptyFrom {
        /// The instruction's line, starting at 1.
        line: usize,
        /// The reference as written, before expansion.
        written: String,
    },
    /// The image of an instruction is not an image reference.
    #[error("'{reference}' is not an image reference: {source}")]
    Reference {
        /// The instruction's line, starting at 1.
        line: usize,
        /// The text, with its variables expanded.
        reference: String,
        /// Why it is none.
        source: ReferenceError,
    },
    /// The image of an instruction that expands no variables has one.
    #[error(
        "{via} expands no variables: name a stage 'FROM {written} AS NAME', and use its name here"
    )]
    Variable {
        /// The instruction's line, starting at 1.
        line: usize,
        /// The kind of instruction.
        via: Via,
        /// The text.
        written: String,
    },
    /// No stage has the name that is to be built.
    #[error("has no stage '{target}'{hint}")]
    NoStage {
        /// The name.
        target: String,
        /// Which one may be meant.
        hint: String,
    },
    /// A word cannot be read.
    #[error("{source}")]
    Word {
        /// The instruction's line, starting at 1.
        line: usize,
        /// Why it cannot be read.
        source: LexError,
    },
}

impl ParseError {
    /// The line at fault, starting at 1; `None` if the error concerns the whole file.
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::Empty | Self::Binary | Self::NoStage { .. } => None,
            Self::NotUtf8 { line }
            | Self::Syntax { line, .. }
            | Self::EmptyFrom { line, .. }
            | Self::Reference { line, .. }
            | Self::Variable { line, .. }
            | Self::Word { line, .. } => Some(*line),
        }
    }
}

/// Parses a Dockerfile. `build_args` override the defaults of `ARG`s; `target` is the stage to
/// build, by default the last.
pub fn parse(
    bytes: &[u8],
    build_args: &BTreeMap<String, String>,
    target: Option<&str>,
) -> Result<Dockerfile, ParseError> {
    parse_for(bytes, build_args, target, BTreeMap::new())
}

/// The same for a platform, whose variables are `platform`.
pub(crate) fn parse_for(
    bytes: &[u8],
    build_args: &BTreeMap<String, String>,
    target: Option<&str>,
    platform: BTreeMap<String, String>,
) -> Result<Dockerfile, ParseError> {
    let text = decode(bytes)?;
    let mut syntax = Syntax::parse(&text)
        .map_err(|error| ParseError::Syntax { line: error.line, message: error.message })?;
    if let Some(target) = target {
        end_with(&mut syntax, target)?;
    }
    let variables = platform_variables(build_args, target, platform);
    let read = |unset| read(&syntax, &text, build_args, variables.clone(), unset);
    let newer = read(Unset::Keeps);
    if !declares_without_value(&syntax, build_args) {
        return newer;
    }
    match (newer, read(Unset::Empties)) {
        (Ok(mut newer), Ok(older)) => {
            newer.add_reading(older);
            Ok(newer)
        }
        (Err(_), Ok(older)) => Ok(older),
        (newer, Err(_)) => newer,
    }
}

/// What an `ARG` without a value does to the variable of its name, if it stands before the first
/// `FROM`.
#[derive(Clone, Copy)]
enum Unset {
    /// It leaves it as it is, which may be a platform argument: since BuildKit 0.17, of Docker 27.4.
    Keeps,
    /// It makes it empty.
    Empties,
}

/// Whether an `ARG` before the first `FROM` has no value.
fn declares_without_value(syntax: &Syntax, build_args: &BTreeMap<String, String>) -> bool {
    let mut globals = syntax.instructions.iter().take_while(|it| it.keyword != Keyword::From);
    globals.any(|arg| {
        let words = lexer::words(&arg.arguments, syntax.escape);
        words.iter().any(|word| !word.contains('=') && !build_args.contains_key(word))
    })
}

fn read(
    syntax: &Syntax,
    text: &str,
    build_args: &BTreeMap<String, String>,
    variables: BTreeMap<String, String>,
    unset: Unset,
) -> Result<Dockerfile, ParseError> {
    let mut reader = DockerfileReader {
        escape: syntax.escape,
        unset,
        variables,
        stages: Vec::new(),
        args: Vec::new(),
        global_args: BTreeMap::new(),
        not_naming: BTreeSet::new(),
        mounts: BTreeSet::new(),
    };
    for instruction in &syntax.instructions {
        reader.instruction(instruction, build_args)?;
        if let Some(stage) = reader.stages.last_mut()
            && instruction.keyword != Keyword::From
        {
            stage.provenance.add(instruction.keyword);
        }
    }
    let Some(stage) = reader.stages.last() else {
        let (line, message) = (1, "it has no FROM instruction".to_owned());
        return Err(ParseError::Syntax { line, message });
    };
    let provenance = stage.provenance.clone();
    let args = std::mem::take(&mut reader.args);
    let mounts = std::mem::take(&mut reader.mounts);
    let context_reads = ContextReads::of(syntax, text, build_args);
    let has_onbuild = syntax.instructions.iter().any(|it| it.trigger.is_some());
    let naming_args = reader.naming_args();
    let stages = reader.stages.iter().filter_map(|stage| stage.name.clone()).collect();
    let uses = reader.into_uses();
    Ok(Dockerfile {
        uses,
        stages,
        args,
        naming_args,
        mounts,
        context_reads,
        has_onbuild,
        provenance,
    })
}

/// Drops all stages after the one that is to be built: builders do not look at them. Unlike the
/// classic builder, BuildKit knows no stages by their numbers.
fn end_with(syntax: &mut Syntax, target: &str) -> Result<(), ParseError> {
    let is_from = |instruction: &&Instruction| instruction.keyword == Keyword::From;
    let stages = syntax.instructions.iter().filter(is_from).map(|from| {
        let words: Vec<&str> = split(&from.arguments).collect();
        words.get(2).map(|name| name.to_lowercase()).unwrap_or_default()
    });
    let stages: Vec<String> = stages.collect();
    let Some(last) = stages.iter().rposition(|stage| *stage == target.to_lowercase()) else {
        let names = stages.iter().map(String::as_str).filter(|name| !name.is_empty());
        let (target, hint) = (target.to_owned(), did_you_mean(target, names));
        return Err(ParseError::NoStage { target, hint });
    };
    let mut stage = 0;
    syntax.instructions.retain(|instruction| {
        stage += usize::from(instruction.keyword == Keyword::From);
        stage <= last + 1
    });
    Ok(())
}

fn check_reference(reference: &str, line: usize) -> Result<(), ParseError> {
    image_reference::check(reference).map_err(|source| {
        let reference = reference.to_owned();
        ParseError::Reference { line, reference, source }
    })
}

/// The kind and id of a mounted secret or SSH agent. A secret without an id has the name of its
/// file.
fn mounted_id(fields: &[(String, String)]) -> Option<(String, String)> {
    let field = |names: &[&str]| {
        let found = fields.iter().find(|(key, _)| names.contains(&key.as_str()));
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    };
    let kind = field(&["type"])?.to_lowercase();
    let id = match kind.as_str() {
        "ssh" => field(&["id"]).unwrap_or("default"),
        "secret" => field(&["id"])
            .or_else(|| field(&["target", "dst", "destination"])?.rsplit('/').next())?,
        _ => return None,
    };
    Some((kind, id.to_owned()))
}

pub(crate) fn decode(bytes: &[u8]) -> Result<String, ParseError> {
    if bytes.contains(&0) {
        return Err(ParseError::Binary);
    }
    let text = std::str::from_utf8(bytes).map_err(|error| ParseError::NotUtf8 {
        line: 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count(),
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let is_blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    if text.lines().all(is_blank) {
        return Err(ParseError::Empty);
    }
    let text = text.replace("\r\n", "\n");
    Ok(text.strip_suffix('\r').unwrap_or(&text).to_owned())
}

/// What `COPY` and mounts take files from, as written.
fn sources(instruction: &Instruction) -> Vec<(String, Via)> {
    let via = match instruction.keyword {
        Keyword::Copy => Via::CopyFrom,
        Keyword::Run => Via::MountFrom,
        _ => return Vec::new(),
    };
    let mounts = instruction.flag("mount").flat_map(mount_fields);
    let mounts = mounts.filter(|(key, _)| key == "from").map(|(_, source)| source);
    let found: Vec<String> = match via {
        Via::MountFrom => mounts.collect(),
        _ => instruction.flag("from").map(str::to_owned).collect(),
    };
    found.into_iter().map(|source| (source, via)).collect()
}

/// The images or stages that the `ONBUILD` instruction of a base names, where it is run.
pub fn sources_of_trigger(text: &str) -> Vec<(String, Via)> {
    let instructions = Syntax::parse(text).map(|syntax| syntax.instructions).unwrap_or_default();
    let found = instructions.iter().flat_map(sources);
    found.filter(|(source, _)| may_be_image(source)).collect()
}

/// Whether a source is neither a stage's number nor something that no builder takes.
fn may_be_image(source: &str) -> bool {
    !is_number(source) && source != "scratch" && image_reference::check(source).is_ok()
}

fn is_number(source: &str) -> bool {
    !source.is_empty() && source.bytes().all(|byte| byte.is_ascii_digit())
}

/// The images and other stages that one stage depends on.
#[derive(Default)]
struct StageImages {
    name: Option<String>,
    uses: Vec<ImageUse>,
    /// The lines of its `ONBUILD` instructions, and what these name.
    triggers: Vec<(usize, String, Via)>,
    /// The indices of earlier stages.
    needs: BTreeSet<usize>,
    provenance: Provenance,
}

struct DockerfileReader {
    escape: char,
    unset: Unset,
    variables: BTreeMap<String, String>,
    stages: Vec<StageImages>,
    args: Vec<String>,
    /// The `ARG`s before the first `FROM`, and those that each depends on, itself included.
    global_args: BTreeMap<String, BTreeSet<String>>,
    /// Those that have another effect than to name images.
    not_naming: BTreeSet<String>,
    mounts: BTreeSet<(String, String)>,
}

impl DockerfileReader {
    fn instruction(
        &mut self,
        instruction: &Instruction,
        build_args: &BTreeMap<String, String>,
    ) -> Result<(), ParseError> {
        let line = instruction.line;
        if self.stages.is_empty() && !matches!(instruction.keyword, Keyword::Arg | Keyword::From) {
            let message = format!("{} stands before the first FROM", instruction.keyword.name());
            return Err(ParseError::Syntax { line, message });
        }
        match instruction.keyword {
            Keyword::Arg => {
                for word in lexer::words(&instruction.arguments, self.escape) {
                    let (name, default) = match word.split_once('=') {
                        Some((name, default)) => (name, Some(default)),
                        None => (word.as_str(), None),
                    };
                    if self.stages.is_empty() {
                        self.global_arg(name, default, build_args)
                            .map_err(|source| ParseError::Word { line, source })?;
                    } else {
                        let needed = self.global_args.get(name).into_iter().flatten().cloned();
                        self.not_naming.extend(needed.chain([name.to_owned()]));
                    }
                    self.args.push(name.to_owned());
                }
            }
            Keyword::From => self.from(instruction)?,
            Keyword::Copy | Keyword::Run => {
                let mounts = instruction.flag("mount").map(mount_fields);
                self.mounts.extend(mounts.filter_map(|fields| mounted_id(&fields)));
                for (source, via) in sources(instruction) {
                    self.source(&source, line, via)?;
                }
            }
            Keyword::Onbuild => {
                let Some(trigger) = &instruction.trigger else { return Ok(()) };
                if trigger.keyword == Keyword::Arg {
                    self.instruction(trigger, build_args)?;
                }
                let named = sources(trigger).into_iter().map(|(source, via)| (line, source, via));
                if let Some(stage) = self.stages.last_mut() {
                    stage.triggers.extend(named);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn global_arg(
        &mut self,
        name: &str,
        default: Option<&str>,
        build_args: &BTreeMap<String, String>,
    ) -> Result<(), LexError> {
        let (value, mut needs) = match (build_args.get(name), default, self.unset) {
            (Some(given), ..) => (given.clone(), BTreeSet::new()),
            (None, Some(default), _) => self.expand(default)?,
            (None, None, Unset::Empties) => (String::new(), BTreeSet::new()),
            (None, None, Unset::Keeps) => {
                self.global_args.entry(name.to_owned()).or_default().insert(name.to_owned());
                return Ok(());
            }
        };
        needs.insert(name.to_owned());
        self.variables.insert(name.to_owned(), value);
        self.global_args.insert(name.to_owned(), needs);
        Ok(())
    }

    /// A word with its variables expanded, and the `ARG`s that it depends on.
    fn expand(&self, word: &str) -> Result<(String, BTreeSet<String>), LexError> {
        let mut needs = BTreeSet::new();
        let value = |name: &str| {
            needs.extend(self.global_args.get(name).into_iter().flatten().cloned());
            Value::from(self.variables.get(name).cloned())
        };
        let text = lexer::expand(word, self.escape, value)?;
        Ok((text, needs))
    }

    fn naming_args(&self) -> BTreeSet<String> {
        let names = self.global_args.keys().filter(|name| !is_predefined(name));
        names.filter(|name| !self.not_naming.contains(*name)).cloned().collect()
    }

    fn from(&mut self, from: &Instruction) -> Result<(), ParseError> {
        let line = from.line;
        let words: Vec<&str> = split(&from.arguments).collect();
        let (image, name) = match *words {
            [image] => (image, None),
            [image, keyword, name] if keyword.eq_ignore_ascii_case("as") => (image, Some(name)),
            _ => {
                let message = "FROM takes an image, and 'AS' with the name of the stage".to_owned();
                return Err(ParseError::Syntax { line, message });
            }
        };
        let expand =
            |word: &str| self.expand(word).map_err(|source| ParseError::Word { line, source });
        let (reference, args) = expand(image)?;
        if reference.is_empty() {
            return Err(ParseError::EmptyFrom { line, written: image.to_owned() });
        }
        let platform = from.flag("platform").next().map(expand).transpose()?;
        let platform = platform.map(|(platform, args)| {
            self.not_naming.extend(args);
            platform
        });
        let mut stage = StageImages { name: name.map(str::to_lowercase), ..StageImages::default() };
        let mut triggers = Vec::new();
        match self.stage_named(&reference) {
            Some(base) => {
                self.not_naming.extend(args);
                stage.needs.insert(base);
                stage.provenance = self.stages[base].provenance.clone();
                triggers.clone_from(&self.stages[base].triggers);
            }
            None if reference == "scratch" => {
                self.not_naming.extend(args);
                stage.provenance = Provenance::of_base(None);
            }
            None => {
                check_reference(&reference, line)?;
                stage.provenance = Provenance::of_base(Some(reference.clone()));
                stage.uses.push(ImageUse {
                    platform: platform.filter(|platform| !platform.is_empty()),
                    args,
                    ..ImageUse::of(reference, line, Via::From)
                });
            }
        }
        self.stages.push(stage);
        for (line, source, via) in triggers {
            self.source(&source, line, via)?;
        }
        Ok(())
    }

    /// Adds the source of a `COPY --from=` or a mount: a stage by name or number, or an image.
    fn source(&mut self, source: &str, line: usize, via: Via) -> Result<(), ParseError> {
        let number = source.parse().ok().filter(|number| *number < self.stages.len());
        let stage = self.stage_named(source).or(number);
        let Some(current) = self.stages.last_mut() else { return Ok(()) };
        match stage {
            Some(stage) => {
                current.needs.insert(stage);
            }
            None if is_number(source) || source.is_empty() || source == "scratch" => {}
            None if source.contains('$') => {
                return Err(ParseError::Variable { line, via, written: source.to_owned() });
            }
            None => {
                check_reference(source, line)?;
                current.uses.push(ImageUse::of(source.to_owned(), line, via));
            }
        }
        Ok(())
    }

    fn stage_named(&self, name: &str) -> Option<usize> {
        let name = name.to_lowercase();
        self.stages.iter().rposition(|stage| stage.name.as_deref() == Some(name.as_str()))
    }

    fn into_uses(mut self) -> Vec<ImageUse> {
        let mut pending: Vec<usize> = self.stages.len().checked_sub(1).into_iter().collect();
        let mut reached = BTreeSet::new();
        while let Some(stage) = pending.pop() {
            if reached.insert(stage) {
                pending.extend(&self.stages[stage].needs);
                self.stages[stage].uses.iter_mut().for_each(|used| used.is_reached = true);
            }
        }
        let triggers = self.stages.last_mut().map(|last| std::mem::take(&mut last.triggers));
        let triggers = triggers.into_iter().flatten().filter(|(_, source, _)| may_be_image(source));
        let triggers = triggers.map(|(line, reference, via)| ImageUse {
            is_trigger: true,
            ..ImageUse::of(reference, line, via)
        });
        let mut uses: Vec<ImageUse> =
            self.stages.into_iter().flat_map(|stage| stage.uses).chain(triggers).collect();
        uses.sort_by_key(|used| used.line);
        uses
    }
}

#[cfg(test)]
mod tests;
