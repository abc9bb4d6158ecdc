//! A15: identity assertions of the company's provider, true and false ones.

use bartizan_oauth::jwt::SigningKey;
use serde_json::{Map, json};

use super::foreign::{CLIENT_SECRET, IdP, bench_of, changed, forged, hmac, key, machines, replica};
use super::*;

const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const TYP: &str = "oauth-id-jag+jwt";

/// Claims of a good assertion about Ida, with changes.
fn claims(idp: &IdP, jti: &str, changes: &[(&str, Value)]) -> Map<String, Value> {
    let now = NOW / 1000;
    let good = json!({
        "iss": idp.url, "sub": "ida", "aud": ISSUER, "client_id": SECRET_CLIENT, "jti": jti, "iat": now,
        "exp": now + 300, "resource": RESOURCE, "scope": "mcp:read mcp:write other",
    });
    changed(good, changes)
}

fn jag(idp: &IdP, jti: &str, changes: &[(&str, Value)]) -> String {
    idp.key.sign(TYP, &claims(idp, jti, changes)).unwrap().expose().clone()
}

async fn ask(bench: &Bench, assertion: &str) -> Answer {
    ask_with(bench, assertion, &CLIENT_SECRET).await
}

async fn ask_with(bench: &Bench, assertion: &str, more: &[(&str, &str)]) -> Answer {
    let mut pairs = vec![("grant_type", GRANT), ("assertion", assertion)];
    pairs.extend_from_slice(more);
    bench.token(&pairs).await
}

/// Ida, who signed in at this provider once.
async fn ida(bench: &Bench, idp: &IdP) -> person::Person {
    let new = person::SignIn {
        new_id: "ida",
        issuer: &idp.url,
        subject: "ida",
        provider: "idp",
        email: "ida@corp.example",
        name: "Ida",
        groups_json: r#"["eng"]"#,
    };
    person::sign_in(&bench.store, &new).await.unwrap().unwrap()
}

async fn trusting(idp: &IdP) -> Bench {
    let bench = bench_of(idp, vec![idp.provider()], json!([])).await;
    ida(&bench, idp).await;
    bench
}

#[tokio::test]
async fn a15_an_assertion_gives_a_token_without_a_browser() {
    let idp = IdP::start().await;
    let bench = trusting(&idp).await;
    let answer = ask(&bench, &jag(&idp, "1", &[])).await;
    assert_eq!(answer.status, 200, "{}", answer.json);
    assert!(answer.json.get("refresh_token").is_none(), "no refresh token");
    assert_eq!((answer.text("token_type"), answer.text("scope")), ("Bearer".into(), "mcp:read mcp:write".into()));
    let who = bench.who(&answer.text("access_token")).await.unwrap();
    assert_eq!((&**who.principal.key(), &*who.principal.groups), ("user:ida@corp.example", &["eng".into()][..]));
    assert_eq!(who.resource.as_deref(), Some(RESOURCE));
    let grant = who.grant.unwrap();
    assert_eq!((grant.client_id.as_str(), &*grant.facts.provider), (SECRET_CLIENT, "idp"));
    let event = bench.events_of(Action::Token).pop().unwrap();
    assert!(event.ok && event.person.as_deref() == Some("ida@corp.example") && event.note.as_deref() == Some("id-jag"));

    // Scopes: what is asked for, as far as the provider granted it.
    let narrow = [("client_id", SECRET_CLIENT), ("client_secret", SECRET), ("scope", "mcp:read offline_access")];
    assert_eq!(ask_with(&bench, &jag(&idp, "2", &[]), &narrow).await.text("scope"), "mcp:read");
    let only_read = jag(&idp, "3", &[("scope", "mcp:read".into())]);
    let wide = [("client_id", SECRET_CLIENT), ("client_secret", SECRET), ("scope", "mcp:read mcp:write")];
    assert_eq!(ask_with(&bench, &only_read, &wide).await.text("scope"), "mcp:read");
    let other = jag(&idp, "4", &[("scope", "mcp:read".into())]);
    let write = [("client_id", SECRET_CLIENT), ("client_secret", SECRET), ("scope", "mcp:write")];
    ask_with(&bench, &other, &write).await.is_refused(400, "invalid_grant");
}

