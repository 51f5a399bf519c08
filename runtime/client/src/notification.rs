//! What a task is notified of, said in one chain.

use flow::Value;

use crate::api::Notification;

impl Notification {
    /// Notifies a task: as long as nothing else is said, without any value.
    #[must_use]
    pub fn of(task: impl Into<String>) -> Self {
        Self { task: task.into(), ..Self::default() }
    }

    /// A value that it brings.
    #[must_use]
    pub fn value(mut self, name: impl Into<String>, value: impl Into<serde_json::Value>) -> Self {
        self.values.insert(name, &Value::json(&value.into()));
        self
    }

    /// Bytes that it brings.
    #[must_use]
    pub fn value_bytes(mut self, name: impl Into<String>, bytes: impl AsRef<[u8]>) -> Self {
        self.values.insert(name, &Value::Bytes(bytes.as_ref().into()));
        self
    }

    /// That the task fails, and why; it brings no values then.
    #[must_use]
    pub fn fail(mut self, message: impl Into<String>) -> Self {
        self.failure = Some(message.into());
        self
    }

    /// What tells it from others: sent twice with one key, it fires a persistent flow once.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }
}
