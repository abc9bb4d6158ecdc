//! A6, A18, A25: what a token is, what it is good for, and when it ends.

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Column as _, ConnectOptions as _, Row as _};

use super::*;
use crate::AuthErrorKind;

/// The database itself, behind the store's back.
async fn connection(bench: &Bench) -> sqlx::SqliteConnection {
    SqliteConnectOptions::new().filename(bench.dir.path().join("store.db")).connect().await.unwrap()
}

pub(super) async fn sql(bench: &Bench, text: &str) {
    sqlx::raw_sql(AssertSqlSafe(text.to_owned())).execute(&mut connection(bench).await).await.unwrap();
}

/// Every value of every table.
pub(super) async fn dump(bench: &Bench) -> Vec<(String, Vec<u8>)> {
    let mut connection = connection(bench).await;
    let tables: Vec<(String,)> =
        sqlx::query_as("SELECT name FROM sqlite_master WHERE type = 'table'").fetch_all(&mut connection).await.unwrap();
    let mut values = Vec::new();
    for (table,) in tables {
        let rows =
            sqlx::query(AssertSqlSafe(format!("SELECT * FROM {table}"))).fetch_all(&mut connection).await.unwrap();
        for row in rows {
            for column in row.columns() {
                let bytes: Vec<u8> =
                    row.try_get_unchecked::<Option<Vec<u8>>, _>(column.ordinal()).unwrap().unwrap_or_default();
                values.push((format!("{table}.{}", column.name()), bytes));
            }
        }
    }
    values
}

#[tokio::test]
async fn a6_a_dump_of_the_database_holds_no_token() {
    let bench = bench().await;
    let client = bench.register(CALLBACK).await;
    let unused = bench.code(&client).await;
    let code = bench.code(&client).await;
    let first = bench.redeem(&client, &code).await;
    let second = bench.refresh(&client, &first.text("refresh_token")).await;
    let mut secrets = vec![unused, code];
    for answer in [&first, &second] {
        secrets.extend([answer.text("access_token"), answer.text("refresh_token")]);
    }
    let values = dump(&bench).await;
    assert!(values.iter().any(|(column, _)| column == "oauth_refresh.pair") && values.len() > 50);
    let holds = |bytes: &[u8], part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    for secret in &secrets {
        let random = &secret.as_bytes()[4..];
        let raw = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, random).unwrap();
        for (column, bytes) in &values {
            assert!(!holds(bytes, random) && !holds(bytes, &raw), "{column}");
        }
    }
    // Nor does anything in it pass for a token or a code.
    for (column, bytes) in &values {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let encoded = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes);
        for guess in [text, format!("bzt_{encoded}")] {
            if http::HeaderValue::from_str(&guess).is_ok() {
                assert!(bench.who(&guess).await.is_none(), "{column}");
            }
        }
        bench.refresh(&client, &format!("bzr_{encoded}")).await.is_refused(400, "invalid_grant");
    }
    assert!(bench.who(&second.text("access_token")).await.is_some(), "the check itself works");
}

/// The bytes of the database's files.
fn files(bench: &Bench) -> Vec<u8> {
    let entries = std::fs::read_dir(bench.dir.path()).unwrap();
    entries.flat_map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect()
}

