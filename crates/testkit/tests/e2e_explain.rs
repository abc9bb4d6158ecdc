//! `bartizan explain` with circumstances (row U6) is what happens to people who signed in under
//! them, with a real provider and real browsers.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use bartizan_testkit::client::{Identity, ModernClient};
use bartizan_testkit::fixture::{Era, Fixture, Options};
use bartizan_testkit::product::{Config, Product};
use bartizan_testkit::scripts::{self, RealClient};
use bartizan_testkit::sign_in::{Person, Provider};
use bartizan_testkit::tools::{self, Part};
use serde_json::{Value, json};

const STRONG: &str = "urn:corp:strong";

/// A small generator, so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        from[usize::try_from(self.0 >> 33).unwrap() % from.len()].clone()
    }
}

/// Somebody with a grant, and what the command has to be told of the sign-in.
struct Caller {
    name: &'static str,
    token: String,
    told: Vec<&'static str>,
}

/// The servers, each with another circumstance in its only rule.
fn servers(fixture: &Fixture) -> Vec<Value> {
    let rules = [
        ("free", json!({})),
        ("country", json!({"require": [{"country": ["AT", "DE"]}]})),
        ("abroad", json!({"exclude": [{"country": ["AT"]}]})),
        ("device", json!({"require": [{"device": ["laptop-7"]}]})),
        ("address", json!({"require": [{"ip": ["10.0.0.0/8"]}]})),
        ("factor", json!({"require": [{"mfa": true}]})),
        ("recent", json!({"require_mfa": {"max_age": "15m"}})),
        ("strong", json!({"require_mfa": {"acr": STRONG}})),
        ("purpose", json!({"require_purpose": true})),
        ("both", json!({"require_purpose": true, "require_mfa": {"max_age": "15m"}})),
        ("named", json!({"require": [{"idp_claim": {"name": "name", "value": "Bo"}}]})),
        ("never", json!({"require": [{"client_id": ["nobody"]}]})),
        ("cedar", json!({})),
    ];
    let rule = |more: &Value| {
        let mut rule = json!({"action": "allow", "include": [{"groups": ["engineering"]}]});
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([rule])
    };
    let server = |(id, more): &(&str, Value)| json!({"server_id": id, "hostname": fixture.url(), "policies": rule(more), "classes": {"read": ["test_echo"]}});
    rules.iter().map(server).collect()
}

/// A call to its end: `allowed`, `hidden`, or the code.
async fn live(client: &ModernClient, tool: &str, arguments: &Value) -> String {
    match client.call(tool, arguments.clone()).await {
        Err(problem) if problem.code == -32602 && problem.message.contains("Unknown tool") => "hidden".to_owned(),
        Err(problem) => panic!("{problem}"),
        Ok(done) => done.decision()["code"].as_str().unwrap_or("allowed").to_owned(),
    }
}

/// What the command says of it.
async fn explained(product: &Product, arguments: &[&str]) -> (String, Value) {
    let output = product.command(arguments).await.unwrap();
    let said: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{arguments:?} {output:?}"));
    let word = match (said["allowed"].as_bool().unwrap(), said["visible"].as_bool().unwrap()) {
        (true, _) => "allowed".to_owned(),
        (false, false) => "hidden".to_owned(),
        (false, true) => said["code"].as_str().unwrap().to_owned(),
    };
    assert_eq!(output.code, Some(i32::from(word != "allowed")), "{said:#}");
    (word, said)
}

