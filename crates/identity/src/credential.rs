//! Finds the one credential of a request.

use http::header::{AUTHORIZATION, COOKIE, HeaderName, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderValue};
use zeroize::Zeroizing;

use crate::error::AuthErrorKind;
use crate::secret;

/// Longest credential that is looked at, bytes.
const MAX: usize = 4096;

const CF_ID: HeaderName = HeaderName::from_static("cf-access-client-id");
const CF_SECRET: HeaderName = HeaderName::from_static("cf-access-client-secret");
const OUR_ID: HeaderName = HeaderName::from_static("bartizan-client-id");
const OUR_SECRET: HeaderName = HeaderName::from_static("bartizan-client-secret");

/// Headers that hold, or may hold, a caller's authority. None of them may reach an
/// upstream (A18).
pub const CREDENTIAL_HEADERS: [HeaderName; 11] = [
    AUTHORIZATION,
    PROXY_AUTHORIZATION,
    COOKIE,
    CF_ID,
    CF_SECRET,
    OUR_ID,
    OUR_SECRET,
    HeaderName::from_static("cf-access-token"),
    HeaderName::from_static("cf-access-jwt-assertion"),
    HeaderName::from_static("bartizan-assertion"),
    HeaderName::from_static("x-api-key"),
];

/// Removes every header of [`CREDENTIAL_HEADERS`].
pub fn strip_credentials(headers: &mut HeaderMap) {
    for name in CREDENTIAL_HEADERS {
        headers.remove(name);
    }
}

/// What a request offers.
pub(crate) enum Credential {
    /// A service token's secret, of the right form.
    Service { id: String, secret: Zeroizing<String> },
    /// Any other bearer token.
    Bearer(Zeroizing<String>),
}

/// The credential of a request. `None` when it offers none.
///
/// Two that differ are refused: which of them counts must not depend on what reads the
/// request (RFC 6750, section 2: one method per request).
pub(crate) fn find(headers: &HeaderMap) -> Result<Option<Credential>, AuthErrorKind> {
    let mut found: Option<Credential> = None;
    for value in headers.get_all(AUTHORIZATION) {
        add(&mut found, bearer(value)?)?;
    }
    for (id, secret) in [(&CF_ID, &CF_SECRET), (&OUR_ID, &OUR_SECRET)] {
        if let Some(credential) = pair(headers, id, secret)? {
            add(&mut found, credential)?;
        }
    }
    Ok(found)
}

fn add(found: &mut Option<Credential>, next: Credential) -> Result<(), AuthErrorKind> {
    match found {
        Some(first) if first.text() != next.text() => Err(AuthErrorKind::Ambiguous),
        Some(_) => Ok(()),
        None => {
            *found = Some(next);
            Ok(())
        }
    }
}

impl Credential {
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Service { secret, .. } => secret,
            Self::Bearer(token) => token,
        }
    }
}

fn text(value: &HeaderValue) -> Result<&str, AuthErrorKind> {
    if value.len() > MAX {
        return Err(AuthErrorKind::Malformed);
    }
    value.to_str().map(str::trim).map_err(|_| AuthErrorKind::Malformed)
}

/// RFC 6750 section 2.1; the scheme is case-insensitive (RFC 9110 section 11.1).
fn bearer(value: &HeaderValue) -> Result<Credential, AuthErrorKind> {
    let (scheme, token) = text(value)?.split_once(' ').ok_or(AuthErrorKind::Malformed)?;
    let token = token.trim_start();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() || token.contains([' ', '\t', ',']) {
        return Err(AuthErrorKind::Malformed);
    }
    match secret::id_of_secret(token) {
        Some(id) => Ok(Credential::Service { id: id.to_owned(), secret: Zeroizing::new(token.to_owned()) }),
        None if token.starts_with(secret::SECRET_PREFIX) => Err(AuthErrorKind::Malformed),
        None => Ok(Credential::Bearer(Zeroizing::new(token.to_owned()))),
    }
}

/// One header of a name; several equal ones count as one.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, AuthErrorKind> {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else { return Ok(None) };
    if values.any(|other| other != first) {
        return Err(AuthErrorKind::Ambiguous);
    }
    text(first).map(Some)
}

fn pair(
    headers: &HeaderMap,
    id_header: &HeaderName,
    secret_header: &HeaderName,
) -> Result<Option<Credential>, AuthErrorKind> {
    let (client, secret) = match (single(headers, id_header)?, single(headers, secret_header)?) {
        (None, None) => return Ok(None),
        (Some(client), Some(secret)) => (client, secret),
        _ => return Err(AuthErrorKind::Malformed),
    };
    match (secret::id_of_client(client), secret::id_of_secret(secret)) {
        (Some(id), Some(of_secret)) if id == of_secret => {
            Ok(Some(Credential::Service { id: id.to_owned(), secret: Zeroizing::new(secret.to_owned()) }))
        }
        // The right form, but one token's id with another one's secret.
        (Some(_), Some(_)) => Err(AuthErrorKind::Unknown),
        _ => Err(AuthErrorKind::Malformed),
    }
}
