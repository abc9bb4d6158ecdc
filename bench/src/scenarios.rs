//! What is measured, and in which order.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::load::{self, Shot};
use crate::process::Process;
use crate::report::{line, spread};

/// The process under test; load and upstream share the other core.
pub(crate) const CORE_TESTED: usize = 0;
const CORE_REST: usize = 1;
const CONNECTIONS: usize = 8;
const CALLS: usize = 8_000;
const ROUNDS: usize = 7;

pub(crate) async fn run(part: Option<&str>, sessions: usize) -> Result<()> {
    let wanted = |name: &str| part.is_none_or(|part| part == name);
    if wanted("calls") {
        for modern in [false, true] {
            calls(modern).await?;
        }
    }
    if wanted("lists") {
        lists().await?;
    }
    if wanted("memory") {
        memory().await?;
    }
    if wanted("sessions") {
        crate::sessions::run(sessions).await?;
    }
    if wanted("start") {
        start()?;
    }
    Ok(())
}

/// How long `bartizan dev` takes until it announces itself (row U1).
fn start() -> Result<()> {
    let program = gateway_program()?.to_string_lossy().into_owned();
    let (mut wall, mut cpu) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let began = tokio::time::Instant::now();
        let (process, announced) =
            Process::start(CORE_TESTED, &program, &["dev", "--json", "--listen", "127.0.0.1:0"])?;
        wall.push(began.elapsed().as_secs_f64() * 1_000.0);
        cpu.push(process.cpu()? * 1_000.0);
        ensure!(announced.starts_with('{'), "dev announced {announced}");
    }
    line("`dev`: start to announcement, wall", spread(wall), "ms");
    line("`dev`: start to announcement, CPU", spread(cpu), "ms");
    Ok(())
}

/// A running gateway in front of the bench upstream.
pub(crate) struct Gateway {
    pub(crate) process: Process,
    pub(crate) port: u16,
    token: (String, String),
    _folder: TempDir,
}

impl Gateway {
    pub(crate) async fn start(upstream: u16, audit: &str, tools: usize) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (port, operations) = (free_port()?, free_port()?);
        let read: Vec<String> = (0..tools).map(|n| format!("read_record_{n}")).collect();
        let config = json!({
            "public_url": format!("http://127.0.0.1:{port}"),
            "listen": format!("127.0.0.1:{port}"),
            "operations": {"listen": format!("127.0.0.1:{operations}")},
            "store": {"data_dir": folder.path().join("data")},
            "key": {"file": folder.path().join("key")},
            "audit": {"mode": audit},
            "egress": {"private_allow": ["127.0.0.1"]},
            "servers": [{
                "server_id": "archive", "name": "Archive", "hostname": format!("http://127.0.0.1:{upstream}/mcp"),
                "policies": [{"action": "service_auth", "include": [{"everyone": true}]}],
                "classes": {"read": read},
            }],
            "portals": [{"id": "default", "policies": [{"action": "service_auth", "include": [{"everyone": true}]}]}],
            "policies": [{"id": "no-secrets", "cedar":
                "forbid(principal, action, resource) when { resource has name && resource.name == \"read_secret\" };"}],
        });
        // JSON is YAML.
        let file = folder.path().join("bartizan.yaml");
        std::fs::write(&file, config.to_string())?;
        std::fs::write(folder.path().join("key"), [7_u8, 3, 1, 9, 4, 8, 2, 6].repeat(4))?;
        restrict(&folder.path().join("key"))?;
        let program = gateway_program()?;
        let file = file.to_string_lossy().into_owned();
        let made = Command::new(&program).args(["token", "create", "-c", &file, "bench", "--json"]).output()?;
        ensure!(made.status.success(), "token create: {}", String::from_utf8_lossy(&made.stderr));
        let made: Value = serde_json::from_slice(&made.stdout)?;
        let text = |key: &str| {
            made.get(key).and_then(Value::as_str).map(str::to_owned).with_context(|| format!("no {key} in {made}"))
        };
        let token = (text("client_id")?, text("client_secret")?);
        let process = Process::silent(CORE_TESTED, &program.to_string_lossy(), &["serve", "-c", &file])?;
        let gateway = Self { process, port, token, _folder: folder };
        gateway.wait().await?;
        Ok(gateway)
    }

    async fn wait(&self) -> Result<()> {
        for _ in 0..100 {
            if tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        anyhow::bail!("the gateway did not start");
    }

    pub(crate) fn headers(&self) -> Vec<(String, String)> {
        vec![
            ("bartizan-client-id".to_owned(), self.token.0.clone()),
            ("bartizan-client-secret".to_owned(), self.token.1.clone()),
        ]
    }
}

