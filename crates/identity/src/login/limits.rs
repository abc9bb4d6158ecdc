//! How often signing in may fail, and begin (A32).

use std::net::{IpAddr, Ipv4Addr};

use super::problem;
use crate::problem::PageProblem;
use crate::server::limit::Limiter;

/// Failures in a minute of one address, and of one account.
const FAILURES: u32 = 10;
/// Sign-ins that one address begins in a minute; a whole office may share one.
const BEGUN: u32 = 300;
/// Stands for every address, where an account is counted; and for an unknown one.
const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Counts of this process.
pub(super) struct Limits {
    addresses: Limiter,
    accounts: Limiter,
    begun: Limiter,
}

impl Limits {
    pub(super) fn new() -> Self {
        Self {
            addresses: Limiter::new(FAILURES, u32::MAX),
            accounts: Limiter::new(FAILURES, u32::MAX),
            begun: Limiter::new(BEGUN, u32::MAX),
        }
    }

    /// Whether an address may try.
    pub(super) fn check(&self, peer: Option<IpAddr>, now_ms: i64) -> Result<(), PageProblem> {
        let full = self.addresses.is_full(peer.unwrap_or(ANY), "", now_ms);
        if full { Err(problem::too_often()) } else { Ok(()) }
    }

    /// Whether an account may be tried.
    pub(super) fn check_account(&self, account: &str, now_ms: i64) -> Result<(), PageProblem> {
        let full = self.accounts.is_full(ANY, account, now_ms);
        if full { Err(problem::too_often()) } else { Ok(()) }
    }

    /// Counts a beginning.
    pub(super) fn begin(&self, peer: Option<IpAddr>, now_ms: i64) -> Result<(), PageProblem> {
        self.check(peer, now_ms)?;
        let taken = self.begun.take(peer.unwrap_or(ANY), "", now_ms);
        if taken { Ok(()) } else { Err(problem::too_often()) }
    }

    /// Counts an attempt of an address before it is made, where attempts cost much.
    pub(super) fn attempt(&self, peer: Option<IpAddr>, now_ms: i64) -> Result<(), PageProblem> {
        let taken = self.addresses.take(peer.unwrap_or(ANY), "", now_ms);
        if taken { Ok(()) } else { Err(problem::too_often()) }
    }

    /// Counts a failure of an address, and of an account when it is known.
    pub(super) fn failed(&self, peer: Option<IpAddr>, account: &str, now_ms: i64) {
        self.addresses.take(peer.unwrap_or(ANY), "", now_ms);
        if !account.is_empty() {
            self.accounts.take(ANY, account, now_ms);
        }
    }
}
