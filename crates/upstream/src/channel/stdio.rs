//! Local servers over stdin and stdout (protocol reference 3.11).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bartizan_model::Era;
use bartizan_wire::LATEST_MODERN;
use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Channel, Out};
use crate::env::Env;
use crate::error::UpstreamError;
use crate::handshake::{self, Discovery};
use crate::lines::Lines;
use crate::notes::NoteSink;
use crate::processes::ProcessPermit;
use crate::spawn::{Process, Recipe};
use crate::types::Discovered;

/// Messages waiting to be written.
const OUT_QUEUE: usize = 64;
/// Time for the answer to the probe (protocol reference 4.2).
const PROBE: Duration = Duration::from_secs(10);
/// Time a process has to end after it closed its output.
const LINGER: Duration = Duration::from_secs(2);

/// Starts a process and its reading and writing tasks.
pub(crate) async fn start(
    env: &Arc<Env>,
    recipe: &Recipe,
    permit: ProcessPermit,
    era: Era,
    notes: NoteSink,
) -> Result<Arc<Channel>, UpstreamError> {
    let (process, pipes) = Process::start(recipe, permit).await?;
    let (lines, queue) = mpsc::channel(OUT_QUEUE);
    let channel = Channel::new(env, era, Out::Lines(lines), notes, Some(process.stderr.clone()));
    tokio::spawn(write(pipes.stdin, queue, channel.stop.clone()));
    tokio::spawn(read(Arc::clone(&channel), process, pipes.stdout, env.limits.upstream_body));
    Ok(channel)
}

async fn write(mut stdin: ChildStdin, mut queue: mpsc::Receiver<Bytes>, stop: CancellationToken) {
    let writing = async {
        while let Some(line) = queue.recv().await {
            let written = async {
                stdin.write_all(&line).await?;
                stdin.write_all(b"\n").await?;
                stdin.flush().await
            };
            if written.await.is_err() {
                return;
            }
        }
    };
    // Returning closes stdin, which asks the program to end.
    tokio::select! {
        () = writing => {}
        () = stop.cancelled() => {}
    }
}

/// Why a connection is over.
enum Ended {
    /// It was told to end.
    Stopped,
    /// The program ended, or its output.
    Over,
    Broken(UpstreamError),
}

async fn read(channel: Arc<Channel>, mut process: Process, stdout: ChildStdout, max: usize) {
    let mut lines = Lines::new(stdout, max);
    let mut exit: Option<(String, Instant)> = None;
    let ended = loop {
        let last = exit.as_ref().map(|(_, since)| *since + LINGER);
        tokio::select! {
            biased;
            () = channel.stop.cancelled() => break Ended::Stopped,
            line = lines.next() => match line {
                Ok(Some(line)) => channel.receive(line),
                Ok(None) => break Ended::Over,
                Err(error) => break Ended::Broken(error),
            },
            // What it leaves behind may keep the output open, but answers nobody any more.
            status = process.exited(), if exit.is_none() => exit = Some((status, Instant::now())),
            () = tokio::time::sleep_until(last.unwrap_or_else(Instant::now)), if last.is_some() => break Ended::Over,
        }
    };
    if matches!(ended, Ended::Stopped) {
        channel.close(UpstreamError::unavailable("the program was stopped"));
        process.stop().await;
        channel.gone.cancel();
        return;
    }
    let error = match ended {
        Ended::Broken(error) => error,
        Ended::Stopped | Ended::Over => {
            let status = match exit {
                Some((status, _)) => status,
                None => tokio::time::timeout(LINGER, process.exited())
                    .await
                    .unwrap_or_else(|_| "it closed its output".to_owned()),
            };
            UpstreamError::unavailable(format!("the program ended ({status})"))
        }
    };
    channel.crashed.store(true, Ordering::Release);
    channel.close(error);
    channel.stop.cancel();
    // Dropping it kills what is left of its group.
    drop(process);
    channel.gone.cancel();
}

/// What the probe found.
pub(crate) enum Probe {
    /// A modern server and, if it said so, what it is.
    Modern,
    Legacy,
}

/// Finds out the era in a process that is thrown away: some servers end at a request
/// before `initialize` (protocol reference 4.2, trap 3).
pub(crate) async fn probe(env: &Arc<Env>, recipe: &Recipe, permit: ProcessPermit) -> Result<Probe, UpstreamError> {
    let channel = start(env, recipe, permit, Era::Modern, Arc::new(|_| {})).await?;
    let params = handshake::discover_params(env, LATEST_MODERN);
    let answer = tokio::time::timeout(PROBE, channel.request("server/discover", Some(&params))).await;
    channel.stop.cancel();
    Ok(match answer {
        Ok(Ok(Ok(result))) if handshake::is_discover_result(&result) => Probe::Modern,
        Ok(Ok(Err(error))) if crate::exchange::is_modern_code(error.code) => {
            match handshake::after_version_error(&error) {
                Discovery::Legacy => Probe::Legacy,
                _ => Probe::Modern,
            }
        }
        // Any other error, an exit or no answer: legacy, never keyed on one code.
        _ => Probe::Legacy,
    })
}

/// Asks a modern process what it is.
pub(crate) async fn discover(env: &Arc<Env>, channel: &Arc<Channel>) -> Result<Arc<Discovered>, UpstreamError> {
    let mut revision = LATEST_MODERN;
    for _ in 0..2 {
        let params = handshake::discover_params(env, revision);
        match channel.request("server/discover", Some(&params)).await? {
            Ok(result) => return Ok(Arc::new(handshake::discovered(&result, revision)?)),
            Err(error) => match handshake::after_version_error(&error) {
                Discovery::Retry(other) => revision = other,
                _ => return Err(UpstreamError::protocol(format!("server/discover failed with code {}", error.code))),
            },
        }
    }
    Err(UpstreamError::protocol("no common protocol version"))
}
