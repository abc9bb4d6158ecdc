//! `aws_sigv4`: a signature over exactly one request (AWS Signature Version 4, "Create a
//! signed AWS API request").

use bartizan_catalog::SigV4Config;
use bartizan_egress::sign::sigv4::{Canonical, Keys, authorization, content_hash, timestamp};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Request, sensitive};
use crate::accounts::AccountError;

const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const CONTENT: HeaderName = HeaderName::from_static("x-amz-content-sha256");

/// The headers to set. Signed are the host, the media type, the protocol's own headers and
/// what is set here; the body by its hash.
pub(super) fn sign(
    config: &SigV4Config,
    request: &Request<'_>,
    now_ms: i64,
) -> Result<Vec<(HeaderName, HeaderValue)>, AccountError> {
    let plain =
        |text: &str| HeaderValue::from_str(text).map_err(|_| AccountError::Misconfigured("no header value".to_owned()));
    let time = timestamp(now_ms);
    let mut set = vec![(DATE, plain(&time)?), (CONTENT, plain(&content_hash(request.body))?)];
    if let Some(token) = &config.session_token {
        set.push((TOKEN, sensitive(token.expose())?));
    }
    let mut headers = signed_of(request.headers);
    headers.push(("host".to_owned(), host(request)));
    for (name, value) in &set {
        headers.push((name.to_string(), value.to_str().unwrap_or_default().to_owned()));
    }
    let path = request.url.path_and_query();
    let canonical = Canonical {
        method: request.method.as_str(),
        path: path.path(),
        query: path.query().unwrap_or_default(),
        headers,
        body: request.body,
    };
    let keys = Keys {
        id: config.access_key_id.expose(),
        secret: config.secret_access_key.expose(),
        region: &config.region,
        service: &config.service,
    };
    set.push((AUTHORIZATION, sensitive(&authorization(&keys, canonical, &time))?));
    Ok(set)
}

fn host(request: &Request<'_>) -> String {
    let usual = if request.url.is_https() { 443 } else { 80 };
    match request.url.port() {
        port if port == usual => request.url.host().to_string(),
        port => format!("{}:{port}", request.url.host()),
    }
}

/// Headers of the request that a proxy has no reason to change.
fn signed_of(headers: &HeaderMap) -> Vec<(String, String)> {
    let wanted = |name: &HeaderName| *name == CONTENT_TYPE || name.as_str().starts_with("mcp-");
    let names: Vec<&HeaderName> = headers.keys().filter(|name| wanted(name)).collect();
    let value = |name: &&HeaderName| -> Option<String> {
        let all: Option<Vec<&str>> = headers.get_all(*name).iter().map(|value| value.to_str().ok()).collect();
        Some(all?.join(","))
    };
    names.iter().filter_map(|name| Some((name.to_string(), value(name)?))).collect()
}
