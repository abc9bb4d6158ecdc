//! Child processes of tests: their output kept, ended by their own ids.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Lines a process printed.
type Lines = Arc<Mutex<Vec<String>>>;

/// A running program. It is killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    out: Lines,
    err: Lines,
}

fn keep(stream: impl AsyncRead + Unpin + Send + 'static) -> Lines {
    let lines = Lines::default();
    let kept = Arc::clone(&lines);
    tokio::spawn(async move {
        let mut reader = BufReader::new(stream).lines();
        while let Ok(Some(line)) = reader.next_line().await {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            // Enough for every test; a flood must not fill memory.
            if kept.len() < 100_000 {
                kept.push(line);
            }
        }
    });
    lines
}

impl Process {
    /// Starts a prepared command with both outputs captured and no input.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        let name = Path::new(command.as_std().get_program()).display().to_string();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let out = keep(child.stdout.take().context("stdout is piped")?);
        let err = keep(child.stderr.take().context("stderr is piped")?);
        Ok(Self { child, name, out, err })
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Everything it printed to stdout so far.
    pub fn stdout(&self) -> String {
        self.out.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    /// Everything it printed to stderr so far.
    pub fn stderr(&self) -> String {
        self.err.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    /// Waits for a line of either output for which `find` has an answer.
    ///
    /// # Errors
    /// When the process ends or `limit` passes first; the message has its stderr.
    pub async fn line<T>(&mut self, limit: Duration, find: impl Fn(&str) -> Option<T>) -> Result<T> {
        let look = async {
            loop {
                for lines in [&self.out, &self.err] {
                    let lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(found) = lines.iter().find_map(|line| find(line)) {
                        return Some(found);
                    }
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
                if self.child.try_wait().ok().flatten().is_some() {
                    // What it printed last may still be on its way.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    let lines = self.out.lock().unwrap_or_else(PoisonError::into_inner);
                    return lines.iter().find_map(|line| find(line));
                }
            }
        };
        match timeout(limit, look).await {
            Ok(Some(found)) => Ok(found),
            Ok(None) => bail!("{} ended too early: {}", self.name, self.stderr()),
            Err(_) => bail!("{} did not get ready within {limit:?}: {}", self.name, self.stderr()),
        }
    }

    /// Whether it still runs.
    pub fn running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal to this process alone.
    ///
    /// # Errors
    /// When it is gone already.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        kill_process(pid.context("the process has ended")?, signal).context("cannot signal")
    }

    /// SIGTERM, then waits for the end.
    ///
    /// # Errors
    /// When it does not end within `limit`.
    pub async fn terminate(&mut self, limit: Duration) -> Result<std::process::ExitStatus> {
        self.signal(Signal::TERM)?;
        self.ended(limit).await
    }

    /// SIGKILL, then waits for the end.
    ///
    /// # Errors
    /// When it does not end within 10 s.
    pub async fn kill(&mut self) -> Result<()> {
        // Gone already is as good.
        let _gone = self.signal(Signal::KILL);
        self.ended(Duration::from_secs(10)).await.map(drop)
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// When it does not come within `limit`.
    pub async fn ended(&mut self, limit: Duration) -> Result<std::process::ExitStatus> {
        match timeout(limit, self.child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => bail!("{} still runs after {limit:?}: {}", self.name, self.stderr()),
        }
    }
}

/// What a program that ran to its end printed.
#[derive(Clone, Debug)]
pub struct Output {
    /// Exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs a program to its end.
///
/// # Errors
/// When it cannot be started or does not end within `limit` (it is killed then).
pub async fn run(
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = impl AsRef<OsStr>>,
    limit: Duration,
) -> Result<Output> {
    let mut command = Command::new(program);
    command.args(args);
    run_command(&mut command, limit).await
}

/// Runs a prepared command to its end.
///
/// # Errors
/// As [`run`].
pub async fn run_command(command: &mut Command, limit: Duration) -> Result<Output> {
    let name = Path::new(command.as_std().get_program()).display().to_string();
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let Ok(output) = timeout(limit, child.wait_with_output()).await else {
        bail!("{name} still runs after {limit:?}");
    };
    let output = output?;
    Ok(Output {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
