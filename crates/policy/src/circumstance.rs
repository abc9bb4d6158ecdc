//! What `context` holds besides the arguments: one table for schema, analysis and requests.

use bartizan_model::PrincipalKind;
use cedar_policy::RestrictedExpression;
use serde_json::{Value, json};

use crate::query::Query;

/// One member of `context`. All but the era may be absent: a condition asks
/// `context has NAME` first, or the request is refused where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Circumstance {
    Era,
    Ip,
    Client,
    ClientVersion,
    Portal,
    Groups,
    MfaAge,
    Acr,
    Device,
    Country,
    Purpose,
    ClientId,
}

/// The type of a circumstance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    Text,
    Long,
    Address,
    Texts,
}

impl Circumstance {
    pub(crate) const ALL: [Self; 12] = [
        Self::Era,
        Self::Ip,
        Self::Client,
        Self::ClientVersion,
        Self::Portal,
        Self::Groups,
        Self::MfaAge,
        Self::Acr,
        Self::Device,
        Self::Country,
        Self::Purpose,
        Self::ClientId,
    ];

    /// Name in Cedar text.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Era => "era",
            Self::Ip => "ip",
            Self::Client => "client",
            Self::ClientVersion => "client_version",
            Self::Portal => "portal",
            Self::Groups => "groups",
            Self::MfaAge => "mfa_age",
            Self::Acr => "acr",
            Self::Device => "device",
            Self::Country => "country",
            Self::Purpose => "purpose",
            Self::ClientId => "client_id",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|each| each.as_str() == text)
    }

    pub(crate) fn sort(self) -> Sort {
        match self {
            Self::Ip => Sort::Address,
            Self::Groups => Sort::Texts,
            Self::MfaAge => Sort::Long,
            _ => Sort::Text,
        }
    }

    /// Comes with a sign-in, and is absent without.
    pub(crate) fn of_session(self) -> bool {
        matches!(self, Self::MfaAge | Self::Acr | Self::Device | Self::Country | Self::Purpose | Self::ClientId)
    }

    /// The type in the Cedar schema.
    pub(crate) fn schema(self) -> Value {
        let required = self == Self::Era;
        match self.sort() {
            Sort::Text => json!({"type": "String", "required": required}),
            Sort::Long => json!({"type": "Long", "required": required}),
            Sort::Address => json!({"type": "Extension", "name": "ipaddr", "required": required}),
            Sort::Texts => json!({"type": "Set", "element": {"type": "String"}, "required": required}),
        }
    }

    /// The value for a question, if there is one.
    pub(crate) fn value(self, query: &Query<'_>) -> Option<RestrictedExpression> {
        let context = query.context;
        let session = context.session;
        let text = |value: &str| RestrictedExpression::new_string(value.to_owned());
        match self {
            Self::Era => Some(text(context.era.as_str())),
            Self::Ip => context.ip.map(|ip| RestrictedExpression::new_ip(ip.to_canonical().to_string())),
            Self::Client => context.client.map(text),
            Self::ClientVersion => context.client_version.map(text),
            Self::Portal => query.portal.map(|portal| text(portal.as_str())),
            Self::Groups => (query.principal.kind != PrincipalKind::Anonymous)
                .then(|| RestrictedExpression::new_set(query.principal.groups.iter().map(|group| text(group)))),
            Self::MfaAge => session?.mfa_age_s(context.now_ms).map(RestrictedExpression::new_long),
            Self::Acr => session?.acr.map(text),
            Self::Device => session?.device.map(text),
            Self::Country => session?.country.map(text),
            Self::Purpose => session?.purpose.map(text),
            Self::ClientId => session?.client_id.map(text),
        }
    }
}

/// Circumstances that a condition looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Circumstances(u16);

impl Circumstances {
    pub(crate) fn insert(&mut self, each: Circumstance) {
        self.0 |= 1 << each as u16;
    }

    pub(crate) fn has(self, each: Circumstance) -> bool {
        self.0 & (1 << each as u16) != 0
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Circumstance> {
        Circumstance::ALL.into_iter().filter(move |each| self.has(*each))
    }
}
