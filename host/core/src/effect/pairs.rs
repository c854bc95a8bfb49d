//! Pairs of names and values: queries and forms, on the wire and as a tree of fields.

use std::collections::BTreeMap;

use super::percent::{decode, is_unreserved, push_encoded};
use crate::error::printable;
use crate::guard;
use crate::json::{Json, Object};

/// Why pairs are not a query or form that the host would write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PairFault {
    #[error("there are more than {0} parameters")]
    Many(usize),
    #[error("the parameters are longer than {0} bytes")]
    Long(usize),
    #[error("the name `{}` is empty, has control characters, or its brackets are not `name[key]`, `name[0]` or a final `name[]`", printable(.0))]
    Name(String),
    #[error("the value of `{}` has control characters", printable(.0))]
    Value(String),
    #[error("`{}` comes twice", printable(.0))]
    Twice(String),
    #[error("`{}` is used as a value, as an object or as a list, and can be only one of them", printable(.0))]
    Shape(String),
    #[error("the places in the list `{}` are not 0, 1, 2, …", printable(.0))]
    Gap(String),
    #[error("it is not percent-encoded UTF-8")]
    Encoding,
}

/// The most brackets in a name.
const DEEPEST: usize = 64;

/// The pairs as the host writes them: sorted by name (pairs of one name stay in their order), everything but
/// unreserved characters percent-encoded, which queries and forms read alike.
pub(super) fn write(pairs: &[(String, String)]) -> String {
    let mut sorted: Vec<&(String, String)> = pairs.iter().collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    let mut out = String::new();
    for (i, (name, value)) in sorted.into_iter().enumerate() {
        out.push_str(if i > 0 { "&" } else { "" });
        push_encoded(&mut out, name, is_unreserved);
        out.push('=');
        push_encoded(&mut out, value, is_unreserved);
    }
    out
}

/// The pairs of a text that [`write`] wrote.
pub(super) fn read(text: &str) -> Result<Vec<(String, String)>, PairFault> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let decoded = |text: &str| {
        decode(text)
            .map(std::borrow::Cow::into_owned)
            .map_err(|_| PairFault::Encoding)
    };
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').ok_or(PairFault::Encoding)?;
        Ok((decoded(name)?, decoded(value)?))
    };
    text.split('&').map(pair).collect()
}

/// The values as a tree: `a[b]` is the member `b` of `a`, `a[0]` and `a[]` are elements. All of them strings.
pub(super) fn tree(pairs: &[(String, String)]) -> Result<Json, PairFault> {
    let mut root = BTreeMap::new();
    for (name, value) in pairs {
        let (first, keys) = split_name(name).ok_or_else(|| PairFault::Name(name.clone()))?;
        insert(root.entry(first).or_insert(Node::New), &keys, name, value)?;
    }
    let members = root.into_iter().map(|(name, node)| Ok((name, node.into_json(name)?)));
    Ok(Json::Object(members.collect::<Result<Object, PairFault>>()?))
}

/// The pairs as they are, each a list of two.
pub(super) fn to_json(pairs: &[(String, String)]) -> Json {
    pairs
        .iter()
        .map(|(name, value)| Json::from(vec![name.as_str(), value.as_str()]))
        .collect()
}

/// What stands in one pair of brackets.
enum Key<'a> {
    Name(&'a str),
    Index(usize),
    Next,
}

/// The name before the brackets, and what is in them.
fn split_name(name: &str) -> Option<(&str, Vec<Key<'_>>)> {
    let end = name.find('[').unwrap_or(name.len());
    let (first, mut rest) = name.split_at_checked(end)?;
    let mut keys = Vec::new();
    while !rest.is_empty() {
        let (inside, after) = rest.strip_prefix('[')?.split_once(']')?;
        keys.push(key(inside, after.is_empty())?);
        rest = after;
    }
    if keys.len() >= DEEPEST {
        return None;
    }
    let plain = !first.is_empty() && !first.contains(']') && !name.contains(char::is_control);
    guard!("wire.parameter-name", plain).then_some((first, keys))
}

