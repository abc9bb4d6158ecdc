//! Settings: read once at start, one file < environment (`BARTIZAN_…`) < flag (U3, O10).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::resources::{Client, Grant, IdentityProvider, Policy, Portal, RateLimit, Resources, Server};

/// The whole file given to `bartizan serve -c FILE`: settings, and resources inline
/// or in a folder.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    /// Public URL of this installation, e.g. `https://mcp.example.com`. Required by `serve`.
    pub public_url: Option<String>,
    /// Serve a `public_url` in plain http on another host than this machine. Tokens and cookies
    /// then travel readable: only where something else protects the whole way. Default false.
    pub allow_plain_http: bool,
    /// Public listener, address and port. Required by `serve`; `dev` uses 127.0.0.1:7420.
    #[schemars(with = "Option<crate::schema::AddressText>")]
    pub listen: Option<SocketAddr>,
    /// Operations listener: health and metrics. Default 127.0.0.1:7421. Never the public port.
    pub operations: Operations,
    /// Host names accepted in `Host` besides that of `public_url` (O10).
    pub allowed_hosts: Vec<String>,
    /// Origins accepted in `Origin` besides that of `public_url` (O10).
    pub allowed_origins: Vec<String>,
    /// Peers whose `X-Forwarded-For` is believed (O10).
    #[schemars(with = "Vec<crate::schema::NetworkText>")]
    pub trusted_proxies: Vec<IpNet>,
    /// TLS of the public listener (O8). Without it a proxy in front ends TLS.
    pub tls: Option<Tls>,
    /// PEM file with the authorities of client certificates. A client may show a certificate of theirs; what it names
    /// is the client's device in policies (A3). Needs `tls`.
    pub client_ca: Option<PathBuf>,
    /// Names of devices in policies by what their certificates say; without an entry the certificate's own word is used.
    pub device_names: BTreeMap<String, String>,
    /// Header in which a trusted proxy names the client's device. From anybody else it is ignored (A3).
    pub device_header: Option<String>,
    /// Header in which a trusted proxy names the client's country. From anybody else it is ignored (A3).
    pub country_header: Option<String>,
    /// Where addresses are (A3).
    pub geo: Geo,
    /// Several processes over one database (O17).
    pub cluster: Option<Cluster>,
    /// Where data lives.
    pub store: Store,
    /// Master key for sealed records and handles. Required by `serve`.
    pub key: Option<KeySource>,
    /// Keys of backups by name, as for `key`: the first seals, older ones of the same source still open (O6).
    pub backup_keys: BTreeMap<String, KeySource>,
    /// The audit record.
    pub audit: Audit,
    /// Outgoing connections.
    pub egress: Egress,
    /// Locally started servers.
    pub hosting: Hosting,
    /// Sizes and times; all have defaults.
    pub limits: WireLimits,
    /// Traces and logs.
    pub telemetry: Telemetry,
    /// Sign-in of people and clients (A1 and following).
    pub sign_in: SignIn,
    /// Folder with resource files (`*.yaml`), relative to this file.
    pub resources: Option<PathBuf>,
    /// Upstream servers.
    pub servers: Vec<Server>,
    /// Portals; without any, one portal `default` offers all servers.
    pub portals: Vec<Portal>,
    /// Named sets of tools that portals include (P2).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bundles: Vec<crate::bundles::Bundle>,
    /// Where people sign in (A2).
    pub identity_providers: Vec<IdentityProvider>,
    /// Pre-registered OAuth clients.
    pub clients: Vec<Client>,
    /// Programs that call by themselves (A27).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<crate::agents::Agent>,
    /// Cedar policies beside the short forms on portals and servers.
    pub policies: Vec<Policy>,
    /// Grants of tools that are not class `read` (G3).
    pub grants: Vec<Grant>,
    /// Rate and concurrency limits; none by default (O11).
    pub rate_limits: Vec<RateLimit>,
    /// Rules on audit events, and where messages go (L14).
    pub alerts: crate::alerts::Alerts,
    /// Who has which role in the administration (A24).
    #[serde(skip_serializing_if = "crate::roles::Roles::is_empty")]
    pub roles: crate::roles::Roles,
}

