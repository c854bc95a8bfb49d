//! The command's arguments: one definition for parsing, help, completions and the man page.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum, ValueHint};

use crate::exits;

/// Run agent tools that nobody has to trust.
///
/// A tool is a WebAssembly component whose world says what it may ever touch; the operator's connections and policy
/// grant less than that; every effect is on a tamper-evident ledger before it leaves.
#[derive(Debug, Parser)]
#[command(name = "ambit", version, after_help = exits::ALL, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options every subcommand takes.
#[derive(Debug, Args, Clone)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The home: configuration, policy, tools, keys and ledger.
    #[arg(long, global = true, env = "AMBIT_HOME", value_name = "DIR", default_value = ".ambit", value_hint = ValueHint::DirPath)]
    pub(crate) home: PathBuf,
    /// How results are written to standard output.
    #[arg(long, global = true, value_enum, default_value_t = Format::Human)]
    pub(crate) format: Format,
    /// When to use colours.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    pub(crate) color: Color,
    /// How diagnostics are written to standard error. AMBIT_LOG says which, as in `info` or `warn,ambit_runtime=debug`.
    #[arg(long, global = true, value_enum, env = "AMBIT_LOG_FORMAT", default_value_t = LogFormat::Human)]
    pub(crate) log_format: LogFormat,
    /// Say more on standard error (repeat for more).
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Human,
    /// One JSON document.
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Human,
    /// A JSON document a line.
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a home: keys, ledger, a commented ambit.toml and a first policy.
    Init,
    /// Build a tool's component from its crate and print what it declares.
    Build(Build),
    /// Print what a component declares: capabilities, functions, schemas.
    Inspect(Inspect),
    /// Print what a tool, or an agent with every tool it may call, can do and can never do: one page from component, connections and policy.
    ///
    /// Nothing is run and no ledger is read. What policy says is what its rules come to before any request is known: `never`, `always`, or the
    /// rules that it goes by.
    Contract(ContractOf),
    /// Call a tool's function under connections and policy.
    #[command(after_help = exits::OF_A_CALL)]
    Call(Call),
    #[expect(rustdoc::broken_intra_doc_links, reason = "a section of ambit.toml, in a help text")]
    /// Serve agents over MCP: one over standard input and output (--stdio), or all that show who they are over HTTP.
    ///
    /// Over HTTP an agent shows a token of an issuer in [server], a key (`ambit keys`) or a token of a run (`ambit run token`), and nothing else
    /// says who it is. /mcp is the protocol, and /v1 the HTTP API, with a part for operators where [server.operators] says so; /health and /ready are for whoever
    /// watches the process. Metrics are served at `metrics` of [server], where that is set. It ends at SIGTERM or SIGINT: nothing begins any
    /// more, calls may go on for `drain` of [server], ten seconds unless named, and those that do not end are suspended: the next `ambit
    /// serve` goes on with them. A second signal ends it at once. At SIGHUP it takes its files anew, as `ambit reload` has it. There is no
    /// TLS: off this machine, put something in front that speaks it.
    ///
    /// An agent sees the functions that policy lets it call, and can do nothing else: it cannot grant, approve or configure anything. What
    /// waits for people is told to it as held, and `ambit_call_status` says how it stands.
    Serve(Serve),
    /// The tools of this home and the digests they are pinned to.
    Tools {
        #[command(subcommand)]
        command: Tools,
    },
    /// The policy of this home.
    Policy {
        #[command(subcommand)]
        command: Policy,
    },
    /// Calls that have not ended, interrupted or paused, and effects of which nobody knows whether they happened.
    ///
    /// A call that waits for approval, or runs right now, is not among them, unless an effect of it is in doubt.
    Calls(Calls),
    /// Effects that wait for people: show, approve, reject, edit, go on.
    Approvals {
        #[command(subcommand)]
        command: Approvals,
    },
    /// The people who may approve.
    Person {
        #[command(subcommand)]
        command: Person,
    },
    /// The keys that agents over HTTP are known by: give out, rotate, revoke.
    ///
    /// A key is one agent's, perhaps for one of its users and for less than the agent may do. Policy decides on its calls as on any.
    Keys {
        #[command(subcommand)]
        command: Keys,
    },
    /// Stop everything, a tenant, an agent, a tool, a connection or a run: what runs ends at once, and nothing begins.
    ///
    /// The stop is on the ledger, holds across restarts, and stays until it is lifted: `ambit unkill`. A request that had left when the
    /// stop came is in doubt, and the ledger says so. With --safe-mode nothing ends: reads go on, and calls pause before they change something.
    Kill(Kill),
    /// Lift a stop. Calls that it ended do not come back; effects that wait for people can be gone on with again.
    Unkill(Unkill),
    /// What is stopped, and what runs in the process that holds this home; and where the glass was broken of late.
    Status,
    /// Have the process that serves this home take its files anew: configuration, policies and tools, all of them or none.
    ///
    /// Everything is read, checked and compiled first, and then takes its place at once. Calls that run go on with what they began with; what
    /// waits for people is decided by what there is when it goes on. Files that cannot be used change nothing, and what is wrong is told.
    /// A signal does the same: SIGHUP. What a process listens on, its ledger, and the limits `stack_bytes` and `concurrent_calls` are
    /// those of its start. Where no process serves the home there is nothing to reload, which is a refusal.
    Reload,
    /// Runs: an agent's sessions, with a mode, an end, and limits on all their calls together.
    Run {
        #[command(subcommand)]
        command: Run,
    },
    /// Tokens of runs: narrow one for a sub-agent, seal it, print what it allows. Offline, and needing no home.
    ///
    /// `ambit run token` makes one, and an agent shows it over HTTP in place of a key: all its calls are part of that run. Whoever holds a
    /// token can take away from it, and nobody can add to it. Tokens are read from standard input, as arguments can be seen by others.
    Token {
        #[command(subcommand)]
        command: Token,
    },
    /// Run calls once more from what was recorded, offline, and compare. Nothing is sent, and of calls nothing written without --record.
    ///
    /// A call that was ended from outside, by its time, an operator or the host's end, is compared up to there. Where values were erased
    /// the word is `partial`, and what could not be compared is told. Exits with 1 where something diverged or was tampered with.
    ///
    /// A call can be taken elsewhere: --bundle writes all that running it again takes into one file, and --from replays that file without
    /// the home, against the ledger's public key. A bundle has the call's arguments, requests, answers and result in plain text, and no
    /// credential: whoever may have it may read those.
    Replay(Replay),
    /// What another policy, or another build of a tool, would have changed of recorded calls. Nothing is sent or written.
    ///
    /// Exits with 1 where something would change, so that a pipeline can stop on it, and where nothing at all was decided or run again: that
    /// shows nothing. What cannot be decided again, because its values were erased or its route is gone, is told and counted.
    WhatIf(WhatIf),
    /// The connections: which are left alone, until when, and how much of their rates is left.
    Connections {
        #[command(subcommand)]
        command: Connections,
    },
    /// Undo a call: what it did is taken back, the last effect first, through the same gate.
    ///
    /// Each effect as its route says (`undo` in ambit.toml), or all of them by the function that the tool declares for it. Policy, approvals,
    /// budgets and stops are those of today, and everything is on the ledger. It stops at the first effect that is refused or fails; said
    /// again, it does what is left. Exits with 0 where all is undone, 1 where not all is, 2 where the call cannot be undone as it is, and 4
    /// where what undoes it waits for approvals.
    Rollback(Rollback),
    /// Effects that failed for good: show, retry, drop.
    DeadLetters {
        #[command(subcommand)]
        command: DeadLetters,
    },
    /// Webhooks: who is told of what, whether messages arrive, and what nobody took.
    ///
    /// A host that serves sends them. Each message is signed as Standard Webhooks has it, and tried until it is taken or `give_up` of its
    /// webhook has passed; then it is kept here.
    Webhooks {
        #[command(subcommand)]
        command: Webhooks,
    },
    /// The budgets: what each has used, reserved and left, and when its window begins anew.
    Budgets,
    /// The ledger: what happened, and that it was not changed since.
    Audit {
        #[command(subcommand)]
        command: Audit,
    },
    /// Print what the ledger comes to in numbers: calls, refusals, approvals, money, doubts, as Prometheus reads them.
    ///
    /// Counters are over the whole ledger, or since a time; gauges say how things stand now. For a textfile collector, write it to a file
    /// beside the one that is read and rename it. Labels are names of the configuration and words of Ambit's, never what an agent,
    /// a tool or a service said.
    Metrics(Metrics),
    /// Print the ledger's entries for other systems, such as a SIEM: a line each, from any entry on.
    ///
    /// The last entry's index is printed to standard error: with --after the next export goes on from there. This is for searching and
    /// alarms and proves nothing; what anybody can verify is written by `ambit audit export`: all entries, with the tree and a signed
    /// checkpoint.
    Export(Export),
    /// Erase the values of calls for good; what happened stays on the ledger.
    ///
    /// Values are arguments, requests, answers, results and logs. An entry says of which calls they are gone, how many and why;
    /// receipts and proofs hold as before. Calls that are not over keep their values, and copies of the home have what they have.
    /// A call that was refused before its caller was known is nobody's: its values go by age.
    Erase(Erase),
    /// Receipts, verified offline.
    Receipt {
        #[command(subcommand)]
        command: Receipt,
    },
    /// Print a completion script.
    Completions {
        /// The shell to print it for.
        shell: clap_complete::Shell,
    },
    /// Print the manual page (roff).
    #[command(hide = true)]
    Man,
    /// Compile a component read from standard input; run by the host under process limits.
    #[command(hide = true)]
    CompileChild,
}

