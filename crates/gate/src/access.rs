//! Whether a principal may use an endpoint at all, remembered: it is asked before every
//! request, and nothing but the snapshot, the caller, the circumstances that rules look at
//! and time can change it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use bartizan_catalog::Snapshot;
use bartizan_model::{Era, Principal};
use bartizan_policy::RequestContext;

use crate::call::{Circumstances, Endpoint};
use crate::gate::{Access, access};

/// Remembered answers at most; all are forgotten when there are more.
const BOUND: usize = 10_000;

/// Who asks.
pub(crate) struct Asker<'a> {
    pub(crate) principal: &'a Arc<Principal>,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) circumstances: &'a Circumstances,
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    principal: Arc<Principal>,
    endpoint: Endpoint,
    ip: Option<IpAddr>,
    circumstances: Option<Circumstances>,
}

/// An answer, and the first moment at which it may be another.
#[derive(Clone, Copy)]
struct Known {
    access: Access,
    until_ms: i64,
}

/// Answers under one snapshot.
#[derive(Default)]
pub(crate) struct AccessCache(RwLock<(u64, HashMap<Key, Known>)>);

impl AccessCache {
    /// The decision, from memory if it was made under this snapshot before.
    /// `facts` are the circumstances that rules look at.
    pub(crate) fn get(
        &self,
        snapshot: &Snapshot,
        asker: &Asker<'_>,
        facts: Option<Circumstances>,
        now_ms: i64,
    ) -> Access {
        let used = snapshot.policies.context_use();
        let key = Key {
            principal: Arc::clone(asker.principal),
            endpoint: asker.endpoint.clone(),
            ip: asker.ip.filter(|_| used.ip),
            circumstances: facts,
        };
        {
            let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
            if known.0 == snapshot.version
                && let Some(known) = known.1.get(&key)
                && known.until_ms > now_ms
            {
                return known.access;
            }
        }
        let context = RequestContext {
            era: Era::Modern,
            ip: asker.ip,
            client: None,
            client_version: None,
            session: Some(asker.circumstances.session()),
            now_ms,
        };
        let decided = access(snapshot, asker.principal, asker.endpoint, &context);
        let until_ms = snapshot.policies.holds_until_ms(&context).unwrap_or(i64::MAX);
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.0 != snapshot.version || known.1.len() >= BOUND {
            *known = (snapshot.version, HashMap::new());
        }
        known.1.insert(key, Known { access: decided, until_ms });
        decided
    }
}
