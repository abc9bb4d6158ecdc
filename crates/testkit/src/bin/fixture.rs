//! The conformance fixture as a program: prints its URL as one JSON line and serves until it is ended.

use std::io::Write as _;

use bartizan_testkit::fixture::{Era, Fixture, Options, stdio};
use clap::Parser;

/// A strict MCP server of either era for tests.
#[derive(Parser)]
struct Args {
    /// What to speak.
    #[arg(long, value_enum, default_value_t = Era::Both)]
    era: Era,
    /// Speak over standard input and output instead of HTTP.
    #[arg(long)]
    stdio: bool,
    /// Port on 127.0.0.1; 0 = a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Items per page of a list; 0 = no pages.
    #[arg(long, default_value_t = 0)]
    page_size: usize,
    /// Number of generated tools.
    #[arg(long, default_value_t = 0)]
    extra_tools: usize,
    /// The latest legacy revision to accept.
    #[arg(long, default_value = "2025-11-25")]
    legacy_version: String,
    /// Milliseconds a client may keep lists (modern).
    #[arg(long, default_value_t = 60_000)]
    ttl_ms: u64,
    /// Demand this bearer token.
    #[arg(long)]
    bearer: Option<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let options = Options {
        era: args.era,
        page_size: args.page_size,
        extra_tools: args.extra_tools,
        legacy_version: args.legacy_version,
        ttl_ms: args.ttl_ms,
        record: false,
        bearer: args.bearer,
    };
    if args.stdio {
        return Ok(stdio(options).await?);
    }
    let fixture = Fixture::start_on(options, args.port).await?;
    let line = serde_json::json!({"url": fixture.url(), "port": fixture.port(), "pid": std::process::id()});
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    drop(out);
    fixture.ended().await;
    Ok(())
}
