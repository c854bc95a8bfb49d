//! Money in minor units, and the arithmetic of budgets. All of it checked.

mod budget;
mod spend;

pub(crate) use budget::day;
pub use budget::{Account, AccountError, Budget, Match, Unit, Use, Window};
pub use spend::{Currency, NotACurrency, Spend};
