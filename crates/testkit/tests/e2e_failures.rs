//! One table of injected failures (row P26): what a client sees, exactly, and what the record says.
//!
//! `failures/door.rs` has what clients do wrong, `failures/policy.rs` what they may not do,
//! `failures/upstream.rs` what servers do wrong. After every case the next good call works.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "helpers of tests")]

#[path = "failures/door.rs"]
mod door;
#[path = "failures/policy.rs"]
mod policy;
#[path = "failures/shot.rs"]
mod shot;
#[path = "failures/upstream.rs"]
mod upstream;

use std::collections::BTreeSet;

use bartizan_testkit::client::{Identity, LegacyClient};
use bartizan_testkit::fixture::{Era, Fixture, Options};
use bartizan_testkit::product::{Config, Product, http_server};
use bartizan_testkit::tools::{self, Part};
use serde_json::{Value, json};

use shot::{Client, Shot};

/// A row: who calls, what goes wrong, what must be seen.
struct Case {
    name: String,
    shot: Shot,
    want: Want,
}

/// Exactly what a failure looks like.
#[derive(Clone, Debug)]
struct Want {
    /// HTTP status.
    status: u16,
    /// JSON-RPC code; none = a tool result with `isError`.
    rpc: Option<i64>,
    /// Code of bartizan on the wire: in the decision, or in the error's data.
    code: Option<&'static str>,
    /// Whether the client is told when to come back: as header, or in the decision of a tool result.
    retry: bool,
    /// A header that must be there with this text in it.
    header: Option<(&'static str, &'static str)>,
    record: Record,
}

/// What the record must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Record {
    /// Refused before there was a call: no event of a call.
    Nothing,
    /// A call with this outcome and this code of refusal.
    Call(&'static str, Option<&'static str>),
}

impl Want {
    /// An error before there is a call.
    fn door(status: u16, rpc: i64) -> Self {
        Self { status, rpc: Some(rpc), code: None, retry: false, header: None, record: Record::Nothing }
    }

    /// A JSON-RPC error of a recorded call.
    fn error(status: u16, rpc: i64, outcome: &'static str, code: Option<&'static str>) -> Self {
        Self { record: Record::Call(outcome, code), ..Self::door(status, rpc) }
    }

    /// A tool result that says no, with its code.
    fn refused(outcome: &'static str, code: &'static str) -> Self {
        Self { status: 200, rpc: None, code: Some(code), record: Record::Call(outcome, Some(code)), ..Self::door(0, 0) }
    }

    fn code(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }

    fn retry(self) -> Self {
        Self { retry: true, ..self }
    }

    fn header(self, name: &'static str, part: &'static str) -> Self {
        Self { header: Some((name, part)), ..self }
    }
}

/// Sends the shot and says everything that is not as wanted.
async fn check(product: &Product, case: &Case) -> Vec<String> {
    let want = &case.want;
    let mut sent = case.shot.send(&product.http).await;
    for _ in 0..5 {
        // A large body is refused before it is read; the client may see the end of the
        // connection in the middle of its writing, and not the answer.
        if sent.is_ok() || case.shot.body.len() < 1 << 20 {
            break;
        }
        sent = case.shot.send(&product.http).await;
    }
    let seen = match sent {
        Ok(seen) => seen,
        Err(error) => return vec![format!("{}: no answer: {error:#}", case.name)],
    };
    let mut wrong = Vec::new();
    let mut expect = |what: &str, right: bool, found: String| {
        if !right {
            wrong.push(format!("{}: {what} is {found}, wanted {want:?}; answer {}", case.name, seen.message));
        }
    };
    expect("status", seen.status == want.status, seen.status.to_string());
    expect("JSON-RPC code", seen.rpc() == want.rpc, format!("{:?}", seen.rpc()));
    expect("code", seen.code() == want.code, format!("{:?}", seen.code()));
    if want.rpc.is_none() {
        let result = &seen.message["result"];
        let told = result["isError"] == true && result["content"].as_array().is_some_and(|blocks| blocks.len() == 1);
        expect("tool result", told, result.to_string());
    }
    let (seconds, header) = (seen.decision()["retry_after_s"].as_u64(), seen.header("retry-after"));
    // A status of its own comes with the header; a result has only its decision.
    let known = if want.status == 200 { seconds } else { header.and_then(|text| text.parse().ok()) };
    expect("time to come back", known.is_some() == want.retry, format!("{seconds:?}, header {header:?}"));
    expect("time to come back", known.is_none_or(|s| (1..=120).contains(&s)), format!("{known:?}"));
    if let Some((name, part)) = want.header {
        let found = seen.header(name).unwrap_or_default();
        expect(name, found.contains(part), format!("{found:?}"));
    }
    expect("server-side detail", !seen.message.to_string().contains("127.0.0.1:"), seen.message.to_string());
    wrong.extend(recorded(product, case, &seen));
    wrong
}

