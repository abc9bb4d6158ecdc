//! Links to the selection page: a sealed handle, good for ten minutes, one person and one
//! use (features 1.3).

use std::sync::Arc;

use bartizan_model::{EventId, PortalId, Principal, PrincipalKind};
use bartizan_store::repo::{portal_shown, replay};
use serde::{Deserialize, Serialize};

use super::{PortalStates, Unavailable, asked};
use crate::gate::{Gate, Inner};

/// What the handles are sealed for.
const PURPOSE: &str = "selection page v1";
/// How long a link is good, milliseconds.
const LINK_MS: i64 = 10 * 60 * 1000;
/// Markers of used links are kept this much longer, because clocks of replicas differ,
/// milliseconds.
const SKEW_MS: i64 = 10 * 60 * 1000;
/// How long it is remembered that somebody was prompted, milliseconds.
const PROMPT_MS: i64 = 30 * 24 * 3_600_000;
/// Longer texts are nobody's link.
const MAX: usize = 4_096;

/// What a link says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Link {
    /// Id of the person.
    person: String,
    portal: String,
    /// Row in which the choice is kept.
    holder: String,
    /// Names its one use.
    nonce: String,
    until_ms: i64,
}

/// Why a link does not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Not one of ours, too old, used, or its session ended: all look the same.
    #[error("the link is not good any more")]
    Gone,
    /// Somebody else's.
    #[error("the link is for another person")]
    OtherPerson,
    /// The store does not answer.
    #[error("the store does not answer")]
    Unavailable,
}

impl From<Unavailable> for LinkError {
    fn from(_: Unavailable) -> Self {
        Self::Unavailable
    }
}

impl Link {
    pub(crate) fn new(principal: &Principal, portal: &PortalId, holder: &str) -> Self {
        Self {
            person: principal.id.to_string(),
            portal: portal.to_string(),
            holder: holder.to_owned(),
            nonce: String::new(),
            until_ms: 0,
        }
    }

    /// The portal it is about.
    pub(crate) fn portal(&self) -> Option<PortalId> {
        PortalId::parse(&self.portal).ok()
    }

    pub(crate) fn holder(&self) -> Arc<str> {
        self.holder.as_str().into()
    }
}

impl Inner {
    /// The address of the page; none without pages or randomness.
    pub(crate) fn selection_url(&self, link: &Link) -> Option<String> {
        let base = self.page_base.get()?;
        let now = self.clock.now_ms();
        let link = Link { nonce: EventId::new(now).to_string(), until_ms: now.saturating_add(LINK_MS), ..link.clone() };
        let handle = self.handles.seal(PURPOSE, &serde_json::to_vec(&link).ok()?).ok()?;
        let portal = match link.portal.as_str() {
            "default" => String::new(),
            id => format!("/portals/{id}"),
        };
        Some(format!("{base}{portal}/authorize?elicitationId={handle}"))
    }
}

impl Gate {
    /// Opens a link for the person in front of the browser.
    ///
    /// # Errors
    /// [`LinkError`]; somebody else's link is not used up.
    pub(crate) fn open_link(&self, principal: &Principal, handle: &str) -> Result<Link, LinkError> {
        let bytes = (handle.len() <= MAX).then(|| self.0.handles.open(PURPOSE, handle).ok()).flatten();
        let link: Link = serde_json::from_slice(&bytes.ok_or(LinkError::Gone)?).map_err(|_| LinkError::Gone)?;
        if link.until_ms <= self.0.clock.now_ms() {
            return Err(LinkError::Gone);
        }
        if principal.kind != PrincipalKind::User || link.person != *principal.id {
            return Err(LinkError::OtherPerson);
        }
        Ok(link)
    }
}

impl PortalStates {
    /// The servers of a portal that a person was shown, as a JSON list.
    pub(crate) async fn shown(&self, person: &str, portal: &str) -> Result<Option<String>, Unavailable> {
        match &self.0.store {
            Some(store) => asked(portal_shown::get(store, person, portal)).await,
            None => Ok(self.0.alone().shown.get(&(person.to_owned(), portal.to_owned())).cloned()),
        }
    }

    /// Notes what a person was shown.
    pub(crate) async fn show(&self, person: &str, portal: &str, servers: &str) -> Result<(), Unavailable> {
        match &self.0.store {
            Some(store) => asked(portal_shown::put(store, person, portal, servers)).await,
            None => {
                self.0.alone().shown.insert((person.to_owned(), portal.to_owned()), servers.to_owned());
                Ok(())
            }
        }
    }

    /// True the first time a row is seen under this version of the configuration; of this
    /// process.
    pub(crate) fn begins_with(&self, holder: &Arc<str>, version: u64) -> bool {
        if self.0.told.get(holder) == Some(version) {
            return false;
        }
        self.0.told.insert(Arc::clone(holder), version);
        true
    }

    /// True for the first who is about to prompt, on whatever replica. False also when the
    /// store does not answer.
    pub(crate) async fn first_prompt(&self, what: &str) -> bool {
        let id = format!("added/{what}");
        match &self.0.store {
            Some(store) => {
                let until = self.0.clock.now_ms().saturating_add(PROMPT_MS);
                asked(replay::consume(store, &id, until)).await.unwrap_or(false)
            }
            None => self.0.alone().used.insert(id),
        }
    }

    /// Whether a link was used up.
    pub(crate) async fn use_up(&self, link: &Link) -> Result<(), LinkError> {
        let id = format!("selection/{}", link.nonce);
        let until = link.until_ms.saturating_add(SKEW_MS);
        let first = match &self.0.store {
            Some(store) => asked(replay::consume(store, &id, until)).await?,
            None => self.0.alone().used.insert(id),
        };
        if first { Ok(()) } else { Err(LinkError::Gone) }
    }
}
