//! Who calls.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What kind of caller a principal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrincipalKind {
    /// A person.
    User,
    /// A service token (A11).
    Service,
    /// A program with an identity of its own and an owner (A27).
    Agent,
    /// Nobody in particular: only public servers (G7).
    Anonymous,
}

impl PrincipalKind {
    /// `user`, `service`, `agent` or `anonymous`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Service => "service",
            Self::Agent => "agent",
            Self::Anonymous => "anonymous",
        }
    }

    /// True for programs that call without a person: access rules let them in by
    /// `service_auth` only.
    pub fn is_machine(self) -> bool {
        matches!(self, Self::Service | Self::Agent)
    }
}

/// An authenticated caller. Two principals are the same iff `key()` is the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal {
    /// Kind of caller.
    pub kind: PrincipalKind,
    /// Stable id within the kind: a user name or e-mail in the form of [`fold_user_id`], a
    /// service token id, an agent's id, `anonymous`.
    pub id: Arc<str>,
    /// Group names, sorted and unique.
    pub groups: Arc<[Arc<str>]>,
    /// `kind:id`, computed once because every cache is keyed by it.
    key: Arc<str>,
    /// The id of a user passes [`check_user_id`].
    proper: bool,
}

impl Principal {
    /// Builds a principal; folds the id of a user, sorts and deduplicates the groups.
    ///
    /// An id that no rule can name makes a principal that is not [`Self::is_proper`], and
    /// policies refuse it everything. Ask [`check_user_id`] first where a person can be told why.
    pub fn new(kind: PrincipalKind, id: impl Into<Arc<str>>, groups: impl IntoIterator<Item = Arc<str>>) -> Self {
        let given: Arc<str> = id.into();
        let (id, proper) = match kind {
            PrincipalKind::User => match fold_user_id(&given) {
                Cow::Borrowed(same) if same.len() == given.len() => (Arc::clone(&given), check_user_id(same).is_ok()),
                folded => (Arc::from(&*folded), check_user_id(&folded).is_ok()),
            },
            PrincipalKind::Service | PrincipalKind::Agent | PrincipalKind::Anonymous => (given, true),
        };
        let mut groups: Vec<Arc<str>> = groups.into_iter().collect();
        groups.sort();
        groups.dedup();
        let key = format!("{}:{id}", kind.as_str()).into();
        Self { kind, id, groups: groups.into(), key, proper }
    }

    /// False for a user whose id no rule can name; such a principal must be refused everything.
    pub fn is_proper(&self) -> bool {
        self.proper
    }

    /// The caller of public servers.
    pub fn anonymous() -> Self {
        Self::new(PrincipalKind::Anonymous, "anonymous", [])
    }

    /// `user:alice`, `service:ci`, `agent:deploy`, `anonymous:anonymous`: the name in policies, caches and audit events.
    pub fn key(&self) -> &Arc<str> {
        &self.key
    }
}

/// Bytes of a user id: an OIDC subject has at most 255, a mail path (RFC 5321 §4.5.3.1.3) 254.
const MAX_USER_ID: usize = 255;

/// Why a text cannot be the id of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserIdError {
    /// Nothing but blanks.
    #[error("a user id must not be empty")]
    Empty,
    /// More than 255 bytes.
    #[error("a user id has at most {MAX_USER_ID} bytes")]
    TooLong,
    /// Control characters, or letters that only look like others.
    #[error("a user id is printable ASCII; write a domain with other letters in its `xn--` form")]
    Character,
    /// Has an `@`, but is not `name@domain`.
    #[error("an e-mail address is written `name@domain`, without quotes, spaces and final dot")]
    Address,
}

/// The form in which users are compared everywhere: without blanks around it, and an
/// e-mail address in lower case, whole. Mail systems could tell the case of the local part
/// apart (RFC 5321 §2.4) but none does, and a rule must not be dodged by a capital letter.
/// Other ids (user names, subjects) keep their case.
pub fn fold_user_id(id: &str) -> Cow<'_, str> {
    let id = id.trim();
    if id.contains('@') && id.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(id.to_ascii_lowercase())
    } else {
        Cow::Borrowed(id)
    }
}

/// Folds an id and refuses what could be taken for another one: control characters,
/// everything beyond ASCII, and addresses with more than one spelling.
///
/// # Errors
/// [`UserIdError`], for people; it does not repeat the text.
pub fn check_user_id(id: &str) -> Result<Cow<'_, str>, UserIdError> {
    let id = fold_user_id(id);
    if id.is_empty() {
        return Err(UserIdError::Empty);
    }
    if id.len() > MAX_USER_ID {
        return Err(UserIdError::TooLong);
    }
    if !id.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        return Err(UserIdError::Character);
    }
    if id.contains('@') && !is_address(&id) {
        return Err(UserIdError::Address);
    }
    Ok(id)
}

/// `dot-atom@domain` (RFC 5322 §3.4.1), the only form with one spelling.
fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let atom = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b))
    };
    let label = |part: &str| {
        (1..=63).contains(&part.len())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    local.split('.').all(atom) && domain.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: &str) -> Principal {
        Principal::new(PrincipalKind::User, id, [])
    }

    #[test]
    fn a3_one_address_is_one_principal_in_every_case() {
        let ana = user("ana@corp.example");
        for spelling in ["Ana@Corp.example", "ANA@CORP.EXAMPLE", " ana@corp.example\n", "aNa@corp.Example"] {
            assert_eq!(user(spelling), ana, "{spelling:?}");
            assert_eq!(&**user(spelling).key(), "user:ana@corp.example");
            assert!(user(spelling).is_proper());
        }
        // Names and subjects are not addresses: their case tells them apart.
        assert_ne!(user("Alice"), user("alice"));
        let service = Principal::new(PrincipalKind::Service, "CI@Build", []);
        assert_eq!(&*service.id, "CI@Build");
    }

    #[test]
    fn a3_ids_that_look_like_others_are_refused() {
        use UserIdError::{Address, Character, Empty, TooLong};
        let long = "x".repeat(256);
        for (id, error) in [
            ("", Empty),
            (" \t", Empty),
            (long.as_str(), TooLong),
            ("ana\u{0}@corp.example", Character),
            ("an\u{7f}a", Character),
            ("ana\n@corp.example", Character),
            ("\u{430}na@corp.example", Character),
            ("\u{ff21}na@corp.example", Character),
            ("ana\u{ff20}corp.example", Character),
            ("ana\u{200b}@corp.example", Character),
            ("ana@corp\u{2024}example", Character),
            ("\u{212a}im@corp.example", Character),
            ("ana@corp.example.", Address),
            ("ana@corp..example", Address),
            ("ana@", Address),
            ("@corp.example", Address),
            ("a@b@corp.example", Address),
            ("\"a b\"@corp.example", Address),
            ("ana @corp.example", Address),
            ("ana@[192.0.2.1]", Address),
        ] {
            assert_eq!(check_user_id(id), Err(error), "{id:?}");
            assert!(!user(id).is_proper(), "{id:?}");
        }
        for id in
            ["ana@corp.example", "a.b+c@xn--mnchen-3ya.example", "auth0|5f7c8ec7c33c6c004bbafe82", "Ana Lee", "a@b"]
        {
            assert!(check_user_id(id).is_ok(), "{id:?}");
        }
    }
}
