//! What a policy may say beyond what Cedar's validator asks of it.
//!
//! Two rules, both about evaluation that an operator would not expect:
//!
//! * **No arithmetic.** Cedar skips a policy that overflows, so an overflowing `forbid` would stop forbidding.
//! * **Approvals only help.** `context.approvals.GROUP` is read only as `>= N` with a positive constant, in a permit's `when` or a
//!   forbid's `unless`, joined by nothing but `&&` and `||`. Then every condition is monotone in the approvals given, and one
//!   approval more never permits less. That is what makes it sound to tell people which approvals a held effect is waiting for.
//!
//! The whole `context` is never a value of its own, for a comparison with it would read approvals too.

use cedar_policy::pst::{BinaryOp, Clause, Effect, Expr, Literal, UnaryOp, Var};

/// What one policy breaks, and the thresholds it names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    pub(super) thresholds: Vec<Found>,
    pub(super) offences: Vec<Offence>,
    /// Uses of `context.approvals` so far, in the order of the text.
    uses: usize,
}

/// `context.approvals.GROUP >= N` where it is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) group: String,
    pub(super) at_least: i64,
    /// Which use of `context.approvals` in the statement it is, from 0.
    pub(super) nth: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offence {
    /// `+`, `-`, `*`, or the negation of anything but a number.
    Arithmetic,
    /// `context` as a whole.
    BareContext,
    /// Approvals read in another way, or in another place, than allowed.
    Approvals { nth: usize },
    /// An expression that this analysis does not know, and therefore does not let pass.
    Unknown,
}

/// Walks the conditions of one policy in the order they are written.
pub(super) fn examine(effect: Effect, clauses: &[Clause]) -> Findings {
    let mut findings = Findings::default();
    for clause in clauses {
        match (effect, clause) {
            (Effect::Permit, Clause::When(condition)) | (Effect::Forbid, Clause::Unless(condition)) => {
                findings.visit_monotone(condition);
            }
            (_, Clause::When(condition) | Clause::Unless(condition)) => findings.visit(condition),
        }
    }
    findings
}

impl Findings {
    /// An expression in which a threshold may stand: the condition itself, or a part of it reached through `&&` and `||` only.
    fn visit_monotone(&mut self, expr: &Expr) {
        match expr {
            Expr::BinaryOp {
                op: BinaryOp::And | BinaryOp::Or,
                left,
                right,
            } => {
                self.visit_monotone(left);
                self.visit_monotone(right);
            }
            Expr::BinaryOp {
                op: BinaryOp::GreaterEq,
                left,
                right,
            } => match (approvals_group(left), &**right) {
                (Some(group), Expr::Literal(Literal::Long(at_least))) => {
                    self.thresholds.push(Found {
                        group: group.to_owned(),
                        at_least: *at_least,
                        nth: self.uses,
                    });
                    self.uses += 1;
                }
                _ => self.visit(expr),
            },
            _ => self.visit(expr),
        }
    }

    /// An expression in which approvals have no place.
    fn visit(&mut self, expr: &Expr) {
        match expr {
            Expr::Literal(_) | Expr::Var(Var::Principal | Var::Action | Var::Resource) => {}
            Expr::Var(Var::Context) => self.offend(Offence::BareContext),
            Expr::GetAttr { expr, attr } => self.visit_attribute(expr, attr),
            Expr::HasAttr { expr, attrs } => self.visit_attribute(expr, attrs.first()),
            Expr::UnaryOp { op, expr } => {
                if *op == UnaryOp::Neg {
                    self.offend(Offence::Arithmetic);
                }
                self.visit(expr);
            }
            Expr::BinaryOp { op, left, right } => {
                self.visit(left);
                if matches!(op, BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul) {
                    self.offend(Offence::Arithmetic);
                }
                self.visit(right);
            }
            Expr::Like { expr, .. } => self.visit(expr),
            Expr::Is { expr, in_expr, .. } => {
                self.visit(expr);
                if let Some(ancestor) = in_expr {
                    self.visit(ancestor);
                }
            }
            Expr::IfThenElse {
                cond,
                then_expr,
                else_expr,
            } => {
                self.visit(cond);
                self.visit(then_expr);
                self.visit(else_expr);
            }
            Expr::Set(items) => items.iter().for_each(|item| self.visit(item)),
            Expr::Record(members) => members.values().for_each(|member| self.visit(member)),
            _ => self.offend(Offence::Unknown),
        }
    }

    fn offend(&mut self, offence: Offence) {
        // One of a kind is enough to say; every use of approvals is one of its own.
        if !self.offences.contains(&offence) {
            self.offences.push(offence);
        }
    }

    fn visit_attribute(&mut self, of: &Expr, attribute: &str) {
        if !is_context(of) {
            self.visit(of);
        } else if attribute == "approvals" {
            self.offend(Offence::Approvals { nth: self.uses });
            self.uses += 1;
        }
    }
}

/// The group, if this is `context.approvals.GROUP`.
fn approvals_group(expr: &Expr) -> Option<&str> {
    let Expr::GetAttr {
        expr: approvals,
        attr: group,
    } = expr
    else {
        return None;
    };
    match &**approvals {
        Expr::GetAttr { expr, attr } if attr == "approvals" && is_context(expr) => Some(group),
        _ => None,
    }
}

