//! What is at paths that are no MCP endpoint: pages, and the endpoints of signing in. The
//! portal checks the host, bounds the body and hands the request on; it knows no page.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use bartizan_oauth::server_metadata;
use bartizan_wire::RawJson;
use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body::Body as HttpBody;

use crate::body::Body;
use crate::cors;
use crate::portal::Portal;
use crate::respond::{self, Problem, ProblemKind};

/// Largest body that is handed on, bytes. Forms and registrations are small.
pub(crate) const MAX_BODY: usize = 64 * 1024;

/// Where whole configurations are sent to.
const ADMINISTRATION: &str = "/api/v1/";

/// An answer that is on its way.
pub type WebAnswer = Pin<Box<dyn Future<Output = Response<Bytes>> + Send>>;

/// Answers what is no MCP endpoint. The path of the request is without the path of the
/// public URL; the address is the client's, after trusted proxies.
pub trait Web: Send + Sync {
    /// Answers one request. `Origin` has not been checked: endpoints for clients take any,
    /// forms only our own, and only the pages know which is which.
    fn answer(&self, request: Request<Bytes>, from: IpAddr) -> WebAnswer;
}

/// The pages and what the portal tells clients about them.
#[derive(Clone)]
pub struct Pages {
    /// Answers.
    pub web: Arc<dyn Web>,
    /// Issuer of tokens (RFC 8414): the public URL.
    pub issuer: String,
    /// Scopes a client may ask for.
    pub scopes: Vec<&'static str>,
}

impl Portal {
    /// Hands a request to the pages.
    ///
    /// # Errors
    /// When its body cannot be read within bounds.
    pub(crate) async fn page<B>(
        &self,
        pages: &Pages,
        parts: &Parts,
        body: B,
        from: IpAddr,
    ) -> Result<Response<Body>, Problem>
    where
        B: HttpBody<Data = Bytes> + Unpin + Send,
    {
        let uri = inner_uri(&parts.uri, &self.0.settings.base_path).ok_or(ProblemKind::Endpoint)?;
        let most = if uri.path().starts_with(ADMINISTRATION) { self.0.settings.limits.request_body } else { MAX_BODY };
        let body = self.read_at_most(&parts.headers, body, most).await?;
        let mut request = Request::new(body);
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = parts.headers.clone();
        // HTTP/2 and the absolute form name the host elsewhere; pages look at the header. Either was checked, and where
        // there are both, they agree.
        if let (None, Some(authority)) = (parts.headers.get(HOST), parts.uri.authority())
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            request.headers_mut().insert(HOST, host);
        }
        Ok(pages.web.answer(request, from).await.map(Body::full))
    }
}

/// The same address without the path of the public URL, and in origin form: the authority of
/// an absolute form was checked and must not be looked at again.
fn inner_uri(uri: &Uri, base: &str) -> Option<Uri> {
    let path = crate::route::without(uri.path(), base);
    let path = if path.is_empty() { "/" } else { path };
    let text = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    text.parse::<PathAndQuery>().ok().map(Uri::from)
}

/// What an endpoint is as a protected resource (RFC 9728): the same for every name, so
/// that it tells nothing about what exists, and for every page that asks.
///
/// # Errors
/// For a method other than GET and OPTIONS.
pub(crate) fn metadata(pages: Option<&Pages>, parts: &Parts, url: &str) -> Result<Response<Body>, Problem> {
    let mut answer = match parts.method {
        Method::OPTIONS => cors::preflight(&parts.headers),
        Method::GET | Method::HEAD => respond::json(StatusCode::OK, document(pages, url)),
        _ => return Err(ProblemKind::Method { allow: "GET, OPTIONS", page: None }.into()),
    };
    cors::everyone(&mut answer);
    Ok(answer)
}

fn document(pages: Option<&Pages>, url: &str) -> Bytes {
    if let Some(pages) = pages {
        return server_metadata::protected_resource(url, &pages.issuer, &pages.scopes, Some("bartizan")).into();
    }
    let url = RawJson::string(url);
    let (name, header) = (RawJson::string("bartizan"), RawJson::array([&RawJson::string("header")]));
    let document = [("resource", &url), ("resource_name", &name), ("bearer_methods_supported", &header)];
    RawJson::object(document).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a1_the_path_of_the_public_url_ends_at_the_door() {
        let inner = |uri: &str, base: &str| inner_uri(&uri.parse().unwrap(), base).unwrap().to_string();
        assert_eq!(inner("/gw/authorize?client_id=x", "/gw"), "/authorize?client_id=x");
        assert_eq!(inner("/gw", "/gw"), "/");
        assert_eq!(inner("/authorize", "/gw"), "/authorize");
        assert_eq!(inner("/gwx/authorize", "/gw"), "/gwx/authorize");
        assert_eq!(inner("https://evil.example/token", ""), "/token");
    }
}
