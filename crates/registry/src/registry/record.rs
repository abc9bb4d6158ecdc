//! What a list shows that was not known, put on record.

use std::collections::HashSet;
use std::sync::Arc;

use bartizan_catalog::ServerSpec;
use bartizan_catalog::pin::PinKind;
use bartizan_config::resources::{OnChange, OnNew, Trust};
use bartizan_store::StoreError;
use bartizan_store::repo::definition::{Change, Definition, Edit};

use super::show::Item;
use super::{Inner, Whose};
use crate::events::{self, News, target};
use crate::judge::is_lapsed;
use crate::known::Known;

/// Definitions of one server that are kept; more are hidden and not recorded.
const MOST: usize = 20_000;
/// Between two records of one definition that changes and changes, milliseconds.
const QUIET_MS: i64 = 10 * 60_000;
/// Events about one list; what is more is summed up.
const MOST_EVENTS: usize = 20;
/// Attempts when others write at the same time.
const ATTEMPTS: usize = 5;

/// What is to be written about one list.
struct Plan {
    first: bool,
    edits: Vec<Edit>,
    news: Vec<News>,
}

impl Inner {
    /// Compares a list with what is known and records the difference. Returns what is known then.
    pub(crate) async fn note(
        &self,
        spec: &ServerSpec,
        kind: PinKind,
        items: &[Item],
        whose: Whose<'_>,
    ) -> Result<Arc<Known>, StoreError> {
        let mut known = self.known(&spec.id).await?;
        for _ in 0..ATTEMPTS {
            let mut plan = self.plan(spec, kind, items, whose, &known);
            if plan.edits.is_empty() {
                break;
            }
            self.find_renamed(&mut plan, kind, items, &known).await;
            let who = match whose {
                Whose::Person(key) => key,
                Whose::Shared | Whose::Sync => "service:bartizan",
            };
            let change = Change {
                server: spec.id.as_str(),
                first_of: plan.first.then_some(kind.as_str()),
                who,
                edits: &plan.edits,
                seal: crate::proof::seal,
            };
            match self.apply(&change).await {
                Ok(true) => {
                    let now_ms = self.clock.now_ms();
                    events::tell(self.audit.as_ref(), spec.id.as_str(), plan.news, now_ms).await;
                    known = self.known(&spec.id).await?;
                    break;
                }
                // Somebody else was first; what they decided counts.
                Ok(false) => known = self.known(&spec.id).await?,
                Err(error) => {
                    // What is not recorded is not approved either, so nothing more is shown.
                    tracing::warn!(%error, server = %spec.id, "what a server offers cannot be recorded");
                    break;
                }
            }
        }
        Ok(known)
    }

    /// Notes of new definitions which missing ones they are much like (P46).
    async fn find_renamed(&self, plan: &mut Plan, kind: PinKind, items: &[Item], known: &Known) {
        if plan.first {
            return;
        }
        let listed: HashSet<&str> = items.iter().map(|item| &*item.name).collect();
        let gone: Vec<_> = known
            .of(kind)
            .filter(|row| row.approved.is_some() && !listed.contains(row.name.as_str()))
            .cloned()
            .collect();
        if gone.is_empty() {
            return;
        }
        // A hostile server must not keep us busy.
        for edit in plan.edits.iter_mut().filter(|edit| edit.row.state == "quarantined").take(MOST_EVENTS) {
            let Some((_, body)) = &edit.body else { continue };
            edit.row.alias_of = crate::similar::renamed_from(&self.store, &gone, body).await;
            if let Some(name) = &edit.row.alias_of {
                edit.reason = format!("much like {name}");
            }
        }
    }

    fn plan(&self, spec: &ServerSpec, kind: PinKind, items: &[Item], whose: Whose<'_>, known: &Known) -> Plan {
        let now_ms = self.clock.now_ms();
        // A server that is not ready lists nothing; that is no first look.
        let first = !known.is_synced(kind) && !items.is_empty();
        let trusted = first && spec.judging.trust == Trust::FirstSync;
        let mut scribe = Scribe { spec, kind, whose, known, now_ms, trusted, edits: Vec::new(), news: Vec::new() };
        let mut seen: HashSet<&str> = HashSet::new();
        for item in items {
            if seen.insert(&item.name) {
                scribe.item(item);
            }
        }
        if whose == Whose::Sync && !first {
            for row in known.of(kind).filter(|row| !seen.contains(row.name.as_str())) {
                scribe.gone(row);
            }
        }
        let Scribe { edits, mut news, .. } = scribe;
        if trusted {
            news = vec![News {
                method: "definition/first_sync",
                target: kind.as_str().to_owned(),
                pin: None,
                note: format!("{} approved as the server listed them first", edits.len()),
            }];
        } else if news.len() > MOST_EVENTS {
            let more = news.split_off(MOST_EVENTS).len();
            news.push(News {
                method: "definition/new",
                target: kind.as_str().to_owned(),
                pin: None,
                note: format!("and {more} more"),
            });
        }
        Plan { first, edits, news }
    }
}

