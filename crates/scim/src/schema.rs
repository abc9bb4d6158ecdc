//! The attributes we know (RFC 7643, sections 3 and 4). What is not here is not kept.

/// Type of an attribute's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Bool,
    /// URI of something outside, or of one of these resource types.
    Reference(&'static [&'static str]),
    Time,
    Complex(&'static [Attribute]),
}

/// Who may write an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutability {
    ReadWrite,
    ReadOnly,
    Immutable,
}

/// One attribute.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Attribute {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) multi: bool,
    pub(crate) required: bool,
    /// Compared with case.
    pub(crate) exact: bool,
    pub(crate) mutability: Mutability,
    pub(crate) unique: bool,
    /// Known words.
    pub(crate) words: &'static [&'static str],
}

const fn plain(name: &'static str, kind: Kind) -> Attribute {
    let (mutability, words) = (Mutability::ReadWrite, &[]);
    Attribute { name, kind, multi: false, required: false, exact: false, mutability, unique: false, words }
}

const fn text(name: &'static str) -> Attribute {
    plain(name, Kind::Text)
}

impl Attribute {
    const fn exact(mut self) -> Self {
        self.exact = true;
        self
    }

    const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    const fn unique(mut self) -> Self {
        self.unique = true;
        self
    }

    const fn multi(mut self) -> Self {
        self.multi = true;
        self
    }

    const fn read_only(mut self) -> Self {
        self.mutability = Mutability::ReadOnly;
        self
    }

    const fn immutable(mut self) -> Self {
        self.mutability = Mutability::Immutable;
        self
    }

    const fn words(mut self, words: &'static [&'static str]) -> Self {
        self.words = words;
        self
    }

    /// Attributes inside.
    pub(crate) fn subs(&self) -> &'static [Attribute] {
        match self.kind {
            Kind::Complex(subs) => subs,
            _ => &[],
        }
    }
}

