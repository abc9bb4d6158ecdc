//! First contact: Host, Origin, who is at the other end, how large a body may be.
//! Nothing of the body is looked at here, and nobody is authenticated yet.

mod body;
mod door;
mod peer;

pub(crate) use body::{BodyError, discard_rest, read_body};
pub(crate) use door::{Door, DoorError};
pub(crate) use peer::{client_address, is_trusted};
