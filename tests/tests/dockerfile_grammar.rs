//! Random Dockerfiles: what we read as bases and as files of the context is what the engine
//! uses. After every change an incremental build of a lean context comes to what a build of
//! everything, with the whole context and without any cache, comes to.
//!
//!     SEED=7 FILES=100 cargo test -p tests --test dockerfile_grammar -- --nocapture

use std::env;
use std::fmt::Write;

use fastrand::Rng;
use tests::Workspace;
use tests::engine::{image_config, image_tree, import_file};

/// The files of the context, by what may be copied.
const CONTEXT: [&str; 7] = ["a", "b.txt", "c d", "sub/e", "sub/f.txt", "sub/deep/g", "other/h"];

const BASES: [&str; 3] = ["tt-one", "tt-two", "tt-three"];

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Writes Dockerfiles from a grammar. Most of them are valid.
struct Writer<'r> {
    rng: &'r mut Rng,
    text: String,
    stages: Vec<String>,
    /// Names what is copied, so that each has a place of its own.
    copies: usize,
}

impl Writer<'_> {
    fn pick<'t>(&mut self, among: &[&'t str]) -> &'t str {
        let index = self.rng.usize(..among.len());
        among[index]
    }

    fn file(mut self) -> String {
        let head = self.pick(&["", "# escape=\\\n", "# a comment\n\n", "\u{feff}"]);
        self.text.push_str(head);
        let base = self.pick(&BASES);
        let quoted = self.pick(&["B", "\"B\"", "'B'", "${X:-B}", "\"${X-B}\"", "${X:-\"B\"}"]);
        writeln!(self.text, "ARG BASE={}", quoted.replace('B', base)).unwrap();
        self.text.push_str("ARG TAG=latest\n");
        for _ in 0..self.rng.usize(1..4) {
            self.stage();
        }
        if self.rng.bool() { self.text.replace('\n', "\r\n") } else { self.text }
    }

    fn stage(&mut self) {
        let base = self.pick(&BASES);
        let earlier = self.stages.last().cloned().unwrap_or_else(|| base.to_owned());
        let form = self.pick(&[
            "BASE",
            "BASE",
            "\"BASE\"",
            "BASE:latest",
            "BASE:$TAG",
            "BASE:\"${TAG}\"",
            "$BASE",
            "${BASE}",
            "${BASE:-x}",
            "${NONE:-BASE}",
            "${NONE:-$BASE}",
            "docker.io/library/BASE",
            "STAGE",
            "scratch",
        ]);
        let from = form.replace("STAGE", &earlier);
        // A variable keeps its name.
        let from = if from.contains("$BASE") || from.contains("{BASE") {
            from
        } else {
            from.replace("BASE", base)
        };
        let number = self.stages.len();
        let keyword = self.pick(&["FROM", "from", "  FROM"]);
        let name = format!("s{number}");
        writeln!(self.text, "{keyword} {from} AS {name}").unwrap();
        for _ in 0..self.rng.usize(1..4) {
            self.instruction();
        }
        self.stages.push(name);
    }

    fn instruction(&mut self) {
        self.copies += 1;
        let to = format!("/to{}/", self.copies);
        let source = self.source();
        let base = self.pick(&BASES);
        let stage = match self.stages.len() {
            0 => base.to_owned(),
            count => {
                let index = self.rng.usize(..count);
                self.pick(&["s", ""]).to_owned() + &index.to_string()
            }
        };
        let line = match self.rng.u8(..13) {
            0..=3 => format!("COPY {source} {to}"),
            4 => format!("COPY \\\n  # why\n\n  {source} \\\n  {to}"),
            5 => format!("ADD {source} {to}"),
            6 => format!("COPY --from={base} / {to}"),
            7 => format!("COPY --from='{base}' marker {to}"),
            8 => format!("COPY --from={stage} / {to}"),
            9 => format!("ARG V={}\nCOPY $V* {to}", self.pick(&["a", "\"b\"", "sub", "'oth'"])),
            10 => format!("COPY [\"c d\", \"{source}\", \"{to}\"]"),
            11 => format!("ENV W={}\nCOPY ${{W}} {to}", self.pick(&["a", "sub", "sub/deep"])),
            _ => {
                let value = self.pick(&["$BASE", "x y", "\\\""]);
                format!("LABEL l{}=\"{value}\" COPY='FROM x'", self.copies)
            }
        };
        writeln!(self.text, "{line}").unwrap();
    }

    fn source(&mut self) -> String {
        let plain = self.pick(&["a", "b.txt", "sub/e", "sub/f.txt", "sub/deep/g", "other/h"]);
        let other = self.pick(&[
            "sub", "sub/", "./other", "*", "*.txt", "sub/*", "su?", "[ab]*", "sub/../a", ".",
        ]);
        self.pick(&[plain, plain, &format!("/{plain}"), &format!("\"{plain}\""), other, other])
            .to_owned()
    }
}

