//! `application/x-www-form-urlencoded`: the only way OAuth takes parameters, in the query
//! of the authorization endpoint and in the body of the token endpoint.

use std::fmt::Write as _;

/// Longest text that is taken apart, bytes.
pub const MAX_TEXT: usize = 16 * 1024;
/// Most parameters of one request.
pub const MAX_PARAMS: usize = 64;

/// Why a text has no parameters that could be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParamsError {
    /// Longer than [`MAX_TEXT`], or more than [`MAX_PARAMS`].
    #[error("too many or too long parameters")]
    TooLarge,
    /// A broken percent sequence, not UTF-8, or a control character.
    #[error("parameters are not well-formed")]
    Malformed,
}

/// The parameters of a request.
///
/// A parameter that is sent twice has no value at all (RFC 6749 section 3.1: parameters
/// must not be included more than once): which of two counts must not depend on who reads
/// them. An empty value counts as absent, as the same section says.
#[derive(Clone, Default)]
pub struct Params {
    pairs: Vec<(String, String)>,
    duplicates: Vec<String>,
}

impl Params {
    /// Takes a query or a body apart.
    ///
    /// # Errors
    /// [`ParamsError`]; duplicates are no error here, see [`Params::duplicate`].
    pub fn parse(text: &[u8]) -> Result<Self, ParamsError> {
        Self::parse_form(text, &[])
    }

    /// The same, with line breaks and tabs in the values of these: what people write in more
    /// than one line.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_form(text: &[u8], in_lines: &[&str]) -> Result<Self, ParamsError> {
        if text.len() > MAX_TEXT {
            return Err(ParamsError::TooLarge);
        }
        let mut params = Self::default();
        let mut count = 0_usize;
        for part in text.split(|byte| *byte == b'&').filter(|part| !part.is_empty()) {
            count += 1;
            if count > MAX_PARAMS {
                return Err(ParamsError::TooLarge);
            }
            let at = part.iter().position(|byte| *byte == b'=');
            let (name, value) = match at {
                Some(at) => (part.get(..at).unwrap_or_default(), part.get(at + 1..).unwrap_or_default()),
                None => (part, &[][..]),
            };
            let name = decode(name, false)?;
            let value = decode(value, in_lines.contains(&name.as_str()))?;
            if params.pairs.iter().any(|(known, _)| *known == name) {
                params.duplicates.push(name);
            } else {
                params.pairs.push((name, value));
            }
        }
        Ok(params)
    }

    /// The value of a parameter. `None` when it is absent, empty or there twice.
    pub fn get(&self, name: &str) -> Option<&str> {
        if self.is_duplicate(name) {
            return None;
        }
        self.pairs.iter().find(|(known, value)| known == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// Whether a parameter is there at all, empty or twice too.
    pub fn has(&self, name: &str) -> bool {
        self.pairs.iter().any(|(known, _)| known == name)
    }

    /// The first parameter that is there more than once.
    pub fn duplicate(&self) -> Option<&str> {
        self.duplicates.first().map(String::as_str)
    }

    /// Whether this one is there more than once.
    pub fn is_duplicate(&self, name: &str) -> bool {
        self.duplicates.iter().any(|known| known == name)
    }
}

fn decode(bytes: &[u8], in_lines: bool) -> Result<String, ParamsError> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter().copied();
    while let Some(byte) = rest.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut nibble = || rest.next().and_then(hex).ok_or(ParamsError::Malformed);
                (nibble()? << 4) | nibble()?
            }
            other => other,
        });
    }
    let text = String::from_utf8(out).map_err(|_| ParamsError::Malformed)?;
    let bad = |c: char| c.is_control() && !(in_lines && matches!(c, '\r' | '\n' | '\t'));
    if text.chars().any(bad) { Err(ParamsError::Malformed) } else { Ok(text) }
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Builds a query or a body.
#[derive(Clone, Debug, Default)]
pub struct Builder(String);

impl Builder {
    /// Without parameters.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one parameter.
    #[must_use]
    pub fn add(mut self, name: &str, value: &str) -> Self {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        encode(name, &mut self.0);
        self.0.push('=');
        encode(value, &mut self.0);
        self
    }

