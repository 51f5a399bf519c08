//! The name in a certificate.

/// The maximum length of a subject, in characters.
const MAX_CHARS: usize = 200;

/// The subject of a certificate in DER, such as `CN=build-7, O=Kitchen`; `None` for one without a subject, or if the bytes are no
/// certificate. A longer subject is cut after 200 characters.
#[must_use]
pub fn subject(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let subject: String = certificate.subject().to_string().chars().take(MAX_CHARS).collect();
    (!subject.is_empty()).then_some(subject)
}
