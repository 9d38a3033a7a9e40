//! Text in the live area, whose width in columns must be certain: a line that is wider than it
//! was measured to be wraps, and what is redrawn then leaves stray lines behind.
//!
//! Terminals disagree about sequences that combine into one picture, so their parts are drawn
//! one by one. No terminal needs more columns than the sum of the parts' widths.

use std::borrow::Cow;
use std::iter;

use console::measure_text_width;

const ELLIPSIS: char = '…';

/// The text without anything that moves the cursor in a way of its own.
pub(crate) fn flat(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.into();
    }
    text.chars().filter_map(flat_letter).collect::<String>().into()
}

fn flat_letter(letter: char) -> Option<char> {
    match letter {
        _ if letter.is_whitespace() || letter.is_control() => Some(' '),
        // Joiners, selectors of a style, and tones of skin.
        '\u{200b}'..='\u{200d}'
        | '\u{2060}'
        | '\u{ad}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{e0000}'..='\u{e007f}'
        | '\u{1f3fb}'..='\u{1f3ff}' => None,
        // A pair of these is a flag.
        '\u{1f1e6}'..='\u{1f1ff}' => char::from_u32(u32::from(letter) - 0x1f1e6 + u32::from('A')),
        _ => Some(letter),
    }
}

/// The most columns that a flat text can take.
pub(crate) fn width(text: &str) -> usize {
    text.chars().map(letter_width).sum()
}

fn letter_width(letter: char) -> usize {
    match letter {
        ' '..='~' => 1,
        _ => measure_text_width(letter.encode_utf8(&mut [0; 4])),
    }
}

/// As much of a flat text as fits into so many columns.
pub(crate) fn fit(text: &str, columns: usize) -> Cow<'_, str> {
    let mut used = 0;
    // Where the text is cut if it turns out to be too long.
    let mut cut = 0;
    for (start, letter) in text.char_indices() {
        used += letter_width(letter);
        if used > columns {
            let mark = (columns > 0).then_some(ELLIPSIS);
            return text[..cut].chars().chain(mark).collect::<String>().into();
        }
        if used < columns {
            cut = start + letter.len_utf8();
        }
    }
    text.into()
}

/// The text, filled with spaces up to so many columns.
pub(crate) fn pad(text: &str, columns: usize) -> String {
    let spaces = columns.saturating_sub(width(text));
    text.chars().chain(iter::repeat_n(' ', spaces)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_moves_the_cursor_is_left() {
        assert_eq!(flat("RUN\tmake\r\n all"), "RUN make   all");
        assert_eq!(flat("👨\u{200d}👩\u{200d}👧 ❤\u{fe0f} 👍🏽 🇩🇪"), "👨👩👧 ❤ 👍 DE");
    }

    #[test]
    fn a_text_is_cut_at_columns_not_at_letters() {
        assert_eq!(fit("構築中です", 10), "構築中です");
        assert_eq!(fit("構築中です", 9), "構築中で…");
        assert_eq!(fit("構築中です", 8), "構築中…");
        assert_eq!(fit("構", 1), "…");
        assert_eq!(fit("abc", 0), "");
        assert_eq!(fit("e\u{301}e\u{301}e\u{301}", 2), "e\u{301}…");
    }

    #[test]
    fn whatever_is_cut_fits() {
        let letters = ['a', '構', '\u{301}', '👍', '한', 'é', '\u{1160}', 'ﷺ'];
        let mut random = 12_u64;
        for _ in 0..2000 {
            let text: String = iter::repeat_with(|| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                letters[(random >> 33) as usize % letters.len()]
            })
            .take(12)
            .collect();
            for columns in 0..25 {
                let cut = fit(&text, columns);
                assert!(width(&cut) <= columns, "{text:?} in {columns}: {cut:?}");
                assert!(cut == text || cut.is_empty() || cut.ends_with(ELLIPSIS));
            }
        }
    }

    #[test]
    fn texts_are_aligned_by_columns() {
        assert_eq!(pad("構築", 6), "構築  ");
        assert_eq!(pad("web", 2), "web");
    }
}
