//! Escapes untrusted text before it is printed: names, log lines, file contents, and
//! messages of engines, registries and git.
//!
//! Such text can contain characters that a terminal interprets instead of printing: they
//! move the cursor, set the window title, or reverse the reading direction, so that a line
//! appears to say something else. All of these are printed as escapes such as `\x1b` or
//! `\u{202e}`; tabs become spaces. The only escape sequences that are kept are colors,
//! where the caller allows them. Line breaks are kept in multi-line text, and printed as
//! `\n` in names.

use std::borrow::Cow;

/// The distance between tab stops, in columns.
const TAB_WIDTH: usize = 8;

const ESCAPE: char = '\u{1b}';
const BELL: char = '\u{7}';

/// The two forms of the sequence that resets all colors.
const RESET: &str = "\u{1b}[0m";
const SHORT_RESET: &str = "\u{1b}[m";

/// Whether a terminal interprets a character instead of printing it: C0, DEL, C1, Unicode
/// bidirectional controls, and the Unicode line and paragraph separators.
pub fn is_control(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}')
        || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Escapes text that is printed within one line.
pub fn line(text: &str) -> Cow<'_, str> {
    escape_controls(text, |_| 0)
}

/// Escapes text, keeping its line breaks.
pub fn lines(text: &str) -> Cow<'_, str> {
    escape_controls(text, |rest| usize::from(rest.starts_with('\n')))
}

/// Escapes text, keeping its line breaks and colors. For text that was colored by this tool.
pub fn styled(text: &str) -> Cow<'_, str> {
    escape_controls(text, |rest| {
        if rest.starts_with('\n') { 1 } else { color_at(rest).map_or(0, str::len) }
    })
}

/// Escapes a log line, reduced to what a terminal would finally show: the text after the
/// last carriage return, without escape sequences that move the cursor. Colors are kept if
/// `has_colors`, and reset at the end of the line.
pub fn log(text: &str, has_colors: bool) -> String {
    let last = text.rsplit('\r').find(|part| !part.is_empty()).unwrap_or_default();
    let mut kept = String::with_capacity(last.len());
    let mut color = "";
    let mut rest = last;
    while let Some(offset) = rest.find(ESCAPE) {
        let (before, after) = rest.split_at(offset);
        kept.push_str(before);
        let sequence = sequence_at(after);
        match color_at(after) {
            Some(found) if has_colors => {
                kept.push_str(found);
                color = found;
            }
            _ if sequence.is_empty() => kept.push(ESCAPE),
            _ => {}
        }
        rest = &after[sequence.len().max(ESCAPE.len_utf8())..];
    }
    kept.push_str(rest);
    if !["", RESET, SHORT_RESET].contains(&color) {
        kept.push_str(RESET);
    }
    if has_colors {
        escape_controls(&kept, |rest| color_at(rest).map_or(0, str::len)).into_owned()
    } else {
        line(&kept).into_owned()
    }
}

/// Escapes the strings in a JSON document, which keeps its meaning: control characters, and
/// the command marker of GitHub's log viewer, are replaced with `\u` escapes.
pub fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' => out.push('\n'),
            _ if is_control(letter) => out.push_str(&format!("\\u{:04x}", u32::from(letter))),
            // GitHub's runner recognizes commands such as `##[error]` anywhere in a line.
            '[' if out.ends_with("##") => out.push_str("\\u005b"),
            _ => out.push(letter),
        }
    }
    out
}

/// Replaces control characters with visible escapes. `kept` is called with the text from
/// each control character on, and returns how many bytes of it to keep unchanged.
fn escape_controls(text: &str, kept: impl Fn(&str) -> usize) -> Cow<'_, str> {
    if !text.contains(is_control) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + TAB_WIDTH);
    let (mut rest, mut column) = (text, 0);
    while let Some(letter) = rest.chars().next() {
        let stays = if is_control(letter) { kept(rest) } else { letter.len_utf8() };
        if stays > 0 {
            out.push_str(&rest[..stays]);
            column = match letter {
                '\n' => 0,
                ESCAPE => column,
                _ => column + 1,
            };
            rest = &rest[stays..];
            continue;
        }
        let shown = match letter {
            '\t' => " ".repeat(TAB_WIDTH - column % TAB_WIDTH),
            '\n' => "\\n".to_owned(),
            '\r' => "\\r".to_owned(),
            _ if letter.is_ascii() => format!("\\x{:02x}", u32::from(letter)),
            _ => format!("\\u{{{:x}}}", u32::from(letter)),
        };
        column += shown.len();
        out.push_str(&shown);
        rest = &rest[letter.len_utf8()..];
    }
    Cow::Owned(out)
}

/// The SGR sequence (color, bold, …) at the start of a text.
fn color_at(text: &str) -> Option<&str> {
    let parameters = text.strip_prefix("\u{1b}[")?;
    let end = parameters.find(|letter: char| !matches!(letter, '0'..='9' | ';' | ':'))?;
    let length = text.len() - parameters.len() + end + "m".len();
    parameters[end..].starts_with('m').then(|| &text[..length])
}

