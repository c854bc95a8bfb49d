//! A contract as a page for people.

use super::markup::{self, Page, Part, Span, name, names, say};
use super::{Contract, Decided, Party, Reach, Way};
use crate::policy::Verdict;
use crate::scope::Tier;

/// Contracts as one page of Markdown, for an agent where one is named.
#[must_use]
pub fn markdown(contracts: &[Contract], of: Option<&Party>) -> String {
    page(contracts, of).markdown()
}

/// Contracts as one page of HTML that loads nothing else.
#[must_use]
pub fn html(contracts: &[Contract], of: Option<&Party>) -> String {
    page(contracts, of).html()
}

/// What a browser is to be told of [`html`], in `Content-Security-Policy`: that it does nothing but show it.
#[must_use]
pub fn html_policy() -> String {
    markup::html_policy()
}

fn page(contracts: &[Contract], of: Option<&Party>) -> Page {
    let title = match (contracts, of) {
        (_, Some(party)) => vec![say("What agent "), name(&party.agent), say(" can do")],
        ([one], None) => vec![say("Contract of "), name(&one.tool)],
        _ => vec![say("Contracts")],
    };
    let mut page = Page {
        title,
        parts: Vec::new(),
    };
    if let Some(party) = of {
        let of = [
            say("Team "),
            name(&party.team),
            say(" of tenant "),
            name(&party.tenant),
            say("."),
        ];
        page.parts.push(Part::Text(of.into()));
    }
    if contracts.is_empty() {
        page.parts.push(Part::Text(vec![say(
            "Nothing: policy lets it call no function of any tool.",
        )]));
    }
    for contract in contracts {
        page.parts.extend(tool(contract));
    }
    page
}

fn tool(contract: &Contract) -> Vec<Part> {
    let heading = |text: &str| Part::Heading(3, vec![say(text)]);
    let mut parts = vec![Part::Heading(2, vec![name(&contract.tool)])];
    parts.extend(
        contract
            .docs
            .as_ref()
            .map(|docs| Part::Text(vec![name(docs), say(" (the component's own words)")])),
    );
    let identity = [
        say("Component "),
        name(&contract.world),
        say(", "),
        name(contract.digest.to_string()),
        say(", under policy "),
        name(contract.policy.to_string()),
        say("."),
    ];
    parts.push(Part::Text(identity.into()));
    parts.push(heading("What it can do"));
    parts.push(functions(contract));
    parts.extend(contract.reaches.iter().flat_map(reach));
    parts.push(heading("What it can never do"));
    parts.push(Part::List(never(contract)));
    parts.push(heading("Modes"));
    parts.push(Part::List(modes(contract)));
    parts.push(heading("What is kept as evidence"));
    parts.push(Part::List(evidence(contract)));
    parts.push(heading("When something fails"));
    parts.push(Part::List(failure(contract)));
    parts.push(heading("Who is asked"));
    parts.push(Part::List(escalation(contract)));
    parts.push(heading("Limits"));
    parts.push(limits(contract));
    parts.extend(budgets(contract));
    parts.push(heading("Rules"));
    parts.extend(rules(contract));
    parts
}

fn functions(contract: &Contract) -> Part {
    let rows = contract.functions.iter().map(|function| {
        let mut more = vec![say(function.tier.as_str())];
        if let Some(undo) = &function.undo {
            more.extend([say(", taken back by "), name(undo)]);
        }
        if function.idempotent {
            more.push(say(", idempotent"));
        }
        let about = function.docs.as_ref().map(|docs| vec![name(docs)]);
        vec![
            vec![name(&function.id)],
            more,
            decided(function.policy, &function.rules),
            about.unwrap_or_default(),
        ]
    });
    Part::Table(
        vec!["function", "does at most", "may be called", "in its own words"],
        rows.collect(),
    )
}

/// What policy says, and by which rules.
fn decided(verdict: Verdict, rules: &[String]) -> Vec<Span> {
    let word = match (verdict, rules.is_empty()) {
        (Verdict::Never, true) => "never: no rule permits it",
        (Verdict::Never, false) => "never: ",
        (Verdict::Sometimes, _) => "as these rules say: ",
        (Verdict::Always, _) => "always: ",
    };
    let mut spans = vec![say(word)];
    spans.extend(names(rules, ""));
    spans
}

