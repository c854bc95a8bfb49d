#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;
use crate::ledger::Principal;
use crate::ledger::body::RunStarted;
use crate::policy::Mode;

const RUN: &str = "r_aaaaaaaaaaaaaaaaaaaaaaaaaa";
/// 2026-11-22T03:10:00Z.
const TEN_PAST: u64 = 1_795_317_000;

fn authority() -> Authority {
    Authority {
        run: RUN.into(),
        home: "ambit-ledger/0011223344556677".into(),
        agent: "support".into(),
        user: Some("ada".into()),
        expires_s: TEN_PAST,
    }
}

fn names(names: &[&str]) -> Option<BTreeSet<String>> {
    Some(names.iter().map(|&name| name.to_owned()).collect())
}

fn money(amounts: &[(&str, u64)]) -> Option<BTreeMap<Currency, u64>> {
    Some(
        amounts
            .iter()
            .map(|(currency, most)| (currency.parse().unwrap(), *most))
            .collect(),
    )
}

fn whole() -> Attenuation {
    Attenuation {
        functions: names(&["mail/*", "refunds/refunds.create"]),
        connections: names(&["stripe"]),
        max_tier: Some(Tier::Draft),
        money: money(&[("eur", 5), ("usd", 1000)]),
        expires_s: Some(TEN_PAST),
    }
}

