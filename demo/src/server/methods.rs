//! The methods both eras share, without what each era adds to a result.

use serde_json::{Map, Value, json};

use super::rpc::RpcError;
use crate::app::{Answer, App, Args, Reply, check};

/// Capabilities as both eras write them.
pub(super) fn capabilities() -> Value {
    json!({
        "completions": {},
        "prompts": {},
        "resources": {"subscribe": true, "listChanged": true},
        "tools": {},
    })
}

pub(super) fn server_info(app: &dyn App) -> Value {
    let about = app.about();
    json!({"name": about.name, "title": about.title, "version": env!("CARGO_PKG_VERSION")})
}

/// Lists, reads, prompts and completion. `None`: not a method of this kind.
pub(super) fn answer(app: &dyn App, method: &str, params: &Map<String, Value>) -> Option<Result<Value, RpcError>> {
    Some(match method {
        "tools/list" => one_page(params, || json!({"tools": definitions(app.tools(), |tool| tool.definition())})),
        "prompts/list" => one_page(params, || json!({"prompts": definitions(app.prompts(), |p| p.definition())})),
        "resources/list" => one_page(params, || json!({"resources": app.resources()})),
        "resources/templates/list" => one_page(params, || json!({"resourceTemplates": app.templates()})),
        "resources/read" => read(app, params),
        "prompts/get" => prompt(app, params),
        "completion/complete" => complete(app, params),
        _ => return None,
    })
}

/// Runs a tool as far as it gets with `answer`.
pub(super) fn call(
    app: &dyn App,
    params: &Map<String, Value>,
    can_ask: bool,
    answer: Answer,
) -> Result<Reply, RpcError> {
    let name = required(params, "name")?;
    let Some(tool) = app.tools().iter().find(|tool| tool.name == name) else {
        return Err(RpcError::new(-32602, format!("Unknown tool: {name}")));
    };
    let empty = Map::new();
    let args = match params.get("arguments") {
        None => &empty,
        Some(Value::Object(args)) => args,
        Some(_) => return Err(RpcError::new(-32602, "`arguments` is not an object")),
    };
    Ok(match check(&tool.input, args) {
        Ok(()) => app.call(name, Args(args), can_ask, answer),
        Err(problem) => crate::app::Output::error(problem),
    })
}

/// Parameters of the question a tool asks before it destroys something.
pub(super) fn confirmation(message: &str) -> Value {
    json!({
        "message": message,
        "requestedSchema": {
            "type": "object",
            "properties": {"confirm": {"type": "boolean", "title": "Yes, go on"}},
            "required": ["confirm"],
        },
    })
}

/// Reads the answer to [`confirmation`].
pub(super) fn confirmed(result: Option<&Value>) -> Answer {
    let accepted = result.is_some_and(|result| {
        result.get("action").and_then(Value::as_str) == Some("accept")
            && result.pointer("/content/confirm") == Some(&Value::Bool(true))
    });
    if accepted { Answer::Yes } else { Answer::No }
}

/// Whether client capabilities allow a question in form mode.
pub(super) fn can_ask(capabilities: Option<&Value>) -> bool {
    let elicitation = capabilities.and_then(|all| all.get("elicitation")).and_then(Value::as_object);
    elicitation.is_some_and(|modes| modes.is_empty() || modes.contains_key("form"))
}

pub(super) fn required<'a>(params: &'a Map<String, Value>, name: &str) -> Result<&'a str, RpcError> {
    let value = params.get(name).and_then(Value::as_str);
    value.ok_or_else(|| RpcError::new(-32602, format!("`{name}` is missing or not text")))
}

fn definitions<T>(items: &[T], definition: impl Fn(&T) -> Value) -> Vec<Value> {
    items.iter().map(definition).collect()
}

/// The lists fit on one page, so no cursor was ever handed out.
fn one_page(params: &Map<String, Value>, page: impl FnOnce() -> Value) -> Result<Value, RpcError> {
    match params.get("cursor") {
        None => Ok(page()),
        Some(_) => Err(RpcError::new(-32602, "unknown cursor")),
    }
}

fn read(app: &dyn App, params: &Map<String, Value>) -> Result<Value, RpcError> {
    let uri = required(params, "uri")?;
    match app.read(uri) {
        Some((mime, text)) => Ok(json!({"contents": [{"uri": uri, "mimeType": mime, "text": text}]})),
        None => Err(RpcError::new(-32002, format!("Resource not found: {uri}")).with(json!({"uri": uri}))),
    }
}

fn prompt(app: &dyn App, params: &Map<String, Value>) -> Result<Value, RpcError> {
    let name = required(params, "name")?;
    let Some(prompt) = app.prompts().iter().find(|prompt| prompt.name == name) else {
        return Err(RpcError::new(-32602, format!("Unknown prompt: {name}")));
    };
    let empty = Map::new();
    let args = params.get("arguments").and_then(Value::as_object).unwrap_or(&empty);
    if let Some((missing, ..)) = prompt.arguments.iter().find(|(name, _, needed)| *needed && !args.contains_key(*name))
    {
        return Err(RpcError::new(-32602, format!("argument `{missing}` is missing")));
    }
    let text = app.prompt(name, Args(args)).map_err(|problem| RpcError::new(-32602, problem))?;
    Ok(json!({
        "description": prompt.description,
        "messages": [{"role": "user", "content": {"type": "text", "text": text}}],
    }))
}

fn complete(app: &dyn App, params: &Map<String, Value>) -> Result<Value, RpcError> {
    let argument = params.get("argument").and_then(Value::as_object);
    let Some(argument) = argument else { return Err(RpcError::new(-32602, "`argument` is missing")) };
    let values = app.complete(required(argument, "name")?, required(argument, "value")?);
    Ok(json!({"completion": {"total": values.len(), "hasMore": false, "values": values}}))
}
