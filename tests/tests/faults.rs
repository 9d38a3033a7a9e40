//! An engine whose answers are late, cut or wrong: each command comes to an end that says what
//! happened, and the next one on a sound engine is right.
//!
//!     SEED=7 FAULTS=1000 cargo test -p tests --test faults -- --nocapture

use std::env;

use tests::Workspace;
use tests::engine::image_tree;
use tests::saboteur::Saboteur;

/// A number of the environment.
fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn whatever_answers_become_of_an_engine_no_image_is_wrong_afterwards() {
    let (seed, faults) = (number("SEED", fastrand::u64(..1 << 32)), number("FAULTS", 6));
    println!("SEED={seed}");
    let saboteur = Saboteur::start(seed);
    let hook = "#!/bin/sh -e\nmkdir -p src/b/generated\ncp src/a/text src/b/generated/out\n";
    let workspace = Workspace::new()
        .env("DOCKER_HOST", &saboteur.host())
        .image("a", "FROM scratch\nCOPY text /text\n")
        .file("src/a/text", "")
        .script("src/b/build/build-pre.sh", hook)
        .file("src/b/build/inputs", "src/a/text\n")
        .image("b", "FROM tt-a\nCOPY generated/out /out\n")
        .image("c", "FROM tt-b\nCOPY text /own\n")
        .file("src/c/text", "");
    let mut ends = [0; 3];
    for fault in 0..faults {
        let text = format!("{fault}");
        workspace.write("src/a/text", &text);
        workspace.write("src/c/text", &text);
        let before = workspace.tree();
        saboteur.act(true, seed + fault * 1000);
        let builder = if fault % 2 == 0 { "buildkit" } else { "classic" };
        let output = workspace.xtask(&["build", "--builder", builder]);
        let place = format!("SEED={seed}, fault {fault}, {builder}:\n{}", output.stderr);
        assert!((0..=2).contains(&output.code), "{place}");
        assert!(!output.stderr.contains("panicked"), "{place}");
        assert!(output.code == 0 || output.stderr.contains("error: "), "{place}");
        assert_eq!(workspace.tree(), before, "{place}");
        ends[usize::try_from(output.code).expect("it is small")] += 1;
        saboteur.act(false, 0);
        let sound = workspace.xtask(&["build"]);
        assert_eq!(sound.code, 0, "{place}\nthen:\n{}", sound.stderr);
        let image = image_tree(&workspace.own("tt-c"));
        for path in ["text", "out", "own"] {
            assert!(image[path].ends_with(&format!(" {text}")), "{place}\n{}", image[path]);
        }
        let again = workspace.xtask(&["build"]).exits_with(0);
        assert!(again.built().is_empty(), "{place}\nthen:\n{}", again.stderr);
    }
    println!("{} went well, {} failed, {} were refused", ends[0], ends[1], ends[2]);
}
