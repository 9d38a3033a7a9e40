//! BuildKit as the oracle of how a Dockerfile is read: what it makes of words and of whole
//! files becomes the tables that the lexer's and the parser's own tests read.
//!
//! With an engine since 26 (`DOCKER_HOST`) and a docker CLI with buildx in `PATH`:
//!
//!     cargo test -p tests --test dockerfile_tables -- --ignored --nocapture

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use fastrand::Rng;
use serde_json::{Value, json};
use tests::engine::{cli_with_buildkit, docker};
use tests::repository;

const WORDS: &str = "xtask/core/src/dockerfile/lexer/buildkit.txt";
const FILES: &str = "xtask/core/src/dockerfile/syntax/buildkit.txt";

const WORDS_HEAD: &str = r#"# What BuildKit makes of words. Written by
#     cargo test -p tests --test dockerfile_tables -- --ignored
# and checked by the lexer's tests.
#
# Each line has the escape character, the word, and its value, or null if BuildKit refuses
# it. A is 'one.two.three', E is empty, and no other variable is set.
"#;

const FILES_HEAD: &str = r#"# What BuildKit makes of Dockerfiles. Written by
#     cargo test -p tests --test dockerfile_tables -- --ignored
# and checked by the parser's tests.
#
# Each line has a Dockerfile, and the keywords of its last stage's instructions, or null if
# BuildKit refuses it.
"#;

/// What may follow a name in `${NAME…}`.
#[rustfmt::skip]
const MODIFIERS: [&str; 41] = [
    "", ":-w", "-w", ":-", ":+w", "+w", ":+", ":?w", "?w", ":-$A", ":-${A}", "-'q'", ":+\"q r\"",
    "#*.", "##*.", "%.*", "%%.*", "#one", "%three", "#?", "##", "#[o]", "%[a-z]", "/two/2", "//e/E",
    "/./-", "//./-", "/t*e/X", "//?/z", "/\\./-", "//\\*/-", "/x/y", "/o/", "^", "^^", ",", ":=w",
    ":w", "@Q", "/two/$A", "/${E}one/b",
];

/// Words with quotes, escapes and dollars wherever they may be.
#[rustfmt::skip]
const ODD: [&str; 90] = [
    "\"\"", "''", "a\"b\"c", "a'b'c", "\"a'b\"", "'a\"b'", "\"a\\\"b\"", "'a\\'", "\"a\\b\"",
    "a\\b", "\\\\", "\"\\\\\"", "'\\\\'", "\\a", "\\\"", "\\'", "\"", "'", "a\"b", "a'b", "$", "$$",
    "$$A", "\"$\"", "$1", "$1abc", "$9", "$10", "$@", "$*", "$#", "$?", "$-", "$!", "$0", "${1}",
    "${10}", "${@}", "${}", "${", "${A", "${A:", "${A:-", "${A:-w", "${A:-'w}", "${A:-\"w}",
    "${:-w}", "${A.b}", "${A-${U-${E-x}}}", "${U-${U-${U-x}}}", "${U:-\\}}", "${U:-'}'}",
    "${U:-\"}\"}", "${U:-{}", "${U:-{}}", "${A/\\//-}", "${A/one\\.two/x}", "${A//[.]/_}",
    "${A//[^.]/_}", "${A/\"two\"/x}", "${A/'.'/x}", "${A#\"one\"}", "${A%'three'}", "${A%%t*}",
    "${A##*t}", "${A#*t}", "${A%t*}", "$A$E$U", "$A/$A", "${A}${E}${U}", "{A}", "A}", "#", "a#b",
    "é", "${é}", "\\é", "\"$A'$E'\"", "'$A'\"$A\"$A", "~", "*", "?", "[a]", "a=b", "=", "a,b",
    "`a`", "`", "\"`\"", "`$A",
];

