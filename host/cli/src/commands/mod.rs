//! The subcommands, a file each.

pub(crate) mod approvals;
pub(crate) mod audit;
pub(crate) mod budgets;
pub(crate) mod build;
pub(crate) mod call;
pub(crate) mod calls;
pub(crate) mod compile_child;
pub(crate) mod completions;
pub(crate) mod connections;
pub(crate) mod dead_letters;
pub(crate) mod erase;
pub(crate) mod init;
pub(crate) mod inspect;
pub(crate) mod keys;
pub(crate) mod kill;
mod pending;
pub(crate) mod person;
pub(crate) mod policy;
pub(crate) mod receipt;
pub(crate) mod replay;
pub(crate) mod rollback;
pub(crate) mod run;
pub(crate) mod serve;
pub(crate) mod story;
pub(crate) mod tools;
pub(crate) mod what_if;
