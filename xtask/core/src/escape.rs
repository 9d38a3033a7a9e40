//! Text from outside, as it may be shown: names, log lines, the contents of files, the
//! words of engines, registries and git.
//!
//! Such text can hold characters that a terminal obeys instead of showing them: it moves
//! the cursor, renames the window, or reverses the order of what follows, so that a line
//! reads as something that it is not. All of these are written out as `\x1b` or
//! `\u{202e}`, a tab as spaces. What is left for a terminal to obey are colours, where
//! that is asked for. Whether a break ends a line depends on the text: in a name it does
//! not, and is written out as `\n`.

use std::borrow::Cow;

/// A tab reaches to the next multiple of so many characters.
const TAB: usize = 8;

const ESCAPE: char = '\u{1b}';
const BELL: char = '\u{7}';

/// Resets all colours, as does the second, shorter form.
const RESET: &str = "\u{1b}[0m";
const SHORT_RESET: &str = "\u{1b}[m";

/// Whether a terminal would obey it instead of showing it: C0, DEL, C1, what changes the
/// direction of text, and the breaks that only some programs know.
pub fn is_control(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}')
        || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// As one line.
pub fn line(text: &str) -> Cow<'_, str> {
    written_out(text, |_| 0)
}

/// As lines that end where the text breaks.
pub fn lines(text: &str) -> Cow<'_, str> {
    written_out(text, |rest| usize::from(rest.starts_with('\n')))
}

/// As lines whose colours stay: for text that was coloured here.
pub fn painted(text: &str) -> Cow<'_, str> {
    written_out(
        text,
        |rest| {
            if rest.starts_with('\n') { 1 } else { color_at(rest).map_or(0, str::len) }
        },
    )
}

/// A log line as a terminal would be left with it: what comes after the last carriage
/// return, without what moves the cursor; with its colours, which end with it, or without.
pub fn log(text: &str, has_colors: bool) -> String {
    let last = text.rsplit('\r').find(|part| !part.is_empty()).unwrap_or_default();
    let mut kept = String::with_capacity(last.len());
    let mut color = "";
    let mut rest = last;
    while let Some(place) = rest.find(ESCAPE) {
        let (before, after) = rest.split_at(place);
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
        written_out(&kept, |rest| color_at(rest).map_or(0, str::len)).into_owned()
    } else {
        line(&kept).into_owned()
    }
}

/// A JSON text that means the same, with everything written out that a terminal or a
/// log viewer would obey. Outside its strings there are no such characters.
pub fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' => out.push('\n'),
            _ if is_control(letter) => out.push_str(&format!("\\u{:04x}", u32::from(letter))),
            // GitHub's runner looks for commands within lines, too.
            '[' if out.ends_with("##") => out.push_str("\\u005b"),
            _ => out.push(letter),
        }
    }
    out
}

/// Writes out what is not to be obeyed; `kept` says how many bytes stay as they are at the
/// beginning of a text that begins with a control character.
fn written_out(text: &str, kept: impl Fn(&str) -> usize) -> Cow<'_, str> {
    if !text.contains(is_control) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + TAB);
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
            '\t' => " ".repeat(TAB - column % TAB),
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

/// The sequence for colours, bold and their like (SGR) that a text begins with.
fn color_at(text: &str) -> Option<&str> {
    let parameters = text.strip_prefix("\u{1b}[")?;
    let end = parameters.find(|letter: char| !matches!(letter, '0'..='9' | ';' | ':'))?;
    let length = text.len() - parameters.len() + end + "m".len();
    parameters[end..].starts_with('m').then(|| &text[..length])
}

/// The whole escape sequence that a text begins with (ECMA-48); empty if it has no end.
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
        // Strings, as the title of a window or a link, end with BEL or with ESC and '\'.
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

    /// Every control character between two letters, as it must not be left.
    fn hostile() -> impl Iterator<Item = String> {
        let all = (0..=u32::from(char::MAX)).filter_map(char::from_u32);
        all.filter(|letter| is_control(*letter)).map(|letter| format!("a{letter}[2Jb"))
    }

    #[test]
    fn no_control_character_is_left() {
        assert_eq!(hostile().count(), 32 + 1 + 32 + 12 + 2);
        for text in hostile() {
            for left in [line(&text).into_owned(), log(&text, false), log(&text, true)] {
                assert!(!left.contains(is_control), "{text:?} became {left:?}");
            }
            for left in [lines(&text), painted(&text), json(&text).into()] {
                let left = left.replace('\n', "");
                assert!(!left.contains(is_control), "{text:?} became {left:?}");
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
    fn only_colours_stay_in_what_was_coloured() {
        let red = "\u{1b}[1;38:5:9mred\u{1b}[0m";
        assert_eq!(painted(red), red);
        assert_eq!(painted("\u{1b}[2J\u{1b}[31\u{1b}m"), "\\x1b[2J\\x1b[31\\x1bm");
        assert_eq!(painted("\u{1b}[31m\ta"), "\u{1b}[31m        a");
    }

    #[test]
    fn log_lines_keep_nothing_but_their_colours() {
        let log_of = |text| (log(text, true), log(text, false));
        let same = |text: &str| (text.to_owned(), text.to_owned());
        assert_eq!(log_of("\u{1b}[31mred"), ("\u{1b}[31mred\u{1b}[0m".into(), "red".into()));
        let closed = "\u{1b}[31mred\u{1b}[0m";
        assert_eq!(log_of(closed), (closed.into(), "red".into()));
        let closed = "\u{1b}[31mred\u{1b}[m";
        assert_eq!(log_of(closed), (closed.into(), "red".into()));
        // What moves the cursor, titles, links and character sets.
        assert_eq!(log_of("\u{1b}[2K\u{1b}[1Ga\u{1b}[?25lb"), same("ab"));
        assert_eq!(log_of("a\u{1b}]0;title\u{7}b\u{1b}]8;;x\u{1b}\\c"), same("abc"));
        assert_eq!(log_of("a\u{1b}(Bb\u{1b}cc\u{1b}[>4md"), same("abcd"));
        // Without an end these are no sequences.
        assert_eq!(log_of("a\u{1b}[12"), same("a\\x1b[12"));
        assert_eq!(log_of("a\u{1b}]0;title"), same("a\\x1b]0;title"));
        assert_eq!(log_of("a\u{1b}"), same("a\\x1b"));
        assert_eq!(log_of("10%\r50%\r"), same("50%"));
        assert_eq!(log_of("a\u{8}\u{9b}31mb"), same("a\\x08\\u{9b}31mb"));
    }

    #[test]
    fn json_means_the_same_afterwards() {
        for text in hostile().chain(["##[error]".to_owned(), "\"\\".to_owned()]) {
            let written = json(&serde_json::to_string(&text).unwrap());
            assert!(!written.contains("##["), "{written}");
            assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text);
        }
    }
}
