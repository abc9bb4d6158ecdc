//! Roles in the administration, compiled (A24).

use std::collections::HashMap;

use bartizan_config::Diagnostic;
use bartizan_config::roles::Roles as Written;
use bartizan_model::{Principal, PrincipalKind, Role, RoleSet, check_user_id};

/// Who has which role.
#[derive(Debug, Default)]
pub struct Roles {
    /// By the key of a principal, `user:alice`.
    principals: HashMap<Box<str>, RoleSet>,
    groups: HashMap<Box<str>, RoleSet>,
}

impl Roles {
    /// Compiles what resources say; everything wrong is told.
    pub(crate) fn compile(written: &Written, errors: &mut Vec<Diagnostic>) -> Self {
        let mut compiled = Self::default();
        let lists = [
            (Role::Owner, &written.owner),
            (Role::Governance, &written.governance),
            (Role::Security, &written.security),
            (Role::Auditor, &written.auditor),
            (Role::Operator, &written.operator),
            (Role::Author, &written.author),
        ];
        for (role, list) in lists {
            for (at, text) in list.iter().enumerate() {
                if !compiled.add(role, text) {
                    let path = format!("roles.{}[{at}]", role.as_str());
                    errors.push(
                        Diagnostic::new(path, "invalid_principal", format!("`{text}` is nobody who can have a role"))
                            .suggest("write `user:NAME`, `group:NAME`, `service:ID` or `agent:ID`"),
                    );
                }
            }
        }
        compiled
    }

    fn add(&mut self, role: Role, text: &str) -> bool {
        let Some((kind, id)) = text.split_once(':').filter(|(_, id)| !id.is_empty() && id.trim() == *id) else {
            return false;
        };
        let set = match kind {
            "group" => self.groups.entry(id.into()).or_default(),
            "user" => match check_user_id(id) {
                Ok(id) => self.principals.entry(format!("user:{id}").into()).or_default(),
                Err(_) => return false,
            },
            "service" | "agent" => self.principals.entry(text.into()).or_default(),
            _ => return false,
        };
        *set = set.with(role);
        true
    }

    /// The roles of a principal. Somebody who is nobody in particular has none, not even `employee`.
    pub fn of(&self, principal: &Principal) -> RoleSet {
        if principal.kind == PrincipalKind::Anonymous || !principal.is_proper() {
            return RoleSet::NONE;
        }
        let mut roles = self.principals.get(&**principal.key()).copied().unwrap_or_default();
        for group in principal.groups.iter() {
            let more = self.groups.get(&**group).copied().unwrap_or_default();
            roles = more.iter().fold(roles, RoleSet::with);
        }
        if principal.kind == PrincipalKind::User { roles.with(Role::Employee) } else { roles }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bartizan_config::roles::Roles as Written;
    use bartizan_model::{Principal, PrincipalKind, Role};

    use super::Roles;

    fn list(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn a24_roles_come_from_groups_and_names() {
        let written = Written {
            owner: list(&["user:Ada@Example.com"]),
            governance: list(&["group:governance"]),
            auditor: list(&["service:siem", "group:governance"]),
            ..Written::default()
        };
        let mut errors = Vec::new();
        let roles = Roles::compile(&written, &mut errors);
        assert!(errors.is_empty(), "{errors:?}");
        let of = |kind, id: &str, groups: &[&str]| {
            roles.of(&Principal::new(kind, id, groups.iter().map(|group| Arc::from(*group)))).iter().collect::<Vec<_>>()
        };
        assert_eq!(of(PrincipalKind::User, "ada@example.com", &[]), [Role::Owner, Role::Employee]);
        assert_eq!(of(PrincipalKind::User, "bob", &["governance"]), [Role::Governance, Role::Auditor, Role::Employee]);
        assert_eq!(of(PrincipalKind::Service, "siem", &[]), [Role::Auditor]);
        // A name is no group, and a program is not a person of that name.
        assert_eq!(of(PrincipalKind::User, "governance", &[]), [Role::Employee]);
        assert_eq!(of(PrincipalKind::Service, "ada@example.com", &[]), []);
        assert_eq!(of(PrincipalKind::Anonymous, "anonymous", &["governance"]), []);
    }

    #[test]
    fn a24_who_can_have_no_role_is_told() {
        let written = Written {
            owner: list(&["everyone", "alice", "user:", "group: x", "anonymous:anonymous", "user:a b@c"]),
            ..Written::default()
        };
        let mut errors = Vec::new();
        Roles::compile(&written, &mut errors);
        let paths: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
        assert_eq!(paths.len(), 6, "{errors:?}");
        assert_eq!(paths.first(), Some(&"roles.owner[0]"));
    }
}
