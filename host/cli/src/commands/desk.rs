//! Where an operator's acts are done: in the process that holds the home, or in this one.

use std::path::Path;

use ambit_runtime::call;
use ambit_runtime::host::{Host, HostOptions, OpenError};
use ambit_runtime::operators::{self, Answer, Request};

use super::opening;
use crate::output::{Failure, Working};

/// The desk of a home. Where no process serves the home, this one opens it once, with these tools; all of them, where none is named.
pub(crate) struct Desk<'d>(operators::Desk<'d>);

impl<'d> Desk<'d> {
    pub(crate) fn new<'t>(home: &'d Path, tools: impl IntoIterator<Item = &'t str>) -> Desk<'d> {
        let tools: Vec<String> = tools.into_iter().map(str::to_owned).collect();
        Desk(operators::Desk::new(home, move || {
            open(home, HostOptions::for_tools(tools.iter().map(String::as_str)))
        }))
    }

    pub(crate) fn act(&mut self, request: &Request) -> Result<Answer, OpenError> {
        self.0.act(request, None)
    }

    /// Has a call made or gone on with, and shows how far it is where somebody looks.
    pub(crate) fn call(&mut self, request: &Request, shown: Option<&Working>) -> Result<call::Answer, Failure> {
        let listener = shown.map(Working::listener);
        called(self.0.act(request, listener.as_ref())?)
    }
}

/// The call that was made or went on.
pub(crate) fn called(answer: Answer) -> Result<call::Answer, Failure> {
    match answer {
        Answer::Called(answer) => Ok(*answer),
        other => Err(unexpected(&other)),
    }
}

fn open(home: &Path, options: HostOptions) -> Result<Host, OpenError> {
    opening::host(opening::config(home)?, options)
}

/// An answer to another question: of a host of another version.
pub(crate) fn unexpected(answer: &Answer) -> Failure {
    Failure::internal(format!("the host answered something else: {answer:?}"))
}
