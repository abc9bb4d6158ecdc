//! The command line.

mod govern;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use govern::{
    AlertCommand, ApprovalCommand, DefinitionArg, DefinitionCommand, KillCommand, RoleArg, UserCommand,
};

/// One governed door between AI agents and a company's systems.
#[derive(Debug, Parser)]
#[command(name = "bartizan", version, disable_help_subcommand = true, propagate_version = true)]
pub(crate) struct Cli {
    /// Print one JSON value on stdout instead of text.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// When to use colours.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub(crate) color: Color,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Try bartizan: demo servers, users and tokens on this machine only, on throw-away data.
    Dev(Dev),
    /// Run the gateway.
    Serve(Serve),
    /// Check a configuration and report all problems. Exit code 0: none, 1: some, 2: cannot be checked.
    Check(Check),
    /// Show what `apply` would change, and who may do more or less after it.
    Plan(Plan),
    /// Make the objects of the store those of a folder: all of them, or none.
    Apply(Apply),
    /// Print the objects of the store as files have them, without secrets.
    Export(Export),
    /// Print the JSON schema of the configuration file, for editors.
    Schema,
    /// Show what would happen to a call, stage by stage, and the rule that decides.
    Explain(Box<Explain>),
    /// Show which requests on record a draft would decide otherwise. Exit code 1: some.
    Simulate(Simulate),
    /// Explain a code that a refusal or a finding carries.
    ExplainCode(ExplainCode),
    /// Work with upstream servers.
    #[command(subcommand)]
    Server(ServerCommand),
    /// Make and end service tokens.
    #[command(subcommand)]
    Token(TokenCommand),
    /// See who signed in, and cut people off.
    #[command(subcommand)]
    User(UserCommand),
    /// Stop people, clients, servers, tools or everything at once, on every process.
    #[command(subcommand)]
    Kill(KillCommand),
    /// Read and verify the audit record.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// The local account for the day on which no identity provider answers.
    #[command(subcommand)]
    BreakGlass(BreakGlassCommand),
    /// Look for faults on the way to upstream servers.
    #[command(subcommand)]
    Upstream(UpstreamCommand),
    /// Bridge a client that only knows stdio to a server's URL. Signs in with your browser.
    Stdio(Stdio),
    /// Show alerts, and try where they go.
    #[command(subcommand)]
    Alert(AlertCommand),
    /// What waits for somebody's yes or no, and answering it.
    #[command(subcommand)]
    Approval(ApprovalCommand),
    /// Review what servers offer: what is new, what changed, what is approved.
    #[command(subcommand)]
    Definition(DefinitionCommand),
    /// Print the certificate of the installation's own authority, for clients to trust (`tls: internal`).
    Ca(ConfigArg),
    /// Show the state of an installation: process, configuration, servers.
    Status(Status),
    /// Ask the running process to read its configuration again.
    Reload(ConfigArg),
    /// Bring the database to this version, or show what that would do.
    Migrate(Migrate),
    /// Write an encrypted copy of the installation to a file, while it serves.
    Backup(Backup),
    /// Bring back what a backup holds: everything, or nothing.
    Restore(Restore),
    /// Print a completion script.
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
}

