//! The tables that say something about one image, in the order of their precedence.
//!
//! Options go before `--set`, that before the environment, then comes what the file says: the
//! exact table, those that match by a glob, of which later ones go before earlier ones, the table
//! that defines the image, and the top of the file.

use crate::workspace::config::reader::{Given, ImageTable, Values};

/// The tables for one image: the weakest first.
#[derive(Clone)]
pub(crate) struct Layers<'f> {
    /// With whether each is for this image alone.
    layers: Vec<(&'f Values, bool)>,
}

impl<'f> Layers<'f> {
    /// What the file says. `defining` is the index of the table that defines the image, if one
    /// does.
    pub(crate) fn of_file(
        name: &str,
        defining: Option<usize>,
        top: &'f Values,
        tables: &'f [ImageTable],
    ) -> Self {
        let mut layers = vec![(top, false)];
        let is_exact = |table: &ImageTable| table.key == name;
        let defined_by = defining.and_then(|index| tables.get(index));
        layers.extend(defined_by.map(|table| (&table.values, is_exact(table))));
        let others = || {
            let tables = tables.iter().enumerate();
            let adjusts = |(index, table): &(usize, &ImageTable)| {
                Some(*index) != defining && !table.values.contains_key("dockerfile")
            };
            tables.filter(adjusts).map(|(_, table)| table)
        };
        let globs = others().filter(|table| table.is_glob_of(name));
        layers.extend(globs.map(|table| (&table.values, false)));
        layers.extend(others().filter(|table| is_exact(table)).map(|it| (&it.values, true)));
        Self { layers }
    }

    /// Puts tables above the file, in their order.
    pub(crate) fn add_assigned(&mut self, name: &str, assigned: &'f [ImageTable]) {
        for table in assigned {
            let is_exact = table.key == name;
            if is_exact || table.is_glob_of(name) {
                self.layers.push((&table.values, is_exact));
            }
        }
    }

    /// Puts options above all. They are for all images that a command names.
    pub(crate) fn add_options(&mut self, values: &'f Values) {
        self.layers.push((values, false));
    }

    /// Whether nothing is said.
    pub(crate) fn is_empty(&self) -> bool {
        self.layers.iter().all(|(values, _)| values.is_empty())
    }

    /// What holds for a key, and whether it is said for this image alone.
    pub(crate) fn strongest(&self, key: &str) -> Option<(&'f Given, bool)> {
        let mut layers = self.layers.iter().rev();
        layers.find_map(|(values, is_exact)| Some((values.get(key)?, *is_exact)))
    }

    /// All layers, for tables, which are merged.
    pub(crate) fn weakest_first(&self) -> impl Iterator<Item = (&'f Values, bool)> {
        self.layers.iter().copied()
    }
}
