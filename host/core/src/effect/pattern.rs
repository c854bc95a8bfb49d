//! Patterns of paths, as scopes and routes write them.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::path::{self, PathFault};

/// A pattern of paths: `/v1/refunds/{id}/cancel`, `/reports/**`.
///
/// A literal segment matches itself, decoded. `{name}` matches one segment, and `**` at the end one or more. `/` alone
/// matches the connection's base.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PathPattern {
    segments: Vec<Segment>,
    rest: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Segment {
    Literal(String),
    Capture(String),
}

/// Why a text is not a pattern.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternFault {
    /// Not a path.
    #[error("the path is refused: {0}")]
    Path(#[from] PathFault),
    /// Braces that are not `{name}`.
    #[error("a capture is a whole segment `{{name}}` of lower-case letters, digits and `_`")]
    Capture,
    /// A `*` that is not the final `**`.
    #[error("`**` is the whole last segment, and there is no other wildcard")]
    Wildcard,
}

/// The longest pattern, in bytes.
const LONGEST: usize = 2048;

impl FromStr for PathPattern {
    type Err = PatternFault;

    fn from_str(text: &str) -> Result<Self, PatternFault> {
        if text.len() > LONGEST {
            return Err(PathFault::Long.into());
        }
        let below = text.strip_prefix('/').ok_or(PathFault::Start)?;
        if below.is_empty() {
            return Ok(Self {
                segments: Vec::new(),
                rest: false,
            });
        }
        let (fixed, rest) = match below.strip_suffix("**") {
            Some("") => {
                return Ok(Self {
                    segments: Vec::new(),
                    rest: true,
                });
            }
            Some(fixed) => (fixed.strip_suffix('/').ok_or(PatternFault::Wildcard)?, true),
            None => (below, false),
        };
        let segments = fixed.split('/').map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { segments, rest })
    }
}

impl FromStr for Segment {
    type Err = PatternFault;

    fn from_str(text: &str) -> Result<Self, PatternFault> {
        if text.contains('*') {
            return Err(PatternFault::Wildcard);
        }
        if !text.contains(['{', '}']) {
            return Ok(Self::Literal(path::segment(text)?.into_owned()));
        }
        let name = text
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'))
            .ok_or(PatternFault::Capture)?;
        let letter = |b: u8| b.is_ascii_lowercase() || b == b'_';
        let named = name.bytes().next().is_some_and(letter) && name.bytes().all(|b| letter(b) || b.is_ascii_digit());
        if named && name.len() <= 64 {
            Ok(Self::Capture(name.to_owned()))
        } else {
            Err(PatternFault::Capture)
        }
    }
}

impl PathPattern {
    /// Whether the decoded `segments` match.
    #[must_use]
    pub fn matches(&self, segments: &[String]) -> bool {
        let fits = if self.rest {
            segments.len() > self.segments.len()
        } else {
            segments.len() == self.segments.len()
        };
        fits && self
            .segments
            .iter()
            .zip(segments)
            .all(|(pattern, segment)| match pattern {
                Segment::Literal(literal) => literal == segment,
                Segment::Capture(_) => true,
            })
    }

    /// What the named segments are, in `segments` that match. `**` has no name.
    #[must_use]
    pub fn captures(&self, segments: &[String]) -> BTreeMap<String, String> {
        let named = self
            .segments
            .iter()
            .zip(segments)
            .filter_map(|(pattern, segment)| match pattern {
                Segment::Literal(_) => None,
                Segment::Capture(name) => Some((name.clone(), segment.clone())),
            });
        named.collect()
    }

    /// The names of the captures, from left to right.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Literal(_) => None,
            Segment::Capture(name) => Some(name.as_str()),
        })
    }

    /// Whether the pattern ends in `**`.
    #[must_use]
    pub const fn has_rest(&self) -> bool {
        self.rest
    }

    /// The pattern of exactly the paths that match both, if there are any. Names are taken from `self` first.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        let (a, b) = (&self.segments, &other.segments);
        let common = a.iter().zip(b).map(|(a, b)| match (a, b) {
            (Segment::Literal(x), Segment::Literal(y)) => (x == y).then(|| a.clone()),
            (Segment::Capture(_), Segment::Literal(_)) => Some(b.clone()),
            _ => Some(a.clone()),
        });
        let mut segments: Vec<Segment> = common.collect::<Option<_>>()?;
        // Where one pattern is over, its `**` takes what is left of the other, if that is something.
        let rest = match a.len().cmp(&b.len()) {
            Ordering::Less if self.rest => {
                segments.extend(b.iter().skip(a.len()).cloned());
                other.rest
            }
            Ordering::Greater if other.rest => {
                segments.extend(a.iter().skip(b.len()).cloned());
                self.rest
            }
            Ordering::Equal if self.rest == other.rest => self.rest,
            _ => return None,
        };
        Some(Self { segments, rest })
    }

    /// Which of two patterns is more specific: the lesser one, at the first place where they differ in kind. A literal is
    /// more specific than a capture, a capture than `**`.
    ///
    /// Two patterns that some path matches both are [`Ordering::Equal`] only if they are the same but for names.
    #[must_use]
    pub fn specificity(&self, other: &Self) -> Ordering {
        self.kinds().cmp(other.kinds())
    }

    fn kinds(&self) -> impl Iterator<Item = u8> {
        let kind = |segment: &Segment| match segment {
            Segment::Literal(_) => 0,
            Segment::Capture(_) => 1,
        };
        self.segments.iter().map(kind).chain(self.rest.then_some(2))
    }

    /// The percent-encoded path with `values` in place of the captures, from left to right. A pattern with `**`, or with
    /// more captures than there are values, has no such path.
    #[must_use]
    pub fn fill(&self, values: &[&str]) -> Option<String> {
        let mut values = values.iter();
        let mut path = String::new();
        for segment in &self.segments {
            path.push('/');
            match segment {
                Segment::Literal(literal) => path::push_segment(&mut path, literal),
                Segment::Capture(_) => path::push_segment(&mut path, values.next()?),
            }
        }
        if path.is_empty() {
            path.push('/');
        }
        (!self.rest).then_some(path)
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        for segment in &self.segments {
            text.push('/');
            match segment {
                Segment::Literal(literal) => path::push_segment(&mut text, literal),
                Segment::Capture(name) => text.extend(["{", name, "}"]),
            }
        }
        if self.rest {
            text.push_str("/**");
        }
        f.write_str(if text.is_empty() { "/" } else { &text })
    }
}