    /// Adds one when there is a value.
    #[must_use]
    pub fn add_some(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.add(name, value),
            None => self,
        }
    }

    /// The text.
    pub fn finish(self) -> String {
        self.0
    }

    /// A URL with these parameters after those it has; what it has stays as it is spelled
    /// (RFC 6749 section 3.1.2). The URL must have no fragment.
    pub fn append_to(self, url: &str) -> String {
        let between = match url.split_once('?') {
            None => "?",
            Some((_, "")) => "",
            Some((_, query)) if query.ends_with('&') => "",
            Some(_) => "&",
        };
        format!("{url}{between}{}", self.0)
    }
}

fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            // `%20` and not `+`: it is read the same as a form and as part of a URL.
            other => {
                let _ = write!(out, "%{other:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a9_a_parameter_that_is_there_twice_has_no_value() {
        let params = Params::parse(b"a=1&b=2&a=3&c=4&d=1&d=1").unwrap();
        assert_eq!((params.get("a"), params.get("b"), params.get("c")), (None, Some("2"), Some("4")));
        assert_eq!(params.get("d"), None, "the second one as well");
        assert_eq!(params.duplicate(), Some("a"));
        // Another spelling of the name is the same name.
        assert_eq!(Params::parse(b"a=1&%61=1").unwrap().duplicate(), Some("a"));
        assert_eq!(Params::parse(b"a=&a=1").unwrap().get("a"), None);
    }

    #[test]
    fn a9_forms_are_read_exactly() {
        let params = Params::parse(b"&a=x+y%2B%C3%BC&&empty=&flag&e=a=b&").unwrap();
        assert_eq!(params.get("a"), Some("x y+\u{fc}"));
        assert_eq!((params.get("empty"), params.get("flag"), params.get("e")), (None, None, Some("a=b")));
        for bad in [&b"a=%"[..], b"a=%4", b"a=%zz", b"a=%ff", b"a=\xff", b"a=%00", b"a=%0d%0aSet-Cookie:x", b"%0a=1"] {
            assert_eq!(Params::parse(bad).err(), Some(ParamsError::Malformed), "{bad:?}");
        }
        let many = (0..=MAX_PARAMS).map(|n| format!("p{n}=1&")).collect::<String>();
        assert_eq!(Params::parse(many.as_bytes()).err(), Some(ParamsError::TooLarge));
        assert_eq!(Params::parse(&[b'a'; MAX_TEXT + 1]).err(), Some(ParamsError::TooLarge));
    }

    #[test]
    fn a9_what_a_redirect_had_stays() {
        let query = || Builder::new().add("code", "a b&c").add_some("state", None).add_some("iss", Some("https://h"));
        let tail = "code=a%20b%26c&iss=https%3A%2F%2Fh";
        for (url, want) in [
            ("https://c/cb", format!("https://c/cb?{tail}")),
            ("https://c/cb?", format!("https://c/cb?{tail}")),
            ("https://c/cb?x=%7e+1", format!("https://c/cb?x=%7e+1&{tail}")),
            ("https://c/cb?x=1&", format!("https://c/cb?x=1&{tail}")),
        ] {
            assert_eq!(query().append_to(url), want);
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_built_is_read_back(name in "[^\\x00-\\x1f\\x7f-\\x9f]{1,12}", value in "[^\\x00-\\x1f\\x7f-\\x9f]{1,40}") {
            let text = Builder::new().add(&name, &value).add("other-name-of-13", "1").finish();
            let params = Params::parse(text.as_bytes()).unwrap();
            proptest::prop_assert_eq!(params.get(&name), Some(value.as_str()));
        }

        #[test]
        fn any_bytes_are_an_answer(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _ = Params::parse(&bytes);
        }
    }

    #[test]
    fn a16_only_what_is_written_in_lines_has_line_breaks() {
        let form = b"purpose=two%0D%0Alines%09&name=x";
        assert_eq!(Params::parse_form(form, &["purpose"]).unwrap().get("purpose"), Some("two\r\nlines\t"));
        assert_eq!(Params::parse(form).err(), Some(ParamsError::Malformed));
        for bad in [&b"purpose=%00"[..], b"purpose=%1b", b"purpose=%C2%85", b"name=%0A", b"pur%0Apose=a"] {
            assert_eq!(Params::parse_form(bad, &["purpose"]).err(), Some(ParamsError::Malformed), "{bad:?}");
        }
    }
}
