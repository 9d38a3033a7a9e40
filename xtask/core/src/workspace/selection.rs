//! Which components a request is about: by name, or by a glob of names.

use std::collections::BTreeSet;

use crate::escape;
use crate::ids::ComponentId;
use crate::name_pattern::select;
use crate::problem::{Problem, Problems};
use crate::workspace::components::Workspace;

impl Workspace {
    /// The components that some names and globs select.
    ///
    /// # Errors
    /// One problem for each of them that selects none.
    pub fn find_all(&self, words: &[String]) -> Result<BTreeSet<ComponentId>, Problems> {
        let mut problems = Vec::new();
        let mut found = BTreeSet::new();
        for word in words {
            match self.find_matching(word) {
                Ok(components) => found.extend(components),
                Err(problem) => problems.push(problem),
            }
        }
        Problems::check(problems).map(|()| found)
    }

    /// The only component that a name or glob selects.
    ///
    /// # Errors
    /// It selects none or several.
    pub fn find_one(&self, word: &str) -> Result<ComponentId, Problem> {
        match self.find_matching(word)?.as_slice() {
            [only] => Ok(*only),
            several => {
                let names: Vec<&str> =
                    several.iter().map(|id| self.components[*id].name.as_str()).collect();
                let (word, names) = (escape::line(word), names.join(", "));
                let message = format!("'{word}' matches several components: name one of {names}");
                Err(Problem::of_request(message))
            }
        }
    }

    fn find_matching(&self, word: &str) -> Result<Vec<ComponentId>, Problem> {
        let known: Vec<&str> = self.components.iter().map(|it| it.name.as_str()).collect();
        let found = select(word, &known, "component")?;
        if found.is_empty() {
            let mut images = self.images();
            return Err(Problem::of_request(match images.find(|(_, image)| image.name == word) {
                Some((id, _)) => format!(
                    "no component '{word}' under src/: it is an image of component '{}'",
                    escape::line(&self.components[id].name)
                ),
                None => self.unknown_component(word),
            }));
        }
        Ok(found.into_iter().filter_map(|name| self.find(name)).collect())
    }
}
