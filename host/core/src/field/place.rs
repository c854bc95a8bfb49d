use std::fmt;
use std::str::FromStr;

use super::path::{FieldError, Reader, write_name};

/// The place of one value, as people name it: `items[0].price`. It has an owner, where a [`ConcretePath`](super::ConcretePath) borrows
/// from the value that it is found in; both are spelled alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(Vec<PlaceStep>);

/// One step down to a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PlaceStep {
    /// To the member of that name.
    Name(String),
    /// To the element at that place, from 0.
    Index(usize),
}

impl Place {
    /// The steps from the root: at least one, and the first is a name.
    #[must_use]
    pub fn steps(&self) -> &[PlaceStep] {
        &self.0
    }
}

impl FromStr for Place {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        let mut reader = Reader { text, at: 0 };
        let mut steps = vec![PlaceStep::Name(reader.name()?)];
        loop {
            if reader.rest().is_empty() {
                return reader.short_enough(steps.len()).map(|()| Self(steps));
            }
            steps.push(if reader.take(".") {
                PlaceStep::Name(reader.name()?)
            } else {
                PlaceStep::Index(index(&mut reader)?)
            });
        }
    }
}

/// `[0]`: one spelling for each number.
fn index(reader: &mut Reader<'_>) -> Result<usize, FieldError> {
    let wrong = reader.fail(NOT_A_PLACE);
    if !reader.take("[") {
        return Err(wrong);
    }
    let (digits, _) = reader.rest().split_once(']').ok_or_else(|| wrong.clone())?;
    let index: usize = digits.parse().map_err(|_| wrong.clone())?;
    if index.to_string() != digits {
        return Err(wrong);
    }
    reader.at += digits.len() + 1;
    Ok(index)
}

const NOT_A_PLACE: &str = "expected one value: names joined by `.`, and `[0]`, `[1]`, … for one element of a list";

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                PlaceStep::Index(index) => write!(f, "[{index}]")?,
                PlaceStep::Name(name) => {
                    f.write_str(if i > 0 { "." } else { "" })?;
                    write_name(f, name)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::field::leaves;
    use crate::json::{Json, Limits};

    #[test]
    fn a_place_is_spelled_as_it_is_found() {
        let value = Json::parse(r#"{"a":[{"b.c":1},[2,3]],"d":{"":4}}"#, Limits::default()).unwrap();
        for (path, _) in leaves(&value) {
            let place: Place = path.to_string().parse().unwrap();
            assert_eq!(place.to_string(), path.to_string());
            assert_eq!(place.steps().len(), path.0.len());
        }
    }

    #[test]
    fn what_stands_for_more_than_one_value_is_no_place() {
        for text in [
            "", "a[]", "a.**", "**", "[0]", "a[00]", "a[-1]", "a[+1]", "a[1", "a[b]", "a]", "a..b", "a[0]b", "a.[0]",
        ] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
        let deep = format!("a{}", "[0]".repeat(64));
        assert!(deep.parse::<Place>().is_err());
        assert!(format!("a[{}0]", u64::MAX).parse::<Place>().is_err());
    }
}
