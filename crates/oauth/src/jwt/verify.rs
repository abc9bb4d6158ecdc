//! Verification (RFC 7515, section 5.2; RFC 8725; OpenID Connect Core, section 3.1.3.7).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::{Alg, Claims, Jwks, JwtError, MAX_TOKEN};

/// Keys that are tried for a token that names none.
const MAX_TRIES: usize = 16;

/// Which `typ` is accepted, so that no other kind of token passes (RFC 8725, section 3.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Typ<'a> {
    /// None, or `JWT`: ID tokens.
    Plain,
    /// Exactly this one, with or without `application/`.
    Exactly(&'a str),
}

/// What a token must be.
#[derive(Clone, Copy, Debug)]
pub struct Expect<'a> {
    /// `iss`, byte for byte.
    pub issuer: &'a str,
    /// Must be among `aud`. With several, and whenever `azp` is there, `azp` must be it too.
    pub audience: &'a str,
    /// Accepted algorithms.
    pub algs: &'a [Alg],
    /// Accepted type.
    pub typ: Typ<'a>,
    /// The nonce that was sent, if one was.
    pub nonce: Option<&'a str>,
    /// Now, seconds since the epoch.
    pub now_s: i64,
    /// How far clocks may differ, seconds.
    pub leeway_s: i64,
    /// The person must have authenticated within this time, seconds.
    pub max_age_s: Option<u64>,
}

/// Checks a token in compact form and returns its claims.
///
/// # Errors
/// [`JwtError`]. Claims are looked at only after the signature was found good.
pub fn verify(token: &str, keys: &Jwks, expect: &Expect<'_>) -> Result<Claims, JwtError> {
    if token.len() > MAX_TOKEN {
        return Err(JwtError::Malformed);
    }
    let (message, signature) = token.rsplit_once('.').ok_or(JwtError::Malformed)?;
    let (header, payload) =
        message.split_once('.').filter(|(_, rest)| !rest.contains('.')).ok_or(JwtError::Malformed)?;
    let header = object(header)?;
    let alg = check_header(&header, expect)?;
    let kid = match header.get("kid") {
        None => None,
        Some(Value::String(kid)) => Some(kid.as_str()),
        Some(_) => return Err(JwtError::Malformed),
    };
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| JwtError::Malformed)?;
    check_signature(keys, kid, alg, message.as_bytes(), &signature)?;
    let claims = Claims(object(payload)?);
    check_claims(&claims, expect)?;
    Ok(claims)
}

fn object(part: &str) -> Result<Map<String, Value>, JwtError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| JwtError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| JwtError::Malformed)
}

/// Keys that travel in the header (`jwk`, `jku`, `x5c`, `x5u`) are never looked at.
fn check_header(header: &Map<String, Value>, expect: &Expect<'_>) -> Result<Alg, JwtError> {
    let alg = header.get("alg").and_then(Value::as_str).ok_or(JwtError::Malformed)?;
    let alg = Alg::parse(alg).filter(|alg| expect.algs.contains(alg)).ok_or(JwtError::Algorithm)?;
    if header.contains_key("crit") {
        return Err(JwtError::Critical);
    }
    let typ = match header.get("typ") {
        None => None,
        Some(Value::String(typ)) => Some(typ.as_str()),
        Some(_) => return Err(JwtError::Type),
    };
    let typ = typ.map(|typ| typ.strip_prefix("application/").unwrap_or(typ));
    let good = match expect.typ {
        Typ::Plain => typ.is_none_or(|typ| typ.eq_ignore_ascii_case("JWT")),
        Typ::Exactly(wanted) => typ.is_some_and(|typ| typ.eq_ignore_ascii_case(wanted)),
    };
    if good { Ok(alg) } else { Err(JwtError::Type) }
}

fn check_signature(keys: &Jwks, kid: Option<&str>, alg: Alg, message: &[u8], signature: &[u8]) -> Result<(), JwtError> {
    let mut tried = false;
    for key in keys.candidates(kid, alg).take(MAX_TRIES) {
        if key.verifies(alg, message, signature) {
            return Ok(());
        }
        tried = true;
    }
    // Without a name nobody can tell a wrong signature from a new key.
    if tried && kid.is_some() { Err(JwtError::Signature) } else { Err(JwtError::UnknownKey) }
}

fn check_claims(claims: &Claims, expect: &Expect<'_>) -> Result<(), JwtError> {
    if claims.text("iss") != Some(expect.issuer) {
        return Err(JwtError::Issuer);
    }
    check_audience(claims, expect.audience)?;
    let (now, leeway) = (expect.now_s, expect.leeway_s);
    let exp = claims.seconds("exp").ok_or(JwtError::Claim("exp"))?;
    if now.saturating_sub(leeway) >= exp {
        return Err(JwtError::Expired);
    }
    let iat = claims.seconds("iat").ok_or(JwtError::Claim("iat"))?;
    let latest = now.saturating_add(leeway);
    if iat > latest {
        return Err(JwtError::Future);
    }
    if claims.get("nbf").is_some() && claims.seconds("nbf").ok_or(JwtError::Claim("nbf"))? > latest {
        return Err(JwtError::Future);
    }
    if expect.nonce.is_some_and(|nonce| claims.text("nonce") != Some(nonce)) {
        return Err(JwtError::Nonce);
    }
    if let Some(max_age) = expect.max_age_s {
        let at = claims.seconds("auth_time").ok_or(JwtError::Claim("auth_time"))?;
        let oldest = now.saturating_sub(leeway).saturating_sub(i64::try_from(max_age).unwrap_or(i64::MAX));
        if at < oldest {
            return Err(JwtError::TooOld);
        }
    }
    if claims.get("auth_time").is_some() && claims.seconds("auth_time").ok_or(JwtError::Claim("auth_time"))? > latest {
        return Err(JwtError::Future);
    }
    if claims.text("sub").is_none_or(|sub| sub.len() > 255 || sub.chars().any(char::is_control)) {
        return Err(JwtError::Claim("sub"));
    }
    Ok(())
}

fn check_audience(claims: &Claims, audience: &str) -> Result<(), JwtError> {
    let (ours, several) = match claims.get("aud") {
        Some(Value::String(aud)) => (aud == audience, false),
        Some(Value::Array(list)) => (list.iter().any(|aud| aud.as_str() == Some(audience)), list.len() > 1),
        _ => return Err(JwtError::Claim("aud")),
    };
    let azp = match claims.get("azp") {
        None | Some(Value::Null) => !several,
        Some(azp) => azp.as_str() == Some(audience),
    };
    if ours && azp { Ok(()) } else { Err(JwtError::Audience) }
}
