//! What people and programs may do in the administration (feature row A24).

use serde::{Deserialize, Serialize};

/// One role. Roles are independent of each other; only an owner has all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything but the bodies of calls, which only auditors read.
    Owner,
    /// Catalogue, definitions, policies, approvals of servers.
    Governance,
    /// Findings, kill switches, revocation, alerts.
    Security,
    /// Reads the record, and as the only role the bodies of calls.
    Auditor,
    /// Health, synchronisation, health of upstream servers.
    Operator,
    /// Asks for servers and sees those of their own.
    Author,
    /// Everybody who is signed in.
    Employee,
}

impl Role {
    /// All roles, most powerful first.
    pub const ALL: [Self; 7] =
        [Self::Owner, Self::Governance, Self::Security, Self::Auditor, Self::Operator, Self::Author, Self::Employee];

    /// The lower-case word in files, audit events and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Governance => "governance",
            Self::Security => "security",
            Self::Auditor => "auditor",
            Self::Operator => "operator",
            Self::Author => "author",
            Self::Employee => "employee",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// The roles of one principal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoleSet(u8);

impl RoleSet {
    /// Nobody's.
    pub const NONE: Self = Self(0);

    /// With one role more.
    #[must_use]
    pub const fn with(self, role: Role) -> Self {
        Self(self.0 | role.bit())
    }

    /// Whether the role was given; an owner has only `owner` here, see [`Self::allows`].
    pub const fn has(self, role: Role) -> bool {
        self.0 & role.bit() != 0
    }

    /// Whether what needs `role` is allowed: it was given, or the principal is an owner. Bodies
    /// of calls are not an owner's either: what needs [`Role::Auditor`] needs that role itself.
    pub const fn allows(self, role: Role) -> bool {
        self.has(role) || (self.has(Role::Owner) && !matches!(role, Role::Auditor))
    }

    /// The roles that were given.
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.has(*role))
    }
}

#[cfg(test)]
mod tests {
    use super::{Role, RoleSet};

    #[test]
    fn a24_an_owner_reads_no_bodies() {
        let owner = RoleSet::NONE.with(Role::Owner);
        for role in Role::ALL {
            assert_eq!(owner.allows(role), role != Role::Auditor, "{}", role.as_str());
        }
        assert!(Role::ALL.iter().all(|role| !RoleSet::NONE.allows(*role)));
        assert!(owner.with(Role::Auditor).allows(Role::Auditor));
        assert_eq!(owner.with(Role::Author).iter().collect::<Vec<_>>(), [Role::Owner, Role::Author]);
    }
}