fn finds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// What only a sign-in tells, and what the person says, is nowhere in the files, whoever wrote
/// it: code, tokens, refresh, step-up without a token, purpose.
#[tokio::test]
async fn a6_a_dump_of_the_database_holds_nothing_of_a_sign_in() {
    const TOLD: [&str; 4] = ["moonbase-4711", "retina-scan", "urn:very:gold", "incident of the zebra"];
    let bench = bench().await;
    let client = bench.register(CALLBACK).await;
    let claims = [("department".to_owned(), vec![TOLD[0].to_owned()])].into();
    let session = BrowserSession {
        amr: vec![TOLD[1].to_owned()],
        acr: Some(TOLD[2].to_owned()),
        kept: KeptFacts { claims, mfa_at_ms: Some(NOW), purpose: None },
        ..bench.session.clone()
    };
    let unused = bench.code_by(&request(&client), &session).await;
    let first = bench.redeem(&client, &bench.code_by(&request(&client), &session).await).await;
    let second = bench.refresh(&client, &first.text("refresh_token")).await;
    let who = bench.who(&second.text("access_token")).await.unwrap().grant.unwrap();
    let vault = Vault::new(KeyRing::ephemeral().unwrap()).unwrap();
    let step_ups = crate::StepUps::new(bench.store.clone(), &vault, bench.clock.clone(), ISSUER);
    for want in [crate::Want::Mfa { max_age_s: 900, acr: None }, crate::Want::Purpose] {
        let (person, grant) = (session.person.email.clone(), who.id.to_string());
        let link = step_ups.link(&crate::StepUp { person, grant, want: want.clone(), about: "x".to_owned() }).unwrap();
        let opened = step_ups.open(link.rsplit_once('/').unwrap().1, &session).await.unwrap();
        match want {
            crate::Want::Purpose => drop(step_ups.state_purpose(&opened, &session, TOLD[3]).await.unwrap()),
            crate::Want::Mfa { .. } => step_ups.prove(&opened, &session).await.unwrap(),
        }
    }
    // It is all there, for whoever has a token of the grant: the first or the newest.
    let third = bench.refresh(&client, &second.text("refresh_token")).await;
    for answer in [&first, &second, &third] {
        let facts = bench.who(&answer.text("access_token")).await.unwrap().grant.unwrap().facts.clone();
        assert_eq!(&*facts.claims["department"][0], TOLD[0]);
        assert_eq!((&*facts.amr[0], facts.acr.as_deref()), (TOLD[1], Some(TOLD[2])));
        assert_eq!((facts.mfa_at_ms, facts.purpose.as_deref()), (Some(NOW), Some(TOLD[3])));
    }
    // A process to which no token was shown does not know either.
    assert!(step_ups.facts(&who.id).await.is_err());
    let bytes = files(&bench);
    assert!(finds(&bytes, "ana@corp.example") && finds(&bytes, "Inspector"), "the search itself works");
    for text in TOLD {
        assert!(!finds(&bytes, text), "{text}");
    }
    assert_eq!(bench.redeem(&client, &unused).await.status, 200);
    // What sealing is worth: the same content in clear is found.
    let clear = format!("UPDATE oauth_grant SET content = content || '{}'", TOLD.join(" "));
    sql(&bench, &clear).await;
    let bytes = files(&bench);
    assert!(TOLD.iter().all(|text| finds(&bytes, text)));
}

/// The key of one grant or token put beside another one's opens nothing, and what does not open
/// is refused: it must not count as a sign-in that told nothing.
#[tokio::test]
async fn a6_what_does_not_open_is_refused() {
    let bench = bench().await;
    let (client, one) = bench.connected().await;
    let (_, other) = bench.connected().await;
    let access = one.text("access_token");
    for change in [
        "UPDATE oauth_access SET wrapped = (SELECT max(wrapped) FROM oauth_refresh)",
        "UPDATE oauth_access SET wrapped = x''",
        "UPDATE oauth_access SET wrapped = zeroblob(60)",
    ] {
        sql(&bench, "CREATE TABLE kept AS SELECT hash, wrapped FROM oauth_access").await;
        sql(&bench, change).await;
        assert!(bench.who(&access).await.is_none(), "{change}");
        sql(&bench, "UPDATE oauth_access SET wrapped = (SELECT wrapped FROM kept WHERE kept.hash = oauth_access.hash)")
            .await;
        sql(&bench, "DROP TABLE kept").await;
        assert!(bench.who(&access).await.is_some());
    }
    sql(&bench, "CREATE TABLE kept AS SELECT id, content FROM oauth_grant").await;
    sql(&bench, "UPDATE oauth_grant SET content = (SELECT content FROM kept WHERE kept.id <> oauth_grant.id)").await;
    assert!(bench.who(&access).await.is_none() && bench.who(&other.text("access_token")).await.is_none());
    bench.refresh(&client, &one.text("refresh_token")).await;
}

#[tokio::test]
async fn a6_a_token_tells_its_holder_nothing() {
    let bench = bench().await;
    let (client, answer) = bench.connected().await;
    for name in ["access_token", "refresh_token"] {
        let token = answer.text(name);
        assert!(!token.contains('.') && token.len() == 47, "no JWT: {token}");
        let bytes = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, &token[4..]).unwrap();
        assert_eq!(bytes.len(), 32);
        for part in ["ana", "corp", "eng", client.as_str()] {
            assert!(!token.contains(part));
        }
    }
    assert_eq!(answer.json.as_object().unwrap().len(), 5, "{}", answer.json);
}

#[tokio::test]
async fn a18_a_token_says_which_resource_it_is_for() {
    let bench = bench().await;
    let client = bench.register(CALLBACK).await;
    let query = request_with(&client, "resource", Some(OTHER_RESOURCE));
    let code = bench.code_by(&query, &bench.session).await;
    let mut pairs = redemption(&client, &code).to_vec();
    pairs.retain(|(name, _)| *name != "resource");
    let answer = bench.token(&pairs).await;
    let who = bench.who(&answer.text("access_token")).await.unwrap();
    assert_eq!(who.resource.as_deref(), Some(OTHER_RESOURCE));
    // A client from before RFC 8707 names none and gets the default portal, nothing wider.
    let query = request_with(&client, "resource", None);
    let code = bench.code_by(&query, &bench.session).await;
    let mut pairs = redemption(&client, &code).to_vec();
    pairs.retain(|(name, _)| *name != "resource");
    let answer = bench.token(&pairs).await;
    assert_eq!(bench.who(&answer.text("access_token")).await.unwrap().resource.as_deref(), Some(RESOURCE));
}

