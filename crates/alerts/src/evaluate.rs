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
/// Of one rule at most so many alerts an hour are sent one by one: of one principal, so that
/// whoever causes alerts at will buries nobody else's, and in all.
const OF_ONE: i64 = 20;
const OF_ALL: i64 = 500;
/// A cause that comes back this soon is not told again.
const AGAIN_MS: i64 = 600_000;
const HOUR_MS: i64 = 3_600_000;

/// One round; what is left over waits for the next one.
pub(crate) async fn round(store: &Store, rules: &Rules, now_ms: i64, installation: &str) -> Result<(), StoreError> {
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
    Ok(())
}

/// An event that the rule is about.
async fn take(store: &Store, rule: &Rule, hit: &Hit, now_ms: i64, installation: &str) -> Result<(), StoreError> {
    let before = alert::get(store, &hit.rule, &hit.cause).await?;
    if let Some(open) = before.as_ref().filter(|alert| alert.resolved_ms.is_none()) {
        let now = Alert { hits: open.hits + 1, last_ms: open.last_ms.max(hit.at_ms), ..open.clone() };
        return alert::take(store, hit, Some(&now), &[]).await.map(drop);
    }
    // What was counted for an alert that is over does not count again.
    let since = before.as_ref().and_then(|alert| alert.resolved_ms).unwrap_or(i64::MIN);
    let after = hit.at_ms.saturating_sub(rule.window_ms).max(since);
    let (hits, first) = alert::count(store, &hit.rule, &hit.cause, after, hit.at_ms).await?;
    let hits = hits.max(1);
    if hits < rule.count {
        return alert::take(store, hit, None, &[]).await.map(drop);
    }
    let hour_ago = now_ms.saturating_sub(HOUR_MS);
    let of_one = alert::told_since(store, &hit.rule, hour_ago, principal(&hit.cause)).await?;
    let of_all = alert::told_since(store, &hit.rule, hour_ago, "").await?;
    let lately = before.as_ref().map(|before| before.fired_ms).filter(|at| now_ms.saturating_sub(*at) < AGAIN_MS);
    let quiet = lately.is_some() || of_one > OF_ONE || of_all > OF_ALL;
    let fired = Alert {
        rule: hit.rule.clone(),
        cause: hit.cause.clone(),
        id: EventId::new(now_ms).to_string(),
        hits,
        first_ms: first.unwrap_or(hit.at_ms),
        last_ms: hit.at_ms,
        // Of a cause that comes and goes, the first time.
        fired_ms: lately.unwrap_or(now_ms),
        resolved_ms: None,
        event_id: hit.event_id.clone(),
        summary: hit.summary.clone(),
        told: !quiet,
    };
    if quiet {
        return alert::take(store, hit, Some(&fired), &[]).await.map(drop);
    }
    let last = of_one == OF_ONE || of_all == OF_ALL;
    let kind = if last { "alert.more" } else { "alert.fired" };
    let messages = Message::new(kind, now_ms, &fired, rule.severity, installation).to_all(rule, now_ms);
    alert::take(store, hit, Some(&fired), &messages).await.map(drop)
}

/// The part of a cause that names the principal: what stands before the second member. All of
/// it where principals are not told apart.
fn principal(cause: &str) -> &str {
    let end = cause.starts_with(r#"{"principal":"#).then(|| cause.find(r#"","#)).flatten();
    end.and_then(|end| cause.get(..end + 2)).unwrap_or(cause)
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
