//! The endpoints: who asks, whether the table lets them, and what is answered.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use bartizan_config::objects::{self, Kind};
use bartizan_model::event::Who;
use bartizan_model::{Principal, Role, RoleSet};
use bartizan_store::repo::resource::{self, Answer, Expect};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, IF_MATCH, IF_NONE_MATCH};
use http::{Request, Response, StatusCode};
use serde_json::{Value, json};

use crate::areas::{self, Areas};
use crate::change::{About, Edit, Engine, Keep, What};
use crate::openapi;
use crate::respond::{Refusal, Reply};
use crate::secrets::{self, SecretSet};
use crate::state::{Object, State};
use crate::table::{Action, Endpoint, Found, find, table};

/// Where the API is, below the public URL.
pub const PATH: &str = "/api/v1";
/// Scope that a credential with scopes needs here (A23).
pub const SCOPE: &str = "mcp:admin";
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// What a change is for, at most 500 characters.
const REASON: HeaderName = HeaderName::from_static("x-bartizan-reason");
const REASON_LONGEST: usize = 500;
/// Most versions and revisions in one answer.
const HISTORY: u32 = 200;

/// Who asks, as their credential says.
pub struct Identified {
    /// Who.
    pub principal: Arc<Principal>,
    /// False when the credential is limited to scopes, and [`SCOPE`] is none of them.
    pub may_administer: bool,
    /// Set when the credential is the cookie of a browser, which a browser sends by itself.
    pub browser: Option<Browser>,
}

/// What a request with a cookie proves.
pub struct Browser {
    /// The browser says that a page of ours sent it.
    pub same_origin: bool,
    /// It carries the token of the session.
    pub has_token: bool,
    /// The token, for pages.
    pub token: String,
}

/// Why nobody is identified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotIdentified {
    /// No credential, or one that is not good.
    Unauthenticated,
    /// It cannot be found out now.
    Unavailable,
}

/// What is answered later.
pub type Answering<T> = Pin<Box<dyn Future<Output = T> + Send>>;
/// Identifies the sender of a request. A bearer token that is not good is never made up for by a cookie.
pub type Identify = Arc<dyn Fn(HeaderMap) -> Answering<Result<Identified, NotIdentified>> + Send + Sync>;
/// The roles of a principal now.
pub type RolesOf = Arc<dyn Fn(&Principal) -> RoleSet + Send + Sync>;

/// The administration API. Cheap to clone.
#[derive(Clone)]
pub struct Api(Arc<Inner>);

struct Inner {
    engine: Engine,
    identify: Identify,
    roles: RolesOf,
    areas: Areas,
    table: Vec<Endpoint>,
    /// Of a 401: where a client learns how to get a token.
    challenge: String,
}

pub(crate) struct Caller {
    pub(crate) principal: Arc<Principal>,
    pub(crate) roles: RoleSet,
    pub(crate) about: About,
    token: Option<String>,
}

impl Api {
    /// Over these parts; `public_url` is the installation's.
    pub fn new(engine: Engine, identify: Identify, roles: RolesOf, areas: Areas, public_url: &str) -> Self {
        let base = public_url.trim_end_matches('/');
        let origin_end = base.find("://").and_then(|at| base.get(at + 3..)?.find('/').map(|end| at + 3 + end));
        let (origin, path) = base.split_at(origin_end.unwrap_or(base.len()));
        let metadata = format!("{origin}/.well-known/oauth-protected-resource{path}{PATH}");
        let challenge = format!("Bearer resource_metadata=\"{metadata}\"");
        Self(Arc::new(Inner { engine, identify, roles, areas, table: table(), challenge }))
    }

    /// Answers a request whose path begins with [`PATH`].
    pub async fn answer(&self, request: Request<Bytes>, from: IpAddr) -> Response<Bytes> {
        match self.dispatch(&request, from).await {
            Ok(reply) => reply.answer(),
            Err(refusal) => refusal.answer(self.0.engine.clock.now_ms()),
        }
    }

