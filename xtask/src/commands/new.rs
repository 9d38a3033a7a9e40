//! `new`: makes a component that builds at once, where the workspace has its components.

use std::fs;
use std::io;
use std::path::Path;

use xtask_core::image_reference;
use xtask_core::paths::{BUILD, CONFIG_FILE, DEPENDENCY};
use xtask_core::problem::{Problem, Problems, did_you_mean};
use xtask_core::workspace::components::{Workspace, WorkspaceOptions};
use xtask_core::workspace::config::{Config, Place};

use crate::command_context::CommandContext;
use crate::command_error::CommandError;
use crate::program;

#[derive(Clone, Debug)]
pub(crate) struct NewOptions {
    pub(crate) reading: WorkspaceOptions,
    pub(crate) name: String,
    /// The image that it is made from.
    pub(crate) from: Option<String>,
    /// The components that it needs.
    pub(crate) needs: Vec<String>,
}

/// Makes the component, and says what is next.
pub(crate) fn run(options: &NewOptions, ctx: &CommandContext) -> Result<String, CommandError> {
    let name = &options.name;
    image_reference::check_name(name).map_err(|error| {
        Problems::from(Problem::of_request(format!("'{name}' is not a valid image name: {error}")))
    })?;
    let config = Config::read(&ctx.root, options.reading.facts.clone())?;
    // It may have nothing in it yet, and what is wrong with the rest is no matter here.
    let workspace = Workspace::read(&ctx.root, &options.reading, &mut Vec::new());
    let mut problems: Vec<Problem> = problem_of_name(name, &workspace).into_iter().collect();
    problems.extend(options.from.as_deref().and_then(|from| problem_of_base(from, name)));
    let needs = needs(options, &workspace, &mut problems);
    let place = config.place_for(&ctx.root, name);
    problems.extend(match &place {
        Some(place) => problem_of_place(place, name, &config),
        None => Some(problem_of_patterns(name, &config)),
    });
    Problems::check(problems)?;
    let place = place.unwrap_or_default();
    let Place { folder, dockerfile, .. } = &place;
    let mut files = vec![
        (dockerfile.clone(), text(options, &place, &needs)),
        (format!("{folder}/app/{name}.txt"), format!("This is {name}.\n")),
    ];
    if !needs.is_empty() {
        files.push((format!("{folder}/{BUILD}/component.dep"), needs.join("\n") + "\n"));
    }
    Problems::check(
        files.iter().filter_map(|(path, _)| problem_of_file(&ctx.root, path)).collect(),
    )?;
    for (path, text) in &files {
        write_new(&ctx.root, path, text)?;
    }
    let written: Vec<String> =
        files.into_iter().map(|(path, _)| format!("wrote {path}\n")).collect();
    Ok(format!("{}next: {} build {name}\n", written.concat(), program::name()))
}

/// Why an image of this name would not be a new one.
fn problem_of_name(name: &str, workspace: &Workspace) -> Option<Problem> {
    let (_, image) = workspace.images().find(|(_, image)| image.name == *name)?;
    let message = format!("makes image '{name}': choose another name");
    Some(Problem::of_file(&image.dockerfile, message))
}

/// Why an image cannot be made from a base.
fn problem_of_base(from: &str, name: &str) -> Option<Problem> {
    let message = match image_reference::check(from) {
        Err(error) => format!("'{from}' is no image: {error}"),
        Ok(()) if image_reference::familiar(from) == name => {
            format!("'{from}' would be the new image itself: choose another name for it")
        }
        Ok(()) => return None,
    };
    Some(Problem::of_request(format!("--from: {message}")))
}

/// The names of the components that it needs, each once.
fn needs(options: &NewOptions, workspace: &Workspace, problems: &mut Vec<Problem>) -> Vec<String> {
    let mut needs: Vec<String> = Vec::new();
    for needed in &options.needs {
        match workspace.depended_on(needed).map(|id| &workspace.components[id].name) {
            Some(component) if needs.contains(component) => {}
            Some(component) => needs.push(component.clone()),
            None => {
                let names = workspace.components.iter().map(|it| it.name.as_str());
                let hint = did_you_mean(needed, names);
                let message = format!("--needs: no component '{needed}'{hint}");
                problems.push(Problem::of_request(message));
            }
        }
    }
    needs
}

/// Why a place makes no image of this name, or none that can read its own files.
fn problem_of_place(place: &Place, name: &str, config: &Config) -> Option<Problem> {
    if place.dockerfile.ends_with(".dockerfile")
        && let Some((image, flavor)) = name.rsplit_once('.')
        && config.flavors.iter().any(|it| it == flavor)
    {
        let message = format!(
            "'{name}' would be the flavor '{flavor}' of an image '{image}': choose another name"
        );
        return Some(Problem::of_request(message));
    }
    let is_sent = Path::new(&place.folder).starts_with(&place.context);
    (!is_sent).then(|| {
        let message = format!(
            "the context of '{name}' would be {}, without the files in {}: set 'context' for it, \
             such as in a table [image.{name:?}]",
            place.context, place.folder
        );
        Problem::of_file(CONFIG_FILE, message)
    })
}

/// Why no table finds an image of this name.
fn problem_of_patterns(name: &str, config: &Config) -> Problem {
    let patterns: Vec<&str> = config.written_patterns().collect();
    let message = format!(
        "finds no image '{name}' in a folder of its own: its patterns are {}. Make a folder that \
         one of them finds, or add a table [image.\"{{image}}\"] with dockerfile = \
         \"{{image}}/Dockerfile\"",
        patterns.join(", ")
    );
    Problem::of_file(CONFIG_FILE, message)
}

/// Why a file cannot be written. All are asked before the first is.
fn problem_of_file(root: &Path, path: &str) -> Option<Problem> {
    if root.join(path).symlink_metadata().is_ok() {
        return Some(Problem::of_file(path, "exists: choose another name"));
    }
    let is_in_the_way = |above: &&Path| {
        let full = root.join(above);
        full.symlink_metadata().is_ok() && !full.is_dir()
    };
    let file = Path::new(path).ancestors().skip(1).find(is_in_the_way)?;
    Some(Problem::of_file(file.display().to_string(), "is no folder: choose another name"))
}

/// The Dockerfile.
fn text(options: &NewOptions, place: &Place, needs: &[String]) -> String {
    let from = options.from.as_deref().unwrap_or("scratch");
    let named = place.target.as_ref().filter(|target| target.parse::<usize>().is_err());
    let stage = named.map(|target| format!(" AS {target}")).unwrap_or_default();
    let folder = Path::new(&place.folder).strip_prefix(&place.context);
    let app = folder.unwrap_or(Path::new("")).join("app");
    let mut text = format!("FROM {from}{stage}\n{}", copy(&app.to_string_lossy(), "/app"));
    for needed in needs {
        text.push_str(&copy(&format!("{DEPENDENCY}/{needed}/"), &format!("/{needed}/")));
    }
    text
}

/// A line that copies, in the form of JSON if it would be more words.
fn copy(from: &str, to: &str) -> String {
    if from.contains(char::is_whitespace) {
        format!("COPY [{from:?}, {to:?}]\n")
    } else {
        format!("COPY {from} {to}\n")
    }
}

/// Writes a file that does not exist.
fn write_new(root: &Path, path: &str, text: &str) -> Result<(), Problems> {
    let full = root.join(path);
    let write = || {
        if let Some(folder) = full.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = fs::File::create_new(&full)?;
        io::Write::write_all(&mut file, text.as_bytes())
    };
    let problem = |error| Problem::of_file(path, format!("cannot be written: {error}"));
    Ok(write().map_err(problem)?)
}
