//! What is done about an image, and every reason for it: pure, from what was compared.

use xtask_core::staleness::fingerprint::{Change, ChangeKind, IngredientKind, Manifest};
use xtask_core::staleness::reason::Reason;
use xtask_core::workspace::components::Image;

/// What is done about an image. [`crate::build::image`] is the one place that does it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    UpToDate,
    /// It is tagged with its name again.
    Restore {
        /// The engine's id of it.
        id: String,
    },
    Build(Vec<Reason>),
}

/// All reasons for which an image is stale: `reason` is what the engine's labels show,
/// `wanted` what the image would be made from, `previous` what the last one was made from,
/// if that is on record: both are worked out only if they are needed. `exists` tells of a
/// path whether it is in the workspace.
pub(crate) fn explain(
    reason: Reason,
    image: &Image,
    wanted: impl FnOnce() -> Manifest,
    previous: impl FnOnce() -> Option<Manifest>,
    exists: impl Fn(&str) -> bool,
) -> Vec<Reason> {
    match reason {
        Reason::OtherFingerprint { fingerprint } => {
            let previous = previous().filter(|then| then.fingerprint.to_string() == fingerprint);
            let changes = previous.map(|then| wanted().changes_since(&then)).unwrap_or_default();
            let reasons = of_changes(image, changes, exists);
            if reasons.is_empty() {
                vec![Reason::OtherFingerprint { fingerprint }]
            } else {
                reasons
            }
        }
        Reason::BaseMoved { reference, then, now } => {
            let used = image.uses.iter().find(|used| used.reference == reference);
            vec![match used.and_then(|used| used.local.as_ref()) {
                Some(name) => Reason::BaseRebuilt { image: name.clone(), is_planned: false },
                None => Reason::BaseMoved { reference, then, now },
            }]
        }
        reason => vec![reason],
    }
}

/// The Dockerfile and the component's own files come first: people mostly edit those.
fn of_changes(
    image: &Image,
    mut changes: Vec<Change>,
    exists: impl Fn(&str) -> bool,
) -> Vec<Reason> {
    let own = image.dockerfile.split("build/").next().unwrap_or_default();
    changes.sort_by_key(|change| {
        (change.ingredient != IngredientKind::Dockerfile, !change.name.starts_with(own))
    });
    leave_out_unread(&mut changes, exists);
    let is_rebuilt = |change: &Change| {
        change.ingredient == IngredientKind::Base && change.kind != ChangeKind::Removed
    };
    let (bases, changes): (Vec<_>, Vec<_>) = changes.into_iter().partition(is_rebuilt);
    let changed = (!changes.is_empty()).then_some(Reason::Changed { changes });
    let rebuilt = bases
        .into_iter()
        .map(|change| Reason::BaseRebuilt { image: change.name, is_planned: false });
    changed.into_iter().chain(rebuilt).collect()
}

