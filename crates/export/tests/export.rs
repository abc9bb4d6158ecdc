//! L5: sinks get every event at least once, whatever happens in between.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[allow(unreachable_pub, reason = "shared by tests")]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use support::{Bench, Endpoint, Request, until};

/// Made up.
const SECRET: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

fn push(url: &str) -> Value {
    json!({"id": "push", "batch": 40, "collect_ms": 20, "http": {"url": format!("{url}/in"), "secret": SECRET}})
}

/// Ids by how often they arrived, of requests that were answered with success.
fn ids(requests: &[Request]) -> BTreeMap<String, usize> {
    let mut ids = BTreeMap::new();
    for line in requests.iter().flat_map(|request| std::str::from_utf8(&request.body).unwrap().lines()) {
        let event: Value = serde_json::from_str(line).unwrap();
        *ids.entry(event["id"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    ids
}

fn is_signed(request: &Request) {
    let (id, at) = (request.header("webhook-id"), request.header("webhook-timestamp"));
    let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(SECRET.strip_prefix("whsec_").unwrap()).unwrap());
    let text = [format!("{id}.{at}.").as_bytes(), &request.body].concat();
    let signature = format!("v1,{}", STANDARD.encode(hmac::sign(&key, &text)));
    assert_eq!(request.header("webhook-signature"), signature);
}

#[tokio::test(flavor = "multi_thread")]
async fn l5_nothing_is_lost_while_a_sink_is_down_and_the_lag_is_on_record() {
    let (dir, endpoint) = (tempfile::tempdir().unwrap(), Endpoint::new().await);
    let bench = Bench::at(dir.path(), &[]).await;
    let (task, stats) = bench.export(push(&endpoint.url));
    let mut sent: BTreeSet<String> = bench.events(100).await.into_iter().collect();
    until("the first arrive", || ids(&endpoint.all()).len() == 100).await;
    // Down in three ways, under load.
    for status in [503, 0, 302] {
        endpoint.answer(status);
        sent.extend(bench.events(200).await);
    }
    until("it is noticed", || stats.all()["push"].failures > 2).await;
    bench.clock.advance_ms(600_000);
    until("the lag is seen", || stats.all()["push"].lag_ms > 300_000).await;
    until("the lag is in the figures", || stats.text().contains("bartizan_export_lag_seconds{sink=\"push\"} 6")).await;
    endpoint.requests.lock().unwrap().clear();
    endpoint.answer(200);
    until("all arrive", || {
        let here = ids(&endpoint.all());
        // The first hundred arrived before.
        sent.iter().filter(|id| here.contains_key(*id)).count() >= 600
    })
    .await;
    until("caught up", || stats.all()["push"].lag_ms == 0).await;
    assert!(endpoint.all().len() > 10, "in batches");
    endpoint.all().iter().for_each(is_signed);
    until("both are on record", || {
        let methods: Vec<String> = endpoint
            .all()
            .iter()
            .flat_map(|request| {
                String::from_utf8(request.body.clone()).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
            })
            .filter_map(|line| serde_json::from_str::<Value>(&line).unwrap()["method"].as_str().map(str::to_owned))
            .filter(|method| method.starts_with("export/"))
            .collect();
        methods.contains(&"export/lag".to_owned()) && methods.contains(&"export/caught_up".to_owned())
    })
    .await;
    task.abort();
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn l5_a_restart_goes_on_at_the_cursor_and_duplicates_carry_equal_ids() {
    let (dir, endpoint) = (tempfile::tempdir().unwrap(), Endpoint::new().await);
    let mut sent = BTreeSet::new();
    for round in 0..4 {
        let bench = Bench::at(dir.path(), &[]).await;
        let (task, _) = bench.export(push(&endpoint.url));
        sent.extend(bench.events(150).await);
        // In the middle of the work, with no word of farewell.
        until("some arrive", || ids(&endpoint.all()).len() > round * 150 + 30).await;
        task.abort();
        bench.end().await;
    }
    let bench = Bench::at(dir.path(), &[]).await;
    let (task, _) = bench.export(push(&endpoint.url));
    until("all arrive", || ids(&endpoint.all()).len() == sent.len()).await;
    let arrived = ids(&endpoint.all());
    assert_eq!(arrived.keys().cloned().collect::<BTreeSet<_>>(), sent, "0 lost, and none that was never sent");
    // At most one batch per restart came twice.
    assert!(arrived.values().sum::<usize>() <= sent.len() + 5 * 40, "{}", arrived.values().sum::<usize>());
    task.abort();
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn l5_two_processes_over_one_store_and_folder_send_each_chain_once() {
    let (dir, endpoint) = (tempfile::tempdir().unwrap(), Endpoint::new().await);
    let (one, two) = (Bench::at(dir.path(), &[]).await, Bench::at(dir.path(), &[]).await);
    let tasks = [one.export(push(&endpoint.url)).0, two.export(push(&endpoint.url)).0];
    let mut sent: BTreeSet<String> = one.events(200).await.into_iter().collect();
    sent.extend(two.events(200).await);
    until("all arrive", || ids(&endpoint.all()).len() == sent.len()).await;
    let arrived = ids(&endpoint.all());
    assert!(arrived.values().all(|count| *count == 1), "nobody else's lease was taken");
    tasks.iter().for_each(|task| task.abort());
    one.end().await;
    two.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn l5_an_otlp_collector_gets_every_field() {
    let (dir, endpoint) = (tempfile::tempdir().unwrap(), Endpoint::new().await);
    let bench = Bench::at(dir.path(), &[]).await;
    let headers = json!({"x-api-key": "k"});
    let (task, _) =
        bench.export(json!({"id": "otel", "format": "ecs", "otlp": {"endpoint": endpoint.url, "headers": headers}}));
    let sent = bench.events(1).await;
    until("it arrives", || !endpoint.all().is_empty()).await;
    let request = endpoint.all().remove(0);
    assert_eq!(request.line, "POST /v1/logs HTTP/1.1");
    assert_eq!((request.header("content-type"), request.header("x-api-key")), ("application/json", "k"));
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    let resource = &body["resourceLogs"][0];
    assert_eq!(
        resource["resource"]["attributes"][0],
        json!({"key": "service.name", "value": {"stringValue": "bartizan"}})
    );
    assert_eq!(resource["scopeLogs"][0]["scope"]["name"], "bartizan.audit");
    let record = &resource["scopeLogs"][0]["logRecords"][0];
    assert_eq!(record["timeUnixNano"], format!("{}", i128::from(support::NOW) * 1_000_000));
    assert_eq!(record["observedTimeUnixNano"], record["timeUnixNano"]);
    assert_eq!((record["severityNumber"].as_u64(), &record["severityText"]), (Some(9), &json!("INFO")));
    assert_eq!(record["eventName"], "bartizan.audit.call");
    assert_eq!(record["traceId"], "0af7651916cd43dd8448eb211c80319c");
    let attribute = |name: &str| {
        let all = record["attributes"].as_array().unwrap();
        all.iter().find(|one| one["key"] == name).unwrap_or_else(|| panic!("no {name}"))["value"].clone()
    };
    assert_eq!(attribute("log.record.uid"), json!({"stringValue": sent[0]}));
    assert_eq!(attribute("bartizan.seq"), json!({"intValue": "1"}));
    assert_eq!(attribute("bartizan.allowed"), json!({"boolValue": true}));
    assert_eq!(attribute("bartizan.outcome"), json!({"stringValue": "ok"}));
    assert_eq!(attribute("mcp.method.name"), json!({"stringValue": "tools/call"}));
    assert_eq!(attribute("bartizan.target"), json!({"stringValue": "tool-0"}));
    assert_eq!(attribute("user.name"), json!({"stringValue": "user:u0"}));
    assert_eq!(attribute("client.address"), json!({"stringValue": "192.0.2.7"}));
    let line: Value = serde_json::from_str(record["body"]["stringValue"].as_str().unwrap()).unwrap();
    assert_eq!(line["event"]["id"], sent[0].as_str());
    task.abort();
    bench.end().await;
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The store's side of Signature Version 4, from its description.
fn s3_accepts(request: &Request, secret: &str) -> bool {
    let authorization = request.header("authorization");
    let part = |name: &str| {
        let (_, rest) = authorization.split_once(&format!("{name}=")).unwrap();
        rest.split([',', ' ']).next().unwrap().to_owned()
    };
    let (scope, names, signature) = (part("Credential"), part("SignedHeaders"), part("Signature"));
    let hash = hex(digest::digest(&digest::SHA256, &request.body).as_ref());
    let path = request.line.split(' ').nth(1).unwrap();
    let headers: String = names.split(';').map(|name| format!("{name}:{}\n", request.header(name))).collect();
    let canonical = format!("PUT\n{path}\n\n{headers}\n{names}\n{hash}");
    let scope: Vec<&str> = scope.split('/').skip(1).collect();
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{}\n{}\n{}",
        request.header("x-amz-date"),
        scope.join("/"),
        hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref())
    );
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in &scope {
        key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), part.as_bytes()).as_ref().to_vec();
    }
    let expected = hex(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), to_sign.as_bytes()).as_ref());
    for name in ["host", "x-amz-date", "x-amz-content-sha256"] {
        assert!(names.split(';').any(|signed| signed == name), "{name} is signed");
    }
    expected == signature && request.header("x-amz-content-sha256") == hash && scope[2..] == ["s3", "aws4_request"]
}

