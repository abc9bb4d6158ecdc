//! What a page takes with it: a sealed authorization request. Opaque to the browser, and
//! nothing of it is stored, so asking costs no room.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::{ClientKind, Inner, PAGE_MS, secrets};
use crate::secret;

const PENDING: &str = "oauth request before sign-in v1";
const CONSENT: &str = "oauth consent v1";

/// A request that waits for somebody to sign in. It is checked again afterwards.
#[derive(Serialize, Deserialize)]
pub(super) struct Pending {
    pub(super) query: String,
    pub(super) begun_ms: i64,
}

/// A checked request that waits for one person's word.
#[derive(Serialize, Deserialize)]
pub(super) struct Consent {
    /// Makes every page a different one.
    pub(super) nonce: String,
    /// The browser session that sees the page; no other may answer.
    pub(super) session: String,
    pub(super) request: Request,
    pub(super) begun_ms: i64,
}

/// A checked authorization request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) client_id: String,
    pub(super) client_name: String,
    pub(super) client_kind: String,
    pub(super) redirect_uri: String,
    pub(super) redirect_host: String,
    pub(super) state: Option<String>,
    pub(super) scopes: String,
    pub(super) resource: String,
    pub(super) challenge: String,
}

impl Request {
    pub(super) fn kind(&self) -> ClientKind {
        ClientKind::parse(&self.client_kind)
    }
}

impl Inner {
    pub(super) fn seal_pending(&self, query: &str, begun_ms: i64) -> Option<String> {
        let pending = Pending { query: query.to_owned(), begun_ms };
        self.handles.seal(PENDING, &serde_json::to_vec(&pending).ok()?).ok()
    }

    /// `None` for anything but a fresh handle of ours.
    pub(super) fn open_pending(&self, handle: &str) -> Option<Pending> {
        let opened = self.handles.open(PENDING, handle).ok()?;
        let pending: Pending = serde_json::from_slice(&opened).ok()?;
        self.is_fresh(pending.begun_ms).then_some(pending)
    }

    pub(super) fn seal_consent(&self, session: &str, request: Request) -> Option<String> {
        let consent = Consent { nonce: secrets::id()?, session: session.to_owned(), request, begun_ms: self.now() };
        self.handles.seal(CONSENT, &serde_json::to_vec(&consent).ok()?).ok()
    }

    /// `None` for anything but a fresh handle of ours that was made for this session.
    pub(super) fn open_consent(&self, handle: &str, session: &str) -> Option<Consent> {
        let opened = self.handles.open(CONSENT, handle).ok()?;
        let consent: Consent = serde_json::from_slice(&opened).ok()?;
        (self.is_fresh(consent.begun_ms) && secret::same(consent.session.as_bytes(), session.as_bytes()))
            .then_some(consent)
    }

    fn is_fresh(&self, begun_ms: i64) -> bool {
        let now = self.now();
        begun_ms <= now && now < begun_ms.saturating_add(PAGE_MS)
    }
}

/// The name under which the use of a page is noted.
pub(super) fn marker(consent: &Consent) -> String {
    format!("consent:{}", URL_SAFE_NO_PAD.encode(secret::hash(&consent.nonce)))
}

/// When the note may be forgotten.
pub(super) fn marker_until(consent: &Consent) -> i64 {
    consent.begun_ms.saturating_add(2 * PAGE_MS)
}