#[derive(Debug, Args)]
pub(crate) struct Build {
    /// The tool's crate: a folder with Cargo.toml and a wit folder.
    #[arg(default_value = ".", value_hint = ValueHint::DirPath)]
    pub(crate) crate_dir: PathBuf,
    /// Where to write the component [default: components/NAME.wasm in cargo's target folder].
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
    /// Make the component of this core module instead of calling cargo.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) module: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// A component file, or the name of a tool of this home.
    pub(crate) tool: String,
    /// Print only this function, with its schemas.
    #[arg(long, value_name = "FUNCTION")]
    pub(crate) function: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ContractOf {
    /// The tool's name in this home; all tools that the agent may call, where none is named.
    #[arg(required_unless_present = "agent")]
    pub(crate) tool: Option<String>,
    /// For this agent alone.
    #[arg(long = "for", value_name = "AGENT")]
    pub(crate) agent: Option<String>,
    /// Leave out what agents do not get to see: the texts of rules, and routes that the tool did not declare.
    #[arg(long)]
    pub(crate) for_agents: bool,
    /// Print a page of HTML in place of Markdown.
    #[arg(long)]
    pub(crate) html: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Call {
    /// The tool's name in this home.
    pub(crate) tool: String,
    /// The function: its full name, or its last part where that is unique.
    pub(crate) function: String,
    /// Arguments: a JSON object, @FILE, or - for standard input.
    #[arg(long, value_name = "JSON|@FILE|-", default_value = "{}")]
    pub(crate) args: String,
    /// The agent on whose behalf the call is made [default: the home's only agent].
    #[arg(long = "as", value_name = "AGENT")]
    pub(crate) agent: Option<String>,
    /// The user the agent acts for.
    #[arg(long = "for", value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Write the receipt to this file.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) receipt: Option<PathBuf>,
    /// W3C trace id (32 hex digits) to record the call under.
    #[arg(long, value_name = "TRACE")]
    pub(crate) trace: Option<String>,
    /// Whether effects are committed [default: that of the run, or execute].
    #[arg(long, value_enum)]
    pub(crate) mode: Option<Mode>,
    /// The run that the call is part of: its id, or a beginning of it.
    #[arg(long, value_name = "RUN")]
    pub(crate) run: Option<String>,
}

/// `ambit serve`
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Over standard input and output, to the process that started this one. It ends when that closes them.
    #[arg(long)]
    pub(crate) stdio: bool,
    #[expect(rustdoc::broken_intra_doc_links, reason = "a section of ambit.toml, in a help text")]
    /// Over HTTP, at this address and port [default: `listen` of [server] in ambit.toml].
    #[arg(long, value_name = "ADDRESS", conflicts_with = "stdio")]
    pub(crate) listen: Option<SocketAddr>,
    /// The agent on the other side [default: the home's only agent]. It can say nothing about that itself.
    #[arg(long = "as", value_name = "AGENT", requires = "stdio")]
    pub(crate) agent: Option<String>,
    /// The user the agent acts for.
    #[arg(long = "for", value_name = "USER", requires = "stdio")]
    pub(crate) user: Option<String>,
    /// Whether effects are committed [default: that of the run, or execute].
    #[arg(long, value_enum)]
    pub(crate) mode: Option<Mode>,
    /// The run that its calls are part of: its id, or a beginning of it.
    #[arg(long, value_name = "RUN", requires = "stdio")]
    pub(crate) run: Option<String>,
}

/// What becomes of effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// What policy permits is done.
    Execute,
    /// Policy sees that the call only suggests: the shipped rule holds commits for a reviewer.
    Suggest,
    /// Reads are real; at the first effect that would change something the call ends, and shows it. Nothing waits for people.
    DryRun,
}

