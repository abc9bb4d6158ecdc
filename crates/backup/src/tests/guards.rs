//! What a restore does not undo, and what it does not overlook (row O6).

use bartizan_store::repo::kill_switch;

use super::*;
use crate::{Restored, shown};

impl House {
    async fn restored(&self, bytes: &[u8], key: &Vault, keys: &[&str]) -> Result<Restored, BackupError> {
        let mut from = bytes;
        let header = Header::read(&mut from)?;
        let audit = self.audit();
        let master_keys = keys.iter().map(|key| (*key).to_owned()).collect();
        let target = Target { url: &self.url, data: self.folder.path(), audit: &audit, master_keys };
        restore(&header, from, key, &target, true, 7).await
    }

    fn writer(&self) -> PathBuf {
        fs::read_dir(self.audit()).unwrap().next().unwrap().unwrap().path()
    }

    async fn killed(&self) -> Vec<String> {
        let store = Store::open(&self.url, clock()).await.unwrap();
        let set = kill_switch::active(&store, 1).await.unwrap();
        store.close().await;
        set.into_iter().map(|kill| kill.subject).collect()
    }
}

#[tokio::test]
async fn o6_a_copy_without_any_writers_record_is_refused() {
    let (house, key) = (House::with("who", "the first").await, vault(1));
    fs::remove_dir_all(house.audit()).unwrap();
    assert_eq!(refused(&house.copy(&key).await, &key).await, "backup_chain");
}

#[tokio::test]
async fn o6_absent_writers_are_named() {
    let (house, key) = (House::with("who", "the first").await, vault(1));
    let here = house.restored(&house.copy(&key).await, &key, &["m"]).await.unwrap();
    assert!(here.absent.is_empty());
    // A second writer, whose folder somebody removes afterwards.
    let store = Store::open(&house.url, clock()).await.unwrap();
    let first = Audit::open(&house.audit(), bartizan_config_mode(), Some(store.clone()), clock()).unwrap();
    let second = Audit::open(&house.audit(), bartizan_config_mode(), Some(store.clone()), clock()).unwrap();
    for audit in [&first, &second] {
        let (id, who) = (EventId::new(1), Who::default());
        let event = AuditEvent::new(id, 1, EventKind::Admin, PrincipalKind::User, who, "a/thing");
        audit.append_durable(event).await.unwrap();
    }
    first.close().await;
    second.close().await;
    store.close().await;
    let gone = house.writer();
    fs::remove_dir_all(&gone).unwrap();
    let restored = House::empty().restored(&house.copy(&key).await, &key, &["m"]).await.unwrap();
    assert_eq!(restored.absent, [gone.file_name().unwrap().to_str().unwrap()]);
}

#[tokio::test]
async fn o6_a_lock_that_nobody_can_read_counts_as_held() {
    let (house, key) = (House::with("who", "the first").await, vault(1));
    let bytes = house.copy(&key).await;
    let lock = house.writer().join("lock");
    fs::remove_file(&lock).unwrap();
    // A link to itself: opening it fails for everybody, root too.
    std::os::unix::fs::symlink(&lock, &lock).unwrap();
    assert_eq!(house.restored(&bytes, &key, &["m"]).await.unwrap_err().code(), "in_use");
}

#[tokio::test]
async fn o6_a_process_that_began_meanwhile_is_found_and_held_folders_are_taken_by_nobody() {
    let house = House::with("who", "the first").await;
    let mut held = crate::place::Held::default();
    held.take(&house.audit()).unwrap();
    held.take(&house.audit()).unwrap();
    let began = Audit::open(&house.audit(), bartizan_config_mode(), None, clock()).unwrap();
    assert_eq!(fs::read_dir(house.audit()).unwrap().count(), 2, "it took a folder that was held");
    assert_eq!(held.take(&house.audit()).unwrap_err().code(), "in_use");
    began.close().await;
}

#[tokio::test]
async fn o6_every_master_key_of_the_ring_has_to_be_there() {
    let (house, key) = (House::with("who", "the first").await, vault(1));
    let mut bytes = Vec::new();
    let older_keys = vec!["old".to_owned()];
    let source = Source { url: &house.url, audit: &house.audit(), master_key: "m".to_owned(), older_keys };
    take(&source, &key, None, 1, &mut bytes).await.unwrap();
    assert_eq!(refused(&bytes, &key).await, "backup_master_key");
    House::empty().restored(&bytes, &key, &["m", "old"]).await.unwrap();
}

#[tokio::test]
async fn o6_kill_switches_that_are_set_outlive_a_restore() {
    let (house, key) = (House::with("who", "the first").await, vault(1));
    let bytes = house.copy(&key).await;
    let store = Store::open(&house.url, clock()).await.unwrap();
    for (subject, lifted) in [("mallory", false), ("ana", true)] {
        let kill = kill_switch::KillSwitch {
            id: subject.to_owned(),
            scope: "user".to_owned(),
            subject: subject.to_owned(),
            reason: "r".to_owned(),
            set_by: "os-user:0".to_owned(),
            set_ms: 1,
            until_ms: None,
            lift_asked_by: None,
            lifted_by: None,
            lifted_ms: None,
            lift_reason: None,
        };
        assert!(kill_switch::insert(&store, &kill).await.unwrap());
        if lifted {
            assert!(kill_switch::lift(&store, subject, "os-user:0", "r", 2, false).await.unwrap());
        }
    }
    store.close().await;
    let restored = house.restored(&bytes, &key, &["m"]).await.unwrap();
    assert_eq!((restored.carried, restored.switches_lost), (1, false));
    assert_eq!(house.killed().await, ["mallory"]);
    // A database that is broken is no obstacle, and it is said.
    let StoreUrl::Sqlite(path) = &house.url else { unreachable!() };
    fs::remove_file(path.with_extension("sqlite-wal")).ok();
    fs::remove_file(path.with_extension("sqlite-shm")).ok();
    fs::write(path, "this is no database").unwrap();
    fs::remove_dir_all(house.folder.path().join("before-restore-7")).unwrap();
    let restored = house.restored(&bytes, &key, &["m"]).await.unwrap();
    assert_eq!((restored.carried, restored.switches_lost), (0, true));
}

#[tokio::test]
async fn o6_what_nobody_vouches_for_is_printed_escaped() {
    assert_eq!(shown("nightly-2 \u{e9}"), "nightly-2 \u{e9}");
    assert_eq!(shown("a\u{1b}[2Jb\n\u{202e}"), "a\\u{1b}[2Jb\\u{a}\\u{202e}");
    let (house, key) = (House::with("who", "the first").await, vault(1));
    let mut bytes = Vec::new();
    let source = Source { url: &house.url, audit: &house.audit(), master_key: "m".to_owned(), older_keys: Vec::new() };
    take(&source, &key, Some("\u{1b}]0;x".to_owned()), 1, &mut bytes).await.unwrap();
    let error = house.restored(&bytes, &vault(2), &["m"]).await.unwrap_err();
    assert_eq!(error.code(), "backup_key");
    assert!(!error.to_string().contains('\u{1b}'), "{error}");
}
