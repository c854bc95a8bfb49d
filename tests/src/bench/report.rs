//! What was measured, for people and for programs.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// All of one run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether it was too short for its figures to mean anything.
    pub quick: bool,
    /// Where it ran.
    pub machine: Machine,
    /// In the design's order.
    pub rows: Vec<Row>,
    /// Targets whose subject is not there yet.
    pub not_built: Vec<String>,
}

/// The shape of a machine; nothing that names it.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// Processors that this process may use.
    pub cores: usize,
    /// Operating system.
    pub os: String,
    /// Instruction set.
    pub arch: String,
    /// How many programs wanted a processor in the minute before, where the system says: on a busy machine rows that wait for
    /// a disk or another thread say less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<f64>,
}

impl Machine {
    /// The one this runs on.
    pub fn this() -> Machine {
        Machine {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            load: std::fs::read_to_string("/proc/loadavg")
                .ok()
                .and_then(|text| text.split(' ').next()?.parse().ok()),
        }
    }
}

/// One line of the table.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The same in every run.
    pub id: &'static str,
    /// What is measured.
    pub what: &'static str,
    /// What came of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub figure: Option<Figure>,
    /// Why nothing did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unmeasured: Option<String>,
}

impl Row {
    pub(super) fn new(id: &'static str, what: &'static str, outcome: Result<Figure, String>) -> Row {
        let (figure, unmeasured) = match outcome {
            Ok(figure) => (Some(figure), None),
            Err(why) => (None, Some(why)),
        };
        Row {
            id,
            what,
            figure,
            unmeasured,
        }
    }

    /// What came of it in a few words, without parts and notes.
    #[must_use]
    pub fn in_short(&self) -> String {
        let Some(figure) = &self.figure else {
            return format!("not measured: {}", self.unmeasured.as_deref().unwrap_or_default());
        };
        let ratio = figure.ratio.map(|ratio| format!(", {ratio:.2}×")).unwrap_or_default();
        let target = figure.target.as_ref().map(|Target { text, met }| {
            let met = if *met { "met" } else { "MISSED" };
            format!(", target {text}: {met}")
        });
        format!("{}{ratio}{}", figure.measured, target.unwrap_or_default())
    }
}

/// What was measured for a row.
#[derive(Debug, Serialize)]
pub struct Figure {
    /// The middle of several rounds.
    pub measured: Amount,
    /// What it is compared with, measured in the same rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<Against>,
    /// How often the one goes into the other: the middle of the rounds' ratios.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// What is to be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// Where it goes: parts measured by themselves, and what is left.
    pub parts: Vec<Part>,
    /// What else there is to know.
    pub notes: Vec<String>,
}

/// What a figure is compared with.
#[derive(Debug, Serialize)]
pub struct Against {
    /// What it is.
    pub what: String,
    /// How much.
    pub amount: Amount,
}

/// What is to be reached.
#[derive(Debug, Serialize)]
pub struct Target {
    /// In words.
    pub text: String,
    /// Whether it is.
    pub met: bool,
}

/// One part of a figure.
#[derive(Debug, Serialize)]
pub struct Part {
    /// What it is.
    pub what: String,
    /// How much of the whole.
    pub amount: Amount,
}

/// A measured amount.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// A time.
    Micros(f64),
    /// How often in a second.
    PerSecond(f64),
    /// Memory.
    Kibibytes(f64),
}

