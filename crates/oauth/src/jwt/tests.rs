//! Tokens as attackers make them.

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const NOW: i64 = 1_800_000_000;
const ISSUER: &str = "https://idp.example";

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn message(header: &Value, claims: &Value) -> String {
    format!("{}.{}", b64(header.to_string()), b64(claims.to_string()))
}

struct Rsa(RsaKeyPair);

impl Rsa {
    fn new(size: KeySize) -> Self {
        Self(RsaKeyPair::generate(size).unwrap())
    }

    fn jwk(&self, kid: &str) -> Value {
        let public = self.0.public_key();
        let (n, e) =
            (public.modulus().big_endian_without_leading_zero(), public.exponent().big_endian_without_leading_zero());
        json!({"kty": "RSA", "kid": kid, "use": "sig", "n": b64(n), "e": b64(e)})
    }

    fn sign(&self, how: &'static dyn RsaEncoding, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0.sign(how, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
        format!("{message}.{}", b64(signature))
    }
}

fn key(alg: SigningAlg, kid: &str) -> SigningKey {
    SigningKey::from_pkcs8(alg, kid, &SigningKey::generate(alg).unwrap()).unwrap()
}

fn set(keys: &[Value]) -> Jwks {
    Jwks::parse(json!({"keys": keys}).to_string().as_bytes()).unwrap()
}

fn good() -> Value {
    json!({"iss": ISSUER, "aud": "client", "sub": "ana", "exp": NOW + 300, "iat": NOW, "nonce": "n"})
}

fn with(changes: Value) -> Value {
    let mut claims = good();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

fn expect() -> Expect<'static> {
    Expect {
        issuer: ISSUER,
        audience: "client",
        algs: &Alg::ALL,
        typ: Typ::Plain,
        nonce: Some("n"),
        now_s: NOW,
        leeway_s: 60,
        max_age_s: None,
    }
}

fn signed(key: &SigningKey, claims: &Value) -> String {
    key.sign("JWT", claims.as_object().unwrap()).unwrap().expose().clone()
}

#[test]
fn a2_good_tokens_of_each_algorithm_are_believed() {
    let rsa = Rsa::new(KeySize::Rsa2048);
    let (ec, ed) = (key(SigningAlg::Es256, "ec"), key(SigningAlg::EdDsa, "ed"));
    let keys = set(&[rsa.jwk("rsa"), ec.public_jwk(), ed.public_jwk()]);
    assert_eq!(keys.len(), 3);
    for token in [
        rsa.sign(&RSA_PKCS1_SHA256, &json!({"alg": "RS256", "kid": "rsa"}), &good()),
        rsa.sign(&RSA_PKCS1_SHA256, &json!({"alg": "RS256"}), &good()),
        rsa.sign(&RSA_PSS_SHA256, &json!({"alg": "PS256", "kid": "rsa", "typ": "jwt"}), &good()),
        signed(&ec, &good()),
        signed(&ed, &good()),
    ] {
        let claims = verify(&token, &keys, &expect()).unwrap();
        assert_eq!(claims.text("sub"), Some("ana"));
    }
}

