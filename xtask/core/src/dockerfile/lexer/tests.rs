use super::*;

fn read(word: &str) -> Result<String, LexError> {
    let value = |name: &str| match name {
        "A" => Value::Set("one.two.three".to_owned()),
        "E" => Value::Set(String::new()),
        "LONG" => Value::Set("x".repeat(MAX_MATCHED + 1)),
        "SECRET" => Value::Uncertain,
        _ => Value::Unset,
    };
    expand(word, '\\', value)
}

#[test]
fn variables_are_expanded_with_all_modifiers() {
    for (word, expected) in [
        ("$A-$1abc-$-x-$E.", "one.two.three-abc-x-."),
        ("${A#*.}", "two.three"),
        ("${A##*.}", "three"),
        ("${A%.*}", "one.two"),
        ("${A%%.*}", "one"),
        ("${A#two}", "one.two.three"),
        ("${A#???}", ".two.three"),
        ("${A/t*e/X}", "one.X"),
        ("${A//./}", "onetwothree"),
        ("${A/./-}", "one-two.three"),
        ("${A//[.]/-}", "one.two.three"),
        ("${A/\\?/-}", "one.two.three"),
        ("${A//*/x}${E/*/x}${E/y/x}", "xx"),
        ("${U-a b}${U:-$A}", "a bone.two.three"),
        ("${E-no}${E:-\"q\"}${E+s}${E:+no}${A:?no}", "qsone.two.three"),
        ("'$A'\"$A\"\\$A", "$Aone.two.three$A"),
        ("\"a\\b\\\"\\$\\\\\"a\\b", "a\\b\"$\\ab"),
        ("a\\", "a"),
        ("$", "$"),
    ] {
        assert_eq!(read(word).as_deref(), Ok(expected), "{word}");
    }
}

#[test]
fn what_cannot_be_read_is_an_error_and_takes_no_long_time() {
    for (word, expected) in [
        ("${A", LexError::Unclosed('}')),
        ("\"a", LexError::Unclosed('"')),
        ("${A/x}", LexError::Unclosed('/')),
        ("${A:=x}", LexError::BadSubstitution("${A:=".to_owned())),
        ("${:-x}", LexError::BadSubstitution("${:".to_owned())),
        ("$SECRET", LexError::Uncertain),
        ("${LONG//?x/y}", LexError::PatternTooLong),
    ] {
        assert_eq!(read(word), Err(expected), "{word}");
    }
    let pattern = "?".repeat(MAX_MATCHED);
    assert_eq!(read(&format!("${{A//{pattern}/y}}")).as_deref(), Ok("one.two.three"));
    let longer = format!("${{A%{pattern}?}}");
    assert_eq!(read(&longer), Err(LexError::PatternTooLong));
}

/// `buildkit.txt` is described in its first lines.
#[test]
fn words_are_what_buildkit_makes_of_them() {
    let rows = include_str!("buildkit.txt").lines().filter(|line| !line.starts_with('#'));
    let (mut count, mut wrong) = (0, Vec::new());
    for row in rows {
        let (escape, word, expected): (char, String, Option<String>) =
            serde_json::from_str(row).unwrap();
        let value = |name: &str| match name {
            "A" => Value::Set("one.two.three".to_owned()),
            "E" => Value::Set(String::new()),
            _ => Value::Unset,
        };
        let found = expand(&word, escape, value);
        if found.as_ref().ok() != expected.as_ref() {
            wrong.push(format!("{row}: {found:?}"));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 300);
}
