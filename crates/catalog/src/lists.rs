//! What a server offers: definitions as they came, with the few members read that
//! decisions need.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bartizan_model::ServerId;
use bartizan_wire::{RawJson, canonical, splice};

use crate::pin::{MAX_NAME, PinKind, Pinned, Unfit, pin_of, pinned};

/// Kinds of lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `tools/list`
    Tools,
    /// `prompts/list`
    Prompts,
    /// `resources/list`
    Resources,
    /// `resources/templates/list`
    Templates,
}

/// Forms of one definition that are kept. A definition is shown under one name per
/// portal, or a few where portals differ.
const KEPT_FORMS: usize = 8;

/// A definition with what is worked out from it once, for everybody.
#[derive(Debug)]
struct Definition {
    raw: RawJson,
    kind: PinKind,
    /// `_meta`, when it is an object.
    meta: Option<RawJson>,
    pin: OnceLock<(Arc<str>, Option<Unfit>)>,
    shown: Mutex<Vec<(Shown, RawJson)>>,
}

/// How a definition is shown: equal values give equal texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    /// Equal lists of two servers are one list, so the server is part of the key.
    pub(crate) server: ServerId,
    pub(crate) exposed: Arc<str>,
    /// The name says less than the original.
    pub(crate) changed: bool,
    /// In place of the server's own (P42).
    pub(crate) description: Option<Arc<str>>,
}

impl Definition {
    fn new(kind: PinKind, raw: RawJson, members: &[(String, RawJson)]) -> Self {
        let meta = member(members, "_meta").filter(|meta| meta.is_object()).cloned();
        Self { raw, kind, meta, pin: OnceLock::new(), shown: Mutex::default() }
    }

    /// Computed when first asked for. What has no pin gets a hash that nobody can approve.
    fn pin(&self) -> &(Arc<str>, Option<Unfit>) {
        self.pin.get_or_init(|| match pinned(self.kind, &self.raw) {
            Ok(pinned) => (pinned.pin, None),
            Err(unfit) => (pin_of(PinKind::Resource, &canonical::rfc8785(&self.raw)).into(), Some(unfit)),
        })
    }

    /// The text for one way of showing, made once.
    fn shown(&self, how: &Shown, make: impl FnOnce() -> RawJson) -> RawJson {
        let mut kept = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, text)) = kept.iter().find(|(form, _)| form == how) {
            return text.clone();
        }
        let text = make();
        if kept.len() < KEPT_FORMS {
            kept.push((how.clone(), text.clone()));
        }
        text
    }
}

/// A tool definition.
#[derive(Debug)]
pub struct ToolDef {
    /// Original name.
    pub name: Arc<str>,
    /// Name for people.
    pub title: Option<Arc<str>>,
    /// JSON Schema of the arguments.
    pub input_schema: Option<RawJson>,
    /// `annotations.readOnlyHint`: the server's claim, never a grant.
    pub read_only_hint: Option<bool>,
    /// `annotations.destructiveHint`.
    pub destructive_hint: Option<bool>,
    definition: Definition,
}

/// A prompt definition.
#[derive(Debug)]
pub struct PromptDef {
    /// Original name.
    pub name: Arc<str>,
    /// Name for people.
    pub title: Option<Arc<str>>,
    definition: Definition,
}

/// A resource.
#[derive(Debug)]
pub struct ResourceDef {
    /// Original URI.
    pub uri: Arc<str>,
    definition: Definition,
}

/// A resource template.
#[derive(Debug)]
pub struct TemplateDef {
    /// Original template (RFC 6570).
    pub uri_template: Arc<str>,
    definition: Definition,
}

