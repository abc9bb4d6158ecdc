//! `WWW-Authenticate` (RFC 9110, section 11.6.1): several challenges in one header, in
//! several headers, with quoted strings.

/// Longest header value, bytes.
const MAX: usize = 16 * 1024;
/// Most challenges, and most parameters of one.
const MOST: usize = 32;

/// One challenge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Challenge {
    /// Scheme as written.
    pub scheme: String,
    /// The single value of schemes such as `Negotiate`.
    pub token68: Option<String>,
    /// Parameters; names in lower case.
    params: Vec<(String, String)>,
}

/// The header is not well-formed, or too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("WWW-Authenticate is not well-formed")]
pub struct ChallengeError;

impl Challenge {
    /// A new challenge of the scheme `Bearer`.
    pub fn bearer() -> Self {
        Self { scheme: "Bearer".to_owned(), ..Self::default() }
    }

    /// Adds a parameter.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.params.push((name.to_ascii_lowercase(), value.to_owned()));
        self
    }

    /// A parameter. `None` when it is absent or there twice.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.params.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let first = found.next()?;
        if found.next().is_some() { None } else { Some(&first.1) }
    }

    /// Whether this is a `Bearer` challenge.
    pub fn is_bearer(&self) -> bool {
        self.scheme.eq_ignore_ascii_case("bearer")
    }

    /// The header value. Every parameter is quoted; characters that cannot stand in a header
    /// are left out.
    pub fn to_header(&self) -> String {
        let mut out = self.scheme.clone();
        for (index, (name, value)) in self.params.iter().enumerate() {
            out.push_str(if index == 0 { " " } else { ", " });
            out.push_str(name);
            out.push_str("=\"");
            for c in value.chars().filter(|c| (' '..='~').contains(c)) {
                if matches!(c, '"' | '\\') {
                    out.push('\\');
                }
                out.push(c);
            }
            out.push('"');
        }
        out
    }
}

/// The challenges of one header value, in order.
///
/// # Errors
/// [`ChallengeError`].
pub fn parse(header: &str) -> Result<Vec<Challenge>, ChallengeError> {
    if header.len() > MAX {
        return Err(ChallengeError);
    }
    let mut reader = Reader(header);
    let mut found: Vec<Challenge> = Vec::new();
    loop {
        reader.skip(&[' ', '\t', ',']);
        if reader.0.is_empty() {
            return Ok(found);
        }
        let word = reader.token().ok_or(ChallengeError)?;
        let after = reader.0;
        reader.skip(&[' ', '\t']);
        if reader.eat('=') {
            // RFC 9110 allows blanks around `=` in what is received.
            reader.skip(&[' ', '\t']);
            let value = reader.value().ok_or(ChallengeError)?;
            let challenge = found.last_mut().filter(|challenge| challenge.params.len() < MOST).ok_or(ChallengeError)?;
            challenge.params.push((word.to_ascii_lowercase(), value));
            continue;
        }
        if found.len() == MOST {
            return Err(ChallengeError);
        }
        let token68 = if after.starts_with([' ', '\t']) { reader.token68() } else { None };
        found.push(Challenge { scheme: word.to_owned(), token68, params: Vec::new() });
    }
}

struct Reader<'a>(&'a str);

impl<'a> Reader<'a> {
    fn skip(&mut self, chars: &[char]) {
        self.0 = self.0.trim_start_matches(chars);
    }

    fn eat(&mut self, c: char) -> bool {
        self.0.strip_prefix(c).inspect(|rest| self.0 = rest).is_some()
    }

    fn take(&mut self, good: impl Fn(char) -> bool) -> &'a str {
        let end = self.0.find(|c| !good(c)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken
    }

    fn token(&mut self) -> Option<&'a str> {
        let token = self.take(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c));
        (!token.is_empty()).then_some(token)
    }

    /// A value that stands alone until the next comma; otherwise nothing is taken.
    fn token68(&mut self) -> Option<String> {
        let start = self.0;
        let value = self.take(|c| c.is_ascii_alphanumeric() || "-._~+/".contains(c)).len();
        let padding = self.take(|c| c == '=').len();
        let text = start.get(..value + padding).unwrap_or_default();
        self.skip(&[' ', '\t']);
        if value > 0 && (self.0.is_empty() || self.0.starts_with(',')) {
            return Some(text.to_owned());
        }
        self.0 = start;
        None
    }

    fn value(&mut self) -> Option<String> {
        if !self.eat('"') {
            // Some servers leave URLs unquoted.
            let value = self.take(|c| c.is_ascii_graphic() && !matches!(c, ',' | '"'));
            return (!value.is_empty()).then(|| value.to_owned());
        }
        let mut out = String::new();
        let mut chars = self.0.chars();
        loop {
            match chars.next()? {
                '"' => break,
                '\\' => out.push(chars.next()?),
                c => out.push(c),
            }
        }
        self.0 = chars.as_str();
        (!out.chars().any(char::is_control)).then_some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn p16_challenges_are_taken_apart() {
        let header = concat!(
            "Negotiate, Basic realm=\"a, b=\\\"c\\\"\" , charset = \"UTF-8\",",
            "Bearer error=\"invalid_token\", resource_metadata=\"https://rs.example/x?a=1,2\", scope=\"a b\",, NTLM abc=="
        );
        let found = parse(header).unwrap();
        let schemes: Vec<_> = found.iter().map(|challenge| challenge.scheme.as_str()).collect();
        assert_eq!(schemes, ["Negotiate", "Basic", "Bearer", "NTLM"]);
        assert_eq!(found[1].get("REALM"), Some("a, b=\"c\""));
        assert_eq!(found[1].get("charset"), Some("UTF-8"));
        assert!(found[2].is_bearer());
        assert_eq!(found[2].get("resource_metadata"), Some("https://rs.example/x?a=1,2"));
        assert_eq!(found[2].get("scope"), Some("a b"));
        assert_eq!(found[3].token68.as_deref(), Some("abc=="));
        assert_eq!(parse("Bearer").unwrap().len(), 1);
        assert_eq!(parse("").unwrap(), []);
        assert_eq!(
            parse("bearer resource_metadata=https://a/b").unwrap()[0].get("resource_metadata"),
            Some("https://a/b")
        );
        // Which of two counts must not depend on who reads them.
        assert_eq!(parse("Bearer scope=a, scope=b").unwrap()[0].get("scope"), None);
    }

    #[test]
    fn p16_broken_challenges_are_refused() {
        let many = "Bearer a=b,".repeat(2000);
        for bad in [
            "=x",
            "realm=\"x\"",
            "Bearer realm=\"x",
            "Bearer realm=\"x\\",
            "Bearer a=\"\n\"",
            "\"Bearer\"",
            "B\u{e9}",
            &many,
        ] {
            assert_eq!(parse(bad), Err(ChallengeError), "{bad:.40}");
        }
    }

    proptest! {
        #[test]
        fn p16_any_header_ends(text in "\\PC{0,200}") {
            let _ = parse(&text);
        }

        #[test]
        fn p16_what_is_built_is_read_again(value in "[ -~]{0,60}", other in "[a-z]{1,9}") {
            let built = Challenge::bearer().with("realm", &value).with("x", &other).to_header();
            let read = parse(&built).unwrap();
            prop_assert_eq!(read.len(), 1);
            prop_assert_eq!(read[0].get("realm"), Some(value.as_str()));
            prop_assert_eq!(read[0].get("x"), Some(other.as_str()));
        }
    }
}
