//! `bartizan audit verify`, `key` and `checkpoints` (L2).

use std::path::Path;

use bartizan_audit::{CheckpointKey, Evidence, PublicKey, Report, export_bundle, verify_bundle, verify_evidence};
use bartizan_store::Store;
use bartizan_store::repo::audit_checkpoint;
use bartizan_vault::{KeyRing, Vault};
use serde_json::json;

use super::failure;
use crate::cli::RecordArg;
use crate::installation::{Places, read_without_secrets};
use crate::output::{Done, FINDINGS, Failure, OK, Out};
use crate::time::rfc3339;

/// Largest file with checkpoints.
const MAX_FILE: u64 = 256 << 20;
/// Checkpoints read at once.
const PAGE: u32 = 500;

pub(super) async fn run(
    place: &RecordArg,
    checkpoint: Option<&Path>,
    key: Option<&Path>,
    elsewhere: &[String],
    out: Out,
) -> Done {
    let places = Places::of_argument(place)?;
    let key = match key {
        Some(path) => {
            let wrong = |error: bartizan_audit::CheckpointError| Failure::cannot_run("bad_key", error.to_string());
            Some(PublicKey::parse(&read(path)?).map_err(wrong)?)
        }
        None => None,
    };
    let outside = match checkpoint {
        Some(path) => Some((path.display().to_string(), read(path)?)),
        None => None,
    };
    let store = places.open().await?;
    // Without a key from elsewhere, this machine's own still finds what was not made to fit.
    let key = match (key, &place.config) {
        (Some(key), _) => Some(key),
        (None, Some(config)) if place.data_dir.is_none() => own(config, &store).await.unwrap_or_default(),
        (None, _) => None,
    };
    let outside = outside.as_ref().map(|(name, text)| (name.as_str(), text.as_str()));
    let evidence = Evidence { key, outside, elsewhere, store: Some(&store) };
    let report = verify_evidence(&places.audit(), &evidence).await.map_err(failure)?;
    print(&report, outside.is_some(), out);
    Ok(if report.is_whole() { OK } else { FINDINGS })
}

fn read(path: &Path) -> Result<String, Failure> {
    let wrong = |why: String| Failure::cannot_run("unreadable_file", format!("{}: {why}", path.display()));
    let length = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
    if length > MAX_FILE {
        return Err(wrong("too long".to_owned()));
    }
    std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))
}

fn vault(config: &Path) -> Result<Vault, Failure> {
    let loaded = read_without_secrets(config)?;
    let Some(source) = loaded.file.key else {
        return Err(Failure::refused("missing_setting", "key is required"));
    };
    let keys = KeyRing::from_source(&source).map_err(|error| Failure::refused("bad_key", error.to_string()))?;
    Vault::new(keys).map_err(|error| Failure::cannot_run("bad_key", error.to_string()))
}

/// The installation's key, where the master key is at hand.
async fn own(config: &Path, store: &Store) -> Result<Option<PublicKey>, Failure> {
    let key = CheckpointKey::existing(&vault(config)?, store).await.map_err(failure)?;
    Ok(key.map(|key| key.public()))
}

pub(super) async fn key(config: &Path, out: Out) -> Done {
    let place = RecordArg { config: Some(config.to_owned()), data_dir: None };
    let store = Places::of_argument(&place)?.open().await?;
    let key = CheckpointKey::of_installation(&vault(config)?, &store).await.map_err(failure)?.public();
    out.either(&json!({"key": key.to_string(), "pem": key.pem()}), || key.pem());
    Ok(OK)
}

/// One JSON document per line in either form of output: the lines are the file to keep.
pub(super) async fn checkpoints(place: &RecordArg, mut after: i64) -> Done {
    let store = Places::of_argument(place)?.open().await?;
    let wrong = |error: bartizan_store::StoreError| Failure::cannot_run("bad_store", error.to_string());
    let mut any = false;
    loop {
        let page = audit_checkpoint::after(&store, after, PAGE).await.map_err(wrong)?;
        let Some(last) = page.last() else { break };
        (after, any) = (last.number, true);
        for one in &page {
            println!("{}", one.body);
        }
    }
    Ok(if any { OK } else { FINDINGS })
}

/// Writes the bundle of a time range.
pub(super) async fn export(place: &RecordArg, since_ms: i64, until_ms: i64, file: &Path, out: Out) -> Done {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let places = Places::of_argument(place)?;
    let store = places.open().await?;
    let wrong = |error: std::io::Error| Failure::cannot_run("unwritable_file", format!("{}: {error}", file.display()));
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(wrong)?;
    let mut writer = std::io::BufWriter::new(made);
    let count = export_bundle(&places.audit(), &store, since_ms, until_ms, &mut writer).await.map_err(failure)?;
    writer.flush().map_err(wrong)?;
    out.either(&json!({"records": count, "file": file}), || format!("{count} records in {}\n", file.display()));
    Ok(if count > 0 { OK } else { FINDINGS })
}

/// Checks a bundle; neither the record nor a configuration is needed.
pub(super) fn bundle(file: &Path, key: &Path, out: Out) -> Done {
    let wrong = |why: String| Failure::cannot_run("unreadable_file", format!("{}: {why}", file.display()));
    let key = PublicKey::parse(&read(key)?).map_err(|error| Failure::cannot_run("bad_key", error.to_string()))?;
    let opened = std::fs::File::open(file).map_err(|error| wrong(error.to_string()))?;
    let report = verify_bundle(&mut std::io::BufReader::new(opened), &key).map_err(failure)?;
    let mut value = serde_json::to_value(&report).unwrap_or_default();
    if let Some(members) = value.as_object_mut() {
        members.insert("whole".into(), report.is_whole().into());
    }
    out.either(&value, || {
        let mut text = format!("{} records, {} checkpoints\n", report.records, report.signed);
        for finding in &report.findings {
            text.push_str(&format!("{finding}\n"));
        }
        text.push_str(if report.is_whole() { "the bundle is whole\n" } else { "THE BUNDLE IS NOT WHOLE\n" });
        text
    });
    Ok(if report.is_whole() { OK } else { FINDINGS })
}

fn print(report: &Report, with_outside: bool, out: Out) {
    let mut value = serde_json::to_value(report).unwrap_or_default();
    if let Some(members) = value.as_object_mut() {
        members.insert("whole".into(), report.is_whole().into());
        members.insert("checkpoints".into(), json!(report.checkpoints()));
    }
    out.either(&value, || {
        let mut text = String::new();
        for writer in &report.writers {
            text.push_str(&format!("{}: {} records in {} segments\n", writer.writer, writer.records, writer.segments));
        }
        for torn in &report.torn {
            text.push_str(&format!("{}/{}: {} bytes of an unfinished line\n", torn.writer, torn.file, torn.bytes));
        }
        for finding in &report.findings {
            text.push_str(&format!("{finding}\n"));
        }
        if let Some((number, at_ms)) = report.newest {
            let known = report.signed;
            text.push_str(&format!("{known} signed checkpoints; the newest is {number} of {}\n", rfc3339(at_ms)));
        }
        text.push_str(match (report.is_whole(), with_outside) {
            (true, true) => "the record is whole up to the newest checkpoint kept elsewhere\n",
            (true, false) => "the record is whole\n",
            (false, _) => "THE RECORD IS NOT WHOLE\n",
        });
        text
    });
}
