//! More than the sign-in gave: a second factor (A4, A17) and a purpose (A16), through the
//! product, with real clients of both eras, a real provider and real browsers.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::time::Duration;

use bartizan_testkit::client::{Identity, LegacyClient, ModernClient};
use bartizan_testkit::fixture::{Era, Fixture, Options};
use bartizan_testkit::product::{Config, Product};
use bartizan_testkit::scripts::{self, RealClient, Report};
use bartizan_testkit::sign_in::{Person, Provider};
use bartizan_testkit::tools::{self, Part};
use bartizan_testkit::wait;
use serde_json::{Value, json};

const TOOL: &str = "test_simple_text";
const SAID: &str = "This is a simple text response for testing.";
const STRONG: &str = "urn:corp:strong";
/// A real client of each era.
const CLIENTS: [(RealClient, &str); 2] = [(RealClient::TsV1, ""), (RealClient::TsV2, "modern")];

/// A company whose servers ask for more or less.
struct Office {
    provider: Provider,
    product: Product,
    fixture: Fixture,
}

fn ready(test: &str) -> bool {
    tools::ready(test, &[Part::Npm, Part::Product, Part::Browser])
}

/// The only rule: engineers, and what it asks of them.
fn rule(more: &Value) -> Value {
    let mut rule = json!({"name": "engineers", "action": "allow", "include": [{"groups": ["engineering"]}]});
    rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!([rule])
}

fn recent() -> Value {
    json!({"require_mfa": {"max_age": "15m"}})
}

async fn office() -> Office {
    let person = |name: &str| json!({"email": format!("{name}@corp.example"), "groups": ["engineering"]});
    let mut provider = Provider::start(json!({"ana": person("ana"), "bo": person("bo")})).await.unwrap();
    let fixture = Fixture::start(Options::of(Era::Both)).await.unwrap();
    let server = |id: &str, more: &Value| {
        json!({"server_id": id, "hostname": fixture.url(), "policies": rule(more),
            "classes": {"read": [TOOL], "write": ["test_write_note"]}})
    };
    // A part of the arguments wants it, the rest does not.
    let grant = |id: &str, when: &str, more: &Value| {
        let mut grant = json!({"id": id, "principals": ["group:engineering"], "server": "open",
            "tools": ["test_write_note"], "when": when});
        grant.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        grant
    };
    let config = Config::new()
        .server(server("open", &json!({})))
        .server(server("vault", &recent()))
        .server(server("calm", &json!({"require_mfa": {"max_age": "8h"}})))
        .server(server("strong", &json!({"require_mfa": {"acr": STRONG}})))
        .server(server("desk", &json!({"require_purpose": true})))
        .with("grants", grant("notes", "context.args.text != \"pay\"", &json!({})))
        .with("grants", grant("payments", "context.args.text == \"pay\"", &recent()))
        .set("portals", json!([{"id": "default", "policies": rule(&json!({}))}]))
        .with("portals", json!({"id": "strict", "policies": rule(&recent())}))
        .with("identity_providers", provider.resource());
    let product = Product::serve(config).await.unwrap();
    provider.admit(&product.base()).await.unwrap();
    Office { provider, product, fixture }
}

impl Office {
    /// How Ana signs in from now on.
    async fn ana(&mut self, how: Value) -> Person {
        let mut all = json!({"amr": null, "acr": null, "ages": []});
        all.as_object_mut().unwrap().extend(how.as_object().unwrap().clone());
        self.provider.change("ana", all).await.unwrap();
        Person::new("ana").unwrap()
    }

    fn url(&self, endpoint: &str) -> String {
        format!("{}{endpoint}", self.product.base())
    }

    /// How often the tools of [`targets`] ran.
    fn executed(&self) -> u64 {
        self.fixture.stats().of("tool:test_simple_text") + self.fixture.stats().of("tool:test_write_note")
    }

