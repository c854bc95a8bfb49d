//! Money in minor units, and the arithmetic of budgets. All of it checked.

mod budget;
mod spend;
mod window;

pub use budget::{Account, AccountError, Became, Budget, MOST, Match, Over, Unit, Use, percent_of};
pub use spend::{CURRENCIES, Currency, NotACurrency, Spend};
pub(crate) use window::day;
pub use window::{NotAPeriod, NotASpan, Period, Span, Window};
