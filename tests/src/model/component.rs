//! A component of the model, and the files that say what it is.

use std::collections::{BTreeMap, BTreeSet};

/// What a component makes its image from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Component {
    /// The component in its `FROM`; `outside` is the external base, none `scratch`.
    pub base: Option<String>,
    /// The component in its `COPY --from`.
    pub copied: Option<String>,
    /// The components in its `component.dep`.
    pub declared: BTreeSet<String>,
    /// Whether its Dockerfile has the build arg.
    pub has_word: bool,
    /// Whether its Dockerfile reads some of its context only.
    pub is_lean: bool,
    /// The flavors besides `common`; without any its Dockerfile has none.
    pub flavors: BTreeSet<&'static str>,
    /// Its `build-pre.sh`.
    pub hook: Option<Hook>,
    /// The number in its comments.
    pub notes: usize,
}

/// A `build-pre.sh`.
#[derive(Clone, Debug, PartialEq)]
pub struct Hook {
    /// Whether `build/inputs` declares what it reads.
    pub is_declared: bool,
    /// Whether it asks git for the commit.
    pub reads_head: bool,
    /// What it writes into its own component.
    pub writes: Writes,
}

/// What a hook writes into its own component outside of `generated/`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Writes {
    /// Nothing.
    Nothing,
    /// One file, `written`.
    OneFile,
    /// The folder `version/` of the root, by a command that nests the second time.
    WholeFolder,
    /// The files of `version/`, into `v/`.
    IntoFolder,
}

impl Component {
    /// The components that it depends on.
    pub fn needs(&self) -> BTreeSet<&String> {
        let images = self.base.iter().chain(&self.copied).filter(|name| *name != "outside");
        self.declared.iter().chain(images).collect()
    }

    /// The flavor of the Dockerfile that is chosen where `wanted` is.
    pub fn chosen(&self, wanted: Option<&str>) -> Option<&'static str> {
        let common = (!self.flavors.is_empty()).then_some("common");
        self.flavors.iter().copied().find(|flavor| Some(*flavor) == wanted).or(common)
    }

    /// All files of its `build/`, by name: text and mode.
    pub fn build_files(&self, name: &str) -> BTreeMap<String, (String, u32)> {
        let mut files = BTreeMap::new();
        let list: Vec<&str> = self.declared.iter().map(String::as_str).collect();
        files.insert("component.dep".to_owned(), (list.join("\n"), 0o644));
        if self.flavors.is_empty() {
            files.insert(format!("tt-{name}.dockerfile"), (self.dockerfile(name, None), 0o644));
        }
        let common = (!self.flavors.is_empty()).then_some("common");
        for flavor in self.flavors.iter().copied().chain(common) {
            let text = self.dockerfile(name, Some(flavor));
            files.insert(format!("tt-{name}.{flavor}.dockerfile"), (text, 0o644));
        }
        if let Some(hook) = &self.hook {
            let script = format!("#!/bin/sh -e\n# {}\n{}", self.notes, hook.script(name));
            files.insert("build-pre.sh".to_owned(), (script, 0o755));
            if hook.is_declared {
                files.insert("inputs".to_owned(), (hook.inputs(), 0o644));
            }
        }
        files
    }

    fn dockerfile(&self, name: &str, flavor: Option<&str>) -> String {
        let base = self.base.as_ref().map_or("scratch".to_owned(), |base| format!("tt-{base}"));
        let mut text = format!("# {}\nFROM {base}\n", self.notes);
        if self.has_word {
            text.push_str("ARG WORD=none\nLABEL word=$WORD\n");
        }
        if let Some(flavor) = flavor {
            text.push_str(&format!("LABEL flavor={flavor}\n"));
        }
        for (source, target) in self.copies(name) {
            text.push_str(&format!("COPY {source} /{target}/\n"));
        }
        if let Some(copied) = &self.copied {
            text.push_str(&format!("COPY --from=tt-{copied} /{copied}/ /{name}-from/\n"));
        }
        text
    }

    /// What its Dockerfile copies from its context, and where to.
    pub fn copies(&self, name: &str) -> Vec<(String, String)> {
        if !self.is_lean {
            return vec![(".".to_owned(), name.to_owned())];
        }
        let mut copies = vec![("d".to_owned(), format!("{name}/d"))];
        if self.hook.is_some() {
            copies.push(("generated".to_owned(), format!("{name}/generated")));
        }
        copies.extend(
            self.declared
                .iter()
                .map(|other| (format!("dependency/{other}/d"), format!("{name}/of/{other}"))),
        );
        copies
    }
}

impl Hook {
    fn script(&self, name: &str) -> String {
        let own = format!("src/{name}");
        let out = format!("{own}/generated/out");
        let mut lines = vec![
            // Where the real engine's name is taken: see `Action::Take`.
            format!("[ ! -f trap/{name} ] || sh -e trap/{name}"),
            format!("mkdir -p {own}/generated"),
            format!("cat shared/0 shared/deep/2 > {out}"),
            format!("echo \"$NAME\" >> {out}"),
            format!("ls {own}/dependency >> {out} 2>/dev/null || true"),
        ];
        if self.reads_head {
            lines.push(format!("git log -1 --format=%s >> {out}"));
        }
        match self.writes {
            Writes::Nothing => {}
            Writes::OneFile => lines.push(format!("cp shared/1 {own}/written")),
            Writes::WholeFolder => lines.push(format!("cp -arf version {own}/version")),
            Writes::IntoFolder => {
                lines.push(format!("mkdir -p {own}/v\ncp version/* {own}/v/"));
            }
        }
        lines.join("\n") + "\n"
    }

    fn inputs(&self) -> String {
        let mut text = "shared/**\n!shared/none\nenv:NAME\n".to_owned();
        if self.reads_head {
            text.push_str("git:HEAD\n");
        }
        if matches!(self.writes, Writes::WholeFolder | Writes::IntoFolder) {
            text.push_str("version/**\n");
        }
        text
    }
}
