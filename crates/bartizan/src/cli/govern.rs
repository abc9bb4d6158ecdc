//! Commands about people, definitions, approvals, alerts and what is stopped.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::ConfigArg;

#[derive(Debug, Subcommand)]
pub(crate) enum DefinitionCommand {
    /// List definitions.
    List {
        #[command(flatten)]
        config: ConfigArg,
        /// Only of this server.
        #[arg(long, value_name = "ID")]
        server: Option<String>,
        /// Only `quarantined`, `changed`, `approved`, `rejected` or `missing` ones.
        #[arg(long, value_name = "STATE")]
        state: Option<String>,
    },
    /// Show what changed since a definition was approved. Exit code 1: something did.
    Diff(DefinitionArg),
    /// Approve what was seen last.
    Approve {
        #[command(flatten)]
        what: DefinitionArg,
        /// The pin you looked at; nothing else is approved.
        #[arg(long)]
        pin: String,
        /// For 24 hours only; what was approved before stays approved.
        #[arg(long)]
        once: bool,
        /// Why.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Approve everything of a server that was seen and is not approved yet.
    ApproveAll {
        #[command(flatten)]
        config: ConfigArg,
        /// Server id.
        server: String,
        /// Why.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Refuse a definition: it is hidden whatever the server's settings say.
    Reject {
        #[command(flatten)]
        what: DefinitionArg,
        /// The pin you looked at.
        #[arg(long)]
        pin: String,
        /// Why.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Show what happened to a definition, newest first.
    History(DefinitionArg),
    /// Write the whole history as evidence: one JSON object a line, each chained to the one before.
    Export {
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Verify exported history without the installation. Exit code 1: it was changed.
    Verify {
        /// The exported file.
        file: PathBuf,
    },
    /// Write the pins of everything approved, for `bartizan.lock` in Git.
    Lock {
        #[command(flatten)]
        config: ConfigArg,
        /// Compare with this file instead. Exit code 1: they differ.
        #[arg(long, value_name = "FILE")]
        check: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DefinitionArg {
    #[command(flatten)]
    pub(crate) config: ConfigArg,
    /// Server id.
    pub(crate) server: String,
    /// Original name; none for what the server says about itself.
    #[arg(default_value = "")]
    pub(crate) name: String,
    /// `tool`, `prompt`, `template` or `server`.
    #[arg(long, default_value = "tool")]
    pub(crate) kind: String,
}

/// A role to act in.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum RoleArg {
    /// Everything.
    Owner,
    /// Policies and approvals.
    Governance,
    /// Findings and kill switches.
    Security,
}

impl From<RoleArg> for bartizan_model::Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Owner => Self::Owner,
            RoleArg::Governance => Self::Governance,
            RoleArg::Security => Self::Security,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum ApprovalCommand {
    /// Open questions.
    List {
        #[command(flatten)]
        config: ConfigArg,
    },
    /// One question with everything that is asked.
    Show {
        #[command(flatten)]
        config: ConfigArg,
        /// Its id.
        id: String,
    },
    /// Say yes.
    Approve {
        #[command(flatten)]
        config: ConfigArg,
        /// Its id.
        id: String,
        /// The role in which you answer; the record says so.
        #[arg(long)]
        role: RoleArg,
        /// For every call of the tool, or for the access, for so many seconds. Without: this one call.
        #[arg(long, value_name = "N")]
        seconds: Option<u32>,
        /// Why.
        #[arg(long)]
        reason: Option<String>,
    },
    /// Say no.
    Reject {
        #[command(flatten)]
        config: ConfigArg,
        /// Its id.
        id: String,
        /// The role in which you answer; the record says so.
        #[arg(long)]
        role: RoleArg,
        /// Why; the person is told.
        #[arg(long)]
        reason: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AlertCommand {
    /// Alerts, newest first.
    List {
        #[command(flatten)]
        config: ConfigArg,
        /// Most alerts to print.
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: u32,
    },
    /// Send a test message to a destination, now.
    Test {
        #[command(flatten)]
        config: ConfigArg,
        /// Id of the destination.
        destination: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum KillCommand {
    /// Stop something now: calls in flight end with the code `killed`.
    Set {
        #[command(flatten)]
        config: ConfigArg,
        /// What kind of thing: everything, portal, server, tool, user, group, client, agent or service.
        scope: String,
        /// Which one: an id, an address, a name, or SERVER/TOOL. Not for everything.
        subject: Option<String>,
        /// Why; kept on record.
        #[arg(long)]
        reason: String,
        /// End by itself after this time, such as 30m or 8h.
        #[arg(long = "for", value_name = "TIME")]
        time: Option<String>,
    },
    /// List what is and was stopped, newest first.
    List {
        #[command(flatten)]
        config: ConfigArg,
        /// At most this many.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Let it go on. For everything, a second operating system user must say so too.
    Lift {
        #[command(flatten)]
        config: ConfigArg,
        /// Id of the kill switch.
        id: String,
        /// Why; kept on record.
        #[arg(long)]
        reason: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// List everybody who signed in.
    List {
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Show a person, the clients they let in and the accounts they connected.
    Show {
        #[command(flatten)]
        config: ConfigArg,
        /// E-mail address.
        email: String,
    },
    /// End everything of a person at once, and let them sign in no more.
    Deactivate {
        #[command(flatten)]
        config: ConfigArg,
        /// E-mail address.
        email: String,
    },
    /// Let a deactivated person sign in again.
    Reactivate {
        #[command(flatten)]
        config: ConfigArg,
        /// E-mail address.
        email: String,
    },
    /// End everything of a person and forget them; the address is free again.
    Delete {
        #[command(flatten)]
        config: ConfigArg,
        /// E-mail address.
        email: String,
    },
    /// Sign a person out everywhere: all browsers, all clients.
    Revoke {
        #[command(flatten)]
        config: ConfigArg,
        /// E-mail address.
        email: String,
    },
}
