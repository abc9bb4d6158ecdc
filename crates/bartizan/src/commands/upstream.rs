//! `bartizan upstream test SERVER` (U7): goes the whole way to a server, step by step, and says
//! which one is at fault. Writes nothing; secrets are masked.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bartizan_accounts::{Found, Step, Trace, discover_traced, trusted};
use bartizan_bridge::{Browser, Obtain};
use bartizan_catalog::{Credential, OauthConfig, ServerSpec, Transport};
use bartizan_config::Environment;
use bartizan_config::suggest::nearest;
use bartizan_egress::Egress;
use bartizan_upstream::{Authority, ListKind, Target, UpstreamDeps, UpstreamError, Upstreams};
use bartizan_wire::{ClientProfile, Revision};
use http::HeaderValue;
use serde_json::{Value, json};

use crate::cli::UpstreamTest;
use crate::commands::check;
use crate::installation::{clock, read_valid};
use crate::logging;
use crate::output::{Done, FINDINGS, Failure, OK, Out};

/// What became of a step.
enum Verdict {
    Good(String),
    /// Not needed, or not tried.
    Skipped(String),
    Bad(String),
}

/// Steps and what became of them, in order.
#[derive(Default)]
struct Report {
    steps: Vec<(Step, Verdict)>,
}

/// The way ends here.
struct Ended;

impl Report {
    fn good(&mut self, step: Step, text: impl Into<String>) {
        self.steps.push((step, Verdict::Good(text.into())));
    }

    fn skipped(&mut self, step: Step, text: impl Into<String>) {
        self.steps.push((step, Verdict::Skipped(text.into())));
    }

    fn bad(&mut self, step: Step, text: impl Into<String>) -> Ended {
        self.steps.push((step, Verdict::Bad(text.into())));
        Ended
    }
}

pub(crate) async fn run(arguments: &UpstreamTest, out: Out) -> Done {
    logging::start(&Environment::from_process(), "error");
    let config: &Path = &arguments.config.config;
    let mut loaded = read_valid(config)?;
    let Some(snapshot) = check::compile(&mut loaded) else {
        eprint!("{}", loaded.report());
        return Err(Failure::cannot_run("invalid", format!("{} has errors", config.display())));
    };
    let id = arguments.server_id.as_str();
    let spec = snapshot.order.iter().find(|spec| spec.id.as_str() == id).ok_or_else(|| {
        let near = nearest(id, snapshot.order.iter().map(|spec| spec.id.as_str()));
        let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        Failure::refused("unknown_server", format!("there is no server `{id}`{hint}"))
    })?;
    let connect = Duration::from_millis(loaded.file.limits.connect_ms);
    let egress = Egress::new(&loaded.file.egress, connect)
        .map_err(|error| Failure::cannot_run("bad_egress", error.to_string()))?;
    let upstreams = Upstreams::new(UpstreamDeps {
        egress: egress.clone(),
        limits: loaded.file.limits.clone(),
        clock: clock(),
        child_program: std::env::current_exe().ok(),
        environment: std::env::vars_os().collect(),
    });
    let (trace, mut report) = (Trace::default(), Report::default());
    let walk = Walk { spec, egress: &egress, upstreams: &upstreams, trace: &trace, arguments };
    let ended = walk.go(&mut report).await;
    upstreams.shutdown().await;
    let good = ended.is_ok();
    show(&report, &trace, id, good, out);
    Ok(if good { OK } else { FINDINGS })
}

struct Walk<'a> {
    spec: &'a Arc<ServerSpec>,
    egress: &'a Egress,
    upstreams: &'a Upstreams,
    trace: &'a Trace,
    arguments: &'a UpstreamTest,
}

/// A token that was just issued.
struct Bearer(HeaderValue);

impl Authority for Bearer {
    fn current(&self) -> Option<HeaderValue> {
        Some(self.0.clone())
    }
}

