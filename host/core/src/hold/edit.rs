//! Edits: a person changes fields of an effect that waits, and what follows is another effect, which waits anew.
//!
//! [`Changes`] are what would differ from what the tool asked for, all of it: an edit of an edited effect says again what the one
//! before it said. They are applied to the guest's request, to scalars of its body alone, and everything is decided about the
//! outcome as about any request. What a person signs is an [`Edit`]: it names the changes by their digest, which covers a salt of
//! theirs, so that nobody can guess a short value from it.

use std::collections::{BTreeMap, BTreeSet};

use super::said::{self, Lines, Said};
use super::{Electorate, End, Found, Hold, HoldError, Progress, malformed};
use crate::digest::Digest;
use crate::effect::{GuestBody, GuestRequest};
use crate::error::{Code, Refusal, printable};
use crate::field::{Place, PlaceStep};
use crate::guard;
use crate::json::{Json, Limits, Object};
use crate::ledger::{LedgerError, SignerKey, VerifierKey};

/// The first line of an edit: what is signed can be taken for nothing else.
const EDIT: &str = "ambit edit v1";
/// The most fields that an edit changes.
pub const MOST_CHANGES: usize = 64;
/// The longest text of changes that is read, in bytes.
const LONGEST: usize = 65_536;

/// What a person says about one hold: that its effect is to be another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The person, by the name of the key.
    pub person: String,
    /// The hold.
    pub hold: Digest,
    /// [`Changes::digest`] of what would differ.
    pub changes: Digest,
    /// The group that the person speaks for.
    pub group: String,
    /// From then on it no longer counts, in milliseconds since 1970.
    pub expires_ms: u64,
}

impl Edit {
    /// Signs it with the person's own key: a C2SP signed note.
    ///
    /// # Errors
    /// [`LedgerError::Key`] where the key is another person's.
    pub fn sign(&self, key: &SignerKey) -> Result<String, LedgerError> {
        said::sign(self, key)
    }

    /// Reads a signed edit. Nothing of it is believed before the person's key has verified it.
    ///
    /// # Errors
    /// [`LedgerError::Signature`] where `key` did not sign it; [`LedgerError::Note`] where it is no edit.
    pub fn open(note: &str, key: &VerifierKey) -> Result<Self, LedgerError> {
        said::open(note, key)
    }

    /// Reads an edit as whoever wrote it would have it: for showing, and to find the key that verifies it.
    ///
    /// # Errors
    /// [`LedgerError::Note`] where it is no edit.
    pub fn claimed(note: &str) -> Result<Self, LedgerError> {
        said::claimed(note)
    }
}

impl Said for Edit {
    const KIND: &'static str = "edit";

    fn person(&self) -> &str {
        &self.person
    }

    /// Six lines.
    fn text(&self) -> String {
        format!(
            "{EDIT}\nhold {}\nchanges {}\nperson {}\ngroup {}\nexpires {}\n",
            self.hold, self.changes, self.person, self.group, self.expires_ms
        )
    }

    fn parse(text: &str) -> Result<Self, LedgerError> {
        let mut lines = Lines::after::<Self>(EDIT, text)?;
        let digest = |text: &str| {
            let digest = text.parse();
            digest.map_err(|_| malformed(Self::KIND, "a digest of it is none"))
        };
        Ok(Self {
            hold: digest(lines.member("hold")?)?,
            changes: digest(lines.member("changes")?)?,
            person: lines.member("person")?.to_owned(),
            group: lines.member("group")?.to_owned(),
            expires_ms: lines.time("expires")?,
        })
    }
}

impl Progress {
    /// Ends the hold by an edit, where whoever signed it may. What they may not, others may: nothing has changed then.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn edit(
        &self,
        hold: &Hold,
        edit: &Edit,
        changes: &Digest,
        now_ms: u64,
        electorate: &Electorate<'_>,
    ) -> Result<(Self, End), HoldError> {
        let ended = self.end(hold, now_ms, Found::Edited)?;
        if !guard!("hold.edit-bound", edit.hold == hold.id) {
            return Err(HoldError::Another);
        }
        if !guard!("hold.edit-changes", edit.changes == *changes) {
            return Err(HoldError::OtherChanges);
        }
        if !guard!("hold.edit-expiry", edit.expires_ms > now_ms) {
            return Err(HoldError::EditExpired);
        }
        // Whoever edited it before may go on doing so: it is their approval that does not count.
        if !guard!("hold.edit-own", !hold.asked_by(&edit.person)) {
            return Err(HoldError::Own(edit.person.clone()));
        }
        if !guard!("hold.edit-member", electorate.is_member(&edit.person, &edit.group)) {
            return Err(HoldError::NotAMember {
                person: edit.person.clone(),
                group: printable(&edit.group),
            });
        }
        if !guard!("hold.edit-asked", hold.asks_for(&edit.group)) {
            return Err(HoldError::NotAsked(printable(&edit.group)));
        }
        Ok(ended)
    }
}

