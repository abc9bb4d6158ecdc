//! Who the person is at the upstream, for the person's own eyes.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// Longest ID token that is looked at, bytes.
const MAX: usize = 32 * 1024;
/// Longest name, characters.
const MAX_NAME: usize = 200;
/// Where a name may be, the best first (OpenID Connect Core, section 5.1).
const NAMES: [&str; 6] = ["email", "preferred_username", "upn", "login", "name", "sub"];

/// The name in an ID token of this issuer for this client. The token came from the token
/// endpoint itself, so that its signature is not looked at (OpenID Connect Core, section
/// 3.1.3.7): nothing is decided by the name, it is only shown to who connected the account.
pub(crate) fn whom(id_token: &str, issuer: &str, client: &str) -> Option<String> {
    if id_token.len() > MAX {
        return None;
    }
    let payload = URL_SAFE_NO_PAD.decode(id_token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str).filter(|text| !text.trim().is_empty());
    let audience = match claims.get("aud")? {
        Value::String(one) => one == client,
        Value::Array(all) => all.iter().any(|one| one == client),
        _ => false,
    };
    if text("iss") != Some(issuer) || !audience {
        return None;
    }
    let name = NAMES.iter().find_map(|name| text(name))?;
    Some(name.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect())
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use serde_json::{Value, json};

    use super::*;

    fn token(claims: &Value) -> String {
        format!("e30.{}.x", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    #[test]
    fn p57_the_best_name_is_shown() {
        for (claims, wanted) in [
            (json!({"iss": "i", "aud": "c", "sub": "7", "name": "Ana", "email": "a@b.example"}), Some("a@b.example")),
            (json!({"iss": "i", "aud": ["x", "c"], "sub": "7", "email": " ", "login": "ana"}), Some("ana")),
            (json!({"iss": "i", "aud": "c", "sub": "7"}), Some("7")),
            (json!({"iss": "other", "aud": "c", "sub": "7"}), None),
            (json!({"iss": "i", "aud": "other", "sub": "7"}), None),
            (json!({"iss": "i", "sub": "7"}), None),
            (json!({"iss": "i", "aud": "c", "sub": 7}), None),
            (json!([]), None),
        ] {
            assert_eq!(whom(&token(&claims), "i", "c").as_deref(), wanted, "{claims}");
        }
        for bad in ["", "a.b", "a.!.c", "a.e30", &"x".repeat(MAX + 1)] {
            assert_eq!(whom(bad, "i", "c"), None);
        }
        let long = json!({"iss": "i", "aud": "c", "sub": "\u{7}x".repeat(1000)});
        assert_eq!(whom(&token(&long), "i", "c").map(|name| name.len()), Some(MAX_NAME));
    }
}
