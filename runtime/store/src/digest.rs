//! The one place that computes digests.

use flow::Digest;
use sha2::{Digest as _, Sha256};

/// The digest of some bytes. It is slow for large inputs: hash on a thread that may block.
#[must_use]
pub fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::digest(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_the_sha_256_that_others_compute() {
        let digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest_of(b"abc").to_string(), digest);
    }
}
