//! A run that is killed at any moment leaves nothing that the next one does not clean
//! up. `KILLS=100` in the environment tries longer.

use std::env;
use std::time::Duration;

use rustix::process::Signal;
use tests::Workspace;
use tests::engine::image_tree;

#[test]
fn whenever_it_is_killed_the_next_build_is_right_and_leaves_a_clean_tree() {
    let hook = "#!/bin/sh -e\nmkdir -p src/b/generated\ncat src/b/dependency/a/text > src/b/generated/out\n";
    let workspace = Workspace::new()
        .file("src/a/text", "0")
        .image("a", "FROM scratch\nCOPY text /text\n")
        .script("src/b/build/build-pre.sh", hook)
        .file("src/b/build/inputs", "# nothing\n")
        .file("src/b/build/component.dep", "a\n")
        .image("b", "FROM tt-a\nCOPY generated/out /out\n")
        .image("c", "FROM tt-b\nCOPY text /own\n")
        .file("src/c/text", "0");
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let kills: u64 = env::var("KILLS").map_or(12, |text| text.parse().expect("a number"));
    for kill in 0..kills {
        let text = format!("{kill}");
        workspace.write("src/a/text", &text);
        workspace.write("src/c/text", &text);
        let before = workspace.tree();
        let running = workspace.start(&["build"]);
        // Spread over all of a build's time, by a step that divides none of its parts.
        std::thread::sleep(Duration::from_millis(kill * 137 % 1900));
        running.signal(Signal::KILL);
        drop(running.finish());
        let _ = workspace.xtask(&["build"]).exits_with(0);
        assert_eq!(workspace.tree(), before, "killed {kill}");
        let image = image_tree(&workspace.own("tt-c"));
        for path in ["text", "out", "own"] {
            assert!(image[path].ends_with(&format!(" {text}")), "killed {kill}: {}", image[path]);
        }
        assert!(workspace.xtask(&["build"]).exits_with(0).built().is_empty(), "killed {kill}");
    }
}