impl Walk<'_> {
    async fn go(&self, report: &mut Report) -> Result<(), Ended> {
        let authority: Option<Arc<dyn Authority>> = match (&self.spec.transport, &self.spec.credential) {
            (Transport::Http { url, .. }, Credential::OauthUser(config)) => {
                let found = self.discover(url, config, report).await?;
                if !self.arguments.sign_in {
                    registration(&found, config, report)?;
                    report.skipped(Step::Authorize, "not tried: give --sign-in and use a browser on this machine");
                    report.skipped(Step::Handshake, "not tried without a token");
                    return Ok(());
                }
                Some(self.sign_in(&found, config, report).await?)
            }
            (_, Credential::None | Credential::Headers(_)) => {
                report.skipped(Step::Challenge, "no sign-in: the server's credential is configured, or it needs none");
                None
            }
            (Transport::Http { .. }, Credential::Assertion(_)) => return self.guarded(report).await,
            _ => {
                report.skipped(Step::Challenge, "the credential's strategy needs a caller, and this command is none");
                // Without it the server would refuse, and be blamed for what is right.
                report.skipped(Step::Handshake, "not tried without a credential");
                return Ok(());
            }
        };
        self.mcp(authority, report).await
    }

    /// A server that believes assertions has to refuse whoever brings none (P59): else anybody who reaches it goes
    /// past the gateway.
    async fn guarded(&self, report: &mut Report) -> Result<(), Ended> {
        let asks: Arc<str> = "service:bartizan".into();
        let target =
            Target { spec: Arc::clone(self.spec), principal: Arc::clone(&asks), caller: asks, authority: None };
        let profile = Arc::new(ClientProfile::plain(Revision::V2025_11_25));
        match self.upstreams.discover(&target, &profile).await {
            Ok(_) => {
                let text = "open origin: the server answers without an assertion, so whoever reaches it goes past \
                            the gateway; guard it (docs/how-to/guard-an-origin.md)";
                return Err(report.bad(Step::Challenge, text));
            }
            Err(UpstreamError::Auth { status, .. }) => {
                report.good(Step::Challenge, format!("{status} without an assertion, as it should be"));
            }
            Err(error) => return Err(report.bad(Step::Challenge, format!("not known whether it is open: {error}"))),
        }
        // Assertions are about callers, and this command is none.
        report.skipped(Step::Handshake, "not tried without a caller");
        Ok(())
    }

    async fn discover(&self, url: &str, config: &OauthConfig, report: &mut Report) -> Result<Found, Ended> {
        match discover_traced(self.egress, url, config.issuer.as_deref(), &config.scopes, self.trace).await {
            Ok(found) => {
                let first = self.trace.exchanges().first().and_then(|first| first.status);
                match first {
                    Some(401) => report.good(Step::Challenge, "401, as it should be"),
                    Some(status) => {
                        report.good(Step::Challenge, format!("status {status} without a token: no challenge"))
                    }
                    None => report.skipped(Step::Challenge, "no answer"),
                }
                report.good(Step::ResourceMetadata, format!("resource {}", found.resource));
                report.good(Step::ServerMetadata, format!("issuer {}", found.metadata.issuer));
                Ok(found)
            }
            Err(error) => {
                for step in Step::ALL.iter().take_while(|step| **step < self.trace.step()) {
                    report.good(*step, "");
                }
                Err(report.bad(self.trace.step(), error.to_string()))
            }
        }
    }

    async fn sign_in(
        &self,
        found: &Found,
        config: &OauthConfig,
        report: &mut Report,
    ) -> Result<Arc<dyn Authority>, Ended> {
        let open = match &self.arguments.browser {
            Some(program) if !program.is_empty() => Browser::Program(program.clone()),
            _ => Browser::Desktop,
        }
        .opener();
        trusted(config, &found.metadata.issuer).map_err(|error| report.bad(Step::Registration, error.to_string()))?;
        let client = config.client_id.as_deref().map(|id| (id, config.client_secret.as_ref()));
        bartizan_bridge::tell_with(|text| eprintln!("{text}"));
        let obtain = Obtain { egress: self.egress, found, client, former: None, open: &open, trace: self.trace };
        let done = obtain.run().await;
        for step in [Step::Registration, Step::Authorize] {
            if done.is_ok() || step < self.trace.step() {
                report.good(step, "");
            }
        }
        let obtained = done.map_err(|error| report.bad(self.trace.step(), error.to_string()))?;
        let answer = obtained.answer;
        let life = answer.expires_in_s.map_or_else(|| "of unknown life".to_owned(), |life| format!("for {life} s"));
        let scope = answer.scope.as_deref().unwrap_or("as asked");
        let refresh = if answer.refresh_token.is_some() { "with" } else { "without" };
        report.good(Step::Token, format!("a token {life}, {refresh} a refresh token, scope {scope}"));
        let header = HeaderValue::try_from(format!("Bearer {}", answer.access_token.expose()));
        let mut header =
            header.map_err(|_| report.bad(Step::Token, "the token holds characters that no header may"))?;
        header.set_sensitive(true);
        Ok(Arc::new(Bearer(header)))
    }

    /// The server itself.
    async fn mcp(&self, authority: Option<Arc<dyn Authority>>, report: &mut Report) -> Result<(), Ended> {
        let asks: Arc<str> = "service:bartizan".into();
        let target = Target { spec: Arc::clone(self.spec), principal: Arc::clone(&asks), caller: asks, authority };
        let profile = Arc::new(ClientProfile::plain(Revision::V2025_11_25));
        let failed = |step, error: UpstreamError, report: &mut Report| match error {
            UpstreamError::Auth { status, .. } => {
                report.bad(Step::Token, format!("the server refuses the credential with status {status}"))
            }
            error => report.bad(step, error.to_string()),
        };
        let discovered = self.upstreams.discover(&target, &profile).await;
        let discovered = discovered.map_err(|error| failed(Step::Handshake, error, report))?;
        report.good(Step::Handshake, format!("{} ({})", discovered.revision.as_str(), discovered.era.as_str()));
        let mut texts = Vec::new();
        for (kind, word) in [
            (ListKind::Tools, "tools"),
            (ListKind::Prompts, "prompts"),
            (ListKind::Resources, "resources"),
            (ListKind::Templates, "resource templates"),
        ] {
            let listed = self.upstreams.list(&target, kind, &profile).await;
            let listed = listed.map_err(|error| failed(Step::Lists, error, report))?;
            texts.push(format!("{} {word}", listed.items.len()));
        }
        report.good(Step::Lists, texts.join(", "));
        Ok(())
    }
}

