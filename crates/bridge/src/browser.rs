//! Showing a page to the person. The address comes from a server that may be hostile: it is
//! an http(s) URL, spelled anew, and one argument of a program; no shell sees it.

use std::ffi::OsString;
use std::process::Stdio;
use std::sync::Arc;

use bartizan_oauth::safe_link;
use url::Url;

/// How a page is shown.
#[derive(Clone, Debug, Default)]
pub enum Browser {
    /// The program that the desktop has for it.
    #[default]
    Desktop,
    /// This program, with the address as its only argument.
    Program(OsString),
    /// Only written to stderr.
    None,
}

/// Shows addresses.
pub type Opener = Arc<dyn Fn(&str) -> std::io::Result<()> + Send + Sync>;

impl Browser {
    /// The way to show an address.
    pub fn opener(&self) -> Opener {
        let program: Option<OsString> = match self {
            Self::Desktop => Some("xdg-open".into()),
            Self::Program(program) => Some(program.clone()),
            Self::None => None,
        };
        Arc::new(move |url| {
            let Some(program) = &program else { return Ok(()) };
            let mut child = std::process::Command::new(program)
                .arg(url)
                // stdout is for messages alone.
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            std::thread::spawn(move || child.wait());
            Ok(())
        })
    }
}

/// The address as it may be given to a browser: http(s), no user information, every character
/// that means something to a shell escaped. `None` for anything else. Plain http only on this
/// machine.
pub(crate) fn shown(address: &str) -> Option<String> {
    let url = Url::parse(safe_link(address)?).ok()?;
    let local = match url.host()? {
        url::Host::Domain(name) => name == "localhost",
        url::Host::Ipv4(ip) => ip.is_loopback(),
        url::Host::Ipv6(ip) => ip.is_loopback(),
    };
    if url.scheme() != "https" && !local {
        return None;
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~:/?#[]@!,;=&%+*".contains(c);
    let mut out = String::with_capacity(url.as_str().len());
    for c in url.as_str().chars() {
        match c {
            c if plain(c) => out.push(c),
            c => c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| out.push_str(&format!("%{byte:02X}"))),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u14_only_web_addresses_are_shown() {
        for bad in [
            "javascript:alert(1)",
            "data:text/html,x",
            "file:///etc/passwd",
            "ms-msdt:/id",
            "vscode://x",
            "-remote",
            "--help",
            "http://login.example/authorize",
            "https://user:pass@login.example/",
            "https:///etc/passwd",
            "https:\\\\host\\x",
            "https://login.example/\nfile:///x",
            " https://login.example/",
            "calc.exe",
            "$(touch x)",
            "`touch x`",
            "",
        ] {
            assert_eq!(shown(bad), None, "{bad}");
        }
    }

    #[test]
    fn u14_what_means_something_to_a_shell_is_escaped() {
        let nasty = "https://login.example/a$(touch%20x)`id`;b|c&d'e\"f<g>h{i}^j?q=$HOME";
        let text = shown(nasty).unwrap();
        assert!(text.starts_with("https://login.example/a%24%28touch%20x%29%60id%60;b%7Cc&d%27e"), "{text}");
        assert!(!text.contains(['$', '`', '(', ')', '|', '\'', '"', '<', '>', '{', '}', '^', ' ', '\\']), "{text}");
        assert_eq!(
            shown("http://127.0.0.1:7420/authorize?a=b%20c").as_deref(),
            Some("http://127.0.0.1:7420/authorize?a=b%20c")
        );
        assert_eq!(shown("https://[::1]:8/x").as_deref(), Some("https://[::1]:8/x"));
    }
}