#[tokio::test]
async fn a15_a_scope_that_narrows_is_never_lost() {
    let idp = IdP::start().await;
    let bench = trusting(&idp).await;
    let granted = async |jti: &str, said: Option<&str>, asked: Option<&str>| {
        let token = jag(&idp, jti, &[("scope", said.map_or(Value::Null, Into::into))]);
        let mut more = CLIENT_SECRET.to_vec();
        more.extend(asked.map(|asked| ("scope", asked)));
        let answer = ask_with(&bench, &token, &more).await;
        if answer.status == 200 { answer.text("scope") } else { answer.error().to_owned() }
    };
    // The provider lets the client use one server only.
    assert_eq!(granted("1", Some("mcp:read server:a"), None).await, "mcp:read server:a");
    assert_eq!(granted("2", Some("mcp:read server:a"), Some("mcp:read mcp:write")).await, "mcp:read server:a");
    assert_eq!(granted("3", Some("mcp:read server:a"), Some("mcp:read server:b")).await, "invalid_grant");
    assert_eq!(granted("4", None, Some("mcp:read server:b")).await, "mcp:read server:b");
    // What is only granted on request needs both words.
    assert_eq!(granted("5", Some("mcp:read mcp:admin"), None).await, "mcp:read");
    assert_eq!(granted("6", None, Some("mcp:read mcp:admin")).await, "mcp:read");
    assert_eq!(granted("7", Some("mcp:read mcp:admin"), Some("mcp:read mcp:admin")).await, "mcp:admin mcp:read");
}

#[tokio::test]
async fn a15_each_wrong_thing_is_refused_and_recorded() {
    let idp = IdP::start().await;
    let bench = trusting(&idp).await;
    let now = NOW / 1000;
    let cases: Vec<(&str, Value, &str)> = vec![
        ("iss", "https://evil.example".into(), "issuer"),
        ("iss", json!([idp.url]), "malformed"),
        ("aud", "https://other.example".into(), "audience"),
        ("aud", format!("{ISSUER}/").into(), "audience"),
        ("aud", format!("{ISSUER}/token").into(), "audience"),
        ("aud", json!([ISSUER, "https://other.example"]), "audience"),
        ("aud", Value::Null, "claim"),
        ("client_id", PUBLIC_CLIENT.into(), "client_id"),
        ("client_id", Value::Null, "client_id"),
        ("client_id", json!([SECRET_CLIENT]), "client_id"),
        ("resource", "https://gw.other.example/mcp".into(), "resource"),
        ("resource", Value::Null, "resource"),
        ("resource", json!([RESOURCE, OTHER_RESOURCE]), "resource"),
        ("exp", (now - 61).into(), "expired"),
        ("exp", (now + 301).into(), "lifetime"),
        ("exp", (now + 3600).into(), "lifetime"),
        ("exp", Value::Null, "claim"),
        ("exp", "300".into(), "claim"),
        ("iat", (now + 61).into(), "future"),
        ("iat", Value::Null, "claim"),
        ("nbf", (now + 61).into(), "future"),
        ("jti", Value::Null, "jti"),
        ("jti", "".into(), "jti"),
        ("jti", 7.into(), "jti"),
        ("jti", "x".repeat(257).into(), "jti"),
        ("sub", Value::Null, "claim"),
        ("sub", "stranger".into(), "this person has to sign in once"),
        ("scope", "nothing".into(), "scope"),
        ("scope", json!(["mcp:read"]), "scope"),
    ];
    for (at, (name, value, why)) in cases.into_iter().enumerate() {
        let answer = ask(&bench, &jag(&idp, &format!("case {at}"), &[(name, value.clone())])).await;
        answer.is_refused(400, "invalid_grant");
        assert_eq!(bench.last_refusal(), format!("invalid_grant: {why}"), "{name} {value}");
    }
    // An assertion that begins in the past cannot have a longer life by an early `iat`.
    let early = jag(&idp, "early", &[("iat", (now - 3600).into()), ("exp", (now + 60).into())]);
    ask(&bench, &early).await.is_refused(400, "invalid_grant");
    ask_with(&bench, &jag(&idp, "r", &[]), &[CLIENT_SECRET[0], CLIENT_SECRET[1], ("resource", OTHER_RESOURCE)])
        .await
        .is_refused(400, "invalid_target");
    assert_eq!(ask(&bench, &jag(&idp, "good", &[])).await.status, 200, "and the same without a flaw is good");
}

