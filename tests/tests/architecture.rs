//! The sources are laid out as ARCHITECTURE.md says, and imports go one way.
//!
//!     cargo test -p tests --test architecture
//!     UPDATE_EXPECT=1 cargo test -p tests --test architecture    # redraws the module tree
//!
//! The text of the sources is all that is read: no engine, no compiler, no git. Comments,
//! strings, `tests.rs` files and items under `#[cfg(test)]` import nothing. A `use` of a
//! whole module only gives it a name; what is then reached through that name counts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use expect_test::expect_file;
use tests::repository;

/// The rooms of both crates, highest first: each imports only from those below it.
const ROOMS: &[(&str, &[&str])] = &[
    (
        "xtask/src",
        &[
            "cli",
            "ui",
            "report",
            "commands",
            "build",
            "command_context",
            "command_error",
            "registry",
            "engine",
            "system",
            "event_channel",
            "event",
            "outcome",
            "program",
            "quantity",
        ],
    ),
    (
        "xtask/core/src",
        &[
            "staleness",
            "plan",
            "context",
            "workspace",
            "secret",
            "dockerfile",
            "name_pattern",
            "path_pattern",
            "image_reference",
            "problem",
            "regular_file",
            "saved",
            "path_bytes",
            "escape",
            "digest",
            "ids",
            "paths",
        ],
    ),
];

/// Imports that go upwards. This list may only become shorter.
const KNOWN_UPWARD_IMPORTS: &[(&str, &str)] = &[];

/// The circles, each with all its files. This list may only become shorter.
const KNOWN_CIRCLES: &[&[&str]] = &[];

#[test]
fn the_module_tree_is_the_one_in_architecture_md() {
    let page = repository().join("ARCHITECTURE.md");
    let text = fs::read_to_string(&page).expect("ARCHITECTURE.md can be read");
    let (before, tree, after) = split_at_tree(&text);
    let drawn = parse_tree(tree);
    let sources = read_sources();
    if std::env::var_os("UPDATE_EXPECT").is_none() {
        let missing: Vec<_> = sources.keys().filter(|path| !drawn.contains_key(*path)).collect();
        let extra: Vec<_> = drawn.keys().filter(|path| !sources.contains_key(*path)).collect();
        assert!(
            missing.is_empty() && extra.is_empty(),
            "the module tree in ARCHITECTURE.md lacks {missing:#?} and lists {extra:#?}, which \
             do not exist.\nUpdate it with 'UPDATE_EXPECT=1 cargo test -p tests --test \
             architecture', then describe each new file in half a line"
        );
    }
    let tree = render_tree(&sources, &drawn);
    expect_file![page].assert_eq(&format!("{before}{tree}{after}"));
}

#[test]
fn imports_go_downwards_only() {
    let sources = read_sources();
    let unplaced: Vec<_> = sources.keys().filter(|path| is_unplaced(path)).collect();
    assert!(unplaced.is_empty(), "give these a place in ROOMS: {unplaced:#?}");
    let imports = Imports::of(&sources);
    let upward: BTreeMap<_, _> =
        imports.iter().filter(|((from, to), _)| goes_upwards(from, to)).collect();
    let known: BTreeSet<_> = KNOWN_UPWARD_IMPORTS.iter().copied().collect();
    let new: Vec<_> = upward.iter().filter(|(edge, _)| !known.contains(*edge)).collect();
    assert!(new.is_empty(), "these imports go upwards: {new:#?}\nMove what is imported down");
    let gone: Vec<_> = known.iter().filter(|edge| !upward.contains_key(edge)).collect();
    assert!(gone.is_empty(), "these are gone, remove them from KNOWN_UPWARD_IMPORTS: {gone:#?}");
}