impl Figure {
    /// A figure without comparison, target or parts.
    pub(super) fn of(measured: Amount) -> Figure {
        Figure {
            measured,
            against: None,
            ratio: None,
            target: None,
            parts: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(super) fn against(mut self, what: &str, amount: Amount, ratio: f64) -> Figure {
        let what = what.to_owned();
        self.against = Some(Against { what, amount });
        self.ratio = Some(ratio);
        self
    }

    pub(super) fn target(mut self, text: &str, met: bool) -> Figure {
        let text = text.to_owned();
        self.target = Some(Target { text, met });
        self
    }

    pub(super) fn note(mut self, text: impl Into<String>) -> Figure {
        self.notes.push(text.into());
        self
    }

    /// Parts of a time in microseconds, and after them what is left of it.
    pub(super) fn parts(mut self, parts: impl IntoIterator<Item = (&'static str, f64)>) -> Figure {
        let part = |(what, micros): (&str, f64)| Part {
            what: what.to_owned(),
            amount: Amount::Micros(micros),
        };
        self.parts.extend(parts.into_iter().map(part));
        let known: f64 = self.parts.iter().map(|part| part.amount.value()).sum();
        self.parts.push(part(("the rest", self.measured.value() - known)));
        self
    }

    /// The figure, if it is one: a clock that stood still is none.
    pub(super) fn checked(self) -> Result<Figure, String> {
        let against = self.against.as_ref().map(|against| against.amount.value());
        let figures = [Some(self.measured.value()), against, self.ratio];
        match figures
            .into_iter()
            .flatten()
            .find(|figure| !figure.is_finite() || *figure <= 0.0)
        {
            None => Ok(self),
            Some(figure) => Err(format!("{figure} is no figure")),
        }
    }
}

impl Amount {
    /// The number, in the unit.
    pub fn value(self) -> f64 {
        match self {
            Amount::Micros(value) | Amount::PerSecond(value) | Amount::Kibibytes(value) => value,
        }
    }

    const fn unit(self) -> &'static str {
        match self {
            Amount::Micros(_) => "us",
            Amount::PerSecond(_) => "1/s",
            Amount::Kibibytes(_) => "KiB",
        }
    }
}

impl From<Duration> for Amount {
    fn from(time: Duration) -> Amount {
        Amount::Micros(time.as_secs_f64() * 1e6)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match *self {
            Amount::Micros(micros) if micros.abs() >= 10_000.0 => format!("{:.0} ms", micros / 1000.0),
            Amount::Micros(micros) if micros.abs() >= 1000.0 => format!("{:.1} ms", micros / 1000.0),
            Amount::Micros(micros) if micros.abs() >= 10.0 => format!("{micros:.0} µs"),
            Amount::Micros(micros) => format!("{micros:.1} µs"),
            Amount::PerSecond(rate) => format!("{}/s", grouped(rate)),
            Amount::Kibibytes(size) => format!("{} KiB", grouped(size)),
        };
        f.pad(&text)
    }
}

/// A whole number of two or three digits and zeros, with commas: what a rate is known to.
fn grouped(value: f64) -> String {
    let digits = value.abs().max(1.0).log10().floor();
    let unit = 10_f64.powf((digits - 1.0).max(0.0));
    let whole = format!("{:.0}", (value / unit).round() * unit);
    let mut grouped = String::new();
    for (position, digit) in whole.chars().enumerate() {
        if position > 0 && (whole.len() - position) % 3 == 0 && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

impl Serialize for Amount {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Plain {
            value: f64,
            unit: &'static str,
            /// Rounded to what is known of it, for tables.
            text: String,
        }
        let (value, unit, text) = (self.value(), self.unit(), self.to_string());
        Plain { value, unit, text }.serialize(serializer)
    }
}

/// The report as a table.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { cores, os, arch, load } = &self.machine;
        let load = load
            .map(|load| format!(", a load of {load:.0} before"))
            .unwrap_or_default();
        writeln!(f, "{cores} cores, {os}, {arch}{load}")?;
        for row in &self.rows {
            writeln!(f, "\n{}", row.what)?;
            match (&row.figure, &row.unmeasured) {
                (Some(figure), _) => write!(f, "{figure}")?,
                (None, why) => writeln!(f, "    NOT MEASURED: {}", why.as_deref().unwrap_or_default())?,
            }
        }
        writeln!(f)?;
        for what in &self.not_built {
            writeln!(f, "not measured yet: {what}")?;
        }
        if self.quick {
            writeln!(f, "\na quick run: its figures mean nothing")?;
        }
        Ok(())
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "    {}", self.measured)?;
        if let Some(against) = &self.against {
            write!(f, ", against {} of {}", against.amount, against.what)?;
        }
        if let Some(ratio) = self.ratio {
            write!(f, ": {ratio:.2}×")?;
        }
        if let Some(Target { text, met }) = &self.target {
            write!(f, "   target {text}: {}", if *met { "met" } else { "MISSED" })?;
        }
        writeln!(f)?;
        for Part { what, amount } in &self.parts {
            writeln!(f, "      {:>8}  {what}", amount.to_string())?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "      {note}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_rounded_to_what_is_known_of_them() {
        let shown = |amounts: &[Amount]| amounts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        assert_eq!(
            shown(&[
                Amount::Micros(6.34),
                Amount::Micros(63.4),
                Amount::Micros(6340.0),
                Amount::Micros(63_400.0)
            ]),
            "6.3 µs 63 µs 6.3 ms 63 ms"
        );
        assert_eq!(
            shown(&[Amount::PerSecond(6_789.0), Amount::PerSecond(123_456.0)]),
            "6,800/s 120,000/s"
        );
        assert_eq!(
            shown(&[Amount::Kibibytes(7.0), Amount::Kibibytes(1234.0)]),
            "7 KiB 1,200 KiB"
        );
    }

    #[test]
    fn a_row_in_short_says_what_came_of_it() {
        let row = |outcome| Row::new("x", "a call", outcome).in_short();
        let figure = || Figure::of(Amount::Micros(20.0));
        assert_eq!(row(Ok(figure())), "20 µs");
        let against = figure().against("raw", Amount::Micros(8.0), 2.5).target("≤ 2×", false);
        assert_eq!(row(Ok(against)), "20 µs, 2.50×, target ≤ 2×: MISSED");
        assert_eq!(row(Err("no disk".to_owned())), "not measured: no disk");
    }

    #[test]
    fn what_is_no_figure_is_not_measured() {
        assert!(Figure::of(Amount::Micros(1.0)).checked().is_ok());
        for bad in [f64::NAN, f64::INFINITY, 0.0] {
            assert!(Figure::of(Amount::Micros(bad)).checked().is_err());
            assert!(
                Figure::of(Amount::Micros(1.0))
                    .against("x", Amount::Micros(1.0), bad)
                    .checked()
                    .is_err()
            );
        }
    }
}