struct Scribe<'a> {
    spec: &'a ServerSpec,
    kind: PinKind,
    whose: Whose<'a>,
    known: &'a Known,
    now_ms: i64,
    /// The first list, and what it shows is approved.
    trusted: bool,
    edits: Vec<Edit>,
    news: Vec<News>,
}

impl Scribe<'_> {
    fn item(&mut self, item: &Item) {
        let pin = &*item.pin;
        let Some(row) = self.known.get(self.kind, &item.name) else { return self.unknown(item) };
        let is = |kept: &Option<String>| kept.as_deref() == Some(pin);
        if is(&row.approved) && !is_lapsed(row, self.now_ms) {
            // Back after it was missing, or back to what is approved.
            let differed = matches!(row.state.as_str(), "changed" | "rejected");
            let reverted = differed && row.seen_by.is_none() && !matches!(self.whose, Whose::Person(_));
            if row.state == "missing" || reverted {
                let next = Definition { state: "approved".to_owned(), missing_ms: None, ..self.seen(row, pin) };
                let method = if reverted { "definition/reverted" } else { "definition/back" };
                self.write(next, item, "reverted", row.seen.clone(), method, "as approved again");
            }
            return;
        }
        if is(&row.seen) && row.missing_ms.is_none() {
            return;
        }
        // A server that says something else each time fills no disk.
        let quiet = row.seen_ms.is_some_and(|at| self.now_ms.saturating_sub(at) < QUIET_MS);
        if row.state != "approved" && row.missing_ms.is_none() && quiet {
            return;
        }
        if row.approved.is_none() || is_lapsed(row, self.now_ms) {
            let state = if row.rejected.is_some() { "rejected" } else { "quarantined" };
            let next = Definition { state: state.to_owned(), approved: None, missing_ms: None, ..self.seen(row, pin) };
            return self.write(next, item, "seen", row.seen.clone(), "definition/new", "not approved");
        }
        let next = Definition { state: "changed".to_owned(), missing_ms: None, ..self.seen(row, pin) };
        let note = match self.spec.judging.on_change {
            OnChange::Quarantine => "hidden: it says something else than what was approved",
            OnChange::ServePinned => "it says something else; the approved text is shown",
            OnChange::Alert => "it says something else, and the new text is shown",
        };
        let method = match self.whose {
            Whose::Person(_) => "definition/per_user",
            Whose::Shared | Whose::Sync => "definition/changed",
        };
        self.write(next, item, "seen", row.approved.clone(), method, note);
    }

    fn unknown(&mut self, item: &Item) {
        if self.known.len() + self.edits.len() >= MOST {
            return;
        }
        let row = Definition {
            server: self.spec.id.to_string(),
            kind: self.kind.as_str().to_owned(),
            name: item.name.to_string(),
            ..Definition::default()
        };
        let by = if self.trusted {
            Some("first_sync")
        } else if self.spec.judging.on_new == OnNew::Allow {
            Some("on_new: allow")
        } else {
            None
        };
        let seen = self.seen(&row, &item.pin);
        let next = match by {
            Some(by) => Definition {
                state: "approved".to_owned(),
                approved: Some(item.pin.to_string()),
                approved_by: Some(by.to_owned()),
                approved_ms: Some(self.now_ms),
                ..seen
            },
            None => Definition { state: "quarantined".to_owned(), ..seen },
        };
        let (action, method, note) = if by.is_some() {
            ("approved", "definition/allowed", "approved as it came")
        } else {
            ("seen", "definition/new", "not approved")
        };
        self.write(next, item, action, None, method, note);
    }

    fn gone(&mut self, row: &Definition) {
        if row.state != "approved" && row.state != "changed" {
            return;
        }
        let next = Definition { state: "missing".to_owned(), missing_ms: Some(self.now_ms), ..row.clone() };
        self.news.push(News {
            method: "definition/missing",
            target: target(self.kind.as_str(), &row.name),
            pin: row.approved.clone(),
            note: "not listed any more".to_owned(),
        });
        let pin = row.approved.clone();
        self.edits.push(Edit { row: next, body: None, action: "missing", pin, former: None, reason: String::new() });
    }

    fn seen(&self, row: &Definition, pin: &str) -> Definition {
        let seen_by = match self.whose {
            Whose::Person(key) => Some(key.to_owned()),
            Whose::Shared | Whose::Sync => None,
        };
        Definition { seen: Some(pin.to_owned()), seen_ms: Some(self.now_ms), seen_by, ..row.clone() }
    }

    fn write(
        &mut self,
        row: Definition,
        item: &Item,
        action: &'static str,
        former: Option<String>,
        method: &'static str,
        note: &str,
    ) {
        let pin = item.pin.to_string();
        self.news.push(News {
            method,
            target: target(self.kind.as_str(), &row.name),
            pin: Some(pin.clone()),
            note: note.to_owned(),
        });
        // By the registry's own rule, whose reason is the rule.
        let reason = if action == "approved" { row.approved_by.clone().unwrap_or_default() } else { String::new() };
        let body = (item.body)().map(|body| (pin.clone(), body));
        self.edits.push(Edit { row, body, action, pin: Some(pin), former, reason });
    }
}
