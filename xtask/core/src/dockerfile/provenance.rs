//! Decides from an image's history whether a Dockerfile produced the image.
//!
//! Labels are inherited by every image that is built `FROM` another, or committed from one
//! of its containers, so a label is no proof. The recorded id of an image that this tool
//! built is. If there is no record (a fresh clone, another checkout, a pulled image), the
//! image's history is checked instead: it must be the base's history, followed by one entry
//! for each instruction of the Dockerfile, and nothing else. An image that was derived from
//! another has that image's history plus further entries.
//!
//! The image's layers must also start with those of the base, because another image may
//! have the base's name temporarily, with a history of the same text. And it must be for the
//! platform of the base: a name can be pulled that was pushed from another machine. If the
//! comparison is impossible (the engine does not have the base, or the base has `ONBUILD`
//! triggers), the image is built again, from the builder's cache if possible.
//!
//! The two builders write history entries differently (checked on 20.10 to 28): BuildKit
//! writes `COPY a /a # buildkit`, the classic builder `/bin/sh -c #(nop) COPY file:… in /a`,
//! with one more `LABEL` entry at the end for each label that the build request sets. Podman writes
//! what the classic builder does, but quotes values as the Dockerfile does, has a single entry
//! `LABEL "NAME"="VALUE" …` for all labels of the request, and adds a label of its own.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::dockerfile::syntax::Keyword;

/// The prefix of the labels that this tool sets.
pub(crate) const OWN_LABELS: &str = "org.openpai.build.";

/// The label that Podman sets, without an entry in the history.
const PODMAN_LABEL: &str = "io.buildah.version";

/// The instructions that leave an entry in an image's history.
const KEYWORDS: [&str; 17] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// The base and the instructions of a Dockerfile's last stage, including those of the stages
/// that it is built `FROM`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// The external or workspace image at the bottom; `None` for `scratch`.
    pub base: Option<String>,
    pub(crate) instructions: Vec<&'static str>,
}

/// The properties of an image that the engine reports.
#[derive(Clone, Debug, Default)]
pub struct ImageFacts {
    /// The `created_by` text of its history entries, oldest first.
    pub history: Vec<String>,
    /// The digests of its layers, from the bottom up.
    pub layers: Vec<String>,
    /// Its labels, by name.
    pub labels: BTreeMap<String, String>,
    /// Whether it has `ONBUILD` triggers, which run in builds `FROM` it.
    pub has_onbuild: bool,
    /// What it runs on, as `OS/ARCH`; empty if that is unknown.
    pub platform: String,
}

impl Provenance {
    /// A stage `FROM base`, without instructions so far.
    pub(crate) fn of_base(base: Option<String>) -> Self {
        Self { base, instructions: Vec::new() }
    }

    pub(crate) fn add(&mut self, keyword: Keyword) {
        self.instructions.push(keyword.name());
    }

    /// Whether the Dockerfile produced `image`. `base` holds the facts of
    /// [`Provenance::base`]; those of `scratch` are a platform at most.
    pub fn matches(&self, image: &ImageFacts, base: &ImageFacts) -> bool {
        let Some(own) = image.history.strip_prefix(base.history.as_slice()) else { return false };
        let is_own_label = |entry: &&String| {
            let label = entry.split_once("LABEL ").filter(|_| keyword(entry) == "LABEL");
            label.is_some_and(|(_, label)| label.trim_start_matches('"').starts_with(OWN_LABELS))
        };
        let own_labels = own.iter().rev().take_while(is_own_label).count();
        let own = &own[..own.len() - own_labels];
        let is_unknown = |of: &ImageFacts| of.platform.is_empty();
        let keywords = own.iter().map(|entry| keyword(entry));
        // BuildKit adds no history entry for ONBUILD.
        let expects_onbuild = self.instructions.contains(&"ONBUILD");
        image.layers.starts_with(&base.layers)
            && keywords.eq(self.instructions.iter().copied())
            && image.has_onbuild == expects_onbuild
            && (image.platform == base.platform || is_unknown(image) || is_unknown(base))
            && labels_agree(image, base, own)
    }
}

/// Whether an image has exactly the labels of its base and of its `own` history entries.
/// With BuildKit, `docker build --label` adds a label without a history entry.
fn labels_agree(image: &ImageFacts, base: &ImageFacts, own: &[String]) -> bool {
    let entries = own.iter().filter(|entry| keyword(entry) == "LABEL");
    let entries = entries.filter_map(|entry| entry.split_once("LABEL "));
    let entries: Vec<&str> = entries.map(|(_, pairs)| pairs).collect();
    let mut unmatched = format!(" {} ", entries.join("  "));
    let is_podmans = image.labels.contains_key(PODMAN_LABEL);
    let is_set = |name: &str| name.starts_with(OWN_LABELS) || name == PODMAN_LABEL;
    let labels = image.labels.iter().filter(|(name, _)| !is_set(name));
    let mut pairs: Vec<_> = labels
        .map(|(name, value)| {
            let (plain, quoted) = (format!("{name}={value}"), format!("{name}=\"{value}\""));
            let is_quoted = is_podmans && unmatched.contains(&format!(" {quoted} "));
            (if is_quoted { quoted } else { plain }, name)
        })
        .collect();
    // The text of one label may be part of another: match the longest first.
    pairs.sort_by_key(|(pair, _)| Reverse(pair.len()));
    let mut matched = Vec::new();
    for (pair, name) in pairs {
        match unmatched.rfind(&format!(" {pair} ")) {
            Some(at) => {
                unmatched.replace_range(at + 1..=at + pair.len(), &" ".repeat(pair.len()));
                matched.push((at, format!("{name}=")));
            }
            None if is_podmans && take_unexpanded(&mut unmatched, name) => {}
            None if base.labels.get(name) == image.labels.get(name) => {}
            None => return false,
        }
    }
    are_replaced(&unmatched, &matched)
}

