//! The administration through the product: rows P54, P3, A24, U9.

#![allow(clippy::indexing_slicing, reason = "helpers of tests")]

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bartizan_testkit::client::{Identity, ModernClient};
use bartizan_testkit::fixture::{Era, Fixture, Options};
use bartizan_testkit::postgres::Postgres;
use bartizan_testkit::product::{Config, Product, all_services, http_server};
use bartizan_testkit::tools::{self, Part};
use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The token `agent` is an owner.
fn config() -> Config {
    Config::new().set("roles", json!({"owner": ["service:agent"]})).token("other")
}

async fn send(product: &Product, token: &str, method: Method, path: &str, body: &Value) -> Result<(u16, Value)> {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let url = format!("{}/api/v1{path}", product.base());
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let reply = product.http.send(method, &url, &headers, body).await?;
    let status = reply.status;
    let text = reply.text().await?;
    Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
}

/// Whether the tools of `fx` are listed, beside those of the portal itself.
async fn offers(client: &ModernClient) -> Result<bool> {
    let tools = client.tools().await.map_err(|problem| anyhow::anyhow!("{problem}"))?;
    Ok(tools.iter().any(|name| name.starts_with("fx_")))
}

/// A server as whoever adds one by the API writes it, who vouches for what it offers.
fn trusted(id: &str, upstream: &Fixture) -> Value {
    let mut server = http_server(id, &upstream.url(), &upstream.tool_names());
    server["trust"] = json!("first_sync");
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p54_a_server_added_by_the_api_is_offered_by_three_processes_within_a_second() -> Result<()> {
    let test = "p54_a_server_added_by_the_api_is_offered_by_three_processes_within_a_second";
    if !tools::ready(test, &[Part::Product, Part::Postgres]) {
        return Ok(());
    }
    let upstream = Fixture::start(Options::of(Era::Modern)).await?;
    let (postgres, folders) = (Postgres::start().await?, TempDir::new()?);
    let database = postgres.database("bartizan_admin").await?;
    let mut nodes: Vec<Product> = Vec::new();
    for number in 0..3 {
        let store = json!({"url": database, "data_dir": folders.path().join(number.to_string())});
        let mut config = config().set("store", store);
        if number > 0 {
            config.tokens.clear();
        }
        nodes.push(Product::serve(config).await?);
    }
    let token = nodes[0].token("agent").to_owned();
    let clients: Vec<ModernClient> =
        nodes.iter().map(|node| ModernClient::new(&node.url(), Identity::bearer(&token))).collect();
    for client in &clients {
        ensure!(!offers(client).await?);
    }
    let (status, made) = send(&nodes[0], &token, Method::POST, "/servers", &trusted("fx", &upstream)).await?;
    ensure!(status == 201, "{status} {made}");
    let began = Instant::now();
    for client in &clients {
        while !offers(client).await? {
            ensure!(began.elapsed() < Duration::from_secs(1), "not on every process after a second");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    // It goes in the same way, on another process.
    let (status, got) = send(&nodes[1], &token, Method::GET, "/servers/fx", &Value::Null).await?;
    ensure!(status == 200 && got["managed_by"] == "api", "{got}");
    let tag = format!("\"{}\"", got["revision"]);
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("if-match", tag.as_str())];
    let url = format!("{}/api/v1/servers/fx", nodes[1].base());
    ensure!(nodes[1].http.send(Method::DELETE, &url, &headers, "").await?.status == 204);
    let began = Instant::now();
    for client in &clients {
        while offers(client).await? {
            ensure!(began.elapsed() < Duration::from_secs(1), "offered still after a second");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    // A token without a role gets nothing, and no token gets told where to get one.
    let other = nodes[0].token("other").to_owned();
    let (status, refused) = send(&nodes[0], &other, Method::GET, "/servers", &Value::Null).await?;
    ensure!(status == 403 && refused["error"]["code"] == "role_required", "{status} {refused}");
    ensure!(send(&nodes[0], &other, Method::GET, "/servers/fx", &Value::Null).await?.0 == 404);
    ensure!(nodes[0].http.get(&format!("{}/api/v1/servers", nodes[0].base())).await?.0 == 401);
    // Both changes are revisions, each with its event.
    let (_, revisions) = send(&nodes[2], &token, Method::GET, "/revisions", &Value::Null).await?;
    let items = revisions["items"].as_array().context("a list")?;
    ensure!(items.len() == 2 && items.iter().all(|one| one["event_id"].as_str().is_some()), "{revisions}");
    Ok(())
}

fn write(folder: &Path, name: &str, file: &Value) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join(name), file.to_string())?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u9_plan_apply_and_export_of_a_folder() -> Result<()> {
    if !tools::ready("u9_plan_apply_and_export_of_a_folder", &[Part::Product]) {
        return Ok(());
    }
    let upstream = Fixture::start(Options::of(Era::Modern)).await?;
    let product = Product::serve(config()).await?;
    let files = TempDir::new()?;
    let folder = files.path().join("wanted");
    let shown = folder.display().to_string();
    let mut server = trusted("fx", &upstream);
    server["policies"] = json!([
        {"action": "service_auth", "include": [{"everyone": true}]},
        {"action": "allow", "include": [{"groups": ["staff"]}]},
    ]);
    write(&folder, "servers.yaml", &json!({"servers": [server]}))?;
    write(
        &folder,
        "rest.yaml",
        &json!({"roles": {"auditor": ["group:audit"]}, "grants": [
        {"id": "g", "principals": ["group:staff"], "server": "fx", "classes": ["write"]}]}),
    )?;

    let planned = product.command(&["plan", "-f", &shown]).await?;
    for part in ["+ server/fx", "+ grant/g", "+ role/auditor", "group:staff gains server fx: write tools"] {
        ensure!(planned.stdout.contains(part), "{part} is missing:\n{}\n{}", planned.stdout, planned.stderr);
    }
    let detect = ["plan", "-f", &shown, "--detect"];
    ensure!(product.command(&detect).await?.code == Some(1));
    let applied = product.command(&["apply", "-f", &shown, "--git-revision", "abc123", "--json"]).await?;
    let applied: Value = serde_json::from_str(applied.stdout.trim()).context(applied.stderr)?;
    ensure!(applied["revision"] == 1 && applied["changes"].as_array().map(Vec::len) == Some(3), "{applied}");
    // Twice is no change.
    let again = product.command(&["apply", "-f", &shown]).await?;
    ensure!(again.stdout.contains("no change") && again.code == Some(0), "{}", again.stdout);
    ensure!(product.command(&detect).await?.code == Some(0));
    // The running process uses it.
    let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
    let began = Instant::now();
    while !offers(&client).await? {
        ensure!(began.elapsed() < Duration::from_secs(5), "what was applied is not in use");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The record says from which revision of the files it came.
    let token = product.token("agent").to_owned();
    let (_, revisions) = send(&product, &token, Method::GET, "/revisions", &Value::Null).await?;
    ensure!(revisions["items"][0]["git_revision"] == "abc123" && revisions["items"][0]["source"] == "apply");
    // What comes out goes in again without a change.
    let exported = product.command(&["export"]).await?;
    let copy = files.path().join("copy");
    std::fs::create_dir_all(&copy)?;
    std::fs::write(copy.join("all.yaml"), &exported.stdout)?;
    let same = product.command(&["plan", "-f", &copy.display().to_string(), "--detect"]).await?;
    ensure!(same.code == Some(0), "{}\n{}\n{}", exported.stdout, same.stdout, same.stderr);
    // A half-broken folder: everything at once with its place, and nothing applied.
    std::fs::write(
        folder.join("broken.yaml"),
        "servers:\n  - server_id: ok\n    hostname: https://ok.example/mcp\n    hostnam: x\nportals:\n  - id: p\n    servers: [nobody]\n",
    )?;
    let refused = product.command(&["apply", "-f", &shown]).await?;
    ensure!(refused.code == Some(1), "{:?}", refused.code);
    for place in ["broken.yaml:4:5", "broken.yaml:7:15"] {
        ensure!(refused.stdout.contains(place), "{place} is missing:\n{}", refused.stdout);
    }
    ensure!(refused.stdout.contains("did you mean `hostname`?"), "{}", refused.stdout);
    let (_, servers) = send(&product, &token, Method::GET, "/servers", &Value::Null).await?;
    ensure!(servers["items"].as_array().map(Vec::len) == Some(1), "{servers}");
    // Somebody changed it beside the files: the plan says who.
    let (status, _) = send(&product, &token, Method::POST, "/servers", &trusted("beside", &upstream)).await?;
    ensure!(status == 201);
    std::fs::remove_file(folder.join("broken.yaml"))?;
    let drifted = product.command(&["plan", "-f", &shown]).await?;
    ensure!(drifted.stdout.contains("- server/beside"), "{}", drifted.stdout);
    ensure!(drifted.stdout.contains("server/beside by service:agent (api)"), "{}", drifted.stdout);
    // A plan that somebody overtook is not applied.
    let late = product.command(&["apply", "-f", &shown, "--revision", "1"]).await?;
    ensure!(late.code == Some(1) && late.stderr.contains("precondition_failed"), "{} {}", late.stdout, late.stderr);
    Ok(())
}

async fn killed_in_the_middle(config: Config) -> Result<()> {
    let product = Product::serve(config).await?;
    let files = TempDir::new()?;
    let token = product.token("agent").to_owned();
    let sets = [200, 120].map(|count| {
        let server = |n: usize| {
            json!({"server_id": format!("s{n}"), "hostname": format!("https://s{n}.example/mcp"),
                "policies": all_services(), "classes": {"read": ["a", "b", "c"]}})
        };
        (0..count).map(server).collect::<Vec<_>>()
    });
    for (at, set) in sets.iter().enumerate() {
        write(&files.path().join(at.to_string()), "servers.yaml", &json!({"servers": set}))?;
    }
    let binary = tools::product();
    let mut ended = Vec::new();
    for (round, delay) in [20, 60, 120, 200, 300, 450, 700, 2_000].into_iter().enumerate() {
        let folder = files.path().join((round % 2).to_string());
        let mut command = tokio::process::Command::new(&binary);
        command.args(["apply", "-c"]).arg(product.config_path()).arg("-f").arg(&folder);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut child = command.spawn()?;
        let done = tokio::time::timeout(Duration::from_millis(delay), child.wait()).await;
        if done.is_err() {
            child.kill().await?;
        }
        let (status, servers) = send(&product, &token, Method::GET, "/servers?limit=1000", &Value::Null).await?;
        let count = servers["items"].as_array().map_or(0, Vec::len);
        ensure!(status == 200 && [0, 200, 120].contains(&count), "{count} servers after a kill at {delay} ms");
        ended.push(done.is_ok());
    }
    ensure!(ended.iter().any(|ended| !ended), "nothing was killed in the middle");
    let whole = product.command(&["apply", "-f", &files.path().join("0").display().to_string()]).await?;
    ensure!(whole.code == Some(0), "{} {}", whole.stdout, whole.stderr);
    let verified = product.command(&["audit", "verify"]).await?;
    ensure!(verified.code == Some(0), "{} {}", verified.stdout, verified.stderr);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u9_a_killed_apply_leaves_all_or_nothing() -> Result<()> {
    if !tools::ready("u9_a_killed_apply_leaves_all_or_nothing", &[Part::Product]) {
        return Ok(());
    }
    killed_in_the_middle(config()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u9_a_killed_apply_leaves_all_or_nothing_on_postgres() -> Result<()> {
    if !tools::ready("u9_a_killed_apply_leaves_all_or_nothing_on_postgres", &[Part::Product, Part::Postgres]) {
        return Ok(());
    }
    let (postgres, folder) = (Postgres::start().await?, TempDir::new()?);
    let store = json!({"url": postgres.database("bartizan_apply").await?, "data_dir": folder.path().join("data")});
    killed_in_the_middle(config().set("store", store)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a24_kill_switches_definitions_and_the_record_by_the_api() -> Result<()> {
    let test = "a24_kill_switches_definitions_and_the_record_by_the_api";
    if !tools::ready(test, &[Part::Product]) {
        return Ok(());
    }
    let upstream = Fixture::start(Options::of(Era::Modern)).await?;
    let product = Product::serve(config().token("second").set(
        "roles",
        json!({"owner": ["service:agent"], "security": ["service:second"], "auditor": ["service:other"]}),
    ))
    .await?;
    let (owner, second) = (product.token("agent").to_owned(), product.token("second").to_owned());
    let auditor = product.token("other").to_owned();
    let (get, post, none) = (Method::GET, Method::POST, Value::Null);

    // A server whose definitions nobody approved; one is approved, once.
    let mut server = trusted("fx", &upstream);
    server["trust"] = json!("review");
    let (status, made) = send(&product, &owner, post.clone(), "/servers", &server).await?;
    ensure!(status == 201, "{status} {made}");
    let client = ModernClient::new(&product.url(), Identity::bearer(&owner));
    ensure!(!offers(&client).await?, "offered before anybody approved it");
    let (status, listed) = send(&product, &owner, get.clone(), "/definitions?server=fx", &none).await?;
    let tool = listed["items"].as_array().and_then(|all| all.iter().find(|one| one["kind"] == "tool"));
    let tool = tool.with_context(|| format!("{status} {listed}"))?;
    let wanted = json!({"server": "fx", "kind": "tool", "name": tool["name"], "pin": tool["seen_pin"],
        "decision": "approve", "reason": "looked at"});
    let (status, _) = send(&product, &second, post.clone(), "/definitions/decide", &wanted).await?;
    ensure!(status == 403, "security does not decide: {status}");
    let (status, decided) = send(&product, &owner, post.clone(), "/definitions/decide", &wanted).await?;
    ensure!(status == 200 && decided["state"] == "approved", "{status} {decided}");

    // Everything stops, and goes on when two say so.
    let kill = json!({"scope": "everything", "reason": "drill"});
    let (status, set) = send(&product, &second, post.clone(), "/kill_switches", &kill).await?;
    ensure!(status == 200, "{status} {set}");
    let lift = format!("/kill_switches/{}/lift", set["id"].as_str().context("an id")?);
    let why = json!({"reason": "over"});
    let (status, asked) = send(&product, &second, post.clone(), &lift, &why).await?;
    ensure!(status == 200 && asked["second_needed"] == true, "{status} {asked}");
    let (status, same) = send(&product, &second, post.clone(), &lift, &why).await?;
    ensure!(status == 409 && same["error"]["code"] == "another_person_needed", "{status} {same}");
    let (status, lifted) = send(&product, &owner, post.clone(), &lift, &why).await?;
    ensure!(status == 200 && lifted["lifted_by"] == "service:agent", "{status} {lifted}");

    // Each of these is on record once.
    let methods = ["definition/approve", "kill/set", "kill/ask_to_lift", "kill/lift"];
    let began = Instant::now();
    loop {
        let (status, found) = send(&product, &auditor, get.clone(), "/audit/events?kind=admin", &none).await?;
        ensure!(status == 200, "{status} {found}");
        let items = found["items"].as_array().context("a list")?;
        let counts = methods.map(|method| items.iter().filter(|one| one["method"] == method).count());
        if counts == [1; 4] {
            break;
        }
        ensure!(began.elapsed() < Duration::from_secs(10) && counts.iter().all(|n| *n <= 1), "{counts:?} {found}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (status, figures) = send(&product, &auditor, get.clone(), "/audit/figures?days=1&tz=%2B02:00", &none).await?;
    ensure!(status == 200 && figures["series"].as_array().map(Vec::len) == Some(1), "{status} {figures}");
    ensure!(send(&product, &auditor, get.clone(), "/audit/figures?days=0", &none).await?.0 == 400);
    let (status, _) = send(&product, &owner, get.clone(), "/audit/events/x/body", &none).await?;
    ensure!(status == 404);
    let (status, mine) = send(&product, &owner, get, "/approvals", &none).await?;
    ensure!(status == 200 && mine["asked"] == json!([]) && mine["to_decide"] == json!([]), "{status} {mine}");
    let answer = json!({"answer": "call"});
    let (status, program) = send(&product, &owner, post, "/approvals/x/decide", &answer).await?;
    ensure!(status == 409 && program["error"]["code"] == "another_person_needed", "{status} {program}");
    Ok(())
}