/// The configuration file.
#[derive(Debug, Args)]
pub(crate) struct ConfigArg {
    /// Configuration file.
    #[arg(short, long, value_name = "FILE", env = "BARTIZAN_CONFIG")]
    pub(crate) config: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Plan {
    #[command(flatten)]
    pub(crate) config: ConfigArg,
    /// Folder with resource files (`*.yaml`): servers, portals, policies, grants and so on.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Exit code 1 when something would change: for watching whether the store is as the files say.
    #[arg(long)]
    pub(crate) detect: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    pub(crate) config: ConfigArg,
    /// Folder with resource files (`*.yaml`): servers, portals, policies, grants and so on.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Git revision of the folder, for the record.
    #[arg(long, value_name = "REVISION")]
    pub(crate) git_revision: Option<String>,
    /// What it is for, for the record.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Only if the store is still at this revision, which `plan` shows.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) revision: Option<i64>,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    #[command(flatten)]
    pub(crate) config: ConfigArg,
}

#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// Address and port; only loopback addresses are accepted. Port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7420")]
    pub(crate) listen: SocketAddr,
    /// Refused: dev never keeps data.
    #[arg(long, value_name = "DIR", hide = true)]
    pub(crate) data_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) config: ConfigArg,
    /// Overrides `listen`.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    /// Overrides `public_url`.
    #[arg(long, value_name = "URL")]
    pub(crate) public_url: Option<String>,
    /// Overrides `operations.listen`.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) operations: Option<String>,
    /// Overrides `store.data_dir`.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One JSON object.
    Json,
    /// Annotations of GitHub workflows.
    Github,
    /// SARIF 2.1.0.
    Sarif,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) config: ConfigArg,
    /// Reach nothing over the network: no database, no names.
    #[arg(long)]
    pub(crate) offline: bool,
    /// Form of the report; `--json` is the same as `--format json`.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    #[command(flatten)]
    pub(crate) config: ConfigArg,
    /// Who calls: a user name, or with `service:` before it a service token's name; `anonymous` for nobody.
    #[arg(long, value_name = "USER")]
    pub(crate) user: String,
    /// Group of the user; can be given several times.
    #[arg(long = "group", value_name = "GROUP")]
    pub(crate) groups: Vec<String>,
    /// Tool: `SERVER.NAME`, or the exposed name in the portal.
    #[arg(long, value_name = "TOOL")]
    pub(crate) tool: String,
    /// File with the arguments as a JSON object; `-` for stdin.
    #[arg(long, value_name = "FILE")]
    pub(crate) args: Option<PathBuf>,
    /// Address of the client.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) ip: Option<IpAddr>,
    /// Name the client gives itself.
    #[arg(long, value_name = "NAME")]
    pub(crate) client: Option<String>,
    /// Portal the call comes through; `none` for the server's own endpoint.
    #[arg(long, value_name = "PORTAL", default_value = "default")]
    pub(crate) portal: String,
    #[command(flatten)]
    pub(crate) circumstances: crate::commands::explain::Circumstances,
}

/// Whose changes are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SimulateBy {
    /// Each caller's.
    Principal,
    /// Each group's.
    Group,
}

