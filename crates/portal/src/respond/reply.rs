//! How a call's end looks on the wire.

use std::sync::Arc;

use bartizan_gate::{CallReply, Refusal, Unknown};
use bartizan_model::{Era, EventId, ReasonCode};
use bartizan_wire::{Message, RawJson, RequestId, RpcError, build, codes};
use bytes::Bytes;
use http::StatusCode;

/// What a request is about; decides the form of a refusal.
enum Target {
    Tool(String),
    Prompt(String),
    Resource(String),
    Other,
}

/// A request that waits for its answer.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) message: Message,
    pub(crate) id: RequestId,
    pub(crate) era: Era,
}

/// One JSON-RPC response with the HTTP status it has when it is alone in an answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
    pub(crate) retry_after_s: Option<u64>,
    pub(crate) event: Option<EventId>,
    /// Scopes that would do, for the challenge of a 403.
    pub(crate) scope: Option<Arc<str>>,
}

impl Asked {
    /// What the request is about, from its method and params. Only asked on refusals.
    fn target(&self) -> Target {
        let text = |key: &str| {
            let value = self.message.params()?.get(key)?;
            value.as_string().map(String::from)
        };
        match self.message.method() {
            Some("tools/call") => Target::Tool(text("name").unwrap_or_default()),
            Some("prompts/get") => Target::Prompt(text("name").unwrap_or_default()),
            Some("resources/read") => Target::Resource(text("uri").unwrap_or_default()),
            _ => Target::Other,
        }
    }

    fn method(&self) -> &str {
        self.message.method().unwrap_or_default()
    }

    /// The answer with a result.
    pub(crate) fn result(&self, result: &RawJson) -> Reply {
        Reply {
            status: StatusCode::OK,
            body: build::response(&self.id, result),
            retry_after_s: None,
            event: None,
            scope: None,
        }
    }

    /// The answer with an error; protocol section 3.5 has the statuses.
    pub(crate) fn error(&self, error: &RpcError) -> Reply {
        let status = match (self.era, error.code) {
            (Era::Legacy, _) => StatusCode::OK,
            (Era::Modern, codes::HEADER_MISMATCH | codes::MISSING_CLIENT_CAPABILITY | codes::UNSUPPORTED_VERSION) => {
                StatusCode::BAD_REQUEST
            }
            (Era::Modern, codes::METHOD_NOT_FOUND) => StatusCode::NOT_FOUND,
            (Era::Modern, _) => StatusCode::OK,
        };
        Reply { status, body: build::error(Some(&self.id), error), retry_after_s: None, event: None, scope: None }
    }

    /// The answer to a call.
    pub(crate) fn reply(&self, event: Option<EventId>, reply: CallReply) -> Reply {
        let mut answer = match reply {
            CallReply::Result(result) => self.result(&result),
            CallReply::Error(error) => self.error(&error),
            CallReply::NotFound { what, event_id } => {
                let mut answer = self.unknown(&what);
                answer.event = Some(event_id);
                answer
            }
            CallReply::Refused(refusal) => self.refused(&refusal),
            CallReply::Scope { scope, event_id } => self.lacks(scope, event_id),
        };
        answer.event = answer.event.or(event);
        answer
    }

    /// The answer to a list.
    pub(crate) fn listed(&self, found: Result<RawJson, CallReply>) -> Reply {
        match found {
            Ok(result) => self.result(&result),
            Err(reply) => self.reply(None, reply),
        }
    }

    /// Unknown, off, not visible or quarantined: one answer for all causes.
    pub(crate) fn unknown(&self, what: &Unknown) -> Reply {
        let error = match what {
            Unknown::Tool(name) => RpcError::new(codes::INVALID_PARAMS, format!("Unknown tool: {name}")),
            Unknown::Prompt(name) => RpcError::new(codes::INVALID_PARAMS, format!("Unknown prompt: {name}")),
            Unknown::Resource(uri) => {
                let code = match self.era {
                    Era::Modern => codes::INVALID_PARAMS,
                    Era::Legacy => codes::RESOURCE_NOT_FOUND,
                };
                let data = RawJson::object([("uri", &RawJson::string(uri))]);
                RpcError::new(code, format!("Resource not found: {uri}")).with_data(data)
            }
            Unknown::Method(method) => RpcError::new(codes::METHOD_NOT_FOUND, format!("Method not found: {method}")),
            Unknown::Endpoint => {
                let error = RpcError::new(404, "No such endpoint");
                let mut reply = self.error(&error);
                reply.status = StatusCode::NOT_FOUND;
                return reply;
            }
        };
        self.error(&error)
    }

