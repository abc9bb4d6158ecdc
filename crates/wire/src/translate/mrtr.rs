//! Questions of a server in the middle of a request (protocol reference 3.7).

use bartizan_model::Era;

use super::result::text_block;
use crate::ask::{Ask, AskAnswer};
use crate::error::{RpcError, codes};
use crate::profile::ClientProfile;
use crate::raw::RawJson;
use crate::scan::JsonKind;
use crate::splice;

/// Most questions in one round.
pub const MAX_ASKS: usize = 64;

/// Why an `input_required` result is not acceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MrtrError {
    /// Neither questions nor a state.
    #[error("input_required without inputRequests and requestState")]
    Empty,
    /// `inputRequests` is no map of requests.
    #[error("malformed inputRequests")]
    Requests,
    /// More than [`MAX_ASKS`] questions.
    #[error("too many inputRequests")]
    TooMany,
    /// `requestState` is not a string.
    #[error("malformed requestState")]
    State,
}

/// An `input_required` result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InputRequired {
    /// The questions, in the server's order.
    pub asks: Vec<Ask>,
    /// What the retry echoes.
    pub request_state: Option<String>,
}

impl InputRequired {
    /// Reads the members of a result whose kind is [`super::ResultKind::InputRequired`].
    ///
    /// # Errors
    /// [`MrtrError`].
    pub fn parse(result: &RawJson) -> Result<Self, MrtrError> {
        let request_state = match splice::get(result, "requestState") {
            Some(state) => Some(state.as_string().ok_or(MrtrError::State)?.into_owned()),
            None => None,
        };
        let mut asks = Vec::new();
        if let Some(requests) = splice::get(result, "inputRequests") {
            if !requests.is_object() || requests.check_unique().is_err() {
                return Err(MrtrError::Requests);
            }
            for (key, request) in splice::members(&requests) {
                let method = request.get("method");
                let method = method.as_ref().and_then(RawJson::as_string).ok_or(MrtrError::Requests)?;
                asks.push(Ask { key, method: method.into_owned(), params: request.get("params") });
            }
        }
        if asks.len() > MAX_ASKS {
            return Err(MrtrError::TooMany);
        }
        if asks.is_empty() && request_state.is_none() {
            return Err(MrtrError::Empty);
        }
        Ok(Self { asks, request_state })
    }

    /// The result object.
    pub fn to_raw(&self) -> RawJson {
        let entries: Vec<_> = self.asks.iter().map(|ask| (ask.key.as_str(), entry(ask))).collect();
        let requests = RawJson::object(entries.iter().map(|(key, value)| (*key, value)));
        let kind = RawJson::string("input_required");
        let state = self.request_state.as_deref().map(RawJson::string);
        let mut members = vec![("resultType", &kind)];
        if !self.asks.is_empty() {
            members.push(("inputRequests", &requests));
        }
        members.extend(state.as_ref().map(|state| ("requestState", state)));
        RawJson::object(members)
    }
}

fn entry(ask: &Ask) -> RawJson {
    let method = RawJson::string(&ask.method);
    let mut members = vec![("method", &method)];
    members.extend(ask.params.as_ref().map(|params| ("params", params)));
    RawJson::object(members)
}

/// The params of a retry: the original ones with these answers and this state. Answers
/// and state of an earlier round go.
pub fn retry_params(original: Option<&RawJson>, answers: &[(String, RawJson)], state: Option<&str>) -> RawJson {
    let empty = RawJson::empty_object();
    let original = original.filter(|params| params.is_object()).unwrap_or(&empty);
    let answers_raw = RawJson::object(answers.iter().map(|(key, value)| (key.as_str(), value)));
    let state = state.map(RawJson::string);
    let given = (!answers.is_empty()).then_some(&answers_raw);
    splice::edit(original, &[("inputResponses", given), ("requestState", state.as_ref())])
}

/// Params without `inputResponses` and `requestState`: what identifies the request
/// itself. Neither may leak into another request.
pub fn strip_retry(params: &RawJson) -> RawJson {
    splice::edit(params, &[("inputResponses", None), ("requestState", None)])
}

