//! Redirects, followed only when asked, each hop checked again.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, LOCATION, PROXY_AUTHORIZATION};
use http::{HeaderMap, Method, Response, StatusCode};

use crate::body::Body;
use crate::client::Client;
use crate::error::EgressError;
use crate::url::Url;

impl Client {
    /// Sends a request and follows at most `max` redirects (RFC 9110 section 15.4).
    ///
    /// Every hop is parsed, resolved and address-checked like a first request. `https` never
    /// becomes `http`. On another origin `Authorization`, `Cookie`, `Proxy-Authorization` and
    /// every header value marked sensitive are dropped. 303, and 301/302 after POST, become GET
    /// without body; 307 and 308 keep both.
    ///
    /// # Errors
    /// [`EgressError::Redirect`] for too many hops or a bad target; else as [`Client::request`].
    pub async fn follow(
        &self,
        url: &Url,
        mut method: Method,
        mut headers: HeaderMap,
        mut body: Bytes,
        max: usize,
    ) -> Result<(Url, Response<Body>), EgressError> {
        let mut url = url.clone();
        for _ in 0..=max {
            let response = self.send(&url, method.clone(), headers.clone(), body.clone()).await?;
            let Some(next) = target(&url, &response)? else { return Ok((url, response)) };
            let status = response.status();
            let to_get = status == StatusCode::SEE_OTHER
                || (matches!(status, StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND) && method == Method::POST);
            if to_get && method != Method::HEAD {
                method = Method::GET;
                body = Bytes::new();
                headers.remove(CONTENT_TYPE);
                headers.remove(CONTENT_LENGTH);
            }
            if !next.same_origin(&url) {
                drop_credentials(&mut headers);
            }
            url = next;
        }
        Err(EgressError::Redirect("too many hops"))
    }
}

/// Where a response redirects to, if it does.
fn target(from: &Url, response: &Response<Body>) -> Result<Option<Url>, EgressError> {
    let redirect = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let Some(location) = response.headers().get(LOCATION).filter(|_| redirect) else { return Ok(None) };
    let location = location.to_str().map_err(|_| EgressError::Redirect("Location is not a URL"))?;
    let next = from.join(location).map_err(|_| EgressError::Redirect("Location is not an acceptable URL"))?;
    if from.is_https() && !next.is_https() {
        return Err(EgressError::Redirect("https to http"));
    }
    Ok(Some(next))
}

fn drop_credentials(headers: &mut HeaderMap) {
    let names: Vec<_> = headers
        .iter()
        .filter(|(name, value)| {
            value.is_sensitive() || **name == AUTHORIZATION || **name == COOKIE || **name == PROXY_AUTHORIZATION
        })
        .map(|(name, _)| name.clone())
        .collect();
    for name in names {
        headers.remove(name);
    }
}
