//! A strict JSON scanner over bytes (RFC 8259): finds where values begin and end
//! without building them. One pass checks the grammar and the depth; what it
//! returns are ranges of the input, so that untouched bytes can be sent on as they came.

pub(crate) mod dup;
pub(crate) mod text;

pub(crate) use text::{StrTok, decode, decode_lossy};

/// The size of the container stack, and the deepest nesting of texts built here.
pub(crate) const HARD_DEPTH: usize = 1024;
/// Deepest nesting a caller may allow for texts from outside: what is built around
/// them must not pass [`HARD_DEPTH`].
pub(crate) const MAX_DEPTH: usize = 512;
const WORDS: usize = HARD_DEPTH / 64;

/// A range of the scanned bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Span {
    pub(crate) fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start..self.end).unwrap_or_default()
    }
}

/// Why a text is not acceptable JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScanError {
    /// Not JSON; the offset of the first byte that cannot be right.
    Syntax(usize),
    /// Deeper than allowed.
    Depth,
    /// An object has two members of one name; the offset of a key of that name.
    Duplicate(usize),
    /// A key holds half a surrogate pair, so it has no name.
    Surrogate(usize),
}

/// Told about the keys of every object passed over.
pub(crate) trait Keys {
    fn open(&mut self) {}
    fn key(&mut self, _key: StrTok) {}
    fn close(&mut self, _bytes: &[u8]) -> Result<(), ScanError> {
        Ok(())
    }
}

/// Looks at no keys.
pub(crate) struct NoKeys;
impl Keys for NoKeys {}

/// A member of an object: its key and where its value lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub(crate) key: StrTok,
    pub(crate) value: Span,
}