#[test]
fn a2_wrong_algorithms_are_refused() {
    let rsa = Rsa::new(KeySize::Rsa2048);
    let ec = key(SigningAlg::Es256, "ec");
    let keys = set(&[rsa.jwk("rsa"), ec.public_jwk()]);
    // No signature at all.
    for alg in ["none", "None", "NONE", "nOnE", "", "HS256", "rs256", "RS1", "ES512"] {
        let unsigned = message(&json!({"alg": alg, "kid": "rsa"}), &good());
        for signature in ["", "AAAA"] {
            let token = format!("{unsigned}.{signature}");
            assert_eq!(verify(&token, &keys, &expect()), Err(JwtError::Algorithm), "{alg}");
        }
    }
    // The public key as shared secret, in the forms in which libraries were fooled.
    let public = rsa.0.public_key();
    for secret in [
        public.as_ref().to_vec(),
        rsa.jwk("rsa").to_string().into_bytes(),
        public.modulus().big_endian_without_leading_zero().to_vec(),
    ] {
        let unsigned = message(&json!({"alg": "HS256", "kid": "rsa"}), &good());
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), unsigned.as_bytes());
        assert_eq!(verify(&format!("{unsigned}.{}", b64(tag)), &keys, &expect()), Err(JwtError::Algorithm));
    }
    // A signature by one kind of key under the name of another kind.
    let crossed = rsa.sign(&RSA_PKCS1_SHA256, &json!({"alg": "ES256", "kid": "rsa"}), &good());
    assert_eq!(verify(&crossed, &keys, &expect()), Err(JwtError::UnknownKey));
    let crossed = rsa.sign(&RSA_PKCS1_SHA256, &json!({"alg": "ES256", "kid": "ec"}), &good());
    assert_eq!(verify(&crossed, &keys, &expect()), Err(JwtError::Signature));
    // PKCS#1 under the name of PSS.
    let crossed = rsa.sign(&RSA_PKCS1_SHA256, &json!({"alg": "PS256", "kid": "rsa"}), &good());
    assert_eq!(verify(&crossed, &keys, &expect()), Err(JwtError::Signature));
    // A good signature of an algorithm that the caller does not list.
    let token = rsa.sign(&RSA_PKCS1_SHA256, &json!({"alg": "RS256", "kid": "rsa"}), &good());
    let narrow = Expect { algs: &[Alg::Es256], ..expect() };
    assert_eq!(verify(&token, &keys, &narrow), Err(JwtError::Algorithm));
    // A key that is marked for another algorithm or use.
    for (name, value) in
        [("alg", json!("RS512")), ("alg", json!("RSA-OAEP")), ("use", json!("enc")), ("key_ops", json!(["encrypt"]))]
    {
        let mut jwk = rsa.jwk("rsa");
        jwk[name] = value;
        assert_eq!(verify(&token, &set(&[jwk]), &expect()), Err(JwtError::UnknownKey), "{name}");
    }
}

#[test]
fn a2_keys_that_travel_with_the_token_are_not_looked_at() {
    let (ours, theirs) = (key(SigningAlg::Es256, "k"), key(SigningAlg::Es256, "k"));
    let keys = set(&[ours.public_jwk()]);
    let header = json!({"alg": "ES256", "kid": "k", "jwk": theirs.public_jwk(), "jku": "https://evil.example/jwks", "x5u": "https://evil.example"});
    let forged = message(&header, &good());
    let signature = signed(&theirs, &good());
    let signature = signature.rsplit('.').next().unwrap();
    assert_eq!(verify(&format!("{forged}.{signature}"), &keys, &expect()), Err(JwtError::Signature));
    assert_eq!(verify(&signed(&theirs, &good()), &keys, &expect()), Err(JwtError::Signature));
    // Nothing signs when there are no keys.
    assert_eq!(verify(&signed(&ours, &good()), &Jwks::default(), &expect()), Err(JwtError::UnknownKey));
    let other = key(SigningAlg::Es256, "other");
    assert_eq!(verify(&signed(&other, &good()), &keys, &expect()), Err(JwtError::UnknownKey));
    // The same key as shared secret in the set.
    let oct = json!({"kty": "oct", "kid": "k", "k": b64("secret")});
    assert!(set(&[oct]).is_empty());
}

