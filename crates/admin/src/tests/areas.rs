use http::StatusCode;
use serde_json::json;

use super::desk;

const KILL: (&str, &str) = ("POST", "/kill_switches");

#[tokio::test]
async fn a24_only_an_auditor_reads_what_was_in_a_call() {
    let desk = desk().await;
    let path = "/audit/events/e/body";
    for role in ["owner", "governance", "security", "operator", "nobody"] {
        assert_eq!(desk.send("GET", path, &[("x-user", role)], None).await.status, StatusCode::NOT_FOUND, "{role}");
    }
    let auditor = ("x-user", "auditor");
    assert_eq!(desk.send("GET", path, &[auditor], None).await.status, StatusCode::OK);
    // A reading stands on record under the auditor's name: no other site may cause one.
    let cookie = [auditor, ("cookie", "x"), ("origin", "https://evil.example")];
    let forged = desk.send("GET", path, &cookie, None).await;
    assert_eq!((forged.status, forged.code()), (StatusCode::FORBIDDEN, "cross_site"));
    let own = [auditor, ("cookie", "x"), ("origin", "https://mcp.example.com"), ("x-csrf-token", "t")];
    assert_eq!(desk.send("GET", path, &own, None).await.status, StatusCode::OK);
}

#[tokio::test]
async fn g24_the_record_says_who_stopped_what_and_why() {
    let desk = desk().await;
    let headers = [("x-user", "security"), ("x-bartizan-reason", "ticket 7")];
    let set = desk.send(KILL.0, KILL.1, &headers, Some(&json!({"scope": "everything", "reason": "why"}))).await;
    assert_eq!(set.status, StatusCode::OK, "{}", set.body);
    assert_eq!(set.body["by"], "user:security");
    let event = desk.events.lock().unwrap().last().cloned().unwrap();
    assert_eq!((event.method.as_str(), event.who.principal.as_str()), ("kill/set", "user:security"));
    assert_eq!((event.who.ip.as_deref(), event.target.as_deref()), (Some("127.0.0.1"), Some("everything")));
    assert!(event.change.unwrap().contains("ticket 7"));
    // What is not on record is said.
    *desk.deaf.lock().unwrap() = true;
    let deaf = desk.send(KILL.0, KILL.1, &headers, Some(&json!({}))).await;
    assert_eq!((deaf.status, deaf.code()), (StatusCode::SERVICE_UNAVAILABLE, "audit_unavailable"));
}

#[tokio::test]
async fn p54_bad_input_of_other_areas_is_refused() {
    let desk = desk().await;
    let owner = desk.own("GET", "/definitions?server=a&state=changed%20x", &[], None).await;
    assert_eq!(owner.body["query"], json!([["server", "a"], ["state", "changed x"]]));
    for bad in ["/definitions?sever=a", "/definitions?server=a&server=b", "/approvals?x=1", "/kill_switches?limit=%zz"]
    {
        let refused = desk.own("GET", bad, &[], None).await;
        assert_eq!((refused.status, refused.code()), (StatusCode::BAD_REQUEST, "bad_argument"), "{bad}");
    }
    let no_json = desk.send_raw("POST", KILL.1, &[("x-user", "owner")], "{".into()).await;
    assert_eq!((no_json.status, no_json.code()), (StatusCode::BAD_REQUEST, "malformed_json"));
    let form = [("content-type", "text/plain")];
    let form = desk.own("POST", KILL.1, &form, Some(&json!({}))).await;
    assert_eq!(form.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let forged = [("cookie", "x"), ("origin", "https://evil.example"), ("x-csrf-token", "t")];
    for path in [
        "/kill_switches",
        "/kill_switches/a/lift",
        "/definitions/decide",
        "/approvals/a/decide",
        "/approvals/a/withdraw",
    ] {
        let refused = desk.own("POST", path, &forged, Some(&json!({}))).await;
        assert_eq!((refused.status, refused.code()), (StatusCode::FORBIDDEN, "cross_site"), "{path}");
    }
    assert_eq!(desk.event_count(), 0);
    assert_eq!(
        desk.own("POST", "/kill_switches/nothing/lift", &[], Some(&json!({}))).await.status,
        StatusCode::NOT_FOUND
    );
}
