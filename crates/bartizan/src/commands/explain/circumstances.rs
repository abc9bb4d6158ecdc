//! Under which circumstances: what a sign-in and a connection would prove (A3, A4, A16).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bartizan_config::resources::Resources;
use bartizan_model::{Era, Principal, PrincipalKind};
use bartizan_policy::{SessionFacts, parse_rfc3339};
use clap::{Args, ValueEnum};

/// What policies may look at, as far as the command line says it.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Circumstances {
    /// Version the client gives itself.
    #[arg(long, value_name = "VERSION")]
    client_version: Option<String>,
    /// Era of the client.
    #[arg(long, value_name = "ERA", default_value = "modern")]
    era: Spoken,
    /// OAuth client that the credential was issued to.
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// Country of the address, two letters.
    #[arg(long, value_name = "CC", value_parser = country)]
    country: Option<String>,
    /// Identity or posture tag of the device.
    #[arg(long, value_name = "TAG")]
    device: Option<String>,
    /// The user has signed in at the identity provider, with nothing more than the following say.
    #[arg(long)]
    signed_in: bool,
    /// How long ago the user proved a second factor, e.g. `10m`; absent: never.
    #[arg(long, value_name = "TIME", value_parser = age)]
    mfa_age: Option<Duration>,
    /// Authentication context class of the sign-in.
    #[arg(long, value_name = "ACR")]
    acr: Option<String>,
    /// What the user said the access is for.
    #[arg(long, value_name = "TEXT")]
    purpose: Option<String>,
    /// Claim of the sign-in that is kept for rules; can be given several times.
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim)]
    claims: Vec<(String, String)>,
    /// When the call is made (RFC 3339); absent: now.
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<i64>,
}

/// An era on the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Spoken {
    /// With a handshake and sessions.
    Legacy,
    /// 2026-07-28.
    #[default]
    Modern,
}

/// Circumstances of one question.
pub(super) struct Known {
    given: Circumstances,
    signed_in: bool,
    claims: BTreeMap<Arc<str>, Vec<Arc<str>>>,
    now_ms: i64,
}

impl Circumstances {
    /// Whether anything says that there was a sign-in.
    fn tells_of_sign_in(&self) -> bool {
        let facts = self.mfa_age.is_some() || self.acr.is_some() || self.purpose.is_some();
        self.signed_in || facts || !self.claims.is_empty()
    }

    /// For this caller, now or at the time that was given.
    ///
    /// # Errors
    /// What does not fit, as a sentence.
    pub(super) fn of(&self, principal: &Principal, resources: &Resources, now_ms: i64) -> Result<Known, String> {
        let signed_in = self.tells_of_sign_in();
        if signed_in && principal.kind != PrincipalKind::User {
            return Err("only users sign in; leave out what a sign-in tells".to_owned());
        }
        // A sign-in tells of each claim that is kept, also that it is absent.
        let kept = resources.identity_providers.iter().flat_map(|provider| &provider.claims.keep);
        let mut claims: BTreeMap<Arc<str>, Vec<Arc<str>>> =
            kept.filter(|_| signed_in).map(|name| (name.as_str().into(), Vec::new())).collect();
        for (name, value) in &self.claims {
            match claims.get_mut(name.as_str()) {
                Some(values) => values.push(value.as_str().into()),
                None => return Err(format!("no identity provider keeps the claim `{name}` (`claims.keep`)")),
            }
        }
        Ok(Known { given: self.clone(), signed_in, claims, now_ms: self.at.unwrap_or(now_ms) })
    }
}

impl Known {
    /// When the call is made, milliseconds since the epoch.
    pub(super) fn now_ms(&self) -> i64 {
        self.now_ms
    }

    pub(super) fn era(&self) -> Era {
        match self.given.era {
            Spoken::Legacy => Era::Legacy,
            Spoken::Modern => Era::Modern,
        }
    }

    pub(super) fn client_version(&self) -> Option<&str> {
        self.given.client_version.as_deref()
    }

    /// What policies see of sign-in and connection.
    pub(super) fn session(&self) -> SessionFacts<'_> {
        let given = &self.given;
        let age_ms = |age: Duration| i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        SessionFacts {
            signed_in: self.signed_in,
            mfa_at_ms: given.mfa_age.map(|age| self.now_ms.saturating_sub(age_ms(age))),
            acr: given.acr.as_deref(),
            device: given.device.as_deref(),
            country: given.country.as_deref(),
            purpose: given.purpose.as_deref(),
            client_id: given.client_id.as_deref(),
            claims: self.signed_in.then_some(&self.claims),
        }
    }
}

fn age(text: &str) -> Result<Duration, String> {
    // Just now is an age too.
    if text == "0s" { Ok(Duration::ZERO) } else { crate::duration::parse(text) }
}

fn country(text: &str) -> Result<String, String> {
    let two = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_alphabetic());
    if two { Ok(text.to_ascii_uppercase()) } else { Err("write two letters, as in `AT`".to_owned()) }
}

fn claim(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    pair.map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or_else(|| "write NAME=VALUE".to_owned())
}

fn time(text: &str) -> Result<i64, String> {
    parse_rfc3339(text).ok_or_else(|| "write it like `2026-11-22T08:30:00Z`".to_owned())
}
