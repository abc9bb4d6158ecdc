//! The way back: the whole archive is read, written beside, and verified before anything is replaced.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};

use bartizan_audit::{Checkpoint, verify};
use bartizan_store::dump::{Filling, Snapshot, Switches, Value};
use bartizan_store::{StoreError, StoreUrl};
use bartizan_vault::Vault;

use crate::Summary;
use crate::error::BackupError;
use crate::header::{Header, shown};
use crate::open::Opener;
use crate::place::{Exchange, Held, UNFINISHED, audit_path, folders, private_file, private_folder};
use crate::record::{Manifest, Record, TableHead};

/// A process that said within this time that it works with the database is taken to do so still, milliseconds.
const LIVE_MS: i64 = 15_000;

/// What was restored, or would be.
#[derive(Clone, Debug)]
pub struct Restored {
    /// What the archive says of itself.
    pub manifest: Manifest,
    /// How much is in it.
    pub summary: Summary,
    /// Writers that its rows know of and whose record is not in it: those of processes with other data folders, or
    /// ones that somebody removed before the copy.
    pub absent: Vec<String>,
    /// Kill switches that were set in the database that was replaced, and stay set.
    pub carried: usize,
    /// Whether there may be kill switches that could not be taken over.
    pub switches_lost: bool,
}

/// Where an archive is restored to.
pub struct Target<'a> {
    /// The database.
    pub url: &'a StoreUrl,
    /// The data folder.
    pub data: &'a Path,
    /// Folder of the audit segments, in the data folder.
    pub audit: &'a Path,
    /// Names of the master keys that are configured.
    pub master_keys: Vec<String>,
}

/// What is written beside, in a folder of the data folder.
struct Staged {
    folder: PathBuf,
}

impl Staged {
    fn new(data: &Path) -> Result<Self, BackupError> {
        let folder = data.join("restore.new");
        // Left behind by one that was interrupted; nothing uses it.
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(|source| BackupError::file(&folder, source))?;
        }
        private_folder(&folder.join("audit"))?;
        Ok(Self { folder })
    }

    fn audit(&self) -> PathBuf {
        self.folder.join("audit")
    }

    fn database(&self) -> PathBuf {
        self.folder.join("database")
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Restores an archive whose header was read already.
///
/// # Errors
/// [`BackupError`]; nothing was replaced then, and only that of PostgreSQL's commit itself may leave doubt.
pub async fn restore<R: Read>(
    header: &Header,
    from: R,
    vault: &Vault,
    target: &Target<'_>,
    replace: bool,
    now_ms: i64,
) -> Result<Restored, BackupError> {
    // To the end: nobody begins with one of these folders while the archive is read.
    let mut held = Held::default();
    held.take(target.audit)?;
    if !replace {
        refuse_used(target)?;
    }
    private_folder(target.data)?;
    let staged = Staged::new(target.data)?;
    let url = match target.url {
        StoreUrl::Postgres(_) => None,
        _ => Some(StoreUrl::Sqlite(staged.database())),
    };
    let into = Into {
        url: url.as_ref().unwrap_or(target.url),
        replace: replace || url.is_some(),
        live_ms: now_ms.saturating_sub(LIVE_MS),
    };
    let mut read = read(header, from, vault, &staged, &into, &target.master_keys).await?;
    let (carried, switches_lost) = switches(target, &mut read.filling).await?;
    exchange(target, &staged, read.filling, &mut held, now_ms).await?;
    Ok(Restored { manifest: read.manifest, summary: read.summary, absent: read.absent, carried, switches_lost })
}

/// Reads an archive to its end and verifies its record, without a database, beside nothing but `scratch`.
///
/// # Errors
/// What [`restore`] would say of the archive itself.
pub async fn check<R: Read>(header: &Header, from: R, vault: &Vault, scratch: &Path) -> Result<Restored, BackupError> {
    let staged = Staged::new(scratch)?;
    let url = StoreUrl::Sqlite(staged.database());
    let read = read(header, from, vault, &staged, &Into { url: &url, replace: true, live_ms: 0 }, &[]).await?;
    let Whole { manifest, summary, absent, .. } = read;
    Ok(Restored { manifest, summary, absent, carried: 0, switches_lost: false })
}

/// Who was stopped stays stopped: an archive from before the kill does not undo it. How many were taken over, and
/// whether some may not have been.
async fn switches(target: &Target<'_>, filling: &mut Filling) -> Result<(usize, bool), BackupError> {
    let set = match target.url {
        StoreUrl::Postgres(_) => Ok(filling.replaced_switches()),
        StoreUrl::Sqlite(path) if path.exists() => of_file(target.url).await,
        _ => Ok(Switches::default()),
    };
    // A database that is broken is a reason to restore, and no obstacle.
    let Ok(set) = set else { return Ok((0, true)) };
    let carried = if set.is_empty() { 0 } else { filling.carry(&set).await.map_err(refused)? };
    Ok((carried, carried < set.len()))
}

async fn of_file(url: &StoreUrl) -> Result<Switches, StoreError> {
    let mut old = Snapshot::open(url).await?;
    let set = old.switches().await;
    old.close().await?;
    set
}

async fn alone(filling: &mut Filling, live_ms: i64) -> Result<(), BackupError> {
    let others = filling.replicas(live_ms).await?;
    if others.is_empty() { Ok(()) } else { Err(BackupError::Replicas(others.join(", "))) }
}

/// The database that is filled.
struct Into<'a> {
    url: &'a StoreUrl,
    replace: bool,
    /// Processes seen since then are running.
    live_ms: i64,
}

