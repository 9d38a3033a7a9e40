//! Shell completion: the script that a shell loads, and the answer when it asks.
//!
//! At each press of Tab the script runs the tool with an environment variable, so components
//! and images are those of the current folder's workspace. It completes `xtask` and
//! `cargo xtask`; cargo's own completion, if loaded before, stays in place for all else.

use std::env;
use std::io;

use clap::{Command, ValueEnum};
use clap_complete::env::{Bash, CompleteEnv, EnvCompleter, Fish, Powershell, Zsh};

/// The variable that asks for completions; its value is the shell.
const VARIABLE: &str = "XTASK_COMPLETE";

const NAME: &str = "xtask";

const BASH_CARGO: &str = r#"
declare -F _completion_loader > /dev/null && _completion_loader cargo 2> /dev/null
_xtask_of_cargo() {
    if [[ $COMP_CWORD -ge 2 && ${COMP_WORDS[1]} == xtask ]]; then
        _clap_complete_xtask "$@"
    elif declare -F _cargo > /dev/null; then
        _cargo "$@"
    fi
}
complete -o bashdefault -o default -F _xtask_of_cargo cargo
"#;

const ZSH_CARGO: &str = r#"
function _xtask_of_cargo() {
    if (( CURRENT > 2 )) && [[ ${words[2]} == xtask ]]; then
        _clap_dynamic_completer_xtask
    elif (( $+functions[_cargo] )) || autoload -U +X _cargo 2> /dev/null; then
        _cargo "$@"
    else
        _default
    fi
}
compdef _xtask_of_cargo cargo
"#;

const FISH_CARGO: &str = " --condition '__fish_seen_subcommand_from xtask'\n";

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
    #[value(name = "powershell", alias = "pwsh")]
    Power,
}

/// Answers a shell that asks for completions, and exits; does nothing if none asks.
pub(crate) fn answer(command: fn() -> Command) {
    let mut words = env::args_os().skip_while(|word| word != "--").skip(1);
    let is_cargo = words.next().is_some_and(|name| name == "cargo");
    let factory = || {
        let command = command().name(NAME);
        if is_cargo { Command::new("cargo").subcommand(command) } else { command }
    };
    CompleteEnv::with_factory(factory).var(VARIABLE).complete();
}

/// The script for a shell.
pub(crate) fn script(shell: Shell) -> io::Result<String> {
    let tool = env::current_exe()?;
    let tool = tool.to_string_lossy();
    let register = |shell: &dyn EnvCompleter, command: &str| {
        let mut script = Vec::new();
        shell.write_registration(VARIABLE, NAME, command, &tool, &mut script)?;
        String::from_utf8(script).map_err(io::Error::other)
    };
    Ok(match shell {
        Shell::Bash => register(&Bash, NAME)? + BASH_CARGO,
        Shell::Zsh => register(&Zsh, NAME)? + ZSH_CARGO,
        Shell::Fish => register(&Fish, NAME)? + register(&Fish, "cargo")?.trim_end() + FISH_CARGO,
        Shell::Power => register(&Powershell, NAME)? + &register(&Powershell, "cargo")?,
    })
}
