//! An archive comes back whole, or nothing changes (row O6).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bartizan_audit::{Audit, verify};
use bartizan_model::event::{AuditEvent, EventKind, Who};
use bartizan_model::{Clock, EventId, PrincipalKind, SystemClock};
use bartizan_store::repo::meta;
use bartizan_store::{Store, StoreUrl};
use bartizan_vault::{KeyRing, Vault};
use tempfile::TempDir;

use crate::record::{FileHead, Manifest, Record, TableHead};
use crate::seal::Sealer;
use crate::{BackupError, Header, Source, Summary, Target, check, restore, take};

mod guards;

struct House {
    folder: TempDir,
    url: StoreUrl,
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

fn vault(byte: u8) -> Vault {
    Vault::new(KeyRing::from_keys([byte; 32], []).unwrap()).unwrap()
}

impl House {
    fn empty() -> Self {
        let folder = TempDir::new().unwrap();
        let url = StoreUrl::Sqlite(folder.path().join("bartizan.sqlite"));
        Self { folder, url }
    }

    fn audit(&self) -> PathBuf {
        self.folder.path().join("audit")
    }

    async fn with(name: &str, value: &str) -> Self {
        let house = Self::empty();
        let store = Store::open(&house.url, clock()).await.unwrap();
        meta::set(&store, name, value).await.unwrap();
        let mode = bartizan_config_mode();
        let audit = Audit::open(&house.audit(), mode, Some(store.clone()), clock()).unwrap();
        for _ in 0..5 {
            let now = clock().now_ms();
            let who = Who { principal: "user:ana".to_owned(), ..Who::default() };
            let id = EventId::new(now);
            let event = AuditEvent::new(id, now, EventKind::Admin, PrincipalKind::User, who, "a/thing");
            audit.append_durable(event).await.unwrap();
        }
        audit.close().await;
        store.close().await;
        house
    }

    async fn value(&self, name: &str) -> Option<String> {
        let store = Store::open(&self.url, clock()).await.unwrap();
        let value = meta::get(&store, name).await.unwrap();
        store.close().await;
        value
    }

    async fn copy(&self, key: &Vault) -> Vec<u8> {
        let mut bytes = Vec::new();
        let source =
            Source { url: &self.url, audit: &self.audit(), master_key: "m".to_owned(), older_keys: Vec::new() };
        take(&source, key, Some("nightly".to_owned()), 1, &mut bytes).await.unwrap();
        bytes
    }

    async fn put(&self, bytes: &[u8], key: &Vault, replace: bool) -> Result<Summary, BackupError> {
        let mut from = bytes;
        let header = Header::read(&mut from)?;
        let audit = self.audit();
        let target =
            Target { url: &self.url, data: self.folder.path(), audit: &audit, master_keys: vec!["m".to_owned()] };
        restore(&header, from, key, &target, replace, 7).await.map(|restored| restored.summary)
    }

    /// Every file and its bytes.
    fn everything(&self) -> Vec<(PathBuf, Vec<u8>)> {
        fn walk(folder: &Path, all: &mut Vec<(PathBuf, Vec<u8>)>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, all);
                } else {
                    all.push((path.clone(), fs::read(&path).unwrap()));
                }
            }
        }
        let mut all = Vec::new();
        walk(self.folder.path(), &mut all);
        all.sort();
        all
    }
}

fn bartizan_config_mode() -> bartizan_config::settings::AuditMode {
    bartizan_config::settings::AuditMode::Strict
}

#[tokio::test]
async fn o6_a_copy_comes_back_elsewhere_and_its_chain_verifies() {
    let (house, key) = (House::with("who", "the first").await, vault(1));
    let bytes = house.copy(&key).await;
    let other = House::empty();
    let summary = other.put(&bytes, &key, false).await.unwrap();
    assert!(summary.rows > 0 && summary.files >= 2, "{summary:?}");
    assert_eq!(other.value("who").await.as_deref(), Some("the first"));
    let report = verify(&other.audit(), &[]).unwrap();
    assert!(report.is_whole());
    assert_eq!(report.writers.iter().map(|writer| writer.records).sum::<u64>(), 5);
    assert!(!other.folder.path().join(crate::UNFINISHED).exists());
    assert!(!other.folder.path().join("restore.new").exists());
}

#[tokio::test]
async fn o6_the_archive_shows_nothing_and_holds_no_key() {
    let (house, key) = (House::with("who", "a word that must not be seen").await, vault(1));
    let bytes = house.copy(&key).await;
    for hidden in [&b"must not be seen"[..], b"user:ana", b"a/thing", &[1u8; 32]] {
        assert!(!bytes.windows(hidden.len()).any(|window| window == hidden));
    }
}

