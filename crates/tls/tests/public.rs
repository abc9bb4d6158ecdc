//! The public listener's TLS (O8) and client certificates (A3).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod support;

use std::sync::Arc;

use bartizan_model::Clock as _;
use bartizan_tls::{Authority, Change, DeviceNames, Kind, PublicTls, PublicTlsDeps, Source};
use support::{DAY, Files, HOUR, NOW, TestCa, client, clock, dns, pair, shake};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[tokio::test]
async fn o8_an_expired_file_that_is_replaced_reloads_and_connections_go_on() {
    let (clock, ca) = (clock(), TestCa::new("ca"));
    let files = Files::new(&ca.server(NOW + HOUR));
    let tls = files.tls(&clock, None);
    let (server, old) = shake(&tls, client(&clock, &ca.pem, None)).await;
    let (mut server, mut old) = (server.unwrap().stream, old.unwrap());
    clock.advance_ms(2 * HOUR);
    assert_eq!(tls.look(), None, "nothing new");
    assert!(tls.standing().expired);
    assert!(shake(&tls, client(&clock, &ca.pem, None)).await.1.is_err(), "clients refuse an expired one");
    files.write(&ca.server(NOW + 90 * DAY));
    assert_eq!(tls.look(), Some(Change::Taken));
    assert_eq!(tls.look(), None);
    let standing = tls.standing();
    assert!(!standing.expired && standing.not_after_ms == NOW + 90 * DAY && standing.refused.is_none());
    let (new, seen) = shake(&tls, client(&clock, &ca.pem, None)).await;
    assert!(new.is_ok() && seen.is_ok());
    old.write_all(b"still").await.unwrap();
    old.flush().await.unwrap();
    let mut got = [0; 5];
    server.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"still", "the former connection was not dropped");
}

#[tokio::test]
async fn o8_a_start_with_an_expired_file_waits_for_its_replacement() {
    let (clock, ca) = (clock(), TestCa::new("ca"));
    let files = Files::new(&ca.server(NOW - HOUR));
    let tls = files.tls(&clock, None);
    assert!(tls.standing().expired);
    files.write(&ca.server(NOW + DAY));
    assert_eq!(tls.look(), Some(Change::Taken));
}

#[tokio::test]
async fn o8_a_new_file_that_cannot_be_used_is_refused_and_the_former_stays() {
    let (clock, ca) = (clock(), TestCa::new("ca"));
    let good = ca.server(NOW + DAY);
    let files = Files::new(&good);
    let tls = files.tls(&clock, None);
    let other = ca.server(NOW + DAY);
    let spoilt: [(&str, &dyn Fn()); 6] = [
        ("has expired", &|| files.write(&ca.server(NOW - HOUR))),
        ("no private key", &|| std::fs::write(files.path("key.pem"), "-----BEGIN").unwrap()),
        ("key", &|| std::fs::write(files.path("key.pem"), &other.key_pem).unwrap()),
        ("cert.pem", &|| std::fs::write(files.path("cert.pem"), "").unwrap()),
        ("cert.pem", &|| std::fs::remove_file(files.path("cert.pem")).unwrap()),
        ("cert.pem", &|| std::fs::write(files.path("cert.pem"), vec![b'-'; 2 << 20]).unwrap()),
    ];
    for (word, spoil) in spoilt {
        files.write(&good);
        tls.look();
        spoil();
        assert_eq!(tls.look(), None, "perhaps half of a change");
        match tls.look() {
            Some(Change::Refused(why)) => assert!(why.contains(word), "{why}"),
            other => panic!("{word}: {other:?}"),
        }
        assert_eq!(tls.look(), None, "said once");
        assert!(tls.standing().refused.is_some());
        let (server, seen) = shake(&tls, client(&clock, &ca.pem, None)).await;
        assert!(server.is_ok() && seen.is_ok(), "{word}");
    }
    files.write(&good);
    assert_eq!(tls.look(), None);
    assert!(tls.standing().refused.is_none(), "put right");
    // At the start there is no former one.
    std::fs::write(files.path("key.pem"), &other.key_pem).unwrap();
    assert!(PublicTls::new(files.deps(&clock, None)).is_err());
}

/// A ClientHello without extensions, of the version given.
fn old_hello(minor: u8) -> Vec<u8> {
    let mut hello = vec![3, minor];
    hello.extend([7; 32]);
    hello.extend([0, 0, 4, 0xc0, 0x13, 0x00, 0x2f, 1, 0]);
    let mut record = vec![0x16, 3, 1, 0, u8::try_from(hello.len() + 4).unwrap(), 1, 0, 0];
    record.push(u8::try_from(hello.len()).unwrap());
    record.extend(hello);
    record
}

#[tokio::test]
async fn o8_versions_before_1_2_are_refused() {
    let (clock, ca) = (clock(), TestCa::new("ca"));
    let tls = Files::new(&ca.server(NOW + DAY)).tls(&clock, None);
    for minor in [0, 1, 2] {
        let (mut old, server) = pair().await;
        old.write_all(&old_hello(minor)).await.unwrap();
        let (refused, answer) = tokio::join!(tls.accept(server), async {
            let mut answer = Vec::new();
            let _ = old.read_to_end(&mut answer).await;
            answer
        });
        assert!(refused.is_err());
        assert_eq!(answer.first(), Some(&0x15), "an alert: {answer:?}");
        assert_eq!(answer.get(5), Some(&2), "fatal");
    }
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut only = support::client_of(&clock, &ca.pem, None, &[version]);
        only.alpn_protocols = vec![b"http/1.1".to_vec()];
        let (server, seen) = shake(&tls, only).await;
        assert!(server.is_ok_and(|accepted| !accepted.h2) && seen.is_ok(), "{version:?}");
    }
    let mut h2 = client(&clock, &ca.pem, None);
    h2.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
    assert!(shake(&tls, h2).await.0.unwrap().h2);
    let mut neither = client(&clock, &ca.pem, None);
    neither.alpn_protocols = vec![b"spdy".to_vec()];
    assert!(shake(&tls, neither).await.0.is_err());
}

