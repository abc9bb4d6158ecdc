//! JSON strings: where they end, and what they say.

use std::borrow::Cow;

use super::Span;

/// A string token: its range with the quotes, and whether it holds escapes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StrTok {
    pub(crate) span: Span,
    pub(crate) escaped: bool,
}

impl StrTok {
    /// The bytes between the quotes.
    pub(crate) fn inner(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.span.start + 1..self.span.end.saturating_sub(1)).unwrap_or_default()
    }

    /// The token of a text that is one whole string.
    pub(crate) fn whole(bytes: &[u8]) -> Option<Self> {
        (bytes.len() >= 2 && bytes.first() == Some(&b'"')).then(|| Self {
            span: Span { start: 0, end: bytes.len() },
            escaped: memchr::memchr(b'\\', bytes).is_some(),
        })
    }
}

const ONES: u64 = u64::MAX / 255;
const HIGH: u64 = ONES << 7;

/// High bits mark the zero bytes; exact up to and including the lowest one.
fn zero_bytes(x: u64) -> u64 {
    x.wrapping_sub(ONES) & !x & HIGH
}

/// How many bytes from the start are neither a quote, nor a backslash, nor a control character.
#[inline]
pub(super) fn plain_run(bytes: &[u8]) -> usize {
    let (chunks, rest) = bytes.as_chunks::<8>();
    let mut done = 0;
    for chunk in chunks {
        let x = u64::from_le_bytes(*chunk);
        let control = x.wrapping_sub(ONES * 0x20) & !x & HIGH;
        let stop = control | zero_bytes(x ^ (ONES * 0x22)) | zero_bytes(x ^ (ONES * 0x5c));
        if stop != 0 {
            return done + stop.trailing_zeros() as usize / 8;
        }
        done += 8;
    }
    done + rest.iter().take_while(|b| !matches!(b, b'"' | b'\\' | 0..=0x1f)).count()
}

/// What a string says, or nothing when it holds half a surrogate pair (or is not UTF-8).
pub(crate) fn decode(bytes: &[u8], tok: StrTok) -> Option<Cow<'_, str>> {
    let text = std::str::from_utf8(tok.inner(bytes)).ok()?;
    if !tok.escaped {
        return Some(Cow::Borrowed(text));
    }
    unescape(text, |_| None).map(Cow::Owned)
}

/// As [`decode`]; half pairs become U+FFFD.
pub(crate) fn decode_lossy(bytes: &[u8], tok: StrTok) -> String {
    let text = String::from_utf8_lossy(tok.inner(bytes));
    if tok.escaped { unescape(&text, |_| Some('\u{fffd}')).unwrap_or_default() } else { text.into_owned() }
}

/// What one escape stands for.
pub(crate) enum Unit {
    Char(char),
    /// Half a surrogate pair.
    Lone(u16),
}

/// Splits the inside of a string into characters and lone surrogates.
pub(crate) fn units(text: &str, mut each: impl FnMut(Unit)) {
    let mut rest = text;
    while let Some(found) = memchr::memchr(b'\\', rest.as_bytes()) {
        let (plain, tail) = rest.split_at(found);
        plain.chars().for_each(|c| each(Unit::Char(c)));
        let kind = tail.as_bytes().get(1).copied().unwrap_or(b'\\');
        if kind != b'u' {
            each(Unit::Char(short_escape(kind)));
            rest = tail.get(2..).unwrap_or_default();
            continue;
        }
        let first = hex(tail);
        rest = tail.get(6..).unwrap_or_default();
        if (0xd800..0xdc00).contains(&first) && rest.starts_with("\\u") {
            let second = hex(rest);
            if (0xdc00..0xe000).contains(&second) {
                let code = 0x10000 + ((u32::from(first) - 0xd800) << 10) + (u32::from(second) - 0xdc00);
                each(char::from_u32(code).map_or(Unit::Lone(first), Unit::Char));
                rest = rest.get(6..).unwrap_or_default();
                continue;
            }
        }
        each(char::from_u32(u32::from(first)).map_or(Unit::Lone(first), Unit::Char));
    }
    rest.chars().for_each(|c| each(Unit::Char(c)));
}

fn unescape(text: &str, lone: impl Fn(u16) -> Option<char>) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut whole = true;
    units(text, |unit| match unit {
        Unit::Char(c) => out.push(c),
        Unit::Lone(half) => match lone(half) {
            Some(c) => out.push(c),
            None => whole = false,
        },
    });
    whole.then_some(out)
}

fn short_escape(kind: u8) -> char {
    match kind {
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        other => char::from(other),
    }
}

/// The number in the `\uXXXX` that `text` begins with.
fn hex(text: &str) -> u16 {
    text.get(2..6).and_then(|digits| u16::from_str_radix(digits, 16).ok()).unwrap_or(0xfffd)
}
