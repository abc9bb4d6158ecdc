//! Step-up (A17) and purpose (A16): a link that a person opens so that a running grant may
//! do more.
//!
//! The gate makes the link, the pages take it. Between the two it travels through the
//! client and the browser as a sealed handle, good for ten minutes and one success, and
//! only for the person whose grant it names.

use std::fmt;
use std::sync::Arc;

use bartizan_model::{Clock, SignInFacts};
use bartizan_store::repo::{oauth_grant, replay};
use bartizan_store::{Store, StoreError};
use bartizan_vault::{HandleSealer, Vault};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::grant::{GrantContent, Told};
use super::secrets;
use crate::login::BrowserSession;
use crate::sealing::GrantKeys;
use crate::secret;

/// Purpose of the sealed handle.
const HANDLE: &str = "step-up v1";
/// How long a link is good, milliseconds.
const LINK_MS: i64 = 10 * 60 * 1000;
/// Longest text about what is asked for, characters.
const MAX_ABOUT: usize = 200;
/// Longest purpose, characters (A16).
pub const MAX_PURPOSE: usize = 500;
/// Writers of one grant at once.
const TRIES: usize = 5;

/// What is asked of a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepUp {
    /// Id of the principal: the person's address in the form of the principal.
    pub person: String,
    /// Id of the grant that is to be used for more (`GrantInfo.id`).
    pub grant: String,
    /// What is asked.
    pub want: Want,
    /// What for, as the page shows it: the tool, server or portal by its name. Cut to 200
    /// characters.
    pub about: String,
}

/// What a rule wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Want {
    /// A second factor that was proved at most this long ago.
    Mfa {
        /// Seconds.
        max_age_s: u32,
        /// Authentication context class, if a certain one is wanted.
        acr: Option<String>,
    },
    /// What the access is for, in the person's words.
    Purpose,
}

impl Want {
    /// Whether facts are what is wanted, now.
    pub fn is_met_by(&self, facts: &SignInFacts, now_ms: i64) -> bool {
        match self {
            Self::Purpose => facts.purpose.is_some(),
            Self::Mfa { max_age_s, acr } => {
                let age_ms = facts.mfa_at_ms.map(|at| now_ms.saturating_sub(at).max(0));
                let young = age_ms.is_some_and(|age| age <= i64::from(*max_age_s).saturating_mul(1000));
                young && acr.as_deref().is_none_or(|wanted| facts.acr.as_deref() == Some(wanted))
            }
        }
    }
}

/// What travels.
#[derive(Serialize, Deserialize)]
struct Sealed {
    /// Makes every link a different one, and names its single use.
    nonce: String,
    made_ms: i64,
    step_up: StepUp,
}

/// A link that was opened; good for one success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// What is asked.
    pub step_up: StepUp,
    /// What the client of the grant calls itself.
    pub client_name: String,
    /// Provider the grant's person signed in with.
    pub provider: String,
    /// Client of the grant.
    pub(crate) client_id: String,
    nonce: String,
    until_ms: i64,
}

/// Why a link does not do.
#[derive(Debug)]
pub enum StepUpError {
    /// It is not one of ours, too old, used, or its grant ended: all look the same.
    Gone,
    /// Somebody else's.
    OtherPerson,
    /// The sign-in was not what is asked for.
    NotEnough,
    /// The database does not answer.
    Store(StoreError),
}

impl From<StoreError> for StepUpError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Makes links and takes what people did with them. Cheap to clone.
#[derive(Clone)]
pub struct StepUps {
    store: Store,
    handles: HandleSealer,
    clock: Arc<dyn Clock>,
    public_url: Arc<str>,
    keys: GrantKeys,
}

impl StepUps {
    /// Over this store; links begin with `public_url` (no trailing slash needed).
    pub fn new(store: Store, vault: &Vault, clock: Arc<dyn Clock>, public_url: &str) -> Self {
        Self {
            store,
            handles: vault.handles(),
            clock,
            public_url: public_url.trim_end_matches('/').into(),
            keys: GrantKeys::default(),
        }
    }

    /// With the keys of grants whose tokens this process sees: without them it cannot tell what
    /// a grant's sign-in told.
    #[must_use]
    pub fn with_keys(self, keys: GrantKeys) -> Self {
        Self { keys, ..self }
    }

    /// The address a person opens. `None` only when the machine has no randomness.
    pub fn link(&self, step_up: &StepUp) -> Option<String> {
        let about = bartizan_oauth::text::printable(&step_up.about, MAX_ABOUT);
        let step_up = StepUp { about, ..step_up.clone() };
        let sealed = Sealed { nonce: secrets::id()?, made_ms: self.clock.now_ms(), step_up };
        let handle = self.handles.seal(HANDLE, &serde_json::to_vec(&sealed).ok()?).ok()?;
        Some(format!("{}/step-up/{handle}", self.public_url))
    }

    /// The facts of a grant as they are now, past all memory: for a call that waits for a
    /// person. `None` when the grant ended.
    ///
    /// # Errors
    /// When the database does not answer, or no token of the grant was shown to this process
    /// lately.
    pub async fn facts(&self, grant: &str) -> Result<Option<Arc<SignInFacts>>, StoreError> {
        let Some((grant, content)) = self.running(grant).await? else { return Ok(None) };
        self.keys.facts(&grant.id, &content).map(Some).ok_or(StoreError::Data("oauth_grant.content"))
    }

