//! Hashes: of definitions and specifications, and keyed ones of secrets.

use std::sync::LazyLock;

use aws_lc_rs::{digest, hmac, rand};

/// Lower-case hex of the first `bytes` bytes of SHA-256 over the parts.
pub(crate) fn sha256_hex(parts: &[&[u8]], bytes: usize) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    hex(context.finish().as_ref(), bytes)
}

/// The first eight bytes of SHA-256 over the parts.
pub(crate) fn sha256_u64(parts: &[&[u8]]) -> u64 {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let hash = context.finish();
    hash.as_ref().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// A keyed hash that tells secrets apart within this process and says nothing about
/// them outside: the key is random, made once and never stored. `None` without randomness.
pub(crate) fn secret_hex(parts: &[&[u8]], bytes: usize) -> Option<String> {
    static KEY: LazyLock<Option<hmac::Key>> = LazyLock::new(|| {
        let mut seed = [0_u8; 32];
        rand::fill(&mut seed).ok()?;
        Some(hmac::Key::new(hmac::HMAC_SHA256, &seed))
    });
    let mut context = hmac::Context::with_key(KEY.as_ref()?);
    for part in parts {
        context.update(&part.len().to_be_bytes());
        context.update(part);
    }
    Some(hex(context.sign().as_ref(), bytes))
}

fn hex(hash: &[u8], bytes: usize) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |value: u8| DIGITS.get(usize::from(value)).copied().unwrap_or('0');
    hash.iter().take(bytes).flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
