//! Local servers: processes, eras, crashes, order of ending.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::path::Path;
use std::time::Duration;

use bartizan_model::Era;
use bartizan_upstream::{ListKind, Target, UpstreamError, UpstreamEvent, UpstreamReply, Upstreams};
use bartizan_wire::AskAnswer;
use common::*;
use serde_json::{Value, json};

/// What every script begins with. Each start writes a line to the file `starts`.
const PRELUDE: &str = r#"
cd "$DIR" || exit 1
echo "$$" >> starts
say() { printf '%s\n' "$1"; }
id_of() { printf '%s' "$1" | sed -n 's/.*"id":\("[^"]*"\|[0-9]*\).*/\1/p'; }
"#;

/// A legacy server; `$line` in further cases is the message, `$id` its id.
fn legacy_script(cases: &str, probe: &str) -> String {
    format!(
        r#"{PRELUDE}
while IFS= read -r line; do
  printf '%s\n' "$line" >> log
  id=$(id_of "$line")
  case "$line" in
    {cases}
    *'"server/discover"'*) {probe} ;;
    *'"initialize"'*) say '{{"jsonrpc":"2.0","id":'"$id"',"result":{{"protocolVersion":"2025-06-18","capabilities":{{"tools":{{}},"resources":{{"subscribe":true}},"logging":{{}}}},"serverInfo":{{"name":"sh","version":"1"}}}}}}' ;;
    *'"tools/list"'*) say '{{"jsonrpc":"2.0","id":'"$id"',"result":{{"tools":[{{"name":"pid"}}]}}}}' ;;
    *'"tools/call"'*) say '{{"jsonrpc":"2.0","id":'"$id"',"result":{{"content":[],"pid":'"$$"',"env":"'"$SECRET"'","home":"'"$HOME"'"}}}}' ;;
    *'"id":'*) say '{{"jsonrpc":"2.0","id":'"$id"',"result":{{}}}}' ;;
  esac
done
echo end >> log
"#
    )
}

const REFUSE: &str = r#"say '{"jsonrpc":"2.0","id":'"$id"',"error":{"code":-32601,"message":"?"}}'"#;

fn modern_script() -> String {
    let discover = r#"say '{"jsonrpc":"2.0","id":'"$id"',"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true}},"ttlMs":0,"cacheScope":"public"}}'"#;
    let listen = r#"*'"subscriptions/listen"'*) say '{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":'"$id"'}}}' ;;"#;
    legacy_script(listen, discover)
}

fn target_with(dir: &Path, script: &str, more: Value, principal: &str) -> Target {
    let file = dir.join("server.sh");
    std::fs::write(&file, script).unwrap();
    let mut command = json!({
        "argv": ["/bin/sh", file.to_str().unwrap()],
        "env": {"DIR": dir.to_str().unwrap(), "SECRET": "s3"}, "sandbox": "none", "allow_unpinned": true,
    });
    command.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    target_of(json!({"server_id": "local", "command": command}), principal)
}

fn local(dir: &Path, script: &str) -> Target {
    target_with(dir, script, json!({}), "user:alice")
}

