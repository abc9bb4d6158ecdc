//! AWS Signature Version 4: a signature over exactly one request ("Create a signed AWS API
//! request"). Nothing here sends.

use std::fmt::Write as _;

use aws_lc_rs::{digest, hmac};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// What is signed with.
pub struct Keys<'a> {
    /// Access key id.
    pub id: &'a str,
    /// Secret access key.
    pub secret: &'a str,
    /// Region.
    pub region: &'a str,
    /// Service; `s3` has rules of its own for paths.
    pub service: &'a str,
}

/// A request in the form in which it is signed.
pub struct Canonical<'a> {
    /// Method.
    pub method: &'a str,
    /// Path as it is sent.
    pub path: &'a str,
    /// Query as it is sent, without `?`.
    pub query: &'a str,
    /// Headers that are signed; lower-case names, `host` and `x-amz-date` among them.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: &'a [u8],
}

/// The value of `Authorization`; `time` is that of [`timestamp`].
pub fn authorization(keys: &Keys<'_>, mut request: Canonical<'_>, time: &str) -> String {
    request.headers.sort();
    let names: Vec<&str> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
    let names = names.join(";");
    let path = if keys.service == "s3" { path_of_s3(request.path) } else { path_of(request.path) };
    let mut text = format!("{}\n{path}\n{}\n", request.method, query_of(request.query));
    for (name, value) in &request.headers {
        let value = value.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        let _ = writeln!(text, "{name}:{value}");
    }
    let _ = write!(text, "\n{names}\n{}", hex(sha256(request.body).as_ref()));

    let day = time.get(..8).unwrap_or_default();
    let scope = format!("{day}/{}/{}/aws4_request", keys.region, keys.service);
    let to_sign = format!("{ALGORITHM}\n{time}\n{scope}\n{}", hex(sha256(text.as_bytes()).as_ref()));
    let mut key = mac(format!("AWS4{}", keys.secret).as_bytes(), day);
    for part in [keys.region, keys.service, "aws4_request"] {
        key = mac(key.as_ref(), part);
    }
    let signature = hex(mac(key.as_ref(), &to_sign).as_ref());
    format!("{ALGORITHM} Credential={}/{scope}, SignedHeaders={names}, Signature={signature}", keys.id)
}

/// S3 takes the path as it is sent, in one encoding.
fn path_of_s3(path: &str) -> String {
    path.split('/').map(recode).collect::<Vec<_>>().join("/")
}

/// The path as sent, encoded once more; every service but S3 wants it so.
fn path_of(path: &str) -> String {
    let mut out = String::with_capacity(path.len() + 8);
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        out.push('/');
        encode(segment.as_bytes(), &mut out);
    }
    if out.is_empty() || path.ends_with('/') {
        out.push('/');
    }
    out
}

/// Parameters in their order by name and value, in one encoding.
fn query_of(query: &str) -> String {
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (recode(name), recode(value)))
        .collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

fn recode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|&digit| char::from(digit).to_digit(16));
        rest = match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.extend(u8::try_from(high * 16 + low));
                after.get(2..).unwrap_or_default()
            }
            _ => {
                bytes.push(byte);
                after
            }
        };
    }
    let mut out = String::with_capacity(bytes.len());
    encode(&bytes, &mut out);
    out
}

/// RFC 3986: everything but the unreserved characters.
fn encode(bytes: &[u8], out: &mut String) {
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

fn sha256(bytes: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA256, bytes)
}

fn mac(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

/// SHA-256 as lower-case hex, for `x-amz-content-sha256`.
pub fn content_hash(body: &[u8]) -> String {
    hex(sha256(body).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// `20150830T123600Z`.
pub fn timestamp(now_ms: i64) -> String {
    let seconds = now_ms.div_euclid(1000);
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since 0000-03-01, in eras of 400 years (proleptic Gregorian calendar).
    let z = days + 719_468;
    let (era, of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "20150830T123600Z";
    /// Example keys of the published test suite.
    const KEYS: Keys<'static> = Keys {
        id: "AKIDEXAMPLE",
        secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        region: "us-east-1",
        service: "service",
    };

    fn signature(method: &str, path: &str, query: &str, more: &[(&str, &str)], body: &str) -> String {
        let mut headers =
            vec![("host".to_owned(), "example.amazonaws.com".to_owned()), ("x-amz-date".to_owned(), TIME.to_owned())];
        headers.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let request = Canonical { method, path, query, headers, body: body.as_bytes() };
        let whole = authorization(&KEYS, request, TIME);
        let (start, signature) = whole.split_once(", Signature=").unwrap();
        assert!(start.starts_with(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders="
        ));
        signature.to_owned()
    }

    #[test]
    fn p17_signatures_are_those_of_the_published_test_suite() {
        for (name, got, expected) in [
            (
                "get-vanilla",
                signature("GET", "/", "", &[], ""),
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "post-vanilla",
                signature("POST", "/", "", &[], ""),
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                "get-vanilla-query-order-key-case",
                signature("GET", "/", "Param2=value2&Param1=value1", &[], ""),
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                "post-x-www-form-urlencoded",
                signature("POST", "/", "", &[("content-type", "application/x-www-form-urlencoded")], "Param1=value1"),
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
        ] {
            assert_eq!(got, expected, "{name}");
        }
    }

    #[test]
    fn p17_every_part_of_a_request_is_signed() {
        let base = signature("POST", "/a", "x=1", &[("mcp-method", "tools/call")], "{}");
        for other in [
            signature("GET", "/a", "x=1", &[("mcp-method", "tools/call")], "{}"),
            signature("POST", "/b", "x=1", &[("mcp-method", "tools/call")], "{}"),
            signature("POST", "/a", "x=2", &[("mcp-method", "tools/call")], "{}"),
            signature("POST", "/a", "x=1", &[("mcp-method", "tools/list")], "{}"),
            signature("POST", "/a", "x=1", &[], "{}"),
            signature("POST", "/a", "x=1", &[("mcp-method", "tools/call")], "{ }"),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn p17_times_and_encodings() {
        for (ms, text) in [
            (0, "19700101T000000Z"),
            (1_440_938_160_000, TIME),
            (1_709_208_000_000, "20240229T120000Z"),
            (4_102_444_799_999, "20991231T235959Z"),
        ] {
            assert_eq!(timestamp(ms), text);
        }
        assert_eq!(path_of("/a%20b//c/"), "/a%2520b/c/");
        assert_eq!(path_of(""), "/");
        assert_eq!(path_of_s3("/b/a%20b//c+d"), "/b/a%20b//c%2Bd");
        assert_eq!(query_of("b=%7e&a&a=%zz&c=a b"), "a=&a=%25zz&b=~&c=a%20b");
    }
}
