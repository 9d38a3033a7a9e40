//! The documentation is true: every command of README.md and of docs/how-it-works.md runs, in
//! the order of the page, all pages name only commands, options, files and sections that exist,
//! and the reference has all options.
//!
//! A block of commands runs where the last mark above it says, an HTML comment:
//! `test: in a new folder` or `test: in a copy of this repository`. A block below `not tested:`
//! and a reason does not run. What commands print on standard output is below them in `console`
//! blocks; `UPDATE_EXPECT=1` writes it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use expect_test::expect_file;
use tests::{Workspace, repository};

/// What a mark above a block says.
enum Mark {
    NewFolder,
    Copy,
    NotTested,
}

fn mark(line: &str) -> Option<Mark> {
    let text = line.strip_prefix("<!-- ")?.strip_suffix(" -->")?;
    match text {
        "test: in a new folder" => Some(Mark::NewFolder),
        "test: in a copy of this repository" => Some(Mark::Copy),
        text if text.len() > "not tested: ".len() && text.starts_with("not tested: ") => {
            Some(Mark::NotTested)
        }
        text => panic!("no mark that this test knows: {text}"),
    }
}

/// A folder in which commands run one after the other, as in a shell.
struct Shell {
    workspace: Workspace,
    /// What is called otherwise here, so that no image of anybody is touched.
    renamed: Vec<(&'static str, String)>,
    /// What the page has in place of the prefix of the test's images.
    prefix_shown_as: &'static str,
}

impl Shell {
    fn in_new_folder() -> Self {
        let workspace = Workspace::new().with_box();
        let renamed = vec![
            ("hello-", workspace.own("tt-")),
            // No registry is there to pull it from.
            ("--from busybox", workspace.own("--from tt-box")),
        ];
        Self::new(workspace, renamed, "hello-")
    }

    fn in_copy() -> Self {
        let workspace = Workspace::new();
        for name in [".cargo", "Cargo.toml", "rust-toolchain.toml", "src"] {
            let mut copy = Command::new("cp");
            copy.arg("-R").arg(repository().join(name)).arg(workspace.root());
            assert!(copy.status().unwrap().success());
        }
        let prefix = workspace.own("tt-");
        for component in fs::read_dir(workspace.root().join("src")).unwrap() {
            let Ok(build) = fs::read_dir(component.unwrap().path().join("build")) else { continue };
            for path in build.map(|file| file.unwrap().path()) {
                if path.extension().is_some_and(|it| it == "dockerfile") {
                    let text = fs::read_to_string(&path).unwrap();
                    let text = text.replace("FROM ", &format!("FROM {prefix}"));
                    let text = text.replace(&format!("{prefix}scratch"), "scratch");
                    let name = path.file_name().unwrap().to_str().unwrap();
                    fs::write(path.with_file_name(format!("{prefix}{name}")), text).unwrap();
                    fs::remove_file(path).unwrap();
                }
            }
        }
        let renamed = vec![("docker run --rm ", format!("docker run --rm {prefix}"))];
        Self::new(workspace, renamed, "")
    }

