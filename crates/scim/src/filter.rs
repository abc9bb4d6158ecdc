//! Filters (RFC 7644, section 3.4.2.2): read with bounds, evaluated without patterns, so
//! that no filter costs more than its length times what it looks at.

use serde_json::{Map, Value};

use crate::error::ScimError;
use crate::schema::{Attribute, Kind, ResourceKind, find};

/// Longest filter, bytes.
const MAX_LENGTH: usize = 4_096;
/// Deepest nesting.
const MAX_DEPTH: usize = 10;
/// Most comparisons.
const MAX_TERMS: usize = 50;

/// An attribute somewhere in a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Member of the resource that holds the attribute, for extensions.
    pub(crate) urn: Option<&'static str>,
    pub(crate) attribute: &'static Attribute,
    pub(crate) sub: Option<&'static Attribute>,
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Eq,
    Ne,
    Co,
    Sw,
    Ew,
    Gt,
    Ge,
    Lt,
    Le,
}

/// A filter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Filter {
    And(Box<Filter>, Box<Filter>),
    Or(Box<Filter>, Box<Filter>),
    Not(Box<Filter>),
    Present(Place),
    Compare(Place, Op, Value),
    /// Of a list, some value for which all of this is so.
    Items(Place, Box<Filter>),
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Open,
    Close,
    OpenItems,
    CloseItems,
    Word(String),
    Literal(Value),
}

/// Where names are looked up.
#[derive(Clone, Copy)]
enum Scope {
    Resource(&'static ResourceKind),
    Items(&'static Attribute),
}

/// Reads a filter over resources of a type.
pub(crate) fn parse(text: &str, kind: &'static ResourceKind) -> Result<Filter, ScimError> {
    parse_in(text, Scope::Resource(kind))
}

/// Reads a filter over the values of an attribute.
pub(crate) fn parse_items(text: &str, attribute: &'static Attribute) -> Result<Filter, ScimError> {
    parse_in(text, Scope::Items(attribute))
}

fn parse_in(text: &str, scope: Scope) -> Result<Filter, ScimError> {
    if text.len() > MAX_LENGTH {
        return Err(ScimError::filter(format!("the filter is longer than {MAX_LENGTH} bytes")));
    }
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0, terms: 0 };
    let filter = parser.or(scope)?;
    match parser.next() {
        None => Ok(filter),
        Some(_) => Err(malformed()),
    }
}

fn malformed() -> ScimError {
    ScimError::filter("the filter is malformed")
}

fn tokens(text: &str) -> Result<Vec<Token>, ScimError> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let one = |token: Token| (token, 1);
        let (token, length) = match first {
            '(' => one(Token::Open),
            ')' => one(Token::Close),
            '[' => one(Token::OpenItems),
            ']' => one(Token::CloseItems),
            '"' => {
                let length = quoted(rest).ok_or_else(malformed)?;
                let literal = rest.get(..length).and_then(|text| serde_json::from_str(text).ok());
                (Token::Literal(literal.ok_or_else(malformed)?), length)
            }
            _ => {
                let ends = |c: char| c.is_whitespace() || "()[]\"".contains(c);
                let length = rest.find(ends).unwrap_or(rest.len());
                (Token::Word(rest.get(..length).unwrap_or_default().to_owned()), length)
            }
        };
        tokens.push(token);
        rest = rest.get(length..).ok_or_else(malformed)?.trim_start();
    }
    Ok(tokens)
}