fn refuse_used(target: &Target<'_>) -> Result<(), BackupError> {
    let not_empty = |path: &Path| Err(BackupError::NotEmpty(path.display().to_string()));
    if !folders(target.audit)?.is_empty() || target.data.join(UNFINISHED).exists() {
        return not_empty(target.data);
    }
    match target.url {
        StoreUrl::Sqlite(path) if path.exists() => not_empty(path),
        _ => Ok(()),
    }
}

struct Whole {
    manifest: Manifest,
    summary: Summary,
    absent: Vec<String>,
    filling: Filling,
}

/// Positions of the index are ends of chains that are known to have existed.
#[derive(Default)]
struct Positions {
    columns: Option<(usize, usize, usize)>,
    found: Vec<Checkpoint>,
}

impl Positions {
    fn table(&mut self, head: &TableHead) {
        let place = |name: &str| head.columns.iter().position(|column| column == name);
        self.columns = match (head.name.as_str(), place("writer"), place("seq"), place("hash")) {
            ("audit_position", Some(writer), Some(seq), Some(hash)) => Some((writer, seq, hash)),
            _ => None,
        };
    }

    fn row(&mut self, values: &[Value]) {
        let Some((writer, seq, hash)) = self.columns else { return };
        let (writer, seq, hash) = (values.get(writer), values.get(seq), values.get(hash));
        if let (Some(Value::Text(writer)), Some(Value::Int(seq)), Some(Value::Text(hash))) = (writer, seq, hash)
            && let Ok(seq) = u64::try_from(*seq)
            && seq > 0
        {
            self.found.push(Checkpoint { writer: writer.clone(), seq, hash: hash.clone() });
        }
    }
}

async fn read<R: Read>(
    header: &Header,
    from: R,
    vault: &Vault,
    staged: &Staged,
    into: &Into<'_>,
    master_keys: &[String],
) -> Result<Whole, BackupError> {
    let mut opener = Opener::new(from, vault, header)?;
    let Record::Manifest(manifest) = Record::read(&mut opener)? else {
        return Err(BackupError::Content("it does not begin with what it is"));
    };
    let mut needed = std::iter::once(&manifest.master_key).chain(&manifest.older_keys);
    if !master_keys.is_empty()
        && let Some(missing) = needed.find(|key| !master_keys.contains(key))
    {
        return Err(BackupError::MasterKey(shown(missing)));
    }
    let mut filling = Filling::begin(into.url, &manifest.versions, into.replace).await.map_err(refused)?;
    alone(&mut filling, into.live_ms).await?;
    let mut counted = Summary::default();
    let mut tables: BTreeMap<String, ()> = BTreeMap::new();
    let mut positions = Positions::default();
    let mut file: Option<File> = None;
    let told = loop {
        match Record::read(&mut opener)? {
            Record::Table(head) if counted.files == 0 => {
                if tables.insert(head.name.clone(), ()).is_some() {
                    return Err(BackupError::Content("a table twice"));
                }
                counted.tables += 1;
                positions.table(&head);
                filling.table(&head.name, &head.columns).map_err(refused)?;
            }
            Record::Row(values) if counted.tables > 0 && counted.files == 0 => {
                counted.rows += 1;
                positions.row(&values);
                filling.row(&values).await.map_err(refused)?;
            }
            Record::File(head) => {
                end_file(file.take(), staged)?;
                counted.files += 1;
                file = Some(new_file(staged, &head.path)?);
            }
            Record::Data(bytes) => {
                let file = file.as_mut().ok_or(BackupError::Content("bytes of no file"))?;
                counted.bytes += bytes.len() as u64;
                file.write_all(&bytes).map_err(|source| BackupError::file(&staged.folder, source))?;
            }
            Record::End(told) => break told,
            _ => return Err(BackupError::Content("records in an order in which nothing writes them")),
        }
    };
    end_file(file, staged)?;
    opener.finish()?;
    if told != counted {
        return Err(BackupError::Content("it holds another number of rows or files than it says"));
    }
    let absent = verified(staged, positions.found).await?;
    Ok(Whole { manifest, summary: counted, absent, filling })
}