/// What random words are made of.
#[rustfmt::skip]
const PIECES: [&str; 29] = [
    "a", ".", "-", "\"", "\"", "'", "\\", "\\\\", "\\\"", "$A", "$E", "$U", "${A}", "${U:-x}",
    "${A%.*}", "${A/o/0}", "${A//?./_}", "${U-$A}", "${E:-'y'}", "${A:+\"z\"}", "$", "{", "}",
    "\"$A\"", "'$A'", "\"b c\"", "${", "${A:-\"", "`",
];

/// How a random file begins.
#[rustfmt::skip]
const HEADS: [&str; 21] = [
    "", "", "", "", "# escape=`\n", "# escape = \\\n", "#escape=`\n", "# Escape=`\n",
    "\n# escape=`\n", "# a comment\n# escape=`\n", "# check=skip=all\n", "# escape=`\n# escape=`\n",
    "# unknown=1\n# escape=`\n", "\u{feff}# escape=`\n", "\u{feff}", "# escape=x\n",
    "// escape=`\n", "#\tescape=`\n", "ARG A=1\n", "ARG A\n", "  # c\n\n",
];

/// What random files are made of.
#[rustfmt::skip]
const BODIES: [&str; 104] = [
    "COPY f /a\n", "COPY f \\\n  /b\n", "COPY f \\\n# a comment\n  /c\n", "COPY f \\\n\n  /d\n",
    "COPY f `\n  /e\n", "COPY f \\ \n  /g\n", "COPY f \\\\\nLABEL a=b\n", "COPY [\"f\", \"/h\"]\n",
    "COPY [\"f\", '/h']\n", "COPY [f, /i]\n", "COPY --chmod=644 f /j\n",
    "COPY --chmod=\"644\" f /k\n", "COPY --link f /l\n", "COPY <<E /m\nLABEL no=1\nE\n",
    "COPY <<-E /n\n\tx\n\tE\n", "COPY <<\"E F\" /o\nE F\n", "COPY <<'E' <<F /p/\nx\nE\ny\nF\n",
    "COPY <<E /q\nno end\n", "COPY f <<E\nE\n", "ADD <<E /r\nE\n", "COPY <<E /s \\\nx\nE\n",
    "LABEL a=<<E\n", "LABEL a=b c=\"d e\" \\\n  f='g'\n", "LABEL a b c\n", "LABEL a='b\\\nc'\n",
    "LABEL \\\n", "LABEL a=b # no comment\n", "LABEL a=\"b\n", "LABEL a\n", "label a=b\n",
    "  LABEL a=b\n", "\tLABEL\ta=b\n", "LABEL a=b\\\n", "LABEL a=\\\n#c\nb\n", "ENTRYPOINT []\n",
    "ENTRYPOINT\n", "ENTRYPOINT [\"a\"]\n", "ENTRYPOINT [a]\n", "ENTRYPOINT a b\n", "CMD []\n",
    "CMD\n", "CMD [ \"a\", \"b\" ]\n", "CMD [\"a\"\\\n, \"b\"]\n", "CMD [\"<<E\"]\n", "CMD <<E\n",
    "ENV A=b\n", "ENV A b\n", "ENV A\n", "ENV A=b C\n", "EXPOSE 80\n", "USER a\n",
    "VOLUME [\"/v\"]\n", "VOLUME /v /w\n", "STOPSIGNAL 9\n", "SHELL [\"a\"]\n", "SHELL a\n",
    "WORKDIR /w\n", "MAINTAINER a\n", "HEALTHCHECK NONE\n", "HEALTHCHECK CMD a\n",
    "HEALTHCHECK --interval=5s CMD a\n", "ARG B\n", "ARG B=1 C\n", "ARG\n", "UNKNOWN a\n",
    "# a comment\n", "#\n", "\n", "   \n", "\\\n", "LABEL a=b\r\n", "COPY f \\\r\n  /t\r\n",
    "COPY <<E /u\r\nx\r\nE\r\n", "FROM scratch\n", "FROM scratch AS s\n", "FROM scratch AS\n",
    "FROM\n", "FROM scratch AS s\nCOPY f /v\nFROM s\n",
    "FROM scratch AS r\nRUN <<E\nFROM no\nE\nFROM scratch\n",
    "FROM scratch AS r\nRUN cat <<E > /x && cat <<-F\nE\n\tF\nFROM scratch\n",
    "FROM scratch AS r\nRUN <<E\nFROM scratch\n",
    "FROM scratch AS r\nRUN [\"<<E\"]\nFROM scratch\n",
    "FROM scratch AS r\nRUN 3<<E x\nE\nFROM scratch\n",
    "FROM scratch AS r\nRUN <<<E\nFROM scratch\n",
    "FROM scratch AS r\nRUN a <<E'F'\nEF\nFROM scratch\n",
    "FROM scratch AS r\nRUN \"<<E\"\nFROM scratch\n", "FROM scratch AS r\nRUN []\nFROM scratch\n",
    "FROM scratch AS r\nRUN\nFROM scratch\n",
    "FROM scratch AS r\nRUN --mount=type=cache,target=/c <<E\nE\nFROM scratch\n",
    "COPY --from=scratch f /w\n", "COPY\n", "COPY f\n", "ADD f /x\n", "ONBUILD COPY f /y\n",
    "ONBUILD\n", "ONBUILD FROM a\n", "ONBUILD ONBUILD USER a\n", "ONBUILD COPY <<E /z\nE\n",
    "--flag\n", "COPY -- f /a2\n", "COPY --nope f /a3\n", "COPY --chown f /a4\n", "LABEL a=é\n",
    "LABEL a=\"\\\n b\"\n",
];

