//! `bartizan restore` (O6).

use std::fs::File;
use std::io::BufReader;

use bartizan_backup::{BackupError, Header, Restored, Target, check, restore, shown};
use bartizan_config::settings::KeySource;
use bartizan_vault::Vault;
use serde_json::json;

use super::backup::{failure, key_of, master_keys, named, record};
use crate::cli::Restore;
use crate::installation::{Places, clock, read_without_secrets};
use crate::output::{Done, OK, Out};
use crate::time::rfc3339;

pub(crate) async fn run(arguments: &Restore, out: Out) -> Done {
    let loaded = read_without_secrets(&arguments.config.config)?;
    let places = Places::of(&loaded)?;
    let master = master_keys(&loaded)?;
    let opened = File::open(&arguments.file)
        .map_err(|source| failure(&BackupError::File { path: arguments.file.display().to_string(), source }))?;
    let mut from = BufReader::new(opened);
    let header = Header::read(&mut from).map_err(|error| failure(&error))?;
    let key = match (&arguments.key_file, &header.key) {
        (Some(file), _) => key_of(&KeySource::File(file.clone()))?,
        (None, Some(name)) => key_of(named(&loaded, name)?)?,
        (None, None) => {
            let text = "it was encrypted with a key of a file: give --key-file".to_owned();
            return Err(failure(&BackupError::WrongKey(text)));
        }
    };
    let restored = if arguments.check {
        let scratch = tempfile::tempdir().map_err(|source| {
            failure(&BackupError::File { path: std::env::temp_dir().display().to_string(), source })
        })?;
        check(&header, from, &key, scratch.path()).await.map_err(|error| failure(&error))?
    } else {
        let vault = Vault::new(master).map_err(|_| failure(&BackupError::Seal))?;
        let target = Target {
            url: &places.url,
            data: &places.data_dir,
            audit: &places.audit(),
            master_keys: vault.key_ids().map(|id| id.to_string()).collect(),
        };
        let done = restore(&header, from, &key, &target, arguments.replace, clock().now_ms()).await;
        let done = done.map_err(|error| failure(&error))?;
        record(&places.audit(), "admin/restore", &header.archive).await?;
        done
    };
    let Restored { manifest, summary, absent, carried, switches_lost } = restored;
    let whole = absent.is_empty();
    let value = json!({"archive": header.archive, "created": rfc3339(header.created_ms), "version": header.version,
        "engine": manifest.engine, "content": summary, "restored": !arguments.check, "record_whole": whole,
        "absent_writers": absent, "kill_switches_kept": carried});
    out.either(&value, || {
        format!(
            "archive  {} of {}\nrows     {} in {} tables\nrecord   {} files, {} bytes, {}\n{}\n",
            shown(&header.archive),
            rfc3339(header.created_ms),
            summary.rows,
            summary.tables,
            summary.files,
            summary.bytes,
            if whole { "whole" } else { "without that of some writers" },
            if arguments.check { "nothing was restored, as asked" } else { "restored" }
        )
    });
    if !whole {
        let names = absent.join(", ");
        out.note(&format!("the rows know of writers whose record is not in it, other processes' or removed: {names}"));
    }
    if carried > 0 {
        out.note(&format!("{carried} kill switches that were set before stay set"));
    }
    if switches_lost {
        out.note("kill switches of the replaced database could not be taken over: set again those that you need");
    }
    if !arguments.check {
        out.note("what was revoked, killed or deactivated after the backup was made is as it was then: do it again");
    }
    Ok(OK)
}
