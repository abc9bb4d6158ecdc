//! Figures; see docs/benchmarks.md for how to read them.

use anyhow::Result;

use crate::run::{cargo, checked};

pub(crate) fn run(part: Option<&str>) -> Result<()> {
    checked(cargo().args(["build", "--release", "--locked", "--quiet", "-p", "bartizan", "-p", "bartizan-bench"]))?;
    let mut command = cargo();
    command.args(["run", "--release", "--locked", "--quiet", "-p", "bartizan-bench", "--"]);
    checked(command.args(part))
}
