//! What a sign-in told, as it is kept on browser sessions and grants (A4, A16).

use std::collections::BTreeMap;
use std::sync::Arc;

use bartizan_config::resources::IdentityProvider;
use bartizan_model::SignInFacts;
use serde::{Deserialize, Serialize};

/// Facts of a sign-in beyond who and when. Members that are not there say nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeptFacts {
    /// When the person last proved a second factor, milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mfa_at_ms: Option<i64>,
    /// The claims that `claims.keep` of the provider names, as texts.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, Vec<String>>,
    /// What the person said the access is for. Only on grants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
}

/// When a sign-in proved a second factor: at its `auth_time`, when one of its methods or its
/// class is on the provider's list. Values are compared exactly. A provider that does not
/// say when has proved nothing, and a clock that runs ahead makes nothing younger than now.
pub(crate) fn mfa_at(
    provider: &IdentityProvider,
    auth_time_ms: i64,
    amr: &[String],
    acr: Option<&str>,
    now_ms: i64,
) -> Option<i64> {
    let by_method = amr.iter().any(|method| provider.mfa_amr.contains(method));
    let by_class = acr.is_some_and(|acr| provider.mfa_acr.iter().any(|known| known == acr));
    (auth_time_ms > 0 && (by_method || by_class)).then(|| auth_time_ms.min(now_ms))
}

/// As policies see them.
pub(crate) fn for_policies(
    provider: &str,
    auth_time_ms: i64,
    amr: &[String],
    acr: Option<&str>,
    kept: &KeptFacts,
) -> SignInFacts {
    let texts = |list: &[String]| list.iter().map(|text| Arc::from(text.as_str())).collect::<Vec<Arc<str>>>();
    SignInFacts {
        provider: provider.into(),
        auth_time_ms: (auth_time_ms != 0).then_some(auth_time_ms),
        mfa_at_ms: kept.mfa_at_ms,
        amr: texts(amr),
        acr: acr.map(Into::into),
        claims: kept.claims.iter().map(|(name, values)| (name.as_str().into(), texts(values))).collect(),
        purpose: kept.purpose.as_deref().map(Into::into),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(more: serde_json::Value) -> IdentityProvider {
        let mut value = serde_json::json!({"id": "corp", "issuer": "https://idp.example", "client_id": "c"});
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(value).unwrap()
    }

    fn proved(provider: &IdentityProvider, at: i64, amr: &[&str], acr: Option<&str>) -> Option<i64> {
        let amr: Vec<String> = amr.iter().map(|text| (*text).to_owned()).collect();
        mfa_at(provider, at, &amr, acr, 5_000)
    }

    #[test]
    fn a4_a_second_factor_is_what_the_list_says_and_nothing_like_it() {
        let usual = provider(serde_json::json!({}));
        for good in ["mfa", "otp", "hwk", "swk", "fpt", "face", "sc"] {
            assert_eq!(proved(&usual, 1_000, &["pwd", good], None), Some(1_000), "{good}");
        }
        for bad in ["pwd", "sms", "MFA", "mfa ", "mfa,otp", "", "m\u{200b}fa"] {
            assert_eq!(proved(&usual, 1_000, &[bad], Some("mfa")), None, "{bad}");
        }
        let own = provider(serde_json::json!({"mfa_amr": ["sms"], "mfa_acr": ["phr"]}));
        assert_eq!(proved(&own, 1_000, &["sms"], None), Some(1_000));
        assert_eq!(proved(&own, 1_000, &["pwd"], Some("phr")), Some(1_000));
        assert_eq!(proved(&own, 1_000, &["mfa"], Some("phrh")), None);
    }

    #[test]
    fn a4_without_a_time_nothing_is_proved_and_a_fast_clock_gains_nothing() {
        let usual = provider(serde_json::json!({}));
        assert_eq!(proved(&usual, 0, &["mfa"], None), None);
        assert_eq!(proved(&usual, -1, &["mfa"], None), None);
        assert_eq!(proved(&usual, 60_000, &["mfa"], None), Some(5_000), "not in the future");
    }
}