/// What would differ from what the tool asked for: fields of the request's body by their paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// Hexadecimal digits that nobody can guess.
    salt: String,
    /// Scalars to have, by the printed path of the field.
    set: BTreeMap<String, Json>,
    /// Fields not to have.
    unset: BTreeSet<String>,
}

impl Changes {
    /// None yet. `salt` is random.
    #[must_use]
    pub fn new(salt: &[u8; 16]) -> Self {
        Self {
            salt: data_encoding::HEXLOWER.encode(salt),
            set: BTreeMap::new(),
            unset: BTreeSet::new(),
        }
    }

    /// Has a field be `value`: a member, or an element of a list that is there.
    ///
    /// # Errors
    /// [`Code::Field`] where the path is not one of a single value, or the value is a list or an object.
    pub fn set(&mut self, path: &str, value: Json) -> Result<(), Refusal> {
        let path = place(path)?.to_string();
        if matches!(value, Json::Array(_) | Json::Object(_)) {
            let kind = value.kind();
            return Err(refuse(&path, &format!("an {kind} cannot be set: a field is a scalar")));
        }
        self.unset.remove(&path);
        self.set.insert(path, value);
        Ok(())
    }

    /// Has a field not be there.
    ///
    /// # Errors
    /// [`Code::Field`] where the path is not one of a single member: an element of a list has others behind it, which would move up.
    pub fn unset(&mut self, path: &str) -> Result<(), Refusal> {
        let place = place(path)?;
        let path = place.to_string();
        if let Some(PlaceStep::Index(_)) = place.steps().last() {
            return Err(refuse(&path, "an element of a list can be set, and not taken away"));
        }
        self.set.remove(&path);
        self.unset.insert(path);
        Ok(())
    }

    /// Also says what `earlier` says of fields that this says nothing of.
    pub fn keep(&mut self, earlier: &Self) {
        for (path, value) in &earlier.set {
            if !self.unset.contains(path) {
                self.set.entry(path.clone()).or_insert_with(|| value.clone());
            }
        }
        let kept = earlier.unset.iter().filter(|path| !self.set.contains_key(*path));
        self.unset.extend(kept.cloned().collect::<Vec<_>>());
    }

    /// The fields that it is about, with what each is to be; none for one that is not to be there.
    pub fn fields(&self) -> impl Iterator<Item = (&str, Option<&Json>)> {
        let set = self.set.iter().map(|(path, value)| (path.as_str(), Some(value)));
        set.chain(self.unset.iter().map(|path| (path.as_str(), None)))
    }

    /// As one text, spelled one way.
    #[must_use]
    pub fn to_text(&self) -> String {
        let set: Object = self
            .set
            .iter()
            .map(|(path, value)| (path.clone(), value.clone()))
            .collect();
        let unset: Vec<Json> = self.unset.iter().map(|path| Json::from(path.as_str())).collect();
        let members = [
            ("salt", Json::from(self.salt.as_str())),
            ("set", Json::Object(set)),
            ("unset", Json::Array(unset)),
        ];
        Json::Object(Object::from(members)).to_canonical()
    }

