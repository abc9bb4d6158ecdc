//! P21: records and handles.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use bartizan_vault::{Aad, KeyRing, OpenError, Vault};
use proptest::prelude::*;

fn key(n: u8) -> [u8; 32] {
    let mut key = [0xa5; 32];
    key[0] = n;
    key
}

fn vault(current: u8, previous: &[u8]) -> Vault {
    Vault::new(KeyRing::from_keys(key(current), previous.iter().map(|n| key(*n))).unwrap()).unwrap()
}

fn aad<'a>(tenant: &'a str, table: &'a str, id: &'a str, version: i64) -> Aad<'a> {
    Aad { tenant, table, id, version }
}

#[test]
fn p21_a_record_opens_only_under_its_own_name_and_version() {
    let vault = vault(1, &[]);
    let name = aad("t", "upstream_token", "github", 7);
    let sealed = vault.seal(&name, b"secret").unwrap();
    assert_eq!(vault.open(&name, &sealed).unwrap().as_slice(), b"secret");
    for other in [
        aad("T", "upstream_token", "github", 7),
        aad("", "upstream_token", "github", 7),
        aad("t", "oauth_client", "github", 7),
        aad("t", "upstream_token", "gitlab", 7),
        aad("t", "upstream_token", "github", 6),
        aad("t", "upstream_token", "github", 8),
        aad("t", "upstream_token", "github", -7),
        // The same letters, cut elsewhere.
        aad("tupstream_token", "", "github", 7),
        aad("t", "upstream_tokengithub", "", 7),
        aad("", "tupstream_token", "github", 7),
    ] {
        assert_eq!(vault.open(&other, &sealed).unwrap_err(), OpenError, "{other:?}");
    }
}

#[test]
fn p21_every_record_has_its_own_data_key() {
    let vault = vault(1, &[]);
    let name = aad("t", "k", "i", 1);
    let (one, two) = (vault.seal(&name, b"secret").unwrap(), vault.seal(&name, b"secret").unwrap());
    assert_ne!(one, two);
    // The key of one record, wrapped for the same name, does not open another one's content.
    let header = 1 + 8 + 12 + 32 + 16;
    let mixed = [&one[..header], &two[header..]].concat();
    assert!(vault.open(&name, &mixed).is_err());
    assert!(!one.windows(6).any(|window| window == b"secret"));
}

#[test]
fn p21_the_header_names_the_key() {
    let (old, new, both) = (vault(1, &[]), vault(2, &[]), vault(2, &[1]));
    let name = aad("", "k", "i", 1);
    let sealed = old.seal(&name, b"x").unwrap();
    assert!(new.open(&name, &sealed).is_err());
    assert_eq!(both.open(&name, &sealed).unwrap().as_slice(), b"x");
    assert!(both.needs_reseal(&sealed).unwrap());
    assert!(!old.needs_reseal(&sealed).unwrap());
    let resealed = both.reseal(&name, &sealed).unwrap();
    assert!(!both.needs_reseal(&resealed).unwrap());
    assert_eq!(new.open(&name, &resealed).unwrap().as_slice(), b"x");
    assert!(old.open(&name, &resealed).is_err());
    // A header that names another key.
    let mut forged = sealed.clone();
    forged[1..9].copy_from_slice(&resealed[1..9]);
    assert!(both.open(&name, &forged).is_err());
    assert_eq!(both.current_key(), new.current_key());
    assert_ne!(old.current_key(), new.current_key());
}

proptest! {
    #[test]
    fn p21_content_comes_back(plain in proptest::collection::vec(any::<u8>(), 0..2_000), tenant: String, id: String, version: i64) {
        let vault = vault(1, &[]);
        let name = aad(&tenant, "k", &id, version);
        let sealed = vault.seal(&name, &plain).unwrap();
        let opened = vault.open(&name, &sealed).unwrap();
        prop_assert_eq!(opened.as_slice(), plain.as_slice());
    }

    #[test]
    fn p21_a_changed_byte_does_not_open(plain in proptest::collection::vec(any::<u8>(), 0..50), at in any::<proptest::sample::Index>(), bit in 0..8u8) {
        let vault = vault(1, &[2]);
        let name = aad("t", "k", "i", 1);
        let mut sealed = vault.seal(&name, &plain).unwrap();
        let at = at.index(sealed.len());
        sealed[at] ^= 1u8 << bit;
        prop_assert!(vault.open(&name, &sealed).is_err());
    }

    #[test]
    fn p21_any_bytes_are_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text: String) {
        let vault = vault(1, &[]);
        prop_assert!(vault.open(&aad("t", "k", "i", 1), &bytes).is_err());
        let _ = vault.needs_reseal(&bytes);
        prop_assert!(vault.handles().open("p", &text).is_err());
    }

    #[test]
    fn p21_a_shortened_record_does_not_open(cut in 1..60usize) {
        let vault = vault(1, &[]);
        let name = aad("t", "k", "i", 1);
        let sealed = vault.seal(&name, b"some content").unwrap();
        prop_assert!(vault.open(&name, &sealed[..sealed.len().saturating_sub(cut)]).is_err());
    }

    #[test]
    fn p9_a_changed_handle_does_not_open(at in any::<proptest::sample::Index>(), to in "[A-Za-z0-9_-]") {
        let handles = vault(1, &[]).handles();
        let handle = handles.seal("session", b"some payload").unwrap();
        let at = at.index(handle.len());
        prop_assume!(handle[at..=at] != to);
        let mut changed = handle.clone();
        changed.replace_range(at..=at, &to);
        prop_assert!(handles.open("session", &changed).is_err());
    }
}

#[test]
fn p9_a_handle_is_for_one_purpose() {
    let handles = vault(1, &[]).handles();
    let handle = handles.seal("session", b"payload").unwrap();
    assert_eq!(handles.open("session", &handle).unwrap().as_slice(), b"payload");
    assert!(handle.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'), "{handle}");
    for purpose in ["", "Session", "session ", "request_state"] {
        assert!(handles.open(purpose, &handle).is_err());
    }
    let with_end = [format!("{handle}="), format!("{handle}A"), format!(" {handle}"), "A".repeat(3 << 20)];
    for bad in ["", "a", "AA"].into_iter().chain(with_end.iter().map(String::as_str)) {
        assert!(handles.open("session", bad).is_err());
    }
    assert_ne!(handles.seal("session", b"payload").unwrap(), handle);
    assert_eq!(handles.open("session", &handles.seal("session", b"").unwrap()).unwrap().len(), 0);
}

#[test]
fn p9_handles_survive_a_key_rotation() {
    let old = vault(1, &[]).handles().seal("session", b"payload").unwrap();
    assert_eq!(vault(2, &[1]).handles().open("session", &old).unwrap().as_slice(), b"payload");
    assert!(vault(2, &[]).handles().open("session", &old).is_err());
    assert!(vault(3, &[2]).handles().open("session", &old).is_err());
}

#[test]
fn p9_handles_and_records_do_not_share_a_key() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let vault = vault(1, &[]);
    let bytes = URL_SAFE_NO_PAD.decode(vault.handles().seal("p", b"x").unwrap()).unwrap();
    assert!(vault.open(&aad("", "", "", 0), &bytes).is_err());
    let record = vault.seal(&aad("", "", "", 0), b"x").unwrap();
    assert!(vault.handles().open("", &URL_SAFE_NO_PAD.encode(record)).is_err());
}
