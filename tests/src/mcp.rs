//! A small client of the Model Context Protocol, over the standard input and output of `ambit serve --stdio`: it writes what it is told
//! to, well-formed or not, and holds every line that comes back to be a message.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::home::Home;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// `ambit serve --stdio`, and this end of its pipes.
pub struct Server {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    err: Option<JoinHandle<String>>,
    asked: i64,
    /// Sent with every request, as `_meta`.
    meta: Option<Value>,
    /// Messages that came and that nobody asked for, or not yet: notifications, and answers to other requests.
    pub told: Vec<Value>,
}

/// What was left of a server that ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// Standard error.
    pub err: String,
    /// The messages that nobody had read.
    pub rest: Vec<Value>,
    /// How long it took, from the moment that its input was closed.
    pub took: Duration,
}

impl Server {
    /// Starts a server on a home, and says nothing yet.
    ///
    /// # Errors
    /// It could not be started.
    pub fn start(home: &Home, arguments: &[&str]) -> io::Result<Self> {
        let mut child = home.start(["serve", "--stdio"].iter().chain(arguments))?;
        let (input, output) = (child.stdin.take(), child.stdout.take().expect("a pipe"));
        let mut errors = child.stderr.take().expect("a pipe");
        let (says, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                if says.send(line.expect("a line of UTF-8")).is_err() {
                    break;
                }
            }
        });
        let err = thread::spawn(move || {
            let mut text = String::new();
            errors.read_to_string(&mut text).expect("standard error");
            text
        });
        Ok(Self {
            child,
            input,
            lines,
            err: Some(err),
            asked: 0,
            meta: None,
            told: Vec::new(),
        })
    }

    /// Starts a server and opens a session of this version.
    ///
    /// # Errors
    /// It could not be started.
    pub fn session(home: &Home, arguments: &[&str], version: &str) -> io::Result<Self> {
        let mut server = Self::start(home, arguments)?;
        let result = server.initialize(version);
        assert_eq!(result["result"]["protocolVersion"], version, "{result}");
        server.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        Ok(server)
    }

    /// Starts a server without a session: each request says its version itself.
    ///
    /// # Errors
    /// It could not be started.
    pub fn stateless(home: &Home, arguments: &[&str], version: &str) -> io::Result<Self> {
        let mut server = Self::start(home, arguments)?;
        server.meta = Some(json!({
            "io.modelcontextprotocol/protocolVersion": version,
            "io.modelcontextprotocol/clientInfo": { "name": "tests", "version": "1" },
            "io.modelcontextprotocol/clientCapabilities": {},
        }));
        Ok(server)
    }

    /// Says with every request from here on that this client takes these, where it says such things with requests.
    pub fn takes(&mut self, capabilities: Value) {
        if let Some(meta) = &mut self.meta {
            meta["io.modelcontextprotocol/clientCapabilities"] = capabilities;
        }
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks for a session.
    pub fn initialize(&mut self, version: &str) -> Value {
        let params = json!({
            "protocolVersion": version, "capabilities": {}, "clientInfo": { "name": "tests", "version": "1" },
        });
        self.request("initialize", params)
    }

    /// Writes bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) {
        let input = self.input.as_mut().expect("its input is open");
        input.write_all(bytes).and_then(|()| input.flush()).expect("it reads");
    }

    /// Sends a message.
    pub fn send(&mut self, message: &Value) {
        self.write(format!("{message}\n").as_bytes());
    }

    /// Sends a request and returns its id.
    pub fn begin(&mut self, method: &str, mut params: Value) -> i64 {
        self.asked += 1;
        if let Some(meta) = &self.meta {
            let mut meta = meta.clone();
            if let (Some(meta), Some(own)) = (meta.as_object_mut(), params["_meta"].as_object()) {
                meta.extend(own.clone());
            }
            params["_meta"] = meta;
        }
        let id = self.asked;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        id
    }

    /// The next message, within `time`.
    pub fn next_within(&mut self, time: Duration) -> Option<Value> {
        match self.lines.recv_timeout(time) {
            Ok(line) => Some(message(&line)),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                let code = self.child.wait().expect("a child");
                let err = self.err.take().map(|err| err.join().expect("standard error"));
                panic!("the server ended with {code}: {}", err.unwrap_or_default());
            }
        }
    }

    /// The next message.
    pub fn next_message(&mut self) -> Value {
        self.next_within(PATIENCE).expect("a message")
    }

    /// The answer to a request. What comes before it is kept in [`told`](Self::told).
    pub fn answer(&mut self, id: i64) -> Value {
        if let Some(known) = self.told.iter().position(|told| told["id"] == id) {
            return self.told.remove(known);
        }
        loop {
            let message = self.next_message();
            if message["id"] == id {
                return message;
            }
            self.told.push(message);
        }
    }

    /// Sends a request and waits for its answer.
    pub fn request(&mut self, method: &str, params: Value) -> Value {
        let id = self.begin(method, params);
        self.answer(id)
    }

    /// The result of a request that has one.
    pub fn result(&mut self, method: &str, params: Value) -> Value {
        let answer = self.request(method, params);
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// Calls a tool, and returns the result.
    pub fn call(&mut self, tool: &str, arguments: Value) -> Value {
        self.result("tools/call", json!({ "name": tool, "arguments": arguments }))
    }

    /// The tools that are listed, by their names.
    pub fn tools(&mut self) -> Vec<Value> {
        let listed = self.result("tools/list", json!({}));
        listed["tools"].as_array().expect("a list of tools").clone()
    }

    /// Takes a request back.
    pub fn cancel(&mut self, id: i64) {
        let params = json!({ "requestId": id, "reason": "not needed any more" });
        self.send(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params }));
    }

    /// Closes its input and waits for its end.
    pub fn close(mut self) -> Ended {
        let closed = Instant::now();
        drop(self.input.take());
        let mut rest = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            rest.push(message(&line));
        }
        let code = self.child.wait().expect("a child").code();
        let took = closed.elapsed();
        let err = self.err.take().map(|err| err.join().expect("standard error"));
        Ended {
            code,
            err: err.unwrap_or_default(),
            rest,
            took,
        }
    }

    /// Ends it as a machine does that loses power.
    pub fn kill(mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("a child");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A test that failed leaves it running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whatever comes is a message of the protocol, and nothing else ever does.
fn message(line: &str) -> Value {
    let message: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("no message, {error}: {line}"));
    assert_eq!(message["jsonrpc"], "2.0", "{line}");
    message
}