    /// A stage said no.
    pub(crate) fn refused(&self, refusal: &Refusal) -> Reply {
        let mut reply = if refusal.visible { self.refused_visible(refusal) } else { self.refused_hidden(refusal) };
        reply.event = Some(refusal.event_id);
        reply
    }

    fn refused_visible(&self, refusal: &Refusal) -> Reply {
        if self.method() == "tools/call" {
            return self.result(&tool_refusal(self.era, refusal));
        }
        let code = match refusal.code {
            ReasonCode::UpstreamUnavailable
            | ReasonCode::UpstreamTimeout
            | ReasonCode::UpstreamAuthFailed
            | ReasonCode::TooLarge
            | ReasonCode::AuditUnavailable => codes::INTERNAL_ERROR,
            ReasonCode::ArgumentRefused => codes::INVALID_PARAMS,
            ReasonCode::RateLimited | ReasonCode::BudgetExceeded => 429,
            _ => 403,
        };
        let data = RawJson::object([("bartizan/decision", &decision(refusal))]);
        let mut reply = self.error(&RpcError::new(code, sentence(refusal)).with_data(data));
        if refusal.code == ReasonCode::RateLimited {
            reply.status = StatusCode::TOO_MANY_REQUESTS;
            reply.retry_after_s = Some(refusal.retry_after_s.unwrap_or(1).max(1));
        }
        reply
    }

    /// Before it is known whether the target exists, only faults and floods are told.
    fn refused_hidden(&self, refusal: &Refusal) -> Reply {
        let (status, error) = match refusal.code {
            ReasonCode::RateLimited => {
                (StatusCode::TOO_MANY_REQUESTS, RpcError::new(429, "Too many requests").with_data(decision(refusal)))
            }
            ReasonCode::AuditUnavailable => {
                let text = "The record cannot be written at the moment; nothing was forwarded";
                let error = RpcError::new(codes::INTERNAL_ERROR, text).with_data(decision(refusal));
                (StatusCode::SERVICE_UNAVAILABLE, error)
            }
            _ => {
                return self.unknown(&match self.target() {
                    Target::Tool(name) => Unknown::Tool(name),
                    Target::Prompt(name) => Unknown::Prompt(name),
                    Target::Resource(uri) => Unknown::Resource(uri),
                    Target::Other => Unknown::Method(self.method().to_owned()),
                });
            }
        };
        let mut reply = self.error(&error);
        reply.status = status;
        reply.retry_after_s = Some(refusal.retry_after_s.unwrap_or(1).max(1));
        reply
    }

    /// The credential lacks a scope. Where the answer has begun already, the error says so alone.
    fn lacks(&self, scope: Arc<str>, event: EventId) -> Reply {
        let code = RawJson::string(ReasonCode::InsufficientScope.as_str());
        let (id, wanted) = (RawJson::string(&event.to_string()), RawJson::string(&scope));
        let data = RawJson::object([("code", &code), ("event_id", &id), ("scope", &wanted)]);
        let error = RpcError::new(403, "The token lacks a scope").with_data(data);
        let reply = self.error(&error);
        Reply { status: StatusCode::FORBIDDEN, event: Some(event), scope: Some(scope), ..reply }
    }

    /// The process ends before the call does.
    pub(crate) fn shut_down(&self) -> Reply {
        let text = "The gateway shut down before the call ended; whether it had an effect upstream is not known";
        self.error(&RpcError::new(codes::INTERNAL_ERROR, text))
    }

    /// The gate went away without an answer: a fault of ours.
    pub(crate) fn lost(&self) -> Reply {
        let mut reply = self.error(&RpcError::new(codes::INTERNAL_ERROR, "Internal error"));
        reply.status = StatusCode::INTERNAL_SERVER_ERROR;
        reply
    }
}

