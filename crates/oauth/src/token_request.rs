//! How a client proves who it is at a token endpoint (RFC 6749, section 2.3.1).

use bartizan_model::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::form_urlencoded::byte_serialize;
use zeroize::Zeroizing;

/// Ways with a shared secret, and without any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// `client_id` in the body; public clients.
    None,
    /// The header `Authorization: Basic`.
    Basic,
    /// `client_id` and `client_secret` in the body.
    Post,
}

impl ClientAuth {
    /// The way to use with a server that lists these methods. `None` when none of them can
    /// be used with what the client has. A server that lists nothing takes `Basic` (RFC 8414,
    /// section 2).
    pub fn choose(methods: Option<&[String]>, has_secret: bool) -> Option<Self> {
        let lists = |name: &str| methods.is_none_or(|methods| methods.iter().any(|method| method == name));
        match has_secret {
            false => Some(Self::None),
            true if lists("client_secret_basic") => Some(Self::Basic),
            true if lists("client_secret_post") => Some(Self::Post),
            true => None,
        }
    }
}

/// The value of `Authorization` for `Basic`. Both parts are form-encoded first, which many
/// forget and which matters for secrets with `:` or `%`.
pub fn basic(client_id: &str, secret: &Secret<String>) -> Secret<String> {
    let encode = |text: &str| -> String { byte_serialize(text.as_bytes()).collect() };
    let pair = Zeroizing::new(format!("{}:{}", encode(client_id), encode(secret.expose())));
    Secret::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a2_secrets_are_sent_the_way_the_server_takes() {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let choose = |names: &[&str], secret| ClientAuth::choose(Some(&list(names)), secret);
        assert_eq!(ClientAuth::choose(None, true), Some(ClientAuth::Basic));
        assert_eq!(choose(&["client_secret_post", "client_secret_basic"], true), Some(ClientAuth::Basic));
        assert_eq!(choose(&["client_secret_post"], true), Some(ClientAuth::Post));
        assert_eq!(choose(&["private_key_jwt"], true), None);
        assert_eq!(choose(&["client_secret_basic"], false), Some(ClientAuth::None));
        let value = basic("a:b", &Secret::new("p%:ä +".to_owned()));
        assert_eq!(value.expose(), &format!("Basic {}", STANDARD.encode("a%3Ab:p%25%3A%C3%A4+%2B")));
    }
}
