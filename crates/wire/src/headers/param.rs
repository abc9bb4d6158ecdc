//! `x-mcp-header` annotations and the `Mcp-Param-*` headers they demand (protocol
//! reference 3.3).

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{HeaderMismatch, HeaderProblem, PARAM_PREFIX, decode_value, header_value, single};
use crate::number;
use crate::raw::RawJson;
use crate::scan::JsonKind;
use crate::splice;

const ANNOTATION: &str = "x-mcp-header";
/// Schemas may nest 64 deep (features, limits); each level costs two JSON levels.
const MAX_SCHEMA_DEPTH: usize = 64;
/// Every level is scanned once more, so the size is bounded too.
const MAX_SCHEMA_BYTES: usize = 1 << 20;

/// A property that is mirrored in a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamHeader {
    /// The annotation's value; the header is `Mcp-Param-` and this.
    pub name: String,
    /// Members to follow from the arguments to the value.
    pub path: Vec<String>,
}

impl ParamHeader {
    /// The header's name.
    pub fn header(&self) -> Option<HeaderName> {
        HeaderName::try_from(format!("{PARAM_PREFIX}{}", self.name)).ok()
    }

    fn value(&self, arguments: Option<&RawJson>) -> Option<RawJson> {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        splice::get_path(arguments?, &path)
    }
}

/// An annotation that makes its tool unusable over HTTP: the tool is to be left out of
/// lists, name and reason logged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("x-mcp-header at `{at}` {reason}")]
pub struct InvalidAnnotation {
    /// Where, as property names joined by dots.
    pub at: String,
    /// Why.
    pub reason: &'static str,
}

/// The annotated properties of an `inputSchema`.
///
/// # Errors
/// [`InvalidAnnotation`] for the first one that breaks a rule of section 3.3.
pub fn param_headers(schema: &RawJson) -> Result<Vec<ParamHeader>, InvalidAnnotation> {
    // Nearly all schemas have none; a name written with escapes needs the long way.
    let bytes = schema.as_bytes();
    if memchr::memmem::find(bytes, ANNOTATION.as_bytes()).is_none() && memchr::memmem::find(bytes, b"\\u").is_none() {
        return Ok(Vec::new());
    }
    let mut walk = Walk { path: Vec::new(), found: Vec::new() };
    if bytes.len() > MAX_SCHEMA_BYTES {
        return walk.fail("lies in a schema of more than 1 MiB");
    }
    walk.schema(schema, Place::Root, 0)?;
    Ok(walk.found)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    /// Reached through `properties` only.
    Property,
    /// Anywhere else.
    Apart,
}

struct Walk {
    path: Vec<String>,
    found: Vec<ParamHeader>,
}

impl Walk {
    fn fail<T>(&self, reason: &'static str) -> Result<T, InvalidAnnotation> {
        Err(InvalidAnnotation { at: self.path.join("."), reason })
    }

