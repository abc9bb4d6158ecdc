//! Signatures by the Standard Webhooks specification 1.0.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue};

/// The text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be `whsec_` and base64 of 24 to 64 bytes")]
pub struct BadKey;

/// The id is no header value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message's id cannot be sent")]
pub struct BadId;

/// A key that both sides know.
pub struct Key(hmac::Key);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// Reads `whsec_` and base64.
    ///
    /// # Errors
    /// [`BadKey`].
    pub fn parse(text: &str) -> Result<Self, BadKey> {
        let bytes = STANDARD.decode(text.strip_prefix("whsec_").ok_or(BadKey)?).map_err(|_| BadKey)?;
        (24..=64).contains(&bytes.len()).then(|| Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes))).ok_or(BadKey)
    }

    /// The three headers of a signed message. `id` is the same for every attempt.
    ///
    /// # Errors
    /// [`BadId`].
    pub fn headers(&self, id: &str, now_ms: i64, body: &[u8]) -> Result<HeaderMap, BadId> {
        let seconds = now_ms.div_euclid(1_000);
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("{id}.{seconds}.").as_bytes());
        context.update(body);
        let signature = format!("v1,{}", STANDARD.encode(context.sign().as_ref()));
        let value = |text: &str| HeaderValue::try_from(text).map_err(|_| BadId);
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", value(id)?);
        headers.insert("webhook-timestamp", value(&seconds.to_string())?);
        headers.insert("webhook-signature", value(&signature)?);
        Ok(headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l14_signatures_are_those_of_the_published_example() {
        // From the specification's test vectors.
        let key = Key::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let headers =
            key.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330_000, br#"{"test": 2432232314}"#).unwrap();
        assert_eq!(headers["webhook-timestamp"], "1614265330");
        assert_eq!(headers["webhook-signature"], "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn l14_bad_keys_and_ids_are_refused() {
        for bad in ["", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_", "whsec_AAAA", "whsec_%%%"] {
            assert_eq!(Key::parse(bad).err(), Some(BadKey), "{bad}");
        }
        let key = Key::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(key.headers("a\nb", 0, b"").err(), Some(BadId));
    }
}
