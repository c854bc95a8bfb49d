//! Whole numbers that every reader of JSON reads alike: as a number up to 2^53 - 1, and as a string of decimal digits above, where many
//! readers round. The same rule as for the arguments and results of functions.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The largest whole number that a reader of JSON with doubles keeps exact, together with all below.
pub(super) const EXACT: u64 = (1 << 53) - 1;

pub(super) fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    if *number <= EXACT {
        serializer.serialize_u64(*number)
    } else {
        serializer.collect_str(number)
    }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    Either::deserialize(deserializer)?.get().map_err(de::Error::custom)
}

/// Either form. Which of the two a number must have is settled when the entry is printed again and compared.
#[derive(Deserialize)]
#[serde(untagged)]
enum Either {
    Plain(u64),
    Text(String),
}

impl Either {
    fn get(self) -> Result<u64, std::num::ParseIntError> {
        match self {
            Self::Plain(number) => Ok(number),
            Self::Text(text) => text.parse(),
        }
    }
}

/// A number of this form by itself.
#[derive(Clone, Copy)]
pub(super) struct Number(pub(super) u64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize(deserializer).map(Self)
    }
}

/// A number of this form that may be absent.
pub(super) mod optional {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Number;

    #[expect(clippy::ref_option, reason = "serde calls it so")]
    pub(in super::super) fn serialize<S: Serializer>(number: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        serde::Serialize::serialize(&number.map(Number), serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        Ok(Option::<Number>::deserialize(deserializer)?.map(|Number(number)| number))
    }
}
