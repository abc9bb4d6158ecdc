//! What a sign-in and a connection prove about a caller.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Facts about the caller's session. Those that Cedar knows are optional members of its
/// `context`, absent when they are not known. Groups are the principal's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionFacts<'a> {
    /// There is a sign-in behind the credential, and a person who can add to it. Then an
    /// absent second factor is known to be absent, and can be asked for.
    pub signed_in: bool,
    /// When the user last proved a second factor, milliseconds since the epoch;
    /// `context.mfa_age` is the age in whole seconds.
    pub mfa_at_ms: Option<i64>,
    /// Authentication context class (`acr`, OpenID Connect Core §2); `context.acr`.
    pub acr: Option<&'a str>,
    /// Id or posture tag of the device; `context.device`.
    pub device: Option<&'a str>,
    /// ISO 3166-1 alpha-2, upper case; `context.country`.
    pub country: Option<&'a str>,
    /// What the user said the access is for (A16); `context.purpose`.
    pub purpose: Option<&'a str>,
    /// OAuth client that the credential was issued to; `context.client_id`.
    pub client_id: Option<&'a str>,
    /// Claims of the sign-in that are kept; for short-form rules only.
    pub claims: Option<&'a BTreeMap<Arc<str>, Vec<Arc<str>>>>,
}

/// How far another machine's clock may be ahead, milliseconds.
const SKEW_MS: i64 = 60_000;

impl SessionFacts<'_> {
    /// Milliseconds since the second factor. A time in the future, beyond what clocks differ,
    /// is no proof of anything.
    pub(crate) fn mfa_age_ms(&self, now_ms: i64) -> Option<i64> {
        let age = now_ms.checked_sub(self.mfa_at_ms?)?;
        (age >= -SKEW_MS).then(|| age.max(0))
    }

    /// The same in whole seconds.
    pub(crate) fn mfa_age_s(&self, now_ms: i64) -> Option<i64> {
        self.mfa_age_ms(now_ms).map(|age| age / 1_000)
    }

    /// When [`Self::mfa_age_s`] is next something else than now; never without a second factor.
    pub(crate) fn next_age_ms(&self, now_ms: i64) -> Option<i64> {
        let at_ms = self.mfa_at_ms?;
        match self.mfa_age_s(now_ms) {
            Some(age) => age.checked_add(1)?.checked_mul(1_000)?.checked_add(at_ms),
            None => at_ms.checked_sub(SKEW_MS).filter(|at| *at > now_ms),
        }
    }
}
