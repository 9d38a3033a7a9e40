//! What a person sees: events as lines on standard error, results on standard
//! output, the error last.

use std::fmt::Display;
use std::io::{self, Write};
use std::time::Duration;

use console::{Style, strip_ansi_codes};
use tokio::sync::mpsc::UnboundedReceiver;

use super::plan;
use crate::core::reason::Reason;
use crate::event::{Event, Outcome, Summary};

/// Long names are not worth more of a line than this.
const WIDEST_NAME: usize = 24;

/// What is shown of events.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct How {
    /// Every path, where else the first stands for all.
    pub(super) is_verbose: bool,
    /// Results for programs.
    pub(super) is_json: bool,
}

/// Shows events as they come.
pub(super) struct Ui {
    how: How,
    has_colors: bool,
    name_width: usize,
}

impl Ui {
    pub(super) fn new(how: How) -> Self {
        Self { how, has_colors: console::colors_enabled_stderr(), name_width: 0 }
    }

    /// Shows everything until the last sender is gone.
    pub(super) async fn show(mut self, mut events: UnboundedReceiver<Event>) {
        while let Some(event) = events.recv().await {
            self.event(event);
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Warning(problem) => self.titled("warning", &style().yellow().bold(), problem),
            Event::Waiting { holder } => {
                self.titled("waiting", &style().cyan().bold(), format!("for {holder} to end"))
            }
            Event::RoundStarted { components } => self.round_started(&components),
            Event::StepStarted { component } => {
                self.line(&component, "building", &style().cyan().bold())
            }
            Event::Pulling { component, reference } => {
                self.line(&component, &format!("pulling {reference}"), &style());
            }
            Event::Instruction { component, text, cached } => {
                let mark = if cached { "CACHED " } else { "" };
                self.line(&component, &format!("{mark}{text}"), &style().bold());
            }
            Event::Log { component, line } => {
                self.line(&component, &printable(&line, self.has_colors), &style())
            }
            Event::Planned(steps) if self.how.is_json => {
                print(io::stdout(), &plan::document(&steps).to_string());
            }
            Event::Planned(steps) => {
                for line in plan::lines(&steps, self.how.is_verbose) {
                    print(io::stdout(), &line);
                }
            }
            Event::Proposed(lines) => {
                for line in lines {
                    print(io::stdout(), &line);
                }
            }
            Event::ImageStale { component, image, reasons } => {
                let text = sentences(&reasons);
                self.line(&component, &format!("image {image}: {text}"), &style().dim());
                for line in plan::details(&reasons).filter(|_| self.how.is_verbose) {
                    self.line(&component, &line, &style().dim());
                }
            }
            Event::ImageUpToDate { component, image } => {
                self.line(&component, &format!("image {image} is up to date"), &style().dim());
            }
            Event::ImageBuilt { component, image } => {
                self.line(&component, &format!("image {image}"), &style().green());
            }
            Event::StepFinished { component, outcome, duration } => {
                self.step_finished(&component, outcome, duration)
            }
            Event::RoundFinished(summary) => {
                self.titled("finished", &finish_style(&summary), sentence(&summary))
            }
            Event::PushStarted { reference } => {
                self.titled("pushing", &style().cyan().bold(), reference)
            }
            Event::PushRetried { reference, reason, delay } => {
                let text = format!("{reference}: {reason}; trying again in {}", seconds(delay));
                self.titled("retry", &style().yellow().bold(), text);
            }
            Event::PushFailed { reference, reason } => {
                self.titled("failed", &style().red().bold(), format!("{reference}: {reason}"));
            }
            Event::Pushed { reference, digest } => {
                print(io::stdout(), &format!("{reference}@{digest}"))
            }
        }
    }

    fn round_started(&mut self, components: &[String]) {
        let widths = components.iter().map(|name| name.chars().count());
        self.name_width = widths.max().unwrap_or(0).min(WIDEST_NAME);
        if components.is_empty() {
            self.titled("nothing", &style(), "there is nothing to build");
        }
    }

    fn step_finished(&self, component: &str, outcome: Outcome, duration: Duration) {
        let (text, style) = match outcome {
            Outcome::Built => ("built", style().green().bold()),
            Outcome::UpToDate => ("up to date", style().green()),
            Outcome::Failed => ("failed", style().red().bold()),
            Outcome::Cancelled => ("cancelled", style().yellow().bold()),
        };
        self.line(component, &format!("{text} in {}", seconds(duration)), &style);
    }

    fn line(&self, component: &str, text: &str, style: &Style) {
        let name = format!("{component:width$}", width = self.name_width);
        let name = self.paint(&Style::new().dim(), &format!("{name} |"));
        print(io::stderr(), &format!("{name} {}", self.paint(style, text)));
    }

    fn titled(&self, title: &str, style: &Style, text: impl Display) {
        print(io::stderr(), &format!("{}: {text}", self.paint(style, title)));
    }

    fn paint(&self, style: &Style, text: &str) -> String {
        style.clone().force_styling(self.has_colors).apply_to(text).to_string()
    }
}

/// The last words of a command that did not succeed.
pub(super) fn error(error: &dyn Display) {
    let title = style().red().bold().for_stderr().apply_to("error");
    print(io::stderr(), &format!("{title}: {error}"));
}

fn sentences(reasons: &[Reason]) -> String {
    reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn style() -> Style {
    Style::new()
}

fn finish_style(summary: &Summary) -> Style {
    match summary.failed {
        0 => style().green().bold(),
        _ => style().red().bold(),
    }
}

fn sentence(summary: &Summary) -> String {
    let Summary { built, up_to_date, failed, not_tried, duration } = summary;
    let not_tried = match not_tried {
        0 => String::new(),
        count => format!(", {count} not tried"),
    };
    let time = seconds(*duration);
    format!("{built} built, {up_to_date} up to date, {failed} failed{not_tried} in {time}")
}

fn seconds(duration: Duration) -> String {
    format!("{:.1}s", duration.as_secs_f64())
}

/// What a terminal would be left with: the text after the last carriage return,
/// without escapes where colours are off.
fn printable(line: &str, has_colors: bool) -> String {
    let last = line.rsplit('\r').find(|part| !part.is_empty()).unwrap_or_default();
    if has_colors { last.to_owned() } else { strip_ansi_codes(last).into_owned() }
}

/// A reader that has gone away (`| head`) is no reason to fail.
fn print(mut to: impl Write, text: &str) {
    drop(writeln!(to, "{text}"));
}
