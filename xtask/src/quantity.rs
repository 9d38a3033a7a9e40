//! Sizes and numbers of things, as people read them.

/// A size in the largest unit of which there is at least one.
pub(crate) fn bytes(size: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.iter().find(|(_, shift)| size >> shift > 0) {
        Some((unit, shift)) => {
            let tenths = (u128::from(size) * 10) >> shift;
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => format!("{size} B"),
    }
}

/// A number of things, of which `noun` names one.
pub(crate) fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}
