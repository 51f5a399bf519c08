//! Why a server did not do what it was asked.

use crate::api::Problem;

/// Why a server did not do what it was asked. Each error names the server.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Its address is not one, or not one that is spoken with here.
    #[error("{url:?} is no server's address: {reason}")]
    Address {
        /// The address.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It could not be reached, or did not answer to the end.
    #[error("could not reach the server {server}")]
    Unreachable {
        /// Its address.
        server: String,
        /// What the connection says.
        source: reqwest::Error,
    },
    /// It said no, and why.
    #[error("the server {server} refused: {}", problem.message())]
    Refused {
        /// Its address.
        server: String,
        /// Its words.
        problem: Box<Problem>,
    },
    /// Its answer is none of waft's.
    #[error("{server} does not answer as a waft server does: {reason}")]
    Unexpected {
        /// Its address.
        server: String,
        /// What is odd.
        reason: String,
    },
}

impl Problem {
    /// What is wrong, on one line: the kind of the problem, and what is wrong this time.
    #[must_use]
    pub fn message(&self) -> String {
        // "There is no run r" repeats "there is no such run", and says more.
        if self.title.starts_with("there is ") {
            return self.detail.clone();
        }
        format!("{}: {}", self.title, self.detail)
    }
}

impl ClientError {
    /// The HTTP status of a refusal.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { problem, .. } => Some(problem.status),
            Self::Address { .. } | Self::Unreachable { .. } | Self::Unexpected { .. } => None,
        }
    }
}
