//! What a person can add to a running grant (feature rows A16, A17), as far as the gate
//! needs it: a link, and what the grant's sign-in tells now.

use std::sync::{Arc, OnceLock};

use bartizan_model::{PrincipalKind, SignInFacts};
use bartizan_policy::Need;
use futures_util::future::BoxFuture;

use crate::call::Caller;

/// What is asked, of whom.
#[derive(Clone, Copy, Debug)]
pub struct StepUp<'a> {
    /// Id of the principal.
    pub person: &'a str,
    /// Id of the grant that shall be able to do more.
    pub grant: &'a str,
    /// What is missing.
    pub need: &'a Need,
    /// What for, as a person knows it.
    pub about: &'a str,
}

/// Makes links and knows what became of them.
pub trait StepUps: Send + Sync {
    /// The address a person opens; `None` where there is none.
    fn link(&self, step_up: &StepUp<'_>) -> Option<String>;

    /// The facts of a grant as they are now, past all memory; `None` when it ended or that
    /// cannot be told.
    fn facts<'a>(&'a self, grant: &'a str) -> BoxFuture<'a, Option<Arc<SignInFacts>>>;
}

/// The way to them, once the gate was given one.
#[derive(Clone, Default)]
pub(crate) struct Door(Arc<OnceLock<Arc<dyn StepUps>>>);

impl Door {
    pub(crate) fn set(&self, step_ups: Arc<dyn StepUps>) {
        let _ = self.0.set(step_ups);
    }

    /// A link for this caller; only people with a grant have one.
    pub(crate) fn link(&self, caller: &Caller, need: &Need, about: &str) -> Option<String> {
        let grant = caller.circumstances.grant.as_deref()?;
        let person = (caller.principal.kind == PrincipalKind::User).then_some(&*caller.principal.id)?;
        self.0.get()?.link(&StepUp { person, grant, need, about })
    }

    /// What is known of the caller's sign-in now.
    pub(crate) async fn facts(&self, caller: &Caller) -> Option<Arc<SignInFacts>> {
        self.0.get()?.facts(caller.circumstances.grant.as_deref()?).await
    }
}
