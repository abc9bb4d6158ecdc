//! What provisioning means for a person: whether they may sign in, and their groups.
//!
//! Everybody takes locks in one order: group, user, person. So of a sign-in and a change of
//! the directory at the same moment the later one sees the other.

use super::user::{self, User};
use super::{GroupsFrom, Match, Policy, policy_in};
use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Row, Statement, Tx};
use crate::repo::{change, oauth_grant, person, upstream_account};

/// Deactivated because the directory says so.
const BY_SCIM: &str = "scim";
/// Deactivated because the directory does not know them.
const BY_ABSENCE: &str = "unprovisioned";
/// People judged in one transaction.
const BATCH: i64 = 100;

const LINKED: Statement = Statement::read("scim_user.of_person", "SELECT id FROM scim_user WHERE person = $1");
const BY_NAME_ID: Statement =
    Statement::read("scim_user.by_name_id", "SELECT id FROM scim_user WHERE name_id = $1 LIMIT 2");
const BY_EMAIL_ID: Statement =
    Statement::read("scim_user.by_email_id", "SELECT id FROM scim_user WHERE email_id = $1 LIMIT 2");
const BY_SUBJECT: Statement =
    Statement::read("scim_user.by_subject", "SELECT id FROM scim_user WHERE external_id = $1 LIMIT 2");
const LOCK: Statement = Statement::write("scim_user.lock", "UPDATE scim_user SET active = active WHERE id = $1");
const LINK: Statement = Statement::write("scim_user.link", "UPDATE scim_user SET person = $2 WHERE id = $1");
const UNLINK: Statement = Statement::write("scim_user.unlink", "UPDATE scim_user SET person = NULL WHERE person = $1");
const PERSON_BY_EMAIL: Statement = Statement::read(
    "scim.person_by_email",
    "SELECT p.id, u.id, p.deactivated_ms FROM person p LEFT JOIN scim_user u ON u.person = p.id WHERE p.email = $1 AND p.issuer <> 'break-glass' LIMIT 2",
);
const PERSON_BY_SUBJECT: Statement = Statement::read(
    "scim.person_by_subject",
    "SELECT p.id, u.id, p.deactivated_ms FROM person p LEFT JOIN scim_user u ON u.person = p.id WHERE p.subject = $1 AND p.issuer <> 'break-glass' LIMIT 2",
);
const STATE: Statement = Statement::write(
    "scim.person_state",
    "UPDATE person SET name = name WHERE id = $1 \
     RETURNING email, groups_json, claims_json, deactivated_ms, deactivated_by",
);
const CLAIMED: Statement = Statement::write("scim.claimed", "UPDATE person SET claims_json = $2 WHERE id = $1");
const OUT: Statement = Statement::write(
    "scim.out",
    "UPDATE person SET deactivated_ms = $2, deactivated_by = $3 WHERE id = $1 AND deactivated_ms IS NULL",
);
/// As [`BACK`] by somebody who proved who they are, and only of what the directory did.
const RETURNED: Statement = Statement::write(
    "scim.returned",
    "UPDATE person SET deactivated_ms = NULL, deactivated_by = NULL WHERE id = $1 AND deactivated_by IN ($2, $3)",
);
const BACK: Statement = Statement::write(
    "scim.back",
    "UPDATE person SET deactivated_ms = NULL, deactivated_by = NULL WHERE id = $1 AND deactivated_by IS NOT NULL",
);
const GROUPS: Statement =
    Statement::write("scim.groups", "UPDATE person SET groups_json = $2, claims_json = $3 WHERE id = $1");
const PEOPLE: Statement = Statement::read(
    "scim.people",
    "SELECT id, email, subject FROM person WHERE id > $1 AND issuer <> 'break-glass' ORDER BY id LIMIT $2",
);

pub(crate) fn statements() -> Vec<Statement> {
    crate::repo::list![
        LINKED,
        BY_NAME_ID,
        BY_EMAIL_ID,
        BY_SUBJECT,
        LOCK,
        LINK,
        UNLINK,
        PERSON_BY_EMAIL,
        PERSON_BY_SUBJECT,
        STATE,
        CLAIMED,
        OUT,
        RETURNED,
        BACK,
        GROUPS,
        PEOPLE
    ]
    .into()
}