/// A file that is only no longer read has not gone: the Dockerfile or the build arg by which
/// it was read has changed.
fn leave_out_unread(changes: &mut Vec<Change>, exists: impl Fn(&str) -> bool) {
    let is_cause = |change: &Change| {
        matches!(change.ingredient, IngredientKind::Dockerfile | IngredientKind::Arg)
    };
    if changes.iter().any(is_cause) {
        changes.retain(|change| {
            let is_gone =
                change.ingredient == IngredientKind::Path && change.kind == ChangeKind::Removed;
            !is_gone || !exists(&change.name)
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use xtask_core::dockerfile::parser;
    use xtask_core::staleness::fingerprint::Recipe;
    use xtask_core::workspace::config::settings::ImageSettings;

    use super::*;

    fn image(text: &str) -> Image {
        let parsed = parser::parse(text.as_bytes(), &BTreeMap::new(), None).unwrap();
        Image {
            name: "a".to_owned(),
            dockerfile: "src/a/build/a.dockerfile".to_owned(),
            context: "src/a".to_owned(),
            shares_dockerfile: false,
            settings: ImageSettings::default(),
            build_args: BTreeMap::new(),
            naming_args: parsed.naming_args,
            stages: parsed.stages,
            mounts: parsed.mounts,
            dockerfile_digest: blake3::hash(text.as_bytes()),
            uses: parsed.uses,
            args: parsed.args,
            context_reads: parsed.context_reads,
            has_onbuild: parsed.has_onbuild,
            provenance: parsed.provenance,
        }
    }

    fn manifest(ingredients: &[(IngredientKind, &str, &str)]) -> Manifest {
        let mut recipe = Recipe::default();
        for (kind, name, value) in ingredients {
            recipe.add(*kind, *name, *value);
        }
        recipe.manifest()
    }

    /// The reasons for which an image made from `then` is stale, as they are printed.
    fn reasons(
        then: &[(IngredientKind, &str, &str)],
        now: &[(IngredientKind, &str, &str)],
        existing: &[&str],
    ) -> Vec<String> {
        let (then, now) = (manifest(then), manifest(now));
        let other = Reason::OtherFingerprint { fingerprint: then.fingerprint.to_string() };
        let image = image("FROM base\n");
        let exists = |path: &str| existing.contains(&path);
        let reasons = explain(other, &image, || now, || Some(then), exists);
        reasons.iter().map(ToString::to_string).collect()
    }

    const DOCKERFILE: (IngredientKind, &str, &str) =
        (IngredientKind::Dockerfile, "src/a/build/a.dockerfile", "FROM base");
    const EDITED: (IngredientKind, &str, &str) =
        (IngredientKind::Dockerfile, "src/a/build/a.dockerfile", "FROM base2");
    const OWN: (IngredientKind, &str, &str) = (IngredientKind::Path, "src/a/z", "1");
    const OTHERS: (IngredientKind, &str, &str) = (IngredientKind::Path, "src/0/a", "1");
    const BASE: (IngredientKind, &str, &str) = (IngredientKind::Base, "base", "1");

    #[test]
    fn what_people_edit_comes_first() {
        let edited = reasons(&[DOCKERFILE], &[EDITED, OWN, OTHERS], &[]);
        assert_eq!(edited, ["src/a/build/a.dockerfile changed (+2 more)"]);
        assert_eq!(reasons(&[], &[OTHERS, OWN], &[]), ["src/a/z added (+1 more)"]);
    }

    #[test]
    fn a_rebuilt_base_is_a_reason_of_its_own() {
        let both = reasons(&[], &[BASE, OWN], &[]);
        assert_eq!(both, ["src/a/z added", "base was rebuilt"]);
    }

    #[test]
    fn a_base_that_is_gone_was_not_rebuilt() {
        assert_eq!(reasons(&[BASE, OWN], &[OWN], &[]), ["image base removed"]);
        let edited = reasons(&[DOCKERFILE, BASE], &[EDITED], &[]);
        assert_eq!(edited, ["src/a/build/a.dockerfile changed (+1 more)"]);
    }

    #[test]
    fn a_file_that_is_only_no_longer_read_is_not_called_removed() {
        let unread = reasons(&[DOCKERFILE, OWN], &[EDITED], &["src/a/z"]);
        assert_eq!(unread, ["src/a/build/a.dockerfile changed"]);
        let removed = reasons(&[DOCKERFILE, OWN], &[EDITED], &[]);
        assert_eq!(removed, ["src/a/build/a.dockerfile changed (+1 more)"]);
        assert_eq!(reasons(&[OWN], &[], &["src/a/z"]), ["src/a/z removed"]);
    }

    #[test]
    fn without_a_record_of_that_fingerprint_only_the_fingerprint_is_known() {
        let image = image("FROM base\n");
        let other = || Reason::OtherFingerprint { fingerprint: "x".to_owned() };
        let unknown = |previous: Option<Manifest>| {
            let now = || manifest(&[OWN]);
            explain(other(), &image, now, || previous, |_| true)
        };
        assert_eq!(unknown(None), [other()]);
        assert_eq!(unknown(Some(manifest(&[BASE]))), [other()]);
    }

    #[test]
    fn a_moved_base_of_the_workspace_was_rebuilt() {
        let mut image = image("FROM base\n");
        let never = || unreachable!("a moved base needs no manifest");
        let moved = || Reason::BaseMoved {
            reference: "base".to_owned(),
            then: "1".to_owned(),
            now: "2".to_owned(),
        };
        let rebuilt = Reason::BaseRebuilt { image: "ours".to_owned(), is_planned: false };
        let external = explain(moved(), &image, never, || None, |_| true);
        assert_eq!(external, [moved()]);
        image.uses[0].local = Some("ours".to_owned());
        let local = explain(moved(), &image, never, || None, |_| true);
        assert_eq!(local, [rebuilt]);
    }
}
