//! Checks of settings that a schema cannot express.

mod agents;
mod sign_in;
mod tls;

use crate::diagnostic::Diagnostic;
use crate::settings::File;

/// Problems in values that are written down.
pub fn settings(file: &File) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    if let Some(url) = &file.public_url
        && let Err(problem) = public_url(url)
    {
        found.push(Diagnostic::new("public_url", "bad_url", problem).suggest("write e.g. `https://mcp.example.com`"));
    }
    if let Some(listen) = file.listen
        && listen.port() != 0
        && listen.port() == file.operations.listen.port()
        && (listen.ip() == file.operations.listen.ip()
            || listen.ip().is_unspecified()
            || file.operations.listen.ip().is_unspecified())
    {
        let message = "the operations listener would share the public port";
        found.push(Diagnostic::new("operations.listen", "same_listener", message).suggest("choose another port"));
    }
    for (index, host) in file.allowed_hosts.iter().enumerate() {
        if !is_host(host) {
            let path = format!("allowed_hosts[{index}]");
            let message = format!("`{}` is not a host name", host.chars().take(60).collect::<String>());
            found.push(
                Diagnostic::new(path, "bad_host", message)
                    .suggest("write e.g. `mcp.example.com` or `mcp.example.com:8443`"),
            );
        }
    }
    for (index, origin) in file.allowed_origins.iter().enumerate() {
        let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        if !host.is_some_and(is_host) {
            let path = format!("allowed_origins[{index}]");
            let message = format!("`{}` is not an origin", origin.chars().take(60).collect::<String>());
            found.push(
                Diagnostic::new(path, "bad_origin", message)
                    .suggest("write e.g. `https://app.example.com`, without a path"),
            );
        }
    }
    if let Some(proxy) = &file.egress.proxy
        && !proxy
            .strip_prefix("http://")
            .is_some_and(|rest| is_host(rest.trim_end_matches('/').rsplit('@').next().unwrap_or(rest)))
    {
        found.push(Diagnostic::new("egress.proxy", "bad_url", "the proxy is not of the form `http://host:port`"));
    }
    if let Some(endpoint) = &file.telemetry.otlp_endpoint
        && !["http://", "https://"].iter().any(|scheme| endpoint.starts_with(scheme))
    {
        let problem = Diagnostic::new("telemetry.otlp_endpoint", "bad_url", "the endpoint is not an http or https URL");
        found.push(problem.suggest("write e.g. `http://127.0.0.1:4318`"));
    }
    limits(file, &mut found);
    agents::run(file, &mut found);
    sign_in::run(file, &mut found);
    tls::run(file, &mut found);
    found
}

fn limits(file: &File, found: &mut Vec<Diagnostic>) {
    let limits = &file.limits;
    let mut least = |name: &str, value: u64, least: u64| {
        if value < least {
            let message = format!("{value} is too small for `{name}`");
            found.push(
                Diagnostic::new(format!("limits.{name}"), "out_of_range", message)
                    .suggest(format!("use at least {least}")),
            );
        }
    };
    least("request_body", limits.request_body as u64, 1024);
    least("upstream_body", limits.upstream_body as u64, 1024);
    least("json_depth", limits.json_depth as u64, 8);
    least("connect_ms", limits.connect_ms, 1);
    least("list_ms", limits.list_ms, 1);
    least("call_ms", limits.call_ms, 1);
    least("call_max_ms", limits.call_max_ms, limits.call_ms);
    least("session_idle_ms", limits.session_idle_ms, 1000);
    least("park_ms", limits.park_ms, 1);
    least("client_read_ms", limits.client_read_ms, 1);
    least("drain_deadline_ms", limits.drain_deadline_ms, limits.drain_wait_ms);
    if limits.json_depth > 512 {
        let message = format!("{} is more than the parser can follow", limits.json_depth);
        found.push(Diagnostic::new("limits.json_depth", "out_of_range", message).suggest("use at most 512"));
    }
}

