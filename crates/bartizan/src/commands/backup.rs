//! `bartizan backup` (O6).

use std::io::BufWriter;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use bartizan_audit::Audit;
use bartizan_backup::{BackupError, Source, shown, take};
use bartizan_config::Loaded;
use bartizan_config::settings::{AuditMode, KeySource};
use bartizan_model::event::{AuditEvent, EventKind, Who};
use bartizan_model::{EventId, PrincipalKind};
use bartizan_vault::{KeyRing, Vault};
use serde_json::json;

use crate::cli::Backup;
use crate::installation::{Places, clock, read_without_secrets};
use crate::output::{Done, Failure, OK, Out};

pub(crate) async fn run(arguments: &Backup, out: Out) -> Done {
    let loaded = read_without_secrets(&arguments.config.config)?;
    let places = Places::of(&loaded)?;
    let key = match (&arguments.key, &arguments.key_file) {
        (_, Some(file)) => key_of(&KeySource::File(file.clone()))?,
        (Some(name), None) => key_of(named(&loaded, name)?)?,
        (None, None) => return Err(Failure::cannot_run("bad_argument", "give --key or --key-file")),
    };
    let master = master_keys(&loaded)?;
    let master_key = master.current_id().to_string();
    // The copy leaves the house: nothing is copied that is not on record.
    record(&places.audit(), "admin/backup", &arguments.file.display().to_string()).await?;
    let vault = Vault::new(master).map_err(|_| failure(&BackupError::Seal))?;
    let older_keys = vault.key_ids().map(|id| id.to_string()).filter(|id| *id != master_key).collect();
    let source = Source { url: &places.url, audit: &places.audit(), master_key, older_keys };
    let file = Beside::new(&arguments.file)?;
    let to = BufWriter::new(&file.file);
    let made = take(&source, &key, arguments.key.clone(), clock().now_ms(), to).await;
    let (header, summary) = made.map_err(|error| failure(&error))?;
    file.keep()?;
    let value = json!({"file": arguments.file, "archive": header.archive, "key": header.key,
        "key_id": header.key_id, "content": summary});
    out.either(&value, || {
        let name = header.key.as_deref().unwrap_or("(of a file)");
        format!(
            "backup   {}\nkey      {name}, id {}\nrows     {} in {} tables\nrecord   {} files, {} bytes\n",
            arguments.file.display(),
            header.key_id,
            summary.rows,
            summary.tables,
            summary.files,
            summary.bytes
        )
    });
    out.note("the master key is not in it: keep that somewhere else");
    Ok(OK)
}

/// A file that has its name only once it is whole.
struct Beside {
    file: std::fs::File,
    path: PathBuf,
    target: PathBuf,
    kept: bool,
}

impl Beside {
    fn new(target: &Path) -> Result<Self, Failure> {
        if target.exists() {
            return Err(Failure::refused("backup_exists", format!("{} is there already", target.display())));
        }
        let mut path = target.as_os_str().to_owned();
        path.push(".unfinished");
        let path = PathBuf::from(path);
        clear(&path)?;
        let mut options = std::fs::OpenOptions::new();
        // New, and through no link: whatever somebody put there in the meantime is neither followed nor emptied.
        let file = options.write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|error| broken(&path, &error))?;
        Ok(Self { file, path, target: target.to_owned(), kept: false })
    }

    fn keep(mut self) -> Result<(), Failure> {
        self.file.sync_all().map_err(|error| broken(&self.path, &error))?;
        // A link, unlike a rename, never takes the place of another file.
        let linked = std::fs::hard_link(&self.path, &self.target).and_then(|()| std::fs::remove_file(&self.path));
        linked.map_err(|error| broken(&self.target, &error))?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Removes what an interrupted backup of the same user left; anything else of that name is not ours to remove.
fn clear(path: &Path) -> Result<(), Failure> {
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(broken(path, &error)),
    };
    if !found.is_file() || found.uid() != rustix::process::geteuid().as_raw() {
        let text = format!("{} is there already, and is no unfinished backup of this user", path.display());
        return Err(Failure::refused("backup_exists", text));
    }
    std::fs::remove_file(path).map_err(|error| broken(path, &error))
}

