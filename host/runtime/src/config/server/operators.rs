//! `[server.operators]`: operators over HTTP, off unless it is there, and who may say who they are.

use std::collections::BTreeMap;
use std::path::Path;

use ambit_core::digest::Digest;
use ambit_core::error::printable;
use ambit_core::guard;
use ambit_core::identity::claims::{ClaimNames, Issuer, Pointer};

use super::super::reader::{Located, Table};
use super::super::{check_name, is_name};
use super::{AnyIssuer, IssuerConfig, subjects};
use crate::secret::Ambient;

/// What is said of serving operators over HTTP.
#[derive(Clone, Debug)]
pub struct OperatorsConfig {
    /// What this part of the host is to those who issue tokens for it: never what agents' tokens are for. None where it takes keys alone.
    pub audience: Option<String>,
    /// Who may say who an operator is, by name.
    pub issuers: Vec<IssuerConfig>,
}

/// `[server.operators]`, and the digests of the files with authorities that it names. `resource` and `agents` are what agents have.
pub(super) fn operators(
    server: &Table<'_>,
    resource: Option<&str>,
    agents: &[IssuerConfig],
    home: &Path,
    ambient: &dyn Ambient,
) -> (Option<OperatorsConfig>, Vec<Digest>) {
    let Some(table) = server.table("operators", "the operators' part of the server") else {
        return (None, Vec::new());
    };
    let audience = table.string("audience");
    if let Some(audience) = &audience {
        check_audience(&table, audience, resource, agents);
    }
    let audience = audience.map(|text| text.value);
    let (mut issuers, mut files) = (Vec::<IssuerConfig>::new(), Vec::new());
    for (name, inner) in table.named("issuer", "operators' issuer") {
        check_name(inner.source(), &name, "issuer");
        let place = inner.key_span("issuer");
        let found = issuer(&name, &inner, audience.as_deref(), home, ambient, &mut files);
        let source = inner.source();
        inner.done();
        let Some(found) = found else { continue };
        if issuers.iter().any(|known| known.rules.issuer == found.rules.issuer) {
            let message = format!("the operators' issuer `{}` is there already", found.rules.issuer);
            let help = "a token says its `iss` alone: name each issuer once, with all of its operators".to_owned();
            source.problem(place, message, "again", Some(help));
        }
        issuers.push(found);
    }
    if !issuers.is_empty() {
        table.missing(
            "audience",
            "what operators' tokens are for, and agents' are not: audience = \"https://ambit.example.com/v1/operators\"",
        );
    }
    table.done();
    (Some(OperatorsConfig { audience, issuers }), files)
}

/// A token for agents must be no token for operators, whoever issued it.
fn check_audience(table: &Table<'_>, audience: &Located<String>, resource: Option<&str>, agents: &[IssuerConfig]) {
    let of_agents = agents
        .iter()
        .map(|issuer| issuer.rules.audience.as_str())
        .chain(resource);
    let same = of_agents.into_iter().any(|other| other == audience.value);
    if !guard!("operator.audience", !same && !audience.value.is_empty()) {
        let help = "the two never meet: agents' tokens are for `resource`, operators' for another audience".to_owned();
        let message = "`audience` of the operators is what agents' tokens are for, or nothing";
        table
            .source()
            .problem(audience.span.clone(), message, "not another one", Some(help));
    }
}

fn issuer(
    name: &Located<String>,
    table: &Table<'_>,
    audience: Option<&str>,
    home: &Path,
    ambient: &dyn Ambient,
    files: &mut Vec<Digest>,
) -> Option<IssuerConfig> {
    let any = AnyIssuer::read(table, home, ambient, files);
    let claims = claims(table);
    let subjects = subjects(table, &claims, "claims = { operator = \"employee\" }");
    let operators = named(table);
    let (issuer, keys) = any.keys(table)?;
    Some(IssuerConfig {
        rules: Issuer {
            name: name.value.clone(),
            audience: audience.unwrap_or_default().to_owned(),
            issuer,
            algorithms: any.algorithms,
            claims,
            subjects,
            agents: operators,
            users: None,
            scopes: BTreeMap::new(),
            required: any.required,
            leeway_s: any.leeway_s,
            longest_s: any.longest_s,
        },
        keys,
        way: any.way,
    })
}

/// `claims = { operator = "sub", scopes = "scope" }`
fn claims(table: &Table<'_>) -> ClaimNames {
    let Some(inner) = table.table("claims", format!("the claims of {}", table.what())) else {
        return ClaimNames::default();
    };
    let pointer = |key: &str| -> Option<Pointer> {
        let text = inner.string(key)?;
        let read = text.value.parse();
        read.map_err(|why: &str| {
            let message = format!("`{key}` of {} is no claim", inner.what());
            let help = "the name of a claim, as in \"sub\", or a path, as in \"/staff/id\"".to_owned();
            inner.source().problem(text.span, message, why, Some(help));
        })
        .ok()
    };
    let usual = ClaimNames::default();
    let names = ClaimNames {
        agent: pointer("operator"),
        scopes: pointer("scopes").unwrap_or_else(|| usual.scopes.clone()),
        ..usual
    };
    inner.done();
    names
}

