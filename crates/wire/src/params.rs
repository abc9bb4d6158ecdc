//! The narrow second look: the members of `params` that bartizan decides on.

pub(crate) mod meta;

pub use meta::Meta;

use crate::error::{RpcError, codes};
use crate::fold::folds_to;
use crate::method;
use crate::raw::{JsonError, RawJson};
use crate::scan::dup::UniqueKeys;
use crate::scan::{HARD_DEPTH, Member, Scanner, decode};

/// Members a server acts on; another spelling of one of them in capitals is refused,
/// because a lax server might read it instead.
const NAMES: [&str; 13] = [
    "name",
    "uri",
    "taskId",
    "cursor",
    "level",
    "arguments",
    "_meta",
    "requestState",
    "inputResponses",
    "ref",
    "task",
    "notifications",
    "requestId",
];

/// Why `params` are not acceptable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParamsError {
    /// Not an object.
    #[error("`params` must be an object")]
    NotAnObject,
    /// Two members of one name somewhere inside, or a name that differs from a
    /// defined one only in case.
    #[error("ambiguous member name in `params`")]
    Ambiguous,
    /// A member has the wrong type.
    #[error("`params.{0}` has the wrong type")]
    Type(&'static str),
    /// A required member is missing.
    #[error("`params.{0}` is required")]
    Missing(&'static str),
    /// The log level does not exist.
    #[error("unknown log level")]
    Level,
}

impl ParamsError {
    /// -32600 for ambiguous names (protocol reference 12, rule 1), else -32602.
    pub fn code(&self) -> i64 {
        match self {
            Self::Ambiguous => codes::INVALID_REQUEST,
            _ => codes::INVALID_PARAMS,
        }
    }

    /// The error object to answer with.
    pub fn to_rpc(&self) -> RpcError {
        RpcError::new(self.code(), self.to_string())
    }
}

impl From<ParamsError> for RpcError {
    fn from(error: ParamsError) -> Self {
        error.to_rpc()
    }
}

/// What a completion request refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// `ref/prompt` with the prompt's name.
    Prompt(String),
    /// `ref/resource` with a URI or URI template.
    Resource(String),
}

/// The members of `params` that are looked at; everything else stays in `raw`.
#[derive(Clone, Debug)]
pub struct Params {
    /// The whole object.
    pub raw: RawJson,
    /// `name` of tools/call and prompts/get.
    pub name: Option<String>,
    /// `uri` of resources/read and subscriptions.
    pub uri: Option<String>,
    /// `taskId`.
    pub task_id: Option<String>,
    /// `cursor` of lists.
    pub cursor: Option<String>,
    /// `level` of logging/setLevel and log messages.
    pub level: Option<String>,
    /// `arguments` as they came.
    pub arguments: Option<RawJson>,
    /// `_meta`.
    pub meta: Option<Meta>,
    /// `requestState` of a retry.
    pub request_state: Option<String>,
    /// `inputResponses` of a retry.
    pub input_responses: Option<Vec<(String, RawJson)>>,
    /// `ref` of completion/complete.
    pub reference: Option<Reference>,
    /// `task` of a 2025-11-25 core task request.
    pub task: Option<RawJson>,
    /// `notifications` of subscriptions/listen.
    pub notifications: Option<RawJson>,
    /// `requestId` of notifications/cancelled.
    pub request_id: Option<RawJson>,
    /// A looked-at member that is there with the wrong type; reported by [`Self::check`].
    wrong: Option<&'static str>,
}

impl Params {
    /// For a message without `params`.
    pub fn empty() -> Self {
        Self {
            raw: RawJson::empty_object(),
            name: None,
            uri: None,
            task_id: None,
            cursor: None,
            level: None,
            arguments: None,
            meta: None,
            request_state: None,
            input_responses: None,
            reference: None,
            task: None,
            notifications: None,
            request_id: None,
            wrong: None,
        }
    }

    /// Reads the members. No object inside, at any depth, may have two members of one
    /// name. `null` counts as no params. Members of unknown methods may have any type;
    /// call [`Self::check`] for the methods bartizan knows.
    ///
    /// # Errors
    /// [`ParamsError`].
    pub fn parse(raw: &RawJson) -> Result<Self, ParamsError> {
        if raw.is_null() {
            return Ok(Self::empty());
        }
        if !raw.is_object() {
            return Err(ParamsError::NotAnObject);
        }
        let mut params = Self { raw: raw.clone(), ..Self::empty() };
        let mut inner = UniqueKeys::default();
        let mut keys = Vec::with_capacity(8);
        let mut scan = Scanner::new(raw.as_bytes(), HARD_DEPTH);
        let mut first = true;
        scan.open(b'{').map_err(|_| ParamsError::NotAnObject)?;
        while let Some(member) = scan.next_member_with(&mut first, &mut inner).map_err(|_| ParamsError::Ambiguous)? {
            keys.push(member.key);
            params.take(raw, member)?;
        }
        crate::scan::dup::unique(raw.as_bytes(), &keys).map_err(|_| ParamsError::Ambiguous)?;
        Ok(params)
    }

