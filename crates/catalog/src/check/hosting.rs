//! Local servers (feature rows G12 to G14): only from the operator's resources, argv as
//! it is, and nothing unpinned or unsandboxed without the operator's word.

use bartizan_config::resources::{Command, SandboxMode};

use super::Checked;
use crate::snapshot::CompileOptions;

pub(super) fn check(command: &Command, server: &str, options: &CompileOptions, checked: &mut Checked) {
    let path = format!("{server}.command");
    if command.argv.first().is_none_or(|program| program.trim().is_empty()) {
        checked.error_hint(
            format!("{path}.argv"),
            "empty_command",
            "the command has no program",
            "for example `argv: [npx, \"@scope/server@1.2.3\"]`",
        );
    }
    for (at, argument) in command.argv.iter().enumerate().filter(|(_, argument)| argument.contains('\0')) {
        let shown = argument.len();
        checked.error(format!("{path}.argv[{at}]"), "nul", format!("the argument of {shown} bytes holds a NUL"));
    }
    for (name, value) in &command.env {
        if !is_variable(name) {
            checked.error(format!("{path}.env"), "invalid_variable", format!("`{name}` is not a variable name"));
        }
        if value.contains('\0') {
            checked.error(format!("{path}.env.{name}"), "nul", "the value holds a NUL");
        }
    }
    for (at, name) in command.env_allow.iter().enumerate().filter(|(_, name)| !is_variable(name)) {
        checked.error(
            format!("{path}.env_allow[{at}]"),
            "invalid_variable",
            format!("`{name}` is not a variable name"),
        );
    }
    if command.cwd.as_ref().is_some_and(|cwd| cwd.is_empty() || cwd.contains('\0')) {
        checked.error(format!("{path}.cwd"), "invalid_folder", "the working folder is not a path");
    }
    if options.dev {
        return;
    }
    if !options.hosting {
        checked.error_hint(
            &path,
            "hosting_off",
            "local servers are not switched on",
            "set `hosting: {enabled: true}` in the settings",
        );
    }
    if !command.allow_unpinned {
        checked.error_hint(
            &path,
            "unpinned_server",
            "the package of this server is not pinned to an exact version with integrity",
            "set `allow_unpinned: true` to accept it; status and audit events will say so",
        );
    }
    if command.sandbox == SandboxMode::Required {
        checked.error_hint(
            format!("{path}.sandbox"),
            "unsandboxed_server",
            "a sandbox is required, but this version cannot provide one",
            "set `sandbox: none` to accept that; status and audit events will say so",
        );
    }
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0']) && !name.bytes().any(|b| b.is_ascii_whitespace())
}