fn unzip(bytes: &[u8]) -> String {
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes).read_to_string(&mut text).unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn l5_an_object_store_gets_signed_objects_that_another_attempt_replaces() {
    let (dir, endpoint) = (tempfile::tempdir().unwrap(), Endpoint::new().await);
    let bench = Bench::at(dir.path(), &[]).await;
    let sent = bench.events(30).await;
    endpoint.answer(500);
    let s3 = json!({"url": format!("{}/bucket", endpoint.url), "region": "eu-central-1", "prefix": "audit/",
                    "access_key_id": "AKID", "secret_access_key": "made-up", "session_token": "token"});
    let (task, _) = bench.export(json!({"id": "s3", "collect_ms": 20, "s3": s3}));
    until("one attempt", || !endpoint.all().is_empty()).await;
    endpoint.answer(200);
    until("another", || endpoint.all().len() >= 2).await;
    let all = endpoint.all();
    assert_eq!(all[0].line, all.last().unwrap().line, "the same object");
    for request in &all {
        assert!(s3_accepts(request, "made-up"));
        assert!(!s3_accepts(request, "another"), "the check can fail");
        assert_eq!(request.header("x-amz-security-token"), "token");
    }
    let path = all[0].line.split(' ').nth(1).unwrap();
    let expected = format!("/bucket/audit/2026/09/21/{}-000000000001-000000000030.jsonl.gz", bench.audit.writer());
    assert_eq!(path, expected);
    let lines = unzip(&all[0].body);
    let got: Vec<String> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(got, sent);
    task.abort();
    bench.end().await;
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

fn lines_of(folder: &Path) -> Vec<String> {
    let text = |path: &PathBuf| match path.extension().unwrap().to_str().unwrap() {
        "gz" => unzip(&std::fs::read(path).unwrap()),
        "jsonl" => std::fs::read_to_string(path).unwrap(),
        _ => String::new(),
    };
    files(folder).iter().flat_map(|path| text(path).lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn l5_files_are_rotated_compressed_and_mended_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("out");
    let config = || {
        let to = json!({"folder": folder, "rotate_bytes": 8_000});
        json!({"id": "files", "batch": 10, "collect_ms": 20, "files": to})
    };
    let bench = Bench::at(dir.path(), &[]).await;
    let (task, _) = bench.export(config());
    let mut sent: BTreeSet<String> = bench.events(55).await.into_iter().collect();
    until("all are written", || lines_of(&folder).len() >= 55).await;
    task.abort();
    assert!(files(&folder).iter().filter(|path| path.extension().unwrap() == "gz").count() > 1, "{:?}", files(&folder));
    // A crash in the middle of a line; its event is sent again.
    let open = files(&folder).into_iter().find(|path| path.extension().unwrap() == "jsonl");
    let open = open.unwrap_or_else(|| folder.join(format!("{}-20260921.jsonl", bench.audit.writer())));
    let mut text = std::fs::read_to_string(&open).unwrap_or_default();
    text.push_str("{\"id\":\"half of a li");
    std::fs::write(&open, text).unwrap();
    bench.end().await;
    let bench = Bench::at(dir.path(), &[]).await;
    bench.clock.advance_ms(86_400_000);
    sent.extend(bench.events(5).await);
    let (task, _) = bench.export(config());
    until("the rest is written", || lines_of(&folder).iter().filter(|line| !line.ends_with("of a li")).count() >= 60)
        .await;
    until("the former day is compressed", || {
        let open = files(&folder).into_iter().filter(|path| path.extension().unwrap() == "jsonl");
        open.map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).all(|name| name.contains("20260922"))
    })
    .await;
    task.abort();
    let arrived: BTreeSet<String> = lines_of(&folder)
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .map(|event| event["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(arrived, sent);
    bench.end().await;
}

struct Rsyslog(Child);

impl Drop for Rsyslog {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Debian's rsyslog with TLS, which writes what it understood.
fn rsyslog(dir: &Path, port: u16, out: &Path) -> Rsyslog {
    let config = format!(
        "global(workDirectory=\"{d}\" maxMessageSize=\"64k\" defaultNetstreamDriver=\"gtls\"\n\
           defaultNetstreamDriverCAFile=\"{d}/ca.pem\" defaultNetstreamDriverCertFile=\"{d}/cert.pem\"\n\
           defaultNetstreamDriverKeyFile=\"{d}/key.pem\" parser.escapeControlCharactersOnReceive=\"off\")\n\
         module(load=\"imtcp\" streamDriver.name=\"gtls\" streamDriver.mode=\"1\" streamDriver.authMode=\"anon\")\n\
         template(name=\"all\" type=\"list\") {{\n\
           property(name=\"pri\") constant(value=\" \") property(name=\"app-name\") constant(value=\" \")\n\
           property(name=\"msgid\") constant(value=\" \") property(name=\"hostname\") constant(value=\" \")\n\
           property(name=\"timereported\" dateFormat=\"rfc3339\") constant(value=\"\\t\") property(name=\"msg\") constant(value=\"\\n\") }}\n\
         ruleset(name=\"in\") {{ action(type=\"omfile\" file=\"{o}\" template=\"all\" flushOnTXEnd=\"on\") }}\n\
         input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\" ruleset=\"in\")\n",
        d = dir.display(),
        o = out.display(),
    );
    let file = dir.join("rsyslog.conf");
    std::fs::write(&file, config).unwrap();
    let child = Command::new("/usr/sbin/rsyslogd")
        .args(["-n", "-f"])
        .arg(&file)
        .arg("-i")
        .arg(dir.join("pid"))
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn();
    Rsyslog(child.expect("rsyslog is installed"))
}

fn messages(out: &Path) -> Vec<(String, Value)> {
    let text = std::fs::read_to_string(out).unwrap_or_default();
    let read = |line: &str| {
        let (head, text) = line.split_once('\t')?;
        Some((head.to_owned(), serde_json::from_str(text.trim_start().trim_start_matches('\u{feff}')).ok()?))
    };
    text.lines().filter_map(read).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn l5_a_real_syslog_receiver_over_tls_gets_all_also_after_it_was_killed() {
    if !Path::new("/usr/sbin/rsyslogd").exists() {
        assert!(std::env::var_os("CI").is_none(), "`cargo xtask e2e` installs rsyslog and rsyslog-gnutls");
        eprintln!("skipped: no rsyslog");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let cert = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    for name in ["ca.pem", "cert.pem"] {
        std::fs::write(dir.path().join(name), cert.pem()).unwrap();
    }
    std::fs::write(dir.path().join("key.pem"), key.serialize_pem()).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let out = dir.path().join("out.log");
    let bench = Bench::at(dir.path(), &[&dir.path().join("ca.pem")]).await;
    let syslog = json!({"server": format!("tls://localhost:{port}")});
    let (task, stats) = bench.export(json!({"id": "siem", "batch": 25, "collect_ms": 20, "syslog": syslog}));
    let mut sent: BTreeSet<String> = bench.events(60).await.into_iter().collect();
    let receiver = rsyslog(dir.path(), port, &out);
    until("the first arrive", || messages(&out).len() >= 60).await;
    drop(receiver);
    sent.extend(bench.events(60).await);
    until("it is noticed", || stats.all()["siem"].error.is_some()).await;
    let _receiver = rsyslog(dir.path(), port, &out);
    let arrived =
        || messages(&out).iter().map(|(_, event)| event["id"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>();
    until("all arrive", || arrived().len() >= sent.len()).await;
    assert_eq!(arrived(), sent);
    let (head, _) = messages(&out).remove(0);
    let expected = format!("110 bartizan call {} 2026-09-21T14:13:20", bench.audit.writer());
    assert!(head.starts_with(&expected), "{head}");
    task.abort();
    bench.end().await;
}

#[tokio::test]
async fn l5_sinks_that_cannot_work_are_refused_with_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::at(dir.path(), &[]).await;
    for (sink, expected) in [
        (json!({"id": "a b", "otlp": {"endpoint": "https://x"}}), "`id` must be"),
        (json!({"id": "a"}), "exactly one of"),
        (json!({"id": "a", "otlp": {"endpoint": "https://x"}, "syslog": {"server": "tls://x"}}), "exactly one of"),
        (json!({"id": "a", "batch": 0, "otlp": {"endpoint": "https://x"}}), "`batch`"),
        (json!({"id": "a", "syslog": {"server": "udp://x"}}), "tls://HOST"),
        (json!({"id": "a", "http": {"url": "https://x", "secret": "short"}}), "whsec_"),
        (json!({"id": "a", "http": {"url": "nothing", "secret": SECRET}}), "URL"),
        (json!({"id": "a", "otlp": {"endpoint": "https://x", "headers": {"a b": "c"}}}), "header"),
        (
            json!({"id": "a", "s3": {"url": "https://x/b", "region": "r", "prefix": "/../", "access_key_id": "i",
                                  "secret_access_key": "s"}}),
            "`prefix`",
        ),
    ] {
        let sink: bartizan_config::export::Sink = serde_json::from_value(sink).unwrap();
        let error = bartizan_export::Exports::new(bench.deps(), &[sink], &Default::default()).err().unwrap();
        assert!(
            error.starts_with("audit.sinks[0]: ") && error.to_lowercase().contains(&expected.to_lowercase()),
            "{error}"
        );
    }
    bench.end().await;
}