#[tokio::test]
async fn a15_forged_and_borrowed_tokens_are_refused() {
    let idp = IdP::start().await;
    let bench = trusting(&idp).await;
    let good = claims(&idp, "forged", &[]);
    let public = idp.key.public_jwk();
    let header = |alg: &str| json!({"alg": alg, "typ": TYP, "kid": "k1"});
    let none = |_: &[u8]| Vec::new();
    let by = |key: &SigningKey, typ: &str| key.sign(typ, &good).unwrap().expose().clone();
    let other = key("k1");
    let own_key = json!({"alg": "ES256", "typ": TYP, "kid": "k1", "jwk": other.public_jwk(),
        "jku": "https://evil.example/keys", "x5u": "https://evil.example/c"});
    let resigned = |header: &Value| {
        // The right signature of the wrong key over this header.
        let message = forged(header, &good, none);
        let signed = by(&other, TYP);
        format!("{}{}", message, signed.rsplit_once('.').unwrap().1)
    };
    let cases = [
        ("none", forged(&header("none"), &good, none), "algorithm"),
        ("NONE", forged(&header("NoNe"), &good, none), "algorithm"),
        (
            "HS256 with the public key",
            forged(&header("HS256"), &good, |m| hmac(public.to_string().as_bytes(), m)),
            "algorithm",
        ),
        ("HS256 with an empty key", forged(&header("HS256"), &good, |m| hmac(b"", m)), "algorithm"),
        ("another key of the same name", by(&other, TYP), "signature"),
        ("keys in the header", resigned(&own_key), "signature"),
        (
            "a path for a name",
            forged(&json!({"alg": "ES256", "typ": TYP, "kid": "../../dev/null"}), &good, none),
            "unknown_key",
        ),
        ("a list for a name", forged(&json!({"alg": "ES256", "typ": TYP, "kid": ["k1"]}), &good, none), "malformed"),
        ("critical", forged(&json!({"alg": "ES256", "typ": TYP, "kid": "k1", "crit": ["x"]}), &good, none), "critical"),
        ("an ID token", by(&idp.key, "JWT"), "type"),
        ("an access token", by(&idp.key, "at+jwt"), "type"),
        ("a client assertion", by(&idp.key, "client-authentication+jwt"), "type"),
        ("two parts", "e30.e30".to_owned(), "malformed"),
        ("huge", format!("e30.{}.x", "e".repeat(20_000)), "malformed"),
        ("empty", String::new(), "malformed"),
    ];
    for (name, token, why) in cases {
        let answer = ask(&bench, &token).await;
        assert_eq!((answer.status, answer.json["access_token"].is_null()), (400, true), "{name}: {}", answer.json);
        let note = bench.last_refusal();
        assert!(
            note == format!("invalid_grant: {why}") || (matches!(name, "empty" | "huge") && note == "invalid_request"),
            "{name}: {note}"
        );
    }
    // The other way round: an ID-JAG is no client assertion, and no subject token.
    let jag = jag(&idp, "x", &[("sub", SECRET_CLIENT.into())]);
    let kind = ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    let as_client = [("client_id", SECRET_CLIENT), kind, ("client_assertion", jag.as_str())];
    ask_with(&bench, &jag, &as_client).await.is_refused(401, "invalid_client");
}

#[tokio::test]
async fn a15_the_client_must_prove_itself_and_be_the_one_meant() {
    let idp = IdP::start().await;
    let bench = trusting(&idp).await;
    let token = jag(&idp, "1", &[]);
    ask_with(&bench, &token, &[("client_id", SECRET_CLIENT)]).await.is_refused(401, "invalid_client");
    ask_with(&bench, &token, &[("client_id", SECRET_CLIENT), ("client_secret", "guess")])
        .await
        .is_refused(401, "invalid_client");
    // A public client has nothing to prove itself with, even when it is the one meant.
    let for_public = jag(&idp, "2", &[("client_id", PUBLIC_CLIENT.into())]);
    ask_with(&bench, &for_public, &[("client_id", PUBLIC_CLIENT)]).await.is_refused(401, "invalid_client");
    // None of that used it up.
    assert_eq!(ask(&bench, &token).await.status, 200);
}

#[tokio::test]
async fn a15_an_assertion_is_good_once_over_all_replicas() {
    let idp = IdP::start().await;
    let bench = trusting(&idp).await;
    let second = replica(&bench, machines(&idp, vec![idp.provider()], Arc::default()));
    let token = jag(&idp, "once", &[]);
    let form = form_of(&[("grant_type", GRANT), ("assertion", &token), CLIENT_SECRET[0], CLIENT_SECRET[1]]);
    assert_eq!(ask(&bench, &token).await.status, 200);
    let again = Answer::of(second.token(&form_headers(), PEER, form.clone().into()).await);
    again.is_refused(400, "invalid_grant");
    assert_eq!(bench.last_refusal(), "invalid_grant: replay");
    let replays = bench.events_of(Action::Replay);
    assert_eq!((replays.len(), replays[0].provider.as_deref()), (1, Some("idp")));
    // Until it expires, also when the store is swept.
    bench.clock.advance_ms(359_000);
    bench.server.sweep().await.unwrap();
    Answer::of(second.token(&form_headers(), PEER, form.clone().into()).await).is_refused(400, "invalid_grant");
    assert_eq!(bench.last_refusal(), "invalid_grant: replay");
    bench.clock.advance_ms(1_000);
    Answer::of(second.token(&form_headers(), PEER, form.into()).await).is_refused(400, "invalid_grant");
    assert_eq!(bench.last_refusal(), "invalid_grant: expired");
}