fn reach(reach: &Reach) -> Vec<Part> {
    let mut text = vec![say("Through its import "), name(&reach.label)];
    match (&reach.connection, &reach.origin) {
        (Some(connection), Some(origin)) => {
            text.extend([
                say(", which is bound to connection "),
                name(connection),
                say(" ("),
                name(origin),
                say("):"),
            ]);
        }
        (Some(connection), None) => text.extend([
            say(", which is bound to connection "),
            name(connection),
            say(", where nothing that it declares is a route: nothing."),
        ]),
        _ => text.push(say(", which is not bound: nothing.")),
    }
    let mut parts = vec![Part::Text(text)];
    if !reach.routes.is_empty() {
        let head = vec!["route", "request", "policy", "may send", "may read", "also"];
        parts.push(Part::Table(head, reach.routes.iter().map(row).collect()));
    }
    parts
}

fn row(way: &Way) -> Vec<Vec<Span>> {
    let mut policy = Vec::new();
    for of_tier in &way.tiers {
        if !policy.is_empty() {
            policy.push(say("; "));
        }
        policy.push(say(format!("{}: ", of_tier.tier)));
        policy.extend(match of_tier {
            Decided {
                above_every_function: true,
                ..
            } => vec![say("never: no function of it does as much")],
            Decided { policy, rules, .. } => decided(*policy, rules),
        });
    }
    vec![
        vec![name(&way.route)],
        vec![name(&way.shape)],
        policy,
        names(&way.fields, "no fields"),
        names(&way.reads, "nothing"),
        traits(way),
    ]
}

fn traits(way: &Way) -> Vec<Span> {
    let mut words: Vec<Vec<Span>> = Vec::new();
    let mut add = |is: bool, word: &str| {
        if is {
            words.push(vec![say(word)]);
        }
    };
    add(way.money, "moves money");
    add(way.checked, "the host looks before and after");
    add(way.idempotent, "sent under a key");
    add(way.dead_letter, "kept for people if it fails for good");
    if way.retries > 0 {
        words.push(vec![say(format!("sent again up to {} times", way.retries))]);
    }
    match way.undo.as_deref() {
        Some("write-back") => words.push(vec![say("taken back by writing back what was there")]),
        Some(route) => words.push(vec![say("taken back by "), name(route)]),
        None => {}
    }
    let mut spans = Vec::new();
    for mut word in words {
        if !spans.is_empty() {
            spans.push(say(", "));
        }
        spans.append(&mut word);
    }
    spans
}

fn never(contract: &Contract) -> Vec<Vec<Span>> {
    let mut points = vec![match origins(contract).as_slice() {
        [] => vec![say("Reach any service: it is connected to none.")],
        origins => {
            let mut point = vec![say("Reach any service but ")];
            point.extend(names(origins, ""));
            point.push(say(
                ": it names no host, the host resolves, checks and connects, and follows no redirect.",
            ));
            point
        }
    }];
    points.push(vec![say(
        "Send a request or a field of a body, or read a member of an answer, that is not in the tables above; or a header or a parameter that \
         not both its declaration and the route name.",
    )]);
    for reach in &contract.reaches {
        if !reach.unserved.is_empty() && reach.connection.is_some() {
            let mut point = vec![say("Use what it declares and no route is for: ")];
            point.extend(names(&reach.unserved, ""));
            point.push(say("."));
            points.push(point);
        }
        if !reach.undeclared.is_empty() {
            let mut point = vec![say("Use what its connection has and it does not declare: ")];
            point.extend(names(&reach.undeclared, ""));
            point.push(say("."));
            points.push(point);
        }
    }
    if contract.functions.iter().any(|function| function.tier < Tier::Commit) {
        points.push(vec![say(
            "Do more in a function than its tier: an effect above it is refused.",
        )]);
    }
    if !contract.harmless.is_empty() {
        let mut point = vec![say("Learn or reach anything by ")];
        point.extend(names(&contract.harmless, ""));
        point.push(say(": they reach nothing, and what is in them is the call's own."));
        points.push(point);
    }
    points.extend(
        [
            "Read files, the environment, the machine's clock or its randomness, open a socket, or start a process: there is nothing of \
             the kind in its sandbox.",
            "See a credential: the host adds it last, and masks it in answers.",
            "Call another tool, see another call, or change what it may do.",
            "Do anything that is not on the ledger before it happens.",
        ]
        .map(|text| vec![say(text)]),
    );
    points
}

