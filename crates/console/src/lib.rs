//! Pages for people and the endpoints behind them: home, sign-in, consent, account, and
//! the HTTP side of the authorization server. Rendered on the server, usable without script.
//!
//! Must never decide: what it shows and does comes from `identity`.
