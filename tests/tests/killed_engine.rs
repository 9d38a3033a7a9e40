//! An engine that is killed while it builds, and started again: the build ends with a message, and
//! the next one is right.
//!
//!     bash tests/engines killed
//!
//! runs it, with engines of its own. `ENGINE_KILLS=100` in the environment tries longer.

use std::env;
use std::process::Command;
use std::thread;
use std::time::Duration;

use tests::engine::image_files;
use tests::{Workspace, repository};

/// Kills the engine with all that it started, and starts it again with the same data.
fn restart_engine() {
    let engine = env::var("ENGINE").expect("the arguments of 'tests/engine restart'");
    let mut restart = Command::new("bash");
    restart.args(["tests/engine", "restart"]).args(engine.split(' ')).current_dir(repository());
    let output = restart.output().expect("bash runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn edit(workspace: &Workspace, text: &str) {
    for component in ["a", "c"] {
        workspace.write(&format!("src/{component}/text"), text);
    }
}

#[test]
#[ignore = "kills its engine: bash tests/engines killed"]
fn whenever_the_engine_is_killed_the_next_build_is_right() {
    let workspace = Workspace::new()
        .with_box()
        .image("a", "FROM tt-box\nCOPY text /text\nRUN sleep 0.3; cp /text /copy\n")
        .image("b", "FROM tt-a\nRUN cat /copy > /of-base\n")
        .image("c", "FROM tt-b\nCOPY text /own\n");
    edit(&workspace, "first");
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let kills: u64 = env::var("ENGINE_KILLS").map_or(5, |text| text.parse().expect("a number"));
    let mut failed = 0;
    for kill in 0..kills {
        let text = format!("{kill}");
        edit(&workspace, &text);
        let before = workspace.tree();
        let running = workspace.start(&["build"]);
        // Spread over all of a build's time, by a step that divides none of its parts.
        thread::sleep(Duration::from_millis(kill * 437 % 1900));
        restart_engine();
        let output = running.finish();
        match output.code {
            0 => {}
            1 => failed += 1,
            code => panic!("killed {kill}: exit code {code}: {}", output.stderr),
        }
        assert_eq!(output.code == 1, output.stderr.contains("error: "), "{}", output.stderr);
        let _ = workspace.xtask(&["build"]).exits_with(0);
        assert_eq!(workspace.tree(), before, "killed {kill}");
        let files = image_files(&workspace.own("tt-c"));
        for path in ["text", "copy", "of-base", "own"] {
            assert!(files[path].ends_with(&format!(" {text}")), "killed {kill}: {}", files[path]);
        }
        let again = workspace.xtask(&["build"]).exits_with(0);
        assert!(again.built().is_empty(), "killed {kill}: {}", again.stderr);
    }
    eprintln!("{kills} times, of which {failed} builds failed");
    assert!(failed > 0, "it was never killed while it built");
}
