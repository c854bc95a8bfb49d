//! What the host adds to an HTTP effect: everything but the network, the disk and the guest.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use ambit_core::effect::{GuestBody, GuestRequest, GuestResponse, HttpEffect, HttpRequest, Method};
use ambit_core::error::Refusal;
use ambit_core::grant::{Admitted, BoundImport, Grant, Limits, Narrowing, ToolIdentity};
use ambit_core::identity::Directory;
use ambit_core::json::Json;
use ambit_core::ledger::EntryDraft;
use ambit_core::ledger::body::Body;
use ambit_core::manifest::Manifest;
use ambit_core::policy::{CallFacts, EffectFacts, Mode, PolicySet};
use ambit_core::scope::Scope;
use ambit_runtime::call::CallRequest;
use ambit_runtime::gate::{Bounds, Wire};
use ambit_runtime::host::Host;
use ambit_runtime::ids::{CallId, TraceId};
use ambit_runtime::sandbox::{LoadedTool, Outcome, Sandbox, SandboxOptions};
use ambit_runtime::secret::Process;
use ambit_runtime::store::{Batch, Durable, Intent, Keys, Payload, Store, StoreOptions};

use super::governed::Nothing;
use super::report::{Amount, Figure};
use super::rounds::{Medians, part, part_of, prepared};
use super::setting::{self, Setting};
use super::{Measured, Pace};
use crate::programs::component;

/// Effects of a call that has some. Few, so that on a busy machine most calls still end before they are interrupted.
const EFFECTS: u32 = 6;

/// A refund whose currency is known.
pub(super) fn plain(setting: &Setting, pace: Pace<'_>) -> Measured<Figure> {
    let figure = measure(setting, pace, "effects")?;
    let met = figure.measured.value() <= 100.0;
    Ok(figure
        .target("≤ 100 µs", met)
        .parts(parts(setting, pace.pick(3000, 20))?))
}

/// A refund whose currency the host looks up first.
pub(super) fn with_look_up(setting: &Setting, pace: Pace<'_>) -> Measured<Figure> {
    measure(setting, pace, "lookups")
}

const WITHOUT: usize = 0;
const WITH: usize = 1;
const GUEST_WITHOUT: usize = 2;
const GUEST_WITH: usize = 3;

/// A call with effects less one without, and from that the same difference where the sandbox is alone and answers at once:
/// that is the guest's, which writes requests and reads answers.
fn measure(setting: &Setting, pace: Pace<'_>, tool: &'static str) -> Measured<Figure> {
    let (rounds, calls) = (pace.pick(15, 2), pace.pick(400, 10));
    let alone = Alone::load()?;
    let mut medians = Medians::new();
    for _ in pace.rounds(rounds) {
        let host = setting.open(setting.in_memory(&[tool]))?;
        let call = |count| {
            let host: &Host = &host;
            prepared(move || refund(tool, count), move |request| setting::call(host, request))
        };
        let guest = |count| {
            let alone = &alone;
            prepared(move || arguments(count), move |args| alone.call(&args?))
        };
        let subjects = vec![call(0), call(EFFECTS), guest(0), guest(EFFECTS)];
        medians.round(calls, subjects)?;
    }
    let each = |with, without| medians.paired(with, without, |with, without| (with - without) / f64::from(EFFECTS));
    let (all, guest) = (each(WITH, WITHOUT), each(GUEST_WITH, GUEST_WITHOUT));
    let figure = Figure::of(Amount::Micros(all - guest)).note(format!(
        "the guest writes its request and reads the answer in another {}",
        Amount::Micros(guest)
    ));
    Ok(figure)
}

