//! Generated references: the configuration schema.

use std::fs;

use anyhow::{Result, ensure};

use crate::run::{cargo, output, root};

pub(crate) fn run(check: bool) -> Result<()> {
    let schema = output(cargo().args(["run", "--quiet", "-p", "bartizan", "--", "schema"]))?;
    let file = root().join("docs/reference/config.schema.json");
    if check {
        let committed = fs::read_to_string(&file).unwrap_or_default();
        ensure!(
            committed == schema,
            "docs/reference/config.schema.json is stale: run `cargo xtask schema` and commit it"
        );
        return Ok(());
    }
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(file, schema)?;
    Ok(())
}
