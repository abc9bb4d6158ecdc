//! The form of a service token.
//!
//! ```text
//! client id      bzc_<16 hex>
//! client secret  bzs_<the same 16 hex>_<43 base64url>     also good as a bearer token
//! ```
//!
//! The prefix lets secret scanners find a leaked one. The last part holds 256 random
//! bits, so a plain hash at rest cannot be searched.

use aws_lc_rs::{constant_time, digest, rand};
use bartizan_model::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

/// Prefix of client ids.
pub(crate) const ID_PREFIX: &str = "bzc_";
/// Prefix of client secrets.
pub(crate) const SECRET_PREFIX: &str = "bzs_";
const ID_HEX: usize = 16;
const RANDOM: usize = 43;

/// The machine has no randomness.
pub(crate) struct NoRandomness;

/// A new token id.
pub(crate) fn new_id() -> Result<String, NoRandomness> {
    let mut bytes = [0u8; ID_HEX / 2];
    rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes.iter().fold(String::with_capacity(ID_HEX), |mut text, byte| {
        text.extend([byte >> 4, byte & 15].map(|nibble| char::from_digit(u32::from(nibble), 16).unwrap_or('0')));
        text
    }))
}

/// A new secret of a token.
pub(crate) fn new_secret(id: &str) -> Result<Secret<String>, NoRandomness> {
    let mut bytes = Zeroizing::new([0u8; 32]);
    rand::fill(&mut *bytes).map_err(|_| NoRandomness)?;
    Ok(Secret::new(format!("{SECRET_PREFIX}{id}_{}", *Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes)))))
}

/// The token id in a secret of the right form.
pub(crate) fn id_of_secret(secret: &str) -> Option<&str> {
    let (id, random) = secret.strip_prefix(SECRET_PREFIX)?.split_at_checked(ID_HEX)?;
    let random = random.strip_prefix('_')?;
    let good = random.len() == RANDOM && random.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    (good && is_id(id)).then_some(id)
}

/// The token id in a client id of the right form.
pub(crate) fn id_of_client(client_id: &str) -> Option<&str> {
    client_id.strip_prefix(ID_PREFIX).filter(|id| is_id(id))
}

fn is_id(id: &str) -> bool {
    id.len() == ID_HEX && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// What is stored instead of the secret, and what caches are keyed by.
pub(crate) fn hash(secret: &str) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"bartizan credential\0");
    context.update(secret.as_bytes());
    let mut hash = [0u8; 32];
    hash.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    hash
}

/// Compares in a time that does not depend on where the two differ.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(a, b).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a11_a_new_secret_has_its_own_form() {
        let id = new_id().ok().expect("random");
        let secret = new_secret(&id).ok().expect("random");
        assert_eq!(id_of_secret(secret.expose()), Some(id.as_str()));
        assert_eq!(id_of_client(&format!("bzc_{id}")), Some(id.as_str()));
        let again = new_secret(&id).ok().expect("random");
        assert_ne!(secret.expose(), again.expose());
    }

    #[test]
    fn a11_other_forms_are_no_secret() {
        let good = format!("bzs_0123456789abcdef_{}", "a".repeat(43));
        assert!(id_of_secret(&good).is_some());
        for bad in [
            "",
            "bzs_",
            "bzs_0123456789abcdef",
            "bzs_0123456789abcdef_",
            &good.replace("bzs_", "bzc_"),
            &good.replace("abcdef", "ABCDEF"),
            &good.replace("abcdef", "abcdeg"),
            &format!("{good}a"),
            &good.replace("aaa", "aä"),
            &good.replace("_a", "-a"),
            "bzs_ääääääääääääääää_",
        ] {
            assert_eq!(id_of_secret(bad), None, "{bad}");
        }
        assert_eq!(id_of_client("bzc_0123"), None);
        assert_eq!(id_of_client("0123456789abcdef"), None);
    }
}
