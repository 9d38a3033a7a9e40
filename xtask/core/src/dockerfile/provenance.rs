//! Whether an image is one that its Dockerfile made, told by the image itself.
//!
//! Labels are inherited by every image that is built `FROM` another, committed from its
//! container or relabelled, so a label proves nothing. The id of an image that we built
//! does, and is on record. Where the record is lost (a fresh clone, another checkout, an
//! image that was pulled), the image's own history has to prove it: it begins with that of
//! its base, goes on with one entry for each instruction of the Dockerfile, and ends there.
//! Whatever is made from an image has its whole history and more.
//!
//! The layers must begin with those of the base, too: another image may have the base's
//! name for a moment, and a history of the same words. What cannot be compared (a base
//! that the engine does not hold, `ONBUILD` triggers of it) proves nothing: the image is
//! built again, from the builder's cache where that knows it.
//!
//! Both builders tell instructions in their own way (seen on 20.10 to 28): BuildKit
//! `COPY a /a # buildkit`, the classic one `/bin/sh -c #(nop) COPY file:… in /a`, and for
//! the labels that we ask for one `LABEL` each at the end.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use parse_dockerfile::Instruction;

/// The labels that the tool itself sets begin so.
const OWN_LABELS: &str = "org.openpai.build.";

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

/// What a Dockerfile makes its image from: the last stage, with the stages that it is
/// made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// The image that all of it begins with; none for `scratch`.
    pub base: Option<String>,
    instructions: Vec<&'static str>,
}

/// What an engine says of an image.
#[derive(Clone, Debug, Default)]
pub struct ImageFacts {
    /// Its instructions, the first one first.
    pub history: Vec<String>,
    /// The digests of its layers, the lowest first.
    pub layers: Vec<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it has `ONBUILD` instructions for those who build on it.
    pub has_onbuild: bool,
}

impl Provenance {
    /// Of a stage without instructions, made from `base`.
    pub fn of_base(base: Option<String>) -> Self {
        Self { base, instructions: Vec::new() }
    }

    /// Adds an instruction.
    pub fn add(&mut self, instruction: &Instruction<'_>) {
        let keyword = match instruction {
            Instruction::Add(_) => "ADD",
            Instruction::Arg(_) => "ARG",
            Instruction::Cmd(_) => "CMD",
            Instruction::Copy(_) => "COPY",
            Instruction::Entrypoint(_) => "ENTRYPOINT",
            Instruction::Env(_) => "ENV",
            Instruction::Expose(_) => "EXPOSE",
            Instruction::Healthcheck(_) => "HEALTHCHECK",
            Instruction::Label(_) => "LABEL",
            Instruction::Maintainer(_) => "MAINTAINER",
            Instruction::Onbuild(_) => "ONBUILD",
            Instruction::Run(_) => "RUN",
            Instruction::Shell(_) => "SHELL",
            Instruction::Stopsignal(_) => "STOPSIGNAL",
            Instruction::User(_) => "USER",
            Instruction::Volume(_) => "VOLUME",
            Instruction::Workdir(_) => "WORKDIR",
            // One that is not known matches no entry.
            _ => "",
        };
        self.instructions.push(keyword);
    }

    /// Whether an image is what the Dockerfile makes of `base`: the facts of
    /// [`Provenance::base`], none for `scratch`.
    pub fn is_of(&self, image: &ImageFacts, base: Option<&ImageFacts>) -> bool {
        let nothing = ImageFacts::default();
        let base = base.unwrap_or(&nothing);
        let Some(own) = image.history.strip_prefix(base.history.as_slice()) else { return false };
        let is_added = |entry: &&String| {
            keyword(entry) == "LABEL" && entry.contains(&format!("LABEL {OWN_LABELS}"))
        };
        let added = own.iter().rev().take_while(is_added).count();
        let own = &own[..own.len() - added];
        let told = own.iter().map(|entry| keyword(entry));
        // BuildKit does not tell of triggers.
        let may_have_triggers = self.instructions.contains(&"ONBUILD");
        image.layers.starts_with(&base.layers)
            && told.eq(self.instructions.iter().copied())
            && image.has_onbuild == may_have_triggers
            && labels_agree(image, base, own)
    }
}

