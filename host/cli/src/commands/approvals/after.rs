//! What follows a vote: its call goes on, and how that ended is told after what was said.

use std::path::Path;

use ambit_core::hold::{Verdict, Vote};
use ambit_runtime::call::{Answer, Outcome};
use ambit_runtime::operators::Request;
use serde_json::{Map, Value, json};

use super::super::call::{self, Also};
use super::super::desk::Desk;
use crate::output::{self, Exit, Failure, Output, note, untrusted};

/// Runs a call on that is decided.
pub(super) fn go_on(desk: &mut Desk<'_>, call: &str) -> Result<Answer, Failure> {
    let going = output::working("the call goes on");
    desk.call(&Request::Resume { call: call.to_owned() }, Some(&going))
}

/// Runs the call on that `vote` decided, and tells how it ended. A no is done once it is recorded, whatever the call comes to; after a yes
/// the command exits as `ambit call` does.
pub(super) fn vote(
    home: &Path,
    desk: &mut Desk<'_>,
    (call, tool): (&str, &str),
    vote: &Vote,
    said: Map<String, Value>,
    out: Output,
) -> Result<Exit, Failure> {
    let rejected = vote.verdict == Verdict::Reject;
    let answer = match go_on(desk, call) {
        Ok(answer) => answer,
        Err(failure) => return stays(failure, call, rejected, said, out),
    };
    if rejected {
        note(format!(
            "Its call went on without the effect: {}.",
            ended(&answer.outcome)
        ));
    }
    let also = Also {
        members: said,
        rejected,
    };
    let exit = call::tell_also(home, &answer, (tool, None), &also, out)?;
    Ok(if rejected { Exit::Done } else { exit })
}

/// The vote is recorded, and the call could not go on by it.
fn stays(
    failure: Failure,
    call: &str,
    rejected: bool,
    mut said: Map<String, Value>,
    out: Output,
) -> Result<Exit, Failure> {
    let Failure::Message {
        exit: Exit::Refused,
        message,
        advice,
    } = failure
    else {
        return Err(failure);
    };
    let advice = advice.unwrap_or_else(|| "`ambit approvals resume` goes on with it.".to_owned());
    if !rejected {
        return Err(
            Failure::refused(format!("the yes is recorded, and the call did not go on: {message}")).advise(advice),
        );
    }
    note(format!(
        "Its call has not ended yet: {}. {}",
        untrusted(&message),
        untrusted(&output::sentence(&advice))
    ));
    said.insert("call".to_owned(), json!(call));
    said.insert("outcome".to_owned(), json!("not-gone-on"));
    said.insert("why".to_owned(), json!(message));
    out.result(&said, |_| Ok(()))?;
    Ok(Exit::Done)
}

/// How a call ended, in half a sentence.
fn ended(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Ok(_) => "it ended with a result".to_owned(),
        Outcome::ToolError(_) => "it ended with its tool's own error".to_owned(),
        Outcome::Stopped(refusal) => format!("it ended, refused ({})", refusal.code),
        Outcome::Held(_) => "another effect of it waits".to_owned(),
        Outcome::Paused(_) => "it is paused".to_owned(),
        Outcome::FirstWrite(_) => "it ended at its first change, as a dry run does".to_owned(),
    }
}