/// The mode of a run or of a call.
impl From<Mode> for ambit_core::policy::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Execute => Self::Execute,
            Mode::Suggest => Self::Suggest,
            Mode::DryRun => Self::DryRun,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Run {
    /// Start a run for an agent, and print its id. Calls name it with `ambit call --run`.
    Start(RunStart),
    /// Print one run: whose it is, what it may do, what it used, its calls.
    Show {
        /// The run, or a beginning of its id.
        run: String,
        /// At most this many of its calls, newest first.
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// List runs, newest first.
    List {
        /// At most this many.
        #[arg(long, default_value_t = 20)]
        limit: u32,
        /// Only those that are open.
        #[arg(long)]
        open: bool,
    },
    /// Print a token of an open run: whoever shows it over HTTP calls as the run's agent, in that run and nowhere else.
    ///
    /// The home keeps nothing of it, so it is printed this once. It ends with its time or with its run (`ambit run end`), and cannot be
    /// taken back by itself. `ambit token narrow` makes one of it that can do less.
    Token {
        /// The run, or a beginning of its id.
        run: String,
        /// For how long it is good, at most 24h and no longer than the run: 90s, 10m, 1h.
        #[arg(long, value_name = "TIME", default_value = "1h")]
        expires: String,
    },
    /// End a run: what is under way finishes, and nothing more begins.
    End {
        /// The run, or a beginning of its id.
        run: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Read a token from standard input, and print one that can do less: what several options leave out, all of them do.
    Narrow(TokenNarrow),
    /// Read a token from standard input, and print the same that cannot be narrowed any more.
    Seal,
    /// Read a token from standard input, and print what it allows, as far as it says.
    Show {
        /// Verify it against the home, too: its signatures, its blocks and its time.
        #[arg(long)]
        verify: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TokenNarrow {
    /// Only functions of this tool (repeat for more).
    #[arg(long = "tool", value_name = "TOOL")]
    pub(crate) tools: Vec<String>,
    /// Only this function, by its tool and its whole name, such as refunds/refunds.create (repeat for more).
    #[arg(long = "function", value_name = "TOOL/FUNCTION")]
    pub(crate) functions: Vec<String>,
    /// Only effects over this connection (repeat for more).
    #[arg(long = "connection", value_name = "CONNECTION")]
    pub(crate) connections: Vec<String>,
    /// Only effects up to this tier.
    #[arg(long, value_enum)]
    pub(crate) tier: Option<Tier>,
    /// No more money than this, all calls with the new token together, in minor units: usd=1000. Once for each currency; of others none.
    #[arg(long, value_name = "CURRENCY=AMOUNT")]
    pub(crate) money: Vec<String>,
    /// Good for no longer than this from now: 90s, 10m, 1h.
    #[arg(long, value_name = "TIME")]
    pub(crate) expires: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RunStart {
    /// The agent whose calls they are [default: the home's only agent].
    #[arg(long = "as", value_name = "AGENT")]
    pub(crate) agent: Option<String>,
    /// The user the agent acts for.
    #[arg(long = "for", value_name = "USER")]
    pub(crate) user: Option<String>,
    /// What its calls may do at most; a call can ask for less.
    #[arg(long, value_enum, default_value_t = Mode::Execute)]
    pub(crate) mode: Mode,
    /// How long it is open: minutes, hours or days, at most 31d.
    #[arg(long, value_name = "LENGTH", default_value = "8h", value_parser = length)]
    pub(crate) expires: u64,
    /// The most calls.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) calls: Option<u64>,
    /// The most effects; those that only read count, too.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) effects: Option<u64>,
    /// The most fuel, all calls together; a call sets aside all that it may use.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) fuel: Option<u64>,
    /// The most money in a currency, in minor units: usd=50000. Once for each currency.
    #[arg(long, value_name = "CURRENCY=AMOUNT")]
    pub(crate) money: Vec<String>,
    /// At the limits of effects and money, hold the effect for so many people of a group instead of refusing it: finance, finance:2.
    #[arg(long, value_name = "GROUP[:COUNT]")]
    pub(crate) over: Option<String>,
    /// The most of its calls and effects that may fail, in percent; above, it only reads. 100 lets all fail.
    #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) errors: u32,
    /// That bound holds once at least this many calls and effects came to an end.
    #[arg(long, value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) errors_of: u32,
}

/// A length such as `90m`, `8h` or `7d`, in milliseconds.
fn length(text: &str) -> Result<u64, String> {
    const MINUTE: u64 = 60_000;
    let units = [('m', MINUTE), ('h', 60 * MINUTE), ('d', 24 * 60 * MINUTE)];
    let read = units.into_iter().find_map(|(unit, ms)| {
        let digits = text.strip_suffix(unit)?;
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse::<u64>().ok()?.checked_mul(ms)).flatten()
    });
    match read {
        Some(ms) if (1..=ambit_core::run::LONGEST_MS).contains(&ms) => Ok(ms),
        _ => Err(
            "a length is a whole number of minutes, hours or days, from 1m to 31d, such as 90m, 8h or 7d".to_owned(),
        ),
    }
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Calls {
    /// Only those with effects in doubt.
    #[arg(long)]
    pub(crate) in_doubt: bool,
    #[command(subcommand)]
    pub(crate) command: Option<CallsCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CallsCommand {
    /// Go on with a call that the host's end interrupted, or that safe mode paused: from its beginning, with what it was told, to where it was
    /// and on.
    #[command(after_help = exits::OF_GOING_ON)]
    Resume {
        /// The call, or a beginning of its id.
        #[arg(value_name = "CALL", conflicts_with = "all")]
        call: Option<String>,
        /// Every call that can go on.
        #[arg(long)]
        all: bool,
    },
    /// Say what became of an effect that is in doubt, once you have found out at the service; or have it sent again.
    ///
    /// With --retry the effect is sent again under its idempotency key, by which its service does it at most once, and its call goes on
    /// with the answer. Everything about it is decided again, by today's policy. It is for an effect of which the host's end let nobody see
    /// what became, on a route with `idempotency`, and as long as the service knows the key: `ambit calls --in-doubt` prints until when.
    /// What refuses it leaves it in doubt.
    #[command(after_help = exits::OF_A_DOUBT)]
    Resolve(Resolve),
    /// End a call where it is: its tool is not run again. What is in doubt stays so.
    End {
        /// The call, or a beginning of its id.
        #[arg(value_name = "CALL")]
        call: String,
    },
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("found").required(true).args(["done", "not_done", "retry"]))]
pub(crate) struct Resolve {
    /// The call, or a beginning of its id.
    #[arg(value_name = "CALL")]
    pub(crate) call: String,
    /// Which effect [default: the call's only one in doubt].
    #[arg(long, value_name = "NUMBER")]
    pub(crate) effect: Option<u32>,
    /// It happened.
    #[arg(long)]
    pub(crate) done: bool,
    /// It did not happen.
    #[arg(long)]
    pub(crate) not_done: bool,
    /// Send it again under its idempotency key, and go on with its call.
    #[arg(long)]
    pub(crate) retry: bool,
    /// How you know, for those who read the ledger.
    #[arg(long, value_name = "TEXT", conflicts_with = "retry")]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Approvals {
    /// List what waits, the oldest first.
    List {
        /// At most this many.
        #[arg(long, default_value_t = 20)]
        limit: u32,
        /// Only holds after this ledger index: to list on.
        #[arg(long, value_name = "INDEX")]
        after: Option<u64>,
    },
    /// Print one hold: who asks for what, what would be sent, who has said what, who is missing.
    Show {
        /// The hold or its call, or a beginning of either.
        hold: String,
    },
    /// Say yes with your own key. With the last yes that is needed the call goes on.
    #[command(after_help = exits::OF_A_YES)]
    Approve(Approve),
    /// Say no with your own key. The tool is told, and may go on without it.
    #[command(after_help = exits::OF_A_NO)]
    Reject(Cast),
    /// Change fields of a held effect with your own key. What comes of it waits anew, and your own yes to it does not count.
    ///
    /// Fields are scalars of the request's body, by paths like `amount` and `metadata.order`. Everything about the outcome is decided
    /// anew, and what the hold waited for it waits for all the same: no vote carries over. What is not permitted changes nothing.
    #[command(after_help = exits::OF_AN_EDIT)]
    Edit(Edit),
    /// BREAK-GLASS: let an effect pass alone, in place of the approvals that are missing, and say why.
    ///
    /// Only for members of the group that `break_glass` in ambit.toml names, and never for one's own request. What no approval
    /// would permit, and what passes a budget, stays refused. The ledger, lists and audits show it as what it is, for ever.
    #[command(after_help = exits::OF_A_YES_ALONE)]
    BreakGlass {
        /// The hold or its call, or a beginning of either.
        hold: String,
        /// The file with your secret key.
        #[arg(long, env = "AMBIT_PERSON_KEY", hide_env_values = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
        key: PathBuf,
        /// Why, for those who read the ledger.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Go on with a call that is decided and has not gone on: after a crash, or when nobody decided in time.
    #[command(after_help = exits::OF_GOING_ON)]
    Resume {
        /// The hold or its call, or a beginning of either.
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        hold: Option<String>,
        #[command(flatten)]
        many: Many,
    },
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("changes").required(true).multiple(true).args(["set", "unset"])))]
pub(crate) struct Edit {
    /// The hold or its call, or a beginning of either.
    pub(crate) hold: String,
    /// Set a field, or an element of a list by its place: to a number, true, false, null, or a text in JSON or as a bare word (may be
    /// repeated).
    #[arg(long, value_name = "FIELD=VALUE")]
    pub(crate) set: Vec<String>,
    /// Leave a field out (may be repeated).
    #[arg(long, value_name = "FIELD")]
    pub(crate) unset: Vec<String>,
    /// The file with your secret key.
    #[arg(long, env = "AMBIT_PERSON_KEY", hide_env_values = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) key: PathBuf,
    /// The group you speak for [default: the only one of yours that is asked].
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<String>,
    /// Why, for those who read the ledger.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

/// A yes.
#[derive(Debug, Args)]
pub(crate) struct Approve {
    /// For how many minutes your yes counts [default: as long as the hold].
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(1..=129_600))]
    pub(crate) minutes: Option<u32>,
    #[command(flatten)]
    pub(crate) cast: Cast,
}

#[derive(Debug, Args)]
pub(crate) struct Cast {
    /// The hold or its call, or a beginning of either.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) hold: Option<String>,
    /// The file with your secret key.
    #[arg(long, env = "AMBIT_PERSON_KEY", hide_env_values = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) key: PathBuf,
    /// The group you speak for [default: the only one of yours that is asked].
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<String>,
    /// The member in whose stead you vote: they gave you their vote (ambit person delegate).
    #[arg(long, value_name = "NAME")]
    pub(crate) in_stead_of: Option<String>,
    /// Why, for those who read the ledger.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) many: Many,
}

/// Everything that waits, or what of it is meant.
#[derive(Debug, Args)]
#[command(next_help_heading = "Many at once")]
pub(crate) struct Many {
    /// Do it to everything there is to do it to; the filters below narrow that. Each is shown first, and goes by itself.
    #[arg(long)]
    pub(crate) all: bool,
    /// Asked for by calls of this tool.
    #[arg(long, requires = "all")]
    pub(crate) tool: Option<String>,
    /// Asked for by this agent.
    #[arg(long, requires = "all")]
    pub(crate) agent: Option<String>,
    /// Through this connection.
    #[arg(long, requires = "all")]
    pub(crate) connection: Option<String>,
    /// Through this route: its name, or CONNECTION/ROUTE.
    #[arg(long, requires = "all")]
    pub(crate) route: Option<String>,
    /// Moving money of this currency.
    #[arg(long, requires = "all")]
    pub(crate) currency: Option<String>,
    /// Moving at most this much of it, in minor units.
    #[arg(long, value_name = "AMOUNT", requires = "currency")]
    pub(crate) max_minor: Option<u64>,
    /// Do not ask.
    #[arg(long, requires = "all")]
    pub(crate) yes: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Make a key and print it, this once.
    Create(KeyCreate),
    /// List the keys that are active: whose they are, for what, and until when.
    List {
        /// Those that are over or revoked too.
        #[arg(long)]
        all: bool,
    },
    /// Make a key in the place of another, for the same agent and the same use, and print it, this once.
    Rotate {
        /// The key's id, a beginning of it, or its name.
        key: String,
        /// For how long the old one is good beside it, such as 1h; not at all, unless said.
        #[arg(long, value_name = "TIME")]
        overlap: Option<String>,
        /// For how long the new one is good; for as long as the old one was made for, unless said.
        #[arg(long, value_name = "TIME")]
        expires_in: Option<String>,
    },
    /// Revoke a key: from now on it is good for nothing, and what waits of its calls does not go on.
    Revoke {
        /// The key's id, a beginning of it, or its name.
        key: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct KeyCreate {
    /// The agent that is known by it; needed where the configuration has several.
    #[arg(long = "as", value_name = "AGENT")]
    pub(crate) agent: Option<String>,
    /// The user that the agent acts for with it.
    #[arg(long = "for", value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Make it for an operator of this name instead: it is good for the operators' part of the HTTP API, and for nothing of agents'.
    #[arg(
        long,
        value_name = "NAME",
        requires = "scopes",
        conflicts_with_all = ["agent", "user", "tools", "functions", "connections", "tier"]
    )]
    pub(crate) operator: Option<String>,
    /// What the operator may do with it (repeat for more).
    #[arg(long = "scope", value_name = "SCOPE", value_enum, requires = "operator")]
    pub(crate) scopes: Vec<OperatorScope>,
    /// Only functions of this tool (repeat for more).
    #[arg(long = "tool", value_name = "TOOL")]
    pub(crate) tools: Vec<String>,
    /// Only this function, such as refunds.create (repeat for more).
    #[arg(long = "function", value_name = "TOOL.FUNCTION")]
    pub(crate) functions: Vec<String>,
    /// Only effects over this connection (repeat for more).
    #[arg(long = "connection", value_name = "CONNECTION")]
    pub(crate) connections: Vec<String>,
    /// Only effects up to this tier.
    #[arg(long, value_enum)]
    pub(crate) tier: Option<Tier>,
    /// For how long it is good, at most 366d.
    #[arg(long, value_name = "TIME", default_value = "90d")]
    pub(crate) expires_in: String,
    /// What it is called in lists.
    #[arg(long)]
    pub(crate) name: Option<String>,
}

/// What an operator may do over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OperatorScope {
    /// Reads entries, calls, what waits, budgets and proofs; none of the values of calls.
    Read,
    /// Reads the values of calls too.
    Values,
    /// Stops and lifts, starts and ends runs, goes on with calls.
    Operate,
    /// Hands in votes that people signed.
    Approve,
}

impl From<OperatorScope> for ambit_core::identity::operator::Scope {
    fn from(scope: OperatorScope) -> Self {
        match scope {
            OperatorScope::Read => Self::Read,
            OperatorScope::Values => Self::Values,
            OperatorScope::Operate => Self::Operate,
            OperatorScope::Approve => Self::Approve,
        }
    }
}

/// How much effects do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tier {
    /// Reads.
    Read,
    /// Reads and drafts.
    Draft,
    /// All.
    Commit,
}

impl From<Tier> for ambit_core::scope::Tier {
    fn from(tier: Tier) -> Self {
        match tier {
            Tier::Read => Self::Read,
            Tier::Draft => Self::Draft,
            Tier::Commit => Self::Commit,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Person {
    /// Make a key pair for a person: the secret half into a file, the public half on standard output.
    Key {
        /// The person's name.
        name: String,
        /// The file for the secret key, which must not be there yet.
        #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        output: PathBuf,
    },
    /// Enrol a person by their public key.
    Enrol {
        /// The public key, or @FILE.
        key: String,
    },
    /// Revoke a person's key: no yes of theirs counts any more.
    Revoke {
        /// The person's name.
        name: String,
    },
    /// Give your vote for a group to another person for a time: signed with your own key.
    ///
    /// It stays one vote: whichever of you casts it, it counts once. It is yours to give, so it cannot be given on; it counts for no
    /// request of yours or of theirs, and no longer than you are in the group.
    Delegate {
        /// Who votes in your stead.
        #[arg(long, value_name = "NAME")]
        to: String,
        /// The group.
        #[arg(long)]
        group: String,
        /// Until when: a time in UTC such as 2026-11-30T18:00Z, or from now on, such as 8h or 14d. At most 90 days.
        #[arg(long, value_name = "TIME")]
        until: String,
        /// The file with your secret key.
        #[arg(long, env = "AMBIT_PERSON_KEY", hide_env_values = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
        key: PathBuf,
    },
    /// Take back a vote that you gave to another: what they said in your stead counts no longer.
    Undelegate {
        /// Who votes in your stead.
        #[arg(long, value_name = "NAME")]
        to: String,
        /// The group.
        #[arg(long)]
        group: String,
        /// The file with your secret key.
        #[arg(long, env = "AMBIT_PERSON_KEY", hide_env_values = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
        key: PathBuf,
    },
    /// List who is enrolled, in which groups, and who votes in whose stead.
    List,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Connections {
    /// List the connections: origin, breakers, pauses that a service asked for, room under rates.
    List,
    /// Print the public half of the key with which this home tells a connection's token service who calls, as JWKS: the service needs it
    /// to verify that.
    Jwks {
        /// The connection's name.
        connection: String,
    },
    /// Close the breakers of a connection and its routes: you know that the service works.
    Reset {
        /// The connection's name.
        connection: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetters {
    /// List what failed for good and waits for a person, the oldest first.
    List {
        /// At most this many.
        #[arg(long, default_value_t = 20)]
        limit: u32,
        /// Only what failed after this ledger index: to list on.
        #[arg(long, value_name = "INDEX")]
        after: Option<u64>,
    },
    /// Print one: who asked, what was sent, what became of it, how long its key is known.
    Show(Letter),
    /// Try it again, through the whole gate and by today's rules, under the same idempotency key.
    #[command(after_help = exits::OF_A_LETTER)]
    Retry {
        #[command(flatten)]
        letter: Letter,
        /// Under another key: the service may do twice what it did once.
        #[arg(long)]
        new_key: bool,
    },
    /// Give it up.
    Drop {
        #[command(flatten)]
        letter: Letter,
        /// Why, for those who read the ledger.
        #[arg(long, value_enum)]
        because: Because,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Webhooks {
    /// List the webhooks: of what each is told, how far it has come, and how much of it nobody took.
    List,
    /// Send a message that says nothing, once. Exits with 1 where it is not taken.
    Test {
        /// The webhook's name.
        webhook: String,
    },
    /// List the messages that were given up, the oldest first.
    Dead,
    /// Have a message that was given up sent again, under its own id, by the host that serves.
    Retry {
        /// The message's id, or a beginning of it.
        #[arg(required_unless_present = "all")]
        message: Option<String>,
        /// All that were given up.
        #[arg(long, conflicts_with = "message")]
        all: bool,
    },
    /// Give a message up.
    Drop {
        /// The message's id, or a beginning of it.
        message: String,
    },
}

/// Names a dead letter.
#[derive(Debug, Args)]
pub(crate) struct Letter {
    /// Its call, or a beginning of the call's id.
    pub(crate) call: String,
    /// Which of the call's effects [default: the only one that failed].
    #[arg(long, value_name = "NUMBER")]
    pub(crate) effect: Option<u32>,
}

/// Why an effect is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Because {
    /// It had happened after all.
    Happened,
    /// Somebody did it in another way.
    DoneByHand,
    /// Nobody needs it any more.
    Unneeded,
    /// It should never have been asked for.
    Wrong,
}

#[derive(Debug, Args)]
pub(crate) struct Kill {
    /// What to stop: everything, tenant:NAME, agent:NAME, tool:NAME, connection:NAME or run:ID, where a beginning of the id will do.
    pub(crate) scope: String,
    /// Why, for those who read the ledger. Callers do not see it.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// Only stop what changes something: drafts and commits.
    #[arg(long)]
    pub(crate) safe_mode: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Unkill {
    /// What was stopped, as `ambit status` prints it.
    pub(crate) scope: String,
    /// Why, for those who read the ledger.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Lift the safe mode, not the kill.
    #[arg(long)]
    pub(crate) safe_mode: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// Calls and runs, or beginnings of their ids; every call that ran, where none is named. Of a run, each of its calls in order.
    #[arg(value_name = "CALL|RUN")]
    pub(crate) which: Vec<String>,
    /// Write down on the ledger what diverged, and from what.
    #[arg(long)]
    pub(crate) record: bool,
    /// Write the call as a bundle to this file, which must not be there yet, instead of replaying it. Its values are plain text.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "which", conflicts_with = "record")]
    pub(crate) bundle: Option<PathBuf>,
    /// Replay the bundle in this file; no home is needed. Where there is one, its ledger says that a bundle was refused.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "key", conflicts_with_all = ["which", "bundle", "record"])]
    pub(crate) from: Option<PathBuf>,
    /// The public key of the ledger that the bundle is from.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "from")]
    pub(crate) key: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct WhatIf {
    #[command(flatten)]
    pub(crate) other: Other,
    #[command(flatten)]
    pub(crate) calls: Recorded,
    /// Exit with 0 also where there is nothing to decide or run again, as in a home that has no calls yet.
    #[arg(long)]
    pub(crate) allow_none: bool,
}

/// What would be another one: exactly one of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Other {
    /// Decide under the *.cedar files of this folder, in place of the home's.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) policy: Option<PathBuf>,
    /// Run the tool's calls in this component, answered from what was recorded; the name may be left out where it is clear.
    #[arg(long, value_name = "[NAME=]FILE", value_hint = ValueHint::FilePath)]
    pub(crate) tool: Option<String>,
}

/// Which recorded calls.
#[derive(Debug, Args)]
pub(crate) struct Recorded {
    /// Only calls that began then or later: 2026-11-21, 2026-11-21T08:30Z, or so long ago: 90m, 24h, 7d.
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub(crate) since: Option<Since>,
    /// Only this call, by its id or a beginning of it (may be repeated).
    #[arg(long, value_name = "CALL", conflicts_with = "since")]
    pub(crate) call: Vec<String>,
}

/// A time as people give it, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Since {
    /// Since 1970.
    At(i64),
    /// Before now.
    Ago(i64),
}

/// Reads a time: a date, perhaps with a time of day in UTC, or how long ago it was.
fn since(text: &str) -> Result<Since, String> {
    if let Some(at) = ambit_core::ledger::parse_utc(text) {
        return Ok(Since::At(at));
    }
    let unit = |unit: char| match unit {
        's' => Some(1_000),
        'm' => Some(60_000),
        'h' => Some(3_600_000),
        'd' => Some(86_400_000),
        _ => None,
    };
    let ago = text.chars().last().and_then(unit).and_then(|unit: i64| {
        let number = text.get(..text.len() - 1)?;
        let plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        number.parse::<i64>().ok().filter(|_| plain)?.checked_mul(unit)
    });
    ago.map(Since::Ago)
        .ok_or_else(|| "a day such as 2026-11-21, with a time of day in UTC such as 2026-11-21T08:30Z, or how long ago: 90m, 24h, 7d".to_owned())
}

#[derive(Debug, Subcommand)]
pub(crate) enum Tools {
    /// Add a component under a name and pin its digest.
    Add {
        /// The tool's name in this home: letters, digits, `-` and `_`.
        name: String,
        /// The component file.
        #[arg(value_hint = ValueHint::FilePath)]
        component: PathBuf,
    },
    /// List the tools, their pins and their bindings.
    List,
    /// Accept a changed component for a tool: shows what changes in what it declares.
    Accept {
        /// The tool's name.
        name: String,
        /// The new component file.
        #[arg(value_hint = ValueHint::FilePath)]
        component: PathBuf,
        /// Accept also where the new component declares more than the old.
        #[arg(long)]
        wider: bool,
    },
    /// Remove a tool. Its calls stay on the ledger.
    Remove {
        /// The tool's name.
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Check configuration and policy as a start would, and print the rules.
    Check,
    /// Write a proposal from what the accepted tools declare: a file to read and cut down, not in force.
    Init {
        /// Replace a proposal that is there already.
        #[arg(long)]
        force: bool,
    },
    /// Propose the least policy that would have permitted what recorded calls asked for.
    ///
    /// What was denied, held or stopped by a dry run counts as asked for. Rules are by team, tool and function or route, with the most money
    /// asked for and no other value. The proposal is in force nowhere: it is printed, or written to a file of your choice.
    #[command(group = clap::ArgGroup::new("which").required(true).multiple(true))]
    Learn {
        /// A call or a run, `c_…` or `r_…`, or a beginning of its id (may be repeated).
        #[arg(long, value_name = "CALL|RUN", num_args = 1.., group = "which")]
        from: Vec<String>,
        /// All calls that began then or later: 2026-11-21, 2026-11-21T08:30Z, or so long ago: 90m, 24h, 7d.
        #[arg(long, value_name = "TIME", value_parser = since, group = "which")]
        since: Option<Since>,
        /// All calls of this run: its id, or a beginning of it.
        #[arg(long, value_name = "RUN", group = "which")]
        run: Option<String>,
        /// Write the proposal to this file, which must not be there yet, instead of standard output.
        #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        output: Option<PathBuf>,
    },
    /// Print the Cedar schema that policies are validated with.
    Schema,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Explain one call: who, what was asked, which rule decided, what left, what came back, what it cost.
    Show {
        /// The call, or a beginning of its id.
        call: String,
        /// Also print the recorded payloads (arguments, requests, answers).
        #[arg(long)]
        payloads: bool,
    },
    /// List calls, newest first.
    List {
        /// At most this many.
        #[arg(long, default_value_t = 20)]
        limit: u32,
        /// Only calls of this tool.
        #[arg(long)]
        tool: Option<String>,
        /// Only calls of this agent.
        #[arg(long)]
        agent: Option<String>,
        /// Only calls of this run: its id, or a beginning of it.
        #[arg(long)]
        run: Option<String>,
        /// Only calls that were refused or stopped.
        #[arg(long)]
        refused: bool,
    },
    /// Look for entries, newest first, by who, what, where, when, what was decided, and a text in them or in recorded values.
    Search(Box<Search>),
    /// Check every entry, the tree, the checkpoints and the keys; name the first bad entry.
    Verify {
        /// Verify an exported ledger instead of the home's.
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, requires = "key")]
        export: Option<PathBuf>,
        /// The ledger's public key, for an export [default: the home's].
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        key: Option<PathBuf>,
    },
    /// Print the receipt of a call with a proof against the newest checkpoint.
    Prove {
        /// The call, or a beginning of its id.
        call: String,
        /// Write it to this file instead of standard output.
        #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        output: Option<PathBuf>,
    },
    /// Write checkpoint, tiles and entries (C2SP tlog-tiles) to a folder, to be verified anywhere. For a SIEM: `ambit export`.
    Export {
        /// The folder, made if missing.
        #[arg(value_hint = ValueHint::DirPath)]
        output: PathBuf,
    },
}

/// What entries have to be, all of it: names whole and by letter.
#[derive(Debug, Args)]
pub(crate) struct Search {
    /// In the entry's own text; with --values also in the arguments, requests, answers, results and logs of calls.
    pub(crate) text: Option<String>,
    /// Look for the text in the values of calls too. Needs the home's keys.
    #[arg(long, requires = "text")]
    pub(crate) values: bool,
    /// Of this trace: 32 hexadecimal digits.
    #[arg(long)]
    pub(crate) trace: Option<String>,
    /// Of this call: its id, or a beginning of it.
    #[arg(long)]
    pub(crate) call: Option<String>,
    /// Asked for by this agent.
    #[arg(long)]
    pub(crate) agent: Option<String>,
    /// For this user.
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// By an agent of this team.
    #[arg(long)]
    pub(crate) team: Option<String>,
    /// By an agent of this tenant.
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    /// About this tool.
    #[arg(long)]
    pub(crate) tool: Option<String>,
    /// About this function, by its whole id.
    #[arg(long)]
    pub(crate) function: Option<String>,
    /// About this connection.
    #[arg(long)]
    pub(crate) connection: Option<String>,
    /// About this route.
    #[arg(long)]
    pub(crate) route: Option<String>,
    /// Of this run: its id, or a beginning of it.
    #[arg(long)]
    pub(crate) run: Option<String>,
    /// That decided so.
    #[arg(long, value_parser = ["permitted", "denied", "held"])]
    pub(crate) decision: Option<String>,
    /// Decided by this policy.
    #[arg(long)]
    pub(crate) rule: Option<String>,
    /// Refused by this kind of rule, such as policy or budget.
    #[arg(long)]
    pub(crate) code: Option<String>,
    /// Of this kind, such as effect-intent.
    #[arg(long)]
    pub(crate) kind: Option<String>,
    /// Written then or later: 2026-11-21, 2026-11-21T08:30Z, or so long ago: 90m, 24h, 7d.
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub(crate) since: Option<Since>,
    /// Written before then.
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub(crate) until: Option<Since>,
    /// Only entries before this index: look on where the last search ended.
    #[arg(long, value_name = "INDEX")]
    pub(crate) before: Option<u64>,
    /// At most this many, 200 at most.
    #[arg(long, default_value_t = 20)]
    pub(crate) limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Metrics {
    /// Count only what was written then or later: 2026-11-21, 2026-11-21T08:30Z, or so long ago: 90m, 24h, 7d.
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub(crate) since: Option<Since>,
    /// In the OpenMetrics format, not in Prometheus' own.
    #[arg(long)]
    pub(crate) openmetrics: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    #[command(flatten)]
    pub(crate) form: ExportForm,
    /// Only entries written then or later: 2026-11-21, 2026-11-21T08:30Z, or so long ago: 90m, 24h, 7d.
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub(crate) since: Option<Since>,
    /// Only entries written before then.
    #[arg(long, value_name = "TIME", value_parser = since, conflicts_with = "follow")]
    pub(crate) until: Option<Since>,
    /// Only entries after this one, by its index: the last that was exported.
    #[arg(long, value_name = "INDEX")]
    pub(crate) after: Option<u64>,
    /// Go on as entries are written, until interrupted.
    #[arg(long)]
    pub(crate) follow: bool,
    /// With the values that entries commit to: arguments, requests, answers, results, logs, in plain text. Needs the home's keys.
    #[arg(long, conflicts_with_all = ["ocsf", "otlp"])]
    pub(crate) values: bool,
}

/// What a line is: exactly one of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct ExportForm {
    /// The entry as it is, with time, caller, tool, decision, rules and money beside it.
    #[arg(long)]
    pub(crate) jsonl: bool,
    /// An OCSF 1.8 event: API Activity, class 6003.
    #[arg(long)]
    pub(crate) ocsf: bool,
    /// An OTLP request with the entry as a log record, in JSON, as collectors of OpenTelemetry read files.
    #[arg(long)]
    pub(crate) otlp: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// The call's id, or a beginning that only one has.
    pub(crate) call: String,
    /// Only say what would be undone, and how.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Write back what there was before also over what somebody else changed since: else that is refused.
    #[arg(long)]
    pub(crate) over_changes: bool,
    /// Leave this effect as it is, as it was undone by hand or never can be: what was done before it is undone all the same (may be repeated).
    #[arg(long, value_name = "EFFECT")]
    pub(crate) skip: Vec<u32>,
    /// Do not ask.
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Erase {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Only say what would go.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask.
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) yes: bool,
}

/// Whose values go: exactly one of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Which {
    /// Of calls that ended longer ago than this, in days: 90d.
    #[arg(long, value_name = "AGE", value_parser = ambit_runtime::config::days)]
    pub(crate) older_than: Option<u32>,
    /// Of all calls for this user.
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Of all calls by this agent.
    #[arg(long, value_name = "NAME")]
    pub(crate) agent: Option<String>,
    /// Of calls older than `[retention]` in ambit.toml says.
    #[arg(long)]
    pub(crate) by_configuration: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Receipt {
    /// Verify a receipt with the ledger's public key alone.
    Verify {
        /// The receipt file, or - for standard input.
        receipt: PathBuf,
        /// The ledger's public key file.
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        key: PathBuf,
    },
}
