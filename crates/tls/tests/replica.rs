//! Certificates between processes (O17).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod support;

use std::sync::Arc;

use bartizan_tls::{Authority, Kind, ReplicaTls, replica_name};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use support::{DAY, HOUR, NOW, TestCa, client, clock, dns, pair};
use tokio::io::AsyncWriteExt as _;
use tokio_rustls::TlsConnector;

async fn shake(to: &ReplicaTls, config: Arc<ClientConfig>, name: &str) -> (std::io::Result<String>, bool) {
    let (client, server) = pair().await;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let (accepted, connected) = tokio::join!(to.accept(server), TlsConnector::from(config).connect(name, client));
    (accepted.map(|(_, node)| node), connected.is_ok())
}

#[tokio::test]
async fn o17_processes_know_each_other_and_nobody_else() {
    let (clock, store) = (clock(), support::store().await);
    let records = support::records(&store);
    let authority = || Authority::open(&records, clock.clone(), Kind::Replicas);
    let one = ReplicaTls::new(authority().await.unwrap(), "NODE-1", clock.clone()).unwrap();
    let two = ReplicaTls::new(authority().await.unwrap(), "node-2", clock.clone()).unwrap();
    let (node, connected) = shake(&two, one.client(), &replica_name("node-2")).await;
    assert_eq!((node.unwrap().as_str(), connected), ("node-1", true));
    let (_, connected) = shake(&two, one.client(), &replica_name("node-3")).await;
    assert!(!connected, "an address that is another process's now");

    let pem = authority().await.unwrap().pem();
    let foreign = TestCa::new("foreign");
    let forged = foreign.issue(vec![dns(&replica_name("node-1"))], NOW + DAY);
    for shows in [None, Some(&forged)] {
        let mut config = client(&clock, &pem, shows);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let (refused, _) = shake(&two, Arc::new(config), &replica_name("node-2")).await;
        assert!(refused.is_err(), "no certificate, or one of another authority");
    }
    // Nor does a process show what it knows to somebody who only took over an address.
    let other_store = support::store().await;
    let other = Authority::open(&support::records(&other_store), clock.clone(), Kind::Replicas).await.unwrap();
    let impostor = ReplicaTls::new(other, "node-2", clock.clone()).unwrap();
    let (refused, connected) = shake(&impostor, one.client(), &replica_name("node-2")).await;
    assert!(refused.is_err() && !connected);
    // What the public authority issues is not good here, whatever name is in it.
    let public = Authority::open(&records, clock.clone(), Kind::Public).await.unwrap();
    let outside = ReplicaTls::new(public, "node-1", clock.clone()).unwrap();
    assert!(shake(&two, outside.client(), &replica_name("node-2")).await.0.is_err());
    // Sabotage: were it the same authority, it would be good.
    let inside = ReplicaTls::new(authority().await.unwrap(), "node-1", clock.clone()).unwrap();
    assert!(shake(&two, inside.client(), &replica_name("node-2")).await.0.is_ok());
}

#[tokio::test]
async fn o17_plain_http_is_no_handshake() {
    let (clock, store) = (clock(), support::store().await);
    let authority = Authority::open(&support::records(&store), clock.clone(), Kind::Replicas).await.unwrap();
    let tls = ReplicaTls::new(authority, "node-1", clock).unwrap();
    let (mut plain, server) = pair().await;
    plain.write_all(b"GET /mcp HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert!(tls.accept(server).await.is_err());
}

#[tokio::test]
async fn o17_certificates_are_short_lived_and_rotate() {
    let (clock, store) = (clock(), support::store().await);
    let records = support::records(&store);
    let authority = || Authority::open(&records, clock.clone(), Kind::Replicas);
    let one = ReplicaTls::new(authority().await.unwrap(), "node-1", clock.clone()).unwrap();
    let two = ReplicaTls::new(authority().await.unwrap(), "node-2", clock.clone()).unwrap();
    assert!(!one.rotate().unwrap());
    let (before, stolen) = (one.fingerprint(), one.client());
    clock.advance_ms(10 * HOUR);
    assert!(one.rotate().unwrap() && two.rotate().unwrap());
    assert_ne!(one.fingerprint(), before);
    assert!(shake(&two, Arc::clone(&stolen), &replica_name("node-2")).await.0.is_ok(), "good until its end");
    clock.advance_ms(15 * HOUR);
    assert!(shake(&two, stolen, &replica_name("node-2")).await.0.is_err());
    assert!(one.rotate().unwrap() && two.rotate().unwrap());
    assert!(shake(&two, one.client(), &replica_name("node-2")).await.1);
}