fn lines(dir: &Path, file: &str) -> Vec<String> {
    std::fs::read_to_string(dir.join(file)).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn seen(dir: &Path, text: &str) -> usize {
    lines(dir, "log").iter().filter(|line| line.contains(text)).count()
}

fn runs(pid: &str) -> bool {
    // A zombie waits for its parent, it does not run.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

async fn pid_of(upstreams: &Upstreams, target: &Target) -> i64 {
    call(upstreams, target, echo(&legacy_client(json!({})), json!({}))).await["pid"].as_i64().unwrap()
}

#[tokio::test]
async fn stdio_legacy_server_is_probed_in_a_process_of_its_own_and_then_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (upstreams, target) = (upstreams(), local(dir.path(), &legacy_script("", REFUSE)));
    let first = pid_of(&upstreams, &target).await;
    for _ in 0..50 {
        assert_eq!(pid_of(&upstreams, &target).await, first);
    }
    let starts = lines(dir.path(), "starts");
    assert_eq!(starts.len(), 2, "the probe and the server");
    assert_eq!(starts[1], first.to_string());
    assert_eq!((seen(dir.path(), "server/discover"), seen(dir.path(), "\"initialize\"")), (1, 1));
    let health = &upstreams.status()[0];
    assert_eq!((health.transport, health.era, health.processes), ("stdio", Some(Era::Legacy), 1));
    eventually(|| !runs(&starts[0])).await;
}

#[tokio::test]
async fn stdio_servers_that_die_at_the_probe_are_legacy() {
    let dir = tempfile::tempdir().unwrap();
    let (upstreams, target) = (upstreams(), local(dir.path(), &legacy_script("", "exit 3")));
    pid_of(&upstreams, &target).await;
    assert_eq!(upstreams.status()[0].era, Some(Era::Legacy));
}

#[tokio::test]
async fn stdio_modern_server_gets_meta_and_no_initialize() {
    let dir = tempfile::tempdir().unwrap();
    let (upstreams, target) = (upstreams(), local(dir.path(), &modern_script()));
    pid_of(&upstreams, &target).await;
    call(&upstreams, &target, echo(&modern_client(json!({"sampling": {}})), json!({}))).await;
    assert_eq!(upstreams.status()[0].era, Some(Era::Modern));
    assert_eq!(seen(dir.path(), "\"initialize\""), 0);
    assert_eq!(
        seen(dir.path(), "\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\""),
        4,
        "probe, discover, two calls"
    );
    assert_eq!(lines(dir.path(), "starts").len(), 2, "capabilities do not split modern processes");
    let mut notes = upstreams.watch(&target);
    assert_eq!(notes.recv().await.unwrap(), bartizan_upstream::ServerNote::ListChanged(ListKind::Tools));
}

#[tokio::test]
async fn stdio_environment_is_emptied_but_for_the_entry() {
    let dir = tempfile::tempdir().unwrap();
    let got =
        call(&upstreams(), &local(dir.path(), &legacy_script("", REFUSE)), echo(&legacy_client(json!({})), json!({})))
            .await;
    assert_eq!((got["env"].as_str(), got["home"].as_str()), (Some("s3"), Some("")), "HOME is not listed");
    let dir = tempfile::tempdir().unwrap();
    let target = target_with(dir.path(), &legacy_script("", REFUSE), json!({"env_allow": ["HOME"]}), "user:alice");
    assert_eq!(call(&upstreams(), &target, echo(&legacy_client(json!({})), json!({}))).await["home"], "/nowhere");
}

#[tokio::test]
async fn stdio_processes_are_kept_apart_by_owner() {
    let dir = tempfile::tempdir().unwrap();
    let upstreams = upstreams();
    let script = legacy_script("", REFUSE);
    let alice = pid_of(&upstreams, &target_with(dir.path(), &script, json!({}), "user:alice")).await;
    let bob = pid_of(&upstreams, &target_with(dir.path(), &script, json!({}), "user:bob")).await;
    assert_ne!(alice, bob);
    assert_eq!(pid_of(&upstreams, &target_with(dir.path(), &script, json!({}), "user:alice")).await, alice);
}

#[tokio::test]
async fn stdio_junk_on_stdout_is_skipped_and_line_breaks_never_sent() {
    let dir = tempfile::tempdir().unwrap();
    let script = legacy_script(
        r#"*'"tools/list"'*) echo 'Starting up...'; echo; echo '[1,'; say '{"jsonrpc":"2.0","id":'"$id"',"result":{"tools":[{"name":"t"}]}}' ;;"#,
        REFUSE,
    );
    let (upstreams, target) = (upstreams(), local(dir.path(), &script));
    let list = upstreams.list(&target, ListKind::Tools, &legacy_client(json!({}))).await.unwrap();
    assert_eq!(list.items.len(), 1);
    let pretty = bartizan_wire::RawJson::try_from("{\n \"name\": \"x\",\r\n \"arguments\": {\n}\n}").unwrap();
    let request = bartizan_upstream::CallRequest::new("tools/call", Some(pretty), legacy_client(json!({})));
    call(&upstreams, &target, request).await;
    assert_eq!(seen(dir.path(), "tools/call"), 1);
}

#[tokio::test]
async fn stdio_an_endless_line_ends_the_process_not_us() {
    let dir = tempfile::tempdir().unwrap();
    let script = legacy_script(r#"*'"tools/call"'*) tr '\0' 'x' < /dev/zero ;;"#, REFUSE);
    let (upstreams, target) = (upstreams(), local(dir.path(), &script));
    let mut call = upstreams.call(&target, echo(&legacy_client(json!({})), json!({}))).await.unwrap();
    assert!(matches!(finish(&mut call).await.1, UpstreamReply::Failed(UpstreamError::TooLarge)));
    let pid = lines(dir.path(), "starts")[1].clone();
    eventually(|| !runs(&pid)).await;
}

#[tokio::test]
async fn stdio_a_crash_fails_the_call_and_the_next_start_waits() {
    let dir = tempfile::tempdir().unwrap();
    let script = legacy_script(r#"*'"crash"'*) echo 'secret words' >&2; exit 7 ;;"#, REFUSE);
    let limits = bartizan_config::settings::WireLimits { call_ms: 10_000, ..limits() };
    let upstreams = upstreams_with(limits, std::sync::Arc::new(bartizan_model::SystemClock));
    let target = local(dir.path(), &script);
    let profile = legacy_client(json!({}));
    let started = std::time::Instant::now();
    let mut call = upstreams.call(&target, echo(&profile, json!({"crash": 1}))).await.unwrap();
    let UpstreamReply::Failed(UpstreamError::Unavailable { why, .. }) = finish(&mut call).await.1 else { panic!() };
    assert!(why.contains("exit status: 7") && !why.contains("secret"), "{why}");
    pid_of(&upstreams, &target).await;
    assert!(started.elapsed() >= Duration::from_millis(900), "restarted at once");
    assert_eq!(lines(dir.path(), "starts").len(), 3);
    // The second crash in a row waits two seconds, the third longer than a call waits for it.
    for _ in 0..2 {
        let mut call = upstreams.call(&target, echo(&profile, json!({"crash": 1}))).await.unwrap();
        finish(&mut call).await;
    }
    let failed = upstreams.call(&target, echo(&profile, json!({}))).await.err().unwrap();
    assert!(failed.retry_after_s().is_some_and(|s| (2..=5).contains(&s)), "{failed}");
}

#[tokio::test]
async fn stdio_a_missing_program_is_a_clear_error() {
    let target = target_of(
        json!({"server_id": "local", "command": {"argv": ["/no/such/program"], "sandbox": "none", "allow_unpinned": true}}),
        "u",
    );
    let failed = upstreams().call(&target, echo(&legacy_client(json!({})), json!({}))).await.err().unwrap();
    assert!(failed.note().contains("cannot start"), "{failed}");
}

#[tokio::test]
async fn stdio_cancellation_progress_and_questions() {
    let dir = tempfile::tempdir().unwrap();
    let cases = r#"
    *'"hang"'*) ;;
    *'"tools/call"'*)
      say '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":'"$id"',"progress":1}}'
      say '{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}'
      say '{"jsonrpc":"2.0","id":"ask","method":"roots/list"}'
      call=$id ;;
    *'"id":"ask"'*) say '{"jsonrpc":"2.0","id":'"$call"',"result":{"content":[]}}' ;;"#;
    let (upstreams, target) = (upstreams(), local(dir.path(), &legacy_script(cases, REFUSE)));
    let profile = legacy_client(json!({"roots": {}}));
    let request = request("tools/call", &profile, json!({"name": "t", "_meta": {"progressToken": "mine"}}));
    let mut call = upstreams.call(&target, request).await.unwrap();
    let UpstreamEvent::Notification { params, .. } = call.next().await else { panic!() };
    assert_eq!(params.unwrap().as_str(), r#"{"progressToken":"mine","progress":1}"#);
    let UpstreamEvent::Notification { method, .. } = call.next().await else { panic!() };
    assert_eq!(method, "notifications/message");
    let UpstreamEvent::Ask(ask) = call.next().await else { panic!() };
    call.answer(&ask.key, AskAnswer::Result(raw(&json!({"roots": []})))).await.unwrap();
    assert!(matches!(finish(&mut call).await.1, UpstreamReply::Result(_)));
    drop(call);
    let call = upstreams.call(&target, echo(&profile, json!({"hang": 1}))).await.unwrap();
    drop(call);
    eventually(|| seen(dir.path(), "notifications/cancelled") == 1).await;
    let (sent, cancel) = (
        lines(dir.path(), "log").into_iter().find(|l| l.contains("hang")).unwrap(),
        lines(dir.path(), "log").pop().unwrap(),
    );
    let id = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    assert_eq!(id(&cancel)["params"]["requestId"], id(&sent)["id"]);
}

#[tokio::test]
async fn stdio_shutdown_closes_stdin_first_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let script = legacy_script("", REFUSE).replace("say() {", "sleep 300 & say() {");
    let (upstreams, target) = (upstreams(), local(dir.path(), &script));
    let pid = pid_of(&upstreams, &target).await.to_string();
    let grandchildren: Vec<String> = children(&pid);
    assert_eq!(grandchildren.len(), 1);
    upstreams.shutdown().await;
    assert!(lines(dir.path(), "log").contains(&"end".to_owned()), "it saw the end of stdin and could finish");
    eventually(|| !runs(&pid) && grandchildren.iter().all(|pid| !runs(pid))).await;
}