async fn calls(modern: bool) -> Result<()> {
    let era = if modern { "modern" } else { "legacy" };
    println!("\n## tools/call, {era} client and {era} upstream, {CONNECTIONS} connections, {CALLS} calls a round");
    let (_upstream, upstream_port) = upstream(modern, 10)?;
    let own = std::env::current_exe()?;
    let (proxy, port) =
        Process::start(CORE_TESTED, &own.to_string_lossy(), &["proxy", "--to", &upstream_port.to_string()])?;
    let bare = shot(port.parse()?, "/mcp", Vec::new(), modern, "read_record_7").await?;
    let fast = Gateway::start(upstream_port, "fast", 10).await?;
    let strict = Gateway::start(upstream_port, "strict", 10).await?;
    let fast_shot = shot(fast.port, "/mcp", fast.headers(), modern, "archive_read_record_7").await?;
    let strict_shot = shot(strict.port, "/mcp", strict.headers(), modern, "archive_read_record_7").await?;
    let subjects = [
        ("bare proxy", &proxy, &bare),
        ("audit fast", &fast.process, &fast_shot),
        ("audit strict", &strict.process, &strict_shot),
    ];
    let mut cpu = [const { Vec::new() }; 3];
    let mut rate = [const { Vec::new() }; 3];
    let mut latency = [const { Vec::new() }; 3];
    for round in 0..=ROUNDS {
        // Interleaved, so that a drift of the machine meets all alike; round 0 warms up.
        for (slot, (_, process, shot)) in subjects.iter().enumerate() {
            let before = process.cpu()?;
            let (seconds, latencies) = load::run(shot, CONNECTIONS, CALLS).await?;
            let used = process.cpu()? - before;
            if round > 0
                && let (Some(c), Some(r), Some(l)) = (cpu.get_mut(slot), rate.get_mut(slot), latency.get_mut(slot))
            {
                c.push(used * 1e6 / CALLS as f64);
                r.push(CALLS as f64 / seconds);
                l.push(spread(latencies).median);
            }
        }
    }
    let [bare_cpu, fast_cpu, strict_cpu] = &cpu;
    for (slot, (name, ..)) in subjects.iter().enumerate() {
        line(&format!("{name}: CPU per call"), spread(cpu.get(slot).cloned().unwrap_or_default()), "µs");
        line(&format!("{name}: calls per second"), spread(rate.get(slot).cloned().unwrap_or_default()), "/s");
        line(&format!("{name}: p50 latency"), spread(latency.get(slot).cloned().unwrap_or_default()), "µs");
    }
    let ratio = |a: &[f64], b: &[f64]| spread(a.iter().zip(b).map(|(a, b)| a / b).collect());
    line("CPU ratio, audit fast / bare proxy", ratio(fast_cpu, bare_cpu), "×");
    line("CPU ratio, audit strict / bare proxy", ratio(strict_cpu, bare_cpu), "×");
    Ok(())
}

