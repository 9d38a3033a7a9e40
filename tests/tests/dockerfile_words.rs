//! Random words of Dockerfiles, read by the engine and by us: where the engine takes a word,
//! we read the same, and where it does not, neither do we, or we leave it to the engine.
//!
//!     SEED=7 WORDS=500 cargo test -p tests --test dockerfile_words -- --nocapture

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::process::Command;

use fastrand::Rng;
use xtask_core::dockerfile::parser::{self, ParseError};

/// What random words are made of.
const PIECES: [&str; 40] = [
    "a",
    "b",
    "-",
    ".",
    "/",
    ":",
    "1",
    "\"",
    "\"",
    "'",
    "'",
    "\\",
    "\\\\",
    "\\\"",
    "$A",
    "$B",
    "$E",
    "$U",
    "$1a",
    "$A_",
    "${A}",
    "${E}",
    "${U}",
    "${A:-x}",
    "${U:-x}",
    "${U:-$B}",
    "${E:-'y'}",
    "${E:+no}",
    "${A:+\"z\"}",
    "${U:+q}",
    "${A:?no}",
    "\\$A",
    "$",
    "${",
    "}",
    "{",
    "@",
    "\"$A\"",
    "'$A'",
    "\"b c\"",
];

/// The `ARG`s in front of every word: one with a value, one with quotes, an empty one.
const ARGS: &str = "ARG A=one\nARG B=\"t.w.o\"\nARG E=\n";

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn random_word(rng: &mut Rng) -> String {
    let word: String =
        (0..rng.usize(1..7)).filter_map(|_| rng.choice(PIECES)).collect::<Vec<_>>().concat();
    word.replace(' ', "")
}

/// What we read a word as; none if we refuse it.
fn ours(word: &str) -> Result<String, String> {
    // A letter on both sides, as FROM takes no empty name.
    let text = format!("{ARGS}FROM x{word}y\n");
    match parser::parse(text.as_bytes(), &BTreeMap::new(), None) {
        Ok(read) => Ok(read.uses[0].reference.clone()),
        // Most words are no image references.
        Err(ParseError::Reference { reference, .. }) => Ok(reference),
        Err(error) => Err(error.to_string()),
    }
}

/// What the engine reads words as; none if it refuses one of them. Both of its builders use
/// the same lexer.
fn engines(words: &[&str]) -> Option<Vec<String>> {
    let dir = tempfile::tempdir().expect("a folder");
    let pairs = words.iter().enumerate().map(|(index, word)| format!(" l{index}=x{word}y"));
    let text = format!("FROM scratch\n{ARGS}LABEL{}\n", pairs.collect::<String>());
    fs::write(dir.path().join("Dockerfile"), text).unwrap();
    let mut build = Command::new("docker");
    build.env("DOCKER_BUILDKIT", "0").args(["build", "--quiet"]).arg(dir.path());
    let built = tests::engine::output_of_classic_build(&mut build);
    if !built.status.success() {
        let said = String::from_utf8_lossy(&built.stderr);
        let is_refused = ["failed to process", "syntax error", "unexpected end", "can't find ="];
        assert!(is_refused.iter().any(|it| said.contains(it)), "{words:?}: {said}");
        return None;
    }
    let id = String::from_utf8(built.stdout).expect("an id").trim().to_owned();
    let inspect = ["image", "inspect", "--format", "{{json .Config.Labels}}", &id];
    let labels = tests::engine::docker(&inspect);
    tests::engine::docker(&["image", "rm", &id]);
    let labels: BTreeMap<String, String> = serde_json::from_slice(&labels).expect("labels");
    Some((0..words.len()).map(|index| labels[&format!("l{index}")].clone()).collect())
}

#[test]
fn words_are_read_as_the_engine_reads_them() {
    let seed = number("SEED", fastrand::u64(0..1_000_000));
    eprintln!("SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let words: Vec<String> = (0..number("WORDS", 200))
        .map(|_| random_word(&mut rng))
        .filter(|it| !it.is_empty())
        .collect();
    let (taken, refused): (Vec<&String>, Vec<&String>) =
        words.iter().partition(|word| ours(word).is_ok());
    let taken: Vec<&str> = taken.into_iter().map(String::as_str).collect();
    assert!(!taken.is_empty() && !refused.is_empty(), "SEED={seed}");
    for group in taken.chunks(20) {
        let theirs: Vec<Option<String>> = match engines(group) {
            Some(values) => values.into_iter().map(Some).collect(),
            None => group.iter().map(|word| Some(engines(&[word])?.remove(0))).collect(),
        };
        for (word, theirs) in group.iter().zip(theirs) {
            let theirs = theirs.unwrap_or_else(|| ours(word).unwrap());
            assert_eq!(ours(word).unwrap(), theirs, "SEED={seed}: {word}");
        }
    }
    for word in refused.iter().take(20) {
        let theirs = engines(&[word]);
        assert_eq!(theirs, None, "SEED={seed}: {word}: we say: {:?}", ours(word));
    }
}
