//! What a sign-in told about a person, for policies.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Facts of one sign-in at an identity provider, as they stand on a browser session and on
/// the grants made from it. A step-up replaces them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SignInFacts {
    /// Id of the identity provider.
    pub provider: Arc<str>,
    /// When the person authenticated there, milliseconds since the epoch (`auth_time`);
    /// `None`: the provider did not say.
    pub auth_time_ms: Option<i64>,
    /// When the person last proved a second factor, milliseconds since the epoch: the
    /// `auth_time` of a sign-in whose `amr` or `acr` the provider's configuration accepts (A4).
    pub mfa_at_ms: Option<i64>,
    /// Authentication methods (RFC 8176).
    pub amr: Vec<Arc<str>>,
    /// Authentication context class (OpenID Connect Core, section 2).
    pub acr: Option<Arc<str>>,
    /// Claims that the configuration asks to keep (`idp_claim` selectors), as texts.
    pub claims: BTreeMap<Arc<str>, Vec<Arc<str>>>,
    /// What the person said the access is for (A16).
    pub purpose: Option<Arc<str>>,
}
