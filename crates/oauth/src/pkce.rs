//! Proof key for code exchange (RFC 7636), method S256 only.

use aws_lc_rs::{constant_time, digest, rand};
use bartizan_model::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

/// The one method (OAuth 2.1; MCP specification, authorization).
pub const METHOD: &str = "S256";

/// A challenge of the right form: 43 characters of base64url, 32 bytes (RFC 7636 section 4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge(String);

impl Challenge {
    /// Takes the two parameters of an authorization request. A method that is absent means
    /// `plain` (section 4.3) and is refused as such.
    pub fn from_request(challenge: Option<&str>, method: Option<&str>) -> Option<Self> {
        if method != Some(METHOD) {
            return None;
        }
        challenge.and_then(Self::parse)
    }

    /// The text of a challenge.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = (text.len() == 43).then(|| URL_SAFE_NO_PAD.decode(text).ok()).flatten()?;
        (bytes.len() == 32).then(|| Self(text.to_owned()))
    }

    /// As sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a verifier belongs to it. A verifier that is not 43 to 128 unreserved
    /// characters (section 4.1) belongs to none.
    pub fn is_proven_by(&self, verifier: &str) -> bool {
        let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if !(43..=128).contains(&verifier.len()) || !verifier.bytes().all(unreserved) {
            return false;
        }
        constant_time::verify_slices_are_equal(challenge_of(verifier).as_bytes(), self.0.as_bytes()).is_ok()
    }
}

/// The S256 challenge of a verifier.
pub fn challenge_of(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()))
}

/// A new verifier of 256 random bits. `None` when the machine has no randomness.
pub fn new_verifier() -> Option<Secret<String>> {
    let mut bytes = Zeroizing::new([0u8; 32]);
    rand::fill(&mut *bytes).ok()?;
    Some(Secret::new(URL_SAFE_NO_PAD.encode(*bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7636 appendix B.
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    #[test]
    fn a9_the_example_of_the_rfc() {
        assert_eq!(challenge_of(VERIFIER), CHALLENGE);
        let challenge = Challenge::from_request(Some(CHALLENGE), Some("S256")).unwrap();
        assert!(challenge.is_proven_by(VERIFIER));
        let own = new_verifier().unwrap();
        assert!(Challenge::parse(&challenge_of(own.expose())).unwrap().is_proven_by(own.expose()));
        assert!(!challenge.is_proven_by(own.expose()));
    }

    #[test]
    fn a9_only_s256_of_the_right_form() {
        for (challenge, method) in [
            (None, None),
            (None, Some("S256")),
            (Some(CHALLENGE), None),
            (Some(CHALLENGE), Some("plain")),
            (Some(CHALLENGE), Some("s256")),
            (Some(VERIFIER), Some("plain")),
            (Some(""), Some("S256")),
            (Some("short"), Some("S256")),
            (Some("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw+cM"), Some("S256")),
            (Some("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM="), Some("S256")),
        ] {
            assert_eq!(Challenge::from_request(challenge, method), None, "{challenge:?} {method:?}");
        }
    }

    #[test]
    fn a9_a_plain_or_odd_verifier_proves_nothing() {
        let challenge = Challenge::parse(CHALLENGE).unwrap();
        for bad in ["", CHALLENGE, &VERIFIER[1..], &format!("{VERIFIER}="), &"a".repeat(129), &"\u{fc}".repeat(43)] {
            assert!(!challenge.is_proven_by(bad), "{bad}");
        }
        // A verifier of a forbidden form proves nothing even when its hash fits.
        let short = Challenge::parse(&challenge_of("short")).unwrap();
        assert!(!short.is_proven_by("short"));
    }
}
