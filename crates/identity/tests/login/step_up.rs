//! A16, A17: links for more, from the gate to the grant.

use std::sync::Arc;

use bartizan_config::settings::{Egress as EgressSettings, SignIn};
use bartizan_egress::Egress;
use bartizan_identity::{
    Action, Ask, AuthorizationServer, AuthorizationServerDeps, BrowserSession, Identity, PageProblem, ReturnTo, Step,
    StepUp, StepUpNext, StepUps, Want,
};
use bartizan_model::SignInFacts;
use bartizan_oauth::params::Builder;
use bartizan_oauth::pkce::challenge_of;
use http::HeaderMap;
use serde_json::{Value, json};

use crate::NOW_S;
use crate::gateway::{Browser, Gateway, param, simple};
use crate::provider::Provider;

const CALLBACK: &str = "http://127.0.0.1:4711/cb";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const RESOURCE: &str = "https://gate.example/mcp";

/// Somebody signed in and let a client in.
struct Bench {
    gateway: Gateway,
    provider: Provider,
    browser: Browser,
    session: BrowserSession,
    access: String,
    grant: String,
    identity: Identity,
    step_ups: StepUps,
}

/// Signs in with these claims besides the usual ones.
async fn bench(claims: Value) -> Bench {
    let (gateway, provider) = simple().await;
    provider.set().claims = claims;
    let mut browser = Browser::default();
    let session = gateway.sign_in(&mut browser, &provider).await.unwrap().session;
    let access = token(&gateway, &session).await;
    let identity = Identity::new(gateway.store.clone(), gateway.clock.clone());
    let identity = identity.with_providers(gateway.login.known_provider());
    let grant = who(&identity, &access).await.unwrap().0;
    let url = "https://gate.example/";
    let step_ups = StepUps::new(gateway.store.clone(), &gateway.vault, gateway.clock.clone(), url)
        .with_keys(identity.grant_keys());
    Bench { gateway, provider, browser, session, access, grant, identity, step_ups }
}

/// An access token for a client that the person of a session lets in.
async fn token(gateway: &Gateway, session: &BrowserSession) -> String {
    let server = AuthorizationServer::new(AuthorizationServerDeps {
        store: gateway.store.clone(),
        vault: gateway.vault.clone(),
        documents: Egress::new(&EgressSettings::default(), std::time::Duration::from_secs(1)).unwrap(),
        clock: gateway.clock.clone(),
        issuer: "https://gate.example".to_owned(),
        settings: Arc::new(SignIn::default()),
        clients: Arc::new(Arc::default),
        resources: Arc::new(|url: &str| url == RESOURCE),
        record: Arc::new(|_| {}),
    });
    let body = json!({"client_name": "Desk tool", "redirect_uris": [CALLBACK]}).to_string();
    let client: Value = serde_json::from_slice(server.register(gateway.peer(), body.into()).await.body()).unwrap();
    let client = client["client_id"].as_str().unwrap();
    let query = Builder::new().add("response_type", "code").add("client_id", client).add("redirect_uri", CALLBACK);
    let query = query.add("code_challenge", &challenge_of(VERIFIER)).add("code_challenge_method", "S256");
    let query = query.add("scope", "mcp:read").add("resource", RESOURCE).finish();
    let Step::Consent(view) = server.authorize(&query, Some(session)).await else { panic!("no consent") };
    let Step::Redirect(to) = server.decide(&view.transaction, session, true).await else { panic!("no code") };
    let form = Builder::new().add("grant_type", "authorization_code").add("client_id", client);
    let form = form.add("code", &param(&to, "code").unwrap()).add("redirect_uri", CALLBACK);
    let form = form.add("code_verifier", VERIFIER).finish();
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "application/x-www-form-urlencoded".parse().unwrap());
    let answer = server.token(&headers, gateway.peer(), form.into()).await;
    let answer: Value = serde_json::from_slice(answer.body()).unwrap();
    answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// Grant and facts of an access token, as a request sees them.
async fn who(identity: &Identity, access: &str) -> Option<(String, Arc<SignInFacts>)> {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", format!("Bearer {access}").parse().unwrap());
    identity.refresh().await.unwrap();
    let grant = identity.authenticate(&headers).await.ok().flatten()?.grant?;
    Some((grant.id.to_string(), Arc::clone(&grant.facts)))
}

fn mfa(max_age_s: u32) -> Want {
    Want::Mfa { max_age_s, acr: None }
}

impl Bench {
    fn link(&self, want: Want) -> String {
        self.link_for("ana@corp.example", &self.grant, want)
    }

    fn link_for(&self, person: &str, grant: &str, want: Want) -> String {
        let (person, grant) = (person.to_owned(), grant.to_owned());
        let step_up = StepUp { person, grant, want, about: "tool pay of bank".to_owned() };
        let link = self.step_ups.link(&step_up).unwrap();
        link.strip_prefix("https://gate.example/step-up/").unwrap().to_owned()
    }

