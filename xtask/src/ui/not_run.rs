//! The components that a failure or an interrupt kept from running, summed up at the end of a
//! round instead of listed one by one.

use std::collections::BTreeMap;

use crate::event::Event;
use crate::outcome::Outcome;

/// More names are counted.
const MAX_NAMES: usize = 5;

/// By the component that failed; by none after an interrupt or in a round that ended early.
#[derive(Default)]
pub(crate) struct NotRun(BTreeMap<Option<String>, Vec<String>>);

impl NotRun {
    /// Notes a component that did not run; false for every other event.
    pub(crate) fn note(&mut self, event: &Event) -> bool {
        let Event::StepFinished { component, outcome: Outcome::NotRun { because }, .. } = event
        else {
            return false;
        };
        self.0.entry(because.clone()).or_default().push(component.clone());
        true
    }

    /// The lines for the end of the round.
    pub(crate) fn take_lines(&mut self) -> Vec<String> {
        let line = |(because, components): (Option<String>, Vec<String>)| {
            let why = because.map_or(String::new(), |other| format!(" because {other} failed"));
            format!("{} not run{why}: {}", components.len(), names(&components))
        };
        std::mem::take(&mut self.0).into_iter().map(line).collect()
    }
}

fn names(components: &[String]) -> String {
    match components.len().saturating_sub(MAX_NAMES) {
        0 | 1 => components.join(", "),
        more => format!("{} and {more} more", components[..MAX_NAMES].join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_names_are_counted() {
        let all: Vec<String> = ('a'..='h').map(String::from).collect();
        assert_eq!(names(&all[..6]), "a, b, c, d, e, f");
        assert_eq!(names(&all), "a, b, c, d, e and 3 more");
    }
}
