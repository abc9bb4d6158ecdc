//! Where people sign in, and the clients they use: plain data as written in files.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An OpenID Connect provider where people sign in (A2).
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentityProvider {
    /// Unique id: letters, digits, `-`, `_`.
    pub id: String,
    /// Name for people; default the id.
    #[serde(default)]
    pub name: Option<String>,
    /// Issuer, exactly as in its discovery document.
    pub issuer: String,
    /// bartizan's client id at the provider.
    pub client_id: String,
    /// Client secret; `${env:NAME}` and `${file:PATH}` are resolved at load. Absent: public client.
    #[serde(default)]
    pub client_secret: Option<String>,
    /// Scopes asked for. Default `openid email profile`.
    #[serde(default = "default_scopes")]
    pub scopes: Vec<String>,
    /// Domains of the e-mail addresses this provider speaks for. Needed when there are several providers.
    #[serde(default)]
    pub email_domains: Vec<String>,
    /// Which claims are used.
    #[serde(default)]
    pub claims: ClaimNames,
    /// Values of `amr` that count as a second factor (A4).
    #[serde(default = "default_amr")]
    pub mfa_amr: Vec<String>,
    /// Values of `acr` that count as a second factor.
    #[serde(default)]
    pub mfa_acr: Vec<String>,
    /// Clients may bring an identity assertion of this provider (ID-JAG) instead of sending
    /// the person through a browser (A15). Off by default.
    #[serde(default, skip_serializing_if = "is_no")]
    pub id_jag: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form serde asks for")]
fn is_no(value: &bool) -> bool {
    !*value
}

fn default_scopes() -> Vec<String> {
    ["openid", "email", "profile"].map(str::to_owned).into()
}

fn default_amr() -> Vec<String> {
    ["mfa", "otp", "hwk", "swk", "fpt", "face", "sc"].map(str::to_owned).into()
}

/// Names of claims.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClaimNames {
    /// E-mail address. Default `email`.
    pub email: String,
    /// Name for people. Default `name`.
    pub name: String,
    /// Groups: a list of texts. Default `groups`.
    pub groups: String,
    /// Further claims to keep for `idp_claim` selectors: at most 32, of at most 100 values of
    /// 256 bytes each.
    pub keep: Vec<String>,
}

impl Default for ClaimNames {
    fn default() -> Self {
        Self { email: "email".into(), name: "name".into(), groups: "groups".into(), keep: Vec::new() }
    }
}

/// An OAuth client known beforehand.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// The `client_id`.
    pub client_id: String,
    /// Name for people.
    pub name: String,
    /// Redirect URIs, exactly; the port of loopback addresses is free (RFC 8252).
    #[serde(default)]
    pub redirect_uris: Vec<String>,
    /// Secret of a confidential client; `${env:NAME}` and `${file:PATH}` are resolved at load.
    #[serde(default)]
    pub client_secret: Option<String>,
    /// Keys for `private_key_jwt`, a JWK set as JSON text.
    #[serde(default)]
    pub jwks: Option<String>,
}
