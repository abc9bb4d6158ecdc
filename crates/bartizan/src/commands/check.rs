//! `bartizan check` (U4): everything a start would find, all at once, without starting.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bartizan_catalog::{CompileOptions, Snapshot};
use bartizan_config::settings::Egress as Settings;
use bartizan_config::{Diagnostic, Environment, Loaded, Severity, checks, render};
use bartizan_egress::{Egress, Resolve, SystemResolver};
use bartizan_store::Store;
use bartizan_vault::KeyRing;

use crate::cli::{Check, Format};
use crate::installation::{Places, clock, read};
use crate::output::{Done, FINDINGS, OK, Out};

/// Longest wait for one name.
const RESOLVE: Duration = Duration::from_secs(5);

pub(crate) async fn run(arguments: &Check, out: Out) -> Done {
    let mut loaded = read(&arguments.config.config, &[])?;
    examine(&mut loaded);
    if !arguments.offline {
        reach(&mut loaded).await;
    }
    let report = loaded.report();
    let format = match (out.json, arguments.format) {
        (true, _) | (_, Format::Json) => render::Format::Json,
        (_, Format::Text) => render::Format::Text,
        (_, Format::Github) => render::Format::Github,
        (_, Format::Sarif) => render::Format::Sarif,
    };
    out.text(&render::report(&report, format, out.color()));
    if report.is_empty() && format == render::Format::Text {
        out.note(&summary(&arguments.config.config, &loaded));
    }
    Ok(if report.is_empty() { OK } else { FINDINGS })
}

fn summary(path: &Path, loaded: &Loaded) -> String {
    let resources = &loaded.resources;
    format!(
        "{}: no problems ({} servers, {} portals, {} policies, {} grants)",
        path.display(),
        resources.servers.len(),
        resources.portals.len(),
        resources.policies.len(),
        resources.grants.len()
    )
}

/// All checks that need nothing but this machine. Returns the compiled resources if they can be used.
pub(crate) fn examine(loaded: &mut Loaded) -> Option<Snapshot> {
    let findings = key(loaded);
    loaded.add(findings, Severity::Error);
    let findings = egress(&loaded.file.egress);
    loaded.add(findings, Severity::Error);
    let findings = loaded.scim_tokens(&Environment::from_process()).err().unwrap_or_default();
    loaded.add(findings, Severity::Error);
    examine_again(loaded)
}

/// The checks of a reload: keys and certificate authorities were read at the start, and
/// their files need not be there any more.
pub(crate) fn examine_again(loaded: &mut Loaded) -> Option<Snapshot> {
    let findings = checks::serve(&loaded.file);
    loaded.add(findings, Severity::Error);
    let findings = alerts(loaded);
    loaded.add(findings, Severity::Error);
    compile(loaded)
}

fn alerts(loaded: &Loaded) -> Vec<Diagnostic> {
    let (_, problems) = bartizan_alerts::Rules::compile(&loaded.filled().alerts);
    problems.into_iter().map(|problem| Diagnostic::new(problem.path, "bad_alert", problem.message)).collect()
}

/// The guard is built once per entry, so that every bad one is named at its place.
fn egress(settings: &Settings) -> Vec<Diagnostic> {
    let wrong = |path: String, only: Settings| {
        let error = Egress::new(&only, RESOLVE).err()?;
        Some(Diagnostic::new(path, "bad_egress", error.to_string()))
    };
    let allow = settings.private_allow.iter().enumerate().filter_map(|(at, entry)| {
        let only = Settings { private_allow: vec![entry.clone()], ..Settings::default() };
        wrong(format!("egress.private_allow[{at}]"), only)
    });
    let files = settings.ca_files.iter().enumerate().filter_map(|(at, file)| {
        let only = Settings { ca_files: vec![file.clone()], ..Settings::default() };
        wrong(format!("egress.ca_files[{at}]"), only)
    });
    let proxy = settings.proxy.iter().filter_map(|proxy| {
        wrong("egress.proxy".to_owned(), Settings { proxy: Some(proxy.clone()), ..Settings::default() })
    });
    allow.chain(files).chain(proxy).collect()
}

/// Compiles the resources; what is wrong with them goes to the report.
pub(crate) fn compile(loaded: &mut Loaded) -> Option<Snapshot> {
    let options = CompileOptions { dev: false, hosting: loaded.file.hosting.enabled };
    match Snapshot::compile(&loaded.filled(), &options, clock().now_ms()) {
        Ok(snapshot) => {
            loaded.add(snapshot.warnings.iter().cloned(), Severity::Warning);
            Some(snapshot)
        }
        Err(findings) => {
            loaded.add(findings, Severity::Error);
            None
        }
    }
}

fn key(loaded: &Loaded) -> Option<Diagnostic> {
    let source = loaded.file.key.as_ref()?;
    match KeyRing::from_source(source) {
        Ok(ring) if ring.is_demo() => {
            let message = "the key is a demo key; anybody could open what it seals";
            Some(Diagnostic::new("key", "demo_key", message).suggest("make one: head -c 32 /dev/urandom > FILE"))
        }
        Ok(_) => None,
        Err(error) => Some(Diagnostic::new("key", "bad_key", error.to_string())),
    }
}

/// Checks that reach others: the database, and the names of servers.
async fn reach(loaded: &mut Loaded) {
    let mut findings = Vec::new();
    match Places::of(loaded) {
        Ok(places) => {
            if let Err(error) = Store::plan(&places.url).await {
                findings.push(Diagnostic::new("store.url", "bad_store", error.to_string()));
            }
        }
        Err(failure) => findings.push(Diagnostic::new("store.url", "bad_store", failure.message)),
    }
    if loaded.file.egress.proxy.is_none() {
        // With a proxy, names are its business.
        findings.extend(names(loaded).await);
    }
    loaded.add(findings, Severity::Error);
}

async fn names(loaded: &Loaded) -> Vec<Diagnostic> {
    let resolver = Arc::new(SystemResolver::new());
    let servers = loaded.resources.servers.iter().enumerate();
    let lookups = servers.filter_map(|(index, server)| {
        let url = bartizan_egress::Url::parse(server.hostname.as_deref()?).ok()?;
        let bartizan_egress::Host::Name(name) = url.host().clone() else { return None };
        let resolver = Arc::clone(&resolver);
        Some(async move {
            let wrong = match tokio::time::timeout(RESOLVE, resolver.resolve(&name)).await {
                Ok(Ok(addresses)) if addresses.is_empty() => format!("`{name}` has no address"),
                Ok(Ok(_)) => return None,
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("`{name}` was not resolved in time"),
            };
            Some(Diagnostic::new(format!("servers[{index}].hostname"), "unreachable_host", wrong))
        })
    });
    futures_util::future::join_all(lookups).await.into_iter().flatten().collect()
}
