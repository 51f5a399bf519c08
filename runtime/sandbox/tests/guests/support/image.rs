//! A guest's static data, in the canonical ABI's layout of results.

/// The address where it starts.
const BASE: u32 = 1 << 10;

/// Bytes at fixed addresses of a guest's memory.
pub(crate) struct Image {
    bytes: Vec<u8>,
    rollback: u32,
    describe: u32,
}

/// The content of a value.
#[derive(Clone, Copy)]
pub(crate) enum Content<'a> {
    Json(&'a str),
    Bytes(&'a [u8]),
    /// Bytes that the guest writes itself: address and length.
    At(u32, u32),
}

impl Image {
    /// One task named `bake`, whose rollback succeeds.
    pub(crate) fn new() -> Self {
        let mut image = Self { bytes: Vec::new(), rollback: 0, describe: 0 };
        image.rollback = image.put(&[0; 32]);
        let name = image.put(b"bake");
        let mut task = [0; 120];
        task[0..4].copy_from_slice(&name.to_le_bytes());
        task[4] = 4;
        // Its rollback takes no further parameter.
        task[32] = 1;
        image.describe = image.list(&task, 1);
        image
    }

    /// A memory image that describes no task.
    pub(crate) fn describing_nothing() -> Self {
        let mut image = Self::new();
        image.describe = image.list(&[], 0);
        image
    }

    pub(crate) fn rollback(&self) -> u32 {
        self.rollback
    }

    pub(crate) fn describe(&self) -> u32 {
        self.describe
    }

    /// Adds some bytes with maximum alignment; returns their address.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> u32 {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        let at = BASE + u32::try_from(self.bytes.len()).unwrap();
        self.bytes.extend_from_slice(bytes);
        at
    }

    /// Adds a success with these values; returns its address.
    pub(crate) fn success(&mut self, values: &[(&str, Content<'_>)]) -> u32 {
        let mut elements = Vec::new();
        for (name, content) in values {
            let (kind, at, length) = match content {
                Content::Json(text) => (0, self.put(text.as_bytes()), text.len()),
                Content::Bytes(bytes) => (1, self.put(bytes), bytes.len()),
                Content::At(at, length) => (1, *at, *length as usize),
            };
            let words = [self.put(name.as_bytes()), length_of(name.len()), kind, at, length_of(length)];
            words.iter().for_each(|word: &u32| elements.extend_from_slice(&word.to_le_bytes()));
        }
        let at = self.put(&elements);
        self.result_of_list(at, length_of(values.len()))
    }

    /// Adds a success with a list at an address.
    pub(crate) fn result_of_list(&mut self, at: u32, length: u32) -> u32 {
        let mut result = vec![0; 4];
        result.extend_from_slice(&at.to_le_bytes());
        result.extend_from_slice(&length.to_le_bytes());
        result.resize(32, 0);
        self.put(&result)
    }

    /// Adds the guest's own failure; returns its address. A permanent one has `retryable` 1.
    pub(crate) fn failure(&mut self, retryable: u8, message: &str, details: Option<&str>) -> u32 {
        let at = self.put(message.as_bytes());
        let details_at = self.put(details.unwrap_or_default().as_bytes());
        let words = [
            1,
            retryable.into(),
            at,
            length_of(message.len()),
            details.is_some().into(),
            details_at,
            length_of(details.unwrap_or_default().len()),
        ];
        let result: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
        self.put(&result)
    }

    fn list(&mut self, elements: &[u8], count: u32) -> u32 {
        let at = self.put(elements);
        let pair: Vec<u8> = [at, count].iter().flat_map(|word| word.to_le_bytes()).collect();
        self.put(&pair)
    }

    pub(crate) fn as_wat(&self) -> String {
        let hex: String = self.bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
        format!("(data (i32.const {BASE}) \"{hex}\")")
    }
}

fn length_of(length: usize) -> u32 {
    u32::try_from(length).unwrap()
}