    fn new(
        workspace: Workspace,
        renamed: Vec<(&'static str, String)>,
        prefix_shown_as: &'static str,
    ) -> Self {
        // `cargo xtask` runs the binary that the tests are about.
        let cargo = workspace.write_bytes(
            "target/bin/cargo",
            b"#!/bin/sh\n[ \"$1\" = xtask ] && shift && exec \"$XTASK\" \"$@\"\nexec \"$CARGO\" \"$@\"\n",
        );
        fs::set_permissions(cargo, fs::Permissions::from_mode(0o755)).unwrap();
        let root = workspace.root().display().to_string();
        workspace.write_bytes("target/folder", root.as_bytes());
        Self { workspace, renamed, prefix_shown_as }
    }

    /// Runs commands, and gives what they wrote to standard output.
    fn run(&self, commands: &str) -> String {
        let renamed = self.renamed.iter();
        let commands = renamed.fold(commands.to_owned(), |text, (from, to)| text.replace(from, to));
        let target = self.workspace.root().join("target");
        let folder = target.join("folder");
        let path = std::env::var("PATH").unwrap();
        let script = format!("trap 'pwd > {}' EXIT\n{}", folder.display(), commands);
        let mut bash = self.workspace.bash(&script);
        bash.current_dir(fs::read_to_string(&folder).unwrap().trim());
        let installed = target.join("installed");
        let folders =
            [target.join("bin"), installed.join("bin")].map(|it| it.display().to_string());
        bash.env("PATH", format!("{}:{path}", folders.join(":")));
        tests::as_outside_of_cargo(&mut bash);
        // What the tests were compiled with is there, and nothing is installed for anybody.
        bash.env("CARGO_TARGET_DIR", tests::target()).env("CARGO_INSTALL_ROOT", installed);
        bash.env("tool", repository());
        bash.env("CARGO", std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        let output = bash.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{commands}\n{errors}");
        let printed = String::from_utf8(output.stdout).unwrap();
        printed.replace(&self.workspace.own("tt-"), self.prefix_shown_as)
    }
}

/// Runs the block, and gives it with what its commands print now.
fn run_block(shell: &Shell, language: &str, lines: &[&str]) -> String {
    if language == "sh" {
        shell.run(&lines.concat());
        return lines.concat();
    }
    let mut now = String::new();
    for line in lines.iter().filter(|line| line.starts_with("$ ")) {
        now.push_str(line);
        now.push_str(&shell.run(&line[2..]));
    }
    now
}

/// Runs the commands of a page, and compares it with what they print now.
fn check(name: &str) -> Vec<Shell> {
    let page = repository().join(name);
    let text = fs::read_to_string(&page).unwrap();
    let mut now = String::new();
    let mut shells = Vec::new();
    let mut is_tested = true;
    let mut lines = text.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        now.push_str(line);
        match mark(line.trim_end()) {
            Some(Mark::NewFolder) => shells.push(Shell::in_new_folder()),
            Some(Mark::Copy) => shells.push(Shell::in_copy()),
            Some(Mark::NotTested) => is_tested = false,
            None => {}
        }
        assert!(!line.starts_with("    "), "write commands in ```sh blocks: {line}");
        let Some(language) = line.trim_end().strip_prefix("```") else { continue };
        assert!(["sh", "console"].contains(&language), "a block of another kind: {line}");
        let mut block = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with("```")) {
            block.push(line);
        }
        if is_tested {
            let shell = shells.last().expect("a mark says where the commands run");
            now.push_str(&run_block(shell, language, &block));
        } else {
            now.push_str(&block.concat());
        }
        is_tested = true;
        now.push_str(lines.next().expect("the block ends"));
    }
    expect_file![page].assert_eq(&now);
    shells
}

#[test]
fn every_command_of_the_readme_runs_and_prints_what_it_says() {
    let shells = check("README.md");
    // What was copied to the new folder is a workspace that Cargo can compile.
    let manifest = shells[0].run("cat Cargo.toml");
    assert!(manifest.contains("\nexclude = [\"src\"]\n"), "{manifest}");
    shells[0].run("cargo tree --quiet --offline --package xtask");
}

#[test]
fn every_command_of_the_explanations_runs_and_prints_what_they_say() {
    check("docs/how-it-works.md");
}

/// The pages of the documentation, with their paths.
fn pages() -> Vec<(PathBuf, String)> {
    let folders = [repository(), repository().join("docs")];
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|it| it == "md"));
    paths.sort();
    let read = |path: PathBuf| (fs::read_to_string(&path).map(|text| (path, text))).unwrap();
    paths.into_iter().map(read).collect()
}

/// How GitHub calls the section below a heading in links.
fn anchor(heading: &str) -> String {
    let kept = |letter: &char| letter.is_alphanumeric() || [' ', '-', '_'].contains(letter);
    heading.trim().to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
}

fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#'))).collect()
}

#[test]
fn links_lead_to_files_and_sections_that_exist() {
    for (path, text) in pages() {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("https://") {
                continue;
            }
            let (file, section) = link.split_once('#').unwrap_or((link, ""));
            let target =
                if file.is_empty() { path.clone() } else { path.with_file_name("").join(file) };
            assert!(target.exists(), "{}: {link}", path.display());
            let is_there = || anchors(&fs::read_to_string(&target).unwrap()).contains(section);
            assert!(section.is_empty() || is_there(), "{}: {link}", path.display());
        }
    }
}