/// Whether all that is left of the entries are pairs that a later one of the same name replaces:
/// those that were `matched`, by their places.
fn are_replaced(entries: &str, matched: &[(usize, String)]) -> bool {
    let mut pairs = entries.match_indices(|c| c != ' ').map(|(at, _)| at);
    let mut next = pairs.next();
    while let Some(start) = next {
        let is_later =
            |(at, name): &(usize, String)| entries[start..].starts_with(name) && start < *at;
        if !matched.iter().any(is_later) {
            return false;
        }
        let end = entries[start..].find("  ").map_or(entries.len(), |length| start + length);
        next = pairs.find(|at| *at >= end);
    }
    let is_last = |(at, name): &(usize, String)| !entries[*at..].contains(&format!(" {name}"));
    matched.iter().all(is_last)
}

/// Removes a label whose value has a variable: Podman writes the name of it, where others write
/// what it stood for.
fn take_unexpanded(entries: &mut String, name: &str) -> bool {
    let Some(start) = entries.find(&format!(" {name}=")).map(|at| at + 1) else { return false };
    let mut quote = None;
    let mut is_escaped = false;
    let is_end = |c: char| {
        match (c, quote) {
            _ if is_escaped => is_escaped = false,
            ('\\', _) => is_escaped = true,
            (' ', None) => return true,
            ('"' | '\'', None) => quote = Some(c),
            (_, Some(open)) if open == c => quote = None,
            _ => {}
        }
        false
    };
    let length = entries[start..].find(is_end).unwrap_or(entries.len() - start);
    let label = start..start + length;
    let has_variable = entries[label.clone()].contains('$');
    if has_variable {
        entries.replace_range(label, &" ".repeat(length));
    }
    has_variable
}

