//! Scenarios: a folder each, with what an operator wrote, what an agent asked for, and what must come of it.
//!
//! ```text
//! case.toml      [tools] name = "component", and [[call]]: function, args (or args-text), agent, user, tool; or, after a call that
//!                is held, approve = "person" or reject = "person", people = ["person"] are enrolled; or, after a call with
//!                an effect in doubt, found = "done" or "not-done"; [runs] name = ["argument"] are started as `ambit run start`
//!                takes it: run = "name" in a call, end = "name"; or operator = ["…"]: any command, where ${hold} is the
//!                first that waits, ${old hold} what that last was, ${call} the newest call that undoes none, and ${key NAME} a
//!                person's key file
//! ambit.toml     ${port}, ${admin_port} and ${ca} stand for the service's; without it, the one for all scenarios
//! policy.cedar   in force beside the shipped policy; without it, the one for all scenarios
//! expect.toml    [[call]]: outcome, code, message, value, refused, receipt, and [[call.request]]: what arrived;
//!                [refused-tools] name = ["part of the message"]: what `ambit tools add` does not take, and why
//! ```
//!
//! A guest that has many ways to misbehave is run through all of them with `[matrix]` in `case.toml` (tool, function, the
//! function that lists its cases, and the argument that chooses one) and `[matrix]` in `expect.toml`: each case with the
//! code it must be refused with, or `ok: 200` where it must return something that begins with 200. A case that the guest has and the table has not is a failure.
//!
//! A scenario in which people or operators do something is run once more, as `served::NAME`: they do it while a process serves the home.
//!
//! After every scenario the ledger is verified, its calls are replayed and decided once more, the last receipt is verified offline, and no two requests may have had the
//! same idempotency key. Neither the home, nor any output, nor a request's readable part may contain the service's token,
//! and no output, of people's commands neither, a character that a terminal obeys.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;

use data_encoding::{BASE64, HEXLOWER};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::home::{Home, Run};
use crate::service::{Authorization, Event, Options, Request, Service};
use crate::{logs, times};

/// The variable in which every scenario's configuration finds the service's token.
pub const TOKEN_VARIABLE: &str = "STRIPE_KEY";

