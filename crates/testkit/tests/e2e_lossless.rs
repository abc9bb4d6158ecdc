//! What is not understood arrives as it was sent: rows P27 and P30 through the whole product.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use bartizan_testkit::client::{Identity, LegacyClient, ModernClient};
use bartizan_testkit::faulty::{Fault, Faulty};
use bartizan_testkit::fixture::{self, Era, Fixture, Options};
use bartizan_testkit::product::{Config, Product, http_server};
use bartizan_testkit::tools::{self, Part};
use serde_json::json;

fn ready(test: &str) -> bool {
    tools::ready(test, &[Part::Product])
}

/// Results with unknown members at every level, odd numbers, odd escapes, odd order.
const RESULTS: &[&str] = &[
    r#"{"content":[{"type":"text","text":"a","x":1.0}],"n":1.10,"big":12345678901234567890123,"e":1E+2,"neg":-0}"#,
    r#"{"zz":1,"content":[],"aa":{"deep":[null,true,{"k":[1.50]}]},"_meta":{"com.example/x":[2.0],"b":"\u00e9"}}"#,
    r#"{"content":[{"type":"hologram","data":{"x":1e400}}],"isError":false,"structuredContent":{"a":0.10}}"#,
    r#"{ "content" : [ { "type" : "text" , "text" : "\/ \ud83d\ude00 é" } ] , "execution":{"taskSupport":"forbidden"} }"#,
];

