//! Clients of the Model Context Protocol that do nothing but ask, for load and for figures: bytes that are written as they are and answers
//! that are looked at as little as can be, so that what is measured is the server.

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{self, Child, ChildStdin, ChildStdout, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The version that clients speak here.
const VERSION: &str = "2025-11-25";

/// A request's text: of this id, for a tool with these arguments.
pub fn call(id: usize, tool: &str, arguments: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}"#
    )
}

/// Whether an answer says that the call went well.
fn went_well(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    text.contains("\"result\"") && !text.contains("\"isError\":true")
}

fn failed(text: &[u8]) -> io::Error {
    io::Error::other(format!("it went wrong: {}", String::from_utf8_lossy(text)))
}

/// A connection to a server over HTTP, kept for one request after another.
pub struct Http<S = TcpStream> {
    stream: BufReader<S>,
    head: String,
    asked: usize,
}

/// A client's side of TLS.
pub type Tls = StreamOwned<ClientConnection, TcpStream>;

impl Http {
    /// Connects to a server, for a caller with this key; an empty one is shown to nobody.
    ///
    /// # Errors
    /// Where nobody listens.
    pub fn connect(address: &str, key: &str) -> io::Result<Http> {
        Ok(Http::over(connected(address)?, address, key))
    }
}

impl Http<Tls> {
    /// The same over TLS, to a server whose certificate is `localhost`'s. The handshake is done by the first call.
    ///
    /// # Errors
    /// Where nobody listens.
    pub fn connect_tls(address: &str, key: &str, client: &Arc<ClientConfig>) -> io::Result<Http<Tls>> {
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let session = ClientConnection::new(Arc::clone(client), name).map_err(io::Error::other)?;
        let stream = StreamOwned::new(session, connected(address)?);
        Ok(Http::over(stream, address, key))
    }
}

fn connected(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

impl<S: Read + Write> Http<S> {
    fn over(stream: S, address: &str, key: &str) -> Http<S> {
        let shows = match key {
            "" => String::new(),
            key => format!("Authorization: Bearer {key}\r\n"),
        };
        let head = format!(
            "POST /mcp HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: {VERSION}\r\n{shows}"
        );
        Http {
            stream: BufReader::new(stream),
            head,
            asked: 0,
        }
    }

    /// Calls a tool, and says how long it took.
    ///
    /// # Errors
    /// Where the answer is none, or not that it went well.
    pub fn call(&mut self, tool: &str, arguments: &str) -> io::Result<Duration> {
        self.asked += 1;
        let body = call(self.asked, tool, arguments);
        let request = format!("{}Content-Length: {}\r\n\r\n{body}", self.head, body.len());
        let began = Instant::now();
        self.stream.get_mut().write_all(request.as_bytes())?;
        let answer = self.answer()?;
        let took = began.elapsed();
        match went_well(&answer) {
            true => Ok(took),
            false => Err(failed(&answer)),
        }
    }

    /// The body of the next answer, which says how long it is.
    fn answer(&mut self) -> io::Result<Vec<u8>> {
        let (mut head, mut length) = (String::new(), None);
        loop {
            let begin = head.len();
            if self.stream.read_line(&mut head)? == 0 {
                return Err(io::Error::other(format!("it closed the connection: {head}")));
            }
            let line = head[begin..].trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(said) = line.strip_prefix("content-length:") {
                length = said.trim().parse::<usize>().ok();
            }
        }
        let length = length.ok_or_else(|| io::Error::other(format!("an answer without a length: {head}")))?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        if !head.starts_with("HTTP/1.1 200") {
            return Err(failed(format!("{head}{}", String::from_utf8_lossy(&body)).as_bytes()));
        }
        Ok(body)
    }
}

/// A server that is spoken to over its standard input and output.
pub struct Stdio {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    asked: usize,
}

impl Stdio {
    /// Starts it and opens a session.
    ///
    /// # Errors
    /// It could not be started, or opens none.
    pub fn start(mut command: Command) -> io::Result<Stdio> {
        let mut child = command
            .stdin(process::Stdio::piped())
            .stdout(process::Stdio::piped())
            .stderr(process::Stdio::null())
            .spawn()?;
        let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut server = Stdio {
            input: child.stdin.take(),
            child,
            output: BufReader::new(output),
            asked: 0,
        };
        let opens = format!(
            r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{VERSION}","capabilities":{{}},"clientInfo":{{"name":"load","version":"1"}}}}}}"#
        );
        server.write(&opens)?;
        server.line()?;
        server.write(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)?;
        Ok(server)
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a request without parameters, and returns its answer.
    ///
    /// # Errors
    /// Where there is none.
    pub fn ask(&mut self, method: &str) -> io::Result<String> {
        self.asked += 1;
        let id = self.asked;
        self.write(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}"}}"#))?;
        self.line()
    }

    /// Calls a tool so many times, with so many calls under way at a time, and says how long each took.
    ///
    /// # Errors
    /// Where an answer is none, or not that it went well.
    pub fn calls(&mut self, tool: &str, arguments: &str, times: usize, at_once: usize) -> io::Result<Vec<Duration>> {
        let mut begun: HashMap<usize, Instant> = HashMap::new();
        let mut took = Vec::with_capacity(times);
        let mut left = times;
        while took.len() < times {
            while left > 0 && begun.len() < at_once {
                self.asked += 1;
                left -= 1;
                let text = call(self.asked, tool, arguments);
                begun.insert(self.asked, Instant::now());
                self.write(&text)?;
            }
            let line = self.line()?;
            let began = id_of(&line).and_then(|id| begun.remove(&id));
            let began = began.filter(|_| went_well(line.as_bytes()));
            took.push(began.ok_or_else(|| failed(line.as_bytes()))?.elapsed());
        }
        Ok(took)
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        let input = self.input.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        input.write_all(format!("{text}\n").as_bytes())
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.output.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line),
        }
    }
}