/// What a sign-in is told.
pub(crate) enum Verdict {
    /// Nothing is provisioned: everything is as the identity provider says.
    Free,
    /// These groups (JSON) count; the user to be linked, if the person is provisioned.
    Known { groups_json: String, user: Option<String> },
    /// Not provisioned, or not active.
    Refused,
}

/// The user of a person.
enum Found {
    /// The directory does not know them.
    None,
    One(User),
    /// It may know them, and nobody can say as whom: nobody may sign in on a guess.
    Unclear,
}

/// Judges somebody who signs in, and holds their user until the transaction ends.
pub(crate) async fn sign_in_in(
    tx: &mut Tx,
    person: Option<&str>,
    email: &str,
    subject: &str,
    claims_json: &str,
) -> Result<Verdict, StoreError> {
    let Some(policy) = policy_in(tx).await? else { return Ok(Verdict::Free) };
    let user = match find_in(tx, &policy, person, email, subject).await? {
        Found::One(user) if user.active => Some(user),
        Found::None if !policy.required => None,
        Found::One(_) | Found::None | Found::Unclear => return Ok(Verdict::Refused),
    };
    if let Some(person) = person {
        // Only here issuer, subject and what the two have in common are proved together. Who
        // merely was not known needs no more than to be allowed now.
        let gone = if user.is_some() { BY_SCIM } else { BY_ABSENCE };
        tx.execute(&RETURNED, &[Arg::Text(person), Arg::Text(BY_ABSENCE), Arg::Text(gone)]).await?;
    }
    let groups_json = groups(&policy, claims_json, user.as_ref(), tx).await?;
    Ok(Verdict::Known { groups_json, user: user.map(|user| user.id) })
}

/// Notes who a user is, and what the identity provider said.
pub(crate) async fn signed_in_in(
    tx: &mut Tx,
    person: &str,
    claims_json: &str,
    user: Option<&str>,
) -> Result<(), StoreError> {
    tx.execute(&CLAIMED, &[Arg::Text(person), Arg::Text(claims_json)]).await?;
    match user {
        Some(user) => tx.execute(&LINK, &[Arg::Text(user), Arg::Text(person)]).await.map(drop),
        None => Ok(()),
    }
}

/// A person is removed: their user is nobody for now.
pub(crate) async fn unlink_in(tx: &mut Tx, person: &str) -> Result<(), StoreError> {
    tx.execute(&UNLINK, &[Arg::Text(person)]).await.map(drop)
}

/// The user of a person, held. By the link; without one by what the two have in common, but
/// never a user that is somebody else, and never one of several.
async fn find_in(
    tx: &mut Tx,
    policy: &Policy,
    person: Option<&str>,
    email: &str,
    subject: &str,
) -> Result<Found, StoreError> {
    let mut ids = Vec::new();
    if let Some(person) = person {
        ids = tx.fetch_all(&LINKED, &[Arg::Text(person)]).await?;
    }
    if ids.is_empty() {
        let key = if policy.by == Match::ExternalId { subject } else { email };
        ids = with_key(tx, policy.by, key).await?;
    }
    let id = match ids.as_slice() {
        [] => return Ok(Found::None),
        [row] => row.text(0, "scim_user.id")?,
        _ => return Ok(Found::Unclear),
    };
    tx.execute(&LOCK, &[Arg::Text(&id)]).await?;
    Ok(match user::get_in(tx, &id).await? {
        Some(user) if user.person.is_none() || user.person.as_deref() == person => Found::One(user),
        _ => Found::Unclear,
    })
}

/// Up to two users of whom this is true.
async fn with_key(tx: &mut Tx, by: Match, key: &str) -> Result<Vec<Row>, StoreError> {
    match by {
        Match::UserName => tx.fetch_all(&BY_NAME_ID, &[Arg::Text(key)]).await,
        Match::Email => tx.fetch_all(&BY_EMAIL_ID, &[Arg::Text(key)]).await,
        Match::ExternalId => tx.fetch_all(&BY_SUBJECT, &[Arg::Text(key)]).await,
    }
}

