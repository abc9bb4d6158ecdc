//! Browser-based clients read the metadata documents, register and redeem codes from pages
//! of any origin. That is safe because nothing there looks at a cookie, and credentials are
//! not allowed. Pages never get these headers.

use axum::body::Body;
use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, HeaderName, HeaderValue,
};
use http::{HeaderMap, StatusCode};

/// Lets pages of any origin read the answer.
pub(crate) fn open(headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    let exposed = "WWW-Authenticate, Retry-After, X-Request-Id, Deprecation";
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(exposed));
    let resource = HeaderName::from_static("cross-origin-resource-policy");
    headers.insert(resource, HeaderValue::from_static("cross-origin"));
}

/// [`open`], as a layer of the routes that are for clients.
pub(crate) async fn layer(mut answer: Response) -> Response {
    open(answer.headers_mut());
    answer
}

/// The answer to a preflight request.
pub(crate) async fn preflight() -> Response {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let headers = answer.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, OPTIONS"));
    // `*` does not cover Authorization (Fetch standard).
    let allowed = "Authorization, Content-Type, Accept, DPoP, MCP-Protocol-Version, *";
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(allowed));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    answer
}