/// Compares the record of the answer with what it must be.
fn recorded(product: &Product, case: &Case, seen: &shot::Seen) -> Option<String> {
    let named = seen.header("x-request-id").map(str::to_owned);
    let decided = seen.decision()["event_id"].as_str().map(str::to_owned);
    if let (Some(named), Some(decided)) = (&named, &decided)
        && named != decided
    {
        return Some(format!("{}: x-request-id {named}, event_id {decided}", case.name));
    }
    let id = decided.or(named);
    let events = product.audit().unwrap();
    let found = events
        .iter()
        .map(inner)
        .find(|event| event["kind"] == "call" && event["id"].is_string() && event["id"].as_str() == id.as_deref());
    match (case.want.record, found) {
        (Record::Nothing, None) => None,
        (Record::Call(outcome, code), Some(event))
            if event["outcome"] == outcome && event["verdict"]["code"].as_str() == code =>
        {
            None
        }
        (want, found) => {
            let found = found.map(|event| format!("{} {}", event["outcome"], event["verdict"]));
            Some(format!("{}: wanted {want:?} in the record, found {found:?}", case.name))
        }
    }
}

fn inner(record: &Value) -> &Value {
    if record["event"].is_object() { &record["event"] } else { record }
}

/// What all tables share: a good server, the product before it, a client of each era.
struct Stage {
    good: Fixture,
    product: Product,
    legacy: String,
}

impl Stage {
    async fn new(config: Config) -> Self {
        let good = Fixture::start(Options::of(Era::Both)).await.unwrap();
        let read = ["test_simple_text", "test_slow", "test_echo", "test_header_echo"].map(str::to_owned);
        let config = config.server(http_server("good", &good.url(), &read)).token("other");
        let product = Product::serve(config).await.unwrap();
        let identity = Identity::bearer(product.token("agent"));
        let session = LegacyClient::connect(&product.url(), identity).await.unwrap();
        let legacy = session.session().unwrap().to_owned();
        Self { good, product, legacy }
    }

    fn modern(&self) -> Client {
        Client::modern(&self.product.url(), self.product.token("agent"))
    }

    fn legacy(&self) -> Client {
        Client::legacy(&self.product.url(), self.product.token("agent"), &self.legacy)
    }

    /// Both eras by name.
    fn clients(&self) -> [(&'static str, Client); 2] {
        [("modern", self.modern()), ("legacy", self.legacy())]
    }

    /// After a failure everything goes on, for clients of both eras.
    async fn works(&self, after: &str) -> Option<String> {
        for (era, client) in self.clients() {
            let seen = client.tool("good_test_simple_text", json!({})).send(&self.product.http).await;
            let fine = seen.as_ref().is_ok_and(|seen| seen.status == 200 && seen.message["result"]["isError"] != true);
            if !fine || seen.as_ref().is_ok_and(|seen| seen.rpc().is_some()) {
                return Some(format!("after {after}: the next good call of a {era} client: {seen:?}"));
            }
        }
        None
    }

    /// Runs cases one after the other; all that is wrong at once.
    async fn run(&self, cases: &[Case]) {
        let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names.len(), cases.len(), "cases need different names");
        let mut wrong = Vec::new();
        for case in cases {
            wrong.extend(check(&self.product, case).await);
            wrong.extend(self.works(&case.name).await);
        }
        assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    }
}

fn ready(test: &str) -> bool {
    tools::ready(test, &[Part::Product])
}

#[tokio::test(flavor = "multi_thread")]
async fn p26_table_of_injected_failures_at_the_door() {
    if !ready("p26_table_of_injected_failures_at_the_door") {
        return;
    }
    let stage = Stage::new(Config::new()).await;
    let cases = door::cases(&stage);
    assert!(cases.len() >= 40, "{}", cases.len());
    let before = stage.good.stats().of("tools/call");
    stage.run(&cases).await;
    let good = 2 * cases.len() as u64;
    assert_eq!(stage.good.stats().of("tools/call") - before, good, "only the good calls were forwarded");
}

#[tokio::test(flavor = "multi_thread")]
async fn p26_table_of_injected_failures_by_policy() {
    if !ready("p26_table_of_injected_failures_by_policy") {
        return;
    }
    let (config, fixture) = policy::config().await;
    let stage = Stage::new(config).await;
    policy::use_up(&stage).await;
    let before = fixture.stats().of("tools/call");
    stage.run(&policy::cases(&stage)).await;
    assert_eq!(fixture.stats().of("tools/call"), before, "a refused call was forwarded");
}

#[tokio::test(flavor = "multi_thread")]
async fn p26_every_failed_call_has_a_clear_answer_and_the_next_one_works() {
    if !ready("p26_every_failed_call_has_a_clear_answer_and_the_next_one_works") {
        return;
    }
    upstream::run().await;
}
