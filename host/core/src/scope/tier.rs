use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::printable;

/// How much an effect changes. Ordered: a function may do effects of its own tier and below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// Changes nothing.
    Read,
    /// Prepares something that nobody acts on until it is committed, such as a draft.
    Draft,
    /// Changes the world. What says nothing about itself is this.
    #[default]
    Commit,
}

impl Tier {
    /// Every tier, lowest first.
    pub const ALL: [Self; 3] = [Self::Read, Self::Draft, Self::Commit];

    /// The word: `read`, `draft` or `commit`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Draft => "draft",
            Self::Commit => "commit",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The word is not a tier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a tier: `read`, `draft` or `commit`")]
pub struct UnknownTier(String);

impl FromStr for Tier {
    type Err = UnknownTier;

    fn from_str(text: &str) -> Result<Self, UnknownTier> {
        Self::ALL
            .into_iter()
            .find(|tier| tier.as_str() == text)
            .ok_or_else(|| UnknownTier(printable(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordered_and_read_back() {
        assert!(Tier::Read < Tier::Draft && Tier::Draft < Tier::Commit);
        for tier in Tier::ALL {
            assert_eq!(tier.to_string().parse(), Ok(tier));
            assert_eq!(serde_json::to_string(&tier).unwrap(), format!("\"{tier}\""));
        }
        assert!("Read".parse::<Tier>().is_err());
    }
}