async fn groups(policy: &Policy, claims: &str, user: Option<&User>, tx: &mut Tx) -> Result<String, StoreError> {
    let bad = |_| StoreError::Data("person.claims_json");
    let mut names: Vec<String> = match policy.groups {
        GroupsFrom::Scim => Vec::new(),
        GroupsFrom::Claims | GroupsFrom::Both => serde_json::from_str(claims).map_err(bad)?,
    };
    if let (Some(user), GroupsFrom::Scim | GroupsFrom::Both) = (user, policy.groups) {
        names.extend(user::group_names_in(tx, &user.id).await?);
    }
    // Nobody but the account of that name is in its group, whatever a directory says.
    names.retain(|name| name != person::LOCAL_GROUP);
    names.sort();
    names.dedup();
    serde_json::to_string(&names).map_err(bad)
}

/// Judges the person of a user that was made or changed, and links them. A user that already
/// is somebody must not come to the name of somebody else.
pub(super) async fn user_in(tx: &mut Tx, id: &str, now: i64) -> Result<(), StoreError> {
    let Some(policy) = policy_in(tx).await? else { return Ok(()) };
    let Some(mut user) = user::get_in(tx, id).await? else { return Ok(()) };
    let key = match policy.by {
        Match::UserName => user.name_id.as_deref(),
        Match::Email => user.email_id.as_deref(),
        Match::ExternalId => user.external_id.as_deref(),
    };
    let by = if policy.by == Match::ExternalId { &PERSON_BY_SUBJECT } else { &PERSON_BY_EMAIL };
    let same = match key {
        Some(key) => tx.fetch_all(by, &[Arg::Text(key)]).await?,
        None => Vec::new(),
    };
    let only = match key {
        Some(key) if user.person.is_none() => with_key(tx, policy.by, key).await?.len() == 1,
        _ => false,
    };
    if let [row] = same.as_slice() {
        let (person, other) = (row.text(0, "person.id")?, row.opt_text(1, "scim_user.id")?);
        match (&user.person, other) {
            (Some(linked), _) if *linked != person => return Err(StoreError::Conflict),
            (_, Some(other)) if other != user.id => return Err(StoreError::Conflict),
            // Whoever is out comes back by signing in, not on the directory's word alone: an
            // address is given to the next one, who must not get the leaver's account, nor the
            // leaver theirs.
            (None, _) if only && row.opt_int(2, "person.deactivated_ms")?.is_none() => {
                tx.execute(&LINK, &[Arg::Text(&user.id), Arg::Text(&person)]).await?;
                user.person = Some(person);
            }
            _ => {}
        }
    }
    match user.person.clone() {
        Some(person) => judge_in(tx, &policy, &person, &Found::One(user), now).await.map(drop),
        None => Ok(()),
    }
}

/// A provisioned person is gone from the directory.
pub(super) async fn gone_in(tx: &mut Tx, person: &str, now: i64) -> Result<(), StoreError> {
    let Some(row) = tx.fetch_optional(&STATE, &[Arg::Text(person)]).await? else { return Ok(()) };
    out_in(tx, person, &row.text(0, "person.email")?, BY_SCIM, now).await.map(drop)
}

async fn out_in(tx: &mut Tx, person: &str, email: &str, by: &str, now: i64) -> Result<bool, StoreError> {
    if tx.execute(&OUT, &[Arg::Text(person), Arg::Int(now), Arg::Text(by)]).await? == 0 {
        return Ok(false);
    }
    oauth_grant::end_all_in(tx, person, "deprovisioned", now).await?;
    upstream_account::remove_all_in(tx, &person::owner(email), now).await?;
    change::append_in(tx, person::TOPIC, person, now).await?;
    Ok(true)
}