impl File {
    /// The resources written directly into this file.
    ///
    /// The lists are repeated in [`File`] instead of being flattened into it, because a
    /// flattened struct cannot refuse unknown keys.
    pub fn resources(&self) -> Resources {
        Resources {
            servers: self.servers.clone(),
            portals: self.portals.clone(),
            bundles: self.bundles.clone(),
            identity_providers: self.identity_providers.clone(),
            clients: self.clients.clone(),
            agents: self.agents.clone(),
            policies: self.policies.clone(),
            grants: self.grants.clone(),
            rate_limits: self.rate_limits.clone(),
            alerts: self.alerts.clone(),
            roles: self.roles.clone(),
        }
    }

    /// The same settings with these resources.
    #[must_use]
    pub fn with_resources(&self, resources: &Resources) -> Self {
        let Resources {
            servers,
            portals,
            bundles,
            identity_providers,
            clients,
            agents,
            policies,
            grants,
            rate_limits,
            alerts,
            roles,
        } = resources.clone();
        Self {
            servers,
            portals,
            bundles,
            identity_providers,
            clients,
            agents,
            policies,
            grants,
            rate_limits,
            alerts,
            roles,
            ..self.clone()
        }
    }
}

/// TLS of the public listener (O8): versions 1.2 and 1.3.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Tls {
    /// An authority of this installation, whose key is sealed in the store, signs a certificate for the public URL's
    /// host. `bartizan ca` prints the authority's certificate.
    Internal,
    /// Certificate and key from files; changed files are taken within seconds.
    Files(TlsFiles),
}

/// PEM files of the public listener.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificate, then those that lead to its authority.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Where addresses are (A3).
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Geo {
    /// MaxMind DB file with `country.iso_code`; a changed file is taken within seconds.
    pub mmdb: Option<PathBuf>,
}

/// The listener for the other processes of the installation (O17). Needs PostgreSQL.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Address and port. Only the other processes get in, with certificates of the installation.
    #[schemars(with = "crate::schema::AddressText")]
    pub listen: SocketAddr,
    /// Host and port under which the other processes reach it.
    pub advertise: String,
}

/// Operations listener.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Operations {
    /// Address and port.
    #[schemars(with = "crate::schema::AddressText")]
    pub listen: SocketAddr,
}

impl Default for Operations {
    fn default() -> Self {
        Self { listen: SocketAddr::new(IpAddr::from([127, 0, 0, 1]), 7421) }
    }
}

/// Where data lives.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// Folder for the audit segments and, without `url`, the SQLite file. Default `./bartizan-data`.
    pub data_dir: PathBuf,
    /// `postgres://…` (also `${env:NAME}` or `${file:PATH}`), or `sqlite:PATH`. Default: SQLite in `data_dir`.
    pub url: Option<String>,
}

impl Default for Store {
    fn default() -> Self {
        Self { data_dir: PathBuf::from("bartizan-data"), url: None }
    }
}

/// Where the master key comes from: 32 bytes, base64 or raw.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum KeySource {
    /// A file readable only by the owner.
    File(PathBuf),
    /// An environment variable.
    Env(String),
}

/// When a call may be answered (L9).
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum AuditMode {
    /// Only after its event is durable.
    #[default]
    Strict,
    /// At once; at most 100 ms of events can be lost with the machine.
    Fast,
}

