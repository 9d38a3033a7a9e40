//! The images that literal `docker build` commands in scripts make. What a variable says is not
//! known, so a command whose paths have one is left out.

use serde_json::json;

use crate::paths::join;
use crate::workspace::proposal::known::{Known, clean};

/// The options that take a value, and that are no matter here.
const WITH_VALUE: [&str; 14] = [
    "--add-host",
    "--builder",
    "--cache-from",
    "--cache-to",
    "--iidfile",
    "--label",
    "--network",
    "--output",
    "-o",
    "--platform",
    "--progress",
    "--secret",
    "--ssh",
    "--metadata-file",
];

/// The images of the commands in a text. Paths in it start at `folder`.
pub(super) fn images(text: &str, file: &str, folder: &str) -> Vec<Known> {
    let joined = text.replace("\\\r\n", " ").replace("\\\n", " ");
    joined.lines().filter_map(|line| image(line, file, folder)).collect()
}

fn image(line: &str, file: &str, folder: &str) -> Option<Known> {
    let words: Vec<&str> =
        line.split_whitespace().map(|word| word.trim_matches(['"', '\''])).collect();
    let start = words.iter().position(|word| word.trim_start_matches(['@', '-']) == "docker")?;
    let (["build", rest @ ..] | ["buildx", "build", rest @ ..]) = &words[start + 1..] else {
        return None;
    };
    let (mut dockerfile, mut tag, mut target, mut context) = (None, None, None, None);
    let mut args = Vec::new();
    let mut words = rest.iter().take_while(|word| !["&&", "||", ";", "|"].contains(*word));
    while let Some(word) = words.next() {
        let (option, given) = match word.split_once('=') {
            Some((option, value)) if option.starts_with("--") => (option, Some(value)),
            _ => (*word, None),
        };
        let mut value = || given.or_else(|| words.next().copied());
        match option {
            "-f" | "--file" => dockerfile = value(),
            "-t" | "--tag" => tag = tag.or(value()),
            "--target" => target = value(),
            "--build-arg" => args.extend(value()),
            option if WITH_VALUE.contains(&option) => drop(value()),
            option if option.starts_with('-') => {}
            path => context = Some(path),
        }
    }
    // A script may be called from anywhere, but mostly is from the root.
    let context = clean(context?).or_else(|| clean(&join(folder, context?)))?;
    let dockerfile = match dockerfile {
        Some(dockerfile) => clean(dockerfile)?,
        None if context == "." => "Dockerfile".to_owned(),
        None => format!("{context}/Dockerfile"),
    };
    let name = dockerfile.rsplit('/').nth(1).unwrap_or("image").to_owned();
    let build = json!({ "context": context, "args": args, "target": target });
    Some(Known { dockerfile, ..Known::of(&name, &build, tag, file)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str) -> String {
        images(line, "Makefile", "")
            .iter()
            .map(|it| {
                let target = it.target.as_deref().unwrap_or("-");
                format!("{} {} {} {target} {:?}", it.name, it.dockerfile, it.context, it.args)
            })
            .collect::<Vec<_>>()
            .join("; ")
    }

    #[test]
    fn literal_commands_are_images() {
        for (line, expected) in [
            ("docker build -t r.example/x/web:$(TAG) web", "web web/Dockerfile web - {}"),
            (
                "\t@docker build --file=docker/a.Dockerfile --tag a --target=x \\\n  --build-arg A=1 \
                 --build-arg B=$B .",
                "a docker/a.Dockerfile . x {\"A\": \"1\"}",
            ),
            (
                "docker buildx build --platform linux/amd64 --push -t $(IMAGE) ./api/ && true",
                "api api/Dockerfile api - {}",
            ),
            ("docker build -t x $(DIR)", ""),
            ("docker run x", ""),
            ("echo docker", ""),
            ("docker build -t x -f ../Dockerfile .", ""),
        ] {
            assert_eq!(found(line), expected, "{line}");
        }
    }
}
