//! The shell command that reproduces a failure.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::str;

use crate::program;

use xtask_core::escape;

/// The options of the build that affect its result.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options(Vec<(&'static str, Option<OsString>)>);

impl Options {
    /// Adds a flag if it was given.
    pub(crate) fn flag(&mut self, name: &'static str, is_given: bool) {
        if is_given {
            self.0.push((name, None));
        }
    }

    /// Adds an option with a value, if it was given.
    pub(crate) fn value(&mut self, name: &'static str, value: Option<impl Into<OsString>>) {
        if let Some(value) = value {
            self.0.push((name, Some(value.into())));
        }
    }
}

/// The command that builds a component with the same options.
pub(crate) fn command(component: &str, options: &Options) -> String {
    let program = program::name();
    let mut command = format!("{program} build{}", option("-s", OsStr::new(component)));
    for (name, value) in &options.0 {
        match value {
            Some(value) => command.push_str(&option(name, value)),
            None => command.push_str(&format!(" {name}")),
        }
    }
    command
}

/// A value that begins with `-` needs `=`, or it would be taken for an option.
fn option(name: &str, value: &OsStr) -> String {
    let separator = if value.as_bytes().starts_with(b"-") { '=' } else { ' ' };
    format!(" {name}{separator}{}", quoted(value.as_bytes()))
}

/// Quotes a word for a shell. A word with control characters takes POSIX's `$'…'` form, in
/// which bytes can be written as octal escapes.
fn quoted(word: &[u8]) -> Cow<'_, str> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(byte);
    match str::from_utf8(word) {
        Ok(shown) if !word.is_empty() && word.iter().all(is_plain) => shown.into(),
        Ok(shown) if !shown.contains(escape::is_control) => {
            format!("'{}'", shown.replace('\'', "'\\''")).into()
        }
        _ => format!("$'{}'", octal_escaped(word)).into(),
    }
}

fn octal_escaped(word: &[u8]) -> String {
    let octal = |byte: &u8| format!("\\{byte:03o}");
    let mut out = String::new();
    for chunk in word.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '\'' | '\\' => out.extend(['\\', letter]),
                _ if escape::is_control(letter) => {
                    let bytes = letter.to_string().into_bytes();
                    out.extend(bytes.iter().map(octal));
                }
                _ => out.push(letter),
            }
        }
        out.extend(chunk.invalid().iter().map(octal));
    }
    out
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn plain_words_stay_as_they_are() {
        let mut options = Options::default();
        options.value("-c", Some("../config"));
        options.value("--flavor", None::<&str>);
        options.flag("--whole-context", true);
        options.flag("--pull", false);
        assert_eq!(
            command("web", &options),
            "cargo xtask build -s web -c ../config --whole-context"
        );
        assert_eq!(command("-x", &Options::default()), "cargo xtask build -s=-x");
    }

    #[test]
    fn a_shell_reads_every_word_as_it_was() {
        let words: [&[u8]; 9] = [
            b"",
            b"two words",
            b"x $(touch pwned) `id` \"\\",
            b"it's",
            b"it's \\ a\nbreak \x1b[2J\x07",
            b"\xff\x80 not UTF-8",
            "ä 漢".as_bytes(),
            "\u{202e}7 \u{9b}".as_bytes(),
            b"a;b|c&d>e*?[!]{}~#",
        ];
        for word in words {
            let quoted = quoted(word);
            assert!(!quoted.contains(escape::is_control), "{quoted}");
            let mut bash = Command::new("bash");
            bash.args(["-c", &format!("printf %s {quoted}")]);
            assert_eq!(bash.output().unwrap().stdout, word, "{quoted}");
        }
    }
}
