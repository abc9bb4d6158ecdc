//! Tools that the gate answers itself.

use bartizan_model::Era;
use bartizan_wire::RawJson;

use crate::exchange::Exchange;
use crate::portal_tools;

/// `portal_list_servers`: the servers of the portal that the caller may use.
pub(crate) fn list_servers(x: &Exchange) -> RawJson {
    let lines = x.gate.server_lines(&x.snapshot, &x.caller, x.endpoint.portal(), x.at_ms);
    portal_tools::result(&lines, x.era() == Era::Modern)
}
