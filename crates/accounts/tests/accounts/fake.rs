//! An MCP server that wants tokens and an authorization server that issues them, good or bad.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bartizan_oauth::params::{Builder, Params};
use bartizan_oauth::pkce::challenge_of;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

#[derive(Clone)]
pub enum Reply {
    Json(u16, Value),
    Head(u16, &'static str, String),
    /// Nothing: the connection is closed.
    Cut,
}

/// What the authorization server knows of a code or refresh token.
#[derive(Clone)]
pub struct Grant {
    pub user: String,
    pub client: String,
    pub challenge: String,
    pub redirect: String,
    pub resource: String,
}

#[derive(Default)]
pub struct Behaviour {
    /// Answers instead of the usual ones, by path.
    pub instead: HashMap<String, Reply>,
    /// The next answers of the token endpoint, after the request was carried out if `true`.
    pub token_next: Vec<(bool, Reply)>,
    pub token_pause: Duration,
    /// Members over those of the metadata; null removes.
    pub metadata: Value,
    pub prm: Value,
    /// `WWW-Authenticate` of the server.
    pub challenge: Option<String>,
    pub expires_in: Option<u64>,
    pub no_refresh: bool,
    /// A used refresh token gives the same pair again.
    pub grace: bool,
    pub sends_iss: Option<String>,
    pub clients: HashMap<String, Option<String>>,
    pub codes: HashMap<String, Grant>,
    pub refresh: HashMap<String, Grant>,
    pub used: HashMap<String, (String, String)>,
    pub access: HashMap<String, String>,
    pub revoked: HashSet<String>,
    pub registrations: Vec<Value>,
    /// Path and body of everything that was asked.
    pub asked: Vec<(String, String)>,
    /// Heads of the same requests.
    pub heads: Vec<String>,
    pub redemptions: u32,
    number: u32,
}

#[derive(Clone)]
pub struct Fake {
    pub issuer: String,
    pub server: String,
    state: Arc<Mutex<Behaviour>>,
}

fn over(base: Value, changes: &Value) -> Value {
    let Value::Object(mut base) = base else { panic!("an object") };
    for (name, value) in changes.as_object().into_iter().flatten() {
        match value {
            Value::Null => drop(base.remove(name)),
            value => drop(base.insert(name.clone(), value.clone())),
        }
    }
    Value::Object(base)
}

impl Fake {
    pub async fn start() -> Self {
        let authorization = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let resource = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let fake = Self {
            issuer: origin(&authorization),
            server: format!("{}/mcp", origin(&resource)),
            state: Arc::new(Mutex::new(Behaviour { expires_in: Some(3600), ..Behaviour::default() })),
        };
        for (listener, is_server) in [(authorization, false), (resource, true)] {
            let fake = fake.clone();
            tokio::spawn(async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    tokio::spawn(fake.clone().serve(stream, is_server));
                }
            });
        }
        fake
    }

    pub fn set(&self) -> MutexGuard<'_, Behaviour> {
        self.state.lock().unwrap()
    }

    pub fn count(&self, path: &str) -> usize {
        self.set().asked.iter().filter(|(asked, _)| asked == path).count()
    }

    /// The last body that was sent to a path.
    pub fn last(&self, path: &str) -> Params {
        let state = self.set();
        let (_, body) = state.asked.iter().rev().find(|(asked, _)| asked == path).expect("asked");
        Params::parse(body.as_bytes()).unwrap()
    }

    /// The person agrees: query with which the browser comes back.
    pub fn approve(&self, url: &str, user: &str) -> String {
        let (endpoint, query) = url.split_once('?').unwrap();
        assert_eq!(endpoint, format!("{}/authorize", self.issuer));
        let asked = Params::parse(query.as_bytes()).unwrap();
        let get = |name: &str| asked.get(name).unwrap_or_else(|| panic!("{name} is missing")).to_owned();
        assert_eq!((get("response_type").as_str(), get("code_challenge_method").as_str()), ("code", "S256"));
        let mut state = self.set();
        assert!(state.clients.contains_key(&get("client_id")) || get("client_id").starts_with("https://"));
        state.number += 1;
        let code = format!("code-{user}-{}", state.number);
        let grant = Grant {
            user: user.to_owned(),
            client: get("client_id"),
            challenge: get("code_challenge"),
            redirect: get("redirect_uri"),
            resource: get("resource"),
        };
        state.codes.insert(code.clone(), grant);
        let answer = Builder::new().add("code", &code).add("state", &get("state"));
        answer.add_some("iss", state.sends_iss.as_deref()).finish()
    }

    async fn serve(self, mut stream: TcpStream, is_server: bool) {
        let mut data = Vec::new();
        let head_end = loop {
            let mut chunk = [0u8; 4096];
            let Ok(read @ 1..) = stream.read(&mut chunk).await else { return };
            data.extend_from_slice(&chunk[..read]);
            if let Some(at) = data.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
        };
        let head = String::from_utf8(data[..head_end].to_vec()).unwrap();
        let header = |name: &str| {
            head.lines().find_map(|line| {
                let (found, value) = line.split_once(':')?;
                found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        let length: usize = header("content-length").map_or(0, |text| text.parse().unwrap());
        while data.len() < head_end + length {
            let mut chunk = [0u8; 4096];
            let Ok(read @ 1..) = stream.read(&mut chunk).await else { return };
            data.extend_from_slice(&chunk[..read]);
        }
        let body = String::from_utf8(data[head_end..].to_vec()).unwrap();
        let path = head.split(' ').nth(1).unwrap().split('?').next().unwrap().to_owned();
        let authorization = header("authorization");
        {
            let mut state = self.set();
            state.asked.push((path.clone(), body.clone()));
            state.heads.push(head.clone());
        }
        let pause = if path == "/token" { self.set().token_pause } else { Duration::ZERO };
        tokio::time::sleep(pause).await;
        let instead = self.set().instead.get(&path).cloned();
        let reply = match instead {
            Some(reply) => reply,
            None if is_server => self.server(&path, authorization.as_deref()),
            None => self.authority(&path, &body, authorization.as_deref()),
        };
        let text = match reply {
            Reply::Cut => return,
            Reply::Json(status, value) => {
                let body = value.to_string();
                let length = body.len();
                format!(
                    "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                )
            }
            Reply::Head(status, name, value) => {
                format!("HTTP/1.1 {status} X\r\n{name}: {value}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            }
        };
        let _ = stream.write_all(text.as_bytes()).await;
        let _ = stream.shutdown().await;
    }

    fn server(&self, path: &str, authorization: Option<&str>) -> Reply {
        let origin = self.server.trim_end_matches("/mcp");
        let state = self.set();
        match path {
            "/mcp" => {
                let user = authorization.and_then(|value| state.access.get(value.strip_prefix("Bearer ")?));
                match user {
                    Some(user) => Reply::Json(200, json!({ "user": user })),
                    None => {
                        let link = format!("{origin}/.well-known/oauth-protected-resource/mcp");
                        let usual = || format!("Bearer resource_metadata=\"{link}\", scope=\"notes.read\"");
                        Reply::Head(401, "www-authenticate", state.challenge.clone().unwrap_or_else(usual))
                    }
                }
            }
            "/.well-known/oauth-protected-resource/mcp" => {
                let usual = json!({
                    "resource": self.server, "authorization_servers": [self.issuer], "scopes_supported": ["a", "b"],
                });
                Reply::Json(200, over(usual, &state.prm))
            }
            _ => Reply::Json(404, json!({})),
        }
    }

    fn authority(&self, path: &str, body: &str, authorization: Option<&str>) -> Reply {
        let mut state = self.set();
        match path {
            "/.well-known/oauth-authorization-server" => {
                let issuer = &self.issuer;
                let usual = json!({
                    "issuer": issuer,
                    "authorization_endpoint": format!("{issuer}/authorize"),
                    "token_endpoint": format!("{issuer}/token"),
                    "registration_endpoint": format!("{issuer}/register"),
                    "revocation_endpoint": format!("{issuer}/revoke"),
                    "code_challenge_methods_supported": ["S256"],
                    "token_endpoint_auth_methods_supported": ["client_secret_post", "none"],
                });
                Reply::Json(200, over(usual, &state.metadata))
            }
            "/register" => {
                let request: Value = serde_json::from_str(body).unwrap();
                state.number += 1;
                let (id, secret) = (format!("client-{}", state.number), format!("secret-{}", state.number));
                state.registrations.push(request);
                state.clients.insert(id.clone(), Some(secret.clone()));
                Reply::Json(201, json!({ "client_id": id, "client_secret": secret, "client_secret_expires_at": 0 }))
            }
            "/token" => {
                let next = if state.token_next.is_empty() { None } else { Some(state.token_next.remove(0)) };
                if let Some((false, reply)) = next {
                    return reply;
                }
                let params = Params::parse(body.as_bytes()).unwrap();
                let done = state.token(&params, authorization);
                next.map_or(done, |(_, reply)| reply)
            }
            "/revoke" => {
                let params = Params::parse(body.as_bytes()).unwrap();
                let token = params.get("token").unwrap().to_owned();
                state.access.remove(&token);
                state.refresh.remove(&token);
                state.revoked.insert(token);
                Reply::Json(200, json!({}))
            }
            _ => Reply::Json(404, json!({})),
        }
    }
}

fn refusal(code: &str) -> Reply {
    Reply::Json(400, json!({ "error": code }))
}

impl Behaviour {
    fn token(&mut self, params: &Params, authorization: Option<&str>) -> Reply {
        assert!(authorization.is_none(), "the metadata lists no basic authentication");
        let Some(client) = params.get("client_id") else { return refusal("invalid_request") };
        let known = self.clients.get(client).cloned();
        let by_document = client.starts_with("https://");
        match known {
            Some(secret) if secret.as_deref() == params.get("client_secret") => {}
            None if by_document => {}
            _ => return Reply::Json(401, json!({ "error": "invalid_client" })),
        }
        match params.get("grant_type") {
            Some("authorization_code") => {
                let Some(grant) = self.codes.remove(params.get("code").unwrap()) else {
                    return refusal("invalid_grant");
                };
                let proven = challenge_of(params.get("code_verifier").unwrap()) == grant.challenge;
                let same = params.get("redirect_uri") == Some(&grant.redirect)
                    && params.get("resource") == Some(&grant.resource)
                    && grant.client == client;
                if proven && same { self.issue(grant, None) } else { refusal("invalid_grant") }
            }
            Some("refresh_token") => {
                let old = params.get("refresh_token").unwrap().to_owned();
                self.redemptions += 1;
                if let Some((access, refresh)) = self.used.get(&old).cloned() {
                    return if self.grace { self.pair(&access, &refresh) } else { refusal("invalid_grant") };
                }
                let Some(grant) = self.refresh.remove(&old).filter(|grant| grant.client == client) else {
                    return refusal("invalid_grant");
                };
                assert_eq!(params.get("resource"), Some(grant.resource.as_str()));
                self.issue(grant, Some(old))
            }
            _ => refusal("unsupported_grant_type"),
        }
    }

    fn issue(&mut self, grant: Grant, instead_of: Option<String>) -> Reply {
        self.number += 1;
        let (access, refresh) =
            (format!("at-{}-{}", grant.user, self.number), format!("rt-{}-{}", grant.user, self.number));
        self.access.insert(access.clone(), grant.user.clone());
        self.refresh.insert(refresh.clone(), grant);
        if let Some(old) = instead_of {
            self.used.insert(old, (access.clone(), refresh.clone()));
        }
        self.pair(&access, &refresh)
    }

    fn pair(&self, access: &str, refresh: &str) -> Reply {
        let mut answer = json!({ "access_token": access, "token_type": "Bearer" });
        if let Some(seconds) = self.expires_in {
            answer["expires_in"] = seconds.into();
        }
        if !self.no_refresh {
            answer["refresh_token"] = refresh.into();
        }
        Reply::Json(200, answer)
    }
}

/// A listener that nobody may reach: counts who does.
pub async fn forbidden(address: &str) -> (SocketAddr, Arc<Mutex<u32>>) {
    let listener = TcpListener::bind(address).await.unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(0)));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            *counted.lock().unwrap() += 1;
        }
    });
    (address, count)
}
