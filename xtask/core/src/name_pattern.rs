//! Which names a word of the command line selects: the name that is equal to it, or else all
//! that match it as a glob.
//!
//! Equality goes first, so that a name with a bracket in it can be written as it is. Globs are
//! those of shells: `*`, `?`, `[a-z]`, `[!a-z]` and `{a,b}`. `path_pattern` matches
//! them, because to `globset` a `?` is one byte, and so half of a letter.

use crate::escape;
use crate::path_pattern::Pattern;
use crate::problem::{Problem, hint};

/// The most globs that one with braces may stand for: each pair of braces can double them.
const MAX_GLOBS: usize = 1000;

/// The known names that `word` selects; none if it is not a glob and no name is equal to it.
///
/// # Errors
/// It is a glob that is invalid or matches no name; `noun` says of what.
pub fn select<'k>(word: &str, known: &[&'k str], noun: &str) -> Result<Vec<&'k str>, Problem> {
    if let Some(name) = known.iter().find(|name| **name == word) {
        return Ok(vec![*name]);
    }
    if !word.contains(['*', '?', '[', '{']) {
        return Ok(Vec::new());
    }
    let shown = escape::line(word);
    let patterns = expand(word)
        .and_then(|globs| globs.iter().map(|glob| Pattern::parse(&escaped(glob))).collect())
        .map_err(|error| Problem::of_request(format!("'{shown}' is not a valid glob: {error}")));
    let patterns: Vec<Pattern> = patterns?;
    let is_match = |name: &&str| patterns.iter().any(|pattern| pattern.matches(name));
    let found: Vec<&str> = known.iter().copied().filter(is_match).collect();
    if found.is_empty() {
        let hint = nearest(word, known);
        return Err(Problem::of_request(format!("no {noun} matches '{shown}'{hint}")));
    }
    Ok(found)
}

/// The globs that one with braces stands for.
fn expand(glob: &str) -> Result<Vec<String>, String> {
    let (mut pending, mut globs) = (vec![glob.to_owned()], Vec::new());
    while let Some(glob) = pending.pop() {
        match alternatives(&glob)? {
            Some(alternatives) => pending.extend(alternatives),
            None => globs.push(glob),
        }
        if pending.len() + globs.len() > MAX_GLOBS {
            return Err(format!("it stands for more than {MAX_GLOBS} globs"));
        }
    }
    Ok(globs)
}

/// A glob with each of the alternatives in its first braces; none if it has no braces.
fn alternatives(glob: &str) -> Result<Option<Vec<String>>, String> {
    let Some(start) = glob.find('{') else { return Ok(None) };
    let (mut depth, mut ends) = (0, vec![start]);
    for (place, letter) in glob.char_indices().skip_while(|(place, _)| *place < start) {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => ends.push(place),
            _ => {}
        }
        if depth == 0 {
            ends.push(place);
            break;
        }
    }
    if depth > 0 {
        return Err("a '{' has no '}'".to_owned());
    }
    let (before, after) = (&glob[..start], &glob[ends[ends.len() - 1] + 1..]);
    let alternatives = ends.windows(2).map(|ends| &glob[ends[0] + 1..ends[1]]);
    Ok(Some(alternatives.map(|it| format!("{before}{it}{after}")).collect()))
}

/// The glob as Docker writes it.
fn escaped(glob: &str) -> String {
    let (mut out, mut is_class) = (String::new(), false);
    for letter in glob.chars() {
        match letter {
            '!' if out.ends_with('[') => out.push('^'),
            '*' | '?' | '[' | ']' => out.push(letter),
            _ if letter.is_ascii_punctuation() && !is_class => out.extend(['\\', letter]),
            _ => out.push(letter),
        }
        is_class = letter == '[' || is_class && letter != ']';
    }
    out
}

/// The name of which the fewest characters have to change for a glob to match it.
fn nearest(glob: &str, known: &[&str]) -> String {
    let literals = glob.chars().filter(|letter| !matches!(letter, '*' | '?')).count();
    let distances = known.iter().map(|name| (distance(glob, name), *name));
    match distances.min() {
        Some((distance, name)) if distance <= (literals + 1) / 3 => hint(name),
        _ => String::new(),
    }
}

/// The edit distance of a glob from a name, where `*` stands for any characters and `?` for
/// one. Brackets and braces count as they are written.
fn distance(glob: &str, name: &str) -> usize {
    let name: Vec<char> = name.to_lowercase().chars().collect();
    let mut before: Vec<usize> = (0..=name.len()).collect();
    for letter in glob.to_lowercase().chars() {
        let is_star = letter == '*';
        let mut row = vec![before[0] + usize::from(!is_star)];
        for (index, other) in name.iter().enumerate() {
            let is_same = is_star || letter == '?' || letter == *other;
            let replaced = before[index] + usize::from(!is_same);
            let left_out = before[index + 1] + usize::from(!is_star);
            let added = row[index] + usize::from(!is_star);
            row.push(replaced.min(left_out).min(added));
        }
        before = row;
    }
    before[name.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 5] = ["auth-api", "auth-db", "a[1]", "web", "組件"];

    fn selected(word: &str) -> String {
        match select(word, &KNOWN, "component") {
            Ok(names) => names.join(" "),
            Err(problem) => problem.to_string(),
        }
    }

    #[test]
    fn a_name_selects_itself_and_a_glob_what_it_matches() {
        for (word, names) in [
            ("web", "web"),
            ("auth-*", "auth-api auth-db"),
            ("*", "auth-api auth-db a[1] web 組件"),
            ("{web,auth-db}", "auth-db web"),
            ("auth-{api,d?}", "auth-api auth-db"),
            ("[!a]*", "web 組件"),
            ("組*", "組件"),
            ("組?", "組件"),
            ("{auth-{a,d}*,w[a-e]b}", "auth-api auth-db web"),
            ("?[[]1*", "a[1]"),
            ("a[1]", "a[1]"),
            ("we", ""),
            ("auth", ""),
            ("", ""),
        ] {
            assert_eq!(selected(word), names, "{word}");
        }
    }

    #[test]
    fn a_glob_without_a_match_names_the_nearest() {
        for (word, said) in [
            ("auht-*", "no component matches 'auht-*' (did you mean 'auth-api'?)"),
            ("*-dc", "no component matches '*-dc' (did you mean 'auth-db'?)"),
            ("wob*", "no component matches 'wob*' (did you mean 'web'?)"),
            ("nothing*", "no component matches 'nothing*'"),
            ("x*", "no component matches 'x*'"),
            ("a[", "'a[' is not a valid glob: '[' has no matching ']'"),
            ("{a", "'{a' is not a valid glob: a '{' has no '}'"),
        ] {
            assert_eq!(selected(word), said, "{word}");
        }
        let many = "{a,b}".repeat(40);
        assert!(selected(&many).ends_with("it stands for more than 1000 globs"));
    }
}
