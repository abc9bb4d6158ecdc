use super::*;

fn rules() -> Rules {
    let allowed = [
        "https://app.example/cb",
        "https://wild.example/oauth/*",
        "cursor://anysphere.cursor-mcp/oauth/callback",
        "com.example.app:/oauth",
    ];
    Rules::new(true, true, &allowed.map(str::to_owned)).unwrap()
}

fn verdict(uri: &str) -> Result<(), Rule> {
    RedirectUri::parse(uri).and_then(|uri| rules().check(&uri)).map_err(|refusal| {
        // The text names both.
        assert!(refusal.to_string().contains(refusal.rule.text()));
        assert!(refusal.to_string().contains(&refusal.uri) && uri.starts_with(&refusal.uri));
        refusal.rule
    })
}

#[test]
fn a7_redirect_uris_that_may_be_registered() {
    for good in [
        "https://app.example/cb",
        "https://wild.example/oauth/",
        "https://wild.example/oauth/a/b?x=1",
        "http://localhost/cb",
        "http://localhost:33418/",
        "http://127.0.0.1:1/cb?x=y",
        "http://127.0.0.1",
        "http://[::1]:8080/cb",
        "cursor://anysphere.cursor-mcp/oauth/callback",
        "com.example.app:/oauth",
    ] {
        assert_eq!(verdict(good), Ok(()), "{good}");
    }
}

#[test]
fn a7_redirect_uris_that_may_not() {
    use Rule::{Characters, Credentials, DotSegments, Fragment, NotListed, PlainHttp, Relative, Scheme};
    let long = format!("https://app.example/{}", "a".repeat(MAX));
    for (bad, rule) in [
        ("", Rule::Length),
        (long.as_str(), Rule::Length),
        ("https://evil.example/cb", NotListed),
        ("https://app.example/cb/", NotListed),
        ("https://app.example/cb?x=1", NotListed),
        ("https://app.example:8443/cb", NotListed),
        ("https://app.example.evil.example/cb", NotListed),
        ("https://wild.example/oauth", NotListed),
        ("https://wild.example/oauthevil", NotListed),
        ("https://wild.example.evil.example/oauth/", NotListed),
        ("https://wild.example/oauth/../admin", DotSegments),
        ("https://wild.example/oauth/%2e%2E/admin", DotSegments),
        ("https://wild.example/oauth/..%2fadmin", DotSegments),
        ("https://wild.example/oauth/%5c../admin", DotSegments),
        ("https://app.example/cb#", Fragment),
        ("https://app.example/cb#x", Fragment),
        ("https://app.example@evil.example/cb", Credentials),
        ("https://user:pw@app.example/cb", Credentials),
        ("https://@app.example/cb", Credentials),
        ("https://app.example\\@evil.example/cb", Characters),
        ("https://app.example/c b", Characters),
        ("https://app.example/cb\r\nX: y", Characters),
        ("https://app.example/\u{fc}", Characters),
        ("https://\u{430}pp.example/cb", Characters),
        ("https://*.example/cb", Rule::Host),
        ("https://*/cb", Rule::Host),
        ("https://APP.example/cb", Rule::Host),
        ("https://app.example./cb", Rule::Host),
        ("https://%61pp.example/cb", Rule::Host),
        ("https:///app.example/cb", Rule::Host),
        ("https:app.example/cb", Rule::Host),
        ("https://app.example:0443/cb", Rule::Host),
        ("https://app.example:99999/cb", Rule::Host),
        ("https://app.example:/cb", Rule::Host),
        ("http://0x7f.1/cb", Rule::Host),
        ("http://2130706433/cb", Rule::Host),
        ("http://127.1/cb", Rule::Host),
        ("http://[0:0:0:0:0:0:0:1]/cb", Rule::Host),
        ("HTTPS://app.example/cb", Scheme),
        ("http://app.example/cb", PlainHttp),
        ("http://127.0.0.2/cb", PlainHttp),
        ("http://[::ffff:7f00:1]/cb", PlainHttp),
        ("http://localhost.evil.example/cb", PlainHttp),
        ("http://127.0.0.1.evil.example/cb", PlainHttp),
        ("http://localhost@evil.example/cb", Credentials),
        ("http://0.0.0.0/cb", PlainHttp),
        ("javascript:alert(1)", Scheme),
        ("JavaScript:alert(1)", Scheme),
        ("data:text/html,x", Scheme),
        ("file:///etc/passwd", Scheme),
        ("vbscript:x", Scheme),
        ("blob:https://app.example/x", Scheme),
        ("intent://x#Intent;end", Fragment),
        ("cursor://anysphere.cursor-mcp/oauth/callback2", NotListed),
        ("cursor://evil/oauth/callback", NotListed),
        ("cursor:", Rule::Host),
        ("other.app:/oauth", NotListed),
        ("/cb", Relative),
        ("//app.example/cb", Relative),
        ("cb", Relative),
        ("?x:y", Relative),
        ("urn:ietf:wg:oauth:2.0:oob", NotListed),
    ] {
        assert_eq!(verdict(bad), Err(rule), "{bad}");
    }
}

#[test]
fn a7_loopback_can_be_switched_off() {
    let uri = |text| RedirectUri::parse(text).unwrap();
    let (localhost, v4, v6) = (uri("http://localhost:1/cb"), uri("http://127.0.0.1:1/cb"), uri("http://[::1]:1/cb"));
    let none = Rules::new(false, false, &[]).unwrap();
    assert_eq!(none.check(&localhost).unwrap_err().rule, Rule::Localhost);
    assert_eq!(none.check(&v4).unwrap_err().rule, Rule::Loopback);
    assert_eq!(none.check(&v6).unwrap_err().rule, Rule::Loopback);
    let only_names = Rules::new(true, false, &[]).unwrap();
    assert!(only_names.check(&localhost).is_ok() && only_names.check(&v4).is_err());
    // One that is listed counts with every port.
    let listed = Rules::new(false, false, &["http://127.0.0.1/cb".to_owned()]).unwrap();
    assert!(listed.check(&v4).is_ok() && listed.check(&v6).is_err() && listed.check(&localhost).is_err());
}

