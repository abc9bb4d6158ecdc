//! The redirect back from an authorization server: `code` or `error`, `state` and `iss`.

use bartizan_model::Secret;

use crate::params::Params;
use crate::text::{error_word, printable};

/// Longest authorization code, bytes.
const MAX_CODE: usize = 8 * 1024;
/// Longest description, characters.
const MAX_DESCRIPTION: usize = 300;

/// An answer cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// Broken, twice the same parameter, both or neither of `code` and `error`.
    #[error("the answer of the authorization server is not well-formed")]
    Malformed,
    /// `iss` names another server (RFC 9207: a mix-up).
    #[error("the answer comes from another authorization server")]
    OtherIssuer,
    /// `iss` is missing although the server says that it always sends it.
    #[error("the answer does not say which authorization server it is from")]
    NoIssuer,
}

/// What an answer says, before anybody checked who says it.
pub struct AuthorizationAnswer {
    state: String,
    iss: Option<String>,
    outcome: Outcome,
}

/// What the authorization server decided.
pub enum Outcome {
    /// To be redeemed at the token endpoint.
    Code(Secret<String>),
    /// It refused.
    Refused {
        /// A word such as `access_denied`.
        code: String,
        /// At most 300 printable characters; not escaped.
        description: Option<String>,
    },
}

impl AuthorizationAnswer {
    /// Takes the query of the redirect apart (RFC 6749, sections 4.1.2 and 4.1.2.1).
    ///
    /// # Errors
    /// [`AnswerError::Malformed`].
    pub fn parse(query: &str) -> Result<Self, AnswerError> {
        let params = Params::parse(query.as_bytes()).map_err(|_| AnswerError::Malformed)?;
        if params.duplicate().is_some() {
            return Err(AnswerError::Malformed);
        }
        let state = params.get("state").ok_or(AnswerError::Malformed)?.to_owned();
        let outcome = match (params.get("code"), params.get("error")) {
            (Some(code), None) if code.len() <= MAX_CODE => Outcome::Code(Secret::new(code.to_owned())),
            (None, Some(error)) => Outcome::Refused {
                code: error_word(error),
                description: params.get("error_description").map(|text| printable(text, MAX_DESCRIPTION)),
            },
            _ => return Err(AnswerError::Malformed),
        };
        Ok(Self { state, iss: params.get("iss").map(str::to_owned), outcome })
    }

    /// The `state`, to find out which request this answers.
    pub fn state(&self) -> &str {
        &self.state
    }

    /// The content, if it is from the server that was asked: `iss` is compared as plain text,
    /// and must be there when the server `always_sends_iss` (RFC 9207, section 2.4). On a
    /// mismatch not even an error may be shown, so there is no other way to it.
    ///
    /// # Errors
    /// [`AnswerError::OtherIssuer`], [`AnswerError::NoIssuer`].
    pub fn accept(self, issuer: &str, always_sends_iss: bool) -> Result<Outcome, AnswerError> {
        match self.iss.as_deref() {
            Some(iss) if iss != issuer => Err(AnswerError::OtherIssuer),
            None if always_sends_iss => Err(AnswerError::NoIssuer),
            _ => Ok(self.outcome),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(query: &str, always: bool) -> Result<String, AnswerError> {
        let answer = AuthorizationAnswer::parse(query)?;
        assert_eq!(answer.state(), "s");
        Ok(match answer.accept("https://a.example/x", always)? {
            Outcome::Code(code) => code.expose().clone(),
            Outcome::Refused { code, description } => format!("{code}: {}", description.unwrap_or_default()),
        })
    }

    #[test]
    fn a9_answers_are_taken_only_from_the_server_that_was_asked() {
        assert_eq!(accepted("code=c&state=s", false).unwrap(), "c");
        assert_eq!(accepted("code=c&state=s&iss=https%3A%2F%2Fa.example%2Fx", true).unwrap(), "c");
        assert_eq!(accepted("code=c&state=s", true), Err(AnswerError::NoIssuer));
        // Plain text: no normalisation may make two issuers equal.
        for other in ["https://b.example", "https://a.example/x/", "https://A.example/x", "https://a.example:443/x"] {
            for what in ["code=c", "error=access_denied"] {
                for always in [true, false] {
                    let query = format!("{what}&state=s&iss={other}");
                    assert_eq!(accepted(&query, always), Err(AnswerError::OtherIssuer), "{query}");
                }
            }
        }
    }

    #[test]
    fn a9_ambiguous_answers_are_refused() {
        for bad in [
            "",
            "state=s",
            "code=c",
            "code=c&state=",
            "code=c&error=e&state=s",
            "code=c&code=d&state=s",
            "code=c&state=s&state=t",
            "code=c&state=s&iss=a&iss=b",
            "error=a&error=b&state=s",
            "code=c&state=s&x=%zz",
            "code=c&state=%ff",
            "code=c%0d%0a&state=s",
            &format!("code={}&state=s", "c".repeat(9000)),
            &format!("code=c&state=s&{}", "a=b&".repeat(100)),
        ] {
            assert!(matches!(AuthorizationAnswer::parse(bad), Err(AnswerError::Malformed)), "{bad:.60}");
        }
    }

    #[test]
    fn a2_hostile_errors_are_bounded() {
        let long = "x".repeat(1000);
        let shown = accepted(&format!("error=%3Cscript%3E&error_description={long}%E2%80%AE&state=s"), false).unwrap();
        assert_eq!(shown, format!("unknown: {}", "x".repeat(300)));
    }
}
