//! `bartizan token …` (A11).

use std::path::Path;

use bartizan_identity::{TokenError, TokenInfo, Tokens};
use serde_json::{Value, json};

use crate::cli::TokenCommand;
use crate::installation::{Places, clock, read};
use crate::output::{Done, Failure, OK, Out, table};
use crate::time::rfc3339;

pub(crate) async fn run(command: &TokenCommand, out: Out) -> Done {
    match command {
        TokenCommand::Create { config, name, ttl } => {
            let tokens = open(&config.config).await?;
            let (client_id, secret) = tokens.create(name, *ttl).await.map_err(failure)?;
            let value = json!({"name": name, "client_id": client_id, "client_secret": secret.expose(), "bearer": secret.expose()});
            out.note("keep the secret: it is not shown again");
            out.either(&value, || {
                format!("name       {name}\nclient id  {client_id}\nsecret     {}\n", secret.expose())
            });
        }
        TokenCommand::Rotate { config, token, grace } => {
            let tokens = open(&config.config).await?;
            let secret = tokens.rotate(token, *grace).await.map_err(failure)?;
            let value = json!({"token": token, "client_secret": secret.expose(), "bearer": secret.expose(),
                "grace_s": grace.as_secs()});
            out.note(&format!("the former secret stays good for {} s", grace.as_secs()));
            out.either(&value, || format!("secret  {}\n", secret.expose()));
        }
        TokenCommand::Suspend { config, token } => {
            let changed = open(&config.config).await?.suspend(token).await.map_err(failure)?;
            done(out, token, "suspended", changed);
        }
        TokenCommand::Resume { config, token } => {
            let changed = open(&config.config).await?.resume(token).await.map_err(failure)?;
            done(out, token, "resumed", changed);
        }
        TokenCommand::Delete { config, token } => {
            open(&config.config).await?.delete(token).await.map_err(failure)?;
            done(out, token, "deleted", true);
        }
        TokenCommand::List { config } => {
            let all = open(&config.config).await?.list().await.map_err(failure)?;
            let values: Vec<Value> = all.iter().map(value).collect();
            out.either(&json!({"tokens": values}), || text(&all));
        }
    }
    Ok(OK)
}

async fn open(config: &Path) -> Result<Tokens, Failure> {
    let store = Places::of(&read(config, &[])?)?.open().await?;
    Ok(Tokens::new(store, clock()))
}

fn failure(error: TokenError) -> Failure {
    let text = error.to_string();
    match error {
        TokenError::Missing(_) => Failure::refused("unknown_token", text),
        TokenError::Taken(_) => Failure::refused("token_taken", text),
        TokenError::Name(..) => Failure::refused("token_name", text),
        _ => Failure::cannot_run("bad_store", text),
    }
}

fn done(out: Out, token: &str, what: &str, changed: bool) {
    out.either(&json!({"token": token, "state": what, "changed": changed}), || {
        if changed { format!("{token} is {what}\n") } else { format!("{token} was already {what}\n") }
    });
}

fn value(token: &TokenInfo) -> Value {
    let time = |ms: Option<i64>| ms.map(rfc3339);
    json!({
        "name": token.name, "client_id": token.client_id, "created": rfc3339(token.created_ms),
        "expires": time(token.expires_ms), "suspended": time(token.suspended_ms),
        "last_used": time(token.last_used_ms), "previous_until": time(token.previous_until_ms),
    })
}

fn text(tokens: &[TokenInfo]) -> String {
    let time = |ms: Option<i64>, none: &str| ms.map_or_else(|| none.to_owned(), rfc3339);
    let now = clock().now_ms();
    let rows: Vec<Vec<String>> = tokens
        .iter()
        .map(|token| {
            let state = match (token.suspended_ms, token.expires_ms) {
                (Some(_), _) => "suspended",
                (None, Some(end)) if end <= now => "expired",
                _ => "good",
            };
            vec![
                token.name.clone(),
                token.client_id.clone(),
                state.to_owned(),
                time(token.last_used_ms, "never"),
                time(token.expires_ms, "never"),
            ]
        })
        .collect();
    table(&["name", "client id", "state", "last used", "expires"], &rows)
}