async fn lists() -> Result<()> {
    println!("\n## tools/list of 5,000 tools");
    let (_upstream, upstream_port) = upstream(true, 5_000)?;
    let gateway = Gateway::start(upstream_port, "fast", 5_000).await?;
    let mut list = shot(gateway.port, "/mcp", gateway.headers(), true, "archive_read_record_7").await?;
    let (body, headers) = modern_body("tools/list", None);
    (list.body, list.expect) = (body, "read_record_");
    list.headers = gateway.headers();
    list.headers.extend(headers);
    let before = gateway.process.cpu()?;
    let start = tokio::time::Instant::now();
    let (_, first) = list.once().await?;
    println!(
        "cold: {:.1} ms wall, {:.1} ms CPU, {} bytes",
        start.elapsed().as_secs_f64() * 1e3,
        (gateway.process.cpu()? - before) * 1e3,
        first.len()
    );
    let before = gateway.process.cpu()?;
    let (_, latencies) = load::run(&list, 1, 100).await?;
    line("warm: latency", spread(latencies), "µs");
    println!("warm: {:.2} ms CPU per list", (gateway.process.cpu()? - before) * 1e3 / 100.0);
    Ok(())
}

async fn memory() -> Result<()> {
    println!("\n## memory");
    let (_upstream, upstream_port) = upstream(true, 10)?;
    let gateway = Gateway::start(upstream_port, "strict", 10).await?;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    println!("idle: {} KiB", gateway.process.rss_kib()?);
    let before = gateway.process.rss_kib()?;
    for _ in 0..1_000 {
        shot(gateway.port, "/mcp", gateway.headers(), false, "archive_read_record_7").await?;
    }
    println!(
        "after 1,000 idle sessions: {} KiB ({} KiB more)",
        gateway.process.rss_kib()?,
        gateway.process.rss_kib()?.saturating_sub(before)
    );
    Ok(())
}

pub(crate) fn upstream(modern: bool, tools: usize) -> Result<(Process, u16)> {
    let own = std::env::current_exe()?;
    let tools = tools.to_string();
    let mut args = vec!["upstream", "--tools", &tools];
    if modern {
        args.push("--modern");
    }
    let (process, port) = Process::start(CORE_REST, &own.to_string_lossy(), &args)?;
    Ok((process, port.parse()?))
}

/// A `tools/call` that is ready to be sent; opens a session for the legacy era.
async fn shot(port: u16, path: &str, headers: Vec<(String, String)>, modern: bool, tool: &str) -> Result<Shot> {
    let mut shot = Shot { port, path: path.to_owned(), headers, body: Bytes::new(), expect: "Record 7 is open" };
    if modern {
        let (body, headers) = modern_body("tools/call", Some(tool));
        shot.headers.extend(headers);
        shot.body = body;
        return Ok(shot);
    }
    let open = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}});
    shot.body = open.to_string().into();
    let (head, body) = shot.once().await?;
    let session = head.headers().get("mcp-session-id").and_then(|value| value.to_str().ok());
    let session =
        session.with_context(|| format!("no session: {} {}", head.status(), String::from_utf8_lossy(&body)))?;
    shot.headers.push(("mcp-session-id".to_owned(), session.to_owned()));
    shot.headers.push(("mcp-protocol-version".to_owned(), "2025-11-25".to_owned()));
    shot.body = json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string().into();
    shot.once().await?;
    let call =
        json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": tool, "arguments": {"id": "7"}}});
    shot.body = call.to_string().into();
    Ok(shot)
}

fn modern_body(method: &str, tool: Option<&str>) -> (Bytes, Vec<(String, String)>) {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
    });
    let mut headers = vec![
        ("mcp-protocol-version".to_owned(), "2026-07-28".to_owned()),
        ("mcp-method".to_owned(), method.to_owned()),
    ];
    let mut params = json!({"_meta": meta});
    if let (Some(tool), Some(members)) = (tool, params.as_object_mut()) {
        members.insert("name".to_owned(), tool.into());
        members.insert("arguments".to_owned(), json!({"id": "7"}));
        headers.push(("mcp-name".to_owned(), tool.to_owned()));
    }
    (json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}).to_string().into(), headers)
}

fn gateway_program() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    Ok(own.with_file_name("bartizan"))
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn restrict(file: &std::path::Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600))?)
}