    fn schema(&mut self, schema: &RawJson, place: Place, depth: usize) -> Result<(), InvalidAnnotation> {
        if !schema.is_object() {
            return Ok(());
        }
        if depth > MAX_SCHEMA_DEPTH {
            return self.fail("lies in a schema that nests too deeply");
        }
        let members = splice::members(schema);
        if let Some((_, value)) = members.iter().find(|(key, _)| key == ANNOTATION) {
            self.annotation(value, &members, place)?;
        }
        let inner = if place == Place::Apart { Place::Apart } else { Place::Property };
        for (key, value) in &members {
            match key.as_str() {
                "properties" => self.named(value, inner, depth)?,
                "patternProperties" | "$defs" | "definitions" | "dependentSchemas" | "dependencies" => {
                    self.named(value, Place::Apart, depth)?;
                }
                "allOf" | "anyOf" | "oneOf" | "prefixItems" | "items" if value.kind() == JsonKind::Array => {
                    for item in splice::items(value) {
                        self.schema(&item, Place::Apart, depth + 1)?;
                    }
                }
                "items"
                | "additionalItems"
                | "contains"
                | "additionalProperties"
                | "propertyNames"
                | "not"
                | "if"
                | "then"
                | "else"
                | "unevaluatedItems"
                | "unevaluatedProperties"
                | "contentSchema" => {
                    self.schema(value, Place::Apart, depth + 1)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn named(&mut self, schemas: &RawJson, place: Place, depth: usize) -> Result<(), InvalidAnnotation> {
        for (name, schema) in splice::members(schemas) {
            self.path.push(name);
            self.schema(&schema, place, depth + 1)?;
            self.path.pop();
        }
        Ok(())
    }

    fn annotation(
        &mut self,
        value: &RawJson,
        members: &[(String, RawJson)],
        place: Place,
    ) -> Result<(), InvalidAnnotation> {
        if place != Place::Property {
            return self.fail("is not reached through `properties` only");
        }
        let Some(name) = value.as_string() else { return self.fail("is not a string") };
        if name.is_empty() || !name.bytes().all(is_tchar) {
            return self.fail("is not a token");
        }
        if self.found.iter().any(|other| other.name.eq_ignore_ascii_case(&name)) {
            return self.fail("is used twice");
        }
        let kind = members.iter().find(|(key, _)| key == "type").map(|(_, kind)| kind);
        if !kind.is_some_and(is_mirrored_type) {
            return self.fail("is on a type other than string, integer, boolean");
        }
        self.found.push(ParamHeader { name: name.into_owned(), path: self.path.clone() });
        Ok(())
    }
}

/// `string`, `integer`, `boolean`, or one of them and `null` in an array.
fn is_mirrored_type(kind: &RawJson) -> bool {
    let mirrored = |kind: &RawJson| matches!(kind.as_string().as_deref(), Some("string" | "integer" | "boolean"));
    if kind.kind() == JsonKind::Array {
        let all = splice::items(kind);
        let rest: Vec<_> = all.iter().filter(|kind| kind.as_string().as_deref() != Some("null")).collect();
        return rest.len() == 1 && rest.iter().all(|kind| mirrored(kind));
    }
    mirrored(kind)
}

/// RFC 9110, section 5.6.2.
fn is_tchar(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// What the header of a value says. Nothing for `null`, nor for objects and arrays,
/// which a schema with annotations does not allow there.
fn text_of(value: &RawJson) -> Option<String> {
    match value.kind() {
        JsonKind::String => value.as_string().map(String::from),
        JsonKind::Bool => Some(value.as_str().to_owned()),
        JsonKind::Number => {
            Some(number::integer(value.as_str()).map_or_else(|| value.as_str().to_owned(), String::from))
        }
        _ => None,
    }
}

/// The headers for a call's arguments. Values that are absent or `null` have none.
pub fn param_values(annotated: &[ParamHeader], arguments: Option<&RawJson>) -> Vec<(HeaderName, HeaderValue)> {
    let one = |header: &ParamHeader| {
        let text = text_of(&header.value(arguments)?)?;
        Some((header.header()?, header_value(&text)))
    };
    annotated.iter().filter_map(one).collect()
}

/// Checks the `Mcp-Param-*` headers of a call against its arguments. Headers no
/// annotation names are not looked at.
///
/// # Errors
/// [`HeaderMismatch`] when one is missing, malformed, given twice or different, and
/// when one is there although the body has no value for it.
pub fn check_params(
    headers: &HeaderMap,
    annotated: &[ParamHeader],
    arguments: Option<&RawJson>,
) -> Result<(), HeaderMismatch> {
    for header in annotated {
        let Some(name) = header.header() else { continue };
        let given = match single(headers, &name)? {
            Some(value) => {
                let text = decode_value(value.as_bytes());
                Some(text.map_err(|_| HeaderMismatch::new(&name, HeaderProblem::Malformed))?)
            }
            None => None,
        };
        let body = header.value(arguments);
        let problem = match (given, body.as_ref().and_then(text_of)) {
            (None, None) => continue,
            (None, Some(_)) => HeaderProblem::Missing,
            (Some(given), Some(text)) if given == text => continue,
            (Some(given), Some(text)) if same_number(body.as_ref(), &given, &text) => continue,
            (Some(_), _) => HeaderProblem::Different,
        };
        return Err(HeaderMismatch::new(&name, problem));
    }
    Ok(())
}

/// `42.0` in the header is the same as `42` in the body.
fn same_number(body: Option<&RawJson>, given: &str, text: &str) -> bool {
    let Some(given) = RawJson::try_from(given).ok() else { return false };
    body.is_some_and(|body| body.kind() == JsonKind::Number)
        && given.kind() == JsonKind::Number
        && number::integer(given.as_str()).is_some_and(|given| given == text)
}

/// Every `Mcp-Param-*` header as the client sent it; unknown ones must be forwarded.
pub fn forwarded(headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with(PARAM_PREFIX))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}
