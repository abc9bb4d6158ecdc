//! A9: redeeming codes.

use super::*;

#[tokio::test]
async fn a9_a_client_gets_its_tokens() {
    let bench = bench().await;
    let (_, answer) = bench.connected().await;
    assert_eq!((answer.text("token_type").as_str(), answer.text("scope").as_str()), ("Bearer", "mcp:read"));
    assert_eq!(answer.json["expires_in"], 900);
    let who = bench.who(&answer.text("access_token")).await.unwrap();
    assert_eq!(&**who.principal.key(), "user:ana@corp.example");
    assert_eq!(who.principal.groups.iter().map(|g| &**g).collect::<Vec<_>>(), ["eng"]);
    assert_eq!(who.resource.as_deref(), Some(RESOURCE));
    assert_eq!(who.scopes.unwrap().to_string(), "mcp:read");
    assert!(who.credential_id.starts_with("grant:"));
    assert_eq!(bench.saw(Action::Token, true), 1);
}

#[tokio::test]
async fn a9_a_code_needs_its_verifier_client_and_redirect() {
    let bench = bench().await;
    let client = bench.register(CALLBACK).await;
    let other = bench.register(CALLBACK).await;
    let code = bench.code(&client).await;
    let with = |name: &'static str, value: Option<&'static str>| {
        let mut pairs = redemption(&client, &code).to_vec();
        pairs.retain(|(known, _)| *known != name);
        pairs.extend(value.map(|value| (name, value)));
        pairs
    };
    let challenge = Box::leak(challenge_of(VERIFIER).into_boxed_str());
    for (pairs, error) in [
        (with("code_verifier", None), "invalid_request"),
        (with("code_verifier", Some("")), "invalid_request"),
        (with("code_verifier", Some("wrong-verifier-wrong-verifier-wrong-verifier-wr")), "invalid_grant"),
        // `plain`: the challenge itself.
        (with("code_verifier", Some(challenge)), "invalid_grant"),
        (with("code", None), "invalid_request"),
        (with("code", Some("bzk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")), "invalid_grant"),
        (with("code", Some("x")), "invalid_grant"),
        (with("redirect_uri", Some("http://127.0.0.1:4712/cb")), "invalid_grant"),
        (with("redirect_uri", Some("https://evil.example/cb")), "invalid_grant"),
        (with("resource", Some(OTHER_RESOURCE)), "invalid_target"),
        (with("resource", Some("https://evil.example/mcp")), "invalid_target"),
        (with("grant_type", Some("password")), "unsupported_grant_type"),
        (with("grant_type", Some("client_credentials")), "unsupported_grant_type"),
        (with("grant_type", None), "invalid_request"),
        (with("client_id", None), "invalid_request"),
    ] {
        bench.token(&pairs).await.is_refused(400, error);
    }
    bench.redeem(&other, &code).await.is_refused(400, "invalid_grant");
    bench.redeem("nobody", &code).await.is_refused(401, "invalid_client");
    // None of these attempts cost the right client its code.
    let answer = bench.token(&with("redirect_uri", None)).await;
    assert_eq!(answer.status, 200, "OAuth 2.1 sends no redirect_uri: {}", answer.json);
}

#[tokio::test]
async fn a9_duplicate_parameters_and_other_bodies_are_refused() {
    let bench = bench().await;
    let client = bench.register(CALLBACK).await;
    let code = bench.code(&client).await;
    let form = form_of(&redemption(&client, &code));
    for name in ["grant_type", "client_id", "code", "redirect_uri", "code_verifier"] {
        let body = format!("{form}&{name}=x");
        Answer::of(bench.server.token(&form_headers(), PEER, body.into()).await).is_refused(400, "invalid_request");
    }
    let twice = format!("{form}&resource={OTHER_RESOURCE}");
    Answer::of(bench.server.token(&form_headers(), PEER, twice.into()).await).is_refused(400, "invalid_target");
    for kind in [None, Some("application/json"), Some("multipart/form-data"), Some("text/plain")] {
        let mut headers = HeaderMap::new();
        kind.map(|kind| headers.insert("content-type", kind.parse().unwrap()));
        let answer = Answer::of(bench.server.token(&headers, PEER, form.clone().into()).await);
        answer.is_refused(400, "invalid_request");
    }
    Answer::of(bench.server.token(&form_headers(), PEER, vec![b'a'; 20_000].into()).await)
        .is_refused(400, "invalid_request");
    assert_eq!(bench.redeem(&client, &code).await.status, 200);
}