    /// What an [`Edit`] names it by.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::domain("ambit/changes/v1", &[self.to_text().as_bytes()])
    }

    /// Reads changes as [`to_text`](Self::to_text) wrote them.
    ///
    /// # Errors
    /// [`Code::Field`] where the text is no such changes, or changes nothing, or too much.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let wrong = |why: &str| Refusal::new(Code::Field, format!("the changes cannot be read: {why}"));
        let limits = Limits {
            bytes: LONGEST,
            ..Limits::default()
        };
        let json = Json::parse(text, limits).map_err(|error| wrong(&error.to_string()))?;
        let salt = json.get("salt").and_then(Json::as_str).unwrap_or_default();
        let set = json.get("set").and_then(Json::as_object);
        let unset = json.get("unset").and_then(Json::as_array);
        let (Some(set), Some(unset)) = (set, unset) else {
            return Err(wrong("they lack `set` or `unset`"));
        };
        let mut changes = Self {
            salt: salt.to_owned(),
            set: BTreeMap::new(),
            unset: BTreeSet::new(),
        };
        for (path, value) in set.iter() {
            changes.set(path, value.clone())?;
        }
        for path in unset {
            changes.unset(path.as_str().ok_or_else(|| wrong("a path is no text"))?)?;
        }
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let salted = changes.salt.len() == 32 && changes.salt.bytes().all(hex);
        // One spelling: what was signed is what printing it gives again.
        if !salted || changes.to_text() != text {
            return Err(wrong("they are not written as changes are"));
        }
        let count = changes.set.len() + changes.unset.len();
        if !(1..=MOST_CHANGES).contains(&count) {
            return Err(wrong(&format!(
                "they are about {count} fields, not 1 to {MOST_CHANGES}"
            )));
        }
        Ok(changes)
    }

    /// The guest's request with the changes: of its body alone, its other parts stay.
    ///
    /// # Errors
    /// [`Code::Field`] where a field to be taken away is not there, or one to be set cannot be; [`Code::Body`] where there is no body,
    /// or none that can be read.
    pub fn apply(&self, guest: &GuestRequest) -> Result<GuestRequest, Refusal> {
        let body = match &guest.body {
            GuestBody::None => {
                return Err(Refusal::new(
                    Code::Body,
                    "the request has no body, so no field to change",
                ));
            }
            GuestBody::Json(text) => GuestBody::Json(self.in_json(text)?),
            GuestBody::Form(pairs) => GuestBody::Form(self.in_form(pairs)?),
        };
        let changed = GuestRequest { body, ..guest.clone() };
        Ok(changed)
    }

    fn in_json(&self, text: &str) -> Result<String, Refusal> {
        let limits = Limits {
            bytes: usize::MAX,
            ..Limits::default()
        };
        let body = Json::parse(text, limits);
        let mut body = body.map_err(|error| Refusal::new(Code::Body, format!("the body is not JSON: {error}")))?;
        for (path, value) in self.fields() {
            put(&mut body, place(path)?.steps(), value).map_err(|why| refuse(path, why))?;
        }
        Ok(body.to_canonical())
    }

    fn in_form(&self, pairs: &[(String, String)]) -> Result<Vec<(String, String)>, Refusal> {
        let mut pairs = pairs.to_vec();
        for (path, value) in self.fields() {
            let place = place(path)?;
            let found = pair_at(&pairs, place.steps()).map_err(|why| refuse(path, why))?;
            match (value, found) {
                (None, None) => return Err(refuse(path, NOT_THERE)),
                (None, Some(found)) => drop(pairs.remove(found)),
                (Some(value), found) => {
                    let text = form_text(value).ok_or_else(|| refuse(path, "a form has no null"))?;
                    if let Some((_, old)) = found.and_then(|found| pairs.get_mut(found)) {
                        *old = text;
                    } else {
                        elements_are_there(&pairs, place.steps()).map_err(|why| refuse(path, why))?;
                        pairs.push((bracketed(place.steps()), text));
                    }
                }
            }
        }
        Ok(pairs)
    }

    /// What each of the fields was in the guest's request: none where it was not there, or cannot be read.
    #[must_use]
    pub fn before(&self, guest: &GuestRequest) -> Vec<Option<Json>> {
        let json = match &guest.body {
            GuestBody::Json(text) => Json::parse(text, Limits::default()).ok(),
            _ => None,
        };
        let value = |(path, _): (&str, _)| match &guest.body {
            GuestBody::None => None,
            GuestBody::Json(_) => {
                let place = place(path).ok()?;
                place.steps().iter().try_fold(json.as_ref()?, step_down).cloned()
            }
            GuestBody::Form(pairs) => {
                let found = pair_at(pairs, place(path).ok()?.steps()).ok()??;
                let (_, value) = pairs.get(found)?;
                Some(Json::from(value.as_str()))
            }
        };
        self.fields().map(value).collect()
    }

    /// What each of the fields is to be, as the guest's request spells values: those of a form are texts. None where it is not to be there.
    #[must_use]
    pub fn after(&self, guest: &GuestRequest) -> Vec<Option<Json>> {
        let spelled = |value: &Json| match &guest.body {
            GuestBody::Form(_) => form_text(value).map(Json::from),
            GuestBody::Json(_) | GuestBody::None => Some(value.clone()),
        };
        self.fields().map(|(_, value)| value.and_then(spelled)).collect()
    }
}

