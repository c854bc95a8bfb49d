//! From a component's bytes to machine code: compiled in a process with limits, kept in an authenticated cache.
//!
//! A compiler is the largest program that reads a stranger's bytes here, and its time and memory are the input's to
//! choose. So it runs in a child that has a limited address space and processor time, no environment, no open files but
//! its pipes, and which is killed at a deadline.

use std::hash::{Hash, Hasher};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use ambit_core::digest::Digest;
use ambit_core::error::{Code, Refusal, printable};
use ambit_core::manifest::MAX_COMPONENT_BYTES;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;
use zeroize::Zeroizing;

use super::DEFAULT_STACK_BYTES;
use super::engine::{Placement, engine};

/// The argument that makes the program a compiler: see [`compile_child_main`].
pub const COMPILE_CHILD: &str = "compile-child";

/// Longest compilation. CPython's 18 MB take 5 s on two cores.
const WALL: Duration = Duration::from_secs(120);
/// Processor seconds of the child, over all its threads.
const CPU_SECONDS: u64 = 240;
/// Address space of the child.
const ADDRESS_SPACE: u64 = 4 << 30;
/// Largest machine code taken from the child: several times what the largest component compiles to.
const MAX_IMAGE_BYTES: u64 = 512 << 20;
/// What the child may say about a failure.
const MAX_COMPLAINT_BYTES: u64 = 4 << 10;
/// Exit code of the child: the input is at fault.
const EXIT_INVALID: i32 = 2;

const TAG_BYTES: usize = 32;

/// Where components are compiled.
#[derive(Debug, Clone)]
pub enum Compiler {
    /// In a child process with limits, made from this executable, whose `main` hands over to [`compile_child_main`]
    /// when its only argument is [`COMPILE_CHILD`].
    Child(PathBuf),
    /// In this process, without limits: for trusted components and for tests.
    InProcess,
}

/// Machine code kept between starts, each file authenticated with a key of the home.
///
/// Whoever can write the directory but does not hold the key can make a start slower, and nothing else.
pub struct CompileCache {
    directory: PathBuf,
    key: Zeroizing<[u8; 32]>,
}

impl CompileCache {
    /// A cache in an existing directory, authenticated with `key` (`keys/cache.key` of the home).
    pub fn new(directory: impl Into<PathBuf>, key: [u8; 32]) -> CompileCache {
        CompileCache {
            directory: directory.into(),
            key: Zeroizing::new(key),
        }
    }

    fn path(&self, entry: &Entry) -> PathBuf {
        let name = data_encoding::HEXLOWER.encode(&entry.0);
        self.directory.join(name).with_extension("cwasm")
    }

    /// The image kept under `entry`, only if its tag is right.
    fn read(&self, entry: &Entry) -> Option<Vec<u8>> {
        let mut file = std::fs::File::open(self.path(entry)).ok()?;
        let mut tag = [0; TAG_BYTES];
        file.read_exact(&mut tag).ok()?;
        let mut image = Vec::new();
        file.take(MAX_IMAGE_BYTES).read_to_end(&mut image).ok()?;
        let authentic = self.mac(entry, &image)?.verify_slice(&tag).is_ok();
        if !ambit_core::guard!("sandbox.cache", authentic) {
            tracing::warn!(entry = %self.path(entry).display(), "compiled code with a wrong tag is not used");
            return None;
        }
        Some(image)
    }

    /// Keeps an image. Written beside and renamed, so that a reader sees all of it or nothing.
    fn write(&self, entry: &Entry, image: &[u8]) -> std::io::Result<()> {
        let mac = self.mac(entry, image).ok_or_else(|| std::io::Error::other("no tag"))?;
        let path = self.path(entry);
        let beside = path.with_extension(format!("{}.tmp", std::process::id()));
        let written = write_private(&beside, &[&mac.finalize().into_bytes(), image])
            .and_then(|()| std::fs::rename(&beside, &path));
        if written.is_err() {
            // Nothing else cleans it up; that it cannot be removed changes nothing.
            let _ = std::fs::remove_file(&beside);
        }
        written
    }

    fn mac(&self, entry: &Entry, image: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.key.as_slice()).ok()?;
        mac.update(&entry.0);
        mac.update(image);
        Some(mac)
    }
}

impl std::fmt::Debug for CompileCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CompileCache")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

fn write_private(path: &Path, parts: &[&[u8]]) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    for part in parts {
        file.write_all(part)?;
    }
    Ok(())
}

/// What an image is filed under: the component, this program's version, and everything that shapes its code.
struct Entry([u8; 32]);