#[tokio::test]
async fn a9_a_code_that_comes_twice_ends_the_grant() {
    let bench = bench().await;
    let client = bench.register(CALLBACK).await;
    let code = bench.code(&client).await;
    let first = bench.redeem(&client, &code).await;
    let access = first.text("access_token");
    assert!(bench.who(&access).await.is_some());
    bench.redeem(&client, &code).await.is_refused(400, "invalid_grant");
    assert!(bench.who(&access).await.is_none(), "the thief, or the robbed, has nothing left");
    bench.refresh(&client, &first.text("refresh_token")).await.is_refused(400, "invalid_grant");
    assert_eq!(bench.saw(Action::Replay, false), 1);
    // The code alone, from a history or a log, ends nothing.
    let other = bench.register(CALLBACK).await;
    let code = bench.code(&client).await;
    let access = bench.redeem(&client, &code).await.text("access_token");
    let stolen =
        [("grant_type", "authorization_code"), ("client_id", other.as_str()), ("code", &code), ("code_verifier", "x")];
    bench.token(&stolen).await.is_refused(400, "invalid_grant");
    let mut guess = redemption(&client, &code).to_vec();
    guess[4].1 = "wrong-verifier-wrong-verifier-wrong-verifier-wr";
    bench.token(&guess).await.is_refused(400, "invalid_grant");
    assert!(bench.who(&access).await.is_some());
    assert_eq!(bench.saw(Action::Replay, false), 1);
    // With its verifier it does, also when its minute is over.
    bench.clock.advance_ms(120_000);
    bench.redeem(&client, &code).await.is_refused(400, "invalid_grant");
    assert!(bench.who(&access).await.is_none());
}

#[tokio::test]
async fn a9_of_many_that_redeem_at_once_at_most_one_wins_and_nobody_keeps() {
    let bench = Arc::new(bench().await);
    let client = bench.register(CALLBACK).await;
    let code = bench.code(&client).await;
    let tries: Vec<_> = (0..8)
        .map(|_| {
            let (bench, client, code) = (Arc::clone(&bench), client.clone(), code.clone());
            tokio::spawn(async move { bench.redeem(&client, &code).await })
        })
        .collect();
    let mut won = Vec::new();
    for one in tries {
        let answer = one.await.unwrap();
        if answer.status == 200 {
            won.push(answer.text("access_token"));
        }
    }
    assert_eq!(won.len(), 1);
    assert!(bench.who(&won[0]).await.is_none(), "reuse revokes");
}

#[tokio::test]
async fn a9_a_code_ends_after_a_minute() {
    let bench = bench().await;
    let client = bench.register(CALLBACK).await;
    let code = bench.code(&client).await;
    bench.clock.advance_ms(60_000);
    bench.redeem(&client, &code).await.is_refused(400, "invalid_grant");
}

#[tokio::test]
async fn a19_a_withdrawn_consent_takes_codes_on_their_way() {
    let bench = bench().await;
    let client = bench.register(CALLBACK).await;
    let code = bench.code(&client).await;
    bench.server.withdraw("ana", &client).await.unwrap();
    bench.redeem(&client, &code).await.is_refused(400, "invalid_grant");
    let code = bench.code(&client).await;
    bench.server.sign_out_everywhere("ana").await.unwrap();
    bench.redeem(&client, &code).await.is_refused(400, "invalid_grant");
}

