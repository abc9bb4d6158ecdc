//! The accounts: warm from memory, cold from the store.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_lc_rs::digest;
use bartizan_catalog::ServerSpec;
use bartizan_egress::Egress;
use bartizan_identity::{Action, IdentityEvent, PageProblem, Recorder};
use bartizan_model::{Clock, Principal, ServerId};
use bartizan_oauth::pkce;
use bartizan_store::repo::sealed::Key;
use bartizan_store::repo::upstream_account::{self, Account};
use bartizan_store::{Store, StoreError};
use bartizan_vault::{Records, RecordsError, Vault};
use bytes::Bytes;
use http::HeaderValue;
use moka::sync::Cache;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::account::{Place, Stored, may_administer};
use crate::connect::{Connected, Destination};
use crate::discover::Directory;
use crate::feed::{self, Freshness};
use crate::revoke;
use crate::scopes;
use crate::strategy::{SHARED, Strategies};
use crate::summary::Summaries;
use crate::web::Web;

/// Accounts kept in memory.
const MOST_HELD: u64 = 100_000;
/// How long one waits for others who are busy with the same account.
const TURN: Duration = Duration::from_secs(25);
/// What is on its way while an account changes may still use the token it began with.
pub(crate) const GRACE: Duration = Duration::from_secs(1);
/// First versions of one millisecond.
const PER_MS: i64 = 4096;
/// A use is noted at most this often, milliseconds.
const NOTE_MS: i64 = 10 * 60_000;
/// A token this young that is refused will not get better by another one, milliseconds.
pub(crate) const YOUNG_MS: i64 = 30_000;

/// Finds the present specification of a server.
pub type Servers = Arc<dyn Fn(&ServerId) -> Option<Arc<ServerSpec>> + Send + Sync>;

/// What the accounts need.
pub struct AccountsDeps {
    /// Where accounts and sealed tokens are.
    pub store: Store,
    /// Seals the tokens.
    pub vault: Vault,
    /// The way to authorization servers.
    pub egress: Egress,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Address of bartizan for browsers, without a final slash.
    pub public_url: String,
    /// The servers as they are configured now.
    pub servers: Servers,
    /// Takes audit events.
    pub record: Recorder,
}

/// Why there is no token to send. The texts are for the record and hold no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// The person must connect the account, or connect it again.
    #[error("the account must be connected")]
    LoginNeeded,
    /// It may work in a moment.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// Somebody must change a setting.
    #[error("{0}")]
    Misconfigured(String),
}

impl From<StoreError> for AccountError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<RecordsError> for AccountError {
    fn from(error: RecordsError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// What to send to the server.
#[derive(Clone)]
pub struct Authorization {
    /// Value of `Authorization`; marked sensitive.
    pub header: HeaderValue,
    /// Which token it is, for [`Accounts::refused`].
    pub version: i64,
    /// For the record: `oauth_user:ana@corp.example`.
    pub identity: Arc<str>,
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorization").field("version", &self.version).finish_non_exhaustive()
    }
}

/// What to do after a server refused a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum After {
    /// There is another token: ask [`Accounts::authorize`] and send again, once.
    Retry,
    /// The person must connect the account again.
    LoginNeeded,
    /// Neither, for now.
    Failed(AccountError),
}

/// One account, for its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountView {
    /// Server id.
    pub server: String,
    /// False when it must be connected again.
    pub ready: bool,
    /// Authorization server.
    pub issuer: String,
    /// Who the person is there, as far as it is known; text of somebody else.
    pub whom: Option<String>,
    /// Granted scopes.
    pub scopes: Vec<String>,
    /// End of the present token, milliseconds since the epoch, if it is known.
    pub expires_ms: Option<i64>,
    /// When it was connected, milliseconds since the epoch.
    pub connected_ms: i64,
    /// Last use, to within ten minutes, milliseconds since the epoch.
    pub last_used_ms: Option<i64>,
}

/// The accounts of all people at all servers. Cheap to clone.
#[derive(Clone)]
pub struct Accounts {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) deps: AccountsDeps,
    pub(crate) web: Web,
    pub(crate) directory: Directory,
    pub(crate) records: Records,
    /// Name of this process in leases.
    pub(crate) node: String,
    /// Tokens in memory, by name of the account.
    pub(crate) held: Cache<String, Arc<Held>>,
    /// Refreshes that failed: until when to wait, and how long that is.
    pub(crate) failing: Cache<String, (i64, i64)>,
    pub(crate) freshness: Freshness,
    locks: Cache<String, Arc<Mutex<()>>>,
    pub(crate) strategies: Strategies,
    pub(crate) summaries: Summaries,
}

