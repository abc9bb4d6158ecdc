//! Era detection, the table of section 4.1 (P7).

use bartizan_wire::era::{Detected, EraError, Session, detect};
use bartizan_wire::{Era, LATEST_LEGACY, MODERN_VERSIONS, Revision, codes};

const MODERN: &str = "2026-07-28";
const LEGACY: &str = "2025-11-25";

#[track_caller]
fn refused(result: Result<Detected, EraError>, status: u16, code: i64) -> EraError {
    let error = result.expect_err("refused");
    assert_eq!((error.status.as_u16(), error.error.code), (status, code), "{error}");
    error
}

#[test]
fn p7_body_version_without_equal_header() {
    for header in [None, Some(LEGACY), Some("2026-07-29"), Some(""), Some("2026-07-28 "), Some("nonsense")] {
        refused(detect(Some(MODERN), header, "tools/list", Session::Absent), 400, codes::HEADER_MISMATCH);
    }
    // Missing header comes before an unknown version.
    refused(detect(Some("1999-01-01"), None, "tools/list", Session::Absent), 400, codes::HEADER_MISMATCH);
}

#[test]
fn p7_body_version_not_served_in_this_form() {
    for version in [LEGACY, "2024-11-05", "2025-06-18", "2027-01-01", "draft", ""] {
        let error = refused(
            detect(Some(version), Some(version), "tools/list", Session::Absent),
            400,
            codes::UNSUPPORTED_VERSION,
        );
        let data = error.error.data.expect("data");
        assert_eq!(data.get("supported").expect("supported").as_str(), "[\"2026-07-28\"]");
        assert_eq!(data.get("requested").expect("requested").as_string().as_deref(), Some(version));
        assert!(error.error.message.contains(LEGACY), "legacy versions are named in the message");
    }
    let long = "9".repeat(10_000);
    let error = refused(detect(Some(&long), Some(&long), "x", Session::Absent), 400, codes::UNSUPPORTED_VERSION);
    assert!(error.error.to_raw().len() < 600, "a hostile version is not echoed whole");
}

#[test]
fn p7_modern_whatever_the_method_and_session() {
    for method in ["tools/list", "initialize", "ping", "vendor/x", "server/discover"] {
        for session in [Session::Absent, Session::Known, Session::Unknown] {
            let detected = detect(Some(MODERN), Some(MODERN), method, session).expect("modern");
            assert_eq!(detected, Detected::Modern(Revision::V2026_07_28));
            assert_eq!(detected.era(), Era::Modern);
        }
    }
}

#[test]
fn p7_modern_header_without_body_version() {
    for header in [MODERN, "2026-08-01", "2030-01-01"] {
        for (method, session) in
            [("tools/list", Session::Absent), ("initialize", Session::Absent), ("x", Session::Known)]
        {
            refused(detect(None, Some(header), method, session), 400, codes::INVALID_PARAMS);
        }
    }
}

#[test]
fn p7_initialize_opens_a_legacy_session() {
    for header in [None, Some(LEGACY), Some("2025-03-26"), Some("2024-11-05")] {
        for session in [Session::Absent, Session::Known, Session::Unknown] {
            let detected = detect(None, header, "initialize", session).expect("legacy");
            assert_eq!(detected, Detected::LegacyOpen);
            assert_eq!(detected.era(), Era::Legacy);
        }
    }
}

#[test]
fn p7_legacy_sessions() {
    for header in [None, Some(LEGACY), Some("2025-03-26")] {
        assert_eq!(detect(None, header, "tools/call", Session::Known), Ok(Detected::LegacySession));
        refused(detect(None, header, "tools/call", Session::Unknown), 404, codes::INVALID_REQUEST);
        let error = refused(detect(None, header, "tools/call", Session::Absent), 400, codes::INVALID_REQUEST);
        assert!(error.error.message.contains(LEGACY) && error.error.message.contains(MODERN), "names both eras");
    }
}

#[test]
fn p7_header_that_is_no_version() {
    for header in ["", "nonsense", "2025-01-01", "2025-11-25,2025-11-25", "2026-7-28", "2026-07-28x", "20260728"] {
        for session in [Session::Known, Session::Absent, Session::Unknown] {
            refused(detect(None, Some(header), "tools/list", session), 400, codes::INVALID_REQUEST);
        }
        refused(detect(None, Some(header), "initialize", Session::Absent), 400, codes::INVALID_REQUEST);
    }
}

#[test]
fn p7_revisions() {
    for revision in Revision::ALL {
        assert_eq!(Revision::parse(revision.as_str()), Some(*revision));
        assert_eq!(revision.era() == Era::Modern, MODERN_VERSIONS.contains(revision));
    }
    assert_eq!(Revision::parse("2025-11-26"), None);
    assert_eq!(LATEST_LEGACY, Revision::V2025_11_25);
    assert!(Revision::V2024_11_05 < Revision::V2025_03_26 && Revision::V2025_11_25 < Revision::V2026_07_28);
    assert!(Revision::ALL.iter().filter(|r| r.has_batches()).eq([&Revision::V2025_03_26]));
}

#[test]
fn p7_initialize_is_answered_with_the_same_or_the_latest_legacy_version() {
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        assert_eq!(Revision::negotiate(version).as_str(), version);
    }
    for version in ["2026-07-28", "2099-01-01", "1.0", ""] {
        assert_eq!(Revision::negotiate(version), LATEST_LEGACY);
    }
}
