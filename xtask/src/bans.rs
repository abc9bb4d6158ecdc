//! Dependency bans and licences of `deny.toml`, checked on what cargo resolves, so
//! that CI needs no further tool. `cargo deny check` reads the same file.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::run::{cargo, output, root};

#[derive(Deserialize)]
struct Deny {
    bans: Bans,
    licenses: Licenses,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Banned>,
}

#[derive(Deserialize)]
struct Banned {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

pub(crate) fn run() -> Result<()> {
    let deny: Deny = toml::from_str(&fs::read_to_string(root().join("deny.toml"))?).context("deny.toml")?;
    // Only what is compiled for the one supported target, not what the lock file merely knows.
    let args =
        ["tree", "--workspace", "--edges", "normal,build", "--prefix", "none", "--format", "{p}|{l}", "--locked"];
    let tree = output(cargo().args(args))?;
    let mut findings = Vec::new();
    for line in tree.lines() {
        let Some((package, license)) = line.trim_end_matches(" (*)").split_once('|') else { continue };
        let name = package.split(' ').next().unwrap_or(package);
        if let Some(ban) = deny.bans.deny.iter().find(|ban| ban.name == name) {
            findings.push(format!("{package}: banned, {}", ban.reason));
        }
        if !allowed(license, &deny.licenses.allow) {
            findings.push(format!("{package}: licence `{license}` is not on the list"));
        }
    }
    let metadata: Value =
        serde_json::from_str(&output(cargo().args(["metadata", "--format-version", "1", "--locked"]))?)?;
    for package in metadata.get("packages").and_then(Value::as_array).into_iter().flatten() {
        if package.get("source").and_then(Value::as_str).is_some_and(|source| source.starts_with("git+")) {
            findings.push(format!("{}: git dependency", package.get("name").unwrap_or(&Value::Null)));
        }
    }
    findings.sort();
    findings.dedup();
    ensure!(findings.is_empty(), "dependencies:\n{}", findings.join("\n"));
    Ok(())
}

/// SPDX: every `AND` part needs one allowed `OR` alternative. The old `/` means `OR`.
fn allowed(expression: &str, list: &[String]) -> bool {
    let flat = expression.replace(['(', ')'], " ").replace('/', " OR ");
    flat.split(" AND ").all(|part| part.split(" OR ").any(|id| list.iter().any(|ok| ok == id.trim())))
}

#[cfg(test)]
mod tests {
    #[test]
    fn o15_banned_dependencies_and_licences() {
        super::run().unwrap();
    }

    #[test]
    fn licence_expressions() {
        let list = ["MIT".to_owned(), "Apache-2.0".to_owned()];
        for (expression, ok) in [
            ("MIT", true),
            ("MIT/GPL-3.0", true),
            ("MIT AND GPL-3.0", false),
            ("(MIT OR GPL-3.0) AND Apache-2.0", true),
            ("", false),
        ] {
            assert_eq!(super::allowed(expression, &list), ok, "{expression}");
        }
    }
}