fn refuse(path: &str, why: &str) -> Refusal {
    Refusal::new(
        Code::Field,
        format!("the field `{}` cannot be changed: {why}", printable(path)),
    )
}

/// A path that stands for one value.
fn place(path: &str) -> Result<Place, Refusal> {
    path.parse()
        .map_err(|error: crate::field::FieldError| refuse(path, error.message))
}

fn step_down<'j>(value: &'j Json, step: &PlaceStep) -> Option<&'j Json> {
    match step {
        PlaceStep::Name(name) => value.get(name),
        PlaceStep::Index(index) => value.as_array()?.get(*index),
    }
}

/// Sets or takes away the scalar at the end of `steps`. Members are made on the way where they are not there; elements never are.
fn put(root: &mut Json, steps: &[PlaceStep], value: Option<&Json>) -> Result<(), &'static str> {
    match (steps.split_first(), root) {
        (Some((PlaceStep::Name(name), rest)), Json::Object(members)) => {
            let old = members.remove(name);
            if old.is_none() && value.is_none() {
                return Err(NOT_THERE);
            }
            if let Some(now) = put_below(old, rest, value)? {
                members.insert(name.as_str(), now);
            }
            Ok(())
        }
        (Some((PlaceStep::Index(index), rest)), Json::Array(elements)) => {
            let element = elements.get_mut(*index).ok_or("the list has no such element")?;
            let old = std::mem::replace(element, Json::Null);
            *element = put_below(Some(old), rest, value)?.ok_or("an element cannot be taken away")?;
            Ok(())
        }
        (Some((PlaceStep::Name(_), _)), _) => Err("what it would be in is no object"),
        (Some((PlaceStep::Index(_), _)), _) => Err("what it would be in is no list"),
        (None, _) => Err("it names nothing"),
    }
}

/// What stands where `steps` go on from: a scalar at their end.
fn put_below(old: Option<Json>, rest: &[PlaceStep], value: Option<&Json>) -> Result<Option<Json>, &'static str> {
    if !rest.is_empty() {
        let mut inner = old.unwrap_or_else(|| Json::Object(Object::new()));
        put(&mut inner, rest, value)?;
        return Ok(Some(inner));
    }
    if matches!(old, Some(Json::Array(_) | Json::Object(_))) {
        return Err("what is there is no scalar");
    }
    Ok(value.cloned())
}

const NOT_THERE: &str = "it is not there";

/// Which pair of a form has the value at that place: one of its name, or of those called `name[]` the one at its index. Two of one
/// name would leave it open which of them is meant, and so would a name that is spelled as another place is.
fn pair_at(pairs: &[(String, String)], steps: &[PlaceStep]) -> Result<Option<usize>, &'static str> {
    let brackets = |step: &PlaceStep| matches!(step, PlaceStep::Name(name) if name.contains(['[', ']']));
    if steps.iter().any(brackets) {
        return Err("a form cannot spell a name with brackets");
    }
    let name = bracketed(steps);
    let called = |name: String| {
        let all = pairs.iter().enumerate();
        all.filter(move |(_, (one, _))| *one == name).map(|(at, _)| at)
    };
    let mut exact = called(name);
    if let Some(found) = exact.next() {
        return match exact.next() {
            Some(_) => Err("the form has it more than once"),
            None => Ok(Some(found)),
        };
    }
    let Some((PlaceStep::Index(index), list)) = steps.split_last() else {
        return Ok(None);
    };
    let found = called(format!("{}[]", bracketed(list))).nth(*index);
    Ok(found)
}

/// As in JSON: an element that a place leads to, or through, has to be there.
fn elements_are_there(pairs: &[(String, String)], steps: &[PlaceStep]) -> Result<(), &'static str> {
    let ends = (1..=steps.len()).filter(|end| matches!(steps.get(end - 1), Some(PlaceStep::Index(_))));
    for end in ends {
        let element = bracketed(steps.get(..end).unwrap_or_default());
        let within = |name: &str| name.strip_prefix(&element).is_some_and(|rest| rest.starts_with('['));
        if !pairs.iter().any(|(name, _)| within(name)) {
            return Err("the list has no such element");
        }
    }
    Ok(())
}

