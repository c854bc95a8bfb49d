#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests"
)]

use cedar_policy::{Policy, PolicyId, PolicySet as CedarSet, Schema};
use expect_test::{Expect, expect};
use miette::{GraphicalReportHandler, GraphicalTheme};
use proptest::prelude::*;

use super::*;
use crate::error::Code;
use crate::hold::Need;
use crate::identity::{AgentSpec, Directory};
use crate::json::{Json, Limits, Object};
use crate::money::Spend;
use crate::scope::Tier;

/// The set of the design, word for word.
const DESIGN: &str = r#"
@id("support-calls")
permit (principal in Team::"support", action == Action::"call", resource in Tool::"refunds");
@id("support-reads")
permit (principal in Team::"support", action == Action::"read", resource in Connection::"stripe");
@id("support-refunds")
permit (principal in Team::"support", action == Action::"commit", resource == Route::"stripe/refunds.create")
when { context.spend.kind == "known" && context.spend.currency == "usd" && context.spend.minor <= 50000 };

// Whoever may: above 50 USD two people of finance say yes first; in another currency always.
@id("dual-control")
forbid (principal, action == Action::"commit", resource)
when { context.spend.kind == "known" && (context.spend.currency != "usd" || context.spend.minor > 5000) }
unless { context.approvals.finance >= 2 };
// Shipped: in a suggest-mode run nothing is committed without a reviewer. Drafts pass.
@id("suggest-mode")
forbid (principal, action == Action::"commit", resource)
when { context.mode == "suggest" } unless { context.approvals.reviewer >= 1 };
"#;

/// More permits, to see what the forbids alone do.
const BROAD: &str = r#"
@id("treasury") permit (principal in Team::"treasury", action == Action::"commit", resource);
@id("drafts") permit (principal, action == Action::"draft", resource);
"#;

fn groups(groups: &[(&str, usize)]) -> BTreeMap<String, usize> {
    groups
        .iter()
        .map(|(name, members)| ((*name).to_owned(), *members))
        .collect()
}

fn load(text: &str) -> Result<PolicySet, Vec<Problem>> {
    PolicySet::load(
        &[("policy/main.cedar".to_owned(), text.to_owned())],
        &groups(&[("finance", 3), ("other", 3), ("reviewer", 1)]),
    )
}

fn loaded(text: &str) -> PolicySet {
    load(text).unwrap_or_else(|problems| panic!("{}", rendered(&problems)))
}

fn rendered(problems: &[Problem]) -> String {
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
        .with_width(100)
        .without_cause_chain();
    let mut text = String::new();
    for problem in problems {
        handler.render_report(&mut text, problem).unwrap();
    }
    // Without the margin that all lines have, which the expectations could not tell from their own.
    let line = |line: &str| line.strip_prefix(' ').unwrap_or(line).trim_end().to_owned() + "\n";
    text.lines().map(line).collect()
}

/// A caller: agent `bot` of team `support`, `cfo-bot` of `treasury`, both of tenant `acme`.
fn caller(agent: &str, user: Option<&str>) -> Caller {
    let spec = |team: &str| AgentSpec {
        team: team.into(),
        tenant: "acme".into(),
        users: ["ana".to_owned()].into(),
    };
    let agents = [("bot", "support"), ("cfo-bot", "treasury")].map(|(agent, team)| (agent.to_owned(), spec(team)));
    Directory::new(agents.into()).unwrap().caller(agent, user).unwrap()
}

/// An effect to decide on; the default is a refund of 10.00 USD by `bot`.
#[derive(Debug)]
struct Case {
    agent: &'static str,
    mode: Mode,
    connection: &'static str,
    route: &'static str,
    tier: Tier,
    spend: Spend,
    approvals: &'static [(&'static str, u32)],
    fields: FieldFacts,
    captures: BTreeMap<String, String>,
    recipients: Vec<String>,
    exhausted: Vec<String>,
    run: Option<&'static str>,
    user: Option<&'static str>,
}

impl Default for Case {
    fn default() -> Self {
        Case {
            agent: "bot",
            mode: Mode::Execute,
            connection: "stripe",
            route: "refunds.create",
            tier: Tier::Commit,
            spend: usd(1000),
            approvals: &[],
            fields: FieldFacts::default(),
            captures: BTreeMap::new(),
            recipients: Vec::new(),
            exhausted: Vec::new(),
            run: None,
            user: None,
        }
    }
}

fn fields(body: &str) -> FieldFacts {
    FieldFacts::read([&Json::parse(body, Limits::default()).unwrap()])
}

fn known(currency: &str, minor: i64) -> Spend {
    Spend::Known {
        currency: currency.parse().unwrap(),
        minor,
    }
}

fn usd(minor: i64) -> Spend {
    known("usd", minor)
}