/// The audit record.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// `strict` (default) or `fast`.
    pub mode: AuditMode,
    /// Where signed checkpoints go (L2).
    pub checkpoints: crate::export::Checkpoints,
    /// Where events go (L5).
    pub sinks: Vec<crate::export::Sink>,
    /// Servers whose arguments and results are kept, masked and sealed; `*` for all. None by default (L3).
    pub bodies: Vec<String>,
    /// Days that arguments and results are kept. Default 30 (L3).
    pub body_retention_days: u32,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            mode: AuditMode::default(),
            checkpoints: crate::export::Checkpoints::default(),
            sinks: Vec::new(),
            bodies: Vec::new(),
            body_retention_days: 30,
        }
    }
}

/// Outgoing connections (O9, P28).
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Egress {
    /// Private names and networks that may be reached: `10.0.0.0/8`, `127.0.0.1`, `git.internal`, `*.corp.example`.
    pub private_allow: Vec<String>,
    /// PEM files with additional certificate authorities.
    pub ca_files: Vec<PathBuf>,
    /// HTTP proxy for all outgoing connections, `http://host:port`.
    pub proxy: Option<String>,
}

/// Locally started stdio servers (G12; sandboxing and pins follow).
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Hosting {
    /// Off until switched on.
    pub enabled: bool,
}

/// Sizes and times (features section 1.3).
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WireLimits {
    /// Bytes of a request body. Default 4 MiB.
    pub request_body: usize,
    /// Bytes of an upstream JSON body or SSE event. Default 16 MiB.
    pub upstream_body: usize,
    /// Nesting of JSON. Default 128.
    pub json_depth: usize,
    /// Upstream connect, milliseconds. Default 5,000.
    pub connect_ms: u64,
    /// Upstream list per server including its body, milliseconds. Default 10,000.
    pub list_ms: u64,
    /// Upstream call without progress, milliseconds. Default 120,000.
    pub call_ms: u64,
    /// Upper bound of a call that makes progress, milliseconds. Default 30 min.
    pub call_max_ms: u64,
    /// Legacy session without traffic, milliseconds. Default 24 h.
    pub session_idle_ms: u64,
    /// Life of a parked call or sealed request state, milliseconds. Default 10 min.
    pub park_ms: u64,
    /// Wait between "not ready" and closing the listener on SIGTERM, milliseconds. Default 5,000.
    pub drain_wait_ms: u64,
    /// End of draining, milliseconds. Default 30,000.
    pub drain_deadline_ms: u64,
    /// Time for a client to send the request head, and the body, milliseconds. Default 30,000.
    pub client_read_ms: u64,
    /// Legacy sessions of one principal; at the bound its own oldest idle one ends.
    /// Anonymous callers are counted by address. Default 1,000.
    pub sessions_per_principal: usize,
    /// Event streams of one principal open at once, and as many calls; more are answered
    /// 429. Anonymous callers are counted by address. Default 1,000.
    pub streams_per_principal: usize,
    /// Connections of one peer address open at once; more are closed. Loopback and
    /// trusted proxies are not counted. Default 1,024.
    pub connections_per_address: usize,
    /// HTTP/2 connection without an open request, milliseconds. Default 300,000.
    pub connection_idle_ms: u64,
}

impl Default for WireLimits {
    fn default() -> Self {
        Self {
            request_body: 4 << 20,
            upstream_body: 16 << 20,
            json_depth: 128,
            connect_ms: 5_000,
            list_ms: 10_000,
            call_ms: 120_000,
            call_max_ms: 30 * 60_000,
            session_idle_ms: 24 * 3_600_000,
            park_ms: 10 * 60_000,
            drain_wait_ms: 5_000,
            drain_deadline_ms: 30_000,
            client_read_ms: 30_000,
            sessions_per_principal: 1_000,
            streams_per_principal: 1_000,
            connections_per_address: 1_024,
            connection_idle_ms: 300_000,
        }
    }
}

/// Traces and logs (L8).
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// OTLP/HTTP endpoint for traces and metrics, e.g. `http://127.0.0.1:4318`. Off when absent.
    pub otlp_endpoint: Option<String>,
    /// Between two exports of metrics, milliseconds, at least 100; 0 exports traces only. Default 60,000.
    pub metrics_interval_ms: u64,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { otlp_endpoint: None, metrics_interval_ms: 60_000 }
    }
}

