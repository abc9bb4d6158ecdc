//! SHA-256 as lower-case hex, without allocation.

use aws_lc_rs::digest::{Context, SHA256};

/// 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Hex([u8; 64]);

const DIGITS: &[u8; 16] = b"0123456789abcdef";

fn digit(nibble: u8) -> u8 {
    // A nibble is below 16.
    DIGITS.get(usize::from(nibble & 15)).copied().unwrap_or(b'0')
}

/// Appends bytes as lower-case hex.
pub(crate) fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]));
}

/// SHA-256 over the parts, one after the other.
pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut digest = [0; 32];
    digest.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    digest
}

impl Hex {
    /// Before the first record of a writer.
    pub(crate) const ZERO: Self = Self([b'0'; 64]);

    /// SHA-256 over the parts, one after the other.
    pub(crate) fn of(parts: &[&[u8]]) -> Self {
        Self::from_digest(&sha256(parts))
    }

    /// 32 bytes as hex.
    pub(crate) fn from_digest(digest: &[u8; 32]) -> Self {
        let mut hex = [b'0'; 64];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(digest) {
            if let [high, low] = pair {
                (*high, *low) = (digit(byte >> 4), digit(*byte));
            }
        }
        Self(hex)
    }

    /// Exactly 64 lower-case hex digits.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let hex: [u8; 64] = text.try_into().ok()?;
        hex.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b)).then_some(Self(hex))
    }

    pub(crate) fn bytes(&self) -> &[u8; 64] {
        &self.0
    }

    pub(crate) fn as_str(&self) -> &str {
        // Only hex digits are ever put in.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl std::fmt::Debug for Hex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Lower-case hex to bytes; no other spelling.
pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let value = |b: &u8| DIGITS.iter().position(|digit| digit == b).and_then(|v| u8::try_from(v).ok());
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| match pair {
            [high, low] => Some(value(high)? << 4 | value(low)?),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l9_sha256_of_the_empty_string() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Hex::of(&[]).as_str(), empty);
        assert_eq!(Hex::of(&[b"", b""]).as_str(), empty);
        assert_eq!(Hex::parse(empty.as_bytes()), Some(Hex::of(&[])));
        assert_eq!(Hex::parse(empty.to_uppercase().as_bytes()), None);
        assert_eq!(Hex::parse(b"00"), None);
        assert_eq!(from_hex("00ff1a"), Some(vec![0, 255, 26]));
        assert_eq!(from_hex("0"), None);
        assert_eq!(from_hex("zz"), None);
        assert_eq!(from_hex("FF"), None, "one spelling only");
    }
}
