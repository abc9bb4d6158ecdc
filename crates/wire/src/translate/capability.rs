//! Client capabilities of one era in the other.

use crate::TASKS_EXTENSION;
use crate::raw::RawJson;
use crate::splice;

/// A legacy session's capabilities as a modern request declares them: core tasks and
/// the tasks extension are not offered for legacy clients, `roots.listChanged` no
/// longer exists, everything else stays.
pub fn to_modern(capabilities: &RawJson) -> RawJson {
    let trimmed = without_tasks(capabilities);
    match splice::get(&trimmed, "roots") {
        Some(roots) => splice::set(&trimmed, "roots", &splice::remove(&roots, "listChanged")),
        None => trimmed,
    }
}

/// A modern request's capabilities as `initialize` declares them to a legacy server:
/// without tasks, everything else stays.
pub fn to_legacy(capabilities: &RawJson) -> RawJson {
    without_tasks(capabilities)
}

/// Without core tasks and the tasks extension, for either side's capabilities.
pub(super) fn without_tasks(capabilities: &RawJson) -> RawJson {
    let trimmed = splice::remove(capabilities, "tasks");
    splice::edit_in(&trimmed, "extensions", &[(TASKS_EXTENSION, None)])
}