impl fmt::Debug for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> PathPattern {
        text.parse().unwrap()
    }

    fn segments(path: &str) -> Vec<String> {
        path::parse(path, LONGEST).unwrap()
    }

    #[track_caller]
    fn check(text: &str, matching: &[&str], others: &[&str]) {
        let pattern = pattern(text);
        assert_eq!(pattern.to_string(), text);
        for path in matching {
            assert!(pattern.matches(&segments(path)), "{path}");
        }
        for path in others {
            assert!(!pattern.matches(&segments(path)), "{path}");
        }
    }

    #[test]
    fn matches() {
        check("/", &["/"], &["/a"]);
        check(
            "/v1/refunds",
            &["/v1/refunds", "/v1/%72efunds"],
            &["/", "/v1", "/V1/refunds", "/v1/refunds/x", "/v1/refund"],
        );
        check("/v1/{id}", &["/v1/x", "/v1/a%20b"], &["/v1", "/v1/x/y", "/v2/x"]);
        check("/a/**", &["/a/b", "/a/b/c"], &["/", "/a", "/b/a"]);
        check("/**", &["/a", "/a/b"], &["/"]);
        check("/{a}/x/**", &["/1/x/2"], &["/1/x", "/1/y/2"]);
        check("/a%20b/%7Bc%7D", &["/a%20b/%7bc%7D"], &["/a/c"]);
    }

    #[test]
    fn refused() {
        use PatternFault::{Capture, Path, Wildcard};
        for (text, why) in [
            ("", Path(PathFault::Start)),
            ("a", Path(PathFault::Start)),
            ("**", Path(PathFault::Start)),
            ("//a", Path(PathFault::Empty)),
            ("/a/", Path(PathFault::Empty)),
            ("/a//**", Path(PathFault::Empty)),
            ("/a/../b", Path(PathFault::Dot)),
            ("/a%2fb", Path(PathFault::Slash)),
            ("/a?b", Path(PathFault::Raw)),
            ("/*", Wildcard),
            ("/a*", Wildcard),
            ("/a**", Wildcard),
            ("/**/a", Wildcard),
            ("/**/**", Wildcard),
            ("/{}", Capture),
            ("/{a", Capture),
            ("/a}", Capture),
            ("/{a}.json", Capture),
            ("/{a}{b}", Capture),
            ("/{A}", Capture),
            ("/{1}", Capture),
            ("/{a-b}", Capture),
        ] {
            assert_eq!(text.parse::<PathPattern>(), Err(why), "{text}");
        }
    }

    #[test]
    fn captures_and_fills() {
        let pattern = pattern("/v1/{a}/x/{b}");
        let captures = pattern.captures(&segments("/v1/1%202/x/3"));
        assert_eq!(
            captures,
            BTreeMap::from([("a".into(), "1 2".into()), ("b".into(), "3".into())])
        );
        assert_eq!(pattern.fill(&["1 2", "a/b"]).as_deref(), Some("/v1/1%202/x/a%2Fb"));
        assert_eq!(pattern.fill(&["1"]), None);
        assert_eq!("/a/**".parse::<PathPattern>().unwrap().fill(&[]), None);
    }

    pub(crate) fn any_pattern() -> impl Strategy<Value = PathPattern> {
        let segment = prop_oneof!["[ab]".prop_map(Segment::Literal), "[xy]".prop_map(Segment::Capture)];
        (proptest::collection::vec(segment, 0..4), any::<bool>())
            .prop_map(|(segments, rest)| PathPattern { segments, rest })
    }

    pub(crate) fn any_segments() -> impl Strategy<Value = Vec<String>> {
        proptest::collection::vec("[ab]", 0..5)
    }

    proptest! {
        #[test]
        fn reads_back_as_itself(pattern in any_pattern()) {
            prop_assert_eq!(pattern.to_string().parse(), Ok(pattern));
        }

        #[test]
        fn trap_17_the_intersection_of_paths_is_exact(a in any_pattern(), b in any_pattern(), path in any_segments()) {
            let both = a.intersect(&b);
            let matches = both.as_ref().is_some_and(|both| both.matches(&path));
            prop_assert_eq!(matches, a.matches(&path) && b.matches(&path));
        }

        #[test]
        fn of_two_that_match_one_is_more_specific(a in any_pattern(), b in any_pattern(), path in any_segments()) {
            if a.matches(&path) && b.matches(&path) {
                let tie = a.specificity(&b) == Ordering::Equal;
                // The same kinds and a common path: the same literals.
                prop_assert_eq!(tie, a.kinds().eq(b.kinds()));
                prop_assert!(!tie || a.intersect(&b) == Some(a));
            }
        }
    }
}
