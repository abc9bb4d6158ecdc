//! What goes into the gate and what comes out of it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bartizan_model::{EventId, PortalId, Principal, ReasonCode, ServerId, SignInFacts};
use bartizan_policy::SessionFacts;
use bartizan_wire::{Ask, AskAnswer, ClientProfile, Message, Params, RawJson, RpcError};
use http::{HeaderName, HeaderValue};
use tokio::sync::{mpsc, oneshot};

use crate::revocation::Revocation;
use crate::scopes::Scopes;

/// Where a client connects: a portal over many servers, or one server as it is (P1, P6).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// Many servers; exposed names, wrapped URIs.
    Portal(PortalId),
    /// One server; original names and URIs.
    Server(ServerId),
}

impl Endpoint {
    /// The portal, if it is one.
    pub fn portal(&self) -> Option<&PortalId> {
        match self {
            Self::Portal(id) => Some(id),
            Self::Server(_) => None,
        }
    }

    /// `portals/ID` or `servers/ID`: names the endpoint in sealed handles.
    pub fn label(&self) -> String {
        match self {
            Self::Portal(id) => format!("portals/{id}"),
            Self::Server(id) => format!("servers/{id}"),
        }
    }
}

/// Who asks, and from where. Made by the portal, never from message bodies except
/// for what a client says about itself.
#[derive(Clone)]
pub struct Caller {
    /// The authenticated principal, or `anonymous`.
    pub principal: Arc<Principal>,
    /// Era, version and capabilities of the client.
    pub profile: Arc<ClientProfile>,
    /// Peer address.
    pub ip: Option<IpAddr>,
    /// First 16 hex digits of SHA-256 over the session id (legacy clients).
    pub session: Option<Arc<str>>,
    /// W3C `traceparent` as the client sent it; the upstream gets a child of it.
    pub traceparent: Option<Arc<str>>,
    /// W3C trace id, 32 hex digits, for the record.
    pub trace_id: Option<Arc<str>>,
    /// Client name as it gave it.
    pub client: Option<Arc<str>>,
    /// Client version as it gave it.
    pub client_version: Option<Arc<str>>,
    /// What the credential lets its holder do at most.
    pub scopes: Scopes,
    /// What is known about the sign-in and the device.
    pub circumstances: Circumstances,
    /// What the caller switched off, and where that is kept.
    pub selection: crate::toggles::Selection,
    /// What the caller's authority lasts by: a call in flight or parked ends with it.
    pub revocation: Revocation,
}

/// Circumstances of a request that the credential and the connection prove, never what a
/// client says about itself (A3, A4, A16).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Circumstances {
    /// The sign-in behind the credential; `None` for credentials without one.
    pub facts: Option<Arc<SignInFacts>>,
    /// The grant behind the credential, for links that a person opens; `None` without one.
    pub grant: Option<Arc<str>>,
    /// OAuth client that the credential was issued to.
    pub client_id: Option<Arc<str>>,
    /// Country of the peer, ISO 3166-1 alpha-2, upper case.
    pub country: Option<Arc<str>>,
    /// Identity or posture tag of the device, proved by its certificate or by a trusted proxy.
    pub device: Option<Arc<str>>,
    /// E-mail address of the person who answers for an agent.
    pub owner: Option<Arc<str>>,
}

impl Circumstances {
    /// What policies may look at.
    pub(crate) fn session(&self) -> SessionFacts<'_> {
        let facts = self.facts.as_deref();
        SessionFacts {
            signed_in: facts.is_some() && self.grant.is_some(),
            mfa_at_ms: facts.and_then(|facts| facts.mfa_at_ms),
            acr: facts.and_then(|facts| facts.acr.as_deref()),
            device: self.device.as_deref(),
            country: self.country.as_deref(),
            purpose: facts.and_then(|facts| facts.purpose.as_deref()),
            client_id: self.client_id.as_deref(),
            claims: facts.map(|facts| &facts.claims),
        }
    }

    /// Everything of it that decisions may depend on: which grant it is does not matter,
    /// only whether there is one.
    pub(crate) fn key(&self) -> Self {
        Self { grant: self.grant.as_ref().map(|_| "".into()), ..self.clone() }
    }
}

