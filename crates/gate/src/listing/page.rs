//! Pages of long lists. The cursor is opaque and sealed for one caller and endpoint;
//! when the list changed between two pages the next one goes on behind the last item.

use bartizan_upstream::ListKind;
use serde::{Deserialize, Serialize};

use super::{ListCall, era};
use crate::gate::Inner;
use crate::views::Seen;

/// What the sealed cursor says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Cursor {
    principal: String,
    kind: String,
    /// Items before the page.
    skip: usize,
    /// Name of the last of them.
    last: String,
}

/// A part of a list.
pub(crate) struct Page {
    /// Position of its first item.
    pub(crate) start: usize,
    /// Position behind its last item.
    pub(crate) end: usize,
    /// Cursor of the next page.
    pub(crate) next: Option<String>,
}

/// The page a request asks for.
///
/// # Errors
/// A remark when the cursor is not ours, or of another caller, endpoint or list.
pub(crate) fn of(gate: &Inner, call: &ListCall, kind: ListKind, seen: &Seen) -> Result<Page, &'static str> {
    let rendered = seen.rendered(&call.caller.profile, kind);
    let start = match &call.params.cursor {
        None => 0,
        Some(sealed) => {
            let cursor = open(gate, call, kind, sealed).ok_or("invalid cursor")?;
            rendered.position_behind(&cursor.last, cursor.skip)
        }
    };
    let end = rendered.page_end(start);
    let next = (end < rendered.len()).then(|| {
        let last = rendered.name(end.saturating_sub(1)).unwrap_or_default().to_owned();
        let principal = call.caller.principal.key().to_string();
        let cursor = Cursor { principal, kind: kind.method().to_owned(), skip: end, last };
        let bytes = serde_json::to_vec(&cursor).unwrap_or_default();
        gate.handles.seal(&purpose(call), &bytes).ok()
    });
    debug_assert!(start <= end, "{:?}", era(call));
    match next {
        Some(None) => Err("the cursor could not be sealed"),
        next => Ok(Page { start, end, next: next.flatten() }),
    }
}

fn open(gate: &Inner, call: &ListCall, kind: ListKind, sealed: &str) -> Option<Cursor> {
    let bytes = gate.handles.open(&purpose(call), sealed).ok()?;
    let cursor: Cursor = serde_json::from_slice(&bytes).ok()?;
    (cursor.principal == **call.caller.principal.key() && cursor.kind == kind.method()).then_some(cursor)
}

fn purpose(call: &ListCall) -> String {
    format!("cursor/{}", call.endpoint.label())
}