#[tokio::test]
async fn stdio_dropping_everything_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (upstreams, target) = (upstreams(), local(dir.path(), &legacy_script("", REFUSE)));
    let pid = pid_of(&upstreams, &target).await.to_string();
    drop(upstreams);
    eventually(|| !runs(&pid)).await;
}

#[tokio::test]
async fn stdio_a_process_that_does_not_read_blocks_nobody_for_long() {
    let dir = tempfile::tempdir().unwrap();
    let script = legacy_script(r#"*'"stop reading"'*) sleep 300 ;;"#, REFUSE);
    let limits = bartizan_config::settings::WireLimits { call_ms: 300, ..limits() };
    let upstreams = upstreams_with(limits, std::sync::Arc::new(bartizan_model::SystemClock));
    let target = local(dir.path(), &script);
    let profile = legacy_client(json!({}));
    pid_of(&upstreams, &target).await;
    let _hang = upstreams.call(&target, echo(&profile, json!({"x": "stop reading"}))).await.unwrap();
    let big = "y".repeat(200_000);
    for _ in 0..5 {
        let end = match upstreams.call(&target, echo(&profile, json!({"big": big}))).await {
            Err(error) => error,
            Ok(mut call) => match finish(&mut call).await.1 {
                UpstreamReply::Failed(error) => error,
                other => panic!("{other:?}"),
            },
        };
        assert!(matches!(end, UpstreamError::Timeout), "{end}");
    }
}

fn children(pid: &str) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

#[tokio::test]
async fn stdio_idle_processes_end_after_ten_minutes() {
    let dir = tempfile::tempdir().unwrap();
    let (upstreams, target) = (upstreams(), local(dir.path(), &legacy_script("", REFUSE)));
    let pid = pid_of(&upstreams, &target).await.to_string();
    let pass = async |minutes: u64| {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(minutes * 60)).await;
        tokio::time::resume();
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    pass(9).await;
    assert_eq!(pid_of(&upstreams, &target).await.to_string(), pid);
    pass(9).await;
    assert!(runs(&pid), "used nine minutes ago");
    pass(2).await;
    eventually(|| !runs(&pid)).await;
    assert!(lines(dir.path(), "log").contains(&"end".to_owned()), "in order");
    assert_ne!(pid_of(&upstreams, &target).await.to_string(), pid);
}

#[tokio::test]
async fn stdio_at_most_64_processes_the_idlest_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let limits = bartizan_config::settings::WireLimits { call_ms: 20_000, ..limits() };
    let upstreams = upstreams_with(limits, std::sync::Arc::new(bartizan_model::SystemClock));
    let script = legacy_script("", REFUSE);
    let mut pids = Vec::new();
    for n in 0..66 {
        let target = target_with(dir.path(), &script, json!({}), &format!("user:{n}"));
        pids.push(pid_of(&upstreams, &target).await.to_string());
        assert!(pids.iter().filter(|pid| runs(pid)).count() <= 64);
    }
    assert!(!runs(&pids[0]) && !runs(&pids[1]) && runs(&pids[2]) && runs(&pids[65]));
}

