//! What a person could add to a refused request so that it would be allowed (A16, A17).

use std::sync::Arc;

use bartizan_config::Diagnostic;
use bartizan_config::resources::RequireMfa;
use bartizan_model::ReasonCode;

use crate::query::RequestContext;
use crate::simulate::Unknowns;
use crate::window::seconds;

/// The one thing that is missing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Need {
    /// A second factor, or a younger one.
    Mfa {
        /// How old it may be, seconds; `None`: as old as it is.
        max_age_s: Option<u32>,
        /// Authentication context class that the sign-in must reach.
        acr: Option<Arc<str>>,
    },
    /// What the access is for.
    Purpose,
}

impl Need {
    /// The refusal code.
    pub fn code(&self) -> ReasonCode {
        match self {
            Self::Mfa { .. } => ReasonCode::StepUpRequired,
            Self::Purpose => ReasonCode::PurposeRequired,
        }
    }
}

/// What a rule asks of those it lets in.
#[derive(Debug, Default)]
pub(crate) struct Requirement {
    mfa: Option<Factor>,
    purpose: bool,
}

#[derive(Clone, Debug, Default)]
struct Factor {
    max_age_s: Option<u32>,
    acr: Option<Arc<str>>,
}

impl Requirement {
    pub(crate) fn compile(
        mfa: Option<&RequireMfa>,
        purpose: bool,
        path: &str,
        findings: &mut Vec<Diagnostic>,
    ) -> Option<Self> {
        let mfa = mfa.map(|mfa| {
            let max_age_s = mfa.max_age.as_deref().and_then(|text| {
                let age = seconds(text);
                if age.is_none() {
                    let path = format!("{path}.require_mfa.max_age");
                    let message = format!("`{text}` is not an age between a second and 366 days");
                    findings.push(Diagnostic::new(path, "invalid_age", message).suggest("write it like `15m` or `8h`"));
                }
                age
            });
            if mfa.acr.as_deref().is_some_and(|acr| acr.is_empty() || acr.trim() != acr) {
                let message = "`acr` must not be empty or begin or end with spaces";
                findings.push(Diagnostic::new(format!("{path}.require_mfa.acr"), "invalid_selector", message));
            }
            Factor { max_age_s, acr: mfa.acr.as_deref().map(Into::into) }
        });
        (mfa.is_some() || purpose).then_some(Self { mfa, purpose })
    }

    /// Whether time alone can change what [`Self::missing`] says.
    pub(crate) fn ages(&self) -> bool {
        self.mfa.as_ref().is_some_and(|mfa| mfa.max_age_s.is_some())
    }

    /// What it asks for that is not known. Only a person can have it.
    pub(crate) fn unknown(&self, unknown: Unknowns, person: bool) -> Unknowns {
        let Some(factor) = self.mfa.as_ref().filter(|_| person) else { return Unknowns::NONE };
        let acr = if factor.acr.is_some() { Unknowns::ACR } else { Unknowns::NONE };
        Unknowns::MFA.and(acr).both(unknown)
    }

    /// What is not met.
    pub(crate) fn missing(&self, context: &RequestContext<'_>) -> Missing {
        let session = context.session.unwrap_or_default();
        let mfa = self.mfa.as_ref().filter(|mfa| {
            let young = session
                .mfa_age_ms(context.now_ms)
                .is_some_and(|age| mfa.max_age_s.is_none_or(|most| age <= i64::from(most) * 1_000));
            let reached = mfa.acr.as_deref().is_none_or(|acr| session.acr == Some(acr));
            !(young && reached)
        });
        let said = session.purpose.is_some_and(|purpose| !purpose.trim().is_empty());
        Missing { mfa: mfa.cloned(), purpose: self.purpose && !said }
    }
}

/// What is missing for all rules that a decision needs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Missing {
    mfa: Option<Factor>,
    purpose: bool,
}

impl Missing {
    pub(crate) fn factor(max_age_s: Option<u32>) -> Self {
        Self { mfa: Some(Factor { max_age_s, acr: None }), purpose: false }
    }

    pub(crate) fn is_nothing(&self) -> bool {
        self.mfa.is_none() && !self.purpose
    }

    pub(crate) fn lacks_purpose(&self) -> bool {
        self.purpose
    }

    /// Both.
    pub(crate) fn and(self, other: Self) -> Self {
        let mfa = match (self.mfa, other.mfa) {
            (Some(one), Some(two)) => Some(Factor {
                max_age_s: one.max_age_s.into_iter().chain(two.max_age_s).min(),
                acr: one.acr.or(two.acr),
            }),
            (one, two) => one.or(two),
        };
        Self { mfa, purpose: self.purpose || other.purpose }
    }

    /// What to ask for first.
    pub(crate) fn need(self) -> Option<Need> {
        match self.mfa {
            Some(Factor { max_age_s, acr }) => Some(Need::Mfa { max_age_s, acr }),
            None => self.purpose.then_some(Need::Purpose),
        }
    }
}