    async fn facts(&self) -> Arc<SignInFacts> {
        who(&self.identity, &self.access).await.unwrap().1
    }

    /// The person goes on; what is asked of the provider.
    async fn go(&self, handle: &str) -> Ask {
        match self.gateway.login.step_up_go(handle, &self.session, None).await {
            StepUpNext::Provider(ask) => ask,
            other => panic!("{other:?}"),
        }
    }

    /// To the provider and back, which says these claims.
    async fn round(&mut self, handle: &str, ask: Ask, claims: Value) -> Result<(), PageProblem> {
        self.provider.set().claims = claims;
        let to = ReturnTo::StepUp(handle.to_owned());
        let url = self.gateway.begin_for(&mut self.browser, to.clone(), None, ask).await;
        let back = self.gateway.callback(&mut self.browser, &self.provider.approve(&url)).await?;
        assert_eq!(back.return_to, to);
        self.session = back.session;
        self.gateway.login.step_up_return(handle, &self.session).await.map(drop)
    }

    fn events(&self, ok: bool) -> usize {
        let events = self.gateway.events.lock().unwrap();
        events.iter().filter(|event| event.action == Action::StepUp && event.ok == ok).count()
    }
}

#[tokio::test]
async fn a4_a_second_factor_reaches_the_facts_of_the_grant() {
    let bench = bench(json!({"amr": ["pwd", "otp"], "acr": "2", "auth_time": NOW_S - 60})).await;
    let facts = bench.facts().await;
    assert_eq!(facts.mfa_at_ms, Some((NOW_S - 60) * 1000));
    assert_eq!((facts.auth_time_ms, facts.acr.as_deref()), (Some((NOW_S - 60) * 1000), Some("2")));
    assert_eq!(*facts, bench.session.facts());
    // Not what only looks like it, and not without a time.
    for claims in [
        json!({"amr": ["pwd"], "auth_time": NOW_S}),
        json!({"amr": "mfa", "auth_time": NOW_S}),
        json!({"amr": [["mfa"]], "auth_time": NOW_S}),
        json!({"amr": ["mfa"]}),
        json!({"acr": "mfa", "auth_time": NOW_S}),
    ] {
        let bench = self::bench(claims.clone()).await;
        assert_eq!(bench.facts().await.mfa_at_ms, None, "{claims}");
    }
    // A clock that runs ahead makes nothing younger than now.
    let bench = self::bench(json!({"amr": ["mfa"], "auth_time": NOW_S + 59})).await;
    assert_eq!(bench.facts().await.mfa_at_ms, Some(NOW_S * 1000));
}

#[tokio::test]
async fn a3_kept_claims_are_texts_and_bounded() {
    let (gateway, provider) = simple().await;
    let mut config = gateway.providers.load_full()[0].clone();
    config.claims.keep = vec!["department".into(), "levels".into(), "absent".into()];
    gateway.providers.store(vec![config].into());
    provider.set().claims = json!({"department": "hr", "levels": [3, true, "x"], "secret": "not kept"});
    let session = gateway.sign_in(&mut Browser::default(), &provider).await.unwrap().session;
    let kept = serde_json::to_value(&session.kept.claims).unwrap();
    assert_eq!(kept, json!({"department": ["hr"], "levels": ["3", "true", "x"]}));
    for bad in [json!({"a": 1}), json!([["x"]]), json!("x".repeat(257)), json!(vec!["x"; 101]), json!([null])] {
        provider.set().claims = json!({ "department": bad });
        assert_eq!(gateway.outcome(&provider).await, "bad_claim", "{bad:.40}");
    }
}