/// Makes a person what the policy says. True when that was a change.
async fn judge_in(tx: &mut Tx, policy: &Policy, person: &str, found: &Found, now: i64) -> Result<bool, StoreError> {
    let Some(row) = tx.fetch_optional(&STATE, &[Arg::Text(person)]).await? else { return Ok(false) };
    let state = State::of(&row)?;
    let (user, allowed) = match found {
        Found::One(user) => (Some(user), user.active),
        Found::None => (None, !policy.required),
        Found::Unclear => (None, false),
    };
    let mut changed = false;
    if !allowed {
        let by = if user.is_some() { BY_SCIM } else { BY_ABSENCE };
        changed = out_in(tx, person, &state.email, by, now).await?;
    } else if state.out {
        // Whoever is gone from the directory comes back only with it; an administrator's word stays.
        let back = match state.by.as_deref() {
            Some(BY_SCIM) => user.is_some(),
            Some(BY_ABSENCE) => true,
            _ => false,
        };
        if back {
            changed = tx.execute(&BACK, &[Arg::Text(person)]).await? == 1;
        }
    }
    let groups = groups(policy, &state.claims, user, tx).await?;
    if groups != state.groups {
        tx.execute(&GROUPS, &[Arg::Text(person), Arg::Text(&groups), Arg::Text(&state.claims)]).await?;
        changed = true;
    }
    if changed {
        change::append_in(tx, person::TOPIC, person, now).await?;
    }
    Ok(changed)
}

struct State {
    email: String,
    groups: String,
    claims: String,
    out: bool,
    by: Option<String>,
}

impl State {
    fn of(row: &Row) -> Result<Self, StoreError> {
        let groups = row.text(1, "person.groups_json")?;
        Ok(Self {
            email: row.text(0, "person.email")?,
            claims: row.opt_text(2, "person.claims_json")?.unwrap_or_else(|| groups.clone()),
            groups,
            out: row.opt_int(3, "person.deactivated_ms")?.is_some(),
            by: row.opt_text(4, "person.deactivated_by")?,
        })
    }
}

/// Links a user that is nobody yet to the person it was found for, unless that one is out: see
/// [`user_in`].
async fn linked_in(tx: &mut Tx, found: Found, person: &str) -> Result<Found, StoreError> {
    let Found::One(user) = &found else { return Ok(found) };
    if user.person.is_some() {
        return Ok(found);
    }
    let Some(row) = tx.fetch_optional(&STATE, &[Arg::Text(person)]).await? else { return Ok(Found::None) };
    if State::of(&row)?.out {
        return Ok(Found::None);
    }
    tx.execute(&LINK, &[Arg::Text(&user.id), Arg::Text(person)]).await?;
    Ok(found)
}

/// Judges everybody by the policy as it stands. Returns how many people it changed.
pub(super) async fn everybody(store: &Store) -> Result<u64, StoreError> {
    let (mut last, mut changed) = (String::new(), 0);
    loop {
        let people = store.fetch_all(&PEOPLE, &[Arg::Text(&last), Arg::Int(BATCH)]).await?;
        let Some(newest) = people.last() else { return Ok(changed) };
        last = newest.text(0, "person.id")?;
        let now = store.now_ms();
        for row in &people {
            // One transaction each: whoever waits for one of them does not wait for all.
            let mut tx = store.begin().await?;
            let id = row.text(0, "person.id")?;
            let (email, subject) = (row.text(1, "person.email")?, row.text(2, "person.subject")?);
            let judged = match policy_in(&mut tx).await? {
                Some(policy) => {
                    let found = find_in(&mut tx, &policy, Some(&id), &email, &subject).await?;
                    let found = linked_in(&mut tx, found, &id).await?;
                    judge_in(&mut tx, &policy, &id, &found, now).await?
                }
                // Nobody is kept out any more for not being known; whom the directory shut out stays out.
                None => {
                    let off = Policy { required: false, by: Match::UserName, groups: GroupsFrom::Claims };
                    judge_in(&mut tx, &off, &id, &Found::None, now).await?
                }
            };
            tx.commit().await?;
            changed += u64::from(judged);
        }
    }
}
