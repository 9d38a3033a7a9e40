//! Workspaces of any size, which the benchmarks measure.

use std::collections::BTreeSet;

use crate::Workspace;

const FILES_PER_FOLDER: usize = 10;
const FOLDERS_PER_FOLDER: usize = 4;

/// What the Dockerfiles read of their contexts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// One file.
    One,
    /// Everything.
    All,
}

/// A workspace of so many components with so many files each, on disk.
pub fn write(components: usize, files: usize, reads: Reads) -> Workspace {
    let workspace = Workspace::new();
    workspace.write(".gitignore", "/target/\n");
    for component in 0..components {
        write_component(&workspace, component, files, reads);
    }
    workspace
}

fn write_component(workspace: &Workspace, component: usize, files: usize, reads: Reads) {
    let name = name(component);
    let dockerfile = format!("src/{name}/build/tt-{name}.dockerfile");
    workspace.write(&dockerfile, &dockerfile_of(component, reads));
    let needed: String = needed(component).map(|needed| self::name(needed) + "\n").collect();
    if !needed.is_empty() {
        workspace.write(&format!("src/{name}/build/component.dep"), &needed);
    }
    for file in 0..files {
        workspace.write(&format!("src/{name}/{}", place(file)), &contents(component, file));
    }
}

/// What a component is called.
pub fn name(component: usize) -> String {
    format!("c{component:05}")
}

/// Two of three images are made from an earlier one.
pub fn base(component: usize) -> Option<usize> {
    (component > 0 && !component.is_multiple_of(3)).then_some(component / 2)
}

/// Every second component takes the files of one or two earlier ones.
pub fn needed(component: usize) -> impl Iterator<Item = usize> {
    let needed = if component.is_multiple_of(2) {
        BTreeSet::new()
    } else {
        BTreeSet::from([component / 2, component / 3])
    };
    needed.into_iter()
}

fn dockerfile_of(component: usize, reads: Reads) -> String {
    let base = base(component).map_or("scratch".to_owned(), |base| format!("tt-{}", name(base)));
    let source = match reads {
        Reads::One => place(0),
        Reads::All => ".".to_owned(),
    };
    format!("FROM {base}\nCOPY {source} /{}/\n", name(component))
}

/// Where a file lies in its component: some to a folder, folders in folders.
pub fn place(file: usize) -> String {
    let mut folder = file / FILES_PER_FOLDER;
    let mut path = format!("file-{file}.txt");
    loop {
        path = format!("folder-{folder}/{path}");
        if folder == 0 {
            return path;
        }
        folder = (folder - 1) / FOLDERS_PER_FOLDER;
    }
}

/// Some hundred bytes to four KiB that no other file has.
fn contents(component: usize, file: usize) -> String {
    let lines = 5 + (component * 31 + file * 17) % 75;
    let line = format!("file {file} of component {component}, of some lines like this\n");
    format!("tt-\n{}", line.repeat(lines))
}