/// Whether an image has the labels that its `own` history tells of, those of its base, and
/// no more: `docker build --label` leaves no entry with BuildKit.
fn labels_agree(image: &ImageFacts, base: &ImageFacts, own: &[String]) -> bool {
    let entries = own.iter().filter(|entry| keyword(entry) == "LABEL");
    let entries = entries.filter_map(|entry| entry.split_once("LABEL "));
    let entries: Vec<&str> = entries.map(|(_, pairs)| pairs).collect();
    let mut told = format!(" {} ", entries.join("  "));
    let labels = image.labels.iter().filter(|(name, _)| !name.starts_with(OWN_LABELS));
    let mut pairs: Vec<_> = labels.map(|(name, value)| (format!("{name}={value}"), name)).collect();
    // One may be told within another.
    pairs.sort_by_key(|(pair, _)| Reverse(pair.len()));
    for (pair, name) in pairs {
        match told.find(&format!(" {pair} ")) {
            Some(at) => told.replace_range(at + 1..=at + pair.len(), ""),
            None if base.labels.get(name) == image.labels.get(name) => {}
            None => return false,
        }
    }
    told.trim().is_empty()
}

/// The instruction that an entry of a history tells of.
fn keyword(entry: &str) -> &str {
    let text = entry.split_once("#(nop)").map_or(entry, |(_, text)| text);
    let first = text.split_whitespace().next().unwrap_or_default();
    // Without its word it is what the classic builder tells of RUN: the command.
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
        }
    }

    fn provenance(text: &str) -> Provenance {
        parser::parse(text.as_bytes(), &BTreeMap::new()).unwrap().provenance
    }

    const TEXT: &str = "FROM base AS one\nCOPY f /\nFROM other\nRUN x\n\
                        FROM one\nLABEL a=b \"c d\"=e\nRUN make\nCMD [\"y\"]\n";

    #[test]
    fn the_stages_that_the_last_one_is_made_from_count() {
        let found = provenance(TEXT);
        assert_eq!(found.base.as_deref(), Some("base"));
        assert_eq!(found.instructions, ["COPY", "LABEL", "RUN", "CMD"]);
        assert_eq!(provenance("FROM scratch\nCOPY f /\n").base, None);
    }

    #[test]
    fn what_both_builders_tell_is_understood() {
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
        for history in [&buildkit[..], &classic] {
            let image = facts(history, &["l0", "l1", "l2"], &["a=b", "c d=e"]);
            assert!(provenance(TEXT).is_of(&image, Some(&base)), "{history:?}");
            let of_another = facts(history, &["other", "l1", "l2"], &["a=b", "c d=e"]);
            assert!(!provenance(TEXT).is_of(&of_another, Some(&base)));
        }
    }

    #[test]
    fn whatever_is_made_from_it_is_not_it() {
        let made = provenance("FROM scratch\nCOPY f /\nLABEL a=b\n");
        let ours = ["COPY f / # buildkit", "LABEL a=b"];
        let own = |more: &[&str], labels: &[&str]| {
            let history: Vec<&str> = ours.iter().chain(more).copied().collect();
            made.is_of(&facts(&history, &["l0"], labels), None)
        };
        let labels = ["a=b", "org.openpai.build.fingerprint=0"];
        assert!(own(&[], &labels));
        for more in ["COPY x /evil # buildkit", "LABEL s=1", "ENV X=1", "sh", "", "CMD [\"x\"]"] {
            assert!(!own(&[more], &labels), "{more}");
        }
        for labels in [&["a=b", "stranger=1"][..], &["a=c"], &["a="], &["a=b "], &[]] {
            assert!(!own(&[], labels), "'docker build --label' may leave no entry: {labels:?}");
        }
        let triggers = ImageFacts { has_onbuild: true, ..facts(&ours, &["l0"], &labels) };
        assert!(!made.is_of(&triggers, None), "nor does ONBUILD");
        assert!(!made.is_of(&facts(&ours[..1], &["l0"], &labels), None));
    }
}