#[derive(Debug, Args)]
pub(crate) struct Simulate {
    /// Configuration file of the draft.
    #[arg(value_name = "DRAFT")]
    pub(crate) draft: PathBuf,
    /// The installation whose record is read.
    #[command(flatten)]
    pub(crate) place: RecordArg,
    /// Requests of so many past days.
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=3660))]
    pub(crate) days: u32,
    /// Count changes of each caller or of each group.
    #[arg(long, value_enum, default_value_t = SimulateBy::Principal)]
    pub(crate) by: SimulateBy,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainCode {
    /// The code; without it all codes are listed.
    pub(crate) code: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ServerCommand {
    /// Connect to a server, list its tools and propose classes for review.
    Classify {
        #[command(flatten)]
        config: ConfigArg,
        /// Id of the server in the configuration.
        server_id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print its secret, once.
    Create {
        #[command(flatten)]
        config: ConfigArg,
        /// Name, in policies `service:NAME`.
        name: String,
        /// Life, e.g. `90d`, `12h`. Without it the token does not end.
        #[arg(long, value_name = "TIME", value_parser = crate::duration::parse)]
        ttl: Option<std::time::Duration>,
    },
    /// Give a token a new secret; the present one stays good for a while.
    Rotate {
        #[command(flatten)]
        config: ConfigArg,
        /// Name or client id.
        token: String,
        /// How long the present secret stays good.
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = crate::duration::parse)]
        grace: std::time::Duration,
    },
    /// Refuse a token until it is resumed.
    Suspend {
        #[command(flatten)]
        config: ConfigArg,
        /// Name or client id.
        token: String,
    },
    /// End a suspension.
    Resume {
        #[command(flatten)]
        config: ConfigArg,
        /// Name or client id.
        token: String,
    },
    /// Remove a token for good.
    Delete {
        #[command(flatten)]
        config: ConfigArg,
        /// Name or client id.
        token: String,
    },
    /// List all tokens, without their secrets.
    List {
        #[command(flatten)]
        config: ConfigArg,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum BreakGlassCommand {
    /// Make the account and print its password and second factor, once. It signs in only where `sign_in.break_glass` is on.
    Create {
        #[command(flatten)]
        config: ConfigArg,
        /// Address it acts under, which nobody has at an identity provider; its group is `break-glass`.
        email: String,
    },
    /// Show whether there is one, and when it was last used.
    Show {
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Remove the account; its sessions and grants end.
    Remove {
        #[command(flatten)]
        config: ConfigArg,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum UpstreamCommand {
    /// Go the whole way to a server, step by step, and say which one is at fault. Exit code 1: one is.
    Test(UpstreamTest),
}

#[derive(Debug, Args)]
pub(crate) struct UpstreamTest {
    #[command(flatten)]
    pub(crate) config: ConfigArg,
    /// Id of the server in the configuration.
    pub(crate) server_id: String,
    /// Sign in with a browser on this machine, so that the steps behind it are tried too.
    #[arg(long)]
    pub(crate) sign_in: bool,
    /// Program that shows web pages; it is given the address as its only argument. Default: the desktop's.
    #[arg(long, value_name = "PROGRAM", env = "BROWSER")]
    pub(crate) browser: Option<std::ffi::OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct Stdio {
    /// URL of the MCP server: https, or http on this machine.
    pub(crate) url: String,
    /// Program that shows web pages; it is given the address as its only argument. Default: the desktop's.
    #[arg(long, value_name = "PROGRAM", env = "BROWSER", conflicts_with = "no_browser")]
    pub(crate) browser: Option<std::ffi::OsString>,
    /// Start no browser; the address to open is printed on stderr.
    #[arg(long)]
    pub(crate) no_browser: bool,
    /// Client id to use at the authorization server, instead of registering one.
    #[arg(long, value_name = "ID")]
    pub(crate) client_id: Option<String>,
    /// File with certificate authorities of the server, PEM.
    #[arg(long = "ca", value_name = "FILE")]
    pub(crate) ca_files: Vec<PathBuf>,
    /// Keep tokens in memory only, not in the key store of the operating system.
    #[arg(long)]
    pub(crate) no_keep: bool,
    /// Forget the tokens that are kept for this URL, and end.
    #[arg(long)]
    pub(crate) forget: bool,
}

/// Where the record is: an installation, or a data folder.
#[derive(Debug, Args)]
pub(crate) struct RecordArg {
    /// Configuration file.
    #[arg(short, long, value_name = "FILE", env = "BARTIZAN_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Data folder, e.g. the one `dev` printed; wins over the configuration file.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// The newest events.
    List {
        #[command(flatten)]
        place: RecordArg,
        /// Most events to print.
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: u32,
    },
    /// Events that match all given conditions, oldest first.
    Search(Box<AuditSearch>),
    /// Recompute the chain of every segment. Exit code 1 when something does not fit.
    Verify {
        #[command(flatten)]
        place: RecordArg,
        /// Signed checkpoints that were kept elsewhere, one per line. Only these find what somebody removed who could
        /// change the whole record.
        #[arg(long, value_name = "FILE", requires = "key")]
        checkpoint: Option<PathBuf>,
        /// Public key of the checkpoints, from `bartizan audit key`.
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// A chain whose segments are on another machine; repeatable.
        #[arg(long, value_name = "WRITER")]
        elsewhere: Vec<String>,
        /// Check this file from `bartizan audit export` instead of the record.
        #[arg(long, value_name = "FILE", requires = "key", conflicts_with_all = ["checkpoint", "elsewhere"])]
        bundle: Option<PathBuf>,
    },
    /// Print the public key of signed checkpoints, as PEM. Keep it elsewhere.
    Key(ConfigArg),
    /// Print signed checkpoints, one per line, oldest first. Keep them elsewhere.
    Checkpoints {
        #[command(flatten)]
        place: RecordArg,
        /// Only those after this number.
        #[arg(long, default_value_t = 0, value_name = "NUMBER")]
        after: i64,
    },
    /// Write the records of a time range into a file that proves itself: `verify --bundle` checks it with the public
    /// key alone.
    Export {
        #[command(flatten)]
        place: RecordArg,
        /// First time (RFC 3339), or how long ago, e.g. `2h`.
        #[arg(long, value_name = "TIME")]
        since: String,
        /// The time after the last; now when absent.
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
        /// The file; it must not exist.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Build the search index anew from the segments.
    #[command(alias = "rebuild")]
    RebuildIndex {
        #[command(flatten)]
        place: RecordArg,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AuditSearch {
    #[command(flatten)]
    pub(crate) place: RecordArg,
    /// Only refused calls.
    #[arg(long, conflicts_with = "allowed")]
    pub(crate) denied: bool,
    /// Only allowed calls.
    #[arg(long)]
    pub(crate) allowed: bool,
    /// Only this caller, e.g. `user:alice`.
    #[arg(long, value_name = "WHO")]
    pub(crate) principal: Option<String>,
    /// Only this server.
    #[arg(long, value_name = "ID")]
    pub(crate) server: Option<String>,
    /// Only this tool, prompt or URI, by its original name.
    #[arg(long, value_name = "NAME")]
    pub(crate) target: Option<String>,
    /// Only this refusal code.
    #[arg(long, value_name = "CODE")]
    pub(crate) code: Option<String>,
    /// Only this kind: call, intent, list, auth, token, admin, system.
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Option<String>,
    /// Only events at or after this time (RFC 3339), or not older than e.g. `2h`.
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only events before this time (RFC 3339).
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Most events to print: the newest, oldest first.
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub(crate) limit: u32,
    /// Only the oldest event.
    #[arg(long)]
    pub(crate) first: bool,
    /// The form of what is printed with `--json`: `events` or `mcp_portal_logs`.
    #[arg(long, value_name = "NAME", default_value = "events", value_parser = ["events", "mcp_portal_logs"])]
    pub(crate) dataset: String,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) config: ConfigArg,
}

#[derive(Debug, Args)]
pub(crate) struct Migrate {
    #[command(flatten)]
    pub(crate) config: ConfigArg,
    /// Only show what would be done.
    #[arg(long)]
    pub(crate) plan: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Backup {
    #[command(flatten)]
    pub(crate) config: ConfigArg,
    /// File to write; it must not be there yet.
    pub(crate) file: PathBuf,
    /// Name of the key to encrypt with, of `backup_keys`.
    #[arg(long, value_name = "NAME", required_unless_present = "key_file", conflicts_with = "key_file")]
    pub(crate) key: Option<String>,
    /// File with the key to encrypt with: 32 bytes, raw or base64.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    #[command(flatten)]
    pub(crate) config: ConfigArg,
    /// File that `backup` wrote.
    pub(crate) file: PathBuf,
    /// File with the key. Default: the key of `backup_keys` that the backup names.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Replace what is there; it is kept beside, in the data folder.
    #[arg(long, conflicts_with = "check")]
    pub(crate) replace: bool,
    /// Only read the backup to its end and verify it; nothing is restored.
    #[arg(long)]
    pub(crate) check: bool,
}
