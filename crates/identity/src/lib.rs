//! Who is calling: service tokens (feature row A11) and, in `dev`, demo users.
//!
//! A credential goes in and a [`Principal`](bartizan_model::Principal) comes out. The
//! credential itself never does (A18): nothing in this crate hands it on, logs it or
//! keeps more of it than a hash.

mod authenticate;
mod break_glass;
mod credential;
mod error;
mod event;
mod facts;
mod login;
mod problem;
mod sealing;
mod secret;
mod server;
mod tokens;

pub use authenticate::{Authenticated, GrantInfo, Held, Identity};
pub use break_glass::{
    BreakGlass, BreakGlassError, Created as BreakGlassCreated, GROUP as BREAK_GLASS_GROUP,
    PROVIDER as BREAK_GLASS_PROVIDER, Standing as BreakGlassStanding, Witness,
};
pub use credential::{CREDENTIAL_HEADERS, strip_credentials};
pub use error::{AuthError, AuthErrorKind};
pub use event::{Action, IdentityEvent, Recorder};
pub use facts::KeptFacts;
pub use login::{
    Ask, Begin, BrowserSession, BrowserSessions, DemoUser, KnownProvider, LocalPath, Login, LoginDeps, Person,
    ProviderSignOut, ProviderView, Providers, ReturnTo, SignedIn, StepUpNext, StepUpView, SubjectKind, SubjectProblem,
};
pub use problem::PageProblem;
pub use sealing::GrantKeys;
pub use server::fresh::{Again, AskAgain, AtRefresh, Entrance, MayEnter};
pub use server::step_up::{MAX_PURPOSE, Opened, StepUp, StepUpError, StepUps, Want};
pub use server::{Agents, Machines};
pub use server::{
    ApprovedClient, AuthorizationServer, AuthorizationServerDeps, ClientKind, Clients, ConsentView, IsResource, SCOPES,
    ScopeView, SignedOut, Step,
};
pub use tokens::{MAX_IDLE, TokenError, TokenInfo, Tokens};