/// Sign-in of people and clients.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SignIn {
    /// Dynamic client registration (A7).
    pub registration: Registration,
    /// Client ID metadata documents (A8).
    pub client_metadata: ClientMetadata,
    /// Life of tokens and sessions.
    pub lifetimes: Lifetimes,
    /// Whether the break-glass account may sign in (A31). It is made with `bartizan break-glass create` on the host.
    pub break_glass: bool,
    /// Provisioning by the company's directory (A14). Off when absent.
    pub scim: Option<Scim>,
}

/// SCIM 2.0 at `{public_url}/scim/v2` (A14).
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scim {
    /// Bearer tokens of the directory, at least 32 bytes each; several while one is exchanged for another. `${env:NAME}` and `${file:PATH}` are resolved at start.
    pub tokens: Vec<String>,
    /// Only provisioned people may sign in. Default false: only deactivated ones may not.
    #[serde(default)]
    pub required: bool,
    /// What of a user is what of a person who signs in.
    #[serde(default, rename = "match")]
    pub by: ScimMatch,
    /// Whose groups count.
    #[serde(default)]
    pub groups_from: GroupsFrom,
}

/// How provisioned users and people who sign in are joined.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum ScimMatch {
    /// `userName` is the e-mail address.
    #[default]
    UserName,
    /// The primary one of `emails` is the e-mail address.
    Email,
    /// `externalId` is the subject at the identity provider.
    ExternalId,
}

/// Where the groups of people come from.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum GroupsFrom {
    /// From the directory: a change is effective at once.
    #[default]
    Scim,
    /// From the identity provider, at each sign-in.
    Claims,
    /// From both.
    Both,
}

/// Dynamic client registration, RFC 7591 (A7).
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Registration {
    /// Whether clients may register themselves. Default true.
    pub enabled: bool,
    /// Accept any `http://localhost` redirect. Default true.
    pub allow_any_on_localhost: bool,
    /// Accept any `http://127.0.0.1` and `http://[::1]` redirect. Default true.
    pub allow_any_on_loopback: bool,
    /// Further redirect URIs: https, may end in `/*`; custom schemes exactly.
    pub allowed_uris: Vec<String>,
}

impl Default for Registration {
    fn default() -> Self {
        Self { enabled: true, allow_any_on_localhost: true, allow_any_on_loopback: true, allowed_uris: Vec::new() }
    }
}

/// Client ID metadata documents (A8).
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClientMetadata {
    /// Whether a client may be named by the URL of its document. Default true.
    pub enabled: bool,
    /// Hosts whose documents are accepted, `example.com` or `*.example.com`; empty: all public ones.
    pub allowed_domains: Vec<String>,
}

impl Default for ClientMetadata {
    fn default() -> Self {
        Self { enabled: true, allowed_domains: Vec::new() }
    }
}

/// Life of tokens and sessions (features section 1.3), seconds.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Lifetimes {
    /// Access token. Default 900.
    pub access_token_s: u64,
    /// Grant: until the next sign-in at the provider. Default 14 days.
    pub grant_s: u64,
    /// Authorization code. Default 60.
    pub code_s: u64,
    /// Unused registered client. Default 90 days.
    pub unused_client_s: u64,
    /// Browser session. Default 12 h.
    pub browser_session_s: u64,
    /// How old what the identity provider said about a person may get while it cannot be
    /// asked at a refresh; after that the person signs in again. Default 24 h.
    pub person_max_age_s: u64,
}

impl Default for Lifetimes {
    fn default() -> Self {
        let day = 24 * 3600;
        Self {
            access_token_s: 900,
            grant_s: 14 * day,
            code_s: 60,
            unused_client_s: 90 * day,
            browser_session_s: day / 2,
            person_max_age_s: day,
        }
    }
}
