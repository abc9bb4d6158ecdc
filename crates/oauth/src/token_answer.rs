//! Answers of token endpoints, in the shapes that real providers send.

use bartizan_model::Secret;
use serde_json::{Map, Value};

use crate::params::Params;
use crate::text::{error_word, printable};

/// Longest answer, bytes.
pub const MAX_ANSWER: usize = 512 * 1024;
/// Longest description, characters.
const MAX_DESCRIPTION: usize = 300;
/// Members in which some providers wrap the tokens.
const WRAPPERS: [&str; 4] = ["authed_user", "data", "token", "tokens"];

/// Tokens.
pub struct TokenAnswer {
    /// The access token.
    pub access_token: Secret<String>,
    /// As sent; `Bearer` when it was not.
    pub token_type: String,
    /// Life of the access token, seconds, if it was said.
    pub expires_in_s: Option<u64>,
    /// A refresh token; without one a previous one stays good (RFC 6749, section 6).
    pub refresh_token: Option<Secret<String>>,
    /// OpenID Connect ID token, unchecked.
    pub id_token: Option<Secret<String>>,
    /// Granted scopes, if they were said.
    pub scope: Option<String>,
    /// Kind of the issued token (RFC 8693).
    pub issued_token_type: Option<String>,
}

/// Why there are no tokens. Holds none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenAnswerError {
    /// Longer than [`MAX_ANSWER`].
    #[error("the token answer is too long")]
    TooLarge,
    /// Neither a JSON object nor a form.
    #[error("the token answer with status {status} is neither JSON nor a form")]
    Malformed {
        /// HTTP status.
        status: u16,
    },
    /// No access token in it.
    #[error("the token answer has no access token")]
    NoAccessToken,
    /// A member of an unusable form.
    #[error("`{0}` of the token answer cannot be used")]
    Member(&'static str),
    /// The server refused.
    #[error("the token endpoint answered `{code}`")]
    Refused {
        /// A word such as `invalid_grant`.
        code: String,
        /// At most 300 printable characters; not escaped.
        description: Option<String>,
        /// HTTP status.
        status: u16,
    },
    /// A status other than 200 without an error code.
    #[error("the token endpoint answered with status {status}")]
    Status {
        /// HTTP status.
        status: u16,
    },
}

impl TokenAnswerError {
    /// True when the grant is gone for good and a person must sign in again; anything else
    /// may pass.
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::Refused { code, .. }
            if matches!(code.as_str(), "invalid_grant" | "bad_refresh_token" | "token_revoked" | "invalid_refresh_token"))
    }
}

/// Takes an answer apart (RFC 6749, sections 5.1 and 5.2, and what providers make of them:
/// form bodies, errors with status 200, numbers as text, wrapped tokens).
///
/// # Errors
/// [`TokenAnswerError`].
pub fn parse(status: u16, body: &[u8]) -> Result<TokenAnswer, TokenAnswerError> {
    if body.len() > MAX_ANSWER {
        return Err(TokenAnswerError::TooLarge);
    }
    let top = match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(members)) => members,
        Ok(_) => return Err(TokenAnswerError::Malformed { status }),
        Err(_) => match form(body) {
            Some(members) => members,
            None if (200..300).contains(&status) => return Err(TokenAnswerError::Malformed { status }),
            None => return Err(TokenAnswerError::Status { status }),
        },
    };
    refused(&top, status)?;
    let holder = if top.contains_key("access_token") {
        &top
    } else {
        let wrapped = WRAPPERS.iter().filter_map(|name| top.get(*name)?.as_object());
        let mut wrapped = wrapped.filter(|inner| inner.contains_key("access_token"));
        wrapped.next().ok_or(TokenAnswerError::NoAccessToken)?
    };
    tokens(holder)
}

fn form(body: &[u8]) -> Option<Map<String, Value>> {
    let params = Params::parse(body.trim_ascii()).ok().filter(|params| params.duplicate().is_none())?;
    let names = ["access_token", "token_type", "expires_in", "refresh_token", "id_token", "scope", "error"];
    let members: Map<String, Value> = names
        .iter()
        .chain(&["error_description", "issued_token_type"])
        .filter_map(|name| Some(((*name).to_owned(), params.get(name)?.into())))
        .collect();
    (!members.is_empty()).then_some(members)
}

fn refused(top: &Map<String, Value>, status: u16) -> Result<(), TokenAnswerError> {
    let error = match top.get("error") {
        None | Some(Value::Null | Value::Bool(false)) => None,
        Some(Value::String(code)) => Some(error_word(code)),
        // `{"error": {"code": …}}` and the like.
        Some(Value::Object(inner)) => {
            let code = ["code", "type", "status"].iter().find_map(|name| inner.get(*name)?.as_str());
            Some(code.map_or_else(|| "unknown".to_owned(), error_word))
        }
        Some(_) => Some("unknown".to_owned()),
    };
    if let Some(code) = error {
        let description = top.get("error_description").and_then(Value::as_str);
        let description = description.map(|text| printable(text, MAX_DESCRIPTION));
        return Err(TokenAnswerError::Refused { code, description, status });
    }
    if (200..300).contains(&status) { Ok(()) } else { Err(TokenAnswerError::Status { status }) }
}

