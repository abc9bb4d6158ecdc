//! L1: what is recorded says who, as which client, and from where.

use super::*;

/// The one event of an action.
#[track_caller]
fn one(bench: &Bench, action: Action, ok: bool) -> IdentityEvent {
    let events = bench.events.lock().unwrap();
    let mut found = events.iter().filter(|event| event.action == action && event.ok == ok);
    let event = found.next().expect("no such event").clone();
    assert!(found.next().is_none(), "more than one");
    event
}

fn is_about(event: &IdentityEvent, client: Option<&str>, ip: Option<IpAddr>) {
    assert_eq!(event.person.as_deref(), Some("ana@corp.example"), "{event:?}");
    assert_eq!((event.client.as_deref(), event.ip), (client, ip), "{event:?}");
}

#[tokio::test]
async fn l1_replays_name_the_person_the_client_and_the_address() {
    let bench = bench().await;
    let client = bench.register(CALLBACK).await;
    let code = bench.code(&client).await;
    bench.redeem(&client, &code).await;
    is_about(&one(&bench, Action::Token, true), Some(&client), Some(PEER));
    bench.redeem(&client, &code).await;
    is_about(&one(&bench, Action::Replay, false), Some(&client), Some(PEER));
    bench.events.lock().unwrap().clear();
    let (client, first) = bench.connected().await;
    let token = first.text("refresh_token");
    let second = bench.refresh(&client, &token).await.text("refresh_token");
    bench.refresh(&client, &token).await;
    let same = bench.events.lock().unwrap().last().cloned().unwrap();
    assert_eq!((same.action, same.ok, same.note.as_deref()), (Action::Token, true, Some("refresh_token, same pair")));
    is_about(&same, Some(&client), Some(PEER));
    bench.refresh(&client, &second).await;
    bench.refresh(&client, &token).await;
    is_about(&one(&bench, Action::Replay, false), Some(&client), Some(PEER));
}

#[tokio::test]
async fn l1_what_is_taken_back_names_the_person() {
    let bench = bench().await;
    let (client, first) = bench.connected().await;
    let pairs = [("client_id", client.as_str()), ("token", &first.text("refresh_token"))];
    bench.server.revoke(&form_headers(), PEER, form_of(&pairs).into()).await;
    is_about(&one(&bench, Action::Revoke, true), Some(&client), Some(PEER));
    bench.events.lock().unwrap().clear();
    bench.server.withdraw("ana", &client).await.unwrap();
    is_about(&one(&bench, Action::Revoke, true), Some(&client), None);
    bench.events.lock().unwrap().clear();
    bench.server.sign_out_everywhere("ana").await.unwrap();
    is_about(&one(&bench, Action::Revoke, true), None, None);
}

#[tokio::test]
async fn l1_refusals_name_who_it_said_to_be() {
    let bench = bench().await;
    let long = format!("a\u{202e}b{}", "x".repeat(900));
    let pairs = [("grant_type", "refresh_token"), ("client_id", long.as_str()), ("refresh_token", "x")];
    bench.token(&pairs).await;
    let event = one(&bench, Action::Token, false);
    let client = event.client.unwrap();
    assert!(client.starts_with("abx") && client.len() == 256, "bounded and printable: {client}");
    assert_eq!((event.ip, event.note.as_deref()), (Some(PEER), Some("invalid_client")));
    let pairs = [("client_id", "nobody"), ("token", "x")];
    bench.server.revoke(&form_headers(), PEER, form_of(&pairs).into()).await;
    let event = one(&bench, Action::Revoke, false);
    assert_eq!((event.client.as_deref(), event.ip), (Some("nobody"), Some(PEER)));
}

#[tokio::test]
async fn l1_refused_authorization_requests_are_recorded() {
    let bench = bench().await;
    let client = bench.register(CALLBACK).await;
    let count = || bench.saw(Action::Authorize, false);
    bench.code(&client).await;
    assert_eq!(count(), 0, "good ones are not refused");
    bench.server.authorize(&request_with(&client, "redirect_uri", Some("https://evil.example/")), None).await;
    let event = one(&bench, Action::Authorize, false);
    assert_eq!((event.client.as_deref(), event.note.as_deref()), (Some(client.as_str()), Some("invalid_redirect_uri")));
    let query = request_with(&client, "resource", Some("https://evil.example/mcp"));
    bench.server.authorize(&query, Some(&bench.session)).await;
    let event = bench.events.lock().unwrap().last().cloned().unwrap();
    assert_eq!((event.action, event.note.as_deref()), (Action::Authorize, Some("invalid_target")));
    is_about(&event, Some(&client), None);
    bench.server.resume("x", &bench.session).await;
    assert_eq!(count(), 2, "an old handle is no request");
}

/// A code that was taken back while it was redeemed was not stolen.
#[tokio::test]
async fn l1_a_code_that_was_taken_back_is_no_replay() {
    let bench = bench().await;
    let client = bench.register(CALLBACK).await;
    let code = bench.code(&client).await;
    // The row vanishes between reading and using it.
    let vanish = "CREATE TRIGGER gone BEFORE UPDATE ON oauth_code BEGIN SELECT RAISE(IGNORE); END";
    tokens::sql(&bench, vanish).await;
    bench.redeem(&client, &code).await.is_refused(400, "invalid_grant");
    assert_eq!(bench.saw(Action::Replay, false), 0);
}
