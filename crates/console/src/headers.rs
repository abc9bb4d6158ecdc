//! The headers that keep a page from being framed, sniffed, scripted, cached or used as a
//! way to somewhere else; and the only place that writes a `Location`.

use axum::body::Body;
use axum::response::Response;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, StatusCode};

const OPENER: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
/// Names a request in answers and in the log.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Policy of everything that is no page.
const NOTHING: &str = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// Who may hold a handle on the window of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    /// Nobody: `Cross-Origin-Opener-Policy: same-origin`.
    Own,
    /// The client that opened it. Browser-based clients open the sign-in in a popup and
    /// hear of its end through it; the opener policy would cut that for good, even at a
    /// redirect on the way.
    Client,
}

/// A page. `target` is where its forms may lead besides here: the origin (or scheme) of
/// the client, since browsers apply `form-action` to the redirect after a POST as well.
pub(crate) fn page(status: StatusCode, html: String, window: Window, target: Option<&str>) -> Response {
    let mut answer = Response::new(Body::from(html));
    *answer.status_mut() = status;
    let target = target.and_then(form_target).map_or_else(String::new, |target| format!(" {target}"));
    let policy = format!(
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; form-action 'self'{target}; \
         frame-ancestors 'none'; base-uri 'none'"
    );
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    if let Ok(policy) = HeaderValue::try_from(policy) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    opener(headers, window);
    answer
}

fn opener(headers: &mut HeaderMap, window: Window) {
    let value = match window {
        Window::Own => "same-origin",
        Window::Client => "unsafe-none",
    };
    headers.insert(OPENER, HeaderValue::from_static(value));
}

/// What every answer carries, pages or not; what is there already stays.
pub(crate) async fn finish(mut answer: Response) -> Response {
    let headers = answer.headers_mut();
    let mut preset = |name: HeaderName, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    preset(CONTENT_SECURITY_POLICY, NOTHING);
    preset(X_FRAME_OPTIONS, "DENY");
    preset(X_CONTENT_TYPE_OPTIONS, "nosniff");
    // Not `no-referrer`: with it browsers send `Origin: null` with our own forms.
    preset(REFERRER_POLICY, "same-origin");
    preset(CACHE_CONTROL, "no-store");
    preset(OPENER, "same-origin");
    preset(RESOURCE, "same-origin");
    answer
}

/// 303 to a place of our own.
pub(crate) fn local(path: &str, window: Window) -> Option<Response> {
    let own = path.starts_with('/') || path.starts_with("https://") || path.starts_with("http://");
    see_other(path, window).filter(|_| own && !path.starts_with("//"))
}

/// 303 to wherever the authorization server or the login says. None when a browser must
/// not be sent there, whoever says so.
pub(crate) fn see_other(url: &str, window: Window) -> Option<Response> {
    let plain = url.bytes().all(|b| b.is_ascii_graphic());
    if !plain || (!url.starts_with('/') && !may_leave_to(url)) {
        return None;
    }
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::SEE_OTHER;
    answer.headers_mut().insert(LOCATION, HeaderValue::from_str(url).ok()?);
    opener(answer.headers_mut(), window);
    Some(answer)
}

/// Whether the scheme is one that leads to a place, not to a program in this page.
fn may_leave_to(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once(':') else { return false };
    let mut bytes = scheme.bytes();
    let grammar = bytes.next().is_some_and(|b| b.is_ascii_alphabetic())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    let scheme = scheme.to_ascii_lowercase();
    let web = matches!(scheme.as_str(), "http" | "https");
    let bad =
        ["javascript", "data", "vbscript", "file", "filesystem", "blob", "about", "view-source", "jar", "ws", "wss"];
    grammar && !rest.is_empty() && !bad.contains(&scheme.as_str()) && (!web || rest.starts_with("//"))
}

/// A source of `form-action`: `https://host:port`, or `scheme:`. IPv6 hosts have no form in
/// that grammar, so their scheme stands for them.
fn form_target(origin: &str) -> Option<String> {
    if !may_leave_to(origin) && !origin.strip_suffix(':').is_some_and(|scheme| may_leave_to(&format!("{scheme}:x"))) {
        return None;
    }
    let (scheme, _) = origin.split_once(':')?;
    let grammar = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b':' | b'/' | b'.' | b'-' | b'+');
    let plain = origin.bytes().all(grammar);
    if plain { Some(origin.to_owned()) } else { Some(format!("{scheme}:")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a32_browsers_are_only_sent_to_places() {
        for good in [
            "https://app.example.com/cb?code=x&state=y",
            "http://127.0.0.1:3000/cb",
            "http://[::1]:3000/cb",
            "cursor://anysphere.cursor-retrieval/cb",
            "com.example.app:/cb",
            "/account",
        ] {
            assert!(see_other(good, Window::Own).is_some(), "{good}");
        }
        for bad in [
            "javascript:alert(1)",
            "JavaScript:alert(1)",
            "data:text/html,x",
            "vbscript:x",
            "file:///etc/passwd",
            "blob:https://h/x",
            "view-source:https://h",
            "https:evil",
            "http:",
            "//evil.example",
            "https://h/\r\nSet-Cookie: a=b",
            "https://h/\n",
            "https://h/a b",
            "https://h/\u{e9}",
            " javascript:alert(1)",
            "\u{1}javascript:alert(1)",
            "java\tscript:alert(1)",
            "",
            ":",
            "1a:x",
        ] {
            let sent = see_other(bad, Window::Own).filter(|_| !bad.starts_with("//"));
            assert!(sent.is_none(), "{bad:?}");
        }
        assert!(local("//evil.example", Window::Own).is_none());
        assert!(local("cursor://x", Window::Own).is_none());
    }

    #[test]
    fn a19_the_client_is_named_in_form_action_and_cannot_add_to_it() {
        let policy = |target| {
            let page = page(StatusCode::OK, String::new(), Window::Client, Some(target));
            page.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned()
        };
        assert!(policy("https://app.example.com").contains("form-action 'self' https://app.example.com;"));
        assert!(policy("http://localhost:3334").contains("form-action 'self' http://localhost:3334;"));
        assert!(policy("http://[::1]:3334").contains("form-action 'self' http:;"));
        assert!(policy("cursor:").contains("form-action 'self' cursor:;"));
        for bad in ["*", "javascript:", "data:", "'unsafe-inline'", "", ":"] {
            assert!(policy(bad).contains("form-action 'self';"), "{bad}");
        }
        let tricky = policy("https://h; script-src *");
        assert!(tricky.contains("script-src 'self';") && !tricky.contains('*'), "{tricky}");
    }
}
