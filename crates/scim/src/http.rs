//! The HTTP side: who may ask, what is asked, and the form of answers.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bartizan_identity::{Action, IdentityEvent};
use bartizan_store::repo::scim::group::Group;
use bartizan_store::repo::scim::user::User;
use bytes::Bytes;
use http::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH, LOCATION, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use url::form_urlencoded;

use crate::ScimDeps;
use crate::error::ScimError;
use crate::limit::Failures;
use crate::query::{Asked, Found, answer};
use crate::schema::{GROUP, ResourceKind, USER};
use bartizan_model::clock::rfc3339;

use crate::describe;

/// Largest body, bytes.
const MAX_BODY: usize = 64 * 1024;
/// Longest query, bytes.
const MAX_QUERY: usize = 8 * 1024;
/// Requests worked on at once; a directory that sends more waits.
const AT_ONCE: usize = 8;
/// How long it waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// Address of the peer, after trusted proxies; to be put into the extensions of each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

pub(crate) struct Scim {
    pub(crate) deps: ScimDeps,
    /// Where the resources are.
    pub(crate) base: String,
    /// SHA-256 of the good tokens.
    tokens: Vec<[u8; 32]>,
    failures: Failures,
    turns: Semaphore,
}

/// The endpoints, to be served below `/scim/v2` of the public URL. Requests must have passed
/// the check of their `Host`; each should carry its [`ClientAddress`] as an extension.
pub fn router(deps: ScimDeps) -> Router {
    let base = format!("{}/scim/v2", deps.public_url);
    let tokens = deps.tokens.iter().map(|token| hash(token.expose())).collect();
    let scim = Scim { deps, base, tokens, failures: Failures::default(), turns: Semaphore::new(AT_ONCE) };
    Router::new().fallback(handle).with_state(Arc::new(scim))
}

fn hash(text: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.iter_mut().zip(digest(&SHA256, text.as_bytes()).as_ref()).for_each(|(to, from)| *to = *from);
    hash
}

async fn handle(State(scim): State<Arc<Scim>>, request: Request) -> Response {
    let from = request.extensions().get::<ClientAddress>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |from| from.0);
    // Before anything else is looked at: a stranger learns nothing, not even what exists.
    if !scim.knows(request.headers()) {
        return scim.stranger(from);
    }
    let Ok(Ok(_turn)) = tokio::time::timeout(PATIENCE, scim.turns.acquire()).await else {
        return ScimError::busy().response();
    };
    Box::pin(scim.answer(request)).await.unwrap_or_else(|error| error.response())
}

/// What a change depends on (RFC 7644, section 3.14).
#[derive(Clone, Debug, Default)]
pub(crate) struct Conditions {
    /// Tags one of which the resource must have.
    tags: Option<Vec<String>>,
}

impl Conditions {
    fn of(headers: &HeaderMap) -> Self {
        Self { tags: tags(headers, &IF_MATCH) }
    }

    /// Whether a change of a resource with this tag may be made.
    pub(crate) fn check(&self, tag: &str) -> Result<(), ScimError> {
        match &self.tags {
            Some(tags) if !tags.iter().any(|wanted| wanted == "*" || opaque(wanted) == opaque(tag)) => {
                Err(ScimError::stale())
            }
            _ => Ok(()),
        }
    }
}

fn tags(headers: &HeaderMap, name: &http::HeaderName) -> Option<Vec<String>> {
    let values: Vec<&HeaderValue> = headers.get_all(name).iter().collect();
    if values.is_empty() {
        return None;
    }
    // A condition that cannot be read is not fulfilled.
    let texts = values.into_iter().map(|value| value.to_str().unwrap_or_default());
    Some(texts.flat_map(|text| text.split(',')).map(|tag| tag.trim().to_owned()).collect())
}

/// A tag without the mark of weakness.
fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

/// The entity tag of a version.
pub(crate) fn tag(version: i64) -> String {
    format!("W/\"{version}\"")
}