/// The escape sequence (ECMA-48) at the start of a text; empty if it is not terminated.
fn sequence_at(text: &str) -> &str {
    let after = text.strip_prefix(ESCAPE).unwrap_or_default();
    let ends_at = |body: &str, is_part: fn(char) -> bool, is_end: fn(char) -> bool| {
        let end = body.find(|letter| !is_part(letter))?;
        body[end..].starts_with(is_end).then_some(text.len() - body.len() + end + 1)
    };
    let end = match after.chars().next() {
        Some('[') => ends_at(
            &after[1..],
            |letter| matches!(letter, ' '..='?'),
            |letter| matches!(letter, '@'..='~'),
        ),
        // Strings, such as a window title or a link, end with BEL or with ESC and '\'.
        Some(']' | 'P' | 'X' | '^' | '_') => {
            after.find([BELL, ESCAPE]).and_then(|end| match &after[end..] {
                string if string.starts_with(BELL) => Some(end + 2),
                string if string.starts_with("\u{1b}\\") => Some(end + 3),
                _ => None,
            })
        }
        _ => ends_at(
            after,
            |letter| matches!(letter, ' '..='/'),
            |letter| matches!(letter, '0'..='~'),
        ),
    };
    end.map_or("", |end| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts that contain each control character.
    fn hostile() -> impl Iterator<Item = String> {
        let all = (0..=u32::from(char::MAX)).filter_map(char::from_u32);
        all.filter(|letter| is_control(*letter)).map(|letter| format!("a{letter}[2Jb"))
    }

    #[test]
    fn no_control_character_remains() {
        assert_eq!(hostile().count(), 32 + 1 + 32 + 12 + 2);
        for text in hostile() {
            for escaped in [line(&text).into_owned(), log(&text, false), log(&text, true)] {
                assert!(!escaped.contains(is_control), "{text:?} became {escaped:?}");
            }
            for escaped in [lines(&text), styled(&text), json(&text).into()] {
                let escaped = escaped.replace('\n', "");
                assert!(!escaped.contains(is_control), "{text:?} became {escaped:?}");
            }
        }
    }

    #[test]
    fn control_characters_are_shown_as_text() {
        assert_eq!(line("plain ä 漢"), "plain ä 漢");
        assert_eq!(line("a\u{1b}[31mb\u{7}"), "a\\x1b[31mb\\x07");
        assert_eq!(line("a\u{9b}2J\u{202e}b\u{2028}"), "a\\u{9b}2J\\u{202e}b\\u{2028}");
        assert_eq!(line("one\ntwo\r\n"), "one\\ntwo\\r\\n");
        assert_eq!(line("\ta\tb"), "        a       b");
        assert_eq!(lines("one\n\ttwo\r\n"), "one\n        two\\r\n");
        assert_eq!(line(&line("a\u{1b}\n\tb")), line("a\u{1b}\n\tb"));
    }

    #[test]
    fn styled_text_keeps_only_its_colors() {
        let red = "\u{1b}[1;38:5:9mred\u{1b}[0m";
        assert_eq!(styled(red), red);
        assert_eq!(styled("\u{1b}[2J\u{1b}[31\u{1b}m"), "\\x1b[2J\\x1b[31\\x1bm");
        assert_eq!(styled("\u{1b}[31m\ta"), "\u{1b}[31m        a");
    }

    #[test]
    fn log_lines_keep_only_their_colors() {
        let log_of = |text| (log(text, true), log(text, false));
        let same = |text: &str| (text.to_owned(), text.to_owned());
        assert_eq!(log_of("\u{1b}[31mred"), ("\u{1b}[31mred\u{1b}[0m".into(), "red".into()));
        let closed = "\u{1b}[31mred\u{1b}[0m";
        assert_eq!(log_of(closed), (closed.into(), "red".into()));
        let closed = "\u{1b}[31mred\u{1b}[m";
        assert_eq!(log_of(closed), (closed.into(), "red".into()));
        // Cursor movements, titles, links and character sets.
        assert_eq!(log_of("\u{1b}[2K\u{1b}[1Ga\u{1b}[?25lb"), same("ab"));
        assert_eq!(log_of("a\u{1b}]0;title\u{7}b\u{1b}]8;;x\u{1b}\\c"), same("abc"));
        assert_eq!(log_of("a\u{1b}(Bb\u{1b}cc\u{1b}[>4md"), same("abcd"));
        // Unterminated sequences.
        assert_eq!(log_of("a\u{1b}[12"), same("a\\x1b[12"));
        assert_eq!(log_of("a\u{1b}]0;title"), same("a\\x1b]0;title"));
        assert_eq!(log_of("a\u{1b}"), same("a\\x1b"));
        assert_eq!(log_of("10%\r50%\r"), same("50%"));
        assert_eq!(log_of("a\u{8}\u{9b}31mb"), same("a\\x08\\u{9b}31mb"));
    }

    #[test]
    fn escaped_json_has_the_same_meaning() {
        for text in hostile().chain(["##[error]".to_owned(), "\"\\".to_owned()]) {
            let written = json(&serde_json::to_string(&text).unwrap());
            assert!(!written.contains("##["), "{written}");
            assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text);
        }
    }
}