impl Entry {
    fn new(engine: &Engine, component: &Digest) -> Entry {
        let mut hasher = CodeHasher(Sha256::new());
        hasher.write(b"ambit/compiled/v1\0");
        hasher.write(component.to_string().as_bytes());
        hasher.write(b"\0");
        hasher.write(env!("CARGO_PKG_VERSION").as_bytes());
        hasher.write(b"\0");
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Entry(hasher.0.finalize().into())
    }
}

/// Names what shapes a guest's run besides its inputs: the engine's version and settings.
pub(super) fn engine_id(engine: &Engine) -> String {
    let mut hasher = CodeHasher(Sha256::new());
    hasher.write(b"ambit/engine/v1\0");
    engine.precompile_compatibility_hash().hash(&mut hasher);
    let digest: [u8; 32] = hasher.0.finalize().into();
    data_encoding::HEXLOWER.encode(&digest)
}

/// SHA-256 behind the standard hashing interface, which is all the engine says its settings through.
struct CodeHasher(Sha256);

impl Hasher for CodeHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Only the whole digest is ever used.
    fn finish(&self) -> u64 {
        0
    }
}

/// The machine code of a component: from the cache, else compiled and cached.
///
/// # Errors
/// `load` where the bytes are not a valid component or their compilation exceeds its limits; `internal` where the
/// compiler cannot be run.
pub(super) fn component(
    engine: &Engine,
    compiler: &Compiler,
    cache: Option<&CompileCache>,
    wasm: &[u8],
) -> Result<Component, Refusal> {
    let entry = Entry::new(engine, &Digest::of(wasm));
    if let Some(component) = cache
        .and_then(|cache| cache.read(&entry))
        .and_then(|image| deserialize(engine, &image).ok())
    {
        return Ok(component);
    }
    let image = compile(engine, compiler, wasm)?;
    if let Some(Err(error)) = cache.map(|cache| cache.write(&entry, &image)) {
        tracing::warn!(%error, "compiled code could not be cached; the next start compiles again");
    }
    deserialize(engine, &image)
}

fn compile(engine: &Engine, compiler: &Compiler, wasm: &[u8]) -> Result<Vec<u8>, Refusal> {
    match compiler {
        Compiler::Child(program) => compile_in_child(program, wasm),
        Compiler::InProcess => engine.precompile_component(wasm).map_err(|e| invalid(&e)),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the only place where compiled code is loaded: what may come here is said below"
)]
fn deserialize(engine: &Engine, image: &[u8]) -> Result<Component, Refusal> {
    // SAFETY: `deserialize` runs what it is given, so it must be given only images that this program's engine produced.
    // Every caller's image is one of two: what the compiler just returned (this process's, or that of a child which is
    // the same executable and got only the component's bytes), or a cache file whose HMAC under the home's key, over
    // the component's digest, the engine's settings and all of the image, was verified on the very bytes passed here.
    // They are in memory of our own: nobody changes them between the verification and the load.
    unsafe { Component::deserialize(engine, image) }.map_err(|error| {
        Refusal::new(
            Code::Load,
            format!(
                "the compiled component does not fit this host: {}",
                printable(&format!("{error:#}"))
            ),
        )
    })
}

fn invalid(error: &wasmtime::Error) -> Refusal {
    Refusal::new(
        Code::Load,
        format!("the component is not valid: {}", printable(&format!("{error:#}"))),
    )
    .advise("Build it again with `ambit build`, or ask its author for an undamaged copy.")
}

fn compile_in_child(program: &Path, wasm: &[u8]) -> Result<Vec<u8>, Refusal> {
    let deadline = Instant::now() + WALL;
    let mut child = Command::new(program)
        .arg(COMPILE_CHILD)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| cannot_run(program, &error))?;
    let said = converse(&mut child, wasm, deadline);
    let status = reap(&mut child, deadline).map_err(|error| cannot_run(program, &error))?;
    match (said, status) {
        (Some((image, complaint)), Some(status)) => verdict(status, image, &complaint),
        _ => Err(too_costly(&format!("it took longer than {} s", WALL.as_secs()))),
    }
}

/// Feeds the child and reads what it says; none where it has not said it all by the deadline.
///
/// The threads end by themselves: once the child is gone, so are the other ends of their pipes.
fn converse(child: &mut Child, wasm: &[u8], deadline: Instant) -> Option<(Vec<u8>, String)> {
    let (mut stdin, stdout, stderr) = (child.stdin.take()?, child.stdout.take()?, child.stderr.take()?);
    let wasm = wasm.to_vec();
    std::thread::spawn(move || {
        // A child that stopped reading says why on its error pipe.
        let _ = stdin.write_all(&wasm);
    });
    let image = read_aside(stdout, MAX_IMAGE_BYTES);
    let complaint = read_aside(stderr, MAX_COMPLAINT_BYTES);
    let left = || deadline.saturating_duration_since(Instant::now());
    let image = image.recv_timeout(left()).ok()?;
    let complaint = complaint.recv_timeout(left()).ok()?;
    Some((image, String::from_utf8_lossy(&complaint).into_owned()))
}