/// An attribute of this name, in any case.
pub(crate) fn find(among: &'static [Attribute], name: &str) -> Option<&'static Attribute> {
    among.iter().find(|attribute| attribute.name.eq_ignore_ascii_case(name))
}

const USES: &[&str] = &["work", "home", "other"];

static NAME: [Attribute; 6] = [
    text("formatted"),
    text("familyName"),
    text("givenName"),
    text("middleName"),
    text("honorificPrefix"),
    text("honorificSuffix"),
];
static EMAIL: [Attribute; 4] = [text("value"), text("display"), text("type").words(USES), plain("primary", Kind::Bool)];
static LABELLED: [Attribute; 4] = [text("value"), text("display"), text("type"), plain("primary", Kind::Bool)];
static PHOTO: [Attribute; 4] = [
    plain("value", Kind::Reference(&["external"])).exact(),
    text("display"),
    text("type").words(&["photo", "thumbnail"]),
    plain("primary", Kind::Bool),
];
static ADDRESS: [Attribute; 8] = [
    text("formatted"),
    text("streetAddress"),
    text("locality"),
    text("region"),
    text("postalCode"),
    text("country"),
    text("type").words(USES),
    plain("primary", Kind::Bool),
];
static GROUP_OF_USER: [Attribute; 4] = [
    text("value").exact().read_only(),
    plain("$ref", Kind::Reference(&["Group"])).exact().read_only(),
    text("display").read_only(),
    text("type").words(&["direct"]).read_only(),
];

/// Attributes of users (section 4.1), without `password` and `x509Certificates`.
static USER_ATTRIBUTES: [Attribute; 19] = [
    text("userName").required().unique(),
    plain("name", Kind::Complex(&NAME)),
    text("displayName"),
    text("nickName"),
    plain("profileUrl", Kind::Reference(&["external"])).exact(),
    text("title"),
    text("userType"),
    text("preferredLanguage"),
    text("locale"),
    text("timezone"),
    plain("active", Kind::Bool),
    plain("emails", Kind::Complex(&EMAIL)).multi(),
    plain("phoneNumbers", Kind::Complex(&LABELLED)).multi(),
    plain("ims", Kind::Complex(&LABELLED)).multi(),
    plain("photos", Kind::Complex(&PHOTO)).multi(),
    plain("addresses", Kind::Complex(&ADDRESS)).multi(),
    plain("groups", Kind::Complex(&GROUP_OF_USER)).multi().read_only(),
    plain("entitlements", Kind::Complex(&LABELLED)).multi(),
    plain("roles", Kind::Complex(&LABELLED)).multi(),
];

static MANAGER: [Attribute; 3] =
    [text("value").exact(), plain("$ref", Kind::Reference(&["User"])).exact(), text("displayName").read_only()];

/// Attributes of the enterprise extension (section 4.3).
static ENTERPRISE_ATTRIBUTES: [Attribute; 6] = [
    text("employeeNumber"),
    text("costCenter"),
    text("organization"),
    text("division"),
    text("department"),
    plain("manager", Kind::Complex(&MANAGER)),
];

static MEMBER: [Attribute; 3] = [
    text("value").exact().immutable(),
    plain("$ref", Kind::Reference(&["User"])).exact().immutable(),
    text("type").words(&["User"]).immutable(),
];

/// Attributes of groups (section 4.2).
static GROUP_ATTRIBUTES: [Attribute; 2] =
    [text("displayName").required().exact().unique(), plain("members", Kind::Complex(&MEMBER)).multi()];

static META: [Attribute; 5] = [
    text("resourceType").exact().read_only(),
    plain("created", Kind::Time).read_only(),
    plain("lastModified", Kind::Time).read_only(),
    plain("location", Kind::Reference(&["uri"])).exact().read_only(),
    text("version").exact().read_only(),
];

/// Attributes of every resource (section 3.1).
pub(crate) static COMMON: [Attribute; 4] = [
    text("id").exact().read_only(),
    text("externalId").exact(),
    plain("meta", Kind::Complex(&META)).read_only(),
    text("schemas").exact().multi().read_only(),
];

/// Attributes of RFC 7643 that some clients send and that we never keep.
pub(crate) const DISCARDED: [&str; 2] = ["password", "x509Certificates"];

/// A schema.
#[derive(Debug)]
pub(crate) struct Schema {
    pub(crate) urn: &'static str,
    pub(crate) name: &'static str,
    pub(crate) description: &'static str,
    pub(crate) attributes: &'static [Attribute],
}

pub(crate) static USER_SCHEMA: Schema = Schema {
    urn: "urn:ietf:params:scim:schemas:core:2.0:User",
    name: "User",
    description: "Somebody who may sign in",
    attributes: &USER_ATTRIBUTES,
};
pub(crate) static GROUP_SCHEMA: Schema = Schema {
    urn: "urn:ietf:params:scim:schemas:core:2.0:Group",
    name: "Group",
    description: "A group, as policies name it",
    attributes: &GROUP_ATTRIBUTES,
};
pub(crate) static ENTERPRISE_SCHEMA: Schema = Schema {
    urn: "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User",
    name: "EnterpriseUser",
    description: "What a company says of a user",
    attributes: &ENTERPRISE_ATTRIBUTES,
};

/// A type of resource.
#[derive(Debug)]
pub(crate) struct ResourceKind {
    pub(crate) name: &'static str,
    pub(crate) endpoint: &'static str,
    pub(crate) schema: &'static Schema,
    pub(crate) extensions: &'static [&'static Schema],
}

pub(crate) static USER: ResourceKind =
    ResourceKind { name: "User", endpoint: "Users", schema: &USER_SCHEMA, extensions: &[&ENTERPRISE_SCHEMA] };
pub(crate) static GROUP: ResourceKind =
    ResourceKind { name: "Group", endpoint: "Groups", schema: &GROUP_SCHEMA, extensions: &[] };

impl ResourceKind {
    /// An attribute without a prefix: of every resource, or of the core schema.
    pub(crate) fn core(&self, name: &str) -> Option<&'static Attribute> {
        find(&COMMON, name).or_else(|| find(self.schema.attributes, name))
    }

    /// The extension of this URN, in any case.
    pub(crate) fn extension(&self, urn: &str) -> Option<&'static Schema> {
        self.extensions.iter().copied().find(|schema| schema.urn.eq_ignore_ascii_case(urn))
    }
}
