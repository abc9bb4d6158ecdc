//! One module per command.

pub(crate) mod alert;
pub(crate) mod apply;
pub(crate) mod approval;
pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod break_glass;
pub(crate) mod ca;
pub(crate) mod check;
pub(crate) mod classify;
pub(crate) mod definition;
pub(crate) mod dev;
pub(crate) mod explain;
pub(crate) mod explain_code;
pub(crate) mod kill;
pub(crate) mod migrate;
pub(crate) mod reload;
pub(crate) mod restore;
pub(crate) mod serve;
pub(crate) mod simulate;
pub(crate) mod status;
pub(crate) mod stdio;
pub(crate) mod token;
pub(crate) mod upstream;
pub(crate) mod user;