    async fn dispatch(&self, request: &Request<Bytes>, from: IpAddr) -> Result<Reply, Refusal> {
        let path = request.uri().path().strip_prefix(PATH).ok_or_else(Refusal::not_found)?;
        let caller = self.caller(request.headers(), from).await?;
        let (row, id) = match find(&self.0.table, request.method(), path) {
            Found::Row(row, id) => (row, id),
            Found::Nothing => return Err(Refusal::not_found()),
            Found::Method(allowed) => {
                let allow = allowed.iter().map(|method| method.as_str()).collect::<Vec<_>>().join(", ");
                let text = "this address is used with other methods";
                let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", text);
                return Err(Refusal { allow: Some(allow), ..refusal });
            }
        };
        if !row.roles.is_none_or(|roles| roles.iter().any(|role| caller.roles.allows(*role))) {
            // Whether an object exists is nobody's business who may not read it.
            return Err(if id.is_some() { Refusal::not_found() } else { role_required(row) });
        }
        if row.action.is_meant() {
            caller.may_send(request.headers())?;
        }
        let id = id.map(decode).transpose()?;
        self.act(row.action, id.as_deref().unwrap_or_default(), request, &caller).await
    }

    async fn caller(&self, headers: &HeaderMap, from: IpAddr) -> Result<Caller, Refusal> {
        let found = (self.0.identify)(headers.clone()).await;
        let found = found.map_err(|why| match why {
            NotIdentified::Unauthenticated => Refusal {
                challenge: Some(self.0.challenge.clone()),
                ..Refusal::new(StatusCode::UNAUTHORIZED, "unauthenticated", "sign in, or send a token for this address")
            },
            NotIdentified::Unavailable => {
                Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", "try again in a moment")
            }
        })?;
        if !found.may_administer {
            // Who let a client use tools did not let it administer.
            let challenge = format!("{}, error=\"insufficient_scope\", scope=\"{SCOPE}\"", self.0.challenge);
            let text = "this token was not given the scope `mcp:admin`";
            let refusal = Refusal::new(StatusCode::FORBIDDEN, "insufficient_scope", text);
            return Err(Refusal { challenge: Some(challenge), ..refusal });
        }
        let principal = found.principal;
        let who = Who {
            principal: principal.key().to_string(),
            groups: principal.groups.iter().map(ToString::to_string).collect(),
            ip: Some(from.to_string()),
            ..Who::default()
        };
        let about = About {
            kind: principal.kind,
            who,
            source: if found.browser.is_some() { "console" } else { "api" },
            reason: reason(headers)?,
            git_revision: None,
            operator: false,
            owner: (self.0.roles)(&principal).allows(Role::Owner),
        };
        let forged = found.browser.as_ref().is_some_and(|browser| !(browser.same_origin && browser.has_token));
        let token = found.browser.map(|browser| browser.token);
        let mut caller = Caller { roles: (self.0.roles)(&principal), principal, about, token };
        if forged {
            // Reading is harmless: no other origin sees the answer.
            caller.about.source = "forged";
        }
        Ok(caller)
    }