#[tokio::test]
async fn a17_a_step_up_gives_the_grant_new_facts() {
    let mut bench = bench(json!({"amr": ["pwd"], "auth_time": NOW_S})).await;
    let handle = bench.link(mfa(900));
    let view = bench.gateway.login.step_up(&handle, &bench.session).await.unwrap();
    assert_eq!((view.about.as_str(), view.client_name.as_str()), ("tool pay of bank", "Desk tool"));
    let ask = bench.go(&handle).await;
    assert_eq!((ask.max_age_s, ask.prompt.as_deref()), (Some(900), Some("login")), "{ask:?}");
    assert_eq!(bench.facts().await.mfa_at_ms, None, "asking changes nothing");
    bench.gateway.clock.advance_ms(30_000);
    let at = NOW_S + 30;
    bench.round(&handle, ask, json!({"amr": ["pwd", "otp"], "auth_time": at})).await.unwrap();
    assert_eq!(bench.facts().await.mfa_at_ms, Some(at * 1000));
    let waiting = bench.step_ups.facts(&bench.grant).await.unwrap().unwrap();
    assert!(mfa(900).is_met_by(&waiting, at * 1000), "and a call that waits sees it");
    assert_eq!((bench.events(true), bench.events(false)), (1, 0));
    // Used up, also for one who has all that is asked for.
    let again = bench.gateway.login.step_up_go(&handle, &bench.session, None).await;
    assert!(matches!(again, StepUpNext::Problem(problem) if problem.code == "link_expired"));
    // With a fresh factor on the session another link needs no way to the provider.
    let other = bench.link(mfa(900));
    assert!(matches!(bench.gateway.login.step_up_go(&other, &bench.session, None).await, StepUpNext::Done(_)));
    // An old one needs its age said, and nothing more.
    bench.gateway.clock.advance_ms(900_001);
    let ask = bench.go(&bench.link(mfa(900))).await;
    assert_eq!((ask.max_age_s, ask.prompt), (Some(900), None));
    let classed = Want::Mfa { max_age_s: 900, acr: Some("phr".into()) };
    let ask = bench.go(&bench.link(classed)).await;
    assert_eq!((ask.acr_values, ask.prompt.as_deref()), (vec!["phr".to_owned()], Some("login")));
}

#[tokio::test]
async fn a17_not_enough_is_not_enough() {
    let mut bench = bench(json!({"amr": ["pwd"], "auth_time": NOW_S})).await;
    let handle = bench.link(mfa(900));
    let cases = [
        // The same factor again; forged by its form; too old; without a time.
        (json!({"amr": ["pwd"], "auth_time": NOW_S}), "not_enough"),
        (json!({"amr": "pwd mfa", "auth_time": NOW_S}), "not_enough"),
        (json!({"amr": ["mfa"], "auth_time": NOW_S - 930}), "not_enough"),
        (json!({"amr": ["mfa"], "auth_time": NOW_S - 961}), "too_old"),
        (json!({"amr": ["mfa"]}), "bad_id_token"),
        (json!({"amr": ["mfa"], "auth_time": NOW_S + 61}), "bad_id_token"),
    ];
    for (claims, code) in cases {
        let ask = bench.go(&handle).await;
        let refused = bench.round(&handle, ask, claims.clone()).await.unwrap_err();
        assert_eq!(refused.code, code, "{claims}");
        let kept = bench.facts().await.mfa_at_ms;
        assert_eq!(kept, None, "{claims}");
    }
    assert_eq!((bench.events(true), bench.events(false)), (0, 3));
    // The link is good still.
    let ask = Ask { max_age_s: Some(900), ..Ask::default() };
    bench.round(&handle, ask, json!({"amr": ["mfa"], "auth_time": NOW_S})).await.unwrap();
}

#[tokio::test]
async fn a17_another_person_is_refused_at_every_step() {
    let mut bench = bench(json!({"amr": ["pwd"], "auth_time": NOW_S})).await;
    let handle = bench.link(mfa(900));
    let bo = json!({"sub": "sub-bo", "email": "bo@corp.example", "amr": ["mfa"], "auth_time": NOW_S});
    bench.provider.set().claims = bo.clone();
    let mut browser = Browser::default();
    let other = bench.gateway.sign_in(&mut browser, &bench.provider).await.unwrap().session;
    let login = bench.gateway.login.clone();
    assert_eq!(login.step_up(&handle, &other).await.unwrap_err().code, "other_person");
    let gone = login.step_up_go(&handle, &other, None).await;
    assert!(matches!(gone, StepUpNext::Problem(problem) if problem.code == "other_person"));
    assert_eq!(login.step_up_return(&handle, &other).await.unwrap_err().code, "other_person");
    assert_eq!(bench.events(false), 3);
    // The right person goes on, and another one comes back: the browser keeps its session.
    let before = bench.browser.0["__Host-bartizan"].clone();
    let ask = bench.go(&handle).await;
    assert_eq!(bench.round(&handle, ask.clone(), bo.clone()).await.unwrap_err().code, "other_person");
    assert_eq!(bench.browser.0["__Host-bartizan"], before);
    assert!(bench.gateway.current(&bench.browser).await.is_some());
    // Without that check the browser would be the other person's: this is what it prevents.
    let unchecked = Ask { same_person: None, ..ask };
    assert_eq!(bench.round(&handle, unchecked, bo).await.unwrap_err().code, "other_person");
    assert_ne!(bench.browser.0["__Host-bartizan"], before);
    assert_eq!(bench.facts().await.mfa_at_ms, None);
}

