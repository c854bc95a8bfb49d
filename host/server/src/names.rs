//! What functions are called over MCP.
//!
//! A name there is 1 to 64 of `[A-Za-z0-9_-]`, which is what every client takes; a function's is its tool's name, `_`, and its id with
//! `_` for every other character. Two functions that would be called the same, one whose name would be too long, and one that would be
//! called like the host's own tools, have the beginning of a digest of tool and function behind it. So a name means one function, and as
//! long as that is there, no tool that is added takes its name: at most the name is gone.

use std::collections::{BTreeMap, BTreeSet};

use ambit_core::digest::Digest;
use ambit_core::guard;

/// The most characters that every client takes.
const LONGEST: usize = 64;
/// How much of the digest is behind a name: 64 bits, which nobody meets by chance.
const MARK: usize = 16;
/// What the host's own tools begin with.
pub(crate) const OWN: &str = "ambit_";

/// Names for these functions, each a tool and a function of it, by those. Whatever else there is, a name means one function. Functions
/// that would have one name for all that, which somebody would have to want, have none.
pub(crate) fn names<'f>(functions: impl Iterator<Item = (&'f str, &'f str)>) -> BTreeMap<(&'f str, &'f str), String> {
    let functions: BTreeSet<_> = functions.collect();
    let mut users: BTreeMap<String, usize> = BTreeMap::new();
    for (tool, function) in &functions {
        *users.entry(plain(tool, function)).or_default() += 1;
    }
    let name = |tool: &str, function: &str| {
        let plain = plain(tool, function);
        let alone = users.get(&plain).is_none_or(|users| *users == 1);
        let free = guard!("mcp.name-alone", alone && !looks_marked(&plain)) && !plain.starts_with(OWN);
        if free && plain.len() <= LONGEST {
            plain
        } else {
            marked(&plain, tool, function)
        }
    };
    let named = functions
        .into_iter()
        .map(|(tool, function)| ((tool, function), name(tool, function)));
    let mut named: BTreeMap<_, _> = named.collect();
    let mut owners: BTreeMap<String, usize> = BTreeMap::new();
    for name in named.values() {
        *owners.entry(name.clone()).or_default() += 1;
    }
    named.retain(|_, name| guard!("mcp.name-alone", owners.get(name).is_some_and(|owners| *owners == 1)));
    named
}

fn plain(tool: &str, function: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    format!("{tool}_{function}").chars().map(fits).collect()
}

/// Whether a name could be one with a mark: it gets one of its own, so that the two are never the same.
fn looks_marked(plain: &str) -> bool {
    plain.rsplit_once('_').is_some_and(|(_, last)| {
        last.len() == MARK && last.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

fn marked(plain: &str, tool: &str, function: &str) -> String {
    let digest = Digest::domain("ambit/mcp-name/v1", &[tool.as_bytes(), function.as_bytes()]).to_hex();
    let mark: String = digest.chars().take(MARK).collect();
    let kept: String = plain.chars().take(LONGEST - MARK - 1).collect();
    format!("{kept}_{mark}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    fn of<'f>(functions: &[(&'f str, &'f str)]) -> Vec<String> {
        let names = names(functions.iter().copied());
        functions.iter().map(|function| names[function].clone()).collect()
    }

    #[test]
    fn a_function_is_called_by_its_tool_and_id() {
        assert_eq!(of(&[("stripe", "refunds.create")]), ["stripe_refunds_create"]);
    }

    #[test]
    fn functions_that_would_be_called_the_same_are_told_apart_whoever_comes_first() {
        let both = of(&[("a", "b.c"), ("a_b", "c")]);
        assert_ne!(both[0], both[1]);
        assert!(both.iter().all(|name| name.starts_with("a_b_c_")), "{both:?}");
        let mut turned = of(&[("a_b", "c"), ("a", "b.c")]);
        turned.reverse();
        assert_eq!(turned, both);
    }

    #[test]
    fn a_name_that_looks_like_one_with_a_mark_has_its_own() {
        let both = of(&[("a", "b.c"), ("a_b", "c")]);
        let third = both[0].strip_prefix("a_").unwrap().to_owned();
        let all = of(&[("a", "b.c"), ("a_b", "c"), ("a", &third)]);
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 3, "{all:?}");
    }

    #[test]
    fn no_function_is_called_like_the_host_s_own_tools() {
        let names = of(&[("ambit", "call.status"), ("ambit", "call-status")]);
        assert!(names.iter().all(|name| name != "ambit_call_status"), "{names:?}");
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 2);
    }

    #[test]
    fn trap_18_every_name_is_one_that_clients_take() {
        let long = "x".repeat(200);
        let names = of(&[("tool", &long), (&long, "f"), ("tool", "grüße.an"), ("t", "i.get%user")]);
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 4);
        for name in names {
            let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
            assert!((1..=LONGEST).contains(&name.len()) && name.bytes().all(fits), "{name}");
        }
    }

    /// Few letters, so that many would be called the same.
    fn functions() -> impl Strategy<Value = BTreeSet<(String, String)>> {
        let tool = "[ab_]{1,3}";
        let function = "[ab._%]{1,4}|[ab]_[0-9a-f]{16}|[a.]{60,70}";
        proptest::collection::btree_set((tool, function), 1..12)
    }

    fn named(functions: &BTreeSet<(String, String)>) -> BTreeMap<(&str, &str), String> {
        names(
            functions
                .iter()
                .map(|(tool, function)| (tool.as_str(), function.as_str())),
        )
    }

    proptest! {
        #[test]
        fn a_name_means_one_function_and_goes_on_meaning_it(some in functions(), more in functions()) {
            let both: BTreeSet<_> = some.union(&more).cloned().collect();
            let (before, after) = (named(&some), named(&both));
            prop_assert_eq!(before.len(), some.len());
            prop_assert_eq!(before.values().collect::<BTreeSet<_>>().len(), before.len());
            for (function, name) in &before {
                let owner = after.iter().find(|(_, other)| *other == name);
                prop_assert!(owner.is_none_or(|(owner, _)| owner == function), "{} goes to another", name);
            }
            for name in after.values() {
                let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
                prop_assert!((1..=LONGEST).contains(&name.len()) && name.bytes().all(fits), "{}", name);
            }
        }
    }
}