macro_rules! definition {
    ($($name:ident),+) => {$(
        impl $name {
            /// The definition as the server gave it.
            pub fn raw(&self) -> &RawJson {
                &self.definition.raw
            }

            /// Lower-case hex of SHA-256 over the canonical definition (P43).
            pub fn pin(&self) -> &Arc<str> {
                &self.definition.pin().0
            }

            /// The pin, when there can be one.
            ///
            /// # Errors
            /// [`Unfit`]: why there is none.
            pub fn fit(&self) -> Result<&Arc<str>, Unfit> {
                let (pin, unfit) = self.definition.pin();
                let name = self.key();
                match unfit {
                    Some(unfit) => Err(*unfit),
                    None if name.len() > MAX_NAME || name.contains('\0') => Err(Unfit::Name),
                    None => Ok(pin),
                }
            }

            /// Canonical form and pin, worked out anew.
            ///
            /// # Errors
            /// [`Unfit`] as [`Self::fit`].
            pub fn pinned(&self) -> Result<Pinned, Unfit> {
                pinned(self.definition.kind, &self.definition.raw)
            }

            /// The text for one way of showing, made once.
            pub(crate) fn shown(&self, how: &Shown, make: impl FnOnce() -> RawJson) -> RawJson {
                self.definition.shown(how, make)
            }
        }
    )+};
}
definition!(ToolDef, PromptDef, ResourceDef, TemplateDef);

impl ToolDef {
    /// Original name.
    pub fn key(&self) -> &Arc<str> {
        &self.name
    }

    /// `_meta`, when it is an object.
    pub(crate) fn meta(&self) -> Option<&RawJson> {
        self.definition.meta.as_ref()
    }

    /// Reads a definition. `None` when it is not an object, has no name or has a member twice.
    pub fn parse(raw: RawJson) -> Option<Self> {
        let members = members(&raw)?;
        let annotations = member(&members, "annotations").cloned();
        let hint = |name: &str| {
            // Of several members with one name the last counts, for us and for most readers.
            annotations.as_ref().and_then(|hints| splice::get(hints, name)).and_then(|value| value.as_bool())
        };
        Some(Self {
            name: text(&members, "name")?,
            title: text(&members, "title"),
            input_schema: member(&members, "inputSchema").cloned(),
            read_only_hint: hint("readOnlyHint"),
            destructive_hint: hint("destructiveHint"),
            definition: Definition::new(PinKind::Tool, raw, &members),
        })
    }
}

impl PromptDef {
    /// Original name.
    pub fn key(&self) -> &Arc<str> {
        &self.name
    }

    /// `_meta`, when it is an object.
    pub(crate) fn meta(&self) -> Option<&RawJson> {
        self.definition.meta.as_ref()
    }

    /// Reads a definition. `None` when it is not an object, has no name or has a member twice.
    pub fn parse(raw: RawJson) -> Option<Self> {
        let members = members(&raw)?;
        Some(Self {
            name: text(&members, "name")?,
            title: text(&members, "title"),
            definition: Definition::new(PinKind::Prompt, raw, &members),
        })
    }
}

impl ResourceDef {
    /// Original URI.
    pub fn key(&self) -> &Arc<str> {
        &self.uri
    }

    /// Reads a resource. `None` when it is not an object, has no URI or has a member twice.
    pub fn parse(raw: RawJson) -> Option<Self> {
        let members = members(&raw)?;
        Some(Self { uri: text(&members, "uri")?, definition: Definition::new(PinKind::Resource, raw, &members) })
    }
}

impl TemplateDef {
    /// Original template.
    pub fn key(&self) -> &Arc<str> {
        &self.uri_template
    }

    /// Reads a template. `None` when it is not an object, has no template or has a member twice.
    pub fn parse(raw: RawJson) -> Option<Self> {
        let members = members(&raw)?;
        Some(Self {
            uri_template: text(&members, "uriTemplate")?,
            definition: Definition::new(PinKind::Template, raw, &members),
        })
    }
}

/// The members of an object; a policy must not see another `name` than the client does,
/// so an object with a member twice is no definition.
fn members(raw: &RawJson) -> Option<Vec<(String, RawJson)>> {
    if !raw.is_object() {
        return None;
    }
    let members = splice::members(raw);
    let mut seen = HashSet::with_capacity(members.len());
    members.iter().all(|(key, _)| seen.insert(key.as_str())).then_some(members)
}

fn member<'a>(members: &'a [(String, RawJson)], key: &str) -> Option<&'a RawJson> {
    members.iter().find(|(name, _)| name == key).map(|(_, value)| value)
}

