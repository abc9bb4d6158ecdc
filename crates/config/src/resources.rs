//! Resources: servers, portals, policies, grants and limits. Plain data as written
//! in files; the catalogue and the policy engine compile them.

use std::collections::BTreeMap;

use bartizan_model::{PortalId, ServerId, ToolClass};

pub use crate::access::{Approvers, Day, IdpClaim, RequireApproval, RequireMfa, Temporary, TimeWindow};
pub use crate::people::{ClaimNames, Client, IdentityProvider};
pub use crate::rate_limits::{LimitKey, RateLimit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// All resources of an installation.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
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

/// One upstream server (P3). Exactly one of `hostname` and `command` is set.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// 1–32 characters, `^[a-z0-9_]+(?:-[a-z0-9_]+)*$`; prefix of exposed names.
    #[schemars(with = "crate::schema::IdText")]
    pub server_id: ServerId,
    /// Name for people.
    #[serde(default)]
    pub name: String,
    /// URL of a remote server. The ending chooses the transport (P8).
    #[serde(default)]
    pub hostname: Option<String>,
    /// A local stdio server, started by bartizan (operator's resources only).
    #[serde(default)]
    pub command: Option<Command>,
    /// How bartizan authenticates to the server (P4).
    #[serde(default)]
    pub auth_type: AuthType,
    /// For `bearer`: the raw token, or JSON `{"headers":{…}}`. `${env:NAME}` and `${file:PATH}` are resolved at load.
    #[serde(default)]
    pub auth_credentials: Option<String>,
    /// What the `auth_type` needs to know (P16, P17).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_config: Option<AuthConfig>,
    /// For `oauth`: `true` (default): every user's own account; `false`: one account for all,
    /// which a member of `auth_config.admin_groups` connects (P19).
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub on_behalf: bool,
    /// For `oauth`: whoever signs a client in is led through this server's login on the way (P18).
    #[serde(default, skip_serializing_if = "is_no")]
    pub connect_on_sign_in: bool,
    /// `private` (default) or `public`: no user authentication (G7).
    #[serde(default)]
    pub visibility: Visibility,
    /// `enabled` (default), `disabled`, or `killed` (kill switch).
    #[serde(default)]
    pub status: ServerStatus,
    /// Who may see the server. None = nobody, except for `visibility: public`.
    #[serde(default)]
    pub policies: Vec<AccessRule>,
    /// For whom only tools of class `read` are there, whatever else allows more (P51). One match is enough.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub read_only: Vec<Selector>,
    /// Reviewed classes, by original tool name. `bartizan server classify` prints this block.
    #[serde(default)]
    pub classes: Classes,
    /// Whether what the server offers at first is good (P44). `first_sync` (default): what its first
    /// list shows is approved in the operator's name; `review`: somebody approves everything.
    #[serde(default, skip_serializing_if = "is_default")]
    pub trust: Trust,
    /// What the server offers later and nobody approved (P44): `hide` (default) or `allow`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_new: OnNew,
    /// What is approved and says something else now (P44): `quarantine` (default), `serve_pinned` (the
    /// approved text is shown while `inputSchema` is unchanged), or `alert` (the new text is shown).
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_change: OnChange,
    /// Two people approve definitions of tools that are not known to read only (P45).
    #[serde(default, skip_serializing_if = "is_default")]
    pub two_person_review: bool,
    /// E-mail address of whoever answers for the server: told when its state changes (P23),
    /// through the first e-mail destination of `alerts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Longest result of a tool, in tokens as estimated (P52); at least 50. Off by default. Where
    /// portal, server and tool say something, the least counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_result_tokens: Option<u32>,
    /// What happens to longer results. Absent: as the portal says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long_results: Option<LongResults>,
    /// Only entries that are switched on below are offered (P41).
    #[serde(default)]
    pub default_disabled: bool,
    /// Tools switched on or off (P41).
    #[serde(default)]
    pub updated_tools: Vec<Curation>,
    /// Prompts switched on or off (P41).
    #[serde(default)]
    pub updated_prompts: Vec<Curation>,
    /// Resources and templates switched on or off, by URI (P41).
    #[serde(default)]
    pub updated_resources: Vec<Curation>,
}

/// Whether what a server offers at first is good (P44).
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq, Hash)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// What the first list shows is approved.
    #[default]
    FirstSync,
    /// Somebody approves everything.
    Review,
}

/// What becomes of a definition that nobody approved (P44).
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq, Hash)]
#[serde(rename_all = "snake_case")]
pub enum OnNew {
    /// It is hidden.
    #[default]
    Hide,
    /// It is approved as it is.
    Allow,
}

