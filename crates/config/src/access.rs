//! Parts of access rules (A3, A4, A16, A17).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Second factor that a rule asks for (A17).
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct RequireMfa {
    /// How old the second factor may be: `90s`, `15m`, `8h`, `1d`. Absent: as old as the sign-in.
    pub max_age: Option<String>,
    /// Authentication context class the sign-in must have reached, exactly.
    pub acr: Option<String>,
}

/// Who answers: one or several of `group:NAME`, `role:governance`, `user:NAME`, or `self`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(untagged)]
pub enum Approvers {
    /// One.
    One(String),
    /// Any of these.
    Any(Vec<String>),
}

impl Approvers {
    /// As written.
    pub fn texts(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Any(texts) => texts,
        }
    }
}

/// A person who is asked before a call goes on (W12).
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct RequireApproval {
    /// Who may approve; never who asks, but for `self`: then the person confirms the call.
    pub approvers: Approvers,
    /// The longest that an approval of the tool may last: `call` for only ever this one call,
    /// or up to `8h`. Default `1h`.
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    pub lasts: Option<String>,
    /// Only for tools of these classes; none = all. Prompts and resources are `read`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<crate::schema::ClassText>")]
    pub classes: Vec<bartizan_model::ToolClass>,
}

/// Access that somebody else lets in to, for some time (A16).
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Temporary {
    /// Who may let in; never who asks.
    pub approvers: Approvers,
    /// How long: the longest, `8h`, or both, `15m-2h`. Between 15 minutes and 8 hours.
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    pub lasts: Option<String>,
}

/// A claim of the sign-in and the value it must hold.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct IdpClaim {
    /// Name, in the letters of the provider (OpenID Connect Core §5.1: case matters).
    pub name: String,
    /// Value; of a claim with several values, one of them.
    pub value: String,
}

/// A time of the week.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct TimeWindow {
    /// Days; none = every day. A window over midnight belongs to the day it begins on.
    pub days: Vec<Day>,
    /// First minute, `HH:MM`. Default `00:00`.
    pub from: Option<String>,
    /// First minute after it, `HH:MM`; earlier than `from` = over midnight. Default `24:00`.
    pub to: Option<String>,
    /// `UTC` (default) or a fixed offset such as `+02:00`; no daylight saving.
    pub zone: Option<String>,
}

/// Day of the week.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}
