//! Items as they go to a client, made once per view and era.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use bartizan_model::{Era, ReasonCode, ServerId};
use bartizan_upstream::ListKind;
use bartizan_wire::translate::{Hop, result_to};
use bartizan_wire::{ClientProfile, LATEST_LEGACY, LATEST_MODERN, RawJson, meta_key, splice};

use super::page::Page;
use super::{ListCall, era};
use crate::call::Endpoint;
use crate::discover::own_info;
use crate::portal_tools::PortalTool;
use crate::slot::Outcome;
use crate::views::Seen;

/// Bytes of the items of one page. Clients exist that read one page only, so a page is
/// large.
const PAGE_BYTES: usize = 8 << 20;
/// Items of one page.
const PAGE_ITEMS: usize = 10_000;

/// The items of a view, in order.
#[derive(Debug, Default)]
pub(crate) struct Rendered {
    items: Vec<RawJson>,
    names: Vec<Box<str>>,
    by_name: HashMap<Box<str>, usize>,
    /// The array of all items, when they fit one page.
    whole: Option<RawJson>,
}

/// One rendering per era of clients.
#[derive(Debug, Default)]
pub(crate) struct RenderedByEra {
    legacy: OnceLock<Rendered>,
    modern: OnceLock<Rendered>,
}

impl RenderedByEra {
    /// The rendering for an era, made at the first use.
    pub(crate) fn get(&self, era: Era, make: impl FnOnce() -> Rendered) -> &Rendered {
        match era {
            Era::Legacy => self.legacy.get_or_init(make),
            Era::Modern => self.modern.get_or_init(make),
        }
    }
}

impl Rendered {
    /// From items with the names they are listed under.
    pub(crate) fn new(entries: Vec<(Box<str>, RawJson)>) -> Self {
        let by_name = entries.iter().enumerate().map(|(at, (name, _))| (name.clone(), at)).collect();
        let (names, items): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
        let mut rendered = Self { items, names, by_name, whole: None };
        if rendered.page_end(0) == rendered.len() {
            rendered.whole = Some(RawJson::array(&rendered.items));
        }
        rendered
    }

    /// Number of items.
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// Name of an item.
    pub(crate) fn name(&self, at: usize) -> Option<&str> {
        self.names.get(at).map(|name| &**name)
    }

    /// Where the item behind the named one is; by count when the name is gone.
    pub(crate) fn position_behind(&self, name: &str, skip: usize) -> usize {
        self.by_name.get(name).map_or(skip, |at| at + 1).min(self.len())
    }

    /// Position behind the last item of the page that starts here; at least one item
    /// further, unless there is none.
    pub(crate) fn page_end(&self, start: usize) -> usize {
        let mut bytes = 0_usize;
        let fits = |item: &&RawJson| {
            let first = bytes == 0;
            bytes = bytes.saturating_add(item.len() + 1);
            first || bytes <= PAGE_BYTES
        };
        start + self.items.iter().skip(start).take(PAGE_ITEMS).take_while(fits).count()
    }

    fn array(&self, page: &Page) -> RawJson {
        match &self.whole {
            Some(whole) if page.start == 0 && page.end == self.len() => whole.clone(),
            _ => RawJson::array(self.items.iter().skip(page.start).take(page.end - page.start)),
        }
    }
}

impl Seen {
    /// The items for a client.
    pub(crate) fn rendered(&self, profile: &ClientProfile, kind: ListKind) -> &Rendered {
        self.by_era.get(profile.era, || self.render(profile, kind))
    }

