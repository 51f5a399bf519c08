//! Messages between a process and the child that compiles for it. Both are the same program, so the format has no version.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ModuleError;

/// What the child shall do with the bytes of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// [`crate::Module::componentize`].
    Componentize,
    /// Compile a component.
    Compile,
    /// Compile a component, for backtraces with lines.
    CompileWithLines,
}

impl Request {
    /// The byte before the module.
    pub(super) const fn tag(self) -> u8 {
        match self {
            Self::Componentize => 1,
            Self::Compile => 2,
            Self::CompileWithLines => 3,
        }
    }

    pub(super) fn of(tag: u8) -> Option<Self> {
        [Self::Componentize, Self::Compile, Self::CompileWithLines].into_iter().find(|request| request.tag() == tag)
    }
}

/// What the child answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// The bytes of a component.
    Component(Bytes),
    /// Machine code.
    Code(Vec<u8>),
    /// The bytes are no usable module.
    Invalid(ModuleError),
    /// The compiler's message.
    Refused(String),
}

/// The part of a reply that is not bytes.
#[derive(Serialize, Deserialize)]
enum Failure {
    Invalid(ModuleError),
    Refused(String),
}

const COMPONENT: u8 = 1;
const CODE: u8 = 2;
const FAILURE: u8 = 3;

impl Reply {
    pub(super) fn encode(self) -> Vec<u8> {
        let tagged = |tag: u8, bytes: &[u8]| [&[tag], bytes].concat();
        let failure = |failure: Failure| tagged(FAILURE, &serde_json::to_vec(&failure).unwrap_or_default());
        match self {
            Self::Component(bytes) => tagged(COMPONENT, &bytes),
            Self::Code(bytes) => tagged(CODE, &bytes),
            Self::Invalid(error) => failure(Failure::Invalid(error)),
            Self::Refused(reason) => failure(Failure::Refused(reason)),
        }
    }

    /// Decodes a reply; `None` for other bytes, such as those of a child that was killed.
    pub(super) fn decode(mut bytes: Vec<u8>) -> Option<Self> {
        let tag = *bytes.first()?;
        bytes.remove(0);
        match tag {
            COMPONENT => Some(Self::Component(bytes.into())),
            CODE => Some(Self::Code(bytes)),
            FAILURE => Some(match serde_json::from_slice(&bytes).ok()? {
                Failure::Invalid(error) => Self::Invalid(error),
                Failure::Refused(reason) => Self::Refused(reason),
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reply_round_trips() {
        let names = vec!["wasi:sockets/tcp".into()];
        for reply in [
            Reply::Component(Bytes::from_static(b"\0asm")),
            Reply::Code(vec![1, 2, 3]),
            Reply::Invalid(ModuleError::NotGranted { names }),
            Reply::Refused("too large".into()),
        ] {
            assert_eq!(Reply::decode(reply.clone().encode()), Some(reply));
        }
        for bytes in [&b""[..], b"\x09", b"\x03{"] {
            assert_eq!(Reply::decode(bytes.to_vec()), None);
        }
        let (componentize, compile, lines) = (Request::Componentize, Request::Compile, Request::CompileWithLines);
        assert_eq!([0, 1, 2, 3, 4].map(Request::of), [None, Some(componentize), Some(compile), Some(lines), None]);
    }
}