#[test]
fn there_is_no_import_circle() {
    let imports = Imports::of(&read_sources());
    let circles = imports.circles();
    let known: BTreeSet<Vec<&str>> = KNOWN_CIRCLES.iter().map(|files| files.to_vec()).collect();
    let mut report = String::new();
    for circle in circles.difference(&known) {
        let is_smaller = known.iter().any(|known| circle.iter().all(|file| known.contains(file)));
        let title = if is_smaller {
            "This circle was larger, shorten it in KNOWN_CIRCLES"
        } else {
            "This circle is new, remove one of its imports"
        };
        writeln!(report, "{title}: {circle:#?}").unwrap();
        for ((from, to), path) in imports.iter() {
            if circle.contains(&from) && circle.contains(&to) {
                writeln!(report, "    {from} imports {path}").unwrap();
            }
        }
    }
    for circle in known.difference(&circles) {
        writeln!(report, "This circle is gone, remove it from KNOWN_CIRCLES: {circle:#?}").unwrap();
    }
    assert!(report.is_empty(), "{report}");
}

#[test]
fn an_import_is_found_however_it_is_written() {
    let text = r##"
        //! use crate::comment::A;
        /* use crate::comment::B; /* nested */ use crate::comment::C; */
        use std::fmt;
        use crate::group::{One, deeper::{self, Two}, other as renamed};
        use super::sibling;
        use crate::named_only;
        mod child;
        fn f<'a>(text: &'a str, _: child::Item) -> char {
            crate::inline::g("crate::string::A", r#"crate::string::"B""#);
            sibling::h(); renamed::i(); xtask_core::paths::j();
            '"'
        }
        #[cfg(test)]
        mod tests { use crate::tested::A; fn f() { if true {} } }
        use crate::last::Item;
    "##;
    let mut sources: BTreeMap<String, String> = [("xtask/src/a/mod.rs", text)]
        .map(|(path, text)| (path.to_owned(), text.to_owned()))
        .into();
    let empty = [
        "a/child",
        "comment",
        "group",
        "group/deeper",
        "group/other",
        "inline",
        "last",
        "named_only",
        "sibling",
        "string",
        "tested",
    ];
    sources.extend(empty.map(|file| (format!("xtask/src/{file}.rs"), String::new())));
    sources.insert("xtask/core/src/paths.rs".to_owned(), String::new());
    let imports = Imports::of(&sources);
    let found: Vec<_> = imports.iter().map(|((_, to), _)| to).collect();
    assert_eq!(
        found,
        [
            "xtask/core/src/paths.rs",
            "xtask/src/a/child.rs",
            "xtask/src/group.rs",
            "xtask/src/group/deeper.rs",
            "xtask/src/group/other.rs",
            "xtask/src/inline.rs",
            "xtask/src/last.rs",
            "xtask/src/sibling.rs",
        ]
    );
}

#[test]
fn a_circle_is_found_between_a_folder_and_its_file() {
    let sources = [
        ("xtask/src/a/mod.rs", "mod b; use b::Item; pub struct Other;"),
        ("xtask/src/a/b.rs", "use super::Other; pub struct Item;"),
        ("xtask/src/c.rs", "use crate::a::Other;"),
    ];
    let sources = sources.map(|(path, text)| (path.to_owned(), text.to_owned())).into();
    let imports = Imports::of(&sources);
    assert_eq!(imports.circles(), [vec!["xtask/src/a/b.rs", "xtask/src/a/mod.rs"]].into());
}

/// The text of every source of both crates, by its path from the root of the repository.
fn read_sources() -> BTreeMap<String, String> {
    let mut sources = BTreeMap::new();
    for (root, _) in ROOMS {
        read_folder(&repository(), root, &mut sources);
    }
    sources
}

fn read_folder(repository: &Path, folder: &str, sources: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(repository.join(folder)).expect("the folder can be read") {
        let entry = entry.expect("the folder can be read");
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.file_type().expect("its type is known").is_dir() {
            read_folder(repository, &path, sources);
        } else if Path::new(&path).extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(entry.path()).expect("the source can be read");
            sources.insert(path, text);
        }
    }
}

