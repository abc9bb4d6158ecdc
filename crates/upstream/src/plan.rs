//! A server's specification in the form needed to reach it.

use std::collections::BTreeMap;
use std::ffi::OsString;

use bartizan_catalog::{Credential, RESERVED_HEADERS, ServerSpec, Transport};
use bartizan_egress::Url;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::env::Env;
use crate::error::UpstreamError;
use crate::spawn::Recipe;

/// How a server is reached.
#[derive(Clone)]
pub(crate) enum Plan {
    /// Remote: candidates in the order of P8.
    Http { ladder: Vec<Candidate>, headers: HeaderMap },
    /// Local process.
    Stdio(Recipe),
}

/// One step of the transport ladder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Candidate {
    /// Streamable HTTP, both eras.
    Streamable(Url),
    /// HTTP+SSE of 2024-11-05.
    Sse(Url),
}

impl Plan {
    /// Reads a specification.
    ///
    /// # Errors
    /// [`UpstreamError::Blocked`] for a URL or credential that must not be used.
    pub(crate) fn of(spec: &ServerSpec, env: &Env) -> Result<Self, UpstreamError> {
        match &spec.transport {
            Transport::Http { url } => {
                let url = env.egress.check_url(url)?;
                Ok(Self::Http { ladder: ladder(&url)?, headers: headers(&spec.credential)? })
            }
            Transport::Stdio { argv, env: variables, env_allow, cwd, .. } => {
                let mut all = kept(&env.environment, env_allow);
                all.extend(variables.iter().map(|(name, value)| (name.into(), value.expose().into())));
                Ok(Self::Stdio(Recipe {
                    argv: argv.clone(),
                    env: all,
                    cwd: cwd.clone(),
                    child_program: env.child_program.clone(),
                }))
            }
        }
    }
}

/// What a local server sees of bartizan's own environment: `PATH` and what is listed.
fn kept(own: &[(OsString, OsString)], listed: &[String]) -> BTreeMap<OsString, OsString> {
    let wanted = |name: &OsString| name == "PATH" || listed.iter().any(|listed| name.as_os_str() == listed.as_str());
    own.iter().filter(|(name, _)| wanted(name)).cloned().collect()
}

/// Which transports are tried at which URLs, by the ending of the path (P8).
pub(crate) fn ladder(url: &Url) -> Result<Vec<Candidate>, UpstreamError> {
    let path = url.path();
    if path.ends_with("/mcp") {
        return Ok(vec![Candidate::Streamable(url.clone())]);
    }
    if path.ends_with("/sse") {
        return Ok(vec![Candidate::Sse(url.clone())]);
    }
    let under = |name: &str| {
        let query = url.path_and_query().query().map_or_else(String::new, |query| format!("?{query}"));
        url.with_path(&format!("{}/{name}{query}", path.trim_end_matches('/')))
    };
    Ok(vec![
        Candidate::Streamable(url.clone()),
        Candidate::Sse(url.clone()),
        Candidate::Streamable(under("mcp")?),
        Candidate::Sse(under("sse")?),
    ])
}

/// The headers of every request: credential (P4), media types, user agent.
pub(crate) fn headers(credential: &Credential) -> Result<HeaderMap, UpstreamError> {
    let mut headers = HeaderMap::with_capacity(16);
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("bartizan/", env!("CARGO_PKG_VERSION"))));
    let Credential::Headers(list) = credential else { return Ok(headers) };
    for (name, value) in list {
        let refused = |why| UpstreamError::Blocked { why: format!("credential header `{}` {why}", printable(name)) };
        let name = HeaderName::try_from(name.as_str()).map_err(|_| refused("is not a header name"))?;
        if RESERVED_HEADERS.contains(&name.as_str()) || name.as_str().starts_with("mcp-param-") {
            return Err(refused("is reserved"));
        }
        // Line breaks and other control characters end here: no second header can be smuggled in.
        let mut value = HeaderValue::try_from(value.expose().as_str())
            .map_err(|_| refused("has a value with line breaks or control characters"))?;
        value.set_sensitive(true);
        if name == AUTHORIZATION || !headers.contains_key(&name) {
            headers.insert(name, value);
        } else {
            headers.append(name, value);
        }
    }
    Ok(headers)
}