/// `{code, rule, event_id, retry_after_s?, url?}`.
fn decision(refusal: &Refusal) -> RawJson {
    let code = RawJson::string(refusal.code.as_str());
    let rule = refusal.rule.as_deref().map_or_else(RawJson::null, RawJson::string);
    let event = RawJson::string(&refusal.event_id.to_string());
    let retry = refusal.retry_after_s.map(|s| RawJson::int(i64::try_from(s).unwrap_or(i64::MAX)));
    let mut members = vec![("code", &code), ("rule", &rule), ("event_id", &event)];
    members.extend(retry.as_ref().map(|retry| ("retry_after_s", retry)));
    let url = refusal.url.as_deref().map(RawJson::string);
    members.extend(url.as_ref().map(|url| ("url", url)));
    RawJson::object(members)
}

fn tool_refusal(era: Era, refusal: &Refusal) -> RawJson {
    let block = RawJson::object([("type", &RawJson::string("text")), ("text", &RawJson::string(&sentence(refusal)))]);
    let (content, yes, decision) = (RawJson::array([&block]), RawJson::bool(true), decision(refusal));
    let complete = RawJson::string("complete");
    let us = server_info();
    let mut meta = vec![("bartizan/decision", &decision)];
    let mut members = vec![("content", &content), ("isError", &yes)];
    if era == Era::Modern {
        meta.push(("io.modelcontextprotocol/serverInfo", &us));
        members.insert(0, ("resultType", &complete));
    }
    let meta = RawJson::object(meta);
    members.push(("_meta", &meta));
    RawJson::object(members)
}

/// bartizan as a server.
fn server_info() -> RawJson {
    let version = RawJson::string(env!("CARGO_PKG_VERSION"));
    RawJson::object([("name", &RawJson::string("bartizan")), ("version", &version)])
}

/// What a person or model reads.
fn sentence(refusal: &Refusal) -> String {
    let text = match &refusal.message {
        Some(message) => message.as_str(),
        None => reason(refusal.code),
    };
    format!("{text} [{}] (event {})", refusal.code.as_str(), refusal.event_id)
}

fn reason(code: ReasonCode) -> &'static str {
    match code {
        ReasonCode::PolicyDenied => "A policy does not allow this call.",
        ReasonCode::WriteNotGranted => "This tool changes things, and no grant allows you to call it.",
        ReasonCode::ReadOnlyMode => "This session is read-only.",
        ReasonCode::Killed => "This was stopped by an administrator.",
        ReasonCode::ArgumentRefused => "A rule does not accept these arguments.",
        ReasonCode::RateLimited => "Too many calls; try again later.",
        ReasonCode::BudgetExceeded => "The budget is used up.",
        ReasonCode::TooLarge => "The message is too large.",
        ReasonCode::UpstreamUnavailable => "The server cannot be reached at the moment.",
        ReasonCode::UpstreamTimeout => {
            "The server did not answer in time; whether the call had an effect is not known."
        }
        ReasonCode::UpstreamAuthFailed => "The server did not accept the gateway's credential.",
        ReasonCode::AuditUnavailable => "The record cannot be written at the moment; nothing was forwarded.",
        ReasonCode::Unauthenticated => "Authentication required.",
        ReasonCode::InsufficientScope => "The token lacks a scope.",
        ReasonCode::LoginRequired => "The server wants you to sign in first.",
        ReasonCode::StepUpRequired => "Stronger or fresher authentication is needed.",
        ReasonCode::PurposeRequired => "State a purpose first.",
        ReasonCode::ApprovalRequired => "A person has to approve this call first.",
        ReasonCode::ApprovalRejected => "The approval was rejected.",
        ReasonCode::ApprovalExpired => "Nobody answered the approval in time.",
        ReasonCode::DlpBlocked => "Protected data was found.",
        ReasonCode::InjectionBlocked => "An injection was found.",
        ReasonCode::FlowBlocked => "This data may not flow there.",
        ReasonCode::SandboxTimeout => "The script ran out of time.",
        ReasonCode::SandboxMemory => "The script ran out of memory.",
        ReasonCode::SandboxCalls => "The script made too many calls.",
        ReasonCode::SandboxForbidden => "The script tried something forbidden.",
    }
}

#[cfg(test)]
mod tests {
    use bartizan_wire::Limits;
    use serde_json::{Value, json};

    use super::*;

