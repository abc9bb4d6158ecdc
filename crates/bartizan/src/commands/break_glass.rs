//! `bartizan break-glass …` (A31). Only here the account is made and removed: whoever can run
//! this has the key and the database already.

use std::path::Path;

use bartizan_audit::Audit;
use bartizan_config::settings::AuditMode;
use bartizan_identity::{BREAK_GLASS_PROVIDER, BreakGlass, BreakGlassError};
use bartizan_model::event::{AuditEvent, EventKind, Who};
use bartizan_model::{EventId, PrincipalKind};
use bartizan_store::Store;
use bartizan_store::repo::person;
use bartizan_vault::{KeyRing, Vault};
use serde_json::json;

use crate::cli::BreakGlassCommand;
use crate::installation::{Places, clock, make_private_folder, read_without_secrets, store_failure};
use crate::output::{Done, Failure, OK, Out};
use crate::time::rfc3339;

pub(crate) async fn run(command: &BreakGlassCommand, out: Out) -> Done {
    match command {
        BreakGlassCommand::Create { config, email } => {
            let desk = Desk::open(&config.config).await?;
            if person::by_email(&desk.store, &email.to_lowercase()).await.map_err(store_failure)?.is_some() {
                let text = format!("somebody signs in as {email} already; the account needs an address of its own");
                return Err(Failure::refused("address_taken", text));
            }
            let made = desk.account.create(email).await.map_err(failure)?;
            desk.record("break-glass/create", email).await?;
            out.note("keep both where nobody finds them by chance: they are not shown again");
            let (password, factor) = (made.password.expose(), made.second_factor.expose());
            let value = json!({"email": email, "password": password, "second_factor": factor});
            out.either(&value, || format!("password       {password}\nsecond factor  {factor}\n"));
            if !desk.is_on {
                out.note("it cannot sign in until `sign_in.break_glass: true` is set and the process is restarted");
            }
        }
        BreakGlassCommand::Show { config } => {
            let desk = Desk::open(&config.config).await?;
            let standing = desk.account.standing().await.map_err(failure)?;
            let value = standing.as_ref().map(|it| {
                json!({"email": it.email, "created": rfc3339(it.created_ms), "last_used": it.used_ms.map(rfc3339)})
            });
            out.either(&json!({"account": value, "enabled": desk.is_on}), || match &standing {
                None => "there is no break-glass account\n".to_owned(),
                Some(it) => format!(
                    "email      {}\ncreated    {}\nlast used  {}\nsign-in    {}\n",
                    it.email,
                    rfc3339(it.created_ms),
                    it.used_ms.map_or_else(|| "never".to_owned(), rfc3339),
                    if desk.is_on { "on" } else { "off" }
                ),
            });
        }
        BreakGlassCommand::Remove { config } => {
            let desk = Desk::open(&config.config).await?;
            let standing = desk.account.standing().await.map_err(failure)?;
            desk.account.remove().await.map_err(failure)?;
            let email = standing.map_or_else(String::new, |it| it.email);
            // What it signed in ends with it.
            if let Some(person) = person::by_email(&desk.store, &email).await.map_err(store_failure)?
                && person.issuer == BREAK_GLASS_PROVIDER
            {
                person::delete(&desk.store, &person.id).await.map_err(store_failure)?;
            }
            desk.record("break-glass/remove", &email).await?;
            out.either(&json!({"email": email, "state": "removed"}), || {
                "the break-glass account is removed\n".to_owned()
            });
        }
    }
    Ok(OK)
}

/// Nothing is changed unless it can be put on record.
struct Desk {
    account: BreakGlass,
    store: Store,
    audit: Audit,
    is_on: bool,
}

impl Desk {
    async fn open(config: &Path) -> Result<Self, Failure> {
        let loaded = read_without_secrets(config)?;
        let places = Places::of(&loaded)?;
        make_private_folder(&places.data_dir)?;
        let store = places.open().await?;
        let bad_key = |text: String| Failure::cannot_run("bad_key", text);
        let source = loaded.file.key.as_ref().ok_or_else(|| bad_key("`key` is not set".to_owned()))?;
        let ring = KeyRing::from_source(source).map_err(|error| bad_key(error.to_string()))?;
        let vault = Vault::new(ring).map_err(|error| bad_key(error.to_string()))?;
        let audit = Audit::open(&places.audit(), AuditMode::Strict, Some(store.clone()), clock())
            .map_err(|error| Failure::cannot_run("audit_unavailable", error.to_string()))?;
        let account = BreakGlass::new(vault, store.clone(), clock());
        Ok(Self { account, store, audit, is_on: loaded.file.sign_in.break_glass })
    }

    async fn record(&self, method: &str, email: &str) -> Result<(), Failure> {
        let now = clock().now_ms();
        let uid = rustix::process::getuid().as_raw();
        let who = Who { principal: "service:bartizan-cli".to_owned(), ..Who::default() };
        let mut event = AuditEvent::new(EventId::new(now), now, EventKind::Admin, PrincipalKind::Service, who, method);
        event.target = Some(email.to_owned());
        event.note = Some(format!("by operating system user {uid}"));
        let kept = self.audit.append_durable(event).await;
        self.audit.close().await;
        kept.map(drop).map_err(|error| {
            Failure::cannot_run("audit_unavailable", format!("{method} was done and is not on record: {error}"))
        })
    }
}

fn failure(error: BreakGlassError) -> Failure {
    let text = error.to_string();
    match error {
        BreakGlassError::Exists => Failure::refused("break_glass_exists", text),
        BreakGlassError::Missing => Failure::refused("no_break_glass", text),
        BreakGlassError::Address(_) => Failure::refused("bad_address", text),
        BreakGlassError::Wrong => Failure::refused("wrong_password_or_code", text),
        BreakGlassError::Busy | BreakGlassError::Unavailable(_) => Failure::cannot_run("bad_store", text),
    }
}
