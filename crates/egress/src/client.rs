//! The pooled client.

use std::collections::HashMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use crate::body::Body;
use crate::dial::Dialer;
use crate::error::EgressError;
use crate::pool::{Conn, Home, IDLE, Origin};
use crate::url::Url;

/// How often idle connections are looked at.
const SWEEP: Duration = Duration::from_secs(15);
/// Most headers of a response.
const MAX_HEADERS: usize = 128;
/// Read buffer; also the longest response head, in bytes.
const MAX_BUFFER: usize = 128 * 1024;

/// Sends requests over pooled, checked connections. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    dialer: Dialer,
    origins: Mutex<HashMap<Arc<str>, Arc<Origin>>>,
    sweeper: OnceLock<()>,
}

/// What came of one attempt on one connection.
enum Attempt {
    Answer(Response<Body>),
    /// Nothing was written: another connection may be tried.
    Unsent(Box<Request<Full<Bytes>>>),
    Failed(EgressError),
}

impl Client {
    pub(crate) fn new(dialer: Dialer) -> Self {
        Self { inner: Arc::new(Inner { dialer, origins: Mutex::default(), sweeper: OnceLock::new() }) }
    }

    pub(crate) fn dialer(&self) -> &Dialer {
        &self.inner.dialer
    }

    /// Sends a request with an absolute URI.
    ///
    /// # Errors
    /// [`EgressError`]; [`EgressError::unsent`] says whether the request may have arrived.
    pub async fn request(&self, request: Request<Full<Bytes>>) -> Result<Response<Body>, EgressError> {
        let url = Url::parse(&request.uri().to_string())?;
        self.exchange(&url, request).await
    }

    /// Sends a request to a parsed URL. `Host` is set here.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn send(
        &self,
        url: &Url,
        method: Method,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Body>, EgressError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.headers_mut() = headers;
        self.exchange(url, request).await
    }

    async fn exchange(&self, url: &Url, mut request: Request<Full<Bytes>>) -> Result<Response<Body>, EgressError> {
        request.headers_mut().insert(HOST, url.host_header().clone());
        *request.uri_mut() = Uri::from(url.path_and_query().clone());
        let origin = self.origin(url);
        while let Some(conn) = origin.take() {
            match attempt(conn, request, &origin, url).await {
                Attempt::Answer(response) => return Ok(response),
                Attempt::Failed(error) => return Err(error),
                Attempt::Unsent(back) => request = *back,
            }
        }
        let stream = self.inner.dialer.dial(url).await?;
        let broken = |why: String| EgressError::Connect { host: url.host().to_string(), why };
        let (sender, driver) = http1::Builder::new()
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_BUFFER)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(error.to_string()))?;
        self.start_sweeper();
        match attempt(Conn::new(sender, driver), request, &origin, url).await {
            Attempt::Answer(response) => Ok(response),
            Attempt::Failed(error) => Err(error),
            Attempt::Unsent(_) => Err(broken("closed before the request was written".to_owned())),
        }
    }

    fn origin(&self, url: &Url) -> Arc<Origin> {
        let mut origins = self.inner.origins.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(origin) = origins.get(url.origin()) {
            return Arc::clone(origin);
        }
        let origin = Arc::new(Origin::default());
        origins.insert(Arc::clone(url.origin()), Arc::clone(&origin));
        origin
    }

    /// Starts the task that closes old connections; it ends with the client.
    fn start_sweeper(&self) {
        self.inner.sweeper.get_or_init(|| {
            let weak = Arc::downgrade(&self.inner);
            tokio::spawn(sweep(weak));
        });
    }
}

async fn sweep(weak: Weak<Inner>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(inner) = weak.upgrade() else { return };
        let mut origins = inner.origins.lock().unwrap_or_else(PoisonError::into_inner);
        origins.retain(|_, origin| !origin.sweep() || Arc::strong_count(origin) > 1);
    }
}

async fn attempt(mut conn: Conn, request: Request<Full<Bytes>>, origin: &Arc<Origin>, url: &Url) -> Attempt {
    let broken = |why: String| EgressError::Io { host: url.host().to_string(), why };
    let mut answer = pin!(conn.sender.try_send_request(request));
    let answered = poll_fn(|cx| {
        // Driving first writes the request, so that the answer is not asked for in vain.
        let over = conn.poll_drive(cx).is_ready();
        match answer.as_mut().poll(cx) {
            Poll::Ready(answered) => Poll::Ready(Some(answered)),
            Poll::Pending if over => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    match answered {
        Some(Ok(response)) => {
            let home = Home::new(origin, keep_alive(response.headers()));
            let host = Arc::clone(url.origin());
            Attempt::Answer(response.map(|incoming| Body::new(incoming, conn, home, host)))
        }
        Some(Err(mut error)) => match error.take_message() {
            Some(request) => Attempt::Unsent(Box::new(request)),
            None => Attempt::Failed(broken(error.into_error().to_string())),
        },
        None => Attempt::Failed(broken("closed before the answer".to_owned())),
    }
}

/// How long the connection may idle: `Keep-Alive: timeout=` less a second of safety, so that
/// a request does not meet the server's close half way.
fn keep_alive(headers: &HeaderMap) -> Duration {
    let Some(value) = headers.get("keep-alive").and_then(|value| value.to_str().ok()) else { return IDLE };
    value
        .split(',')
        .filter_map(|part| part.trim().strip_prefix("timeout="))
        .find_map(|secs| secs.trim().parse::<u64>().ok())
        .map_or(IDLE, |secs| Duration::from_secs(secs.saturating_sub(1)).min(IDLE))
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keep_alive_is_honoured() {
        let secs = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("keep-alive", text.parse().unwrap());
            keep_alive(&headers).as_secs()
        };
        assert_eq!(secs("timeout=5"), 4);
        assert_eq!(secs("timeout=5, max=100"), 4);
        assert_eq!(secs("max=100, timeout=0"), 0);
        assert_eq!(secs("timeout=9999"), 50);
        assert_eq!(secs("timeout=x"), 50);
        assert_eq!(keep_alive(&HeaderMap::new()).as_secs(), 50);
    }
}