    async fn act(&self, action: Action, id: &str, request: &Request<Bytes>, caller: &Caller) -> Result<Reply, Refusal> {
        let engine = &self.0.engine;
        match action {
            Action::Me => Ok(Reply::ok(me(caller))),
            Action::OpenApi => Ok(Reply::ok(openapi::document())),
            Action::Refused => self.refused().await,
            Action::Revisions => self.revisions().await,
            Action::Export => Ok(Reply::ok(crate::set::export(&engine.reader.state().await?))),
            Action::Plan => Ok(Reply::ok(crate::set::plan_request(engine, body(request)?, &caller.about).await?)),
            Action::Apply => Ok(Reply::ok(crate::set::apply_request(engine, body(request)?, &caller.about).await?)),
            Action::List(kind) => self.list(kind, request).await,
            Action::Get(kind) => self.get(kind, id, request.headers()).await,
            Action::History(kind) => self.history(kind, id).await,
            Action::Create(kind) => self.create(kind, request, caller).await,
            Action::Put(kind) => {
                let expect = precondition(request.headers(), true)?;
                self.edit(kind, id, expect, What::Put(body(request)?), caller).await
            }
            Action::Patch(kind) => {
                let expect = precondition(request.headers(), false)?;
                self.edit(kind, id, expect, What::Patch(body(request)?), caller).await
            }
            Action::Restore(kind) => {
                let expect = precondition(request.headers(), true)?;
                let wanted = body(request)?.get("revision").and_then(Value::as_i64);
                let wanted = wanted.ok_or_else(|| Refusal::argument("`revision` is the number of the version"))?;
                self.edit(kind, id, expect, What::Restore(wanted), caller).await
            }
            Action::Area(operation) => {
                let query = parameters(request.uri().query().unwrap_or_default(), operation.parameters())?;
                let sent = if operation.has_body() { body(request)? } else { Value::Null };
                areas::act(&self.0.areas, engine, operation, (id, query, sent), caller).await
            }
            Action::Remove(kind) => {
                let expect = precondition(request.headers(), false)?;
                let edit = Edit { kind, id: id.to_owned(), expect: Some(expect), what: What::Remove };
                engine.change(&[edit], &caller.about, None).await?;
                Ok(Reply { status: StatusCode::NO_CONTENT, ..Reply::ok(Value::Null) })
            }
        }
    }

    async fn edit(&self, kind: Kind, id: &str, expect: Expect, what: What, caller: &Caller) -> Result<Reply, Refusal> {
        let edit = Edit { kind, id: id.to_owned(), expect: Some(expect), what };
        let outcome = self.0.engine.change(&[edit], &caller.about, None).await?;
        let status = if expect == Expect::Absent { StatusCode::CREATED } else { StatusCode::OK };
        shown(&outcome.state, kind, id, status)
    }

    async fn create(&self, kind: Kind, request: &Request<Bytes>, caller: &Caller) -> Result<Reply, Refusal> {
        let object = body(request)?;
        let key = match request.headers().get(IDEMPOTENCY_KEY) {
            None => None,
            Some(key) => match key.to_str() {
                Ok(key) if (1..=128).contains(&key.len()) => Some(key.to_owned()),
                _ => return Err(Refusal::argument("`Idempotency-Key` has 1 to 128 visible characters")),
            },
        };
        let name = caller.principal.key().to_string();
        let digest = digest(&[kind.as_str().as_bytes(), request.body()]);
        if let Some(key) = &key
            && let Some(again) = self.again(&name, key, &digest).await?
        {
            return Ok(again);
        }
        let id = object.get(kind.id_key()).and_then(Value::as_str).unwrap_or_default().to_owned();
        let keep = |state: &State, _: i64| Answer {
            caller: name.clone(),
            name: key.clone().unwrap_or_default(),
            digest: digest.clone(),
            answer: shown(state, kind, &id, StatusCode::CREATED).map(|reply| reply.to_text()).unwrap_or_default(),
        };
        let edit = Edit { kind, id: id.clone(), expect: Some(Expect::Absent), what: What::Put(object) };
        let keep: Option<Keep<'_>> = key.as_ref().map(|_| &keep as _);
        match self.0.engine.change(&[edit], &caller.about, keep).await {
            Ok(outcome) => shown(&outcome.state, kind, &id, StatusCode::CREATED),
            Err(error) => {
                // The same request may have come first on another connection.
                if let Some(key) = &key
                    && let Some(again) = self.again(&name, key, &digest).await?
                {
                    return Ok(again);
                }
                Err(error.into())
            }
        }
    }

