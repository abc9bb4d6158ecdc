//! What a sign-in told is sealed, so that a copy of the database tells nobody (A6).
//!
//! A token is stored as its hash. A key that is derived from the token itself therefore is
//! nowhere but with its holder, and in memory while the holder calls. A browser session and a
//! refresh token's answer are sealed under such a key directly.
//!
//! A grant has many tokens, and is written to without any of them: a person adds a second
//! factor or a purpose in a browser, which shows a cookie and no token. So each grant has a key
//! pair (X25519). The public half stands in the row, and whoever has something to add seals
//! it for that half, without reading what is there. The private half is stored once per code
//! and token, each time wrapped under that one's key; a code or refresh token that is
//! exchanged unwraps it, and it is wrapped anew for those it is exchanged for.
//!
//! Sealing for a public key says nothing about who sealed: it keeps secret what is stored, and
//! is no defence against somebody who can write to the database.
//!
//! What decisions need while no token is there is not sealed: whose grant it is, for which
//! client and resource, by which provider, and until when. Groups are not part of it either,
//! they are the person's and change without anybody's token (A5, A14).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use aws_lc_rs::{hkdf, rand};
use bartizan_model::SignInFacts;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use moka::sync::Cache;
use zeroize::Zeroizing;

use crate::server::GrantContent;

/// Bytes of a key of either kind.
const KEY: usize = 32;
/// Keys of grants that are kept in memory.
const KEPT: u64 = 10_000;
/// For how long after their last use.
const KEPT_IDLE: Duration = Duration::from_secs(600);

/// A key from secret bytes and what it is for.
fn derive(secret: &[u8], about: &[&[u8]]) -> Option<LessSafeKey> {
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, b"bartizan").extract(secret);
    let mut key = Zeroizing::new([0u8; KEY]);
    prk.expand(about, &AES_256_GCM).and_then(|okm| okm.fill(&mut *key)).ok()?;
    UnboundKey::new(&AES_256_GCM, &*key).ok().map(LessSafeKey::new)
}

/// Nonce, ciphertext and tag.
fn close(key: &LessSafeKey, about: &str, plain: &[u8]) -> Option<Vec<u8>> {
    let mut nonce = [0u8; NONCE_LEN];
    rand::fill(&mut nonce).ok()?;
    let mut body = Zeroizing::new(plain.to_vec());
    let nonce_of = Nonce::assume_unique_for_key(nonce);
    let tag = key.seal_in_place_separate_tag(nonce_of, Aad::from(about.as_bytes()), &mut body).ok()?;
    Some([&nonce, body.as_slice(), tag.as_ref()].concat())
}

fn unclose(key: &LessSafeKey, about: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, body) = sealed.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut body = Zeroizing::new(body.to_vec());
    let plain = key.open_in_place(nonce, Aad::from(about.as_bytes()), &mut body).ok()?;
    Some(Zeroizing::new(plain.to_vec()))
}

/// Seals for whoever holds the token. `purpose` keeps uses apart, `about` binds to a name.
/// `None` when the machine has no randomness.
pub(crate) fn seal(token: &str, purpose: &'static str, about: &str, plain: &[u8]) -> Option<Vec<u8>> {
    close(&derive(token.as_bytes(), &[purpose.as_bytes()])?, about, plain)
}

/// Opens what [`seal`] made with the same words.
pub(crate) fn open(token: &str, purpose: &'static str, about: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    unclose(&derive(token.as_bytes(), &[purpose.as_bytes()])?, about, sealed)
}

const WRAP: &str = "grant key v1";
const SEAL: &[u8] = b"grant seal v1";

/// The private half of a grant's key.
pub(crate) struct GrantKey {
    private: PrivateKey,
    bytes: Zeroizing<[u8; KEY]>,
    public: [u8; KEY],
}

impl GrantKey {
    /// A new one. `None` when the machine has no randomness.
    pub(crate) fn new() -> Option<Self> {
        let mut bytes = Zeroizing::new([0u8; KEY]);
        rand::fill(&mut *bytes).ok()?;
        Self::of(bytes)
    }

    fn of(bytes: Zeroizing<[u8; KEY]>) -> Option<Self> {
        let private = PrivateKey::from_private_key(&X25519, &*bytes).ok()?;
        let public = private.compute_public_key().ok()?.as_ref().try_into().ok()?;
        Some(Self { private, bytes, public })
    }

    /// The public half, base64url.
    pub(crate) fn public(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.public)
    }

    /// For whoever holds this code or token of the grant.
    pub(crate) fn wrap(&self, token: &str, grant: &str) -> Option<Vec<u8>> {
        seal(token, WRAP, grant, &*self.bytes)
    }

    /// The key that [`Self::wrap`] wrapped for this token.
    pub(crate) fn unwrap(token: &str, grant: &str, wrapped: &[u8]) -> Option<Self> {
        let plain = open(token, WRAP, grant, wrapped)?;
        let mut bytes = Zeroizing::new([0u8; KEY]);
        (plain.len() == KEY).then(|| bytes.copy_from_slice(&plain))?;
        Self::of(bytes)
    }

    /// Opens what [`seal_for`] sealed for this key.
    pub(crate) fn open(&self, grant: &str, what: &str, sealed: &str) -> Option<Zeroizing<Vec<u8>>> {
        let sealed = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (theirs, body) = sealed.split_at_checked(KEY)?;
        let key = shared(&self.private, theirs, &[theirs, &self.public])?;
        unclose(&key, &about(grant, what), body)
    }
}