fn tokens(members: &Map<String, Value>) -> Result<TokenAnswer, TokenAnswerError> {
    let access_token = text(members, "access_token")?.ok_or(TokenAnswerError::NoAccessToken)?;
    // It becomes a header value (RFC 6750, section 2.1).
    if !access_token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(TokenAnswerError::Member("access_token"));
    }
    Ok(TokenAnswer {
        access_token: Secret::new(access_token),
        token_type: text(members, "token_type")?.unwrap_or_else(|| "Bearer".to_owned()),
        expires_in_s: seconds(members.get("expires_in"))?,
        refresh_token: text(members, "refresh_token")?.map(Secret::new),
        id_token: text(members, "id_token")?.map(Secret::new),
        scope: match members.get("scope") {
            Some(Value::Array(scopes)) => {
                let scopes: Option<Vec<&str>> = scopes.iter().map(Value::as_str).collect();
                Some(scopes.ok_or(TokenAnswerError::Member("scope"))?.join(" "))
            }
            _ => text(members, "scope")?,
        },
        issued_token_type: text(members, "issued_token_type")?,
    })
}

fn text(members: &Map<String, Value>, name: &'static str) -> Result<Option<String>, TokenAnswerError> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(TokenAnswerError::Member(name)),
    }
}

/// A number, or one written as text. Negative ones mean that it is over already.
fn seconds(value: Option<&Value>) -> Result<Option<u64>, TokenAnswerError> {
    let number = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(None),
        Some(Value::String(text)) => text.trim().parse::<f64>().ok(),
        Some(Value::Number(number)) => number.as_f64(),
        Some(_) => None,
    };
    let number = number.filter(|number| number.is_finite()).ok_or(TokenAnswerError::Member("expires_in"))?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to a range that fits")]
    Ok(Some(number.clamp(0.0, 4e9) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(status: u16, body: &str) -> Result<(String, Option<u64>, bool), TokenAnswerError> {
        let answer = parse(status, body.as_bytes())?;
        Ok((answer.access_token.expose().clone(), answer.expires_in_s, answer.refresh_token.is_some()))
    }

    #[test]
    fn p22_shapes_of_token_answers() {
        for (body, expires, refresh) in [
            (r#"{"access_token":"a","token_type":"Bearer","expires_in":3600,"refresh_token":"r"}"#, Some(3600), true),
            (r#"{"access_token":"a","expires_in":"3600"}"#, Some(3600), false),
            (r#"{"access_token":"a","expires_in":3599.7}"#, Some(3599), false),
            (r#"{"access_token":"a","expires_in":-5}"#, Some(0), false),
            (r#"{"access_token":"a","expires_in":1e300}"#, Some(4_000_000_000), false),
            (r#"{"access_token":"a","expires_in":null,"refresh_token":null}"#, None, false),
            (r#"{"access_token":"a","expires_in":"","refresh_token":""}"#, None, false),
            ("access_token=a&scope=repo%2Cgist&token_type=bearer", None, false),
            ("access_token=a&expires_in=28800&refresh_token=r\n", Some(28_800), true),
            (
                r#"{"ok":true,"access_token":null,"authed_user":{"access_token":"a","expires_in":43200}}"#,
                Some(43_200),
                false,
            ),
            (r#"{"ok":true,"data":{"access_token":"a","refresh_token":"r"}}"#, None, true),
            (r#"{"access_token":"a","scope":["x","y"],"extra":{"deep":[1]}}"#, None, false),
        ] {
            let expect_null_top = body.contains("authed_user");
            let body = if expect_null_top { body.replace("\"access_token\":null,", "") } else { body.to_owned() };
            assert_eq!(short(200, &body).unwrap(), ("a".to_owned(), expires, refresh), "{body}");
        }
        assert_eq!(parse(200, br#"{"access_token":"a"}"#).ok().unwrap().token_type, "Bearer");
    }

    #[test]
    fn p22_unusable_token_answers_have_a_named_error() {
        let refused = |code: &str, status| TokenAnswerError::Refused { code: code.into(), description: None, status };
        for (status, body, error) in [
            (200, "", TokenAnswerError::Malformed { status: 200 }),
            (200, "[]", TokenAnswerError::Malformed { status: 200 }),
            (200, "<html>", TokenAnswerError::Malformed { status: 200 }),
            (502, "<html>", TokenAnswerError::Status { status: 502 }),
            (200, "{}", TokenAnswerError::NoAccessToken),
            (200, r#"{"access_token":""}"#, TokenAnswerError::NoAccessToken),
            (200, r#"{"access_token":7}"#, TokenAnswerError::Member("access_token")),
            (200, r#"{"access_token":"a\nb"}"#, TokenAnswerError::Member("access_token")),
            (200, r#"{"access_token":"a","expires_in":"soon"}"#, TokenAnswerError::Member("expires_in")),
            (200, r#"{"access_token":"a","expires_in":[1]}"#, TokenAnswerError::Member("expires_in")),
            (200, r#"{"access_token":"a","id_token":{}}"#, TokenAnswerError::Member("id_token")),
            (400, r#"{"error":"invalid_grant"}"#, refused("invalid_grant", 400)),
            (200, r#"{"error":"bad_verification_code"}"#, refused("bad_verification_code", 200)),
            (200, "error=bad_verification_code&error_uri=x", refused("bad_verification_code", 200)),
            (200, r#"{"ok":false,"error":"invalid_code"}"#, refused("invalid_code", 200)),
            (400, r#"{"error":{"code":"INVALID","message":"m"}}"#, refused("INVALID", 400)),
            (400, r#"{"error":"<script>"}"#, refused("unknown", 400)),
            (500, r#"{"access_token":"a"}"#, TokenAnswerError::Status { status: 500 }),
            (200, "access_token=a&access_token=b", TokenAnswerError::Malformed { status: 200 }),
        ] {
            assert_eq!(short(status, body).unwrap_err(), error, "{body}");
        }
        assert_eq!(parse(200, &vec![b' '; MAX_ANSWER + 1]).err(), Some(TokenAnswerError::TooLarge));
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(parse(200, deep.as_bytes()).is_err());
        assert!(
            refused("invalid_grant", 400).is_permanent() && !refused("temporarily_unavailable", 503).is_permanent()
        );
    }
}
