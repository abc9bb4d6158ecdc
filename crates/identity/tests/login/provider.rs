//! An OpenID provider that does what it is told, good or bad.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use bartizan_oauth::jwt::{SigningAlg, SigningKey};
use bartizan_oauth::params::{Builder, Params};
use bartizan_oauth::pkce::challenge_of;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

pub const CLIENT: &str = "gateway";
pub const SECRET: &str = "s3:cr%t";

/// What the server sends.
#[derive(Clone)]
pub enum Reply {
    Json(u16, Value),
    Text(u16, String),
    /// Without end.
    Endless,
    /// Nothing at all.
    Silence,
}

/// Makes an ID token from its claims.
pub type MakeToken = Arc<dyn Fn(&Behaviour, &Map<String, Value>) -> String + Send + Sync>;

pub struct Behaviour {
    /// Answers instead of the usual ones, by path.
    pub instead: HashMap<String, Reply>,
    /// Members of the discovery document, over the usual ones.
    pub metadata: Value,
    /// Claims of the ID token, over the usual ones; null removes one.
    pub claims: Value,
    pub userinfo: Value,
    pub keys: Vec<SigningKey>,
    /// Which key signs.
    pub signs: usize,
    /// Keys that are served; `None`: all.
    pub served: Option<Vec<usize>>,
    pub token: Option<MakeToken>,
    pub secret: Option<&'static str>,
    pub sends_iss: bool,
    codes: HashMap<String, Params>,
    number: u32,
    pub asked: Vec<String>,
    pub last_token_request: String,
    /// Refresh tokens are given, each good once.
    pub refreshes: bool,
    /// A refresh gives an ID token as well.
    pub refresh_id_token: bool,
    refresh: Option<String>,
}

#[derive(Clone)]
pub struct Provider {
    pub issuer: String,
    behaviour: Arc<Mutex<Behaviour>>,
    pub accepted: Arc<Notify>,
}

impl Behaviour {
    pub fn sign(&self, claims: &Map<String, Value>) -> String {
        self.keys[self.signs].sign("JWT", claims).unwrap().expose().clone()
    }
}

pub fn key(kid: &str) -> SigningKey {
    let pkcs8 = SigningKey::generate(SigningAlg::Es256).unwrap();
    SigningKey::from_pkcs8(SigningAlg::Es256, kid, &pkcs8).unwrap()
}

/// Puts the second object's members over the first one's; null removes.
pub fn over(base: Value, changes: &Value) -> Map<String, Value> {
    let Value::Object(mut base) = base else { panic!("an object") };
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(base.remove(name)),
            value => drop(base.insert(name.clone(), value.clone())),
        }
    }
    base
}