#[tokio::test]
async fn a9_a_client_with_a_secret_must_show_it() {
    let bench = bench().await;
    let query = request_with(SECRET_CLIENT, "redirect_uri", Some("https://office.example/cb"));
    let code = bench.code_by(&query, &bench.session).await;
    let mut pairs = redemption(SECRET_CLIENT, &code).to_vec();
    pairs.retain(|(name, _)| *name != "redirect_uri");
    let by_header = |id: &str, secret: &str| {
        let plain = |text: &str| form_of(&[("", text)])[1..].to_owned();
        let text = format!("{}:{}", plain(id), plain(secret));
        let mut headers = form_headers();
        let value = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text);
        headers.insert("authorization", format!("Basic {value}").parse().unwrap());
        headers
    };
    let body = form_of(&pairs);
    let ask = async |headers: &HeaderMap, body: &str| {
        Answer::of(bench.server.token(headers, PEER, body.to_owned().into()).await)
    };
    ask(&form_headers(), &body).await.is_refused(401, "invalid_client");
    ask(&form_headers(), &format!("{body}&client_secret=wrong")).await.is_refused(401, "invalid_client");
    let wrong = ask(&by_header(SECRET_CLIENT, "wrong"), &body).await;
    wrong.is_refused(401, "invalid_client");
    assert!(wrong.headers["www-authenticate"].to_str().unwrap().starts_with("Basic "));
    // Nobody learns whether the client or the secret is wrong.
    let mut nobody = pairs.clone();
    nobody[1] = ("client_id", "nobody");
    let unknown = ask(&by_header("nobody", "wrong"), &form_of(&nobody)).await;
    assert_eq!((unknown.status, &unknown.json), (wrong.status, &wrong.json));
    // Two ways at once, two names.
    ask(&by_header(SECRET_CLIENT, SECRET), &format!("{body}&client_secret=x")).await.is_refused(400, "invalid_request");
    ask(&by_header("other", SECRET), &body).await.is_refused(400, "invalid_request");
    let mut broken = form_headers();
    broken.insert("authorization", "Basic !".parse().unwrap());
    ask(&broken, &body).await.is_refused(401, "invalid_client");
    let good = ask(&by_header(SECRET_CLIENT, SECRET), &body).await;
    assert_eq!(good.status, 200, "{}", good.json);
    let refresh = good.text("refresh_token");
    bench.refresh(SECRET_CLIENT, &refresh).await.is_refused(401, "invalid_client");
    let pairs = [
        ("grant_type", "refresh_token"),
        ("client_id", SECRET_CLIENT),
        ("refresh_token", &refresh),
        ("client_secret", SECRET),
    ];
    assert_eq!(bench.token(&pairs).await.status, 200);
    // Nor does an empty one open anything.
    let again = form_of(&[("grant_type", "refresh_token"), ("refresh_token", &refresh)]);
    ask(&by_header(SECRET_CLIENT, ""), &again).await.is_refused(401, "invalid_client");
    ask(&by_header("", ""), &again).await.is_refused(401, "invalid_client");
    // A public client must not claim to have one; an empty one is none.
    let (client, answer) = bench.connected().await;
    let token = answer.text("refresh_token");
    let pairs =
        [("grant_type", "refresh_token"), ("client_id", &client), ("refresh_token", &token), ("client_secret", "x")];
    bench.token(&pairs).await.is_refused(401, "invalid_client");
    let again = form_of(&[("grant_type", "refresh_token"), ("refresh_token", &token)]);
    assert_eq!(ask(&by_header(&client, ""), &again).await.status, 200);
}

