//! What a server asks of a client, in either era.

use crate::error::{RpcError, codes};
use crate::id::RequestId;
use crate::profile::ClientProfile;
use crate::raw::RawJson;

/// A question of a server: a JSON-RPC request in the legacy era, an entry of
/// `inputRequests` in the modern one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Name of the entry, unique within one round.
    pub key: String,
    /// `elicitation/create`, `sampling/createMessage` or `roots/list`.
    pub method: String,
    /// Its params.
    pub params: Option<RawJson>,
}

/// A client's answer.
#[derive(Clone, Debug, PartialEq)]
pub enum AskAnswer {
    /// A result.
    Result(RawJson),
    /// An error (only legacy clients can give one).
    Error(RpcError),
}

impl Ask {
    /// True for an elicitation in URL mode.
    pub fn is_url_elicitation(&self) -> bool {
        self.method == "elicitation/create" && self.text("mode").as_deref() == Some("url")
    }

    /// A string member of the params.
    pub fn text(&self, key: &str) -> Option<String> {
        Some(self.params.as_ref()?.get(key)?.as_string()?.into_owned())
    }

    /// The capability a client must have declared for this question, as a path. Nothing
    /// for methods that are no questions (then nobody may ask).
    pub fn capability(&self) -> Option<&'static [&'static str]> {
        let has = |key| self.params.as_ref().is_some_and(|params| params.get(key).is_some_and(|v| !v.is_null()));
        Some(match self.method.as_str() {
            "roots/list" => &["roots"],
            "sampling/createMessage" if has("tools") || has("toolChoice") => &["sampling", "tools"],
            "sampling/createMessage" => &["sampling"],
            "elicitation/create" if self.is_url_elicitation() => &["elicitation", "url"],
            "elicitation/create" => &["elicitation", "form"],
            _ => return None,
        })
    }

    /// Whether a client declared what this question needs.
    pub fn fits(&self, client: &ClientProfile) -> bool {
        self.capability().is_some_and(|path| client.declares_path(path))
    }
}

/// The capabilities a set of questions needs and a client did not declare, shaped like
/// ClientCapabilities (`{"sampling":{}}`); nothing when all fit.
pub fn missing_capabilities(client: &ClientProfile, asks: &[Ask]) -> Option<RawJson> {
    let missing = asks.iter().filter(|ask| !ask.fits(client)).filter_map(Ask::capability);
    let mut shape: Option<RawJson> = None;
    for path in missing {
        let object = shape.unwrap_or_else(RawJson::empty_object);
        shape = Some(crate::splice::set_path(&object, path, &RawJson::empty_object()));
    }
    shape
}

/// -32021 (HTTP 400): `data.requiredCapabilities` is an object shaped like
/// ClientCapabilities.
pub fn missing_capability_error(required: &RawJson) -> RpcError {
    let mut names = Vec::new();
    for (name, value) in crate::splice::members(required) {
        let inner = crate::splice::members(&value);
        match inner.first() {
            Some((mode, _)) => names.push(format!("{name}.{mode}")),
            None => names.push(name),
        }
    }
    RpcError::new(
        codes::MISSING_CLIENT_CAPABILITY,
        format!("the client did not declare a required capability: {}", names.join(", ")),
    )
    .with_data(RawJson::object([("requiredCapabilities", required)]))
}

/// Names for questions that came with these request ids (protocol reference 5.3, rule
/// 2): the id itself when it is a string of 1 to 64 characters `[A-Za-z0-9_.-]` and
/// unique, else `r1`, `r2`, … Names in `taken` are not given again.
pub fn keys_for(ids: &[RequestId], taken: &[&str]) -> Vec<String> {
    let plain = |text: &str| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
    };
    let own: Vec<Option<String>> = ids.iter().map(|id| id.as_string().filter(|text| plain(text))).collect();
    let mut keys: Vec<Option<String>> = Vec::with_capacity(ids.len());
    for (i, id) in own.iter().enumerate() {
        let unique = id.as_ref().is_some_and(|id| {
            !taken.contains(&id.as_str()) && own.iter().take(i).all(|earlier| earlier.as_ref() != Some(id))
        });
        keys.push(id.clone().filter(|_| unique));
    }
    let mut next = 0;
    let mut given: Vec<String> = Vec::with_capacity(keys.len());
    for key in &keys {
        let key = key.clone().unwrap_or_else(|| {
            loop {
                next += 1;
                let candidate = format!("r{next}");
                let used = taken.contains(&candidate.as_str())
                    || given.contains(&candidate)
                    || keys.iter().flatten().any(|own| *own == candidate);
                if !used {
                    break candidate;
                }
            }
        });
        given.push(key);
    }
    given
}
