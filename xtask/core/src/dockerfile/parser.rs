//! Which images a Dockerfile is made from; what it can read of its context is told by
//! [`ContextReads`].
//!
//! Docker's Dockerfile reference is the source of the rules. Images are named by
//! `FROM` in every stage, by `COPY --from=` and by `RUN --mount=…,from=`; those
//! behind `ONBUILD` count too, because whoever builds on this image needs them.
//! Only `FROM` expands variables, and only those of `ARG`s before the first
//! `FROM` and the platform's own (`TARGETARCH` and its like), which a build arg
//! replaces whether an `ARG` declares them or not. A name that an
//! earlier stage has taken is that stage and no image; so is a stage's number,
//! and `scratch` is nothing at all.
//!
//! The syntax (continuations, comments, parser directives, heredocs) is read by
//! the `parse-dockerfile` crate.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use parse_dockerfile::{Flag, FromInstruction, Instruction};

use crate::dockerfile::context_reads::ContextReads;
use crate::dockerfile::platform_args::platform_variables;
use crate::dockerfile::provenance::Provenance;
use crate::dockerfile::words::{ExpandError, expand, unquote, words};
use crate::image_reference::{self, Reference, RegistryNames};

/// What a Dockerfile says of the images that it is made from.
#[derive(Debug, PartialEq, Eq)]
pub struct Dockerfile {
    /// In the order of the file.
    pub uses: Vec<ImageUse>,
    /// The names that `ARG` declares, anywhere.
    pub args: Vec<String>,
    /// What it can read of its context.
    pub sources: ContextReads,
    /// Whether it has `ONBUILD` instructions for those who build on its image.
    pub has_onbuild: bool,
    /// What the image is made from, and by which instructions.
    pub provenance: Provenance,
}

/// One place where a Dockerfile names an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageUse {
    /// The reference, with its variables expanded.
    pub reference: String,
    /// The instruction's line, from 1.
    pub line: usize,
    /// The kind of instruction.
    pub via: Via,
    /// `FROM --platform=`, with its variables expanded.
    pub platform: Option<String>,
    /// Whether the last stage, which is what gets built, needs it.
    pub reached: bool,
}

impl ImageUse {
    /// The name that the image would have if it were one of the workspace:
    /// [`Reference::local_name`].
    pub fn local_name(&self, registry: Option<&RegistryNames>) -> Option<&str> {
        Reference::parse(&self.reference).local_name(registry)
    }

    /// Its repository and its tag.
    pub fn repository_and_tag(&self) -> (&str, &str) {
        image_reference::repository_and_tag(&self.reference)
    }

    /// The reference without the tag that it has anyhow.
    pub fn repository(&self) -> &str {
        self.reference.strip_suffix(":latest").unwrap_or(&self.reference)
    }
}

/// What kind of instruction names an image.
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
    /// It holds nothing that could be built.
    #[error("has no instruction: begin it with a FROM line, or remove the file")]
    Empty,
    /// It is no text.
    #[error("is not a text file: a Dockerfile is UTF-8 text")]
    Binary,
    /// It is text in another encoding.
    #[error("is not UTF-8: save it as UTF-8")]
    NotUtf8 {
        /// The first line that is not.
        line: usize,
    },
    /// An instruction that Docker would not understand.
    #[error("is not a Dockerfile: {message}")]
    Syntax {
        /// The instruction's line.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// A variable left nothing to build from.
    #[error("FROM {written} names no image: give the ARG a default, or a value with --build-arg")]
    EmptyFrom {
        /// The instruction's line.
        line: usize,
        /// The reference before its variables were expanded.
        written: String,
    },
    /// Its variables cannot be expanded within bounds.
    #[error("{source}")]
    Expansion {
        /// The instruction's line.
        line: usize,
        /// Which bound.
        source: ExpandError,
    },
}

impl ParseError {
    /// The line to blame, from 1.
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

/// Reads a Dockerfile; `build_args` take the place of the defaults of `ARG`s.
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
    let sources = ContextReads::of(&parsed, &text, build_args);
    let is_trigger = |it: &Instruction<'_>| matches!(it, Instruction::Onbuild(_));
    let has_onbuild = parsed.instructions.iter().any(is_trigger);
    let provenance = provenance.unwrap_or_default();
    Ok(Dockerfile { uses: reader.into_uses(), args, sources, has_onbuild, provenance })
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
    let without_place = message.split(" at line ").next().unwrap_or(&message);
    let line = error.line().clamp(1, text.lines().count().max(1));
    ParseError::Syntax { line, message: without_place.to_owned() }
}

/// What names what, for one stage.
#[derive(Default)]
struct StageImages {
    name: Option<String>,
    uses: Vec<ImageUse>,
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

    /// Without a value a platform variable is shadowed too, as the engines do it.
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
                    reached: false,
                });
            }
        }
        self.stages.push(stage);
        Ok(())
    }

    /// A `from=` of `COPY` or of a mount: a stage by name or number, or an image.
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
                reached: false,
            }),
        }
    }

    fn stage_named(&self, name: &str) -> Option<usize> {
        let name = name.to_lowercase();
        self.stages.iter().rposition(|stage| stage.name.as_deref() == Some(name.as_str()))
    }

    fn into_uses(mut self) -> Vec<ImageUse> {
        let mut open: Vec<usize> = self.stages.len().checked_sub(1).into_iter().collect();
        let mut reached = BTreeSet::new();
        while let Some(stage) = open.pop() {
            if reached.insert(stage) {
                open.extend(&self.stages[stage].needs);
                self.stages[stage].uses.iter_mut().for_each(|used| used.reached = true);
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

/// The `from=` of `type=bind,from=image,target=/x`; keys have any case.
fn mount_sources(mount: &str) -> Vec<String> {
    let fields = mount.split(',').filter_map(|field| field.split_once('='));
    fields
        .filter(|(key, _)| key.trim().eq_ignore_ascii_case("from"))
        .map(|(_, value)| value.trim().trim_matches('"').to_owned())
        .collect()
}

/// Where lines begin, to turn the parser's byte offsets into line numbers.
struct LineStarts(Vec<usize>);

impl LineStarts {
    fn of(text: &str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self(std::iter::once(0).chain(breaks.map(|(place, _)| place + 1)).collect())
    }

    fn line_of(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset)
    }
}

#[cfg(test)]
mod tests;