#[tokio::test]
async fn o6_an_installation_is_replaced_only_when_told() {
    let (house, key) = (House::with("who", "the first").await, vault(1));
    let bytes = house.copy(&key).await;
    let other = House::with("who", "the second").await;
    let before = other.everything();
    let error = other.put(&bytes, &key, false).await.unwrap_err();
    assert_eq!(error.code(), "not_empty");
    assert_eq!(other.everything(), before);
    other.put(&bytes, &key, true).await.unwrap();
    assert_eq!(other.value("who").await.as_deref(), Some("the first"));
    // What was there is kept beside.
    let kept = other.folder.path().join("before-restore-7");
    assert!(kept.join("audit").is_dir() && kept.join("bartizan.sqlite").is_file());
}

/// Nothing of the target may change, whatever the archive is.
async fn refused(bytes: &[u8], key: &Vault) -> &'static str {
    let target = House::with("who", "the second").await;
    let before = target.everything();
    let code = target.put(bytes, key, true).await.expect_err("it was restored").code();
    assert_eq!(target.everything(), before, "{code}");
    code
}

#[tokio::test]
async fn o6_truncated_archives_are_refused_wherever_they_end() {
    let (house, key) = (House::with("who", "the first").await, vault(1));
    let bytes = house.copy(&key).await;
    for length in [bytes.len() - 1, bytes.len() - 40, bytes.len() / 2, 400] {
        assert_eq!(refused(&bytes[..length], &key).await, "backup_truncated", "{length} of {}", bytes.len());
    }
    assert_eq!(refused(&bytes[..10], &key).await, "not_a_backup");
    assert_eq!(refused(b"", &key).await, "not_a_backup");
}

#[tokio::test]
async fn o6_an_archive_without_its_last_chunks_is_not_whole() {
    // Cut off at the border of a chunk: every remaining byte is authentic.
    let (house, key) = (House::with("who", &"x".repeat(600_000)).await, vault(1));
    let bytes = house.copy(&key).await;
    let chunks = chunks(&bytes);
    assert!(chunks.len() >= 3);
    assert_eq!(refused(&bytes[..chunks[2].0], &key).await, "backup_truncated");
}

/// Begin and end of each chunk.
fn chunks(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut at = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(1).unwrap().0 + 1;
    let mut all = Vec::new();
    while at < bytes.len() {
        let length = u32::from_be_bytes(bytes[at + 1..at + 5].try_into().unwrap()) as usize;
        all.push((at, at + 5 + length));
        at += 5 + length;
    }
    all
}

#[tokio::test]
async fn o6_any_changed_bit_is_refused() {
    let (house, key) = (House::with("who", "the first").await, vault(1));
    let bytes = house.copy(&key).await;
    let body = chunks(&bytes)[0].0;
    for place in [body, body + 3, body + 6, body + 40, body + 100, bytes.len() / 2, bytes.len() - 1] {
        let mut changed = bytes.clone();
        changed[place] ^= 1;
        let code = refused(&changed, &key).await;
        assert!(["backup_damaged", "backup_truncated"].contains(&code), "{place}: {code}");
    }
    // The readable beginning is bound to the rest.
    let text = String::from_utf8_lossy(&bytes[..body]).into_owned();
    let renamed = text.replace("nightly", "monthly");
    assert_ne!(text, renamed);
    let changed = [renamed.as_bytes(), &bytes[body..]].concat();
    assert_eq!(refused(&changed, &key).await, "backup_damaged");
}

#[tokio::test]
async fn o6_spliced_and_reordered_archives_are_refused() {
    let key = vault(1);
    let house = House::with("who", &"x".repeat(900_000)).await;
    let (first, second) = (house.copy(&key).await, house.copy(&key).await);
    let (a, b) = (chunks(&first), chunks(&second));
    // A chunk of another copy of the same house at the same place.
    let spliced = [&first[..a[1].0], &second[b[1].0..b[1].1], &first[a[1].1..]].concat();
    assert_eq!(refused(&spliced, &key).await, "backup_damaged");
    // Two chunks change places; one comes twice; one is left out; something follows the end.
    let swapped = [&first[..a[1].0], &first[a[2].0..a[2].1], &first[a[1].0..a[1].1], &first[a[2].1..]].concat();
    assert_eq!(refused(&swapped, &key).await, "backup_damaged");
    let twice = [&first[..a[1].1], &first[a[1].0..]].concat();
    assert_eq!(refused(&twice, &key).await, "backup_damaged");
    let without = [&first[..a[1].0], &first[a[1].1..]].concat();
    assert_eq!(refused(&without, &key).await, "backup_damaged");
    let longer = [&first[..], b"more"].concat();
    assert_eq!(refused(&longer, &key).await, "backup_damaged");
    assert_eq!(refused(&[&first[..], &first[a[0].0..]].concat(), &key).await, "backup_damaged");
}