fn origins(contract: &Contract) -> Vec<String> {
    let mut origins: Vec<String> = contract
        .reaches
        .iter()
        .filter(|reach| !reach.routes.is_empty())
        .filter_map(|reach| reach.origin.clone())
        .collect();
    origins.sort();
    origins.dedup();
    origins
}

fn modes(contract: &Contract) -> Vec<Vec<Span>> {
    let mut modal: Vec<String> = Vec::new();
    modal.extend(
        contract
            .rules
            .iter()
            .filter(|rule| rule.reads_mode)
            .map(|rule| rule.id.clone()),
    );
    let mut suggest = vec![say("suggest: ")];
    if modal.is_empty() {
        suggest.push(say("as execute; no rule about it looks at the mode."));
    } else {
        suggest.push(say("as these rules say, which look at the mode: "));
        suggest.extend(names(&modal, ""));
        suggest.push(say("."));
    }
    vec![
        vec![say("execute: it does what policy permits.")],
        suggest,
        vec![say(
            "dry-run: reads are real; it ends at the first effect that would change something, and shows it.",
        )],
    ]
}

fn evidence(contract: &Contract) -> Vec<Vec<Span>> {
    let kept = match contract.retention_days {
        Some(days) => format!(
            "Values may be erased {days} days after a call; that they were is an entry, and every proof still verifies."
        ),
        None => {
            "Values are kept until an operator erases them; that they were is an entry, and every proof still verifies."
                .to_owned()
        }
    };
    let mut points: Vec<Vec<Span>> = [
        "Of every call and effect, refused ones too: who asked, what was decided by which rules, what was reserved and used. The entry that \
         an effect will be sent is on the disk before it leaves.",
        "Arguments, requests, answers and results, encrypted beside the ledger, with commitments to them in its entries: a call can be run \
         again from them and compared.",
        "A receipt of each call, which verifies offline.",
    ]
    .map(|text| vec![say(text)])
    .into();
    if contract
        .reaches
        .iter()
        .flat_map(|reach| &reach.routes)
        .any(|way| way.checked)
    {
        points.push(vec![say("What there was before a change, and whether the change is there after it, where the table says that the host looks.")]);
    }
    points.push(vec![say(kept)]);
    points
}

fn failure(contract: &Contract) -> Vec<Vec<Span>> {
    let ways = || contract.reaches.iter().flat_map(|reach| &reach.routes);
    let mut points: Vec<Vec<Span>> = [
        "What cannot be decided is denied: a rule that errors, an amount that cannot be read, a name that does not resolve, a ledger that \
         cannot be written.",
        "An effect of which nobody saw the end is in doubt: what is set aside for it stays, and an operator says what became of it.",
        "A call that the host's end interrupted is gone on with, or ended, when an operator says so.",
    ]
    .map(|text| vec![say(text)])
    .into();
    if ways().any(|way| way.retries > 0) {
        points.push(vec![say(
            "What the table says is sent again is sent under the same key, each time with an entry of its own.",
        )]);
    } else {
        points.push(vec![say("Nothing is sent again by itself.")]);
    }
    if ways().any(|way| way.undo.is_some()) || contract.functions.iter().any(|function| function.undo.is_some()) {
        points.push(vec![say(
            "An operator can have a call taken back as the tables say, through the same checks.",
        )]);
    }
    points
}

