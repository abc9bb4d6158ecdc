//! The guard in front of a tower service.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tower::{Layer, Service};

use crate::HEADER;
use crate::guard::{Claims, Guard};

/// Puts a guard in front of services. The claims are in the extensions of what gets through.
#[derive(Clone)]
pub struct GuardLayer {
    guard: Guard,
}

impl GuardLayer {
    /// With this guard.
    pub fn new(guard: Guard) -> Self {
        Self { guard }
    }
}

impl<S> Layer<S> for GuardLayer {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { guard: self.guard.clone(), inner }
    }
}

/// A service behind a guard.
#[derive(Clone)]
pub struct Guarded<S> {
    guard: Guard,
    inner: S,
}

/// The one assertion of a request; two are none.
fn assertion(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut found = headers.get_all(HEADER).iter();
    match (found.next(), found.next()) {
        (Some(one), None) => Some(one.clone()),
        _ => None,
    }
}

async fn judge(guard: &Guard, assertion: Option<HeaderValue>) -> Option<Claims> {
    guard.verify(assertion?.to_str().ok()?).await.ok()
}

impl<S, B, R> Service<Request<B>> for Guarded<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: From<&'static str>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // The one that is ready is the one that was asked.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let guard = self.guard.clone();
        let assertion = assertion(request.headers());
        Box::pin(async move {
            match judge(&guard, assertion).await {
                Some(claims) => {
                    request.extensions_mut().insert(claims);
                    inner.call(request).await
                }
                None => {
                    let mut response = Response::new(R::from("{\"error\":\"assertion_required\"}"));
                    *response.status_mut() = StatusCode::UNAUTHORIZED;
                    let headers = response.headers_mut();
                    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
                    Ok(response)
                }
            }
        })
    }
}
