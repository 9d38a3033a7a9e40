//! The lines that a process writes, read in bounded memory.

use std::io::{self, ErrorKind};

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// Longer lines are cut.
const MAX_LINE: usize = 64 << 10;

/// The next line, if there is one, in bounded memory.
pub(crate) async fn next_line(
    reader: &mut (impl AsyncBufRead + Unpin),
) -> io::Result<Option<String>> {
    let (mut line, mut omitted, mut is_complete) = (Vec::new(), 0, false);
    while !is_complete {
        let read = match reader.fill_buf().await {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read?,
        };
        if read.is_empty() {
            break;
        }
        let end = read.iter().position(|byte| *byte == b'\n');
        let more = &read[..end.unwrap_or(read.len())];
        let kept = more.len().min(MAX_LINE - line.len());
        line.extend_from_slice(&more[..kept]);
        omitted += more.len() - kept;
        is_complete = end.is_some();
        let used = more.len() + usize::from(is_complete);
        reader.consume(used);
    }
    if line.is_empty() && !is_complete {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&line);
    Ok(Some(match omitted {
        0 => text.trim_end().to_owned(),
        // The cut may be in the middle of a character.
        _ => format!("{} … ({omitted} more bytes)", text.trim_end_matches('\u{fffd}')),
    }))
}

#[cfg(test)]
mod tests {
    use tokio::io::BufReader;

    use super::*;

    async fn lines(output: &[u8]) -> Vec<String> {
        let mut reader = BufReader::with_capacity(1000, output);
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut reader).await.unwrap() {
            lines.push(line);
        }
        lines
    }

    #[tokio::test]
    async fn only_the_start_of_a_long_line_is_kept() {
        assert_eq!(lines(b"one\r\n\nthree").await, ["one", "", "three"]);
        let longest = "x".repeat(MAX_LINE);
        assert_eq!(lines(format!("{longest}\nend\n").as_bytes()).await, [&longest, "end"]);
        let cut = "x".repeat(MAX_LINE - 1);
        let found = lines(format!("{cut}\u{e4}bcd\nend\n").as_bytes()).await;
        assert_eq!(found, [format!("{cut} … (4 more bytes)"), "end".to_owned()]);
    }
}
