//! The one local account, for the day on which no identity provider answers (feature row A31).
//! It is made and removed on the host only: nothing here is reached by a request but
//! [`BreakGlass::check`].

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use bartizan_model::{Clock, Secret, check_user_id};
use bartizan_store::Store;
use bartizan_store::repo::sealed::Key;
use bartizan_vault::{Records, RecordsError, Vault};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use totp_rs::{Algorithm, TOTP};

use crate::event::IdentityEvent;
use crate::secret;

/// Id of the "provider" in sessions, grants and events.
pub const PROVIDER: &str = bartizan_store::repo::person::LOCAL_ISSUER;
/// The group of whoever signed in this way, for policies.
pub const GROUP: &str = bartizan_store::repo::person::LOCAL_GROUP;
/// Seconds of one code, and how many codes before and after the present one count (RFC 6238,
/// section 5.2).
const STEP_S: u64 = 30;
const SKEW: u8 = 1;
/// Passwords hashed at once, and how long one waits for its turn.
const TURNS: usize = 2;
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest password that is looked at, bytes.
const LONGEST: usize = 256;

/// Why the account cannot be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum BreakGlassError {
    /// There is one already.
    #[error("there is a break-glass account already; remove it first")]
    Exists,
    /// There is none.
    #[error("there is no break-glass account")]
    Missing,
    /// Not an address.
    #[error("`{0}` is no e-mail address")]
    Address(String),
    /// Wrong password or code, or a code that was used before.
    #[error("the password or the code is wrong")]
    Wrong,
    /// Too many attempts at once.
    #[error("too many attempts at once: try again in a moment")]
    Busy,
    /// The store or the machine does not do its part.
    #[error("unavailable: {0}")]
    Unavailable(String),
}

impl From<RecordsError> for BreakGlassError {
    fn from(error: RecordsError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// What is shown once, when the account is made.
pub struct Created {
    /// 128 random bits.
    pub password: Secret<String>,
    /// `otpauth://` URI of the second factor, for an authenticator.
    pub second_factor: Secret<String>,
}

/// What may be told about the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Address it acts under.
    pub email: String,
    /// When it was made, milliseconds since the epoch.
    pub created_ms: i64,
    /// Last use.
    pub used_ms: Option<i64>,
}

/// As it is kept, sealed.
#[derive(Serialize, Deserialize)]
struct Kept {
    email: String,
    /// PHC string of argon2id.
    password: String,
    /// 160 random bits.
    factor: Vec<u8>,
    created_ms: i64,
    used_ms: Option<i64>,
    /// Number of the last code that was used; none of it or before is good again.
    step: u64,
}

/// The account. Cheap to clone.
#[derive(Clone)]
pub struct BreakGlass {
    records: Records,
    clock: Arc<dyn Clock>,
    /// Few passwords are hashed at a time: each takes 19 MiB.
    turns: Arc<Semaphore>,
    witness: Option<Witness>,
}

/// Puts an event on record durably; false when that cannot be done.
pub type Witness = Arc<dyn Fn(IdentityEvent) -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

fn key() -> Key {
    Key { tenant: String::new(), kind: "break_glass".to_owned(), id: "account".to_owned() }
}

impl BreakGlass {
    /// Over this store.
    pub fn new(vault: Vault, store: Store, clock: Arc<dyn Clock>) -> Self {
        Self { records: Records::new(vault, store), clock, turns: Arc::new(Semaphore::new(TURNS)), witness: None }
    }

    /// Nobody is let in unless this has put it on record.
    #[must_use]
    pub fn with_witness(self, witness: Witness) -> Self {
        Self { witness: Some(witness), ..self }
    }

    /// True when a use is on record.
    pub(crate) async fn witness(&self, event: IdentityEvent) -> bool {
        match &self.witness {
            Some(witness) => witness(event).await,
            None => false,
        }
    }

    /// Makes the account. Only the command line on the host calls this.
    ///
    /// # Errors
    /// [`BreakGlassError::Exists`], [`BreakGlassError::Address`], [`BreakGlassError::Unavailable`].
    pub async fn create(&self, email: &str) -> Result<Created, BreakGlassError> {
        let email = check_user_id(email).map_err(|_| BreakGlassError::Address(email.to_owned()))?.into_owned();
        if !email.contains('@') {
            return Err(BreakGlassError::Address(email));
        }
        if self.read().await?.is_some() {
            return Err(BreakGlassError::Exists);
        }
        let no_random = || BreakGlassError::Unavailable("no random bytes".to_owned());
        let password = Secret::new(words(&random::<16>().ok_or_else(no_random)?));
        let factor = random::<20>().ok_or_else(no_random)?.to_vec();
        let second_factor = Secret::new(totp(factor.clone(), &email)?.get_url());
        let now_ms = self.clock.now_ms();
        let hash = hash(password.expose().clone()).await?;
        let kept = Kept { email, password: hash, factor, created_ms: now_ms, used_ms: None, step: 0 };
        match self.write(0, &kept).await {
            Err(RecordsError::Conflict) => Err(BreakGlassError::Exists),
            done => done.map(|()| Created { password, second_factor }).map_err(Into::into),
        }
    }

    /// What may be told; `None` when there is no account.
    ///
    /// # Errors
    /// [`BreakGlassError::Unavailable`].
    pub async fn standing(&self) -> Result<Option<Standing>, BreakGlassError> {
        let kept = self.read().await?;
        Ok(kept.map(|(_, kept)| Standing { email: kept.email, created_ms: kept.created_ms, used_ms: kept.used_ms }))
    }

