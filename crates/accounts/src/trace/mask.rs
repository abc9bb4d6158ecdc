//! What must not get into a trace: by name, by looks, and what was masked before.

use std::collections::BTreeSet;

use serde_json::Value;
use zeroize::Zeroize as _;

/// Most characters kept of a body.
const BODY: usize = 4_000;
/// Members and parameters that are secrets, whoever sends them: letters and digits only.
const SECRETS: [&str; 32] = [
    "accesstoken",
    "actortoken",
    "apikey",
    "assertion",
    "authorization",
    "authreqid",
    "clientassertion",
    "clientsecret",
    "code",
    "codeverifier",
    "cookie",
    "credential",
    "devicecode",
    "idtoken",
    "idtokenhint",
    "jwt",
    "logouttoken",
    "nonce",
    "passwd",
    "password",
    "privatekey",
    "refreshtoken",
    "registrationaccesstoken",
    "samlresponse",
    "secret",
    "sessionid",
    "setcookie",
    "state",
    "subjecttoken",
    "token",
    "usercode",
    "vptoken",
];
/// Instead of a secret.
const MASK: &str = "***";
/// Shorter texts are not looked for elsewhere: they would be found by chance.
const ECHO: usize = 8;
/// Most secrets that are looked for, and longest one, bytes.
const MOST: usize = 256;
const LONGEST: usize = 16 * 1024;

/// What was masked so far: a server may say it again in other words.
#[derive(Default)]
pub(super) struct Masks {
    secrets: BTreeSet<String>,
}

impl Drop for Masks {
    fn drop(&mut self) {
        while let Some(mut secret) = self.secrets.pop_first() {
            secret.zeroize();
        }
    }
}

/// Whether something of this name is a secret. `Access-Token` is `access_token`.
fn is_secret(name: &str) -> bool {
    let decoded = percent_decoded(name);
    let plain: String = decoded.chars().filter(char::is_ascii_alphanumeric).collect();
    SECRETS.contains(&plain.to_ascii_lowercase().as_str())
}

/// A name as forms spell it; what is no good spelling stays as it is.
fn percent_decoded(text: &str) -> String {
    let pair = format!("{text}=");
    let params = url_pairs(&pair);
    params.first().map_or_else(|| text.to_owned(), |(name, _)| name.clone())
}