fn key(inside: &str, last: bool) -> Option<Key<'_>> {
    if inside.is_empty() {
        // Services disagree about which element `a[][b]` is in.
        return last.then_some(Key::Next);
    }
    if !inside.bytes().all(|b| b.is_ascii_digit()) {
        return (!inside.contains('[')).then_some(Key::Name(inside));
    }
    let index: usize = inside.parse().ok()?;
    (index.to_string() == inside).then_some(Key::Index(index))
}

enum Node<'a> {
    New,
    Value(&'a str),
    Members(BTreeMap<&'a str, Node<'a>>),
    Elements(BTreeMap<usize, Node<'a>>),
    List(Vec<&'a str>),
}

fn insert<'a>(node: &mut Node<'a>, keys: &[Key<'a>], name: &'a str, value: &'a str) -> Result<(), PairFault> {
    let Some((key, rest)) = keys.split_first() else {
        if !guard!("wire.duplicate-parameter", matches!(node, Node::New)) {
            let again = matches!(node, Node::Value(_));
            return Err(if again {
                PairFault::Twice(name.to_owned())
            } else {
                PairFault::Shape(name.to_owned())
            });
        }
        *node = Node::Value(value);
        return Ok(());
    };
    if matches!(node, Node::New) {
        *node = match key {
            Key::Name(_) => Node::Members(BTreeMap::new()),
            Key::Index(_) => Node::Elements(BTreeMap::new()),
            Key::Next => Node::List(Vec::new()),
        };
    }
    match (node, key) {
        (Node::Members(members), Key::Name(key)) => insert(members.entry(key).or_insert(Node::New), rest, name, value),
        (Node::Elements(elements), Key::Index(index)) => {
            insert(elements.entry(*index).or_insert(Node::New), rest, name, value)
        }
        (Node::List(list), Key::Next) => {
            list.push(value);
            Ok(())
        }
        _ => Err(PairFault::Shape(name.to_owned())),
    }
}

impl Node<'_> {
    fn into_json(self, name: &str) -> Result<Json, PairFault> {
        match self {
            Self::New => Ok(Json::Null),
            Self::Value(value) => Ok(value.into()),
            Self::List(values) => Ok(values.into_iter().collect()),
            Self::Members(members) => {
                let members = members.into_iter().map(|(key, node)| Ok((key, node.into_json(name)?)));
                Ok(Json::Object(members.collect::<Result<Object, PairFault>>()?))
            }
            Self::Elements(elements) => {
                if !guard!("wire.list-gap", elements.keys().copied().eq(0..elements.len())) {
                    return Err(PairFault::Gap(name.to_owned()));
                }
                let elements = elements.into_values().map(|node| node.into_json(name));
                Ok(Json::Array(elements.collect::<Result<_, PairFault>>()?))
            }
        }
    }
}

/// Checks pairs as the guest gave them, before anything is made of them: at most `most` of them, at most `longest` bytes
/// together.
pub(super) fn check_size(pairs: &[(String, String)], most: usize, longest: usize) -> Result<(), PairFault> {
    if !guard!("wire.parameters", pairs.len() <= most) {
        return Err(PairFault::Many(most));
    }
    let bytes = pairs
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum::<usize>();
    if !guard!("wire.parameters-length", bytes <= longest) {
        return Err(PairFault::Long(longest));
    }
    Ok(())
}

/// Refuses control characters in values.
pub(super) fn check_values(pairs: &[(String, String)]) -> Result<(), PairFault> {
    let bad = pairs.iter().find(|(_, value)| value.contains(char::is_control));
    if !guard!("wire.query-control", bad.is_none()) {
        return Err(PairFault::Value(bad.map(|(name, _)| name.clone()).unwrap_or_default()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let pair = |pair: &str| pair.split_once('=').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        text.split_terminator('&').map(pair).collect()
    }

    #[track_caller]
    fn check(text: &str, json: &str) {
        assert_eq!(tree(&pairs(text)).map(|tree| tree.to_canonical()), Ok(json.to_owned()));
    }

    #[track_caller]
    fn refused(text: &str, fault: impl Fn(String) -> PairFault, name: &str) {
        assert_eq!(tree(&pairs(text)), Err(fault(name.to_owned())), "{text}");
    }

    #[test]
    fn brackets_are_a_tree() {
        check("", "{}");
        check("amount=100&charge=ch_1", r#"{"amount":"100","charge":"ch_1"}"#);
        check("m[a]=1&m[b][c]=2", r#"{"m":{"a":"1","b":{"c":"2"}}}"#);
        check("e[]=x&e[]=y", r#"{"e":["x","y"]}"#);
        check(
            "i[1][p]=2&i[0][p]=1&i[0][q]=3",
            r#"{"i":[{"p":"1","q":"3"},{"p":"2"}]}"#,
        );
        check(
            "a.b=1&a b=2&-1=3&a[-1]=4",
            r#"{"-1":"3","a":{"-1":"4"},"a b":"2","a.b":"1"}"#,
        );
    }

    #[test]
    fn what_services_read_differently_is_refused() {
        use PairFault::*;
        refused("amount=1&amount=2", Twice, "amount");
        refused("m[a]=1&m[a]=1", Twice, "m[a]");
        refused("i[0]=1&i[0]=2", Twice, "i[0]");
        refused("amount=1&amount[]=2", Shape, "amount[]");
        refused("amount[]=1&amount=2", Shape, "amount");
        refused("a[b]=1&a[]=2", Shape, "a[]");
        refused("a[b]=1&a[0]=2", Shape, "a[0]");
        refused("a[0]=1&a[]=2", Shape, "a[]");
        refused("a[b][c]=1&a[b]=2", Shape, "a[b]");
        refused("a[1]=1", Gap, "a");
        refused("a[b][0]=1&a[b][2]=1", Gap, "a");
        for name in [
            "", "[a]", "a[b", "a]", "a]b[c]", "a[b]c", "a[[b]]", "a[][b]", "a[][]", "a[00]", "a[01]", "a\nb", "a[b\0]",
        ] {
            refused(&format!("{name}=1"), Name, name);
        }
        refused(
            &format!("a{}=1", "[b]".repeat(64)),
            Name,
            &format!("a{}", "[b]".repeat(64)),
        );
        refused("a[99999999999999999999]=1", Name, "a[99999999999999999999]");
    }

    #[test]
    fn written_in_one_way() {
        let given = pairs("b=x y&a[]=2&a[]=1&c=é+/%&a=");
        assert_eq!(write(&given), "a=&a%5B%5D=2&a%5B%5D=1&b=x%20y&c=%C3%A9%2B%2F%25");
        let mut smuggled = pairs("a=1");
        smuggled.push(("b&c".into(), "1&amount=2=3#?\r\n".into()));
        assert_eq!(write(&smuggled), "a=1&b%26c=1%26amount%3D2%3D3%23%3F%0D%0A");
        assert_eq!(read(&write(&smuggled)), Ok(smuggled));
    }

    #[test]
    fn sizes_and_values() {
        let three = pairs("a=1&b=2&c=3");
        assert_eq!(check_size(&three, 3, 6), Ok(()));
        assert_eq!(check_size(&three, 2, 6), Err(PairFault::Many(2)));
        assert_eq!(check_size(&three, 3, 5), Err(PairFault::Long(5)));
        assert_eq!(check_values(&three), Ok(()));
        assert_eq!(check_values(&pairs("a=1&b=2\r\n")), Err(PairFault::Value("b".into())));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(mut given in proptest::collection::vec((any::<String>(), any::<String>()), 0..6)) {
            let text = write(&given);
            prop_assert!(text.bytes().all(|b| is_unreserved(b) || matches!(b, b'%' | b'&' | b'=')));
            given.sort_by(|a, b| a.0.cmp(&b.0));
            prop_assert_eq!(read(&text), Ok(given));
        }

        #[test]
        fn a_tree_has_every_value(given in proptest::collection::vec((r"[ab](\[[ab01]?\]){0,2}", "[a-z]{1,3}"), 0..5)) {
            if let Ok(tree) = tree(&given) {
                let mut values: Vec<_> = given.iter().map(|(_, value)| value.as_str()).collect();
                let mut found: Vec<_> = crate::field::leaves(&tree).iter().filter_map(|(_, leaf)| leaf.as_str()).collect();
                values.sort_unstable();
                found.sort_unstable();
                prop_assert_eq!(values, found);
            }
        }
    }
}