/// A token in memory.
pub(crate) struct Held {
    authorization: Authorization,
    spec_version: Box<str>,
    due_ms: Option<i64>,
    noted_ms: AtomicI64,
    /// Set when the account changed: calls read it anew.
    stale: OnceLock<Instant>,
}

impl Held {
    pub(crate) fn expire(&self) {
        let _ = self.stale.set(Instant::now());
    }
}

/// SHA-256 for one purpose.
pub(crate) fn hash(purpose: &str, text: &str) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(purpose.as_bytes());
    context.update(b"\0");
    context.update(text.as_bytes());
    context.finish().as_ref().to_vec()
}

impl Accounts {
    /// Nothing is read before it is needed.
    pub fn new(deps: AccountsDeps) -> Self {
        let web = Web::new(deps.egress.clone());
        let inner = Arc::new(Inner {
            directory: Directory::new(web.clone()),
            records: Records::new(deps.vault.clone(), deps.store.clone()),
            // Without randomness no lease is unique, and nothing could be sealed either.
            node: pkce::new_verifier().map(|text| text.expose().clone()).unwrap_or_default(),
            held: Cache::new(MOST_HELD),
            failing: Cache::builder().max_capacity(MOST_HELD).time_to_live(Duration::from_secs(600)).build(),
            freshness: Freshness::default(),
            locks: Cache::builder().max_capacity(MOST_HELD).time_to_idle(Duration::from_secs(600)).build(),
            strategies: Strategies::default(),
            summaries: Summaries::default(),
            web,
            deps,
        });
        feed::spawn(&inner);
        revoke::spawn(&inner);
        Self { inner }
    }

    /// The token of a principal for a server. Warm: memory only.
    ///
    /// # Errors
    /// [`AccountError`]; then nothing may be sent.
    pub async fn authorize(&self, spec: &ServerSpec, principal: &Principal) -> Result<Authorization, AccountError> {
        let place = Place::of(spec, principal)?;
        let done = match self.inner.warm(&place) {
            Some(authorization) => Ok(authorization),
            None => Box::pin(self.inner.cold(&place, principal)).await,
        };
        match done {
            // Whoever cannot connect it is not sent to the page that does.
            Err(AccountError::LoginNeeded) if place.config.shared && !may_administer(place.config, principal) => {
                let why = "nobody has connected the account of this server yet";
                Err(AccountError::Misconfigured(why.to_owned()))
            }
            done => done,
        }
    }

    /// The token in memory, without asking anybody: for streams that are opened between calls.
    pub fn current(&self, spec: &ServerSpec, principal: &Principal) -> Option<Authorization> {
        self.inner.peek(&Place::of(spec, principal).ok()?)
    }

    /// Page on which the person connects the account.
    pub fn login_url(&self, server: &ServerId) -> String {
        format!("{}/connect/{server}", self.inner.deps.public_url)
    }

    /// Where authorization servers send browsers back to.
    pub fn redirect_uri(&self) -> String {
        self.inner.redirect_uri()
    }

    /// Our client document, served at `/.well-known/bartizan-client.json`.
    pub fn client_document(&self) -> Bytes {
        Bytes::from(self.inner.client_document().to_string())
    }

    /// Where the browser would go to connect an account, for a page that asks first. Nothing
    /// is begun.
    ///
    /// # Errors
    /// [`PageProblem`] for the person.
    pub async fn destination(&self, spec: &ServerSpec, principal: &Principal) -> Result<Destination, PageProblem> {
        Box::pin(self.inner.destination(spec, principal)).await
    }

    /// Where the browser goes to connect an account. The caller has checked that the principal
    /// is the one of the browser session, and that it may see the server. `binding` is known
    /// to that session only; `return_to` is a local path. Pages that asked before use
    /// [`Self::begin_if`].
    ///
    /// # Errors
    /// [`PageProblem`] for the person.
    pub async fn begin(
        &self,
        spec: &ServerSpec,
        principal: &Principal,
        return_to: &str,
        binding: &str,
    ) -> Result<String, PageProblem> {
        let begun = Box::pin(self.inner.begin(spec, principal, return_to, binding, &|_| true)).await?;
        begun.ok_or_else(crate::problem::unavailable)
    }