// ---- The module tree ---------------------------------------------------------------

const TREE_START: &str = "```text\nxtask/";

/// Where the descriptions of files begin.
const COLUMN: usize = 30;

/// What is before the module tree of ARCHITECTURE.md, the tree, and what is after it.
fn split_at_tree(text: &str) -> (&str, &str, &str) {
    let fence = text.find(TREE_START).expect("ARCHITECTURE.md has a module tree");
    let start = fence + "```text\n".len();
    let length = text[start..].find("```").expect("the module tree ends");
    let end = start + length;
    (&text[..start], &text[start..end], &text[end..])
}

/// The description of each file in a tree whose folders end with `/` and whose levels are
/// two spaces deep.
fn parse_tree(tree: &str) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut folders: Vec<&str> = Vec::new();
    for line in tree.lines() {
        let entry = line.trim_start();
        let depth = (line.len() - entry.len()) / 2;
        let (name, description) = entry.split_once(' ').unwrap_or((entry, ""));
        folders.truncate(depth);
        if name.ends_with('/') {
            folders.push(name);
        } else {
            files.insert(format!("{}{name}", folders.concat()), description.trim().to_owned());
        }
    }
    files
}

/// The tree of all sources; a file without a description gets the first sentence of its
/// documentation.
fn render_tree(sources: &BTreeMap<String, String>, drawn: &BTreeMap<String, String>) -> String {
    let mut paths: Vec<&String> = sources.keys().collect();
    paths.sort_by_key(|path| tree_order(path));
    let mut tree = String::new();
    let mut open: Vec<&str> = Vec::new();
    for path in paths {
        let (root, inside) = split_at_root(path);
        let mut folders: Vec<&str> = inside.split('/').collect();
        let name = folders.pop().expect("a path has a name");
        folders.insert(0, root);
        let common = open.iter().zip(&folders).take_while(|(one, other)| one == other).count();
        for (depth, folder) in folders.iter().enumerate().skip(common) {
            writeln!(tree, "{:1$}{folder}/", "", 2 * depth).unwrap();
        }
        let described = drawn.get(path).filter(|text| !text.is_empty());
        let described = described.cloned().unwrap_or_else(|| first_sentence(&sources[path]));
        let name = format!("{:1$}{name}", "", 2 * folders.len());
        writeln!(tree, "{}", format!("{name:COLUMN$} {described}").trim_end()).unwrap();
        open = folders;
    }
    tree
}

/// By name, a folder after the file of the same name, and what a folder itself is first.
fn tree_order(path: &str) -> Vec<(bool, &str)> {
    let (root, inside) = split_at_root(path);
    let names = inside.split('/').map(|name| {
        let is_first = matches!(name, "lib.rs" | "main.rs" | "mod.rs");
        (!is_first, name.trim_end_matches(".rs"))
    });
    std::iter::once((true, root)).chain(names).collect()
}

fn first_sentence(source: &str) -> String {
    let lines = source.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim);
    let paragraph: Vec<&str> = lines.take_while(|line| !line.is_empty()).collect();
    let paragraph = paragraph.join(" ");
    paragraph.split(". ").next().unwrap_or_default().trim_end_matches('.').to_owned()
}

// ---- Rooms -------------------------------------------------------------------------

/// `xtask/src` and `build/step.rs`.
fn split_at_root(path: &str) -> (&str, &str) {
    let split = path.find("/src/").expect("a source lies in src/") + "/src".len();
    (&path[..split], &path[split + 1..])
}

/// The place of a file's room in the order of its crate, highest first; none for the
/// roots of crates, which may import everything.
fn room_rank(path: &str) -> Option<usize> {
    let (root, inside) = split_at_root(path);
    let room = inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs");
    let (_, rooms) = ROOMS.iter().find(|(of, _)| *of == root)?;
    rooms.iter().position(|name| *name == room)
}

