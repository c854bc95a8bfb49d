use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, SerializeMap as _, SerializeSeq as _, Serializer};
use serde_json::value::RawValue;

use super::{Fault, Json, JsonError, Limits, NotANumber, Number, Object};

impl From<bool> for Json {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

macro_rules! from_integers {
    ($($small:ty as $wide:ty),+) => {
        $(impl From<$small> for Json {
            fn from(value: $small) -> Self {
                Self::Number(<$wide>::from(value).into())
            }
        })+
    };
}

from_integers!(
    i8 as i64, i16 as i64, i32 as i64, i64 as i64, u8 as u64, u16 as u64, u32 as u64, u64 as u64
);

impl From<Number> for Json {
    fn from(number: Number) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<Object> for Json {
    fn from(members: Object) -> Self {
        Self::Object(members)
    }
}

impl<T: Into<Self>> From<Vec<T>> for Json {
    fn from(elements: Vec<T>) -> Self {
        elements.into_iter().collect()
    }
}

impl<T: Into<Self>> From<Option<T>> for Json {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl<T: Into<Self>> FromIterator<T> for Json {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        Self::Array(elements.into_iter().map(Into::into).collect())
    }
}

/// Exact for integers of 64 bits; a float becomes the shortest decimal that reads back as it.
impl From<serde_json::Value> for Json {
    fn from(value: serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bool(value),
            serde_json::Value::Number(number) => from_serde_number(&number).map_or(Self::Null, Self::Number),
            serde_json::Value::String(text) => Self::String(text),
            serde_json::Value::Array(elements) => elements.into_iter().collect(),
            serde_json::Value::Object(members) => Self::Object(members.into_iter().collect()),
        }
    }
}

/// Every serde_json number is one of the three; none is an infinity.
fn from_serde_number(number: &serde_json::Number) -> Result<Number, NotANumber> {
    match (number.as_i64(), number.as_u64(), number.as_f64()) {
        (Some(value), _, _) => Ok(value.into()),
        (_, Some(value), _) => Ok(value.into()),
        (_, _, Some(value)) => value.try_into(),
        _ => Err(NotANumber),
    }
}

impl Json {
    /// The same value for libraries that take serde_json's, such as a schema validator.
    ///
    /// A number that is no integer of 64 bits becomes the nearest binary64, so nothing that is sent or hashed may be
    /// made from this.
    #[must_use]
    pub fn to_serde(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Bool(value) => (*value).into(),
            Self::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(value), _) => value.into(),
                (_, Some(value)) => value.into(),
                _ => number.to_f64().into(),
            },
            Self::String(text) => text.as_str().into(),
            Self::Array(elements) => elements.iter().map(Self::to_serde).collect(),
            Self::Object(members) => serde_json::Value::Object(
                members
                    .iter()
                    .map(|(name, value)| (name.to_owned(), value.to_serde()))
                    .collect(),
            ),
        }
    }

    /// Anything that serialises, as a JSON value.
    ///
    /// # Errors
    /// What serde_json cannot write, such as a map with keys that are no strings, and what [`Json::parse`] refuses.
    pub fn from_serialize<T: Serialize + ?Sized>(value: &T) -> Result<Self, JsonError> {
        let text = serde_json::to_string(value).map_err(|_| JsonError {
            offset: 0,
            fault: Fault::Expected("a value that JSON can hold"),
        })?;
        Self::parse(
            &text,
            Limits {
                bytes: text.len(),
                ..Limits::default()
            },
        )
    }
}

/// Numbers that are no integers of 64 bits are exact with serde_json's writers and depend on the serialiser elsewhere.
impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(number) => number.serialize(serializer),
            Self::String(text) => serializer.serialize_str(text),
            Self::Array(elements) => {
                let mut list = serializer.serialize_seq(Some(elements.len()))?;
                for element in elements {
                    list.serialize_element(element)?;
                }
                list.end()
            }
            Self::Object(members) => members.serialize(serializer),
        }
    }
}

/// As [`Json::parse`] reads it, of what this program wrote itself: as deep as can be held, and 64 MiB at most. It works with serde_json's
/// readers alone, and not within what serde buffers.
impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let limits = Limits {
            bytes: 64 << 20,
            depth: usize::MAX,
        };
        Self::parse(text.get(), limits).map_err(D::Error::custom)
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (name, value) in self.iter() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (self.as_i64(), self.as_u64()) {
            (Some(value), _) => serializer.serialize_i64(value),
            (_, Some(value)) => serializer.serialize_u64(value),
            _ => RawValue::from_string(self.to_string())
                .map_err(serde::ser::Error::custom)?
                .serialize(serializer),
        }
    }
}