    /// The same if it is what the person agreed to: `agreed` is asked with what was found now,
    /// which may be something else than what [`Self::destination`] found for the page. `None`
    /// when not; nothing is begun then, and the person is asked again.
    ///
    /// # Errors
    /// [`PageProblem`] for the person.
    pub async fn begin_if(
        &self,
        spec: &ServerSpec,
        principal: &Principal,
        return_to: &str,
        binding: &str,
        agreed: &(dyn Fn(&Destination) -> bool + Send + Sync),
    ) -> Result<Option<String>, PageProblem> {
        Box::pin(self.inner.begin(spec, principal, return_to, binding, agreed)).await
    }

    /// The browser is back with the query of `/oauth/callback`.
    ///
    /// # Errors
    /// [`PageProblem`] for the person.
    pub async fn finish(&self, query: &str, principal: &Principal, binding: &str) -> Result<Connected, PageProblem> {
        Box::pin(self.inner.finish(query, principal, binding)).await
    }

    /// The server answered 401 to the token of this version, or 403 because scopes are lacking.
    /// `challenge` is its `WWW-Authenticate`.
    pub async fn refused(
        &self,
        spec: &ServerSpec,
        principal: &Principal,
        version: i64,
        challenge: Option<&str>,
    ) -> After {
        let place = match Place::of(spec, principal) {
            Ok(place) => place,
            Err(error) => return After::Failed(error),
        };
        match Box::pin(self.inner.refused(&place, principal, version, challenge)).await {
            Ok(()) => After::Retry,
            Err(AccountError::LoginNeeded) => After::LoginNeeded,
            Err(error) => After::Failed(error),
        }
    }

    /// The accounts of a principal.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn list(&self, principal: &Principal) -> Result<Vec<AccountView>, AccountError> {
        let rows = upstream_account::list(&self.inner.deps.store, principal.key()).await?;
        let mut views = Vec::with_capacity(rows.len());
        for row in rows {
            let whom = self.inner.whom(&row).await;
            views.push(view(row, whom));
        }
        Ok(views)
    }

    /// Forgets an account, here at once and everywhere within two seconds, and revokes its
    /// tokens upstream where that is offered (RFC 7009). False when there was none.
    ///
    /// # Errors
    /// When the store does not answer; a failed revocation is only noted.
    pub async fn disconnect(&self, principal: &Principal, server: &ServerId) -> Result<bool, AccountError> {
        Box::pin(self.inner.disconnect(principal, server)).await
    }
}

fn view(row: Account, whom: Option<String>) -> AccountView {
    AccountView {
        server: row.server,
        ready: row.status == "ready",
        issuer: row.issuer,
        whom,
        scopes: row.scopes.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect(),
        expires_ms: row.expires_ms,
        connected_ms: row.connected_ms,
        last_used_ms: row.last_used_ms,
    }
}

impl Inner {
    pub(crate) fn lock(&self, name: &str) -> Arc<Mutex<()>> {
        self.locks.get_with_by_ref(name, Arc::default)
    }