    /// The answer that was given to the same request before.
    async fn again(&self, caller: &str, key: &str, digest: &str) -> Result<Option<Reply>, Refusal> {
        let found = resource::answer(self.0.engine.reader.store(), caller, key).await;
        let found = found.map_err(crate::problem::AdminError::from)?;
        let Some((was, answer)) = found else { return Ok(None) };
        if was != digest {
            let text = "this `Idempotency-Key` was used for another request";
            return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", text));
        }
        Ok(Reply::from_text(&answer))
    }

    async fn list(&self, kind: Kind, request: &Request<Bytes>) -> Result<Reply, Refusal> {
        let (limit, after) = page(request.uri().query().unwrap_or_default())?;
        let state = self.0.engine.reader.state().await?;
        let base = (self.0.engine.base)();
        let mut items: Vec<(String, Value)> = objects::split(&base.resources)
            .into_iter()
            .filter(|(its, _, _)| *its == kind)
            .map(|(_, id, body)| (id, of_file(kind, body)))
            .collect();
        let stored = state.objects.values().filter(|object| object.kind == kind && !base.has(kind, &object.id));
        items.extend(stored.map(|object| (object.id.clone(), of_store(object))));
        items.sort_by(|a, b| a.0.cmp(&b.0));
        let mut items: Vec<_> =
            items.into_iter().filter(|(id, _)| after.as_ref().is_none_or(|after| id > after)).collect();
        let next = if items.len() > limit { items.get(limit - 1).map(|(id, _)| id.clone()) } else { None };
        items.truncate(limit);
        let items: Vec<Value> = items.into_iter().map(|(_, item)| item).collect();
        let body = json!({"items": items, "next": next, "revision": state.revision});
        let etag = format!("\"{}\"", digest(&[body.to_string().as_bytes()]).get(..32).unwrap_or_default());
        if holds(request.headers(), &etag) {
            return Ok(Reply { status: StatusCode::NOT_MODIFIED, etag: Some(etag), ..Reply::ok(Value::Null) });
        }
        Ok(Reply { etag: Some(etag), ..Reply::ok(body) })
    }

    async fn get(&self, kind: Kind, id: &str, headers: &HeaderMap) -> Result<Reply, Refusal> {
        let base = (self.0.engine.base)();
        let reply = if base.has(kind, id) {
            let found = objects::split(&base.resources).into_iter().find(|(its, name, _)| *its == kind && name == id);
            let (_, _, body) = found.ok_or_else(Refusal::not_found)?;
            let shown = of_file(kind, body);
            let etag = format!("\"file-{}\"", digest(&[shown.to_string().as_bytes()]).get(..16).unwrap_or_default());
            Reply { etag: Some(etag), ..Reply::ok(shown) }
        } else {
            shown(&self.0.engine.reader.state().await?, kind, id, StatusCode::OK)?
        };
        match &reply.etag {
            Some(etag) if holds(headers, etag) => {
                Ok(Reply { status: StatusCode::NOT_MODIFIED, etag: reply.etag, ..Reply::ok(Value::Null) })
            }
            _ => Ok(reply),
        }
    }

    async fn history(&self, kind: Kind, id: &str) -> Result<Reply, Refusal> {
        let reader = &self.0.engine.reader;
        let store = reader.store();
        let failed = crate::problem::AdminError::from;
        let versions = resource::history(store, kind.as_str(), id, HISTORY).await.map_err(failed)?;
        if versions.is_empty() {
            return Err(Refusal::not_found());
        }
        let mut items = Vec::with_capacity(versions.len());
        for version in versions {
            let made = resource::revisions(store, version.since_rev, 1).await.map_err(failed)?;
            let object =
                reader.object(kind, id.to_owned(), version.since_rev, &version.body, version.secret_id).await?;
            let made = made.first().map(revision).unwrap_or_default();
            items.push(json!({"revision": version.since_rev, "until": version.until_rev, "made": made,
                "object": object.public()}));
        }
        Ok(Reply::ok(json!({"items": items})))
    }

