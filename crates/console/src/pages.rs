//! The pages, as values: what a template shows has been bounded and cleaned here, and is
//! escaped by the template.

pub(crate) mod approvals;

use askama::Template;
use bartizan_identity::{ClientKind, ConsentView, DemoUser, PageProblem, ProviderView, StepUpView, Want};

use crate::clients::{Guide, Line};
use crate::selection::{self, SelectionLine};
use crate::text;
use crate::upstream::{ConnectView, TypedView};

/// What surrounds every page.
#[derive(Clone, Debug)]
pub(crate) struct Chrome {
    /// Name of the installation.
    pub(crate) brand: String,
    /// Path before all of ours; mostly empty.
    pub(crate) base: String,
    /// Changes when an asset changes.
    pub(crate) version: &'static str,
    /// Who is signed in.
    pub(crate) person: Option<Visitor>,
    /// Where to sign in, where that is offered.
    pub(crate) sign_in: Option<String>,
    /// Whom to ask.
    pub(crate) support: Option<String>,
}

/// Somebody signed in, as the bar shows it.
#[derive(Clone, Debug)]
pub(crate) struct Visitor {
    pub(crate) email: String,
    pub(crate) csrf: String,
}

/// Hidden fields of a form: where to go on after signing in.
pub(crate) type Fields = Vec<(&'static str, String)>;

#[derive(Template)]
#[template(path = "home.html")]
pub(crate) struct Home {
    pub(crate) chrome: Chrome,
    pub(crate) title: String,
    pub(crate) lead: String,
    /// Somebody opened the endpoint itself in a browser.
    pub(crate) explain: bool,
    pub(crate) endpoint: Option<String>,
    pub(crate) guides: Vec<Guide>,
    pub(crate) account: String,
}

/// One provider to choose.
pub(crate) struct Choice {
    pub(crate) name: String,
    pub(crate) href: String,
}

#[derive(Template)]
#[template(path = "choose.html")]
pub(crate) struct Choose {
    pub(crate) chrome: Chrome,
    pub(crate) providers: Vec<Choice>,
    pub(crate) fields: Fields,
    /// An address was given that no provider speaks for.
    pub(crate) unknown: bool,
}

impl Choose {
    pub(crate) fn new(
        chrome: Chrome,
        providers: &[ProviderView],
        fields: Fields,
        href: impl Fn(&str) -> String,
    ) -> Self {
        let choice = |it: &ProviderView| Choice { name: text::name(&it.name, &it.id), href: href(&it.id) };
        Self { chrome, providers: providers.iter().map(choice).collect(), fields, unknown: false }
    }
}

/// One person to be in a demo.
pub(crate) struct DemoChoice {
    pub(crate) email: String,
    pub(crate) name: String,
    pub(crate) groups: String,
}

#[derive(Template)]
#[template(path = "break_glass.html")]
pub(crate) struct BreakGlass {
    pub(crate) chrome: Chrome,
    pub(crate) fields: Fields,
}

#[derive(Template)]
#[template(path = "demo.html")]
pub(crate) struct Demo {
    pub(crate) chrome: Chrome,
    pub(crate) users: Vec<DemoChoice>,
    pub(crate) fields: Fields,
}

impl Demo {
    pub(crate) fn new(chrome: Chrome, users: &[DemoUser], fields: Fields) -> Self {
        let choice = |user: &DemoUser| DemoChoice {
            email: user.email.clone(),
            name: text::name(&user.name, &user.email),
            groups: list(&user.groups),
        };
        Self { chrome, users: users.iter().map(choice).collect(), fields }
    }
}

#[derive(Template)]
#[template(path = "onward.html")]
pub(crate) struct Onward {
    pub(crate) chrome: Chrome,
    pub(crate) title: &'static str,
    pub(crate) url: String,
}

#[derive(Template)]
#[template(path = "consent.html")]
pub(crate) struct Consent {
    pub(crate) chrome: Chrome,
    pub(crate) csrf: String,
    pub(crate) transaction: String,
    pub(crate) client: String,
    pub(crate) target: String,
    pub(crate) client_host: Option<String>,
    pub(crate) vouched: &'static str,
    pub(crate) loopback_only: bool,
    pub(crate) scopes: Vec<String>,
    pub(crate) resource: String,
}

/// Longest host name (RFC 1035 section 2.3.4) with a port.
const HOST: usize = 260;
/// Scopes that are shown.
const SCOPES: usize = 30;

impl Consent {
    pub(crate) fn new(chrome: Chrome, view: &ConsentView) -> Self {
        let csrf = chrome.person.as_ref().map(|person| person.csrf.clone()).unwrap_or_default();
        let vouched = match view.kind {
            ClientKind::Preregistered => "set by your administrator",
            ClientKind::Document => "chosen by the client at this address",
            ClientKind::Registered => "chosen by the client, not checked",
        };
        Self {
            chrome,
            csrf,
            transaction: view.transaction.clone(),
            client: text::name(&view.client_name, "a client without a name"),
            target: target(&view.redirect_host),
            client_host: view.client_host.as_ref().map(|host| text::shown(host, HOST)),
            vouched,
            loopback_only: view.loopback_only,
            scopes: view.scopes.iter().map(|scope| text::shown(&scope.text, text::SENTENCE)).collect(),
            resource: text::shown(&view.resource, text::SENTENCE),
        }
    }
}

/// A redirect host in words; of a custom scheme only the scheme is known.
pub(crate) fn target(host: &str) -> String {
    let host = text::shown(host, HOST);
    match host.as_str() {
        "localhost" | "127.0.0.1" | "[::1]" => format!("a program on your computer ({host})"),
        scheme if scheme.ends_with(':') => format!("the app on your computer that opens {scheme} links"),
        _ => host,
    }
}

#[derive(Template)]
#[template(path = "connect.html")]
pub(crate) struct Connect {
    pub(crate) chrome: Chrome,
    pub(crate) csrf: String,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) origin: String,
    pub(crate) scopes: Vec<String>,
    /// What is agreed to, sealed.
    pub(crate) shown: String,
    /// It was something else when the person looked.
    pub(crate) changed: bool,
    /// An account is connected already.
    pub(crate) ready: bool,
    pub(crate) return_to: Option<String>,
    /// Where to go instead.
    pub(crate) later: String,
}

