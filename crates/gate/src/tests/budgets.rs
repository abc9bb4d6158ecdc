//! Response budgets (feature row P52), through the whole gate: 5 MB under each mode, and whose
//! handles are whose.

use serde_json::{Value, json};

use super::bench::{Bench, From, legacy, modern, value};
use super::mock::Speaks;
use crate::CallReply;

const BOTH: &[(&str, Speaks)] = &[("old", Speaks::Legacy), ("new", Speaks::Modern)];
/// Rows of a result of more than 5 MB.
const MANY: u64 = 75_000;

/// A bench whose servers have the tool `rows`, with this on the portal.
async fn bench(portal: Value) -> Bench {
    let bench = Bench::with(BOTH, |r| {
        for server in r["servers"].as_array_mut().unwrap() {
            server["classes"]["read"].as_array_mut().unwrap().push("rows".into());
        }
        for (key, said) in portal.as_object().unwrap() {
            r["portals"][0][key] = said.clone();
        }
    })
    .await;
    for (id, _) in BOTH {
        let tool = json!({"name": "rows", "inputSchema": {"type": "object"}});
        bench.mock(id).state.tools.lock().unwrap().push(tool);
    }
    bench
}

async fn rows(bench: &Bench, from: &From, tool: &str, count: u64) -> Value {
    match bench.tool(from, tool, json!({"count": count})).await {
        CallReply::Result(raw) => value(&raw),
        other => panic!("{other:?}"),
    }
}

fn texts(result: &Value) -> Vec<&str> {
    result["content"].as_array().unwrap().iter().filter_map(|block| block["text"].as_str()).collect()
}

/// Bytes of everything a model would read.
fn read(result: &Value) -> usize {
    result["content"].to_string().len() + result["structuredContent"].to_string().len()
}

#[tokio::test]
async fn p52_without_a_budget_a_long_result_is_whole() {
    let bench = bench(json!({})).await;
    let result = rows(&bench, &modern("alice"), "old_rows", MANY).await;
    assert!(texts(&result)[0].len() > 2_500_000 && read(&result) > 5_000_000);
    assert_eq!(result["structuredContent"]["rows"].as_array().unwrap().len() as u64, MANY);
    assert!(!bench.tool_names(&modern("alice")).await.contains(&"portal_next_page".to_owned()));
}

#[tokio::test]
async fn p52_truncate_cuts_and_says_so() {
    let bench = bench(json!({"max_result_tokens": 1_000})).await;
    for (from, tool) in [(modern("alice"), "old_rows"), (legacy("alice"), "new_rows")] {
        let short = rows(&bench, &from, tool, 3).await;
        assert_eq!(short["structuredContent"]["rows"].as_array().unwrap().len(), 3);
        assert!(short["_meta"]["bartizan/result"].is_null());
        let result = rows(&bench, &from, tool, MANY).await;
        assert!(read(&result) < 5_000, "{}", read(&result));
        assert!(texts(&result).last().unwrap().starts_with("[Cut here"), "{result}");
        let data = &result["structuredContent"];
        assert_eq!(data["total"], MANY);
        assert_eq!(data["rows"][0], json!({"id": 0, "name": "row number 0"}));
        assert_eq!(result["_meta"]["bartizan/result"]["truncated"], true);
    }
    let events = bench.events_of("call").await;
    assert!(events.last().unwrap()["note"].as_str().unwrap().contains("truncate"));
}

#[tokio::test]
async fn p52_pages_give_everything_and_only_to_their_owner() {
    let bench = bench(json!({"max_result_tokens": 2_000, "long_results": "page"})).await;
    for (alice, bob) in [(modern("alice"), modern("bob")), (legacy("alice"), legacy("bob"))] {
        assert!(bench.tool_names(&alice).await.contains(&"portal_next_page".to_owned()));
        let first = rows(&bench, &alice, "old_rows", 400).await;
        let mut whole = texts(&first)[0].to_owned();
        let mut next = first["_meta"]["bartizan/result"]["next"].as_str().map(str::to_owned);
        assert!(read(&first) < 20_000 && next.is_some(), "{first}");
        let stolen = next.clone().unwrap();
        let mut pages = 1;
        while let Some(handle) = next {
            let page = match bench.tool(&alice, "portal_next_page", json!({"handle": handle})).await {
                CallReply::Result(raw) => value(&raw),
                other => panic!("{other:?}"),
            };
            assert_eq!(page["isError"], false, "{page}");
            pages += 1;
            assert_eq!(page["_meta"]["bartizan/result"]["page"], pages);
            whole += texts(&page)[0];
            next = page["_meta"]["bartizan/result"]["next"].as_str().map(str::to_owned);
        }
        let whole: Value = serde_json::from_str(&whole).unwrap();
        assert_eq!(whole["rows"].as_array().unwrap().len(), 400);
        // Bob, another endpoint, a changed handle, no handle, and ten minutes later.
        let refused = async |from: &From, handle: Value| {
            let reply = bench.tool(from, "portal_next_page", json!({"handle": handle})).await;
            matches!(reply, CallReply::Result(raw) if value(&raw)["isError"] == true)
        };
        assert!(refused(&bob, json!(stolen)).await);
        let mut changed = stolen.clone();
        changed.replace_range(40..41, if &stolen[40..41] == "A" { "B" } else { "A" });
        for handle in [json!(changed), json!(""), json!(null), json!(7), json!("x".repeat(2_000_000))] {
            assert!(refused(&alice, handle).await);
        }
        assert!(!refused(&alice, json!(stolen)).await);
        bench.clock.advance_ms(600_001);
        assert!(refused(&alice, json!(stolen)).await);
    }
}

