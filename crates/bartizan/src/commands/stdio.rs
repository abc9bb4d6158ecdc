//! `bartizan stdio URL` (U14).

use std::sync::Arc;

use bartizan_bridge::{Bridge, BridgeDeps, BridgeError, Browser, Keys, MemoryKeys, SystemKeys};
use bartizan_config::Environment;
use bartizan_model::Secret;

use crate::cli::Stdio;
use crate::installation::clock;
use crate::output::{Done, Failure, OK, Out};

/// A token to use instead of signing in, for machines without a person.
const TOKEN: &str = "BARTIZAN_TOKEN";

pub(crate) async fn run(arguments: &Stdio, out: Out) -> Done {
    let keys: Arc<dyn Keys> = if arguments.no_keep { Arc::new(MemoryKeys::default()) } else { Arc::new(SystemKeys) };
    if arguments.forget {
        keys.forget(&arguments.url);
        out.note("forgotten");
        return Ok(OK);
    }
    let browser = match &arguments.browser {
        _ if arguments.no_browser => Browser::None,
        Some(program) if !program.is_empty() => Browser::Program(program.clone()),
        _ => Browser::Desktop,
    };
    // stdout is for messages alone.
    bartizan_bridge::tell_with(|text| eprintln!("{text}"));
    let bridge = Bridge::new(BridgeDeps {
        url: arguments.url.clone(),
        ca_files: arguments.ca_files.clone(),
        clock: clock(),
        keys,
        open: browser.opener(),
        client_id: arguments.client_id.clone(),
        token: Environment::from_process()
            .get(TOKEN)
            .filter(|token| !token.is_empty())
            .map(|it| Secret::new(it.to_owned())),
    })
    .map_err(failure)?;
    bridge.run(tokio::io::stdin(), tokio::io::stdout()).await.map_err(failure)?;
    Ok(OK)
}

fn failure(error: BridgeError) -> Failure {
    let code = match &error {
        BridgeError::Url(_) => "bad_url",
        BridgeError::Unreachable(_) => "unreachable",
        BridgeError::SignIn(_) => "not_signed_in",
        BridgeError::Stdio(_) => "failed",
    };
    Failure::cannot_run(code, error.to_string())
}
