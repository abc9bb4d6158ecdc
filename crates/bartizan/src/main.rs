//! The command line, the wiring, start and drain of bartizan. What another crate can do
//! is not done here.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

mod admin;
mod approvals;
mod areas;
mod cli;
mod codes;
mod commands;
mod duration;
mod figures;
mod installation;
mod logging;
mod node;
mod output;
mod panic;
mod record;
mod refusals;
mod reload;
mod run;
mod scim;
mod selection;
mod sign_in;
mod state;
mod step_up;
mod sync;
mod time;
mod traces;
mod transport;

use cli::{Cli, Command, ServerCommand, UpstreamCommand};
use output::{Done, Failure, OK, Out};

/// Frees memory in the thread that took it and keeps the idle size small.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "__child") {
        // Turns into another program; nothing of ours may run before.
        return bartizan_sandbox::child::exec_main(arguments);
    }
    let cli = Cli::parse();
    let out = Out::new(cli.json, cli.color);
    match run(&cli.command, out) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => out.fail(&failure),
    }
}

fn run(command: &Command, out: Out) -> Done {
    match command {
        Command::Schema => {
            out.text(&format!("{:#}\n", bartizan_config::schema::file()));
            Ok(OK)
        }
        Command::ExplainCode(arguments) => commands::explain_code::run(arguments.code.as_deref(), out),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "bartizan", &mut script);
            out.text(&String::from_utf8_lossy(&script));
            Ok(OK)
        }
        Command::Dev(_) | Command::Serve(_) => block_on(tokio::runtime::Builder::new_multi_thread(), command, out),
        _ => block_on(tokio::runtime::Builder::new_current_thread(), command, out),
    }
}

fn block_on(mut builder: tokio::runtime::Builder, command: &Command, out: Out) -> Done {
    let runtime = builder.enable_all().build();
    let runtime = runtime.map_err(|error| Failure::cannot_run("failed", format!("no runtime: {error}")))?;
    let done = runtime.block_on(dispatch(command, out));
    // Threads that wait for a disk or a name must not hold up the end.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    done
}

async fn dispatch(command: &Command, out: Out) -> Done {
    match command {
        Command::Dev(arguments) => Box::pin(commands::dev::run(arguments, out)).await,
        Command::Serve(arguments) => Box::pin(commands::serve::run(arguments, out)).await,
        Command::Check(arguments) => Box::pin(commands::check::run(arguments, out)).await,
        Command::Plan(arguments) => Box::pin(commands::apply::plan(arguments, out)).await,
        Command::Apply(arguments) => Box::pin(commands::apply::apply(arguments, out)).await,
        Command::Export(arguments) => Box::pin(commands::apply::export(&arguments.config.config, out)).await,
        Command::Explain(arguments) => commands::explain::run(arguments, out).await,
        Command::Simulate(arguments) => Box::pin(commands::simulate::run(arguments, out)).await,
        Command::Server(ServerCommand::Classify { config, server_id }) => {
            Box::pin(commands::classify::run(&config.config, server_id, out)).await
        }
        Command::Token(command) => Box::pin(commands::token::run(command, out)).await,
        Command::BreakGlass(command) => Box::pin(commands::break_glass::run(command, out)).await,
        Command::Upstream(UpstreamCommand::Test(arguments)) => Box::pin(commands::upstream::run(arguments, out)).await,
        Command::Stdio(arguments) => Box::pin(commands::stdio::run(arguments, out)).await,
        Command::Approval(command) => Box::pin(commands::approval::run(command, out)).await,
        Command::Alert(command) => Box::pin(commands::alert::run(command, out)).await,
        Command::Definition(command) => Box::pin(commands::definition::run(command, out)).await,
        Command::Audit(command) => Box::pin(commands::audit::run(command, out)).await,
        Command::Kill(command) => Box::pin(commands::kill::run(command, out)).await,
        Command::User(command) => Box::pin(commands::user::run(command, out)).await,
        Command::Ca(arguments) => Box::pin(commands::ca::run(&arguments.config, out)).await,
        Command::Status(arguments) => commands::status::run(arguments, out).await,
        Command::Reload(arguments) => commands::reload::run(&arguments.config, out).await,
        Command::Migrate(arguments) => Box::pin(commands::migrate::run(arguments, out)).await,
        Command::Backup(arguments) => Box::pin(commands::backup::run(arguments, out)).await,
        Command::Restore(arguments) => Box::pin(commands::restore::run(arguments, out)).await,
        Command::Schema | Command::ExplainCode(_) | Command::Completions { .. } => Ok(OK),
    }
}
