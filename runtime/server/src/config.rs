//! The configuration of a server.

use std::{hint::black_box, net::SocketAddr};

use crate::Tls;

/// The configuration of a server.
pub struct Config {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// The token that requests must carry, if any.
    pub token: Option<Token>,
    /// The certificate with which connections are encrypted; without one they are not.
    pub tls: Option<Tls>,
    /// The maximum size of a request body, in bytes.
    pub max_request_bytes: u64,
}

/// The token that requests must carry. It is never shown.
pub struct Token(Box<[u8]>);

impl Token {
    /// A token; `None` if the text is empty.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self(text.as_bytes().into()))
    }

    /// Whether a text equals the token. The duration reveals nothing but the length.
    pub(crate) fn is(&self, text: &[u8]) -> bool {
        let differing = |sum, (one, other): (&u8, &u8)| black_box(sum | (one ^ other));
        self.0.len() == text.len() && self.0.iter().zip(text).fold(0, differing) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_matches_only_itself() {
        let token = Token::new("secret").unwrap();
        assert!(token.is(b"secret"));
        for other in [&b""[..], b"secre", b"secrets", b"Secret", b"sEcret"] {
            assert!(!token.is(other));
        }
        assert!(Token::new("").is_none());
    }
}