/// 128 random bits as text.
pub(crate) fn new_id() -> Result<String, ScimError> {
    let mut bytes = [0u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| ScimError::busy())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A resource in its full form. `times`: made, changed; milliseconds since the epoch.
pub(crate) fn full(
    base: &str,
    kind: &ResourceKind,
    id: &str,
    version: i64,
    times: (i64, i64),
    content: Map<String, Value>,
) -> Map<String, Value> {
    let extensions = kind.extensions.iter().map(|schema| schema.urn).filter(|urn| content.contains_key(*urn));
    let schemas: Vec<&str> = std::iter::once(kind.schema.urn).chain(extensions).collect();
    let mut all = Map::new();
    all.insert("schemas".to_owned(), schemas.into());
    all.insert("id".to_owned(), id.into());
    all.extend(content);
    let meta = json!({
        "resourceType": kind.name,
        "created": rfc3339(times.0),
        "lastModified": rfc3339(times.1),
        "location": format!("{base}/{}/{id}", kind.endpoint),
        "version": tag(version),
    });
    all.insert("meta".to_owned(), meta);
    all
}

/// An answer with a body; never cached.
pub(crate) fn json(status: StatusCode, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/scim+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A request, taken apart.
struct Asking {
    method: Method,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    body: Body,
}

impl Scim {
    /// Every token is compared, each in constant time.
    fn knows(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return false };
        let Some((scheme, token)) = value.to_str().ok().and_then(|text| text.split_once(' ')) else { return false };
        if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
            return false;
        }
        let hash = hash(token);
        self.tokens.iter().fold(false, |good, known| good | verify_slices_are_equal(&hash, known).is_ok())
    }

    fn stranger(&self, from: IpAddr) -> Response {
        if self.failures.too_many(from) {
            let error = ScimError::new(StatusCode::TOO_MANY_REQUESTS, None, "too many failures, wait a minute");
            let mut response = error.response();
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("60"));
            return response;
        }
        if self.failures.note(from) {
            tracing::warn!(%from, "a provisioning request without a good token");
        }
        let mut response = ScimError::new(StatusCode::UNAUTHORIZED, None, "a good bearer token is needed").response();
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"scim\""));
        response
    }

    async fn answer(&self, request: Request) -> Result<Response, ScimError> {
        let (parts, body) = request.into_parts();
        let query = parts.uri.query().unwrap_or_default();
        if query.len() > MAX_QUERY {
            return Err(ScimError::value("the query is too long"));
        }
        let query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let asking = Asking { method: parts.method, query, headers: parts.headers, body };
        let path = parts.uri.path().trim_matches('/').replace("%3A", ":").replace("%3a", ":");
        let names: Vec<&str> = path.split('/').collect();
        match names.as_slice() {
            ["ServiceProviderConfig"] => described(&asking, || Some(describe::service(&self.base))),
            ["ResourceTypes"] => self.described_list(&asking, || {
                describe::KINDS.iter().map(|kind| describe::kind(&self.base, kind)).collect()
            }),
            ["ResourceTypes", id] => described(&asking, || {
                let found = describe::KINDS.iter().find(|kind| kind.name.eq_ignore_ascii_case(id));
                found.map(|kind| describe::kind(&self.base, kind))
            }),
            ["Schemas"] => self.described_list(&asking, || {
                describe::SCHEMAS.iter().map(|schema| describe::schema(&self.base, schema)).collect()
            }),
            ["Schemas", id] => described(&asking, || {
                let found = describe::SCHEMAS.iter().find(|schema| schema.urn.eq_ignore_ascii_case(id));
                found.map(|schema| describe::schema(&self.base, schema))
            }),
            ["Users"] => self.collection(&USER, asking).await,
            ["Groups"] => self.collection(&GROUP, asking).await,
            ["Users", ".search"] => self.search(&USER, asking).await,
            ["Groups", ".search"] => self.search(&GROUP, asking).await,
            [".search"] => self.search_all(asking).await,
            ["Users", id] => self.resource(&USER, id, asking).await,
            ["Groups", id] => self.resource(&GROUP, id, asking).await,
            ["Me" | "Bulk", ..] => {
                Err(ScimError::new(StatusCode::NOT_IMPLEMENTED, None, "this service does not offer that"))
            }
            _ => Err(ScimError::not_found()),
        }
    }

    fn described_list(&self, asking: &Asking, all: impl Fn() -> Vec<Value>) -> Result<Response, ScimError> {
        // RFC 7644, section 4.
        if asking.query.iter().any(|(name, _)| name == "filter") {
            return Err(ScimError::new(StatusCode::FORBIDDEN, None, "descriptions are not filtered"));
        }
        described(asking, || {
            let all = all();
            Some(json!({
                "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
                "totalResults": all.len(), "startIndex": 1, "itemsPerPage": all.len(), "Resources": all,
            }))
        })
    }

    async fn collection(&self, kind: &'static ResourceKind, asking: Asking) -> Result<Response, ScimError> {
        let asked = Asked::from_url(&asking.query)?;
        match asking.method {
            Method::GET => self.found(kind, &asked).await,
            Method::POST => {
                let selection = asked.selection(kind)?;
                let body = asking.object().await?;
                let made = if kind.name == USER.name {
                    self.create_user(body).await?
                } else {
                    self.create_group(body).await?
                };
                Ok(one(StatusCode::CREATED, &made, Value::Object(selection.apply(made.clone()))))
            }
            _ => Ok(wrong_method("GET, POST")),
        }
    }

    async fn found(&self, kind: &'static ResourceKind, asked: &Asked) -> Result<Response, ScimError> {
        let query = asked.about(kind)?;
        let found =
            if kind.name == USER.name { self.find::<User>(&query).await? } else { self.find::<Group>(&query).await? };
        Ok(json(StatusCode::OK, &answer(found, query.skip)))
    }

    async fn search(&self, kind: &'static ResourceKind, asking: Asking) -> Result<Response, ScimError> {
        if asking.method != Method::POST {
            return Ok(wrong_method("POST"));
        }
        let asked = Asked::from_body(&asking.object().await?)?;
        self.found(kind, &asked).await
    }

    /// A search for users and groups: the users, then the groups. What only one of them has
    /// can be asked about, and the other has none of it.
    async fn search_all(&self, asking: Asking) -> Result<Response, ScimError> {
        if asking.method != Method::POST {
            return Ok(wrong_method("POST"));
        }
        let asked = Asked::from_body(&asking.object().await?)?;
        let mut all = Found::default();
        let (users, groups) = (asked.about(&USER), asked.about(&GROUP));
        let (skip, most) = (asked.skip(), asked.most());
        match (&users, &groups) {
            (Err(error), Err(_)) => return Err(error.clone()),
            (Ok(query), _) => all = self.find::<User>(query).await?,
            _ => {}
        }
        if let Ok(mut query) = groups {
            query.skip = skip.saturating_sub(all.total);
            query.count = most.saturating_sub(all.resources.len());
            let found = self.find::<Group>(&query).await?;
            all.total += found.total;
            all.resources.extend(found.resources);
        }
        Ok(json(StatusCode::OK, &answer(all, skip)))
    }

    async fn resource(&self, kind: &'static ResourceKind, id: &str, asking: Asking) -> Result<Response, ScimError> {
        let selection = Asked::from_url(&asking.query)?.selection(kind)?;
        let conditions = Conditions::of(&asking.headers);
        let is_user = kind.name == USER.name;
        let resource = match asking.method {
            Method::GET if is_user => self.get_user(id).await?,
            Method::GET => self.get_group(id, selection.has("members")).await?,
            Method::PUT | Method::PATCH => {
                let replaces = asking.method == Method::PUT;
                let body = asking.object().await?;
                let changed = match (is_user, replaces) {
                    (true, true) => self.replace_user(id, body, &conditions).await?,
                    (true, false) => self.patch_user(id, body, &conditions).await?,
                    (false, true) => self.replace_group(id, body, &conditions).await?,
                    (false, false) => self.patch_group(id, body, &conditions).await?,
                };
                return Ok(one(StatusCode::OK, &changed, Value::Object(selection.apply(changed.clone()))));
            }
            Method::DELETE => {
                match is_user {
                    true => self.delete_user(id, &conditions).await?,
                    false => self.delete_group(id, &conditions).await?,
                }
                let mut gone = Response::new(Body::empty());
                *gone.status_mut() = StatusCode::NO_CONTENT;
                return Ok(gone);
            }
            _ => return Ok(wrong_method("GET, PUT, PATCH, DELETE")),
        };
        let present = resource.get("meta").and_then(|meta| meta.get("version")).and_then(Value::as_str);
        let known = tags(&asking.headers, &IF_NONE_MATCH).unwrap_or_default();
        if known.iter().any(|tag| tag == "*" || present.is_some_and(|present| opaque(present) == opaque(tag))) {
            let mut same = one(StatusCode::NOT_MODIFIED, &resource, Value::Null);
            *same.body_mut() = Body::empty();
            same.headers_mut().remove(CONTENT_TYPE);
            return Ok(same);
        }
        Ok(one(StatusCode::OK, &resource, Value::Object(selection.apply(resource.clone()))))
    }

    /// Puts something that happened to a user on record.
    pub(crate) fn tell(&self, action: Action, user: &User, what: &str) {
        let mut event = IdentityEvent::new(self.deps.clock.now_ms(), action, true);
        event.person = user.name_id.clone().or_else(|| user.email_id.clone());
        event.note = Some(format!("{what}, scim id {}", user.id));
        (self.deps.record)(event);
    }

    /// The same about a group.
    pub(crate) fn tell_group(&self, group: &Group, what: &str) {
        let mut event = IdentityEvent::new(self.deps.clock.now_ms(), Action::Provision, true);
        event.note = Some(format!("group {:?} {what}, scim id {}", group.name, group.id));
        (self.deps.record)(event);
    }
}