fn printable(name: &str) -> String {
    name.chars().take(64).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_model::Secret;

    fn credential(name: &str, value: &str) -> Credential {
        Credential::Headers(vec![(name.to_owned(), Secret::new(value.to_owned()))])
    }

    fn refused(name: &str, value: &str) -> String {
        let error = headers(&credential(name, value)).unwrap_err();
        assert!(matches!(error, UpstreamError::Blocked { .. }), "{error}");
        error.note()
    }

    #[test]
    fn p4_bearer_and_headers_are_sent_and_marked_sensitive() {
        let map = headers(&credential("Authorization", "Bearer tok")).unwrap();
        assert_eq!(map["authorization"], "Bearer tok");
        assert!(map["authorization"].is_sensitive());
        assert_eq!(headers(&credential("X-Api-Key", "k")).unwrap()["x-api-key"], "k");
        assert!(!headers(&Credential::None).unwrap().contains_key("authorization"));
    }

    #[test]
    fn p4_line_breaks_are_refused_and_the_value_is_not_shown() {
        for value in ["secret\r\nX-Evil: 1", "secret\nX", "secret\rX", "secret\0", "\u{1}secret"] {
            let note = refused("authorization", value);
            assert!(!note.contains("secret"), "{note}");
        }
        for name in ["x\r\ny", "x y", "", "x:y", "ä"] {
            refused(name, "v");
        }
    }

    #[test]
    fn p4_protocol_headers_cannot_be_set() {
        for name in [
            "Host",
            "Content-Length",
            "Transfer-Encoding",
            "Mcp-Session-Id",
            "MCP-Protocol-Version",
            "Mcp-Method",
            "Mcp-Name",
            "Mcp-Param-X",
            "Accept",
            "Connection",
        ] {
            assert!(refused(name, "v").contains("reserved"), "{name}");
        }
    }

    #[test]
    fn stdio_environment_is_path_and_the_list() {
        let own = [("PATH", "/bin"), ("HOME", "/root"), ("AWS_SECRET", "x"), ("LANG", "C")];
        let own: Vec<(OsString, OsString)> = own.iter().map(|(n, v)| (n.into(), v.into())).collect();
        let names = |listed: &[&str]| -> Vec<String> {
            let listed: Vec<String> = listed.iter().map(|l| (*l).to_owned()).collect();
            kept(&own, &listed).keys().map(|name| name.to_string_lossy().into_owned()).collect()
        };
        assert_eq!(names(&[]), ["PATH"]);
        assert_eq!(names(&["LANG", "MISSING"]), ["LANG", "PATH"]);
    }

    #[test]
    fn p8_the_ending_of_the_url_chooses_the_ladder() {
        let show = |text: &str| -> Vec<String> {
            ladder(&Url::parse(text).unwrap())
                .unwrap()
                .iter()
                .map(|candidate| match candidate {
                    Candidate::Streamable(url) => format!("http {url}"),
                    Candidate::Sse(url) => format!("sse {url}"),
                })
                .collect()
        };
        assert_eq!(show("https://x.example/mcp"), ["http https://x.example/mcp"]);
        assert_eq!(show("https://x.example/a/mcp?k=v"), ["http https://x.example/a/mcp?k=v"]);
        assert_eq!(show("https://x.example/sse"), ["sse https://x.example/sse"]);
        assert_eq!(
            show("https://x.example"),
            [
                "http https://x.example/",
                "sse https://x.example/",
                "http https://x.example/mcp",
                "sse https://x.example/sse"
            ]
        );
        assert_eq!(
            show("https://x.example/a/?k=v"),
            [
                "http https://x.example/a/?k=v",
                "sse https://x.example/a/?k=v",
                "http https://x.example/a/mcp?k=v",
                "sse https://x.example/a/sse?k=v"
            ]
        );
        assert_eq!(show("https://x.example/amcp").len(), 4, "an ending is a whole segment");
    }
}