#[test]
fn a7_entries_that_allow_too_much_are_refused() {
    for bad in
        ["*", "https://*/*", "https://*.example/*", "https://a.example/x?/*", "http://a.example/*", "app:/*", "x"]
    {
        assert!(Rules::new(true, true, &[bad.to_owned()]).is_err(), "{bad}");
    }
}

#[test]
fn a9_redirects_match_exactly() {
    let is = |registered: &str, requested: &str| {
        let requested = RedirectUri::parse(requested);
        requested.is_ok_and(|requested| RedirectUri::parse(registered).unwrap().matches(&requested))
    };
    for (registered, requested) in [
        ("https://app.example/cb", "https://app.example/cb"),
        ("http://127.0.0.1/cb", "http://127.0.0.1:4711/cb"),
        ("http://127.0.0.1:1/cb", "http://127.0.0.1:2/cb"),
        ("http://127.0.0.1:1/cb", "http://127.0.0.1/cb"),
        ("http://[::1]/cb", "http://[::1]:9/cb"),
        ("http://localhost:1234/cb?a=b", "http://localhost:4321/cb?a=b"),
        ("http://localhost", "http://localhost:4321"),
    ] {
        assert!(is(registered, requested), "{registered} {requested}");
    }
    for (registered, requested) in [
        ("https://app.example/cb", "https://app.example/cb/"),
        ("https://app.example/cb", "https://app.example/cb?x"),
        ("https://app.example/cb", "https://app.example/CB"),
        ("https://app.example/cb", "https://app.example/%63b"),
        ("https://app.example/cb", "https://app.example:443/cb"),
        ("https://app.example/cb", "https://app.example:8443/cb"),
        ("https://app.example/cb", "http://app.example/cb"),
        ("https://app.example/cb", "https://app.example/cb/../cb"),
        ("http://127.0.0.1/cb", "http://localhost/cb"),
        ("http://localhost/cb", "http://127.0.0.1/cb"),
        ("http://127.0.0.1/cb", "http://[::1]/cb"),
        ("http://127.0.0.1/cb", "http://127.0.0.1:1/other"),
        ("http://127.0.0.1/cb", "https://127.0.0.1:1/cb"),
        ("https://127.0.0.1/cb", "https://127.0.0.1:1/cb"),
        ("http://127.0.0.1/cb", "http://127.0.0.1:80@evil.example/cb"),
        ("http://localhost/cb", "http://localhost:1.evil.example/cb"),
        ("app.example:/cb", "app.example:/cb2"),
    ] {
        assert!(!is(registered, requested), "{registered} {requested}");
    }
}

#[test]
fn a19_what_the_page_shows_of_a_redirect() {
    for (uri, host, origin) in [
        ("https://app.example:8443/cb?x", "app.example", "https://app.example:8443"),
        ("http://127.0.0.1:4711/cb", "127.0.0.1", "http://127.0.0.1:4711"),
        ("http://[::1]:4711/cb", "[::1]", "http://[::1]:4711"),
        ("cursor://anysphere.cursor-mcp/cb", "cursor:", "cursor:"),
    ] {
        let uri = RedirectUri::parse(uri).unwrap();
        assert_eq!((uri.host(), uri.origin()), (host, origin));
    }
}

proptest::proptest! {
    #[test]
    fn any_text_is_an_answer(text in "\\PC{0,80}") {
        let _ = RedirectUri::parse(&text);
    }

    #[test]
    fn a7_no_wildcard_leads_elsewhere(tail in "[ -~]{0,40}") {
        let text = format!("https://wild.example/oauth/{tail}");
        if verdict(&text).is_ok() {
            let url = Url::parse(&text).unwrap();
            proptest::prop_assert_eq!(url.host_str(), Some("wild.example"));
            proptest::prop_assert!(url.path().starts_with("/oauth/"), "{}", url);
        }
    }
}

#[test]
fn a8_redirects_that_stay_on_the_device() {
    for (uri, stays) in [
        ("http://127.0.0.1:4711/cb", true),
        ("http://localhost/cb", true),
        ("http://[::1]/cb", true),
        ("https://localhost/cb", true),
        ("https://tool.localhost:8443/cb", true),
        ("https://127.0.0.1/cb", true),
        ("https://127.8.9.1/cb", true),
        ("https://[::1]:8443/cb", true),
        ("https://[::ffff:127.0.0.1]/cb", true),
        ("https://[::ffff:7f00:1]/cb", true),
        ("https://0.0.0.0/cb", true),
        ("cursor://anysphere.cursor-mcp/oauth/callback", true),
        ("https://app.example/cb", false),
        ("https://localhost.example/cb", false),
        ("https://notlocalhost/cb", false),
        ("https://192.0.2.1/cb", false),
    ] {
        match RedirectUri::parse(uri) {
            Ok(parsed) => assert_eq!(parsed.stays_on_device(), stays, "{uri}"),
            Err(refusal) => assert_eq!(uri, "https://[::ffff:127.0.0.1]/cb", "{refusal}"),
        }
    }
}

#[test]
fn a7_custom_schemes_are_urls_as_well() {
    for bad in ["com.example.app://a]b/cb", "cursor://[x/cb", "com.example.app://a:99999999/cb"] {
        assert_eq!(RedirectUri::parse(bad).unwrap_err().rule, Rule::Host, "{bad}");
    }
}
