//! An installation as the command line sees it: its configuration, its folders, its store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bartizan_config::{Environment, Loaded, Override, Severity, render};
use bartizan_model::{Clock, SystemClock};
use bartizan_store::{Store, StoreError, StoreUrl};

use crate::cli::RecordArg;
use crate::output::Failure;

/// Folder of the audit segments in the data folder.
const AUDIT: &str = "audit";
/// SQLite file in the data folder.
const DATABASE: &str = "bartizan.sqlite";
/// What the running process says about itself.
const STATE: &str = "process.json";

/// The clock of the machine.
pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

/// Reads a configuration; only a file that cannot be read at all is a failure.
pub(crate) fn read(path: &Path, flags: &[Override]) -> Result<Loaded, Failure> {
    bartizan_config::load(path, &Environment::from_process(), flags)
        .map_err(|error| Failure::cannot_run("unreadable_config", error.to_string()))
}

/// Reads a configuration that must be free of errors, as far as this command needs it.
pub(crate) fn read_valid(path: &Path) -> Result<Loaded, Failure> {
    valid(path, |_| false)
}

/// Reads a configuration whose secrets this command does not need.
pub(crate) fn read_without_secrets(path: &Path) -> Result<Loaded, Failure> {
    valid(path, |code| matches!(code, "secret_unresolved"))
}

fn valid(path: &Path, harmless: impl Fn(&str) -> bool) -> Result<Loaded, Failure> {
    let loaded = read(path, &[])?;
    let mut report = loaded.report();
    report.problems.retain(|problem| problem.severity == Severity::Error && !harmless(problem.code));
    if report.has_errors() {
        eprint!("{}", render::report(&report, render::Format::Text, false));
        return Err(Failure::cannot_run("invalid", format!("{} has errors", path.display())));
    }
    Ok(loaded)
}

/// Folders and database address of an installation.
pub(crate) struct Places {
    pub(crate) data_dir: PathBuf,
    pub(crate) url: StoreUrl,
}

impl Places {
    /// Of a data folder without a configuration file.
    pub(crate) fn of_folder(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.to_path_buf(), url: StoreUrl::Sqlite(data_dir.join(DATABASE)) }
    }

    /// Of a configuration.
    pub(crate) fn of(loaded: &Loaded) -> Result<Self, Failure> {
        let data_dir = loaded.file.store.data_dir.clone();
        let bad = |text: String| Failure::cannot_run("bad_store", text);
        let given = loaded.store_url(&Environment::from_process()).map_err(|found| bad(found.to_string()))?;
        let url = match given {
            None => StoreUrl::Sqlite(data_dir.join(DATABASE)),
            Some(text) => match StoreUrl::parse(text.expose()).map_err(|error| bad(error.to_string()))? {
                // As every path of the file, this one starts from the file's folder.
                StoreUrl::Sqlite(path) => StoreUrl::Sqlite(loaded.base.join(path)),
                other => other,
            },
        };
        Ok(Self { data_dir, url })
    }

    /// Of what the command line names.
    pub(crate) fn of_argument(place: &RecordArg) -> Result<Self, Failure> {
        match (&place.data_dir, &place.config) {
            (Some(folder), _) if !folder.is_dir() => {
                Err(Failure::cannot_run("bad_argument", format!("{} is not a folder", folder.display())))
            }
            (Some(folder), _) => Ok(Self::of_folder(folder)),
            (None, Some(file)) => Self::of(&read_without_secrets(file)?),
            (None, None) => Err(Failure::cannot_run("bad_argument", "give --config or --data-dir")),
        }
    }

    /// Folder of the audit segments.
    pub(crate) fn audit(&self) -> PathBuf {
        self.data_dir.join(AUDIT)
    }

    /// File in which the running process describes itself.
    pub(crate) fn state(&self) -> PathBuf {
        self.data_dir.join(STATE)
    }

    /// Opens the store; makes the data folder if the store is a file in it.
    pub(crate) async fn open(&self) -> Result<Store, Failure> {
        // A restore was stopped in the middle: what is here is of two installations.
        if self.data_dir.join(bartizan_backup::UNFINISHED).exists() {
            let text = format!("a restore to {} did not come to its end", self.data_dir.display());
            return Err(Failure::cannot_run("restore_unfinished", text));
        }
        if let StoreUrl::Sqlite(path) = &self.url
            && let Some(folder) = path.parent()
        {
            make_private_folder(folder)?;
        }
        Store::open(&self.url, clock()).await.map_err(store_failure)
    }
}

/// Makes a folder that only its owner can enter.
pub(crate) fn make_private_folder(folder: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| {
        Failure::cannot_run("bad_store", format!("the folder {} cannot be made: {error}", folder.display()))
    })
}

pub(crate) fn store_failure(error: StoreError) -> Failure {
    Failure::cannot_run("bad_store", error.to_string())
}
