//! `bartizan token …` (A11).

use std::path::Path;

use bartizan_audit::Audit;
use bartizan_config::settings::AuditMode;
use bartizan_identity::{TokenError, TokenInfo, Tokens};
use bartizan_model::event::{AuditEvent, EventKind, Who};
use bartizan_model::{EventId, PrincipalKind};
use serde_json::{Value, json};

use crate::cli::TokenCommand;
use crate::installation::{Places, clock, make_private_folder, read_without_secrets};
use crate::output::{Done, Failure, OK, Out, table};
use crate::time::rfc3339;

pub(crate) async fn run(command: &TokenCommand, out: Out) -> Done {
    match command {
        TokenCommand::Create { config, name, ttl } => {
            let desk = Desk::open(&config.config).await?;
            let (client_id, secret) = desk.tokens.create(name, *ttl).await.map_err(failure)?;
            desk.record("token/create", name).await?;
            let value = json!({"name": name, "client_id": client_id, "client_secret": secret.expose(),
                "bearer": secret.expose()});
            out.note("keep the secret: it is not shown again");
            out.either(&value, || {
                format!("name       {name}\nclient id  {client_id}\nsecret     {}\n", secret.expose())
            });
        }
        TokenCommand::Rotate { config, token, grace } => {
            let desk = Desk::open(&config.config).await?;
            let secret = desk.tokens.rotate(token, *grace).await.map_err(failure)?;
            desk.record("token/rotate", token).await?;
            let value = json!({"token": token, "client_secret": secret.expose(), "bearer": secret.expose(),
                "grace_s": grace.as_secs()});
            out.note(&format!("the former secret stays good for {} s", grace.as_secs()));
            out.either(&value, || format!("secret  {}\n", secret.expose()));
        }
        TokenCommand::Suspend { config, token } => {
            let desk = Desk::open(&config.config).await?;
            let changed = desk.tokens.suspend(token).await.map_err(failure)?;
            desk.record("token/suspend", token).await?;
            done(out, token, "suspended", changed);
        }
        TokenCommand::Resume { config, token } => {
            let desk = Desk::open(&config.config).await?;
            let changed = desk.tokens.resume(token).await.map_err(failure)?;
            desk.record("token/resume", token).await?;
            done(out, token, "resumed", changed);
        }
        TokenCommand::Delete { config, token } => {
            let desk = Desk::open(&config.config).await?;
            desk.tokens.delete(token).await.map_err(failure)?;
            desk.record("token/delete", token).await?;
            done(out, token, "deleted", true);
        }
        TokenCommand::List { config } => {
            let store = Places::of(&read_without_secrets(&config.config)?)?.open().await?;
            let all = Tokens::new(store, clock()).list().await.map_err(failure)?;
            let values: Vec<Value> = all.iter().map(value).collect();
            out.either(&json!({"tokens": values}), || text(&all));
        }
    }
    Ok(OK)
}

/// Where tokens are changed: nothing is changed unless it can be put on record.
struct Desk {
    tokens: Tokens,
    audit: Audit,
}

impl Desk {
    async fn open(config: &Path) -> Result<Self, Failure> {
        let places = Places::of(&read_without_secrets(config)?)?;
        make_private_folder(&places.data_dir)?;
        let store = places.open().await?;
        let audit = Audit::open(&places.audit(), AuditMode::Strict, Some(store.clone()), clock())
            .map_err(|error| Failure::cannot_run("audit_unavailable", error.to_string()))?;
        Ok(Self { tokens: Tokens::new(store, clock()), audit })
    }

    async fn record(&self, method: &str, token: &str) -> Result<(), Failure> {
        let now = clock().now_ms();
        // The operating system let this user at the data; bartizan knows no more of them.
        let uid = rustix::process::getuid().as_raw();
        let who = Who { principal: "service:bartizan-cli".to_owned(), ..Who::default() };
        let mut event = AuditEvent::new(EventId::new(now), now, EventKind::Token, PrincipalKind::Service, who, method);
        event.target = Some(token.to_owned());
        event.note = Some(format!("by operating system user {uid}"));
        let kept = self.audit.append_durable(event).await;
        self.audit.close().await;
        kept.map(drop).map_err(|error| {
            Failure::cannot_run("audit_unavailable", format!("{method} was done and is not on record: {error}"))
        })
    }
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