    pub(crate) async fn turn<'a>(&self, lock: &'a Mutex<()>) -> Result<MutexGuard<'a, ()>, AccountError> {
        let busy = |_| AccountError::Unavailable("the account is busy".to_owned());
        tokio::time::timeout(TURN, lock.lock()).await.map_err(busy)
    }

    fn peek(&self, place: &Place<'_>) -> Option<Authorization> {
        let held = self.held.get(&place.name).filter(|held| *held.spec_version == *place.spec_version)?;
        let good = held.stale.get().is_none_or(|since| since.elapsed() < GRACE);
        good.then(|| held.authorization.clone())
    }

    fn warm(&self, place: &Place<'_>) -> Option<Authorization> {
        if !self.freshness.is_fresh() {
            return None;
        }
        let held = self.held.get(&place.name).filter(|held| held.stale.get().is_none())?;
        let now = self.deps.clock.now_ms();
        let good = *held.spec_version == *place.spec_version && held.due_ms.is_none_or(|due| now < due);
        if !good {
            return None;
        }
        self.note_use(place, &held.noted_ms, now);
        Some(held.authorization.clone())
    }

    /// Notes a use now and then, beside the call.
    fn note_use(&self, place: &Place<'_>, noted: &AtomicI64, now: i64) {
        let last = noted.load(Ordering::Relaxed);
        if now.saturating_sub(last) < NOTE_MS {
            return;
        }
        if noted.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        let (store, owner, server) = (self.deps.store.clone(), place.owner.to_owned(), place.server.to_owned());
        tokio::spawn(async move {
            if let Err(error) = upstream_account::used(&store, &owner, &server).await {
                tracing::debug!(%error, "the use of an account could not be noted");
            }
        });
    }

    async fn cold(&self, place: &Place<'_>, principal: &Principal) -> Result<Authorization, AccountError> {
        let lock = self.lock(&place.name);
        let _turn = self.turn(&lock).await?;
        if let Some(authorization) = self.warm(place) {
            return Ok(authorization);
        }
        let generation = self.freshness.generation();
        let (version, stored) = self.load(place).await?.ok_or(AccountError::LoginNeeded)?;
        // A changed address or issuer in the configuration must not be sent what others issued.
        if stored.access.is_none() || !stored.fits(place) {
            return Err(AccountError::LoginNeeded);
        }
        let due = stored.due_ms().is_some_and(|due| due <= self.deps.clock.now_ms());
        if !due {
            // Whoever renewed it, here or elsewhere: the failures before that are over.
            self.failing.invalidate(&place.name);
            return self.keep(place, principal, version, &stored, generation);
        }
        let (version, stored) = self.refresh(place, version, stored, false).await?;
        self.keep(place, principal, version, &stored, generation)
    }

    /// Keeps a token in memory unless the account changed meanwhile.
    fn keep(
        &self,
        place: &Place<'_>,
        principal: &Principal,
        version: i64,
        stored: &Stored,
        generation: u64,
    ) -> Result<Authorization, AccountError> {
        let token = stored.access.as_ref().ok_or(AccountError::LoginNeeded)?;
        let value = Zeroizing::new(match place.prefix() {
            "" => token.clone(),
            prefix => format!("{prefix} {token}"),
        });
        let unusable = |_| AccountError::Misconfigured("the token cannot be sent".to_owned());
        let mut header = HeaderValue::from_str(&value).map_err(unusable)?;
        header.set_sensitive(true);
        let identity = place.identity(principal).into();
        let authorization = Authorization { header, version, identity };
        let held = Arc::new(Held {
            authorization: authorization.clone(),
            spec_version: place.spec_version.into(),
            due_ms: stored.due_ms(),
            noted_ms: AtomicI64::new(0),
            stale: OnceLock::new(),
        });
        self.note_use(place, &held.noted_ms, self.deps.clock.now_ms());
        self.held.insert(place.name.clone(), Arc::clone(&held));
        // A change that came in between did not find it yet.
        if self.freshness.generation() != generation {
            held.expire();
        }
        Ok(authorization)
    }

    pub(crate) async fn load(&self, place: &Place<'_>) -> Result<Option<(i64, Stored)>, AccountError> {
        let Some((version, plain)) = self.records.get(&place.record()).await? else { return Ok(None) };
        let stored = serde_json::from_slice(&plain);
        let stored = stored.map_err(|_| AccountError::Unavailable("a stored account cannot be read".to_owned()))?;
        Ok(Some((version, stored)))
    }

    /// Who the person is at the upstream; sealed with the tokens. Nothing when it cannot be read.
    async fn whom(&self, row: &Account) -> Option<String> {
        let id = upstream_account::name(&row.owner, &row.server);
        let key = Key { tenant: String::new(), kind: "upstream_token".to_owned(), id };
        let (_, plain) = self.records.get(&key).await.ok()??;
        let mut stored: Stored = serde_json::from_slice(&plain).ok()?;
        stored.whom.take()
    }

    /// A version that no account of this name had: of this millisecond, and by chance of none
    /// that was made in it.
    fn first_version(&self) -> i64 {
        let mut chance = [0; 2];
        // Without chance the time alone must do.
        let _ = aws_lc_rs::rand::fill(&mut chance);
        let chance = i64::from(u16::from_be_bytes(chance)) & (PER_MS - 1);
        self.deps.clock.now_ms().max(1).saturating_mul(PER_MS).saturating_add(chance)
    }

    /// Stores the tokens, then what is listed of them.
    pub(crate) async fn save(&self, place: &Place<'_>, old: i64, stored: &Stored) -> Result<i64, RecordsError> {
        let plain = Zeroizing::new(serde_json::to_vec(stored).unwrap_or_default());
        let version = match old {
            // A version that was used before would let a refresh of an account that was
            // disconnected meanwhile overwrite the new one.
            0 => self.records.create(&place.record(), self.first_version(), &plain).await?,
            old => self.records.put(&place.record(), old, &plain).await?,
        };
        let row = Account {
            owner: place.owner.to_owned(),
            server: place.server.to_owned(),
            status: if stored.access.is_some() { "ready" } else { "login_needed" }.to_owned(),
            issuer: stored.issuer.clone(),
            scopes: stored.scopes.clone(),
            expires_ms: stored.expires_ms,
            version,
            connected_ms: stored.connected_ms,
            last_used_ms: None,
        };
        // The tokens are safe; a list that is behind is set right by the next change.
        if let Err(error) = upstream_account::put(&self.deps.store, &row).await {
            tracing::warn!(%error, "an account is stored but not listed");
        }
        Ok(version)
    }

    async fn refused(
        &self,
        place: &Place<'_>,
        principal: &Principal,
        version: i64,
        challenge: Option<&str>,
    ) -> Result<(), AccountError> {
        let lock = self.lock(&place.name);
        let _turn = self.turn(&lock).await?;
        let generation = self.freshness.generation();
        self.held.invalidate(&place.name);
        let (newest, stored) = self.load(place).await?.ok_or(AccountError::LoginNeeded)?;
        if stored.access.is_none() || !stored.fits(place) {
            return Err(AccountError::LoginNeeded);
        }
        if newest != version {
            return Ok(());
        }
        if let Some(lacking) = scopes::lacking(challenge) {
            return self.wish(place, &stored, &lacking).await;
        }
        // Only the person can type another one.
        if place.is_pat() {
            self.lose(place, newest, &stored, "refused").await?;
            return Err(AccountError::LoginNeeded);
        }
        // Refreshing what was issued just now would only be refused again, over and over.
        if self.deps.clock.now_ms().saturating_sub(stored.issued_ms) < YOUNG_MS {
            return Err(AccountError::LoginNeeded);
        }
        // The server may have moved to another authorization server (A12 of the protocol
        // reference); when that cannot be found out, the old one is asked.
        if let Ok(found) = self.directory.discover(place, challenge).await
            && found.metadata.issuer != stored.issuer
        {
            self.lose(place, newest, &stored, "other_issuer").await?;
            return Err(AccountError::LoginNeeded);
        }
        let (version, stored) = self.refresh(place, newest, stored, true).await?;
        self.keep(place, principal, version, &stored, generation).map(drop)
    }

    pub(crate) async fn disconnect(&self, principal: &Principal, server: &ServerId) -> Result<bool, AccountError> {
        let spec = (self.deps.servers)(server);
        let shared =
            spec.as_ref().is_some_and(|spec| Place::new(spec, principal).is_ok_and(|place| place.config.shared));
        let owner = if shared { SHARED } else { &**principal.key() };
        let name = upstream_account::name(owner, server.as_str());
        let lock = self.lock(&name);
        let _turn = self.turn(&lock).await?;
        let place = spec.as_ref().and_then(|spec| Place::of(spec, principal).ok());
        let place = place.filter(|place| place.owner == owner);
        let stored = match &place {
            Some(place) => {
                self.forget_wish(place).await;
                self.load(place).await.unwrap_or(None)
            }
            None => None,
        };
        let key = Key { tenant: String::new(), kind: "upstream_token".to_owned(), id: name.clone() };
        let sealed = self.records.delete(&key).await?;
        let listed = upstream_account::delete(&self.deps.store, owner, server.as_str()).await?;
        self.held.invalidate(&name);
        if let (Some(place), Some((version, stored))) = (&place, &stored) {
            if stored.access.is_some()
                && !place.is_pat()
                && let Err(why) = self.revoke(Some(place), stored).await
            {
                tracing::warn!(why, server = place.server, "tokens were forgotten and not revoked upstream yet");
                self.revoke_later(&name, *version, stored).await;
            }
            self.event(place, Action::Disconnect, true, &stored.issuer, None);
        }
        Ok(sealed || listed)
    }

    pub(crate) fn event(&self, place: &Place<'_>, action: Action, ok: bool, issuer: &str, note: Option<&str>) {
        let mut event = IdentityEvent::new(self.deps.clock.now_ms(), action, ok);
        event.person = place.person.strip_prefix("user:").map(str::to_owned);
        event.client = Some(place.server.to_owned());
        event.provider = Some(issuer.to_owned());
        event.note = note.map(str::to_owned);
        (self.deps.record)(event);
    }
}