fn is_unplaced(path: &str) -> bool {
    let (_, inside) = split_at_root(path);
    !matches!(inside, "lib.rs" | "main.rs") && room_rank(path).is_none()
}

/// From one room of a crate to one above it; what imports from a crate's root imports
/// from its top.
fn goes_upwards(from: &str, to: &str) -> bool {
    split_at_root(from).0 == split_at_root(to).0
        && room_rank(from).is_some_and(|from| room_rank(to).is_none_or(|to| from > to))
}

// ---- Imports -----------------------------------------------------------------------

/// By file, the files that it imports from, each with a path as it is written.
struct Imports(BTreeMap<String, BTreeMap<String, String>>);

impl Imports {
    fn of(sources: &BTreeMap<String, String>) -> Self {
        let modules: Modules = sources.keys().map(|path| (module_of(path), &**path)).collect();
        let read = sources.iter().filter(|(file, _)| !is_test_or_binary(file));
        let imports = read.map(|(file, text)| {
            let tokens = without_tests(&tokens_of(text));
            let mut imported = imports_of(&module_of(file), &tokens, &modules);
            imported.remove(file);
            (file.clone(), imported)
        });
        Self(imports.collect())
    }

    /// Both files and the path of each import.
    fn iter(&self) -> impl Iterator<Item = ((&str, &str), &str)> {
        let imports = self.0.iter();
        imports.flat_map(|(from, imported)| {
            imported.iter().map(|(to, path)| ((from.as_str(), to.as_str()), path.as_str()))
        })
    }

    /// The sorted files of each circle.
    fn circles(&self) -> BTreeSet<Vec<&str>> {
        let reached: BTreeMap<&str, BTreeSet<&str>> =
            self.0.keys().map(|file| (file.as_str(), self.reached_from(file))).collect();
        let circle_of = |file: &&str| -> Vec<&str> {
            let others = reached[file].iter().copied();
            others.filter(|to| reached.get(to).is_some_and(|back| back.contains(file))).collect()
        };
        reached.keys().map(circle_of).filter(|circle| !circle.is_empty()).collect()
    }

    /// What a file imports, what that imports, and so on.
    fn reached_from(&self, file: &str) -> BTreeSet<&str> {
        let imported = |file: &str| self.0.get(file).into_iter().flat_map(BTreeMap::keys);
        let mut reached = BTreeSet::new();
        let mut todo: Vec<&str> = imported(file).map(String::as_str).collect();
        while let Some(file) = todo.pop() {
            if reached.insert(file) {
                todo.extend(imported(file).map(String::as_str));
            }
        }
        reached
    }
}

/// The file of each module: `xtask::build` is in `xtask/src/build/mod.rs`.
type Modules<'a> = BTreeMap<String, &'a str>;

/// `xtask::build::step` for `xtask/src/build/step.rs`.
fn module_of(path: &str) -> String {
    let (root, inside) = split_at_root(path);
    let package = if root == "xtask/core/src" { "xtask_core" } else { "xtask" };
    let inside = inside.trim_end_matches(".rs");
    let inside = inside.strip_suffix("/mod").unwrap_or(inside);
    if inside == "lib" {
        package.to_owned()
    } else {
        format!("{package}/{inside}").replace('/', "::")
    }
}

/// The binary is a crate of its own, of one line.
fn is_test_or_binary(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.ends_with("/main.rs")
}

/// The files that a module imports from, each with a path that leads there.
fn imports_of(module: &str, tokens: &[&str], modules: &Modules<'_>) -> BTreeMap<String, String> {
    let mut names: BTreeMap<&str, String> = BTreeMap::new();
    let mut imports = BTreeMap::new();
    for path in paths_of(tokens) {
        let Some(full) = resolve(module, &path, &names, modules) else { continue };
        if modules.contains_key(&full) && !path.is_glob {
            names.insert(path.name(), full);
        } else if let Some(file) = nearest(&full, modules) {
            imports.insert(file.to_owned(), path.segments.join("::"));
        }
    }
    imports
}

