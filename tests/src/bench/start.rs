//! Opening a home with ten tools whose machine code is cached: what every command pays before its first call.

use std::time::Instant;

use super::report::{Amount, Figure};
use super::rounds::{micros, middle};
use super::setting::{self, Setting};
use super::{Measured, Pace};
use crate::programs::program;

pub(super) fn open(setting: &Setting, pace: Pace<'_>) -> Measured<Figure> {
    let rounds = pace.pick(15, 2);
    let mut opened = Vec::new();
    let mut called = Vec::new();
    for _ in pace.rounds(rounds) {
        let begun = Instant::now();
        let host = setting.open(setting::on_disk(&[]))?;
        opened.push(micros(begun.elapsed()));
        drop(host);
        called.push(command(setting)?);
    }
    Ok(Figure::of(Amount::Micros(middle(opened))).note(format!(
        "a whole `ambit call` of one tool, from start to exit, durable: {}",
        Amount::Micros(middle(called))
    )))
}

/// One call by the command, in microseconds.
fn command(setting: &Setting) -> Measured<f64> {
    let mut ambit = std::process::Command::new(program("ambit"));
    ambit.env_clear().arg("--home").arg(setting.home());
    ambit.args(["call", "echo", "hash", "--as", "assistant", "--args", r#"{"json":"x"}"#]);
    let begun = Instant::now();
    let output = ambit.output()?;
    let took = micros(begun.elapsed());
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(took)
}