fn refund(tool: &str, count: u32) -> CallRequest {
    setting::request(
        tool,
        "refund",
        &format!(r#"{{"charge":"ch_shoes","amount":2500,"count":{count}}}"#),
    )
}

fn arguments(count: u32) -> Measured<Json> {
    Ok(Json::parse(
        &refund("", count).args,
        ambit_core::json::Limits::default(),
    )?)
}

/// The sandbox, and effects that answer from memory.
struct Alone {
    sandbox: Sandbox,
    tool: LoadedTool,
    answer: GuestResponse,
}

impl Alone {
    fn load() -> Measured<Alone> {
        let sandbox = Sandbox::new(SandboxOptions::new(setting::compiler()))?;
        let tool = sandbox.load(&fs::read(component("good_effects"))?)?;
        let answer = GuestResponse {
            status: 200,
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            body: Some(
                r#"{"amount":2500,"charge":"ch_shoes","currency":"usd","id":"re_1","status":"succeeded"}"#.to_owned(),
            ),
        };
        Ok(Alone { sandbox, tool, answer })
    }

    fn call(&self, args: &Json) -> Measured<()> {
        let function = self.tool.manifest().function("refund")?;
        let effects = Box::new(Nothing(Some(self.answer.clone())));
        let ended = self
            .sandbox
            .run(&self.tool, function, args, &Limits::default(), effects);
        match ended.outcome {
            Outcome::Ok(_) => Ok(()),
            other => Err(format!("the sandbox came to {other:?}").into()),
        }
    }
}

/// One refund, taken step by step as the host takes it.
struct Steps {
    grant: Grant,
    import: BoundImport,
    guest: GuestRequest,
    admitted: Admitted,
}

impl Steps {
    fn take(setting: &Setting, policy: &PolicySet) -> Measured<Steps> {
        let config = setting.config()?;
        let manifest = Manifest::read(&fs::read(component("good_effects"))?)?;
        let function = manifest.function("refund")?;
        let caller = Directory::new(config.agents().clone())?.caller("assistant", Some("ada"))?;
        let decision = policy.decide_call(&CallFacts {
            caller: &caller,
            run: None,
            mode: Mode::Execute,
            tool: "effects",
            tool_digest: manifest.digest,
            function: &function.id,
        });
        let capability = manifest.capabilities().next().ok_or("the component imports nothing")?;
        let import = BoundImport {
            label: capability.label.clone(),
            index: capability.index,
            scope: capability.scope.clone().ok_or("the import has no scope")?,
            connection: config.connection("known").cloned(),
        };
        let identity = ToolIdentity::new("effects", manifest.digest);
        let (imports, limits) = (vec![import.clone()], config.limits().clone());
        let grant = Grant::mint(
            &decision,
            caller,
            identity,
            function,
            imports,
            Narrowing::default(),
            limits,
        )?;
        let form = [("charge", "ch_shoes"), ("amount", "2500"), ("reason", "duplicate")];
        let guest = GuestRequest {
            method: Method::Post,
            path: "/v1/refunds".to_owned(),
            query: Vec::new(),
            headers: Vec::new(),
            body: GuestBody::Form(form.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()),
        };
        let admitted = grant.admit(import.index, &guest)?;
        Ok(Steps {
            grant,
            import,
            guest,
            admitted,
        })
    }

    /// What policy is asked about it.
    fn decide(&self, policy: &PolicySet) -> Result<bool, Refusal> {
        let fields = self.admitted.field_facts();
        let facts = EffectFacts {
            call: CallFacts {
                caller: self.grant.caller(),
                run: None,
                mode: Mode::Execute,
                tool: self.grant.tool().name(),
                tool_digest: self.grant.tool().digest(),
                function: self.grant.function(),
            },
            connection: self.admitted.connection().name(),
            route: self.admitted.route().name(),
            tier: self.admitted.tier(),
            fields: &fields,
            captures: self.admitted.captures(),
            recipients: &[],
            exhausted: &[],
            spend: self.admitted.spend(None)?,
            approvals: &BTreeMap::new(),
        };
        Ok(policy.decide_effect(&facts).allowed())
    }
}

/// Each step alone, in microseconds.
fn parts(setting: &Setting, times: usize) -> Measured<Vec<(&'static str, f64)>> {
    let config = setting.config()?;
    let policy = PolicySet::load(config.policies(), &config.group_sizes()).map_err(|_| "the policies do not load")?;
    let steps = Steps::take(setting, &policy)?;
    if !steps.decide(&policy)? {
        return Err("policy does not permit the refund".into());
    }
    let Steps {
        grant,
        import,
        guest,
        admitted,
    } = &steps;
    let Scope::Http(scope) = &import.scope else {
        return Err("the import is not of HTTP".into());
    };
    let connection = import.connection.as_ref().ok_or("the connection is missing")?;
    let request = admitted.request();
    let parse = || HttpRequest::parse(connection.origin(), guest, &ambit_core::effect::WireLimits::default());
    let rule = scope
        .rules()
        .get(scope.covers(request)?)
        .ok_or("the scope has no such rule")?;
    let reads = || {
        let route = admitted.route();
        (
            rule.reads().intersect(route.reads()),
            rule.headers().intersect(route.headers()),
        )
    };
    let parsed = part(times, parse);
    let covered = part(times, || scope.covers(request));
    let routed = part(times, || connection.find(request).map(|matched| matched.tier));
    let intersected = part(times, reads);
    let admission = part(times, || grant.admit(import.index, guest));
    let recorded = Recorded::of(setting)?;
    let spend = admitted.spend(None)?;
    let digest = || {
        let effect = HttpEffect {
            connection: admitted.connection().name().to_owned(),
            route: admitted.route().name().to_owned(),
            tier: admitted.tier(),
            request: request.clone(),
            captures: admitted.captures().clone(),
            spend,
        };
        effect.digest(&request.digest())
    };
    let upstream = config
        .upstream("known", &Process)
        .map_err(|problem| problem.message().to_owned())?;
    let (wire, io) = (Wire::answering(setting::response()), tokio::runtime::Runtime::new()?);
    let bounds = Bounds {
        time: Duration::from_secs(30),
        answer_bytes: 1 << 20,
    };
    let send = |durable: Durable| io.block_on(wire.send(&upstream, durable, &[("Idempotency-Key", "k")], bounds));
    let response = setting::response();
    let headers: Vec<(String, String)> = response
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()))
        .collect();
    let sent = recorded.intend(admitted).map_err(|why| format!("no intent: {why}"))?;
    send(sent).map_err(|why| why.to_string())?;
    Ok(vec![
        ("what was asked, kept", part(times, || recorded.keep(guest))),
        ("canonical request", parsed),
        ("scope", covered),
        ("route", routed),
        ("what may be read: scope ∩ route", intersected),
        (
            "the rest of admission",
            admission - parsed - covered - routed - intersected,
        ),
        (
            "money, fields, policy's decision",
            part(times, || steps.decide(&policy)),
        ),
        ("the effect's digest, twice", 2.0 * part(times, digest)),
        (
            "intent with its payload, sealed",
            part_of(times, || (), |()| recorded.intend(admitted)),
        ),
        (
            "request with credential; answer masked",
            part_of(times, || recorded.intend(admitted).expect("as before"), send),
        ),
        (
            "answer projected",
            part(times, || admitted.answer(200, &headers, response.body())),
        ),
        (
            "outcome with the answer, sealed",
            part_of(
                times,
                || recorded.outcome(admitted).expect("as before"),
                |batch| recorded.store.commit(batch),
            ),
        ),
    ])
}

