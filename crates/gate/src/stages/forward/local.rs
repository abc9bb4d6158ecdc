//! Tools that the gate answers itself.

use bartizan_accounts::AccountError;
use bartizan_model::Era;
use bartizan_wire::RawJson;
use futures_util::future::join_all;

use crate::exchange::Exchange;
use crate::portal_tools::{self, ServerLine};

/// `portal_list_servers`: the servers of the portal that the caller may use.
pub(crate) async fn list_servers(x: &Exchange) -> RawJson {
    let mut lines = x.gate.server_lines(&x.snapshot, &x.caller, x.endpoint.portal(), x.at_ms);
    join_all(lines.iter_mut().filter(|line| line.on).map(|line| account(x, line))).await;
    portal_tools::result(&lines, x.era() == Era::Modern)
}

/// Says where the caller has to connect an account first.
async fn account(x: &Exchange, line: &mut ServerLine) {
    let Some(spec) = x.snapshot.servers.get(&line.id) else { return };
    if let Err(AccountError::LoginNeeded) = x.gate.personal.ready(spec, &x.caller.principal).await {
        line.status = "login_needed";
        line.url = x.gate.personal.login_url(spec);
    }
}
