//! What the fuzzer runs, and what the tests run over seeds and generated input. Each
//! function takes any bytes, must not panic by itself, and checks what must hold.

use std::sync::OnceLock;

use bartizan_oauth::jwt::{Alg, Expect, Jwks, SigningAlg, SigningKey, Typ, verify};
use bartizan_oauth::redirect::{RedirectUri, Rules};
use bartizan_oauth::{challenge, registration, resource, safe_link, token_answer};

/// A fuzz target.
pub type Target = fn(&[u8]);

/// Every target by name.
pub const ALL: &[(&str, Target)] =
    &[("tokens", tokens), ("redirects", redirects), ("challenges", challenges), ("documents", documents)];

fn keys() -> &'static Jwks {
    static KEYS: OnceLock<Jwks> = OnceLock::new();
    KEYS.get_or_init(|| {
        let pkcs8 = SigningKey::generate(SigningAlg::Es256).unwrap();
        let key = SigningKey::from_pkcs8(SigningAlg::Es256, "one", &pkcs8).unwrap();
        Jwks::parse(format!("{{\"keys\":[{}]}}", key.public_jwk()).as_bytes()).unwrap()
    })
}

/// Nothing that was not signed with the key is a token, whatever it says of itself; and any
/// bytes may be offered as keys.
pub fn tokens(data: &[u8]) {
    let expect = Expect {
        issuer: "https://login.example",
        audience: "bartizan",
        algs: &Alg::ALL,
        typ: Typ::Plain,
        nonce: None,
        now_s: 1_000_000,
        leeway_s: i64::MAX,
        max_age_s: None,
    };
    let text = String::from_utf8_lossy(data);
    assert!(verify(&text, keys(), &expect).is_err(), "accepted: {text}");
    if let Ok(theirs) = Jwks::parse(data) {
        assert!(verify(&text, &theirs, &expect).is_err());
    }
}

/// A redirect URI that is accepted is what browsers and libraries take it for.
pub fn redirects(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(uri) = RedirectUri::parse(text) else { return };
    assert_eq!(uri.as_str(), text, "kept as it came");
    assert!(uri.matches(&uri));
    assert!(!text.bytes().any(|b| b.is_ascii_control() || b == b' ' || b == b'\\' || b == b'#'), "{text:?}");
    let url = url::Url::parse(text).expect("a URL library reads it");
    assert!(!["javascript", "data", "file", "vbscript", "blob"].contains(&url.scheme()), "{text:?}");
    if ["http", "https"].contains(&url.scheme()) {
        let host = url.host_str().unwrap_or_default();
        assert_eq!(host.trim_matches(['[', ']']), uri.host().trim_matches(['[', ']']), "{text:?}: another host");
        assert!(url.username().is_empty() && url.password().is_none(), "{text:?}");
    }
    // Nothing is allowed that nobody wrote down.
    let closed = Rules::new(false, false, &[]).unwrap();
    assert!(closed.check(&uri).is_err(), "{text:?}");
    if safe_link(text).is_some() {
        assert!(["http", "https"].contains(&url.scheme()), "{text:?}");
    }
}

/// What is read from a challenge can be written and read again.
pub fn challenges(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for found in challenge::parse(text).unwrap_or_default() {
        // What no header may hold is left out on the way back.
        let plain = |text: &str| text.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
        if found.is_bearer() && found.get("resource_metadata").is_none_or(plain) {
            let again = challenge::parse(&found.to_header()).unwrap_or_default();
            let metadata = again.first().and_then(|again| again.get("resource_metadata"));
            assert_eq!(metadata, found.get("resource_metadata"), "{text:?}");
        }
    }
}

/// Documents and answers of any kind are read or refused; the canonical form is a fixed point.
pub fn documents(data: &[u8]) {
    let _request = registration::parse_request(data);
    let _answer = token_answer::parse(200, data);
    let text = String::from_utf8_lossy(data);
    if let Some(canonical) = resource::canonical(&text) {
        assert_eq!(resource::canonical(&canonical).as_deref(), Some(canonical.as_str()), "{text:?}");
    }
}