#[tokio::test]
async fn stdio_lists_are_answered_while_every_connection_waits_for_a_person() {
    let dir = tempfile::tempdir().unwrap();
    let cases = r#"*'"tools/call"'*) say '{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"?"}}' ;;"#;
    let (upstreams, target) = (upstreams(), local(dir.path(), &legacy_script(cases, REFUSE)));
    let profile = legacy_client(json!({"elicitation": {}}));
    let mut parked = Vec::new();
    for _ in 0..4 {
        let mut call = upstreams.call(&target, echo(&profile, json!({}))).await.unwrap();
        assert!(matches!(call.next().await, UpstreamEvent::Ask(_)));
        parked.push(call);
    }
    assert_eq!(upstreams.status()[0].processes, 4, "one call each");
    assert_eq!(upstreams.list(&target, ListKind::Tools, &profile).await.unwrap().items.len(), 1);
    let fifth = upstreams.call(&target, echo(&profile, json!({}))).await;
    assert!(matches!(fifth.err(), Some(UpstreamError::Timeout)), "the cap");
    parked.pop();
    let mut sixth = upstreams.call(&target, echo(&profile, json!({}))).await.unwrap();
    assert!(matches!(sixth.next().await, UpstreamEvent::Ask(_)));
}

/// How a call ends during which the program does something odd.
async fn ends(cases: &str) -> (UpstreamError, tempfile::TempDir, Upstreams) {
    let dir = tempfile::tempdir().unwrap();
    let limits = bartizan_config::settings::WireLimits { call_ms: 8_000, ..limits() };
    let upstreams = upstreams_with(limits, std::sync::Arc::new(bartizan_model::SystemClock));
    let target = local(dir.path(), &legacy_script(cases, REFUSE));
    let mut call = upstreams.call(&target, echo(&legacy_client(json!({})), json!({}))).await.unwrap();
    match finish(&mut call).await.1 {
        UpstreamReply::Failed(error) => (error, dir, upstreams),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn stdio_closed_output_ends_a_program_that_lives_on() {
    let (error, dir, _upstreams) = ends(r#"*'"tools/call"'*) exec 1>&-; trap '' TERM; sleep 300 ;;"#).await;
    assert!(matches!(&error, UpstreamError::Unavailable { why, .. } if why.contains("closed its output")), "{error}");
    let pid = lines(dir.path(), "starts")[1].clone();
    eventually(|| !runs(&pid)).await;
}

#[tokio::test]
async fn stdio_the_end_of_a_program_is_noticed_although_a_grandchild_holds_the_output() {
    for hold in ["sleep 300 &", "setsid sleep 20 &"] {
        let cases = format!(r#"*'"tools/call"'*) {hold} exit 5 ;;"#);
        let (error, _dir, upstreams) = ends(&cases).await;
        assert!(
            matches!(&error, UpstreamError::Unavailable { why, .. } if why.contains("exit status: 5")),
            "{hold} {error}"
        );
        eventually(|| upstreams.status()[0].sessions == 0).await;
    }
}

#[tokio::test]
async fn stdio_a_flood_of_messages_for_nobody_ends_with_the_call() {
    let note = r#"say '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":99999,"progress":1}}'; say '{"jsonrpc":"2.0","id":424242,"result":{}}'"#;
    let dir = tempfile::tempdir().unwrap();
    let limits = bartizan_config::settings::WireLimits { call_ms: 500, ..limits() };
    let upstreams = upstreams_with(limits, std::sync::Arc::new(bartizan_model::SystemClock));
    let target =
        local(dir.path(), &legacy_script(&format!(r#"*'"tools/call"'*) while :; do {note}; done ;;"#), REFUSE));
    let mut call = upstreams.call(&target, echo(&legacy_client(json!({})), json!({}))).await.unwrap();
    assert!(matches!(finish(&mut call).await.1, UpstreamReply::Failed(UpstreamError::Timeout)));
    let pid = lines(dir.path(), "starts")[1].clone();
    upstreams.shutdown().await;
    eventually(|| !runs(&pid)).await;
}
