//! Writes the description of a task into the memory of a guest, in the canonical ABI's layout of `list<task-info>`.

use super::guest::BASE;

/// The memory of a guest, from `BASE`.
pub struct Memory(Vec<u8>);

/// A parameter or a provided value: its name and its schema.
pub type Item<'a> = (&'a str, Option<&'a str>);

/// A task as a guest describes it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Task<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its parameters.
    pub requires: &'a [Item<'a>],
    /// Its provided values.
    pub provides: &'a [Item<'a>],
    /// The parameters of its rollback, if it has one.
    pub rollback: Option<&'a [Item<'a>]>,
    /// The number of attempts, and the pause between them in milliseconds.
    pub retry: Option<(u32, u64)>,
    /// The limits: milliseconds, and bytes of memory.
    pub limits: [Option<u64>; 2],
}

impl Memory {
    /// The memory of a guest with these tasks.
    #[must_use]
    pub fn of(tasks: &[Task<'_>]) -> Vec<u8> {
        let mut memory = Self(vec![0; 8]);
        let elements: Vec<u8> = tasks.iter().flat_map(|task| memory.task(task)).collect();
        let list = memory.list(&elements, tasks.len());
        memory.0[..8].copy_from_slice(&list);
        memory.0
    }

    fn task(&mut self, task: &Task<'_>) -> Vec<u8> {
        let mut record = [self.text(task.name), self.text("Bakes.")].concat();
        record.extend(self.items(task.requires, true));
        record.extend(self.items(task.provides, false));
        let rollback = task.rollback.map(|parameters| self.items(parameters, true));
        record.extend(u32::from(rollback.is_some()).to_le_bytes());
        record.extend(rollback.unwrap_or_default());
        record.resize(48, 0);
        let (attempts, pause) = task.retry.unwrap_or_default();
        for number in [task.retry.is_some().into(), attempts.into(), pause, pause * 8, 1] {
            record.extend(u64::to_le_bytes(number));
        }
        for limit in task.limits {
            record.extend(u64::from(limit.is_some()).to_le_bytes());
            record.extend(limit.unwrap_or_default().to_le_bytes());
        }
        record
    }

    /// A list of parameters, or of provided values, which have no flag behind them.
    fn items(&mut self, items: &[Item<'_>], are_parameters: bool) -> [u8; 8] {
        let mut elements = Vec::new();
        for (name, schema) in items {
            elements.extend([self.text(name), self.text("")].concat());
            elements.extend(u32::from(schema.is_some()).to_le_bytes());
            elements.extend(self.text(schema.unwrap_or_default()));
            elements.extend(&[0; 4][..if are_parameters { 4 } else { 0 }]);
        }
        self.list(&elements, items.len())
    }

    fn text(&mut self, text: &str) -> [u8; 8] {
        self.list(text.as_bytes(), text.len())
    }

    /// Adds bytes. Returns their address, and a length.
    fn list(&mut self, bytes: &[u8], length: usize) -> [u8; 8] {
        self.0.resize(self.0.len().next_multiple_of(8), 0);
        let at = BASE as usize + self.0.len();
        self.0.extend_from_slice(bytes);
        let mut pair = [0; 8];
        for (to, number) in pair.chunks_mut(4).zip([at, length]) {
            to.copy_from_slice(&u32::try_from(number).expect("a small memory").to_le_bytes());
        }
        pair
    }
}
