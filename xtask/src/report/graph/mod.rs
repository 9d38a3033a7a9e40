//! A chart as text, as a file for other programs, or as a picture.

mod dot;
mod json;
mod layout;
mod mermaid;
mod page;
mod svg;
mod tree;

use std::fs;
use std::path::Path;

use xtask_core::escape;
use xtask_core::plan::graph::EdgeKind;
use xtask_core::problem::{Problem, Problems};

use crate::command_error::CommandError;
use crate::commands::graph::{Chart, Content, Node};
use crate::event::{Expectation, PlannedStep};
use crate::ui::sanitize;

/// How to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// For eyes, on a terminal.
    Tree,
    /// For Graphviz.
    Dot,
    /// For Mermaid, which GitHub and GitLab draw.
    Mermaid,
    /// For programs.
    Json,
    /// A picture.
    Svg,
    /// A page with a picture that answers.
    Page,
}

impl Format {
    /// What the name of a file stands for.
    pub(crate) fn of_file(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "txt" => Some(Self::Tree),
            "dot" | "gv" => Some(Self::Dot),
            "mmd" | "mermaid" => Some(Self::Mermaid),
            "json" => Some(Self::Json),
            "svg" => Some(Self::Svg),
            "html" | "htm" => Some(Self::Page),
            _ => None,
        }
    }
}

/// Draws, with `has_images` also the images of each component, where that is another
/// drawing, and with colours where it is for a terminal that has them. Only programs get
/// control characters of names, escaped as JSON has it.
pub(crate) fn draw(mut chart: Chart, format: Format, has_images: bool, has_colors: bool) -> String {
    if format != Format::Json {
        clean(&mut chart);
    }
    match format {
        Format::Tree => tree::draw(&chart, has_colors),
        Format::Dot if has_images => dot::draw_images(&chart),
        Format::Dot => dot::draw(&chart),
        Format::Mermaid => mermaid::draw(&chart),
        Format::Json => escape::json(&json::draw(&chart)),
        Format::Svg => svg::draw(&chart),
        Format::Page => page::draw(&chart),
    }
}

/// Writes out the control characters of all names.
fn clean(chart: &mut Chart) {
    for node in &mut chart.nodes {
        sanitize::name(&mut node.name);
        if let Content::Component(images) = &mut node.content {
            for image in images {
                sanitize::name(&mut image.name);
                sanitize::name(&mut image.dockerfile);
            }
        }
        node.expected.as_mut().map(sanitize::planned_step);
    }
    let lines = chart.links.iter_mut().flat_map(|link| &mut link.lines);
    lines.for_each(|(file, _)| sanitize::name(file));
}

/// Fails if a file does not hold a drawing.
pub(crate) fn check(file: &Path, drawing: &str) -> Result<(), CommandError> {
    let shown = file.display().to_string();
    let held = fs::read_to_string(file)
        .map_err(|error| Problem::of_file(&shown, error.to_string()))
        .map_err(Problems::from)?;
    if held == drawing {
        return Ok(());
    }
    let lines = held.lines().zip(drawing.lines());
    let line = 1 + lines.take_while(|(held, drawn)| held == drawn).count();
    let message = "shows another graph: draw it again with the same options, without --check";
    Err(CommandError::Outdated(Problem::of_line(shown, line, message).into()))
}

/// Writes a drawing to a file.
pub(crate) fn write(file: &Path, drawing: &str) -> Result<(), CommandError> {
    fs::write(file, drawing)
        .map_err(|error| CommandError::unwritten(&file.display().to_string(), &error))
}

/// How a component is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Staleness {
    UpToDate,
    Restored,
    Stale,
    Undecided,
}

impl Staleness {
    fn of(node: &Node) -> Option<Self> {
        node.expected.as_ref().map(Self::of_step)
    }

    fn of_step(step: &PlannedStep) -> Self {
        let expectations = || step.images.iter().map(|image| &image.expectation);
        if expectations().any(|it| matches!(it, Expectation::Stale(_))) {
            return Self::Stale;
        }
        if step.hooks.is_some() || expectations().any(|it| matches!(it, Expectation::Undecided(_)))
        {
            return Self::Undecided;
        }
        let is_restored = expectations().any(|it| *it == Expectation::Restored);
        if is_restored { Self::Restored } else { Self::UpToDate }
    }

    fn name(self) -> &'static str {
        match self {
            Self::UpToDate => "up-to-date",
            Self::Restored => "restored",
            Self::Stale => "stale",
            Self::Undecided => "undecided",
        }
    }

    /// What a box of it is filled with.
    fn fill(self) -> &'static str {
        match self {
            Self::UpToDate => "#d7f0dc",
            Self::Restored => "#d7e8f0",
            Self::Stale => "#ffd9c2",
            Self::Undecided => "#fff3c2",
        }
    }
}

/// The names of a component's images, but for one that is called as the component is.
fn other_images(node: &Node) -> impl Iterator<Item = &str> {
    let names = node.images().iter().map(|image| image.name.as_str());
    names.filter(|name| *name != node.name)
}

/// How long a component took.
fn duration(node: &Node) -> Option<String> {
    node.duration.map(|duration| format!("{:.1}s", duration.as_secs_f64()))
}

/// Two of three kinds of links look alike in one picture: what is copied.
fn is_copied(kind: EdgeKind) -> bool {
    use xtask_core::dockerfile::parser::Via;
    matches!(kind, EdgeKind::Image(Via::CopyFrom | Via::MountFrom))
}