/// Length of the JSON text this begins with, with its quotes.
pub(crate) fn quoted(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    terms: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Some(Token::Word(next)) if next.eq_ignore_ascii_case(word))
    }

    fn or(&mut self, scope: Scope) -> Result<Filter, ScimError> {
        let mut left = self.and(scope)?;
        while self.is_word("or") {
            self.at += 1;
            left = Filter::Or(Box::new(left), Box::new(self.and(scope)?));
        }
        Ok(left)
    }

    fn and(&mut self, scope: Scope) -> Result<Filter, ScimError> {
        let mut left = self.term(scope)?;
        while self.is_word("and") {
            self.at += 1;
            left = Filter::And(Box::new(left), Box::new(self.term(scope)?));
        }
        Ok(left)
    }

    fn term(&mut self, scope: Scope) -> Result<Filter, ScimError> {
        self.terms += 1;
        self.depth += 1;
        if self.terms > MAX_TERMS || self.depth > MAX_DEPTH {
            return Err(ScimError::filter("the filter has too many parts"));
        }
        let term = self.bounded_term(scope);
        self.depth -= 1;
        term
    }

    fn bounded_term(&mut self, scope: Scope) -> Result<Filter, ScimError> {
        match self.next() {
            Some(Token::Open) => self.closed(scope),
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("not") && self.peek() == Some(&Token::Open) => {
                self.at += 1;
                Ok(Filter::Not(Box::new(self.closed(scope)?)))
            }
            Some(Token::Word(word)) => {
                let place = place(&word, scope)?;
                if self.peek() == Some(&Token::OpenItems) {
                    return self.items(place, scope);
                }
                self.comparison(place)
            }
            _ => Err(malformed()),
        }
    }

    fn closed(&mut self, scope: Scope) -> Result<Filter, ScimError> {
        let inner = self.or(scope)?;
        match self.next() {
            Some(Token::Close) => Ok(inner),
            _ => Err(malformed()),
        }
    }

    fn items(&mut self, place: Place, scope: Scope) -> Result<Filter, ScimError> {
        self.at += 1;
        let nested = matches!(scope, Scope::Items(_));
        if nested || place.sub.is_some() || place.attribute.subs().is_empty() {
            return Err(ScimError::filter("only a list of objects is filtered in brackets"));
        }
        let inner = self.or(Scope::Items(place.attribute))?;
        match self.next() {
            Some(Token::CloseItems) => Ok(Filter::Items(place, Box::new(inner))),
            _ => Err(malformed()),
        }
    }

    fn comparison(&mut self, place: Place) -> Result<Filter, ScimError> {
        let Some(Token::Word(op)) = self.next() else { return Err(malformed()) };
        let op = match op.to_ascii_lowercase().as_str() {
            "pr" => return Ok(Filter::Present(place)),
            "eq" => Op::Eq,
            "ne" => Op::Ne,
            "co" => Op::Co,
            "sw" => Op::Sw,
            "ew" => Op::Ew,
            "gt" => Op::Gt,
            "ge" => Op::Ge,
            "lt" => Op::Lt,
            "le" => Op::Le,
            _ => return Err(ScimError::filter("the filter has an unknown operator")),
        };
        let literal = match self.next() {
            Some(Token::Literal(text)) => text,
            Some(Token::Word(word)) => match word.to_ascii_lowercase().as_str() {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                "null" => Value::Null,
                _ => return Err(ScimError::filter("a value to compare with is quoted, or is true, false or null")),
            },
            _ => return Err(malformed()),
        };
        check(compared(place), op, literal, place)
    }
}

/// The attribute whose values are compared.
fn compared(place: Place) -> &'static Attribute {
    let inner = place.sub.or_else(|| find(place.attribute.subs(), "value"));
    inner.unwrap_or(place.attribute)
}

fn check(attribute: &Attribute, op: Op, literal: Value, place: Place) -> Result<Filter, ScimError> {
    let equality = matches!(op, Op::Eq | Op::Ne);
    let good = match (attribute.kind, &literal) {
        (_, Value::Null) => equality,
        (Kind::Bool, Value::Bool(_)) => equality,
        // Entra compares with "True".
        (Kind::Bool, Value::String(text)) => {
            equality && (text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false"))
        }
        (Kind::Text | Kind::Reference(_) | Kind::Time, Value::String(_)) => true,
        _ => false,
    };
    if !good {
        return Err(ScimError::filter(format!("`{}` cannot be compared in this way", attribute.name)));
    }
    let literal = match (attribute.kind, literal) {
        (Kind::Bool, Value::String(text)) => Value::Bool(text.eq_ignore_ascii_case("true")),
        (_, literal) => literal,
    };
    Ok(Filter::Compare(place, op, literal))
}

/// The place a name of a resource means: `name`, `name.sub`, each perhaps after a schema.
pub(crate) fn place_of(name: &str, kind: &'static ResourceKind) -> Option<Place> {
    let (urn, attributes, rest) = split_urn(name, kind);
    let (first, second) = match rest.split_once('.') {
        Some((first, second)) => (first, Some(second)),
        None => (rest, None),
    };
    let attribute = match (urn, attributes) {
        (Some(_), Some(attributes)) => find(attributes, first)?,
        _ => kind.core(first)?,
    };
    let sub = match second {
        Some(second) => Some(find(attribute.subs(), second)?),
        None => None,
    };
    Some(Place { urn, attribute, sub })
}

/// Takes the URN of a schema off: the member of the resource it stands for (none for the
/// core schema), its attributes, and what follows.
fn split_urn<'a>(
    name: &'a str,
    kind: &'static ResourceKind,
) -> (Option<&'static str>, Option<&'static [Attribute]>, &'a str) {
    let after = |urn: &str| {
        let head = name.get(..urn.len()).filter(|head| head.eq_ignore_ascii_case(urn));
        head.and_then(|_| name.get(urn.len()..)?.strip_prefix(':'))
    };
    if let Some(rest) = after(kind.schema.urn) {
        return (None, None, rest);
    }
    for extension in kind.extensions {
        if let Some(rest) = after(extension.urn) {
            return (Some(extension.urn), Some(extension.attributes), rest);
        }
    }
    (None, None, name)
}