impl Asking {
    /// The body as an object.
    async fn object(self) -> Result<Map<String, Value>, ScimError> {
        let kind = self.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if !matches!(kind.as_str(), "application/scim+json" | "application/json") {
            let text = "the body is application/scim+json";
            return Err(ScimError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, None, text));
        }
        let body: Bytes = axum::body::to_bytes(self.body, MAX_BODY).await.map_err(|_| {
            ScimError::new(StatusCode::PAYLOAD_TOO_LARGE, None, format!("a body has at most {MAX_BODY} bytes"))
        })?;
        match serde_json::from_slice(&body) {
            Ok(Value::Object(body)) => Ok(body),
            _ => Err(ScimError::syntax("the body is no JSON object")),
        }
    }
}

fn described(asking: &Asking, what: impl FnOnce() -> Option<Value>) -> Result<Response, ScimError> {
    if asking.method != Method::GET {
        return Ok(wrong_method("GET"));
    }
    let what = what().ok_or_else(ScimError::not_found)?;
    Ok(json(StatusCode::OK, &what))
}

fn wrong_method(allow: &'static str) -> Response {
    let error = ScimError::new(StatusCode::METHOD_NOT_ALLOWED, None, "this method is not offered here");
    let mut response = error.response();
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}

/// An answer with one resource: its tag and place come from its full form.
fn one(status: StatusCode, full: &Map<String, Value>, shown: Value) -> Response {
    let mut response = json(status, &shown);
    let meta = |name: &str| full.get("meta").and_then(|meta| meta.get(name)).and_then(Value::as_str);
    for (header, name) in [(ETAG, "version"), (LOCATION, "location")] {
        if let Some(value) = meta(name).and_then(|text| HeaderValue::from_str(text).ok()) {
            response.headers_mut().insert(header, value);
        }
    }
    response
}
