//! How two lock files differ, as text or JSON.

use serde_json::{Value, json};
use xtask_core::escape;

use crate::commands::image_lock::LockedImage;
use crate::commands::lock::{Change, Difference};
use crate::report::table::align;

/// The digits of digests and commits that people see.
const SHORT: usize = 12;

/// A line for each image that differs.
pub(crate) fn lines(differences: &[Difference]) -> Vec<String> {
    let rows: Vec<[String; 4]> = differences.iter().map(row).collect();
    align(&rows)
}

fn row(difference: &Difference) -> [String; 4] {
    let Difference { image, change, old, new } = difference;
    let sides = |of: fn(&LockedImage) -> String| {
        let sides: Vec<String> = [old, new].into_iter().flatten().map(of).collect();
        match &sides[..] {
            [old, new] if old == new => old.clone(),
            sides => sides.join(" -> "),
        }
    };
    let what = if *change == Change::Retagged { sides(references) } else { sides(digests) };
    let columns = [image.clone(), word(change).to_owned(), what, sides(commit)];
    columns.map(|column| escape::line(&column).into_owned())
}

/// One JSON object for each image that differs.
pub(crate) fn document(differences: &[Difference]) -> Value {
    let object = |difference: &Difference| {
        let Difference { image, change, old, new } = difference;
        json!({ "image": image, "change": word(change), "old": old, "new": new })
    };
    differences.iter().map(object).collect()
}

fn word(change: &Change) -> &'static str {
    match change {
        Change::Added => "added",
        Change::Removed => "removed",
        Change::Changed => "changed",
        Change::Rebuilt => "rebuilt",
        Change::Retagged => "retagged",
    }
}

fn references(image: &LockedImage) -> String {
    image.pushed.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn digests(image: &LockedImage) -> String {
    let short =
        |digest: &str| digest.split_once(':').map_or("", |(_, hex)| &hex[..SHORT]).to_owned();
    image.digests().into_iter().map(short).collect::<Vec<_>>().join(", ")
}

fn commit(image: &LockedImage) -> String {
    let dirty = if image.dirty { "-dirty" } else { "" };
    let commit = image.commit.as_deref().unwrap_or("no commit");
    format!("{}{dirty}", commit.get(..SHORT).unwrap_or(commit))
}