#[test]
fn a2_claims_of_the_token_are_checked() {
    let key = key(SigningAlg::EdDsa, "k");
    let keys = set(&[key.public_jwk()]);
    use JwtError::{Audience, Claim, Expired, Future, Issuer, Nonce};
    for (changes, error) in [
        (json!({"iss": "https://evil.example"}), Issuer),
        (json!({"iss": "https://idp.example/"}), Issuer),
        (json!({"iss": null}), Issuer),
        (json!({"iss": ["https://idp.example"]}), Issuer),
        (json!({"aud": "other"}), Audience),
        (json!({"aud": ["other", "another"]}), Audience),
        (json!({"aud": ["client", "other"]}), Audience),
        (json!({"aud": ["client", "other"], "azp": "other"}), Audience),
        (json!({"azp": "other"}), Audience),
        (json!({"azp": ["client"]}), Audience),
        (json!({"aud": "client "}), Audience),
        (json!({"aud": []}), Audience),
        (json!({"aud": null}), Claim("aud")),
        (json!({"aud": {"client": 1}}), Claim("aud")),
        (json!({"exp": NOW - 60}), Expired),
        (json!({"exp": 0}), Expired),
        (json!({"exp": null}), Claim("exp")),
        (json!({"exp": "9999999999"}), Claim("exp")),
        (json!({"exp": 1e300}), Claim("exp")),
        (json!({"iat": NOW + 61}), Future),
        (json!({"iat": null}), Claim("iat")),
        (json!({"nbf": NOW + 61}), Future),
        (json!({"nbf": "x"}), Claim("nbf")),
        (json!({"nonce": "m"}), Nonce),
        (json!({"nonce": null}), Nonce),
        (json!({"nonce": ["n"]}), Nonce),
        (json!({"sub": null}), Claim("sub")),
        (json!({"sub": ""}), Claim("sub")),
        (json!({"sub": 7}), Claim("sub")),
        (json!({"sub": "a\u{0}b"}), Claim("sub")),
        (json!({"sub": "x".repeat(256)}), Claim("sub")),
        (json!({"auth_time": NOW + 61}), Future),
        (json!({"auth_time": "now"}), Claim("auth_time")),
    ] {
        assert_eq!(verify(&signed(&key, &with(changes.clone())), &keys, &expect()), Err(error), "{changes}");
    }
    for changes in [
        json!({"exp": NOW - 59}),
        json!({"exp": 1_800_000_300.5}),
        json!({"iat": NOW + 60, "nbf": NOW + 60, "auth_time": NOW}),
        json!({"aud": ["client"]}),
        json!({"aud": ["client", "other"], "azp": "client"}),
    ] {
        assert!(verify(&signed(&key, &with(changes.clone())), &keys, &expect()).is_ok(), "{changes}");
    }
}

#[test]
fn a17_the_time_of_authentication_is_checked_when_asked_for() {
    let key = key(SigningAlg::EdDsa, "k");
    let keys = set(&[key.public_jwk()]);
    let asked = Expect { max_age_s: Some(900), ..expect() };
    let at = |time: Value| verify(&signed(&key, &with(json!({"auth_time": time}))), &keys, &asked).map(drop);
    assert_eq!(at(json!(NOW - 900)), Ok(()));
    assert_eq!(at(json!(NOW - 961)), Err(JwtError::TooOld));
    assert_eq!(at(Value::Null), Err(JwtError::Claim("auth_time")));
}

#[test]
fn a2_other_kinds_of_tokens_and_critical_headers_are_refused() {
    let key = key(SigningAlg::Es256, "k");
    let keys = set(&[key.public_jwk()]);
    let claims = good();
    let claims = claims.as_object().unwrap();
    for typ in ["at+jwt", "logout+jwt", "oauth-id-jag+jwt", "application/at+jwt"] {
        let token = key.sign(typ, claims).unwrap();
        assert_eq!(verify(token.expose(), &keys, &expect()), Err(JwtError::Type), "{typ}");
        let exactly = Expect { typ: Typ::Exactly(typ.trim_start_matches("application/")), ..expect() };
        assert!(verify(token.expose(), &keys, &exactly).is_ok(), "{typ}");
    }
    let plain = key.sign("JWT", claims).unwrap();
    let exactly = Expect { typ: Typ::Exactly("at+jwt"), ..expect() };
    assert_eq!(verify(plain.expose(), &keys, &exactly), Err(JwtError::Type));
    let rsa = Rsa::new(KeySize::Rsa2048);
    let keys = set(&[rsa.jwk("k")]);
    for (header, error) in [
        (json!({"alg": "RS256", "crit": ["exp"]}), JwtError::Critical),
        (json!({"alg": "RS256", "crit": ["b64"], "b64": false}), JwtError::Critical),
        (json!({"alg": "RS256", "kid": 7}), JwtError::Malformed),
        (json!({"alg": "RS256", "typ": 7}), JwtError::Type),
        (json!({"alg": ["RS256"]}), JwtError::Malformed),
        (json!({"kid": "k"}), JwtError::Malformed),
    ] {
        assert_eq!(verify(&rsa.sign(&RSA_PKCS1_SHA256, &header, &good()), &keys, &expect()), Err(error), "{header}");
    }
}