/// Two components with the same files and the same Dockerfile.
struct Twins {
    workspace: Workspace,
    marks: u32,
}

impl Twins {
    fn new(dockerfile: &str) -> Self {
        let mut workspace = Workspace::new().image("lean", dockerfile).image("whole", dockerfile);
        for twin in ["lean", "whole"] {
            workspace = workspace.file(&format!("src/{twin}/.dockerignore"), "build\n");
            for file in CONTEXT {
                workspace = workspace.file(&format!("src/{twin}/{file}"), file);
            }
        }
        Self { workspace, marks: 0 }
    }

    fn next_mark(&mut self) -> String {
        self.marks += 1;
        self.workspace.own(&format!("tt-{}", self.marks))
    }

    /// Gives a base's name to another image.
    fn mark(&mut self, base: &str) {
        let text = self.next_mark();
        import_file(&self.workspace.own(base), "marker", &text);
    }

    fn edit(&mut self, file: &str) {
        let text = self.next_mark();
        for twin in ["lean", "whole"] {
            self.workspace.write(&format!("src/{twin}/{file}"), &text);
        }
    }

    /// Whether the engine takes the file. If so, both are the same.
    fn agree(&self, about: &str) -> bool {
        let all = ["build", "-s", "whole", "--force", "--no-cache", "--whole-context"];
        let whole = self.workspace.xtask(&all);
        let lean = self.workspace.xtask(&["build", "-s", "lean"]);
        assert_eq!(lean.code, whole.code, "{about}\n{}\n{}", whole.stderr, lean.stderr);
        if lean.code != 0 {
            return false;
        }
        let made = |twin: &str| {
            let image = self.workspace.own(twin);
            (image_tree(&image), image_config(&image))
        };
        assert_eq!(made("tt-lean"), made("tt-whole"), "{about}\n{}", lean.stderr);
        true
    }
}

#[test]
fn what_is_read_of_a_file_is_what_the_engine_uses() {
    let seed = number("SEED", fastrand::u64(0..1_000_000));
    eprintln!("SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let mut taken = 0;
    for number in 0..number("FILES", 5) {
        let writer = Writer { rng: &mut rng, text: String::new(), stages: Vec::new(), copies: 0 };
        let dockerfile = writer.file();
        let mut twins = Twins::new(&dockerfile);
        for base in BASES {
            twins.mark(base);
        }
        let about = |what: &str| format!("SEED={seed}, file {number}, {what}:\n{dockerfile}");
        if !twins.agree(&about("at first")) {
            continue;
        }
        taken += 1;
        for _ in 0..3 {
            let changed = if rng.bool() {
                let base = BASES[rng.usize(..BASES.len())];
                twins.mark(base);
                base
            } else {
                let file = CONTEXT[rng.usize(..CONTEXT.len())];
                twins.edit(file);
                file
            };
            assert!(twins.agree(&about(&format!("after a change of {changed}"))));
        }
    }
    assert!(taken > 0, "SEED={seed}: no file is valid");
}
