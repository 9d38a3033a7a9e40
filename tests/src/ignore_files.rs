//! Random ignore files, and trees of names that they speak of.
//!
//! Most patterns are made of a path that is there, by taking something from what it
//! says: so they match some of a tree and not all of it, and corners meet corners.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use fastrand::Rng;

/// Names that a folder has: an exception can name them without an escape.
const FOLDERS: [&str; 14] =
    ["a", "b", "ab", "a.b", ".a", "c d", "é", "!a", "#a", "a-b", "{a}", "a]", "a*", "☺"];

/// Names that only files have.
const FILES: [&str; 24] = [
    "A",
    "abc",
    "axb",
    "x.md",
    "README.md",
    "[a]",
    "[",
    "*",
    "?",
    "\\",
    "a\\b",
    "x^y",
    "^",
    "a+b",
    "$a",
    "(a)|b",
    "..a",
    "a..",
    " a",
    "a ",
    "-",
    "a\u{301}",
    "𝒳",
    "...",
];

/// Lines that are no pattern, or hardly one.
const ODD_LINES: [&str; 23] = [
    "",
    " ",
    "\t",
    "#",
    "# a",
    " # a",
    "#!a",
    ".",
    "..",
    "/",
    "//",
    "!.",
    "!..",
    "./.",
    "**/",
    "/**",
    "/ a",
    "! a",
    "!!a",
    "/!a",
    "\u{feff}a",
    "\u{a0}a\u{2003}",
    "\u{85}b\u{b}",
];

/// Lines that Docker mostly refuses.
const BAD_LINES: [&str; 14] =
    ["[", "[]", "[a", "[^", "[]a]", "[-a]", "[a-]", "[b-a]", "\\", "a\\", "!", "! ", "!/", "a/[/b"];

/// Paths of a tree, sorted, each folder among them.
pub fn paths(rng: &mut Rng, count: usize) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![String::new()];
    while found.len() < count {
        let above = folders[rng.usize(..folders.len())].clone();
        let is_folder = above.matches('/').count() < 4 && rng.u8(..3) == 0;
        let name = if is_folder || rng.bool() { one(rng, &FOLDERS) } else { one(rng, &FILES) };
        if found.insert(format!("{above}{name}")) && is_folder {
            folders.push(format!("{above}{name}/"));
        }
    }
    found
}

/// The paths of a tree that are folders with something in them.
pub fn folders(paths: &BTreeSet<String>) -> BTreeSet<&str> {
    paths.iter().flat_map(|path| path.match_indices('/').map(|(end, _)| &path[..end])).collect()
}

/// Makes a tree of files that say their path, folders, also empty ones, and links, also
/// dangling ones; its folders have one of these modes.
pub fn make(rng: &mut Rng, root: &Path, paths: &BTreeSet<String>, folder_modes: &[u32]) {
    let set_mode = |path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    fs::create_dir_all(root).expect("a folder");
    let names: Vec<&str> = paths.iter().map(String::as_str).collect();
    let folders = folders(paths);
    for path in paths {
        let full = root.join(path);
        if folders.contains(path.as_str()) || rng.u8(..8) == 0 {
            fs::create_dir(&full).expect("a folder");
            set_mode(full, *rng.choice(folder_modes).expect("one")).expect("a mode");
        } else if rng.u8(..5) == 0 {
            let other = one(rng, &names);
            let target = one(rng, &["none", ".", "..", "/etc/passwd", other, "a/../b"]);
            symlink(target, full).expect("a link");
        } else {
            fs::write(&full, path).expect("a file");
            let mode = rng.choice([0o644, 0o600, 0o755, 0o711, 0o444]).expect("one");
            set_mode(full, mode).expect("a mode");
        }
    }
}

/// An ignore file that says the same of a tree, and lets no client pass by an ignored
/// folder of it: for each folder there is an exception of something in it that is not
/// there.
pub fn opened(text: &str, paths: &BTreeSet<String>) -> String {
    let exceptions = folders(paths).into_iter().map(|folder| format!("\n!{folder}/never"));
    format!("{text}{}", exceptions.collect::<String>())
}