#[test]
fn a_token_says_this() {
    let first = format!(
        "ambit_run(\"{RUN}\");\nhome(\"ambit-ledger/0011223344556677\");\nagent(\"support\");\nuser(\"ada\");\n\
         check if time($time), $time <= 2026-11-22T03:10:00Z;\n"
    );
    assert_eq!(authority().to_text().unwrap(), first);
    assert_eq!(Authority::parse(&first), Some(authority()));
    let alone = Authority {
        user: None,
        ..authority()
    };
    assert_eq!(Authority::parse(&alone.to_text().unwrap()), Some(alone));
    let appended = r#"check if time($time), $time <= 2026-11-22T03:10:00Z;
check if tool($tool), {"mail"}.contains($tool) or function($function), {"refunds/refunds.create"}.contains($function);
check if connection($connection), {"stripe"}.contains($connection);
check if tier($tier), {"read", "draft"}.contains($tier);
check if money("eur", $minor), $minor <= 5 or money("usd", $minor), $minor <= 1000;
"#;
    assert_eq!(whole().to_text().unwrap(), appended);
    assert_eq!(Attenuation::parse(appended), Some(whole()));
    // In which order the library prints a set is its own.
    let other = appended.replace(r#"{"read", "draft"}"#, r#"{"draft", "read"}"#);
    assert_eq!(Attenuation::parse(&other), Some(whole()));
}

#[test]
fn nothing_else_is_read() {
    for text in [
        "",
        "\n",
        "check if true;\n",
        "right(\"everything\");\n",
        "tool(\"mail\");\n",
        "check if tool($tool), {\"mail\"}.contains($tool)",
        "check if tool($tool), {\"mail\"}.contains($tool);",
        "check if tool($tool), {\"mail\"}.contains($tool) or true;\n",
        "check if tool($tool), {,}.contains($tool);\n",
        "check if tool($tool), {}.contains($tool);\n",
        "check if tool($tool), {\"mail\", \"mail\"}.contains($tool);\n",
        "check if tool($tool), {\"mail/send\"}.contains($tool);\n",
        "check if tool($tool), [\"mail\"].contains($tool);\n",
        "check all tool($tool), {\"mail\"}.contains($tool);\n",
        "reject if tool($tool), {\"mail\"}.contains($tool);\n",
        "check if tool($other), {\"mail\"}.contains($other);\n",
        "check if tool($tool), {\"mail\"}.contains($tool) trusting authority;\n",
        "check if function($function), {\"mail\"}.contains($function);\n",
        "check if function($function), {\"mail/*\"}.contains($function);\n",
        "check if connection($connection), {\"a\"b\"}.contains($connection);\n",
        "check if connection($connection), {\"a\nb\"}.contains($connection);\n",
        "check if connection($connection), {\"a\"}.contains($connection);\ncheck if connection($connection), {\"a\"}.contains($connection);\n",
        // A wider second line is none, in whichever order.
        "check if tier($tier), {\"read\"}.contains($tier);\ncheck if connection($connection), {\"a\"}.contains($connection);\n",
        "check if tier($tier), {\"draft\"}.contains($tier);\n",
        "check if tier($tier), {\"read\", \"commit\"}.contains($tier);\n",
        "check if tier($tier), {\"read\", \"everything\"}.contains($tier);\n",
        "check if money(\"usd\", $minor), $minor <= -1;\n",
        "check if money(\"usd\", $minor), $minor <= 01;\n",
        "check if money(\"usd\", $minor), $minor <= 9223372036854775808;\n",
        "check if money(\"usd\", $minor), $minor < 5;\n",
        "check if money(\"USD\", $minor), $minor <= 5;\n",
        "check if money(\"usd\", $minor), $minor <= 5 or money(\"eur\", $minor), $minor <= 5;\n",
        "check if money(\"usd\", $minor), $minor <= 5 or money(\"usd\", $minor), $minor <= 6;\n",
        "check if money($currency, $minor), $minor <= 5;\n",
        "check if time($time), $time <= 2026-11-22T03:10:00.5Z;\n",
        "check if time($time), $time <= 2026-11-22;\n",
        "check if time($time), $time <= 2026-11-22T03:10:60Z;\n",
        "check if time($time), $time >= 2026-11-22T03:10:00Z;\n",
        "check if time($time), $time <= 1969-11-22T03:10:00Z;\n",
    ] {
        assert_eq!(Attenuation::parse(text), None, "{text}");
    }
    let first = authority().to_text().unwrap();
    for text in [
        first.replace("ambit_run", "run"),
        first.replace(RUN, "r_short"),
        first.replace("agent(\"support\");\n", ""),
        first.replace("user(\"ada\");\n", "user(\"ada\");\nuser(\"bob\");\n"),
        first.replace("user(\"ada\")", "user(\"a\"a\")"),
        format!("{first}right(\"all\");\n"),
        first.lines().take(4).map(|line| format!("{line}\n")).collect(),
    ] {
        assert_eq!(Authority::parse(&text), None, "{text}");
    }
}

#[test]
fn what_cannot_stand_in_a_token_is_told() {
    let refused = |change: fn(&mut Attenuation)| {
        let mut one = Attenuation::default();
        change(&mut one);
        one.to_text().unwrap_err()
    };
    assert_eq!(refused(|_| {}), Unwritable::Nothing);
    assert_eq!(refused(|one| one.functions = names(&[])), Unwritable::Empty("function"));
    assert_eq!(
        refused(|one| one.connections = names(&["a\"b"])),
        Unwritable::Name("a\"b".into())
    );
    assert_eq!(
        refused(|one| one.functions = names(&["mail"])),
        Unwritable::Function("mail".into())
    );
    assert_eq!(
        refused(|one| one.functions = names(&["a/b/*"])),
        Unwritable::Name("a/b".into())
    );
    assert_eq!(
        refused(|one| one.money = money(&[("usd", u64::MAX)])),
        Unwritable::Amount(u64::MAX)
    );
    assert_eq!(refused(|one| one.money = money(&[])), Unwritable::Empty("currency"));
    assert_eq!(refused(|one| one.expires_s = Some(LAST_S + 1)), Unwritable::Time);
    for bad in ["", "a\\b", "a\nb", "a\u{7f}b", &"x".repeat(257)] {
        let agent = Authority {
            agent: bad.into(),
            ..authority()
        };
        assert!(matches!(agent.to_text(), Err(Unwritable::Name(_))), "{bad}");
    }
}

fn opened(blocks: &[Attenuation]) -> Opened {
    let id = |at: usize| Digest::of(&at.to_be_bytes());
    Opened {
        authority: authority(),
        blocks: blocks
            .iter()
            .enumerate()
            .map(|(at, block)| (id(at), block.clone()))
            .collect(),
        id: id(blocks.len()),
    }
}

#[test]
fn a_token_is_good_until_its_last_second_and_in_its_home() {
    let sooner = Attenuation {
        expires_s: Some(TEN_PAST - 60),
        ..Attenuation::default()
    };
    let later = Attenuation {
        expires_s: Some(TEN_PAST + 60),
        ..Attenuation::default()
    };
    let home = authority().home;
    let good = |blocks: &[Attenuation], at_ms: u64| opened(blocks).check(&home, at_ms).map_err(|denied| denied.why);
    let end = (TEN_PAST + 1) * 1_000;
    assert_eq!(good(&[], end - 1), Ok(()));
    assert_eq!(good(&[], end), Err(Why::Expired));
    assert_eq!(good(std::slice::from_ref(&sooner), end - 60_001), Ok(()));
    assert_eq!(good(&[sooner, later.clone()], end - 60_000), Err(Why::Expired));
    assert_eq!(good(&[later], end), Err(Why::Expired), "nobody has it good for longer");
    let elsewhere = opened(&[]).check("ambit-ledger/other", 0).unwrap_err();
    assert_eq!(elsewhere.why, Why::Audience);
}

#[test]
fn a_token_is_good_in_its_own_run_while_that_is_open() {
    let started = |agent: &str, user: Option<&str>| RunStarted {
        once: None,
        by: None,
        caps: Vec::new(),
        errors: None,
        expires: 1_000,
        mode: Mode::Execute,
        principal: Principal {
            agent: agent.into(),
            team: "support".into(),
            tenant: "acme".into(),
            user: user.map(str::to_owned),
        },
        run: RUN.into(),
    };
    let check = |run: &Run, at_ms: i64| opened(&[]).check_run(run, at_ms).map_err(|denied| denied.why);
    let run = Run::new(started("support", Some("ada")), 1, 0);
    assert_eq!(check(&run, 999), Ok(()));
    assert_eq!(check(&run, 1_000), Err(Why::Expired));
    let ended = Run {
        ended: true,
        ..run.clone()
    };
    assert_eq!(check(&ended, 1), Err(Why::Revoked));
    for (agent, user) in [("other", Some("ada")), ("support", Some("bob")), ("support", None)] {
        assert_eq!(check(&Run::new(started(agent, user), 1, 0), 1), Err(Why::Agent));
    }
    let mut elsewhere = started("support", Some("ada"));
    elsewhere.run = RUN.replace('a', "b");
    assert_eq!(check(&Run::new(elsewhere, 1, 0), 1), Err(Why::Agent));
}

fn subset(of: &'static [&'static str]) -> impl Strategy<Value = Option<BTreeSet<String>>> {
    proptest::option::of(proptest::sample::subsequence(of, 1..=of.len()))
        .prop_map(|names| names.map(|names| names.into_iter().map(str::to_owned).collect()))
}

