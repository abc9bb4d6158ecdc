//! The service over a database in memory, asked as a directory asks.

mod attacks;
mod changes;
mod questions;

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use bartizan_identity::IdentityEvent;
use bartizan_model::{ManualClock, Secret};
use bartizan_store::{Store, StoreUrl};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::ScimDeps;

const TOKEN: &str = "directory-token-with-enough-characters";
const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
const GROUP: &str = "urn:ietf:params:scim:schemas:core:2.0:Group";
const PATCH: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";

struct Bench {
    router: Router,
    store: Store,
    events: Arc<Mutex<Vec<IdentityEvent>>>,
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Bench {
    async fn new() -> Self {
        let clock = Arc::new(ManualClock::at(1_700_000_000_000));
        let store = Store::open(&StoreUrl::Memory, clock.clone()).await.unwrap();
        let events = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&events);
        let router = crate::router(ScimDeps {
            store: store.clone(),
            clock,
            public_url: "https://mcp.corp.example".to_owned(),
            tokens: Arc::new(vec![
                Secret::new("the-former-token-of-the-directory!".to_owned()),
                Secret::new(TOKEN.to_owned()),
            ]),
            record: Arc::new(move |event| kept.lock().unwrap().push(event)),
        });
        Self { router, store, events }
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.into()).unwrap();
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn ask(&self, method: &str, path: &str, body: Value) -> Answer {
        self.ask_if(method, path, &[], body).await
    }

    async fn ask_if(&self, method: &str, path: &str, extra: &[(&str, &str)], body: Value) -> Answer {
        let bearer = format!("Bearer {TOKEN}");
        let mut headers = vec![("authorization", bearer.as_str()), ("content-type", "application/scim+json")];
        headers.extend_from_slice(extra);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.send(method, path, &headers, body).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, Value::Null).await
    }

    /// Answer to a filter, as user names or group names.
    async fn fitting(&self, endpoint: &str, filter: &str) -> Vec<String> {
        let query: String = url::form_urlencoded::byte_serialize(filter.as_bytes()).collect();
        let answer = self.get(&format!("/{endpoint}?filter={query}")).await;
        assert_eq!(answer.status, 200, "{filter}: {answer:?}");
        let all = answer.body["Resources"].as_array().unwrap();
        assert_eq!(answer.body["totalResults"], all.len());
        let name = |one: &Value| one["userName"].as_str().or_else(|| one["displayName"].as_str()).unwrap().to_owned();
        let mut names: Vec<String> = all.iter().map(name).collect();
        names.sort();
        names
    }

    async fn user(&self, name: &str) -> String {
        let made = self.ask("POST", "/Users", json!({"schemas": [USER], "userName": name})).await;
        assert_eq!(made.status, 201, "{made:?}");
        made.body["id"].as_str().unwrap().to_owned()
    }

    async fn patch(&self, id: &str, operations: Value) -> Answer {
        self.ask("PATCH", &format!("/Users/{id}"), json!({"schemas": [PATCH], "Operations": operations})).await
    }
}

fn problem(answer: &Answer) -> (u16, &str) {
    (answer.status.as_u16(), answer.body["scimType"].as_str().unwrap_or_default())
}