/// Whether there is a way to a client identity.
fn registration(found: &Found, config: &OauthConfig, report: &mut Report) -> Result<(), Ended> {
    let metadata = &found.metadata;
    if let Err(error) = metadata.require_s256() {
        return Err(report.bad(Step::ServerMetadata, error.to_string()));
    }
    if let Err(error) = trusted(config, &metadata.issuer) {
        return Err(report.bad(Step::Registration, error.to_string()));
    }
    let ways = [
        (config.client_id.is_some(), "a client is configured"),
        (metadata.client_id_metadata_document_supported, "by our client's document (CIMD)"),
        (metadata.registration_endpoint.is_some(), "by registration (RFC 7591)"),
    ];
    match ways.iter().find(|(there, _)| *there) {
        Some((_, way)) => report.good(Step::Registration, *way),
        None => {
            let text = "the server takes no client's document and registers none: make one by hand and set `auth_config.client_id`";
            return Err(report.bad(Step::Registration, text));
        }
    }
    Ok(())
}

fn show(report: &Report, trace: &Trace, server: &str, good: bool, out: Out) {
    let exchanges = trace.exchanges();
    let steps: Vec<Value> = report
        .steps
        .iter()
        .map(|(step, verdict)| {
            let (word, text) = match verdict {
                Verdict::Good(text) => ("ok", text),
                Verdict::Skipped(text) => ("skipped", text),
                Verdict::Bad(text) => ("failed", text),
            };
            let of_step = exchanges.iter().filter(|exchange| exchange.step == *step);
            let exchanges: Vec<Value> = of_step
                .map(|one| json!({"request": one.request, "sent": one.sent, "status": one.status, "answer": one.answer}))
                .collect();
            json!({"step": step.as_str(), "section": step.section(), "verdict": word, "text": text, "exchanges": exchanges})
        })
        .collect();
    let blamed = report.steps.iter().find(|(_, verdict)| matches!(verdict, Verdict::Bad(_)));
    let value =
        json!({"server_id": server, "ok": good, "failed": blamed.map(|(step, _)| step.as_str()), "steps": steps});
    out.either(&value, || text(&steps));
}

fn text(steps: &[Value]) -> String {
    let mut out = String::new();
    for step in steps {
        let of = |name: &str| step[name].as_str().unwrap_or_default();
        let mark = match of("verdict") {
            "ok" => "ok    ",
            "failed" => "FAILED",
            _ => "-     ",
        };
        out.push_str(&format!("{mark} {:<18} {}\n", of("step"), of("text")));
        if of("verdict") != "failed" {
            continue;
        }
        out.push_str(&format!("       see {}\n", of("section")));
        for exchange in step["exchanges"].as_array().into_iter().flatten() {
            let status =
                exchange["status"].as_u64().map_or_else(|| "no answer".to_owned(), |status| status.to_string());
            out.push_str(&format!("       {} -> {status}\n", exchange["request"].as_str().unwrap_or_default()));
            for line in exchange["answer"].as_str().unwrap_or_default().lines().take(20) {
                out.push_str(&format!("         {line}\n"));
            }
        }
    }
    out
}
