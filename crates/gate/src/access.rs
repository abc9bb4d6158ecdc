//! Whether a principal may use an endpoint at all, remembered: it is asked before every
//! request, and nothing but the snapshot, the caller and the address can change it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use bartizan_catalog::Snapshot;
use bartizan_model::{Era, Principal};
use bartizan_policy::RequestContext;

use crate::call::Endpoint;
use crate::gate::{Access, access};

/// Remembered answers at most; all are forgotten when there are more.
const BOUND: usize = 10_000;

#[derive(PartialEq, Eq, Hash)]
struct Key {
    principal: Arc<Principal>,
    endpoint: Endpoint,
    ip: Option<IpAddr>,
}

/// Answers under one snapshot.
#[derive(Default)]
pub(crate) struct AccessCache(RwLock<(u64, HashMap<Key, Access>)>);

impl AccessCache {
    /// The decision, from memory if it was made under this snapshot before.
    pub(crate) fn get(
        &self,
        snapshot: &Snapshot,
        principal: &Arc<Principal>,
        endpoint: &Endpoint,
        ip: Option<IpAddr>,
        now_ms: i64,
    ) -> Access {
        let counted = if snapshot.policies.context_use().ip { ip } else { None };
        let key = Key { principal: Arc::clone(principal), endpoint: endpoint.clone(), ip: counted };
        {
            let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
            if known.0 == snapshot.version
                && let Some(access) = known.1.get(&key)
            {
                return *access;
            }
        }
        let context =
            RequestContext { era: Era::Modern, ip, client: None, client_version: None, session: None, now_ms };
        let decided = access(snapshot, principal, endpoint, &context);
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.0 != snapshot.version || known.1.len() >= BOUND {
            *known = (snapshot.version, HashMap::new());
        }
        known.1.insert(key, decided);
        decided
    }
}
