//! Starting local processes, and ending them with all their descendants.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::mpsc as std_mpsc;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::oneshot;

use crate::error::UpstreamError;
use crate::processes::ProcessPermit;

/// Kept of a process's error output, in bytes.
const STDERR_KEPT: usize = 64 * 1024;
/// Time between the steps of an orderly end: stdin closed, SIGTERM, SIGKILL.
const STEP: Duration = Duration::from_secs(2);

/// What to start: argv as it is, no shell, an empty environment plus `env`.
#[derive(Clone)]
pub(crate) struct Recipe {
    pub(crate) argv: Vec<String>,
    pub(crate) env: BTreeMap<OsString, OsString>,
    pub(crate) cwd: Option<PathBuf>,
    /// The bartizan binary, to bind the child's life to ours.
    pub(crate) child_program: Option<PathBuf>,
}

/// The last 64 KiB of a process's error output.
#[derive(Clone, Default)]
pub(crate) struct StderrTail(Arc<Mutex<VecDeque<u8>>>);

impl StderrTail {
    fn push(&self, bytes: &[u8]) {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ring.extend(bytes);
        let over = ring.len().saturating_sub(STDERR_KEPT);
        ring.drain(..over);
    }

    /// The text; what is not UTF-8 or a control character is replaced.
    pub(crate) fn text(&self) -> String {
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (a, b) = ring.as_slices();
        let text = String::from_utf8_lossy(&[a, b].concat()).into_owned();
        text.replace(|c: char| c.is_control() && c != '\n' && c != '\t', "\u{fffd}")
    }
}

/// A running process in a group of its own. Dropping it kills the whole group.
pub(crate) struct Process {
    child: Child,
    group: Option<Pid>,
    pub(crate) stderr: StderrTail,
    _permit: ProcessPermit,
}

/// The process's ends of the pipes.
pub(crate) struct Pipes {
    pub(crate) stdin: ChildStdin,
    pub(crate) stdout: ChildStdout,
}

impl Process {
    /// Starts it.
    pub(crate) async fn start(recipe: &Recipe, permit: ProcessPermit) -> Result<(Self, Pipes), UpstreamError> {
        let command = command(recipe)?;
        let failed = |error: io::Error| UpstreamError::unavailable(format!("cannot start the program: {error}"));
        let mut child = spawn_on_lasting_thread(command).await.map_err(failed)?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let stderr = StderrTail::default();
        let (Some(stdin), Some(stdout), Some(errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(UpstreamError::unavailable("the program has no pipes"));
        };
        tokio::spawn(drain(errors, stderr.clone()));
        Ok((Self { child, group, stderr, _permit: permit }, Pipes { stdin, stdout }))
    }

    /// Waits until the process itself is gone; then nothing of its group is left either.
    pub(crate) async fn exited(&mut self) -> String {
        let status = self.child.wait().await;
        self.kill_group(Signal::KILL);
        // The number may be another's from now on.
        self.group = None;
        status.map_or_else(|error| error.to_string(), |status| status.to_string())
    }

    /// The orderly end after stdin was closed: wait, SIGTERM, wait, SIGKILL, all to the group.
    pub(crate) async fn stop(mut self) {
        if tokio::time::timeout(STEP, self.child.wait()).await.is_err() {
            self.kill_group(Signal::TERM);
            let _ = tokio::time::timeout(STEP, self.child.wait()).await;
        }
        self.kill_group(Signal::KILL);
        let _ = tokio::time::timeout(STEP, self.child.wait()).await;
    }

    fn kill_group(&self, signal: Signal) {
        if let Some(group) = self.group {
            // ESRCH: nobody is left, which is what is wanted.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_group(Signal::KILL);
    }
}

fn command(recipe: &Recipe) -> Result<Command, UpstreamError> {
    let (program, args) =
        recipe.argv.split_first().ok_or_else(|| UpstreamError::unavailable("the command is empty"))?;
    let mut command = match &recipe.child_program {
        Some(bartizan) => {
            let mut command = Command::new(bartizan);
            let mut all: Vec<OsString> = bartizan_sandbox::child::prefix(std::process::id()).into();
            all.push(program.into());
            command.args(all);
            command
        }
        None => Command::new(program),
    };
    command
        .args(args)
        .env_clear()
        .envs(&recipe.env)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    if let Some(cwd) = &recipe.cwd {
        command.current_dir(cwd);
    }
    Ok(command)
}

/// The kernel's "die with your parent" means the parent's *thread*, and worker threads of the
/// runtime come and go. So one thread that never ends starts all children.
async fn spawn_on_lasting_thread(command: Command) -> io::Result<Child> {
    type Job = (Command, tokio::runtime::Handle, oneshot::Sender<io::Result<Child>>);
    static SPAWNER: OnceLock<Option<std_mpsc::Sender<Job>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, jobs) = std_mpsc::channel::<Job>();
        std::thread::Builder::new()
            .name("bartizan-spawn".to_owned())
            .spawn(move || {
                while let Ok((mut command, runtime, reply)) = jobs.recv() {
                    let _inside = runtime.enter();
                    let _ = reply.send(command.spawn());
                }
            })
            .ok()
            .map(|_| sender)
    });
    let gone = || io::Error::other("the starter thread is gone");
    let (reply, answer) = oneshot::channel();
    let job = (command, tokio::runtime::Handle::current(), reply);
    spawner.as_ref().ok_or_else(gone)?.send(job).map_err(|_| gone())?;
    answer.await.map_err(|_| gone())?
}