/// `case.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Case {
    /// Name in the home → component.
    pub tools: BTreeMap<String, String>,
    /// How the service is started.
    #[serde(default)]
    service: ServiceOptions,
    /// Who is enrolled to approve.
    #[serde(default)]
    people: Vec<String>,
    /// Runs that are started, with the arguments of that.
    #[serde(default)]
    runs: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    call: Vec<Call>,
    matrix: Option<Matrix>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct ServiceOptions {
    names: Vec<String>,
    only: bool,
    expired: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Call {
    /// The only tool, where none is named.
    tool: Option<String>,
    #[serde(default)]
    function: String,
    /// In place of a call: this person says yes to what is held.
    approve: Option<String>,
    /// In place of a call: this person says no to what is held.
    reject: Option<String>,
    /// In place of a call: an operator's command.
    #[serde(default)]
    operator: Vec<String>,
    /// In place of a call: the operator says this of the effect in doubt.
    found: Option<String>,
    #[serde(default)]
    args: Option<Value>,
    /// Arguments that TOML can't say, or that are no JSON.
    args_text: Option<String>,
    agent: Option<String>,
    user: Option<String>,
    /// The run that it is part of, by its name here.
    run: Option<String>,
    /// In place of a call: this run is ended.
    end: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Matrix {
    /// The only tool, where none is named.
    tool: Option<String>,
    function: String,
    /// The function that lists the cases.
    cases: String,
    /// The parameter that takes a case's name.
    argument: String,
}

/// `expect.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Expectations {
    #[serde(default)]
    call: Vec<Expected>,
    #[serde(default)]
    matrix: BTreeMap<String, String>,
    /// Tools that the home must not accept, and parts of what the operator is told.
    #[serde(default)]
    refused_tools: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Expected {
    /// `ok`, `tool-error`, `refused`, `held` or `paused`; `waiting` where a vote is not the last one needed; `ended` of a run; or `error`: the command ended
    /// before there was a call. Of an operator's command also `done`, `failed` or `waits`, for what it tells people.
    outcome: String,
    /// The refusal's code.
    code: Option<String>,
    /// Parts of what people are told.
    #[serde(default)]
    message: Vec<String>,
    /// What they must not be told.
    #[serde(default)]
    not: Vec<String>,
    /// Members of the returned value.
    value: Option<Value>,
    /// The codes of refused effects, in order.
    refused: Option<Vec<String>>,
    /// Members of the last ledger entry.
    receipt: Option<Value>,
    /// Exactly what arrived at the service, in order.
    #[serde(default)]
    request: Vec<ExpectedRequest>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ExpectedRequest {
    method: String,
    path: String,
    /// The whole form, names and values.
    form: Option<BTreeMap<String, String>>,
    /// The whole body.
    body: Option<String>,
    /// Headers that must be there with these values.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    authorization: Option<Authorization>,
    status: Option<u16>,
}

/// Reads a scenario's case.
///
/// # Errors
/// It is missing or says something that is not known.
pub fn case(folder: &Path) -> Result<Case, String> {
    read(folder, "case.toml")
}

/// Runs the scenario in `folder`, keeping its home and service in `scratch`.
///
/// # Errors
/// Everything that is not as expected.
pub fn run(folder: &Path, scratch: &Path) -> Result<(), String> {
    played(folder, scratch, false)
}

/// The same, while a process serves the home whenever people and operators do something: nothing may come of it but what does without one.
///
/// # Errors
/// As [`run`].
pub fn run_served(folder: &Path, scratch: &Path) -> Result<(), String> {
    played(folder, scratch, true)
}

fn played(folder: &Path, scratch: &Path, served: bool) -> Result<(), String> {
    let case = case(folder)?;
    let expected: Expectations = read(folder, "expect.toml")?;
    let stage = Stage::set(folder, scratch, &case, &expected, served)?;
    if case.call.len() != expected.call.len() {
        return Err(format!(
            "{} calls, but expectations for {}",
            case.call.len(),
            expected.call.len()
        ));
    }
    for (number, (call, expected)) in case.call.iter().zip(&expected.call).enumerate() {
        stage
            .check_call(call, expected)
            .map_err(|why| format!("call {} ({}): {why}", number + 1, call.function))?;
    }
    if let Some(matrix) = &case.matrix {
        stage.check_matrix(matrix, &expected.matrix)?;
    }
    stage.check_records()
}

/// An agent of a configuration: whoever it is, it says nothing.
fn agent(configuration: &str) -> Result<String, String> {
    let text: toml::Table = toml::from_str(configuration).map_err(|error| error.to_string())?;
    let agents = text.get("agent").and_then(toml::Value::as_table);
    let first = agents.and_then(|agents| agents.keys().next());
    first.cloned().ok_or_else(|| "nobody can be served".to_owned())
}

impl Case {
    /// Whether people or operators do something in it.
    #[must_use]
    pub fn is_operated(&self) -> bool {
        let operated = |call: &Call| {
            call.approve.is_some()
                || call.reject.is_some()
                || call.found.is_some()
                || call.end.is_some()
                || !call.operator.is_empty()
        };
        self.call.iter().any(operated)
    }
}

fn read<T: DeserializeOwned>(folder: &Path, name: &str) -> Result<T, String> {
    let text = read_text(folder, name)?;
    toml::from_str(&text).map_err(|error| format!("{name}: {error}"))
}

/// The scenario's own file, else the one that lies beside all scenarios.
fn own_or_shared(folder: &Path, name: &str) -> Result<String, String> {
    let shared = folder.parent().filter(|_| !folder.join(name).exists());
    read_text(shared.unwrap_or(folder), name)
}

fn read_text(folder: &Path, name: &str) -> Result<String, String> {
    fs::read_to_string(folder.join(name)).map_err(|error| format!("{name}: {error}"))
}

/// A home and the service it is connected to.
struct Stage {
    home: Home,
    service: Service,
    /// The tool that is meant where a call names none.
    only_tool: Option<String>,
    /// The ids of the runs.
    runs: BTreeMap<String, String>,
    /// The hold that waited first when somebody last asked.
    old_hold: RefCell<String>,
    /// The agent that is served while people and operators do something, where one is.
    served: Option<String>,
}

impl Stage {
    fn set(folder: &Path, scratch: &Path, case: &Case, expected: &Expectations, served: bool) -> Result<Self, String> {
        let options = Options {
            names: case.service.names.clone(),
            only: case.service.only,
            expired: case.service.expired,
        };
        let service =
            Service::start_with(&scratch.join("service"), &options).map_err(|error| format!("service: {error}"))?;
        let mut home = Home::make(&scratch.join("home")).map_err(|error| error.to_string())?;
        home.set(TOKEN_VARIABLE, service.token.clone());
        // Whatever can be logged is, and no secret is in it.
        home.set("AMBIT_LOG", "trace");
        home.set("AMBIT_LOG_FORMAT", "json");
        let mut names = case.tools.keys().cloned();
        let only_tool = names.next().filter(|_| names.next().is_none());
        let mut stage = Self {
            home,
            service,
            only_tool,
            runs: BTreeMap::new(),
            old_hold: RefCell::default(),
            served: None,
        };
        let configuration = stage.filled(&own_or_shared(folder, "ambit.toml")?);
        let policy = own_or_shared(folder, "policy.cedar")?;
        stage.home.permit(&policy).map_err(|error| error.to_string())?;
        for (name, component) in &case.tools {
            stage.add(name, component, expected.refused_tools.get(name))?;
        }
        stage
            .home
            .configure(&configuration)
            .map_err(|error| error.to_string())?;
        if served {
            stage.served = Some(agent(&configuration)?);
        }
        case.people.iter().try_for_each(|person| stage.enrol(person))?;
        for (name, arguments) in &case.runs {
            let arguments = ["run", "start"].into_iter().chain(arguments.iter().map(String::as_str));
            let started = stage.act(arguments)?;
            stage.runs.insert(name.clone(), started.out.trim().to_owned());
        }
        Ok(stage)
    }

    /// Something that an operator or a person does, over the socket of the process that serves the home, where one does.
    fn act<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<Run, String> {
        let text = |error: io::Error| error.to_string();
        let arguments: Vec<S> = arguments.into_iter().collect();
        // What is no act of an operator takes the home for itself.
        let calls = arguments.first().is_some_and(|first| first.as_ref() == "call");
        let served = self.served.as_ref().filter(|_| !calls);
        let serving = served.map(|agent| self.home.serve(agent)).transpose();
        let serving = serving.map_err(text)?;
        let run = self.home.run(arguments, "").map_err(text)?;
        drop(serving);
        self.check_output(&run)?;
        Ok(run)
    }

    /// Gives a person a key and enrols them.
    fn enrol(&self, person: &str) -> Result<(), String> {
        let done = |arguments: &[&str]| self.home.done(arguments).map_err(|error| error.to_string());
        let made = done(&["person", "key", person, "--output", &self.key(person)])?;
        done(&["person", "enrol", made.out.trim()]).map(|_| ())
    }

    fn key(&self, person: &str) -> String {
        let file = self.home.folder().with_file_name(format!("{person}.key"));
        file.display().to_string()
    }

    /// The first effect that is held.
    fn first_held(&self) -> Result<String, String> {
        let listed = self
            .home
            .done(["approvals", "list", "--format", "json"])
            .map_err(|error| error.to_string())?;
        let hold = listed
            .json()
            .and_then(|holds| holds[0]["hold"].as_str().map(str::to_owned));
        let hold = hold.unwrap_or_else(|| "none".to_owned());
        self.old_hold.replace(hold.clone());
        Ok(hold)
    }

    /// The newest call that is no rollback.
    fn newest_call(&self) -> Result<String, String> {
        let listed = self
            .home
            .done(["audit", "list", "--format", "json"])
            .map_err(|error| error.to_string())?;
        let calls = listed.json().unwrap_or_default();
        let mut calls = calls.as_array().into_iter().flatten();
        let newest = calls.find(|call| call["undoes"].is_null());
        let newest = newest.and_then(|call| call["call"].as_str());
        Ok(newest.unwrap_or("c_none").to_owned())
    }

    /// An operator's command, with what stands for a hold, a call and people's keys.
    fn operate(&self, command: &[String]) -> Result<Run, String> {
        let mut arguments = Vec::new();
        for argument in command {
            let person = argument.strip_prefix("${key ").and_then(|rest| rest.strip_suffix('}'));
            arguments.push(match person {
                Some(person) => self.key(person),
                None if argument == "${old hold}" => self.old_hold.borrow().clone(),
                None if argument == "${hold}" => self.first_held()?,
                None if argument == "${call}" => self.newest_call()?,
                None => argument.clone(),
            });
        }
        self.act(arguments)
    }

    /// A person's word on the only effect that is held.
    fn vote(&self, word: &str, person: &str) -> Result<Run, String> {
        let hold = self.first_held()?;
        let arguments = ["approvals", word, &hold, "--key", &self.key(person), "--format", "json"];
        self.act(arguments)
    }

    /// Says what became of the oldest effect in doubt, as an operator does.
    fn settle_doubt(&self, found: &str) -> Result<Run, String> {
        let listed = self
            .home
            .done(["calls", "--in-doubt", "--format", "json"])
            .map_err(|error| error.to_string())?;
        self.check_output(&listed)?;
        let call = listed
            .json()
            .and_then(|calls| calls[0]["call"].as_str().map(str::to_owned));
        let call = call.unwrap_or_else(|| "c_none".to_owned());
        let word = format!("--{found}");
        let arguments = [
            "calls",
            "resolve",
            &call,
            &word,
            "--reason",
            "looked it up",
            "--format",
            "json",
        ];
        self.act(arguments)
    }

    /// Adds a tool, which must be refused where there is something that it must be refused for.
    fn add(&self, name: &str, component: &str, refused: Option<&Vec<String>>) -> Result<(), String> {
        let run = self.home.try_add(name, component).map_err(|error| error.to_string())?;
        self.check_output(&run)?;
        let missing = refused
            .into_iter()
            .flatten()
            .find(|part| !run.err.contains(part.as_str()));
        match (refused, run.code, missing) {
            (None, Some(0), _) => self.check_inspection(name),
            (Some(_), Some(1), None) => Ok(()),
            (Some(_), Some(1), Some(missing)) => Err(format!("nobody is told `{missing}`\n{}", run.text())),
            (Some(_), ..) => Err(format!("the tool {name} is not refused\n{}", run.text())),
            (None, ..) => Err(format!("the tool {name} is not accepted\n{}", run.text())),
        }
    }

    /// What a component says of itself must do no harm where it is read.
    fn check_inspection(&self, name: &str) -> Result<(), String> {
        for arguments in [
            ["inspect", name, "--format", "json"],
            ["inspect", name, "--format", "human"],
        ] {
            self.check_output(&self.home.done(arguments).map_err(|error| error.to_string())?)?;
        }
        Ok(())
    }

    fn filled(&self, text: &str) -> String {
        text.replace("${port}", &self.service.port.to_string())
            .replace("${admin_port}", &self.service.admin_port.to_string())
            .replace("${ca}", &self.service.ca.display().to_string())
    }

    fn call(&self, call: &Call) -> Result<Run, String> {
        let args = match (&call.args, &call.args_text) {
            (Some(args), None) => args.to_string(),
            (None, Some(text)) => text.clone(),
            (None, None) => "{}".to_owned(),
            (Some(_), Some(_)) => return Err("args and args-text exclude each other".to_owned()),
        };
        let tool = self.tool(call.tool.as_ref())?;
        let part_of = call.run.as_ref().map(|name| self.run_named(name)).transpose()?;
        let (agent, user) = (call.agent.as_deref(), call.user.as_deref());
        let run = self.home.call(tool, &call.function, &args, agent, user, part_of);
        let run = run.map_err(|error| error.to_string())?;
        self.check_output(&run)?;
        Ok(run)
    }

    fn run_named(&self, name: &str) -> Result<&str, String> {
        let run = self.runs.get(name).map(String::as_str);
        run.ok_or_else(|| format!("there is no run {name}"))
    }

    /// An operator ends a run.
    fn end(&self, name: &str) -> Result<Run, String> {
        let arguments = ["run", "end", self.run_named(name)?, "--format", "json"];
        self.act(arguments)
    }

    fn tool<'a>(&'a self, named: Option<&'a String>) -> Result<&'a str, String> {
        let tool = named.or(self.only_tool.as_ref());
        tool.map(String::as_str)
            .ok_or_else(|| "there are several tools: say which one is called".to_owned())
    }

    fn check_call(&self, call: &Call, expected: &Expected) -> Result<(), String> {
        let before = self.requests()?.len();
        let run = match (&call.approve, &call.reject, &call.found, &call.end) {
            (Some(person), ..) => self.vote("approve", person)?,
            (None, Some(person), ..) => self.vote("reject", person)?,
            (None, None, Some(found), _) => self.settle_doubt(found)?,
            (None, None, None, Some(run)) => self.end(run)?,
            (None, None, None, None) if !call.operator.is_empty() => self.operate(&call.operator)?,
            (None, None, None, None) => self.call(call)?,
        };
        let told = |why: String| format!("{why}\n{}", run.text());
        match expected.outcome.as_str() {
            "done" | "failed" | "waits" => expected.check_told(&run).map_err(told)?,
            _ => Answer::of(&run).check(expected, &run).map_err(told)?,
        }
        let requests = self.requests()?.split_off(before);
        check_requests(&requests, &expected.request).map_err(told)
    }

    fn check_matrix(&self, matrix: &Matrix, expected: &BTreeMap<String, String>) -> Result<(), String> {
        let tool = self.tool(matrix.tool.as_ref())?;
        let run = self
            .home
            .call(tool, &matrix.cases, "{}", None, None, None)
            .map_err(|error| error.to_string())?;
        let listed = Answer::of(&run).value;
        let listed: Vec<String> = serde_json::from_value(listed).map_err(|error| format!("{error}\n{}", run.text()))?;
        let mut wrong: Vec<String> = expected
            .keys()
            .filter(|name| !listed.contains(name))
            .map(|name| format!("{name}: expected, but the guest has no such case"))
            .collect();
        for name in &listed {
            match expected.get(name) {
                Some(expected) => wrong.extend(self.check_matrix_case(matrix, name, expected).err()),
                None => wrong.push(format!("{name}: the guest has this case, expect.toml has not")),
            }
        }
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(wrong.join("\n"))
        }
    }

    /// A refused case must leave nothing at the service but what the host itself had to look up.
    fn check_matrix_case(&self, matrix: &Matrix, name: &str, expected: &str) -> Result<(), String> {
        let before = self.requests()?.len();
        let call = Call {
            tool: matrix.tool.clone(),
            function: matrix.function.clone(),
            approve: None,
            reject: None,
            operator: Vec::new(),
            found: None,
            args: Some(serde_json::json!({ &matrix.argument: name })),
            args_text: None,
            agent: None,
            user: None,
            run: None,
            end: None,
        };
        let run = self.call(&call).map_err(|why| format!("{name}: {why}"))?;
        let answer = Answer::of(&run);
        let (word, value) = expected.split_once(": ").unwrap_or((expected, ""));
        let said = answer.value.as_str().unwrap_or_default();
        if answer.word() != word || !said.starts_with(value) {
            return Err(format!(
                "{name}: {} {said:?}, not {expected}\n{}",
                answer.word(),
                run.text()
            ));
        }
        let requests = self.requests()?.split_off(before);
        match requests.iter().find(|request| request.method != "GET") {
            Some(leak) if word != "ok" => Err(format!("{name}: {} {} arrived", leak.method, leak.path)),
            _ => Ok(()),
        }
    }

    fn requests(&self) -> Result<Vec<Request>, String> {
        self.service.requests().map_err(|error| error.to_string())
    }

    /// What holds after every scenario.
    fn check_records(&self) -> Result<(), String> {
        let verified = self.home.done(["audit", "verify"]).map_err(|error| error.to_string())?;
        self.check_output(&verified)?;
        self.check_replay()?;
        self.check_what_if()?;
        self.check_newest_calls()?;
        self.check_exports()?;
        self.check_arrived()?;
        let files = self
            .home
            .files_with(&spellings(&self.service.token))
            .map_err(|error| error.to_string())?;
        if files.is_empty() {
            Ok(())
        } else {
            Err(format!("the service's token is in {files:?}"))
        }
    }

    /// Every call that ran comes to the same again, from what was recorded of it; left out is only what ended by time or with its run.
    fn check_replay(&self) -> Result<(), String> {
        let run = self
            .home
            .done(["replay", "--format", "json"])
            .map_err(|error| error.to_string())?;
        self.check_output(&run)?;
        let document = run.json().unwrap_or_default();
        let left = document["left_out"]
            .as_array()
            .ok_or("a replay said nothing of what it left out")?;
        let from_outside = |left: &&Value| {
            let why = left["why"].as_str().unwrap_or_default();
            ["time", "run"]
                .iter()
                .any(|end| why.contains(&format!("ended by `{end}`")))
        };
        match left.iter().find(|left| !from_outside(left)) {
            Some(left) => Err(format!("not replayed: {left}")),
            None => Ok(()),
        }
    }

    /// Each entry is a line of each export, and counted once.
    fn check_exports(&self) -> Result<(), String> {
        let lines = |arguments: &[&str]| -> Result<usize, String> {
            let run = self.home.done(arguments).map_err(|error| error.to_string())?;
            self.check_output(&run)?;
            let broken = run
                .out
                .lines()
                .find(|line| serde_json::from_str::<Value>(line).is_err());
            broken.map_or_else(|| Ok(run.out.lines().count()), |line| Err(format!("not JSON: {line}")))
        };
        let plain = lines(&["export", "--jsonl"])?;
        let values = lines(&["export", "--jsonl", "--values"])?;
        let events = lines(&["export", "--ocsf"])?;
        let records = lines(&["export", "--otlp"])?;
        let run = self
            .home
            .done(["metrics", "--format", "json"])
            .map_err(|error| error.to_string())?;
        self.check_output(&run)?;
        let metrics = run.json().unwrap_or_default();
        let kinds = metrics["ambit_ledger_entries_total"]["samples"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let counted: u64 = kinds.iter().filter_map(|sample| sample["value"].as_u64()).sum();
        match [values as u64, events as u64, records as u64, counted] == [plain as u64; 4] {
            true => Ok(()),
            false => Err(format!(
                "{plain} lines, {values} with values, {events} events, {records} log records, {counted} counted"
            )),
        }
    }

    /// Decided once more under the very policies in force, all comes to what it came to: facts are rebuilt as they were.
    fn check_what_if(&self) -> Result<(), String> {
        let policy = self.home.folder().join("policy").display().to_string();
        let run = self
            .home
            .done(["what-if", "--policy", &policy, "--allow-none", "--format", "json"])
            .map_err(|error| error.to_string())?;
        self.check_output(&run)?;
        let document = run.json().unwrap_or_default();
        let undecided = document["undecided"]
            .as_array()
            .is_none_or(|undecided| !undecided.is_empty());
        let otherwise = document["other_rules"] != 0;
        if undecided || otherwise {
            return Err(format!("decided again, not all is as it was: {}", run.text()));
        }
        self.check_lessons()
    }

    /// What agents asked for can be learned from: a proposal is not given out that would not permit it.
    fn check_lessons(&self) -> Result<(), String> {
        let learned = self.home.run(["policy", "learn", "--since", "1970-01-01"], "");
        let learned = learned.map_err(|error| error.to_string())?;
        self.check_output(&learned)?;
        match learned.code {
            Some(0) => Ok(()),
            Some(1) if learned.err.contains("nothing to learn from") => Ok(()),
            _ => Err(format!("nothing was learned: {}", learned.text())),
        }
    }

    /// The newest call's receipt proves it to whoever has the public key alone; the newest three can be looked at.
    fn check_newest_calls(&self) -> Result<(), String> {
        let done = |arguments: &[&str]| self.home.done(arguments).map_err(|error| error.to_string());
        let listed = done(&["audit", "list", "--limit", "3", "--format", "json"])?;
        let calls = listed.json().unwrap_or_default();
        let calls: Vec<&str> = calls
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|call| call["call"].as_str())
            .collect();
        for call in &calls {
            self.check_output(&done(&["audit", "show", call, "--payloads"])?)?;
        }
        let Some(newest) = calls.first() else {
            return Ok(());
        };
        let file = |name: &str| self.home.folder().with_file_name(name);
        let (receipt, key) = (file("receipt.json"), file("ledger.pub"));
        fs::copy(self.home.folder().join("keys/ledger.pub"), &key).map_err(|error| error.to_string())?;
        let (receipt, key) = (receipt.display().to_string(), key.display().to_string());
        done(&["audit", "prove", newest, "--output", &receipt])?;
        let nowhere = self.home.moved(&file("no-home"));
        let verified = nowhere.done(["receipt", "verify", &receipt, "--key", &key]);
        self.check_output(&verified.map_err(|error| error.to_string())?)?;
        self.check_bundle(newest, &nowhere, &key)
    }

    /// A call that can be replayed can be replayed elsewhere, by whoever has the public key alone.
    fn check_bundle(&self, call: &str, nowhere: &Home, key: &str) -> Result<(), String> {
        let file = self.home.folder().with_file_name("bundle.json").display().to_string();
        let written = self.home.run(["replay", "--bundle", &file, call], "");
        let written = written.map_err(|error| error.to_string())?;
        self.check_output(&written)?;
        if written.code == Some(1) && written.err.contains("the call cannot be replayed") {
            return Ok(());
        }
        let replayed = nowhere.run(["replay", "--from", &file, "--key", key], "");
        let replayed = replayed.map_err(|error| error.to_string())?;
        self.check_output(&replayed)?;
        if replayed.code != Some(0) {
            return Err(format!(
                "its bundle is not replayed: {}\n{}",
                written.text(),
                replayed.text()
            ));
        }
        let text = fs::read_to_string(&file).map_err(|error| error.to_string())?;
        let bundle: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let values = bundle["values"].as_object().into_iter().flatten();
        let plain: Vec<String> = values
            .filter_map(|(_, value)| BASE64.decode(value["value"].as_str()?.as_bytes()).ok())
            .map(|value| String::from_utf8_lossy(&value).into_owned())
            .collect();
        let tokens = spellings(&self.service.token);
        if plain
            .iter()
            .any(|value| tokens.iter().any(|token| value.contains(token)))
        {
            return Err("the service's token is in a bundle".to_owned());
        }
        Ok(())
    }

    fn check_arrived(&self) -> Result<(), String> {
        let events = self.service.events().map_err(|error| error.to_string())?;
        let mut keys = BTreeSet::new();
        for event in events {
            match event {
                Event::Strayed { line } => return Err(format!("a redirect to loopback was followed: {line}")),
                Event::Request(request) => {
                    let readable = format!("{} {:?} {}", request.path, request.headers, request.body);
                    if spellings(&self.service.token)
                        .iter()
                        .any(|text| readable.contains(text))
                    {
                        return Err(format!("the service's token came back in a request: {readable}"));
                    }
                    let key = request.headers.get("idempotency-key").cloned();
                    if let Some(key) = key.filter(|key| !keys.insert(key.clone())) {
                        return Err(format!("two requests had the idempotency key {key}"));
                    }
                }
                Event::Connected { .. } | Event::Rejected { .. } => {}
            }
        }
        Ok(())
    }

    /// No secret, and nothing that drives a terminal: whatever is printed may be what a guest wrote. Every moment is told as one.
    fn check_output(&self, run: &Run) -> Result<(), String> {
        if let Some(document) = run.json() {
            times::check(&document).map_err(|why| format!("{why}:\n{}", run.text()))?;
        }
        logs::check(&run.err).map_err(|why| format!("{why}:\n{}", run.text()))?;
        for text in [&run.out, &run.err] {
            if spellings(&self.service.token).iter().any(|token| text.contains(token)) {
                return Err(format!("the service's token was printed:\n{}", run.text()));
            }
            if let Some(obeyed) = text.chars().find(|c| is_obeyed(*c)) {
                return Err(format!("{obeyed:?} was printed:\n{text:?}"));
            }
        }
        Ok(())
    }
}

/// Whether a terminal acts on a character instead of showing it.
fn is_obeyed(c: char) -> bool {
    let direction =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    direction || (c.is_control() && c != '\n')
}

/// The ways in which a token must not be found anywhere.
fn spellings(token: &str) -> Vec<String> {
    let bytes = token.as_bytes();
    vec![
        token.to_owned(),
        BASE64.encode(bytes),
        HEXLOWER.encode(bytes),
        form_urlencoded::byte_serialize(bytes).collect(),
    ]
}

/// What `ambit call --format json` prints, or nothing where it ended before there was a call.
struct Answer {
    outcome: String,
    code: Option<String>,
    told: String,
    value: Value,
    refused: Vec<String>,
    entry: Value,
    /// Whether it is what followed a no.
    rejected: bool,
}

impl Expected {
    /// What an operator's command tells people, on either stream.
    fn check_told(&self, run: &Run) -> Result<(), String> {
        let codes = match self.outcome.as_str() {
            "done" => [0, 0],
            "waits" => [4, 4],
            _ => [1, 2],
        };
        if !codes.map(Some).contains(&run.code) {
            return Err(format!("exit code is {:?}, not of {codes:?}", run.code));
        }
        let told = format!("{}{}", run.out, run.err);
        let missing = self.message.iter().find(|part| !told.contains(part.as_str()));
        let wrong = self.not.iter().find(|part| told.contains(part.as_str()));
        match (missing, wrong) {
            (Some(missing), _) => Err(format!("nobody is told `{missing}`")),
            (None, Some(wrong)) => Err(format!("people are told `{wrong}`")),
            (None, None) => Ok(()),
        }
    }
}

impl Answer {
    fn of(run: &Run) -> Self {
        let document = run.json().unwrap_or_default();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let codes = document["refused_effects"].as_array().into_iter().flatten();
        let entry = document["receipt"]["entry"].as_str().unwrap_or_default();
        Self {
            outcome: text(&document["outcome"])
                .or_else(|| text(&document["standing"]))
                .unwrap_or_else(|| "error".to_owned()),
            code: text(&document["refusal"]["code"]),
            told: format!(
                "{}{}{}{}{}{}",
                document["refusal"],
                document["refused_effects"],
                document["held"],
                document["paused"],
                document["edited"],
                run.err
            ),
            value: document["value"].clone(),
            refused: codes.filter_map(|refusal| text(&refusal["code"])).collect(),
            entry: serde_json::from_str(entry).unwrap_or_default(),
            rejected: document["vote"]["verdict"] == "reject",
        }
    }

    /// The answer in one word: the refusal's code, else the refused effects', else the outcome.
    fn word(&self) -> String {
        match (&self.code, self.refused.as_slice()) {
            (Some(code), _) => code.clone(),
            (None, []) => self.outcome.clone(),
            (None, refused) => refused.join(","),
        }
    }

    fn check(&self, expected: &Expected, run: &Run) -> Result<(), String> {
        let differs = |what: &str, found: &dyn std::fmt::Debug, wanted: &dyn std::fmt::Debug| {
            Err(format!("{what} is {found:?}, not {wanted:?}"))
        };
        if self.outcome != expected.outcome {
            return differs("outcome", &self.outcome, &expected.outcome);
        }
        let exit = match expected.outcome.as_str() {
            // A no is done once it is recorded, whatever its call came to.
            _ if self.rejected => [Some(0), Some(0)],
            "ok" | "waiting" | "resolved" | "ended" => [Some(0), Some(0)],
            "held" | "paused" => [Some(4), Some(4)],
            "error" => [Some(1), Some(2)],
            _ => [Some(1), Some(1)],
        };
        if !exit.contains(&run.code) {
            return differs("exit code", &run.code, &exit);
        }
        if expected.code.is_some() && self.code != expected.code {
            return differs("code", &self.code, &expected.code);
        }
        if let Some(missing) = expected.message.iter().find(|part| !self.told.contains(part.as_str())) {
            return Err(format!("nobody is told `{missing}`"));
        }
        if let Some(refused) = expected.refused.as_ref().filter(|refused| **refused != self.refused) {
            return differs("refused effects", &self.refused, refused);
        }
        for (what, wanted, found) in [
            ("value", &expected.value, &self.value),
            ("receipt", &expected.receipt, &self.entry),
        ] {
            if let Some(wanted) = wanted.as_ref().filter(|wanted| !includes(found, wanted)) {
                return Err(format!("{what} is {found}, which lacks {wanted}"));
            }
        }
        Ok(())
    }
}

fn check_requests(found: &[Request], expected: &[ExpectedRequest]) -> Result<(), String> {
    let lines: Vec<String> = found
        .iter()
        .map(|request| format!("{} {}", request.method, request.path))
        .collect();
    let wanted: Vec<String> = expected
        .iter()
        .map(|request| format!("{} {}", request.method, request.path))
        .collect();
    if lines != wanted {
        return Err(format!("the service received {lines:?}, not {wanted:?}"));
    }
    for (request, expected) in found.iter().zip(expected) {
        let form: BTreeMap<String, String> = request.form.iter().cloned().collect();
        let fits = expected
            .form
            .as_ref()
            .is_none_or(|wanted| *wanted == form && form.len() == request.form.len())
            && expected.body.as_ref().is_none_or(|wanted| *wanted == request.body)
            && expected
                .headers
                .iter()
                .all(|(name, value)| request.headers.get(name) == Some(value))
            && expected
                .authorization
                .is_none_or(|wanted| wanted == request.authorization)
            && expected.status.is_none_or(|status| status == request.status);
        if !fits {
            return Err(format!("the service received {request:?}, not {expected:?}"));
        }
    }
    Ok(())
}

/// Whether `found` has every member of `wanted`; arrays element by element, other values equal.
fn includes(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => wanted
            .iter()
            .all(|(name, wanted)| found.get(name).is_some_and(|found| includes(found, wanted))),
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len() && found.iter().zip(wanted).all(|(found, wanted)| includes(found, wanted))
        }
        _ => found == wanted,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parts_are_found_in_values() {
        let found = json!({"a": {"b": 1, "c": [1, {"d": 2, "e": 3}]}});
        assert!(includes(&found, &json!({"a": {"c": [1, {"d": 2}]}})));
        assert!(!includes(&found, &json!({"a": {"c": [1]}})));
        assert!(!includes(&found, &json!({"a": {"b": "1"}})));
        assert!(!includes(&Value::Null, &json!({"a": 1})));
    }
}
