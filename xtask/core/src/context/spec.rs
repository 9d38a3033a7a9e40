//! Specifies a build context without reading it: a folder, mostly a component's own, the part
//! of it that the Dockerfile can read, and the components that are sent under `dependency/`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::context::dockerignore::Dockerignore;
use crate::digest::Digest;
use crate::dockerfile::context_reads::ContextReads;
use crate::escape;
use crate::paths::{DEPENDENCY, GENERATED, IGNORE_FILE};
use crate::problem::{Problem, did_you_mean};
use crate::regular_file;
use crate::workspace::components::{Component, Image};

/// A component that is sent under `dependency/` in the context of another one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DependencyFolder {
    /// The name of the component.
    pub name: String,
    /// Its folder, relative to the root.
    pub dir: String,
    /// The cached copy of its `generated/`, relative to the root; `None` if `generated/` is in
    /// its own folder.
    pub generated: Option<PathBuf>,
}

/// The specification of a build context.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ContextSpec {
    /// The folder that is sent, relative to the root.
    pub dir: String,
    /// The path of the Dockerfile, relative to that folder, or to `elsewhere`.
    pub dockerfile: PathBuf,
    /// The folder of the Dockerfile, relative to the root, if it is not in `dir`.
    pub elsewhere: Option<String>,
    /// The image, if others are made from the same Dockerfile.
    pub variant: Option<String>,
    /// The files of the context that the Dockerfile can read.
    pub context_reads: ContextReads,
    /// The digest of the Dockerfile that `context_reads` was computed from.
    pub dockerfile_digest: Digest,
    /// The components that are sent under `dependency/`. Empty if a hook needs them: then they
    /// are copied into the component's folder.
    pub dependencies: Vec<DependencyFolder>,
    /// The folders that the Dockerfile calls by names, relative to the root, with these names.
    pub named: Vec<(String, String)>,
}

impl DependencyFolder {
    /// A component, with `generated/` in its own folder.
    pub fn of(component: &Component) -> Self {
        Self { name: component.name.clone(), dir: component.dir.clone(), generated: None }
    }

    /// Its path in the context.
    pub(crate) fn path_in_context(&self) -> PathBuf {
        Path::new(DEPENDENCY).join(&self.name)
    }
}

impl ContextSpec {
    /// The context of an image, without dependencies.
    pub fn own(image: &Image) -> Self {
        Self {
            dir: image.context.clone(),
            dockerfile: image.dockerfile_in_context().into(),
            elsewhere: image.dockerfile_folder_elsewhere().map(str::to_owned),
            variant: image.shares_dockerfile.then(|| image.name.clone()),
            context_reads: image.context_reads.clone(),
            dockerfile_digest: image.dockerfile_digest,
            dependencies: Vec::new(),
            named: image.named_folders().map(|(a, b)| (a.to_owned(), b.to_owned())).collect(),
        }
    }

    /// Adds dependencies.
    pub fn with_dependencies(self, dependencies: Vec<DependencyFolder>) -> Self {
        Self { dependencies, ..self }
    }

    /// The path of the Dockerfile, relative to the root.
    pub(crate) fn dockerfile_path(&self) -> PathBuf {
        Path::new(self.elsewhere.as_ref().unwrap_or(&self.dir)).join(&self.dockerfile)
    }

    /// The possible ignore files, relative to the root. The first one that exists applies:
    /// `DOCKERFILE.dockerignore`, or else the context's `.dockerignore`.
    fn ignore_files(&self) -> [PathBuf; 2] {
        let mut own = self.dockerfile_path().into_os_string();
        own.push(IGNORE_FILE);
        [PathBuf::from(own), Path::new(&self.dir).join(IGNORE_FILE)]
    }

    /// The files that builders read for themselves, relative to the context.
    pub(crate) fn read_by_builders(&self) -> Vec<PathBuf> {
        let ignore_files = self.ignore_files();
        let in_context = |file: &PathBuf| file.strip_prefix(&self.dir).ok().map(Path::to_owned);
        let own = self.elsewhere.is_none().then(|| self.dockerfile.clone());
        own.into_iter().chain(ignore_files.iter().filter_map(in_context)).collect()
    }

    /// The ignore rules, and the path of their file, relative to the root.
    pub fn ignore_rules(&self, root: &Path) -> Result<(Dockerignore, Option<PathBuf>), Problem> {
        for file in self.ignore_files() {
            let shown = file.display().to_string();
            let path = root.join(&file);
            match regular_file::read_to_string(&path) {
                Ok(text) => {
                    let ignore = Dockerignore::parse(&text)
                        .map_err(|error| Problem::of_line(&shown, error.line, error.to_string()))?;
                    return Ok((ignore, Some(file)));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(Problem::of_file(shown, regular_file::explain(&path, &error)));
                }
            }
        }
        Ok((Dockerignore::default(), None))
    }

    /// Why a path that an instruction names is not in the context: the line of the ignore file
    /// that excludes it, or what is there instead; `None` if it is there.
    pub fn explain_missing(&self, root: &Path, path: &str) -> Option<String> {
        let path = path.trim_matches('/');
        let shown = escape::line(path);
        if let Ok((ignore, Some(file))) = self.ignore_rules(root)
            && let Some(line) = ignore.line_for(path)
        {
            let file = file.display();
            return Some(format!("{file}:{line} excludes '{shown}' from the context"));
        }
        let on_disk = self.on_disk(root, Path::new(path), true)?;
        if on_disk.symlink_metadata().is_ok() {
            return None;
        }
        let siblings = on_disk.parent().and_then(|folder| fs::read_dir(folder).ok());
        let siblings = siblings.into_iter().flatten().flatten();
        let siblings: Vec<String> =
            siblings.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        let name = path.rsplit('/').next().unwrap_or(path);
        let hint = did_you_mean(name, siblings.iter().map(String::as_str));
        let dir = if self.dir.is_empty() { "the root" } else { self.dir.as_str() };
        Some(format!("the context, {dir}, has no '{shown}'{hint}"))
    }

    /// The path in the file system of a path in the context; `None` if nothing can be there.
    pub(crate) fn on_disk(&self, root: &Path, path: &Path, has_generated: bool) -> Option<PathBuf> {
        let below = self.dependencies.iter().find_map(|dependency| {
            Some((path.strip_prefix(dependency.path_in_context()).ok()?, dependency))
        });
        let Some((path, dependency)) = below else {
            return Some(root.join(&self.dir).join(path));
        };
        match (path.strip_prefix(GENERATED), &dependency.generated) {
            (Ok(_), _) if !has_generated => None,
            (Ok(path), Some(cached)) => Some(root.join(cached).join(path)),
            _ if path.starts_with(DEPENDENCY) => None,
            _ => Some(root.join(&dependency.dir).join(path)),
        }
    }
}