fn is_context(expr: &Expr) -> bool {
    matches!(expr, Expr::Var(Var::Context))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::*;
    use cedar_policy::Policy;

    fn examined(policy: &str) -> Findings {
        let policy = Policy::parse(None, policy).unwrap_or_else(|error| panic!("{policy}: {error}"));
        let policy = policy.to_pst().unwrap();
        let body = policy.body();
        examine(body.effect, body.clauses())
    }

    fn check_allowed(condition: &str, expected: &[(&str, i64)]) {
        let found = examined(&format!("{condition};"));
        assert_eq!(found.offences, [], "{condition}");
        let thresholds: Vec<_> = found
            .thresholds
            .iter()
            .map(|t| (t.group.as_str(), t.at_least))
            .collect();
        assert_eq!(thresholds, expected, "{condition}");
    }

    fn check_refused(policy: &str, offence: Offence) {
        let found = examined(&format!("{policy};"));
        assert_eq!(found.offences.first(), Some(&offence), "{policy}");
    }

    const PERMIT: &str = "permit (principal, action, resource)";
    const FORBID: &str = "forbid (principal, action, resource)";

    #[test]
    fn thresholds_are_collected_where_they_may_stand() {
        check_allowed(PERMIT, &[]);
        check_allowed(
            &format!("{PERMIT} when {{ context.approvals.finance >= 2 }}"),
            &[("finance", 2)],
        );
        check_allowed(
            &format!("{FORBID} unless {{ context.approvals.finance >= 2 }}"),
            &[("finance", 2)],
        );
        check_allowed(
            &format!("{FORBID} unless {{ context[\"approvals\"][\"two-eyes\"] >= 1 }}"),
            &[("two-eyes", 1)],
        );
        check_allowed(
            &format!(
                "{PERMIT} when {{ context.mode == \"x\" || (context.approvals.a >= 1 && context.approvals.b >= 2) }}"
            ),
            &[("a", 1), ("b", 2)],
        );
        check_allowed(
            &format!("{PERMIT} unless {{ !(context.mode == \"x\") }} when {{ context.approvals.a >= 1 }}"),
            &[("a", 1)],
        );
        // Not positive: left to the caller, who knows the groups.
        check_allowed(&format!("{PERMIT} when {{ context.approvals.a >= -1 }}"), &[("a", -1)]);
    }

    #[test]
    fn approvals_are_refused_elsewhere() {
        let first = Offence::Approvals { nth: 0 };
        for condition in [
            "context.approvals.a > 0",
            "context.approvals.a <= 2",
            "context.approvals.a == 2",
            "context.approvals.a != 2",
            "2 <= context.approvals.a",
            "!(context.approvals.a < 2)",
            "!(context.approvals.a >= 2)",
            "!!(context.approvals.a >= 2)",
            "(context.approvals.a >= 2) == false",
            "context.approvals.a >= context.spend.minor",
            "context.approvals.a >= context.approvals.b",
            "if context.approvals.a >= 2 then false else true",
            "if context.mode == \"x\" then context.approvals.a >= 2 else true",
            "[context.approvals.a].contains(2)",
            "[context.approvals].isEmpty()",
            "{ n: context.approvals.a }.n >= 2",
            "context has approvals",
            "context has approvals.a",
            "context.approvals has a",
            "context.approvals == { a: 2 }",
        ] {
            check_refused(&format!("{PERMIT} when {{ {condition} }}"), first);
            check_refused(&format!("{FORBID} unless {{ {condition} }}"), first);
        }
        check_refused(&format!("{PERMIT} unless {{ context.approvals.a >= 1 }}"), first);
        check_refused(&format!("{FORBID} when {{ context.approvals.a >= 1 }}"), first);
        check_refused(&format!("{FORBID} when {{ !(context.approvals.a >= 1) }}"), first);
        check_refused(&format!("{PERMIT} unless {{ !(context.approvals.a >= 1) }}"), first);
        check_refused(
            &format!("{PERMIT} when {{ context.approvals.a >= 1 && context.approvals.a == 2 }}"),
            Offence::Approvals { nth: 1 },
        );
    }

    #[test]
    fn the_context_is_no_value() {
        for condition in [
            "context == { approvals: { a: 1 } }",
            "[context].contains(context)",
            "(if true then context else context).mode == \"x\"",
        ] {
            check_refused(&format!("{PERMIT} when {{ {condition} }}"), Offence::BareContext);
        }
    }

    #[test]
    fn arithmetic_is_refused_wherever_it_stands() {
        for condition in [
            "context.spend.minor + 1 > 0",
            "context.spend.minor - 1 > 0",
            "context.spend.minor * 2 > 0",
            "-context.spend.minor < 0",
            "-(5) < context.spend.minor * 1",
            "!(1 + 1 == 2)",
            "if 1 + 1 == 2 then true else false",
            "[1 * 2].contains(2)",
            "{ n: 1 - 1 }.n == 0",
            "context.approvals.a >= 1 + 1",
        ] {
            for policy in [
                format!("{PERMIT} when {{ {condition} }}"),
                format!("{FORBID} unless {{ {condition} }}"),
            ] {
                let found = examined(&format!("{policy};"));
                assert!(found.offences.contains(&Offence::Arithmetic), "{policy}: {found:?}");
            }
        }
        check_allowed(&format!("{PERMIT} when {{ context.spend.minor > -5 }}"), &[]);
    }
}