/// What `serve` needs beyond what `dev` needs (U2, U3).
pub fn serve(file: &File) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut need = |present: bool, name: &str, example: &str| {
        if !present {
            let message = format!("`{name}` is required by serve");
            found.push(
                Diagnostic::new(name, "missing_setting", message).suggest(format!("add e.g. `{name}: {example}`")),
            );
        }
    };
    need(file.public_url.is_some(), "public_url", "https://mcp.example.com");
    need(file.listen.is_some(), "listen", "0.0.0.0:7420");
    need(file.key.is_some(), "key", "{ file: /etc/bartizan/key }");
    let plain = file.public_url.as_deref().and_then(|url| url.strip_prefix("http://"));
    let host = plain.map(|rest| rest.split('/').next().unwrap_or_default());
    if host.is_some_and(|host| !sign_in::is_loopback(host)) && !file.allow_plain_http {
        let message = "with a public URL in plain http tokens and cookies travel readable";
        let problem = Diagnostic::new("public_url", "plain_http", message);
        found.push(
            problem.suggest("write `https://`; or, if something else protects the way, `allow_plain_http: true`"),
        );
    }
    found
}

/// What works, but lets in more people than somebody may think.
pub fn warnings(file: &File) -> Vec<Diagnostic> {
    sign_in::warnings(file)
}

/// A public URL as browsers and clients spell it: host in lower case, without the port that
/// goes without saying, without a final slash. Tokens are bound to it as a text.
pub fn canonical_public_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let scheme = scheme.to_ascii_lowercase();
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.to_ascii_lowercase();
    let usual = if scheme == "https" { ":443" } else { ":80" };
    // Not the end of an address such as `[::80]`, which has a bracket after it.
    let host = host.strip_suffix(usual).unwrap_or(&host);
    format!("{scheme}://{host}{}", path.trim_end_matches('/'))
}

/// Scheme, host, optional port and path; nothing else.
fn public_url(url: &str) -> Result<(), String> {
    let Some(rest) = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")) else {
        return Err("the public URL begins with neither `https://` nor `http://`".to_owned());
    };
    if url.contains(['?', '#']) {
        return Err("the public URL has a query or a fragment".to_owned());
    }
    let host = rest.split('/').next().unwrap_or_default();
    if host.contains('@') {
        return Err("the public URL holds a user name".to_owned());
    }
    if is_host(host) { Ok(()) } else { Err("the public URL has no valid host".to_owned()) }
}

/// A name or address, with an optional port.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) => {
                if address.parse::<std::net::Ipv6Addr>().is_err() {
                    return false;
                }
                ("v6", port.strip_prefix(':').or(if port.is_empty() { None } else { Some("x") }))
            }
            None => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let name = host.trim_end_matches('.');
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label) && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a8_a_public_url_has_one_spelling() {
        for (url, canonical) in [
            ("https://MCP.Example.com:443/", "https://mcp.example.com"),
            ("HTTPS://mcp.example.com/Base/", "https://mcp.example.com/Base"),
            ("http://127.0.0.1:80", "http://127.0.0.1"),
            ("http://127.0.0.1:443", "http://127.0.0.1:443"),
            ("https://h:8443", "https://h:8443"),
            ("https://[::443]", "https://[::443]"),
            ("https://[::1]:443/a", "https://[::1]/a"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(canonical_public_url(url), canonical, "{url}");
            assert_eq!(canonical_public_url(canonical), canonical);
        }
    }

    #[test]
    fn a32_plain_http_is_for_this_machine_only() {
        let codes = |url: &str, allowed: bool| {
            let file = File { public_url: Some(url.to_owned()), allow_plain_http: allowed, ..File::default() };
            serve(&file).into_iter().any(|found| found.code == "plain_http")
        };
        for url in ["http://mcp.example.com", "http://10.0.0.1:7420/base", "http://127.0.0.1.evil.example"] {
            assert!(codes(url, false) && !codes(url, true), "{url}");
        }
        for url in ["https://mcp.example.com", "http://127.0.0.1:7420", "http://localhost", "http://[::1]:1"] {
            assert!(!codes(url, false), "{url}");
        }
    }

    #[test]
    fn u3_public_urls() {
        for good in ["https://mcp.example.com", "http://127.0.0.1:7420", "https://h/base", "https://[::1]:8443"] {
            assert_eq!(public_url(good), Ok(()), "{good}");
        }
        for bad in [
            "mcp.example.com",
            "ftp://x",
            "https://",
            "https://u@h",
            "https://h?x",
            "https://h:99999",
            "https://[::1",
            "https://-a",
            "https://a b",
            "https://h#f",
            "https://[::1]x",
        ] {
            assert!(public_url(bad).is_err(), "{bad}");
        }
    }
}
