//! `bartizan dev` (U1, U2): everything on this machine, on throw-away data.

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use bartizan_admin::Base;
use bartizan_catalog::{CompileOptions, Snapshot};
use bartizan_config::Environment;
use bartizan_identity::DemoUser;
use bartizan_model::{Principal, PrincipalKind, Secret};
use bartizan_vault::KeyRing;
use base64::Engine;
use tokio::net::TcpListener;

use crate::cli::Dev;
use crate::installation::{Places, clock};
use crate::logging;
use crate::node::{Node, NodeInput};
use crate::output::{Done, Failure, OK, Out};
use crate::run::{self, Ending};
use crate::state::State;
use crate::transport::Transport;

mod announce;
mod resources;

use announce::Announcement;

/// A demo user: name, groups, token.
pub(crate) struct User {
    name: &'static str,
    groups: &'static [&'static str],
    token: String,
}

/// Names and groups of the demo users.
const USERS: [(&str, &[&str]); 3] = [("alice", &["engineering"]), ("bob", &["finance"]), ("carol", &["support"])];
/// Beginning of the names of data folders.
const FOLDER_PREFIX: &str = "bartizan-dev-";
/// Beginning of demo tokens: a scanner that finds one knows it is harmless.
const TOKEN_PREFIX: &str = "bzd_";

pub(crate) async fn run(arguments: &Dev, out: Out) -> Done {
    refuse_production(arguments)?;
    // Logs would bury what is printed; warnings still come through.
    logging::start(&Environment::from_process(), "warn");
    let ending = Ending::new(true)?;
    let clock = clock();
    remove_leftovers(&std::env::temp_dir());
    let folder = tempfile::Builder::new()
        .prefix(FOLDER_PREFIX)
        .tempdir()
        .map_err(|error| Failure::cannot_run("failed", format!("no temporary folder: {error}")))?;
    let public = run::bind(arguments.listen).await?;
    let listen = local(&public)?;
    let operations = bind_operations().await?;
    let servers = bartizan_demo::start(clock.clone())
        .await
        .map_err(|error| Failure::cannot_run("failed", format!("the demo servers cannot start: {error}")))?;

    let path = folder.path().join("bartizan.yaml");
    let text = resources::file(listen, local(&operations)?, &servers);
    std::fs::write(&path, text).map_err(|error| Failure::cannot_run("failed", error.to_string()))?;
    // The environment of the process must not reach a demo: it may be meant for `serve`.
    let loaded = bartizan_config::load(&path, &Environment::default(), &[])
        .map_err(|error| Failure::cannot_run("failed", error.to_string()))?;
    if loaded.report().has_errors() {
        return Err(Failure::cannot_run("invalid", loaded.report().to_string()));
    }
    let options = CompileOptions { dev: true, hosting: false };
    let snapshot = Snapshot::compile(&loaded.filled(), &options, clock.now_ms())
        .map_err(|found| Failure::cannot_run("invalid", format!("{found:?}")))?;
    let users = users()?;
    let keys = KeyRing::ephemeral().map_err(|error| Failure::cannot_run("failed", error.to_string()))?;
    let places = Places::of_folder(folder.path());
    let public_url = format!("http://{listen}");
    let base = Base::new(loaded.file.clone(), loaded.filled(), options);
    let node = Node::assemble(NodeInput {
        file: loaded.file,
        snapshot,
        base,
        store: places.open().await?,
        keys,
        audit_dir: places.audit(),
        state: places.state(),
        public_url: public_url.clone(),
        listen,
        operations: local(&operations)?,
        dev_users: users.iter().map(principal).collect(),
        demo_users: users.iter().map(demo_user).collect(),
        people: Arc::default(),
        record: bartizan_config::settings::Audit::default(),
        masks: Vec::new(),
        alerts: bartizan_config::alerts::Alerts::default(),
        clock,
        tls: None,
        countries: None,
    })?;
    let announcement = Announcement {
        public_url: &public_url,
        operations: local(&operations)?,
        folder: folder.path(),
        users: &users,
        servers: &servers,
    };
    // Before anybody can see the folder: whoever is killed must be known to have been there.
    node.publish();
    announce(&announcement, out);
    Box::pin(run::serve(node, public, operations, None, ending, Transport::default())).await;
    drop(servers);
    Ok(OK)
}

/// U2: what `serve` is for, `dev` refuses.
fn refuse_production(arguments: &Dev) -> Result<(), Failure> {
    if !arguments.listen.ip().is_loopback() {
        let text = format!(
            "{} is not a loopback address; dev prints its tokens and serves this machine only",
            arguments.listen
        );
        return Err(Failure::cannot_run("dev_loopback_only", text));
    }
    if arguments.data_dir.is_some() {
        return Err(Failure::cannot_run("dev_no_data_dir", "dev keeps no data; use serve to keep some"));
    }
    Ok(())
}

/// Removes what a killed `dev` of this user left behind.
fn remove_leftovers(within: &Path) {
    let own = rustix::process::getuid().as_raw();
    for entry in std::fs::read_dir(within).into_iter().flatten().flatten() {
        let path = entry.path();
        let named = entry.file_name().to_str().is_some_and(|name| name.starts_with(FOLDER_PREFIX));
        // Not through links: the folder of temporary files belongs to everybody.
        let ours = path.symlink_metadata().is_ok_and(|data| data.is_dir() && data.uid() == own);
        if named && ours && State::read(&Places::of_folder(&path).state()).is_some_and(|state| !state.is_running()) {
            // Whatever cannot be removed is left for the machine to sweep.
            let _ = std::fs::remove_dir_all(&path);
        }
    }
}

/// The usual port, or a free one if somebody has it.
async fn bind_operations() -> Result<TcpListener, Failure> {
    match run::bind(SocketAddr::from(([127, 0, 0, 1], 7421))).await {
        Err(failure) if failure.code == "address_in_use" => run::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await,
        other => other,
    }
}

fn local(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    listener.local_addr().map_err(|error| Failure::cannot_run("failed", error.to_string()))
}

fn users() -> Result<Vec<User>, Failure> {
    USERS
        .into_iter()
        .map(|(name, groups)| {
            let mut bytes = [0_u8; 24];
            aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Failure::cannot_run("failed", "no randomness"))?;
            let random = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
            Ok(User { name, groups, token: format!("{TOKEN_PREFIX}{name}_{random}") })
        })
        .collect()
}

/// The same person in a browser: another way in, the same principal.
fn demo_user(user: &User) -> DemoUser {
    let mut name = user.name.to_owned();
    if let Some(first) = name.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    DemoUser {
        email: user.name.to_owned(),
        name,
        groups: user.groups.iter().map(|group| (*group).to_owned()).collect(),
    }
}

fn principal(user: &User) -> (Principal, Secret<String>) {
    let groups = user.groups.iter().map(|group| (*group).into());
    (Principal::new(PrincipalKind::User, user.name, groups), Secret::new(user.token.clone()))
}

fn announce(announcement: &Announcement<'_>, out: Out) {
    if out.json {
        out.value(&announcement.value());
    } else {
        let _ = writeln!(std::io::stderr(), "{}", announce::WARNING);
        out.text(&announcement.text());
    }
}