/// Every `cargo xtask …` of a page, in blocks and in sentences, up to what a shell reads.
fn commands(text: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut is_block = false;
    for line in text.lines() {
        is_block ^= line.starts_with("```");
        let is_indented = line.starts_with("    ");
        for (place, _) in line.match_indices("cargo xtask ") {
            let rest = &line[place..];
            let is_code = is_block || is_indented || line[..place].ends_with('`');
            if is_code {
                commands.push(
                    rest.split(['`', '#', '|', '>', ')'])
                        .next()
                        .unwrap_or(rest)
                        .trim_end()
                        .to_owned(),
                );
            }
        }
    }
    commands
}

/// Words as a shell reads them, as far as quotes go.
fn split_words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for letter in text.chars() {
        match (letter, quote) {
            ('"' | '\'', None) => quote = Some(letter),
            (letter, Some(open)) if letter == open => quote = None,
            (' ', None) => words.push(String::new()),
            (letter, _) => words.last_mut().expect("there is one").push(letter),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn every_command_of_the_documentation_is_one_of_the_command_line() {
    let workspace = Workspace::new();
    let mut count = 0;
    for (path, text) in pages() {
        if path.ends_with("CHANGELOG.md") {
            continue;
        }
        for command in commands(&text) {
            let words = command.strip_prefix("cargo xtask ").unwrap();
            let words = words.replace("SHELL", "bash").replace("help COMMAND", "build");
            let words = words.replace("${{ github.base_ref }}", "main");
            let words = split_words(&words);
            let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
            // Whatever is wrong before it is an error all the same.
            words.push("--help");
            let output = workspace.xtask(&words);
            assert_eq!(output.code, 0, "{}: {command}\n{}", path.display(), output.stderr);
            count += 1;
        }
    }
    assert!(count > 50, "{count}");
}

/// The sections of the reference, by the beginning of their headings.
fn section<'a>(reference: &'a str, heading: &str) -> &'a str {
    let start = reference.find(&format!("\n## {heading}")).expect(heading);
    let rest = &reference[start + 4..];
    &rest[..rest.find("\n## ").unwrap_or(rest.len())]
}

#[test]
fn the_reference_has_every_option() {
    let reference = fs::read_to_string(repository().join("docs/reference.md")).unwrap();
    let workspace = Workspace::new();
    let commands = [
        "build",
        "watch",
        "push",
        "graph",
        "list",
        "init",
        "new",
        "doctor",
        "clean",
        "config",
        "why",
        "logs",
        "context",
        "export bake",
        "inputs",
        "man",
    ];
    for command in commands {
        let heading = if command == "man" {
            "`cargo xtask completions".into()
        } else {
            format!("`cargo xtask {command}")
        };
        let section = section(&reference, &heading);
        let words: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let help = workspace.xtask(&words).exits_with(0).stdout;
        let (help, _) = help.split_once("\nGlobal options:").unwrap();
        let options = help.lines().map(str::trim).filter(|line| line.starts_with('-'));
        for option in options.filter(|option| !option.contains("--help")) {
            let names =
                option.split([' ', ',', '[', '=']).filter(|it| it.starts_with('-') && it.len() > 1);
            let is_there = names.clone().any(|name| {
                section.match_indices(name).any(|(place, _)| {
                    !section[place + name.len()..]
                        .starts_with(|it: char| it.is_alphanumeric() || it == '-')
                        && !section[..place].ends_with(|it: char| it.is_alphanumeric() || it == '-')
                })
            });
            assert!(is_there, "docs/reference.md lacks {option} of {command}");
        }
    }
    let global = section(&reference, "Global options");
    let help = workspace.xtask(&["--help"]).exits_with(0).stdout;
    let (_, help) = help.split_once("\nGlobal options:").unwrap();
    for option in help.lines().map(str::trim).filter(|line| line.starts_with("--")) {
        let name = option.split_whitespace().next().unwrap();
        assert!(global.contains(name), "docs/reference.md lacks {name}");
    }
}