fn broken(path: &Path, error: &std::io::Error) -> Failure {
    Failure::cannot_run("backup_file", format!("{}: {error}", path.display()))
}

/// The key that the configuration calls so.
pub(super) fn named<'a>(loaded: &'a Loaded, name: &str) -> Result<&'a KeySource, Failure> {
    let found = loaded.file.backup_keys.get(name);
    found.ok_or_else(|| Failure::refused("unknown_backup_key", format!("{} is not in backup_keys", shown(name))))
}

/// A vault of a backup's key.
pub(super) fn key_of(source: &KeySource) -> Result<Vault, Failure> {
    let bad = |text: String| Failure::refused("bad_key", text);
    let ring = KeyRing::from_source(source).map_err(|error| bad(error.to_string()))?;
    if ring.is_demo() {
        return Err(bad("the key is one from the documentation, or plainly no random one".to_owned()));
    }
    Vault::new(ring).map_err(|error| bad(error.to_string()))
}

/// The installation's own keys.
pub(super) fn master_keys(loaded: &Loaded) -> Result<KeyRing, Failure> {
    let source = loaded.file.key.as_ref();
    let source = source.ok_or_else(|| Failure::refused("missing_setting", "key is required"))?;
    KeyRing::from_source(source).map_err(|error| Failure::refused("bad_key", error.to_string()))
}

/// Puts what an operator did on record.
pub(super) async fn record(audit: &Path, method: &str, target: &str) -> Result<(), Failure> {
    let failed = |text: String| Failure::cannot_run("audit_unavailable", text);
    let audit = Audit::open(audit, AuditMode::Strict, None, clock()).map_err(|error| failed(error.to_string()))?;
    let now = clock().now_ms();
    let uid = rustix::process::getuid().as_raw();
    let who = Who { principal: "service:bartizan-cli".to_owned(), ..Who::default() };
    let mut event = AuditEvent::new(EventId::new(now), now, EventKind::Admin, PrincipalKind::Service, who, method);
    event.target = Some(target.to_owned());
    event.note = Some(format!("by operating system user {uid}"));
    let kept = audit.append_durable(event).await;
    audit.close().await;
    kept.map(drop).map_err(|error| failed(format!("{method} is not on record: {error}")))
}

/// What is wrong with an archive is the answer no; everything else keeps the command from its work.
pub(super) fn failure(error: &BackupError) -> Failure {
    match error {
        BackupError::File { .. } | BackupError::Store(_) | BackupError::Audit(_) | BackupError::Seal => {
            Failure { code: error.code(), message: error.to_string(), exit: crate::output::CANNOT_RUN }
        }
        _ => Failure { code: error.code(), message: error.to_string(), exit: crate::output::FINDINGS },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o6_a_backup_empties_no_file_through_a_planted_link() {
        let folder = tempfile::tempdir().unwrap();
        let (target, other) = (folder.path().join("copy"), folder.path().join("precious"));
        let beside = folder.path().join("copy.unfinished");
        std::fs::write(&other, "precious").unwrap();
        std::os::unix::fs::symlink(&other, &beside).unwrap();
        assert_eq!(Beside::new(&target).err().unwrap().code, "backup_exists");
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "precious");
        std::fs::remove_file(&beside).unwrap();
        // What an interrupted one left makes room, and the new file has the new mode.
        std::fs::write(&beside, "half").unwrap();
        let new = Beside::new(&target).ok().unwrap();
        let found = new.file.metadata().unwrap();
        assert_eq!((found.len(), found.mode() & 0o777), (0, 0o600));
        new.keep().ok().unwrap();
        assert!(target.is_file() && !beside.exists());
    }
}