#[tokio::test(flavor = "multi_thread")]
async fn u6_explain_with_circumstances_equals_the_live_decision_in_100_random_cases() {
    let test = "u6_explain_with_circumstances_equals_the_live_decision_in_100_random_cases";
    if !tools::ready(test, &[Part::Npm, Part::Product, Part::Browser]) {
        return;
    }
    let person = |id: &str, name: &str, more: Value| {
        let mut person = json!({"email": format!("{id}@corp.example"), "name": name, "groups": ["engineering"]});
        person.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        person
    };
    let people = json!({
        "ana": person("ana", "Ana", json!({"amr": ["pwd"]})),
        "bo": person("bo", "Bo", json!({"amr": ["pwd", "otp"], "acr": STRONG})),
        "cy": person("cy", "Cy", json!({"amr": ["pwd", "hwk"], "ages": [1200]})),
    });
    let mut provider = Provider::start(people).await.unwrap();
    let fixture = Fixture::start(Options::of(Era::Modern)).await.unwrap();
    let mut resource = provider.resource();
    resource["claims"] = json!({"keep": ["name"]});
    let cedar = "forbid(principal, action == Action::\"call_tool\", resource == Tool::\"cedar/test_echo\") \
        when { context.args has value && context.args.value == \"much\" } \
        unless { context has mfa_age && context.mfa_age <= 900 }; \
        forbid(principal, action == Action::\"call_tool\", resource == Tool::\"cedar/test_echo\") \
        when { context has purpose && context.purpose like \"*fun*\" };";
    let config = Config::new()
        .set("servers", Value::from(servers(&fixture)))
        .set("portals", json!([{"id": "default", "policies": servers(&fixture)[0]["policies"]}]))
        .set("policies", json!([{"id": "rules", "cedar": cedar}]))
        .set("trusted_proxies", json!(["127.0.0.1/32"]))
        .set("country_header", json!("CF-IPCountry"))
        .set("device_header", json!("X-Device"))
        .with("identity_providers", resource);
    let product = Product::serve(config).await.unwrap();
    provider.admit(&product.base()).await.unwrap();

    let mut callers = Vec::new();
    for (name, told) in [
        ("ana", vec!["--signed-in", "--claim", "name=Ana"]),
        ("bo", vec!["--mfa-age", "1m", "--acr", STRONG, "--claim", "name=Bo"]),
        ("cy", vec!["--mfa-age", "21m", "--purpose", "for fun", "--claim", "name=Cy"]),
    ] {
        let who = Person::new(name).unwrap().saying("for fun");
        let report = scripts::sign_in(RealClient::TsV1, &product.url(), &who, "", json!([])).await.unwrap();
        let trace = who.closed(1).await;
        let token = report.0["signedIn"]["tokens"]["access_token"].as_str();
        let token = token.unwrap_or_else(|| panic!("{:#}\n{trace:#?}", report.0)).to_owned();
        if name == "cy" {
            let client = ModernClient::new(&product.url(), Identity::bearer(&token).declaring(json!({})));
            let asked = client.call("purpose_test_echo", json!({})).await.unwrap();
            let shown = who.open(asked.decision()["url"].as_str().unwrap()).await.unwrap();
            assert!(shown["text"].as_str().unwrap().contains("on record"), "{shown:#}");
        }
        callers.push(Caller { name, token, told });
    }

    let mut names: Vec<String> =
        servers(&fixture).iter().map(|server| server["server_id"].as_str().unwrap().to_owned()).collect();
    // Its rules look at the arguments too, so it has more cases.
    names.extend(std::iter::repeat_n("cedar".to_owned(), 4));
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("args.json").display().to_string();
    let mut dice = Dice(20_261_122);
    let mut seen = std::collections::BTreeMap::<String, usize>::new();
    for case in 0..100 {
        let caller = &callers[dice.pick(&[0, 1, 2])];
        let (country, device) = (dice.pick(&[None, Some("AT"), Some("CH")]), dice.pick(&[None, Some("laptop-7")]));
        let ip = dice.pick(&["10.1.2.3", "192.0.2.7"]);
        let server = dice.pick(&names);
        let arguments = json!({"value": dice.pick(&["little", "much"])});
        let mut identity = Identity::bearer(&caller.token).declaring(json!({}));
        identity.headers.push(("x-forwarded-for".to_owned(), ip.to_owned()));
        let user = format!("{}@corp.example", caller.name);
        let mut words =
            vec!["explain", "--json", "--user", &user, "--group", "engineering", "--ip", ip, "--args", &file];
        words.extend(&caller.told);
        for (header, option, value) in [("cf-ipcountry", "--country", country), ("x-device", "--device", device)] {
            if let Some(value) = value {
                identity.headers.push((header.to_owned(), value.to_owned()));
                words.extend([option, value]);
            }
        }
        let tool = format!("{server}.test_echo");
        words.extend(["--tool", &tool]);
        std::fs::write(&file, arguments.to_string()).unwrap();
        let client = ModernClient::new(&product.url(), identity);
        let got = live(&client, &format!("{server}_test_echo"), &arguments).await;
        let (word, said) = explained(&product, &words).await;
        assert_eq!(word, got, "case {case}: {words:?} {arguments}\n{said:#}");
        *seen.entry(got).or_default() += 1;
    }
    let kinds = ["allowed", "hidden", "step_up_required", "purpose_required"];
    assert!(kinds.iter().all(|kind| seen.contains_key(*kind)), "the cases are too much alike: {seen:?}");
}
