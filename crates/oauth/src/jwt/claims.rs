//! What a verified token says.

use serde_json::{Map, Value};

/// The claims of a token whose signature, times and addressee were checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claims(pub(crate) Map<String, Value>);

impl Claims {
    /// A claim as it is.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// A claim that is text and not empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// A claim that is a time, seconds since the epoch (RFC 7519, NumericDate).
    pub fn seconds(&self, name: &str) -> Option<i64> {
        let number = self.0.get(name)?.as_f64().filter(|number| number.abs() < 1e15)?;
        #[expect(clippy::cast_possible_truncation, reason = "in range")]
        Some(number.floor() as i64)
    }
}

impl From<Map<String, Value>> for Claims {
    fn from(members: Map<String, Value>) -> Self {
        Self(members)
    }
}
