//! The options of `graph`, and what drawing they ask for.

use std::path::PathBuf;

use clap::Args;
use xtask_core::problem::Problem;

use super::ReadingArgs;
use crate::commands::graph::GraphOptions;
use crate::report::graph::Format;

#[derive(Args, Debug)]
pub(crate) struct GraphArgs {
    /// Only these components and what they need
    #[arg(short = 's', long = "select", value_name = "COMPONENT", num_args = 1.., value_delimiter = ',')]
    components: Vec<String>,

    /// What needs them, in place of what they need
    #[arg(long)]
    dependents: bool,

    /// Only so many steps from where it begins
    #[arg(long, value_name = "N")]
    depth: Option<usize>,

    /// Only what lies between two components
    #[arg(long, num_args = 2, value_names = ["A", "B"], conflicts_with_all = ["components", "dependents", "depth"])]
    between: Option<Vec<String>>,

    /// The images of others too
    #[arg(long)]
    external: bool,

    /// With --dot: a node for each image, a cluster for each component
    #[arg(long, requires = "dot")]
    images: bool,

    /// Ask the engine what is stale, and show it in colours
    #[arg(long)]
    stale: bool,

    /// How long components took the last time, and the critical path by that
    #[arg(long)]
    durations: bool,

    /// Mark what changed since a git revision, and what needs that
    #[arg(long, value_name = "REV")]
    since: Option<String>,

    /// For Graphviz, to standard output
    #[arg(long, group = "format")]
    dot: bool,

    /// For Mermaid, to standard output
    #[arg(long, group = "format")]
    mermaid: bool,

    /// For programs, to standard output
    #[arg(long, group = "format")]
    json: bool,

    /// A picture
    #[arg(long, group = "format", value_name = "FILE")]
    svg: Option<PathBuf>,

    /// A page with a picture that can be searched
    #[arg(long, group = "format", value_name = "FILE")]
    html: Option<PathBuf>,

    /// Exit with 1 if this file shows another graph; its name tells the format
    #[arg(long, value_name = "FILE", conflicts_with_all = ["svg", "html"])]
    check: Option<PathBuf>,

    #[command(flatten)]
    reading: ReadingArgs,
}

/// How to draw, and where to.
pub(crate) struct GraphOutput {
    pub(crate) format: Format,
    pub(crate) has_images: bool,
    pub(crate) has_colors: bool,
    /// Standard output if none.
    pub(crate) file: Option<PathBuf>,
    /// Compare with what the file holds.
    pub(crate) is_check: bool,
}

impl GraphArgs {
    pub(crate) fn drawing(&self, has_colors: bool) -> Result<GraphOutput, Problem> {
        let chosen = [
            (self.dot, Format::Dot),
            (self.mermaid, Format::Mermaid),
            (self.json, Format::Json),
            (self.svg.is_some(), Format::Svg),
            (self.html.is_some(), Format::Page),
        ];
        let chosen = chosen.into_iter().find(|(is_chosen, _)| *is_chosen).map(|(_, it)| it);
        let file = self.check.as_ref().or(self.svg.as_ref()).or(self.html.as_ref());
        let format = match (chosen, &self.check) {
            (Some(format), _) => format,
            (None, None) => Format::Tree,
            (None, Some(file)) => Format::of_file(file).ok_or_else(|| {
                let message = "--check cannot tell its format: name it .dot, .mmd, .json, .svg, \
                               .html or .txt, or say --dot, --mermaid or --json";
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
            config_dir: args.reading.config.clone(),
            reading: args.reading.into(),
            components: args.components,
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
