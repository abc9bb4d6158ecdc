use bytes::Bytes;
use http::StatusCode;
use serde_json::json;

use super::{desk, server};

#[tokio::test]
async fn p54_versions_are_compared_and_never_lost() {
    let desk = desk().await;
    let made = desk.own("POST", "/servers", &[], Some(&server("a"))).await;
    assert_eq!((made.status, made.headers["location"].to_str().unwrap()), (StatusCode::CREATED, "/api/v1/servers/a"));
    let first = made.etag().to_owned();
    let got = desk.own("GET", "/servers/a", &[], None).await;
    assert_eq!(got.etag(), first);
    assert_eq!(
        desk.own("GET", "/servers/a", &[("if-none-match", &first)], None).await.status,
        StatusCode::NOT_MODIFIED
    );

    let blind = desk.own("PUT", "/servers/a", &[], Some(&server("a"))).await;
    assert_eq!((blind.status, blind.code()), (StatusCode::PRECONDITION_REQUIRED, "precondition_required"));
    assert_eq!(desk.own("DELETE", "/servers/a", &[], None).await.status, StatusCode::PRECONDITION_REQUIRED);

    // What was read and sent back changes nothing: no revision, no event (a Terraform-style loop has no diff).
    let events = desk.event_count();
    let same = desk.own("PUT", "/servers/a", &[("if-match", &first)], Some(&got.body)).await;
    assert_eq!(
        (same.status, same.etag(), desk.event_count()),
        (StatusCode::OK, first.as_str(), events),
        "{}",
        same.body
    );
    assert_eq!(same.body, got.body);

    let mut named = got.body.clone();
    named["name"] = json!("A");
    let changed = desk.own("PUT", "/servers/a", &[("if-match", &first)], Some(&named)).await;
    assert_eq!(changed.status, StatusCode::OK);
    assert_ne!(changed.etag(), first);
    for method in ["PUT", "PATCH", "DELETE"] {
        let body = (method != "DELETE").then_some(&named);
        let late = desk.own(method, "/servers/a", &[("if-match", &first)], body).await;
        assert_eq!((late.status, late.code()), (StatusCode::PRECONDITION_FAILED, "precondition_failed"), "{method}");
    }
    let gone = desk.own("DELETE", "/servers/a", &[("if-match", changed.etag())], None).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    assert_eq!(desk.own("GET", "/servers/a", &[], None).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn p54_one_of_many_writers_at_the_same_version_wins() {
    let desk = desk().await;
    let made = desk.own("POST", "/servers", &[], Some(&server("a"))).await;
    let tag = made.etag().to_owned();
    let tries = (0..8).map(|n| {
        let (desk, tag, mut body) = (&desk, tag.as_str(), server("a"));
        body["name"] = json!(format!("{n}"));
        async move { desk.own("PUT", "/servers/a", &[("if-match", tag)], Some(&body)).await.status }
    });
    let mut won = 0;
    for status in futures_join(tries).await {
        match status {
            StatusCode::OK => won += 1,
            other => assert_eq!(other, StatusCode::PRECONDITION_FAILED),
        }
    }
    assert_eq!(won, 1);
    // Writers of different objects do not get in each other's way.
    let others = (0..8).map(|n| {
        let (desk, body) = (&desk, server(&format!("n{n}")));
        async move { desk.own("POST", "/servers", &[], Some(&body)).await.status }
    });
    let made = futures_join(others).await.into_iter().filter(|status| *status == StatusCode::CREATED).count();
    assert!(made >= 5, "{made} of 8");
}

async fn futures_join<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut all: Vec<_> = all.map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = all.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, slot) in all.iter_mut().zip(&mut done) {
            if slot.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *slot = Some(value);
            }
        }
        if done.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[tokio::test]
