//! Installs what the tests need: Debian packages, and npm and PyPI packages into a
//! folder of the project (or of the cache, when `BARTIZAN_TOOLS_DIR` names one).

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::run::{checked, env, root, target};

/// What the tests are told.
pub(crate) struct Tools {
    folder: PathBuf,
}

impl Tools {
    /// Whatever is installed already.
    pub(crate) fn found() -> Self {
        Self { folder: env("BARTIZAN_TOOLS_DIR").map_or_else(|| root().join(".tools"), PathBuf::from) }
    }

    /// Sets the environment of a test run.
    pub(crate) fn describe(&self, command: &mut Command) {
        command.env("BARTIZAN_TOOLS_DIR", &self.folder);
        command.env("BARTIZAN_BIN", target().join("debug").join("bartizan"));
    }
}

pub(crate) fn run() -> Result<Tools> {
    let tools = Tools::found();
    packages()?;
    let mut install = Command::new("node");
    install.arg("tests/e2e/install.mjs").current_dir(root()).env("BARTIZAN_TOOLS_DIR", &tools.folder);
    checked(&mut install).context("installing the clients and servers of the end-to-end tests")?;
    Ok(tools)
}

/// Debian's PostgreSQL; the tests start throw-away clusters of their own.
fn postgres_is_there() -> bool {
    let versions = Path::new("/usr/lib/postgresql").read_dir().into_iter().flatten().flatten();
    versions.map(|version| version.path().join("bin/initdb")).any(|initdb| initdb.exists())
}

/// Debian's chromium: what people sign in with.
fn browser_is_there() -> bool {
    Path::new("/usr/bin/chromium").exists()
}

/// Debian's rsyslog with TLS: what sinks are tried with.
fn rsyslog_speaks_tls() -> bool {
    let folders = Path::new("/usr/lib").read_dir().into_iter().flatten().flatten();
    folders.map(|folder| folder.path().join("rsyslog/lmnsd_gtls.so")).any(|module| module.exists())
}

/// Debian packages, with `apt-get`, those that are missing.
fn packages() -> Result<()> {
    let lacking = || -> Vec<&str> {
        let found = [
            ("postgresql", postgres_is_there()),
            ("chromium", browser_is_there()),
            ("rsyslog", Path::new("/usr/sbin/rsyslogd").exists()),
            ("rsyslog-gnutls", rsyslog_speaks_tls()),
        ];
        found.into_iter().filter(|(_, there)| !there).map(|(name, _)| name).collect()
    };
    let missing = lacking();
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing {} with apt-get", missing.join(", "));
    let apt = |args: &[&str]| checked(Command::new("apt-get").args(args).env("DEBIAN_FRONTEND", "noninteractive"));
    apt(&["update", "-qq"])?;
    // The package of the database would start a cluster on the standard port; the tests want none.
    let install = ["install", "-y", "-qq", "--no-install-recommends"];
    apt(&[&install[..], &missing].concat())?;
    let still = lacking();
    anyhow::ensure!(still.is_empty(), "{} was installed, but is not where Debian puts it", still.join(", "));
    Ok(())
}