fn new_file(staged: &Staged, path: &str) -> Result<File, BackupError> {
    let (writer, name) = audit_path(path).ok_or(BackupError::Content("a path that is not of the record"))?;
    let folder = staged.audit().join(writer);
    private_folder(&folder)?;
    private_file(&folder.join(name)).map_err(|error| match error {
        BackupError::File { source, .. } if source.kind() == std::io::ErrorKind::AlreadyExists => {
            BackupError::Content("a file twice")
        }
        other => other,
    })
}

fn end_file(file: Option<File>, staged: &Staged) -> Result<(), BackupError> {
    let Some(file) = file else { return Ok(()) };
    file.sync_all().map_err(|source| BackupError::file(&staged.folder, source))
}

/// What the store says of an archive's content is about the archive.
fn refused(error: StoreError) -> BackupError {
    match error {
        StoreError::Data(what) => BackupError::Content(what),
        StoreError::Conflict => BackupError::NotEmpty("the database".to_owned()),
        StoreError::Query(_) => BackupError::Content("a row that the database refuses"),
        other => BackupError::Store(other),
    }
}

/// Every chain is whole and goes at least as far as the index knew. Returns the writers of which there is none.
async fn verified(staged: &Staged, checkpoints: Vec<Checkpoint>) -> Result<Vec<String>, BackupError> {
    let audit = staged.audit();
    let here = folders(&audit)?;
    // Other processes with data folders of their own have their segments there.
    let (checkpoints, absent): (Vec<_>, Vec<_>) =
        checkpoints.into_iter().partition(|checkpoint| here.contains(&checkpoint.writer));
    // Not one of them: then it is the record that is missing, and not that of others.
    if checkpoints.is_empty() && !absent.is_empty() {
        return Err(BackupError::Chain("its rows know of records, and none of those writers is in it".to_owned()));
    }
    let absent: BTreeSet<String> = absent.into_iter().map(|checkpoint| checkpoint.writer).collect();
    let report = tokio::task::spawn_blocking(move || verify(&audit, &checkpoints)).await;
    let report = report.map_err(|_| BackupError::Seal)??;
    if !report.is_whole() {
        let first = report.findings.first().map(ToString::to_string).unwrap_or_default();
        return Err(BackupError::Chain(first));
    }
    Ok(absent.iter().map(|writer| shown(writer)).collect())
}

/// Everything or nothing: what was there is moved beside, what is new takes its place.
async fn exchange(
    target: &Target<'_>,
    staged: &Staged,
    mut filling: Filling,
    held: &mut Held,
    now_ms: i64,
) -> Result<(), BackupError> {
    let before = target.data.join(format!("before-restore-{now_ms}"));
    alone(&mut filling, now_ms.saturating_sub(LIVE_MS)).await?;
    let mut postgres = None;
    if matches!(target.url, StoreUrl::Sqlite(_)) {
        filling.commit().await?;
    } else {
        postgres = Some(filling);
    }
    private_folder(&before)?;
    let mut moves = Exchange::begin(target.data)?;
    // From here on nobody begins; who began while the archive was read is found.
    if let Err(error) = held.take(target.audit) {
        moves.undo();
        let _ = fs::remove_dir(&before);
        return Err(error);
    }
    let audit_name = target.audit.file_name().unwrap_or_default();
    if target.audit.exists() {
        moves.shift(target.audit, &before.join(audit_name))?;
    }
    if let StoreUrl::Sqlite(path) = target.url {
        let name = path.file_name().unwrap_or_default().to_owned();
        for ending in ["", "-wal", "-shm"] {
            let mut old = path.as_os_str().to_owned();
            old.push(ending);
            let mut aside = name.clone();
            aside.push(ending);
            if Path::new(&old).exists() {
                moves.shift(Path::new(&old), &before.join(aside))?;
            }
        }
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            private_folder(folder)?;
        }
        moves.shift(&staged.database(), path)?;
    }
    moves.shift(&staged.audit(), target.audit)?;
    if let Some(filling) = postgres
        && let Err(error) = filling.commit().await
    {
        moves.undo();
        return Err(error.into());
    }
    moves.end()?;
    // Only if nothing was there.
    let _ = fs::remove_dir(&before);
    Ok(())
}
