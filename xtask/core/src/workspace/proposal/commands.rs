//! The images that literal `docker build` commands in scripts make. What a variable says is not
//! known, so a command whose paths have one is only named.

use serde_json::json;

use crate::paths::join;
use crate::workspace::proposal::known::{Found, Known, clean};

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

/// What ends a command in a line.
const ENDS: [&str; 4] = ["&&", "||", ";", "|"];

/// Where commands run, relative to the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Where the file is called: mostly in the root, or else in the file's own folder.
    Start(String),
    /// In this folder.
    In(String),
    /// A variable says where.
    Unknown,
}

impl Place {
    /// Where `cd` leads.
    pub(super) fn after(&self, folder: &str) -> Self {
        if folder.contains(['$', '~', '`']) || folder == "-" {
            return Self::Unknown;
        }
        self.find(folder).map_or(Self::Unknown, Self::In)
    }

    /// A path from the root.
    fn find(&self, path: &str) -> Option<String> {
        match self {
            Self::Start(folder) => clean(path).or_else(|| clean(&join(folder, path))),
            Self::In(_) if path.starts_with('/') => None,
            Self::In(folder) => clean(&join(folder, path)),
            Self::Unknown => None,
        }
    }
}

/// The images of the commands in a text. Each line of a `Makefile` has a shell of its own.
pub(super) fn images(text: &str, file: &str, start: &Place, is_makefile: bool) -> Found {
    let joined = text.replace("\\\r\n", " ").replace("\\\n", " ");
    let (mut found, mut place) = (Found::default(), start.clone());
    for line in joined.lines() {
        let words = words(line);
        let mut here = place.clone();
        for command in words.split(|word| ENDS.contains(&word.as_str())) {
            let command: Vec<&str> = command.iter().map(String::as_str).collect();
            match command.as_slice() {
                ["cd" | "pushd", folder] => here = here.after(folder),
                ["popd"] => here = start.clone(),
                _ => {
                    let read = image(&command, file, &here);
                    let named = |()| {
                        format!(
                            "{file}: it is not known what this is built from: {}",
                            command.join(" ")
                        )
                    };
                    if let Some(read) = read {
                        found.add(read.map_err(named));
                    }
                }
            }
        }
        // Where a script changes to by a variable is mostly the root.
        let is_alone = words.len() == 2 && here == Place::Unknown;
        let is_kept = !is_makefile && !line.trim_start().starts_with('(');
        place = if is_alone {
            start.clone()
        } else if is_kept {
            here
        } else {
            place
        };
    }
    found
}

/// The words of a line, without quotes and what may stand before and after commands.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for word in line.split_whitespace() {
        let word = word.trim_start_matches(['@', '(']);
        let (word, is_last) = match word.strip_suffix(';') {
            Some(word) => (word, true),
            None => (word, false),
        };
        let word = if word.contains('(') { word } else { word.trim_end_matches(')') };
        let word = word.trim_matches(['"', '\'']);
        words.extend((!word.is_empty()).then(|| word.to_owned()));
        words.extend(is_last.then(|| ";".to_owned()));
    }
    words
}

/// The image of a command, if it makes one.
///
/// # Errors
/// It is not known of what.
fn image(words: &[&str], file: &str, place: &Place) -> Option<Result<Known, ()>> {
    let start = words.iter().position(|word| word.trim_start_matches('-') == "docker")?;
    let (["build", rest @ ..] | ["buildx", "build", rest @ ..]) = &words[start + 1..] else {
        return None;
    };
    let (mut dockerfile, mut tag, mut target, mut context) = (None, None, None, None);
    let mut args = Vec::new();
    let mut words = rest.iter();
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
            path => context = context.or(Some(path)),
        }
    }
    let context = place.find(context?);
    let dockerfile = match (dockerfile, &context) {
        (Some(dockerfile), _) => place.find(dockerfile),
        (None, Some(context)) if context == "." => Some("Dockerfile".to_owned()),
        (None, context) => context.as_ref().map(|context| format!("{context}/Dockerfile")),
    };
    let (Some(context), Some(dockerfile)) = (context, dockerfile) else { return Some(Err(())) };
    let name = dockerfile.rsplit('/').nth(1).unwrap_or("image").to_owned();
    let build = json!({ "context": context, "args": args, "target": target });
    let image = Known::of(&name, &build, tag, file).map_err(drop);
    Some(image.map(|image| Known { dockerfile, key: String::new(), ..image }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, is_makefile: bool) -> String {
        images(text, "Makefile", &Place::Start(String::new()), is_makefile)
            .images
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
            assert_eq!(found(line, true), expected, "{line}");
        }
    }

    #[test]
    fn commands_run_where_cd_leads() {
        let worker = "worker worker/Dockerfile worker - {}";
        for (text, expected) in [
            ("\tcd worker && docker build -t worker .", worker),
            ("\t@cd ./worker; docker build -t worker .", worker),
            ("(cd worker && docker build -t worker .)", worker),
            (
                "cd apps/worker && docker build -t w -f ../Dockerfile ../..",
                "w apps/Dockerfile . - {}",
            ),
            ("cd $(DIR) && docker build -t x .", ""),
            ("cd ../.. && docker build -t x .", ""),
        ] {
            assert_eq!(found(text, true), expected, "{text}");
        }
        let lines = "cd worker\ndocker build -t worker .";
        assert_eq!(found(lines, true), "worker Dockerfile . - {}");
        assert_eq!(found(lines, false), worker);
        let back = "pushd worker\npopd\ncd \"$ROOT\"\ndocker build -t x .";
        assert_eq!(found(back, false), "x Dockerfile . - {}");
    }
}
