use std::fmt;
use std::str::FromStr;

/// The longest plain decimal that is kept, in characters. The widest binary64 needs 345.
const LONGEST: usize = 400;

/// A decimal number, exactly as written but for its spelling.
///
/// Its canonical text has no exponent, no `+`, no superfluous zeros and no negative zero: `1.50e1` is `15`, `-0.0` is
/// `0`. Equal numbers have equal texts. Ordering is by text and says nothing about size.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(Repr);

/// Each number has one representation: `Small` wherever it fits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Repr {
    Small(i64),
    Text(Box<str>),
}

/// The text is not a JSON number, or its plain decimal is longer than 400 characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON number of at most {LONGEST} digits")]
pub struct NotANumber;

impl Number {
    /// The number, where it is an integer of that range.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        if let Repr::Small(value) = self.0 {
            Some(value)
        } else {
            None
        }
    }

    /// The number, where it is an integer of that range.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        match &self.0 {
            Repr::Small(value) => u64::try_from(*value).ok(),
            Repr::Text(text) => text.parse().ok(),
        }
    }

    /// The nearest binary64. For arithmetic that may round; never for what is sent, hashed or compared.
    #[must_use]
    pub fn to_f64(&self) -> f64 {
        match &self.0 {
            #[expect(clippy::cast_precision_loss, reason = "documented to round")]
            Repr::Small(value) => *value as f64,
            Repr::Text(text) => text.parse().unwrap_or(f64::NAN),
        }
    }

    /// Whether there is no fraction.
    #[must_use]
    pub fn is_integer(&self) -> bool {
        match &self.0 {
            Repr::Small(_) => true,
            Repr::Text(text) => !text.contains('.'),
        }
    }

    /// How many bytes the canonical text has, at least.
    pub(super) fn weight(&self) -> usize {
        match &self.0 {
            Repr::Small(_) => 1,
            Repr::Text(text) => text.len(),
        }
    }

    pub(super) fn push_to(&self, out: &mut String) {
        match &self.0 {
            Repr::Small(value) => {
                use fmt::Write as _;
                // Writing to a string does not fail.
                let _ = write!(out, "{value}");
            }
            Repr::Text(text) => out.push_str(text),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Small(value) => value.fmt(f),
            Repr::Text(text) => f.pad(text),
        }
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Reads a number of RFC 8259, and nothing around it.
impl FromStr for Number {
    type Err = NotANumber;

    fn from_str(text: &str) -> Result<Self, NotANumber> {
        let written = Written::split(text).ok_or(NotANumber)?;
        if written.fraction.is_empty()
            && written.exponent == 0
            && let Ok(value) = text.parse()
        {
            return Ok(Self(Repr::Small(value)));
        }
        written.plain().map(Self::from_plain).ok_or(NotANumber)
    }
}

impl Number {
    /// `text` is canonical.
    fn from_plain(text: String) -> Self {
        Self(text.parse().map_or_else(|_| Repr::Text(text.into()), Repr::Small))
    }
}

impl From<i64> for Number {
    fn from(value: i64) -> Self {
        Self(Repr::Small(value))
    }
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        i64::try_from(value).map_or_else(|_| Self(Repr::Text(value.to_string().into())), Self::from)
    }
}

/// The shortest decimal that reads back as the same binary64; infinities and NaN are no numbers.
impl TryFrom<f64> for Number {
    type Error = NotANumber;

    fn try_from(value: f64) -> Result<Self, NotANumber> {
        if value.is_finite() {
            value.to_string().parse()
        } else {
            Err(NotANumber)
        }
    }
}

/// A number's parts as they stand in the text.
struct Written<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    exponent: i32,
}

impl<'a> Written<'a> {
    fn split(text: &'a str) -> Option<Self> {
        let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent_of(exponent)?),
            None => (rest, 0),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (mantissa, None),
        };
        let well_formed = digits(whole) && (whole == "0" || !whole.starts_with('0')) && fraction.is_none_or(digits);
        well_formed.then_some(Self {
            negative,
            whole,
            fraction: fraction.unwrap_or(""),
            exponent,
        })
    }

    /// The canonical text, unless it would be too long.
    fn plain(&self) -> Option<String> {
        let digits = [self.whole, self.fraction].concat();
        let significant = digits.trim_start_matches('0');
        if significant.is_empty() {
            return Some("0".to_owned());
        }
        // The value is 0.DIGITS × 10^point, with DIGITS the significant ones.
        let leading = i32::try_from(digits.len() - significant.len()).ok()?;
        let point = i32::try_from(self.whole.len())
            .ok()?
            .checked_add(self.exponent)?
            .checked_sub(leading)?;
        let significant = significant.trim_end_matches('0');
        let shift = usize::try_from(point.unsigned_abs()).ok()?;
        let length = if point > 0 {
            shift.max(significant.len())
        } else {
            shift.checked_add(significant.len())?
        };
        if length > LONGEST {
            return None;
        }
        let sign = if self.negative { "-" } else { "" };
        if point <= 0 {
            return Some(format!("{sign}0.{}{significant}", "0".repeat(shift)));
        }
        Some(match significant.split_at_checked(shift) {
            Some((whole, "")) => format!("{sign}{whole}"),
            Some((whole, fraction)) => format!("{sign}{whole}.{fraction}"),
            None => format!("{sign}{significant:0<shift$}"),
        })
    }
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn exponent_of(text: &str) -> Option<i32> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !digits(unsigned) { None } else { text.parse().ok() }
}