#[tokio::test]
async fn a18_other_tokens_are_no_access_tokens() {
    let bench = bench().await;
    let client = bench.register(CALLBACK).await;
    let code = bench.code(&client).await;
    assert!(bench.who(&code).await.is_none(), "a code");
    let answer = bench.redeem(&client, &code).await;
    let access = answer.text("access_token");
    assert!(bench.who(&answer.text("refresh_token")).await.is_none(), "a refresh token");
    let refresh_as_access = answer.text("refresh_token").replace("bzr_", "bzt_");
    for bad in [
        refresh_as_access.as_str(),
        &access[..46],
        &format!("{access}A"),
        &access.to_lowercase(),
        "bzt_",
        "eyJhbGciOiJub25lIn0.e30.",
    ] {
        assert!(bench.who(bad).await.is_none(), "{bad}");
    }
    // And an access token is neither.
    bench.refresh(&client, &access.replace("bzt_", "bzr_")).await.is_refused(400, "invalid_grant");
    bench.redeem(&client, &access.replace("bzt_", "bzk_")).await.is_refused(400, "invalid_grant");
}

#[tokio::test]
async fn a5_an_access_token_ends_after_fifteen_minutes() {
    let bench = bench().await;
    let (_, answer) = bench.connected().await;
    let identity = Identity::new(bench.store.clone(), bench.clock.clone());
    let headers = bearer(&answer.text("access_token"));
    let who = identity.authenticate(&headers).await.unwrap().unwrap();
    bench.clock.advance_ms(899_999);
    assert!(identity.authenticate(&headers).await.is_ok(), "from memory");
    bench.clock.advance_ms(1);
    let error = identity.authenticate(&headers).await.unwrap_err();
    assert_eq!((error.kind, error.principal.as_deref()), (AuthErrorKind::Expired, Some("user:ana@corp.example")));
    // A stream that it opened goes on with the grant, which a client keeps by refreshing.
    assert!(identity.still_good(&who.held).await);
    bench.server.sweep().await.unwrap();
    assert!(identity.still_good(&who.held).await, "its row is gone");
    bench.clock.advance_ms(14 * 24 * 3_600_000);
    assert!(!identity.still_good(&who.held).await, "the grant ended");
}

/// Ana signs in again; her provider says that she is in these groups, and has this address.
async fn signs_in(bench: &Bench, groups_json: &str, email: &str) {
    let new = person::SignIn {
        new_id: "other",
        issuer: "https://idp.example",
        subject: "ana",
        provider: "idp",
        email,
        name: "ana",
        groups_json,
    };
    person::sign_in(&bench.store, &new).await.unwrap().unwrap();
}

