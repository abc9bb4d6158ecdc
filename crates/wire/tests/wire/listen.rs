//! Subscriptions and lists (P10, P33).

use bartizan_wire::list::{Page, make_private};
use bartizan_wire::listen::{Filter, acknowledged, completed, with_subscription, without_subscription};
use bartizan_wire::{Era, RequestId};

use crate::support::{raw, same};

fn filter(text: &str) -> Filter {
    Filter::parse(&raw(text)).expect(text)
}

#[test]
fn p10_filter_there_and_back() {
    let all = r#"{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true,"resourceSubscriptions":["a://b"],"taskIds":["t"]}"#;
    same(&filter(all).to_raw(), all);
    same(&filter(r#"{"toolsListChanged":false,"unknown":true,"taskIds":[],"promptsListChanged":null}"#).to_raw(), "{}");
    assert!(filter("{}").is_empty());
    for bad in ["[]", "true", r#"{"toolsListChanged":"yes"}"#, r#"{"resourceSubscriptions":"a"}"#, r#"{"taskIds":[1]}"#]
    {
        assert!(Filter::parse(&raw(bad)).is_err(), "{bad}");
    }
    let many = format!("{{\"taskIds\":[{}\"x\"]}}", "\"x\",".repeat(10_000));
    assert!(Filter::parse(&raw(&many)).is_err());
}

#[test]
fn p10_only_what_the_server_can_deliver_is_acknowledged() {
    let all = filter(
        r#"{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true,"resourceSubscriptions":["a://b"],"taskIds":["t"]}"#,
    );
    let within = |capabilities: &str| all.within(&raw(capabilities)).to_raw().as_str().to_owned();
    assert_eq!(within("{}"), "{}");
    assert_eq!(within(r#"{"tools":{"listChanged":true},"prompts":{}}"#), r#"{"toolsListChanged":true}"#);
    assert_eq!(within(r#"{"resources":{"subscribe":true}}"#), r#"{"resourceSubscriptions":["a://b"]}"#);
    assert_eq!(within(r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#), r#"{"taskIds":["t"]}"#);
    assert!(!filter("{}").within(&raw(r#"{"tools":{"listChanged":true}}"#)).tools, "nothing that was not asked for");
}

#[test]
fn p10_union_and_wants() {
    let a = filter(r#"{"toolsListChanged":true,"resourceSubscriptions":["x","y"]}"#);
    let b = filter(r#"{"promptsListChanged":true,"resourceSubscriptions":["y","z"]}"#);
    same(
        &a.union(&b).to_raw(),
        r#"{"toolsListChanged":true,"promptsListChanged":true,"resourceSubscriptions":["x","y","z"]}"#,
    );
    assert!(a.wants("notifications/tools/list_changed", None));
    assert!(!a.wants("notifications/prompts/list_changed", None));
    assert!(a.wants("notifications/resources/updated", Some(&raw(r#"{"uri":"x"}"#))));
    assert!(!a.wants("notifications/resources/updated", Some(&raw(r#"{"uri":"q"}"#))));
    assert!(!a.wants("notifications/progress", None) && !a.wants("notifications/message", None));
}

#[test]
fn p10_subscription_ids_keep_their_type() {
    let text = RequestId::from_raw(&raw("\"1\"")).expect("id");
    let number = RequestId::from_raw(&raw("1.0")).expect("id");
    same(
        &acknowledged(&text, &filter(r#"{"toolsListChanged":true}"#)),
        r#"{"notifications":{"toolsListChanged":true},"_meta":{"io.modelcontextprotocol/subscriptionId":"1"}}"#,
    );
    same(&completed(&number), r#"{"resultType":"complete","_meta":{"io.modelcontextprotocol/subscriptionId":1.0}}"#);
    let tagged = with_subscription(&number, Some(&raw(r#"{"uri":"a","_meta":{"x":1.0}}"#)));
    same(&tagged, r#"{"uri":"a","_meta":{"x":1.0,"io.modelcontextprotocol/subscriptionId":1.0}}"#);
    same(&without_subscription(&tagged), r#"{"uri":"a","_meta":{"x":1.0}}"#);
    same(&without_subscription(&with_subscription(&text, None)), "{}");
}

#[test]
fn p33_pages_keep_what_they_do_not_know() {
    let text = r#"{"x":1.0,"tools":[{"name":"a","n":1e0},{"name":"b"}],"nextCursor":"c","ttlMs":5000,"cacheScope":"public","_meta":{"k":1.0}}"#;
    let page = Page::parse("tools/list", &raw(text)).expect("a page");
    assert_eq!(
        (page.items.len(), page.next_cursor.as_deref(), page.ttl_ms, page.private),
        (2, Some("c"), Some(5000), false)
    );
    same(
        &page.to_raw("tools/list", Era::Modern),
        r#"{"resultType":"complete","tools":[{"name":"a","n":1e0},{"name":"b"}],"nextCursor":"c","ttlMs":5000,"cacheScope":"public","x":1.0,"_meta":{"k":1.0}}"#,
    );
    same(
        &page.to_raw("tools/list", Era::Legacy),
        r#"{"tools":[{"name":"a","n":1e0},{"name":"b"}],"nextCursor":"c","x":1.0,"_meta":{"k":1.0}}"#,
    );
}

#[test]
fn p33_absent_cache_members_mean_private_and_zero() {
    let page =
        Page::parse("resources/templates/list", &raw(r#"{"resourceTemplates":[],"nextCursor":null}"#)).expect("page");
    assert!(page.private && page.ttl_ms.is_none() && page.next_cursor.is_none());
    same(
        &page.to_raw("resources/templates/list", Era::Modern),
        r#"{"resultType":"complete","resourceTemplates":[],"ttlMs":0,"cacheScope":"private"}"#,
    );
    for scope in ["\"Public\"", "\"other\"", "null", "1"] {
        let page = Page::parse("tools/list", &raw(&format!(r#"{{"tools":[],"cacheScope":{scope},"ttlMs":-5}}"#)))
            .expect("page");
        assert!(page.private && page.ttl_ms.is_none(), "{scope}");
    }
    for bad in [r#"{"tools":{}}"#, "{}", "[]", r#"{"prompts":[]}"#, r#"{"tools":[],"nextCursor":5}"#] {
        assert!(Page::parse("tools/list", &raw(bad)).is_none(), "{bad}");
    }
    same(&make_private(&raw(r#"{"tools":[],"cacheScope":"public"}"#)), r#"{"tools":[],"cacheScope":"private"}"#);
}
