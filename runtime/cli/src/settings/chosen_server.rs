//! The server of the commands that need one.

/// The server's address, and whether a person chose it.
#[derive(Debug, Clone)]
pub(crate) enum Server {
    /// Chosen by flag, environment or file.
    Chosen(String),
    /// The built-in address.
    BuiltIn(String),
}

impl Server {
    pub(crate) fn url(&self) -> &str {
        match self {
            Self::Chosen(url) | Self::BuiltIn(url) => url,
        }
    }

    /// Whether commands that can work without a server use this one.
    pub(crate) const fn is_chosen(&self) -> bool {
        matches!(self, Self::Chosen(_))
    }
}
