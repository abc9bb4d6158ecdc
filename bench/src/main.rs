//! Measures the gateway beside a bare pass-through proxy in the same run: CPU time
//! of the process under test, pinned to one core, load and upstream on the other.

mod load;
mod process;
mod proxy;
mod report;
mod scenarios;
mod sessions;
mod sse;
mod upstream;

use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    role: Option<Role>,
    /// Only this part: `calls`, `lists`, `memory`, `sessions`, `start`.
    part: Option<String>,
    /// Sessions whose memory is measured.
    #[arg(long, default_value_t = 10_000)]
    sessions: usize,
}

#[derive(Subcommand)]
enum Role {
    /// The bare proxy that is the unit of measurement.
    #[command(hide = true)]
    Proxy {
        /// Port of the upstream on loopback.
        #[arg(long)]
        to: u16,
    },
    /// The bare server of event streams.
    #[command(hide = true)]
    Sse,
    /// The upstream MCP server.
    #[command(hide = true)]
    Upstream {
        /// Tools in its list.
        #[arg(long, default_value_t = 10)]
        tools: usize,
        /// Speak the modern era.
        #[arg(long)]
        modern: bool,
    },
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match cli.role {
        Some(Role::Proxy { to }) => runtime.block_on(proxy::run(to)),
        Some(Role::Upstream { tools, modern }) => runtime.block_on(upstream::run(tools, modern)),
        Some(Role::Sse) => runtime.block_on(sse::run()),
        None => runtime.block_on(scenarios::run(cli.part.as_deref(), cli.sessions)),
    }
}
