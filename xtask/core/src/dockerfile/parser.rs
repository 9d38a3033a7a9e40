//! Finds the images that a Dockerfile uses. [`ContextReads`] finds the files that it reads.
//!
//! The rules are those of Docker's Dockerfile reference. Images are named by `FROM` in
//! every stage, by `COPY --from=` and by `RUN --mount=…,from=`. Those in `ONBUILD`
//! instructions count too, because builds `FROM` this image need them. Only `FROM` expands
//! variables: those of `ARG`s before the first `FROM`, and the predefined platform
//! arguments (such as `TARGETARCH`), which a build arg overrides whether or not an `ARG`
//! declares them. The name or number of an earlier stage refers to that stage and not to an
//! image; `scratch` refers to no image.
//!
//! The syntax (continuations, comments, parser directives, heredocs) is parsed by the
//! `parse-dockerfile` crate.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use parse_dockerfile::{Flag, FromInstruction, Instruction};

use crate::dockerfile::context_reads::ContextReads;
use crate::dockerfile::platform_args::platform_variables;
use crate::dockerfile::provenance::Provenance;
use crate::dockerfile::words::{ExpandError, expand, unquote, words};
use crate::image_reference::{self, Reference, RegistryNames};

/// The parts of a Dockerfile that matter to this tool.
#[derive(Debug, PartialEq, Eq)]
pub struct Dockerfile {
    /// The images that it names, in the order of the file.
    pub uses: Vec<ImageUse>,
    /// The names of all `ARG`s, in any stage.
    pub args: Vec<String>,
    /// The files of its context that it can read.
    pub context_reads: ContextReads,
    /// Whether it has `ONBUILD` instructions, which run in builds `FROM` its image.
    pub has_onbuild: bool,
    /// The base and the instructions of its image.
    pub provenance: Provenance,
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
    /// Whether the last stage, which is the one that is built, depends on it.
    pub is_reached: bool,
}

impl ImageUse {
    /// The name that the reference has as an image of the workspace: see
    /// [`Reference::local_name`].
    pub fn local_name(&self, registry: Option<&RegistryNames>) -> Option<&str> {
        Reference::parse(&self.reference).local_name(registry)
    }

    /// The repository and the tag of the reference; the tag defaults to `latest`.
    pub fn repository_and_tag(&self) -> (&str, &str) {
        image_reference::repository_and_tag(&self.reference)
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
    #[error("FROM {written} expands to nothing: set the ARG's default, or use --build-arg")]
    EmptyFrom {
        /// The instruction's line, starting at 1.
        line: usize,
        /// The reference as written, before expansion.
        written: String,
    },
    /// Expanding its variables exceeds a limit.
    #[error("{source}")]
    Expansion {
        /// The instruction's line, starting at 1.
        line: usize,
        /// The limit that is exceeded.
        source: ExpandError,
    },
}

impl ParseError {
    /// The line at fault, starting at 1; `None` if the error concerns the whole file.
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::Empty | Self::Binary => None,
            Self::NotUtf8 { line }
            | Self::Syntax { line, .. }
            | Self::EmptyFrom { line, .. }
            | Self::Expansion { line, .. } => Some(*line),
        }
    }
}

/// Parses a Dockerfile. `build_args` override the defaults of `ARG`s.
pub fn parse(
    bytes: &[u8],
    build_args: &BTreeMap<String, String>,
) -> Result<Dockerfile, ParseError> {
    let text = decode(bytes)?;
    let parsed = parse_dockerfile::parse(&text).map_err(|error| syntax_error(&text, &error))?;
    let mut reader = DockerfileReader {
        lines: LineStarts::of(&text),
        variables: platform_variables(build_args),
        stages: Vec::new(),
        args: Vec::new(),
    };
    for instruction in &parsed.instructions {
        reader.instruction(instruction, build_args)?;
        let is_from = matches!(instruction, Instruction::From(_));
        if let Some(stage) = reader.stages.last_mut().filter(|_| !is_from) {
            stage.provenance.add(instruction);
        }
    }
    let provenance = reader.stages.last().map(|stage| stage.provenance.clone());
    let args = std::mem::take(&mut reader.args);
    let context_reads = ContextReads::of(&parsed, &text, build_args);
    let is_onbuild = |instruction: &Instruction<'_>| matches!(instruction, Instruction::Onbuild(_));
    let has_onbuild = parsed.instructions.iter().any(is_onbuild);
    let provenance = provenance.unwrap_or_default();
    Ok(Dockerfile { uses: reader.into_uses(), args, context_reads, has_onbuild, provenance })
}

fn decode(bytes: &[u8]) -> Result<String, ParseError> {
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
    Ok(text.replace("\r\n", "\n"))
}

fn syntax_error(text: &str, error: &parse_dockerfile::Error) -> ParseError {
    let message = error.to_string();
    let without_line = message.split(" at line ").next().unwrap_or(&message);
    let line = error.line().clamp(1, text.lines().count().max(1));
    ParseError::Syntax { line, message: without_line.to_owned() }
}

/// The images and other stages that one stage depends on.
#[derive(Default)]
struct StageImages {
    name: Option<String>,
    uses: Vec<ImageUse>,
    /// The indices of earlier stages.
    needs: BTreeSet<usize>,
    provenance: Provenance,
}