#[tokio::test]
async fn o6_another_key_opens_nothing() {
    let house = House::with("who", "the first").await;
    let bytes = house.copy(&vault(1)).await;
    assert_eq!(refused(&bytes, &vault(2)).await, "backup_key");
    // A liar who names our key in the header gets no further.
    let (ours, theirs) = (vault(2).current_key().unwrap().to_string(), vault(1).current_key().unwrap().to_string());
    let body = chunks(&bytes)[0].0;
    let named = String::from_utf8_lossy(&bytes[..body]).replace(&theirs, &ours);
    assert_eq!(refused(&[named.as_bytes(), &bytes[body..]].concat(), &vault(2)).await, "backup_damaged");
}

#[tokio::test]
async fn o6_another_master_key_is_noticed_before_anything_is_replaced() {
    let (house, key) = (House::with("who", "the first").await, vault(1));
    let mut bytes = Vec::new();
    let source =
        Source { url: &house.url, audit: &house.audit(), master_key: "another".to_owned(), older_keys: Vec::new() };
    take(&source, &key, None, 1, &mut bytes).await.unwrap();
    assert_eq!(refused(&bytes, &key).await, "backup_master_key");
}

#[tokio::test]
async fn o6_claimed_sizes_reserve_nothing() {
    let (house, key) = (House::with("who", "the first").await, vault(1));
    let mut bytes = house.copy(&key).await;
    let body = chunks(&bytes)[0].0;
    bytes[body + 1..body + 5].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(refused(&bytes, &key).await, "backup_damaged");
    let endless = [b"bartizan-backup 1\n".to_vec(), vec![b' '; 1 << 20]].concat();
    assert_eq!(refused(&endless, &key).await, "not_a_backup");
}

/// What somebody with the key could write.
fn forged(key: &Vault, records: &[Record]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let header = Header {
        archive: "a".to_owned(),
        key: None,
        key_id: key.current_key().unwrap().to_string(),
        created_ms: 1,
        version: "0".to_owned(),
        bound: String::new(),
    };
    let header = header.write(&mut bytes).unwrap();
    let mut sealer = Sealer::new(&mut bytes, key, &header);
    records.iter().for_each(|record| record.write(&mut sealer).unwrap());
    sealer.finish().unwrap();
    bytes
}

#[tokio::test]
async fn o6_no_path_leaves_the_record() {
    let key = vault(1);
    let good = "0123456789abcdef/00000001.log";
    let paths = [
        "../../etc/passwd",
        "/etc/passwd",
        "0123456789abcdef/../../x",
        "0123456789abcdef/..",
        "0123456789abcdef/.hidden",
        "0123456789abcdef/lock",
        "0123456789abcdef/a/b",
        "0123456789abcdef/",
        "0123456789abcdeg/x",
        "..",
        "",
        "0123456789abcdef/a\0b",
        "0123456789abcdef\\x",
    ];
    for path in paths {
        let end = Summary { files: 1, ..Summary::default() };
        let manifest = Manifest {
            versions: vec![1],
            master_key: "m".to_owned(),
            older_keys: Vec::new(),
            engine: "sqlite".to_owned(),
        };
        let file = |path: &str| Record::File(FileHead { path: path.to_owned() });
        let bytes = forged(&key, &[Record::Manifest(manifest.clone()), file(path), Record::End(end)]);
        assert_eq!(refused(&bytes, &key).await, "backup_refused", "{path}");
        // The same with a harmless path is taken as far as the next check.
        let twice = forged(&key, &[Record::Manifest(manifest), file(good), file(good), Record::End(end)]);
        assert_eq!(refused(&twice, &key).await, "backup_refused", "a file twice");
    }
}

