//! `subscriptions/listen` (protocol reference 3.8).

use crate::id::RequestId;
use crate::meta_key;
use crate::params::ParamsError;
use crate::raw::RawJson;
use crate::splice;

/// Most URIs or task ids in one listen request.
pub const MAX_ENTRIES: usize = 10_000;

/// What a listen request asks to hear.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// `toolsListChanged`
    pub tools: bool,
    /// `promptsListChanged`
    pub prompts: bool,
    /// `resourcesListChanged`
    pub resources: bool,
    /// `resourceSubscriptions`
    pub uris: Vec<String>,
    /// `taskIds`
    pub task_ids: Vec<String>,
}

impl Filter {
    /// Reads `params.notifications`. Unknown members are ignored: nothing that is not
    /// acknowledged is sent.
    ///
    /// # Errors
    /// [`ParamsError::Type`] for a member of the wrong type or with too many entries.
    pub fn parse(notifications: &RawJson) -> Result<Self, ParamsError> {
        let flag = |key| match notifications.get(key) {
            None => Ok(false),
            Some(value) if value.is_null() => Ok(false),
            Some(value) => value.as_bool().ok_or(ParamsError::Type("notifications")),
        };
        let texts = |key| -> Result<Vec<String>, ParamsError> {
            let Some(list) = notifications.get(key).filter(|list| !list.is_null()) else { return Ok(Vec::new()) };
            let items = splice::items(&list);
            if list.kind() != crate::JsonKind::Array || items.len() > MAX_ENTRIES {
                return Err(ParamsError::Type("notifications"));
            }
            let text = |item: &RawJson| item.as_string().map(String::from).ok_or(ParamsError::Type("notifications"));
            items.iter().map(text).collect()
        };
        if !notifications.is_object() {
            return Err(ParamsError::Type("notifications"));
        }
        Ok(Self {
            tools: flag("toolsListChanged")?,
            prompts: flag("promptsListChanged")?,
            resources: flag("resourcesListChanged")?,
            uris: texts("resourceSubscriptions")?,
            task_ids: texts("taskIds")?,
        })
    }

    /// The value of `params.notifications`; members that ask for nothing are left out.
    pub fn to_raw(&self) -> RawJson {
        let yes = RawJson::bool(true);
        let list = |texts: &[String]| {
            let texts: Vec<_> = texts.iter().map(|text| RawJson::string(text)).collect();
            RawJson::array(&texts)
        };
        let (uris, tasks) = (list(&self.uris), list(&self.task_ids));
        let all = [
            ("toolsListChanged", self.tools, &yes),
            ("promptsListChanged", self.prompts, &yes),
            ("resourcesListChanged", self.resources, &yes),
            ("resourceSubscriptions", !self.uris.is_empty(), &uris),
            ("taskIds", !self.task_ids.is_empty(), &tasks),
        ];
        RawJson::object(all.iter().filter(|(_, on, _)| *on).map(|(key, _, value)| (*key, *value)))
    }

    /// What of this a server with these capabilities can deliver: the `listChanged` and
    /// `subscribe` members of `tools`, `prompts`, `resources`. Task ids are kept only
    /// when the server has the tasks extension.
    #[must_use]
    pub fn within(&self, capabilities: &RawJson) -> Self {
        let has = |path: &[&str]| splice::get_path(capabilities, path).and_then(|v| v.as_bool()) == Some(true);
        let tasks = splice::get_path(capabilities, &["extensions", crate::TASKS_EXTENSION]).is_some();
        Self {
            tools: self.tools && has(&["tools", "listChanged"]),
            prompts: self.prompts && has(&["prompts", "listChanged"]),
            resources: self.resources && has(&["resources", "listChanged"]),
            uris: if has(&["resources", "subscribe"]) { self.uris.clone() } else { Vec::new() },
            task_ids: if tasks { self.task_ids.clone() } else { Vec::new() },
        }
    }

    /// Everything either asks for; entries once, in order.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let join = |a: &[String], b: &[String]| {
            let mut seen = std::collections::HashSet::new();
            a.iter().chain(b).filter(|text| seen.insert(text.as_str())).cloned().collect()
        };
        Self {
            tools: self.tools || other.tools,
            prompts: self.prompts || other.prompts,
            resources: self.resources || other.resources,
            uris: join(&self.uris, &other.uris),
            task_ids: join(&self.task_ids, &other.task_ids),
        }
    }

    /// True when nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a notification was asked for; others must not go on the stream.
    pub fn wants(&self, method: &str, params: Option<&RawJson>) -> bool {
        let text = |key| Some(params?.get(key)?.as_string()?.into_owned());
        match method {
            "notifications/tools/list_changed" => self.tools,
            "notifications/prompts/list_changed" => self.prompts,
            "notifications/resources/list_changed" => self.resources,
            "notifications/resources/updated" => text("uri").is_some_and(|uri| self.uris.contains(&uri)),
            "notifications/tasks" => text("taskId").is_some_and(|id| self.task_ids.contains(&id)),
            _ => false,
        }
    }
}

/// Params of `notifications/subscriptions/acknowledged` for what was accepted.
pub fn acknowledged(listen: &RequestId, accepted: &Filter) -> RawJson {
    with_subscription(listen, Some(&RawJson::object([("notifications", &accepted.to_raw())])))
}

/// Params with `_meta`'s subscription id set to the id of the listen request, same
/// JSON type and spelling.
pub fn with_subscription(listen: &RequestId, params: Option<&RawJson>) -> RawJson {
    let params = params.filter(|params| params.is_object()).cloned().unwrap_or_else(RawJson::empty_object);
    splice::set_path(&params, &["_meta", meta_key::SUBSCRIPTION_ID], &listen.to_raw())
}

/// Params without `_meta`'s subscription id.
pub fn without_subscription(params: &RawJson) -> RawJson {
    splice::edit_in(params, "_meta", &[(meta_key::SUBSCRIPTION_ID, None)])
}

/// The result that ends a listen gracefully.
pub fn completed(listen: &RequestId) -> RawJson {
    let meta = RawJson::object([(meta_key::SUBSCRIPTION_ID, &listen.to_raw())]);
    RawJson::object([("resultType", &RawJson::string("complete")), ("_meta", &meta)])
}
