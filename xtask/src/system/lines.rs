//! Lines in what comes in pieces, in bounded memory: of a line that is too long only the
//! beginning is kept, and how much more there was.

/// A line without its line feed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    /// It, or its beginning.
    pub(crate) bytes: Vec<u8>,
    /// How many bytes it had beyond that.
    pub(crate) more: usize,
}

impl Line {
    /// It as text, which says how much is missing.
    pub(crate) fn text(&self) -> String {
        let mut bytes = self.bytes.as_slice();
        if self.more == 0 {
            return String::from_utf8_lossy(bytes).trim_end().to_owned();
        }
        // A character that was cut is left out as a whole.
        if let Err(error) = std::str::from_utf8(bytes)
            && error.error_len().is_none()
        {
            bytes = &bytes[..error.valid_up_to()];
        }
        let more = self.more + self.bytes.len() - bytes.len();
        format!("{} … ({more} more bytes)", String::from_utf8_lossy(bytes))
    }
}

/// The line that has begun.
#[derive(Debug)]
pub(crate) struct Lines {
    longest: usize,
    begun: Line,
}

impl Lines {
    /// Keeps so many bytes of a line.
    pub(crate) fn new(longest: usize) -> Self {
        Self { longest, begun: Line::default() }
    }

    /// Takes a piece, and gives the lines that end in it to `ended`.
    pub(crate) fn push(&mut self, piece: &[u8], mut ended: impl FnMut(Line)) {
        let mut parts = piece.split(|byte| *byte == b'\n');
        let last = parts.next_back().unwrap_or_default();
        for part in parts {
            self.add(part);
            ended(std::mem::take(&mut self.begun));
        }
        self.add(last);
    }

    /// What is left at the end.
    pub(crate) fn end(&mut self) -> Option<Line> {
        let left = std::mem::take(&mut self.begun);
        (left != Line::default()).then_some(left)
    }

    fn add(&mut self, part: &[u8]) {
        let kept = part.len().min(self.longest - self.begun.bytes.len());
        self.begun.bytes.extend_from_slice(&part[..kept]);
        self.begun.more += part.len() - kept;
    }
}

/// A text without what is beyond so many bytes.
pub(crate) fn shorten(text: String, longest: usize) -> String {
    if text.len() <= longest {
        return text;
    }
    let (bytes, more) = (text.as_bytes()[..longest].to_vec(), text.len() - longest);
    Line { bytes, more }.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(longest: usize, pieces: &[&[u8]]) -> Vec<Line> {
        let (mut lines, mut found) = (Lines::new(longest), Vec::new());
        for piece in pieces {
            lines.push(piece, |line| found.push(line));
            assert!(lines.begun.bytes.len() <= longest);
        }
        found.extend(lines.end());
        assert_eq!(lines.end(), None);
        found
    }

    #[test]
    fn lines_are_found_wherever_pieces_end() {
        let text = b"one\r\n\ntwo\nthree";
        for size in 1..=text.len() {
            let found = lines(5, &text.chunks(size).collect::<Vec<_>>());
            let found: Vec<String> = found.iter().map(Line::text).collect();
            assert_eq!(found, ["one", "", "two", "three"]);
        }
    }

    #[test]
    fn of_a_line_that_is_too_long_the_beginning_is_kept() {
        let text = b"1234\n1234567\n12";
        for size in 1..=text.len() {
            let found = lines(4, &text.chunks(size).collect::<Vec<_>>());
            let found: Vec<String> = found.iter().map(Line::text).collect();
            assert_eq!(found, ["1234", "1234 … (3 more bytes)", "12"]);
        }
    }

    #[test]
    fn no_character_is_cut_in_two() {
        assert_eq!(shorten("aé€x".to_owned(), 5), "aé … (4 more bytes)");
        assert_eq!(shorten("aé".to_owned(), 3), "aé");
        let odd = Line { bytes: b"a\xffb".to_vec(), more: 1 };
        assert_eq!(odd.text(), "a\u{fffd}b … (1 more bytes)");
    }
}