    /// A client signs in and calls; `elicitation` is what it can be asked.
    async fn calls(
        &self,
        (client, mode): (RealClient, &str),
        endpoint: &str,
        person: &Person,
        elicitation: &str,
        steps: Value,
    ) -> Report {
        let more = json!({"elicitation": elicitation, "patience": 150_000});
        let report = scripts::sign_in_as(client, &self.url(endpoint), person, mode, steps, more).await.unwrap();
        let links = report.asked().iter().filter(|ask| ask.starts_with("url ")).count();
        let trace = person.closed(1 + links).await;
        assert!(report.0.get("error").is_none(), "{client:?}: {:#}\n{trace:#?}\n{}", report.0, self.product.log());
        report
    }

    /// The same client once more, with its token.
    async fn again(&self, (client, mode): (RealClient, &str), endpoint: &str, token: &str, steps: Value) -> Report {
        scripts::drive(client, &self.url(endpoint), Some(token), mode, steps).await.unwrap()
    }

    /// The record of a kind, as an auditor reads it. The index is built behind the record.
    async fn record(&self, kind: &str) -> Vec<Value> {
        let written = self.product.audit().unwrap();
        let written = written.iter().filter(|event| event["kind"] == kind).count();
        let search = ["audit", "search", "--json", "--limit", "1000", "--kind", kind];
        let mut found = Vec::new();
        wait::until("the record is indexed", Duration::from_secs(60), async || {
            let output = self.product.command(&search).await.unwrap();
            let answer: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
            found = answer["events"].as_array().unwrap().clone();
            found.len() >= written
        })
        .await
        .unwrap();
        found
    }

    /// The events about links.
    async fn links(&self) -> Vec<Value> {
        self.record("auth").await.into_iter().filter(|event| event["method"] == "auth/step_up").collect()
    }
}

fn token(report: &Report) -> String {
    report.0["signedIn"]["tokens"]["access_token"].as_str().unwrap().to_owned()
}

/// A refusal with this code; the address in it.
fn refused(step: &Value, code: &str) -> String {
    assert_eq!(step["isError"], true, "{step:#}");
    let decision = &step["meta"]["bartizan/decision"];
    assert_eq!(decision["code"], code, "{step:#}");
    let url = decision["url"].as_str().unwrap().to_owned();
    assert!(step["text"].as_str().unwrap().contains(&url), "{step:#}");
    url
}

fn done(step: &Value) -> bool {
    step["isError"] == false
}

/// What a browser shows in the end.
async fn shown(person: &Person, url: &str) -> String {
    let trace = person.open(url).await.unwrap();
    assert!(trace.get("error").is_none(), "{trace:#}");
    trace["text"].as_str().unwrap().to_owned()
}

