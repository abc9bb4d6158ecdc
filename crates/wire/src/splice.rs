//! Edits on JSON text. What an edit does not name stays byte for byte as it was.

use crate::build::push_quoted;
use crate::raw::RawJson;
use crate::scan::{HARD_DEPTH, JsonKind, Member, Scanner, decode, decode_lossy};

/// The members of an object in order; empty for other kinds.
fn scan_members(raw: &RawJson) -> Vec<Member> {
    let mut found = Vec::new();
    let mut scan = Scanner::new(raw.as_bytes(), HARD_DEPTH);
    let mut first = true;
    if scan.open(b'{').is_ok() {
        while let Ok(Some(member)) = scan.next_member(&mut first) {
            found.push(member);
        }
    }
    found
}

fn is_key(raw: &RawJson, member: &Member, key: &str) -> bool {
    if member.key.escaped {
        decode(raw.as_bytes(), member.key).is_some_and(|name| name == key)
    } else {
        member.key.inner(raw.as_bytes()) == key.as_bytes()
    }
}

/// The value of a member; of several with that name, the last. Nothing when `obj` is
/// not an object or has no such member. No bytes are copied.
pub fn get(obj: &RawJson, key: &str) -> Option<RawJson> {
    let mut scan = Scanner::new(obj.as_bytes(), HARD_DEPTH);
    let (mut first, mut found) = (true, None);
    scan.open(b'{').ok()?;
    while let Ok(Some(member)) = scan.next_member(&mut first) {
        if is_key(obj, &member, key) {
            found = Some(member.value);
        }
    }
    found.map(|span| RawJson::of(obj.bytes(), span))
}

/// [`get`] for several members in one pass.
pub fn pick<const N: usize>(obj: &RawJson, keys: [&str; N]) -> [Option<RawJson>; N] {
    let mut spans = [None; N];
    let mut scan = Scanner::new(obj.as_bytes(), HARD_DEPTH);
    let mut first = true;
    if scan.open(b'{').is_ok() {
        while let Ok(Some(member)) = scan.next_member(&mut first) {
            for (key, span) in keys.iter().zip(&mut spans) {
                if is_key(obj, &member, key) {
                    *span = Some(member.value);
                }
            }
        }
    }
    spans.map(|span| span.map(|span| RawJson::of(obj.bytes(), span)))
}

/// False when no member anywhere inside can have this name. Cheap: a search for the
/// bytes; a text with `\u` escapes may spell any name.
pub(crate) fn may_mention(raw: &RawJson, name: &str) -> bool {
    memchr::memmem::find(raw.as_bytes(), name.as_bytes()).is_some()
        || memchr::memmem::find(raw.as_bytes(), b"\\u").is_some()
}

/// [`get`] along a path.
pub fn get_path(obj: &RawJson, path: &[&str]) -> Option<RawJson> {
    path.iter().try_fold(obj.clone(), |at, key| get(&at, key))
}

/// The members of an object in order; empty for other kinds.
pub fn members(obj: &RawJson) -> Vec<(String, RawJson)> {
    let bytes = obj.as_bytes();
    scan_members(obj).iter().map(|m| (decode_lossy(bytes, m.key), RawJson::of(obj.bytes(), m.value))).collect()
}

/// The items of an array in order; empty for other kinds.
pub fn items(array: &RawJson) -> Vec<RawJson> {
    first_items(array, usize::MAX)
}

/// The first items of an array, at most so many; what comes behind is not looked at.
pub fn first_items(array: &RawJson, most: usize) -> Vec<RawJson> {
    let mut found = Vec::new();
    let mut scan = Scanner::new(array.as_bytes(), HARD_DEPTH);
    let mut first = true;
    if scan.open(b'[').is_ok() {
        while found.len() < most
            && let Ok(Some(span)) = scan.next_item(&mut first)
        {
            found.push(RawJson::of(array.bytes(), span));
        }
    }
    found
}

/// The first members of an object, at most so many; what comes behind is not looked at.
pub fn first_members(obj: &RawJson, most: usize) -> Vec<(String, RawJson)> {
    let mut found = Vec::new();
    let mut scan = Scanner::new(obj.as_bytes(), HARD_DEPTH);
    let mut first = true;
    if scan.open(b'{').is_ok() {
        while found.len() < most
            && let Ok(Some(member)) = scan.next_member(&mut first)
        {
            found.push((decode_lossy(obj.as_bytes(), member.key), RawJson::of(obj.bytes(), member.value)));
        }
    }
    found
}

/// Passes every item of an array through `f`; `None` leaves the item out. When
/// nothing changes, the array is returned as it is; so are other kinds.
pub fn map_items(array: &RawJson, mut f: impl FnMut(&RawJson) -> Option<RawJson>) -> RawJson {
    if array.kind() != JsonKind::Array {
        return array.clone();
    }
    let old = items(array);
    let new: Vec<Option<RawJson>> = old.iter().map(&mut f).collect();
    if old.iter().zip(&new).all(|(old, new)| new.as_ref() == Some(old)) {
        return array.clone();
    }
    RawJson::array(new.iter().flatten())
}

