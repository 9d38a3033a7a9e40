//! Which components and images a request is about: by name, by a glob of names, or by a group of
//! `xtask.toml`. Where that file says which images there are, also by the name of an image: then
//! its neighbours in the component are built with it, and are not meant otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::escape;
use crate::ids::ComponentId;
use crate::name_pattern::select;
use crate::problem::{Problem, Problems};
use crate::workspace::components::Workspace;
use crate::workspace::config::origin::Origin;

/// The group that is built if nothing is named.
const DEFAULT_GROUP: &str = "default";

/// What a request is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selected {
    /// The components: those that are named, and those of the images that are.
    pub components: BTreeSet<ComponentId>,
    /// The images: those that are named, and all of the components that are.
    pub images: BTreeSet<String>,
}

impl Selected {
    fn add(&mut self, other: Self) {
        self.components.extend(other.components);
        self.images.extend(other.images);
    }
}

impl Workspace {
    /// What some names and globs select.
    ///
    /// # Errors
    /// One problem for each of them that selects nothing.
    pub fn select(&self, words: &[String]) -> Result<Selected, Problems> {
        let mut problems = Vec::new();
        let mut selected = Selected::default();
        for word in words {
            match self.find_matching(word) {
                Ok(found) => selected.add(found),
                Err(problem) => problems.push(problem),
            }
        }
        Problems::check(problems).map(|()| selected)
    }

    /// Components with all of their images.
    pub fn all_of(&self, components: impl IntoIterator<Item = ComponentId>) -> Selected {
        let components: BTreeSet<ComponentId> = components.into_iter().collect();
        let images = components.iter().flat_map(|id| &self.components[*id].images);
        let images = images.map(|image| image.name.clone()).collect();
        Selected { components, images }
    }

    /// The components that some names and globs select.
    ///
    /// # Errors
    /// As [`Workspace::select`].
    pub fn find_all(&self, words: &[String]) -> Result<BTreeSet<ComponentId>, Problems> {
        self.select(words).map(|selected| selected.components)
    }

    /// The only component that a name or glob selects.
    ///
    /// # Errors
    /// It selects none or several.
    pub fn find_one(&self, word: &str) -> Result<ComponentId, Problem> {
        let found: Vec<ComponentId> = self.find_matching(word)?.components.into_iter().collect();
        match found.as_slice() {
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

    /// What is built if nothing is named; `None` for all.
    ///
    /// # Errors
    /// As [`Workspace::select`].
    pub fn default_selection(&self) -> Result<Option<Selected>, Problems> {
        let default = self.config.group(DEFAULT_GROUP);
        default.map(|_| self.select(&[DEFAULT_GROUP.to_owned()])).transpose()
    }

    /// One problem for each group that is hidden by a component, and for each member of a group that
    /// selects nothing.
    pub fn group_problems(&self) -> Vec<Problem> {
        let members = self.config.group_members();
        let mut hidden: BTreeMap<&str, Problem> = BTreeMap::new();
        for (group, _, at) in members.clone().filter(|(group, ..)| self.find(group).is_some()) {
            let message = format!("group '{group}' has the name of a component: give it another");
            hidden.entry(group).or_insert_with(|| at.problem(message));
        }
        let check = |(group, member, at): (&str, &str, Origin)| {
            let mut seen = BTreeSet::from([group]);
            let found = self.find_in_group(member, &mut vec![group], &mut seen);
            found.err().map(|problem| at.problem(format!("in group '{group}': {problem}")))
        };
        hidden.into_values().chain(members.filter_map(check)).collect()
    }

    /// The components that a path from the root means, if there is something at that path: the one
    /// in that folder, or else those below it, or else the one around it.
    fn at_path(&self, word: &str) -> Vec<ComponentId> {
        let path = Path::new(if word == "." { "" } else { word });
        if !self.root.join(path).exists() {
            return Vec::new();
        }
        let around = self.owner(path);
        let is_there = |id: &ComponentId| Path::new(&self.components[*id].dir) == path;
        let is_below = |id: &ComponentId| Path::new(&self.components[*id].dir).starts_with(path);
        let below = || self.components.ids().filter(is_below).collect::<Vec<_>>();
        match around.filter(is_there) {
            Some(there) => vec![there],
            None if below().is_empty() => around.into_iter().collect(),
            None => below(),
        }
    }

    fn find_matching(&self, word: &str) -> Result<Selected, Problem> {
        self.find_in_group(word, &mut Vec::new(), &mut BTreeSet::new())
    }

    /// What a word selects, as a member of these groups, less what the groups that were `seen`
    /// do.
    fn find_in_group<'c>(
        &'c self,
        word: &str,
        groups: &mut Vec<&'c str>,
        seen: &mut BTreeSet<&'c str>,
    ) -> Result<Selected, Problem> {
        let known: Vec<&str> = self.components.iter().map(|it| it.name.as_str()).collect();
        let is_exact = known.contains(&word);
        if let Some((group, members)) = self.config.group(word).filter(|_| !is_exact) {
            if groups.contains(&group) {
                let path = groups.iter().chain([&group]).copied().collect::<Vec<_>>().join(" → ");
                return Err(Problem::of_request(format!("the groups are a circle: {path}")));
            }
            if !seen.insert(group) {
                return Ok(Selected::default());
            }
            groups.push(group);
            let mut found = Selected::default();
            for member in members {
                found.add(self.find_in_group(member, groups, seen)?);
            }
            groups.pop();
            return Ok(found);
        }
        let images: Vec<&str> = self.images().map(|(_, image)| image.name.as_str()).collect();
        let of_components = select(word, &known, "component");
        let by_images = self.config.has_definitions() || !groups.is_empty();
        if by_images && !of_components.as_ref().is_ok_and(|it| !it.is_empty()) {
            let of_images = select(word, &images, "component or image")?;
            let at_path = if of_images.is_empty() { self.at_path(word) } else { Vec::new() };
            if !at_path.is_empty() {
                return Ok(self.all_of(at_path));
            }
            if !of_images.is_empty() {
                let images = self.images().filter(|(_, it)| of_images.contains(&it.name.as_str()));
                let components = images.map(|(component, _)| component).collect();
                let images = of_images.into_iter().map(str::to_owned).collect();
                return Ok(Selected { components, images });
            }
        }
        let found = of_components?;
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
        Ok(self.all_of(found.into_iter().filter_map(|name| self.find(name))))
    }
}
