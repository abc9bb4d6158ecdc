//! From hits to alerts. All state is in the store; whoever has the lease does this.

use bartizan_model::EventId;
use bartizan_store::repo::alert::{self, Alert, Delivery, Hit};
use bartizan_store::{Store, StoreError};

use crate::message::Message;
use crate::rule::{Rule, Rules};

/// Hits taken in at once.
const HITS: u32 = 200;
/// Alerts looked at for being over.
const OPEN: u32 = 1_000;
/// Of one rule at most so many alerts an hour are sent one by one: whoever causes alerts at
/// will must not be able to bury others.
const TOLD: i64 = 50;
const HOUR_MS: i64 = 3_600_000;

/// One round. Returns whether there may be more to do at once.
pub(crate) async fn round(store: &Store, rules: &Rules, now_ms: i64, installation: &str) -> Result<bool, StoreError> {
    let hits = alert::unseen(store, HITS).await?;
    for hit in &hits {
        let rule = rules.get(&hit.rule);
        match rule {
            Some(rule) if hit.resolves => end(store, rule, hit, now_ms, installation).await?,
            Some(rule) => take(store, rule, hit, now_ms, installation).await?,
            // The rule is gone since.
            None => drop(alert::take(store, hit, None, &[]).await?),
        }
    }
    for open in alert::firing(store, OPEN).await? {
        let quiet = rules.get(&open.rule).map_or(0, |rule| rule.resolve_after_ms);
        if open.last_ms.saturating_add(quiet) < now_ms {
            let messages = over(rules.get(&open.rule), &open, now_ms, installation);
            alert::resolve(store, &open, now_ms, &messages).await?;
        }
    }
    Ok(hits.len() >= HITS as usize)
}

/// An event that the rule is about.
async fn take(store: &Store, rule: &Rule, hit: &Hit, now_ms: i64, installation: &str) -> Result<(), StoreError> {
    let known = alert::get(store, &hit.rule, &hit.cause).await?;
    if let Some(open) = known.as_ref().filter(|alert| alert.resolved_ms.is_none()) {
        let now = Alert { hits: open.hits + 1, last_ms: open.last_ms.max(hit.at_ms), ..open.clone() };
        return alert::take(store, hit, Some(&now), &[]).await.map(drop);
    }
    // What was counted for an alert that is over does not count again.
    let since = known.and_then(|alert| alert.resolved_ms).unwrap_or(i64::MIN);
    let after = hit.at_ms.saturating_sub(rule.window_ms).max(since);
    let (hits, first) = alert::count(store, &hit.rule, &hit.cause, after, hit.at_ms).await?;
    let hits = hits.max(1);
    if hits < rule.count {
        return alert::take(store, hit, None, &[]).await.map(drop);
    }
    let lately = alert::told_since(store, &hit.rule, now_ms.saturating_sub(HOUR_MS)).await?;
    let fired = Alert {
        rule: hit.rule.clone(),
        cause: hit.cause.clone(),
        id: EventId::new(now_ms).to_string(),
        hits,
        first_ms: first.unwrap_or(hit.at_ms),
        last_ms: hit.at_ms,
        fired_ms: now_ms,
        resolved_ms: None,
        event_id: hit.event_id.clone(),
        summary: hit.summary.clone(),
        told: lately <= TOLD,
    };
    let messages = match lately {
        few if few < TOLD => Message::new("alert.fired", now_ms, &fired, rule.severity, installation),
        TOLD => Message::new("alert.more", now_ms, &fired, rule.severity, installation),
        _ => return alert::take(store, hit, Some(&fired), &[]).await.map(drop),
    }
    .to_all(rule, now_ms);
    alert::take(store, hit, Some(&fired), &messages).await.map(drop)
}

/// An event that ends the alert of its cause.
async fn end(store: &Store, rule: &Rule, hit: &Hit, now_ms: i64, installation: &str) -> Result<(), StoreError> {
    let known = alert::get(store, &hit.rule, &hit.cause).await?;
    // Something older than the last event of the alert says nothing about it.
    let Some(open) = known.filter(|alert| alert.resolved_ms.is_none() && alert.last_ms <= hit.at_ms) else {
        return alert::take(store, hit, None, &[]).await.map(drop);
    };
    let messages = over(Some(rule), &open, now_ms, installation);
    let now = Alert { resolved_ms: Some(hit.at_ms), ..open };
    alert::take(store, hit, Some(&now), &messages).await.map(drop)
}

/// Those who were told of an alert are told that it is over.
fn over(rule: Option<&Rule>, open: &Alert, now_ms: i64, installation: &str) -> Vec<Delivery> {
    let told = rule.filter(|_| open.told);
    told.map_or_else(Vec::new, |rule| {
        Message::new("alert.resolved", now_ms, open, rule.severity, installation).to_all(rule, now_ms)
    })
}