fn escalation(contract: &Contract) -> Vec<Vec<Span>> {
    let escalation = &contract.escalation;
    let mut points: Vec<Vec<Span>> = Vec::new();
    for asked in &escalation.groups {
        let people = match asked.members {
            0 => "nobody is in it, so nobody can say yes".to_owned(),
            1 => "1 person is in it".to_owned(),
            several => format!("{several} people are in it"),
        };
        points.push(vec![
            say("Group "),
            name(&asked.group),
            say(format!(": up to {} of them for one effect; {people}.", asked.at_most)),
        ]);
    }
    if points.is_empty() {
        points.push(vec![say(
            "Nobody: no rule about it mentions approvals. What is denied stays denied.",
        )]);
    } else {
        points.push(vec![say(format!(
            "An effect waits for {} at most, {} of an agent at a time; nobody approves what they asked for, or edited.",
            time(escalation.hold_ms),
            grouped(escalation.open_holds.into())
        ))]);
    }
    if let Some(group) = escalation
        .break_glass
        .as_ref()
        .filter(|_| !escalation.groups.is_empty())
    {
        points.push(vec![
            say("One of group "),
            name(group),
            say(" may let an effect that waits pass alone, with a reason, and it shows on the ledger."),
        ]);
    }
    points
}

fn limits(contract: &Contract) -> Part {
    let limits = &contract.limits;
    let row = |what: &str, most: String| vec![vec![say(what)], vec![say(most)]];
    let rows = vec![
        row("computing, in units of fuel", grouped(limits.fuel)),
        row("memory", bytes(limits.memory_bytes)),
        row("time of its own", time(limits.wall_ms)),
        row("waiting for a service, each effect", time(limits.upstream_ms)),
        row("effects of a call", limits.effects.to_string()),
        row("arguments", bytes(limits.args_bytes)),
        row("result", bytes(limits.result_bytes)),
        row("body of a request", bytes(limits.request_body_bytes)),
        row("body of an answer", bytes(limits.response_body_bytes)),
        row("log", bytes(limits.log_bytes)),
    ];
    Part::Table(vec!["of each call", "at most"], rows)
}

fn budgets(contract: &Contract) -> Option<Part> {
    if contract.budgets.is_empty() {
        return Some(Part::Text(vec![say("No budget counts what it does.")]));
    }
    let rows = contract.budgets.iter().map(|budget| {
        let over = match &budget.ask {
            Some(group) => vec![say("one effect may, if "), name(group), say(" says so")],
            None => vec![say("refused")],
        };
        let amount = format!("{} {}", grouped(budget.cap), budget.unit);
        vec![
            vec![name(&budget.name)],
            vec![say(amount)],
            vec![say(budget.window.clone())],
            over,
        ]
    });
    Some(Part::Table(
        vec!["budget", "at most (money in minor units)", "in each", "beyond it"],
        rows.collect(),
    ))
}

fn rules(contract: &Contract) -> Vec<Part> {
    if contract.rules.is_empty() {
        return vec![Part::Text(vec![say("No rule is about it: everything is denied.")])];
    }
    let texts: Vec<&str> = contract.rules.iter().filter_map(|rule| rule.text.as_deref()).collect();
    if !texts.is_empty() {
        return vec![Part::Listing(texts.join("\n\n"))];
    }
    let hints = contract.rules.iter().map(|rule| {
        let mut point = vec![name(&rule.id), say(format!(", a {}", rule.effect))];
        point.extend(rule.hint.iter().flat_map(|hint| [say(": "), name(hint)]));
        point
    });
    vec![Part::List(hints.collect())]
}

fn bytes(bytes: u64) -> String {
    match bytes {
        whole if whole >= 1 << 20 && whole.is_multiple_of(1 << 20) => format!("{} MiB", whole >> 20),
        whole if whole >= 1 << 10 && whole.is_multiple_of(1 << 10) => format!("{} KiB", whole >> 10),
        other => format!("{} bytes", grouped(other)),
    }
}

fn time(ms: u64) -> String {
    match ms {
        ms if ms >= 3_600_000 && ms.is_multiple_of(3_600_000) => format!("{} h", ms / 3_600_000),
        ms if ms >= 60_000 && ms.is_multiple_of(60_000) => format!("{} min", ms / 60_000),
        ms if ms >= 1_000 && ms.is_multiple_of(1_000) => format!("{} s", ms / 1_000),
        ms => format!("{ms} ms"),
    }
}

/// Digits in threes.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}