fn attenuation() -> impl Strategy<Value = Attenuation> {
    let amounts = || 0_u64..4;
    let money = proptest::option::of(proptest::collection::btree_map(
        proptest::sample::select(vec!["usd", "eur", "jpy"]).prop_map(|code| code.parse().unwrap()),
        amounts(),
        1..=3,
    ));
    let tier = proptest::option::of(proptest::sample::select(Tier::ALL.to_vec()));
    let functions = subset(&["a/*", "a/x.f", "a/x.g", "b/*", "b/x.f"]);
    let times = proptest::option::of(0_u64..4);
    (functions, subset(&["s", "t"]), tier, money, times)
        .prop_map(|(functions, connections, max_tier, money, expires_s)| Attenuation {
            functions,
            connections,
            max_tier,
            money,
            expires_s,
        })
        .prop_filter("takes something away", |one| *one != Attenuation::default())
}

/// Something that a caller may want to do.
#[derive(Clone, Debug)]
struct Wish {
    tool: &'static str,
    function: &'static str,
    connection: &'static str,
    tier: Tier,
    spend: (&'static str, u64),
    at_s: u64,
}

fn wish() -> impl Strategy<Value = Wish> {
    let one = |of: &'static [&'static str]| proptest::sample::select(of);
    let tier = proptest::sample::select(Tier::ALL.to_vec());
    let spend = (one(&["usd", "eur", "jpy", "chf"]), 0_u64..5);
    (
        one(&["a", "b", "c"]),
        one(&["x.f", "x.g"]),
        one(&["s", "t", "u"]),
        tier,
        spend,
        0_u64..6,
    )
        .prop_map(|(tool, function, connection, tier, spend, at_s)| Wish {
            tool,
            function,
            connection,
            tier,
            spend,
            at_s,
        })
}

