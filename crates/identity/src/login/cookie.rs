//! Cookies (RFC 6265bis). The prefix `__Host-` keeps other hosts of the domain, and plain
//! http, from planting one.

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

/// Name of the session's cookie, without prefix.
pub(super) const SESSION: &str = "bartizan";
/// Longest cookie header that is looked at, bytes.
const MAX: usize = 16 * 1024;
/// Longest value of ours, bytes.
const MAX_VALUE: usize = 128;

/// Names, reads and writes cookies.
#[derive(Clone, Copy)]
pub(super) struct Cookies {
    secure: bool,
}

impl Cookies {
    pub(super) fn new(public_url: &str) -> Self {
        Self { secure: public_url.starts_with("https://") }
    }

    fn prefix(self) -> &'static str {
        if self.secure { "__Host-" } else { "" }
    }

    /// The value of a cookie. `None` too when there are two that differ: which of them
    /// counts must not depend on their order, which whoever planted one can choose.
    pub(super) fn find<'a>(self, headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
        let mut found = None;
        for value in headers.get_all(COOKIE) {
            let text = value.to_str().ok().filter(|text| text.len() <= MAX)?;
            for pair in text.split(';') {
                let Some((key, value)) = pair.trim_matches([' ', '\t']).split_once('=') else { continue };
                if key.strip_prefix(self.prefix()) != Some(name) || (!self.secure && key != name) {
                    continue;
                }
                if found.is_some_and(|other| other != value) {
                    return None;
                }
                found = Some(value);
            }
        }
        found.filter(|value| !value.is_empty() && value.len() <= MAX_VALUE)
    }

    /// `Set-Cookie` for a value of our own making. `Lax`, because a provider's answer comes
    /// as a navigation from another site.
    pub(super) fn set(self, name: &str, value: &str, max_age_s: i64) -> HeaderValue {
        let secure = if self.secure { "; Secure" } else { "" };
        let text =
            format!("{}{name}={value}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Lax{secure}", self.prefix());
        let mut value = HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""));
        value.set_sensitive(true);
        value
    }

    /// `Set-Cookie` that removes a cookie.
    pub(super) fn clear(self, name: &str) -> HeaderValue {
        self.set(name, "", 0)
    }
}
