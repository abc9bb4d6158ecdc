//! What a directory provisions, and what that means for people.

use std::collections::BTreeSet;
use std::sync::Arc;

use bartizan_model::ManualClock;
use bartizan_store::repo::scim::group::{self, Changed, Group};
use bartizan_store::repo::scim::user::{self, User};
use bartizan_store::repo::scim::{GroupsFrom, Match, Policy, set_policy};
use bartizan_store::repo::{browser_session, change, person, upstream_account};
use bartizan_store::{Store, StoreError};

use super::common;

const BY_NAME: Policy = Policy { required: false, by: Match::UserName, groups: GroupsFrom::Both };

fn provisioned(id: &str, name: &str) -> User {
    User {
        id: id.to_owned(),
        user_name: name.to_lowercase(),
        name_id: Some(name.to_lowercase()),
        email_id: None,
        external_id: None,
        active: true,
        person: None,
        content: "{}".to_owned(),
        version: 1,
        created_ms: 0,
        modified_ms: 0,
    }
}

fn a_group(id: &str, name: &str) -> Group {
    let (id, name) = (id.to_owned(), name.to_owned());
    Group { id, name, external_id: None, content: "{}".to_owned(), version: 1, created_ms: 0, modified_ms: 0 }
}

fn set(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

async fn signs_in(store: &Store, name: &str, groups: &str) -> Result<Option<person::Person>, StoreError> {
    let email = format!("{name}@corp.example");
    let (issuer, provider) = ("https://idp.example", "corp");
    let new =
        person::SignIn { new_id: name, issuer, subject: name, provider, email: &email, name, groups_json: groups };
    person::sign_in(store, &new).await
}

async fn change_of(store: &Store, id: &str, change: impl FnOnce(&mut User)) -> Result<bool, StoreError> {
    let mut row = user::get(store, id).await.unwrap().unwrap();
    change(&mut row);
    user::update(store, &row).await
}

async fn groups_of(store: &Store, id: &str) -> String {
    person::by_id(store, id).await.unwrap().unwrap().groups_json
}

async fn is_out(store: &Store, id: &str) -> bool {
    person::by_id(store, id).await.unwrap().unwrap().deactivated_ms.is_some()
}

async fn settle_in(store: &Store, person: &str) {
    let session = browser_session::BrowserSession {
        id: format!("session of {person}"),
        provider: "corp".to_owned(),
        created_ms: common::NOW,
        sealed: b"sealed".to_vec(),
        expires_ms: common::NOW + 1_000_000,
    };
    browser_session::insert(store, person.as_bytes(), person, &session).await.unwrap();
    let account = upstream_account::Account {
        owner: format!("user:{person}@corp.example"),
        server: "tracker".to_owned(),
        status: "ready".to_owned(),
        issuer: "https://as.example".to_owned(),
        scopes: String::new(),
        expires_ms: None,
        version: 1,
        connected_ms: 0,
        last_used_ms: None,
    };
    upstream_account::put(store, &account).await.unwrap();
}

async fn left(store: &Store, person: &str) -> (bool, usize) {
    let session = browser_session::current(store, person.as_bytes()).await.unwrap().is_some();
    let owner = format!("user:{person}@corp.example");
    (session, upstream_account::list(store, &owner).await.unwrap().len())
}

pub(super) async fn case_deprovisioned_people_lose_everything(store: Store, _: Arc<ManualClock>) {
    set_policy(&store, Some(&BY_NAME)).await.unwrap();
    user::create(&store, &provisioned("u1", "ana@corp.example")).await.unwrap();
    user::create(&store, &provisioned("u2", "bo@corp.example")).await.unwrap();
    for name in ["ana", "bo"] {
        signs_in(&store, name, "[]").await.unwrap().unwrap();
        settle_in(&store, name).await;
        assert_eq!(left(&store, name).await, (true, 1));
    }
    let head = change::head(&store).await.unwrap();
    assert!(change_of(&store, "u1", |row| row.active = false).await.unwrap());
    assert!(change::head(&store).await.unwrap() > head, "others hear of it");
    assert_eq!(left(&store, "ana").await, (false, 0));
    assert_eq!(signs_in(&store, "ana", "[]").await.unwrap(), None);
    // Deleted instead: the same, and no sign-in brings anything back.
    assert!(!user::delete(&store, "u2", 99).await.unwrap());
    assert!(user::delete(&store, "u2", user::get(&store, "u2").await.unwrap().unwrap().version).await.unwrap());
    assert_eq!(left(&store, "bo").await, (false, 0));
    assert_eq!(signs_in(&store, "bo", "[]").await.unwrap(), None);
    // The directory brings them back; what they had stays gone.
    assert!(change_of(&store, "u1", |row| row.active = true).await.unwrap());
    user::create(&store, &provisioned("u3", "bo@corp.example")).await.unwrap();
    for name in ["ana", "bo"] {
        assert!(signs_in(&store, name, "[]").await.unwrap().is_some(), "{name}");
        assert_eq!(left(&store, name).await, (false, 0));
    }
    // An administrator's word is not the directory's to take back.
    assert!(person::deactivate(&store, "ana").await.unwrap());
    assert!(change_of(&store, "u1", |row| row.active = false).await.unwrap());
    assert!(change_of(&store, "u1", |row| row.active = true).await.unwrap());
    assert!(is_out(&store, "ana").await);
}

pub(super) async fn case_provisioning_is_required(store: Store, _: Arc<ManualClock>) {
    // Before there is a directory everybody signs in.
    signs_in(&store, "ana", "[]").await.unwrap().unwrap();
    signs_in(&store, "bo", "[]").await.unwrap().unwrap();
    settle_in(&store, "ana").await;
    let required = Policy { required: true, ..BY_NAME };
    user::create(&store, &provisioned("u2", "bo@corp.example")).await.unwrap();
    assert_eq!(set_policy(&store, Some(&required)).await.unwrap(), 1);
    assert_eq!(set_policy(&store, Some(&required)).await.unwrap(), 0, "judged once");
    assert_eq!(left(&store, "ana").await, (false, 0), "whoever is not provisioned is out");
    assert_eq!(signs_in(&store, "ana", "[]").await.unwrap(), None);
    assert_eq!(signs_in(&store, "nobody", "[]").await.unwrap(), None);
    assert!(signs_in(&store, "bo", "[]").await.unwrap().is_some());
    // Provisioned now: in again.
    user::create(&store, &provisioned("u1", "ana@corp.example")).await.unwrap();
    assert!(signs_in(&store, "ana", "[]").await.unwrap().is_some());
    // Removed here, known to the directory: comes back as somebody new, with the same user.
    assert!(person::delete(&store, "bo").await.unwrap());
    assert!(signs_in(&store, "bo", "[]").await.unwrap().is_some());
    assert_eq!(user::get(&store, "u2").await.unwrap().unwrap().person.as_deref(), Some("bo"));
    // A judging that broke off is done again.
    bartizan_store::repo::meta::set(&store, "scim.policy", "required user_name both unfinished").await.unwrap();
    assert_eq!(signs_in(&store, "nobody", "[]").await.unwrap(), None, "it counts already");
    person::reactivate(&store, "bo").await.unwrap();
    set_policy(&store, Some(&required)).await.unwrap();
    let policy = bartizan_store::repo::meta::get(&store, "scim.policy").await.unwrap();
    assert_eq!(policy.as_deref(), Some("required user_name both"));
    // Sabotage: without the requirement the same stranger comes in.
    set_policy(&store, Some(&BY_NAME)).await.unwrap();
    assert!(signs_in(&store, "nobody", "[]").await.unwrap().is_some());
}

pub(super) async fn case_provisioned_groups_count(store: Store, _: Arc<ManualClock>) {
    set_policy(&store, Some(&BY_NAME)).await.unwrap();
    user::create(&store, &provisioned("u1", "ana@corp.example")).await.unwrap();
    assert_eq!(
        group::create(&store, &a_group("g0", "nobody"), &set(&["u1", "u9"])).await.unwrap(),
        Changed::NoUser("u9".to_owned())
    );
    assert_eq!(group::get(&store, "g0").await.unwrap(), None, "all or nothing");
    let ana = signs_in(&store, "ana", r#"["claimed"]"#).await.unwrap().unwrap();
    assert_eq!(ana.groups_json, r#"["claimed"]"#);
    let head = change::head(&store).await.unwrap();
    assert_eq!(group::create(&store, &a_group("g1", "eng"), &set(&["u1"])).await.unwrap(), Changed::Done);
    assert_eq!(groups_of(&store, "ana").await, r#"["claimed","eng"]"#);
    assert!(change::head(&store).await.unwrap() > head, "others hear of it");
    assert!(matches!(group::create(&store, &a_group("g2", "eng"), &set(&[])).await, Err(StoreError::Conflict)));
    // Another name is another group for policies.
    let mut row = group::get(&store, "g1").await.unwrap().unwrap();
    row.name = "engineers".to_owned();
    assert_eq!(group::update(&store, &row, None).await.unwrap(), Changed::Done);
    assert_eq!(group::update(&store, &row, None).await.unwrap(), Changed::Stale, "of an old version");
    assert_eq!(groups_of(&store, "ana").await, r#"["claimed","engineers"]"#);
    // A sign-in keeps what is provisioned.
    let ana = signs_in(&store, "ana", r#"["other"]"#).await.unwrap().unwrap();
    assert_eq!(ana.groups_json, r#"["engineers","other"]"#);
    set_policy(&store, Some(&Policy { groups: GroupsFrom::Scim, ..BY_NAME })).await.unwrap();
    assert_eq!(groups_of(&store, "ana").await, r#"["engineers"]"#);
    let ana = signs_in(&store, "ana", r#"["forged"]"#).await.unwrap().unwrap();
    assert_eq!(ana.groups_json, r#"["engineers"]"#, "the provider's word does not count");
    set_policy(&store, Some(&Policy { groups: GroupsFrom::Claims, ..BY_NAME })).await.unwrap();
    assert_eq!(groups_of(&store, "ana").await, r#"["forged"]"#);
    set_policy(&store, Some(&BY_NAME)).await.unwrap();
    let row = group::get(&store, "g1").await.unwrap().unwrap();
    assert!(group::delete(&store, "g1", row.version).await.unwrap());
    assert_eq!(groups_of(&store, "ana").await, r#"["forged"]"#);
    assert_eq!(user::groups(&store, "u1").await.unwrap(), []);
}

pub(super) async fn case_a_rename_takes_nobody_over(store: Store, _: Arc<ManualClock>) {
    set_policy(&store, Some(&BY_NAME)).await.unwrap();
    user::create(&store, &provisioned("u1", "ana@corp.example")).await.unwrap();
    group::create(&store, &a_group("g1", "eng"), &set(&["u1"])).await.unwrap();
    signs_in(&store, "ana", "[]").await.unwrap().unwrap();
    signs_in(&store, "bo", "[]").await.unwrap().unwrap();
    let rename = |to: &'static str| {
        move |row: &mut User| {
            row.user_name = to.to_owned();
            row.name_id = Some(to.to_owned());
        }
    };
    // The user that is Ana does not become Bo, who is not even provisioned.
    let renamed = change_of(&store, "u1", rename("bo@corp.example")).await;
    assert!(matches!(renamed, Err(StoreError::Conflict)), "{renamed:?}");
    assert_eq!(groups_of(&store, "bo").await, "[]");
    // A new address nobody has: Ana stays who she is, and the old one gives nobody her groups.
    assert!(change_of(&store, "u1", rename("ana.new@corp.example")).await.unwrap());
    assert_eq!(groups_of(&store, "ana").await, r#"["eng"]"#);
    assert!(person::delete(&store, "ana").await.unwrap());
    let (issuer, provider, email) = ("https://idp.example", "corp", "ana@corp.example");
    let new =
        person::SignIn { new_id: "next", issuer, subject: "another", provider, email, name: "x", groups_json: "[]" };
    assert_eq!(person::sign_in(&store, &new).await.unwrap().unwrap().groups_json, "[]");
    // Nor does a second user of the directory become somebody who is one already.
    user::create(&store, &provisioned("u2", "bo@corp.example")).await.unwrap();
    let mut third = provisioned("u3", "bo@corp.example");
    third.user_name = "bo2".to_owned();
    assert!(matches!(user::create(&store, &third).await, Err(StoreError::Conflict)));
}

pub(super) async fn case_no_sign_in_slips_past_a_deactivation(store: Store, _: Arc<ManualClock>) {
    set_policy(&store, Some(&BY_NAME)).await.unwrap();
    for round in 0..20 {
        let name = format!("p{round}");
        user::create(&store, &provisioned(&name, &format!("{name}@corp.example"))).await.unwrap();
        let (one, two, who) = (store.clone(), store.clone(), name.clone());
        let signing_in = tokio::spawn(async move { signs_in(&one, &who, "[]").await });
        let who = name.clone();
        let ending = tokio::spawn(async move {
            loop {
                // A sign-in is no new version, so once is enough; a busy database may say otherwise.
                if change_of(&two, &who, |row| row.active = false).await.unwrap() {
                    break;
                }
            }
        });
        signing_in.await.unwrap().unwrap();
        ending.await.unwrap();
        let person = person::by_id(&store, &name).await.unwrap();
        assert!(person.is_none_or(|person| person.deactivated_ms.is_some()), "round {round}");
    }
}

pub(super) async fn case_a_recycled_address_is_not_the_leaver(store: Store, _: Arc<ManualClock>) {
    set_policy(&store, Some(&BY_NAME)).await.unwrap();
    let mut row = provisioned("u1", "ana@corp.example");
    user::create(&store, &row).await.unwrap();
    signs_in(&store, "ana", "[]").await.unwrap().unwrap();
    let gone = user::get(&store, "u1").await.unwrap().unwrap();
    assert!(user::delete(&store, "u1", gone.version).await.unwrap());
    // Somebody else gets the address, and a group, by every way in which people are judged.
    row.id = "u2".to_owned();
    user::create(&store, &row).await.unwrap();
    group::create(&store, &a_group("g1", "finance"), &set(&["u2"])).await.unwrap();
    assert!(change_of(&store, "u2", |row| row.content = "{ }".to_owned()).await.unwrap());
    for policy in [Policy { required: true, ..BY_NAME }, BY_NAME] {
        set_policy(&store, Some(&policy)).await.unwrap();
        assert!(is_out(&store, "ana").await, "the leaver is still out");
        assert_eq!(groups_of(&store, "ana").await, "[]");
        assert_eq!(user::get(&store, "u2").await.unwrap().unwrap().person, None);
    }
    // The new one, of another subject, does not slip into the leaver's account either.
    let (issuer, provider, email) = ("https://idp.example", "corp", "ana@corp.example");
    let new =
        person::SignIn { new_id: "next", issuer, subject: "another", provider, email, name: "x", groups_json: "[]" };
    assert!(matches!(person::sign_in(&store, &new).await, Err(StoreError::Conflict)));
    // An administrator removes the leaver: the address is the new one's.
    assert!(person::delete(&store, "ana").await.unwrap());
    let next = person::sign_in(&store, &new).await.unwrap().unwrap();
    assert_eq!((next.id.as_str(), next.groups_json.as_str()), ("next", r#"["finance"]"#));
    // Hired again with the same account at the provider, somebody signs in and is back.
    user::create(&store, &provisioned("u3", "bo@corp.example")).await.unwrap();
    signs_in(&store, "bo", "[]").await.unwrap().unwrap();
    let gone = user::get(&store, "u3").await.unwrap().unwrap();
    assert!(user::delete(&store, "u3", gone.version).await.unwrap());
    user::create(&store, &provisioned("u4", "bo@corp.example")).await.unwrap();
    assert!(is_out(&store, "bo").await);
    assert_eq!(signs_in(&store, "bo", "[]").await.unwrap().unwrap().deactivated_ms, None);
    assert_eq!(user::get(&store, "u4").await.unwrap().unwrap().person.as_deref(), Some("bo"));
    // Of the same user the directory takes its word back at once.
    assert!(change_of(&store, "u4", |row| row.active = false).await.unwrap());
    assert!(is_out(&store, "bo").await);
    assert!(change_of(&store, "u4", |row| row.active = true).await.unwrap());
    assert!(!is_out(&store, "bo").await);
}

pub(super) async fn case_an_unclear_match_lets_nobody_in(store: Store, _: Arc<ManualClock>) {
    let by_email = Policy { by: Match::Email, ..BY_NAME };
    let with_email = |id: &str, name: &str| User {
        email_id: Some("ana@corp.example".to_owned()),
        ..provisioned(id, &format!("{name}@corp.example"))
    };
    // While users are joined by name Ana is one who is not provisioned.
    set_policy(&store, Some(&BY_NAME)).await.unwrap();
    signs_in(&store, "ana", "[]").await.unwrap().unwrap();
    user::create(&store, &with_email("u1", "a1")).await.unwrap();
    user::create(&store, &User { active: false, ..with_email("u2", "a2") }).await.unwrap();
    settle_in(&store, "ana").await;
    // By address she may be either, of whom one was shut out.
    set_policy(&store, Some(&by_email)).await.unwrap();
    assert_eq!(left(&store, "ana").await, (false, 0));
    assert_eq!(signs_in(&store, "ana", "[]").await.unwrap(), None);
    // A change of one of them does not settle it.
    assert!(change_of(&store, "u1", |row| row.content = "{ }".to_owned()).await.unwrap());
    assert_eq!(signs_in(&store, "ana", "[]").await.unwrap(), None);
    // With one left it is clear, and she is back.
    let second = user::get(&store, "u2").await.unwrap().unwrap();
    assert!(user::delete(&store, "u2", second.version).await.unwrap());
    assert!(signs_in(&store, "ana", "[]").await.unwrap().is_some());
    assert_eq!(user::get(&store, "u1").await.unwrap().unwrap().person.as_deref(), Some("ana"));
    // A user that is somebody already is not "not provisioned" to a second person.
    set_policy(&store, Some(&Policy { by: Match::ExternalId, ..BY_NAME })).await.unwrap();
    let bo = User { external_id: Some("bo".to_owned()), ..provisioned("u3", "bo@corp.example") };
    user::create(&store, &bo).await.unwrap();
    signs_in(&store, "bo", "[]").await.unwrap().unwrap();
    let (issuer, provider, email) = ("https://partner.example", "partner", "bo@partner.example");
    let new = person::SignIn { new_id: "x", issuer, subject: "bo", provider, email, name: "x", groups_json: "[]" };
    assert_eq!(person::sign_in(&store, &new).await.unwrap(), None);
    // Sabotage: one whom nobody could mean comes in, for nothing is required.
    let new = person::SignIn { subject: "stranger", ..new };
    assert!(person::sign_in(&store, &new).await.unwrap().is_some());
}

pub(super) async fn case_the_group_of_the_local_account_is_nobody_elses(store: Store, _: Arc<ManualClock>) {
    set_policy(&store, Some(&BY_NAME)).await.unwrap();
    user::create(&store, &provisioned("u1", "ana@corp.example")).await.unwrap();
    let members = set(&["u1"]);
    group::create(&store, &a_group("g1", person::LOCAL_GROUP), &members).await.unwrap();
    group::create(&store, &a_group("g2", "eng"), &members).await.unwrap();
    let ana = signs_in(&store, "ana", r#"["break-glass","claimed"]"#).await.unwrap().unwrap();
    assert_eq!(ana.groups_json, r#"["claimed","eng"]"#);
    set_policy(&store, Some(&Policy { groups: GroupsFrom::Claims, ..BY_NAME })).await.unwrap();
    assert_eq!(groups_of(&store, "ana").await, r#"["claimed"]"#);
    // The account itself is outside of all this, by every policy.
    set_policy(&store, Some(&Policy { required: true, ..BY_NAME })).await.unwrap();
    let (issuer, email) = (person::LOCAL_ISSUER, "root@corp.example");
    let groups_json = r#"["break-glass"]"#;
    let local =
        person::SignIn { new_id: "r", issuer, subject: issuer, provider: issuer, email, name: "x", groups_json };
    assert_eq!(person::sign_in(&store, &local).await.unwrap().unwrap().groups_json, groups_json);
    user::create(&store, &User { active: false, ..provisioned("u2", email) }).await.unwrap();
    assert_eq!(user::get(&store, "u2").await.unwrap().unwrap().person, None);
    for policy in [None, Some(&BY_NAME)] {
        set_policy(&store, policy).await.unwrap();
        assert_eq!((is_out(&store, "r").await, groups_of(&store, "r").await.as_str()), (false, groups_json));
    }
    assert!(person::sign_in(&store, &local).await.unwrap().is_some());
}
