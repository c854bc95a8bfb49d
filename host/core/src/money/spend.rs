use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A currency: three lower-case ASCII letters, as ISO 4217 but for case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// The three letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Three ASCII letters, by construction.
        std::str::from_utf8(&self.0).unwrap_or("???")
    }

    /// Reads a code as services write it, in either case.
    ///
    /// # Errors
    /// Anything but three ASCII letters.
    pub fn from_any_case(text: &str) -> Result<Self, NotACurrency> {
        text.to_ascii_lowercase().parse()
    }
}

/// The text is not a currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a currency is three lower-case letters, such as `usd`")]
pub struct NotACurrency;

impl FromStr for Currency {
    type Err = NotACurrency;

    fn from_str(text: &str) -> Result<Self, NotACurrency> {
        let code: [u8; 3] = text.as_bytes().try_into().map_err(|_| NotACurrency)?;
        if code.iter().all(u8::is_ascii_lowercase) {
            Ok(Self(code))
        } else {
            Err(NotACurrency)
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What an effect spends.
///
/// There is no "unknown": an effect on a route with money whose amount or currency cannot be told is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Spend {
    /// The route moves no money.
    #[default]
    None,
    /// The route moves this much.
    Known {
        /// In which currency.
        currency: Currency,
        /// How much, in the currency's smallest unit. Not negative.
        minor: i64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn currencies() {
        assert_eq!("usd".parse::<Currency>().unwrap().to_string(), "usd");
        assert_eq!(Currency::from_any_case("USD"), "usd".parse());
        for text in ["USD", "us", "usdt", "u$d", "", "üs"] {
            assert_eq!(text.parse::<Currency>(), Err(NotACurrency), "{text}");
        }
    }

    #[test]
    fn spend_is_always_there() {
        let known = Spend::Known {
            currency: "usd".parse().unwrap(),
            minor: 5000,
        };
        assert_eq!(
            serde_json::to_string(&known).unwrap(),
            r#"{"kind":"known","currency":"usd","minor":5000}"#
        );
        assert_eq!(serde_json::to_string(&Spend::None).unwrap(), r#"{"kind":"none"}"#);
    }
}