/// An ignore file for a tree.
pub fn text(rng: &mut Rng, paths: &BTreeSet<String>) -> String {
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let mut lines: Vec<String> = Vec::new();
    let count = rng.choice([1, 1, 1, 2, 2, 2, 3, 3, 4, 5]).expect("one");
    for place in 0..count {
        let line = match rng.u8(..100) {
            0..4 => one(rng, &ODD_LINES).to_owned(),
            4..6 => one(rng, &BAD_LINES).to_owned(),
            6..10 if place > 0 => lines[rng.usize(..place)].clone(),
            10..14 => "*".to_owned(),
            _ => line(rng, &paths, place > 0),
        };
        lines.push(line);
    }
    let end = if rng.u8(..12) == 0 { "\r\n" } else { "\n" };
    let mark = if rng.u8(..25) == 0 { "\u{feff}" } else { "" };
    let last = if rng.bool() { end } else { "" };
    format!("{mark}{}{last}", lines.join(end))
}

fn line(rng: &mut Rng, paths: &[&str], is_later: bool) -> String {
    let is_exception = if is_later { rng.bool() } else { rng.u8(..10) == 0 };
    let mark = if is_exception { one(rng, &["!", "!", "!", "! ", "!!"]) } else { "" };
    let pattern = pattern(rng, paths);
    let before = one(rng, &["/", "/", "./", "//", "../", "a/../", " ", "\t", "/./"]);
    let after = one(rng, &["/", "/", "//", "/.", "/..", " ", "/**", "/*", "**", "*"]);
    let before = if rng.u8(..5) == 0 { before } else { "" };
    let after = if rng.u8(..5) == 0 { after } else { "" };
    format!("{mark}{before}{pattern}{after}")
}

/// Some names of a path, and less said than they say.
fn pattern(rng: &mut Rng, paths: &[&str]) -> String {
    let path = one(rng, paths);
    let mut names: Vec<&str> = path.split('/').collect();
    match rng.u8(..4) {
        0 => names.truncate(rng.usize(..names.len()) + 1),
        1 => drop(names.drain(..rng.usize(..names.len()))),
        _ => {}
    }
    let mut parts: Vec<String> = names.iter().map(|name| vaguer(rng, name)).collect();
    if rng.u8(..4) == 0 {
        let (first, last) = (rng.usize(..=parts.len()), rng.usize(..=parts.len()));
        parts.splice(first.min(last)..first.max(last), ["**".to_owned()]);
    }
    if rng.u8(..20) == 0 {
        let odd = one(rng, &[".", "..", "", "a"]);
        parts.insert(rng.usize(..=parts.len()), odd.to_owned());
    }
    parts.join("/")
}

/// A pattern that a name matches, mostly.
fn vaguer(rng: &mut Rng, name: &str) -> String {
    match rng.u8(..20) {
        0..9 => name.chars().map(|c| literal(rng, c)).collect(),
        9..12 => "*".to_owned(),
        12..14 => "**".to_owned(),
        14 => format!("*{}", name.chars().last().map_or(String::new(), |c| literal(rng, c))),
        15 => format!("{}*", name.chars().next().map_or(String::new(), |c| literal(rng, c))),
        16 => format!("**{name}"),
        17 => format!("{name}**"),
        _ => name.chars().map(|c| vaguer_still(rng, c)).collect(),
    }
}

fn vaguer_still(rng: &mut Rng, c: char) -> String {
    match rng.u8(..12) {
        0..3 => "?".to_owned(),
        3..6 => class(rng, c),
        6 => "*".to_owned(),
        7 => "**".to_owned(),
        _ => literal(rng, c),
    }
}

/// Mostly a class that the character is in.
fn class(rng: &mut Rng, c: char) -> String {
    let own = literal(rng, c);
    match rng.u8(..9) {
        0 => format!("[{own}]"),
        1 => format!("[x{own}]"),
        2 => format!("[{own}-{own}]"),
        3 => format!("[^{own}]"),
        4 => "[^x]".to_owned(),
        5 => "[a-z]".to_owned(),
        6 => "[!-~]".to_owned(),
        7 => "[à-☺]".to_owned(),
        _ => format!("[^z{own}b-c]"),
    }
}

/// A character that stands for itself, if it mostly needs no escape.
fn literal(rng: &mut Rng, c: char) -> String {
    let is_escaped = match c {
        '*' | '?' | '[' | ']' | '\\' | '^' | '-' | '|' => rng.u8(..8) > 0,
        _ if c.is_ascii_punctuation() => rng.u8(..20) == 0,
        _ => rng.u16(..500) == 0,
    };
    if is_escaped { format!("\\{c}") } else { c.to_string() }
}

fn one<'a>(rng: &mut Rng, among: &[&'a str]) -> &'a str {
    among[rng.usize(..among.len())]
}