impl Case {
    fn with<T>(&self, then: impl FnOnce(&EffectFacts<'_>) -> T) -> T {
        let caller = caller(self.agent, self.user);
        let approvals = self
            .approvals
            .iter()
            .map(|(group, given)| ((*group).to_owned(), *given))
            .collect();
        then(&EffectFacts {
            call: CallFacts {
                run: self.run,
                mode: self.mode,
                ..call_facts(&caller, "refunds")
            },
            connection: self.connection,
            route: self.route,
            tier: self.tier,
            fields: &self.fields,
            captures: &self.captures,
            recipients: &self.recipients,
            exhausted: &self.exhausted,
            spend: self.spend,
            approvals: &approvals,
        })
    }

    fn decide(&self, set: &PolicySet) -> Decision {
        self.with(|facts| set.decide_effect(facts))
    }
}

fn call_facts<'a>(caller: &'a Caller, tool: &'a str) -> CallFacts<'a> {
    let tool_digest = Digest::of(b"component");
    CallFacts {
        caller,
        run: None,
        mode: Mode::Execute,
        tool,
        tool_digest,
        function: "refunds.create",
    }
}

fn check(set: &PolicySet, case: Case, allowed: bool, rules: &[&str]) {
    let decision = case.decide(set);
    assert_eq!(
        (decision.allowed(), decision.rules(), decision.errors()),
        (
            allowed,
            &*rules.iter().map(|&r| r.to_owned()).collect::<Vec<_>>(),
            [].as_slice()
        )
    );
}

fn check_call(set: &PolicySet, agent: &str, tool: &str, allowed: bool, rules: &[&str]) {
    let decision = set.decide_call(&call_facts(&caller(agent, None), tool));
    assert_eq!(
        (decision.allowed(), decision.rules()),
        (allowed, &*rules.iter().map(|&r| r.to_owned()).collect::<Vec<_>>())
    );
}

#[test]
fn support_calls_functions_of_refunds_and_no_other() {
    let set = loaded(DESIGN);
    check_call(&set, "bot", "refunds", true, &["support-calls"]);
    check_call(&set, "bot", "payouts", false, &[]);
    check_call(&set, "bot", "refunds/refunds.create", false, &[]);
    check_call(&set, "cfo-bot", "refunds", false, &[]);
}

#[test]
fn support_reads_through_every_route_of_stripe_and_no_other_connection() {
    let set = loaded(DESIGN);
    let read = || Case {
        tier: Tier::Read,
        spend: Spend::None,
        ..Case::default()
    };
    check(
        &set,
        Case {
            route: "charges.get",
            ..read()
        },
        true,
        &["support-reads"],
    );
    check(&set, read(), true, &["support-reads"]);
    check(
        &set,
        Case {
            connection: "stripe2",
            ..read()
        },
        false,
        &[],
    );
    check(
        &set,
        Case {
            agent: "cfo-bot",
            ..read()
        },
        false,
        &[],
    );
}

#[test]
fn support_refunds_known_dollars_up_to_500_through_one_route() {
    let set = loaded(DESIGN);
    const TWO: &[(&str, u32)] = &[("finance", 2)];
    check(
        &set,
        Case {
            spend: usd(5000),
            ..Case::default()
        },
        true,
        &["support-refunds"],
    );
    check(
        &set,
        Case {
            spend: usd(50000),
            approvals: TWO,
            ..Case::default()
        },
        true,
        &["support-refunds"],
    );
    check(
        &set,
        Case {
            spend: usd(50001),
            approvals: TWO,
            ..Case::default()
        },
        false,
        &[],
    );
    check(
        &set,
        Case {
            spend: known("eur", 1),
            approvals: TWO,
            ..Case::default()
        },
        false,
        &[],
    );
    check(
        &set,
        Case {
            spend: Spend::None,
            ..Case::default()
        },
        false,
        &[],
    );
    check(
        &set,
        Case {
            route: "refunds.cancel",
            ..Case::default()
        },
        false,
        &[],
    );
    check(
        &set,
        Case {
            tier: Tier::Draft,
            ..Case::default()
        },
        false,
        &[],
    );
    check(
        &set,
        Case {
            agent: "cfo-bot",
            ..Case::default()
        },
        false,
        &[],
    );
}

#[test]
fn above_50_dollars_two_people_of_finance_say_yes_first_in_another_currency_always() {
    let set = loaded(&format!("{DESIGN}{BROAD}"));
    let who = |agent, spend, approvals| Case {
        agent,
        spend,
        approvals,
        ..Case::default()
    };
    check(&set, who("cfo-bot", usd(5000), &[]), true, &["treasury"]);
    check(&set, who("cfo-bot", usd(5001), &[]), false, &["dual-control"]);
    check(
        &set,
        who("cfo-bot", usd(5001), &[("finance", 1), ("reviewer", 1)]),
        false,
        &["dual-control"],
    );
    check(&set, who("cfo-bot", usd(5001), &[("finance", 2)]), true, &["treasury"]);
    check(&set, who("cfo-bot", usd(5001), &[("finance", 3)]), true, &["treasury"]);
    check(&set, who("cfo-bot", known("eur", 1), &[]), false, &["dual-control"]);
    check(
        &set,
        who("cfo-bot", known("eur", 1), &[("finance", 2)]),
        true,
        &["treasury"],
    );
    check(&set, who("cfo-bot", Spend::None, &[]), true, &["treasury"]);
    check(&set, who("bot", usd(5001), &[]), false, &["dual-control"]);
    // People of a group that is not configured count for nothing.
    check(&set, who("bot", usd(5001), &[("friends", 9)]), false, &["dual-control"]);
}

#[test]
fn a_suggest_mode_run_commits_nothing_without_a_reviewer_and_drafts() {
    let set = loaded(&format!("{DESIGN}{BROAD}"));
    let suggest = || Case {
        mode: Mode::Suggest,
        ..Case::default()
    };
    check(&set, suggest(), false, &["suggest-mode"]);
    check(
        &set,
        Case {
            approvals: &[("reviewer", 1)],
            ..suggest()
        },
        true,
        &["support-refunds"],
    );
    check(
        &set,
        Case {
            approvals: &[("finance", 2)],
            ..suggest()
        },
        false,
        &["suggest-mode"],
    );
    check(
        &set,
        Case {
            tier: Tier::Draft,
            ..suggest()
        },
        true,
        &["drafts"],
    );
    check(
        &set,
        Case {
            mode: Mode::DryRun,
            ..suggest()
        },
        true,
        &["support-refunds"],
    );
    check(
        &set,
        Case {
            spend: usd(5001),
            ..suggest()
        },
        false,
        &["dual-control", "suggest-mode"],
    );
}

#[test]
fn every_fact_reaches_the_rules() {
    let set = loaded(
        r#"
        @id("all") permit (principal == Agent::"bot", action, resource is Route in Connection::"stripe")
        when { principal in Tenant::"acme" && context has user && context.user == "ana" && context has run && context.run == "r1"
            && context.tool == "refunds" && context.function == "refunds.create"
            && context.fields.containsAll(["reason", "items[].sku", "meta.\"a=b\"", "ok", "tags[]"]) && context.values.contains("items[].sku=a1")
            && context.values.containsAll(["meta.\"a=b\"=c=d", "ok=true", "n=1.5"])
            && !context.values.contains("tags[]=") && context.captures.contains("id=re_1")
            && context.recipients.contains("ana@example.com") && context.exhausted.contains("daily") };
        "#,
    );
    let fields = fields(
        r#"{"reason": "x", "items": [{"sku": "a1"}, {"sku": "a2"}], "meta": {"a=b": "c=d"}, "ok": true, "n": 1.5, "tags": []}"#,
    );
    let case = Case {
        user: Some("ana"),
        run: Some("r1"),
        fields,
        captures: [("id".to_owned(), "re_1".to_owned())].into(),
        recipients: vec!["ana@example.com".to_owned()],
        exhausted: vec!["daily".to_owned()],
        ..Case::default()
    };
    check(
        &set,
        Case {
            user: None,
            ..Case::default()
        },
        false,
        &[],
    );
    check(&set, case, true, &["all"]);
}

#[test]
fn nothing_is_permitted_by_nothing() {
    let set = PolicySet::load(&[], &BTreeMap::new()).unwrap();
    check(&set, Case::default(), false, &[]);
    check_call(&set, "bot", "refunds", false, &[]);
}

/// A set that skipped analysis and validation.
fn unchecked(text: &str) -> PolicySet {
    let mut set = loaded("");
    let policies = parsed(text);
    set.slices = Slices::new(&policies).unwrap();
    for (index, policy) in policies.iter().enumerate() {
        let id = policy.id().to_string();
        set.index.insert(id.clone(), index);
        let effect = if policy.effect() == cedar_policy::Effect::Permit {
            Effect::Permit
        } else {
            Effect::Forbid
        };
        let annotations = BTreeMap::from([("hint".to_owned(), format!("hint of {id}"))]);
        set.rules.push(Rule {
            id,
            effect,
            file: String::new(),
            line: 1,
            annotations,
            approvals: Vec::new(),
        });
    }
    set
}

fn parsed(text: &str) -> Vec<Policy> {
    let set = CedarSet::from_str(text).unwrap();
    let ordered = (0..set.num_of_policies()).map(|n| set.policy(&PolicyId::new(format!("policy{n}"))).unwrap());
    ordered
        .map(|policy| policy.new_id(PolicyId::new(policy.annotation("id").unwrap())))
        .collect()
}

#[test]
fn an_evaluation_error_denies() {
    // Cedar alone allows this: the forbid overflows and is skipped.
    let text = r#"
        @id("all") permit (principal, action, resource);
        @id("overflows") forbid (principal, action, resource) when { 9223372036854775807 + context.spend.minor > 0 };
    "#;
    assert!(load(text).is_err());
    let set = unchecked(text);
    check(
        &set,
        Case {
            spend: usd(0),
            ..Case::default()
        },
        false,
        &["overflows"],
    );
    let decision = Case::default().decide(&set);
    assert!(!decision.allowed());
    assert_eq!(
        (decision.rules(), decision.errors().len()),
        (["overflows".to_owned()].as_slice(), 1)
    );
    assert!(decision.errors()[0].contains("overflow"), "{:?}", decision.errors());
    let refusal = decision.refusal().unwrap();
    assert_eq!(
        (refusal.code, refusal.rule.as_deref()),
        (Code::PolicyError, Some("overflows"))
    );
    let caller = caller("bot", None);
    let erring = unchecked(
        r#"@id("a") permit (principal, action, resource); @id("b") permit (principal, action, resource) when { context.nothing };"#,
    );
    assert!(!erring.decide_call(&call_facts(&caller, "refunds")).allowed());
}

#[test]
fn agents_see_the_rule_and_its_hint_only() {
    let set = loaded(
        r#"
        @id("calls") @why("internal note") permit (principal in Team::"support", action, resource);
        @id("cap") @hint("Ask finance first.") @why("internal note")
        forbid (principal, action == Action::"commit", resource) when { context.spend.minor > 1234 && context.values.contains("secret=word") };
        "#,
    );
    let over = Case {
        spend: usd(9999),
        fields: fields(r#"{"secret": "word"}"#),
        ..Case::default()
    };
    check_told(
        &over.decide(&set),
        expect![[
            r#"{"code":"policy","message":"rule `cap` forbids a commit through route `stripe/refunds.create`","advice":"Ask finance first.","rule":"cap"}"#
        ]],
    );
    check_told(
        &Case {
            agent: "cfo-bot",
            ..Case::default()
        }
        .decide(&set),
        expect![[r#"{"code":"policy","message":"no rule permits a commit through route `stripe/refunds.create`"}"#]],
    );
    check_told(
        &set.decide_call(&call_facts(&caller("cfo-bot", None), "refunds")),
        expect![[r#"{"code":"policy","message":"no rule permits calling `refunds.create` of tool `refunds`"}"#]],
    );
    let erring = unchecked(
        r#"@id("sum") forbid (principal, action, resource) when { 9223372036854775807 + context.spend.minor > 0 };"#,
    );
    check_told(
        &Case::default().decide(&erring),
        expect![[
            r#"{"code":"policy-error","message":"rule `sum` could not be evaluated, which denies a commit through route `stripe/refunds.create`","advice":"hint of sum","rule":"sum"}"#
        ]],
    );
    assert_eq!(Case::default().decide(&set).refusal(), None);
}

#[test]
fn a_permit_that_is_nearly_met_tells_its_hint() {
    let set = loaded(
        r#"
        @id("small") @hint("Up to 500.00 USD.")
        permit (principal in Team::"support", action == Action::"commit", resource == Route::"stripe/refunds.create")
        when { context.spend.kind == "known" && context.spend.minor <= 50000 };
        @id("others") @hint("Not for this team.")
        permit (principal in Team::"elsewhere", action, resource) when { context.mode == "execute" };
        @id("elsewhere") @hint("Another route.")
        permit (principal, action == Action::"commit", resource == Route::"stripe/charges.create") when { context.mode == "execute" };
        @id("reads") @hint("Another action.")
        permit (principal, action == Action::"read", resource) when { context.mode == "suggest" };
        "#,
    );
    let over = Case {
        spend: usd(50001),
        ..Case::default()
    };
    check_told(
        &over.decide(&set),
        expect![[
            r#"{"code":"policy","message":"no rule permits a commit through route `stripe/refunds.create`","advice":"Up to 500.00 USD."}"#
        ]],
    );
    let within = Case {
        spend: usd(50000),
        ..Case::default()
    };
    assert!(within.decide(&set).allowed());
    assert_eq!(within.decide(&set).hint(), None);
}

fn check_told(decision: &Decision, expected: Expect) {
    let told = serde_json::to_string(&decision.refusal().unwrap()).unwrap();
    for inside in [
        "1234",
        "secret",
        "9223372036854775807",
        "internal",
        "principal",
        "context",
    ] {
        assert!(!told.contains(inside), "{told}");
    }
    expected.assert_eq(&told);
}

#[test]
fn a_name_with_a_slash_is_no_connection() {
    let set = unchecked(r#"@id("all") permit (principal, action, resource);"#);
    let decision = Case {
        connection: "stripe/refunds",
        route: "create",
        ..Case::default()
    }
    .decide(&set);
    assert!(!decision.allowed() && decision.errors().len() == 1);
}

#[test]
fn calls_are_remembered_by_all_their_facts() {
    let set = loaded(
        r#"@id("calls") permit (principal in Team::"support", action == Action::"call", resource) unless { context.mode == "suggest" || context has user || context has run };"#,
    );
    let bot = caller("bot", None);
    let facts = call_facts(&bot, "refunds");
    assert!(Arc::ptr_eq(&set.decide_call(&facts), &set.decide_call(&facts)));
    let for_ana = caller("bot", Some("ana"));
    let other = caller("cfo-bot", None);
    for different in [
        CallFacts {
            mode: Mode::Suggest,
            ..facts
        },
        CallFacts {
            run: Some("r1"),
            ..facts
        },
        CallFacts {
            caller: &for_ana,
            ..facts
        },
        CallFacts {
            caller: &other,
            ..facts
        },
    ] {
        assert!(
            set.decide_call(&facts).allowed() && !set.decide_call(&different).allowed(),
            "{different:?}"
        );
    }
    for same in [
        CallFacts {
            tool_digest: Digest::of(b"other"),
            ..facts
        },
        CallFacts {
            function: "get",
            ..facts
        },
        CallFacts { tool: "x", ..facts },
    ] {
        let (decision, again) = (set.decide_call(&facts), set.decide_call(&same));
        assert!(again.allowed() && decision.facts() != again.facts());
    }
    let fresh = loaded("").without_memo();
    assert!(!Arc::ptr_eq(&fresh.decide_call(&facts), &fresh.decide_call(&facts)));
    assert_eq!(set.at_epoch(7).decide_call(&facts).epoch(), 7);
}

#[test]
fn a_decision_names_its_policy_and_its_facts() {
    let set = loaded(DESIGN);
    let decision = Case::default().decide(&set);
    assert_eq!((decision.policy(), decision.epoch()), (set.digest(), 0));
    assert_ne!(set.digest(), loaded(&format!("{DESIGN} ")).digest());
    for other in [
        Case {
            spend: usd(1001),
            ..Case::default()
        },
        Case {
            exhausted: vec![String::new()],
            ..Case::default()
        },
        Case {
            approvals: &[("finance", 0)],
            ..Case::default()
        },
    ] {
        assert_ne!(other.decide(&set).facts(), decision.facts());
    }
    assert_eq!(Case::default().decide(&set), decision);
}

#[test]
fn rules_are_listed_as_they_stand() {
    let set = loaded(DESIGN);
    let rules: Vec<_> = set
        .rules()
        .iter()
        .map(|rule| {
            format!(
                "{}:{} {} {} {:?}",
                rule.file, rule.line, rule.effect, rule.id, rule.approvals
            )
        })
        .collect();
    expect![[r#"
        policy/main.cedar:2 permit support-calls []
        policy/main.cedar:4 permit support-reads []
        policy/main.cedar:6 permit support-refunds []
        policy/main.cedar:11 forbid dual-control [Threshold { group: "finance", at_least: 2 }]
        policy/main.cedar:16 forbid suggest-mode [Threshold { group: "reviewer", at_least: 1 }]"#]]
    .assert_eq(&rules.join("\n"));
}

#[test]
fn the_shipped_policy_and_its_examples_load() {
    let nobody = groups(&[("reviewer", 0)]);
    let load = |text: &str| PolicySet::load(&[("policy/main.cedar".to_owned(), text.to_owned())], &nobody);
    let set = load(SHIPPED).unwrap_or_else(|problems| panic!("{}", rendered(&problems)));
    assert_eq!(
        set.rules().iter().map(|rule| rule.id.as_str()).collect::<Vec<_>>(),
        ["suggest-mode"]
    );
    check(&set, Case::default(), false, &[]);

    let is_code = |line: &str| line.starts_with("//") && !line.starts_with("// ") && line != "//";
    let uncommented: Vec<_> = SHIPPED
        .lines()
        .map(|line| if is_code(line) { &line[2..] } else { line })
        .collect();
    let set = load(&uncommented.join("\n")).unwrap_or_else(|problems| panic!("{}", rendered(&problems)));
    assert_eq!(set.rules().len(), 5);
    check(&set, Case::default(), true, &["support-refunds"]);
    check(
        &set,
        Case {
            mode: Mode::Suggest,
            ..Case::default()
        },
        false,
        &["suggest-mode"],
    );
    check(
        &set,
        Case {
            fields: fields(r#"{"reason": "fraudulent"}"#),
            ..Case::default()
        },
        false,
        &["no-fraud-refunds"],
    );
}

#[test]
fn names_that_nobody_has_are_found() {
    let set = loaded(DESIGN);
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
    let known = BTreeMap::from([
        (EntityKind::Team, names(&["support"])),
        (EntityKind::Route, names(&["stripe/refunds.creat", "slack/post"])),
        (EntityKind::Connection, names(&[])),
    ]);
    expect![[r#"
          × rule `support-reads` names a connection that is not there
           ╭─[policy/main.cedar:5:77]
         4 │ @id("support-reads")
         5 │ permit (principal in Team::"support", action == Action::"read", resource in Connection::"stripe");
           ·                                                                             ──────────┬─────────
           ·                                                                                       ╰── no such name
         6 │ @id("support-refunds")
           ╰────
          help: no connection is configured
          × rule `support-refunds` names a route that is not there
           ╭─[policy/main.cedar:7:79]
         6 │ @id("support-refunds")
         7 │ permit (principal in Team::"support", action == Action::"commit", resource == Route::"stripe/refunds.create")
           ·                                                                               ───────────────┬──────────────
           ·                                                                                              ╰── no such name
         8 │ when { context.spend.kind == "known" && context.spend.currency == "usd" && context.spend.minor <= 50000 };
           ╰────
          help: did you mean Route::"stripe/refunds.creat"?
    "#]].assert_eq(&rendered(&set.unknown_names(&known)));
}

fn check_problems(text: &str, expected: Expect) {
    expected.assert_eq(&rendered(&load(text).err().unwrap_or_default()));
}

#[test]
fn problems_show_their_place() {
    check_problems(
        "permit (principal, action, resource)\nwhen { context.mode = \"x\" };",
        expect![[r#"
              × '=' is not a valid operator in Cedar
               ╭─[policy/main.cedar:2:8]
             1 │ permit (principal, action, resource)
             2 │ when { context.mode = "x" };
               ·        ─────────┬────────
               ·                 ╰── here
               ╰────
              help: try using '==' instead
        "#]],
    );
    check_problems(
        "@id(\"a\") permit (principal, action, resource);\nforbid (principal, action, resource);",
        expect![[r#"
              × a policy has no @id
               ╭─[policy/main.cedar:2:1]
             1 │ @id("a") permit (principal, action, resource);
             2 │ forbid (principal, action, resource);
               · ───┬──
               ·    ╰── this policy
               ╰────
              help: write @id("a-name") before it: refusals and the ledger name the rule
        "#]],
    );
    check_problems(
        "@id(\"a\") permit (principal, action, resource);\n@id(\"a\") forbid (principal, action, resource);",
        expect![[r#"
              × two policies have the @id `a`
               ╭─[policy/main.cedar:2:5]
             1 │ @id("a") permit (principal, action, resource);
             2 │ @id("a") forbid (principal, action, resource);
               ·     ─┬─
               ·      ╰── the second
               ╰────
              help: the first is in policy/main.cedar at line 1
        "#]],
    );
    check_problems(
        "@id(\"a b\") permit (principal, action, resource);",
        expect![[r#"
              × `a b` cannot be the @id of a policy
               ╭─[policy/main.cedar:1:5]
             1 │ @id("a b") permit (principal, action, resource);
               ·     ──┬──
               ·       ╰── this @id
               ╰────
              help: use 1 to 64 letters, digits, `-`, `_` and `.`
        "#]],
    );
    check_problems(
        "@id(\"a\") @hint(\"two\\nlines\") permit (principal, action, resource);",
        expect![[r#"
              × the hint of rule `a` cannot be shown
               ╭─[policy/main.cedar:1:16]
             1 │ @id("a") @hint("two\nlines") permit (principal, action, resource);
               ·                ──────┬─────
               ·                      ╰── this hint
               ╰────
              help: agents are shown the hint: one line of at most 256 bytes
        "#]],
    );
    check_problems(
        "@id(\"a\") permit (principal == ?principal, action, resource);",
        expect![[r#"
              × a policy template has no use here
               ╭─[policy/main.cedar:1:1]
             1 │ @id("a") permit (principal == ?principal, action, resource);
               · ──────────────────────────────┬─────────────────────────────
               ·                               ╰── this is a template
               ╰────
              help: replace `?principal` and `?resource` by what they stand for
        "#]],
    );
    check_problems(
        "@id(\"sum\")\nforbid (principal, action, resource)\nwhen { context.spend.minor + 100 > 5000 };",
        expect![[r#"
              × rule `sum` does arithmetic
               ╭─[policy/main.cedar:3:28]
             2 │ forbid (principal, action, resource)
             3 │ when { context.spend.minor + 100 > 5000 };
               ·                            ┬
               ·                            ╰── not in a policy
               ╰────
              help: Cedar skips a policy that overflows, a forbid too. Compare with constants: sums are made
                    by the host
        "#]],
    );
    check_problems(
        "@id(\"whole\")\nforbid (principal, action, resource)\nwhen { [context].contains(context) };",
        expect![[r#"
              × rule `whole` uses the context as a whole
               ╭─[policy/main.cedar:3:9]
             2 │ forbid (principal, action, resource)
             3 │ when { [context].contains(context) };
               ·         ───┬───
               ·            ╰── no attribute is taken of it
               ╰────
              help: name the fact: context.NAME
        "#]],
    );
    check_problems(
        "@id(\"exact\")\npermit (principal, action, resource)\nwhen { context.approvals.finance == 2 };",
        expect![[r#"
              × rule `exact` uses approvals so that one more could permit less
               ╭─[policy/main.cedar:3:8]
             2 │ permit (principal, action, resource)
             3 │ when { context.approvals.finance == 2 };
               ·        ────────────┬────────────
               ·                    ╰── not in this way, or not here
               ╰────
              help: write context.approvals.GROUP >= N in a permit's `when` or a forbid's `unless`, joined by
                    && and || only
        "#]],
    );
    check_problems(
        "@id(\"inverse\")\nforbid (principal, action, resource)\nwhen { context.approvals.reviewer >= 1 && context.approvals.finance >= 1 };",
        expect![[r#"
              × rule `inverse` uses approvals so that one more could permit less
               ╭─[policy/main.cedar:3:8]
             2 │ forbid (principal, action, resource)
             3 │ when { context.approvals.reviewer >= 1 && context.approvals.finance >= 1 };
               ·        ─────────────┬────────────
               ·                     ╰── not in this way, or not here
               ╰────
              help: write context.approvals.GROUP >= N in a permit's `when` or a forbid's `unless`, joined by
                    && and || only
              × rule `inverse` uses approvals so that one more could permit less
               ╭─[policy/main.cedar:3:43]
             2 │ forbid (principal, action, resource)
             3 │ when { context.approvals.reviewer >= 1 && context.approvals.finance >= 1 };
               ·                                           ────────────┬────────────
               ·                                                       ╰── not in this way, or not here
               ╰────
              help: write context.approvals.GROUP >= N in a permit's `when` or a forbid's `unless`, joined by
                    && and || only
        "#]],
    );
    check_problems(
        "@id(\"many\")\nforbid (principal, action, resource)\nunless { context.approvals.finance >= 4 };",
        expect![[r#"
              × rule `many` asks for 4 approvals of `finance`, which has 3
               ╭─[policy/main.cedar:3:10]
             2 │ forbid (principal, action, resource)
             3 │ unless { context.approvals.finance >= 4 };
               ·          ────────────┬────────────
               ·                      ╰── can never be reached
               ╰────
              help: ask for fewer, or add members to the group
        "#]],
    );
    check_problems(
        "@id(\"none\")\nforbid (principal, action, resource)\nunless { context.approvals.finance >= 0 };",
        expect![[r#"
              × rule `none` asks for 0 approvals
               ╭─[policy/main.cedar:3:10]
             2 │ forbid (principal, action, resource)
             3 │ unless { context.approvals.finance >= 0 };
               ·          ────────────┬────────────
               ·                      ╰── at least 1
               ╰────
              help: a threshold that needs nobody is always reached
        "#]],
    );
    check_problems(
        "@id(\"who\")\nforbid (principal, action, resource)\nunless { context.approvals.finanse >= 1 };",
        expect![[r#"
             × rule `who` asks for a group that is not configured
              ╭─[policy/main.cedar:3:10]
            2 │ forbid (principal, action, resource)
            3 │ unless { context.approvals.finanse >= 1 };
              ·          ────────────┬────────────
              ·                      ╰── no such group
              ╰────
             help: the groups of ambit.toml are finance, other, reviewer
        "#]],
    );
}

#[test]
fn what_cedar_finds_shows_its_place() {
    check_problems(
        "@id(\"typo\")\npermit (principal, action == Action::\"comit\", resource);",
        expect![[r#"
              × rule `typo`: unrecognized action `Action::"comit"`
               ╭─[policy/main.cedar:2:30]
             1 │ @id("typo")
             2 │ permit (principal, action == Action::"comit", resource);
               ·                              ───────┬───────
               ·                                     ╰── here
               ╰────
              help: did you mean `Action::"commit"`?
        "#]],
    );
    check_problems(
        "@id(\"fact\")\npermit (principal, action, resource)\nwhen { context.spend.amount < 5 };",
        expect![[r#"
              × rule `fact`: attribute `spend.amount` in context not found
               ╭─[policy/main.cedar:3:8]
             2 │ permit (principal, action, resource)
             3 │ when { context.spend.amount < 5 };
               ·        ──────────┬─────────
               ·                  ╰── here
               ╰────
              help: did you mean `kind`?
        "#]],
    );
    check_problems(
        "@id(\"optional\")\npermit (principal, action, resource)\nwhen { context.user == \"ana\" };",
        expect![[r#"
              × rule `optional`: unable to guarantee safety of access to optional attribute `user` in context
               ╭─[policy/main.cedar:3:8]
             2 │ permit (principal, action, resource)
             3 │ when { context.user == "ana" };
               ·        ──────┬─────
               ·              ╰── here
               ╰────
              help: try testing for the attribute's presence with `context has user && ..`
        "#]],
    );
    check_problems(
        "@id(\"types\")\npermit (principal, action, resource)\nwhen { context.spend.minor == \"5\" };",
        expect![[r#"
              × the types Long and String are not compatible
               ╭─[policy/main.cedar:3:8]
             2 │ permit (principal, action, resource)
             3 │ when { context.spend.minor == "5" };
               ·        ─────────────┬────────────
               ·                     ╰── here
               ╰────
              help: for policy `types`, both operands to a `==` expression must have compatible types. Types
                    must be exactly equal to be compatible
        "#]],
    );
    check_problems(
        "@id(\"never\")\nforbid (principal, action == Action::\"call\", resource in Connection::\"stripe\");",
        expect![[r#"
              × rule `never`: unable to find an applicable action given the policy scope constraints
               ╭─[policy/main.cedar:1:1]
             1 │ ╭─▶ @id("never")
             2 │ ├─▶ forbid (principal, action == Action::"call", resource in Connection::"stripe");
               · ╰──── here
               ╰────
              help: a rule that never applies, or is not what it seems, is refused: change it or remove it
        "#]],
    );
    check_problems(
        "@id(\"script\")\nforbid (principal, action, resource) when { context.tool == \"say_һello\" };",
        expect![[r#"
              × rule `script`: string `"say_һello"` contains mixed scripts
               ╭─[policy/main.cedar:2:61]
             1 │ @id("script")
             2 │ forbid (principal, action, resource) when { context.tool == "say_һello" };
               ·                                                             ─────┬─────
               ·                                                                  ╰── here
               ╰────
              help: a rule that never applies, or is not what it seems, is refused: change it or remove it
        "#]],
    );
}

#[test]
fn a_group_has_a_plain_name() {
    for name in ["", "Finance", "two eyes", "a\": Long, \"b", "9lives", &"x".repeat(65)] {
        let problems = PolicySet::load(&[], &groups(&[(name, 1)])).unwrap_err();
        assert!(
            problems[0].message().ends_with("cannot be the name of a group"),
            "{name}"
        );
    }
    let set = PolicySet::load(
        &[(
            "a".to_owned(),
            r#"@id("a") permit (principal, action, resource) when { context.approvals["two-eyes"] >= 1 };"#.to_owned(),
        )],
        &groups(&[("two-eyes", 1)]),
    );
    assert_eq!(
        set.unwrap().rules()[0].approvals,
        [Threshold {
            group: "two-eyes".to_owned(),
            at_least: 1
        }]
    );
}

fn pick(choices: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    proptest::sample::select(choices)
}

fn policy_head() -> impl Strategy<Value = String> {
    let principal = pick(&[
        "principal",
        "principal == Agent::\"bot\"",
        "principal in Team::\"support\"",
        "principal in Tenant::\"other\"",
        "principal is Agent",
    ]);
    let action = pick(&[
        "action",
        "action == Action::\"call\"",
        "action == Action::\"read\"",
        "action == Action::\"commit\"",
        "action in [Action::\"draft\", Action::\"commit\"]",
        "action in Action::\"read\"",
        "action in []",
    ]);
    let resource = pick(&[
        "resource",
        "resource is Route",
        "resource is Function",
        "resource == Route::\"stripe/refunds.create\"",
        "resource == Route::\"stripe/charges.get\"",
        "resource == Function::\"refunds/refunds.create\"",
        "resource == Connection::\"stripe\"",
        "resource == Route::\"stripe\"",
        "resource in Route::\"stripe/refunds.create\"",
        "resource in Connection::\"stripe\"",
        "resource in Connection::\"slack\"",
        "resource in Tool::\"refunds\"",
        "resource in Team::\"support\"",
        "resource is Route in Connection::\"stripe\"",
        "resource is Function in Tool::\"refunds\"",
        "resource is Function in Connection::\"stripe\"",
        "resource is Route in Route::\"stripe/charges.get\"",
    ]);
    (pick(&["permit", "forbid"]), principal, action, resource).prop_map(|(e, p, a, r)| format!("{e} ({p}, {a}, {r})"))
}

fn policies(condition: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    proptest::collection::vec((policy_head(), condition), 0..12).prop_map(|policies| {
        let numbered = policies.into_iter().enumerate();
        numbered
            .map(|(n, (head, condition))| format!("@id(\"p{n}\") {head} {condition};\n"))
            .collect()
    })
}

fn condition() -> impl Strategy<Value = String> {
    pick(&[
        "",
        "",
        "when { context.mode == \"suggest\" }",
        "unless { context.spend.minor > 500 }",
        "when { 9223372036854775807 + context.spend.minor > 0 }",
    ])
    .prop_map(str::to_owned)
}

fn case() -> impl Strategy<Value = Case> {
    let mode = proptest::sample::select(&[Mode::Suggest, Mode::Execute][..]);
    let tier = proptest::sample::select(&Tier::ALL[..]);
    let spend = prop_oneof![Just(Spend::None), Just(usd(0)), Just(usd(501))];
    let texts = || proptest::collection::vec(".{0,8}", 0..3);
    let user = proptest::option::of(Just("ana"));
    (
        pick(&["bot", "cfo-bot"]),
        mode,
        pick(&["stripe", "slack"]),
        pick(&["refunds.create", "charges.get", "a/b"]),
        tier,
        spend,
        (texts(), texts(), user),
    )
        .prop_map(
            |(agent, mode, connection, route, tier, spend, (names, values, user))| Case {
                agent,
                mode,
                connection,
                route,
                tier,
                spend,
                user,
                run: user,
                fields: FieldFacts::read([&Json::from(Object::from_iter(
                    names
                        .iter()
                        .cloned()
                        .zip(values.iter().map(|value| Json::from(value.as_str()))),
                ))]),
                captures: names.iter().cloned().zip(values.iter().cloned()).collect(),
                recipients: values,
                exhausted: names,
                ..Case::default()
            },
        )
}

impl PolicySet {
    /// What all policies say, and whether the request is one of the schema's.
    fn decide_unsliced(
        &self,
        question: &Question<'_>,
        policies: &CedarSet,
        schema: &Schema,
    ) -> (bool, Vec<String>, usize) {
        let id = format!("{}/{}", question.parent, question.name);
        let caller = question.call.caller;
        let context = facts::context(question.call, question.effect, &self.groups).unwrap();
        let action = self.vocabulary.actions[&question.action].clone();
        context.validate(schema, &action).unwrap();
        let request = self.vocabulary.request(caller, question.action, &id, context).unwrap();
        let answer = self.evaluate(policies, &request, &self.entities(caller, question, &id).unwrap());
        (
            answer.allowed,
            answer.rules.iter().map(|rule| rule.id.clone()).collect(),
            answer.errors.len(),
        )
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_slice_decides_as_the_whole_set(text in policies(condition()), cases in proptest::collection::vec(case(), 1..6)) {
        let set = unchecked(&text);
        let whole = CedarSet::from_policies(parsed(&text)).unwrap();
        let schema = Schema::from_str(set.schema()).unwrap();
        for case in cases {
            case.with(|facts| {
                let action = Action::Effect(facts.tier);
                let question = Question { action, parent: facts.connection, name: facts.route, call: &facts.call, effect: Some(facts) };
                let sliced = set.decide_effect(facts);
                prop_assert_eq!(set.decide_unsliced(&question, &whole, &schema), (sliced.allowed, sliced.rules, sliced.errors.len()));
                let call = Question { action: Action::Call, parent: facts.call.tool, name: facts.call.function, call: &facts.call, effect: None };
                let sliced = set.decide_call(&facts.call);
                prop_assert_eq!(set.decide_unsliced(&call, &whole, &schema), (sliced.allowed, sliced.rules.clone(), sliced.errors.len()));
                Ok(())
            })?;
        }
    }

    /// What a contract says of rules before any request is known holds for every request.
    #[test]
    fn no_decision_contradicts_what_rules_come_to(text in policies(condition()), cases in proptest::collection::vec(case(), 1..6)) {
        let set = unchecked(&text);
        for case in cases {
            case.with(|facts| {
                let (call, caller) = (&facts.call, facts.call.caller);
                for named in [Some(caller), None] {
                    let effect = set.about_effect(facts.tier, facts.connection, facts.route, named);
                    let of_call = set.about_call(call.tool, call.function, named);
                    let (of_effect, called) = (set.decide_effect(facts), set.decide_call(call));
                    // What cannot be evaluated is denied, and does not load.
                    prop_assume!(of_effect.errors().is_empty() && called.errors().is_empty());
                    for (allowed, rules) in [(of_effect.allowed(), effect), (called.allowed(), of_call)] {
                        match verdict(&rules, named.is_some()) {
                            Verdict::Never => prop_assert!(!allowed),
                            Verdict::Always => prop_assert!(allowed),
                            Verdict::Sometimes => {}
                        }
                    }
                }
                Ok(())
            })?;
        }
    }

    /// What the analysis lets pass is monotone: whatever is permitted is permitted with more approvals.
    #[test]
    fn more_approvals_never_permit_less(text in approving_policies(), few in 0_u32..4, more in 0_u32..4, case in case()) {
        let analysed = load(&text);
        let refused = analysed.is_err_and(|problems| problems.iter().any(|problem| problem.message().contains("approvals")));
        prop_assume!(!refused);
        let set = unchecked(&text);
        let given = |finance: u32, reviewer: u32| BTreeMap::from([("finance".to_owned(), finance), ("reviewer".to_owned(), reviewer)]);
        let allowed = |approvals: &BTreeMap<String, u32>| case.with(|facts| set.decide_effect(&EffectFacts { approvals, ..*facts }).allowed());
        prop_assert!(!allowed(&given(few, 0)) || allowed(&given(few + more, 0)));
        prop_assert!(!allowed(&given(few, more)) || allowed(&given(few + 1, more + 1)));
    }
}

/// Policies that mostly use approvals as they may.
fn approving_policies() -> impl Strategy<Value = String> {
    let policy = (policy_head(), proptest::bool::weighted(0.9), approving_expression()).prop_map(
        |(head, rightly, expression)| {
            let clause = if head.starts_with("permit") == rightly {
                "when"
            } else {
                "unless"
            };
            format!("{head} {clause} {{ {expression} }}")
        },
    );
    proptest::collection::vec(policy, 1..5).prop_map(|policies| {
        policies
            .iter()
            .enumerate()
            .map(|(n, policy)| format!("@id(\"p{n}\") {policy};\n"))
            .collect()
    })
}

fn approving_expression() -> impl Strategy<Value = String> {
    let atom = prop_oneof![
        10 => pick(&["context.approvals.finance >= 2", "context.approvals.reviewer >= 1", "context.mode == \"suggest\"", "true"]),
        1 => pick(&["context.approvals.finance < 2", "context.approvals.finance == 1"]),
    ];
    atom.prop_map(str::to_owned).prop_recursive(2, 6, 2, |inner| {
        let join = prop_oneof![10 => pick(&["&&", "||"]), 1 => Just("==")];
        let joined = (inner.clone(), join, inner.clone()).prop_map(|(a, op, b)| format!("({a}) {op} ({b})"));
        prop_oneof![10 => joined, 1 => inner.prop_map(|a| format!("!({a})"))]
    })
}

/// 50 policies as a home would have them: some for everything, most for one route, a few for one connection.
fn fifty() -> String {
    let permits = (0..40).map(|n| {
        format!(
            "@id(\"permit-{n}\") permit (principal in Team::\"support\", action == Action::\"commit\", resource == Route::\"c{}/r{n}\")\n\
             when {{ context.spend.kind == \"known\" && context.spend.currency == \"usd\" && context.spend.minor <= 50000 }};\n",
            n % 8
        )
    });
    let reads = (0..5).map(|n| format!("@id(\"read-{n}\") permit (principal in Team::\"support\", action in [Action::\"read\", Action::\"call\"], resource);\n"));
    permits.chain(reads).chain([DESIGN.to_owned()]).collect()
}

#[test]
fn what_rules_come_to_is_of_whom_they_name() {
    let set = loaded(&format!(
        "{DESIGN}\n@id(\"nobody-of-treasury\") forbid (principal in Team::\"treasury\", action == Action::\"read\", resource);"
    ));
    let (bot, cfo) = (caller("bot", None), caller("cfo-bot", None));
    let of = |tier, route, caller| {
        let rules = set.about_effect(tier, "stripe", route, caller);
        let ids: Vec<String> = rules.iter().map(|applies| applies.rule.id.clone()).collect();
        (verdict(&rules, caller.is_some()), ids.join(" "))
    };
    let is = |verdict, ids: &str| (verdict, ids.to_owned());
    assert_eq!(
        of(Tier::Read, "charges.get", Some(&bot)),
        is(Verdict::Always, "support-reads")
    );
    assert_eq!(
        of(Tier::Read, "charges.get", Some(&cfo)),
        is(Verdict::Never, "nobody-of-treasury")
    );
    let both = "support-reads nobody-of-treasury";
    assert_eq!(of(Tier::Read, "charges.get", None), is(Verdict::Sometimes, both));
    let all = "support-refunds dual-control suggest-mode";
    assert_eq!(
        of(Tier::Commit, "refunds.create", Some(&bot)),
        is(Verdict::Sometimes, all)
    );
    let forbids = "dual-control suggest-mode";
    assert_eq!(
        of(Tier::Commit, "refunds.create", Some(&cfo)),
        is(Verdict::Never, forbids)
    );
    let rules = set.about_effect(Tier::Commit, "stripe", "refunds.create", None);
    let modal: Vec<bool> = rules.iter().map(|applies| applies.reads_mode).collect();
    assert_eq!(modal, [false, false, true]);
}

#[test]
#[expect(clippy::disallowed_types, reason = "measures; nothing depends on the time")]
fn deciding_is_quick() {
    let set = loaded(&fifty());
    assert_eq!(set.rules().len(), 50);
    let fields = fields(r#"{"charge": "ch_1", "amount": 1000, "reason": "duplicate"}"#);
    let case = Case {
        fields,
        user: Some("ana"),
        run: Some("r1"),
        ..Case::default()
    };
    let median = |decide: &dyn Fn() -> bool| {
        let mut times: Vec<_> = (0..2000)
            .map(|_| {
                let start = std::time::Instant::now();
                assert!(decide());
                start.elapsed()
            })
            .collect();
        times.sort();
        times[times.len() / 2]
    };
    case.with(|facts| {
        let effect = median(&|| set.decide_effect(facts).allowed());
        let call = median(&|| set.decide_call(&facts.call).allowed());
        // Bounds that only a mistake in kind would miss, on a busy machine too.
        assert!(
            effect.as_micros() < 200 && call.as_micros() < 50,
            "{effect:?}, {call:?}"
        );
    });
}

/// The ways to a permit, each as `group count` joined by `+`.
fn ways(set: &PolicySet, case: &Case) -> Vec<String> {
    let needs = case.with(|facts| set.approvals_that_permit(facts));
    let one = |need: &Need| {
        let groups: Vec<String> = need.iter().map(|(group, count)| format!("{group} {count}")).collect();
        groups.join("+")
    };
    needs.iter().map(one).collect()
}

#[test]
fn what_would_permit_an_effect_is_the_smallest_sets_of_approvals() {
    let set = loaded(&format!("{DESIGN}{BROAD}"));
    let who = |agent, spend, mode| Case {
        agent,
        spend,
        mode,
        ..Case::default()
    };
    assert_eq!(ways(&set, &who("cfo-bot", usd(5001), Mode::Execute)), ["finance 2"]);
    assert_eq!(
        ways(&set, &who("cfo-bot", usd(5001), Mode::Suggest)),
        ["finance 2+reviewer 1"]
    );
    assert_eq!(ways(&set, &who("cfo-bot", usd(1), Mode::Suggest)), ["reviewer 1"]);
    // No approval makes a rule that permits it.
    assert!(ways(&set, &who("bot", usd(60_000), Mode::Execute)).is_empty());
    // Nor does a group without people.
    let empty = PolicySet::load(
        &[("main.cedar".to_owned(), DESIGN.to_owned())],
        &groups(&[("finance", 3), ("reviewer", 0)]),
    );
    let empty = empty.unwrap_or_else(|problems| panic!("{}", rendered(&problems)));
    assert!(ways(&empty, &who("bot", usd(1), Mode::Suggest)).is_empty());
    let any = loaded(
        r#"
        @id("a") permit (principal, action, resource) when { context.approvals.finance >= 3 };
        @id("b") permit (principal, action, resource) when { context.approvals.finance >= 1 && context.approvals.reviewer >= 1 };
        @id("c") permit (principal, action, resource) when { context.approvals.reviewer >= 1 && context.approvals.finance >= 2 };
        @id("d") permit (principal, action, resource) when { context.approvals.other >= 2 };
        @id("elsewhere") forbid (principal, action == Action::"read", resource) unless { context.approvals.finance >= 2 };
        "#,
    );
    assert_eq!(
        ways(&any, &Case::default()),
        ["finance 1+reviewer 1", "other 2", "finance 3"]
    );
}