struct DockerfileReader {
    lines: LineStarts,
    variables: BTreeMap<String, String>,
    stages: Vec<StageImages>,
    args: Vec<String>,
}

impl DockerfileReader {
    fn instruction(
        &mut self,
        instruction: &Instruction<'_>,
        build_args: &BTreeMap<String, String>,
    ) -> Result<(), ParseError> {
        match instruction {
            Instruction::Arg(arg) => {
                let is_global = self.stages.is_empty();
                let line = self.lines.line_of(arg.arg.span.start);
                for word in words(&arg.arguments.value) {
                    let (name, default) = word.split_once('=').unwrap_or((&word, ""));
                    if is_global {
                        self.global_arg(name, default, build_args)
                            .map_err(|source| ParseError::Expansion { line, source })?;
                    }
                    self.args.push(name.to_owned());
                }
            }
            Instruction::From(from) => self.from(from)?,
            Instruction::Copy(copy) => {
                let line = self.lines.line_of(copy.copy.span.start);
                for source in flag_values(&copy.options, "from") {
                    self.source(source, line, Via::CopyFrom);
                }
            }
            Instruction::Run(run) => {
                let line = self.lines.line_of(run.run.span.start);
                for mount in flag_values(&run.options, "mount") {
                    for source in mount_sources(mount) {
                        self.source(&source, line, Via::MountFrom);
                    }
                }
            }
            Instruction::Onbuild(onbuild) => self.instruction(&onbuild.instruction, build_args)?,
            _ => {}
        }
        Ok(())
    }

    /// An `ARG` without a default hides a platform argument of the same name, as in
    /// both builders.
    fn global_arg(
        &mut self,
        name: &str,
        default: &str,
        build_args: &BTreeMap<String, String>,
    ) -> Result<(), ExpandError> {
        let value = match build_args.get(name) {
            Some(given) => given.clone(),
            None => expand(&unquote(default), &self.variables)?,
        };
        self.variables.insert(name.to_owned(), value);
        Ok(())
    }

    fn from(&mut self, from: &FromInstruction<'_>) -> Result<(), ParseError> {
        let line = self.lines.line_of(from.from.span.start);
        let expand = |text: &str| {
            expand(text, &self.variables).map_err(|source| ParseError::Expansion { line, source })
        };
        let reference = expand(&unquote(&from.image.value))?;
        if reference.is_empty() {
            return Err(ParseError::EmptyFrom { line, written: from.image.value.to_string() });
        }
        let platform = flag_values(&from.options, "platform").next().map(expand).transpose()?;
        let mut stage = StageImages {
            name: from.as_.as_ref().map(|(_, name)| name.value.to_lowercase()),
            ..StageImages::default()
        };
        match self.stage_named(&reference) {
            Some(base) => {
                stage.needs.insert(base);
                stage.provenance = self.stages[base].provenance.clone();
            }
            None if reference == "scratch" => stage.provenance = Provenance::of_base(None),
            None => {
                stage.provenance = Provenance::of_base(Some(reference.clone()));
                stage.uses.push(ImageUse {
                    reference,
                    line,
                    via: Via::From,
                    platform: platform.filter(|platform| !platform.is_empty()),
                    is_reached: false,
                });
            }
        }
        self.stages.push(stage);
        Ok(())
    }

    /// Adds the source of a `COPY --from=` or a mount: a stage by name or number, or an image.
    fn source(&mut self, source: &str, line: usize, via: Via) {
        let number = source.parse().ok().filter(|number| *number < self.stages.len());
        let stage = self.stage_named(source).or(number);
        let is_number = !source.is_empty() && source.bytes().all(|byte| byte.is_ascii_digit());
        let Some(current) = self.stages.last_mut() else {
            return;
        };
        match stage {
            Some(stage) => {
                current.needs.insert(stage);
            }
            None if is_number || source.is_empty() || source == "scratch" => {}
            None => current.uses.push(ImageUse {
                reference: source.to_owned(),
                line,
                via,
                platform: None,
                is_reached: false,
            }),
        }
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
        self.stages.into_iter().flat_map(|stage| stage.uses).collect()
    }
}

fn flag_values<'f>(flags: &'f [Flag<'_>], name: &'f str) -> impl Iterator<Item = &'f str> {
    flags
        .iter()
        .filter(move |flag| flag.name.value == name)
        .filter_map(|flag| flag.value.as_ref())
        .map(|value| value.value.trim_matches('"'))
}

/// The values of `from=` in `type=bind,from=image,target=/x`. Keys are case-insensitive.
fn mount_sources(mount: &str) -> Vec<String> {
    let fields = mount.split(',').filter_map(|field| field.split_once('='));
    fields
        .filter(|(key, _)| key.trim().eq_ignore_ascii_case("from"))
        .map(|(_, value)| value.trim().trim_matches('"').to_owned())
        .collect()
}

/// The offsets of all lines, to convert the parser's byte offsets to line numbers.
struct LineStarts(Vec<usize>);

impl LineStarts {
    fn of(text: &str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self(std::iter::once(0).chain(breaks.map(|(offset, _)| offset + 1)).collect())
    }

    fn line_of(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset)
    }
}

#[cfg(test)]
mod tests;
