//! Why an image would be built, or what it was built from, as indented lines.

use std::time::SystemTime;

use xtask_core::escape;
use xtask_core::staleness::fingerprint::{Change, IngredientKind, Value};
use xtask_core::staleness::reason::Reason;

use crate::commands::why::{Base, Cause, Explanation, UsedImage};
use crate::engine::ImageDetails;
use crate::outcome::ImageState;
use crate::report::text;

/// The digits of an id or fingerprint that are shown, as Docker does.
const DIGITS: usize = 12;

/// The lines about one image; it is as old as it is at `now`.
pub(crate) fn lines(explanation: &Explanation, now: SystemTime) -> Vec<String> {
    let Explanation { cause, found, .. } = explanation;
    let mut lines = Lines::default();
    let state = match &cause.planned.state {
        ImageState::UpToDate => "up to date",
        ImageState::Restored => "restored: will be retagged",
        ImageState::Stale { .. } => "stale",
        ImageState::Undecided { .. } => "undecided",
    };
    lines.add(0, format!("{} ({}): {state}", cause.planned.image, cause.component));
    lines.reasons(1, cause);
    match found {
        Some(found) => lines.built(explanation, found, now),
        // A reason says so.
        None if matches!(cause.planned.state, ImageState::Stale { .. }) => {}
        None => lines.add(1, "the engine has no image of this name"),
    }
    lines.0
}

#[derive(Default)]
struct Lines(Vec<String>);

impl Lines {
    fn add(&mut self, depth: usize, line: impl AsRef<str>) {
        self.0.push("  ".repeat(depth) + &escape::line(line.as_ref()));
    }

    /// The reasons of an image, each with the images that it comes from below it.
    fn reasons(&mut self, depth: usize, cause: &Cause) {
        let reasons = match &cause.planned.state {
            ImageState::Stale { reasons } => reasons.as_slice(),
            ImageState::Undecided { undecided } => {
                self.add(depth, undecided);
                &[]
            }
            ImageState::UpToDate | ImageState::Restored => return,
        };
        for reason in reasons {
            match reason {
                Reason::Changed { changes } => {
                    for change in changes.iter().filter(|change| !is_repeated(change, changes)) {
                        self.add(depth, change_line(change, cause));
                    }
                }
                Reason::BaseMoved { reference, then, now } => {
                    let used = cause.uses.iter().find(|used| used.reference == *reference);
                    let place = used.map(|used| place(used, cause)).unwrap_or_default();
                    let then = if then.is_empty() { "none" } else { then };
                    self.add(depth, format!("base {reference} moved: {then} → {now}{place}"));
                }
                // With those that are undecided, below.
                Reason::BaseRebuilt { image, .. } if is_followed(image, cause) => {}
                Reason::BaseRebuilt { image, .. } => {
                    let mut uses = cause.uses.iter();
                    let used = uses.find(|used| used.name.as_ref() == Some(image));
                    let place = used.map(|used| place(used, cause)).unwrap_or_default();
                    self.add(depth, format!("{reason}{place}"));
                }
                Reason::OtherFingerprint { fingerprint } => {
                    let found = short(fingerprint);
                    self.add(
                        depth,
                        format!("{reason} ({found}), of whose inputs there is no record"),
                    );
                }
                Reason::Missing | Reason::NotOnRecord | Reason::Derived | Reason::Forced { .. } => {
                    self.add(depth, reason.to_string());
                }
            }
        }
        if let Some(hooks) = &cause.hooks
            && !matches!(&cause.planned.state, ImageState::Undecided { undecided } if undecided == hooks)
        {
            self.add(depth, format!("hooks of {}: {hooks}", cause.component));
        }
        for declared in &cause.declared {
            if let Some(hooks) = &declared.hooks {
                let (name, file, line) = (&declared.name, &declared.file, declared.line);
                self.add(
                    depth,
                    format!("hooks of {name}: {hooks}, component.dep in {file}:{line}"),
                );
            }
        }
        for used in &cause.uses {
            self.base(depth, used, cause);
        }
    }

    /// An image that is used and not settled, with its own reasons.
    fn base(&mut self, depth: usize, used: &UsedImage, cause: &Cause) {
        let (more, base) = match &used.base {
            Base::Settled => return,
            Base::Repeated => (": see above", None),
            Base::Cause(base) => ("", Some(base)),
        };
        let name = used.name.as_ref().unwrap_or(&used.reference);
        let verb = match base.map(|base| &base.planned.state) {
            Some(ImageState::Undecided { .. }) => "is decided during the build",
            _ => "will be rebuilt",
        };
        self.add(depth, format!("{name} {verb}{}{more}", place(used, cause)));
        if let Some(base) = base {
            self.reasons(depth + 1, base);
        }
    }