async fn p54_the_same_key_makes_one_object_and_another_request_is_refused() {
    let desk = desk().await;
    let key = [("idempotency-key", "k1")];
    let first = desk.own("POST", "/servers", &key, Some(&server("a"))).await;
    let events = desk.event_count();
    let again = desk.own("POST", "/servers", &key, Some(&server("a"))).await;
    assert_eq!((again.status, &again.body, again.etag()), (StatusCode::CREATED, &first.body, first.etag()));
    assert_eq!(desk.event_count(), events);
    let other = desk.own("POST", "/servers", &key, Some(&server("b"))).await;
    assert_eq!((other.status, other.code()), (StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused"));
    // Somebody else's key is somebody else's.
    let theirs = [("x-user", "governance"), ("idempotency-key", "k1")];
    assert_eq!(desk.send("POST", "/servers", &theirs, Some(&server("b"))).await.status, StatusCode::CREATED);
    let without = desk.own("POST", "/servers", &[], Some(&server("a"))).await;
    assert_eq!((without.status, without.code()), (StatusCode::CONFLICT, "already_exists"));
}

#[tokio::test]
async fn a24_other_sites_cannot_use_the_session_of_a_browser() {
    let desk = desk().await;
    let made = desk.own("POST", "/servers", &[], Some(&server("a"))).await;
    let tag = made.etag().to_owned();
    let ours = ("origin", "https://mcp.example.com");
    for attack in [
        vec![("cookie", "s"), ours],
        vec![("cookie", "s"), ("x-csrf-token", "t")],
        vec![("cookie", "s"), ("x-csrf-token", "t"), ("origin", "https://evil.example")],
        vec![("cookie", "s"), ("x-csrf-token", "wrong"), ours],
        vec![("cookie", "s"), ("x-csrf-token", "t"), ("origin", "null")],
    ] {
        let with_tag = [attack.as_slice(), &[("if-match", tag.as_str())]].concat();
        for (method, path, body) in [
            ("POST", "/servers", Some(server("evil"))),
            ("PUT", "/servers/a", Some(server("a"))),
            ("PATCH", "/servers/a", Some(json!({"name": "x"}))),
            ("DELETE", "/servers/a", None),
            ("POST", "/apply", Some(json!({"objects": {}}))),
        ] {
            let refused = desk.own(method, path, &with_tag, body.as_ref()).await;
            assert_eq!((refused.status, refused.code()), (StatusCode::FORBIDDEN, "cross_site"), "{method} {attack:?}");
        }
        assert_eq!(desk.own("GET", "/servers/a", &attack, None).await.status, StatusCode::OK);
    }
    // A form cannot send JSON; what is no JSON is refused whatever else it brings.
    let form = [("cookie", "s"), ("x-csrf-token", "t"), ours, ("content-type", "text/plain")];
    let refused = desk.own("POST", "/servers", &form, Some(&server("b"))).await;
    assert_eq!(refused.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    // The same from a page of ours is done: it was the missing proof that refused the others.
    let good = [("cookie", "s"), ("x-csrf-token", "t"), ours];
    assert_eq!(desk.own("POST", "/servers", &good, Some(&server("b"))).await.status, StatusCode::CREATED);
    assert_eq!(desk.own("GET", "/me", &good, None).await.body["csrf_token"], "t");
}

#[tokio::test]
async fn p54_bad_requests_are_named_and_change_nothing() {
    let desk = desk().await;
    let owner = [("x-user", "owner")];
    for (body, code) in [
        (&b"{"[..], "malformed_json"),
        (b"", "malformed_json"),
        (b"\xff\xfe", "malformed_json"),
        (b"[]", "invalid"),
        (b"null", "invalid"),
        (b"\"x\"", "invalid"),
        (b"{}", "invalid"),
        (b"{\"server_id\": 7}", "invalid"),
        (b"{\"server_id\": \"\"}", "invalid"),
        (b"{\"server_id\": \"../a\", \"hostname\": \"https://a.example\"}", "invalid"),
    ] {
        let answer = desk.send_raw("POST", "/servers", &owner, Bytes::from_static(body)).await;
        assert_eq!(
            (answer.status, answer.code()),
            (StatusCode::BAD_REQUEST, code),
            "{}",
            String::from_utf8_lossy(body)
        );
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let answer = desk.send_raw("POST", "/servers", &owner, Bytes::from(deep)).await;
    assert_eq!(answer.code(), "malformed_json");
    for (method, path, headers, status) in [
        ("GET", "/servers?limit=0", vec![], StatusCode::BAD_REQUEST),
        ("GET", "/servers?lim=3", vec![], StatusCode::BAD_REQUEST),
        ("GET", "/servers/%zz", vec![], StatusCode::BAD_REQUEST),
        ("GET", "/servers/%00", vec![], StatusCode::NOT_FOUND),
        ("PUT", "/servers/a", vec![("if-match", "*")], StatusCode::PRECONDITION_FAILED),
        ("PUT", "/servers/a", vec![("if-match", "\"1\"")], StatusCode::NOT_FOUND),
        ("PATCH", "/servers/a", vec![("if-none-match", "*")], StatusCode::PRECONDITION_REQUIRED),
        ("DELETE", "/servers", vec![], StatusCode::METHOD_NOT_ALLOWED),
        ("GET", "/nothing", vec![], StatusCode::NOT_FOUND),
        ("GET", "/servers", vec![("x-bartizan-reason", "")], StatusCode::BAD_REQUEST),
    ] {
        let answer = desk.own(method, path, &headers, Some(&server("a"))).await;
        assert_eq!(answer.status, status, "{method} {path} {}", answer.body);
        assert!(crate::CODES.contains(&answer.code()), "{}", answer.code());
    }
    assert_eq!(desk.event_count(), 0);
}