    fn render(&self, profile: &ClientProfile, kind: ListKind) -> Rendered {
        let mut entries = Vec::new();
        if kind == ListKind::Tools && self.on_portal {
            let pages = self.gives_pages.then_some(PortalTool::NextPage);
            let own = PortalTool::ALL.into_iter().chain(pages);
            entries.extend(own.map(|tool| (tool.name().into(), tool.definition().clone())));
        }
        let view = &self.view;
        let named = |name: &Arc<str>, item: &RawJson| (Box::from(&**name), item.clone());
        match kind {
            ListKind::Tools => {
                let modern: HashSet<&ServerId> = self
                    .parts()
                    .iter()
                    .filter(|part| part.fetched.value.era == Some(Era::Modern))
                    .map(|part| &part.spec.id)
                    .collect();
                entries.extend(view.tools.iter().filter_map(|tool| {
                    let upstream = if modern.contains(&tool.server.id) { LATEST_MODERN } else { LATEST_LEGACY };
                    let hop = Hop::new(profile, upstream);
                    let item = if hop.same_era() { tool.rendered.clone() } else { translated(&hop, &tool.rendered)? };
                    Some((Box::from(&*tool.exposed), item))
                }));
            }
            ListKind::Prompts => entries.extend(view.prompts.iter().map(|each| named(&each.exposed, &each.rendered))),
            ListKind::Resources => {
                entries.extend(view.resources.iter().map(|each| named(&each.exposed, &each.rendered)));
            }
            ListKind::Templates => {
                entries.extend(view.templates.iter().map(|each| named(&each.exposed, &each.rendered)));
            }
        }
        Rendered::new(entries)
    }
}

/// A tool for a client of the other era; nothing for one it could not call.
fn translated(hop: &Hop<'_>, item: &RawJson) -> Option<RawJson> {
    let list = RawJson::object([("tools", &RawJson::array([item]))]);
    let tools = splice::get(&result_to(hop, "tools/list", &list), "tools")?;
    splice::items(&tools).into_iter().next()
}

/// The result object.
pub(crate) fn result(call: &ListCall, kind: ListKind, seen: &Seen, page: &Page, now_ms: i64) -> RawJson {
    let rendered = seen.rendered(&call.caller.profile, kind);
    let array = rendered.array(page);
    let modern = era(call) == Era::Modern;
    let next = page.next.as_deref().map(RawJson::string);
    let ttl = seen.ttl_ms(now_ms);
    let (complete, ttl, private) = (RawJson::string("complete"), RawJson::int(ttl), RawJson::string("private"));
    let meta = meta(call, seen, modern);
    let mut members = Vec::with_capacity(6);
    if modern {
        members.push(("resultType", &complete));
    }
    members.push((kind.member(), &array));
    members.extend(next.as_ref().map(|next| ("nextCursor", next)));
    if modern {
        members.extend([("ttlMs", &ttl), ("cacheScope", &private)]);
    }
    members.extend(meta.as_ref().map(|meta| ("_meta", meta)));
    RawJson::object(members)
}

/// `_meta` of the servers' lists, the first of equal names; on a portal with how each
/// server did, on a server endpoint only when the list is not fresh.
fn meta(call: &ListCall, seen: &Seen, modern: bool) -> Option<RawJson> {
    let mut members: Vec<(String, RawJson)> = Vec::new();
    let mut outcomes = Vec::new();
    if modern && call.endpoint.portal().is_some() {
        members.push((meta_key::SERVER_INFO.to_owned(), own_info(None)));
    }
    for (part, outcome) in seen.outcomes() {
        for (key, value) in part.fetched.value.meta.iter().flat_map(splice::members) {
            let ours = key == meta_key::SERVER_INFO && (!modern || call.endpoint.portal().is_some());
            if !ours && !members.iter().any(|(known, _)| *known == key) {
                members.push((key, value));
            }
        }
        if matches!(call.endpoint, Endpoint::Portal(_)) || outcome != Outcome::Ok {
            outcomes.push((part.spec.id.as_str(), outcome_json(&outcome)));
        }
    }
    if !outcomes.is_empty() {
        let all = RawJson::object(outcomes.iter().map(|(server, outcome)| (*server, outcome)));
        members.push(("bartizan/server_outcomes".to_owned(), all));
    }
    (!members.is_empty()).then(|| RawJson::object(members.iter().map(|(key, value)| (key.as_str(), value))))
}

fn outcome_json(outcome: &Outcome) -> RawJson {
    let (status, code) = match outcome {
        Outcome::Ok => ("ok", None),
        Outcome::Stale(code) => ("stale", Some(*code)),
        Outcome::Error(code) => ("error", Some(*code)),
    };
    let (status, code) = (RawJson::string(status), code.map(ReasonCode::as_str).map(RawJson::string));
    let mut members = vec![("status", &status)];
    members.extend(code.as_ref().map(|code| ("code", code)));
    RawJson::object(members)
}
