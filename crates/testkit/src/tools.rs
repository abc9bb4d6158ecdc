//! Installed outside programs: where they are, and what a test does when they are not.

use std::env::{current_exe, var_os};
use std::path::{Path, PathBuf};

/// A part of `tests/e2e/install.mjs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Node 22, the TypeScript clients, the conformance suite, npm servers.
    Npm,
    /// The Python `mcp` client.
    Mcp,
    /// The FastMCP client.
    FastMcp,
    /// The client of the official Rust SDK.
    Rmcp,
    /// PyPI servers.
    Servers,
    /// The SCIM client and conformance tester.
    Scim,
    /// The product's own binary.
    Product,
    /// Debian's chromium, driven by playwright-core of the npm packages.
    Browser,
    /// Debian's PostgreSQL, beside the product's own binary.
    Postgres,
}

/// Where Debian puts the browser.
const CHROMIUM: &str = "/usr/bin/chromium";

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The folder with the installed parts: `BARTIZAN_TOOLS_DIR`, else `.tools` of the repository.
pub fn folder() -> PathBuf {
    var_os("BARTIZAN_TOOLS_DIR").map_or_else(|| repository().join(".tools"), PathBuf::from)
}

/// Node 22.
pub fn node() -> PathBuf {
    folder().join("npm/node_modules/node/bin/node")
}

/// A file of an installed npm package.
pub fn npm(path: &str) -> PathBuf {
    folder().join("npm/node_modules").join(path)
}

/// A program of a Python environment: `mcp`, `fastmcp` or `servers`.
pub fn venv(name: &str, program: &str) -> PathBuf {
    folder().join(format!("venv-{name}/bin/{program}"))
}

/// A file below `tests/e2e`.
pub fn script(path: &str) -> PathBuf {
    repository().join("tests/e2e").join(path)
}

/// The product's binary: `BARTIZAN_BIN`, else the one built beside the running test.
pub fn product() -> PathBuf {
    if let Some(given) = var_os("BARTIZAN_BIN") {
        return PathBuf::from(given);
    }
    // target/debug/deps/e2e_x-… → target/debug/bartizan
    let beside = current_exe().ok().and_then(|test| Some(test.parent()?.parent()?.join("bartizan")));
    beside.unwrap_or_else(|| repository().join("target/debug/bartizan"))
}

/// The program of the fixture, built beside the running test.
pub fn fixture() -> PathBuf {
    let beside = current_exe().ok().and_then(|test| Some(test.parent()?.parent()?.join("fixture")));
    beside.unwrap_or_else(|| repository().join("target/debug/fixture"))
}

fn missing(part: Part) -> Option<String> {
    let (sign, what) = match part {
        Part::Npm => (folder().join("npm/.pinned"), "the npm packages"),
        Part::Mcp => (folder().join("venv-mcp/.pinned"), "the Python client mcp"),
        Part::FastMcp => (folder().join("venv-fastmcp/.pinned"), "the FastMCP client"),
        Part::Rmcp => (folder().join("rmcp/.pinned"), "the Rust client rmcp"),
        Part::Servers => (folder().join("venv-servers/.pinned"), "the PyPI servers"),
        Part::Scim => (folder().join("venv-scim/.pinned"), "the SCIM tester"),
        Part::Browser => (PathBuf::from(CHROMIUM), "the browser; apt-get install chromium"),
        Part::Product => (product(), "the product's binary; cargo build -p bartizan"),
        Part::Postgres => {
            let initdb = crate::postgres::programs().unwrap_or_default().join("initdb");
            (initdb, "PostgreSQL; apt-get install postgresql")
        }
    };
    (!sign.exists()).then(|| match part {
        Part::Product | Part::Postgres | Part::Browser => what.to_owned(),
        _ => format!("{what}; node tests/e2e/install.mjs"),
    })
}

/// Whether products of this test keep their data in PostgreSQL (row O1): in the test program
/// `e2e_postgres`, which runs the tests of others once more, or with `BARTIZAN_E2E_STORE=postgres`.
pub fn on_postgres() -> bool {
    let program = current_exe().ok();
    let name = program.as_deref().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
    name.starts_with("e2e_postgres") || var_os("BARTIZAN_E2E_STORE").is_some_and(|store| store == "postgres")
}

/// Whether a test may run. If something is not installed, says so in the form the test
/// runner looks for; under `CI=true` that is a failure.
///
/// # Panics
/// Under CI, when something is missing.
pub fn ready(test: &str, parts: &[Part]) -> bool {
    let store = (on_postgres() && !parts.contains(&Part::Postgres)).then_some(Part::Postgres);
    let lacking: Vec<String> = parts.iter().copied().chain(store).filter_map(missing).collect();
    if lacking.is_empty() {
        return true;
    }
    let line = format!("SKIPPED {test}: {} missing", lacking.join(", "));
    assert!(var_os("CI").is_none_or(|ci| ci != "true"), "{line}");
    println!("{line}");
    false
}