/// Endpoint, tool and arguments of calls that want a young second factor: per server, there
/// directly, per portal, per tool and argument.
fn targets() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("/mcp", "vault_test_simple_text", json!({})),
        ("/servers/vault/mcp", TOOL, json!({})),
        ("/portals/strict/mcp", "open_test_simple_text", json!({})),
        ("/mcp", "open_test_write_note", json!({"text": "pay"})),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a4_a_real_client_is_refused_stepped_up_and_allowed_everywhere() {
    if !ready("a4_a_real_client_is_refused_stepped_up_and_allowed_everywhere") {
        return;
    }
    let mut office = office().await;
    for client in CLIENTS {
        for (endpoint, tool, args) in targets() {
            let case = format!("{client:?} {endpoint} {tool}");
            let before = office.executed();
            let ana = office.ana(json!({"amr": ["pwd"]})).await;
            let call = json!({"call": tool, "args": args});
            // What asks for nothing works with the same sign-in: it is the rule that holds the other.
            let free = json!({"call": "open_test_write_note", "args": {"text": "hello"}});
            let mut steps = vec![json!({"list": "tools"}), call.clone()];
            steps.extend((endpoint == "/mcp").then(|| free.clone()));
            let report = office.calls(client, endpoint, &ana, "form", Value::from(steps)).await;
            assert!(report.names("tools").contains(&tool.to_owned()), "{case}: listed");
            let taken = report.0["steps"].as_array().unwrap();
            let url = refused(&taken[1], "step_up_required");
            if endpoint == "/mcp" {
                assert!(done(&taken[2]), "{case}: {:#}", taken[2]);
            }
            let free = u64::from(endpoint == "/mcp");
            assert_eq!(office.executed(), before + free, "{case}: nothing was sent");

            // The provider knows her, and no second factor.
            let text = shown(&ana, &url).await;
            assert!(text.contains("That was not enough"), "{case}: {text}");
            let held = token(&report);
            let steps = Value::from(vec![call.clone()]);
            let report = office.again(client, endpoint, &held, steps.clone()).await;
            let url = refused(&report.0["steps"][0], "step_up_required");

            office.provider.change("ana", json!({"amr": ["pwd", "otp"]})).await.unwrap();
            let text = shown(&ana, &url).await;
            assert!(text.contains("You are confirmed"), "{case}: {text}");
            let asked = office.provider.asked().await.unwrap().pop().unwrap();
            assert_eq!((&asked["max_age"], &asked["prompt"]), (&json!("900"), &json!("login")), "{case}");
            let report = office.again(client, endpoint, &held, steps).await;
            assert!(done(&report.0["steps"][0]), "{case}: {:#}", report.0);
            assert_eq!(office.executed(), before + free + 1, "{case}");
        }
    }
    let records = office.record("call").await;
    let refusals = records.iter().filter(|record| record["verdict"]["code"] == "step_up_required").count();
    assert_eq!(refusals, 16, "each refusal is on record");
    let links = office.links().await;
    assert!(links.iter().filter(|link| link.to_string().contains("second factor proved")).count() == 8, "{links:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a17_an_old_sign_in_is_renewed_in_the_browser_and_the_call_goes_on() {
    if !ready("a17_an_old_sign_in_is_renewed_in_the_browser_and_the_call_goes_on") {
        return;
    }
    let mut office = office().await;
    for client in CLIENTS {
        for (endpoint, tool, args) in targets() {
            let case = format!("{client:?} {endpoint} {tool}");
            let before = office.executed();
            // With a second factor, but that was an hour ago.
            let ana = office.ana(json!({"amr": ["pwd", "hwk"], "ages": [3600]})).await;
            let mut steps = vec![json!({"list": "tools"}), json!({"call": tool, "args": args})];
            steps.extend((endpoint == "/mcp").then(|| json!({"call": "calm_test_simple_text"})));
            let count = u64::try_from(steps.len()).unwrap() - 1;
            // What bears an hour asks nothing: first of all the calls.
            steps[1..].reverse();
            let report = office.calls(client, endpoint, &ana, "url", Value::from(steps)).await;
            for step in &report.0["steps"].as_array().unwrap()[1..] {
                assert!(done(step), "{case}: {step:#}\n{:#?}", ana.trace());
            }
            assert_eq!(office.executed(), before + count, "{case}: each call ran once");
            let asked: Vec<&str> = report.asked().into_iter().filter(|ask| ask.starts_with("url ")).collect();
            let wanted = format!("url {}/step-up/", office.product.base());
            assert_eq!(asked.len(), 1, "{case}: {asked:?}");
            assert!(asked[0].starts_with(&wanted), "{case}: {asked:?}");
            // Young enough is all that was wanted of the provider, and it said so.
            let asked = office.provider.asked().await.unwrap().pop().unwrap();
            assert_eq!((&asked["max_age"], &asked["prompt"]), (&json!("900"), &Value::Null), "{case}");
            let trace = ana.trace();
            assert!(trace[1]["text"].as_str().unwrap().contains("You are confirmed"), "{case}: {trace:#?}");
            // It stays so for the grant.
            let steps = json!([{"call": tool, "args": args}]);
            let report = office.again(client, endpoint, &token(&report), steps).await;
            assert!(done(&report.0["steps"][0]), "{case}: {:#}", report.0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a17_an_authentication_class_is_asked_for_by_its_name() {
    if !ready("a17_an_authentication_class_is_asked_for_by_its_name") {
        return;
    }
    let mut office = office().await;
    for client in CLIENTS {
        let ana = office.ana(json!({"amr": ["pwd", "otp"], "acr": "urn:corp:weak"})).await;
        let steps = json!([{"call": "strong_test_simple_text"}]);
        let report = office.calls(client, "/mcp", &ana, "form", steps.clone()).await;
        let url = refused(report.step("call", "strong_test_simple_text"), "step_up_required");
        let text = shown(&ana, &url).await;
        assert!(text.contains("That was not enough"), "{client:?}: {text}");
        office.provider.change("ana", json!({"acr": STRONG})).await.unwrap();
        let text = shown(&ana, &url).await;
        assert!(text.contains("You are confirmed"), "{client:?}: {text}");
        let asked = office.provider.asked().await.unwrap().pop().unwrap();
        assert_eq!((&asked["acr_values"], &asked["prompt"]), (&json!(STRONG), &json!("login")), "{asked}");
        let report = office.again(client, "/mcp", &token(&report), steps).await;
        assert_eq!(report.said("strong_test_simple_text"), SAID, "{:#}", report.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a17_a_link_does_nothing_for_somebody_else_and_nothing_twice() {
    if !ready("a17_a_link_does_nothing_for_somebody_else_and_nothing_twice") {
        return;
    }
    let mut office = office().await;
    let bo = Person::new("bo").unwrap();
    office.provider.change("bo", json!({"amr": ["pwd", "otp"]})).await.unwrap();
    let ana = office.ana(json!({"amr": ["pwd"]})).await;
    let report = office.calls(CLIENTS[0], "/mcp", &ana, "form", json!([])).await;
    office.provider.change("ana", json!({"amr": ["pwd", "otp"]})).await.unwrap();
    let params = json!({"name": "vault_test_simple_text", "arguments": {}});
    let identity = || Identity::bearer(&token(&report)).declaring(json!({"elicitation": {"url": {}}}));
    let modern = ModernClient::new(&office.product.url(), identity());
    let asked = modern.once("tools/call", params.clone()).await.unwrap().result;
    let url = asked["inputRequests"]["step_up"]["params"]["url"].as_str().unwrap().to_owned();

    // Bo has a second factor of his own, which helps neither him nor her.
    let text = shown(&bo, &url).await;
    assert!(text.contains("This link is for somebody else"), "{text}");
    let link = office.links().await.pop().unwrap();
    let told = link.to_string();
    assert!(told.contains("bo@corp.example") && told.contains("other_person"), "{link:#}");
    assert!(!told.contains("ana@corp.example"), "whose it is stays unsaid: {link:#}");
    let declining = modern.retry(&params, &asked);
    let mut declining = declining;
    declining["inputResponses"] = json!({"step_up": {"action": "decline"}});
    let refused = modern.once("tools/call", declining).await.unwrap();
    assert_eq!(refused.decision()["code"], "step_up_required", "{}", refused.result);
    assert_eq!(office.executed(), 0);

    // His grant is no way around either: her state is bound to her.
    let report_of_bo = office.calls(CLIENTS[1], "/mcp", &bo, "form", json!([])).await;
    let his = Identity::bearer(&token(&report_of_bo)).declaring(json!({"elicitation": {"url": {}}}));
    let stolen = ModernClient::new(&office.product.url(), his);
    let problem = stolen.once("tools/call", modern.retry(&params, &asked)).await.unwrap_err();
    assert_eq!(problem.code, -32602, "{problem}");

    // She herself, once.
    let text = shown(&ana, &url).await;
    assert!(text.contains("You are confirmed"), "{text}");
    let text = shown(&ana, &url).await;
    assert!(text.contains("This link is no longer good"), "{text}");
    let answer = modern.once("tools/call", modern.retry(&params, &asked)).await.unwrap();
    assert_eq!(answer.text(), SAID, "{}", answer.result);
    let used = modern.once("tools/call", modern.retry(&params, &asked)).await.unwrap_err();
    assert_eq!(used.code, -32602, "the state was used: {used}");

    // A forged link leads nobody to the provider.
    let forged = format!("{}/step-up/{}", office.product.base(), "A".repeat(200));
    let before = office.provider.asked().await.unwrap().len();
    let text = shown(&Person::new("ana").unwrap(), &forged).await;
    assert!(!text.contains("Continue to"), "{text}");
    assert_eq!(office.provider.asked().await.unwrap().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a16_a_purpose_is_asked_for_in_the_browser_and_the_call_goes_on() {
    if !ready("a16_a_purpose_is_asked_for_in_the_browser_and_the_call_goes_on") {
        return;
    }
    let mut office = office().await;
    for client in CLIENTS {
        for (endpoint, tool) in [("/mcp", "desk_test_simple_text"), ("/servers/desk/mcp", TOOL)] {
            let purpose = format!("Ticket 4711 <b>of</b> {:?} at {endpoint}", client.0);
            let case = purpose.clone();
            let ana = office.ana(json!({})).await.saying(&purpose);
            let before = office.executed();
            let steps = json!([{"call": tool}, {"call": tool}]);
            let report = office.calls(client, endpoint, &ana, "url", steps).await;
            for step in report.0["steps"].as_array().unwrap() {
                assert_eq!(step["text"], SAID, "{case}: {step:#}");
            }
            assert_eq!(office.executed(), before + 2, "{case}");
            let asked = report.asked().into_iter().filter(|ask| ask.starts_with("url ")).count();
            assert_eq!(asked, 1, "{case}: asked once for all calls: {:?}", report.asked());
            let trace = ana.trace();
            assert!(trace[1]["text"].as_str().unwrap().contains("Your purpose is on record"), "{case}: {trace:#?}");
            let records = office.record("call").await;
            let carries = records.iter().filter(|record| record["who"]["purpose"] == purpose).count();
            assert_eq!(carries, 2, "{case}: both calls carry it: {records:#?}");
            let link = office.links().await.pop().unwrap().to_string();
            assert!(link.contains("purpose: Ticket 4711") && link.contains("ana@corp.example"), "{case}: {link}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a16_a_purpose_has_at_most_500_characters() {
    if !ready("a16_a_purpose_has_at_most_500_characters") {
        return;
    }
    let mut office = office().await;
    let ana = office.ana(json!({})).await;
    let report = office.calls(CLIENTS[0], "/mcp", &ana, "form", json!([])).await;
    let held = token(&report);
    let client = LegacyClient::connect(&office.product.url(), Identity::bearer(&held)).await.unwrap();
    let call = async || client.call("desk_test_simple_text", json!({})).await.unwrap();
    let answer = call().await;
    assert_eq!(answer.decision()["code"], "purpose_required", "{}", answer.result);
    let url = answer.decision()["url"].as_str().unwrap().to_owned();
    // Too long, past the page, and nothing but blanks.
    let ana = ana.saying(&"ä".repeat(501));
    let text = shown(&ana, &url).await;
    assert!(text.contains("Please say what for"), "{text}");
    let ana = ana.saying(" \n\t ");
    let text = shown(&ana, &url).await;
    assert!(text.contains("Please say what for"), "{text}");
    assert_eq!(call().await.decision()["code"], "purpose_required");
    assert_eq!(office.executed(), 0);
    // A line break counts as one, and the record has one line.
    let lines = format!("{}\n{}", "ä".repeat(250), "ä".repeat(249));
    let ana = ana.saying(&lines);
    assert!(shown(&ana, &url).await.contains("Your purpose is on record"));
    assert_eq!(call().await.text(), SAID);
    let last = office.record("call").await.pop().unwrap();
    assert_eq!(last["who"]["purpose"], lines.replace('\n', " "), "{last}");
    // Another grant of hers has no purpose yet.
    let other = office.calls(CLIENTS[1], "/mcp", &ana, "form", json!([{"call": "desk_test_simple_text"}])).await;
    refused(other.step("call", "desk_test_simple_text"), "purpose_required");
}
