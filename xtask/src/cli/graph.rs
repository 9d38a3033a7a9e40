//! The options of `graph`, and the output that they select.

use std::path::PathBuf;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use xtask_core::problem::Problem;

use crate::cli::candidates;
use crate::cli::shared_args::{ComponentArgs, ReadingArgs, bytes};
use crate::commands::graph::{GraphOptions, SimulatedWorkers};
use crate::report::graph::draw::Format;

#[derive(Args, Debug)]
pub(crate) struct GraphArgs {
    #[command(flatten)]
    components: ComponentArgs,

    /// Show dependents instead of dependencies
    #[arg(long)]
    dependents: bool,

    /// Maximum depth below the selected components
    #[arg(long, value_name = "N")]
    depth: Option<usize>,

    /// Show only the dependency paths between two components
    #[arg(long, num_args = 2, add = ArgValueCompleter::new(candidates::components), value_names = ["A", "B"], conflicts_with_all = ["named", "selected", "dependents", "depth"])]
    between: Option<Vec<String>>,

    /// Include external images
    #[arg(long)]
    external: bool,

    /// With --dot: draw one node per image and one cluster per component
    #[arg(long, requires = "dot")]
    images: bool,

    /// Ask the engine which components are stale, and mark them
    #[arg(long)]
    stale: bool,

    /// Show the duration of each component's last build, and the critical path
    #[arg(long)]
    durations: bool,

    /// Print how long a build of everything would take with these numbers of parallel jobs, or of
    /// machines that share a registry, from the durations of earlier builds
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..), conflicts_with_all = ["external", "stale", "durations", "since", "dot", "mermaid", "matrix", "svg", "html", "check"])]
    pub(crate) simulate: Vec<u16>,

    /// With --simulate: what a machine transfers in a second, such as 100M
    #[arg(long, value_name = "SIZE", requires = "simulate", default_value = "100M", value_parser = bytes)]
    bandwidth: u64,

    /// Mark components that changed since a git revision, and their dependents
    #[arg(long, value_name = "REV")]
    since: Option<String>,

    /// Print Graphviz DOT
    #[arg(long, group = "format")]
    dot: bool,

    /// Print a Mermaid flowchart
    #[arg(long, group = "format")]
    mermaid: bool,

    /// Print JSON
    #[arg(long, group = "format")]
    pub(crate) json: bool,

    /// Print the components in levels, of which each needs only those before it, as a line of JSON
    /// for the matrix of a CI job; with --stale or --since only those that need a build
    #[arg(long, group = "format")]
    matrix: bool,

    /// Write an SVG image
    #[arg(long, group = "format", value_name = "FILE")]
    svg: Option<PathBuf>,

    /// Write a searchable HTML page
    #[arg(long, group = "format", value_name = "FILE")]
    html: Option<PathBuf>,

    /// Exit with code 1 if FILE is out of date; its extension sets the format
    #[arg(long, value_name = "FILE", conflicts_with_all = ["svg", "html"])]
    check: Option<PathBuf>,

    #[command(flatten)]
    reading: ReadingArgs,
}

pub(crate) struct GraphOutput {
    pub(crate) format: Format,
    pub(crate) has_images: bool,
    pub(crate) has_colors: bool,
    /// `None` for standard output.
    pub(crate) file: Option<PathBuf>,
    /// Compare with the file instead of writing it.
    pub(crate) is_check: bool,
}

impl GraphArgs {
    pub(crate) fn component_words(&mut self) -> Vec<&mut String> {
        self.components.words_mut().chain(self.between.iter_mut().flatten()).collect()
    }

    /// The workers to simulate, if any.
    pub(crate) fn simulated(&self) -> Option<SimulatedWorkers> {
        let counts: Vec<usize> = self.simulate.iter().copied().map(usize::from).collect();
        let bytes_per_second = self.bandwidth;
        (!counts.is_empty()).then_some(SimulatedWorkers { counts, bytes_per_second })
    }

    pub(crate) fn output(&self, has_colors: bool) -> Result<GraphOutput, Problem> {
        let chosen = [
            (self.dot, Format::Dot),
            (self.mermaid, Format::Mermaid),
            (self.json, Format::Json),
            (self.matrix, Format::Matrix),
            (self.svg.is_some(), Format::Svg),
            (self.html.is_some(), Format::Page),
        ];
        let chosen = chosen.into_iter().find(|(is_chosen, _)| *is_chosen).map(|(_, it)| it);
        let file = self.check.as_ref().or(self.svg.as_ref()).or(self.html.as_ref());
        let format = match (chosen, &self.check) {
            (Some(format), _) => format,
            (None, None) => Format::Tree,
            (None, Some(file)) => Format::of_file(file).ok_or_else(|| {
                let message = "--check cannot tell its format: use the extension .dot, .mmd, .json, \
                               .svg, .html or .txt, or pass --dot, --mermaid or --json";
                Problem::of_file(file.display().to_string(), message)
            })?,
        };
        let (has_images, is_check) = (self.images, self.check.is_some());
        let has_colors = has_colors && !is_check;
        Ok(GraphOutput { format, has_images, has_colors, file: file.cloned(), is_check })
    }
}

impl From<GraphArgs> for GraphOptions {
    fn from(args: GraphArgs) -> Self {
        let between = args.between.and_then(|names| <[String; 2]>::try_from(names).ok());
        Self {
            reading: args.reading.into(),
            components: args.components.into(),
            dependents: args.dependents,
            depth: args.depth,
            between,
            external: args.external,
            stale: args.stale,
            durations: args.durations,
            since: args.since,
        }
    }
}