impl Connect {
    pub(crate) fn new(chrome: Chrome, view: &ConnectView, ready: bool, return_to: Option<String>) -> Self {
        Self {
            csrf: chrome.person.as_ref().map(|person| person.csrf.clone()).unwrap_or_default(),
            id: view.id.clone(),
            name: text::name(&view.name, &view.id),
            origin: text::shown(&view.origin, HOST),
            scopes: view.scopes.iter().take(SCOPES).map(|scope| text::shown(scope, text::NAME)).collect(),
            shown: view.shown.clone(),
            changed: false,
            ready,
            return_to,
            later: format!("{}/account", chrome.base),
            chrome,
        }
    }
}

/// A form for a token that the person has from the server (P17).
#[derive(Template)]
#[template(path = "connect_token.html")]
pub(crate) struct ConnectToken {
    pub(crate) chrome: Chrome,
    pub(crate) csrf: String,
    pub(crate) id: String,
    pub(crate) name: String,
    /// A web link, checked with the configuration.
    pub(crate) help_url: Option<String>,
    pub(crate) return_to: Option<String>,
}

impl ConnectToken {
    pub(crate) fn new(chrome: Chrome, view: &TypedView, return_to: Option<String>) -> Self {
        Self {
            csrf: chrome.person.as_ref().map(|person| person.csrf.clone()).unwrap_or_default(),
            id: view.id.clone(),
            name: text::name(&view.name, &view.id),
            help_url: view.help_url.clone(),
            return_to,
            chrome,
        }
    }
}

#[derive(Template)]
#[template(path = "connected.html")]
pub(crate) struct Connected {
    pub(crate) chrome: Chrome,
    pub(crate) name: String,
}

impl Connected {
    pub(crate) fn new(chrome: Chrome, name: &str) -> Self {
        Self { chrome, name: text::name(name, "the server") }
    }
}

/// One client somebody has allowed.
pub(crate) struct Allowed {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) lines: Vec<String>,
}

/// One account at a server.
pub(crate) struct Linked {
    pub(crate) id: String,
    pub(crate) name: String,
    /// It can be connected again.
    pub(crate) reachable: bool,
    pub(crate) lines: Vec<String>,
}

#[derive(Template)]
#[template(path = "account.html")]
pub(crate) struct Account {
    pub(crate) chrome: Chrome,
    pub(crate) csrf: String,
    pub(crate) name: Option<String>,
    pub(crate) email: String,
    pub(crate) groups: String,
    pub(crate) signed_in: String,
    pub(crate) clients: Vec<Allowed>,
    pub(crate) accounts: Vec<Linked>,
}

#[derive(Template)]
#[template(path = "signed_out.html")]
pub(crate) struct SignedOut {
    pub(crate) chrome: Chrome,
}

/// A server to switch on or off.
pub(crate) struct Switch {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) on: bool,
    pub(crate) fixed: bool,
    pub(crate) added: bool,
    pub(crate) connect: bool,
}

impl Switch {
    fn new(line: &SelectionLine) -> Self {
        let SelectionLine { id, name, on, fixed, added, connect } = line;
        Self { id: id.clone(), name: text::name(name, id), on: *on, fixed: *fixed, added: *added, connect: *connect }
    }
}

/// Which servers of a portal are on (P36).
#[derive(Template)]
#[template(path = "selection.html")]
pub(crate) struct Selection {
    pub(crate) chrome: Chrome,
    pub(crate) csrf: String,
    pub(crate) handle: String,
    pub(crate) portal: String,
    pub(crate) servers: Vec<Switch>,
}

