//! An error names the line that failed, with what failed there and what may help.

use tests::Workspace;
use tests::engine::builders;

fn fails(workspace: &Workspace, builder: &str) -> String {
    let output = workspace.xtask(&["build", "--builder", builder]).exits_with(1);
    output.error().to_owned()
}

#[test]
fn it_is_not_that_of_a_stage_that_runs_at_the_same_time_nor_of_an_equal_command() {
    // Quotes, variables, continued lines and equal commands in both stages.
    let dockerfile = "FROM tt-box AS one\nENV A=b\nRUN sleep 2\nRUN \\\n  # why\n  true \"$A\"\n\
                      FROM tt-box\nENV A=b\nWORKDIR /w\nRUN \\\n  true \"$A\"\n\
                      RUN test \"$A\" = 'c \"d\"' \\\n  # no\n  && true\n\
                      COPY --from=one / /x/\nRUN test \"$A\" = 'c \"d\"' && true\n";
    let workspace = Workspace::new().with_box().image("a", dockerfile);
    for builder in builders() {
        let error = fails(&workspace, builder);
        assert!(error.starts_with("error: src/a/build/tt-a.dockerfile:12: "), "{builder}: {error}");
        assert!(error.contains("\n> 12 | RUN test \"$A\" = 'c \"d\"' \\\n"), "{builder}: {error}");
    }
}

#[test]
fn two_that_are_equal_are_told_apart_by_their_place() {
    let dockerfile = "FROM tt-box\nRUN test ! -e /x && touch /x\nRUN test ! -e /x && touch /x\n";
    let workspace = Workspace::new().with_box().image("a", dockerfile);
    for builder in builders() {
        let error = fails(&workspace, builder);
        assert!(error.starts_with("error: src/a/build/tt-a.dockerfile:3: "), "{builder}: {error}");
    }
}

#[test]
fn a_missing_source_comes_with_why() {
    let cases = [
        ("COPY tetx /\n", "the context, src/a, has no 'tetx' (did you mean 'text'?)"),
        ("COPY sub/other /\n", "the context, src/a, has no 'sub/other' (did you mean 'others'?)"),
        ("COPY zzzzzzzz /\n", "the context, src/a, has no 'zzzzzzzz'"),
        (
            "COPY text sub/left-out /\n",
            "src/a/.dockerignore:2 excludes 'sub/left-out' from the context",
        ),
        (
            "ADD [\"sub/left-out\", \"/\"]\n",
            "src/a/.dockerignore:2 excludes 'sub/left-out' from the context",
        ),
    ];
    for (instruction, hint) in cases {
        let workspace = Workspace::new()
            .image("a", &format!("FROM scratch\nCOPY text /\n{instruction}"))
            .file("src/a/text", "tt-")
            .file("src/a/sub/others", "")
            .file("src/a/sub/left-out", "")
            .file("src/a/.dockerignore", "nothing\nsub/left*\n");
        for builder in builders() {
            let error = fails(&workspace, builder);
            let place = "error: src/a/build/tt-a.dockerfile:3: ";
            assert!(error.starts_with(place), "{builder}: {error}");
            assert!(error.contains(&format!("\n{hint}\n")), "{builder}: {error}");
        }
    }
    let of_stage = Workspace::new()
        .image("a", "FROM scratch AS one\nCOPY text /\nFROM scratch\nCOPY --from=one tetx /\n")
        .file("src/a/text", "tt-");
    for builder in builders() {
        let error = fails(&of_stage, builder);
        assert!(error.starts_with("error: src/a/build/tt-a.dockerfile:4: "), "{builder}: {error}");
        assert!(!error.contains("the context, "), "{builder}: {error}");
    }
}

#[test]
fn what_it_wrote_about_the_error_is_shown_however_much_follows() {
    let dockerfile = "FROM tt-box\nRUN echo it is this >&2; seq 500; false\n";
    let workspace = Workspace::new().with_box().image("a", dockerfile);
    for builder in builders() {
        let error = fails(&workspace, builder);
        assert!(error.contains("\n    it is this\n"), "{builder}: {error}");
        assert!(error.contains("\n    500\n"), "{builder}: {error}");
        assert_eq!(error.lines().filter(|line| line.starts_with("    ")).count(), 20);
    }
}
