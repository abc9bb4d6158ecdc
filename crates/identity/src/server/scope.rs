//! What scopes mean when they are asked for (A23). All but one kind add something; a
//! `server:ID` takes away, since without any the credential is good for every server. So
//! none of them may be lost between what was asked, what was granted and what is issued.

use bartizan_oauth::scope::ScopeSet;

/// Scopes that exist and are only granted when they are asked for, with the words of the
/// consent page.
pub(super) const ON_REQUEST: [(&str, &str); 2] =
    [("mcp:admin", "Administer this installation, as far as you may"), ("llm", "Use models on your account")];

/// Begins the scope of one server.
const SERVER: &str = "server:";

/// The words of the consent page for the scope of one server.
pub(super) fn server(scope: &str) -> Option<String> {
    scope.strip_prefix(SERVER).map(|id| format!("Only at the server {id} and others named here"))
}

fn of<'a>(scopes: impl Iterator<Item = &'a str>) -> ScopeSet {
    // Parts of a set that was read are a set that can be read.
    ScopeSet::parse(&scopes.collect::<Vec<_>>().join(" ")).unwrap_or_default()
}

fn is_server(scope: &&str) -> bool {
    scope.starts_with(SERVER)
}

/// What exists of what is asked. A server that does not exist stays: without it the grant
/// would be good for more.
pub(super) fn known(asked: &ScopeSet, usual: &ScopeSet) -> ScopeSet {
    let exists =
        |scope: &&str| usual.contains(scope) || is_server(scope) || ON_REQUEST.iter().any(|(name, _)| name == scope);
    of(asked.iter().filter(exists))
}

/// What is asked, as far as it is held too; the empty set when nothing is left.
pub(super) fn within(asked: &ScopeSet, held: &ScopeSet) -> ScopeSet {
    let rights = of(asked.intersection(held).iter().filter(|scope| !is_server(scope)));
    let servers = |set: &ScopeSet| of(set.iter().filter(is_server));
    let (wanted, allowed) = (servers(asked), servers(held));
    let servers = match (wanted.is_empty(), allowed.is_empty()) {
        (true, _) => allowed,
        (_, true) => wanted,
        (false, false) => {
            let both = wanted.intersection(&allowed);
            if both.is_empty() {
                return ScopeSet::default();
            }
            both
        }
    };
    rights.union(&servers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> ScopeSet {
        ScopeSet::parse(text).unwrap()
    }

    #[test]
    fn a23_the_scope_of_a_server_is_never_lost() {
        for (asked, held, expected) in [
            ("mcp:read", "mcp:read mcp:write", "mcp:read"),
            ("mcp:read", "mcp:read server:a", "mcp:read server:a"),
            ("mcp:read server:a", "mcp:read", "mcp:read server:a"),
            ("mcp:read server:a", "mcp:read server:a server:b", "mcp:read server:a"),
            ("mcp:read server:a", "mcp:read server:b", ""),
            ("mcp:admin", "mcp:read", ""),
        ] {
            assert_eq!(within(&set(asked), &set(held)).to_string(), expected, "{asked} of {held}");
        }
        let usual = set("mcp:read mcp:write");
        for (asked, expected) in [
            ("mcp:read openid", "mcp:read"),
            ("mcp:read server:nowhere", "mcp:read server:nowhere"),
            ("mcp:read server:NOT!AN!ID", "mcp:read server:NOT!AN!ID"),
            ("llm mcp:admin mcp:Read *", "llm mcp:admin"),
        ] {
            assert_eq!(known(&set(asked), &usual).to_string(), expected, "{asked}");
        }
    }
}