    async fn revisions(&self) -> Result<Reply, Refusal> {
        let store = self.0.engine.reader.store();
        let all = resource::revisions(store, i64::MAX, HISTORY).await.map_err(crate::problem::AdminError::from)?;
        Ok(Reply::ok(json!({"items": all.iter().map(revision).collect::<Vec<_>>()})))
    }

    async fn refused(&self) -> Result<Reply, Refusal> {
        let engine = &self.0.engine;
        let state = engine.reader.state().await?;
        let overlaid = crate::overlay::overlay(&(engine.base)(), &state.list(), engine.clock.now_ms());
        let refused = overlaid.map(|overlaid| overlaid.refused).unwrap_or_default();
        let item =
            |one: &crate::overlay::Refused| json!({"kind": one.kind.as_str(), "id": one.id, "problems": one.problems});
        Ok(Reply::ok(json!({"items": refused.iter().map(item).collect::<Vec<_>>()})))
    }
}

impl Caller {
    /// Whether the sender means it: a browser sends its cookie with what other sites make it send.
    fn may_send(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        if self.about.source == "forged" {
            let text = "a request with a session needs `X-CSRF-Token` and must come from a page of this installation";
            return Err(Refusal::new(StatusCode::FORBIDDEN, "cross_site", text));
        }
        // Forms of other sites cannot send these types without asking first.
        let kind = headers.get(CONTENT_TYPE).map(|kind| kind.to_str().unwrap_or("?"));
        let kind = kind.map(|kind| kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
        match kind.as_deref() {
            None | Some("application/json" | "application/merge-patch+json") => Ok(()),
            Some(_) => {
                let text = "send `application/json`";
                Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", text))
            }
        }
    }
}

fn role_required(row: &Endpoint) -> Refusal {
    let roles: Vec<&str> = row.roles.unwrap_or_default().iter().map(|role| role.as_str()).collect();
    let text = format!("this needs one of the roles {}", roles.join(", "));
    Refusal::new(StatusCode::FORBIDDEN, "role_required", text)
}

fn me(caller: &Caller) -> Value {
    let roles: Vec<&str> = caller.roles.iter().map(|role| role.as_str()).collect();
    let mut me = json!({"principal": caller.principal.key(), "groups": caller.about.who.groups, "roles": roles});
    if let (Some(token), Some(members)) = (&caller.token, me.as_object_mut()) {
        members.insert("csrf_token".to_owned(), token.as_str().into());
    }
    me
}

fn of_store(object: &Object) -> Value {
    let mut shown = object.public();
    if let Some(members) = shown.as_object_mut() {
        members.insert("managed_by".to_owned(), "api".into());
        members.insert("revision".to_owned(), object.revision.into());
    }
    shown
}

fn of_file(kind: Kind, mut body: Value) -> Value {
    let secrets: SecretSet = secrets::take(kind, &mut body, None, &mut Vec::new());
    let mut shown = secrets::public(kind, &body, &secrets, false);
    if let Some(members) = shown.as_object_mut() {
        members.insert("managed_by".to_owned(), "file".into());
    }
    shown
}

fn shown(state: &State, kind: Kind, id: &str, status: StatusCode) -> Result<Reply, Refusal> {
    let object = state.get(kind, id).ok_or_else(Refusal::not_found)?;
    Ok(Reply {
        status,
        etag: Some(format!("\"{}\"", object.revision)),
        location: (status == StatusCode::CREATED).then(|| format!("{PATH}/{}/{}", kind.plural(), encode(id))),
        body: of_store(object),
    })
}

fn revision(one: &resource::Revision) -> Value {
    json!({"revision": one.revision, "at_ms": one.at_ms, "by": one.by, "source": one.source, "reason": one.reason,
        "git_revision": one.git_revision, "event_id": one.event_id})
}

/// What `If-Match` or, for a new object, `If-None-Match: *` ask for.
fn precondition(headers: &HeaderMap, may_be_new: bool) -> Result<Expect, Refusal> {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default().trim().to_owned());
    let outdated = || {
        let message = "the object is not at the version that `If-Match` names";
        Refusal::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", message)
    };
    match (text(IF_MATCH), text(IF_NONE_MATCH)) {
        (Some(tag), None) => {
            let number = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).and_then(|tag| tag.parse().ok());
            number.map(Expect::At).ok_or_else(outdated)
        }
        (None, Some(tag)) if tag == "*" && may_be_new => Ok(Expect::Absent),
        _ => {
            let message =
                "send `If-Match` with the ETag of the version you have seen, or `If-None-Match: *` for a new one";
            Err(Refusal::new(StatusCode::PRECONDITION_REQUIRED, "precondition_required", message))
        }
    }
}

