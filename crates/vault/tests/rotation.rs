//! P21: sealed records in the store, swapped rows, and rotation under load.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "../../store/tests/common/mod.rs"]
mod stores;

use std::collections::HashMap;

use bartizan_store::Store;
use bartizan_store::repo::sealed::{self, Key, Sealed};
use bartizan_vault::{KeyRing, Records, RecordsError, Resealed, Vault};

fn vault(current: u8, previous: &[u8]) -> Vault {
    let key = |n: u8| {
        let mut key = [0xa5; 32];
        key[0] = n;
        key
    };
    Vault::new(KeyRing::from_keys(key(current), previous.iter().map(|n| key(*n))).unwrap()).unwrap()
}

fn name(id: impl ToString) -> Key {
    Key { tenant: String::new(), kind: "upstream_token".to_owned(), id: id.to_string() }
}

async fn plain(records: &Records, key: &Key) -> (i64, Vec<u8>) {
    let (version, plain) = records.get(key).await.unwrap().expect("a record");
    (version, plain.to_vec())
}

async fn stored(store: &Store, id: &str) -> Sealed {
    sealed::get(store, &name(id)).await.unwrap().unwrap()
}

async fn case_records_have_versions(store: Store) {
    let records = Records::new(vault(1, &[]), store);
    let key = name("a");
    assert!(records.get(&key).await.unwrap().is_none());
    assert_eq!(records.put(&key, 0, b"one").await.unwrap(), 1);
    assert!(matches!(records.put(&key, 0, b"x").await, Err(RecordsError::Conflict)));
    assert_eq!(records.put(&key, 1, b"two").await.unwrap(), 2);
    assert!(matches!(records.put(&key, 1, b"x").await, Err(RecordsError::Conflict)));
    assert_eq!(plain(&records, &key).await, (2, b"two".to_vec()));
    assert!(records.delete(&key).await.unwrap() && !records.delete(&key).await.unwrap());
}

async fn case_swapped_rows_do_not_open(store: Store) {
    let records = Records::new(vault(1, &[]), store.clone());
    for id in ["a", "b"] {
        records.put(&name(id), 0, id.as_bytes()).await.unwrap();
    }
    records.put(&name("a"), 1, b"a2").await.unwrap();
    let (a, b) = (stored(&store, "a").await, stored(&store, "b").await);
    // Somebody with access to the database puts one row's content into another.
    let swapped = Sealed { sealed: b.sealed.clone(), ..a.clone() };
    assert!(sealed::replace(&store, 2, &swapped).await.unwrap());
    let error = records.get(&name("a")).await.err().unwrap();
    assert!(matches!(&error, RecordsError::Open { id, .. } if id == "a"), "{error:?}");
    // Or turns a version back.
    let back = Sealed { version: 1, ..a };
    assert!(sealed::replace(&store, 2, &back).await.unwrap());
    assert!(records.get(&name("a")).await.is_err(), "new content under an old version");
    assert_eq!(plain(&records, &name("b")).await, (1, b"b".to_vec()));
}

async fn case_rotation_seals_everything_again(store: Store) {
    let old = Records::new(vault(1, &[]), store.clone());
    for n in 0..250 {
        old.put(&name(n), 0, format!("secret {n}").as_bytes()).await.unwrap();
    }
    let both = Records::new(vault(2, &[1]), store.clone());
    assert_eq!(both.reseal_all().await.unwrap(), Resealed { done: 250, overtaken: 0, failed: 0 });
    assert_eq!(both.reseal_all().await.unwrap(), Resealed::default());
    // The old key can go.
    let new = Records::new(vault(2, &[]), store.clone());
    for n in 0..250 {
        assert_eq!(plain(&new, &name(n)).await, (1, format!("secret {n}").into_bytes()));
    }
    assert!(old.get(&name(0)).await.is_err());
}

async fn case_rotation_leaves_what_it_cannot_open(store: Store) {
    let old = Records::new(vault(1, &[]), store.clone());
    let lost = Records::new(vault(9, &[]), store.clone());
    old.put(&name("a"), 0, b"a").await.unwrap();
    lost.put(&name("b"), 0, b"b").await.unwrap();
    old.put(&name("c"), 0, b"c").await.unwrap();
    let both = Records::new(vault(2, &[1]), store);
    assert_eq!(both.reseal_all().await.unwrap(), Resealed { done: 2, overtaken: 0, failed: 1 });
    assert_eq!(plain(&lost, &name("b")).await.1, b"b", "untouched");
}

/// Two replicas write under the old and the new ring while a third one rotates.
async fn case_rotation_under_load_loses_nothing(store: Store) {
    let start = Records::new(vault(1, &[]), store.clone());
    for n in 0..40 {
        start.put(&name(n), 0, b"0").await.unwrap();
    }
    let writers: Vec<_> = [vault(1, &[2]), vault(2, &[1])]
        .into_iter()
        .enumerate()
        .map(|(writer, vault)| {
            let records = Records::new(vault, store.clone());
            tokio::spawn(async move {
                let mut last: HashMap<usize, (i64, Vec<u8>)> = HashMap::new();
                for round in 0..5 {
                    // Each record has one writer, so that its last write is known.
                    for n in (0..40).filter(|n| n % 2 == writer) {
                        let (version, _) = records.get(&name(n)).await.unwrap().unwrap();
                        let content = format!("{writer} {round} {n}").into_bytes();
                        let version = records.put(&name(n), version, &content).await.unwrap();
                        last.insert(n, (version, content));
                    }
                }
                last
            })
        })
        .collect();
    let rotating = Records::new(vault(2, &[1]), store.clone());
    let rotation = tokio::spawn(async move {
        for _ in 0..5 {
            assert_eq!(rotating.reseal_all().await.unwrap().failed, 0);
        }
    });
    let mut last = HashMap::new();
    for writer in writers {
        last.extend(writer.await.unwrap());
    }
    rotation.await.unwrap();
    let both = Records::new(vault(2, &[1]), store.clone());
    assert_eq!(both.reseal_all().await.unwrap().failed, 0);
    let new = Records::new(vault(2, &[]), store);
    for (n, expected) in last {
        assert_eq!(plain(&new, &name(n)).await, expected, "record {n}");
    }
}

macro_rules! cases {
    ($($case:ident => $sqlite:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $sqlite() {
                let (_dir, store) = stores::sqlite(stores::manual()).await;
                $case(store).await;
            }
        )+

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn o1_sealed_records_on_postgres() {
            let Some(postgres) = stores::Postgres::start().await else { return };
            $(
                let store = postgres.store(stores::manual()).await;
                let done = tokio::spawn($case(store)).await;
                assert!(done.is_ok(), "{} failed on Postgres: {done:?}", stringify!($case));
            )+
        }
    };
}

cases! {
    case_records_have_versions => p21_records_have_versions,
    case_swapped_rows_do_not_open => p21_swapped_rows_do_not_open,
    case_rotation_seals_everything_again => p21_rotation_seals_everything_again,
    case_rotation_leaves_what_it_cannot_open => p21_rotation_leaves_what_it_cannot_open,
    case_rotation_under_load_loses_nothing => p21_rotation_under_load_loses_nothing,
}
