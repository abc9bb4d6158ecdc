//! Types that become known as the walk goes on: unification over a small arena.

use std::collections::BTreeMap;

use super::Problem;
use crate::args::{Kind, Shape};

/// Index into the arena.
pub(super) type Id = usize;

/// One type, as far as it is known.
#[derive(Clone, Debug)]
pub(super) enum Term {
    /// The same as another.
    Link(Id),
    Unknown,
    Bool,
    Long,
    Text,
    Ip,
    /// Other extension values (decimals, times).
    Other,
    Entity,
    Set(Id),
    Object(BTreeMap<String, Id>),
}

struct Slot {
    term: Term,
    /// The value itself is used, not only looked into.
    used: bool,
    /// Argument path, for messages.
    path: Option<String>,
}

/// The arena.
#[derive(Default)]
pub(super) struct Types {
    slots: Vec<Slot>,
}

impl Types {
    pub(super) fn push(&mut self, term: Term) -> Id {
        self.slots.push(Slot { term, used: false, path: None });
        self.slots.len() - 1
    }

    pub(super) fn object(&mut self, path: &str) -> Id {
        let id = self.push(Term::Object(BTreeMap::new()));
        self.name(id, path);
        id
    }

    fn name(&mut self, id: Id, path: &str) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.path = Some(path.to_owned());
        }
    }

    fn resolve(&self, mut id: Id) -> Id {
        while let Some(Slot { term: Term::Link(next), .. }) = self.slots.get(id) {
            id = *next;
        }
        id
    }

    fn term(&self, id: Id) -> &Term {
        self.slots.get(self.resolve(id)).map_or(&Term::Unknown, |slot| &slot.term)
    }

    fn path(&self, id: Id) -> Option<String> {
        let path = |id: Id| self.slots.get(id).and_then(|slot| slot.path.clone());
        path(id).or_else(|| path(self.resolve(id)))
    }

    fn set(&mut self, id: Id, term: Term) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.term = term;
        }
    }

    /// Marks a value as used. Objects have no value of their own.
    pub(super) fn used(&mut self, id: Id) -> Result<(), Problem> {
        let id = self.resolve(id);
        if let Some(slot) = self.slots.get_mut(id) {
            slot.used = true;
        }
        self.check_object(id)
    }

    fn check_object(&self, id: Id) -> Result<(), Problem> {
        let used = self.slots.get(id).is_some_and(|slot| slot.used);
        if used && matches!(self.term(id), Term::Object(_)) {
            let path = self.path(id).unwrap_or_default();
            return Err(Problem::new(
                "policy_unsupported",
                format!("`{path}` is an object and cannot be compared as a whole; use its members"),
            )
            .near(last(&path)));
        }
        Ok(())
    }

    pub(super) fn is_other(&self, id: Id) -> bool {
        matches!(self.term(id), Term::Other)
    }

    /// The member of an argument object, which the base becomes if it was unknown.
    pub(super) fn member(&mut self, base: Id, name: &str) -> Result<Id, Problem> {
        let base = self.resolve(base);
        let path = self.path(base);
        if matches!(self.term(base), Term::Unknown) {
            self.set(base, Term::Object(BTreeMap::new()));
            self.check_object(base)?;
        }
        if let Term::Object(members) = self.term(base)
            && let Some(member) = members.get(name)
        {
            return Ok(*member);
        }
        let member = self.push(Term::Unknown);
        self.name(member, &format!("{}.{name}", path.as_deref().unwrap_or_default()));
        match self.slots.get_mut(base).map(|slot| &mut slot.term) {
            Some(Term::Object(members)) => {
                members.insert(name.to_owned(), member);
                Ok(member)
            }
            _ => {
                let what = path.unwrap_or_else(|| "this value".to_owned());
                Err(Problem::new(
                    "unknown_attribute",
                    format!("`{what}` is {} and has no attribute `{name}`", self.describe(base)),
                )
                .near(name))
            }
        }
    }

    /// Makes two types the same.
    pub(super) fn unify(&mut self, a: Id, b: Id) -> Result<(), Problem> {
        let (a, b) = (self.resolve(a), self.resolve(b));
        if a == b {
            return Ok(());
        }
        match (self.term(a).clone(), self.term(b).clone()) {
            (Term::Unknown, _) => self.link(a, b),
            (_, Term::Unknown) => self.link(b, a),
            (Term::Set(x), Term::Set(y)) => self.unify(x, y),
            (Term::Bool, Term::Bool)
            | (Term::Long, Term::Long)
            | (Term::Text, Term::Text)
            | (Term::Ip, Term::Ip)
            | (Term::Other, Term::Other)
            | (Term::Entity, Term::Entity) => Ok(()),
            _ => Err(self.conflict(a, b)),
        }
    }

    /// Whether `needle` is an element, at any depth, of the set `id`.
    fn occurs(&self, needle: Id, id: Id) -> bool {
        let mut id = self.resolve(id);
        while let Term::Set(element) = self.term(id) {
            id = self.resolve(*element);
            if id == needle {
                return true;
            }
        }
        false
    }

    fn link(&mut self, from: Id, to: Id) -> Result<(), Problem> {
        if self.occurs(from, to) {
            return Err(Problem::new("policy_type", "a set cannot be an element of itself"));
        }
        let (used, path) = self.slots.get(from).map_or((false, None), |slot| (slot.used, slot.path.clone()));
        self.set(from, Term::Link(to));
        if let Some(slot) = self.slots.get_mut(to) {
            slot.used |= used;
            slot.path = slot.path.take().or(path);
        }
        self.check_object(to)
    }

    fn conflict(&self, a: Id, b: Id) -> Problem {
        let (one, other) = (self.describe(a), self.describe(b));
        match self.path(a).or_else(|| self.path(b)) {
            Some(path) => {
                Problem::new("policy_type", format!("`{path}` is used as {one} and as {other}")).near(last(&path))
            }
            None => Problem::new("policy_type", format!("{one} and {other} cannot be used together")),
        }
    }

    fn describe(&self, id: Id) -> &'static str {
        match self.term(id) {
            Term::Link(_) | Term::Unknown => "a value",
            Term::Bool => "a truth value",
            Term::Long => "an integer",
            Term::Text => "text",
            Term::Ip => "an address",
            Term::Other => "an extension value",
            Term::Entity => "an entity",
            Term::Set(_) => "a set",
            Term::Object(_) => "an object",
        }
    }

    /// The argument members with their types.
    pub(super) fn shape(&self, root: Id) -> Result<Shape, Problem> {
        let mut shape = Shape::default();
        if let Term::Object(members) = self.term(root) {
            for (name, id) in members {
                shape.members.insert(name.clone(), self.kind(*id)?);
            }
        }
        Ok(shape)
    }

    fn kind(&self, id: Id) -> Result<Kind, Problem> {
        let resolved = self.resolve(id);
        let used = self.slots.get(resolved).is_some_and(|slot| slot.used);
        let path = self.path(id).unwrap_or_default();
        Ok(match self.term(resolved) {
            Term::Bool => Kind::Bool,
            Term::Long => Kind::Long,
            Term::Text => Kind::Text,
            Term::Set(element) => Kind::Set(Box::new(self.kind(*element)?)),
            Term::Object(_) => Kind::Record(self.shape(resolved)?),
            Term::Unknown | Term::Link(_) if !used => Kind::Presence,
            Term::Unknown | Term::Link(_) => {
                let message = format!("the type of `{path}` does not follow from its use");
                let mut problem = Problem::new("policy_type", message).near(last(&path));
                problem.suggestion = Some("compare it with a literal".to_owned());
                return Err(problem);
            }
            Term::Ip | Term::Other | Term::Entity => {
                let message = format!("`{path}` is used as {}; arguments are plain JSON", self.describe(resolved));
                return Err(Problem::new("policy_type", message).near(last(&path)));
            }
        })
    }
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}