#[tokio::test]
async fn a17_a_link_is_for_one_grant_of_one_person_for_ten_minutes() {
    let bench = bench(json!({"amr": ["mfa"], "auth_time": NOW_S})).await;
    let code = async |handle: &str| {
        // Each from elsewhere, or the refusals would be too many.
        let login = bench.gateway.login.from_peer(bench.gateway.peer());
        match login.step_up_go(handle, &bench.session, None).await {
            StepUpNext::Problem(problem) => problem.code,
            other => panic!("{other:?}"),
        }
    };
    let handle = bench.link(mfa(900));
    for bad in ["", "x", &handle[1..], &format!("{handle}A")] {
        assert_eq!(code(bad).await, "link_expired", "{bad:.20}");
        assert!(!bench.step_ups.is_fresh(bad));
    }
    assert_eq!(code(&bench.link_for("ana@corp.example", "no-such-grant", mfa(900))).await, "link_expired");
    // Somebody else's grant under her name.
    bench.provider.set().claims = json!({"sub": "sub-bo", "email": "bo@corp.example"});
    let other = bench.gateway.sign_in(&mut Browser::default(), &bench.provider).await.unwrap().session;
    let (theirs, _) = who(&bench.identity, &token(&bench.gateway, &other).await).await.unwrap();
    assert_eq!(code(&bench.link_for("ana@corp.example", &theirs, mfa(900))).await, "other_person");
    // A sealed handle of another kind.
    let csrf = bench.gateway.login.sessions().csrf(&bench.session);
    assert_eq!(code(&csrf).await, "link_expired");
    bench.gateway.clock.advance_ms(600_000);
    assert_eq!(code(&handle).await, "link_expired");
    // The grant ended.
    let late = bench.link(mfa(9_000));
    bartizan_store::repo::oauth_grant::revoke(&bench.gateway.store, &bench.grant, "test").await.unwrap();
    assert_eq!(code(&late).await, "link_expired");
    assert!(bench.step_ups.facts(&bench.grant).await.unwrap().is_none());
}

#[tokio::test]
async fn a16_a_purpose_is_kept_on_the_grant_and_on_record() {
    let bench = bench(json!({})).await;
    let login = &bench.gateway.login;
    let handle = bench.link(Want::Purpose);
    let long = "x".repeat(501);
    for bad in [None, Some(""), Some("  \u{200b}\n"), Some("\r\n\t\r\n"), Some(long.as_str())] {
        let refused = login.step_up_go(&handle, &bench.session, bad).await;
        assert!(matches!(refused, StepUpNext::Problem(problem) if problem.code == "bad_purpose"), "{bad:?}");
    }
    let said = login.step_up_go(&handle, &bench.session, Some(" audit of\r\n Q3 \u{202e}<b> ")).await;
    assert!(matches!(said, StepUpNext::Done(_)));
    let facts = bench.facts().await;
    assert_eq!(facts.purpose.as_deref(), Some("audit of Q3 <b>"));
    assert!(Want::Purpose.is_met_by(&facts, NOW_S * 1000));
    let event = bench.gateway.events.lock().unwrap().last().cloned().unwrap();
    assert_eq!((event.action, event.ok), (Action::StepUp, true));
    assert_eq!(event.note.as_deref(), Some("purpose: audit of Q3 <b>; for tool pay of bank"));
    // Used up; and the purpose is of this grant, not of the next.
    let again = login.step_up_go(&handle, &bench.session, Some("more")).await;
    assert!(matches!(again, StepUpNext::Problem(problem) if problem.code == "link_expired"));
    let other = token(&bench.gateway, &bench.session).await;
    assert_eq!(who(&bench.identity, &other).await.unwrap().1.purpose, None);
}

#[tokio::test]
async fn a16_a_purpose_survives_a_step_up() {
    let mut bench = bench(json!({"amr": ["pwd"], "auth_time": NOW_S})).await;
    let purpose = bench.link(Want::Purpose);
    bench.gateway.login.step_up_go(&purpose, &bench.session, Some("audit")).await;
    let handle = bench.link(mfa(900));
    let ask = bench.go(&handle).await;
    bench.round(&handle, ask, json!({"amr": ["mfa"], "auth_time": NOW_S})).await.unwrap();
    let facts = bench.facts().await;
    assert_eq!((facts.purpose.as_deref(), facts.mfa_at_ms.is_some()), (Some("audit"), true));
}

#[tokio::test]
async fn a2_access_tokens_of_a_provider_that_left_are_refused() {
    let bench = bench(json!({})).await;
    assert!(who(&bench.identity, &bench.access).await.is_some());
    bench.gateway.providers.store(vec![].into());
    assert!(who(&bench.identity, &bench.access).await.is_none());
    // An identity that is not told of providers lets them in: the check is what stops them.
    let unaware = Identity::new(bench.gateway.store.clone(), bench.gateway.clock.clone());
    assert!(who(&unaware, &bench.access).await.is_some());
}
