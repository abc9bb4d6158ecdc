//! Scopes of a credential (A23): they narrow what policies allow, and never widen it.

use std::collections::BTreeSet;
use std::sync::Arc;

use bartizan_model::{ServerId, ToolClass};

/// `mcp:read`: tools of class `read`, and everything that is no tool.
const READ: &str = "mcp:read";
/// `mcp:write`: tools of every other class.
const WRITE: &str = "mcp:write";
/// `server:{id}`: where a credential has any such scope, only those servers.
const SERVER: &str = "server:";

/// What a credential lets its holder do at most, and what the request itself leaves of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scopes {
    /// As the credential has them; `None`: it is not limited by scopes.
    granted: Option<Arc<Set>>,
    /// What the request narrows itself to: each of these counts.
    narrowed: Vec<Arc<Set>>,
}

#[derive(Debug, PartialEq, Eq)]
struct Set {
    all: BTreeSet<Box<str>>,
    /// Any scope is about a server.
    servers: bool,
}

impl Set {
    fn new<'a>(scopes: impl IntoIterator<Item = &'a str>) -> Arc<Self> {
        let all: BTreeSet<Box<str>> = scopes.into_iter().map(Into::into).collect();
        let servers = all.iter().any(|scope| scope.starts_with(SERVER));
        Arc::new(Self { all, servers })
    }

    /// What is missing for a class of tools at a server.
    fn missing(&self, class: ToolClass, server: Option<&ServerId>) -> Vec<String> {
        let needed = if class == ToolClass::Read { READ } else { WRITE };
        let mut missing = Vec::new();
        if !self.all.contains(needed) {
            missing.push(needed.to_owned());
        }
        if let Some(server) = server.filter(|_| self.servers) {
            let scope = format!("{SERVER}{server}");
            if !self.all.contains(scope.as_str()) {
                missing.push(scope);
            }
        }
        missing
    }

    /// The least set that would do: what is there already, and what is missing.
    fn with(&self, missing: &[String]) -> Arc<str> {
        let all: BTreeSet<&str> =
            self.all.iter().map(|scope| &**scope).chain(missing.iter().map(String::as_str)).collect();
        all.into_iter().collect::<Vec<_>>().join(" ").into()
    }
}

/// Why scopes do not allow a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lacks {
    /// The credential: the client may ask for these scopes.
    Scope(Arc<str>),
    /// The request itself, which another credential would not change.
    Narrowed,
}

impl Scopes {
    /// A credential that is not limited by scopes.
    pub const ALL: Self = Self { granted: None, narrowed: Vec::new() };