impl Selection {
    pub(crate) fn new(chrome: Chrome, view: &selection::Selection, handle: &str) -> Self {
        Self {
            csrf: chrome.person.as_ref().map(|person| person.csrf.clone()).unwrap_or_default(),
            handle: handle.to_owned(),
            portal: text::name(&view.portal, "this portal"),
            servers: view.servers.iter().map(Switch::new).collect(),
            chrome,
        }
    }
}

/// After the choice.
#[derive(Template)]
#[template(path = "selection_done.html")]
pub(crate) struct SelectionDone {
    pub(crate) chrome: Chrome,
    pub(crate) portal: String,
    pub(crate) on: usize,
    pub(crate) all: usize,
    pub(crate) connect: Vec<Switch>,
}

impl SelectionDone {
    pub(crate) fn new(chrome: Chrome, view: &selection::Selection) -> Self {
        let missing = |line: &&SelectionLine| line.on && line.connect;
        Self {
            chrome,
            portal: text::name(&view.portal, "this portal"),
            on: view.servers.iter().filter(|line| line.on).count(),
            all: view.servers.len(),
            connect: view.servers.iter().filter(missing).map(Switch::new).collect(),
        }
    }
}

/// What a link for more asks (A16, A17).
#[derive(Template)]
#[template(path = "step_up.html")]
pub(crate) struct StepUp {
    pub(crate) chrome: Chrome,
    pub(crate) csrf: String,
    pub(crate) action: String,
    pub(crate) about: String,
    pub(crate) client: String,
    pub(crate) provider: String,
    pub(crate) purpose: bool,
    /// How young the second factor must be.
    pub(crate) age: String,
}

#[derive(Template)]
#[template(path = "step_up_done.html")]
pub(crate) struct StepUpDone {
    pub(crate) chrome: Chrome,
    pub(crate) about: String,
    pub(crate) client: String,
    pub(crate) purpose: bool,
}

impl StepUp {
    pub(crate) fn new(chrome: Chrome, handle: &str, view: &StepUpView) -> Self {
        let csrf = chrome.person.as_ref().map(|person| person.csrf.clone()).unwrap_or_default();
        let (purpose, age) = match &view.want {
            Want::Purpose => (true, String::new()),
            Want::Mfa { max_age_s, .. } => (false, span(*max_age_s)),
        };
        Self {
            csrf,
            action: format!("{}/step-up/{handle}", chrome.base),
            chrome,
            about: text::name(&view.about, "something that this gateway protects"),
            client: text::name(&view.client_name, "a client without a name"),
            provider: text::name(&view.provider_name, "your identity provider"),
            purpose,
            age,
        }
    }
}

impl StepUpDone {
    pub(crate) fn new(chrome: Chrome, view: &StepUpView) -> Self {
        Self {
            chrome,
            about: text::name(&view.about, "what you asked for"),
            client: text::name(&view.client_name, "your client"),
            purpose: view.want == Want::Purpose,
        }
    }
}

/// A time in words.
fn span(seconds: u32) -> String {
    let (count, unit) = match seconds {
        u32::MAX => return "as long as this access lasts".to_owned(),
        0..=119 => (seconds, "seconds"),
        120..=7_199 => (seconds / 60, "minutes"),
        7_200..=172_799 => (seconds / 3_600, "hours"),
        _ => (seconds / 86_400, "days"),
    };
    format!("{count} {unit}")
}

#[derive(Template)]
#[template(path = "left.html")]
pub(crate) struct Left {
    pub(crate) chrome: Chrome,
    pub(crate) browsers: usize,
    pub(crate) clients: usize,
    pub(crate) accounts: usize,
    /// Where one signs out at the provider.
    pub(crate) provider: Option<String>,
    /// The browser goes there by itself.
    pub(crate) at_once: bool,
}

#[derive(Template)]
#[template(path = "problem.html")]
pub(crate) struct Problem {
    pub(crate) chrome: Chrome,
    pub(crate) title: String,
    pub(crate) text: String,
    pub(crate) hint: String,
    pub(crate) code: &'static str,
    pub(crate) event: String,
}

impl Problem {
    pub(crate) fn new(chrome: Chrome, problem: &PageProblem, event: String) -> Self {
        Self {
            chrome,
            title: text::shown(&problem.title, text::NAME * 2),
            text: text::shown(&problem.text, text::SENTENCE),
            hint: text::shown(problem.hint.as_deref().unwrap_or_default(), text::SENTENCE),
            code: problem.code,
            event,
        }
    }
}

/// `a, b and 7 more`.
pub(crate) fn list(names: &[String]) -> String {
    const SHOWN: usize = 12;
    let mut out: Vec<_> = names.iter().take(SHOWN).map(|name| text::shown(name, text::NAME)).collect();
    if names.len() > SHOWN {
        out.push(format!("and {} more", names.len() - SHOWN));
    }
    out.join(", ")
}
