//! Values that must never be seen: credentials, and whatever else comes from where credentials are kept.
//!
//! A [`Secret`] has no `Display`, no `Serialize` and a `Debug` that says nothing, and its bytes are wiped when it is dropped. Only the
//! gate calls `Secret::expose`, once, when it puts a credential on a request. A [`Source`] says where a secret is read from and may be
//! printed: it holds a name, never a value.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use ambit_core::guard;
use zeroize::{Zeroize, Zeroizing};

/// Shortest secret that is accepted, in bytes. Answers are searched for the exact value; a shorter one would also be found in honest
/// text, and is too easily guessed to be a credential.
pub const MIN_BYTES: usize = 8;

/// Longest secret that is accepted, in bytes: more than any token in use, and still one header.
pub const MAX_BYTES: usize = 16 * 1024;

/// How long a `command` may take to print a secret.
const COMMAND_TIME: Duration = Duration::from_secs(10);

/// A value that cannot be printed, compared in public or serialized, and is wiped from memory when dropped.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes over bytes read from a [`Source`]. One line end at their end is cut off, as editors and `echo` add one.
    ///
    /// # Errors
    /// Says what is wrong, never what the value is: empty, shorter than [`MIN_BYTES`], longer than [`MAX_BYTES`], not UTF-8, or with
    /// control characters (which would end a header).
    pub fn new(bytes: Vec<u8>) -> Result<Secret, String> {
        let mut bytes = Zeroizing::new(bytes);
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        if bytes.is_empty() {
            return Err("is empty".into());
        }
        if bytes.len() < MIN_BYTES {
            return Err(format!("is shorter than {MIN_BYTES} bytes"));
        }
        if bytes.len() > MAX_BYTES {
            return Err(format!("is longer than {MAX_BYTES} bytes"));
        }
        match std::str::from_utf8(&bytes) {
            Err(_) => Err("is not UTF-8".into()),
            Ok(text) if text.chars().any(char::is_control) => Err("has a control character or a second line".into()),
            Ok(_) => Ok(Secret(bytes)),
        }
    }

    /// The bytes, which are UTF-8 without control characters. For the gate alone.
    pub(crate) fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Where a secret is read from, once, when the configuration is put to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// An environment variable of the host process.
    Env(String),
    /// A file; one line.
    File(PathBuf),
    /// A program and its arguments, run without a shell; its standard output.
    Command(Vec<String>),
}

impl Source {
    /// Reads the secret through `ambient`.
    ///
    /// # Errors
    /// One clause for people that names the source and never holds the value.
    pub fn read(&self, ambient: &dyn Ambient) -> Result<Secret, String> {
        let bytes = match self {
            Source::Env(name) => ambient
                .env(name)
                .ok_or_else(|| format!("{self} is not set"))?
                .into_encoded_bytes(),
            Source::File(path) => ambient
                .read(path)
                .map_err(|error| format!("{self} cannot be read: {error}"))?,
            Source::Command(words) => ambient.run(words).map_err(|error| format!("{self} failed: {error}"))?,
        };
        Secret::new(bytes).map_err(|why| format!("{self} {why}"))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Env(name) => write!(f, "the environment variable {name}"),
            Source::File(path) => write!(f, "the file {}", path.display()),
            // Arguments may say where a vault is, or worse: the program's name is enough to find the line.
            Source::Command(words) => write!(f, "the command `{}`", words.first().map_or("", String::as_str)),
        }
    }
}

/// What configuration may reach of the world around the process. An argument, so that reading it is visible where it happens and tests
/// and fuzzing can do without.
pub trait Ambient {
    /// An environment variable.
    fn env(&self, name: &str) -> Option<OsString>;

    /// A whole file, at most [`MAX_FILE`] bytes.
    ///
    /// # Errors
    /// As reading does, and when the file is larger.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// The same of a file that nobody but its owner may read or write: a private key.
    ///
    /// # Errors
    /// As [`read`](Ambient::read), and when others may.
    fn read_private(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Runs a program without a shell and returns what it wrote to standard output.
    ///
    /// # Errors
    /// When it cannot be started, fails, writes more than [`MAX_BYTES`] or takes longer than ten seconds.
    fn run(&self, words: &[String]) -> io::Result<Vec<u8>>;
}

/// Largest file that configuration reads through [`Ambient::read`], in bytes: a bundle of every public authority fits.
pub const MAX_FILE: u64 = 4 * 1024 * 1024;

/// The host process's own environment, file system and programs.
#[derive(Clone, Copy, Debug)]
pub struct Process;

impl Ambient for Process {
    fn env(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        read_at_most(std::fs::File::open(path)?, MAX_FILE)
    }