/// Reads a pipe to its end, or to `limit`, on a thread of its own.
fn read_aside(pipe: impl Read + Send + 'static, limit: u64) -> mpsc::Receiver<Vec<u8>> {
    let (done, finished) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before an error is all there is; the exit code says whether it is enough.
        let _ = pipe.take(limit).read_to_end(&mut bytes);
        let _ = done.send(bytes);
    });
    finished
}

/// How the child ended; none where it had to be killed at the deadline.
fn reap(child: &mut Child, deadline: Instant) -> std::io::Result<Option<ExitStatus>> {
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

fn verdict(status: ExitStatus, image: Vec<u8>, complaint: &str) -> Result<Vec<u8>, Refusal> {
    match status.code() {
        Some(0) => Ok(image),
        Some(EXIT_INVALID) => Err(Refusal::new(
            Code::Load,
            format!("the component is not valid: {}", printable(complaint.trim())),
        )
        .advise("Build it again with `ambit build`, or ask its author for an undamaged copy.")),
        Some(_) => Err(Refusal::new(
            Code::Internal,
            format!("the compiler failed: {}", printable(complaint.trim())),
        )),
        // Out of processor time, or aborted when an allocation failed.
        None => Err(too_costly("it ran out of memory or processor time")),
    }
}

fn too_costly(what: &str) -> Refusal {
    Refusal::new(
        Code::Load,
        format!("the component cannot be compiled within its limits: {what}"),
    )
    .advise("Components are compiled with 4 GiB of address space and 120 s; ask the author for a smaller one.")
}

fn cannot_run(program: &Path, error: &std::io::Error) -> Refusal {
    Refusal::new(
        Code::Internal,
        format!("the compiler {} cannot be run: {error}", program.display()),
    )
}

/// The child's whole life: limits itself, reads a component from standard input and writes its machine code to standard
/// output. The program's `main` calls it first thing when it was started with [`COMPILE_CHILD`], and exits with the
/// returned code: 0 done, 1 failed, 2 not a valid component. What went wrong is one line on standard error.
pub fn compile_child_main() -> i32 {
    let outcome = limit_self().and_then(|()| compile_stdin());
    match outcome {
        Ok(()) => 0,
        Err(refusal) => {
            let _ = writeln!(std::io::stderr(), "{}", refusal.message);
            if refusal.code == Code::Load { EXIT_INVALID } else { 1 }
        }
    }
}

fn compile_stdin() -> Result<(), Refusal> {
    let broken = |error| Refusal::new(Code::Internal, format!("the compiler's pipe broke: {error}"));
    let mut wasm = Vec::new();
    std::io::stdin()
        .take(MAX_COMPONENT_BYTES as u64 + 1)
        .read_to_end(&mut wasm)
        .map_err(broken)?;
    let image = engine(Placement::CompileOnly, DEFAULT_STACK_BYTES)?
        .precompile_component(&wasm)
        .map_err(|error| Refusal::new(Code::Load, format!("{error:#}")))?;
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&image).and_then(|()| stdout.flush()).map_err(broken)
}

fn limit_self() -> Result<(), Refusal> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let limit = |resource, value| {
        let limit = Rlimit {
            current: Some(value),
            maximum: Some(value),
        };
        setrlimit(resource, limit)
            .map_err(|error| Refusal::new(Code::Internal, format!("the compiler cannot limit itself: {error}")))
    };
    limit(Resource::Core, 0)?;
    limit(Resource::Cpu, CPU_SECONDS)?;
    // macOS neither enforces nor reliably accepts it.
    if cfg!(target_os = "linux") {
        limit(Resource::As, ADDRESS_SPACE)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn child(script: &str) -> Child {
        let pipes = || Stdio::piped();
        Command::new("/bin/sh")
            .args(["-c", script])
            .stdin(pipes())
            .stdout(pipes())
            .stderr(pipes())
            .spawn()
            .unwrap()
    }

    /// Whether everything was said, and whether the child ended by itself.
    fn check(script: &str, said: bool, ended: bool) {
        let begun = Instant::now();
        let deadline = begun + Duration::from_millis(300);
        let mut child = child(script);
        assert_eq!(converse(&mut child, b"\0asm", deadline).is_some(), said, "{script}");
        assert_eq!(reap(&mut child, deadline).unwrap().is_some(), ended, "{script}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{script}");
    }

    #[test]
    fn a_compiler_is_killed_at_its_deadline() {
        check("cat", true, true);
        check("exec sleep 60", false, false);
        check("exec >/dev/null 2>&1; exec sleep 60", true, false);
        check("exec 2>/dev/null sleep 60", false, false);
    }
}