/// Sets (`Some`) and removes (`None`) members in one pass. A member that is there is
/// replaced in its place, a new one goes to the end in the order given. Other kinds
/// than objects, and objects nothing changes in, are returned as they are.
pub fn edit(obj: &RawJson, edits: &[(&str, Option<&RawJson>)]) -> RawJson {
    let bytes = obj.as_bytes();
    if edits.is_empty() || !obj.is_object() {
        return obj.clone();
    }
    let found = scan_members(obj);
    let grown: usize = edits.iter().map(|(key, value)| key.len() + 4 + value.map_or(0, RawJson::len)).sum();
    let mut out = Vec::with_capacity(bytes.len() + grown);
    out.push(b'{');
    let (mut changed, mut any, mut last_end) = (false, false, 1);
    let mut done = vec![false; edits.len()];
    for member in &found {
        let lead = bytes.get(last_end..member.key.span.start).unwrap_or_default();
        last_end = member.value.end;
        let edit = edits.iter().zip(&mut done).find(|((key, _), _)| is_key(obj, member, key));
        let old = member.value.of(bytes);
        let value = match edit {
            None => old,
            Some(((_, value), done)) => {
                *done = true;
                let Some(value) = value else {
                    changed = true;
                    continue;
                };
                changed |= value.as_bytes() != old;
                value.as_bytes()
            }
        };
        // Between two members lies a comma; the first one kept must not bring it along.
        let comma = if any { None } else { memchr::memchr(b',', lead) };
        out.extend_from_slice(comma.map_or(lead, |at| lead.get(at + 1..).unwrap_or_default()));
        out.extend_from_slice(bytes.get(member.key.span.start..member.value.start).unwrap_or_default());
        out.extend_from_slice(value);
        any = true;
    }
    for ((key, value), done) in edits.iter().zip(&done) {
        if let (Some(value), false) = (value, done) {
            if any {
                out.push(b',');
            }
            push_quoted(&mut out, key);
            out.push(b':');
            out.extend_from_slice(value.as_bytes());
            any = true;
            changed = true;
        }
    }
    if !changed {
        return obj.clone();
    }
    out.extend_from_slice(bytes.get(last_end..).unwrap_or_default());
    RawJson::trusted(out)
}

/// Sets a member, see [`edit`].
pub fn set(obj: &RawJson, key: &str, value: &RawJson) -> RawJson {
    edit(obj, &[(key, Some(value))])
}

/// Sets several members, see [`edit`].
pub fn set_many(obj: &RawJson, members: &[(&str, &RawJson)]) -> RawJson {
    let edits: Vec<_> = members.iter().map(|(key, value)| (*key, Some(*value))).collect();
    edit(obj, &edits)
}

/// Removes a member, see [`edit`].
pub fn remove(obj: &RawJson, key: &str) -> RawJson {
    edit(obj, &[(key, None)])
}

/// Sets a member along a path. Missing steps are made; steps that are not objects are
/// replaced by objects.
pub fn set_path(obj: &RawJson, path: &[&str], value: &RawJson) -> RawJson {
    let Some((key, rest)) = path.split_first() else { return value.clone() };
    if rest.is_empty() {
        return set(obj, key, value);
    }
    let inner = get(obj, key).filter(RawJson::is_object).unwrap_or_else(RawJson::empty_object);
    set(obj, key, &set_path(&inner, rest, value))
}

/// Removes a member along a path. Objects on the way that become empty by it stay.
pub fn remove_path(obj: &RawJson, path: &[&str]) -> RawJson {
    let Some((key, rest)) = path.split_first() else { return obj.clone() };
    if rest.is_empty() {
        return remove(obj, key);
    }
    match get(obj, key) {
        Some(inner) => set(obj, key, &remove_path(&inner, rest)),
        None => obj.clone(),
    }
}

/// Sets and removes members of the object under `key`, see [`edit`]. The object is
/// made when members are set and it is missing, and removed when it ends up empty
/// although it was not so before.
pub fn edit_in(obj: &RawJson, key: &str, edits: &[(&str, Option<&RawJson>)]) -> RawJson {
    match edited_inner(get(obj, key).as_ref(), edits) {
        Inner::Keep => obj.clone(),
        Inner::Remove => remove(obj, key),
        Inner::Set(inner) => set(obj, key, &inner),
    }
}

/// What [`edit_in`] does to the inner object.
pub(crate) enum Inner {
    Keep,
    Remove,
    Set(RawJson),
}

impl Inner {
    /// The edit of the outer object, for use in one pass with others.
    pub(crate) fn as_edit<'a>(&'a self, key: &'a str) -> Option<(&'a str, Option<&'a RawJson>)> {
        match self {
            Self::Keep => None,
            Self::Remove => Some((key, None)),
            Self::Set(inner) => Some((key, Some(inner))),
        }
    }
}

/// See [`edit_in`].
pub(crate) fn edited_inner(inner: Option<&RawJson>, edits: &[(&str, Option<&RawJson>)]) -> Inner {
    let sets = edits.iter().any(|(_, value)| value.is_some());
    let empty = RawJson::empty_object();
    let (inner, new) = match inner {
        Some(inner) if inner.is_object() => (inner, false),
        _ if sets => (&empty, true),
        _ => return Inner::Keep,
    };
    let edited = edit(inner, edits);
    if !new && edited == *inner {
        Inner::Keep
    } else if scan_members(&edited).is_empty() {
        Inner::Remove
    } else {
        Inner::Set(edited)
    }
}