/// One request that goes upstream: a tool call, prompt get, resource read,
/// completion, or anything else a server endpoint relays.
pub struct GovernedCall {
    /// Where it arrived.
    pub endpoint: Endpoint,
    /// Who sent it.
    pub caller: Caller,
    /// The message as it arrived.
    pub message: Message,
    /// Its params, parsed by the decoder.
    pub params: Params,
    /// `Mcp-Param-*` headers of a modern client, already checked against the body.
    pub param_headers: Vec<(HeaderName, HeaderValue)>,
    /// Size of the request in bytes.
    pub request_bytes: u64,
}

/// What a running call says.
#[derive(Debug)]
pub enum CallOutput {
    /// A notification that belongs to the call (progress, log message).
    Notify {
        /// JSON-RPC method.
        method: Arc<str>,
        /// Its params.
        params: Option<RawJson>,
    },
    /// Questions to a legacy client. Dropping `answers` counts as a refusal to answer.
    Ask {
        /// What the server wants to know.
        asks: Vec<Ask>,
        /// Where the answers go, all at once, each under the key of its question.
        answers: oneshot::Sender<Vec<(String, AskAnswer)>>,
    },
    /// The end of the call. Nothing follows.
    Done(CallReply),
}

/// How a call ended.
#[derive(Debug)]
pub enum CallReply {
    /// The result object, in the form of the client's era.
    Result(RawJson),
    /// A JSON-RPC error, in the form of the client's era.
    Error(RpcError),
    /// Unknown, or not for this caller: nobody can tell which (section 1.2).
    NotFound {
        /// What was looked for.
        what: Unknown,
        /// Id of the audit event.
        event_id: EventId,
    },
    /// Refused by a stage.
    Refused(Refusal),
    /// The credential lacks a scope: HTTP 403 where that can still be said (A23).
    Scope {
        /// The least set of scopes that would do, with those that are there.
        scope: Arc<str>,
        /// Id of the audit event.
        event_id: EventId,
    },
}

/// What could not be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// `Unknown tool: NAME`.
    Tool(String),
    /// `Unknown prompt: NAME`.
    Prompt(String),
    /// Resource not found, with the URI as the client gave it.
    Resource(String),
    /// A method that the endpoint does not have: -32601.
    Method(String),
    /// The endpoint itself (the portal answers 404 or, to anonymous callers, 401).
    Endpoint,
}

/// Why a call was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Stable code.
    pub code: ReasonCode,
    /// Deciding rule, policy or limit.
    pub rule: Option<Arc<str>>,
    /// Id of the audit event; also the request id.
    pub event_id: EventId,
    /// Seconds after which a repeat may succeed.
    pub retry_after_s: Option<u64>,
    /// False when the caller may not learn that the target exists: then the code
    /// stays off the wire.
    pub visible: bool,
    /// A sentence for people, without secrets or bodies.
    pub message: Option<String>,
    /// Page on which a person can do what is needed.
    pub url: Option<Arc<str>>,
}

/// Shared between a call's task and its handle.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    pub(crate) cancelled: AtomicBool,
}

/// The client's side of a running call. Dropping it tells the call that the client
/// is gone; the call itself ends by its own rules and is always recorded.
#[derive(Debug)]
pub struct CallHandle {
    event_id: EventId,
    output: mpsc::Receiver<Box<CallOutput>>,
    signals: Arc<Signals>,
    done: bool,
}

impl CallHandle {
    pub(crate) fn new(event_id: EventId, output: mpsc::Receiver<Box<CallOutput>>, signals: Arc<Signals>) -> Self {
        Self { event_id, output, signals, done: false }
    }

    /// Id of the audit event that will record the call; also its request id.
    pub fn event_id(&self) -> EventId {
        self.event_id
    }

    /// The next thing the call says; `None` after [`CallOutput::Done`]. Safe to drop
    /// while waiting.
    pub async fn next(&mut self) -> Option<CallOutput> {
        if self.done {
            return None;
        }
        let output = self.output.recv().await.map(|output| *output);
        self.done = matches!(output, None | Some(CallOutput::Done(_)));
        output
    }

    /// Cancels the call: the upstream is told, the outcome is recorded, nothing more
    /// is said.
    pub fn cancel(&mut self) {
        self.signals.cancelled.store(true, Ordering::Release);
        self.output.close();
        self.done = true;
    }
}
