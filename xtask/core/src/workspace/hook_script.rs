//! How a hook is run: what its first line says, and whether its interpreter can read it.
//!
//! A script that was saved on Windows looks right and runs half: its commands get a
//! carriage return at their end, and `mkdir generated` makes another folder. Only shells
//! read it so; others take such lines as they are meant. The kernel takes it for a part of
//! the interpreter's name. What a script carries behind its text, as an archive that it
//! unpacks, is not looked at.

use std::path::Path;

/// Why a script is not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HookScriptError {
    /// It is neither a program nor a text.
    #[error("is not a script: begin it with a line such as '#!/bin/bash'")]
    NotAScript,
    /// Nothing is the first line but what begins with `#!`.
    #[error("begins with a byte order mark (BOM): save it as UTF-8 without one")]
    ByteOrderMark,
    /// What reads it takes the carriage returns for text.
    #[error(
        "has Windows line ends (CRLF): save it with LF, and add '*.sh text eol=lf' to .gitattributes"
    )]
    WindowsLineEnds {
        /// The first such line, from 1.
        line: usize,
    },
}

impl HookScriptError {
    /// The line to blame, from 1.
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::NotAScript => None,
            Self::ByteOrderMark => Some(1),
            Self::WindowsLineEnds { line } => Some(*line),
        }
    }
}

const SHELLS: [&str; 6] = ["sh", "bash", "dash", "ksh", "zsh", "ash"];

/// These run the first of their arguments that is a name.
const RUNNERS: [&str; 2] = ["env", "busybox"];

/// The command that runs a script, but for the script itself.
///
/// # Errors
/// It is no script, or what runs it would read it wrong.
pub fn interpreter(script: &[u8]) -> Result<Vec<String>, HookScriptError> {
    if script.starts_with(b"\xef\xbb\xbf") {
        return Err(HookScriptError::ByteOrderMark);
    }
    let first = script.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let is_binary = script.contains(&0);
    let is_text = !is_binary && std::str::from_utf8(script).is_ok();
    let line = std::str::from_utf8(first).ok().and_then(|line| line.strip_prefix("#!"));
    // As the kernel reads it: a path, and all the rest as one argument.
    let command = match line.map(str::trim).filter(|line| !line.is_empty()) {
        Some(line) => line.splitn(2, char::is_whitespace).map(|s| s.trim().to_owned()).collect(),
        None if is_text => vec!["/bin/sh".to_owned()],
        None => return Err(HookScriptError::NotAScript),
    };
    let is_bad = |line: &[u8]| line.ends_with(b"\r");
    let bad = script.split(|byte| *byte == b'\n').position(is_bad);
    let is_refused = |place| match place {
        0 if line.is_some() => true,
        _ => !is_binary && is_shell(&command),
    };
    match bad.filter(|place| is_refused(*place)) {
        Some(place) => Err(HookScriptError::WindowsLineEnds { line: place + 1 }),
        None => Ok(command),
    }
}

fn is_shell(command: &[String]) -> bool {
    let name = |program: &str| {
        let name = Path::new(program).file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    };
    let mut words = command.iter().flat_map(|word| word.split_whitespace());
    let Some(program) = words.next().map(name) else { return false };
    if !RUNNERS.contains(&program.as_str()) {
        return SHELLS.contains(&program.as_str());
    }
    let is_option = |word: &&str| word.starts_with('-') || word.contains('=');
    words.find(|word| !is_option(word)).is_some_and(|word| SHELLS.contains(&name(word).as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_reads_carriage_returns_as_text_is_refused() {
        let bad = |line| Err(HookScriptError::WindowsLineEnds { line });
        let ok = |words: &[&str]| Ok(words.iter().map(|word| (*word).to_owned()).collect());
        for (script, expected) in [
            ("#!/bin/bash -e\necho\n", ok(&["/bin/bash", "-e"])),
            ("echo\n", ok(&["/bin/sh"])),
            ("#!/bin/bash\r\necho\r\n", bad(1)),
            ("#!/usr/bin/python3\r\npass\n", bad(1)),
            ("#!/usr/bin/python3\npass\r\n", ok(&["/usr/bin/python3"])),
            ("#!/usr/bin/env python3\npass\r\n", ok(&["/usr/bin/env", "python3"])),
            ("#!/bin/sh\n\necho\r\n", bad(3)),
            ("#!/bin/dash\necho\r", bad(2)),
            ("#!/usr/bin/env bash\necho\r\n", bad(2)),
            ("#!/usr/bin/env -S A=b zsh -e\necho\r\n", bad(2)),
            ("#!/bin/busybox ash\necho\r\n", bad(2)),
            ("#!/bin/sh\nexit\n\0\r\n", ok(&["/bin/sh"])),
            ("#!/bin/sh\r\nexit\n\0\r\n", bad(1)),
            ("# no program\r\necho\n", bad(1)),
            ("printf 'a\rb'\n", ok(&["/bin/sh"])),
            ("\u{feff}#!/bin/sh\n", Err(HookScriptError::ByteOrderMark)),
            ("\u{feff}echo\n", Err(HookScriptError::ByteOrderMark)),
            ("\0", Err(HookScriptError::NotAScript)),
            ("", ok(&["/bin/sh"])),
        ] {
            assert_eq!(interpreter(script.as_bytes()), expected, "{script:?}");
        }
    }
}
