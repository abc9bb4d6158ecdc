//! What one demo server offers, apart from how it is spoken.

use bartizan_model::ToolClass;
use serde_json::{Map, Value, json};
use tokio::sync::broadcast;

mod check;

pub(crate) use check::check;

/// Name and instructions of a server.
pub(crate) struct About {
    pub(crate) id: &'static str,
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) instructions: &'static str,
}

/// Something changed that a client may have subscribed to.
#[derive(Clone, Debug)]
pub(crate) enum Note {
    /// A resource has new contents.
    Updated(String),
    /// The list of resources changed.
    ResourceList,
}

/// One tool definition.
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) description: &'static str,
    pub(crate) class: ToolClass,
    /// Whether the server describes the tool's effects; some real servers do not.
    pub(crate) annotated: bool,
    pub(crate) input: Value,
    pub(crate) output: Option<Value>,
}

impl Tool {
    pub(crate) fn new(
        class: ToolClass,
        name: &'static str,
        title: &'static str,
        description: &'static str,
        input: Value,
    ) -> Self {
        Self { name, title, description, class, annotated: true, input, output: None }
    }

    pub(crate) fn returns(mut self, output: Value) -> Self {
        self.output = Some(output);
        self
    }

    pub(crate) fn without_annotations(mut self) -> Self {
        self.annotated = false;
        self
    }

    /// The definition as it is listed.
    pub(crate) fn definition(&self) -> Value {
        let mut members = Map::new();
        members.insert("name".into(), self.name.into());
        members.insert("title".into(), self.title.into());
        members.insert("description".into(), self.description.into());
        members.insert("inputSchema".into(), self.input.clone());
        if let Some(output) = &self.output {
            members.insert("outputSchema".into(), output.clone());
        }
        if self.annotated {
            members.insert("annotations".into(), annotations(self.class));
        }
        Value::Object(members)
    }
}

fn annotations(class: ToolClass) -> Value {
    match class {
        ToolClass::Read => json!({"readOnlyHint": true, "openWorldHint": false}),
        ToolClass::Write | ToolClass::Unknown => {
            json!({"readOnlyHint": false, "destructiveHint": false, "idempotentHint": false, "openWorldHint": false})
        }
        ToolClass::Destructive => {
            json!({"readOnlyHint": false, "destructiveHint": true, "idempotentHint": true, "openWorldHint": false})
        }
    }
}

/// One prompt with its arguments: name, description, required.
pub(crate) struct Prompt {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) description: &'static str,
    pub(crate) arguments: Vec<(&'static str, &'static str, bool)>,
}

impl Prompt {
    pub(crate) fn definition(&self) -> Value {
        let arguments: Vec<Value> = self
            .arguments
            .iter()
            .map(
                |(name, description, required)| json!({"name": name, "description": description, "required": required}),
            )
            .collect();
        json!({"name": self.name, "title": self.title, "description": self.description, "arguments": arguments})
    }
}

/// Arguments that were checked against the tool's schema.
#[derive(Clone, Copy)]
pub(crate) struct Args<'a>(pub(crate) &'a Map<String, Value>);

impl<'a> Args<'a> {
    pub(crate) fn text(self, name: &str) -> Option<&'a str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// A text the schema requires; empty if it is absent all the same.
    pub(crate) fn required(self, name: &str) -> &'a str {
        self.text(name).unwrap_or_default()
    }

    pub(crate) fn number(self, name: &str) -> Option<i64> {
        self.0.get(name).and_then(Value::as_i64)
    }

    /// Upper bound of a list, 20 by default.
    pub(crate) fn limit(self) -> usize {
        self.number("limit").and_then(|n| usize::try_from(n).ok()).unwrap_or(20)
    }

    pub(crate) fn texts(self, name: &str) -> Vec<String> {
        let items = self.0.get(name).and_then(Value::as_array);
        items.into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
    }
}

/// What the user said to a question of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Not asked yet.
    None,
    /// Agreed.
    Yes,
    /// Declined or cancelled.
    No,
}

/// How a tool call goes on.
pub(crate) enum Reply {
    /// Finished.
    Done(Output),
    /// The user must agree first; only used when the client can ask.
    Confirm(String),
}

/// Result of a tool.
pub(crate) struct Output {
    pub(crate) text: String,
    pub(crate) structured: Option<Value>,
    pub(crate) error: bool,
    /// Steps reported as progress before the result.
    pub(crate) steps: Vec<String>,
}