/// A path from its crate's name on: what it is relative to is resolved. None if it leads
/// to another crate.
fn resolve(
    module: &str,
    path: &WrittenPath<'_>,
    names: &BTreeMap<&str, String>,
    modules: &Modules<'_>,
) -> Option<String> {
    let package = module.split("::").next().unwrap_or(module);
    let (first, mut rest) = path.segments.split_first()?;
    let mut full = match *first {
        "crate" => package.to_owned(),
        "xtask" | "xtask_core" | "self" if rest.is_empty() => return None,
        "xtask" | "xtask_core" => (*first).to_owned(),
        "self" => module.to_owned(),
        "super" => parent(module).to_owned(),
        name => {
            let child = format!("{module}::{name}");
            if modules.contains_key(&child) { child } else { names.get(name)?.clone() }
        }
    };
    while let ["super", more @ ..] = rest {
        (full, rest) = (parent(&full).to_owned(), more);
    }
    Some(rest.iter().fold(full, |full, segment| format!("{full}::{segment}")))
}

fn parent(module: &str) -> &str {
    module.rsplit_once("::").map_or(module, |(parent, _)| parent)
}

/// The file of the innermost module on a path.
fn nearest<'a>(path: &str, modules: &Modules<'a>) -> Option<&'a str> {
    let mut module = path;
    loop {
        if let Some(file) = modules.get(module) {
            return Some(file);
        }
        module = module.rsplit_once("::")?.0;
    }
}

// ---- Rust, as far as paths need it ---------------------------------------------------

/// One path of a source; each leaf of a group is one.
struct WrittenPath<'a> {
    segments: Vec<&'a str>,
    alias: Option<&'a str>,
    is_glob: bool,
}

impl<'a> WrittenPath<'a> {
    /// How the rest of the source calls what it leads to.
    fn name(&self) -> &'a str {
        self.alias.or(self.segments.last().copied()).unwrap_or_default()
    }
}

fn paths_of<'a>(tokens: &[&'a str]) -> Vec<WrittenPath<'a>> {
    let mut paths = Vec::new();
    for (place, token) in tokens.iter().enumerate() {
        let is_first = place == 0 || tokens[place - 1] != "::";
        if is_first && is_word(token) && tokens.get(place + 1) == Some(&"::") {
            add_paths(&tokens[place..], &[], &mut paths);
        }
    }
    paths
}

/// Adds the paths that begin with the first token, and gives what is behind them.
fn add_paths<'a, 't>(
    mut tokens: &'t [&'a str],
    before: &[&'a str],
    paths: &mut Vec<WrittenPath<'a>>,
) -> &'t [&'a str] {
    let mut path = WrittenPath { segments: before.to_vec(), alias: None, is_glob: false };
    loop {
        match tokens {
            ["self", rest @ ..] if !before.is_empty() => tokens = rest,
            ["*", rest @ ..] => (path.is_glob, tokens) = (true, rest),
            ["{", rest @ ..] => {
                tokens = rest;
                while !matches!(tokens, [] | ["}", ..]) {
                    let rest = add_paths(tokens, &path.segments, paths);
                    // A comma, or what is no path at all.
                    tokens = rest.get(1..).filter(|_| rest[0] != "}").unwrap_or(rest);
                }
                return tokens.get(1..).unwrap_or_default();
            }
            [word, rest @ ..] if is_word(word) => {
                path.segments.push(word);
                tokens = rest;
            }
            _ => {}
        }
        match tokens {
            ["::", rest @ ..] if matches!(rest, ["{" | "*", ..]) => tokens = rest,
            ["::", rest @ ..] if rest.first().is_some_and(|word| is_word(word)) => tokens = rest,
            ["as", name, rest @ ..] => {
                (path.alias, tokens) = (Some(*name), rest);
                break;
            }
            _ => break,
        }
    }
    paths.push(path);
    tokens
}

