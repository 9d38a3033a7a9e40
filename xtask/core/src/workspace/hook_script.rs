//! Finds the interpreter of a hook script, and rejects scripts that it would misread.
//!
//! A script with Windows line endings may run half correctly: a shell takes the carriage
//! return as a part of the last word, so `mkdir generated` creates a folder of another name.
//! Only shells do this; other interpreters accept CRLF. In the first line, the kernel takes
//! the carriage return as a part of the interpreter's name. A script with binary data, such
//! as an appended archive, is only checked in its first line.

use std::path::Path;

/// Why a script cannot run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HookScriptError {
    /// It is binary, without a `#!` line that can be read.
    #[error("is not a script: begin it with a line such as '#!/bin/bash'")]
    NotAScript,
    /// A byte order mark precedes the first line, so the kernel does not recognize its `#!`.
    #[error("begins with a byte order mark (BOM): save it as UTF-8 without one")]
    ByteOrderMark,
    /// Its interpreter would take carriage returns as text.
    #[error(
        "has Windows line endings (CRLF): save it with LF, and add '*.sh text eol=lf' to .gitattributes"
    )]
    WindowsLineEndings {
        /// The first such line, starting at 1.
        line: usize,
    },
}

impl HookScriptError {
    /// The line at fault, starting at 1; `None` if the error concerns the whole file.
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::NotAScript => None,
            Self::ByteOrderMark => Some(1),
            Self::WindowsLineEndings { line } => Some(*line),
        }
    }
}

const SHELLS: [&str; 6] = ["sh", "bash", "dash", "ksh", "zsh", "ash"];

/// Programs that run the command named by their first argument that is not an option.
const RUNNERS: [&str; 2] = ["env", "busybox"];

/// The interpreter of a script and its argument, without the path of the script.
///
/// # Errors
/// The file is not a script, or its interpreter would misread it.
pub fn interpreter(script: &[u8]) -> Result<Vec<String>, HookScriptError> {
    if script.starts_with(b"\xef\xbb\xbf") {
        return Err(HookScriptError::ByteOrderMark);
    }
    let first = script.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let is_binary = script.contains(&0);
    let is_unreadable = first.starts_with(b"#!") && std::str::from_utf8(first).is_err();
    let line = std::str::from_utf8(first).ok().and_then(|line| line.strip_prefix("#!"));
    // Like the kernel: a path, and the rest of the line as one argument.
    let command = match line.map(str::trim).filter(|line| !line.is_empty()) {
        Some(line) => line.splitn(2, char::is_whitespace).map(|s| s.trim().to_owned()).collect(),
        // Text in any encoding: a shell does not ask.
        None if !is_binary && !is_unreadable => vec!["/bin/sh".to_owned()],
        None => return Err(HookScriptError::NotAScript),
    };
    let has_crlf = |line: &[u8]| line.ends_with(b"\r");
    let crlf = script.split(|byte| *byte == b'\n').position(has_crlf);
    let is_misread = |index| match index {
        0 if line.is_some() => true,
        _ => !is_binary && is_shell(&command),
    };
    match crlf.filter(|index| is_misread(*index)) {
        Some(index) => Err(HookScriptError::WindowsLineEndings { line: index + 1 }),
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
    fn only_interpreters_that_misread_carriage_returns_are_rejected() {
        let bad = |line| Err(HookScriptError::WindowsLineEndings { line });
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
            ("# comment\r\necho\n", bad(1)),
            ("printf 'a\rb'\n", ok(&["/bin/sh"])),
            ("\u{feff}#!/bin/sh\n", Err(HookScriptError::ByteOrderMark)),
            ("\u{feff}echo\n", Err(HookScriptError::ByteOrderMark)),
            ("\0", Err(HookScriptError::NotAScript)),
            ("", ok(&["/bin/sh"])),
        ] {
            assert_eq!(interpreter(script.as_bytes()), expected, "{script:?}");
        }
    }

    #[test]
    fn a_script_can_have_any_encoding_without_zero_bytes() {
        let shell = || Ok(vec!["/bin/sh".to_owned()]);
        for (script, expected) in [
            (&b"# caf\xe9\necho\n"[..], shell()),
            (b"echo \xb2\xe2\xca\xd4\n", shell()),
            (b"#!/bin/sh\necho \xe9\n", shell()),
            (b"#!/opt/caf\xe9/sh\n", Err(HookScriptError::NotAScript)),
            (b"# \xe9\n\0", Err(HookScriptError::NotAScript)),
            (b"# \xe9\necho\r\n", Err(HookScriptError::WindowsLineEndings { line: 2 })),
        ] {
            assert_eq!(interpreter(script), expected, "{}", script.escape_ascii());
        }
    }
}
