//! Bodies, bounded in size and time.

use std::time::Duration;

use axum::body::Body;
use bartizan_oauth::params::Params;
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt as _, Limited};

/// Most of a form or a token request, bytes.
pub(crate) const FORM: usize = 64 * 1024;
/// Fields in which people write more than one line.
const IN_LINES: [&str; 1] = ["purpose"];
/// Most of a registration, bytes.
pub(crate) const REGISTRATION: usize = 16 * 1024;
/// How long a sender may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why a body cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    TooLarge,
    TooSlow,
    Broken,
}

/// All bytes of a body of at most `limit`.
pub(crate) async fn read(body: Body, limit: usize) -> Result<Bytes, BodyError> {
    let read = tokio::time::timeout(PATIENCE, Limited::new(body, limit).collect()).await;
    match read.map_err(|_| BodyError::TooSlow)? {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(BodyError::TooLarge),
        Err(_) => Err(BodyError::Broken),
    }
}

/// The fields of a form from one of our pages. Each at most once.
pub(crate) async fn form(headers: &HeaderMap, body: Body) -> Result<Params, BodyError> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(BodyError::Broken);
    }
    let params = Params::parse_form(&read(body, FORM).await?, &IN_LINES).map_err(|_| BodyError::Broken)?;
    if params.duplicate().is_some() { Err(BodyError::Broken) } else { Ok(params) }
}
