//! Questions about many resources: what is asked for, and the form of the answer.

use serde_json::{Map, Value, json};

use crate::error::ScimError;
use crate::filter::{self, Filter};
use crate::project::Selection;
use crate::schema::ResourceKind;

/// Most resources of one answer.
pub(crate) const MAX_RESULTS: usize = 200;
/// Resources of an answer when nobody says how many.
const USUAL: usize = 100;
/// Most resources a filter looks at.
pub(crate) const MAX_LOOKED_AT: usize = 20_000;
/// Resources read at once.
pub(crate) const BATCH: u32 = 500;

/// A question, before it is known about what.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) filter: Option<String>,
    pub(crate) start: Option<i64>,
    pub(crate) count: Option<i64>,
    pub(crate) attributes: Option<String>,
    pub(crate) excluded: Option<String>,
}

/// A question about resources of one type.
#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) filter: Option<Filter>,
    /// How many fitting ones are left out before the first of the answer.
    pub(crate) skip: usize,
    pub(crate) count: usize,
    pub(crate) selection: Selection,
}

impl Asked {
    /// From the query of a URL.
    pub(crate) fn from_url(params: &[(String, String)]) -> Result<Self, ScimError> {
        let mut asked = Self::default();
        for (name, value) in params {
            let number = || value.trim().parse().map_err(|_| ScimError::value(format!("`{name}` is not a number")));
            match name.to_ascii_lowercase().as_str() {
                "filter" => asked.filter = Some(value.clone()),
                "startindex" => asked.start = Some(number()?),
                "count" => asked.count = Some(number()?),
                "attributes" => asked.attributes = Some(value.clone()),
                "excludedattributes" => asked.excluded = Some(value.clone()),
                _ => {}
            }
        }
        Ok(asked)
    }

    /// From the body of a search (RFC 7644, section 3.4.3).
    pub(crate) fn from_body(body: &Map<String, Value>) -> Result<Self, ScimError> {
        let list = |value: &Value| match value {
            Value::String(text) => Ok(text.clone()),
            Value::Array(names) => {
                let names: Option<Vec<&str>> = names.iter().map(Value::as_str).collect();
                names.map(|names| names.join(",")).ok_or_else(|| ScimError::value("a list of names is expected"))
            }
            _ => Err(ScimError::value("a list of names is expected")),
        };
        let mut asked = Self::default();
        for (name, value) in body.iter().filter(|(_, value)| !value.is_null()) {
            let number = || value.as_i64().ok_or_else(|| ScimError::value(format!("`{name}` is not a number")));
            match name.to_ascii_lowercase().as_str() {
                "filter" => {
                    let text = value.as_str().ok_or_else(|| ScimError::filter("the filter is a text"))?;
                    asked.filter = Some(text.to_owned());
                }
                "startindex" => asked.start = Some(number()?),
                "count" => asked.count = Some(number()?),
                "attributes" => asked.attributes = Some(list(value)?),
                "excludedattributes" => asked.excluded = Some(list(value)?),
                _ => {}
            }
        }
        Ok(asked)
    }

    pub(crate) fn selection(&self, kind: &'static ResourceKind) -> Result<Selection, ScimError> {
        Selection::read(self.attributes.as_deref(), self.excluded.as_deref(), kind)
    }

    /// The question about resources of a type.
    pub(crate) fn about(&self, kind: &'static ResourceKind) -> Result<Query, ScimError> {
        let filter = self.filter.as_deref().filter(|text| !text.trim().is_empty());
        Ok(Query {
            filter: filter.map(|text| filter::parse(text, kind)).transpose()?,
            skip: self.skip(),
            count: self.most(),
            selection: self.selection(kind)?,
        })
    }

    pub(crate) fn skip(&self) -> usize {
        usize::try_from(self.start.unwrap_or(1).max(1) - 1).unwrap_or(0)
    }

    pub(crate) fn most(&self) -> usize {
        let count = self.count.map_or(USUAL, |count| usize::try_from(count).unwrap_or(0));
        count.min(MAX_RESULTS)
    }
}

/// A part of what fits.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) total: usize,
    pub(crate) resources: Vec<Map<String, Value>>,
}

/// The answer (section 3.4.2).
pub(crate) fn answer(found: Found, skip: usize) -> Value {
    json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
        "totalResults": found.total,
        "startIndex": skip + 1,
        "itemsPerPage": found.resources.len(),
        "Resources": found.resources,
    })
}
