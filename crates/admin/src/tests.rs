//! The API over a real store, with every role.

mod areas;
mod http_form;
mod objects;
mod roles;
mod sets;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use bartizan_catalog::CompileOptions;
use bartizan_config::resources::Resources;
use bartizan_config::settings::File;
use bartizan_model::event::{AuditEvent, EventKind, Who};
use bartizan_model::{EventId, ManualClock, Principal, PrincipalKind, Role, RoleSet};
use bartizan_store::{Store, StoreUrl};
use bartizan_vault::{KeyRing, Vault};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use serde_json::{Value, json};

use crate::{
    About, Api, AreaAsk, AreaDone, AreaError, Areas, Base, Browser, Engine, Identified, NotIdentified, OnRecord,
    Operation, PATH, Reader,
};

pub(crate) const NOW: i64 = 1_700_000_000_000;

/// An installation of one process.
pub(crate) struct Desk {
    pub(crate) api: Api,
    pub(crate) engine: Engine,
    pub(crate) events: Arc<Mutex<Vec<AuditEvent>>>,
    /// The record takes nothing while this is true.
    pub(crate) deaf: Arc<Mutex<bool>>,
    pub(crate) store: Store,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn etag(&self) -> &str {
        self.headers["etag"].to_str().unwrap()
    }

    pub(crate) fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }
}

pub(crate) async fn desk() -> Desk {
    desk_over(Resources::default()).await
}

pub(crate) async fn desk_over(files: Resources) -> Desk {
    let clock = Arc::new(ManualClock::at(NOW));
    let store = Store::open(&StoreUrl::Memory, clock.clone()).await.unwrap();
    let vault = Vault::new(KeyRing::from_keys([7; 32], []).unwrap()).unwrap();
    let events: Arc<Mutex<Vec<AuditEvent>>> = Arc::default();
    let deaf = Arc::new(Mutex::new(false));
    let (kept, silent) = (Arc::clone(&events), Arc::clone(&deaf));
    let base = Arc::new(Base::new(File::default(), files, CompileOptions { dev: true, hosting: true }));
    let engine = Engine::new(
        Reader::new(store.clone(), vault),
        Arc::new(move || Arc::clone(&base)),
        clock,
        Arc::new(move |event| {
            let (kept, deaf) = (Arc::clone(&kept), *silent.lock().unwrap());
            Box::pin(async move {
                if deaf {
                    return Err("deaf".to_owned());
                }
                kept.lock().unwrap().push(event);
                Ok(())
            })
        }),
    );
    let identify = Arc::new(|headers: HeaderMap| -> std::pin::Pin<Box<dyn Future<Output = _> + Send>> {
        Box::pin(async move {
            let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            let name = text("x-user").ok_or(NotIdentified::Unauthenticated)?;
            let principal = Arc::new(Principal::new(PrincipalKind::User, name, []));
            let browser = text("cookie").map(|_| Browser {
                same_origin: text("origin").as_deref() == Some("https://mcp.example.com"),
                has_token: text("x-csrf-token").as_deref() == Some("t"),
                token: "t".to_owned(),
            });
            let may_administer = text("x-scope").is_none_or(|scope| scope.contains(crate::SCOPE));
            Ok(Identified { principal, may_administer, browser })
        })
    });
    let roles = Arc::new(|principal: &Principal| {
        let named = Role::ALL.into_iter().find(|role| role.as_str() == &*principal.id);
        named.map_or(RoleSet::NONE, |role| RoleSet::NONE.with(role))
    });
    let api = Api::new(engine.clone(), identify, roles, areas(&events), "https://mcp.example.com/");
    Desk { api, engine, events, deaf, store }
}

/// Says what it was asked. What other crates put on record by themselves it does too.
fn areas(events: &Arc<Mutex<Vec<AuditEvent>>>) -> Areas {
    let events = Arc::clone(events);
    Arc::new(move |ask: AreaAsk| {
        let events = Arc::clone(&events);
        Box::pin(async move {
            if ask.id == "nothing" {
                return Err(AreaError::NotFound);
            }
            let body = json!({"id": ask.id, "body": ask.body, "query": ask.query, "by": ask.principal.key()});
            let record = matches!(ask.operation, Operation::SetKill | Operation::LiftKill).then(|| OnRecord {
                method: "kill/set",
                target: "everything".to_owned(),
                note: "why".to_owned(),
            });
            if record.is_none() && ask.operation.is_mutation() {
                let kind = ask.principal.kind;
                let event = AuditEvent::new(EventId::new(NOW), NOW, EventKind::Admin, kind, ask.who, "area");
                events.lock().unwrap().push(event);
            }
            Ok(AreaDone { body, record })
        })
    })
}

impl Desk {
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        self.send_raw(method, path, headers, body).await
    }

    pub(crate) async fn send_raw(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Bytes) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("{PATH}{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = self.api.answer(request.body(body).unwrap(), IpAddr::V4(Ipv4Addr::LOCALHOST)).await;
        let (parts, body) = Response::into_parts(answer);
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// As an owner.
    pub(crate) async fn own(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&Value>) -> Answer {
        let all = [&[("x-user", "owner")], headers].concat();
        self.send(method, path, &all, body).await
    }

    pub(crate) fn event_count(&self) -> usize {
        self.events.lock().unwrap().len()
    }
}

pub(crate) fn about() -> About {
    let who = Who { principal: "service:cli".to_owned(), ..Who::default() };
    About {
        kind: PrincipalKind::Service,
        who,
        source: "apply",
        reason: None,
        git_revision: Some("abc".to_owned()),
        operator: true,
        owner: false,
    }
}

pub(crate) fn server(id: &str) -> Value {
    json!({"server_id": id, "hostname": format!("https://{id}.example/mcp"),
        "policies": [{"action": "allow", "include": [{"everyone": true}]}]})
}
