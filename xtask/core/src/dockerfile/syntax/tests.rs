use std::collections::BTreeMap;

use crate::dockerfile::parser;

/// `buildkit.txt` is described in its first lines. What BuildKit refuses is for it to refuse.
#[test]
fn files_are_what_buildkit_makes_of_them() {
    let rows = include_str!("buildkit.txt").lines().filter(|line| !line.starts_with('#'));
    let (mut count, mut wrong) = (0, Vec::new());
    for row in rows {
        let (text, expected): (String, Option<Vec<String>>) = serde_json::from_str(row).unwrap();
        let Some(expected) = expected else { continue };
        let found = parser::parse(text.as_bytes(), &BTreeMap::new(), None);
        let found = found.map(|found| {
            let mut keywords = found.provenance.instructions;
            keywords.sort_unstable();
            keywords
        });
        if found.as_deref().is_ok_and(|found| *found == expected) {
            count += 1;
        } else {
            wrong.push(format!("{row}: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 100);
}
