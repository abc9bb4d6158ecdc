//! The sealed `requestState` of modern clients (protocol.md 3.7, 5.3): it binds the
//! next round to the same principal, endpoint, server and call, for a short time
//! and for one use.

use aws_lc_rs::digest::{Context, SHA256};
use bartizan_model::ServerId;
use bartizan_wire::{Params, RawJson, canonical};
use serde::{Deserialize, Serialize};

use crate::call::Endpoint;
use crate::gate::Gate;

/// Version of the payload.
const VERSION: u8 = 1;

/// What the next round means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// The upstream's own state is inside; forward the answers with it.
    Wrap,
    /// A legacy upstream waits; the call is parked on this node.
    Park,
    /// Nothing waits; run the call again (URL elicitation of a legacy upstream).
    Again,
}

/// The payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    v: u8,
    pub(crate) kind: Kind,
    /// Nonce of this state; for a park, park id and round.
    pub(crate) id: String,
    /// Node that issued it.
    pub(crate) node: String,
    pub(crate) endpoint: String,
    pub(crate) server: String,
    pub(crate) principal: String,
    pub(crate) method: String,
    /// Digest over name or URI and arguments.
    pub(crate) digest: String,
    /// Milliseconds since the epoch.
    pub(crate) expires_ms: i64,
    /// Event of the call that was forwarded first.
    pub(crate) first_event: String,
    /// State of the upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) inner: Option<String>,
}

/// What a state must be equal to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binding<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) server: &'a ServerId,
    pub(crate) principal: &'a str,
    pub(crate) method: &'a str,
    pub(crate) digest: &'a str,
}

/// Why a state is refused. The wire only says "invalid requestState"; the record
/// says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StateError {
    /// Not sealed by this installation for this endpoint, or changed.
    #[error("request state is not authentic for this endpoint")]
    Forged,
    /// Authentic, but another principal's.
    #[error("request state belongs to another principal")]
    Principal,
    /// Authentic, but of another call.
    #[error("request state belongs to another call")]
    Call,
    /// Too old.
    #[error("request state has expired")]
    Expired,
    /// Seen before.
    #[error("request state was used before")]
    Used,
    /// Whether it was seen before cannot be told now.
    #[error("whether the request state was used before is not known")]
    Unchecked,
}

impl State {
    /// A state for the next round of the bound call.
    pub(crate) fn new(
        kind: Kind,
        binding: &Binding<'_>,
        id: String,
        node: &str,
        expires_ms: i64,
        first: String,
    ) -> Self {
        Self {
            v: VERSION,
            kind,
            id,
            node: node.to_owned(),
            endpoint: binding.endpoint.label(),
            server: binding.server.as_str().to_owned(),
            principal: binding.principal.to_owned(),
            method: binding.method.to_owned(),
            digest: binding.digest.to_owned(),
            expires_ms,
            first_event: first,
            inner: None,
        }
    }

    /// The bytes to seal.
    pub(crate) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads the opened bytes and compares every member with the call at hand.
    ///
    /// # Errors
    /// [`StateError`], the first mismatch in the order forged, principal, call, expired.
    pub(crate) fn check(opened: &[u8], binding: &Binding<'_>, now_ms: i64) -> Result<Self, StateError> {
        let state: Self = serde_json::from_slice(opened).map_err(|_| StateError::Forged)?;
        if state.v != VERSION || state.endpoint != binding.endpoint.label() {
            return Err(StateError::Forged);
        }
        if state.principal != binding.principal {
            return Err(StateError::Principal);
        }
        if state.server != binding.server.as_str() || state.method != binding.method || state.digest != binding.digest {
            return Err(StateError::Call);
        }
        if state.expires_ms <= now_ms {
            return Err(StateError::Expired);
        }
        Ok(state)
    }
}

impl Gate {
    /// The other process that holds the call a `requestState` belongs to. Only what this installation sealed for the
    /// endpoint says so; everything else about it is checked there.
    pub fn parked_at(&self, endpoint: &Endpoint, sealed: &str) -> Option<String> {
        let opened = self.0.handles.open(&purpose(endpoint), sealed).ok()?;
        let state: State = serde_json::from_slice(&opened).ok()?;
        (state.v == VERSION && state.kind == Kind::Park && state.node != *self.0.node).then_some(state.node)
    }
}

/// What the handle is sealed for; a handle of one endpoint does not open at another.
pub(crate) fn purpose(endpoint: &Endpoint) -> String {
    format!("request-state/{}", endpoint.label())
}

/// SHA-256 over method, name or URI (as the client wrote it) and arguments in
/// canonical form, lower-case hex.
pub(crate) fn call_digest(method: &str, params: &Params) -> String {
    let mut hash = Context::new(&SHA256);
    let mut part = |text: &[u8]| {
        hash.update(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(text);
    };
    part(method.as_bytes());
    part(params.name.as_deref().unwrap_or_default().as_bytes());
    part(params.uri.as_deref().unwrap_or_default().as_bytes());
    part(params.arguments.as_ref().map(exact).unwrap_or_default().as_bytes());
    hex(hash.finish().as_ref())
}

/// The canonical form in which no two different values look alike: a number that a double would round keeps its
/// spelling. What has no such form is compared as it was written.
pub(crate) fn exact(arguments: &RawJson) -> String {
    canonical::exact(arguments).unwrap_or_else(|_| arguments.as_str().to_owned())
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let written = write!(text, "{byte:02x}");
        debug_assert!(written.is_ok(), "writing to a string cannot fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use bartizan_wire::Limits;

    use super::*;

    #[test]
    fn p9_arguments_that_a_double_would_round_are_another_call() {
        let digest = |arguments: &str| {
            let raw = format!("{{\"name\":\"t\",\"arguments\":{arguments}}}");
            let raw = RawJson::parse(raw, &Limits::default()).unwrap();
            call_digest("tools/call", &Params::parse(&raw).unwrap())
        };
        assert_ne!(digest("{\"n\":9007199254740992}"), digest("{\"n\":9007199254740993}"));
        assert_ne!(digest("{\"n\":1e400}"), digest("{\"n\":1e401}"));
        assert_eq!(digest("{\"n\":1.0, \"m\":2}"), digest("{\"m\":2,\"n\":1}"));
    }

    #[test]
    fn p9_every_member_of_a_state_is_compared() {
        let (endpoint, elsewhere) =
            (Endpoint::Server(ServerId::parse("s").unwrap()), Endpoint::Server(ServerId::parse("t").unwrap()));
        let (server, other) = (ServerId::parse("s").unwrap(), ServerId::parse("o").unwrap());
        let good = Binding { endpoint: &endpoint, server: &server, principal: "a", method: "m", digest: "d" };
        let state = State::new(Kind::Park, &good, "1".into(), "n", 1_000, "e".into());
        let bytes = state.encode();
        assert_eq!(State::check(&bytes, &good, 999), Ok(state));
        for (binding, now_ms, error) in [
            (good, 1_000, StateError::Expired),
            (Binding { endpoint: &elsewhere, ..good }, 0, StateError::Forged),
            (Binding { principal: "b", ..good }, 0, StateError::Principal),
            (Binding { server: &other, ..good }, 0, StateError::Call),
            (Binding { method: "x", ..good }, 0, StateError::Call),
            (Binding { digest: "x", ..good }, 0, StateError::Call),
        ] {
            assert_eq!(State::check(&bytes, &binding, now_ms), Err(error));
        }
        for garbage in [&b""[..], b"{}", b"null", b"\xff", &bytes[..bytes.len() - 1]] {
            assert_eq!(State::check(garbage, &good, 0), Err(StateError::Forged));
        }
    }
}
