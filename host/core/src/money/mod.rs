//! Money in minor units, and the arithmetic of budgets. All of it checked.

mod spend;

pub use spend::{Currency, NotACurrency, Spend};