#[tokio::test]
async fn o6_content_that_no_backup_has_is_refused() {
    use bartizan_store::dump::Value;
    let key = vault(1);
    let versions: Vec<i64> = vec![1];
    let manifest = |versions: &[i64]| {
        let (master_key, older_keys) = ("m".to_owned(), Vec::new());
        Record::Manifest(Manifest { versions: versions.to_vec(), master_key, older_keys, engine: String::new() })
    };
    let table = |name: &str, columns: &[&str]| {
        let columns = columns.iter().map(|column| (*column).to_owned()).collect();
        Record::Table(TableHead { name: name.to_owned(), columns })
    };
    let text = |text: &str| Value::Text(text.to_owned());
    let end = |tables, rows| Record::End(Summary { tables, rows, ..Summary::default() });
    let meta = || table("meta", &["name", "value", "updated_ms"]);
    let row = |name: &str| Record::Row(vec![text(name), text("v"), Value::Int(1)]);
    let first = || manifest(&versions);
    let cases: Vec<(&str, Vec<Record>)> = vec![
        ("no manifest", vec![meta(), end(1, 0)]),
        ("unknown table", vec![first(), table("nowhere", &["a"]), end(1, 0)]),
        ("a name with a quote", vec![first(), table("meta\" VALUES (1); DROP TABLE meta; --", &["a"]), end(1, 0)]),
        ("tables of the engine", vec![first(), table("sqlite_master", &["name"]), end(1, 0)]),
        ("unknown column", vec![first(), table("meta", &["name\") SELECT 1 --"]), end(1, 0)]),
        ("a column twice", vec![first(), table("meta", &["name", "name"]), end(1, 0)]),
        ("a table twice", vec![first(), meta(), meta(), end(2, 0)]),
        ("a row of no table", vec![first(), row("a"), end(0, 1)]),
        ("a row too short", vec![first(), meta(), Record::Row(vec![text("a")]), end(1, 1)]),
        ("a value of another kind", vec![first(), meta(), Record::Row(vec![text("a"), Value::Int(1), Value::Int(1)])]),
        ("null where none may be", vec![first(), meta(), Record::Row(vec![Value::Null, text("v"), Value::Int(1)])]),
        ("other numbers than told", vec![first(), meta(), row("a"), end(1, 2)]),
        ("bytes of no file", vec![first(), Record::Data(vec![1])]),
        ("no end", vec![first(), meta()]),
        ("two manifests", vec![first(), first(), end(0, 0)]),
        ("something after the end", vec![first(), end(0, 0), row("a")]),
    ];
    for (case, records) in cases {
        assert_eq!(refused(&forged(&key, &records), &key).await, "backup_refused", "{case}");
    }
    // Two rows with the same key: the database says it.
    let twice = forged(&key, &[first(), meta(), row("a"), row("a"), end(1, 2)]);
    let code = refused(&twice, &key).await;
    assert!(["not_empty", "backup_refused"].contains(&code), "{code}");
    assert_eq!(refused(&forged(&key, &[manifest(&[1, 9999]), end(0, 0)]), &key).await, "backup_newer");
}

#[tokio::test]
async fn o6_a_record_that_is_not_whole_is_refused() {
    let key = vault(1);
    // Altered, and cut off at the border of a line, behind the back of the chain.
    for cut in [false, true] {
        let house = House::with("who", "the first").await;
        let writer = fs::read_dir(house.audit()).unwrap().next().unwrap().unwrap().path();
        let log = writer.join("00000001.log");
        let text = fs::read_to_string(&log).unwrap();
        let changed = if cut {
            text.lines().take(2).map(|line| format!("{line}\n")).collect()
        } else {
            text.replacen("a/thing", "b/thing", 1)
        };
        assert_ne!(text, changed);
        fs::write(&log, changed).unwrap();
        let bytes = house.copy(&key).await;
        assert_eq!(refused(&bytes, &key).await, "backup_chain", "cut: {cut}");
        let mut from = bytes.as_slice();
        let header = Header::read(&mut from).unwrap();
        let scratch = TempDir::new().unwrap();
        assert_eq!(check(&header, from, &key, scratch.path()).await.unwrap_err().code(), "backup_chain");
    }
}

#[tokio::test]
async fn o6_nothing_is_restored_under_a_running_process() {
    let (house, key) = (House::with("who", "the first").await, vault(1));
    let bytes = house.copy(&key).await;
    let other = House::with("who", "the second").await;
    let mode = bartizan_config_mode();
    let audit = Audit::open(&other.audit(), mode, None, clock()).unwrap();
    assert_eq!(other.put(&bytes, &key, true).await.unwrap_err().code(), "in_use");
    audit.close().await;
    drop(audit);
    other.put(&bytes, &key, true).await.unwrap();
}

#[tokio::test]
async fn o6_a_line_in_the_making_is_left_out() {
    use std::io::Write as _;
    let (house, key) = (House::with("who", "the first").await, vault(1));
    let writer = fs::read_dir(house.audit()).unwrap().next().unwrap().unwrap().path();
    let mut log = fs::OpenOptions::new().append(true).open(writer.join("00000001.log")).unwrap();
    log.write_all(b"{\"_seq\":6,\"half").unwrap();
    let bytes = house.copy(&key).await;
    let other = House::empty();
    other.put(&bytes, &key, false).await.unwrap();
    let report = verify(&other.audit(), &[]).unwrap();
    assert!(report.is_whole() && report.torn.is_empty());
}

#[tokio::test]
async fn o6_a_database_that_nobody_used_counts_as_empty() {
    use bartizan_store::dump::{Filling, Snapshot};
    let house = House::empty();
    Store::open(&house.url, clock()).await.unwrap().close().await;
    let versions = Snapshot::open(&house.url).await.unwrap().versions().await.unwrap();
    // Rows that a migration brings are not somebody's: a new one has to be listed in `dump`.
    let other = StoreUrl::Sqlite(house.folder.path().join("other.sqlite"));
    assert!(Filling::begin(&other, &versions, false).await.is_ok());
}
