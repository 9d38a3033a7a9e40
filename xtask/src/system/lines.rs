//! Splits chunks into lines in bounded memory: only the start of a long line is kept, with the
//! number of bytes that were omitted.

/// A line without its line feed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) bytes: Vec<u8>,
    /// The number of bytes after those.
    pub(crate) omitted: usize,
}

impl Line {
    /// The line as text, with the number of omitted bytes.
    pub(crate) fn text(&self) -> String {
        let mut bytes = self.bytes.as_slice();
        if self.omitted == 0 {
            return String::from_utf8_lossy(bytes).trim_end().to_owned();
        }
        // A character that was cut is omitted as a whole.
        if let Err(error) = std::str::from_utf8(bytes)
            && error.error_len().is_none()
        {
            bytes = &bytes[..error.valid_up_to()];
        }
        let omitted = self.omitted + self.bytes.len() - bytes.len();
        format!("{} … ({omitted} more bytes)", String::from_utf8_lossy(bytes))
    }
}

/// Splits chunks into lines.
#[derive(Debug)]
pub(crate) struct Lines {
    max_length: usize,
    incomplete: Line,
}

impl Lines {
    /// Keeps up to `max_length` bytes of a line.
    pub(crate) fn new(max_length: usize) -> Self {
        Self { max_length, incomplete: Line::default() }
    }

    /// Adds a chunk, and calls `on_line` for each line that ends in it.
    pub(crate) fn push(&mut self, chunk: &[u8], mut on_line: impl FnMut(Line)) {
        let mut parts = chunk.split(|byte| *byte == b'\n');
        let last = parts.next_back().unwrap_or_default();
        for part in parts {
            self.add(part);
            on_line(std::mem::take(&mut self.incomplete));
        }
        self.add(last);
    }

    /// The last line, if it has no line feed.
    pub(crate) fn end(&mut self) -> Option<Line> {
        let last = std::mem::take(&mut self.incomplete);
        (last != Line::default()).then_some(last)
    }

    fn add(&mut self, part: &[u8]) {
        let kept = part.len().min(self.max_length - self.incomplete.bytes.len());
        self.incomplete.bytes.extend_from_slice(&part[..kept]);
        self.incomplete.omitted += part.len() - kept;
    }
}

/// Cuts a text to `max_length` bytes.
pub(crate) fn shorten(text: String, max_length: usize) -> String {
    if text.len() <= max_length {
        return text;
    }
    let (bytes, omitted) = (text.as_bytes()[..max_length].to_vec(), text.len() - max_length);
    Line { bytes, omitted }.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(max_length: usize, chunks: &[&[u8]]) -> Vec<Line> {
        let (mut lines, mut found) = (Lines::new(max_length), Vec::new());
        for chunk in chunks {
            lines.push(chunk, |line| found.push(line));
            assert!(lines.incomplete.bytes.len() <= max_length);
        }
        found.extend(lines.end());
        assert_eq!(lines.end(), None);
        found
    }

    #[test]
    fn lines_are_found_wherever_chunks_end() {
        let text = b"one\r\n\ntwo\nthree";
        for size in 1..=text.len() {
            let found = lines(5, &text.chunks(size).collect::<Vec<_>>());
            let found: Vec<String> = found.iter().map(Line::text).collect();
            assert_eq!(found, ["one", "", "two", "three"]);
        }
    }

    #[test]
    fn the_start_of_a_long_line_is_kept() {
        let text = b"1234\n1234567\n12";
        for size in 1..=text.len() {
            let found = lines(4, &text.chunks(size).collect::<Vec<_>>());
            let found: Vec<String> = found.iter().map(Line::text).collect();
            assert_eq!(found, ["1234", "1234 … (3 more bytes)", "12"]);
        }
    }

    #[test]
    fn characters_are_not_cut() {
        assert_eq!(shorten("aé€x".to_owned(), 5), "aé … (4 more bytes)");
        assert_eq!(shorten("aé".to_owned(), 3), "aé");
        let odd = Line { bytes: b"a\xffb".to_vec(), omitted: 1 };
        assert_eq!(odd.text(), "a\u{fffd}b … (1 more bytes)");
    }
}
