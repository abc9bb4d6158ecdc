//! The three MCP servers that `bartizan dev` puts behind the gateway: a project
//! tracker (legacy era only), a wiki (modern era only) and a code host (both eras),
//! with believable data kept in memory.
//!
//! This crate must never be reachable from `serve`, listen anywhere but on loopback,
//! or write to disk.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bartizan_model::{Clock, ToolClass};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

mod app;
mod code;
mod server;
mod time;
mod tracker;
mod wiki;

use app::App;

/// Which protocol eras a demo server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eras {
    /// Sessions and handshake only, up to 2025-11-25.
    Legacy,
    /// Stateless only, 2026-07-28.
    Modern,
    /// Both on one URL.
    Both,
}

impl Eras {
    /// `legacy`, `modern` or `both`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Modern => "modern",
            Self::Both => "both",
        }
    }

    fn legacy(self) -> bool {
        self != Self::Modern
    }

    fn modern(self) -> bool {
        self != Self::Legacy
    }
}

/// A running demo server. It stops when this is dropped.
#[derive(Debug)]
pub struct DemoServer {
    /// Server id for the gateway's configuration.
    pub id: &'static str,
    /// Name for people.
    pub name: &'static str,
    /// MCP endpoint, `http://127.0.0.1:PORT/mcp`.
    pub url: String,
    /// Eras it speaks.
    pub era: Eras,
    /// The reviewed class of each tool, by name, in the order of the tool list.
    pub classes: Vec<(&'static str, ToolClass)>,
    task: JoinHandle<()>,
}

impl DemoServer {
    /// Names of the tools of one class.
    pub fn tools_of(&self, class: ToolClass) -> impl Iterator<Item = &'static str> + '_ {
        self.classes.iter().filter(move |(_, c)| *c == class).map(|(name, _)| *name)
    }
}

impl Drop for DemoServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts the three servers on free loopback ports. Needs a tokio runtime.
///
/// # Errors
/// When a loopback port cannot be bound.
pub async fn start(clock: Arc<dyn Clock>) -> io::Result<Vec<DemoServer>> {
    let apps: [(Eras, Arc<dyn App>); 3] = [
        (Eras::Legacy, Arc::new(tracker::Tracker::new(clock.clone()))),
        (Eras::Modern, Arc::new(wiki::Wiki::new(clock.clone()))),
        (Eras::Both, Arc::new(code::CodeHost::new(clock))),
    ];
    let mut servers = Vec::with_capacity(apps.len());
    for (era, app) in apps {
        servers.push(start_one(era, app).await?);
    }
    Ok(servers)
}

async fn start_one(era: Eras, app: Arc<dyn App>) -> io::Result<DemoServer> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let address = listener.local_addr()?;
    let about = app.about();
    let classes = app.tools().iter().map(|tool| (tool.name, tool.class)).collect();
    let task = tokio::spawn(server::run(listener, address, era, app));
    Ok(DemoServer { id: about.id, name: about.title, url: format!("http://{address}/mcp"), era, classes, task })
}
