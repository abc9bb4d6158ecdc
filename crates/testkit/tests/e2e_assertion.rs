//! Who calls, signed for each server (row A13), through the product: a real person's call, and
//! the helper libraries that servers use to read it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use bartizan_testkit::client::{Identity, LegacyClient, ModernClient};
use bartizan_testkit::fixture::{Era, Fixture, Options};
use bartizan_testkit::product::{Config, Product};
use bartizan_testkit::scripts::{self, RealClient};
use bartizan_testkit::sign_in::{Person, Provider};
use bartizan_testkit::tools::{self, Part};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

const TOOL: &str = "test_simple_text";
const HEADER: &str = "cf-access-jwt-assertion";
const TAG: &str = "tag-of-payroll";

/// A helper library as a server runs it: `verify.mjs` (npm jose) or `verify.py` (PyJWT).
struct Verifier {
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Verifier {
    fn start(program: PathBuf, script: &str, product: &Product, keys: &str, audience: &str) -> Self {
        let mut child = Command::new(program)
            .arg(tools::script(script))
            .args([product.base(), format!("{}{keys}", product.base()), audience.to_owned()])
            .env("BARTIZAN_TOOLS_DIR", tools::folder())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { _child: child, input, output }
    }

    async fn ask(&mut self, token: &str) -> Value {
        self.input.write_all(format!("{token}\n").as_bytes()).await.unwrap();
        let line = tokio::time::timeout(Duration::from_secs(60), self.output.next_line()).await.unwrap();
        serde_json::from_str(&line.unwrap().expect("the verifier ended")).unwrap()
    }
}

fn server(id: &str, fixture: &Fixture, more: Value) -> Value {
    let rules = json!([{"name": "engineers", "action": "allow", "include": [{"groups": ["engineering"]}]}]);
    let mut server =
        json!({"server_id": id, "hostname": fixture.url(), "policies": rules, "classes": {"read": [TOOL]}});
    server.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server
}

/// The assertions that calls of tools brought.
fn brought(fixture: &Fixture) -> Vec<String> {
    let calls = fixture.stats().recorded().into_iter().filter(|request| request.json()["method"] == "tools/call");
    calls.map(|request| request.header(HEADER).unwrap_or_default().to_owned()).collect()
}

fn last_two(fixture: &Fixture) -> Vec<String> {
    let mut all = brought(fixture);
    all.split_off(all.len() - 2)
}

fn audience_of(assertion: &str) -> String {
    let claims = URL_SAFE_NO_PAD.decode(assertion.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    claims["aud"].as_str().or_else(|| claims["aud"][0].as_str()).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a13_calls_through_the_product_carry_what_helper_libraries_accept() {
    let test = "a13_calls_through_the_product_carry_what_helper_libraries_accept";
    if !tools::ready(test, &[Part::Npm, Part::Mcp, Part::Browser, Part::Product]) {
        return;
    }
    let people = json!({"ana": {"email": "Ana@Corp.Example", "groups": ["engineering", "oncall"]}});
    let mut provider = Provider::start(people).await.unwrap();
    let fixture = |era| Fixture::start(Options::of(era).recorded());
    let (payroll, notes, plain) =
        (fixture(Era::Modern).await.unwrap(), fixture(Era::Legacy).await.unwrap(), fixture(Era::Modern).await.unwrap());
    let asserted = |more: Value| json!({"auth_type": "assertion", "auth_config": more});
    let portal = json!({"id": "default", "policies": server("x", &plain, json!({}))["policies"]});
    let config = Config::new()
        .server(server("payroll", &payroll, asserted(json!({"audience": TAG}))))
        .server(server("notes", &notes, asserted(json!({}))))
        .server(server("plain", &plain, json!({})))
        .set("portals", json!([portal]))
        .with("identity_providers", provider.resource());
    let mut product = Product::serve(config).await.unwrap();
    provider.admit(&product.base()).await.unwrap();
    let ana = Person::new("ana").unwrap();
    let report = scripts::sign_in(RealClient::TsV1, &product.url(), &ana, "", json!([])).await.unwrap();
    let token = report.0["signedIn"]["tokens"]["access_token"].as_str().unwrap_or_else(|| panic!("{:#}", report.0));

    let modern = ModernClient::new(&product.url(), Identity::bearer(token));
    let legacy = LegacyClient::connect(&product.url(), Identity::bearer(token)).await.unwrap();
    let python = || tools::venv("mcp", "python");
    let certs = "/cdn-cgi/access/certs";
    let libraries = [
        (tools::node(), "assertions/verify.mjs", certs),
        (python(), "assertions/verify.py", certs),
        (python(), "assertions/verify.py", "/.well-known/jwks.json"),
    ];
    for (program, script, keys) in libraries {
        // Clients of both eras at servers of both; one server is told nothing. They last a minute.
        for name in ["payroll_test_simple_text", "notes_test_simple_text", "plain_test_simple_text"] {
            assert!(!modern.call(name, json!({})).await.unwrap().is_error(), "{name}: {}", product.log());
            assert!(!legacy.call(name, json!({})).await.unwrap().is_error(), "{name}");
        }
        let mut verifier = Verifier::start(program.clone(), script, &product, keys, TAG);
        let (mine, foreign) = (last_two(&payroll), last_two(&notes));
        for assertion in &mine {
            let said = verifier.ask(assertion).await;
            assert_eq!(said["iss"], product.base(), "{script}: {said}");
            assert_eq!((&said["sub"], &said["email"]), (&json!("user:ana@corp.example"), &json!("ana@corp.example")));
            assert_eq!(said["groups"], json!(["engineering", "oncall"]), "{said}");
            assert!(said["aud"] == TAG || said["aud"] == json!([TAG]), "{said}");
            let life = said["exp"].as_i64().unwrap() - said["iat"].as_i64().unwrap();
            assert!((1..=60).contains(&life), "{said}");
            assert!(said["jti"].as_str().is_some_and(|jti| jti.len() >= 16), "{said}");
        }
        assert_eq!(verifier.ask(&mine[0]).await["refused"], "replay", "{script}");
        // What the other server got is no good here, and neither is the client's own token.
        for foreign in [foreign[0].as_str(), token] {
            let said = verifier.ask(foreign).await;
            assert!(said["refused"].is_string(), "{script}: {said}");
        }
        // It is the audience that holds it: where that is not looked at, it opens the door.
        let mut deceived = Verifier::start(program, script, &product, keys, &audience_of(&foreign[0]));
        assert_eq!(deceived.ask(&foreign[0]).await["email"], "ana@corp.example", "{script}");
        let (message, signature) = mine[1].rsplit_once('.').unwrap();
        let said = verifier.ask(&format!("{message}.{}", signature.chars().rev().collect::<String>())).await;
        assert!(said["refused"].is_string(), "{script}: {said}");
    }
    assert!(plain.stats().recorded().iter().all(|request| request.header(HEADER).is_none()), "nobody else is told");
    let (for_payroll, for_notes) = (brought(&payroll), brought(&notes));
    let mut all: Vec<&String> = for_payroll.iter().chain(&for_notes).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 12, "one of its own for each call");
    // No assertion is kept or printed.
    for assertion in for_payroll.iter().chain(&for_notes) {
        let signature = assertion.rsplit('.').next().unwrap();
        assert_eq!(product.leaks(signature).unwrap(), None);
    }

    // The key is lost with the data: what it signed a moment ago is refused, though in time.
    if tools::on_postgres() {
        return;
    }
    assert!(!modern.call("payroll_test_simple_text", json!({})).await.unwrap().is_error());
    let old = brought(&payroll).pop().unwrap();
    product.stop().await.unwrap();
    std::fs::remove_dir_all(product.data()).unwrap();
    product.start_again().await.unwrap();
    for (program, script, why) in [
        (tools::node(), "assertions/verify.mjs", "ERR_JWKS_NO_MATCHING_KEY"),
        (python(), "assertions/verify.py", "PyJWKClientError"),
    ] {
        let mut verifier = Verifier::start(program, script, &product, certs, TAG);
        assert_eq!(verifier.ask(&old).await["refused"], why, "{script}");
    }
}
