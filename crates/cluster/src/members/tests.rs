use bartizan_model::ManualClock;
use bartizan_store::StoreUrl;
use bartizan_tls::{Authority, Kind};
use bartizan_vault::{KeyRing, Records, Vault};

use super::*;

const NOW: i64 = 1_800_000_000_000;

async fn cluster() -> Cluster {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(NOW));
    let store = Store::open(&StoreUrl::Memory, Arc::clone(&clock)).await.unwrap();
    let records = Records::new(Vault::new(KeyRing::ephemeral().unwrap()).unwrap(), store.clone());
    let authority = Authority::open(&records, Arc::clone(&clock), Kind::Replicas).await.unwrap();
    let tls = ReplicaTls::new(authority, "here", Arc::clone(&clock)).unwrap();
    Cluster::new(ClusterDeps { store, tls, clock, node: "here".into(), advertise: "127.0.0.1:1".to_owned() })
}

#[tokio::test]
async fn o17_made_up_names_of_processes_share_one_look_per_second() {
    let cluster = cluster().await;
    let inner = &cluster.0;
    assert!(cluster.address("made-up").await.is_err());
    // As if the look were just now, however slow this machine is.
    let later = Instant::now() + Duration::from_secs(3_600);
    assert!(inner.looked.lock().await.replace(later).is_some(), "it looked");
    let there = Replica {
        node: "there".to_owned(),
        address: "127.0.0.1:2".to_owned(),
        certificate: String::new(),
        started_ms: NOW,
        seen_ms: NOW,
    };
    replica::beat(&inner.deps.store, &there).await.unwrap();
    assert!(cluster.address("there").await.is_err(), "not looked again");
    *inner.looked.lock().await = Some(Instant::now() - LOOK_EVERY);
    assert_eq!(cluster.address("there").await.unwrap(), "127.0.0.1:2");
    // Whoever is known needs no look.
    *inner.looked.lock().await = Some(later);
    assert!(cluster.address("there").await.is_ok());
}
