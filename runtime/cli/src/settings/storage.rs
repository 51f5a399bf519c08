//! Which places name the logbook and the store. Both belong to one waft: the store has what the runs of the logbook need.

use super::{RawSettings, Settings};

/// A place that may name the logbook and the store.
#[derive(Debug, Clone)]
pub(super) struct StoragePlace {
    /// What a person knows it as: `a flag`, `the environment`, or a file.
    name: String,
    logbook: bool,
    store: bool,
}

/// The places that name the logbook or the store.
#[derive(Debug)]
pub(crate) struct StoragePlaces {
    flags: StoragePlace,
    /// The environment and the files: those that take precedence come first.
    settings: Vec<StoragePlace>,
}

impl StoragePlace {
    pub(super) fn flags(logbook: bool, store: bool) -> Self {
        Self { name: "a flag".into(), logbook, store }
    }

    /// What a place of settings names. An empty text counts as missing.
    pub(super) fn of(name: impl Into<String>, settings: &RawSettings) -> Self {
        let is_given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let logbook = is_given(&settings.logbook) || is_given(&settings.logbook_file);
        Self { name: name.into(), logbook, store: is_given(&settings.store) }
    }

    /// What the place names, if it names one of the two.
    fn only(&self) -> Option<&'static str> {
        match (self.logbook, self.store) {
            (true, false) => Some("logbook"),
            (false, true) => Some("store"),
            (true, true) | (false, false) => None,
        }
    }
}

impl StoragePlaces {
    pub(super) fn new(flags: StoragePlace, environment: StoragePlace, files: Vec<StoragePlace>) -> Self {
        Self { flags, settings: [vec![environment], files].concat() }
    }

    /// The place that names one of the two without the other, and which one; `None` if logbook and store belong together. A flag
    /// says that another waft is meant, so it must not name one alone. A place of settings may name one if a place below names
    /// only the other: a password is often in the environment, and the rest in a file.
    pub(crate) fn unpaired(&self) -> Option<(&str, &'static str)> {
        let mut places = [&self.flags].into_iter().chain(&self.settings).filter(|place| place.logbook || place.store);
        // Without any, both are those of this user.
        let first = places.next()?;
        let only = first.only()?;
        let is_flag = self.flags.only().is_some();
        let mut below = places.filter(|place| place.only() != Some(only));
        let is_completed = !is_flag && below.next().is_some_and(|place| place.only().is_some());
        (!is_completed).then_some((first.name.as_str(), only))
    }
}

impl Settings {
    /// Whether a flag named the logbook.
    pub(crate) fn logbook_is_named(&self) -> bool {
        self.storage.flags.logbook
    }

    /// Whether a flag named the store.
    pub(crate) fn store_is_named(&self) -> bool {
        self.storage.flags.store
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A place that names `l`, the logbook, and `s`, the store.
    fn place(name: &str, named: &str) -> StoragePlace {
        StoragePlace { name: name.into(), logbook: named.contains('l'), store: named.contains('s') }
    }

    #[test]
    fn logbook_and_store_come_from_places_that_belong_together() {
        // Flags, environment, and the files of the user and of the system.
        for (named, unpaired) in [
            (["", "", "", ""], None),
            (["ls", "", "", ""], None),
            (["ls", "l", "s", ""], None),
            (["l", "", "", ""], Some(("flags", "logbook"))),
            (["s", "ls", "", ""], Some(("flags", "store"))),
            (["l", "s", "", ""], Some(("flags", "logbook"))),
            (["", "ls", "ls", ""], None),
            (["", "l", "s", ""], None),
            (["", "l", "l", "s"], None),
            (["", "l", "", "ls"], Some(("environment", "logbook"))),
            (["", "s", "", ""], Some(("environment", "store"))),
            (["", "", "s", "l"], None),
            (["", "", "s", "ls"], Some(("user", "store"))),
            (["", "", "", "l"], Some(("system", "logbook"))),
        ] {
            let [flags, environment, user, system] = named;
            let files = vec![place("user", user), place("system", system)];
            let places = StoragePlaces::new(place("flags", flags), place("environment", environment), files);
            assert_eq!(places.unpaired(), unpaired, "{named:?}");
        }
    }
}