/// Reads forward over one text.
pub(crate) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    max: usize,
    /// One bit per open container: 1 = object.
    kinds: [u64; WORDS],
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(bytes: &'a [u8], max_depth: usize) -> Self {
        Self { bytes, at: 0, depth: 0, max: max_depth.min(HARD_DEPTH), kinds: [0; WORDS] }
    }

    fn syntax<T>(&self) -> Result<T, ScanError> {
        Err(ScanError::Syntax(self.at))
    }

    /// The next byte that is not white space.
    #[inline]
    pub(crate) fn peek(&mut self) -> Option<u8> {
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    fn need(&mut self) -> Result<u8, ScanError> {
        self.peek().ok_or(ScanError::Syntax(self.at))
    }

    fn enter(&mut self, object: bool) -> Result<(), ScanError> {
        if self.depth >= self.max {
            return Err(ScanError::Depth);
        }
        if let Some(word) = self.kinds.get_mut(self.depth / 64) {
            let bit = 1u64 << (self.depth % 64);
            if object { *word |= bit } else { *word &= !bit }
        }
        self.depth += 1;
        self.at += 1;
        Ok(())
    }

    fn leave(&mut self) {
        self.depth -= 1;
        self.at += 1;
    }

    fn in_object(&self) -> bool {
        let top = self.depth.wrapping_sub(1);
        self.kinds.get(top / 64).is_some_and(|word| word >> (top % 64) & 1 == 1)
    }

    /// Steps into the object or array that begins here.
    pub(crate) fn open(&mut self, bracket: u8) -> Result<(), ScanError> {
        if self.peek() != Some(bracket) {
            return self.syntax();
        }
        self.enter(bracket == b'{')
    }

    /// The next member of the object stepped into, or nothing after its `}`.
    pub(crate) fn next_member(&mut self, first: &mut bool) -> Result<Option<Member>, ScanError> {
        self.next_member_with(first, &mut NoKeys)
    }

    /// As [`Self::next_member`], telling `keys` about the keys inside the value.
    pub(crate) fn next_member_with<K: Keys>(
        &mut self,
        first: &mut bool,
        keys: &mut K,
    ) -> Result<Option<Member>, ScanError> {
        match self.next_key(first)? {
            Some(key) => Ok(Some(Member { key, value: self.value_with(keys)? })),
            None => Ok(None),
        }
    }

    /// The next key of the object stepped into and its colon, or nothing after its `}`.
    /// The value comes next.
    pub(crate) fn next_key(&mut self, first: &mut bool) -> Result<Option<StrTok>, ScanError> {
        match (self.need()?, std::mem::take(first)) {
            (b'}', _) => {
                self.leave();
                return Ok(None);
            }
            (b',', false) => self.at += 1,
            (_, true) => {}
            _ => return self.syntax(),
        }
        self.key().map(Some)
    }

    /// True when another item of the array stepped into comes next, false after its `]`.
    pub(crate) fn more_items(&mut self, first: &mut bool) -> Result<bool, ScanError> {
        match (self.need()?, std::mem::take(first)) {
            (b']', _) => {
                self.leave();
                return Ok(false);
            }
            (b',', false) => self.at += 1,
            (_, true) => {}
            _ => return self.syntax(),
        }
        Ok(true)
    }

    /// The next item of the array stepped into, or nothing after its `]`.
    pub(crate) fn next_item(&mut self, first: &mut bool) -> Result<Option<Span>, ScanError> {
        if self.more_items(first)? { self.value().map(Some) } else { Ok(None) }
    }

    /// Only white space may be left.
    pub(crate) fn end(&mut self) -> Result<(), ScanError> {
        if self.peek().is_none() { Ok(()) } else { self.syntax() }
    }

    /// A key and its colon.
    fn key(&mut self) -> Result<StrTok, ScanError> {
        if self.peek() != Some(b'"') {
            return self.syntax();
        }
        let key = self.string()?;
        if self.peek() != Some(b':') {
            return self.syntax();
        }
        self.at += 1;
        Ok(key)
    }

    /// Passes over one value.
    pub(crate) fn value(&mut self) -> Result<Span, ScanError> {
        self.value_with(&mut NoKeys)
    }

    /// Passes over one value, telling `keys` about every key inside.
    pub(crate) fn value_with<K: Keys>(&mut self, keys: &mut K) -> Result<Span, ScanError> {
        let mut next = self.need()?;
        let start = self.at;
        let base = self.depth;
        loop {
            match next {
                b'"' => {
                    self.string()?;
                }
                b'{' => {
                    self.enter(true)?;
                    keys.open();
                    if self.need()? == b'}' {
                        self.leave();
                        keys.close(self.bytes)?;
                    } else {
                        keys.key(self.key()?);
                        next = self.need()?;
                        continue;
                    }
                }
                b'[' => {
                    self.enter(false)?;
                    next = self.need()?;
                    if next == b']' {
                        self.leave();
                    } else {
                        continue;
                    }
                }
                b't' => self.literal(b"true")?,
                b'f' => self.literal(b"false")?,
                b'n' => self.literal(b"null")?,
                b'-' | b'0'..=b'9' => self.number()?,
                _ => return self.syntax(),
            }
            // A value has ended: close what ends with it, or find the next one.
            loop {
                if self.depth == base {
                    return Ok(Span { start, end: self.at });
                }
                let object = self.in_object();
                match (self.need()?, object) {
                    (b',', true) => {
                        self.at += 1;
                        keys.key(self.key()?);
                        next = self.need()?;
                        break;
                    }
                    (b',', false) => {
                        self.at += 1;
                        next = self.need()?;
                        break;
                    }
                    (b'}', true) => {
                        self.leave();
                        keys.close(self.bytes)?;
                    }
                    (b']', false) => self.leave(),
                    _ => return self.syntax(),
                }
            }
        }
    }

    fn literal(&mut self, word: &[u8]) -> Result<(), ScanError> {
        if self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            self.at += word.len();
            Ok(())
        } else {
            self.syntax()
        }
    }

    fn digits(&mut self) -> Result<(), ScanError> {
        let from = self.at;
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        if self.at == from { self.syntax() } else { Ok(()) }
    }

    fn number(&mut self) -> Result<(), ScanError> {
        if self.bytes.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        if self.bytes.get(self.at) == Some(&b'0') {
            self.at += 1;
            if self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
                return self.syntax();
            }
        } else {
            self.digits()?;
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.bytes.get(self.at) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// A string, which begins here.
    pub(crate) fn string(&mut self) -> Result<StrTok, ScanError> {
        let start = self.at;
        self.at += 1;
        let mut escaped = false;
        loop {
            self.at += text::plain_run(self.bytes.get(self.at..).unwrap_or_default());
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(StrTok { span: Span { start, end: self.at }, escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return self.syntax(),
            }
        }
    }

    fn escape(&mut self) -> Result<(), ScanError> {
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u')
                if self
                    .bytes
                    .get(self.at + 2..self.at + 6)
                    .is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) =>
            {
                self.at += 6;
            }
            _ => return self.syntax(),
        }
        Ok(())
    }
}

/// The kind of value a JSON text is, by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonKind {
    /// `{…}`
    Object,
    /// `[…]`
    Array,
    /// `"…"`
    String,
    /// A number.
    Number,
    /// `true` or `false`.
    Bool,
    /// `null`
    Null,
}

impl JsonKind {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        match bytes.first() {
            Some(b'{') => Self::Object,
            Some(b'[') => Self::Array,
            Some(b'"') => Self::String,
            Some(b't' | b'f') => Self::Bool,
            Some(b'-' | b'0'..=b'9') => Self::Number,
            _ => Self::Null,
        }
    }
}
