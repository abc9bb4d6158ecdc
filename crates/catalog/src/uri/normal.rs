//! One spelling for equal URIs (RFC 3986 section 6.2.2), so that a rule about a
//! resource cannot be passed by writing its URI differently.

use std::borrow::Cow;

/// Scheme and authority in lower case, percent-coded unreserved characters decoded, dot
/// segments removed. Only for decisions: what is forwarded keeps its bytes.
pub fn normal(uri: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = uri.split_once(':') else { return Cow::Borrowed(uri) };
    let decoded = decode_unreserved(rest);
    let (authority, path_and_more) = match decoded.strip_prefix("//") {
        Some(after) => {
            let end = after.find(['/', '?', '#']).unwrap_or(after.len());
            let (authority, path) = after.split_at(end);
            (format!("//{}", authority.to_ascii_lowercase()), path)
        }
        None => (String::new(), decoded.as_str()),
    };
    let end = path_and_more.find(['?', '#']).unwrap_or(path_and_more.len());
    let (path, more) = path_and_more.split_at(end);
    let built = format!("{}:{authority}{}{more}", scheme.to_ascii_lowercase(), without_dots(path));
    if built == uri { Cow::Borrowed(uri) } else { Cow::Owned(built) }
}

fn decode_unreserved(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let (before, coded) = rest.split_at(at);
        out.push_str(before);
        let byte = coded.get(1..3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let unreserved = byte.filter(|b| b.is_ascii_alphanumeric() || b"-._~".contains(b));
        let taken = match (unreserved, byte) {
            (Some(byte), _) => {
                out.push(char::from(byte));
                3
            }
            (None, Some(_)) => {
                out.push_str(&coded.get(..3).unwrap_or_default().to_ascii_uppercase());
                3
            }
            (None, None) => {
                out.push('%');
                1
            }
        };
        rest = coded.get(taken..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

/// RFC 3986 section 5.2.4, for a path as a whole.
fn without_dots(path: &str) -> String {
    if !path.split('/').any(|segment| segment == "." || segment == "..") {
        return path.to_owned();
    }
    let rooted = path.starts_with('/');
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            other => kept.push(other),
        }
    }
    format!("{}{}", if rooted { "/" } else { "" }, kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::normal;

    #[test]
    fn p41_equal_uris_have_one_spelling() {
        for spelling in [
            "file:///secret/a",
            "FILE:///secret/a",
            "file:///x/../secret/a",
            "file:///./secret/./a",
            "file:///%73ecret/a",
            "file:///x/%2e%2E/secret/a",
            "file:///../../secret/a",
        ] {
            assert_eq!(normal(spelling), "file:///secret/a", "{spelling}");
        }
        assert_eq!(normal("HTTP://Host.Example/A?Q=%7e#F"), "http://host.example/A?Q=~#F");
        assert_eq!(normal("test://template/{id}/data"), "test://template/{id}/data");
        for odd in ["", "nothing", ":", "a:%", "a:%4", "a:%zz", "a:%é", "a://", "a:..", "a:/.."] {
            let once = normal(odd).into_owned();
            assert_eq!(normal(&once), once, "{odd}");
        }
    }
}
