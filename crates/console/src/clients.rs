//! What a person does in each client to add an endpoint (P56): commands, files with their
//! paths per system, and links that open the client.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

/// One client and the ways to add the endpoint to it.
#[derive(Debug)]
pub(crate) struct Guide {
    /// Fragment of the page.
    pub(crate) id: &'static str,
    pub(crate) name: &'static str,
    /// What the client is, in a few words.
    pub(crate) about: &'static str,
    pub(crate) steps: Vec<Line>,
    /// Version, protocol and features that were checked (P58); `docs/reference/clients.md` has the whole table.
    pub(crate) checked: &'static str,
}

#[derive(Debug)]
pub(crate) enum Line {
    /// A sentence.
    Say(&'static str),
    /// Text to copy: a command or a file.
    Copy(Snippet),
    /// A link that opens the client or its settings.
    Open { label: &'static str, href: String },
    /// Where a file is: system and path.
    Files(&'static [(&'static str, &'static str)]),
}

#[derive(Debug)]
pub(crate) struct Snippet {
    pub(crate) label: &'static str,
    pub(crate) text: String,
}

const CLAUDE_FILES: &[(&str, &str)] = &[
    ("macOS", "~/Library/Application Support/Claude/claude_desktop_config.json"),
    ("Windows", r"%APPDATA%\Claude\claude_desktop_config.json"),
    ("Linux", "~/.config/Claude/claude_desktop_config.json"),
];
const CODE_FILES: &[(&str, &str)] = &[
    ("macOS", "~/Library/Application Support/Code/User/mcp.json"),
    ("Windows", r"%APPDATA%\Code\User\mcp.json"),
    ("Linux", "~/.config/Code/User/mcp.json"),
    ("Project", ".vscode/mcp.json"),
];
const CURSOR_FILES: &[(&str, &str)] = &[
    ("macOS, Linux", "~/.cursor/mcp.json"),
    ("Windows", r"%USERPROFILE%\.cursor\mcp.json"),
    ("Project", ".cursor/mcp.json"),
];
const COPILOT_FILES: &[(&str, &str)] =
    &[("macOS, Linux", "~/.copilot/mcp-config.json"), ("Windows", r"%USERPROFILE%\.copilot\mcp-config.json")];
const CODEX_FILES: &[(&str, &str)] =
    &[("macOS, Linux", "~/.codex/config.toml"), ("Windows", r"%USERPROFILE%\.codex\config.toml")];

/// The guides, most used first. `name` is what the client shall call the endpoint
/// (letters, digits, `-`), `url` the endpoint.
pub(crate) fn guides(name: &str, url: &str) -> Vec<Guide> {
    vec![
        claude_code(name, url),
        claude(name, url),
        chatgpt(),
        vs_code(name, url),
        cursor(name, url),
        codex(name, url),
        copilot_cli(name, url),
        inspector(url),
        mcp_remote(name, url),
    ]
}

fn claude_code(name: &str, url: &str) -> Guide {
    Guide {
        id: "claude-code",
        name: "Claude Code",
        about: "command line",
        checked: "Checked with the opening of version 2.1.317: protocol 2026-07-28, or 2025-11-25 where a server has no other. \
                  It can show questions of servers.",
        steps: vec![
            command("Run in a terminal", format!("claude mcp add --transport http {name} {}", shell(url))),
            Line::Say("Then type /mcp inside Claude Code, choose the entry and sign in."),
        ],
    }
}

fn claude(name: &str, url: &str) -> Guide {
    Guide {
        id: "claude",
        name: "Claude",
        about: "desktop and web",
        checked: "Checked in every protocol revision, because we have no record of what it opens with.",
        steps: vec![
            Line::Say(
                "Open Settings, then Connectors, then “Add custom connector”. Paste the address and choose Connect.",
            ),
            Line::Open { label: "Open connectors in Claude", href: "https://claude.ai/settings/connectors".into() },
            Line::Say(
                "Connectors reach this address from the internet. If it is only reachable inside your network, \
                 Claude Desktop can use a local bridge instead. Put this into its configuration file and restart it:",
            ),
            file("claude_desktop_config.json", &bridge(name, url)),
            Line::Files(CLAUDE_FILES),
        ],
    }
}

fn chatgpt() -> Guide {
    Guide {
        id: "chatgpt",
        name: "ChatGPT",
        about: "web and desktop",
        checked: "Checked in every protocol revision, because we have no record of what it opens with. \
                  It can show questions of servers.",
        steps: vec![
            Line::Say(
                "Open Settings, then the connectors, switch on developer mode and create a connector. Paste the address, \
                 choose OAuth as authentication and sign in.",
            ),
            Line::Say(
                "ChatGPT reaches this address from the internet: inside a company network only it cannot be used.",
            ),
        ],
    }
}

fn copilot_cli(name: &str, url: &str) -> Guide {
    Guide {
        id: "copilot-cli",
        name: "Copilot CLI",
        about: "command line",
        checked: "Checked with the opening of runtime 1.0.89-7: protocol 2026-07-28, or 2025-11-25 where a server has no other.",
        steps: vec![
            Line::Say("Type /mcp add inside Copilot CLI, or put this into the file yourself:"),
            file("mcp-config.json", &json!({ "mcpServers": { name: { "type": "http", "url": url, "tools": ["*"] } } })),
            Line::Files(COPILOT_FILES),
        ],
    }
}

fn vs_code(name: &str, url: &str) -> Guide {
    let link = json!({ "name": name, "type": "http", "url": url }).to_string();
    Guide {
        id: "vs-code",
        name: "VS Code",
        about: "GitHub Copilot",
        checked: "Checked with the opening of version 1.140: protocol 2025-11-25, and 2026-07-28 by its Copilot agent. \
                  It can show questions of servers and answer their requests to a model.",
        steps: vec![
            Line::Open { label: "Add to VS Code", href: format!("vscode:mcp/install?{}", percent(&link)) },
            Line::Say("Or run “MCP: Add Server” from the command palette, or put this into the file yourself:"),
            file("mcp.json", &json!({ "servers": { name: { "type": "http", "url": url } } })),
            Line::Files(CODE_FILES),
        ],
    }
}

fn cursor(name: &str, url: &str) -> Guide {
    let config = STANDARD.encode(json!({ "url": url }).to_string());
    let href = format!("cursor://anysphere.cursor-deeplink/mcp/install?name={name}&config={}", percent(&config));
    Guide {
        id: "cursor",
        name: "Cursor",
        about: "editor",
        checked: "Checked in every protocol revision, because we have no record of what it opens with. \
                  It can show questions of servers.",
        steps: vec![
            Line::Open { label: "Add to Cursor", href },
            Line::Say("Or put this into the file yourself:"),
            file("mcp.json", &json!({ "mcpServers": { name: { "url": url } } })),
            Line::Files(CURSOR_FILES),
        ],
    }
}

fn codex(name: &str, url: &str) -> Guide {
    let commands = format!("codex mcp add {name} --url {}\ncodex mcp login {name}", shell(url));
    let quoted = serde_json::Value::from(url);
    Guide {
        id: "codex",
        name: "Codex",
        about: "command line and editor",
        checked: "Checked with the opening of version 0.165.0: protocol 2025-06-18.",
        steps: vec![
            command("Run in a terminal", commands),
            Line::Say("Or put this into the file yourself, then run the second command:"),
            command("config.toml", format!("[mcp_servers.{name}]\nurl = {quoted}")),
            Line::Files(CODEX_FILES),
        ],
    }
}

fn inspector(url: &str) -> Guide {
    let text = format!("npx @modelcontextprotocol/inspector --transport http --server-url {}", shell(url));
    Guide {
        id: "inspector",
        name: "MCP Inspector",
        about: "for looking at tools by hand",
        checked: "Version 2.12.0 signs in and calls tools in our tests: protocol 2025-11-25; 2026-07-28 is one of its settings.",
        steps: vec![
            command("Run in a terminal", text),
            Line::Say("A browser opens. Choose Connect and sign in; then list and call tools."),
        ],
    }
}

fn mcp_remote(name: &str, url: &str) -> Guide {
    Guide {
        id: "mcp-remote",
        name: "Any other client",
        about: "by address, or with mcp-remote",
        checked: "mcp-remote 0.15.1 signs in and calls tools in our tests, and so do the TypeScript, Python and FastMCP clients.",
        steps: vec![
            Line::Say(
                "A client that knows remote servers needs the address only: transport “streamable HTTP”, sign-in by OAuth. \
                 One that can only start local servers uses the bridge mcp-remote (needs Node.js):",
            ),
            command(
                "Command",
                format!("npx -y mcp-remote {}{}", shell(url), if plain(url) { " --allow-http" } else { "" }),
            ),
            file("As JSON", &bridge(name, url)),
        ],
    }
}

fn bridge(name: &str, url: &str) -> serde_json::Value {
    let mut args = vec!["-y", "mcp-remote", url];
    args.extend(plain(url).then_some("--allow-http"));
    json!({ "mcpServers": { name: { "command": "npx", "args": args } } })
}

/// Plain http to somewhere that mcp-remote does not accept without being told so.
fn plain(url: &str) -> bool {
    let local = |name: &str| url.strip_prefix("http://").and_then(|rest| rest.strip_prefix(name));
    let here = ["localhost", "127.0.0.1"].into_iter().filter_map(local);
    url.starts_with("http://") && !here.into_iter().any(|rest| rest.starts_with([':', '/']))
}

fn command(label: &'static str, text: String) -> Line {
    Line::Copy(Snippet { label, text })
}

fn file(label: &'static str, content: &serde_json::Value) -> Line {
    Line::Copy(Snippet { label, text: serde_json::to_string_pretty(content).unwrap_or_default() })
}

/// A word for a shell; in quotes when a character could mean something to it.
fn shell(word: &str) -> String {
    let harmless = |b: u8| b.is_ascii_alphanumeric() || b":/.-_".contains(&b);
    if word.bytes().all(harmless) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// Percent-encodes everything but the unreserved characters of RFC 3986.
fn percent(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len() * 2), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            other => {
                use std::fmt::Write as _;
                let _ = write!(out, "%{other:02X}");
            }
        }
        out
    })
}