    async fn running(&self, id: &str) -> Result<Option<(oauth_grant::Grant, GrantContent)>, StoreError> {
        let now = self.clock.now_ms();
        let found = oauth_grant::by_id(&self.store, id).await?;
        let Some(grant) = found.filter(|grant| grant.revoked_ms.is_none() && now < grant.expires_ms) else {
            return Ok(None);
        };
        let content = serde_json::from_str(&grant.content).map_err(|_| StoreError::Data("oauth_grant.content"))?;
        Ok(Some((grant, content)))
    }

    /// Whether it is a fresh link, whoever's: nobody signs in for another one.
    pub fn is_fresh(&self, handle: &str) -> bool {
        self.unseal(handle).is_some()
    }

    /// Opens a link for whoever is signed in.
    ///
    /// # Errors
    /// [`StepUpError::Gone`] and [`StepUpError::OtherPerson`].
    pub async fn open(&self, handle: &str, session: &BrowserSession) -> Result<Opened, StepUpError> {
        let sealed = self.unseal(handle).ok_or(StepUpError::Gone)?;
        if sealed.step_up.person != session.person.email {
            return Err(StepUpError::OtherPerson);
        }
        let (grant, content) = self.running(&sealed.step_up.grant).await?.ok_or(StepUpError::Gone)?;
        // The address may have got another holder since the grant was given.
        if grant.person != session.person.id {
            return Err(StepUpError::OtherPerson);
        }
        Ok(Opened {
            client_name: content.client_name,
            provider: content.provider,
            client_id: grant.client_id,
            nonce: sealed.nonce,
            until_ms: sealed.made_ms.saturating_add(2 * LINK_MS),
            step_up: sealed.step_up,
        })
    }

    fn unseal(&self, handle: &str) -> Option<Sealed> {
        let opened = self.handles.open(HANDLE, handle).ok()?;
        let sealed: Sealed = serde_json::from_slice(&opened).ok()?;
        let now = self.clock.now_ms();
        (sealed.made_ms <= now && now < sealed.made_ms.saturating_add(LINK_MS)).then_some(sealed)
    }

    /// Whether the session's sign-in is what is asked for.
    pub fn is_met(&self, opened: &Opened, session: &BrowserSession) -> bool {
        opened.step_up.want.is_met_by(&session.facts(), self.clock.now_ms())
    }

    /// The facts of the session's sign-in become those of the grant. Uses the link up.
    ///
    /// # Errors
    /// [`StepUpError::NotEnough`] when they are not what is asked for: the link stays good.
    pub async fn prove(&self, opened: &Opened, session: &BrowserSession) -> Result<(), StepUpError> {
        if matches!(opened.step_up.want, Want::Purpose) || !self.is_met(opened, session) {
            return Err(StepUpError::NotEnough);
        }
        self.use_up(opened).await?;
        let told = Told::of(session);
        self.change(opened, session, |grant, mut content| {
            content.provider.clone_from(&session.provider);
            content.telling(grant, &told)
        })
        .await
    }

    /// Keeps on the grant what the access is for. Uses the link up. The text as kept is
    /// returned: in one line, without control characters, at most [`MAX_PURPOSE`] characters.
    ///
    /// # Errors
    /// [`StepUpError::NotEnough`] for an empty or longer text: the link stays good.
    pub async fn state_purpose(
        &self,
        opened: &Opened,
        session: &BrowserSession,
        text: &str,
    ) -> Result<String, StepUpError> {
        // A browser counts a line break as one character and sends two.
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let line = lines.join(" ").replace('\t', " ");
        let purpose = bartizan_oauth::text::printable(&line, MAX_PURPOSE + 1);
        let count = purpose.chars().count();
        if opened.step_up.want != Want::Purpose || count == 0 || count > MAX_PURPOSE {
            return Err(StepUpError::NotEnough);
        }
        self.use_up(opened).await?;
        self.change(opened, session, |grant, content| content.stating(grant, &purpose)).await?;
        Ok(purpose)
    }

    /// A failure after this loses the link, not the lock: the client asks for another.
    async fn use_up(&self, opened: &Opened) -> Result<(), StepUpError> {
        let marker = format!("step-up:{}", URL_SAFE_NO_PAD.encode(secret::hash(&opened.nonce)));
        if replay::consume(&self.store, &marker, opened.until_ms).await? { Ok(()) } else { Err(StepUpError::Gone) }
    }

    async fn change(
        &self,
        opened: &Opened,
        session: &BrowserSession,
        change: impl Fn(&str, GrantContent) -> Option<GrantContent>,
    ) -> Result<(), StepUpError> {
        for _ in 0..TRIES {
            let found = self.running(&opened.step_up.grant).await?;
            let (grant, content) = found.ok_or(StepUpError::Gone)?;
            if grant.person != session.person.id {
                return Err(StepUpError::Gone);
            }
            let content = change(&grant.id, content).ok_or(StoreError::Data("oauth_grant.content"))?;
            let new = serde_json::to_string(&content).map_err(|_| StoreError::Data("oauth_grant.content"))?;
            if oauth_grant::set_content(&self.store, &grant.id, &grant.content, &new).await? {
                return Ok(());
            }
        }
        Err(StepUpError::Store(StoreError::Conflict))
    }
}

impl fmt::Debug for StepUps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepUps").finish_non_exhaustive()
    }
}
