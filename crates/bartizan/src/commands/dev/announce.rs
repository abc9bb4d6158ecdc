//! What `dev` prints: everything to begin with, ready to paste.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use bartizan_demo::DemoServer;
use bartizan_model::ToolClass;
use serde_json::{Value, json};

use super::User;
use super::resources::{MOST, POLICY};

/// Printed before everything else, on stderr.
pub(super) const WARNING: &str = "\
############################################################################
#  bartizan dev: for trying on this machine only. Tokens are printed, data #
#  is thrown away at the end. Never use it for anything real: see `serve`. #
############################################################################";

/// All there is to say.
pub(super) struct Announcement<'a> {
    pub(super) public_url: &'a str,
    pub(super) operations: SocketAddr,
    pub(super) folder: &'a Path,
    pub(super) users: &'a [User],
    pub(super) servers: &'a [DemoServer],
}

impl Announcement<'_> {
    fn mcp_url(&self) -> String {
        format!("{}/mcp", self.public_url)
    }

    /// The command that shows the first denied call, for a shell.
    fn audit_command(&self) -> String {
        format!("{} audit search --denied --kind call --first --data-dir {}", program(), quote(self.folder))
    }

    fn explain_command(&self) -> String {
        let file = self.folder.join("bartizan.yaml");
        format!(
            "echo '{{\"amount\":{}}}' | {} explain -c {} --user bob --group finance --tool tracker.request_budget --args -",
            MOST * 5,
            program(),
            quote(&file)
        )
    }

    fn claude(&self, user: &User) -> String {
        format!(
            "claude mcp add --transport http bartizan {} --header \"Authorization: Bearer {}\"",
            self.mcp_url(),
            user.token
        )
    }

    fn vscode(&self, user: &User) -> Value {
        json!({"servers": {"bartizan": {"type": "http", "url": self.mcp_url(),
            "headers": {"Authorization": format!("Bearer {}", user.token)}}}})
    }

    fn cursor(&self, user: &User) -> Value {
        json!({"mcpServers": {"bartizan": {"url": self.mcp_url(),
            "headers": {"Authorization": format!("Bearer {}", user.token)}}}})
    }

    /// The object of `--json` (U1).
    pub(super) fn value(&self) -> Value {
        let users: Vec<Value> = self
            .users
            .iter()
            .map(|user| json!({"name": user.name, "groups": user.groups, "token": user.token}))
            .collect();
        let servers: Vec<Value> = self
            .servers
            .iter()
            .map(|server| {
                json!({"id": server.id, "name": server.name, "era": server.era.as_str(), "url": server.url,
                    "mcp_url": format!("{}/servers/{}/mcp", self.public_url, server.id)})
            })
            .collect();
        let clients = self.users.first().map(
            |user| json!({"claude_code": self.claude(user), "vscode": self.vscode(user), "cursor": self.cursor(user)}),
        );
        json!({
            "mcp_url": self.mcp_url(), "home_url": format!("{}/", self.public_url), "console_url": null, "admin_link": null, "users": users, "servers": servers,
            "audit_command": self.audit_command(), "explain_command": self.explain_command(),
            "operations_url": format!("http://{}", self.operations), "data_dir": self.folder,
            "config": self.folder.join("bartizan.yaml"), "clients": clients,
        })
    }

    /// The same for people.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "\nMCP endpoint  {}", self.mcp_url())?;
        writeln!(out, "Home page     {}/", self.public_url)?;
        writeln!(out, "Add the endpoint alone, and your client opens a browser where you choose who you are.")?;
        writeln!(out, "\nServers behind it")?;
        for server in self.servers {
            let (read, all) = (server.tools_of(ToolClass::Read).count(), server.classes.len());
            writeln!(
                out,
                "  {:<8} {:<16} {read} tools that read, {} that write; speaks {}",
                server.id,
                server.name,
                all - read,
                match server.era {
                    bartizan_demo::Eras::Both => "both eras",
                    bartizan_demo::Eras::Legacy => "the legacy era",
                    bartizan_demo::Eras::Modern => "the modern era",
                }
            )?;
        }
        writeln!(out, "\nUsers, and their tokens for clients that do not sign in")?;
        for user in self.users {
            writeln!(out, "  {:<6} {:<12} {}", user.name, user.groups.join(","), user.token)?;
        }
        if let Some(user) = self.users.first() {
            writeln!(out, "\nClaude Code\n  {}", self.claude(user))?;
            writeln!(out, "\nVS Code, in .vscode/mcp.json\n  {}", self.vscode(user))?;
            writeln!(out, "\nCursor, in ~/.cursor/mcp.json\n  {}", self.cursor(user))?;
        }
        writeln!(
            out,
            "\nTry\n  alice and bob may create issues and request budgets in the tracker; carol may only read.\n  \
             Policy `{POLICY}` refuses `tracker_request_budget` above {MOST} euros: ask for {} as bob.",
            MOST * 5
        )?;
        writeln!(out, "\nShow the first denied call\n  {}", self.audit_command())?;
        writeln!(out, "\nShow why\n  {}", self.explain_command())?;
        writeln!(out, "\nHealth and metrics  http://{}/readyz  /metrics", self.operations)?;
        writeln!(out, "Data                {}  (removed at the end)\n\nCtrl-C ends it.", self.folder.display())
    }
}

/// The program as it was called, so that the command works from the same place.
fn program() -> String {
    let called = std::env::args_os().next().unwrap_or_else(|| "bartizan".into());
    quote(Path::new(&called))
}

/// A path for a POSIX shell.
fn quote(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_for_a_shell() {
        assert_eq!(quote(Path::new("/tmp/a-b_1.2")), "/tmp/a-b_1.2");
        assert_eq!(quote(Path::new("/tmp/a b")), "'/tmp/a b'");
        assert_eq!(quote(Path::new("it's")), r"'it'\''s'");
        assert_eq!(quote(Path::new("$(x)")), "'$(x)'");
    }
}
