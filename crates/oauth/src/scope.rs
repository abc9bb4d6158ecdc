//! Sets of scopes (RFC 6749 section 3.3).

use std::collections::BTreeSet;
use std::fmt;

/// Longest scope parameter, bytes.
const MAX_TEXT: usize = 2048;
/// Most scopes in a set.
const MAX_SCOPES: usize = 64;

/// Not a scope parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the scope parameter is not a list of scopes")]
pub struct ScopeError;

/// A set of scopes: no order, no duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScopeSet(BTreeSet<String>);

impl ScopeSet {
    /// Reads a space-separated list; the empty text is the empty set.
    ///
    /// # Errors
    /// [`ScopeError`] for characters outside of the grammar, and when it is too long.
    pub fn parse(text: &str) -> Result<Self, ScopeError> {
        if text.len() > MAX_TEXT {
            return Err(ScopeError);
        }
        let set = text.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect::<BTreeSet<_>>();
        let good = |byte: u8| byte == 0x21 || (0x23..=0x5b).contains(&byte) || (0x5d..=0x7e).contains(&byte);
        if set.len() > MAX_SCOPES || !set.iter().all(|scope| scope.bytes().all(good)) {
            return Err(ScopeError);
        }
        Ok(Self(set))
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it holds a scope.
    pub fn contains(&self, scope: &str) -> bool {
        self.0.contains(scope)
    }

    /// Whether every scope of it is in `other`.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.0.is_subset(&other.0)
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).cloned().collect())
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self(self.0.union(&other.0).cloned().collect())
    }

    /// In alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, scope) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(" ")?;
            }
            f.write_str(scope)?;
        }
        Ok(())
    }
}

impl<'a> FromIterator<&'a str> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = &'a str>>(scopes: I) -> Self {
        Self(scopes.into_iter().map(str::to_owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a9_scopes_are_a_set() {
        let set = ScopeSet::parse("mcp:write  mcp:read mcp:write ").unwrap();
        assert_eq!(set.to_string(), "mcp:read mcp:write");
        let read = ScopeSet::parse("mcp:read").unwrap();
        assert!(read.is_subset(&set) && !set.is_subset(&read));
        assert_eq!(set.intersection(&read), read);
        assert_eq!(read.union(&set), set);
        assert!(ScopeSet::parse("").unwrap().is_empty() && set.contains("mcp:read"));
        let many = (0..65).map(|n| format!("s{n} ")).collect::<String>();
        for bad in ["a\"b", "a\\b", "a\tb", "\u{fc}", &"x".repeat(MAX_TEXT + 1), &many] {
            assert_eq!(ScopeSet::parse(bad), Err(ScopeError), "{bad}");
        }
    }
}
