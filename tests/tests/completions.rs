//! Completion scripts and manual pages, as shells and `man` use them; and the help.

use std::fs;
use std::process::{Command, Stdio};

use expect_test::expect;
use tests::Workspace;

fn tree() -> Workspace {
    Workspace::new()
        .image("auth-api", "FROM scratch\n")
        .image("auth-db", "FROM scratch\n")
        .image("組件", "FROM scratch\n")
        .image("web", "FROM scratch\n")
}

/// What bash offers for the last of some words, after it has loaded the script.
fn offered(workspace: &Workspace, folder: &str, words: &[&str]) -> String {
    let script = r#"
        source <("$0" completions bash)
        words=("$@")
        COMP_WORDS=("${words[@]}")
        COMP_CWORD=$(( ${#words[@]} - 1 ))
        COMP_TYPE=9
        function=$(complete -p "${words[0]}" | sed 's/.*-F \([^ ]*\).*/\1/')
        $function "${words[0]}" "${words[COMP_CWORD]}" "${words[COMP_CWORD-1]}" 2> /dev/null
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let mut command = workspace.command_below(&["bash", "-c", script]);
    let words = words.iter().map(|word| workspace.own(word));
    command.args(words).current_dir(workspace.root().join(folder));
    let output = workspace.run(&mut command).finish().exits_with(0);
    assert_eq!(output.stderr, "");
    output.stdout.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn bash_completes_components_images_and_options() {
    let workspace = tree();
    for (words, expected) in [
        (&["xtask", "build", "auth"][..], "auth-api auth-db"),
        (&["xtask", "build", "-s", "w"], "web"),
        (&["xtask", "watch", "組"], "組件"),
        (&["xtask", "graph", "--between", "web", "auth-a"], "auth-api"),
        (&["xtask", "push", "-i", "tt-w"], "tt-web"),
        (&["xtask", "context", "web", "--image", "tt-auth-a"], "tt-auth-api"),
        (&["xtask", "why", "tt-auth"], "tt-auth-api tt-auth-db"),
        (&["xtask", "why", "auth-a"], "auth-api"),
        (&["xtask", "logs", "we"], "web"),
        (&["xtask", "build", "src/w"], "src/web/"),
        (&["xtask", "build", "--exit"], "--exit-code"),
        (&["xtask", "completions", "p"], "powershell"),
        (&["cargo", "xtask", "build", "auth"], "auth-api auth-db"),
        (&["cargo", "xtask", "--quiet", "list", "w"], "web"),
        (&["cargo", "build", "--"], ""),
    ] {
        assert_eq!(offered(&workspace, "", words), expected, "{words:?}");
    }
    assert_eq!(offered(&workspace, "src/web", &["xtask", "build", "auth-d"]), "auth-db");
    // Outside of a workspace there are no components, and it is no error.
    let elsewhere = Workspace::new();
    assert_eq!(offered(&elsewhere, "", &["xtask", "build", "w"]), "");
}

#[test]
fn every_shell_has_a_script_and_no_workspace_is_needed() {
    let workspace = Workspace::new();
    for (shell, parts) in [
        ("bash", ["complete -o", "_xtask_of_cargo"]),
        ("zsh", ["#compdef xtask", "compdef _xtask_of_cargo cargo"]),
        ("fish", ["--command xtask", "--command cargo"]),
        ("powershell", ["-CommandName xtask", "-CommandName cargo"]),
    ] {
        let output = workspace.xtask(&["completions", shell]).exits_with(0);
        for part in parts {
            assert!(output.stdout.contains(part), "{shell}: {}", output.stdout);
        }
        assert!(output.stdout.contains("XTASK_COMPLETE"), "{shell}: {}", output.stdout);
    }
    let output = workspace.xtask(&["completions", "tcsh"]).exits_with(2);
    assert!(output.stderr.contains("[possible values: bash, zsh, fish, powershell]"));
}

#[test]
fn there_is_a_manual_page_for_each_command() {
    let workspace = Workspace::new();
    let page = workspace.xtask(&["man", "build"]).exits_with(0).stdout;
    let mut groff = Command::new("sh");
    groff.args(["-c", "command -v groff > /dev/null || exec cat; exec groff -ww -man -Tutf8"]);
    let mut groff =
        groff.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut groff.stdin.take().unwrap(), page.as_bytes()).unwrap();
    let output = groff.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    for part in ["cargo-xtask-build", "exit-code", "Examples:", "Global options", "PAI_CONFIG_DIR"]
    {
        let found = page.replace("\\-", "-").to_lowercase().contains(&part.to_lowercase());
        assert!(found, "{part}: {page}");
    }
    let _ = workspace.xtask(&["man", "--dir", "pages"]).exits_with(0);
    let pages = fs::read_dir(workspace.root().join("pages")).unwrap();
    let mut pages: Vec<String> =
        pages.map(|page| page.unwrap().file_name().into_string().unwrap()).collect();
    pages.sort();
    expect![[r#"
        cargo-xtask-build.1
        cargo-xtask-clean.1
        cargo-xtask-completions.1
        cargo-xtask-config.1
        cargo-xtask-context.1
        cargo-xtask-doctor.1
        cargo-xtask-export-bake.1
        cargo-xtask-export.1
        cargo-xtask-graph.1
        cargo-xtask-init.1
        cargo-xtask-inputs.1
        cargo-xtask-list.1
        cargo-xtask-lock-diff.1
        cargo-xtask-lock-get.1
        cargo-xtask-lock.1
        cargo-xtask-logs.1
        cargo-xtask-man.1
        cargo-xtask-new.1
        cargo-xtask-push.1
        cargo-xtask-watch.1
        cargo-xtask-why.1
        cargo-xtask.1"#]]
    .assert_eq(&pages.join("\n"));
    let output = workspace.xtask(&["man", "biuld"]).exits_with(2);
    assert_eq!(output.error(), "error: no command 'biuld' (did you mean 'build'?)\n");
}

#[test]
fn help_has_examples_and_groups_the_global_options_once() {
    let workspace = Workspace::new();
    for command in [
        "build",
        "watch",
        "push",
        "graph",
        "list",
        "why",
        "logs",
        "context",
        "inputs",
        "completions",
        "man",
    ] {
        let help = workspace.xtask(&[command, "--help"]).exits_with(0).stdout;
        assert_eq!(help.matches("Global options:").count(), 1, "{help}");
        let (own, global) = help.split_once("Global options:").unwrap();
        for option in ["--root", "--no-wait", "--builder", "--progress", "--color", "--store-limit"]
        {
            let listed = format!("      {option} ");
            assert!(!own.contains(&listed), "{help}");
            assert!(
                global.contains(&format!("{option} ")) || global.contains(&format!("{option}\n")),
                "{option}: {help}"
            );
        }
        assert!(global.contains("Examples:\n  "), "{help}");
        assert!(global.contains(&format!("cargo xtask {command}")), "{help}");
    }
}