#[tokio::test]
async fn a15_of_many_at_once_one_wins_and_without_markers_all_would() {
    let idp = IdP::start().await;
    let bench = trusting(&idp).await;
    let token = jag(&idp, "race", &[]);
    let attempt = async |forget: bool| {
        let mut good = 0;
        for _ in 0..4 {
            if forget {
                bench.store_forgets_markers().await;
            }
            good += usize::from(ask(&bench, &token).await.status == 200);
        }
        good
    };
    let (a, b, c) = tokio::join!(ask(&bench, &token), ask(&bench, &token), ask(&bench, &token));
    assert_eq!([a, b, c].iter().filter(|answer| answer.status == 200).count(), 1);
    assert_eq!(attempt(false).await, 0);
    assert_eq!(attempt(true).await, 4, "it is the markers that refuse");
}

#[tokio::test]
async fn a15_only_trusted_providers_vouch_and_each_for_itself() {
    let (ours, theirs) = (IdP::start().await, IdP::start().await);
    let provider = |idp: &IdP, id: &str, id_jag: bool, domain: &str| {
        let mut provider = idp.provider();
        (provider.id, provider.id_jag, provider.email_domains) = (id.to_owned(), id_jag, vec![domain.to_owned()]);
        provider
    };
    // Not switched on.
    let bench = bench_of(&ours, vec![provider(&ours, "a", false, "corp.example")], json!([])).await;
    ask(&bench, &jag(&ours, "1", &[])).await.is_refused(400, "unsupported_grant_type");
    assert!(
        serde_json::from_slice::<Value>(&bench.server.metadata()).unwrap()["authorization_grant_profiles_supported"]
            .is_null()
    );
    // Two providers: one says to be the other.
    let both = vec![provider(&ours, "a", true, "corp.example"), provider(&theirs, "b", true, "partner.example")];
    let bench = bench_of(&ours, both.clone(), json!([])).await;
    ida(&bench, &ours).await;
    let mixed = theirs.key.sign(TYP, &claims(&ours, "m", &[])).unwrap().expose().clone();
    ask(&bench, &mixed).await.is_refused(400, "invalid_grant");
    assert_eq!(bench.last_refusal(), "invalid_grant: signature");
    // The same subject at another issuer is somebody else, and a provider speaks for its domains only.
    // (This process reaches the other one's keys.)
    let second = replica(&bench, machines(&theirs, both, Arc::default()));
    let by_theirs = async |jti: &str, changes: &[(&str, Value)]| {
        let token = jag(&theirs, jti, changes);
        let form = form_of(&[("grant_type", GRANT), ("assertion", &token), CLIENT_SECRET[0], CLIENT_SECRET[1]]);
        Answer::of(second.token(&form_headers(), PEER, form.into()).await)
    };
    by_theirs("s", &[]).await.is_refused(400, "invalid_grant");
    assert_eq!(bench.last_refusal(), "invalid_grant: this person has to sign in once");
    let ours_by_theirs = [("email", "ida@corp.example".into()), ("groups", json!(["eng"]))];
    by_theirs("d", &ours_by_theirs).await.is_refused(400, "invalid_grant");
    assert_eq!(bench.last_refusal(), "invalid_grant: other_domain");
    let partner = [("email", "pat@partner.example".into()), ("groups", json!([]))];
    assert_eq!(by_theirs("g", &partner).await.status, 200);
    // The same `jti` of two issuers is two tokens.
    let token = jag(&ours, "g", &[]);
    assert_eq!(ask(&bench, &token).await.status, 200);
    let metadata: Value = serde_json::from_slice(&bench.server.metadata()).unwrap();
    assert_eq!(
        metadata["authorization_grant_profiles_supported"],
        json!(["urn:ietf:params:oauth:grant-profile:id-jag"])
    );
    assert!(metadata["grant_types_supported"].as_array().unwrap().contains(&GRANT.into()));
}

