//! `bartizan user …`: who signed in, and cutting somebody off (A14, A25).

use std::path::Path;

use bartizan_audit::Audit;
use bartizan_config::settings::AuditMode;
use bartizan_model::event::{AuditEvent, EventKind, Who};
use bartizan_model::{EventId, PrincipalKind, fold_user_id};
use bartizan_store::Store;
use bartizan_store::repo::person::{self, Person};
use bartizan_store::repo::{oauth_grant, upstream_account};
use serde_json::{Value, json};

use crate::cli::UserCommand;
use crate::installation::{Places, clock, make_private_folder, read_without_secrets, store_failure};
use crate::output::{Done, Failure, OK, Out, table};
use crate::time::rfc3339;

/// People read at once.
const BATCH: u32 = 500;

pub(crate) async fn run(command: &UserCommand, out: Out) -> Done {
    match command {
        UserCommand::List { config } => list(&config.config, out).await,
        UserCommand::Show { config, email } => show(&config.config, email, out).await,
        UserCommand::Deactivate { config, email } => {
            let desk = Desk::open(&config.config, email).await?;
            let changed = person::deactivate(&desk.store, &desk.person.id).await.map_err(store_failure)?;
            desk.done(out, "user/deactivate", "deactivated", changed).await
        }
        UserCommand::Reactivate { config, email } => {
            let desk = Desk::open(&config.config, email).await?;
            let changed = person::reactivate(&desk.store, &desk.person.id).await.map_err(store_failure)?;
            desk.done(out, "user/reactivate", "active", changed).await
        }
        UserCommand::Delete { config, email } => {
            let desk = Desk::open(&config.config, email).await?;
            let changed = person::delete(&desk.store, &desk.person.id).await.map_err(store_failure)?;
            desk.done(out, "user/delete", "deleted", changed).await
        }
        UserCommand::Revoke { config, email } => {
            let desk = Desk::open(&config.config, email).await?;
            let why = "revoked by an administrator";
            let grants =
                oauth_grant::revoke_of_person(&desk.store, &desk.person.id, why).await.map_err(store_failure)?;
            desk.record("user/revoke").await?;
            let email = &desk.person.email;
            out.either(&json!({"user": email, "state": "revoked", "grants": grants}), || {
                format!("{email} is signed out everywhere; clients that were let in: {grants}\n")
            });
            Ok(OK)
        }
    }
}

/// Where people are changed: nothing is changed unless it can be put on record.
struct Desk {
    store: Store,
    audit: Audit,
    person: Person,
}

pub(super) async fn store_of(config: &Path) -> Result<(Store, Places), Failure> {
    let places = Places::of(&read_without_secrets(config)?)?;
    make_private_folder(&places.data_dir)?;
    Ok((places.open().await?, places))
}

async fn find(store: &Store, email: &str) -> Result<Person, Failure> {
    let found = person::by_email(store, &fold_user_id(email)).await.map_err(store_failure)?;
    found.ok_or_else(|| Failure::refused("unknown_user", "nobody with this address has signed in here"))
}

impl Desk {
    async fn open(config: &Path, email: &str) -> Result<Self, Failure> {
        let (store, places) = store_of(config).await?;
        let person = find(&store, email).await?;
        let audit = Audit::open(&places.audit(), AuditMode::Strict, Some(store.clone()), clock())
            .map_err(|error| Failure::cannot_run("audit_unavailable", error.to_string()))?;
        Ok(Self { store, audit, person })
    }

    async fn record(&self, method: &str) -> Result<(), Failure> {
        let now = clock().now_ms();
        // The operating system let this user at the data; bartizan knows no more of them.
        let uid = rustix::process::getuid().as_raw();
        let who = Who { principal: "service:bartizan-cli".to_owned(), ..Who::default() };
        let mut event = AuditEvent::new(EventId::new(now), now, EventKind::Admin, PrincipalKind::Service, who, method);
        event.target = Some(self.person.email.clone());
        event.note = Some(format!("by operating system user {uid}"));
        let kept = self.audit.append_durable(event).await;
        self.audit.close().await;
        kept.map(drop).map_err(|error| {
            Failure::cannot_run("audit_unavailable", format!("{method} was done and is not on record: {error}"))
        })
    }

    async fn done(&self, out: Out, method: &str, state: &str, changed: bool) -> Done {
        self.record(method).await?;
        let email = &self.person.email;
        out.either(&json!({"user": email, "state": state, "changed": changed}), || {
            if changed { format!("{email} is {state}\n") } else { format!("{email} was already {state}\n") }
        });
        Ok(OK)
    }
}

fn groups(person: &Person) -> Vec<String> {
    serde_json::from_str(&person.groups_json).unwrap_or_default()
}

fn value(person: &Person) -> Value {
    json!({
        "user": person.email, "name": person.name, "provider": person.provider, "groups": groups(person),
        "created": rfc3339(person.created_ms), "signed_in": rfc3339(person.signed_in_ms),
        "deactivated": person.deactivated_ms.map(rfc3339),
    })
}

fn state(person: &Person) -> String {
    person.deactivated_ms.map_or_else(|| "active".to_owned(), |at| format!("deactivated {}", rfc3339(at)))
}

async fn list(config: &Path, out: Out) -> Done {
    let (store, _) = store_of(config).await?;
    let mut all: Vec<Person> = Vec::new();
    loop {
        let last = all.last().map_or("", |person| person.email.as_str());
        let more = person::after(&store, last, BATCH).await.map_err(store_failure)?;
        if more.is_empty() {
            break;
        }
        all.extend(more);
    }
    let values: Vec<Value> = all.iter().map(value).collect();
    out.either(&json!({"users": values}), || {
        let row = |person: &Person| {
            let (email, provider) = (person.email.clone(), person.provider.clone());
            vec![email, provider, state(person), rfc3339(person.signed_in_ms)]
        };
        table(&["user", "provider", "state", "signed in"], &all.iter().map(row).collect::<Vec<_>>())
    });
    Ok(OK)
}

async fn show(config: &Path, email: &str, out: Out) -> Done {
    let (store, _) = store_of(config).await?;
    let person = find(&store, email).await?;
    let grants = oauth_grant::of_person(&store, &person.id).await.map_err(store_failure)?;
    let owner = format!("user:{}", person.email);
    let accounts = upstream_account::list(&store, &owner).await.map_err(store_failure)?;
    let servers: Vec<&str> = accounts.iter().map(|account| account.server.as_str()).collect();
    let mut shown = value(&person);
    if let Some(shown) = shown.as_object_mut() {
        let grant = |grant: &oauth_grant::Grant| json!({"grant": grant.id, "client": grant.client_id, "used": rfc3339(grant.used_ms)});
        shown.insert("grants".to_owned(), grants.iter().map(grant).collect());
        shown.insert("accounts".to_owned(), servers.clone().into());
    }
    out.either(&shown, || {
        // Names are what a provider says; a terminal must not take orders from them.
        let name: String = person.name.chars().filter(|c| !c.is_control()).collect();
        format!(
            "user       {}\nname       {name}\nprovider   {}\nstate      {}\ngroups     {}\nsigned in  {}\n\
             clients    {}\naccounts   {}\n",
            person.email,
            person.provider,
            state(&person),
            groups(&person).join(", "),
            rfc3339(person.signed_in_ms),
            grants.len(),
            servers.join(", ")
        )
    });
    Ok(OK)
}
