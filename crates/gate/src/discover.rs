//! What an endpoint can do: a server endpoint says what its server says, a portal the
//! union of what its servers say (protocol.md 5.2, 6).

use std::sync::Arc;
use std::time::Duration;

use bartizan_catalog::{ServerSpec, Snapshot, pin};
use bartizan_model::{Era, EventId, PortalId, ReasonCode};
use bartizan_registry::Whose;
use bartizan_upstream::Discovered;
use bartizan_wire::translate::{discover_to_initialize, initialize_to_discover};
use bartizan_wire::{ClientProfile, MODERN_VERSIONS, RawJson, Revision, TASKS_EXTENSION, meta_key, splice};
use futures_util::future::join_all;

use crate::admit;
use crate::call::{CallReply, Caller, Endpoint, Refusal, Unknown};
use crate::gate::{Access, Inner, access};
use crate::personal;

/// Longest wait of a portal for its servers; one that is late counts as able to do
/// everything, because a capability that was not announced stays unused for good.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest instructions of one server on a portal, characters.
const INSTRUCTIONS_EACH: usize = 2_000;
/// Longest instructions of a portal, characters.
const INSTRUCTIONS_ALL: usize = 16_000;

/// What an endpoint says about itself.
#[derive(Clone, Debug)]
pub struct Discovery {
    /// The result of `initialize` for legacy clients, of `server/discover` for modern ones.
    pub result: RawJson,
}

/// Answers `initialize` and `server/discover`.
///
/// # Errors
/// [`CallReply::NotFound`] for an endpoint that is not for this caller, and
/// [`CallReply::Refused`] over a limit and when the only server behind it does not answer.
pub(crate) async fn run(gate: &Arc<Inner>, endpoint: &Endpoint, caller: &Caller) -> Result<Discovery, CallReply> {
    let now_ms = gate.clock.now_ms();
    let snapshot = gate.snapshot.load_full();
    let missing = || CallReply::NotFound { what: Unknown::Endpoint, event_id: EventId::new(now_ms) };
    if access(&snapshot, &caller.principal, endpoint, &caller.context(now_ms)) != Access::Allowed {
        return Err(missing());
    }
    let method = if caller.profile.era == Era::Legacy { "initialize" } else { "server/discover" };
    admit::run(gate, endpoint, caller, method).await?;
    let mut servers = gate.servers_for(&snapshot, endpoint, caller, now_ms);
    let off = |spec: &ServerSpec| endpoint.portal().is_some() && caller.selection.off.contains(&spec.id);
    servers.retain(|spec| gate.is_on(spec, now_ms) && !off(spec));
    match endpoint {
        Endpoint::Server(_) => {
            let spec = servers.first().ok_or_else(missing)?;
            if let Err(error) = gate.personal.ready(spec, &caller.principal).await {
                let (code, retry_after_s) = personal::code(&error);
                let url = if code == ReasonCode::LoginRequired { gate.personal.login_url(spec) } else { None };
                let message = url.as_ref().map(|url| format!("Connect your account at {} first: {url}", spec.name));
                let event_id = EventId::new(now_ms);
                let refusal = Refusal {
                    code,
                    rule: None,
                    event_id,
                    retry_after_s,
                    visible: true,
                    message,
                    url: url.map(Into::into),
                };
                return Err(CallReply::Refused(refusal));
            }
            let target = gate.personal.target(spec, &caller.principal);
            match gate.upstreams.discover(&target, &caller.profile).await {
                Ok(found) => {
                    let found = reviewed(gate, spec, caller, found).await;
                    Ok(Discovery { result: pass_through(&caller.profile, &found) })
                }
                Err(error) => Err(CallReply::Refused(Refusal {
                    code: error.code(),
                    rule: None,
                    event_id: EventId::new(now_ms),
                    retry_after_s: error.retry_after_s(),
                    visible: true,
                    message: None,
                    url: None,
                })),
            }
        }
        Endpoint::Portal(id) => {
            let found = all(gate, &servers, caller).await;
            Ok(Discovery { result: union(&snapshot, id, &caller.profile, &found) })
        }
    }
}

/// Every server's answer, or nothing for those that fail or are late.
async fn all(
    gate: &Arc<Inner>,
    servers: &[Arc<ServerSpec>],
    caller: &Caller,
) -> Vec<(Arc<ServerSpec>, Option<Arc<Discovered>>)> {
    join_all(servers.iter().map(|spec| async {
        let asking = async {
            gate.personal.ready(spec, &caller.principal).await.ok()?;
            let target = gate.personal.target(spec, &caller.principal);
            let found = gate.upstreams.discover(&target, &caller.profile).await.ok()?;
            Some(reviewed(gate, spec, caller, found).await)
        };
        let found = tokio::time::timeout(PATIENCE, asking).await;
        (Arc::clone(spec), found.ok().flatten())
    }))
    .await
}