#[tokio::test]
async fn a15_a_new_person_is_known_when_the_provider_tells_address_and_groups() {
    let idp = IdP::start().await;
    let bench = trusting(&idp).await;
    let about = |jti: &str, more: &[(&str, Value)]| {
        let mut changes = vec![("sub", Value::from("new"))];
        changes.extend_from_slice(more);
        jag(&idp, jti, &changes)
    };
    ask(&bench, &about("1", &[("email", "new@corp.example".into())])).await.is_refused(400, "invalid_grant");
    let full = [("email", "new@corp.example".into()), ("groups", json!(["ops"]))];
    let answer = ask(&bench, &about("2", &full)).await;
    let who = bench.who(&answer.text("access_token")).await.unwrap();
    assert_eq!((&**who.principal.key(), &*who.principal.groups), ("user:new@corp.example", &["ops".into()][..]));
    let unverified = [full[0].clone(), full[1].clone(), ("email_verified", false.into())];
    ask(&bench, &about("3", &unverified)).await.is_refused(400, "invalid_grant");
    // Somebody else's address, in an assertion that is newer than what is known.
    bench.clock.advance_ms(1_000);
    let later = ("iat", (NOW / 1000 + 1).into());
    let taken = [("email", "ida@corp.example".into()), ("groups", json!([])), later];
    ask(&bench, &about("4", &taken)).await.is_refused(400, "invalid_grant");
    assert_eq!(bench.last_refusal(), "invalid_grant: address_taken");
}

#[tokio::test]
async fn a15_an_older_assertion_does_not_put_removed_groups_back() {
    let idp = IdP::start().await;
    let bench = bench_of(&idp, vec![idp.provider()], json!([])).await;
    // Made now, and shown after the person was heard of with fewer groups.
    let about = |jti: &str, iat: i64, groups: Value| {
        let changes = [
            ("email", "ida@corp.example".into()),
            ("groups", groups),
            ("iat", (NOW / 1000 + iat).into()),
            ("exp", (NOW / 1000 + iat + 300).into()),
        ];
        jag(&idp, jti, &changes)
    };
    let old = about("1", 0, json!(["eng", "admins"]));
    bench.clock.advance_ms(60_000);
    ida(&bench, &idp).await;
    let groups = async |assertion: &str| {
        let answer = ask(&bench, assertion).await;
        assert_eq!(answer.status, 200, "{}", answer.json);
        bench.who(&answer.text("access_token")).await.unwrap().principal.groups.to_vec()
    };
    assert_eq!(groups(&old).await, ["eng".into()]);
    // One that was made later counts, in either direction.
    bench.clock.advance_ms(60_000);
    assert_eq!(groups(&about("2", 120, json!(["eng", "admins"]))).await, ["admins".into(), "eng".into()]);
    bench.clock.advance_ms(60_000);
    assert_eq!(groups(&about("3", 180, json!([]))).await, [] as [Arc<str>; 0]);
    assert_eq!(groups(&about("4", 60, json!(["eng"]))).await, [] as [Arc<str>; 0]);
}

#[tokio::test]
async fn a15_a_deactivated_person_gets_nothing_and_keeps_nothing() {
    let idp = IdP::start().await;
    let bench = trusting(&idp).await;
    let token = ask(&bench, &jag(&idp, "1", &[])).await.text("access_token");
    assert!(bench.who(&token).await.is_some());
    assert!(person::deactivate(&bench.store, "ida").await.unwrap());
    assert!(bench.who(&token).await.is_none());
    ask(&bench, &jag(&idp, "2", &[])).await.is_refused(400, "invalid_grant");
    assert_eq!(bench.last_refusal(), "invalid_grant: deactivated");
    let all = [("email", "ida@corp.example".into()), ("groups", json!(["eng"]))];
    ask(&bench, &jag(&idp, "3", &all)).await.is_refused(400, "invalid_grant");
}

#[tokio::test]
async fn a15_keys_roll_over_and_an_outage_is_no_refusal() {
    let idp = IdP::start().await;
    let bench = trusting(&idp).await;
    assert_eq!(ask(&bench, &jag(&idp, "1", &[])).await.status, 200);
    let new = key("k2");
    idp.publish(&[&new]);
    let signed = new.sign(TYP, &claims(&idp, "2", &[])).unwrap().expose().clone();
    assert_eq!(ask(&bench, &signed).await.status, 200);
    // Old keys that are published no more are refused: they may have been stolen.
    ask(&bench, &jag(&idp, "3", &[])).await.is_refused(400, "invalid_grant");
    let lost = bench_of(&idp, vec![idp.provider()], json!([])).await;
    idp.site.page("/keys", "content-type: application/json\r\n", "nonsense");
    ask(&lost, &jag(&idp, "4", &[])).await.is_refused(503, "temporarily_unavailable");
}