/// The name of a form's pair: `metadata[order]`, `items[0][sku]`.
fn bracketed(steps: &[PlaceStep]) -> String {
    let mut steps = steps.iter();
    let first = match steps.next() {
        Some(PlaceStep::Name(name)) => name.clone(),
        Some(PlaceStep::Index(index)) => index.to_string(),
        None => String::new(),
    };
    steps.fold(first, |text, step| match step {
        PlaceStep::Name(name) => format!("{text}[{name}]"),
        PlaceStep::Index(index) => format!("{text}[{index}]"),
    })
}

fn form_text(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text.clone()),
        Json::Null => None,
        other => Some(other.to_canonical()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use proptest::prelude::*;

    use super::*;
    use crate::effect::Method;

    fn changes(set: &[(&str, Json)], unset: &[&str]) -> Changes {
        let mut made = Changes::new(&[7; 16]);
        set.iter()
            .for_each(|(path, value)| made.set(path, value.clone()).unwrap());
        unset.iter().for_each(|path| made.unset(path).unwrap());
        made
    }

    fn asks(body: GuestBody) -> GuestRequest {
        GuestRequest {
            method: Method::Post,
            path: "/v1/refunds".into(),
            query: vec![("a".into(), "b".into())],
            headers: vec![],
            body,
        }
    }

    fn json(text: &str) -> GuestRequest {
        asks(GuestBody::Json(text.to_owned()))
    }

    fn form(pairs: &[(&str, &str)]) -> GuestRequest {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        asks(GuestBody::Form(pairs.collect()))
    }

    #[test]
    fn both_sides_of_a_change_are_spelled_as_the_request_spells_values() {
        let changed = changes(
            &[("amount", Json::from(15_000_u64)), ("urgent", Json::from(true))],
            &["reason"],
        );
        let form = form(&[("amount", "20000"), ("reason", "duplicate")]);
        assert_eq!(
            changed.before(&form),
            [Some("20000".into()), None, Some("duplicate".into())]
        );
        assert_eq!(changed.after(&form), [Some("15000".into()), Some("true".into()), None]);
        let json = json(r#"{"amount":20000,"reason":"duplicate"}"#);
        assert_eq!(changed.before(&json)[0], Some(Json::from(20_000_u64)));
        assert_eq!(
            changed.after(&json),
            [Some(Json::from(15_000_u64)), Some(Json::from(true)), None]
        );
    }

    #[test]
    fn what_is_signed_has_one_spelling() {
        let key = SignerKey::from_seed("rita", &[7; 32]).unwrap();
        let edit = Edit {
            person: "rita".into(),
            hold: Digest::of(b"hold"),
            changes: changes(&[("amount", Json::from(1_u64))], &[]).digest(),
            group: "finance".into(),
            expires_ms: 7,
        };
        let note = edit.sign(&key).unwrap();
        assert!(note.starts_with("ambit edit v1\nhold sha256:"), "{note}");
        assert_eq!(Edit::open(&note, key.verifier()).unwrap(), edit);
        assert_eq!(Edit::claimed(&note).unwrap(), edit);
        let other = SignerKey::from_seed("sam", &[7; 32]).unwrap();
        assert!(edit.sign(&other).is_err());
        assert!(Edit::open(&note, other.verifier()).is_err());
        // It is no vote, and no vote is one.
        assert!(super::super::Vote::open(&note, key.verifier()).is_err());
        for (from, to) in [
            ("expires 7", "expires 07"),
            ("ambit edit v1", "ambit edit v2"),
            ("group finance\n", ""),
        ] {
            let text = edit.text().replace(from, to);
            assert!(Edit::open(&key.sign(&text), key.verifier()).is_err(), "{text}");
        }
    }

    #[test]
    fn changes_have_one_spelling() {
        let made = changes(
            &[("amount", Json::from(4000_u64)), ("to.name", Json::from("é"))],
            &["note"],
        );
        let text = made.to_text();
        let salt = "07".repeat(16);
        assert_eq!(
            text,
            format!(r#"{{"salt":"{salt}","set":{{"amount":4000,"to.name":"é"}},"unset":["note"]}}"#)
        );
        assert_eq!(Changes::parse(&text).unwrap(), made);
        for (from, to) in [
            ("\"salt\":\"07", "\"salt\":\"7"),
            ("\"salt\":\"07", "\"salt\":\"XX"),
            ("{\"salt", " {\"salt"),
            ("\"note\"", "\"note\",\"note\""),
            ("\"note\"", "\"amount\""),
            ("\"note\"", "\"items[].x\""),
            ("\"note\"", "\"note.**\""),
            ("4000", "[4000]"),
            ("\"set\"", "\"sets\""),
        ] {
            let text = text.replace(from, to);
            assert!(Changes::parse(&text).is_err(), "{text}");
        }
        assert!(Changes::parse(&Changes::new(&[7; 16]).to_text()).is_err(), "none");
        let mut many = Changes::new(&[7; 16]);
        (0..=MOST_CHANGES).for_each(|nth| many.unset(&format!("f{nth}")).unwrap());
        assert!(Changes::parse(&many.to_text()).is_err(), "too many");
        // Others cannot guess a value from a digest: it covers the salt.
        let mut other = Changes::new(&[8; 16]);
        other.keep(&made);
        assert_ne!(other.digest(), made.digest());
    }

    #[test]
    fn the_last_word_about_a_field_holds() {
        let mut now = changes(&[("amount", Json::from(1_u64))], &["note"]);
        now.keep(&changes(
            &[
                ("amount", Json::from(2_u64)),
                ("note", Json::Null),
                ("more", Json::from("x")),
            ],
            &["gone"],
        ));
        assert_eq!(
            now,
            changes(
                &[("amount", Json::from(1_u64)), ("more", Json::from("x"))],
                &["note", "gone"]
            )
        );
        let mut now = changes(&[("gone", Json::from(1_u64))], &[]);
        now.keep(&changes(&[], &["gone"]));
        assert_eq!(now, changes(&[("gone", Json::from(1_u64))], &[]));
    }

    #[test]
    fn elements_of_lists_can_be_set() {
        let set = [
            ("items[1].price", Json::from(5_u64)),
            ("items[0].sku", Json::from("new")),
            ("tags[1]", Json::from("y")),
        ];
        let made = changes(&set, &["items[1].note"]);
        let before = json(r#"{"items":[{"price":1},{"note":"x","price":2}],"tags":["a","b"]}"#);
        let after = made.apply(&before).unwrap();
        let GuestBody::Json(text) = &after.body else { panic!() };
        assert_eq!(
            text,
            r#"{"items":[{"price":1,"sku":"new"},{"price":5}],"tags":["a","y"]}"#
        );
        let was = [
            None,
            Some(Json::from(2_u64)),
            Some(Json::from("b")),
            Some(Json::from("x")),
        ];
        assert_eq!(made.before(&before), was);
        let before = [
            ("items[0][price]", "1"),
            ("items[1][note]", "x"),
            ("items[1][price]", "2"),
            ("tags[]", "a"),
            ("tags[]", "b"),
        ];
        let after = made.apply(&form(&before)).unwrap();
        let GuestBody::Form(pairs) = &after.body else { panic!() };
        let shown: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let expected = [
            "items[0][price]=1",
            "items[1][price]=5",
            "tags[]=a",
            "tags[]=y",
            "items[0][sku]=new",
        ];
        assert_eq!(shown, expected);
        assert_eq!(made.before(&form(&before)).get(2), Some(&Some(Json::from("b"))));
        // What is not there is not made.
        for (path, body) in [
            ("tags[2]", r#"{"tags":["a","b"]}"#),
            ("tags[0]", "{}"),
            ("tags[0]", r#"{"tags":{"0":"a"}}"#),
            ("items[0]", r#"{"items":[{"price":1}]}"#),
            ("items[1].price", r#"{"items":[{"price":1}]}"#),
        ] {
            assert!(
                changes(&[(path, Json::from(1_u64))], &[]).apply(&json(body)).is_err(),
                "{path} {body}"
            );
        }
        for path in ["tags[2]", "items[2].price", "more[0]"] {
            assert!(
                changes(&[(path, Json::from(1_u64))], &[])
                    .apply(&form(&before))
                    .is_err(),
                "{path}"
            );
        }
        assert!(Changes::new(&[7; 16]).unset("tags[0]").is_err());
    }

    #[test]
    fn what_a_form_says_twice_is_not_changed() {
        let twice = form(&[("reason", "duplicate"), ("amount", "1"), ("reason", "")]);
        for made in [changes(&[("reason", Json::from("x"))], &[]), changes(&[], &["reason"])] {
            let refused = made.apply(&twice).unwrap_err();
            assert!(refused.message.contains("more than once"), "{refused:?}");
            assert_eq!(made.before(&twice), [None]);
        }
        // Another place is spelled the same.
        let quoted = changes(&[("\"to[name]\"", Json::from("x"))], &[]);
        assert!(quoted.apply(&form(&[("to[name]", "y")])).is_err());
        assert!(quoted.apply(&json(r#"{"to[name]":"y"}"#)).is_ok());
    }

    #[test]
    fn changes_are_of_the_body_s_scalars_alone() {
        let all = changes(
            &[
                ("amount", Json::from(4000_u64)),
                ("to.name", Json::from("y")),
                ("new.one", Json::Bool(true)),
            ],
            &["note"],
        );
        let before = json(r#"{"amount":9000,"note":"x","to":{"id":1,"name":"x"}}"#);
        let after = all.apply(&before).unwrap();
        let GuestBody::Json(text) = &after.body else { panic!() };
        assert_eq!(text, r#"{"amount":4000,"new":{"one":true},"to":{"id":1,"name":"y"}}"#);
        let same = GuestRequest {
            body: before.body.clone(),
            ..after
        };
        assert_eq!(same, before, "all else stays");
        let was = [
            Some(Json::from(9000_u64)),
            None,
            Some(Json::from("x")),
            Some(Json::from("x")),
        ];
        assert_eq!(all.before(&before), was);
        let pairs = form(&[("amount", "9000"), ("note", "x"), ("to[name]", "x")]);
        let after = all.apply(&pairs).unwrap();
        let expected = form(&[("amount", "4000"), ("to[name]", "y"), ("new[one]", "true")]);
        let sorted = |request: GuestRequest| match request.body {
            GuestBody::Form(mut pairs) => {
                pairs.sort();
                pairs
            }
            _ => panic!(),
        };
        assert_eq!(sorted(after), sorted(expected));
        for (set, unset, body) in [
            (&[("to", Json::from("x"))][..], &[][..], r#"{"to":{"name":"x"}}"#),
            (&[("to", Json::from("x"))], &[], r#"{"to":[1]}"#),
            (&[("to.name", Json::from("x"))], &[], r#"{"to":[1]}"#),
            (&[("to.name", Json::from("x"))], &[], r#"{"to":"x"}"#),
            (&[], &["to"], "{}"),
            (&[], &["to"], r#"{"to":{}}"#),
            (&[], &["to.name"], r#"{"to":{}}"#),
            (&[], &["to.name"], "{}"),
            (&[("a", Json::Null)], &[], "[]"),
            (&[("a", Json::Null)], &[], "no JSON"),
        ] {
            let refused = changes(set, unset).apply(&json(body));
            assert!(refused.is_err(), "{body}: {refused:?}");
        }
        assert!(changes(&[("a", Json::Null)], &[]).apply(&form(&[])).is_err());
        assert!(changes(&[], &["a"]).apply(&form(&[])).is_err());
        assert!(all.apply(&asks(GuestBody::None)).is_err());
    }

    proptest! {
        /// Whatever is changed, the same changes make the same of the same request, and read back.
        #[test]
        fn changes_are_a_function(
            fields in prop::collection::btree_map("[a-c](\\.[a-c]){0,2}", prop::option::of(0_u64..10), 1..5),
            body in "\\{(\"a\":[0-9])?\\}",
        ) {
            let mut made = Changes::new(&[7; 16]);
            for (path, value) in &fields {
                match value {
                    Some(value) => made.set(path, Json::from(*value)).unwrap(),
                    None => made.unset(path).unwrap(),
                }
            }
            let again = Changes::parse(&made.to_text()).unwrap();
            prop_assert_eq!(&again, &made);
            let request = json(&body);
            let (one, other) = (made.apply(&request).ok(), again.apply(&request).ok());
            prop_assert_eq!(&one, &other);
            if let Some(after) = one {
                for ((_, to), now) in made.fields().zip(made.before(&after)) {
                    prop_assert_eq!(to.cloned(), now);
                }
            }
        }
    }
}