/// What one block says of it, by the block alone: written anew here, and not as the code has it.
fn said_of(block: &Attenuation, wish: &Wish) -> bool {
    let function = format!("{}/{}", wish.tool, wish.function);
    let whole = format!("{}/*", wish.tool);
    let functions = block.functions.as_ref();
    let connections = block.connections.as_ref();
    let (currency, amount) = wish.spend;
    let most = block.money.as_ref().map(|money| {
        let known = money.iter().find(|(name, _)| name.as_str() == currency);
        known.map_or(0, |(_, most)| *most)
    });
    functions.is_none_or(|names| names.contains(&function) || names.contains(&whole))
        && connections.is_none_or(|names| names.contains(wish.connection))
        && block.max_tier.is_none_or(|most| wish.tier <= most)
        && most.is_none_or(|most| amount <= most)
        && block.expires_s.is_none_or(|last| wish.at_s <= last)
}

/// What a token comes to.
fn allows(token: &Opened, wish: &Wish) -> bool {
    let left = token.narrowing();
    let spend = crate::money::Spend::Known {
        currency: wish.spend.0.parse().unwrap(),
        minor: i64::try_from(wish.spend.1).unwrap(),
    };
    left.keeps_function(wish.tool, wish.function)
        && left
            .connections
            .as_ref()
            .is_none_or(|kept| kept.contains(wish.connection))
        && left.max_tier.is_none_or(|most| wish.tier <= most)
        && left.check_spend(&spend).is_ok()
        && token.check(&token.authority.home, wish.at_s * 1_000).is_ok()
}

proptest! {
    /// Whatever is taken away, in whichever order: a token allows what all of its blocks do, and so nothing that the one before did not.
    #[test]
    fn a_token_only_shrinks(blocks in proptest::collection::vec(attenuation(), 0..6), wishes in proptest::collection::vec(wish(), 16)) {
        for wish in &wishes {
            let mut before = true;
            for upto in 0..=blocks.len() {
                let token = opened(&blocks[..upto]);
                let all = blocks[..upto].iter().all(|block| said_of(block, wish));
                prop_assert_eq!(allows(&token, wish), all, "{:?} of {:?}", wish, token);
                prop_assert!(before || !allows(&token, wish));
                before = allows(&token, wish);
            }
        }
        // Nor may whoever holds the narrower one be told more.
        for upto in 0..blocks.len() {
            let (wider, narrower) = (opened(&blocks[..upto]).narrowing(), opened(&blocks[..=upto]).narrowing());
            prop_assert!(narrower.reaches_within(Tier::Commit, &wider), "{:?} within {:?}", narrower, wider);
        }
    }

    #[test]
    fn a_block_is_read_as_it_was_written(block in attenuation()) {
        let text = block.to_text().unwrap();
        prop_assert_eq!(Attenuation::parse(&text), Some(block));
    }

    /// What is read is written as it was, but for the order of names.
    #[test]
    fn what_is_read_is_what_was_written(text in "(check if |tool\\(\\$tool\\), |\\{\"a\"(, \"b\")?\\}|\\.contains\\(\\$tool\\)|;\n| or |money\\(\"usd\", \\$minor\\), \\$minor <= [0-9]{1,3}){1,8}") {
        if let Some(block) = Attenuation::parse(&text) {
            prop_assert_eq!(block.to_text().unwrap(), text);
        }
    }

    /// Money is counted of each block by itself, under its own name, and for each of its currencies.
    #[test]
    fn each_block_has_an_account_of_its_own(blocks in proptest::collection::vec(attenuation(), 0..6)) {
        let token = opened(&blocks);
        let budgets = token.narrowing().budgets();
        let names: BTreeSet<&str> = budgets.iter().map(|budget| budget.name.as_str()).collect();
        let amounts: usize = blocks.iter().flat_map(|block| &block.money).map(BTreeMap::len).sum();
        prop_assert_eq!((budgets.len(), names.len()), (amounts, amounts));
        prop_assert!(budgets.iter().all(|budget| budget.window == crate::money::Window::Run && crate::grant::is_of_token(&budget.name)));
    }
}