/// What a server says about itself, if that is approved; else only what it can do (P43, P44).
async fn reviewed(gate: &Inner, spec: &ServerSpec, caller: &Caller, found: Arc<Discovered>) -> Arc<Discovered> {
    let Some(registry) = gate.lists.registry() else { return found };
    let words = pin::server_words(found.instructions.as_deref(), found.server_info.as_ref());
    let own = personal::is_personal(spec);
    let whose = if own { Whose::Person(caller.principal.key()) } else { Whose::Shared };
    match registry.judge_words(spec, words.as_ref(), whose).await {
        Ok(true) => return found,
        Ok(false) => {}
        Err(error) => tracing::warn!(%error, server = %spec.id, "what a server says about itself cannot be judged"),
    }
    let mut found = (*found).clone();
    found.instructions = None;
    let version = found.server_info.as_ref().and_then(|info| splice::get(info, "version"));
    let version = version.as_ref().and_then(RawJson::as_string).filter(|text| is_version(text));
    let version = RawJson::string(version.as_deref().unwrap_or("0"));
    let info = RawJson::object([("name", &RawJson::string(spec.id.as_str())), ("version", &version)]);
    let raw = splice::remove(&found.raw, "instructions");
    let raw = if splice::get(&raw, "serverInfo").is_some() { splice::set(&raw, "serverInfo", &info) } else { raw };
    let named = splice::get_path(&raw, &["_meta", meta_key::SERVER_INFO]).is_some();
    found.raw = if named { splice::set_path(&raw, &["_meta", meta_key::SERVER_INFO], &info) } else { raw };
    found.server_info = Some(info);
    Arc::new(found)
}

/// Whether a text is a version and no message to anybody.
fn is_version(text: &str) -> bool {
    text.len() <= 40 && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_'))
}

/// One server's own words in the form of the client's era. Tasks are not relayed yet,
/// so they are not announced.
fn pass_through(profile: &ClientProfile, found: &Discovered) -> RawJson {
    let own = own_info(None);
    let result = match (profile.era, found.era) {
        (Era::Legacy, Era::Legacy) => splice::set(&found.raw, "protocolVersion", &RawJson::string(&profile.version)),
        (Era::Legacy, Era::Modern) => discover_to_initialize(&found.raw, profile.revision, &own),
        (Era::Modern, Era::Legacy) => initialize_to_discover(&found.raw),
        (Era::Modern, Era::Modern) => splice::set_many(
            &found.raw,
            &[("supportedVersions", &versions()), ("cacheScope", &RawJson::string("private"))],
        ),
    };
    let Some(capabilities) = splice::get(&result, "capabilities") else { return result };
    let without = splice::edit_in(&splice::remove(&capabilities, "tasks"), "extensions", &[(TASKS_EXTENSION, None)]);
    if without == capabilities { result } else { splice::set(&result, "capabilities", &without) }
}

fn versions() -> RawJson {
    let texts: Vec<RawJson> =
        MODERN_VERSIONS.iter().map(|version: &Revision| RawJson::string(version.as_str())).collect();
    RawJson::array(&texts)
}

/// bartizan as a server.
pub(crate) fn own_info(title: Option<&str>) -> RawJson {
    let (name, version) = (RawJson::string("bartizan"), RawJson::string(env!("CARGO_PKG_VERSION")));
    let title = title.map(RawJson::string);
    let mut members = vec![("name", &name), ("version", &version)];
    members.extend(title.as_ref().map(|title| ("title", title)));
    RawJson::object(members)
}

type Found = [(Arc<ServerSpec>, Option<Arc<Discovered>>)];

fn union(snapshot: &Snapshot, portal: &PortalId, profile: &ClientProfile, found: &Found) -> RawJson {
    let title = snapshot.portals.get(portal).map(|portal| Arc::clone(&portal.name));
    let (info, capabilities) = (own_info(title.as_deref()), capabilities(found));
    let instructions = instructions(found).map(|text| RawJson::string(&text));
    let mut members = Vec::new();
    let (version, versions) = (RawJson::string(&profile.version), versions());
    let (complete, zero, private) = (RawJson::string("complete"), RawJson::int(0), RawJson::string("private"));
    let meta = RawJson::object([(meta_key::SERVER_INFO, &info)]);
    match profile.era {
        Era::Legacy => {
            members.extend([("protocolVersion", &version), ("capabilities", &capabilities), ("serverInfo", &info)])
        }
        Era::Modern => members.extend([
            ("resultType", &complete),
            ("supportedVersions", &versions),
            ("capabilities", &capabilities),
            ("ttlMs", &zero),
            ("cacheScope", &private),
            ("_meta", &meta),
        ]),
    }
    members.extend(instructions.as_ref().map(|text| ("instructions", text)));
    RawJson::object(members)
}

/// Tools always (the portal has its own); the rest when any server has it or may have
/// it. What a portal announces it can keep: lists change with the configuration, and
/// subscriptions are its own.
fn capabilities(found: &Found) -> RawJson {
    let any = |name: &str| {
        found.iter().any(|(_, found)| found.as_ref().is_none_or(|found| found.capabilities.get(name).is_some()))
    };
    let (yes, empty) = (RawJson::bool(true), RawJson::empty_object());
    let lists = RawJson::object([("listChanged", &yes)]);
    let resources = RawJson::object([("subscribe", &yes), ("listChanged", &yes)]);
    let mut members = vec![("tools", &lists)];
    for (name, value) in [("prompts", &lists), ("resources", &resources), ("completions", &empty), ("logging", &empty)]
    {
        if any(name) {
            members.push((name, value));
        }
    }
    RawJson::object(members)
}

/// Each server's instructions under its name, each and all of them capped.
fn instructions(found: &Found) -> Option<String> {
    let mut all = String::new();
    for (spec, found) in found {
        let Some(text) = found.as_ref().and_then(|found| found.instructions.as_deref()) else { continue };
        let text: String = text.trim().chars().take(INSTRUCTIONS_EACH).collect();
        let left = INSTRUCTIONS_ALL.saturating_sub(all.chars().count());
        if text.is_empty() || left == 0 {
            continue;
        }
        let part = format!("## {} ({})\n{text}\n\n", spec.name, spec.id);
        all.extend(part.chars().take(left));
    }
    (!all.is_empty()).then(|| all.trim_end().to_owned())
}
