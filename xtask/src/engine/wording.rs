//! An engine's words about a failure, as today's engines say it, so that they are the same from
//! all of them: older ones say it otherwise, and some name what has no meaning for anybody else.

use std::borrow::Cow;

/// How old engines begin and end the failure of a `RUN`.
const RAN: &str = "executor failed running [";
const RAN_END: &str = "]: exit code: ";

/// What a missing file is looked for in: the rest is an ID that changes from build to build.
const CHECKSUM: &str = "failed to calculate checksum of ref ";

/// How old engines end the message about a missing file.
const NOT_FOUND: &str = "\" not found: not found";

/// The message in today's words.
pub(super) fn of_today(message: &str) -> Cow<'_, str> {
    if let Some((before, rest)) = message.split_once(RAN)
        && let Some((command, code)) = rest.rsplit_once(RAN_END)
    {
        let failed = format!("process \"{command}\" did not complete successfully");
        return format!("{before}{failed}: exit code: {code}").into();
    }
    if let Some((before, rest)) = message.split_once(CHECKSUM)
        && let Some((_, path)) = rest.split_once(": \"")
    {
        return format!("{before}\"{path}").into();
    }
    match message.strip_suffix(NOT_FOUND) {
        Some(before) => format!("{before}\": not found").into(),
        None => message.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_words_are_those_of_today() {
        for (old, today) in [
            (
                "executor failed running [/bin/sh -c a [b]: exit code: 1; exit 3]: exit code: 3",
                "process \"/bin/sh -c a [b]: exit code: 1; exit 3\" did not complete successfully: \
                 exit code: 3",
            ),
            (
                "failed to compute cache key: \"/none\" not found: not found",
                "failed to compute cache key: \"/none\": not found",
            ),
            (
                "failed to compute cache key: failed to calculate checksum of ref a::b: \"/x: \\\"y\": \
                 not found",
                "failed to compute cache key: \"/x: \\\"y\": not found",
            ),
            ("something else: not found", "something else: not found"),
        ] {
            assert_eq!(of_today(old), today);
            assert_eq!(of_today(today), today);
        }
    }
}