    /// The scopes of a credential.
    pub fn granted<'a>(scopes: impl IntoIterator<Item = &'a str>) -> Self {
        Self { granted: Some(Set::new(scopes)), narrowed: Vec::new() }
    }

    /// Only these of them, as the request wants it. What the credential does not have, it
    /// does not get by that.
    #[must_use]
    pub fn narrowed<'a>(mut self, scopes: impl IntoIterator<Item = &'a str>) -> Self {
        self.narrowed.push(Set::new(scopes));
        self
    }

    /// Whether a call may go on.
    ///
    /// # Errors
    /// [`Lacks`].
    pub(crate) fn check(&self, class: ToolClass, server: Option<&ServerId>) -> Result<(), Lacks> {
        if let Some(set) = &self.granted {
            let missing = set.missing(class, server);
            if !missing.is_empty() {
                return Err(Lacks::Scope(set.with(&missing)));
            }
        }
        let narrow = self.narrowed.iter().any(|set| !set.missing(class, server).is_empty());
        if narrow { Err(Lacks::Narrowed) } else { Ok(()) }
    }

    /// Whether the request gives up everything but reading: it wants to see no more either (P51).
    pub(crate) fn gives_up_writes(&self) -> bool {
        self.narrowed.iter().any(|set| !set.all.contains(WRITE))
    }

    /// Whether lists may be had: whoever may do anything with tools may see them.
    ///
    /// # Errors
    /// [`Lacks`].
    pub(crate) fn check_list(&self) -> Result<(), Lacks> {
        let any = |set: &Set| set.all.contains(READ) || set.all.contains(WRITE);
        match &self.granted {
            Some(set) if !any(set) => Err(Lacks::Scope(set.with(&[READ.to_owned()]))),
            _ if !self.narrowed.iter().all(|set| any(set)) => Err(Lacks::Narrowed),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(text: &str) -> Scopes {
        Scopes::granted(text.split_whitespace())
    }

    fn server(id: &str) -> ServerId {
        ServerId::parse(id).unwrap()
    }

    #[test]
    fn a23_a_challenge_names_the_least_set() {
        use ToolClass::{Destructive, Read, Unknown, Write};
        for (scopes, class, at, expected) in [
            ("", Read, None, "mcp:read"),
            ("", Write, Some("a"), "mcp:write"),
            ("mcp:read", Write, Some("a"), "mcp:read mcp:write"),
            ("mcp:read", Destructive, Some("a"), "mcp:read mcp:write"),
            ("mcp:write", Read, Some("a"), "mcp:read mcp:write"),
            ("mcp:admin", Read, None, "mcp:admin mcp:read"),
            ("mcp:admin llm", Unknown, Some("a"), "llm mcp:admin mcp:write"),
            ("mcp:read server:a", Read, Some("b"), "mcp:read server:a server:b"),
            ("mcp:read server:a", Write, Some("a"), "mcp:read mcp:write server:a"),
            ("mcp:read server:a", Write, Some("b"), "mcp:read mcp:write server:a server:b"),
            ("server:a", Read, Some("a"), "mcp:read server:a"),
            ("MCP:READ", Read, None, "MCP:READ mcp:read"),
        ] {
            let at = at.map(server);
            let lacks = granted(scopes).check(class, at.as_ref()).unwrap_err();
            assert_eq!(lacks, Lacks::Scope(expected.into()), "{scopes}");
            // With what the challenge names the call goes on.
            assert_eq!(granted(expected).check(class, at.as_ref()), Ok(()), "{scopes}");
            // And with anything less it does not.
            for left_out in expected.split(' ').filter(|scope| !scopes.split(' ').any(|had| had == *scope)) {
                let less = expected.split(' ').filter(|scope| *scope != left_out);
                assert!(Scopes::granted(less).check(class, at.as_ref()).is_err(), "{expected} without {left_out}");
            }
        }
    }

    #[test]
    fn a23_narrowing_never_widens() {
        let all =
            ["", "mcp:read", "mcp:write", "mcp:read mcp:write", "mcp:read server:a", "server:a", "mcp:admin", "*"];
        let classes = [ToolClass::Read, ToolClass::Write, ToolClass::Destructive, ToolClass::Unknown];
        for has in all {
            for wants in all {
                for class in classes {
                    for at in [None, Some(server("a")), Some(server("b"))] {
                        let (had, asked) = (granted(has), granted(wants));
                        let both = had.check(class, at.as_ref()).is_ok() && asked.check(class, at.as_ref()).is_ok();
                        let narrowed = granted(has).narrowed(wants.split_whitespace()).check(class, at.as_ref());
                        assert_eq!(narrowed.is_ok(), both, "{has} narrowed to {wants}");
                        // Twice is no way back.
                        let again = granted(has).narrowed(wants.split_whitespace()).narrowed(all[3].split(' '));
                        assert!(again.check(class, at.as_ref()).is_err() || both);
                    }
                }
            }
        }
        let free = Scopes::ALL.narrowed(["mcp:read"]);
        assert_eq!(free.check(ToolClass::Read, None), Ok(()));
        assert_eq!(free.check(ToolClass::Write, None), Err(Lacks::Narrowed));
        assert_eq!(granted("mcp:admin").check_list(), Err(Lacks::Scope("mcp:admin mcp:read".into())));
        assert_eq!(granted("mcp:write").check_list(), Ok(()));
    }
}
