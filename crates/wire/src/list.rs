//! List results: what is in a page, and putting a merged one together.

use crate::raw::RawJson;
use crate::scan::JsonKind;
use crate::splice;

/// The member of a list result that holds its items.
pub fn items_member(method: &str) -> Option<&'static str> {
    Some(match method {
        "tools/list" => "tools",
        "prompts/list" => "prompts",
        "resources/list" => "resources",
        "resources/templates/list" => "resourceTemplates",
        _ => return None,
    })
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The items as they came.
    pub items: Vec<RawJson>,
    /// Opaque; there is another page.
    pub next_cursor: Option<String>,
    /// How long the page may be kept, in milliseconds. Absent from legacy servers.
    pub ttl_ms: Option<u64>,
    /// False only when the server said `cacheScope: public`: absent means private.
    pub private: bool,
    /// `_meta`.
    pub meta: Option<RawJson>,
    /// Members nobody here knows.
    pub other: Vec<(String, RawJson)>,
}

impl Page {
    /// Reads a list result. Nothing when it is not an object with an array of items,
    /// or its cursor is neither absent, `null` nor a string.
    pub fn parse(method: &str, result: &RawJson) -> Option<Self> {
        let member = items_member(method)?;
        let mut page =
            Self { items: Vec::new(), next_cursor: None, ttl_ms: None, private: true, meta: None, other: Vec::new() };
        let mut found = false;
        for (key, value) in splice::members(result) {
            match key.as_str() {
                key if key == member && value.kind() == JsonKind::Array => {
                    page.items = splice::items(&value);
                    found = true;
                }
                key if key == member => return None,
                "nextCursor" if value.is_null() => page.next_cursor = None,
                "nextCursor" => page.next_cursor = Some(value.as_string()?.into_owned()),
                "ttlMs" => page.ttl_ms = value.as_i64().and_then(|ms| u64::try_from(ms).ok()),
                "cacheScope" => page.private = value.as_string().as_deref() != Some("public"),
                "resultType" => {}
                "_meta" => page.meta = Some(value),
                _ => page.other.push((key, value)),
            }
        }
        found.then_some(page)
    }

    /// The list result of an era. A modern one says `ttlMs` (0 when unknown) and
    /// `cacheScope`; a legacy one has neither, nor `resultType`.
    pub fn to_raw(&self, method: &str, era: crate::Era) -> RawJson {
        let items = RawJson::array(&self.items);
        let cursor = self.next_cursor.as_deref().map(RawJson::string);
        let complete = RawJson::string("complete");
        let scope = RawJson::string(if self.private { "private" } else { "public" });
        let ttl = RawJson::int(self.ttl_ms.and_then(|ms| i64::try_from(ms).ok()).unwrap_or(0));
        let mut members = Vec::with_capacity(6 + self.other.len());
        if era == crate::Era::Modern {
            members.push(("resultType", &complete));
        }
        members.push((items_member(method).unwrap_or("items"), &items));
        members.extend(cursor.as_ref().map(|cursor| ("nextCursor", cursor)));
        if era == crate::Era::Modern {
            members.extend([("ttlMs", &ttl), ("cacheScope", &scope)]);
        }
        members.extend(self.other.iter().map(|(key, value)| (key.as_str(), value)));
        members.extend(self.meta.as_ref().map(|meta| ("_meta", meta)));
        RawJson::object(members)
    }
}

/// A modern result marked as one person's: `cacheScope` becomes `private`. For results
/// that policy filtered or that depend on who asks.
pub fn make_private(result: &RawJson) -> RawJson {
    splice::set(result, "cacheScope", &RawJson::string("private"))
}
