//! Browser sessions, their cookies and forms.

use bartizan_identity::{Begin, ReturnTo};
use http::{HeaderMap, HeaderValue};

use crate::gateway::{Browser, gateway, simple};

#[tokio::test]
async fn a2_a_session_that_was_there_before_is_not_kept() {
    let (gateway, provider) = simple().await;
    // Somebody planted a cookie that they know.
    let mut browser = Browser::default();
    browser.0.insert("__Host-bartizan".into(), "planted".into());
    gateway.sign_in(&mut browser, &provider).await.unwrap();
    assert_ne!(browser.0["__Host-bartizan"], "planted");
    let mut planted = Browser::default();
    planted.0.insert("__Host-bartizan".into(), "planted".into());
    assert!(gateway.current(&planted).await.is_none());
    // A second sign-in makes a new session and ends the first.
    let first = browser.clone();
    assert!(gateway.current(&first).await.is_some());
    gateway.sign_in(&mut browser, &provider).await.unwrap();
    assert_ne!(first.0["__Host-bartizan"], browser.0["__Host-bartizan"]);
    assert!(gateway.current(&first).await.is_none());
    assert!(gateway.current(&browser).await.is_some());
}

#[tokio::test]
async fn a2_sessions_end() {
    let (gateway, provider) = simple().await;
    let (mut one, mut two) = (Browser::default(), Browser::default());
    let session = gateway.sign_in(&mut one, &provider).await.unwrap().session;
    gateway.sign_in(&mut two, &provider).await.unwrap();
    let cleared = gateway.login.sessions().end(&session).await.unwrap();
    assert_eq!(cleared, "__Host-bartizan=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax; Secure");
    assert!(gateway.current(&one).await.is_none());
    gateway.clock.advance_ms(12 * 3_600_000 - 1);
    assert!(gateway.current(&two).await.is_some());
    gateway.clock.advance_ms(1);
    assert!(gateway.current(&two).await.is_none());
}

#[tokio::test]
async fn a2_cookies_are_for_this_host_and_no_script() {
    let (gateway, provider) = simple().await;
    let mut browser = Browser::default();
    let Begin::Redirect { url, set_cookie } = gateway.login.begin(ReturnTo::path("/"), None, Default::default()).await
    else {
        panic!("no redirect")
    };
    let text = set_cookie.to_str().unwrap();
    assert!(text.starts_with("__Host-bartizan-login-"), "{text}");
    assert!(text.ends_with("; Path=/; Max-Age=600; HttpOnly; SameSite=Lax; Secure"), "{text}");
    assert!(set_cookie.is_sensitive());
    browser.take(&[set_cookie]);
    let signed_in = gateway.callback(&mut browser, &provider.approve(&url)).await.unwrap();
    let text = signed_in.set_cookies[0].to_str().unwrap();
    assert!(text.ends_with("; Path=/; Max-Age=43200; HttpOnly; SameSite=Lax; Secure"), "{text}");
    // The database holds no cookie.
    let value = &browser.0["__Host-bartizan"];
    assert_eq!(value.len(), 43);
    assert!(!format!("{:?}", signed_in.session).contains(value.as_str()));
    // A cookie without the prefix, which any neighbour may set, is none.
    let mut plain = Browser::default();
    plain.0.insert("bartizan".into(), value.clone());
    assert!(gateway.current(&plain).await.is_none());
    // Two that differ: nobody can say which is meant.
    let mut headers = HeaderMap::new();
    headers.append("cookie", HeaderValue::from_str(&format!("__Host-bartizan={value}; a=b")).unwrap());
    assert!(gateway.login.sessions().current(&headers).await.is_some());
    headers.append("cookie", HeaderValue::from_static("__Host-bartizan=other"));
    assert!(gateway.login.sessions().current(&headers).await.is_none());
    for bad in ["__Host-bartizan=", "__Host-bartizan", "=", ";;;", "__Host-bartizan= x"] {
        let mut headers = HeaderMap::new();
        headers.insert("cookie", HeaderValue::from_static(bad));
        assert!(gateway.login.sessions().current(&headers).await.is_none(), "{bad}");
    }
}

#[tokio::test]
async fn a19_forms_are_good_for_their_session_only() {
    let (gateway, provider) = simple().await;
    let sessions = gateway.login.sessions();
    let mine = gateway.sign_in(&mut Browser::default(), &provider).await.unwrap().session;
    let theirs = gateway.sign_in(&mut Browser::default(), &provider).await.unwrap().session;
    let token = sessions.csrf(&mine);
    assert!(sessions.check_csrf(&mine, &token));
    assert_ne!(token, sessions.csrf(&mine), "nothing to compare compressed pages by");
    assert!(!sessions.check_csrf(&theirs, &token));
    for bad in ["", "x", &token[1..], &format!("{token}A"), &mine.id] {
        assert!(!sessions.check_csrf(&mine, bad), "{bad}");
    }
}

#[tokio::test]
async fn a2_demo_users_exist_in_dev_only() {
    let dev = gateway("http://127.0.0.1:7420", vec![], &["alice@demo.example"]).await;
    assert!(
        matches!(dev.login.begin(ReturnTo::path("/"), None, Default::default()).await, Begin::Demo(users) if users.len() == 1)
    );
    let mut browser = Browser::default();
    let signed_in = dev.login.demo("alice@demo.example", ReturnTo::path("/x"), &browser.headers()).await.unwrap();
    assert_eq!(signed_in.set_cookies[0].to_str().unwrap().split_once('=').unwrap().0, "bartizan");
    assert!(!signed_in.set_cookies[0].to_str().unwrap().contains("Secure"));
    browser.take(&signed_in.set_cookies);
    assert_eq!(dev.current(&browser).await.unwrap().person.email, "alice@demo.example");
    assert_eq!(
        dev.login.demo("eve@demo.example", ReturnTo::path("/"), &browser.headers()).await.unwrap_err().code,
        "unknown_user"
    );
    let (production, _provider) = simple().await;
    let refused = production.login.demo("alice@demo.example", ReturnTo::path("/"), &HeaderMap::new()).await;
    assert_eq!(refused.unwrap_err().code, "unknown_user");
}
