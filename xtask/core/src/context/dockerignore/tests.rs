//! Cases from Docker's documentation and from moby's `patternmatcher`, and edge cases.

use super::Dockerignore;

/// The text of a file, paths that it ignores, and paths that it keeps.
type Case = (&'static str, &'static [&'static str], &'static [&'static str]);

fn check(cases: &[Case]) {
    for (text, ignored, kept) in cases {
        let ignore = Dockerignore::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        for path in *ignored {
            assert!(ignore.ignores(path), "{text:?} must ignore {path:?}");
        }
        for path in *kept {
            assert!(!ignore.ignores(path), "{text:?} must keep {path:?}");
        }
    }
}

#[test]
fn lines_are_parsed_like_docker_parses_them() {
    check(&[
        ("", &[], &["a", "a/b"]),
        ("\u{feff}a", &["a"], &[]),
        ("a\n\u{feff}b", &[], &["b"]),
        ("# a\n #b", &["#b"], &["# a", "a"]),
        ("\u{feff}#a", &[], &["#a", "a"]),
        ("  a  \r\n\r\n\t\nb\r\n", &["a", "b"], &["c"]),
        ("a b", &["a b"], &["a", "b"]),
        ("*\n! a", &["b"], &["a"]),
        ("*\n  !a  ", &["b"], &["a"]),
        ("*\n/!a", &["b", "!a"], &["a"]),
        ("*\n!!a", &["a"], &["!a"]),
        ("/ a", &["a"], &[" a"]),
        ("/ /", &[], &["a", " "]),
    ]);
}

#[test]
fn paths_are_cleaned() {
    check(&[
        ("/a/", &["a", "a/b"], &["b/a"]),
        ("//a", &["a"], &[]),
        ("./a/../b", &["b"], &["a"]),
        ("a//./b", &["a/b"], &["a"]),
        ("/../a", &["a"], &[]),
        ("../a", &[], &["a"]),
        (".", &[], &["a", "a/b"]),
        ("/", &[], &["a", "a/b"]),
        ("a\n!.", &["a"], &[]),
        ("a/..", &[], &["a"]),
        ("**/", &["a", "a/b"], &[]),
    ]);
}

#[test]
fn documented_patterns_match_as_documented() {
    check(&[
        ("*/temp*", &["a/temp", "a/temp.txt", "a/temp/x"], &["temp", "a/b/temp"]),
        ("*/*/temp*", &["a/b/temp.txt"], &["a/temp", "temp"]),
        ("temp?", &["tempa", "tempb/x"], &["temp", "a/tempa", "tempab"]),
        ("**/*.go", &["x.go", "a/x.go", "a/b/x.go"], &["x.goo"]),
        ("*.md\n!README.md", &["x.md"], &["README.md"]),
        (
            "*.md\n!README*.md\nREADME-secret.md",
            &["x.md", "README-secret.md"],
            &["README.md", "README-x.md"],
        ),
        ("*.md\nREADME-secret.md\n!README*.md", &["x.md"], &["README.md", "README-secret.md"]),
        ("*", &["a", "a/b", ".a"], &[]),
    ]);
}

#[test]
fn two_stars_match_any_number_of_folders() {
    check(&[
        ("**", &["a", "a/b"], &[]),
        ("**/**", &["a", "a/b"], &[]),
        ("a/**", &["a/b", "a/b/c"], &["a", "b", "ab/c"]),
        ("a**", &["a", "ab", "ab/c"], &["b", "b/a"]),
        ("a/**/b", &["a/b", "a/x/b", "a/x/y/b", "a/x/b/c"], &["b", "a/xb"]),
        ("**/a", &["a", "b/a", "b/c/a", "a/b"], &["ba", "b/ca"]),
        ("**a", &["a", "ba", "b/a", "b/ca"], &["ab"]),
        ("**a*", &["a", "ab", "b/ab"], &["ba", "b/ca"]),
        ("a**b", &["ab", "ax/b", "a/b", "ax/y/b"], &["axb", "ax/yb", "a"]),
        ("a**/*.txt", &["a/x.txt", "a/d/x.txt", "ab/x.txt", "ax.txt"], &["b/x.txt"]),
        ("**/a/*", &["a/x", "b/a/x"], &["a", "b/a"]),
        ("**/a/**", &["a/x", "b/a/x/y"], &["a", "b/a"]),
        ("**/**/*.txt", &["x.txt", "d/e/x.txt"], &["x.txt2"]),
        ("**/.a", &[".a", "b/.a"], &["b.a"]),
        ("a/*.txt**", &["a/x.txt", "a/x.txt.d/y"], &["a/d/x.txt"]),
        ("a***b", &["ab", "axb", "ax/yb"], &["ba"]),
    ]);
}

#[test]
fn names_match_as_in_go() {
    check(&[
        ("a*b?c*x", &["abxbbxdbxebxczzx"], &["abxbbxdbxebxczzy"]),
        ("a*/b", &["abc/b"], &["a/c/b"]),
        ("a*b", &["ab", "axb"], &["a/b"]),
        ("a?b", &["axb", "a☺b"], &["a/b", "ab"]),
        ("a???b", &["axyzb"], &["a☺b"]),
        ("a[b-d]e", &["ace"], &["ae", "aae"]),
        ("a[^b-d]e", &["aze", "a☺e", "a/e"], &["ace"]),
        ("a[!b]", &["a!", "ab"], &["ac"]),
        ("[a-ζ]*", &["α", "a"], &["A"]),
        ("[\\]a]", &["]", "a"], &["\\"]),
        ("[x\\-]", &["x", "-"], &["z"]),
        ("[\\*\\?]", &["*", "?"], &["a"]),
        ("[[]", &["["], &["]"]),
        ("[^^]", &["a"], &["^"]),
        ("a]", &["a]"], &["a"]),
        ("a\\*b", &["a*b"], &["ab", "axb"]),
        ("a\\\\", &["a\\"], &["a"]),
        ("\\#a\n\\!b", &["#a", "!b"], &["b"]),
        ("{a,b}", &["{a,b}"], &["a", "b"]),
        ("a.)$(}+{bc*", &["a.)$(}+{bc", "a.)$(}+{bcd"], &["axbc"]),
        (r"a\|b*\{2}", &["a|bc{2}"], &["a", "bc{2}", "a|bcc"]),
        ("a|b{2}", &["a|b{2}"], &["a", "bb"]),
        (".*", &[".a"], &["a"]),
        ("a^b", &["a^b"], &["ab"]),
    ]);
}

#[test]
fn the_last_match_wins_and_a_folder_includes_its_contents() {
    check(&[
        ("!a\n*", &["a"], &[]),
        ("a\n!a/b", &["a", "a/x"], &["a/b", "a/b/c"]),
        ("a\n!a/b\na/b/c", &["a/x", "a/b/c", "a/b/c/d"], &["a/b", "a/b/d"]),
        ("**\n!a/b", &["a", "b"], &["a/b/c"]),
        ("a/*\n!a/b", &["a/x"], &["a", "a/b"]),
        ("a/b\n!a", &["a/b", "a/b/c"], &["a"]),
        ("a\n!**/x", &["a", "a/b"], &["a/x", "a/b/x"]),
    ]);
}

#[test]
fn an_ignored_folder_is_walked_only_if_an_exception_may_apply_in_it() {
    let cases: &[Case] = &[
        ("*", &[], &["a", "a/b"]),
        ("*\n!a/b/c\n!x*/y", &["a", "a/b", "x", "xx"], &["b", "a/c", "yy", "a/b/d"]),
        ("*\n!**/x", &["a", "a/b"], &[]),
        ("*\n!a/**", &["a", "a/b"], &["b"]),
        ("*\n!a?/b", &["ab"], &["a", "abc"]),
        ("*\n!a", &[], &["b", "ab"]),
        ("!a/b\n*", &[], &["a"]),
        ("*\n!a/b\na/b\n!a/b/c/d", &["a", "a/b", "a/b/c"], &["a/b/d"]),
    ];
    for (text, walked, skipped) in cases {
        let ignore = Dockerignore::parse(text).unwrap();
        for folder in *walked {
            assert!(ignore.may_keep_below(folder), "{text:?} may keep below {folder}");
        }
        for folder in *skipped {
            assert!(!ignore.may_keep_below(folder), "{text:?} keeps nothing below {folder}");
        }
    }
}

#[test]
fn an_invalid_pattern_is_reported_with_its_line() {
    let error = Dockerignore::parse("a\n\n [b\n").unwrap_err();
    assert_eq!(error.line, 3);
    assert_eq!(error.to_string(), "invalid pattern '[b': '[' has no matching ']'");
    let bad = [
        "[", "[^", "[^bc", "a[", "[]a]", "[]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[z-a]", "\\",
        "a\\", "[\\", "[a\\", "!", "! ", "!/", "![a",
    ];
    for text in bad {
        assert!(Dockerignore::parse(text).is_err(), "Docker rejects {text:?}");
    }
}

#[test]
fn patterns_that_change_meaning_as_regular_expressions_are_rejected() {
    let leaks = [
        r"a\d",
        r"a\é",
        "[*]",
        "[a?]",
        "[[:alpha:]]",
        "^a*",
        "a]^",
        r"**\.^",
        "*.a|*.b",
        "a{2}?",
        "a\n!\u{feff}*.a",
    ];
    for text in leaks {
        assert!(Dockerignore::parse(text).is_err(), "{text:?} must be rejected");
    }
}

#[test]
fn random_cases_agree_with_docker() {
    let mut paths: Vec<String> = Vec::new();
    for line in include_str!("docker.txt").lines().filter(|line| !line.starts_with('#')) {
        if line.starts_with('[') {
            paths = serde_json::from_str(line).unwrap();
            continue;
        }
        let (kept, text) = line.split_once(' ').unwrap();
        let text: String = serde_json::from_str(text).unwrap();
        match Dockerignore::parse(&text) {
            Ok(ignore) => agrees(&ignore, &text, &paths, kept),
            Err(error) => assert_eq!(kept, "refused", "{text:?}: {error}"),
        }
    }
}

/// Checks a row of `docker.txt`; the format is described there.
fn agrees(ignore: &Dockerignore, text: &str, paths: &[String], kept: &str) {
    let kept = u64::from_str_radix(kept, 16);
    let kept = kept.unwrap_or_else(|_| panic!("{text:?} is accepted, but Docker rejects it"));
    for (bit, path) in paths.iter().rev().enumerate() {
        let is_kept = kept >> bit & 1 == 1;
        assert_eq!(!ignore.ignores(path), is_kept, "whether {text:?} keeps {path:?}");
        let mut above = path.match_indices('/').map(|(end, _)| &path[..end]);
        let is_walked = above.all(|above| !ignore.ignores(above) || ignore.may_keep_below(above));
        assert!(!is_kept || is_walked, "with {text:?}, the walk must reach {path:?}");
    }
}

#[test]
fn no_text_causes_a_panic() {
    let alphabet = ['a', 'é', '/', '*', '?', '[', ']', '^', '-', '\\', '!', '.', ' ', '\n'];
    let mut seed: u64 = 1;
    let mut text = || -> String {
        let mut next = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(seed >> 33).unwrap()
        };
        (0..next() % 9).map(|_| alphabet[next() % alphabet.len()]).collect()
    };
    for _ in 0..20_000 {
        if let Ok(ignore) = Dockerignore::parse(&text()) {
            let path = text();
            let _ = ignore.ignores(&path);
            let _ = ignore.may_keep_below(&path);
        }
    }
}
