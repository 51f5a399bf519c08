//! The queues that a worker takes jobs from, as a person writes them: `default,shop/default=4`.

use std::{collections::BTreeMap, num::NonZeroU16};

use flow::QueueName;

/// The queues that a worker takes jobs from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ServedQueues {
    /// All of them.
    pub(crate) names: Vec<QueueName>,
    /// Those with slots of their own.
    pub(crate) own_slots: BTreeMap<QueueName, NonZeroU16>,
}

impl ServedQueues {
    /// Adds a queue from a text like `ovens` or `shop/ovens=4`; one that is there already replaces it.
    ///
    /// # Errors
    /// A text that says what is wrong.
    pub(crate) fn add(&mut self, text: &str) -> Result<(), String> {
        let (name, slots) = match text.split_once('=') {
            Some((name, slots)) => (name, Some(slots)),
            None => (text, None),
        };
        let name: QueueName = name.trim().parse().map_err(|error: flow::invalid::InvalidName| error.to_string())?;
        let parse = |slots: &str| {
            let parsed = slots.trim().parse::<NonZeroU16>();
            parsed.map_err(|_| format!("{slots:?} is no number of slots for the queue {name}: write {name}=4"))
        };
        let slots = slots.map(parse).transpose()?;
        match slots {
            Some(slots) => drop(self.own_slots.insert(name.clone(), slots)),
            None => drop(self.own_slots.remove(&name)),
        }
        if !self.names.contains(&name) {
            self.names.push(name);
        }
        Ok(())
    }

    /// The names, separated by commas.
    pub(crate) fn names_as_text(&self) -> String {
        self.names.iter().map(QueueName::as_str).collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add_all(texts: &[&str]) -> Result<ServedQueues, String> {
        let mut queues = ServedQueues::default();
        texts.iter().try_for_each(|text| queues.add(text)).map(|()| queues)
    }

    #[test]
    fn a_queue_may_have_slots_of_its_own() {
        let queues = add_all(&["default", " shop/ovens = 4 ", "default"]).unwrap();
        assert_eq!(queues.names_as_text(), "default,shop/ovens");
        let own: Vec<(&str, u16)> = queues.own_slots.iter().map(|(name, slots)| (name.as_str(), slots.get())).collect();
        assert_eq!(own, [("shop/ovens", 4)]);
        assert_eq!(add_all(&["ovens=4", "ovens"]).unwrap().own_slots, BTreeMap::new(), "the last one counts");
    }

    #[test]
    fn a_wrong_number_of_slots_is_named() {
        for wrong in ["ovens=", "ovens=0", "ovens=x", "ovens=-1", "ovens=70000", "ovens=1=2"] {
            let error = add_all(&[wrong]).unwrap_err();
            assert!(error.contains("is no number of slots for the queue ovens: write ovens=4"), "{error}");
        }
        assert!(add_all(&["=4"]).is_err() && add_all(&[""]).is_err());
    }
}