fn place(name: &str, scope: Scope) -> Result<Place, ScimError> {
    let found = match scope {
        Scope::Resource(kind) => place_of(name, kind),
        Scope::Items(attribute) => {
            find(attribute.subs(), name).map(|attribute| Place { urn: None, attribute, sub: None })
        }
    };
    found.ok_or_else(|| ScimError::filter("the filter names an attribute that is not known"))
}

/// Whether a resource (in its full form, names as in the schema) fits.
pub(crate) fn matches(filter: &Filter, resource: &Map<String, Value>) -> bool {
    match filter {
        Filter::And(left, right) => matches(left, resource) && matches(right, resource),
        Filter::Or(left, right) => matches(left, resource) || matches(right, resource),
        Filter::Not(inner) => !matches(inner, resource),
        Filter::Present(place) => values(*place, resource).iter().any(|value| is_present(value)),
        Filter::Compare(place, op, literal) => {
            let exact = compared(*place).exact;
            let values = values(*place, resource);
            match (op, literal) {
                (Op::Eq, Value::Null) => values.is_empty(),
                (Op::Ne, Value::Null) => !values.is_empty(),
                (Op::Ne, _) => !values.iter().any(|value| compare(value, Op::Eq, literal, exact)),
                _ => values.iter().any(|value| compare(value, *op, literal, exact)),
            }
        }
        Filter::Items(place, inner) => {
            let items = items(*place, resource);
            items.iter().any(|item| item.as_object().is_some_and(|item| matches(inner, item)))
        }
    }
}

fn is_present(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Object(members) => !members.is_empty(),
        _ => true,
    }
}

/// The values of an attribute as a list, whether it has one or many.
fn items(place: Place, resource: &Map<String, Value>) -> Vec<&Value> {
    let holder = match place.urn {
        Some(urn) => resource.get(urn).and_then(Value::as_object),
        None => Some(resource),
    };
    match holder.and_then(|holder| holder.get(place.attribute.name)) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(items)) => items.iter().collect(),
        Some(one) => vec![one],
    }
}

fn values(place: Place, resource: &Map<String, Value>) -> Vec<&Value> {
    let items = items(place, resource);
    if place.attribute.subs().is_empty() {
        return items;
    }
    let name = match place.sub {
        Some(sub) => sub.name,
        // An object without `value` is compared with nothing, but is there.
        None if find(place.attribute.subs(), "value").is_none() => return items,
        None => "value",
    };
    items.into_iter().filter_map(|item| item.get(name)).collect()
}

fn compare(value: &Value, op: Op, literal: &Value, exact: bool) -> bool {
    match (value, literal) {
        (Value::Bool(value), Value::Bool(literal)) => op == Op::Eq && value == literal,
        (Value::String(value), Value::String(literal)) if exact => compare_texts(value, op, literal),
        (Value::String(value), Value::String(literal)) => {
            compare_texts(&value.to_lowercase(), op, &literal.to_lowercase())
        }
        _ => false,
    }
}

fn compare_texts(value: &str, op: Op, literal: &str) -> bool {
    match op {
        Op::Eq => value == literal,
        Op::Ne => value != literal,
        Op::Co => value.contains(literal),
        Op::Sw => value.starts_with(literal),
        Op::Ew => value.ends_with(literal),
        Op::Gt => value > literal,
        Op::Ge => value >= literal,
        Op::Lt => value < literal,
        Op::Le => value <= literal,
    }
}

impl Filter {
    /// The text an attribute must be equal to for this to be so, if there is one.
    pub(crate) fn must_equal(&self, name: &str) -> Option<&str> {
        match self {
            Self::And(left, right) => left.must_equal(name).or_else(|| right.must_equal(name)),
            Self::Compare(place, Op::Eq, Value::String(text))
                if place.urn.is_none() && place.sub.is_none() && place.attribute.name == name =>
            {
                Some(text)
            }
            _ => None,
        }
    }

    /// Whether an attribute of this name is looked at.
    pub(crate) fn looks_at(&self, name: &str) -> bool {
        match self {
            Self::And(left, right) | Self::Or(left, right) => left.looks_at(name) || right.looks_at(name),
            Self::Not(inner) => inner.looks_at(name),
            Self::Present(place) | Self::Compare(place, ..) | Self::Items(place, _) => place.attribute.name == name,
        }
    }

    /// What a value must have to fit, as far as that is plain: `type eq "work"`.
    pub(crate) fn equalities(&self, found: &mut Map<String, Value>) {
        match self {
            Self::And(left, right) => {
                left.equalities(found);
                right.equalities(found);
            }
            Self::Compare(place, Op::Eq, literal) if !literal.is_null() => {
                found.insert(place.attribute.name.to_owned(), literal.clone());
            }
            _ => {}
        }
    }
}