    /// Removes the account.
    ///
    /// # Errors
    /// [`BreakGlassError::Missing`], [`BreakGlassError::Unavailable`].
    pub async fn remove(&self) -> Result<(), BreakGlassError> {
        if self.records.delete(&key()).await? { Ok(()) } else { Err(BreakGlassError::Missing) }
    }

    /// Checks a password and a code. Each code is good once, over all processes. Returns the
    /// address the account acts under. Wrong attempts do not lock the account, or a stranger
    /// could keep its owner out on the one day it is needed: the password is made here and has
    /// 128 random bits, and whoever asks is limited by address.
    ///
    /// # Errors
    /// [`BreakGlassError::Wrong`] also where there is no account, after as much work.
    pub async fn check(&self, password: &str, code: &str) -> Result<String, BreakGlassError> {
        let known = self.read().await?;
        let now_ms = self.clock.now_ms();
        let stored = known.as_ref().map(|(_, kept)| kept.password.clone());
        let right = self.verify(password.to_owned(), stored).await?;
        let Some((version, mut kept)) = known else { return Err(BreakGlassError::Wrong) };
        let step = step(&kept, code, now_ms)?;
        let Some(step) = step.filter(|step| right && *step > kept.step) else { return Err(BreakGlassError::Wrong) };
        (kept.step, kept.used_ms) = (step, Some(now_ms));
        // Whoever loses this race used the same code.
        match self.write(version, &kept).await {
            Err(RecordsError::Conflict) => Err(BreakGlassError::Wrong),
            done => done.map(|()| kept.email).map_err(Into::into),
        }
    }

    async fn verify(&self, password: String, stored: Option<String>) -> Result<bool, BreakGlassError> {
        let broken = |_| BreakGlassError::Unavailable("the password cannot be checked".to_owned());
        let turn = tokio::time::timeout(PATIENCE, Arc::clone(&self.turns).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(BreakGlassError::Busy) };
        tokio::task::spawn_blocking(move || {
            // Kept by the work itself: whoever goes away does not make room for more of it.
            let _turn = turn;
            if password.len() > LONGEST {
                return false;
            }
            // Without an account the work is the same, so that time does not tell.
            let Some(stored) = stored else {
                return Argon2::default().hash_password(password.as_bytes()).is_err();
            };
            PasswordHash::new(&stored)
                .is_ok_and(|stored| Argon2::default().verify_password(password.as_bytes(), &stored).is_ok())
        })
        .await
        .map_err(broken)
    }

    async fn read(&self) -> Result<Option<(i64, Kept)>, BreakGlassError> {
        let Some((version, plain)) = self.records.get(&key()).await? else { return Ok(None) };
        let kept = serde_json::from_slice(&plain);
        kept.map(|kept| Some((version, kept)))
            .map_err(|_| BreakGlassError::Unavailable("the record is broken".to_owned()))
    }

    async fn write(&self, version: i64, kept: &Kept) -> Result<(), RecordsError> {
        let plain = zeroize::Zeroizing::new(serde_json::to_vec(kept).unwrap_or_default());
        self.records.put(&key(), version, &plain).await.map(drop)
    }
}

/// Which code this is; `None` when it is none of now.
fn step(kept: &Kept, code: &str, now_ms: i64) -> Result<Option<u64>, BreakGlassError> {
    let code: String = code.chars().filter(|c| !c.is_whitespace()).collect();
    let totp = totp(kept.factor.clone(), &kept.email)?;
    let now = u64::try_from(now_ms / 1_000).unwrap_or(0) / STEP_S;
    let around = now.saturating_sub(u64::from(SKEW))..=now + u64::from(SKEW);
    // All are compared, the newest last, so that time does not tell which one it was.
    let fits = |step: u64| secret::same(totp.generate(step * STEP_S).as_bytes(), code.as_bytes());
    Ok(around.fold(None, |found, step| if fits(step) { Some(step) } else { found }))
}

fn totp(factor: Vec<u8>, email: &str) -> Result<TOTP, BreakGlassError> {
    // A colon separates issuer and name in the URI, and no address of ours has one.
    let made = TOTP::new(Algorithm::SHA1, 6, SKEW, STEP_S, factor, Some("bartizan".to_owned()), email.to_owned());
    made.map_err(|error| BreakGlassError::Unavailable(error.to_string()))
}

fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).ok().map(|()| bytes)
}

async fn hash(password: String) -> Result<String, BreakGlassError> {
    let broken = |text: String| BreakGlassError::Unavailable(text);
    let done = tokio::task::spawn_blocking(move || {
        Argon2::default()
            .hash_password(password.as_bytes())
            .map(|hash| hash.to_string())
            .map_err(|error| error.to_string())
    });
    done.await.map_err(|error| broken(error.to_string()))?.map_err(broken)
}

/// Groups of characters that people can read from paper: base 32 without look-alikes.
fn words(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let (mut out, mut bits, mut held) = (String::new(), 0_u32, 0_u32);
    let mut letters = 0;
    let mut push = |index: u32| {
        if letters > 0 && letters % 4 == 0 {
            out.push('-');
        }
        letters += 1;
        out.push(char::from(LETTERS.get((index & 31) as usize).copied().unwrap_or(b'a')));
    };
    for byte in bytes {
        bits = (bits << 8) | u32::from(*byte);
        held += 8;
        while held >= 5 {
            held -= 5;
            push(bits >> held);
            bits &= (1 << held) - 1;
        }
    }
    if held > 0 {
        push(bits << (5 - held));
    }
    out
}

#[cfg(test)]
mod tests;