/// What becomes of a definition that is approved and has changed (P44).
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq, Hash)]
#[serde(rename_all = "snake_case")]
pub enum OnChange {
    /// It is hidden.
    #[default]
    Quarantine,
    /// The approved text is shown, while `inputSchema` is unchanged.
    ServePinned,
    /// The new text is shown, and an alert is raised.
    Alert,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A local server: argv as it is, no shell.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// Program and arguments, passed as they are.
    pub argv: Vec<String>,
    /// Variables set for the child; `${env:NAME}` and `${file:PATH}` are resolved at load.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Variables copied from bartizan's own environment; everything else is dropped (PATH is always kept).
    #[serde(default)]
    pub env_allow: Vec<String>,
    /// Working folder.
    #[serde(default)]
    pub cwd: Option<String>,
    /// One process for all users. Only for servers without personal credentials.
    #[serde(default)]
    pub shared: bool,
    /// The operator accepts a package without exact version and integrity.
    #[serde(default)]
    pub allow_unpinned: bool,
    /// `none`: the operator accepts a process without sandbox.
    #[serde(default)]
    pub sandbox: SandboxMode,
}

/// Sandbox of a local server.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum SandboxMode {
    /// Required (refused until the sandbox exists).
    #[default]
    Required,
    /// None, on the operator's word; shown in status.
    None,
}

/// How bartizan authenticates to a server.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
#[schemars(transform = crate::schema::auth_type_aliases)]
pub enum AuthType {
    /// No credential. Also written `none`.
    #[default]
    #[serde(alias = "none")]
    Unauthenticated,
    /// `auth_credentials` as bearer token or headers. Also written `static`.
    #[serde(alias = "static")]
    Bearer,
    /// Every user connects an account of their own (P16). Also written `oauth_user`.
    #[serde(alias = "oauth_user")]
    Oauth,
    /// Every user types a token of their own on a page.
    PatUser,
    /// A token for bartizan itself (RFC 6749, section 4.4).
    ClientCredentials,
    /// A token for each caller by exchange (RFC 8693).
    TokenExchange,
    /// A token for each user, on behalf of (Microsoft Entra).
    EntraObo,
    /// A token for each user by an identity assertion of the company's provider (ID-JAG).
    IdJag,
    /// A signed assertion about the caller with every request (A13).
    Assertion,
    /// Every request is signed for AWS (Signature Version 4).
    AwsSigv4,
}

/// What an `auth_type` needs to know. Which entries belong to which type is checked.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuthConfig {
    /// The only authorization server to use; it must be one that the server names.
    pub issuer: Option<String>,
    /// Client registered there by hand, for servers that register none by themselves.
    pub client_id: Option<String>,
    /// Secret of that client. `${env:NAME}` and `${file:PATH}` are resolved at load.
    pub client_secret: Option<String>,
    /// Private key of that client in place of a secret, PEM (PKCS#8; P-256 or RSA), for
    /// `private_key_jwt`. `${env:NAME}` and `${file:PATH}` are resolved at load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key: Option<String>,
    /// Name of that key in the client's key set (`kid`), where the authorization server wants one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key_id: Option<String>,
    /// Scopes to ask for when the server names none.
    pub scopes: Vec<String>,
    /// Groups whose members connect the one account of `on_behalf: false`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub admin_groups: Vec<String>,
    /// Token endpoint. Absent = the one of the authorization server that the server names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_endpoint: Option<String>,
    /// How the client proves itself at `token_endpoint`; default `client_secret_basic`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_endpoint_auth_method: Option<TokenAuthMethod>,
    /// Resource indicator (RFC 8707). Absent = what the server says, or its URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// For `token_exchange`: the logical name of the target. For `assertion`: the tag of this
    /// server, which its checks compare.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// What is exchanged; default `access_token` (`entra_obo`), else `id_token`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject_token: Option<SubjectToken>,
    /// For `token_exchange`: the kind of token wanted (RFC 8693, section 3).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested_token_type: Option<String>,
    /// Identity provider whose token is exchanged; may be absent when there is only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// For `pat_user`: header the token is sent in; default `Authorization`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// For `pat_user`: word before the token; default `Bearer` in `Authorization`, else none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// For `pat_user`: page on which people make such a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help_url: Option<String>,
    /// For `aws_sigv4`: service name in signatures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// For `aws_sigv4`: region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// For `aws_sigv4`. `${env:NAME}` and `${file:PATH}` are resolved at load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// For `aws_sigv4`. `${env:NAME}` and `${file:PATH}` are resolved at load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<String>,
    /// For `aws_sigv4`, of temporary keys. `${env:NAME}` and `${file:PATH}` are resolved at load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_token: Option<String>,
}