/// The keyword of the instruction that a history entry records.
fn keyword(entry: &str) -> &str {
    let text = entry.split_once("#(nop)").map_or(entry, |(_, text)| text);
    let first = text.split_whitespace().next().unwrap_or_default();
    // For RUN, the classic builder records only the command.
    if KEYWORDS.contains(&first) { first } else { "RUN" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::parser;

    fn facts(history: &[&str], layers: &[&str], labels: &[&str]) -> ImageFacts {
        let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        ImageFacts {
            history: own(history),
            layers: own(layers),
            labels: labels
                .iter()
                .filter_map(|label| label.split_once('='))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            has_onbuild: false,
            platform: "linux/amd64".to_owned(),
        }
    }

    fn scratch() -> ImageFacts {
        facts(&[], &[], &[])
    }

    fn provenance(text: &str) -> Provenance {
        parser::parse(text.as_bytes(), &BTreeMap::new(), None).unwrap().provenance
    }

    const TEXT: &str = "FROM base AS one\nCOPY f /\nFROM other\nRUN x\n\
                        FROM one\nLABEL a=b \"c d\"=e\nRUN make\nCMD [\"y\"]\n";

    #[test]
    fn only_stages_that_the_last_one_is_built_from_count() {
        let found = provenance(TEXT);
        assert_eq!(found.base.as_deref(), Some("base"));
        assert_eq!(found.instructions, ["COPY", "LABEL", "RUN", "CMD"]);
        assert_eq!(provenance("FROM scratch\nCOPY f /\n").base, None);
    }

    #[test]
    fn the_histories_of_all_builders_match() {
        let base = facts(&["ENV A=1", "RUN /bin/sh -c y # buildkit"], &["l0"], &[]);
        let buildkit = [
            "ENV A=1",
            "RUN /bin/sh -c y # buildkit",
            "COPY f / # buildkit",
            "LABEL a=b c d=e",
            "RUN |1 W=x /bin/sh -c make # buildkit",
            "CMD [\"y\"]",
        ];
        let classic = [
            "ENV A=1",
            "RUN /bin/sh -c y # buildkit",
            "/bin/sh -c #(nop) COPY file:00 in / ",
            "/bin/sh -c #(nop)  LABEL a=b c d=e",
            "/bin/sh -c make",
            "/bin/sh -c #(nop)  CMD [\"y\"]",
            "/bin/sh -c #(nop)  LABEL org.openpai.build.bases=",
            "/bin/sh -c #(nop)  LABEL org.openpai.build.fingerprint=0",
        ];
        let podman = [
            "ENV A=1",
            "RUN /bin/sh -c y # buildkit",
            "/bin/sh -c #(nop) COPY file:00 in / ",
            "/bin/sh -c #(nop) LABEL a=\"b\" c d=e",
            "/bin/sh -c make",
            "/bin/sh -c #(nop) CMD [\"y\"]",
            "/bin/sh -c #(nop) LABEL \"org.openpai.build.bases\"=\"\" \"org.openpai.build.fingerprint\"=\"0\"",
        ];
        let podmans_label = ["a=b", "c d=e", "io.buildah.version=1"];
        for (history, labels) in [
            (&buildkit[..], &["a=b", "c d=e"][..]),
            (&classic, &["a=b", "c d=e"]),
            (&podman, &podmans_label),
        ] {
            let image = facts(history, &["l0", "l1", "l2"], labels);
            assert!(provenance(TEXT).matches(&image, &base), "{history:?}");
            let of_another = facts(history, &["other", "l1", "l2"], &["a=b", "c d=e"]);
            assert!(!provenance(TEXT).matches(&of_another, &base));
        }
    }

    #[test]
    fn podman_s_history_names_the_variables_of_labels() {
        let made = provenance("FROM scratch\nARG W\nLABEL a=$W b=\"${W} c\" d=e\nLABEL f=$W\n");
        let entry = "/bin/sh -c #(nop) LABEL a=$W b=\"${W} c\" d=e";
        let history = ["/bin/sh -c #(nop) ARG W", entry, "/bin/sh -c #(nop) LABEL f=$W"];
        let is_made = |labels: &[&str]| made.matches(&facts(&history, &[], labels), &scratch());
        let labels = ["a=x", "b=x c", "d=e", "f=x", "io.buildah.version=1"];
        assert!(is_made(&labels));
        assert!(!is_made(&labels[..4]), "others write the values");
        assert!(!is_made(&["a=x", "b=x c", "d=y", "f=x", "io.buildah.version=1"]));
        assert!(!is_made(&[&labels[..], &["more=1"]].concat()));
        assert!(!is_made(&labels[1..]));
    }

    #[test]
    fn a_later_label_replaces_an_earlier_one() {
        let made = provenance("FROM scratch\nLABEL a=1 b=x\nLABEL c=3 a=\"2 2\"\nLABEL a=4\n");
        let is_made = |histories: [&str; 3], labels: &[&str]| {
            made.matches(&facts(&histories, &[], labels), &scratch())
        };
        let buildkit = ["LABEL a=1 b=x", "LABEL c=3 a=2 2", "LABEL a=4"];
        let classic = buildkit.map(|entry| format!("/bin/sh -c #(nop)  {entry}"));
        let podman = [
            "/bin/sh -c #(nop) LABEL a=\"1\" b=x",
            "/bin/sh -c #(nop) LABEL c=3 a=\"2 2\"",
            "/bin/sh -c #(nop) LABEL a=4",
        ];
        let labels = ["a=4", "b=x", "c=3"];
        assert!(is_made(buildkit, &labels));
        assert!(is_made(classic.each_ref().map(String::as_str), &labels));
        assert!(is_made(podman, &["a=4", "b=x", "c=3", "io.buildah.version=1"]));
        for labels in [["a=1", "b=x", "c=3"], ["a=2 2", "b=x", "c=3"], ["a=5", "b=x", "c=3"]] {
            assert!(!is_made(buildkit, &labels), "{labels:?}");
        }
        assert!(!is_made(buildkit, &["a=4", "b=x", "c=3", "d=1"]));
        assert!(!is_made(buildkit, &["a=4", "b=x"]));
    }

    #[test]
    fn derived_images_do_not_match() {
        let made = provenance("FROM scratch\nCOPY f /\nLABEL a=b\n");
        let ours = ["COPY f / # buildkit", "LABEL a=b"];
        let own = |more: &[&str], labels: &[&str]| {
            let history: Vec<&str> = ours.iter().chain(more).copied().collect();
            made.matches(&facts(&history, &["l0"], labels), &scratch())
        };
        let labels = ["a=b", "org.openpai.build.fingerprint=0"];
        assert!(own(&[], &labels));
        for more in ["COPY x /evil # buildkit", "LABEL s=1", "ENV X=1", "sh", "", "CMD [\"x\"]"] {
            assert!(!own(&[more], &labels), "{more}");
        }
        for labels in [&["a=b", "stranger=1"][..], &["a=c"], &["a="], &["a=b "], &[]] {
            assert!(
                !own(&[], labels),
                "'docker build --label' may add no history entry: {labels:?}"
            );
        }
        let triggers = ImageFacts { has_onbuild: true, ..facts(&ours, &["l0"], &labels) };
        assert!(!made.matches(&triggers, &scratch()), "nor does ONBUILD");
        let on = |platform: &str| {
            let platform = platform.to_owned();
            made.matches(&ImageFacts { platform, ..facts(&ours, &["l0"], &labels) }, &scratch())
        };
        assert!(on("") && !on("linux/arm64") && !on("windows/amd64"));
        assert!(!made.matches(&facts(&ours[..1], &["l0"], &labels), &scratch()));
    }
}