#[tokio::test]
async fn p52_five_megabytes_in_pages_stay_within_the_budget() {
    let bench = bench(json!({"max_result_tokens": 10_000, "long_results": "page"})).await;
    let first = rows(&bench, &modern("alice"), "old_rows", MANY).await;
    assert!(read(&first) < 90_000, "{}", read(&first));
    assert!(first["_meta"]["bartizan/result"]["pages"].as_u64().unwrap() > 60);
    // A server's own endpoint has no tool for further pages.
    let own = rows(&bench, &modern("alice").at("old"), "rows", MANY).await;
    assert_eq!(own["_meta"]["bartizan/result"], Value::Null, "the budget of a portal is not that of a server");
}

#[tokio::test]
async fn p52_spill_keeps_the_whole_for_its_owner() {
    let bench = bench(json!({"max_result_tokens": 500, "long_results": "spill"})).await;
    for (alice, bob) in [(modern("alice"), modern("bob")), (legacy("alice"), legacy("bob"))] {
        let result = rows(&bench, &alice, "new_rows", MANY).await;
        assert!(read(&result) < 4_000, "{}", read(&result));
        let link = result["content"].as_array().unwrap().iter().find(|block| block["type"] == "resource_link");
        let uri = link.unwrap()["uri"].as_str().unwrap().to_owned();
        assert!(uri.starts_with("bartizan://result/") && uri.len() == 50, "{uri}");
        let whole = async |from: &From, uri: &str| match bench.call(from, "resources/read", json!({"uri": uri})).await {
            CallReply::Result(raw) => Some(value(&raw)),
            CallReply::NotFound { .. } => None,
            other => panic!("{other:?}"),
        };
        let read = whole(&alice, &uri).await.unwrap();
        let text = read["contents"][0]["text"].as_str().unwrap();
        assert_eq!(
            (read["contents"][0]["mimeType"].as_str(), text.len() > 2_500_000),
            (Some("application/json"), true)
        );
        let data: Value = serde_json::from_str(text).unwrap();
        assert_eq!(data["rows"].as_array().unwrap().len() as u64, MANY);
        assert_eq!(whole(&bob, &uri).await, None);
        assert_eq!(whole(&bob.at("new"), &uri).await, None);
        let other = format!("bartizan://result/{}", "0".repeat(32));
        for bad in [other.as_str(), "bartizan://result/", "bartizan://result/../x", "BARTIZAN://result/0"] {
            assert_eq!(whole(&alice, bad).await, None, "{bad}");
        }
        bench.clock.advance_ms(600_001);
        assert_eq!(whole(&alice, &uri).await, None);
    }
}

#[tokio::test]
async fn p52_what_was_kept_goes_with_the_right_to_the_tool() {
    let mut bench = bench(json!({"max_result_tokens": 500, "long_results": "spill"})).await;
    let alice = modern("alice");
    let result = rows(&bench, &alice, "old_rows", 5_000).await;
    let uri = result["_meta"]["bartizan/result"]["uri"].as_str().unwrap().to_owned();
    let read = async |bench: &Bench| {
        let reply = bench.call(&modern("alice"), "resources/read", json!({"uri": uri})).await;
        matches!(reply, CallReply::Result(_))
    };
    assert!(read(&bench).await);
    let kill = crate::NewKill {
        scope: crate::KillScope::Tool,
        subject: "old/rows".into(),
        reason: "it tells too much".into(),
        until_ms: None,
    };
    let id = bench.gate.kills().set(kill, "user:sec").await.unwrap().id;
    assert!(!read(&bench).await);
    bench.gate.kills().lift(&id, "user:sec", "over").await.unwrap();
    assert!(read(&bench).await);
    bench.reload(|r| {
        let read = r["servers"][0]["classes"]["read"].as_array_mut().unwrap();
        read.retain(|name| name != "rows");
    });
    assert!(!read(&bench).await, "the right to the tool is gone");
}

#[tokio::test]
async fn p52_the_least_budget_counts_and_the_narrowest_mode() {
    let bench = Bench::with(BOTH, |r| {
        r["portals"][0]["max_result_tokens"] = json!(5_000);
        r["portals"][0]["long_results"] = json!("spill");
        for server in r["servers"].as_array_mut().unwrap() {
            server["classes"]["read"].as_array_mut().unwrap().push("rows".into());
            server["max_result_tokens"] = json!(50_000);
        }
        r["servers"][0]["updated_tools"] =
            json!([{"name": "rows", "max_result_tokens": 800, "long_results": "truncate"}]);
    })
    .await;
    for (id, _) in BOTH {
        let tool = json!({"name": "rows", "inputSchema": {"type": "object"}});
        bench.mock(id).state.tools.lock().unwrap().push(tool);
    }
    let alice = modern("alice");
    let old = rows(&bench, &alice, "old_rows", MANY).await;
    assert_eq!(old["_meta"]["bartizan/result"]["truncated"], true);
    assert!(read(&old) < 6_000);
    let new = rows(&bench, &alice, "new_rows", MANY).await;
    assert!(new["_meta"]["bartizan/result"]["uri"].is_string() && read(&new) > 4_000, "{}", read(&new));
    let own = rows(&bench, &alice.at("new"), "rows", MANY).await;
    assert_eq!(own["_meta"]["bartizan/result"]["truncated"], true);
    assert!(read(&own) > 100_000);
}
