//! A home of Ambit's and the `ambit` command on it, used as a person would.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ambit_runtime::operators::{self, Request};
use serde_json::Value;

use crate::programs::{component, program};
use crate::raw;

/// A folder with keys, configuration, policy, tools and ledger, made by `ambit init`.
#[derive(Clone, Debug)]
pub struct Home {
    folder: PathBuf,
    environment: BTreeMap<String, String>,
}

/// What one run of the command left.
#[derive(Clone, Debug)]
pub struct Run {
    /// Exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Run {
    /// Both streams, for messages of tests; without the receipt, which is long and says it all again.
    pub fn text(&self) -> String {
        let out = match self.json() {
            Some(Value::Object(mut document)) => {
                document.remove("receipt");
                format!("{:#}\n", Value::Object(document))
            }
            _ => self.out.clone(),
        };
        format!("exit {:?}\n{out}{}", self.code, self.err)
    }

    /// Standard output as the JSON document that `--format json` makes of it.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_str(&self.out).ok()
    }
}

/// How long a process may take to open a home.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A process that holds a home, until dropped.
#[derive(Debug)]
pub struct Serving(Child);

impl Serving {
    /// The process.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Serving {
    /// Its agent is gone, so it ends.
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // One that does not end is seen by the next that wants the home.
        let _ = self.0.wait();
    }
}

impl Home {
    /// Makes a home in a folder that is not there yet.
    ///
    /// # Errors
    /// `ambit init` could not be started or failed.
    pub fn make(folder: &Path) -> io::Result<Self> {
        let home = Self {
            folder: folder.to_path_buf(),
            environment: BTreeMap::new(),
        };
        home.done(["init"]).map(|_| home)
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The same commands on another folder: a copy, or none at all.
    #[must_use]
    pub fn moved(&self, folder: &Path) -> Self {
        Self {
            folder: folder.to_path_buf(),
            environment: self.environment.clone(),
        }
    }

    /// Sets a variable for every later command. Nothing of this process's environment reaches a command but `PATH`.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.environment.insert(name.to_owned(), value.into());
    }

    /// Replaces `ambit.toml`.
    ///
    /// # Errors
    /// It can't be written.
    pub fn configure(&self, text: &str) -> io::Result<()> {
        fs::write(self.folder.join("ambit.toml"), text)
    }

    /// Writes `policy/main.cedar`, in force beside the shipped policy.
    ///
    /// # Errors
    /// It can't be written.
    pub fn permit(&self, text: &str) -> io::Result<()> {
        fs::write(self.folder.join("policy/main.cedar"), text)
    }

    /// Accepts a component under a name: a built one, or one of [`raw`].
    ///
    /// # Errors
    /// `ambit tools add` failed.
    pub fn add(&self, name: &str, component_name: &str) -> io::Result<Run> {
        let run = self.try_add(name, component_name)?;
        if run.code == Some(0) {
            return Ok(run);
        }
        Err(io::Error::other(format!("ambit tools add {name}: {}", run.text())))
    }

    /// Asks for a component to be accepted, whatever comes of it.
    ///
    /// # Errors
    /// The component can't be assembled, or the command could not be started.
    pub fn try_add(&self, name: &str, component_name: &str) -> io::Result<Run> {
        let assembled = self.folder.with_extension("wasm");
        let path = if raw::assemble(component_name, &assembled)? {
            assembled
        } else {
            component(component_name)
        };
        let arguments = ["tools".as_ref(), "add".as_ref(), name.as_ref(), path.as_os_str()];
        self.run(arguments as [&OsStr; 4], "")
    }

    /// Runs the command with these arguments, and `stdin` on its standard input.
    ///
    /// # Errors
    /// It could not be started.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>, stdin: &str) -> io::Result<Run> {
        let mut child = self.start(arguments)?;
        if let Some(mut pipe) = child.stdin.take() {
            // A command that does not read its input has closed it.
            let _ = pipe.write_all(stdin.as_bytes());
        }
        let output = child.wait_with_output()?;
        Ok(Run {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Starts the command with these arguments, its three streams piped, and does not wait for it.
    ///
    /// # Errors
    /// It could not be started.
    pub fn start<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> io::Result<Child> {
        let mut command = Command::new(program("ambit"));
        command
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .envs(&self.environment);
        command.arg("--home").arg(&self.folder).args(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    }

    /// Runs the command and takes anything but exit code 0 for an error.
    ///
    /// # Errors
    /// It could not be started, or failed: the error has what it printed.
    pub fn done<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> io::Result<Run> {
        let arguments: Vec<S> = arguments.into_iter().collect();
        let shown: Vec<String> = arguments
            .iter()
            .map(|argument| argument.as_ref().to_string_lossy().into_owned())
            .collect();
        let run = self.run(arguments, "")?;
        if run.code == Some(0) {
            return Ok(run);
        }
        Err(io::Error::other(format!("ambit {}: {}", shown.join(" "), run.text())))
    }

    /// Calls a function with JSON arguments and `--format json`, for an agent and, perhaps, a user and in a run.
    ///
    /// # Errors
    /// It could not be started.
    pub fn call(
        &self,
        tool: &str,
        function: &str,
        args: &str,
        agent: Option<&str>,
        user: Option<&str>,
        run: Option<&str>,
    ) -> io::Result<Run> {
        let mut arguments = vec!["--format", "json", "call", tool, function, "--args", "-"];
        arguments.extend(agent.iter().flat_map(|agent| ["--as", agent]));
        arguments.extend(user.iter().flat_map(|user| ["--for", user]));
        arguments.extend(run.iter().flat_map(|run| ["--run", run]));
        self.run(arguments, args)
    }

    /// Starts a process that holds the home, as one does that serves an agent over its input and output, and waits until operators are heard.
    ///
    /// # Errors
    /// It could not be started, or does not come to serve.
    pub fn serve(&self, agent: &str) -> io::Result<Serving> {
        let mut command = Command::new(program("ambit"));
        command
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .envs(&self.environment)
            .arg("--home")
            .arg(&self.folder)
            .args(["serve", "--stdio", "--as", agent]);
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut serving = Serving(child);
        let began = Instant::now();
        loop {
            match operators::ask(&self.folder, &Request::Status) {
                Ok(Some(_)) => return Ok(serving),
                _ if serving.0.try_wait()?.is_some() => return Err(io::Error::other("ambit serve ended")),
                _ if began.elapsed() > START_LIMIT => return Err(io::Error::other("ambit serve does not serve")),
                _ => thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Every file of the home that contains one of these texts.
    ///
    /// # Errors
    /// A file can't be read.
    pub fn files_with(&self, texts: &[String]) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let mut open = vec![self.folder.clone()];
        while let Some(path) = open.pop() {
            if path.is_dir() {
                let entries: io::Result<Vec<_>> = fs::read_dir(&path)?
                    .map(|entry| entry.map(|entry| entry.path()))
                    .collect();
                open.extend(entries?);
            } else if contains_any(&fs::read(&path)?, texts) {
                found.push(path);
            }
        }
        Ok(found)
    }
}

fn contains_any(bytes: &[u8], texts: &[String]) -> bool {
    texts
        .iter()
        .any(|text| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
}
