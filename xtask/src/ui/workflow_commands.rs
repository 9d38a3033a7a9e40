//! Text that is safe to print on a terminal, and where the GitHub Actions runner reads it.

use console::measure_text_width;
use xtask_core::escape;

/// Invisible except at a line break, although its measured width is not zero.
const SOFT_HYPHEN: char = '\u{ad}';

/// Makes text safe to print: no control characters except colors, and no workflow commands
/// on GitHub Actions.
pub(crate) fn shown(text: &str, is_github: bool) -> String {
    let text = escape::styled(text);
    if is_github { inert(&text) } else { text.into_owned() }
}

/// Defuses workflow commands in a text. The runner obeys `::` at the start of a line, after
/// whitespace and zero-width characters, and `##[command]` anywhere in a line.
pub(crate) fn inert(text: &str) -> String {
    let lines = text.split('\n').map(|line| {
        let is_visible = |letter: &char| {
            let width = measure_text_width(letter.encode_utf8(&mut [0; 4]));
            letter.is_whitespace() || (width > 0 && *letter != SOFT_HYPHEN)
        };
        let visible: String = line.chars().filter(is_visible).collect();
        let is_command = visible.trim_start().starts_with("::");
        if is_command { line.replacen(':', "\\:", 1) } else { line.to_owned() }
    });
    lines.collect::<Vec<_>>().join("\n").replace("##[", "##\\[")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether GitHub's runner obeys a line (`ActionCommand.TryParseV2` and `TryParse`).
    fn is_obeyed(line: &str) -> bool {
        let visible: String =
            line.chars().filter(|letter| !"\u{ad}\u{200b}".contains(*letter)).collect();
        visible.trim_start().starts_with("::") || line.contains("##[")
    }

    #[test]
    fn no_line_is_a_command() {
        let commands = [
            "::error::x",
            "  \t ::add-mask::x",
            "\u{a0}\u{3000}::x",
            "\u{200b}:\u{ad}:x",
            "a\n::b\n  ::c",
            "at any place ##[error]x ##[group]",
            ":::x",
        ];
        for text in commands {
            assert!(text.lines().any(is_obeyed), "{text}");
            assert!(!inert(text).lines().any(is_obeyed), "{}", inert(text));
        }
        assert_eq!(inert("  ::x"), "  \\::x");
        let harmless = "a ::b\n: :c\n# #[d]\n\u{1b}[31m::e\n:\n";
        assert_eq!(inert(harmless), harmless);
    }
}