#[test]
fn a2_weak_and_broken_keys_are_passed_over() {
    let ed = key(SigningAlg::EdDsa, "k");
    let short = b64([7; 128]);
    let broken = [
        json!(7),
        json!({}),
        json!({"kty": "RSA"}),
        json!({"kty": "RSA", "n": "!!", "e": "AQAB"}),
        json!({"kty": "EC", "crv": "P-256", "x": b64([1; 31]), "y": b64([1; 32])}),
        json!({"kty": "EC", "crv": "secp256k1", "x": b64([1; 32]), "y": b64([1; 32])}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": b64([1; 31])}),
        json!({"kty": "oct", "k": "c2VjcmV0"}),
        json!({"kty": "new", "kid": "k"}),
        ed.public_jwk(),
    ];
    let keys = set(&broken);
    assert_eq!(keys.len(), 1);
    assert!(verify(&signed(&ed, &good()), &keys, &expect()).is_ok());
    // 1,024 bits: the form is good, but no signature is.
    let weak = set(&[json!({"kty": "RSA", "kid": "w", "n": short, "e": "AQAB"})]);
    let forged = format!("{}.{}", message(&json!({"alg": "RS256", "kid": "w"}), &good()), b64([0; 128]));
    assert_eq!(verify(&forged, &weak, &expect()), Err(JwtError::Signature));
    for bad in ["", "[]", "{}", "{\"keys\":{}}", "<html>"] {
        assert!(Jwks::parse(bad.as_bytes()).is_err(), "{bad}");
    }
    assert!(Jwks::parse(&vec![b' '; MAX_JWKS + 1]).is_err());
    let many: Vec<Value> = (0..1000).map(|_| ed.public_jwk()).collect();
    assert_eq!(set(&many).len(), 100);
}

#[test]
fn a2_broken_tokens_are_refused() {
    let key = key(SigningAlg::EdDsa, "k");
    let keys = set(&[key.public_jwk()]);
    let token = signed(&key, &good());
    let parts: Vec<&str> = token.split('.').collect();
    let huge = "a".repeat(MAX_TOKEN + 1);
    for bad in [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c",
        parts[0],
        &format!("{}.{}", parts[0], parts[1]),
        &format!("{token}.x"),
        &format!("{}.{}.{}.{}", parts[0], parts[1], parts[1], parts[2]),
        &format!("{token}="),
        &format!(" {token}"),
        &huge,
    ] {
        assert!(matches!(verify(bad, &keys, &expect()), Err(JwtError::Malformed)), "{bad:.40}");
    }
    // Each changed character of the signed text is noticed.
    for at in [0, parts[0].len() + 3, token.len() - 3] {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        assert!(verify(&String::from_utf8(bytes).unwrap(), &keys, &expect()).is_err(), "{at}");
    }
}

#[test]
fn a13_public_keys_hold_nothing_private() {
    for alg in [SigningAlg::Es256, SigningAlg::EdDsa] {
        let key = key(alg, "k");
        let jwk = key.public_jwk();
        assert!(jwk.get("d").is_none());
        assert_eq!((key.kid(), key.alg()), ("k", alg));
        assert_eq!(jwk["alg"], alg.alg().as_str());
    }
    let ed = SigningKey::generate(SigningAlg::EdDsa).unwrap();
    assert!(SigningKey::from_pkcs8(SigningAlg::Es256, "k", &ed).is_err());
}

proptest! {
    #[test]
    fn a2_any_text_is_judged_without_panic(token in "[A-Za-z0-9_.=-]{0,120}", set in "\\PC{0,80}") {
        prop_assert!(verify(&token, &Jwks::default(), &expect()).is_err());
        let _ = Jwks::parse(set.as_bytes());
    }
}
