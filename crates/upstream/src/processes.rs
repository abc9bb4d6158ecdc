//! How many local processes may run, and how many of them for one caller (G17).

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::UpstreamError;

/// Local processes at once, probes included.
const MAX_PROCESSES: usize = 64;
/// Of these, for one caller: the others stay for everybody else.
const MAX_OF_CALLER: usize = 32;
/// Wait for a place.
const WAIT: Duration = Duration::from_secs(5);
/// Callers remembered before unused ones are dropped.
const MAX_UNUSED: usize = 256;

/// Ends an idle process: one this caller had started, or one of whoever has most.
type Evict = Box<dyn Fn(Option<&str>) + Send + Sync>;

/// The right to run one process, released when it is dropped.
pub(crate) type ProcessPermit = Box<dyn Any + Send + Sync>;

/// The places for local processes.
pub(crate) struct Processes {
    all: Arc<Semaphore>,
    shares: Mutex<HashMap<Arc<str>, Arc<Semaphore>>>,
    pub(crate) evict: OnceLock<Evict>,
}

impl Processes {
    pub(crate) fn new() -> Self {
        Self { all: Arc::new(Semaphore::new(MAX_PROCESSES)), shares: Mutex::default(), evict: OnceLock::new() }
    }

    /// A place for a process this caller needs; for a probe, which serves all, there is none.
    ///
    /// # Errors
    /// [`UpstreamError::Crowded`] when none becomes free within five seconds.
    pub(crate) async fn permit(&self, caller: Option<&Arc<str>>) -> Result<ProcessPermit, UpstreamError> {
        // The own share first: who waits for it takes no place from others.
        let share = match caller {
            Some(caller) => {
                let why = "too many local processes of one caller";
                Some(self.acquire(self.share(caller), Some(caller), why).await?)
            }
            None => None,
        };
        let place = self.acquire(Arc::clone(&self.all), None, "too many local processes").await?;
        Ok(Box::new((place, share)))
    }

    async fn acquire(
        &self,
        places: Arc<Semaphore>,
        of: Option<&str>,
        why: &'static str,
    ) -> Result<OwnedSemaphorePermit, UpstreamError> {
        if let Ok(permit) = Arc::clone(&places).try_acquire_owned() {
            return Ok(permit);
        }
        if let Some(evict) = self.evict.get() {
            evict(of);
        }
        match tokio::time::timeout(WAIT, places.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(UpstreamError::Crowded { why }),
        }
    }

    fn share(&self, caller: &Arc<str>) -> Arc<Semaphore> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if shares.len() >= MAX_UNUSED && !shares.contains_key(caller) {
            // Each permit holds a clone.
            shares.retain(|_, share| Arc::strong_count(share) > 1);
        }
        Arc::clone(shares.entry(Arc::clone(caller)).or_insert_with(|| Arc::new(Semaphore::new(MAX_OF_CALLER))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn g17_one_caller_leaves_half_of_the_places_to_others() {
        let processes = Processes::new();
        let (greedy, other): (Arc<str>, Arc<str>) = ("user:greedy".into(), "user:other".into());
        let mut held = Vec::new();
        for _ in 0..MAX_OF_CALLER {
            held.push(processes.permit(Some(&greedy)).await.unwrap());
        }
        assert!(matches!(processes.permit(Some(&greedy)).await.err(), Some(UpstreamError::Crowded { .. })));
        for _ in MAX_OF_CALLER..MAX_PROCESSES {
            held.push(processes.permit(Some(&other)).await.unwrap());
        }
        assert!(processes.permit(None).await.is_err(), "all are taken");
        held.remove(0);
        assert!(processes.permit(Some(&greedy)).await.is_ok(), "what ends makes room");
        for n in 0..1000 {
            processes.permit(Some(&format!("user:{n}").into())).await.unwrap();
        }
        assert!(processes.shares.lock().unwrap().len() <= MAX_UNUSED);
    }
}