impl Output {
    /// Text for people only.
    pub(crate) fn text(text: impl Into<String>) -> Reply {
        Reply::Done(Self { text: text.into(), structured: None, error: false, steps: Vec::new() })
    }

    /// A JSON object, also as text for clients that only read text.
    pub(crate) fn data(value: Value) -> Reply {
        let text = serde_json::to_string_pretty(&value).unwrap_or_default();
        Reply::Done(Self { text, structured: Some(value), error: false, steps: Vec::new() })
    }

    /// A failure the model can react to.
    pub(crate) fn error(text: impl Into<String>) -> Reply {
        Reply::Done(Self { text: text.into(), structured: None, error: true, steps: Vec::new() })
    }

    /// The `tools/call` result without era-specific members.
    pub(crate) fn into_result(self) -> Value {
        let mut members = Map::new();
        members.insert("content".into(), json!([{"type": "text", "text": self.text}]));
        if let Some(structured) = self.structured {
            members.insert("structuredContent".into(), structured);
        }
        if self.error {
            members.insert("isError".into(), true.into());
        }
        Value::Object(members)
    }
}

/// One demo server's contents.
pub(crate) trait App: Send + Sync + 'static {
    fn about(&self) -> About;
    fn tools(&self) -> &[Tool];
    /// Runs a tool whose arguments were checked. `can_ask` tells whether the client can show a question.
    fn call(&self, name: &str, args: Args<'_>, can_ask: bool, answer: Answer) -> Reply;
    fn prompts(&self) -> &[Prompt];
    /// Text of a prompt, or what is wrong with its arguments.
    fn prompt(&self, name: &str, args: Args<'_>) -> Result<String, String>;
    fn resources(&self) -> Vec<Value>;
    fn templates(&self) -> Vec<Value>;
    /// MIME type and text of a resource.
    fn read(&self, uri: &str) -> Option<(&'static str, String)>;
    /// Values for an argument of a prompt or template that begin with `prefix`.
    fn complete(&self, argument: &str, prefix: &str) -> Vec<String>;
    fn notes(&self) -> broadcast::Receiver<Note>;
}

/// Schema of an object with the given properties; `!` before a name makes it required.
pub(crate) fn object<const N: usize>(properties: [(&str, Value); N]) -> Value {
    let mut members = Map::new();
    let mut required = Vec::new();
    for (name, schema) in properties {
        let plain = name.strip_prefix('!');
        if let Some(plain) = plain {
            required.push(Value::from(plain));
        }
        members.insert(plain.unwrap_or(name).to_owned(), schema);
    }
    json!({"type": "object", "properties": members, "required": required, "additionalProperties": false})
}

/// Schema of a text.
pub(crate) fn text(description: &str) -> Value {
    json!({"type": "string", "description": description, "minLength": 1})
}

/// Schema of one of several words.
pub(crate) fn one_of(description: &str, words: &[&str]) -> Value {
    json!({"type": "string", "description": description, "enum": words})
}

/// Schema of a whole number.
pub(crate) fn number(description: &str, least: i64, most: i64) -> Value {
    json!({"type": "integer", "description": description, "minimum": least, "maximum": most})
}

/// Schema of the usual `limit`.
pub(crate) fn limit() -> Value {
    json!({"type": "integer", "description": "Most results to return", "minimum": 1, "maximum": 50, "default": 20})
}

/// Schema of a list of texts.
pub(crate) fn texts(description: &str) -> Value {
    json!({"type": "array", "description": description, "items": {"type": "string"}})
}

/// True if `text` holds every word of `query`, whatever the case.
pub(crate) fn matches(query: &str, text: &str) -> bool {
    let text = text.to_lowercase();
    query.to_lowercase().split_whitespace().all(|word| text.contains(word))
}

/// The part of `uri` after `prefix`, if it is one plain path segment or more.
pub(crate) fn tail<'a>(uri: &'a str, prefix: &str) -> Option<&'a str> {
    uri.strip_prefix(prefix).filter(|rest| !rest.is_empty())
}

/// Those of `values` that begin with `prefix`, at most 100 (the bound of `completion/complete`).
pub(crate) fn starting_with<'a>(prefix: &str, values: impl Iterator<Item = &'a str>) -> Vec<String> {
    values.filter(|value| value.starts_with(prefix)).take(100).map(str::to_owned).collect()
}