/// An engine and a CLI with BuildKit.
struct BuildKit {
    cli: PathBuf,
    folder: tempfile::TempDir,
}

impl BuildKit {
    fn new() -> Self {
        let cli = cli_with_buildkit().expect("a docker CLI with BuildKit");
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("f"), "").unwrap();
        Self { cli, folder }
    }

    /// The configuration, as JSON, and the history of what it builds; none if it refuses the
    /// file.
    fn build(&self, dockerfile: &str) -> Option<(Value, Vec<String>)> {
        const NAME: &str = "xtask-tables";
        fs::write(self.folder.path().join("Dockerfile"), dockerfile).unwrap();
        let mut build = Command::new(&self.cli);
        build.current_dir(self.folder.path()).env("DOCKER_BUILDKIT", "1");
        build.args(["build", "--progress", "plain", "-t", NAME, "."]);
        let built = build.output().expect("docker runs");
        if !built.status.success() {
            let said = String::from_utf8_lossy(&built.stderr);
            assert!(!said.contains("annot connect"), "{said}");
            // No file needs a registry.
            assert!(!said.contains("registry-1.docker.io"), "{dockerfile}\n{said}");
            return None;
        }
        let inspected = docker(&["image", "inspect", "--format", "{{json .Config}}", NAME]);
        let history = docker(&["history", "--no-trunc", "--format", "{{.CreatedBy}}", NAME]);
        let history = String::from_utf8(history).expect("text");
        let history = history.lines().rev().map(str::to_owned).collect();
        docker(&["rmi", NAME]);
        Some((serde_json::from_slice(&inspected).expect("JSON"), history))
    }

    /// What words come to; none if one of them is refused, or takes another one in.
    fn words(&self, words: &[String], escape: char) -> Option<Vec<String>> {
        let pairs = words.iter().enumerate().map(|(index, word)| format!(" l{index}={word}"));
        let labels: String = pairs.collect();
        let dockerfile = format!(
            "# escape={escape}\nFROM scratch\nARG A=one.two.three\nARG E=\nLABEL{labels}\n"
        );
        let (config, _) = self.build(&dockerfile)?;
        let labels: BTreeMap<String, String> =
            serde_json::from_value(config["Labels"].clone()).expect("labels");
        (0..words.len()).map(|index| labels.get(&format!("l{index}")).cloned()).collect()
    }
}