    fn read_private(&self, path: &Path) -> io::Result<Vec<u8>> {
        // Of the file that is read, whatever is put in its place meanwhile.
        let file = std::fs::File::open(path)?;
        let mode = file.metadata()?.permissions().mode();
        if !guard!("config.key-file", mode & 0o077 == 0) {
            let why = format!("others than its owner can read it (mode {:04o})", mode & 0o7777);
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        read_at_most(file, MAX_FILE)
    }

    fn run(&self, words: &[String]) -> io::Result<Vec<u8>> {
        let (program, arguments) = words
            .split_first()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no program named"))?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // What a vault's client says when it fails may hold what it failed with.
            .stderr(Stdio::null())
            .spawn()?;
        let output = child.stdout.take();
        let (send, receive) = mpsc::channel();
        // A thread of its own: a grandchild that keeps the pipe open must not hold us beyond the time.
        std::thread::spawn(move || {
            let read = output.map_or(Ok(Vec::new()), |pipe| read_at_most(pipe, MAX_BYTES as u64));
            // Nobody listens any more when the time was over.
            if let Err(mpsc::SendError(Ok(mut late))) = send.send(read) {
                late.zeroize();
            }
        });
        let output = receive.recv_timeout(COMMAND_TIME).unwrap_or_else(|_| {
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no answer within {} s", COMMAND_TIME.as_secs()),
            ))
        });
        if output.is_err() {
            // It may have ended by itself; either way it is waited for below.
            let _ = child.kill();
        }
        let status = child.wait()?;
        let output = output?;
        if status.success() {
            Ok(output)
        } else {
            let mut output = output;
            output.zeroize();
            Err(io::Error::other(status.to_string()))
        }
    }
}

fn read_at_most(from: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        bytes.zeroize();
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("more than {limit} bytes"),
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: Result<&[u8], &str>) {
        let secret = Secret::new(bytes.to_vec());
        assert_eq!(secret.as_ref().map(Secret::expose).map_err(String::as_str), expected);
    }

    #[test]
    fn a_secret_is_one_line_of_text() {
        check(b"sk_test_123", Ok(b"sk_test_123"));
        check(b"sk_test_123\n", Ok(b"sk_test_123"));
        check(b"sk_test_123\r\n", Ok(b"sk_test_123"));
        check(b"", Err("is empty"));
        check(b"\n", Err("is empty"));
        check(b"short", Err("is shorter than 8 bytes"));
        check(b"two\nlines here", Err("has a control character or a second line"));
        check(
            b"sk_test\r\nHost: elsewhere\n",
            Err("has a control character or a second line"),
        );
        check(b"\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8", Err("is not UTF-8"));
        check(&[b'a'; MAX_BYTES + 1], Err("is longer than 16384 bytes"));
    }

    #[test]
    fn debug_says_nothing() {
        let secret = Secret::new(b"sk_test_123".to_vec()).unwrap();
        assert_eq!(
            format!("{secret:?} {:#?}", Some(&secret)),
            "[secret] Some(\n    [secret],\n)"
        );
    }

    #[test]
    fn sources_are_read_and_named_but_their_values_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "from-a-file\n").unwrap();
        let read = |source: Source| source.read(&Process).map(|s| s.expose().to_vec());
        let words = |words: &[&str]| Source::Command(words.iter().map(|w| (*w).into()).collect());

        assert_eq!(read(Source::File(path)).unwrap(), b"from-a-file");
        assert_eq!(read(words(&["echo", "from-a-command"])).unwrap(), b"from-a-command");
        assert_eq!(
            read(Source::Env("AMBIT_NO_SUCH_VARIABLE".into())).unwrap_err(),
            "the environment variable AMBIT_NO_SUCH_VARIABLE is not set"
        );
        assert_eq!(
            read(words(&["sh", "-c", "echo hunter2-hunter2; exit 3"])).unwrap_err(),
            "the command `sh` failed: exit status: 3"
        );
        assert_eq!(
            read(words(&["sh", "-c", "echo hunter2"])).unwrap_err(),
            "the command `sh` is shorter than 8 bytes"
        );
        assert_eq!(
            read(words(&["yes", "hunter2-hunter2"])).unwrap_err(),
            "the command `yes` failed: more than 16384 bytes"
        );
    }
}
