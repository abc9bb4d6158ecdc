//! Whether a POST comes from one of our own pages. Asked besides the token in the form, and
//! alone where nobody is signed in yet.

use http::HeaderMap;
use http::header::{HOST, HeaderName, ORIGIN};

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// True when the browser says so, by `Sec-Fetch-Site` or by an `Origin` that is ours
/// (`public_origin`, or the checked host the page itself was loaded from). Both must agree
/// when both are there; a request with neither was not sent by a form in a browser.
pub fn is_own(headers: &HeaderMap, public_origin: &str) -> bool {
    let site = headers.get(FETCH_SITE).map(|value| value.as_bytes() == b"same-origin");
    let mut origins = headers.get_all(ORIGIN).iter();
    let origin = origins.next().map(|value| value.to_str().is_ok_and(|origin| is_ours(origin, headers, public_origin)));
    origins.next().is_none() && site.or(origin).is_some() && site.unwrap_or(true) && origin.unwrap_or(true)
}

fn is_ours(origin: &str, headers: &HeaderMap, public_origin: &str) -> bool {
    if origin.eq_ignore_ascii_case(public_origin) {
        return true;
    }
    let scheme = public_origin.split_once("://").map_or("", |(scheme, _)| scheme);
    let Some((its_scheme, authority)) = origin.split_once("://") else { return false };
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    its_scheme.eq_ignore_ascii_case(scheme) && host.is_some_and(|host| host.eq_ignore_ascii_case(authority))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(pairs: &[(&'static str, &str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        is_own(&headers, "https://mcp.example.com")
    }

    #[test]
    fn a32_only_our_own_pages_may_post() {
        let ours = ("origin", "https://mcp.example.com");
        for good in [
            &[ours][..],
            &[("sec-fetch-site", "same-origin")],
            &[ours, ("sec-fetch-site", "same-origin")],
            &[("origin", "https://gw.internal:8443"), ("host", "gw.internal:8443")],
        ] {
            assert!(own(good), "{good:?}");
        }
        for bad in [
            &[][..],
            &[("origin", "null")],
            &[("origin", "https://evil.example")],
            &[("origin", "https://mcp.example.com.evil.example")],
            &[("origin", "http://mcp.example.com")],
            &[("origin", "https://mcp.example.com:444")],
            &[("origin", "http://gw.internal"), ("host", "gw.internal")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "none")],
            &[ours, ("sec-fetch-site", "cross-site")],
            &[("origin", "https://evil.example"), ("sec-fetch-site", "same-origin")],
            &[ours, ("origin", "https://evil.example")],
            &[("referer", "https://mcp.example.com/consent"), ("host", "mcp.example.com")],
        ] {
            assert!(!own(bad), "{bad:?}");
        }
    }
}
