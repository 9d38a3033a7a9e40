//! How the user calls this program, for messages that tell what to type: as `cargo xtask`, by the
//! alias of a repository, or as the installed binary.

use std::env;
use std::path::Path;
use std::sync::OnceLock;

/// The words before the command. Cargo says in the environment that it runs a program.
pub(crate) fn name() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        if env::var_os("CARGO").is_some() {
            return "cargo xtask".to_owned();
        }
        let path = env::args_os().next().unwrap_or_default();
        let name = Path::new(&path).file_name().and_then(|name| name.to_str());
        name.unwrap_or("xtask").to_owned()
    })
}
