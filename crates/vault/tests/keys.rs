//! Where keys come from, and which are refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use bartizan_config::settings::KeySource;
use bartizan_vault::{KeyError, KeyRing};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use tempfile::TempDir;

const KEY: [u8; 32] = *b"0123456789abcdef0123456789ABCDEF";

fn file(dir: &Path, content: &[u8], mode: u32) -> KeySource {
    let path = dir.join("key");
    let _ = fs::remove_file(&path);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    KeySource::File(path)
}

#[test]
fn p21_a_key_is_read_raw_or_as_base64() {
    let dir = TempDir::new().unwrap();
    let id = KeyRing::from_keys(KEY, []).unwrap().current_id();
    let url = URL_SAFE_NO_PAD.encode(KEY);
    for content in [
        KEY.to_vec(),
        STANDARD.encode(KEY).into_bytes(),
        format!("{}\n", STANDARD.encode(KEY)).into_bytes(),
        format!("\r\n {url} \r\n").into_bytes(),
    ] {
        assert_eq!(KeyRing::from_source(&file(dir.path(), &content, 0o600)).unwrap().current_id(), id);
    }
    let two = format!("{}\n{}\n", STANDARD.encode([7; 32]), STANDARD.encode(KEY));
    assert_ne!(KeyRing::from_source(&file(dir.path(), two.as_bytes(), 0o400)).unwrap().current_id(), id);
}

#[test]
fn p21_what_is_no_key_is_refused_and_not_shown() {
    let dir = TempDir::new().unwrap();
    for content in [
        &b""[..],
        b"\n\n",
        b"short",
        &KEY[..31],
        &[&KEY[..], b"\n"].concat(),
        STANDARD.encode(&KEY[..31]).as_bytes(),
        STANDARD.encode([&KEY[..], b"x"].concat()).as_bytes(),
        &[0xff; 40],
        format!("{}\nhunter2", STANDARD.encode(KEY)).as_bytes(),
        &[b'x'; 100_000],
    ] {
        let error = KeyRing::from_source(&file(dir.path(), content, 0o600)).err().expect("refused");
        assert!(matches!(error, KeyError::Form), "{error:?}");
        assert!(!format!("{error}{error:?}").contains("hunter2"));
    }
    let twice = format!("{0}\n{0}", STANDARD.encode(KEY));
    assert!(matches!(KeyRing::from_source(&file(dir.path(), twice.as_bytes(), 0o600)), Err(KeyError::Twice)));
    let absent = KeySource::File(dir.path().join("absent"));
    assert!(matches!(KeyRing::from_source(&absent), Err(KeyError::File { .. })));
    assert!(KeyRing::from_source(&KeySource::File(dir.path().to_owned())).is_err());
    let variable = KeySource::Env("BARTIZAN_TEST_NO_SUCH_VARIABLE".to_owned());
    assert!(matches!(KeyRing::from_source(&variable), Err(KeyError::Environment(name)) if name.ends_with("VARIABLE")));
}

#[test]
fn p21_a_key_that_others_can_read_is_refused() {
    let dir = TempDir::new().unwrap();
    let modes =
        [(0o600, true), (0o400, true), (0o640, true), (0o644, false), (0o604, false), (0o620, false), (0o666, false)];
    for (mode, good) in modes {
        let ring = KeyRing::from_source(&file(dir.path(), &KEY, mode));
        assert_eq!(ring.is_ok(), good, "{mode:o}");
        if let Err(error) = ring {
            assert!(error.to_string().contains(&format!("{mode:o}")), "{error}");
        }
    }
}

#[test]
fn u3_demo_keys_are_known() {
    let ring = |key| KeyRing::from_keys(key, []).unwrap();
    assert!(ring(*b"bartizan demo key, do not use it").is_demo());
    assert!(ring([0; 32]).is_demo() && ring([b'a'; 32]).is_demo());
    assert!(!ring(KEY).is_demo());
    assert!(KeyRing::from_keys(KEY, [[0; 32]]).unwrap().is_demo(), "also as a previous key");
    assert!(!KeyRing::ephemeral().unwrap().is_demo());
    assert_ne!(KeyRing::ephemeral().unwrap().current_id(), KeyRing::ephemeral().unwrap().current_id());
}
