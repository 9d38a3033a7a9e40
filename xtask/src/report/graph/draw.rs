//! Renders the dependency graph as a tree, DOT, Mermaid, JSON, SVG or HTML.

use std::fs;
use std::path::Path;

use xtask_core::problem::{Problem, Problems};

use crate::command_error::CommandError;
use crate::commands::graph::{Chart, Content};
use crate::event::Output;
use crate::report::graph::{dot, json, matrix, mermaid, page, svg, tree};
use crate::report::sanitize;

/// An output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Tree,
    Dot,
    /// GitHub and GitLab render it in Markdown.
    Mermaid,
    Json,
    /// Levels of components, for CI.
    Matrix,
    Svg,
    /// The SVG in an interactive HTML page.
    Page,
}

impl Format {
    /// The format that a file's extension stands for.
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

/// Renders a chart. `has_images` draws one node per image in DOT; `has_colors` applies to the
/// tree. Control characters in names are shown as text; in JSON, they are escaped.
pub(crate) fn draw(mut chart: Chart, format: Format, has_images: bool, has_colors: bool) -> Output {
    if !matches!(format, Format::Json | Format::Matrix) {
        clean(&mut chart);
    }
    let text = match format {
        Format::Tree => tree::draw(&chart, has_colors),
        Format::Dot if has_images => dot::draw_images(&chart),
        Format::Dot => dot::draw(&chart),
        Format::Matrix => matrix::draw(&chart),
        Format::Mermaid => mermaid::draw(&chart),
        Format::Svg => svg::draw(&chart),
        Format::Page => page::draw(&chart),
        Format::Json => return Output::Document { document: json::document(&chart) },
    };
    Output::Text { text }
}

/// Escapes control characters in all names.
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

/// Fails if a file differs from a drawing.
pub(crate) fn check(file: &Path, drawing: &str) -> Result<(), CommandError> {
    let shown = file.display().to_string();
    let current = fs::read_to_string(file)
        .map_err(|error| Problem::of_file(&shown, error.to_string()))
        .map_err(Problems::from)?;
    if current == drawing {
        return Ok(());
    }
    let lines = current.lines().zip(drawing.lines());
    let line = 1 + lines.take_while(|(one, other)| one == other).count();
    let message = "is out of date: regenerate it with the same options, without --check";
    Err(CommandError::Outdated(Problem::of_line(shown, line, message).into()))
}

pub(crate) fn write(file: &Path, drawing: &str) -> Result<(), CommandError> {
    fs::write(file, drawing)
        .map_err(|error| CommandError::unwritten(&file.display().to_string(), &error))
}
