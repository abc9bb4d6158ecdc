//! What a browser sees at an endpoint meant for MCP clients (P56): never raw JSON.

use http::HeaderMap;
use http::header::ACCEPT;

/// True when the sender is a browser that wants a page.
pub(crate) fn wants_page(headers: &HeaderMap) -> bool {
    let Some(accept) = headers.get(ACCEPT).and_then(|value| value.to_str().ok()) else { return false };
    accept.split(',').any(|part| part.trim_start().to_ascii_lowercase().starts_with("text/html"))
        && !accept.to_ascii_lowercase().contains("text/event-stream")
}

/// The page. `url` is the endpoint a person adds to a client.
pub(crate) fn page(url: &str) -> String {
    let url = escape(url);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>MCP endpoint</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"></head>\n\
         <body><main><h1>This address is for AI clients</h1>\n\
         <p>It is an endpoint of the Model Context Protocol. A browser cannot use it.</p>\n\
         <p>Add this URL to your AI client as a remote MCP server (HTTP):</p>\n\
         <pre>{url}</pre>\n\
         <p>The client then signs in with your token or account.</p></main></body></html>\n"
    )
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, value.parse().unwrap());
        headers
    }

    #[test]
    fn p56_browsers_get_a_page_clients_do_not() {
        assert!(wants_page(&accept("text/html,application/xhtml+xml,*/*;q=0.8")));
        assert!(!wants_page(&accept("text/event-stream")));
        assert!(!wants_page(&accept("application/json, text/event-stream, text/html")));
        assert!(!wants_page(&accept("*/*")));
        assert!(!wants_page(&HeaderMap::new()));
    }

    #[test]
    fn p56_the_page_escapes_what_it_shows() {
        let page = page("https://h/<script>\"'&");
        assert!(page.contains("https://h/&lt;script&gt;&quot;&#39;&amp;"));
        assert!(!page.contains("<script>"));
    }
}