    /// [`Self::parse`] of a message's params, [`Self::empty`] when it has none.
    ///
    /// # Errors
    /// [`ParamsError`].
    pub fn of(message: &crate::Message) -> Result<Self, ParamsError> {
        message.params().map_or_else(|| Ok(Self::empty()), |raw| Self::parse(&raw))
    }

    fn take(&mut self, raw: &RawJson, member: Member) -> Result<(), ParamsError> {
        let name = decode(raw.as_bytes(), member.key).ok_or(ParamsError::Ambiguous)?;
        let value = RawJson::of(raw.bytes(), member.value);
        match &*name {
            "name" => self.name = self.text("name", &value),
            "uri" => self.uri = self.text("uri", &value),
            "taskId" => self.task_id = self.text("taskId", &value),
            "cursor" => self.cursor = self.text("cursor", &value),
            "level" => self.level = self.text("level", &value),
            "requestState" => self.request_state = self.text("requestState", &value),
            "arguments" => self.arguments = self.object("arguments", value),
            "task" => self.task = self.object("task", value),
            "notifications" => self.notifications = self.object("notifications", value),
            "requestId" => self.request_id = Some(value),
            "inputResponses" => {
                self.input_responses =
                    self.object("inputResponses", value).map(|responses| crate::splice::members(&responses));
            }
            "ref" => {
                self.reference = reference(&value);
                if self.reference.is_none() {
                    self.wrong = Some("ref");
                }
            }
            "_meta" => {
                if !value.is_object() {
                    return Err(ParamsError::Type("_meta"));
                }
                self.meta = Some(Meta::parse(&value)?);
            }
            other if NAMES.iter().any(|known| folds_to(other, known)) => return Err(ParamsError::Ambiguous),
            _ => {}
        }
        Ok(())
    }

    fn text(&mut self, name: &'static str, value: &RawJson) -> Option<String> {
        let text = value.as_string().map(String::from);
        if text.is_none() {
            self.wrong = Some(name);
        }
        text
    }

    fn object(&mut self, name: &'static str, value: RawJson) -> Option<RawJson> {
        if value.is_object() {
            Some(value)
        } else {
            self.wrong = Some(name);
            None
        }
    }

    /// Checks types and required members for a method bartizan knows.
    ///
    /// # Errors
    /// [`ParamsError::Type`], [`ParamsError::Missing`], [`ParamsError::Level`].
    pub fn check(&self, method: &str) -> Result<(), ParamsError> {
        let Some(info) = method::lookup(method) else { return Ok(()) };
        if let Some(wrong) = self.wrong {
            return Err(ParamsError::Type(wrong));
        }
        if let Some(member) = info.name_member
            && self.mirrored(member).is_none()
        {
            return Err(ParamsError::Missing(member));
        }
        match method {
            "resources/subscribe" | "resources/unsubscribe" if self.uri.is_none() => Err(ParamsError::Missing("uri")),
            "completion/complete" if self.reference.is_none() => Err(ParamsError::Missing("ref")),
            "subscriptions/listen" if self.notifications.is_none() => Err(ParamsError::Missing("notifications")),
            "logging/setLevel" => match self.level.as_deref().map(crate::LogLevel::parse) {
                None => Err(ParamsError::Missing("level")),
                Some(None) => Err(ParamsError::Level),
                Some(Some(_)) => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// The value of a member that `Mcp-Name` mirrors: `name`, `uri` or `taskId`.
    pub fn mirrored(&self, member: &str) -> Option<&str> {
        match member {
            "name" => self.name.as_deref(),
            "uri" => self.uri.as_deref(),
            "taskId" => self.task_id.as_deref(),
            _ => None,
        }
    }

    /// `_meta`'s protocol version.
    pub fn protocol_version(&self) -> Option<&str> {
        self.meta.as_ref()?.protocol_version.as_deref()
    }
}

fn reference(value: &RawJson) -> Option<Reference> {
    let text = |key| value.get(key).and_then(|v: RawJson| v.as_string().map(String::from));
    match text("type")?.as_str() {
        "ref/prompt" => text("name").map(Reference::Prompt),
        "ref/resource" => text("uri").map(Reference::Resource),
        _ => None,
    }
}

impl From<JsonError> for ParamsError {
    fn from(_: JsonError) -> Self {
        Self::Ambiguous
    }
}