impl AuthConfig {
    /// Entries that hold secrets, by name.
    pub fn secrets(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let all = [
            ("client_secret", &self.client_secret),
            ("private_key", &self.private_key),
            ("access_key_id", &self.access_key_id),
            ("secret_access_key", &self.secret_access_key),
            ("session_token", &self.session_token),
        ];
        all.into_iter().filter_map(|(name, text)| Some((name, text.as_ref()?)))
    }

    /// The same, to be replaced.
    pub fn secrets_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut String)> {
        let all = [
            ("client_secret", &mut self.client_secret),
            ("private_key", &mut self.private_key),
            ("access_key_id", &mut self.access_key_id),
            ("secret_access_key", &mut self.secret_access_key),
            ("session_token", &mut self.session_token),
        ];
        all.into_iter().filter_map(|(name, text)| Some((name, text.as_mut()?)))
    }
}

/// How a client proves itself at a token endpoint.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum TokenAuthMethod {
    /// The header `Authorization: Basic`.
    ClientSecretBasic,
    /// `client_id` and `client_secret` in the body.
    ClientSecretPost,
    /// An assertion signed with `private_key` (RFC 7523).
    PrivateKeyJwt,
    /// `client_id` alone.
    None,
}

/// Which token of a caller is exchanged.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum SubjectToken {
    /// bartizan's own signed assertion about the caller (A13).
    Assertion,
    /// The identity provider's ID token.
    IdToken,
    /// The identity provider's access token.
    AccessToken,
    /// The identity provider's refresh token.
    RefreshToken,
}

/// Who may reach a server without signing in.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// Only authenticated principals.
    #[default]
    Private,
    /// Anybody, as principal `anonymous`.
    Public,
}

/// Whether a server is offered.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ServerStatus {
    /// Offered.
    #[default]
    Enabled,
    /// Not offered.
    Disabled,
    /// Stopped by the kill switch; refusals are recorded as `killed`.
    Killed,
}

/// Reviewed classes by original tool name.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Classes {
    /// Tools that change nothing.
    pub read: Vec<String>,
    /// Tools that create or change.
    pub write: Vec<String>,
    /// Tools that remove or cannot be undone.
    pub destructive: Vec<String>,
}

impl Classes {
    /// The class of a tool; `unknown` when nobody reviewed it.
    pub fn of(&self, tool: &str) -> ToolClass {
        let has = |list: &[String]| list.iter().any(|name| name == tool);
        if has(&self.destructive) {
            ToolClass::Destructive
        } else if has(&self.write) {
            ToolClass::Write
        } else if has(&self.read) {
            ToolClass::Read
        } else {
            ToolClass::Unknown
        }
    }
}

/// One tool, prompt or resource switched on or off.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Curation {
    /// Original name or URI.
    pub name: String,
    /// Offered or not.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// For tools and prompts: another exposed name (needed with `prefix: never` for equal names), 1–40
    /// letters and digits with single `_` or `-` between them. A portal's own alias goes before it (P42).
    #[serde(default)]
    pub alias: Option<String>,
    /// For tools and prompts: the description that portals show in place of the server's own (P42).
    /// What is reviewed and pinned stays the server's. Absent: the server's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// For tools: longest result, in tokens (P52); at least 50. Absent: as the server says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_result_tokens: Option<u32>,
    /// For tools: what happens to longer results. Absent: as the server says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long_results: Option<LongResults>,
}

/// What happens to results that are longer than `max_result_tokens` (P52). What was left out is
/// always said.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LongResults {
    /// They are cut; data keeps its form.
    #[default]
    Truncate,
    /// They come in pages, the further ones by `portal_next_page`; on a server's own endpoint cut.
    Page,
    /// They are kept for ten minutes under a URI that the client can read.
    Spill,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_yes(value: &bool) -> bool {
    *value
}

/// A portal: many servers behind one URL (P1).
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Portal {
    /// Id; `default` is also at `{public_url}/mcp`.
    #[schemars(with = "crate::schema::IdText")]
    pub id: PortalId,
    /// Name for people, at most 350 characters.
    #[serde(default)]
    pub name: String,
    /// At most 512 characters.
    #[serde(default)]
    pub description: String,
    /// Own host name: then also `https://{hostname}/mcp`.
    #[serde(default)]
    pub hostname: Option<String>,
    /// Servers in the order of lists. Absent = all.
    #[serde(default)]
    #[schemars(with = "Option<Vec<crate::schema::IdText>>")]
    pub servers: Option<Vec<ServerId>>,
    /// Ids of bundles (P2). Absent: everything the servers have on. With a list, even an empty one, only
    /// what these bundles name, and what the two lists below switch on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundles: Option<Vec<String>>,
    /// What this portal says of single tools (P2, P42).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub updated_tools: Vec<crate::bundles::PortalCuration>,
    /// What this portal says of single prompts (P2, P42).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub updated_prompts: Vec<crate::bundles::PortalCuration>,
    /// Who may use the portal. None = nobody.
    #[serde(default)]
    pub policies: Vec<AccessRule>,
    /// For whom only tools of class `read` are there, whatever else allows more (P51). One match is
    /// enough. A server's own endpoint is another door: see the server's `read_only`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub read_only: Vec<Selector>,
    /// Longest result of a tool, in tokens as estimated (P52); at least 50. Off by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_result_tokens: Option<u32>,
    /// What happens to longer results, unless server or tool say something else. Default `truncate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long_results: Option<LongResults>,
    /// List tools that need a grant, with a request link (G3).
    #[serde(default)]
    pub show_ungranted: bool,
    /// `always` (default) or `never` prefix names with the server id (P12).
    #[serde(default)]
    pub prefix: Prefix,
    /// Longest exposed name, 32–128, default 64 (P13).
    #[serde(default = "default_max_tool_name")]
    pub max_tool_name: usize,
}

