//! Child processes pinned to a core, and what the kernel counts of them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

/// A running child; ended when dropped.
pub(crate) struct Process(Child);

impl Process {
    /// Starts `program` on `core`; returns it with the first line it prints.
    pub(crate) fn start(core: usize, program: &str, args: &[&str]) -> Result<(Self, String)> {
        let mut command = Command::new("taskset");
        command.args(["-c", &core.to_string(), program]).args(args);
        let mut child = command
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let Some(out) = child.stdout.take() else { bail!("no output") };
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        Ok((Self(child), line.trim().to_owned()))
    }

    /// Starts `program` on `core` without waiting for output.
    pub(crate) fn silent(core: usize, program: &str, args: &[&str]) -> Result<Self> {
        let mut command = Command::new("taskset");
        command.args(["-c", &core.to_string(), program]).args(args);
        Ok(Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?))
    }

    /// User plus system CPU seconds so far.
    pub(crate) fn cpu(&self) -> Result<f64> {
        let mut ns = 0_u64;
        // Scheduler accounting per thread has nanoseconds; /proc/PID/stat only has ticks.
        for task in fs::read_dir(format!("/proc/{}/task", self.0.id()))? {
            let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            ns += text.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(std::time::Duration::from_nanos(ns).as_secs_f64())
    }

    /// Resident memory, KiB.
    pub(crate) fn rss_kib(&self) -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
