//! Builds a notification of a task in one chain.

use flow::Value;

use crate::api::Notification;

impl Notification {
    /// A notification of a task, at first without values.
    #[must_use]
    pub fn of(task: impl Into<String>) -> Self {
        Self { task: task.into(), ..Self::default() }
    }

    /// Adds a value.
    #[must_use]
    pub fn value(mut self, name: impl Into<String>, value: impl Into<serde_json::Value>) -> Self {
        self.values.insert(name, &Value::json(&value.into()));
        self
    }

    /// Adds a value of bytes.
    #[must_use]
    pub fn value_bytes(mut self, name: impl Into<String>, bytes: impl AsRef<[u8]>) -> Self {
        self.values.insert(name, &Value::Bytes(bytes.as_ref().into()));
        self
    }

    /// Makes the task fail with a message; the notification then carries no values.
    #[must_use]
    pub fn fail(mut self, message: impl Into<String>) -> Self {
        self.failure = Some(message.into());
        self
    }

    /// Sets the deduplication key: two notifications with one key fire a persistent flow once.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }
}