    /// What the image in the engine was built from.
    fn built(&mut self, explanation: &Explanation, found: &ImageDetails, now: SystemTime) {
        let age = found.age(now).map_or_else(|| "at an unknown time".to_owned(), text::age);
        let Some(tracked) = &found.tracked else {
            self.add(
                1,
                format!("image {} was built {age}, and not by this tool", short(&found.id)),
            );
            return;
        };
        let fingerprint = short(tracked.fingerprint());
        self.add(1, format!("built {age}: image {}, fingerprint {fingerprint}", short(&found.id)));
        let cause = &explanation.cause;
        match &explanation.manifest {
            Some(manifest) => {
                let files = text::counted(manifest.files());
                self.add(1, format!("from {} and {files}", cause.dockerfile));
            }
            None => self.add(1, format!("from {}", cause.dockerfile)),
        }
        for (reference, id) in tracked.bases() {
            let used = cause.uses.iter().find(|used| used.reference == *reference);
            let place = used.map(|used| place(used, cause)).unwrap_or_default();
            self.add(1, format!("from image {reference} {}{place}", short(id)));
        }
        match &explanation.manifest {
            Some(_) => self.add(1, format!("record: {}", explanation.record)),
            None => self.add(1, format!("record: none in {}", explanation.record)),
        }
    }
}

/// Whether an image is explained below the reasons, among the images that are used.
fn is_followed(image: &str, cause: &Cause) -> bool {
    let mut uses = cause.uses.iter();
    uses.any(|used| used.name.as_deref() == Some(image) && !matches!(used.base, Base::Settled))
}

/// Whether a change of a Dockerfile is said already: it is also a file of its context.
fn is_repeated(change: &Change, changes: &[Change]) -> bool {
    let is_dockerfile = |other: &Change| {
        other.ingredient == IngredientKind::Dockerfile && other.name == change.name
    };
    change.ingredient == IngredientKind::Path && changes.iter().any(is_dockerfile)
}

/// The instruction that uses an image.
fn place(used: &UsedImage, cause: &Cause) -> String {
    format!(", {} in {}:{}", used.via, cause.dockerfile, used.line)
}

/// A change with its values, and the declaration by which it reaches the image.
fn change_line(change: &Change, cause: &Cause) -> String {
    let mut line = change.to_string();
    if let Some(values) = values(change) {
        line.push_str(&format!(": {values}"));
    }
    let is_below = |dir: &str| {
        change.name.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if let Some(declared) = cause.declared.iter().find(|declared| is_below(&declared.dir)) {
        line.push_str(&format!(", component.dep in {}:{}", declared.file, declared.line));
    }
    line
}

fn values(change: &Change) -> Option<String> {
    let is_arg = change.ingredient == IngredientKind::Arg;
    Some(match (&change.then, &change.now) {
        (Some(Value::Digest(_)), _) | (_, Some(Value::Digest(_))) if is_arg => {
            "its values are not recorded".to_owned()
        }
        (
            Some(Value::Entry { kind, mode, digest }),
            Some(Value::Entry { kind: new_kind, mode: new_mode, digest: new_digest }),
        ) => {
            let mut parts = Vec::new();
            if kind != new_kind {
                parts.push(format!("{} → {}", noun(*kind), noun(*new_kind)));
            }
            if mode != new_mode {
                parts.push(format!("mode {mode:o} → {new_mode:o}"));
            }
            if digest != new_digest {
                parts.push(format!("contents {} → {}", hex(*digest), hex(*new_digest)));
            }
            parts.join(", ")
        }
        (Some(Value::Digest(then)), Some(Value::Digest(now))) => {
            format!("contents {} → {}", hex(*then), hex(*now))
        }
        (Some(then), Some(now)) => format!("{} → {}", shown(then), shown(now)),
        (None, Some(now)) => shown(now),
        (Some(then), None) => format!("was {}", shown(then)),
        (None, None) => return None,
    })
}

fn shown(value: &Value) -> String {
    match value {
        Value::Digest(digest) => hex(*digest),
        Value::Text(text) => format!("'{text}'"),
        Value::Entry { kind, mode, digest } => {
            format!("{} {mode:o} {}", noun(*kind), hex(*digest))
        }
    }
}

fn noun(kind: u8) -> &'static str {
    match kind {
        b'd' => "folder",
        b'l' => "link",
        b'p' => "fifo",
        b'c' | b'b' => "device",
        _ => "file",
    }
}

/// The first digits of a digest.
fn hex(digest: u64) -> String {
    format!("{:08x}", digest >> 32)
}

fn short(id: &str) -> &str {
    let digits = id.strip_prefix("sha256:").unwrap_or(id);
    digits.get(..DIGITS).unwrap_or(digits)
}