/// `operators = { "00u9…" = "ivy" }`
fn named(table: &Table<'_>) -> BTreeMap<String, String> {
    let help = "say which operators its tokens are of: operators = { \"00u9\" = \"ivy\" }";
    table.missing("operators", help);
    let Some(inner) = table.table("operators", format!("the operators of {}", table.what())) else {
        return BTreeMap::new();
    };
    let named = inner.all_strings();
    for (_, operator) in named.values() {
        if !guard!("operator.name", is_name(&operator.value)) {
            let message = format!("`{}` cannot be the name of an operator", printable(&operator.value));
            let label = "1 to 64 letters, digits, `-` and `_`, a letter or digit first";
            inner.source().problem(operator.span.clone(), message, label, None);
        }
    }
    named.into_iter().map(|(said, (_, name))| (said, name.value)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use ambit_core::identity::claims::Subjects;

    use super::super::tests::{parse, refused};

    const SERVER: &str = "[server]\nresource = \"https://ambit.example/mcp\"\n";

    fn with(more: &str) -> String {
        format!(
            "{SERVER}[server.operators]\naudience = \"https://ambit.example/v1/operators\"\n[server.operators.issuer.staff]\nissuer = \"https://id.example\"\n{more}"
        )
    }

    #[test]
    fn operators_are_served_where_it_is_said_and_nowhere_else() {
        assert!(parse(SERVER).unwrap().server().unwrap().operators.is_none());
        let config = parse(&format!("{SERVER}[server.operators]\n")).unwrap();
        let operators = config.server().unwrap().operators.as_ref().unwrap();
        assert!(operators.audience.is_none() && operators.issuers.is_empty());
        let config = parse(&with(
            "operators = { u-7 = \"ivy\" }\nclaims = { operator = \"/staff/id\", scopes = \"scp\" }\nleeway = \"5s\"\n",
        ))
        .unwrap();
        let operators = config.server().unwrap().operators.as_ref().unwrap();
        let rules = &operators.issuers[0].rules;
        assert_eq!(rules.audience, "https://ambit.example/v1/operators");
        assert_eq!((rules.agents["u-7"].as_str(), rules.leeway_s), ("ivy", 5));
        assert_eq!(rules.claims.agent.as_ref().unwrap().to_string(), "/staff/id");
        assert_eq!(rules.subjects, Subjects::Own);
    }

    /// As of agents: a claim that names them says nothing of whom the issuer's tokens are about.
    #[test]
    fn whom_a_token_may_be_about_is_said_beside_the_claim_that_names_them() {
        let subjects = |more: &str| {
            let config = parse(&with(&format!("operators = {{ u-7 = \"ivy\" }}\n{more}"))).unwrap();
            let operators = config.server().unwrap().operators.as_ref().unwrap();
            operators.issuers[0].rules.subjects.clone()
        };
        let claim = "claims = { operator = \"employee\" }\n";
        assert_eq!(subjects(&format!("{claim}any_subject = true\n")), Subjects::Any);
        assert_eq!(
            subjects(&format!("{claim}subjects = [\"s-1\"]\n")),
            Subjects::Listed(["s-1".to_owned()].into())
        );
        refused(
            &with("operators = { u-7 = \"ivy\" }\nany_subject = true\n"),
            "`any_subject` of",
        );
    }

    /// Also where an agents' issuer has an audience of its own.
    #[test]
    fn what_is_for_agents_is_not_for_operators() {
        let same = format!("{SERVER}[server.operators]\naudience = \"https://ambit.example/mcp\"\n");
        refused(&same, "is what agents' tokens are for");
        let own = format!(
            "{SERVER}[server.operators]\naudience = \"ambit\"\n[server.issuer.acme]\nissuer = \"https://id.example\"\naudience = \"ambit\"\nagents = {{ c = \"assistant\" }}\n"
        );
        refused(&own, "is what agents' tokens are for");
    }

    #[test]
    fn a_slip_is_told() {
        refused(
            &with("operators = { u-7 = \"no name\" }\n"),
            "cannot be the name of an operator",
        );
        refused(&with(""), "operators");
        refused(
            &with("operators = { u-7 = \"ivy\" }\nagents = { c = \"a\" }\n"),
            "agents",
        );
        refused(
            &format!("{SERVER}[server.operators]\naudiance = \"x\"\n"),
            "unknown key `audiance`",
        );
        let missing = format!(
            "{SERVER}[server.operators.issuer.staff]\nissuer = \"https://id.example\"\noperators = {{ u = \"ivy\" }}\n"
        );
        refused(&missing, "audience");
    }
}