fn is_word(token: &str) -> bool {
    token.starts_with(|letter: char| letter.is_alphabetic() || letter == '_')
}

/// Leaves out every item that only tests have.
fn without_tests<'a>(tokens: &[&'a str]) -> Vec<&'a str> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept: Vec<&'a str> = Vec::new();
    let mut rest = tokens;
    while let Some((first, more)) = rest.split_first() {
        if rest.starts_with(&MARK) {
            rest = after_item(&rest[MARK.len()..]);
        } else {
            kept.push(first);
            rest = more;
        }
    }
    kept
}

/// What follows an item, which ends with a `;` or a `}` of its own.
fn after_item<'t, 'a>(tokens: &'t [&'a str]) -> &'t [&'a str] {
    let mut depth = 0;
    for (place, token) in tokens.iter().enumerate() {
        match *token {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 && matches!(*token, ";" | "}") {
            return &tokens[place + 1..];
        }
    }
    &[]
}

/// Words, `::` and single characters; comments, strings, characters and white space are
/// left out.
fn tokens_of(source: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let skipped = skipped_length(rest);
        if skipped > 0 {
            rest = &rest[skipped..];
            continue;
        }
        let length = match first {
            _ if is_word(rest) => word_length(rest),
            ':' if rest.starts_with("::") => 2,
            _ => first.len_utf8(),
        };
        tokens.push(&rest[..length]);
        rest = &rest[length..];
    }
    tokens
}

fn word_length(text: &str) -> usize {
    text.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(text.len())
}

/// How long the white space, comment, string or character is that a text begins with.
fn skipped_length(text: &str) -> usize {
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return comment_length(text);
    }
    let prefix = ["br", "cr", "b", "c", "r", ""]
        .into_iter()
        .find(|prefix| text.strip_prefix(*prefix).is_some_and(|rest| rest.starts_with(['"', '#'])));
    match prefix {
        Some(prefix) if prefix.ends_with('r') => {
            raw_string_length(&text[prefix.len()..]).map_or(0, |length| prefix.len() + length)
        }
        Some(prefix) if text[prefix.len()..].starts_with('"') => {
            prefix.len() + quoted_length(&text[prefix.len()..], '"')
        }
        _ if text.starts_with("b'") => 1 + quoted_length(&text[1..], '\''),
        _ if is_character(text) => quoted_length(text, '\''),
        _ => text.len() - text.trim_start().len(),
    }
}

/// Comments can hold comments.
fn comment_length(text: &str) -> usize {
    let mut depth = 0;
    let mut length = 0;
    loop {
        let rest = &text[length..];
        if rest.starts_with("/*") {
            (depth, length) = (depth + 1, length + 2);
        } else if rest.starts_with("*/") {
            (depth, length) = (depth - 1, length + 2);
        } else if let Some(letter) = rest.chars().next() {
            length += letter.len_utf8();
        }
        if depth == 0 || length == text.len() {
            return length;
        }
    }
}

/// None for a raw identifier, as `r#type`.
fn raw_string_length(text: &str) -> Option<usize> {
    let hashes = text.len() - text.trim_start_matches('#').len();
    let inside = text[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", &text[..hashes]);
    let length = inside.find(&end).map_or(inside.len(), |place| place + end.len());
    Some(hashes + 1 + length)
}

/// How long a text is from its first quote to the one that ends it.
fn quoted_length(text: &str, quote: char) -> usize {
    let mut letters = text.char_indices().skip(1);
    while let Some((place, letter)) = letters.next() {
        match letter {
            '\\' => drop(letters.next()),
            _ if letter == quote => return place + 1,
            _ => {}
        }
    }
    text.len()
}

/// Whether a quote begins a character and not a lifetime.
fn is_character(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next() == Some('\'') && (letters.next() == Some('\\') || letters.next() == Some('\''))
}
