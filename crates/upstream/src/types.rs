//! What callers hand in and get back.

use std::pin::Pin;
use std::sync::Arc;

use bartizan_catalog::ServerSpec;
use bartizan_egress::Url;
use bartizan_model::{Era, ServerId};
use bartizan_wire::{Ask, AskAnswer, ClientProfile, RawJson, Revision, RpcError};
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::error::UpstreamError;

/// A request as it is about to be sent.
#[derive(Clone, Copy)]
pub struct Outgoing<'a> {
    /// Where to.
    pub url: &'a Url,
    /// Method.
    pub method: &'a Method,
    /// Headers, without `Host` and what the connection adds.
    pub headers: &'a HeaderMap,
    /// The whole body.
    pub body: &'a Bytes,
}

/// Headers to set, or why the request must not be sent.
pub type Shown<'a> = Pin<Box<dyn Future<Output = Result<Vec<(HeaderName, HeaderValue)>, String>> + Send + 'a>>;

/// Who goes to a server in the name of one principal.
pub trait Authority: Send + Sync {
    /// Value of `Authorization` as it is now, marked sensitive. Asked for every request and
    /// every stream, so that none keeps a token that was replaced; must not wait. Without
    /// one the request goes out without, and is refused.
    fn current(&self) -> Option<HeaderValue>;

    /// What goes with exactly this request, for those who sign or use other headers. Values
    /// are marked sensitive. Warm, it must not wait.
    fn show<'a>(&'a self, request: Outgoing<'a>) -> Shown<'a> {
        let _ = request;
        Box::pin(std::future::ready(Ok(self.current().map(|value| (AUTHORIZATION, value)).into_iter().collect())))
    }

    /// True when it is the same whoever calls, so that what is found out about the server with
    /// it is kept once.
    fn is_shared(&self) -> bool {
        false
    }
}

/// Which server, and whose session on it.
#[derive(Clone)]
pub struct Target {
    /// The server.
    pub spec: Arc<ServerSpec>,
    /// Owner of the upstream session: a principal's key, or `shared`.
    pub principal: Arc<str>,
    /// Key of the principal that asks. It differs from the owner where all share one session;
    /// what one may hold of a shared server is counted by it.
    pub caller: Arc<str>,
    /// The owner's own authority. Nothing that was found out or opened with one is used for
    /// another owner.
    pub authority: Option<Arc<dyn Authority>>,
}

/// Whose session, and who asks.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    pub(crate) owner: Arc<str>,
    pub(crate) caller: Arc<str>,
}

impl Who {
    /// True where the session is used by others too.
    pub(crate) fn shares(&self) -> bool {
        self.owner != self.caller
    }
}

impl Target {
    pub(crate) fn who(&self) -> Who {
        Who { owner: Arc::clone(&self.principal), caller: Arc::clone(&self.caller) }
    }
}

/// One request for an upstream server.
#[derive(Clone)]
pub struct CallRequest {
    /// Method.
    pub method: Arc<str>,
    /// Params in the form of the client's era, with original names and URIs.
    pub params: Option<RawJson>,
    /// What the client declared.
    pub profile: Arc<ClientProfile>,
    /// `Mcp-Param-*` headers as the modern client sent them. Those the schema annotates are made
    /// anew from the arguments; the others end here.
    pub param_headers: Vec<(HeaderName, HeaderValue)>,
    /// The tool's input schema, for `Mcp-Param-*` towards a modern server.
    pub input_schema: Option<RawJson>,
    /// W3C trace parent for `_meta` and header.
    pub traceparent: Option<String>,
    /// A retry after `input_required`.
    pub resume: Option<Resume>,
}

impl CallRequest {
    /// A request with nothing but method, params and profile.
    pub fn new(method: impl Into<Arc<str>>, params: Option<RawJson>, profile: Arc<ClientProfile>) -> Self {
        Self {
            method: method.into(),
            params,
            profile,
            param_headers: Vec::new(),
            input_schema: None,
            traceparent: None,
            resume: None,
        }
    }
}

