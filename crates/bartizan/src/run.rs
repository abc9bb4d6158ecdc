//! From assembled parts to a process that serves, reloads and ends in order (O3, O4).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bartizan_cluster::Cluster;
use bartizan_identity::MAX_IDLE;
use bartizan_model::event::EventKind;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::node::Node;
use crate::output::Failure;
use crate::reload::Reloader;
use crate::transport::{self, Others, Transport};

/// How often the process describes itself.
const PUBLISH: Duration = Duration::from_secs(5);
/// How often what is old is swept away.
const SWEEP: Duration = Duration::from_secs(3600);
/// Longest sleep until a grant expires is looked at again.
const EXPIRY_LOOK: Duration = Duration::from_secs(3600);
/// Time for calls whose client is gone, after the listeners are closed.
const LAST_CALLS: Duration = Duration::from_secs(5);

/// Binds a listener, with an error that names address and remedy.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => Failure::cannot_run(
            "address_in_use",
            format!("{address} is in use by somebody else; choose another address, or port 0 for a free one"),
        ),
        _ => Failure::cannot_run("failed", format!("cannot listen on {address}: {error}")),
    })
}

/// The signals that end the process. Made before anything listens, so that none is missed.
pub(crate) struct Ending {
    term: Signal,
    int: Signal,
    /// A closed terminal ends `dev`; for `serve` the same signal means reload.
    hangup: Option<Signal>,
}

impl Ending {
    pub(crate) fn new(on_hangup: bool) -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::cannot_run("failed", error.to_string()));
        let hangup = if on_hangup { Some(listen(SignalKind::hangup())?) } else { None };
        Ok(Self { term: listen(SignalKind::terminate())?, int: listen(SignalKind::interrupt())?, hangup })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
            () = hung_up(self.hangup.as_mut()) => {}
        }
    }
}

async fn hung_up(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Serves until a signal comes, then drains. A second signal ends the process at once.
pub(crate) async fn serve(
    node: Arc<Node>,
    public: TcpListener,
    operations: TcpListener,
    reloader: Option<Reloader>,
    mut ending: Ending,
    transport: Transport,
) {
    let portal = {
        let portal = node.portal.clone();
        let tls = node.tls.clone();
        tokio::spawn(async move {
            match tls {
                Some(tls) => portal.serve_tls(public, tls).await,
                None => portal.serve(public).await,
            }
        })
    };
    let ops = {
        let ops = node.ops.clone();
        tokio::spawn(async move { ops.serve(operations).await })
    };
    let mut helpers = tokio::task::JoinSet::new();
    helpers.spawn(publish(Arc::clone(&node)));
    helpers.spawn(expire(Arc::clone(&node)));
    helpers.spawn(sweep(Arc::clone(&node)));
    helpers.spawn(end_approvals(Arc::clone(&node)));
    helpers.spawn(crate::sync::run(Arc::clone(&node)));
    helpers.spawn(transport::watch(Arc::clone(&node)));
    helpers.spawn(crate::admin::follow(Arc::clone(&node)));
    // These go on while the process drains: what is parked here is finished here.
    let mut others = tokio::task::JoinSet::new();
    let cluster = match transport.others {
        None => None,
        Some(Others { cluster, tls, listener }) => {
            node.portal.connect(Arc::new(cluster.clone()));
            let portal = node.portal.clone();
            others.spawn(async move { portal.serve_replicas(listener, tls).await });
            if let Err(error) = cluster.beat().await {
                tracing::warn!(error, "the other processes are not told of this one yet");
            }
            let beating = cluster.clone();
            others.spawn(async move { beating.run().await });
            Some(cluster)
        }
    };
    let record = Arc::clone(&node);
    helpers.spawn(async move { record.behind.run().await });
    let alerts = node.alerts.clone();
    helpers.spawn(async move { alerts.run().await });
    if let Some(reloader) = reloader {
        helpers.spawn(reloader.run(Arc::clone(&node)));
    }
    node.record(EventKind::System, "system/start", Some(format!("version {}", env!("CARGO_PKG_VERSION")))).await;
    node.drain.started();
    node.publish();
    tracing::info!("serving");

    ending.wait().await;
    tracing::info!("ending: no new work, finishing what is there");
    helpers.shutdown().await;
    node.publish();
    let finish = finish(&node, cluster.as_ref());
    tokio::select! {
        () = finish => {}
        () = ending.wait() => tracing::warn!("ending at once, as asked a second time"),
    }
    others.shutdown().await;
    portal.abort();
    ops.abort();
    node.unpublish();
}

async fn finish(node: &Node, cluster: Option<&Cluster>) {
    let limits = &node.file.limits;
    let wait = Duration::from_millis(limits.drain_wait_ms);
    let deadline = Duration::from_millis(limits.drain_deadline_ms).saturating_sub(wait);
    let calls = async {
        tokio::time::sleep(wait).await;
        node.gate.drain(deadline + LAST_CALLS).await
    };
    let (clean, recorded) = tokio::join!(node.drain.run(wait, deadline), calls);
    if !clean || !recorded {
        tracing::warn!(connections = clean, calls = recorded, "not everything ended by itself");
    }
    if let Some(cluster) = cluster {
        cluster.leave().await;
    }
    node.upstreams.shutdown().await;
    node.events.close();
    node.events.wait().await;
    node.record(EventKind::System, "system/stop", None).await;
    node.audit.close().await;
    node.store.close().await;
    tracing::info!("ended");
}

/// Keeps the description fresh.
async fn publish(node: Arc<Node>) {
    let mut ticks = tokio::time::interval(PUBLISH);
    loop {
        ticks.tick().await;
        node.look_after_servers().await;
        node.publish();
    }
}

/// Tells subscribers when a grant has expired: lists look different then.
async fn expire(node: Arc<Node>) {
    loop {
        let now = node.clock.now_ms();
        let next = node.live.load().next_change_ms(now);
        let wait =
            next.map_or(EXPIRY_LOOK, |at| Duration::from_millis(u64::try_from(at - now).unwrap_or(0)).min(EXPIRY_LOOK));
        // A reload may bring an earlier expiry, so never sleep long.
        tokio::time::sleep(wait.clamp(Duration::from_millis(1), Duration::from_secs(1))).await;
        if next.is_some_and(|at| at <= node.clock.now_ms()) {
            tracing::info!("a grant has expired");
            node.gate.snapshot_changed();
        }
    }
}

/// Ends approvals whose time is over (W12, A16).
async fn end_approvals(node: Arc<Node>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(30));
    loop {
        ticks.tick().await;
        node.approvals.expire().await;
    }
}

/// Removes service tokens that nobody used for 90 days (A11), and old news of the change feed.
async fn sweep(node: Arc<Node>) {
    let mut ticks = tokio::time::interval(SWEEP);
    loop {
        ticks.tick().await;
        match node.identity.tokens().sweep_inactive(MAX_IDLE).await {
            Ok(gone) => {
                for token in gone {
                    tracing::info!(token = token.name, "an unused service token was removed");
                    let note = Some(format!("{} unused for 90 days", token.client_id));
                    node.record(EventKind::Token, "token/sweep", note).await;
                }
            }
            Err(error) => tracing::warn!(%error, "unused service tokens cannot be looked for"),
        }
        let day_ago = node.clock.now_ms() - 86_400_000;
        if let Err(error) = bartizan_store::repo::change::prune(&node.store, day_ago).await {
            tracing::warn!(%error, "old changes cannot be removed");
        }
    }
}