fn version() -> String {
    let version = docker(&["version", "--format", "{{.Server.Version}}"]);
    format!("#\n# Engine {}", String::from_utf8(version).expect("text"))
}

fn write(path: &str, head: &str, rows: &[String]) {
    let path = repository().join(path);
    fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).unwrap();
    fs::write(path, format!("{head}{}{}\n", version(), rows.join("\n"))).unwrap();
}

/// Every modifier with every kind of value, in every kind of quotes; quotes and escapes
/// wherever they may be; and random words. An empty pattern is not among them: it ends an
/// engine of version 26.
fn all_words() -> Vec<String> {
    let mut words = Vec::new();
    for name in ["A", "E", "U"] {
        for modifier in MODIFIERS {
            words.push(format!("${{{name}{modifier}}}"));
        }
        words.push(format!("${name}"));
        words.push(format!("\"${name}\""));
        words.push(format!("'${name}'"));
        words.push(format!("\\${name}"));
        words.push(format!("\"\\${name}\""));
        words.push(format!("${name}_b"));
        words.push(format!("${name}-b"));
        words.push(format!("1${name}1"));
    }
    words.extend(ODD.map(str::to_owned));
    let mut rng = Rng::with_seed(1);
    for _ in 0..160 {
        words.push((0..rng.usize(2..6)).filter_map(|_| rng.choice(PIECES)).collect());
    }
    let mut seen = BTreeSet::new();
    words.retain(|word| seen.insert(word.clone()));
    words.into_iter().map(|word| format!(".{word}.")).collect()
}

#[test]
#[ignore = "writes the table"]
fn write_what_buildkit_makes_of_words() {
    let buildkit = BuildKit::new();
    assert!(buildkit.words(&["${A#one}".to_owned()], '\\').is_some(), "an engine since 26");
    let mut rows = Vec::new();
    for escape in ['\\', '`'] {
        let mut words = all_words();
        if escape == '`' {
            words.retain(|word| word.contains(['\\', '`', '"']));
        }
        for group in words.chunks(12) {
            let values: Vec<Option<String>> = match buildkit.words(group, escape) {
                Some(values) => values.into_iter().map(Some).collect(),
                None => group
                    .iter()
                    .map(|word| Some(buildkit.words(std::slice::from_ref(word), escape)?.remove(0)))
                    .collect(),
            };
            for (word, value) in group.iter().zip(values) {
                rows.push(json!([escape.to_string(), word, value]).to_string());
            }
        }
    }
    write(WORDS, WORDS_HEAD, &rows);
    println!("{} rows", rows.len());
}

/// Lines and pieces of files that are read in unexpected ways, in random order.
fn random_file(rng: &mut Rng) -> String {
    let mut text = (*rng.choice(HEADS).unwrap_or("")).to_owned();
    text.push_str("FROM scratch\n");
    for _ in 0..rng.usize(1..4) {
        text.push_str(rng.choice(BODIES).unwrap_or(""));
    }
    if rng.u8(..4) == 0 {
        text.pop();
    }
    text
}

#[test]
#[ignore = "writes the table"]
fn write_what_buildkit_makes_of_files() {
    let buildkit = BuildKit::new();
    let mut rng = Rng::with_seed(1);
    let mut rows = Vec::new();
    for _ in 0..500 {
        let text = random_file(&mut rng);
        let keywords = buildkit.build(&text).map(|(config, history)| {
            let keyword =
                |entry: &String| entry.split_whitespace().next().unwrap_or_default().to_owned();
            let mut keywords: Vec<String> = history.iter().map(keyword).collect();
            // It has no entry in the history.
            let triggers = config["OnBuild"].as_array().map_or(0, Vec::len);
            keywords.extend(vec!["ONBUILD".to_owned(); triggers]);
            keywords.sort();
            keywords
        });
        rows.push(json!([text, keywords]).to_string());
    }
    rows.sort();
    rows.dedup();
    write(FILES, FILES_HEAD, &rows);
    println!("{} rows", rows.len());
}