#[tokio::test]
async fn a9_guessing_secrets_is_slowed_down() {
    let bench = bench().await;
    let pairs = [
        ("grant_type", "refresh_token"),
        ("client_id", SECRET_CLIENT),
        ("refresh_token", "x"),
        ("client_secret", "guess"),
    ];
    let mut last = 0;
    for _ in 0..100 {
        last = bench.token(&pairs).await.status;
    }
    assert_eq!(last, 429);
    // Nobody else waits: neither another network, nor other clients of this one, nor who
    // brings no secret.
    let form = form_of(&pairs);
    let far: IpAddr = "198.51.100.7".parse().unwrap();
    let from = async |peer| Answer::of(bench.server.token(&form_headers(), peer, form.clone().into()).await).status;
    assert_eq!((from(PEER).await, from(far).await), (429, 401));
    let (client, answer) = bench.connected().await;
    assert_eq!(bench.refresh(&client, &answer.text("refresh_token")).await.status, 200);
    assert_eq!(bench.token(&pairs[..3]).await.status, 401, "no guess");
    // Guesses at the revocation endpoint are the same guesses.
    let pairs_there = [("client_id", SECRET_CLIENT), ("token", "x"), ("client_secret", SECRET)];
    let there =
        async |peer| Answer::of(bench.server.revoke(&form_headers(), peer, form_of(&pairs_there).into()).await).status;
    assert_eq!((there(PEER).await, there(far).await), (429, 200));
    bench.clock.advance_ms(60_000);
    assert_eq!((bench.token(&pairs).await.status, there(PEER).await), (401, 200));
}

#[tokio::test]
async fn a9_invented_and_public_clients_are_not_counted() {
    let bench = bench().await;
    let public = bench.register(CALLBACK).await;
    for client in [public.as_str(), "nobody"] {
        let pairs =
            [("grant_type", "refresh_token"), ("client_id", client), ("refresh_token", "x"), ("client_secret", "x")];
        for _ in 0..100 {
            assert_eq!(bench.token(&pairs).await.status, 401);
        }
    }
}

#[tokio::test]
async fn a25_a_deactivated_person_redeems_no_code() {
    let bench = bench().await;
    let client = bench.register(CALLBACK).await;
    let code = bench.code(&client).await;
    // Deactivated behind the store's back: the code is there still.
    tokens::sql(&bench, "UPDATE person SET deactivated_ms = 1").await;
    bench.redeem(&client, &code).await.is_refused(400, "invalid_grant");
}

/// What the controls are worth: whoever takes one away lets the attack succeed, so it is
/// this control, and no other, that stops it.
#[tokio::test]
async fn a9_each_check_is_what_stops_its_attack() {
    let thief_verifier = "thief-verifier-thief-verifier-thief-verifier-th";
    let thief_challenge = challenge_of(thief_verifier);
    for (name, attack, without) in [
        ("PKCE", ("code_verifier", thief_verifier), format!("UPDATE oauth_code SET challenge = '{thief_challenge}'")),
        ("client", ("client_id", "THIEF"), "UPDATE oauth_code SET client_id = 'THIEF'".to_owned()),
        (
            "redirect",
            ("redirect_uri", "https://evil.example/cb"),
            "UPDATE oauth_code SET redirect_uri = 'https://evil.example/cb'".to_owned(),
        ),
        ("single use", ("", ""), "UPDATE oauth_code SET used_ms = NULL; DELETE FROM oauth_grant".to_owned()),
        ("a minute", ("", ""), "UPDATE oauth_code SET expires_ms = expires_ms + 3600000".to_owned()),
        (
            "resource",
            ("resource", OTHER_RESOURCE),
            format!("UPDATE oauth_code SET content = replace(content, '{RESOURCE}', '{OTHER_RESOURCE}')"),
        ),
    ] {
        let bench = bench().await;
        let (client, thief) = (bench.register(CALLBACK).await, bench.register(CALLBACK).await);
        let code = bench.code(&client).await;
        match name {
            "single use" => assert_eq!(bench.redeem(&client, &code).await.status, 200),
            "a minute" => bench.clock.advance_ms(60_000),
            _ => {}
        }
        let mut pairs = redemption(&client, &code).to_vec();
        for pair in &mut pairs {
            if pair.0 == attack.0 {
                pair.1 = if attack.1 == "THIEF" { &thief } else { attack.1 };
            }
        }
        assert_eq!(bench.token(&pairs).await.status, 400, "{name}");
        tokens::sql(&bench, &without.replace("THIEF", &thief)).await;
        let answer = bench.token(&pairs).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.json);
    }
}
