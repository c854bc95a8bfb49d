//! What hostile guests have in common: cases by name, and an answer in one line.

use ambit_sdk::http::{Error, Response};

/// An answer as one line, `STATUS BODY`, or why there is none.
///
/// # Errors
/// What [`Error`] says.
pub fn told(answer: Result<Response, Error>) -> Result<String, String> {
    match answer {
        Ok(answer) => Ok(format!("{} {}", answer.status, answer.body.unwrap_or_default())),
        Err(error) => Err(error.to_string()),
    }
}

/// Implements a world of `try` and `cases`: each name with what it does, a `Result<String, String>`.
#[macro_export]
macro_rules! cases {
    ($($name:literal => $run:expr),* $(,)?) => {
        struct Tool;

        export!(Tool);

        impl Guest for Tool {
            fn try_(case: String) -> Result<String, String> {
                match case.as_str() {
                    $($name => $run,)*
                    _ => Err(format!("no case `{case}`")),
                }
            }

            fn cases() -> Vec<String> {
                [$($name),*].map(str::to_owned).to_vec()
            }
        }
    };
}