#[tokio::test]
async fn a25_streams_end_when_whoever_opened_them_is_in_other_groups() {
    for token_lasts in [true, false] {
        for (groups, email, stays) in [
            (r#"["eng"]"#, "ana@corp.example", true),
            ("[]", "ana@corp.example", false),
            (r#"["eng","admins"]"#, "ana@corp.example", false),
            (r#"["eng"]"#, "ana.new@corp.example", false),
        ] {
            let bench = bench().await;
            let (_, answer) = bench.connected().await;
            let identity = Identity::new(bench.store.clone(), bench.clock.clone());
            let headers = bearer(&answer.text("access_token"));
            let who = identity.authenticate(&headers).await.unwrap().unwrap();
            if !token_lasts {
                bench.clock.advance_ms(900_000);
            }
            assert!(identity.still_good(&who.held).await);
            signs_in(&bench, groups, email).await;
            identity.refresh().await.unwrap();
            assert_eq!(identity.still_good(&who.held).await, stays, "{groups} {email} {token_lasts}");
            if token_lasts {
                // What opens anew with the same token goes on.
                let again = identity.authenticate(&headers).await.unwrap().unwrap();
                assert!(identity.still_good(&again.held).await);
                assert_eq!(again.held == who.held, stays);
            }
        }
    }
}

async fn revoke(bench: &Bench, pairs: &[(&str, &str)]) -> Answer {
    Answer::of(bench.server.revoke(&form_headers(), PEER, form_of(pairs).into()).await)
}

#[tokio::test]
async fn a25_what_is_revoked_is_refused_everywhere() {
    for way in ["refresh token", "access token", "withdrawn", "signed out", "deactivated", "code again"] {
        let bench = bench().await;
        let client = bench.register(CALLBACK).await;
        let code = bench.code(&client).await;
        let answer = bench.redeem(&client, &code).await;
        let (access, refresh) = (answer.text("access_token"), answer.text("refresh_token"));
        let identity = Identity::new(bench.store.clone(), bench.clock.clone());
        identity.refresh().await.unwrap();
        let who = identity.authenticate(&bearer(&access)).await.unwrap().unwrap();
        assert!(identity.still_good(&who.held).await);
        match way {
            "refresh token" => {
                assert_eq!(revoke(&bench, &[("client_id", &client), ("token", &refresh)]).await.status, 200)
            }
            "access token" => {
                assert_eq!(revoke(&bench, &[("client_id", &client), ("token", &access)]).await.status, 200)
            }
            "withdrawn" => bench.server.withdraw("ana", &client).await.unwrap(),
            "signed out" => drop(bench.server.sign_out_everywhere("ana").await.unwrap()),
            "deactivated" => drop(person::deactivate(&bench.store, "ana").await.unwrap()),
            _ => bench.redeem(&client, &code).await.is_refused(400, "invalid_grant"),
        }
        // The feed tells every process; here it is asked at once instead of waited for.
        identity.refresh().await.unwrap();
        assert!(identity.authenticate(&bearer(&access)).await.is_err(), "{way}");
        assert!(!identity.still_good(&who.held).await, "{way}");
        let refreshed = bench.refresh(&client, &refresh).await.status;
        assert_eq!(refreshed, if way == "access token" { 200 } else { 400 }, "{way}");
    }
}

#[tokio::test]
async fn a25_the_feed_tells_other_processes_by_itself() {
    let bench = bench().await;
    let (_, answer) = bench.connected().await;
    let other = Identity::new(bench.store.clone(), bench.clock.clone());
    let headers = bearer(&answer.text("access_token"));
    assert!(other.authenticate(&headers).await.is_ok());
    bench.server.sign_out_everywhere("ana").await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(10), async {
        while other.authenticate(&headers).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    ended.await.expect("the feed is followed");
}

#[tokio::test]
async fn a25_nobody_revokes_what_is_anothers() {
    let bench = bench().await;
    let (client, answer) = bench.connected().await;
    let other = bench.register(CALLBACK).await;
    let (access, refresh) = (answer.text("access_token"), answer.text("refresh_token"));
    for token in [&access, &refresh] {
        revoke(&bench, &[("client_id", &other), ("token", token)]).await.is_refused(400, "unauthorized_client");
        revoke(&bench, &[("client_id", "nobody"), ("token", token)]).await.is_refused(401, "invalid_client");
        revoke(&bench, &[("client_id", SECRET_CLIENT), ("token", token)]).await.is_refused(401, "invalid_client");
    }
    assert_eq!(
        revoke(&bench, &[("client_id", &client), ("token", "unknown")]).await.status,
        200,
        "RFC 7009 section 2.2"
    );
    revoke(&bench, &[("client_id", &client)]).await.is_refused(400, "invalid_request");
    assert!(bench.who(&access).await.is_some());
    assert_eq!(bench.refresh(&client, &refresh).await.status, 200);
}

#[tokio::test]
async fn a9_without_its_database_nothing_is_issued() {
    let bench = bench().await;
    let client = bench.register(CALLBACK).await;
    let code = bench.code(&client).await;
    bench.store.close().await;
    bench.redeem(&client, &code).await.is_refused(503, "temporarily_unavailable");
    let step = bench.server.authorize(&request(&client), Some(&bench.session)).await;
    assert!(matches!(step, Step::Problem(problem) if problem.status.as_u16() == 503));
}

#[tokio::test]
async fn a6_a_warm_token_needs_no_database() {
    let bench = bench().await;
    let (_, answer) = bench.connected().await;
    let headers = bearer(&answer.text("access_token"));
    // Made outside of the runtime it has no task of its own that could empty its memory.
    let (store, clock) = (bench.store.clone(), bench.clock.clone());
    let identity = std::thread::spawn(move || Identity::new(store, clock)).join().unwrap();
    identity.refresh().await.unwrap();
    let first = identity.authenticate(&headers).await.unwrap().unwrap();
    // What only the database knows is gone, and nobody was told: memory answers.
    sql(&bench, "DELETE FROM oauth_access").await;
    let second = identity.authenticate(&headers).await.unwrap().unwrap();
    assert!(Arc::ptr_eq(&first.principal, &second.principal));
    // A process that does not know the token asks, and refuses.
    assert!(bench.who(&answer.text("access_token")).await.is_none());
}