impl Provider {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let behaviour = Behaviour {
            instead: HashMap::new(),
            metadata: json!({}),
            claims: json!({}),
            userinfo: json!({"sub": "sub-ana"}),
            keys: vec![key("one")],
            signs: 0,
            served: None,
            token: None,
            secret: Some(SECRET),
            sends_iss: false,
            codes: HashMap::new(),
            number: 0,
            asked: Vec::new(),
            last_token_request: String::new(),
            refreshes: false,
            refresh_id_token: true,
            refresh: None,
        };
        let provider = Self {
            issuer: format!("http://{address}"),
            behaviour: Arc::new(Mutex::new(behaviour)),
            accepted: Arc::default(),
        };
        let served = provider.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let provider = served.clone();
                tokio::spawn(async move { provider.serve(stream).await });
            }
        });
        provider
    }

    pub fn set(&self) -> MutexGuard<'_, Behaviour> {
        self.behaviour.lock().unwrap()
    }

    pub fn asked(&self, path: &str) -> usize {
        self.set().asked.iter().filter(|known| *known == path).count()
    }

    /// The person agrees at the provider: the query of the redirect back.
    pub fn approve(&self, url: &str) -> String {
        let (base, query) = url.split_once('?').unwrap();
        assert_eq!(base, format!("{}/authorize", self.issuer));
        let request = Params::parse(query.as_bytes()).unwrap();
        let state = request.get("state").unwrap().to_owned();
        let mut behaviour = self.set();
        behaviour.number += 1;
        let code = format!("code-{}", behaviour.number);
        behaviour.codes.insert(code.clone(), request);
        let iss = behaviour.sends_iss.then_some(self.issuer.as_str());
        Builder::new().add("code", &code).add("state", &state).add_some("iss", iss).finish()
    }

    fn metadata(&self, behaviour: &Behaviour) -> Value {
        let at = |path: &str| format!("{}{path}", self.issuer);
        let usual = json!({
            "issuer": self.issuer,
            "authorization_endpoint": at("/authorize"),
            "token_endpoint": at("/token"),
            "jwks_uri": at("/jwks"),
            "userinfo_endpoint": at("/userinfo"),
            "end_session_endpoint": at("/end"),
            "id_token_signing_alg_values_supported": ["ES256"],
            "authorization_response_iss_parameter_supported": behaviour.sends_iss,
        });
        Value::Object(over(usual, &behaviour.metadata))
    }

    fn answer(&self, path: &str, head: &str, body: &str) -> Reply {
        let mut behaviour = self.set();
        behaviour.asked.push(path.to_owned());
        if let Some(reply) = behaviour.instead.get(path) {
            return reply.clone();
        }
        match path {
            "/.well-known/openid-configuration" => Reply::Json(200, self.metadata(&behaviour)),
            "/jwks" => {
                let served = |index: &usize| behaviour.served.as_ref().is_none_or(|served| served.contains(index));
                let keys = (0..behaviour.keys.len()).filter(served).map(|index| behaviour.keys[index].public_jwk());
                Reply::Json(200, json!({"keys": keys.collect::<Vec<_>>()}))
            }
            "/token" => {
                behaviour.last_token_request = format!("{head}\r\n\r\n{body}");
                match self.redeem(&mut behaviour, head, body) {
                    Ok(answer) => Reply::Json(200, answer),
                    Err(why) => Reply::Json(400, json!({"error": "invalid_grant", "error_description": why})),
                }
            }
            "/userinfo" if head.contains("Bearer at-") => Reply::Json(200, behaviour.userinfo.clone()),
            _ => Reply::Text(404, "nothing here".to_owned()),
        }
    }

    /// As strict as the strictest real one.
    fn redeem(&self, behaviour: &mut Behaviour, head: &str, body: &str) -> Result<Value, &'static str> {
        let form = Params::parse(body.as_bytes()).map_err(|_| "form")?;
        if form.get("grant_type") == Some("refresh_token") {
            if form.get("refresh_token").is_none() || form.get("refresh_token") != behaviour.refresh.as_deref() {
                return Err("refresh_token");
            }
            return Ok(self.tokens(behaviour, None));
        }
        let request = form.get("code").and_then(|code| behaviour.codes.remove(code)).ok_or("code")?;
        if form.get("redirect_uri") != request.get("redirect_uri") {
            return Err("redirect_uri");
        }
        if form.get("code_verifier").map(challenge_of).as_deref() != request.get("code_challenge") {
            return Err("code_verifier");
        }
        match behaviour.secret {
            Some(_) => {
                let pair = STANDARD.encode(format!("{CLIENT}:s3%3Acr%25t"));
                if !head.contains(&format!("authorization: Basic {pair}")) {
                    return Err("client");
                }
            }
            None if form.get("client_id") != Some(CLIENT) => return Err("client"),
            None => {}
        }
        Ok(self.tokens(behaviour, Some(request)))
    }

    /// Tokens for a code, or without one for a refresh token.
    fn tokens(&self, behaviour: &mut Behaviour, request: Option<Params>) -> Value {
        let usual = json!({
            "iss": self.issuer, "aud": CLIENT, "sub": "sub-ana",
            "nonce": request.as_ref().and_then(|request| request.get("nonce")),
            "iat": crate::NOW_S, "exp": crate::NOW_S + 300,
            "email": "ana@corp.example", "email_verified": true, "name": "Ana", "groups": ["eng"],
        });
        let claims = over(usual, &behaviour.claims);
        let token = match behaviour.token.clone() {
            Some(make) => make(behaviour, &claims),
            None => behaviour.sign(&claims),
        };
        let mut answer = json!({"access_token": "at-1", "token_type": "Bearer", "expires_in": "300"});
        if request.is_some() || behaviour.refresh_id_token {
            answer["id_token"] = token.into();
        }
        if behaviour.refreshes {
            behaviour.number += 1;
            let refresh = format!("rt-{}", behaviour.number);
            behaviour.refresh = Some(refresh.clone());
            answer["refresh_token"] = refresh.into();
        }
        answer
    }

    async fn serve(&self, mut stream: TcpStream) {
        let mut bytes = Vec::new();
        let (head, body) = loop {
            let mut piece = [0; 4096];
            match stream.read(&mut piece).await {
                Ok(count) if count > 0 => bytes.extend_from_slice(&piece[..count]),
                _ => return,
            }
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                break (head.to_owned(), body.to_owned());
            }
        };
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let (status, kind, body) = match self.answer(&path, &head, &body) {
            Reply::Json(status, value) => (status, "application/json", value.to_string()),
            Reply::Text(status, text) => (status, "text/plain", text),
            Reply::Silence => {
                self.accepted.notify_one();
                // Until the other side gives up.
                let _ = stream.read(&mut [0; 1]).await;
                return;
            }
            Reply::Endless => {
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
                let _ = stream.write_all(head.as_bytes()).await;
                let piece = format!("1000\r\n{}\r\n", " ".repeat(4096));
                while stream.write_all(piece.as_bytes()).await.is_ok() {}
                return;
            }
        };
        let extra = if (300..400).contains(&status) { format!("location: {body}\r\n") } else { String::new() };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n{extra}connection: close\r\n\r\n"
        );
        let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
    }
}