#[tokio::test(flavor = "multi_thread")]
async fn p30_results_of_the_same_era_are_byte_equal() {
    if !ready("p30_results_of_the_same_era_are_byte_equal") {
        return;
    }
    let faulty = Faulty::start().await.unwrap();
    let server = http_server("odd", &faulty.url(), &["ping_tool".to_owned()]);
    let product = Product::serve(Config::new().server(server)).await.unwrap();
    let legacy =
        LegacyClient::connect(&product.server_url("odd"), Identity::bearer(product.token("agent"))).await.unwrap();
    for result in RESULTS {
        faulty.fail("tools/call", Fault::Result((*result).to_owned()));
        let call = json!({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {"name": "ping_tool"}});
        let reply = legacy.post(&call).await.unwrap();
        let body = if reply.is_events() {
            let mut events = reply.events();
            loop {
                let event = events.next().await.unwrap().unwrap();
                if event.json()["id"] == 5 {
                    break event.data.unwrap();
                }
            }
        } else {
            reply.text().await.unwrap()
        };
        assert!(body.contains(result), "sent {result}\ngot  {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p30_results_across_eras_keep_every_member() {
    if !ready("p30_results_across_eras_keep_every_member") {
        return;
    }
    let faulty = Faulty::start().await.unwrap();
    let server = http_server("odd", &faulty.url(), &["ping_tool".to_owned()]);
    let product = Product::serve(Config::new().server(server)).await.unwrap();
    let client = ModernClient::new(&product.server_url("odd"), Identity::bearer(product.token("agent")));
    for (result, kept) in [
        (
            RESULTS[0],
            &[r#""x":1.0"#, r#""n":1.10"#, r#""big":12345678901234567890123"#, r#""e":1E+2"#, r#""neg":-0"#][..],
        ),
        (RESULTS[1], &[r#""zz":1"#, r#""aa":{"deep":[null,true,{"k":[1.50]}]}"#, r#""com.example/x":[2.0]"#][..]),
        (RESULTS[2], &[r#"{"type":"hologram","data":{"x":1e400}}"#, r#""structuredContent":{"a":0.10}"#][..]),
    ] {
        faulty.fail("tools/call", Fault::Result(result.to_owned()));
        let mut params = json!({"name": "ping_tool", "arguments": {}});
        params["_meta"] = client.meta();
        let body = json!({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": params}).to_string();
        let reply = client.send(&client.headers("tools/call", &params), body).await.unwrap();
        let text = reply.text().await.unwrap();
        for piece in kept {
            assert!(text.contains(piece), "{piece} is not in {text}");
        }
        assert!(text.contains(r#""resultType":"complete""#), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p27_pages_of_tools_links_and_unknown_members_survive_the_prefix() {
    if !ready("p27_pages_of_tools_links_and_unknown_members_survive_the_prefix") {
        return;
    }
    for era in [Era::Legacy, Era::Modern] {
        let fixture = Fixture::start(Options::of(era)).await.unwrap();
        let server = http_server("fx", &fixture.url(), &fixture::tool_names());
        let product = Product::serve(Config::new().server(server)).await.unwrap();
        let identity = Identity::bearer(product.token("agent"));
        let modern = ModernClient::new(&product.url(), identity.clone());
        let legacy = LegacyClient::connect(&product.url(), identity).await.unwrap();
        let lists = [
            modern.request("tools/list", json!({})).await.unwrap().result,
            legacy.request("tools/list", json!({})).await.unwrap().result,
        ];
        for list in lists {
            let tools = list["tools"].as_array().unwrap();
            let app = tools.iter().find(|tool| tool["name"] == "fx_test_app").unwrap();
            assert_eq!(app["com.example/unknown"]["kept"], true, "{era:?}: {app}");
            assert_eq!(app["icons"][0]["mimeType"], "image/png", "{era:?}: {app}");
            let page = app["_meta"]["ui"]["resourceUri"].as_str().unwrap();
            assert!(page.starts_with("ui://"), "{era:?}: {page}");
            let read = modern.request("resources/read", json!({"uri": page})).await.unwrap().result;
            assert_eq!(read["contents"][0]["text"], "<!doctype html><title>panel</title>", "{era:?}");
            assert_eq!(read["contents"][0]["uri"], page, "{era:?}");
            let listed = legacy.request("resources/list", json!({})).await.unwrap().result;
            assert!(listed["resources"].to_string().contains(page), "{era:?}: {page} is not in {listed}");
        }
        assert_eq!(modern.call("fx_test_app", json!({})).await.unwrap().text(), "shown in its page", "{era:?}");
        let linked = modern.call("fx_test_links", json!({})).await.unwrap().result;
        let link = linked["content"][0]["uri"].as_str().unwrap();
        assert_eq!(linked["content"][1]["resource"]["uri"], link, "{era:?}: {linked}");
        let read = legacy.request("resources/read", json!({"uri": link})).await.unwrap().result;
        assert_eq!(read["contents"][0]["text"], "This is the content of the static text resource.", "{era:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p27_templates_stay_expandable_and_completion_follows_the_prefix() {
    if !ready("p27_templates_stay_expandable_and_completion_follows_the_prefix") {
        return;
    }
    for era in [Era::Legacy, Era::Modern] {
        let fixture = Fixture::start(Options::of(era)).await.unwrap();
        let server = http_server("fx", &fixture.url(), &fixture::tool_names());
        let product = Product::serve(Config::new().server(server)).await.unwrap();
        let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
        let listed = client.request("resources/templates/list", json!({})).await.unwrap().result;
        let template = listed["resourceTemplates"][0]["uriTemplate"].as_str().unwrap();
        assert!(template.contains("{id}"), "{era:?}: {template}");
        let uri = template.replace("{id}", "42");
        let read = client.request("resources/read", json!({"uri": uri})).await.unwrap().result;
        assert!(read["contents"][0]["text"].as_str().unwrap().contains("Data for ID: 42"), "{era:?}: {read}");
        let argument = json!({"name": "id", "value": "12"});
        let reference = json!({"type": "ref/resource", "uri": template});
        let params = json!({"ref": reference, "argument": argument});
        let done = client.request("completion/complete", params).await.unwrap().result;
        assert_eq!(done["completion"]["values"], json!(["12", "123"]), "{era:?}");
    }
}