/// Whether an answer has the shape its question asks for: `action` of an elicitation,
/// `role` and `content` of a sampled message, the list of roots.
pub fn answer_fits(method: &str, answer: &RawJson) -> bool {
    let kind = |key| answer.get(key).map(|value| value.kind());
    match method {
        "elicitation/create" => {
            let content = matches!(kind("content"), None | Some(JsonKind::Object | JsonKind::Null));
            let action = answer.get("action");
            let action = action.as_ref().and_then(RawJson::as_string);
            content && matches!(action.as_deref(), Some("accept" | "decline" | "cancel"))
        }
        "sampling/createMessage" => {
            kind("role") == Some(JsonKind::String)
                && matches!(kind("content"), Some(JsonKind::Object | JsonKind::Array))
        }
        "roots/list" => kind("roots") == Some(JsonKind::Array),
        _ => answer.is_object(),
    }
}

/// Sorts a retry's `inputResponses` to the questions they answer. Returns the answers
/// in the order of the questions, and the questions without a usable answer, which are
/// to be asked again. Answers to nothing that was asked are ignored.
pub fn take_answers(asks: &[Ask], responses: &[(String, RawJson)]) -> (Vec<(String, RawJson)>, Vec<Ask>) {
    let (mut answers, mut open) = (Vec::new(), Vec::new());
    for ask in asks {
        match responses.iter().find(|(key, answer)| *key == ask.key && answer_fits(&ask.method, answer)) {
            Some(found) => answers.push(found.clone()),
            None => open.push(ask.clone()),
        }
    }
    (answers, open)
}

/// A legacy client's answer as an entry of `inputResponses`. An error on an
/// elicitation is a `cancel`.
///
/// # Errors
/// The client's error for other questions, and -32602 for an answer of the wrong
/// shape: the modern era has no way to tell the server, so the call ends with it.
pub fn answer_to_modern(method: &str, answer: &AskAnswer) -> Result<RawJson, RpcError> {
    match answer {
        AskAnswer::Result(result) if answer_fits(method, result) => Ok(result.clone()),
        AskAnswer::Result(_) => {
            Err(RpcError::new(codes::INVALID_PARAMS, format!("the client's answer to {method} is malformed")))
        }
        AskAnswer::Error(_) if method == "elicitation/create" => {
            Ok(RawJson::object([("action", &RawJson::string("cancel"))]))
        }
        AskAnswer::Error(error) => Err(error.clone()),
    }
}

/// What becomes of a modern server's question for a legacy client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LegacyAsk {
    /// A JSON-RPC request to the client.
    Request(Ask),
    /// The client knows no elicitation in URL mode: the call ends with [`link_result`].
    Link {
        /// What the server says.
        message: String,
        /// Where the person has to go.
        url: String,
    },
    /// The client did not declare what this needs, so the server may not ask it.
    Unsupported,
}

/// A modern server's question for a legacy client. `elicitation_id` is minted by the
/// caller for questions in URL mode, and named again in [`elicitation_complete`].
pub fn ask_to_legacy(ask: &Ask, client: &ClientProfile, elicitation_id: &str) -> LegacyAsk {
    if !ask.is_url_elicitation() {
        return if ask.fits(client) { LegacyAsk::Request(ask.clone()) } else { LegacyAsk::Unsupported };
    }
    let url = ask.text("url").unwrap_or_default();
    if client.revision.has_url_elicitation() && ask.fits(client) {
        let id = RawJson::string(elicitation_id);
        let params = ask.params.as_ref().map(|params| splice::set(params, "elicitationId", &id));
        return LegacyAsk::Request(Ask { params, ..ask.clone() });
    }
    LegacyAsk::Link { message: ask.text("message").unwrap_or_default(), url }
}

/// A legacy server's question for a modern client: URL elicitations lose their
/// `elicitationId`, and no question runs as a core task.
pub fn ask_to_modern(ask: &Ask, client: &ClientProfile) -> Ask {
    if client.era == Era::Legacy {
        return ask.clone();
    }
    let params = ask.params.as_ref().map(|params| {
        let bare = splice::edit(params, &[("elicitationId", None), ("task", None)]);
        splice::edit_in(&bare, "_meta", &[(crate::meta_key::RELATED_TASK, None)])
    });
    Ask { params, ..ask.clone() }
}

/// A tool result that sends a person to a page, for clients without URL elicitation.
pub fn link_result(message: &str, url: &str) -> RawJson {
    let text = if message.is_empty() { url.to_owned() } else { format!("{message}\n{url}") };
    RawJson::object([("content", &RawJson::array([&text_block(&text)])), ("isError", &RawJson::bool(true))])
}

/// Params of `notifications/elicitation/complete`.
pub fn elicitation_complete(elicitation_id: &str) -> RawJson {
    RawJson::object([("elicitationId", &RawJson::string(elicitation_id))])
}
