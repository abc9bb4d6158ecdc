//! What of a server is switched on, and under which other names and descriptions (feature
//! rows P41, P42).

use std::collections::HashMap;
use std::sync::Arc;

use bartizan_config::resources;

/// Switches of one kind of entry.
pub(crate) struct Switches {
    entries: HashMap<Box<str>, Entry>,
    default_disabled: bool,
}

struct Entry {
    enabled: bool,
    alias: Option<Box<str>>,
    description: Option<Arc<str>>,
}

impl Switches {
    fn new(list: &[resources::Curation], default_disabled: bool) -> Self {
        let entry = |each: &resources::Curation| Entry {
            enabled: each.enabled,
            alias: each.alias.as_deref().map(Box::from),
            description: each.description.as_deref().map(Arc::from),
        };
        Self {
            entries: list.iter().map(|each| (Box::from(each.name.as_str()), entry(each))).collect(),
            default_disabled,
        }
    }

    pub(crate) fn enabled(&self, name: &str) -> bool {
        self.entries.get(name).map_or(!self.default_disabled, |entry| entry.enabled)
    }

    pub(crate) fn alias(&self, name: &str) -> Option<&str> {
        self.entries.get(name).and_then(|entry| entry.alias.as_deref())
    }

    pub(crate) fn description(&self, name: &str) -> Option<&Arc<str>> {
        self.entries.get(name).and_then(|entry| entry.description.as_ref())
    }
}

/// All switches of a server.
pub(crate) struct Curation {
    pub(crate) tools: Switches,
    pub(crate) prompts: Switches,
    resources: Switches,
    /// Templates among the resources, and whether they are on.
    templates: Vec<(Box<str>, bool)>,
}

impl Curation {
    pub(crate) fn new(server: &resources::Server) -> Self {
        let off = server.default_disabled;
        let templates = server.updated_resources.iter().filter(|each| each.name.contains('{'));
        Self {
            tools: Switches::new(&server.updated_tools, off),
            prompts: Switches::new(&server.updated_prompts, off),
            resources: Switches::new(&server.updated_resources, off),
            templates: templates.map(|each| (Box::from(each.name.as_str()), each.enabled)).collect(),
        }
    }

    /// A URI named itself follows its own switch. Another one is off when it could come
    /// from a template that is off; with `default_disabled` it is on only when it can
    /// come from a template that is on.
    pub(crate) fn resource_enabled(&self, uri: &str) -> bool {
        if self.resources.entries.contains_key(uri) {
            return self.resources.enabled(uri);
        }
        let off = self.templates.iter().any(|(template, on)| !on && matches(template, uri, Breadth::Wide));
        let on = || self.templates.iter().any(|(template, on)| *on && matches(template, uri, Breadth::Narrow));
        !off && (!self.resources.default_disabled || on())
    }
}

/// How much an expression of a template is taken to match.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Breadth {
    /// Anything: for switching off.
    Wide,
    /// What RFC 6570 can expand it to: for switching on.
    Narrow,
}

/// Whether a URI can come from a template (RFC 6570, seen as literals and gaps).
fn matches(template: &str, uri: &str, breadth: Breadth) -> bool {
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some((literal, after)) = rest.split_once('{') {
        let Some((expression, after)) = after.split_once('}') else { break };
        parts.push((literal, expression));
        rest = after;
    }
    glob(&parts, rest, uri, breadth)
}

/// Matches literals and gaps from the left; the last literal must end the URI. Looks at
/// each position once per part, so hostile URIs cost at most parts × length.
fn glob(parts: &[(&str, &str)], tail: &str, uri: &str, breadth: Breadth) -> bool {
    // Ends of the URI's prefixes that match the parts so far.
    let mut ends = vec![0_usize];
    for (literal, expression) in parts {
        let mut reached = vec![false; uri.len() + 1];
        for start in ends {
            let Some(after) = uri.get(start..).and_then(|text| text.strip_prefix(literal)) else { continue };
            let from = uri.len() - after.len();
            for (at, c) in after.char_indices().map(|(at, c)| (at, Some(c))).chain([(after.len(), None)]) {
                match reached.get_mut(from + at) {
                    // The rest was walked from an earlier start.
                    Some(true) => break,
                    Some(slot) => *slot = true,
                    None => break,
                }
                if breadth == Breadth::Narrow && !c.is_some_and(|c| may_hold(expression, c)) {
                    break;
                }
            }
        }
        ends = reached.iter().enumerate().filter(|(_, hit)| **hit).map(|(at, _)| at).collect();
    }
    ends.into_iter().any(|start| uri.get(start..) == Some(tail))
}

/// Whether the expansion of an expression can hold a character.
fn may_hold(expression: &str, c: char) -> bool {
    match expression.chars().next() {
        Some('+' | '#' | '/' | '?' | '&' | ';' | '.') => true,
        _ => c.is_alphanumeric() || "-._~%,".contains(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curation(entries: &[(&str, bool)], default_disabled: bool) -> Curation {
        let entries: Vec<_> =
            entries.iter().map(|(name, enabled)| serde_json::json!({"name": name, "enabled": enabled})).collect();
        let server = serde_json::json!({
            "server_id": "s", "hostname": "http://localhost/mcp",
            "default_disabled": default_disabled, "updated_resources": entries,
        });
        Curation::new(&serde_json::from_value(server).unwrap())
    }

    #[test]
    fn p41_templates_switch_what_they_match() {
        let off = curation(&[("file:///secret/{+path}", false), ("file:///secret/open", true)], false);
        for (uri, on) in [
            ("file:///a", true),
            ("file:///secret/x", false),
            ("file:///secret/x/y?z", false),
            ("file:///secret/", false),
            ("file:///secret/open", true),
            ("file:///secret/{+path}", false),
        ] {
            assert_eq!(off.resource_enabled(uri), on, "{uri}");
        }
        let only = curation(&[("note://{id}", true), ("file:///{+path}.md", true), ("note://9", false)], true);
        for (uri, on) in [
            ("note://1", true),
            ("note://{id}", true),
            ("note://a%20b", true),
            ("note://1/secret", false),
            ("note://1?x", false),
            ("note://9", false),
            ("file:///a/b.md", true),
            ("file:///a/b.txt", false),
            ("other://x", false),
        ] {
            assert_eq!(only.resource_enabled(uri), on, "{uri}");
        }
    }

    #[test]
    fn p41_matching_costs_no_more_than_its_size() {
        let template = "{a}x{b}x{c}x{d}x{e}x{f}x{g}x{h}!";
        let uri = "x".repeat(4_000);
        assert!(!matches(template, &uri, Breadth::Wide));
        assert!(!matches(template, &uri, Breadth::Narrow));
        assert!(matches("{a}é{b}", "üéü", Breadth::Narrow));
        assert!(matches("broken{", "broken{", Breadth::Wide));
    }
}