/// Whether the caller has this version already.
fn holds(headers: &HeaderMap, etag: &str) -> bool {
    let tags = headers.get(IF_NONE_MATCH).and_then(|tags| tags.to_str().ok()).unwrap_or_default();
    tags.split(',').any(|tag| tag.trim() == etag)
}

fn body(request: &Request<Bytes>) -> Result<Value, Refusal> {
    let wrong = |error: serde_json::Error| {
        // Not its text: that may quote the body.
        let message = format!("the body is no JSON: line {}, column {}", error.line(), error.column());
        Refusal::new(StatusCode::BAD_REQUEST, "malformed_json", message)
    };
    serde_json::from_slice(request.body()).map_err(wrong)
}

fn reason(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let Some(given) = headers.get(REASON) else { return Ok(None) };
    let text = std::str::from_utf8(given.as_bytes()).map(str::trim).unwrap_or_default();
    if text.is_empty() || text.chars().count() > REASON_LONGEST || text.chars().any(char::is_control) {
        return Err(Refusal::argument(format!("`{REASON}` has 1 to {REASON_LONGEST} characters")));
    }
    Ok(Some(text.to_owned()))
}

/// `limit` and `after` of a query.
fn page(query: &str) -> Result<(usize, Option<String>), Refusal> {
    let (mut limit, mut after) = (1_000, None);
    for (name, value) in
        query.split('&').filter(|part| !part.is_empty()).map(|part| part.split_once('=').unwrap_or((part, "")))
    {
        match name {
            "limit" => match value.parse() {
                Ok(number @ 1..=1_000) => limit = number,
                _ => return Err(Refusal::argument("`limit` is a number from 1 to 1000")),
            },
            "after" => after = Some(decode(value)?),
            _ => return Err(Refusal::argument("known parameters are `limit` and `after`")),
        }
    }
    Ok((limit, after))
}

/// The parameters of a query, of those that are known.
fn parameters(query: &str, known: &[&str]) -> Result<Vec<(String, String)>, Refusal> {
    let mut found: Vec<(String, String)> = Vec::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        if !known.contains(&name) || found.iter().any(|(its, _)| its == name) {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(Refusal::argument(format!("known parameters, each once, are: {known}")));
        }
        found.push((name.to_owned(), decode(value)?));
    }
    Ok(found)
}

/// Percent-decoding (RFC 3986, section 2.1).
fn decode(text: &str) -> Result<String, Refusal> {
    let wrong = || Refusal::argument("the address is not properly encoded");
    let (mut out, mut bytes) = (Vec::with_capacity(text.len()), text.bytes());
    while let Some(byte) = bytes.next() {
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        match byte {
            b'%' => match (digit(bytes.next()), digit(bytes.next())) {
                (Some(high), Some(low)) => out.push(u8::try_from(high * 16 + low).map_err(|_| wrong())?),
                _ => return Err(wrong()),
            },
            other => out.push(other),
        }
    }
    String::from_utf8(out).map_err(|_| wrong())
}

fn encode(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~:@".contains(&byte);
    text.bytes().map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

pub(crate) fn digest(parts: &[&[u8]]) -> String {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in parts {
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part);
    }
    context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