async fn drain(mut errors: ChildStderr, tail: StderrTail) {
    let mut buffer = vec![0; 4096];
    while let Ok(count @ 1..) = errors.read(&mut buffer).await {
        tail.push(buffer.get(..count).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(argv: &[&str]) -> Recipe {
        Recipe {
            argv: argv.iter().map(|a| (*a).to_owned()).collect(),
            env: BTreeMap::from([("ONLY".into(), "this".into())]),
            cwd: None,
            child_program: None,
        }
    }

    async fn start(argv: &[&str]) -> (Process, Pipes) {
        Process::start(&recipe(argv), Box::new(())).await.unwrap()
    }

    async fn output(argv: &[&str]) -> String {
        let (mut process, mut pipes) = start(argv).await;
        let mut text = String::new();
        pipes.stdout.read_to_string(&mut text).await.unwrap();
        process.exited().await;
        text
    }

    #[tokio::test]
    async fn stdio_environment_is_empty_but_for_the_list() {
        assert_eq!(output(&["/usr/bin/env"]).await, "ONLY=this\n");
    }

    #[tokio::test]
    async fn stdio_argv_is_not_a_shell_command() {
        let odd = "a; echo b $(id) `id` \n > /x";
        assert_eq!(output(&["/bin/echo", "-n", odd]).await, odd);
    }

    #[tokio::test]
    async fn stdio_grandchildren_end_with_the_process() {
        // The grandchild keeps stdout open: end of file proves that it is gone.
        let (process, mut pipes) = start(&["/bin/sh", "-c", "sleep 300 & echo $!; wait"]).await;
        let mut first = [0; 1];
        pipes.stdout.read_exact(&mut first).await.unwrap();
        drop(process);
        let mut rest = Vec::new();
        tokio::time::timeout(Duration::from_secs(10), pipes.stdout.read_to_end(&mut rest)).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn stdio_a_process_that_ignores_term_is_killed() {
        let (process, mut pipes) = start(&["/bin/sh", "-c", "trap '' TERM; echo x; while :; do sleep 1; done"]).await;
        let mut first = [0; 1];
        pipes.stdout.read_exact(&mut first).await.unwrap();
        drop(pipes.stdin);
        process.stop().await;
        let mut rest = Vec::new();
        tokio::time::timeout(Duration::from_secs(10), pipes.stdout.read_to_end(&mut rest)).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn stdio_error_output_is_a_bounded_ring() {
        let (mut process, _pipes) = start(&[
            "/bin/sh",
            "-c",
            "i=0; while [ $i -lt 3000 ]; do echo line number $i is quite long here ok >&2; i=$((i+1)); done",
        ])
        .await;
        process.exited().await;
        let tail = process.stderr.clone();
        tokio::time::timeout(Duration::from_secs(10), async {
            while !tail.text().ends_with("line number 2999 is quite long here ok\n") {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
        assert!(tail.text().len() <= STDERR_KEPT);
    }

    #[tokio::test]
    async fn stdio_a_missing_program_is_an_error() {
        let error = Process::start(&recipe(&["/no/such/program"]), Box::new(())).await.err().unwrap();
        assert!(error.note().contains("cannot start"), "{error}");
        assert!(Process::start(&recipe(&[]), Box::new(())).await.is_err());
    }
}