/// A ledger in memory, and the entries of an effect that was made, to be written again.
struct Recorded {
    store: Store,
    intent: EntryDraft,
    outcome: EntryDraft,
    answer: Vec<u8>,
}

impl Recorded {
    fn of(setting: &Setting) -> Measured<Recorded> {
        let host = setting.open(setting.in_memory(&["effects"]))?;
        let answer = setting::call(&host, refund("effects", 1))?;
        let (reader, call) = (host.reader()?, answer.call.as_str());
        let entries = reader.entries_of(call)?;
        let draft = |wanted: fn(&Body) -> bool| {
            let entry = entries
                .iter()
                .find(|entry| wanted(entry.body()))
                .ok_or("the effect is not on the ledger")?;
            Measured::Ok(EntryDraft {
                trace: Some(TraceId::random()?.to_string()),
                ..setting::template(entry)
            })
        };
        let kept = reader
            .payload(call, "effect/1/answer")?
            .ok_or("the answer is not kept")?;
        Ok(Recorded {
            store: Store::memory(Keys::load(&setting.home())?, StoreOptions::default())?,
            intent: draft(|body| matches!(body, Body::EffectIntent(_)))?,
            outcome: draft(|body| matches!(body, Body::EffectOutcome(_)))?,
            answer: kept.into_bytes(),
        })
    }

    fn keep(&self, guest: &GuestRequest) -> Measured<ambit_core::digest::Digest> {
        let bytes = guest.to_json().to_canonical().into_bytes();
        Ok(Payload::new("c_aaaaaaaaaaaaaaaaaaaaaaaaaa", "effect/1/asked", bytes)?.commitment())
    }

    /// Commits the intent of a call that was not there yet.
    fn intend(&self, admitted: &Admitted) -> Measured<Durable> {
        self.intend_for(&CallId::new()?, admitted)
    }

    fn intend_for(&self, call: &CallId, admitted: &Admitted) -> Measured<Durable> {
        let bytes = admitted.request().wire().to_canonical().into_bytes();
        let payload = Payload::new(call.as_str(), "effect/1/request", bytes)?;
        let mut entry = self.intent.clone();
        entry.call = Some(call.to_string());
        if let Body::EffectIntent(body) = &mut entry.body {
            body.request = payload.commitment();
        }
        let batch = Batch {
            entries: vec![entry],
            payloads: vec![payload],
            intent: Some(Intent {
                request: admitted.request().clone(),
                deadline: Instant::now() + Duration::from_secs(30),
            }),
            ..Batch::default()
        };
        Ok(self.store.commit(batch)?.durable.ok_or("no leave to send")?)
    }

    /// The outcome of an intent that is committed for it.
    fn outcome(&self, admitted: &Admitted) -> Measured<Batch> {
        let call = CallId::new()?;
        drop(self.intend_for(&call, admitted)?);
        let payload = Payload::new(call.as_str(), "effect/1/answer", self.answer.clone())?;
        let mut outcome = self.outcome.clone();
        outcome.call = Some(call.to_string());
        Ok(Batch {
            entries: vec![outcome],
            payloads: vec![payload],
            ..Batch::default()
        })
    }
}
