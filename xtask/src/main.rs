//! Development tasks: `cargo xtask {test, bench, rows, schema, tidy}`.

mod bans;
mod bench;
mod libtest;
mod rows;
mod run;
mod schema;
mod setup;
mod test;
mod tidy;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Development tasks of bartizan")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run everything CI runs; installs what it needs.
    Test {
        /// Only what is fast: no real clients, no lints.
        #[arg(long)]
        quick: bool,
    },
    /// Measure the figures of the README.
    Bench {
        /// Only the named part.
        part: Option<String>,
    },
    /// Compute docs/rows.md from docs/rows.toml and the last test run.
    Rows {
        /// Print JSON instead of writing the page.
        #[arg(long)]
        json: bool,
        /// Fail if docs/rows.md is not what would be written.
        #[arg(long)]
        check: bool,
    },
    /// Write the generated references (configuration schema); with `--check` fail if they are stale.
    Schema {
        /// Only compare.
        #[arg(long)]
        check: bool,
    },
    /// House rules that no lint checks.
    Tidy,
}

fn main() -> std::process::ExitCode {
    match perform(Cli::parse().task) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> anyhow::Result<()> {
    match task {
        Task::Test { quick } => test::run(quick),
        Task::Bench { part } => bench::run(part.as_deref()),
        Task::Rows { json, check } => rows::run(json, check),
        Task::Schema { check } => schema::run(check),
        Task::Tidy => tidy::run().and_then(|()| bans::run()),
    }
}