impl Drop for Stdio {
    /// Its agent is gone, so it ends.
    fn drop(&mut self) {
        drop(self.input.take());
        drop(self.child.wait());
    }
}

/// The id of an answer, wherever in it that stands.
fn id_of(line: &str) -> Option<usize> {
    let (_, rest) = line.split_once("\"id\":")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// What many clients at a time came to.
#[derive(Debug)]
pub struct Load {
    /// How long each call took, in order of time.
    pub took: Vec<Duration>,
    /// How long all of it did.
    pub all: Duration,
}

impl Load {
    /// Calls in a second.
    pub fn per_second(&self) -> f64 {
        self.took.len() as f64 / self.all.as_secs_f64()
    }

    /// The time that so many of a hundred calls did not pass.
    pub fn quantile(&self, percent: usize) -> Duration {
        let at = (self.took.len() * percent / 100).min(self.took.len().saturating_sub(1));
        self.took.get(at).copied().unwrap_or_default()
    }
}

/// Calls a tool so many times over so many connections, each asking again as soon as it has its answer.
///
/// # Errors
/// Where any call is not answered, or did not go well.
pub fn over_http(
    address: &str,
    key: &str,
    (tool, arguments): (&str, &str),
    times: usize,
    connections: usize,
) -> io::Result<Load> {
    let clients: Vec<Http> = (0..connections)
        .map(|_| Http::connect(address, key))
        .collect::<io::Result<_>>()?;
    let asked = AtomicUsize::new(0);
    let began = Instant::now();
    let took = thread::scope(|scope| {
        let ask = |mut client: Http| {
            let mut took = Vec::new();
            while asked.fetch_add(1, Ordering::Relaxed) < times {
                took.push(client.call(tool, arguments)?);
            }
            Ok(took)
        };
        let asking: Vec<_> = clients
            .into_iter()
            .map(|client| {
                // They wait and little else: hundreds of stacks need not be large.
                let thread = thread::Builder::new().stack_size(256 << 10);
                thread.spawn_scoped(scope, move || ask(client))
            })
            .collect::<io::Result<_>>()?;
        let took = asking.into_iter().map(|asking| match asking.join() {
            Ok(took) => took,
            Err(_) => Err(io::Error::other("a client panicked")),
        });
        took.collect::<io::Result<Vec<Vec<Duration>>>>()
    })?;
    let all = began.elapsed();
    let mut took = took.concat();
    took.sort_unstable();
    Ok(Load { took, all })
}

/// What a process has resident, in KiB.
///
/// # Errors
/// Where it is gone, or the system does not say.
pub fn resident(process: u32) -> io::Result<f64> {
    let number = |text: &str| text.split_whitespace().next()?.parse::<f64>().ok();
    let found = if cfg!(target_os = "linux") {
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(number)
    } else {
        let output = Command::new("ps")
            .args(["-o", "rss=", "-p", &process.to_string()])
            .output()?;
        number(&String::from_utf8_lossy(&output.stdout))
    };
    found.ok_or_else(|| io::Error::other("the system does not say what a process has resident"))
}

/// A server over HTTP: a process, and where it listens.
pub struct Listening {
    child: Child,
    address: String,
}

impl Listening {
    /// Starts a server that says where it listens in one of the first lines of what it writes, and waits for that.
    ///
    /// # Errors
    /// It could not be started, or ended before it said so.
    pub fn start(mut command: Command) -> io::Result<Listening> {
        let mut child = command
            .stdin(process::Stdio::null())
            .stdout(process::Stdio::piped())
            .stderr(process::Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().map(|out| Box::new(out) as Box<dyn Read + Send>);
        let err = child.stderr.take().map(|err| Box::new(err) as Box<dyn Read + Send>);
        let (says, hears) = std::sync::mpsc::channel();
        for stream in [out, err].into_iter().flatten() {
            let says = says.clone();
            // To its end: who writes to nobody ends.
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    drop(says.send(address_in(&line)));
                }
            });
        }
        drop(says);
        loop {
            match hears.recv_timeout(PATIENCE) {
                Ok(Some(address)) => return Ok(Listening { child, address }),
                Ok(None) => {}
                Err(_) => {
                    drop(child.kill());
                    let code = child.wait()?;
                    return Err(io::Error::other(format!("it ended with {code} and served nothing")));
                }
            }
        }
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// An address of this machine in a line.
fn address_in(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("127.0.0.1:")?;
    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
    (!port.is_empty()).then(|| format!("127.0.0.1:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_in_what_a_server_says() {
        let found = |line: &str| address_in(line);
        assert_eq!(
            found("serving agents at http://127.0.0.1:8787/mcp").as_deref(),
            Some("127.0.0.1:8787")
        );
        assert_eq!(found("127.0.0.1:1").as_deref(), Some("127.0.0.1:1"));
        assert_eq!(found("opening the home"), None);
    }

    #[test]
    fn an_answer_is_known_by_its_id() {
        assert_eq!(id_of(r#"{"jsonrpc":"2.0","id":17,"result":{}}"#), Some(17));
        assert_eq!(id_of("{}"), None);
    }
}
