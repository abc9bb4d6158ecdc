//! How others reach the process beside plain HTTP: TLS of the public listener, the listener
//! for the other processes, and where clients are.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bartizan_catalog::Snapshot;
use bartizan_cluster::{Cluster, ClusterDeps};
use bartizan_config::Live;
use bartizan_config::settings::{File, Tls};
use bartizan_model::Clock;
use bartizan_model::event::EventKind;
use bartizan_portal::Countries;
use bartizan_store::Store;
use bartizan_tls::{Authority, Change, DeviceNames, Kind, PublicTls, PublicTlsDeps, ReplicaTls, Source, TlsError};
use bartizan_vault::{Records, Vault};
use tokio::net::TcpListener;

use crate::node::Node;
use crate::output::Failure;
use crate::run::bind;
use crate::state;

/// How often files of certificates are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Every how many looks the file of countries is looked at.
const COUNTRIES: u32 = 5;

/// The listener for the other processes.
pub(crate) struct Others {
    pub(crate) cluster: Cluster,
    pub(crate) tls: ReplicaTls,
    pub(crate) listener: TcpListener,
}

/// What there is; nothing in `dev`.
#[derive(Default)]
pub(crate) struct Transport {
    pub(crate) others: Option<Others>,
}

/// The hosts the public listener is reached by: known before the process is put together, and following it later.
#[derive(Clone)]
pub(crate) struct Names {
    fixed: Arc<Vec<String>>,
    live: Arc<OnceLock<Arc<Live<Snapshot>>>>,
}

impl Names {
    /// Of the settings.
    pub(crate) fn new(public_url: &str, allowed_hosts: &[String]) -> Self {
        let authority = public_url.split_once("://").map_or(public_url, |(_, rest)| rest);
        let authority = authority.split('/').next().unwrap_or_default();
        let mut fixed: Vec<String> = Vec::new();
        for host in std::iter::once(authority).chain(allowed_hosts.iter().map(String::as_str)) {
            let name = host_of(host);
            if !name.is_empty() && !fixed.contains(&name) {
                fixed.push(name);
            }
        }
        Self { fixed: Arc::new(fixed), live: Arc::default() }
    }

    /// From now on portals with a host name of their own count.
    pub(crate) fn follow(&self, node: &Node) {
        let _ = self.live.set(Arc::clone(&node.live));
    }

    /// All at this moment.
    pub(crate) fn all(&self) -> Vec<String> {
        let mut all = self.fixed.to_vec();
        if let Some(live) = self.live.get() {
            let mut more: Vec<String> = live.load().portal_hosts.keys().map(ToString::to_string).collect();
            more.sort();
            more.retain(|name| !all.contains(name));
            all.extend(more);
        }
        all
    }
}

/// Without the port, lower case.
fn host_of(authority: &str) -> String {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host.to_ascii_lowercase()
}

fn failure(error: TlsError) -> Failure {
    Failure::cannot_run("bad_tls", error.to_string())
}

/// The file of countries, when one is configured.
pub(crate) fn countries(file: &File) -> Result<Option<Countries>, Failure> {
    let open = |path| Countries::open(path).map_err(|error| Failure::cannot_run("bad_geo", error.to_string()));
    file.geo.mmdb.as_deref().map(open).transpose()
}

/// TLS of the public listener, when it is configured. `names` are the hosts it is reached by, without ports.
pub(crate) async fn public(
    file: &File,
    records: &Records,
    clock: &Arc<dyn Clock>,
    names: impl Fn() -> Vec<String> + Send + Sync + 'static,
) -> Result<Option<PublicTls>, Failure> {
    let source = match &file.tls {
        None => return Ok(None),
        Some(Tls::Files(files)) => Source::Files { cert: files.cert.clone(), key: files.key.clone() },
        Some(Tls::Internal) => {
            let authority = Authority::open(records, Arc::clone(clock), Kind::Public).await.map_err(failure)?;
            Source::Internal { authority: Box::new(authority), names: Box::new(names) }
        }
    };
    let deps = PublicTlsDeps {
        source,
        client_ca: file.client_ca.clone(),
        device_names: DeviceNames::new(file.device_names.clone()),
        clock: Arc::clone(clock),
    };
    PublicTls::new(deps).map(Some).map_err(failure)
}

/// The listener for the other processes, when it is configured.
pub(crate) async fn others(node: &Node, vault: Vault) -> Result<Option<Others>, Failure> {
    let Some(settings) = &node.file.cluster else { return Ok(None) };
    let records = Records::new(vault, node.store.clone());
    let authority = Authority::open(&records, Arc::clone(&node.clock), Kind::Replicas).await.map_err(failure)?;
    let name = Arc::clone(node.gate.node());
    let tls = ReplicaTls::new(authority, &name, Arc::clone(&node.clock)).map_err(failure)?;
    let listener = bind(settings.listen).await?;
    let cluster = Cluster::new(ClusterDeps {
        store: node.store.clone(),
        tls: tls.clone(),
        clock: Arc::clone(&node.clock),
        node: name,
        advertise: advertised(&settings.advertise, listener.local_addr().ok()),
    });
    Ok(Some(Others { cluster, tls, listener }))
}

/// Port 0 means the port that was given.
fn advertised(setting: &str, bound: Option<SocketAddr>) -> String {
    match (setting.rsplit_once(':'), bound) {
        (Some((host, "0")), Some(bound)) => format!("{host}:{}", bound.port()),
        _ => setting.to_owned(),
    }
}

/// The certificate of the authority of the installation, PEM; makes the authority when there is none yet.
pub(crate) async fn authority_pem(store: Store, vault: Vault, clock: Arc<dyn Clock>) -> Result<String, Failure> {
    let authority = Authority::open(&Records::new(vault, store), clock, Kind::Public).await.map_err(failure)?;
    Ok(authority.pem())
}

/// Takes changed files while the process runs.
pub(crate) async fn watch(node: Arc<Node>) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut turn = 0;
    loop {
        ticks.tick().await;
        turn = (turn + 1) % COUNTRIES;
        if let Some(tls) = node.tls.clone() {
            let looked = tokio::task::spawn_blocking(move || tls.look()).await;
            match looked.ok().flatten() {
                None => {}
                Some(Change::Taken) => {
                    tracing::info!("a new certificate is in use for new connections");
                    node.record(EventKind::Admin, "tls/reload", None).await;
                    node.publish();
                }
                Some(Change::Refused(why)) => {
                    tracing::error!(why, "a new certificate cannot be used; the former one stays");
                    node.record(EventKind::Admin, "tls/reload", Some(format!("refused: {why}"))).await;
                    node.publish();
                }
            }
        }
        if let (Some(countries), 0) = (node.countries.clone(), turn) {
            let looked = tokio::task::spawn_blocking(move || countries.look()).await;
            match looked {
                Ok(Ok(false)) | Err(_) => {}
                Ok(Ok(true)) => {
                    tracing::info!("a new file of countries is in use");
                    node.record(EventKind::Admin, "geo/reload", None).await;
                }
                Ok(Err(error)) => {
                    tracing::error!(%error, "a new file of countries cannot be used; the former one stays");
                    node.record(EventKind::Admin, "geo/reload", Some(format!("refused: {error}"))).await;
                }
            }
        }
    }
}

/// The certificate as `status` shows it.
pub(crate) fn standing(tls: &PublicTls) -> state::Tls {
    let standing = tls.standing();
    state::Tls {
        source: standing.source.to_owned(),
        not_after_ms: standing.not_after_ms,
        expired: standing.expired,
        refused: standing.refused,
    }
}