/// A name for configuration files: `Acme & Söhne` becomes `acme-s-hne`.
pub(crate) fn slug(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        match c {
            c if c.is_ascii_alphanumeric() => out.push(c.to_ascii_lowercase()),
            _ if out.is_empty() || out.ends_with('-') => {}
            _ => out.push('-'),
        }
        if out.len() >= 32 {
            break;
        }
    }
    let slug = out.trim_end_matches('-');
    if slug.is_empty() { "bartizan".to_owned() } else { slug.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "https://mcp.example.com/mcp";

    fn opens(url: &str) -> Vec<String> {
        let steps = guides("acme", url).into_iter().flat_map(|guide| guide.steps);
        steps.filter_map(|step| if let Line::Open { href, .. } = step { Some(href) } else { None }).collect()
    }

    fn copies(id: &str, url: &str) -> Vec<String> {
        let guide = guides("acme", url).into_iter().find(|guide| guide.id == id).unwrap();
        guide
            .steps
            .into_iter()
            .filter_map(|step| if let Line::Copy(it) = step { Some(it.text) } else { None })
            .collect()
    }

    #[test]
    fn p56_every_client_has_its_own_instructions() {
        let ids: Vec<_> = guides("acme", URL).iter().map(|guide| guide.id).collect();
        assert_eq!(
            ids,
            [
                "claude-code",
                "claude",
                "chatgpt",
                "vs-code",
                "cursor",
                "codex",
                "copilot-cli",
                "inspector",
                "mcp-remote"
            ]
        );
        assert_eq!(copies("claude-code", URL), [format!("claude mcp add --transport http acme {URL}")]);
        assert_eq!(copies("codex", URL)[0], format!("codex mcp add acme --url {URL}\ncodex mcp login acme"));
        assert_eq!(copies("codex", URL)[1], format!("[mcp_servers.acme]\nurl = \"{URL}\""));
    }

    #[test]
    fn p56_links_hold_the_configuration_the_client_reads() {
        let links = opens(URL);
        let code = links.iter().find_map(|link| link.strip_prefix("vscode:mcp/install?")).unwrap();
        assert_eq!(
            code,
            "%7B%22name%22%3A%22acme%22%2C%22type%22%3A%22http%22%2C%22url%22%3A%22https%3A%2F%2Fmcp.example.com%2Fmcp%22%7D"
        );
        let prefix = "cursor://anysphere.cursor-deeplink/mcp/install?name=acme&config=";
        let config = links.iter().find_map(|link| link.strip_prefix(prefix)).unwrap();
        let config = STANDARD.decode(config.replace("%3D", "=")).unwrap();
        assert_eq!(config, format!(r#"{{"url":"{URL}"}}"#).into_bytes());
    }

    #[test]
    fn p56_files_are_json_that_parses() {
        for id in ["vs-code", "cursor", "claude", "copilot-cli"] {
            let text = copies(id, r#"https://h/"x'\"#).pop().unwrap();
            serde_json::from_str::<serde_json::Value>(&text).unwrap_or_else(|e| panic!("{id}: {e}: {text}"));
        }
    }

    #[test]
    fn p56_nothing_in_a_url_reaches_the_shell() {
        assert_eq!(shell("https://h:8443/portals/a-b_c/mcp"), "https://h:8443/portals/a-b_c/mcp");
        assert_eq!(shell("http://[::1]:7420/mcp"), "'http://[::1]:7420/mcp'");
        assert_eq!(shell("https://h/$(id)';x"), r"'https://h/$(id)'\'';x'");
    }

    #[test]
    fn p56_the_bridge_is_told_of_plain_http() {
        for (url, told) in [
            (URL, false),
            ("http://localhost:7420/mcp", false),
            ("http://127.0.0.1:7420/mcp", false),
            ("http://localhost.example.com/mcp", true),
            ("http://[::1]:7420/mcp", true),
            ("http://10.0.0.1/mcp", true),
        ] {
            let with = copies("mcp-remote", url).iter().filter(|text| text.contains("--allow-http")).count();
            assert_eq!(with, if told { 2 } else { 0 }, "{url}");
        }
    }

    #[test]
    fn p56_names_for_files() {
        for (name, wanted) in [
            ("bartizan", "bartizan"),
            ("Acme & Söhne", "acme-s-hne"),
            ("  --x--  ", "x"),
            ("工具", "bartizan"),
            ("", "bartizan"),
            (&"a".repeat(99), &"a".repeat(32)),
        ] {
            assert_eq!(slug(name), wanted, "{name}");
        }
    }
}