fn text(members: &[(String, RawJson)], key: &str) -> Option<Arc<str>> {
    member(members, key)?.as_string().filter(|text| !text.is_empty()).map(|text| text.as_ref().into())
}

/// Everything a server offers, or one kind of it.
#[derive(Debug, Default)]
pub struct ServerLists {
    /// Tools in the server's order.
    pub tools: Vec<Arc<ToolDef>>,
    /// Prompts in the server's order.
    pub prompts: Vec<Arc<PromptDef>>,
    /// Resources in the server's order.
    pub resources: Vec<Arc<ResourceDef>>,
    /// Templates in the server's order.
    pub templates: Vec<Arc<TemplateDef>>,
    /// Items that could not be read and are therefore not offered.
    pub unreadable: usize,
}

impl ServerLists {
    /// Reads the items of one list.
    pub fn parse(kind: Kind, items: impl IntoIterator<Item = RawJson>) -> Self {
        let mut lists = Self::default();
        for item in items {
            lists.push(kind, item);
        }
        lists
    }

    /// Adds one item.
    pub fn push(&mut self, kind: Kind, item: RawJson) {
        fn add<T>(list: &mut Vec<Arc<T>>, item: Option<T>) -> bool {
            item.map(|item| list.push(Arc::new(item))).is_some()
        }
        let readable = match kind {
            Kind::Tools => add(&mut self.tools, ToolDef::parse(item)),
            Kind::Prompts => add(&mut self.prompts, PromptDef::parse(item)),
            Kind::Resources => add(&mut self.resources, ResourceDef::parse(item)),
            Kind::Templates => add(&mut self.templates, TemplateDef::parse(item)),
        };
        self.unreadable += usize::from(!readable);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> RawJson {
        RawJson::try_from(text).unwrap()
    }

    #[test]
    fn p30_definitions_keep_their_bytes() {
        let text = r#"{ "name" : "a" , "x":1.50,"annotations":{"readOnlyHint":true}, "inputSchema":{"type":"object"}}"#;
        let tool = ToolDef::parse(raw(text)).unwrap();
        assert_eq!(tool.raw().as_str(), text);
        assert_eq!((&*tool.name, tool.read_only_hint, tool.destructive_hint), ("a", Some(true), None));
        assert_eq!(tool.input_schema.as_ref().unwrap().as_str(), r#"{"type":"object"}"#);
    }

    #[test]
    fn pins_ignore_spelling_and_see_every_change() {
        let pin = |text: &str| ToolDef::parse(raw(text)).unwrap().pin().to_string();
        let first = pin(r#"{"name":"a","description":"d"}"#);
        assert_eq!(first.len(), 64);
        assert_eq!(first, pin(r#"{ "description" : "\u0064", "name":"a" }"#));
        assert_ne!(first, pin(r#"{"name":"a","description":"d "}"#));
        assert_ne!(first, pin(r#"{"name":"a","description":"d","x":null}"#));
    }

    #[test]
    fn unreadable_items_are_counted_and_not_offered() {
        let items = [
            "null",
            "7",
            "[]",
            "{}",
            r#"{"name":""}"#,
            r#"{"name":1}"#,
            r#"{"name":"a","name":"b"}"#,
            r#"{"name":"a","n\u0061me":"b"}"#,
            r#"{"name":"\ud800"}"#,
            r#"{"name":"ok"}"#,
        ];
        let lists = ServerLists::parse(Kind::Tools, items.map(raw));
        assert_eq!((lists.tools.len(), lists.unreadable), (1, 9));
        assert_eq!(ServerLists::parse(Kind::Resources, [raw(r#"{"uri":"x:y"}"#)]).resources.len(), 1);
        assert_eq!(ServerLists::parse(Kind::Templates, [raw(r#"{"uriTemplate":"x:{y}"}"#)]).templates.len(), 1);
        assert_eq!(ServerLists::parse(Kind::Prompts, [raw(r#"{"name":"p"}"#)]).prompts.len(), 1);
    }
}