fn default_max_tool_name() -> usize {
    64
}

/// Whether exposed names carry the server id.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Prefix {
    /// `{server_id}_{name}`.
    #[default]
    Always,
    /// Original names; equal names must be aliased.
    Never,
}

/// A short-form rule on a portal or server (A3): `include` is an or,
/// `require` an and, `exclude` a not.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessRule {
    /// Name in explanations and audit events.
    #[serde(default)]
    pub name: Option<String>,
    /// What the rule does.
    pub action: AccessAction,
    /// At least one must match.
    #[serde(default)]
    pub include: Vec<Selector>,
    /// All must match.
    #[serde(default)]
    pub require: Vec<Selector>,
    /// None may match.
    #[serde(default)]
    pub exclude: Vec<Selector>,
    /// For `allow`: lets in only with a second factor; without one the person is asked for it (A17).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_mfa: Option<RequireMfa>,
    /// For `allow`: the person must have said what the access is for (A16).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub require_purpose: bool,
    /// A person approves each call that the rule lets in (W12).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_approval: Option<RequireApproval>,
    /// For `allow`: lets in for the time that somebody allowed; others are asked to ask (A16).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temporary: Option<Temporary>,
}

/// Actions of short-form rules.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum AccessAction {
    /// Signed-in users may use it.
    Allow,
    /// Nobody that matches may use it; wins over allow.
    Block,
    /// Service tokens may use it (A11).
    ServiceAuth,
    /// Anybody may read without signing in, through a portal only where portal and server both say so.
    Bypass,
}

/// What a rule looks at. One key per entry.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Selector {
    /// Every principal the action is about.
    Everyone(bool),
    /// User ids or e-mail addresses.
    Emails(Vec<String>),
    /// Domain of the e-mail address.
    EmailDomain(Vec<String>),
    /// Group names.
    Groups(Vec<String>),
    /// Service token ids or names.
    ServiceToken(Vec<String>),
    /// Ids of agents (A27).
    Agents(Vec<String>),
    /// Networks, v4 and v6.
    Ip(Vec<String>),
    /// Countries of the address, ISO 3166-1 alpha-2.
    Country(Vec<String>),
    /// Identities or posture tags of the device.
    Device(Vec<String>),
    /// Whether the sign-in had a second factor (A4).
    Mfa(bool),
    /// OAuth clients, by the id that the token was issued to.
    ClientId(Vec<String>),
    /// A claim of the sign-in.
    IdpClaim(IdpClaim),
    /// A time of the week.
    Time(TimeWindow),
}

/// A Cedar policy.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Unique id, in explanations and audit events.
    pub id: String,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Cedar 4 text; one or more statements.
    pub cedar: String,
}

/// Lets principals call tools that are not class `read` (G3).
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Unique id.
    pub id: String,
    /// `user:alice`, `group:engineering`, `service:ci`, `everyone`.
    pub principals: Vec<String>,
    /// Server.
    #[schemars(with = "crate::schema::IdText")]
    pub server: ServerId,
    /// Original tool names. Tools or classes must be given.
    #[serde(default)]
    pub tools: Vec<String>,
    /// Classes.
    #[serde(default)]
    #[schemars(with = "Vec<crate::schema::ClassText>")]
    pub classes: Vec<ToolClass>,
    /// Cedar condition over `context.args`, e.g. `context.args.amount <= 1000`.
    #[serde(default)]
    pub when: Option<String>,
    /// RFC 3339 time after which the grant is void.
    #[serde(default)]
    pub expires: Option<String>,
    /// Counts only with a second factor; without one the person is asked for it (A17).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_mfa: Option<RequireMfa>,
    /// The person must have said what the access is for (A16).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub require_purpose: bool,
    /// A person approves each call that the grant allows (W12).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_approval: Option<RequireApproval>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form serde asks for")]
fn is_no(value: &bool) -> bool {
    !*value
}
