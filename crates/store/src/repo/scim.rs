//! People and groups as a directory provisions them (feature row A14), and what follows
//! from them for the people who sign in.

pub mod group;
pub(crate) mod settle;
pub mod user;

use super::meta;
use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Statement, Tx};

/// Name of the policy among the values of the installation.
const POLICY: &str = "scim.policy";
/// Behind a policy by which not everybody has been judged.
const UNFINISHED: &str = " unfinished";
const POLICY_GET: Statement = Statement::read("scim.policy", "SELECT value FROM meta WHERE name = 'scim.policy'");

pub(crate) fn statements() -> Vec<Statement> {
    let mut all: Vec<Statement> = super::list![POLICY_GET].into();
    all.extend(user::statements());
    all.extend(group::statements());
    all.extend(settle::statements());
    all
}

/// What of a provisioned user is what of a person who signs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// `userName` is the address.
    UserName,
    /// The primary of `emails` is the address.
    Email,
    /// `externalId` is the subject at the identity provider.
    ExternalId,
}

/// Where groups come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupsFrom {
    /// From what is provisioned.
    Scim,
    /// From what the identity provider says.
    Claims,
    /// From both.
    Both,
}

/// How provisioning bears on signing in. Kept in the store, because every process and every
/// command must judge alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Who is not provisioned stays out.
    pub required: bool,
    /// How the two are joined.
    pub by: Match,
    /// Whose groups count.
    pub groups: GroupsFrom,
}

impl Policy {
    fn text(policy: Option<&Self>) -> String {
        let Some(policy) = policy else { return "off".to_owned() };
        let by = match policy.by {
            Match::UserName => "user_name",
            Match::Email => "email",
            Match::ExternalId => "external_id",
        };
        let groups = match policy.groups {
            GroupsFrom::Scim => "scim",
            GroupsFrom::Claims => "claims",
            GroupsFrom::Both => "both",
        };
        format!("{} {by} {groups}", if policy.required { "required" } else { "optional" })
    }

    fn parse(text: &str) -> Result<Option<Self>, StoreError> {
        let text = text.strip_suffix(UNFINISHED).unwrap_or(text);
        if text == "off" {
            return Ok(None);
        }
        let bad = || StoreError::Data("meta.value of scim.policy");
        let parts: Vec<&str> = text.split(' ').collect();
        let [required, by, groups] = parts.as_slice() else { return Err(bad()) };
        Ok(Some(Self {
            required: match *required {
                "required" => true,
                "optional" => false,
                _ => return Err(bad()),
            },
            by: match *by {
                "user_name" => Match::UserName,
                "email" => Match::Email,
                "external_id" => Match::ExternalId,
                _ => return Err(bad()),
            },
            groups: match *groups {
                "scim" => GroupsFrom::Scim,
                "claims" => GroupsFrom::Claims,
                "both" => GroupsFrom::Both,
                _ => return Err(bad()),
            },
        }))
    }
}

/// The policy as it stands; `None`: nothing is provisioned.
pub(crate) async fn policy_in(tx: &mut Tx) -> Result<Option<Policy>, StoreError> {
    match tx.fetch_optional(&POLICY_GET, &[]).await? {
        Some(row) => Policy::parse(&row.text(0, "meta.value")?),
        None => Ok(None),
    }
}

/// What the store judges by now: `off`, or `required` or `optional`, how people are joined, and
/// whose groups count.
///
/// # Errors
/// When the database does not answer.
pub async fn policy_text(store: &Store) -> Result<String, StoreError> {
    let text = meta::get(store, POLICY).await?.unwrap_or_else(|| Policy::text(None));
    Ok(text.strip_suffix(UNFINISHED).unwrap_or(&text).to_owned())
}

/// Sets how provisioning bears on signing in; if that is new, everybody is judged anew.
/// Returns how many people it changed.
///
/// # Errors
/// When the database does not answer; then some may be judged by the former one until it
/// is set again.
pub async fn set_policy(store: &Store, policy: Option<&Policy>) -> Result<u64, StoreError> {
    let text = Policy::text(policy);
    let old = meta::get(store, POLICY).await?;
    if old.as_deref() == Some(&text) || (old.is_none() && policy.is_none()) {
        return Ok(0);
    }
    // Whoever signs in from now on is judged by the new one; the others follow. If that
    // breaks off, the next start does not take it for done.
    meta::set(store, POLICY, &format!("{text}{UNFINISHED}")).await?;
    let judged = settle::everybody(store).await?;
    meta::set(store, POLICY, &text).await?;
    Ok(judged)
}

/// An optional text as an argument.
fn text(value: &Option<String>) -> Arg<'_> {
    Arg::OptText(value.as_deref())
}