    fn asked(era: Era, method: &str, params: &Value) -> Asked {
        let text = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}).to_string();
        let message = Message::parse(Bytes::from(text), &Limits::default()).unwrap();
        let id = message.id().unwrap().clone();
        Asked { message, id, era }
    }

    fn refusal(code: ReasonCode, visible: bool) -> Refusal {
        Refusal {
            code,
            rule: Some(Arc::from("no-delete")),
            event_id: EventId::new(1_000),
            retry_after_s: None,
            visible,
            message: None,
            url: None,
        }
    }

    fn body(reply: &Reply) -> Value {
        serde_json::from_slice(&reply.body).unwrap()
    }

    fn unknown(era: Era, method: &str, params: &Value, what: Unknown) -> (u16, Value) {
        let event_id = EventId::new(1);
        let reply = asked(era, method, params).reply(None, CallReply::NotFound { what, event_id });
        assert_eq!(reply.event, Some(event_id));
        (reply.status.as_u16(), body(&reply)["error"].clone())
    }

    #[test]
    fn a23_a_missing_scope_is_403_in_both_eras() {
        for era in [Era::Legacy, Era::Modern] {
            let event_id = EventId::new(1);
            let lacks = CallReply::Scope { scope: "mcp:read mcp:write".into(), event_id };
            let reply = asked(era, "tools/call", &json!({"name": "x"})).reply(None, lacks);
            assert_eq!((reply.status, reply.event), (StatusCode::FORBIDDEN, Some(event_id)));
            assert_eq!(reply.scope.as_deref(), Some("mcp:read mcp:write"));
            let answer = body(&reply);
            assert!(answer.get("result").is_none(), "no tool result");
            assert_eq!(answer["error"]["data"]["code"], "insufficient_scope");
            let resource_metadata = "https://h/.well-known/oauth-protected-resource/mcp".to_owned();
            let challenge = crate::respond::Challenge { resource_metadata, invalid: false, scope: String::new() };
            assert_eq!(
                challenge.insufficient("mcp:read mcp:write").unwrap(),
                "Bearer error=\"insufficient_scope\", scope=\"mcp:read mcp:write\", \
                 resource_metadata=\"https://h/.well-known/oauth-protected-resource/mcp\""
            );
        }
    }

    #[test]
    fn p26_unknown_things() {
        for era in [Era::Legacy, Era::Modern] {
            let (status, error) = unknown(era, "tools/call", &json!({"name": "x"}), Unknown::Tool("x".into()));
            assert_eq!((status, error), (200, json!({"code": -32602, "message": "Unknown tool: x"})));
            let (status, error) = unknown(era, "prompts/get", &json!({"name": "x"}), Unknown::Prompt("x".into()));
            assert_eq!((status, error), (200, json!({"code": -32602, "message": "Unknown prompt: x"})));
        }
        let uri = json!({"uri": "a:b"});
        let (status, error) = unknown(Era::Modern, "resources/read", &uri, Unknown::Resource("a:b".into()));
        assert_eq!((status, &error["code"], &error["data"]["uri"]), (200, &json!(-32602), &json!("a:b")));
        let (status, error) = unknown(Era::Legacy, "resources/read", &uri, Unknown::Resource("a:b".into()));
        assert_eq!((status, &error["code"], &error["data"]["uri"]), (200, &json!(-32002), &json!("a:b")));
        let (status, error) = unknown(Era::Modern, "x/y", &json!({}), Unknown::Method("x/y".into()));
        assert_eq!((status, &error["code"]), (404, &json!(-32601)));
        let (status, error) = unknown(Era::Legacy, "x/y", &json!({}), Unknown::Method("x/y".into()));
        assert_eq!((status, &error["code"]), (200, &json!(-32601)));
    }

    #[test]
    fn p26_a_visible_tool_refused() {
        for code in ReasonCode::ALL {
            let reply = asked(Era::Legacy, "tools/call", &json!({"name": "x"})).refused(&refusal(*code, true));
            assert_eq!(reply.status, 200);
            let result = &body(&reply)["result"];
            assert_eq!(result["isError"], true);
            assert_eq!(result["content"].as_array().unwrap().len(), 1);
            assert_eq!(result["content"][0]["type"], "text");
            assert!(result.get("resultType").is_none());
            let event = EventId::new(0).to_string().len();
            let decision = &result["_meta"]["bartizan/decision"];
            assert_eq!(decision["code"], code.as_str());
            assert_eq!(decision["rule"], "no-delete");
            assert_eq!(decision["event_id"].as_str().unwrap().len(), event);
            assert!(decision.get("retry_after_s").is_none());
        }
        let mut limited = refusal(ReasonCode::RateLimited, true);
        limited.retry_after_s = Some(9);
        limited.rule = None;
        let reply = asked(Era::Modern, "tools/call", &json!({"name": "x"})).refused(&limited);
        let result = &body(&reply)["result"];
        assert_eq!((reply.status.as_u16(), &result["resultType"]), (200, &json!("complete")));
        assert_eq!(result["_meta"]["bartizan/decision"]["retry_after_s"], 9);
        assert_eq!(result["_meta"]["bartizan/decision"]["rule"], Value::Null);
        assert!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"].is_string());
        assert_eq!(reply.retry_after_s, None);
    }

    #[test]
    fn p26_other_visible_things_refused_are_errors_with_the_decision() {
        let rows = [
            (ReasonCode::PolicyDenied, 200, 403),
            (ReasonCode::UpstreamTimeout, 200, -32603),
            (ReasonCode::ArgumentRefused, 200, -32602),
            (ReasonCode::RateLimited, 429, 429),
        ];
        for (code, status, expected) in rows {
            for era in [Era::Legacy, Era::Modern] {
                let reply = asked(era, "resources/read", &json!({"uri": "a:b"})).refused(&refusal(code, true));
                let error = &body(&reply)["error"];
                assert_eq!((reply.status.as_u16(), &error["code"]), (status, &json!(expected)), "{code:?}");
                assert_eq!(error["data"]["bartizan/decision"]["code"], code.as_str());
            }
        }
    }

    #[test]
    fn p37_who_must_sign_in_first_is_told_where() {
        let mut login = refusal(ReasonCode::LoginRequired, true);
        login.url = Some("https://gate.example/connect/notes".into());
        login.message = Some("Connect your account: https://gate.example/connect/notes".to_owned());
        for era in [Era::Legacy, Era::Modern] {
            let body = body(&asked(era, "tools/call", &json!({"name": "x"})).refused(&login));
            let result = &body["result"];
            assert_eq!(result["isError"], true);
            assert!(result["content"][0]["text"].as_str().unwrap().contains("https://gate.example/connect/notes"));
            let decision = &result["_meta"]["bartizan/decision"];
            assert_eq!(
                (&decision["code"], &decision["url"]),
                (&json!("login_required"), &json!("https://gate.example/connect/notes"))
            );
        }
    }

    #[test]
    fn p26_a_flood_is_429_with_retry_after() {
        let mut flood = refusal(ReasonCode::RateLimited, false);
        flood.retry_after_s = Some(3);
        let reply = asked(Era::Legacy, "tools/call", &json!({"name": "x"})).refused(&flood);
        assert_eq!((reply.status.as_u16(), reply.retry_after_s), (429, Some(3)));
        assert_eq!(body(&reply)["id"], 7);
        flood.retry_after_s = Some(0);
        assert_eq!(asked(Era::Modern, "tools/list", &json!({})).refused(&flood).retry_after_s, Some(1));
    }

    #[test]
    fn p26_hidden_refusals_look_like_unknown() {
        let hidden = refusal(ReasonCode::PolicyDenied, false);
        for era in [Era::Legacy, Era::Modern] {
            let asked = asked(era, "tools/call", &json!({"name": "secret"}));
            let refused = asked.refused(&hidden);
            let unknown = asked.unknown(&Unknown::Tool("secret".into()));
            assert_eq!((refused.status, refused.body), (unknown.status, unknown.body));
        }
    }

    #[test]
    fn p26_statuses_of_errors() {
        for (code, modern) in
            [(-32020, 400), (-32021, 400), (-32022, 400), (-32601, 404), (-32602, 200), (-32603, 200), (5, 200)]
        {
            let error = RpcError::new(code, "x");
            assert_eq!(asked(Era::Modern, "tools/call", &json!({})).error(&error).status, modern, "{code}");
            assert_eq!(asked(Era::Legacy, "tools/call", &json!({})).error(&error).status, 200, "{code}");
        }
    }
}
