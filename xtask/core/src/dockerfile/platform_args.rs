//! The variables that a builder sets before the first `FROM`, declared or not: the
//! platform's, and the target stage's name.

use std::collections::BTreeMap;

/// What `TARGET` and `BUILD` stand before in the names of the platform's variables.
const PLATFORM: [&str; 4] = ["PLATFORM", "OS", "ARCH", "VARIANT"];

/// The stage that is built, which is always the last.
const TARGET_STAGE: (&str, &str) = ("TARGETSTAGE", "default");

/// Whether a builder has a variable before the first `FROM`, also if no `ARG` declares it.
pub fn is_platform_arg(name: &str) -> bool {
    let platform = name.strip_prefix("TARGET").or_else(|| name.strip_prefix("BUILD"));
    platform.is_some_and(|rest| PLATFORM.contains(&rest)) || name == TARGET_STAGE.0
}

/// The variables that every build has before its first `FROM`, for the platform
/// that this program runs on, or as they are given.
pub(crate) fn platform_variables(
    build_args: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    };
    let values = [format!("linux/{arch}"), "linux".to_owned(), arch.to_owned(), String::new()];
    let both = PLATFORM.iter().zip(values).flat_map(|(name, value)| {
        ["TARGET", "BUILD"].map(|prefix| (format!("{prefix}{name}"), value.clone()))
    });
    let (stage, last) = TARGET_STAGE;
    let mut variables: BTreeMap<String, String> = both.collect();
    variables.insert(stage.to_owned(), last.to_owned());
    let given = build_args.iter().filter(|(name, _)| is_platform_arg(name));
    variables.extend(given.map(|(name, value)| (name.clone(), value.clone())));
    variables
}
