//! The gate's links to step-up pages, by those who make and take them.

use std::sync::Arc;

use bartizan_gate::{Need, StepUp};
use bartizan_identity::{StepUps, Want};
use bartizan_model::SignInFacts;
use futures_util::future::BoxFuture;

/// What the gate asks.
pub(crate) struct Links(pub(crate) StepUps);

impl bartizan_gate::StepUps for Links {
    fn link(&self, ask: &StepUp<'_>) -> Option<String> {
        let want = match ask.need {
            Need::Mfa { max_age_s, acr } => {
                Want::Mfa { max_age_s: max_age_s.unwrap_or(u32::MAX), acr: acr.as_deref().map(str::to_owned) }
            }
            Need::Purpose => Want::Purpose,
        };
        self.0.link(&bartizan_identity::StepUp {
            person: ask.person.to_owned(),
            grant: ask.grant.to_owned(),
            want,
            about: ask.about.to_owned(),
        })
    }

    fn facts<'a>(&'a self, grant: &'a str) -> BoxFuture<'a, Option<Arc<SignInFacts>>> {
        Box::pin(async move {
            match self.0.facts(grant).await {
                Ok(facts) => facts,
                Err(error) => {
                    tracing::warn!(%error, "what a grant's sign-in tells could not be read");
                    None
                }
            }
        })
    }
}
