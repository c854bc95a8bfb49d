//! Calls once more: replayed from their record, and gone on with after people approved.

use std::cell::RefCell;
use std::thread;
use std::time::Instant;

use ambit_core::hold::{Verdict, Vote};
use ambit_core::ledger::SignerKey;
use ambit_core::policy::{Mode, PolicySet};
use ambit_runtime::approvals::new_person_key;
use ambit_runtime::call::{CallRequest, Outcome};
use ambit_runtime::gate::Wire;
use ambit_runtime::home;
use ambit_runtime::host::{Host, HostOptions};
use ambit_runtime::replay::Replayer;
use ambit_runtime::whatif::WhatIf;

use super::report::{Amount, Figure};
use super::rounds::{Medians, computing, middle, prepared, whole};
use super::setting::{self, Setting};
use super::{Measured, Pace};

/// Effects of a call that is replayed.
const EFFECTS: u32 = 6;

/// Replaying a call against making it with its ledger in memory, both by their processor time: no disk is in it either time.
pub(super) fn replay(_: &Setting, pace: Pace<'_>) -> Measured<Figure> {
    let (rounds, calls) = (pace.pick(9, 2), pace.pick(300, 5));
    let folder = tempfile::tempdir()?;
    let setting = Setting::make(folder.path())?;
    let host = on_disk(&setting)?;
    let made = (0..calls).map(|_| Ok(setting::call(&host, refund(Mode::Execute, EFFECTS))?.call));
    let made = made.collect::<Measured<Vec<_>>>()?;
    drop(host);
    let live = setting.open(setting.in_memory(&["effects"]))?;
    let replayer = RefCell::new(Replayer::open(&setting.home(), Some(setting::compiler()))?);
    let recorded = RefCell::new(made.iter().cycle());
    let make = || setting::call(&live, refund(Mode::Execute, EFFECTS));
    let replay = || {
        let next = recorded.borrow_mut().next();
        let call = next.ok_or("no call was made")?;
        match replayer.borrow_mut().replay(call.as_str())?.diverged {
            None => Ok(()),
            Some(divergence) => Err(divergence.to_string().into()),
        }
    };
    let mut medians = Medians::new();
    for _ in pace.rounds(rounds) {
        medians.round(
            calls,
            vec![computing(make), computing(replay), whole(make), whole(replay)],
        )?;
    }
    let ratio = medians.ratio(1, 0);
    Ok(Figure::of(Amount::Micros(medians.of(1)))
        .against(
            "that of making it, with six effects, ledger in memory",
            Amount::Micros(medians.of(0)),
            ratio,
        )
        .target("≤ 1.2×", ratio <= 1.2)
        .note(format!(
            "by the clock: {} to replay, {} to make",
            Amount::Micros(medians.of(3)),
            Amount::Micros(medians.of(2))
        )))
}

/// A call that is held, approved and gone on with, against one that is permitted at once.
pub(super) fn hold(_: &Setting, pace: Pace<'_>) -> Measured<Figure> {
    let (rounds, calls) = (pace.pick(9, 2), pace.pick(100, 3));
    let folder = tempfile::tempdir()?;
    let setting = Setting::make(folder.path())?;
    let key = new_person_key("rita")?;
    home::enrol_person(&setting.home(), &key.verifier().to_string())?;
    let host = on_disk(&setting)?;
    let mut medians = Medians::new();
    for _ in pace.rounds(rounds) {
        let permitted = whole(|| setting::call(&host, refund(Mode::Execute, 1)));
        let held = prepared(|| (), |()| held_and_approved(&host, &key));
        medians.round(calls, vec![permitted, held])?;
    }
    Ok(Figure::of(Amount::Micros(medians.of(1))).against(
        "the same call, permitted at once",
        Amount::Micros(medians.of(0)),
        medians.ratio(1, 0),
    ))
}

/// Recorded effects decided again, under the policies in force.
pub(super) fn what_if(_: &Setting, pace: Pace<'_>) -> Measured<Figure> {
    let (rounds, callers, each) = (pace.pick(3, 2), pace.pick(16, 1), pace.pick(1042, 5));
    let folder = tempfile::tempdir()?;
    let setting = Setting::make(folder.path())?;
    let host = on_disk(&setting)?;
    let calls = || (0..each).try_for_each(|_| setting::call(&host, refund(Mode::Execute, EFFECTS)).map(drop));
    thread::scope(|scope| {
        let callers: Vec<_> = (0..callers).map(|_| scope.spawn(calls)).collect();
        callers
            .into_iter()
            .try_for_each(|caller| caller.join().map_err(|_| "a caller panicked")?)
    })?;
    drop(host);
    let config = setting.config()?;
    let policy = PolicySet::load(config.policies(), &config.group_sizes()).map_err(|_| "the policies do not load")?;
    let mut rates = Vec::new();
    for _ in pace.rounds(rounds) {
        let mut what_if = WhatIf::open(&setting.home())?;
        let recorded = what_if.reader().begun_since(None)?;
        let begun = Instant::now();
        let weighed = what_if.policy(&policy, &recorded, |_| ())?;
        let took = begun.elapsed().as_secs_f64();
        if !weighed.changed.is_empty() || weighed.effects == 0 {
            return Err("the policies in force say something else of what they decided".into());
        }
        rates.push(weighed.effects as f64 / took);
    }
    Ok(Figure::of(Amount::PerSecond(middle(rates))).note(format!(
        "{} recorded effects, six a call, their values decrypted where a rule reads them",
        u64::from(EFFECTS) * callers * each
    )))
}

fn held_and_approved(host: &Host, key: &SignerKey) -> Measured<()> {
    let answer = host.call(refund(Mode::Suggest, 1))?;
    let Outcome::Held(held) = &answer.outcome else {
        return Err(format!("a call came to {:?}", answer.outcome).into());
    };
    let vote = Vote {
        person: "rita".to_owned(),
        hold: held.hold,
        verdict: Verdict::Approve,
        group: "reviewer".to_owned(),
        in_stead_of: None,
        expires_ms: held.expires_ms,
    };
    host.vote(&vote.sign(key)?, None)?;
    match host.resume(answer.call.as_str(), None)?.outcome {
        Outcome::Ok(_) => Ok(()),
        other => Err(format!("a call went on to {other:?}").into()),
    }
}

pub(super) fn on_disk(setting: &Setting) -> Measured<Host> {
    setting.open(HostOptions {
        wire: Some(Wire::answering(setting::response())),
        ..setting::on_disk(&["effects"])
    })
}

pub(super) fn refund(mode: Mode, count: u32) -> CallRequest {
    let args = format!(r#"{{"charge":"ch_shoes","amount":2500,"count":{count}}}"#);
    CallRequest {
        mode,
        ..setting::request("effects", "refund", &args)
    }
}
