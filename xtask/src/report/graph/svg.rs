//! The chart as a self-contained SVG image.
//!
//! Boxes are light with dark text and lines are gray, so it is readable on light and dark
//! backgrounds. A box is filled by its state, and has a dot if `--since` found a change; red is
//! the critical path. The font is monospaced, because text is not measured here.

use xtask_core::plan::graph::EdgeKind;

use crate::commands::graph::{Chart, Link, Mark, Node};
use crate::report::graph::layout::{Layout, Point, lay_out};
use crate::report::graph::node_style::{Staleness, duration, is_copied, mark_name, other_images};
use crate::report::plan;

/// The width of a character, in the two font sizes.
const LETTER: f64 = 7.9;
const SMALL_LETTER: f64 = 6.7;
const NAME_HEIGHT: f64 = 30.0;
const LINE_HEIGHT: f64 = 15.0;
const MARGIN: f64 = 16.0;
const LEGEND_HEIGHT: f64 = 34.0;

const STYLE: &str = "
    text { font: 13px ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace; fill: #1b1f24; text-anchor: middle; }
    .small { font-size: 11px; fill: #57606a; }
    .key { font-size: 11px; fill: #77808a; text-anchor: start; }
    rect { fill: #fff; stroke: #8c959f; stroke-width: 1.2; }
    .bare rect { fill: #eef1f4; }
    .external rect { fill: #f6f8fa; stroke-dasharray: 4 3; }
    .external text { fill: #57606a; }
    .up_to_date rect { fill: #d7f0dc; }
    .restored rect { fill: #d7e8f0; }
    .stale rect { fill: #ffd9c2; }
    .undecided rect { fill: #fff3c2; }
    .mark { fill: none; }
    .changed .mark, .affected .mark { stroke: #1b1f24; stroke-width: 1.3; }
    .changed .mark { fill: #1b1f24; }
    .critical rect { stroke: #d64550; stroke-width: 2.4; }
    path.line { fill: none; stroke: #8c959f; stroke-width: 1.3; marker-end: url(#arrow); }
    path.copied { stroke-dasharray: 6 4; }
    path.declared { stroke-dasharray: 2 3; }
    path.line.critical { stroke: #d64550; stroke-width: 2.2; }
    #arrow path { fill: #8c959f; fill: context-stroke; }
  ";

pub(crate) fn draw(chart: &Chart) -> String {
    let texts: Vec<Vec<String>> = chart.nodes.iter().map(lines_of).collect();
    let sizes: Vec<(f64, f64)> =
        chart.nodes.iter().zip(&texts).map(|(node, lines)| size(node, lines)).collect();
    let mut ends: Vec<(usize, usize)> = chart.links.iter().map(|it| (it.from, it.to)).collect();
    ends.dedup();
    let layout = lay_out(&sizes, &ends);
    let legend = legend(chart);
    let legend_width = legend.iter().map(|(_, text)| legend_width(text)).sum::<f64>();
    let width = layout.size.0.max(legend_width) + 2.0 * MARGIN;
    let height = layout.size.1 + 2.0 * MARGIN + if legend.is_empty() { 0.0 } else { LEGEND_HEIGHT };
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         width=\"{width:.0}\" height=\"{height:.0}\">\n  <style>{STYLE}</style>\n  \
         <defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"6\" \
         markerHeight=\"6\" orient=\"auto\"><path d=\"M0 0 8 4 0 8z\"/></marker></defs>\n  \
         <g id=\"picture\" transform=\"translate({MARGIN} {MARGIN})\">\n"
    );
    for link in &chart.links {
        text.push_str(&line(chart, link, route(&layout, &ends, link)));
    }
    for (index, (node, lines)) in chart.nodes.iter().zip(&texts).enumerate() {
        text.push_str(&node_box(index, node, lines, layout.boxes[index], sizes[index]));
    }
    text.push_str("  </g>\n");
    text.push_str(&draw_legend(&legend, layout.size.1 + 2.0 * MARGIN));
    text + "</svg>\n"
}

/// The lines below the name.
fn lines_of(node: &Node) -> Vec<String> {
    let images = other_images(node).map(str::to_owned);
    let critical = if node.is_critical { " critical" } else { "" };
    images.chain(duration(node).map(|duration| duration + critical)).collect()
}

fn size(node: &Node, lines: &[String]) -> (f64, f64) {
    let name = text_width(&node.name, LETTER);
    let width = lines.iter().map(|line| text_width(line, SMALL_LETTER)).fold(name, f64::max);
    let below = lines.iter().map(|_| LINE_HEIGHT).sum::<f64>();
    (width + 24.0, NAME_HEIGHT + below)
}

fn text_width(text: &str, letter: f64) -> f64 {
    let letters = u32::try_from(console::measure_text_width(text)).unwrap_or(u32::MAX);
    f64::from(letters) * letter
}

fn route<'l>(layout: &'l Layout, ends: &[(usize, usize)], link: &Link) -> &'l [Point] {
    ends.binary_search(&(link.from, link.to)).map_or(&[], |index| &layout.lines[index])
}

fn line(chart: &Chart, link: &Link, route: &[Point]) -> String {
    let (from, to) = (&chart.nodes[link.from], &chart.nodes[link.to]);
    let mut classes = "line".to_owned();
    if link.kind == EdgeKind::Declared {
        classes.push_str(" declared");
    } else if is_copied(link.kind) {
        classes.push_str(" copied");
    }
    if chart.is_critical(link) {
        classes.push_str(" critical");
    }
    let lines: Vec<String> =
        link.lines.iter().map(|(file, line)| format!("{file}:{line}")).collect();
    let title =
        format!("{} depends on {} ({}): {}", from.name, to.name, link.kind, lines.join(", "));
    format!(
        "    <path class=\"{classes}\" data-from=\"{}\" data-to=\"{}\" d=\"{}\"><title>{}</title></path>\n",
        link.from,
        link.to,
        curve(route),
        escaped(&title)
    )
}

/// Horizontal at each point, so that it leaves and enters boxes at their sides.
fn curve(route: &[Point]) -> String {
    let mut text = String::new();
    if let Some((x, y)) = route.first() {
        text.push_str(&format!("M{x:.1} {y:.1}"));
    }
    for pair in route.windows(2) {
        let ((x, y), (to_x, to_y)) = (pair[0], pair[1]);
        let middle = f64::midpoint(x, to_x);
        text.push_str(&format!(" C{middle:.1} {y:.1} {middle:.1} {to_y:.1} {to_x:.1} {to_y:.1}"));
    }
    text
}

fn node_box(index: usize, node: &Node, lines: &[String], at: Point, size: (f64, f64)) -> String {
    let mut classes = vec!["node"];
    if node.is_external() {
        classes.push("external");
    } else if node.images().is_empty() {
        classes.push("bare");
    }
    classes.extend(Staleness::of(node).map(Staleness::name));
    classes.extend(node.mark.map(mark_name));
    if node.is_critical {
        classes.push("critical");
    }
    let mut text = format!(
        "    <g class=\"{}\" data-node=\"{index}\" transform=\"translate({:.1} {:.1})\"><title>{}</title>\
         <rect width=\"{:.1}\" height=\"{:.1}\" rx=\"6\"/>",
        classes.join(" "),
        at.0 - size.0 / 2.0,
        at.1 - size.1 / 2.0,
        escaped(&title(node)),
        size.0,
        size.1
    );
    if node.mark.is_some() {
        text.push_str(&mark_at(9.0, 9.0));
    }
    let middle = size.0 / 2.0;
    text.push_str(&format!("<text x=\"{middle:.1}\" y=\"20\">{}</text>", escaped(&node.name)));
    let mut y = 20.0;
    for line in lines {
        y += LINE_HEIGHT;
        let line = escaped(line);
        text.push_str(&format!(
            "<text class=\"small\" x=\"{middle:.1}\" y=\"{y:.0}\">{line}</text>"
        ));
    }
    text + "</g>\n"
}

fn mark_at(x: f64, y: f64) -> String {
    format!("<circle class=\"mark\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>")
}

fn title(node: &Node) -> String {
    let mut lines = vec![node.name.clone()];
    lines.extend(node.images().iter().map(|image| format!("{}: {}", image.name, image.dockerfile)));
    lines.extend(node.expected.as_ref().map(plan::sentence));
    lines.join("\n")
}

/// The class and label of each kind of line and color that the chart uses.
pub(crate) fn legend(chart: &Chart) -> Vec<(&'static str, &'static str)> {
    let has_kind = |wanted: &dyn Fn(EdgeKind) -> bool| chart.links.iter().any(|it| wanted(it.kind));
    let is_declared = |kind| kind == EdgeKind::Declared;
    let has_state = |state| chart.nodes.iter().any(|node| Staleness::of(node) == Some(state));
    let has_mark = |mark| chart.nodes.iter().any(|node| node.mark == Some(mark));
    let all = [
        (has_kind(&|kind| !is_declared(kind) && !is_copied(kind)), "line", "FROM"),
        (has_kind(&is_copied), "line copied", "COPY --from, RUN --mount"),
        (has_kind(&is_declared), "line declared", "component.dep"),
        (chart.nodes.iter().any(|node| node.is_critical), "line critical", "critical path"),
        (has_mark(Mark::Changed), mark_name(Mark::Changed), "changed"),
        (has_mark(Mark::Reached), mark_name(Mark::Reached), "affected by a change"),
    ];
    let states = Staleness::ALL.map(|state| (has_state(state), state.name(), state.label()));
    let used = all.into_iter().chain(states).filter(|(is_used, ..)| *is_used);
    used.map(|(_, class, text)| (class, text)).collect()
}

fn legend_width(text: &str) -> f64 {
    text_width(text, SMALL_LETTER) + 58.0
}

fn draw_legend(legend: &[(&str, &str)], top: f64) -> String {
    if legend.is_empty() {
        return String::new();
    }
    let mut text = "  <g id=\"legend\">\n".to_owned();
    let mut left = MARGIN;
    for (class, label) in legend {
        let y = top + 8.0;
        let sample = if class.starts_with("line") {
            let to = left + 30.0;
            format!("<path class=\"{class}\" d=\"M{left:.1} {y:.1} L{to:.1} {y:.1}\"/>")
        } else {
            let top = y - 7.0;
            let mark = mark_at(left + 7.0, y);
            format!(
                "<g class=\"{class}\"><rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"30\" height=\"14\" rx=\"4\"/>{mark}</g>"
            )
        };
        let (x, base) = (left + 37.0, y + 4.0);
        text.push_str(&format!(
            "    {sample}<text class=\"key\" x=\"{x:.1}\" y=\"{base:.1}\">{label}</text>\n"
        ));
        left += legend_width(label);
    }
    text + "  </g>\n"
}

/// Escapes text for an element or an attribute.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