fn url_pairs(text: &str) -> Vec<(String, String)> {
    let decode = |part: &str| {
        let mut bytes = Vec::with_capacity(part.len());
        let mut rest = part.as_bytes();
        while let Some((first, after)) = rest.split_first() {
            let hex = after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
            match (first, hex.and_then(|pair| u8::from_str_radix(pair, 16).ok())) {
                (b'%', Some(byte)) => {
                    bytes.push(byte);
                    rest = after.get(2..).unwrap_or_default();
                }
                (b'+', _) => {
                    bytes.push(b' ');
                    rest = after;
                }
                _ => {
                    bytes.push(*first);
                    rest = after;
                }
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let split = |pair: &str| pair.split_once('=').map(|(name, value)| (decode(name), decode(value)));
    text.split('&').filter_map(split).collect()
}

/// Whether a word looks like a signed token or a bearer of rights, whatever it is called.
fn is_token(word: &str) -> bool {
    let mut parts = word.split('.');
    let first = parts.next().unwrap_or_default();
    first.starts_with("eyJ") && first.len() >= 12 && parts.next().is_some_and(|second| !second.is_empty())
}

impl Masks {
    fn learn(&mut self, secret: &str) {
        let fits = (ECHO..=LONGEST).contains(&secret.len());
        if fits && self.secrets.len() < MOST {
            self.secrets.insert(secret.to_owned());
        }
    }

    /// A text without secrets that are known, and without what looks like one.
    pub(super) fn scrubbed(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), MASK);
            }
        }
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~' | '+' | '/' | '=');
        let mut clean = String::with_capacity(text.len());
        let mut word = String::new();
        for c in text.chars().chain(std::iter::once('\n')) {
            if is_word(c) {
                word.push(c);
                continue;
            }
            clean.push_str(if word.split('=').any(is_token) { MASK } else { &word });
            word.clear();
            clean.push(c);
        }
        clean.pop();
        clean
    }

    /// A JSON or form body without its secrets; anything else only as its beginning.
    pub(super) fn body(&mut self, body: &[u8]) -> String {
        let text = String::from_utf8_lossy(body);
        let clean = match serde_json::from_str::<Value>(&text) {
            Ok(mut value) => {
                self.hide(&mut value);
                value.to_string()
            }
            // What is broken may hold a secret all the same.
            Err(_) if text.contains(['{', '"', '<']) && self.names_a_secret(&text) => {
                "(broken, and with a secret in it)".to_owned()
            }
            Err(_) => self.form(&text),
        };
        let clean = self.scrubbed(&clean);
        clean.chars().filter(|c| !c.is_control() || *c == '\n').take(BODY).collect()
    }

    fn names_a_secret(&self, text: &str) -> bool {
        // `state` and `code` are words of every page; the others are not.
        let common = |word: &str| matches!(word.to_ascii_lowercase().as_str(), "state" | "code" | "token" | "secret");
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'));
        let quoted = |word: &str| text.contains(&format!("\"{word}\"")) || text.contains(&format!("'{word}'"));
        words.filter(|word| is_secret(word)).any(|word| !common(word) || quoted(word))
    }

    fn form(&mut self, text: &str) -> String {
        let mut parts = Vec::new();
        for part in text.split('&') {
            parts.push(match part.split_once('=') {
                Some((name, value)) if is_secret(name) => {
                    self.learn(value);
                    for (_, decoded) in url_pairs(part) {
                        self.learn(&decoded);
                    }
                    format!("{name}={MASK}")
                }
                _ => part.to_owned(),
            });
        }
        parts.join("&")
    }

    /// A challenge: its parameters may be secrets as well.
    pub(super) fn challenge(&mut self, value: &str) -> String {
        let mut parts = Vec::new();
        for part in value.split(',') {
            parts.push(match part.split_once('=') {
                Some((name, secret)) if is_secret(name.rsplit(' ').next().unwrap_or_default()) => {
                    self.learn(secret.trim_matches([' ', '"']));
                    format!("{name}={MASK}")
                }
                _ => part.to_owned(),
            });
        }
        self.scrubbed(&parts.join(","))
    }

    fn hide(&mut self, value: &mut Value) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    // Numbers are codes of errors, null and truth values are nothing.
                    let says = member.is_string() || member.is_object() || member.is_array();
                    if is_secret(name) && says {
                        self.learn_all(member);
                        *member = MASK.into();
                    } else {
                        self.hide(member);
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.hide(item)),
            _ => {}
        }
    }

    fn learn_all(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.learn(text),
            Value::Array(items) => items.iter().for_each(|item| self.learn_all(item)),
            Value::Object(members) => members.values().for_each(|member| self.learn_all(member)),
            _ => {}
        }
    }

    /// A URL without user, and without secrets in query and fragment.
    pub(super) fn url(&mut self, url: &str) -> String {
        let (rest, fragment) = url.split_once('#').map_or((url, None), |(rest, fragment)| (rest, Some(fragment)));
        let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
        let mut clean = match place.split_once("://") {
            Some((scheme, rest)) => {
                let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
                let host = authority.rsplit_once('@').map(|(_, host)| host);
                let host = host.map_or_else(|| authority.to_owned(), |host| format!("{MASK}@{host}"));
                format!("{scheme}://{host}{path}")
            }
            None => place.to_owned(),
        };
        if let Some(query) = query {
            clean.push('?');
            clean.push_str(&self.form(query));
        }
        if let Some(fragment) = fragment {
            clean.push('#');
            clean.push_str(&self.form(fragment));
        }
        self.scrubbed(&clean)
    }
}