#[tokio::test]
async fn a3_client_certificates_name_devices_and_foreign_ones_are_refused() {
    let (clock, ca, devices, foreign) = (clock(), TestCa::new("ca"), TestCa::new("devices"), TestCa::new("foreign"));
    let files = Files::new(&ca.server(NOW + DAY));
    let authorities = files.path("devices.pem");
    std::fs::write(&authorities, &devices.pem).unwrap();
    let tls = files.tls(&clock, Some(&authorities));
    let laptop = devices.issue(vec![dns("laptop-7")], NOW + HOUR);
    let stranger = foreign.issue(vec![dns("laptop-7")], NOW + HOUR);
    let old = devices.issue(vec![dns("laptop-7")], NOW - HOUR);
    let (without, _seen) = shake(&tls, client(&clock, &ca.pem, None)).await;
    assert!(without.unwrap().device.is_none(), "no certificate, no device");
    let (known, _seen) = shake(&tls, client(&clock, &ca.pem, Some(&laptop))).await;
    let device = known.unwrap().device.unwrap();
    assert_eq!(device.device(clock.now_ms()).map(|name| &**name), Some("laptop-7"));
    assert!(shake(&tls, client(&clock, &ca.pem, Some(&stranger))).await.0.is_err(), "another authority");
    assert!(shake(&tls, client(&clock, &ca.pem, Some(&old))).await.0.is_err(), "expired");
    assert!(device.device(NOW + HOUR).is_none(), "a connection outlives no certificate");
    // The authority is replaced: what it vouched for is nobody's any more, on open connections too.
    std::fs::write(&authorities, &foreign.pem).unwrap();
    assert_eq!(tls.look(), Some(Change::Taken));
    assert!(device.device(clock.now_ms()).is_none());
    assert!(shake(&tls, client(&clock, &ca.pem, Some(&laptop))).await.0.is_err());
    // Sabotage: whoever puts the stranger's authority into the file lets the stranger be a device.
    let (fooled, _seen) = shake(&tls, client(&clock, &ca.pem, Some(&stranger))).await;
    assert!(fooled.unwrap().device.is_some());
}

#[tokio::test]
async fn a3_without_authorities_no_certificate_is_asked_for() {
    let (clock, ca, devices) = (clock(), TestCa::new("ca"), TestCa::new("devices"));
    let tls = Files::new(&ca.server(NOW + DAY)).tls(&clock, None);
    let laptop = devices.issue(vec![dns("laptop-7")], NOW + HOUR);
    assert!(shake(&tls, client(&clock, &ca.pem, Some(&laptop))).await.0.unwrap().device.is_none());
}

#[tokio::test]
async fn o8_the_own_authority_issues_renews_and_is_one_for_all_processes() {
    let (clock, store) = (clock(), support::store().await);
    let records = support::records(&store);
    let open = || Authority::open(&records, clock.clone(), Kind::Public);
    let (first, second) = tokio::join!(open(), open());
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first.pem(), second.pem(), "made once");
    let replicas = Authority::open(&records, clock.clone(), Kind::Replicas).await.unwrap();
    assert_ne!(first.pem(), replicas.pem());
    let names =
        Arc::new(std::sync::Mutex::new(vec!["gw.example".to_owned(), "127.0.0.1".to_owned(), "[::1]".to_owned()]));
    let current = Arc::clone(&names);
    let pem = first.pem();
    let tls = PublicTls::new(PublicTlsDeps {
        source: Source::Internal {
            authority: Box::new(first),
            names: Box::new(move || current.lock().unwrap().clone()),
        },
        client_ca: None,
        device_names: DeviceNames::default(),
        clock: clock.clone(),
    })
    .unwrap();
    assert!(shake(&tls, client(&clock, &pem, None)).await.1.is_ok());
    assert!(shake(&tls, client(&clock, &replicas.pem(), None)).await.1.is_err());
    assert_eq!(tls.look(), None);
    let until = tls.standing().not_after_ms;
    clock.advance_ms(25 * DAY);
    assert_eq!(tls.look(), Some(Change::Taken), "renewed before its end");
    assert!(tls.standing().not_after_ms > until);
    assert!(shake(&tls, client(&clock, &pem, None)).await.1.is_ok());
    names.lock().unwrap().push("portal.example".to_owned());
    assert_eq!(tls.look(), Some(Change::Taken), "a portal got a name of its own");
    names.lock().unwrap().push("b\u{e4}d".to_owned());
    assert_eq!(tls.look(), None);
    assert!(matches!(tls.look(), Some(Change::Refused(_))), "no name for a certificate");
    // The sealed key is of no use under another master key.
    let stranger = support::records(&store);
    assert!(Authority::open(&stranger, clock.clone(), Kind::Public).await.is_err());
}