/// What a retry after `input_required` carries (protocol reference 3.7).
#[derive(Clone, Debug, Default)]
pub struct Resume {
    /// `requestState` of the upstream server, byte for byte.
    pub request_state: Option<String>,
    /// Answers under the keys of the questions.
    pub answers: Vec<(String, AskAnswer)>,
}

/// What happens during a call.
#[derive(Debug)]
pub enum UpstreamEvent {
    /// A notification of this call, in the client's era, with the client's progress token.
    Notification {
        /// Method.
        method: String,
        /// Params.
        params: Option<RawJson>,
    },
    /// A question of a legacy server; give the answer to `UpstreamCall::answer`.
    Ask(Ask),
    /// The end.
    Done(UpstreamReply),
}

/// How a call ended.
#[derive(Debug)]
pub enum UpstreamReply {
    /// A result in the client's era.
    Result(RawJson),
    /// A modern server, or a URL elicitation of a legacy one, wants answers first.
    InputRequired {
        /// The whole result as received; an empty object when it was made here.
        raw: RawJson,
        /// The questions.
        asks: Vec<Ask>,
        /// `requestState`, if there is one.
        request_state: Option<String>,
    },
    /// A JSON-RPC error in the client's era.
    Error(RpcError),
    /// No answer.
    Failed(UpstreamError),
}

/// What a server says about itself.
#[derive(Clone, Debug)]
pub struct Discovered {
    /// Era.
    pub era: Era,
    /// Revision.
    pub revision: Revision,
    /// ServerCapabilities as received.
    pub capabilities: RawJson,
    /// Name and version.
    pub server_info: Option<RawJson>,
    /// Instructions for the model.
    pub instructions: Option<String>,
    /// The whole DiscoverResult or InitializeResult.
    pub raw: RawJson,
}

/// Which list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListKind {
    /// `tools/list`
    Tools,
    /// `prompts/list`
    Prompts,
    /// `resources/list`
    Resources,
    /// `resources/templates/list`
    Templates,
}

impl ListKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Tools, Self::Prompts, Self::Resources, Self::Templates];

    /// Method on the wire.
    pub fn method(self) -> &'static str {
        match self {
            Self::Tools => "tools/list",
            Self::Prompts => "prompts/list",
            Self::Resources => "resources/list",
            Self::Templates => "resources/templates/list",
        }
    }

    /// Member of the result that holds the items.
    pub fn member(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::Templates => "resourceTemplates",
        }
    }

    /// Server capability without which the list is empty.
    pub fn capability(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources | Self::Templates => "resources",
        }
    }
}

/// A whole list of one server, in the server's own form.
#[derive(Clone, Debug)]
pub struct ListResult {
    /// Items of all pages, in order, as received.
    pub items: Vec<RawJson>,
    /// `_meta` of the first page.
    pub meta: Option<RawJson>,
    /// Least `ttlMs` of the pages; absent from legacy servers.
    pub ttl_ms: Option<u64>,
    /// False only when every page said `cacheScope: public`.
    pub private: bool,
    /// Era of the server.
    pub era: Era,
}

/// Something a server told outside of calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerNote {
    /// A list changed.
    ListChanged(ListKind),
    /// A subscribed resource changed.
    ResourceUpdated {
        /// Original URI.
        uri: String,
        /// Params as received.
        params: RawJson,
    },
    /// Any other notification.
    Message {
        /// Method.
        method: String,
        /// Params as received.
        params: Option<RawJson>,
    },
}

/// State of one server, for status pages.
#[derive(Clone, Debug)]
pub struct ServerHealth {
    /// Server.
    pub server: ServerId,
    /// `streamable_http`, `http_sse`, `stdio`; `unknown` before the first contact.
    pub transport: &'static str,
    /// Era, once known.
    pub era: Option<Era>,
    /// Revision, once known.
    pub revision: Option<Revision>,
    /// When the era was last confirmed, Unix milliseconds.
    pub probed_ms: Option<i64>,
    /// `closed`, `open` or `half_open`.
    pub circuit: &'static str,
    /// The last failure, in words.
    pub last_error: Option<String>,
    /// Sessions or connections kept.
    pub sessions: usize,
    /// Local processes running.
    pub processes: usize,
    /// Last lines of a local process's error output; for operators only.
    pub stderr: Option<String>,
}
