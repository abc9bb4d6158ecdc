//! The official Rust SDK over Streamable HTTP, with its own OAuth. Modes: legacy (its default), auto, modern.
//!
//! One JSON argument, one JSON line: plan and report are those of `lib/drive.mjs`, of which this client knows
//! the steps `{list: "tools"}` and `{call: NAME, args?}`.

use std::error::Error;
use std::time::Duration;

use rmcp::model::{CallToolRequestParams, ClientConfig, ProtocolVersion};
use rmcp::service::{ClientInitializeError, ClientLifecycleMode, ClientServiceExt as _, RoleClient, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::auth::{AuthClient, AuthorizationRequest, OAuthState};
use rmcp::transport::streamable_http_client::{StreamableHttpClient, StreamableHttpClientTransportConfig};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

type Failure = Box<dyn Error + Send + Sync>;
type Session = RunningService<RoleClient, ClientConfig>;

fn lifecycle(plan: &Value) -> ClientLifecycleMode {
    let preferred_versions = vec![ProtocolVersion::V_2026_07_28];
    match plan["mode"].as_str() {
        Some("modern") => ClientLifecycleMode::Discover { preferred_versions },
        Some("auto") => ClientLifecycleMode::Auto { preferred_versions, legacy_version: None },
        _ => ClientLifecycleMode::Initialize,
    }
}

async fn connect<C: StreamableHttpClient + Clone + Send + Sync + 'static>(
    plan: &Value,
    http: C,
) -> Result<Session, ClientInitializeError> {
    let mut config = StreamableHttpClientTransportConfig::with_uri(plan["url"].as_str().unwrap_or_default());
    config.auth_header = plan["token"].as_str().map(str::to_owned);
    let mut me = ClientConfig::default();
    me.client_info.name = "e2e-rmcp".to_owned();
    me.client_info.version = "1.0.0".to_owned();
    let transport = StreamableHttpClientTransport::with_client(http, config);
    me.serve_with_lifecycle(transport, lifecycle(plan)).await
}

/// Waits for the browser to come back: the target of its request.
async fn returned(listener: &TcpListener) -> Result<String, Failure> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        let mut head = Vec::new();
        let mut piece = [0_u8; 4096];
        while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < 65_536 {
            match stream.read(&mut piece).await? {
                0 => break,
                read => head.extend_from_slice(&piece[..read]),
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let page = "<h1>You may close this page</h1>";
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{page}",
            page.len()
        );
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        let target = head.split(' ').nth(1).unwrap_or_default();
        if target.starts_with("/callback?") {
            return Ok(target.to_owned());
        }
    }
}

/// From the challenge of the first request to tokens, by the SDK alone.
async fn sign_in(plan: &Value, challenge: &str, told: &mut Value) -> Result<OAuthState, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let origin = format!("http://127.0.0.1:{}", listener.local_addr()?.port());
    let mut state = OAuthState::new(plan["url"].as_str().unwrap_or_default(), None).await?;
    let request =
        AuthorizationRequest::new(format!("{origin}/callback")).with_client_name("e2e rmcp").with_challenge(challenge);
    state.start_authorization(request).await?;
    let url = state.get_authorization_url().await?;
    told["url"] = json!(url);
    let browser = std::env::var("BROWSER")?;
    tokio::process::Command::new(browser).arg(&url).stdin(std::process::Stdio::null()).spawn()?.wait().await?;
    let target = tokio::time::timeout(Duration::from_secs(60), returned(&listener)).await??;
    state.handle_callback_url(&format!("{origin}{target}")).await?;
    let (client, tokens) = state.get_credentials().await?;
    told["client"] = json!({"client_id": client});
    told["tokens"] = serde_json::to_value(tokens)?;
    Ok(state)
}

async fn open(plan: &Value, report: &mut Value) -> Result<Session, Failure> {
    let http = reqwest::Client::new();
    let error = match connect(plan, http.clone()).await {
        Ok(session) => return Ok(session),
        Err(error) => error,
    };
    let challenge = error.auth_challenge().map(str::to_owned);
    let (Some(challenge), true) = (challenge, plan["signIn"] == true) else {
        return Err(error.into());
    };
    let state = sign_in(plan, &challenge, &mut report["signedIn"]).await?;
    let manager = state.into_authorization_manager().ok_or("no authorization manager")?;
    Ok(connect(plan, AuthClient::new(http, manager)).await?)
}

async fn step(session: &Session, wanted: &Value) -> Result<Value, Failure> {
    if wanted["list"] == "tools" {
        let tools = session.peer().list_all_tools().await?;
        let names: Vec<_> = tools.iter().map(|tool| tool.name.to_string()).collect();
        return Ok(json!({"names": names}));
    }
    let Some(tool) = wanted["call"].as_str() else {
        return Err(format!("unknown step {wanted}").into());
    };
    let arguments = wanted["args"].as_object().cloned().unwrap_or_default();
    let call = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
    let result = serde_json::to_value(session.peer().call_tool(call).await?)?;
    let blocks = result["content"].as_array().map(Vec::as_slice).unwrap_or_default();
    let texts: Vec<_> = blocks.iter().filter_map(|block| block["text"].as_str()).collect();
    Ok(json!({"isError": result["isError"] == true, "text": texts.join("\n")}))
}

fn merged(wanted: &Value, outcome: Value) -> Value {
    let mut all = wanted.clone();
    if let (Some(all), Value::Object(more)) = (all.as_object_mut(), outcome) {
        all.extend(more);
    }
    all
}

async fn run(plan: &Value, report: &mut Value) -> Result<(), Failure> {
    let session = open(plan, report).await?;
    report["version"] = json!(session.peer().peer_info().map(|info| info.protocol_version.to_string()));
    let mut done = Vec::new();
    for wanted in plan["steps"].as_array().into_iter().flatten() {
        let outcome = match step(&session, wanted).await {
            Ok(outcome) => outcome,
            Err(error) => json!({"error": {"message": error.to_string()}}),
        };
        done.push(merged(wanted, outcome));
    }
    report["steps"] = json!(done);
    session.cancel().await?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let plan = std::env::args().nth(1).unwrap_or_default();
    let plan: Value = serde_json::from_str(&plan).unwrap_or_default();
    let mut report = json!({"client": "rmcp", "mode": plan["mode"], "asked": [], "steps": [], "signedIn": {}});
    let limit = Duration::from_secs(plan["limit"].as_u64().unwrap_or(90));
    let problem = match tokio::time::timeout(limit, run(&plan, &mut report)).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("{error}: {error:?}")),
        Err(_) => Some("time is up".to_owned()),
    };
    if let Some(message) = &problem {
        report["error"] = json!({"message": message});
    }
    println!("{report}");
    std::process::exit(i32::from(problem.is_some()));
}
