//! The `requestState` of a modern client's next round: it must be ours, unchanged, and
//! for exactly this principal, endpoint, server and call (protocol.md 3.7).

use bartizan_model::Era;

use crate::exchange::{Exchange, Reject};
use crate::request_state::{Binding, State, StateError, call_digest, purpose};
use crate::stages::Stage;
use crate::stages::forward::state_error;

/// Opens the state, if there is one. Using it up is left to `forward`: a refusal of a
/// later stage must not cost the caller the round.
///
/// # Errors
/// [`Reject`] with -32602 for every cause.
pub(super) fn open(x: &mut Exchange) -> Result<(), Reject> {
    let (Era::Modern, Some(sealed)) = (x.era(), x.params.request_state.as_deref()) else { return Ok(()) };
    let refuse = |error: StateError| Err(Reject::rpc(Stage::Route, state_error(), error.to_string()));
    let Some(server) = x.route.as_ref().and_then(|route| route.server()) else { return refuse(StateError::Call) };
    let Ok(opened) = x.gate.handles.open(&purpose(&x.endpoint), sealed) else { return refuse(StateError::Forged) };
    let digest = call_digest(x.method(), &x.params);
    let binding = Binding {
        endpoint: &x.endpoint,
        server: &server.id,
        principal: x.caller.principal.key(),
        method: x.method(),
        digest: &digest,
    };
    match State::check(&opened, &binding, x.gate.clock.now_ms()) {
        Ok(state) => {
            x.resume = Some(state);
            Ok(())
        }
        Err(error) => refuse(error),
    }
}
