//! Failed authentications on record (A11, L1), without letting whoever fails fill the
//! disk: the first one of a network, kind and token at once, the number of further ones
//! once a minute.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bartizan_gate::Endpoint;
use bartizan_model::event::{AuditEvent, EventKind, Outcome, Verdict, Who};
use bartizan_model::{EventId, PrincipalKind, ReasonCode};

use crate::places::network;

/// How often further failures are summed up.
pub(crate) const EVERY: Duration = Duration::from_secs(60);
/// Different failures told apart between two summaries; all others are counted together,
/// by kind. So no flood writes more than this many events a minute, twice.
const TOLD_APART: usize = 256;

/// A refused credential.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Failure {
    /// `unknown`, `expired`, …
    pub(crate) kind: &'static str,
    /// The token's principal, when its secret was right.
    pub(crate) principal: Option<Arc<str>>,
    /// Where it came from; None when many places are summed up.
    pub(crate) ip: Option<IpAddr>,
}

/// Failures since the last summary.
#[derive(Default)]
pub(crate) struct Failures(Mutex<HashMap<Failure, u64>>);

impl Failures {
    /// Counts a failure. True when it is to be recorded now.
    pub(crate) fn note(&self, failure: &Failure) -> bool {
        let mut key = Failure { ip: failure.ip.map(network), ..failure.clone() };
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(more) = seen.get_mut(&key) {
            *more += 1;
            return false;
        }
        let first = seen.len() < TOLD_APART;
        if !first {
            key = Failure { kind: failure.kind, principal: None, ip: None };
        }
        *seen.entry(key).or_insert(0) += u64::from(!first);
        first
    }

    /// What has come since the last summary and is not on record yet.
    pub(crate) fn summary(&self) -> Vec<(Failure, u64)> {
        let seen = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        seen.into_iter().filter(|(_, more)| *more > 0).collect()
    }
}

impl Failure {
    /// The event of one failure, or of `more` that were not recorded one by one.
    pub(crate) fn event(&self, id: EventId, at_ms: i64, endpoint: Option<&Endpoint>, more: Option<u64>) -> AuditEvent {
        let kind = match &self.principal {
            Some(_) => PrincipalKind::Service,
            None => PrincipalKind::Anonymous,
        };
        let principal = self.principal.as_deref().unwrap_or("anonymous:anonymous").to_owned();
        let who = Who { principal, ip: self.ip.map(|ip| ip.to_string()), ..Who::default() };
        let mut event = AuditEvent::new(id, at_ms, EventKind::Auth, kind, who, "authenticate");
        event.verdict = Verdict::refused("authenticate", ReasonCode::Unauthenticated, None);
        event.outcome = Outcome::Refused;
        event.note = Some(match more {
            None => self.kind.to_owned(),
            Some(more) => format!("{}: {more} more within {} s", self.kind, EVERY.as_secs()),
        });
        match endpoint {
            Some(Endpoint::Portal(portal)) => event.portal = Some(portal.clone()),
            Some(Endpoint::Server(server)) => event.server = Some(server.clone()),
            None => {}
        }
        event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(kind: &'static str, ip: &str) -> Failure {
        Failure { kind, principal: None, ip: Some(ip.parse().unwrap()) }
    }

    #[test]
    fn l1_the_first_failure_at_once_the_rest_in_one_summary() {
        let failures = Failures::default();
        assert!(failures.note(&failure("unknown", "192.0.2.1")));
        for _ in 0..1_000 {
            assert!(!failures.note(&failure("unknown", "192.0.2.1")));
        }
        assert!(failures.note(&failure("expired", "192.0.2.1")), "another kind");
        assert!(failures.note(&failure("unknown", "192.0.2.2")), "another address");
        assert!(!failures.note(&failure("unknown", "::ffff:192.0.2.2")), "the same address");
        let named = Failure { principal: Some("service:ci".into()), ..failure("expired", "192.0.2.1") };
        assert!(failures.note(&named), "a token with a name");
        let mut summary = failures.summary();
        summary.sort_by_key(|(_, more)| *more);
        assert_eq!(summary, [(failure("unknown", "192.0.2.2"), 1), (failure("unknown", "192.0.2.1"), 1_000)]);
        assert!(failures.summary().is_empty());
        assert!(failures.note(&failure("unknown", "192.0.2.1")), "a new minute");
    }

    #[test]
    fn l1_a_flood_from_everywhere_is_bounded_and_counted() {
        let failures = Failures::default();
        let from = |n: u32| failure("unknown", &std::net::Ipv4Addr::from(n).to_string());
        let at_once = (0..100_000).filter(|n| failures.note(&from(*n))).count();
        assert_eq!(at_once, TOLD_APART);
        let others = Failure { kind: "unknown", principal: None, ip: None };
        assert_eq!(failures.summary(), [(others.clone(), 100_000 - TOLD_APART as u64)]);
        let text = format!("{:?}", others.event(EventId::new(1), 1, None, Some(7)));
        assert!(text.contains("unknown: 7 more within 60 s"), "{text}");
    }
}
