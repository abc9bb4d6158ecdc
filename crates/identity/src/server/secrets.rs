//! Making tokens, and sealing the pair a refresh token was exchanged for.

use aws_lc_rs::rand;
use bartizan_model::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::sealing;

/// Prefix of access tokens.
pub(crate) const ACCESS: &str = "bzt_";
/// Prefix of refresh tokens.
pub(super) const REFRESH: &str = "bzr_";
/// Prefix of authorization codes.
pub(super) const CODE: &str = "bzk_";
/// Prefix of the ids of clients that registered themselves.
pub(super) const CLIENT: &str = "bzd_";

/// Characters of 256 bits.
const RANDOM: usize = 43;

/// A prefix and 256 random bits. `None` without randomness.
pub(super) fn mint(prefix: &str) -> Option<Secret<String>> {
    let mut bytes = Zeroizing::new([0u8; 32]);
    rand::fill(&mut *bytes).ok()?;
    Some(Secret::new(format!("{prefix}{}", *Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes)))))
}

/// An id of 128 random bits that is no secret.
pub(super) fn id() -> Option<String> {
    let mut bytes = [0u8; 16];
    rand::fill(&mut bytes).ok()?;
    Some(URL_SAFE_NO_PAD.encode(bytes))
}

/// Whether a text has the form that [`mint`] gives.
pub(crate) fn has_form(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|random| {
        random.len() == RANDOM && random.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    })
}

/// What a token endpoint gave out.
#[derive(Serialize, Deserialize)]
pub(super) struct Pair {
    pub(super) access: String,
    pub(super) refresh: String,
    pub(super) scopes: String,
    pub(super) expires_ms: i64,
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.access.zeroize();
        self.refresh.zeroize();
    }
}

/// What the pair is sealed for.
const PAIR: &str = "refresh pair v1";

/// Seals a pair for whoever holds the token it was exchanged for.
pub(super) fn seal(token: &str, grant_id: &str, pair: &Pair) -> Option<Vec<u8>> {
    let plain = Zeroizing::new(serde_json::to_vec(pair).ok()?);
    sealing::seal(token, PAIR, grant_id, &plain)
}

/// Opens what [`seal`] made.
pub(super) fn open(token: &str, grant_id: &str, sealed: &[u8]) -> Option<Pair> {
    serde_json::from_slice(&sealing::open(token, PAIR, grant_id, sealed)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a6_tokens_are_opaque_and_random() {
        let (a, b) = (mint(ACCESS).unwrap(), mint(ACCESS).unwrap());
        assert_ne!(a.expose(), b.expose());
        assert!(has_form(a.expose(), ACCESS) && !has_form(a.expose(), REFRESH));
        assert!(!a.expose().contains('.'), "no JWT");
        let random = URL_SAFE_NO_PAD.decode(&a.expose()[ACCESS.len()..]).unwrap();
        assert_eq!(random.len(), 32, "256 bits and nothing else");
    }

    #[test]
    fn a10_a_pair_opens_only_with_its_token() {
        let pair = || Pair { access: "a".into(), refresh: "r".into(), scopes: "s".into(), expires_ms: 7 };
        let sealed = seal("bzr_x", "g", &pair()).unwrap();
        assert_eq!(open("bzr_x", "g", &sealed).map(|pair| pair.refresh.clone()).as_deref(), Some("r"));
        assert!(open("bzr_y", "g", &sealed).is_none() && open("bzr_x", "h", &sealed).is_none());
        assert!(open("bzr_x", "g", &sealed[..20]).is_none() && open("bzr_x", "g", &[]).is_none());
    }
}