/// Seals for the holders of the private half: an ephemeral key, the secret it shares with
/// `public`, and a cipher under a key of both.
pub(crate) fn seal_for(public: &str, grant: &str, what: &str, plain: &[u8]) -> Option<String> {
    let public = URL_SAFE_NO_PAD.decode(public).ok()?;
    let mine = GrantKey::new()?;
    let key = shared(&mine.private, &public, &[&mine.public, &public])?;
    let body = close(&key, &about(grant, what), plain)?;
    Some(URL_SAFE_NO_PAD.encode([&mine.public, body.as_slice()].concat()))
}

fn shared(mine: &PrivateKey, theirs: &[u8], halves: &[&[u8]; 2]) -> Option<LessSafeKey> {
    let about = [SEAL, halves.first()?, halves.last()?];
    let theirs = UnparsedPublicKey::new(&X25519, theirs);
    agree(mine, theirs, (), |secret| Ok(derive(secret, &about))).ok().flatten()
}

fn about(grant: &str, what: &str) -> String {
    format!("{grant}\n{what}")
}

/// The keys of grants whose tokens were shown to this process in the last minutes, and what
/// they opened: for whatever asks about a grant without its token, and so that nothing is
/// opened twice.
#[derive(Clone)]
pub struct GrantKeys(Cache<Arc<str>, Arc<Unlocked>>);

struct Unlocked {
    key: GrantKey,
    last: Mutex<Option<(GrantContent, Arc<SignInFacts>)>>,
}

impl Default for GrantKeys {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(KEPT).time_to_idle(KEPT_IDLE).build())
    }
}

impl fmt::Debug for GrantKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrantKeys").finish_non_exhaustive()
    }
}

impl GrantKeys {
    /// Takes the key of a grant that a token brings along. False when it does not.
    pub(crate) fn unlock(&self, grant: &str, token: &str, wrapped: &[u8]) -> bool {
        if self.0.contains_key(grant) {
            return true;
        }
        let Some(key) = GrantKey::unwrap(token, grant, wrapped) else { return false };
        self.0.insert(grant.into(), Arc::new(Unlocked { key, last: Mutex::new(None) }));
        true
    }

    /// What is sealed in a grant. `None` without its key, or when it does not open.
    pub(crate) fn facts(&self, grant: &str, content: &GrantContent) -> Option<Arc<SignInFacts>> {
        let unlocked = self.0.get(grant)?;
        let last = || unlocked.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, facts)) = last().as_ref().filter(|(opened, _)| opened == content) {
            return Some(Arc::clone(facts));
        }
        let facts = Arc::new(content.facts(grant, &unlocked.key)?);
        *last() = Some((content.clone(), Arc::clone(&facts)));
        Some(facts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a6_only_the_token_opens_what_is_sealed_for_it() {
        let sealed = seal("bzt_a", "one v1", "g", b"claims").unwrap();
        assert_eq!(open("bzt_a", "one v1", "g", &sealed).unwrap().as_slice(), b"claims");
        for (token, purpose, about) in [("bzt_b", "one v1", "g"), ("bzt_a", "two v1", "g"), ("bzt_a", "one v1", "h")] {
            assert!(open(token, purpose, about, &sealed).is_none(), "{token} {purpose} {about}");
        }
        for cut in 0..sealed.len() {
            assert!(open("bzt_a", "one v1", "g", &sealed[..cut]).is_none());
        }
        assert!(!sealed.windows(6).any(|window| window == b"claims"));
    }

    #[test]
    fn a6_a_grant_is_written_to_without_a_token_and_read_with_any_of_its_tokens() {
        let key = GrantKey::new().unwrap();
        let (public, wraps) = (key.public(), ["bzt_a", "bzr_a"].map(|token| (token, key.wrap(token, "g").unwrap())));
        drop(key);
        let sealed = seal_for(&public, "g", "facts", b"claims").unwrap();
        for (token, wrapped) in &wraps {
            let key = GrantKey::unwrap(token, "g", wrapped).unwrap();
            assert_eq!(key.open("g", "facts", &sealed).unwrap().as_slice(), b"claims");
            // Nothing of it can be put in another place.
            assert!(key.open("h", "facts", &sealed).is_none() && key.open("g", "purpose", &sealed).is_none());
            assert!(
                GrantKey::unwrap("bzt_b", "g", wrapped).is_none() && GrantKey::unwrap(token, "h", wrapped).is_none()
            );
        }
        let other = GrantKey::new().unwrap();
        assert!(other.open("g", "facts", &sealed).is_none());
        for bad in ["", "AAAA", "!", &sealed[..60], &format!("{sealed}A")] {
            assert!(GrantKey::unwrap("bzt_a", "g", &wraps[0].1).unwrap().open("g", "facts", bad).is_none(), "{bad}");
        }
        assert!(seal_for("", "g", "facts", b"x").is_none() && seal_for("AAAA", "g", "facts", b"x").is_none());
        // A half that makes every shared secret zero is refused (RFC 7748 section 6.1).
        assert!(seal_for(&URL_SAFE_NO_PAD.encode([0u8; KEY]), "g", "facts", b"x").is_none());
    }
}
