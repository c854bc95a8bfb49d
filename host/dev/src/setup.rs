//! What builds components for wasm: found, fetched, or asked for.
//!
//! Four ways, tried in this order, each judged by building a small crate and not by what is listed as installed:
//! the target that is there, rustup, Debian's packages, Debian's packages unpacked below the build folder. Every way ends
//! as a set of environment variables that make a plain `cargo build --target wasm32-unknown-unknown` work.

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::failure::{Failure, Outcome};
use crate::live::Live;
use crate::place::Place;
use crate::stamp::files_below;

/// The target of every component: its std asks nothing of its surroundings, so a component imports only its world.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// Debian's second Rust compiler, which is kept current for browsers, std's sources, and a linker. The host's own cargo
/// drives them.
const PACKAGES: [&str; 3] = ["rustc-web", "rust-web-src", "lld-19"];
/// What those need and a system without them may lack, by the beginnings of the packages' names.
const COMPANIONS: [&str; 4] = ["libstd-rust-web", "libllvm", "libz3-", "liblld-"];

const RUSTUP_LIMIT: Duration = Duration::from_secs(120);
const APT_LIMIT: Duration = Duration::from_secs(15 * 60);
const PROBE_LIMIT: Duration = Duration::from_secs(10 * 60);

/// Changes with the meaning of the cached answer.
const CACHE_FORMAT: u64 = 1;

/// A way to build for wasm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Installed,
    Rustup,
    Debian,
    DebianUnpacked,
}

impl Way {
    const ALL: [Self; 4] = [Self::Installed, Self::Rustup, Self::Debian, Self::DebianUnpacked];

    fn name(self) -> &'static str {
        match self {
            Self::Installed => "installed",
            Self::Rustup => "rustup",
            Self::Debian => "debian",
            Self::DebianUnpacked => "debian-unpacked",
        }
    }

    fn parse(name: &str) -> Outcome<Self> {
        Self::ALL.into_iter().find(|way| way.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Failure::new(format!("AMBIT_GUEST_TOOLCHAIN is `{name}`; it can be one of {names}"))
        })
    }

    /// Makes this way usable, installing what it needs, and returns the environment that cargo wants.
    fn prepare(self, place: &Place, live: &mut Live) -> Outcome<BTreeMap<String, String>> {
        match self {
            Self::Installed => Ok(BTreeMap::new()),
            Self::Rustup => add_target(place, live).map(|()| BTreeMap::new()),
            Self::Debian => install_packages(place, live),
            Self::DebianUnpacked => unpack_packages(place, live),
        }
    }
}

/// How cargo builds for wasm on this machine.
#[derive(Debug)]
pub(crate) struct Toolchain {
    way: Way,
    environment: BTreeMap<String, String>,
}

impl Toolchain {
    /// Makes `command`, and the cargo it runs, build for wasm.
    pub(crate) fn apply(&self, command: &mut Command) {
        command.envs(&self.environment);
    }

    /// Whether the host's own compiler serves the target, and its clippy with it.
    pub(crate) fn is_host_compiler(&self) -> bool {
        matches!(self.way, Way::Installed | Way::Rustup)
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.way {
            Way::Installed => "the installed wasm target",
            Way::Rustup => "the wasm target that rustup fetched",
            Way::Debian => "Debian's rustc-web",
            Way::DebianUnpacked => "Debian's rustc-web, unpacked below the build folder",
        })
    }
}

/// The toolchain for components: the remembered one while the host's compiler is the same, else the first way that works.
///
/// # Errors
/// No way works: the text says what each lacked and what to install.
pub(crate) fn toolchain(place: &Place, live: &mut Live) -> Outcome<Toolchain> {
    let forced = env::var("AMBIT_GUEST_TOOLCHAIN")
        .ok()
        .map(|name| Way::parse(&name))
        .transpose()?;
    let compiler = Compiler::ask()?;
    let cache = place.scratch("toolchain")?.join(forced.map_or("any", Way::name));
    if let Some(known) = remembered(&cache, &compiler) {
        return Ok(known);
    }
    let ways = forced.map_or_else(|| Way::ALL.to_vec(), |way| vec![way]);
    let found = first_that_builds(place, live, &ways)?;
    remember(&cache, &compiler, &found)?;
    Ok(found)
}

fn first_that_builds(place: &Place, live: &mut Live, ways: &[Way]) -> Outcome<Toolchain> {
    let mut reasons = String::new();
    for &way in ways {
        let tried = way.prepare(place, live).and_then(|environment| {
            let toolchain = Toolchain { way, environment };
            probe(place, live, &toolchain).map(|()| toolchain)
        });
        match tried {
            Ok(toolchain) => return Ok(toolchain),
            Err(failure) => {
                let reason = reason(&failure.to_string());
                live.say(&format!("{}: {reason}", way.name()));
                reasons.push_str(&format!("  {}: {reason}\n", way.name()));
            }
        }
    }
    Err(Failure::new(format!(
        "Nothing here builds for {TARGET}:\n{reasons}\n\
         Install one of these, then run the command again:\n  \
         rustup target add {TARGET}                  with rustup and a network\n  \
         apt-get install {}   on Debian 12 or newer, as root",
        PACKAGES.join(" ")
    )))
}

/// The line of a failure that says why: a compiler's first error, else the first.
fn reason(failure: &str) -> String {
    let mut lines = failure.lines();
    let first = lines.next().unwrap_or_default();
    let error = lines.find(|line| line.starts_with("error"));
    error.unwrap_or(first).to_owned()
}

/// Builds a small crate that needs std's allocator and formatting, as a component would.
fn probe(place: &Place, live: &mut Live, toolchain: &Toolchain) -> Outcome {
    let folder = place.scratch("probe")?;
    let write = |name: &str, text: &str| {
        let file = folder.join(name);
        fs::write(&file, text).map_err(|error| Failure::at(&file, &error))
    };
    write(
        "Cargo.toml",
        "[package]\nname = \"probe\"\nedition = \"2021\"\n[lib]\npath = \"probe.rs\"\ncrate-type = [\"cdylib\"]\n[workspace]\n",
    )?;
    write(
        "probe.rs",
        "#[no_mangle]\npub extern \"C\" fn probe(n: usize) -> usize {\n    format!(\"{n}\").len()\n}\n",
    )?;
    let target = folder.join(format!("target-{}", toolchain.way.name()));
    let mut cargo = place.cargo();
    cargo
        .current_dir(&folder)
        .args(["build", "--target", TARGET, "--target-dir"])
        .arg(&target);
    toolchain.apply(&mut cargo);
    let what = format!("a trial build for wasm ({})", toolchain.way.name());
    live.run(place, &what, &mut cargo, PROBE_LIMIT)?;
    let built = target.join(TARGET).join("debug/probe.wasm");
    let bytes = fs::read(&built).map_err(|error| Failure::at(&built, &error))?;
    if bytes.starts_with(b"\0asm") {
        return fs::remove_dir_all(&target).map_err(|error| Failure::at(&target, &error));
    }
    Err(Failure::new(format!("{} is not a wasm module", built.display())))
}

fn add_target(place: &Place, live: &mut Live) -> Outcome {
    live.say(&format!("rustup target add {TARGET}"));
    let mut rustup = Command::new("rustup");
    rustup.args(["target", "add", TARGET]);
    live.run(place, "rustup target add", &mut rustup, RUSTUP_LIMIT)
        .map(drop)
}

/// The packages as installed, or installed now where we may.
fn install_packages(place: &Place, live: &mut Live) -> Outcome<BTreeMap<String, String>> {
    let system = Path::new("/");
    if let Ok(found) = debian_environment(system) {
        return Ok(found);
    }
    if !runs("apt-get", &["--version"]) {
        return Err(Failure::new("this is no Debian: there is no apt-get"));
    }
    if !is_root() {
        return Err(Failure::new(format!(
            "{} are not installed, and only root may install them",
            PACKAGES.join(", ")
        )));
    }
    live.say(&format!("installing {}", PACKAGES.join(" ")));
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive")
            .args(["-q", "-o", "DPkg::Lock::Timeout=120"])
            .args(arguments);
        apt
    };
    live.run(place, "apt-get update", &mut apt(&["update"]), APT_LIMIT)?;
    let mut install = apt(&["install", "--yes", "--no-install-recommends"]);
    live.run(place, "apt-get install", install.args(PACKAGES), APT_LIMIT)?;
    debian_environment(system)
}

/// The packages, downloaded and unpacked below the build folder: needs no rights, and leaves the system as it is.
fn unpack_packages(place: &Place, live: &mut Live) -> Outcome<BTreeMap<String, String>> {
    let folder = place.scratch("debian")?;
    if let Ok(found) = debian_environment(&folder) {
        return Ok(found);
    }
    if !runs("apt-get", &["--version"]) || !runs("dpkg-deb", &["--version"]) {
        return Err(Failure::new("this is no Debian: there is no apt-get with dpkg-deb"));
    }
    let archives = place.scratch("debian-archives")?;
    live.say(&format!(
        "downloading and unpacking {} below {}",
        PACKAGES.join(" "),
        folder.display()
    ));
    let lists = private_lists(place, live)?;
    let names = with_dependencies(&lists)?;
    let mut download = lists.command("apt-get");
    download.current_dir(&archives).arg("download").args(&names);
    live.run(place, "apt-get download", &mut download, APT_LIMIT)?;
    for archive in files_below(&archives)?
        .iter()
        .filter(|file| file.extension().is_some_and(|kind| kind == "deb"))
    {
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("-x").arg(archive).arg(&folder);
        live.run(place, "dpkg-deb", &mut unpack, APT_LIMIT)?;
        fs::remove_file(archive).map_err(|error| Failure::at(archive, &error))?;
    }
    debian_environment(&folder)
}

/// Package lists that belong to us, so that they can be brought up to date without root.
struct Lists {
    state: PathBuf,
    cache: PathBuf,
}

impl Lists {
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .args(["-q", "-o", "APT::Sandbox::User=", "-o", "Debug::NoLocking=true"])
            .arg("-o")
            .arg(format!("Dir::State::Lists={}", self.state.display()))
            .arg("-o")
            .arg(format!("Dir::Cache={}", self.cache.display()));
        command
    }
}

fn private_lists(place: &Place, live: &mut Live) -> Outcome<Lists> {
    let lists = Lists {
        state: place.scratch("apt/lists")?,
        cache: place.scratch("apt/cache")?,
    };
    place.scratch("apt/lists/partial")?;
    live.run(
        place,
        "apt-get update",
        lists.command("apt-get").arg("update"),
        APT_LIMIT,
    )?;
    Ok(lists)
}

/// The packages and those of their dependencies that a system without them lacks.
fn with_dependencies(lists: &Lists) -> Outcome<Vec<String>> {
    let mut query = lists.command("apt-cache");
    query.args([
        "depends",
        "--recurse",
        "--no-recommends",
        "--no-suggests",
        "--no-conflicts",
        "--no-breaks",
        "--no-replaces",
        "--no-enhances",
    ]);
    let output = query
        .args(PACKAGES)
        .output()
        .map_err(|error| Failure::new(format!("apt-cache: {error}")))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let wanted = |name: &&str| PACKAGES.contains(name) || COMPANIONS.iter().any(|start| name.starts_with(start));
    let mut names: Vec<String> = text.lines().map(str::trim).filter(wanted).map(str::to_owned).collect();
    names.sort();
    names.dedup();
    if PACKAGES.iter().all(|package| names.iter().any(|name| name == package)) {
        return Ok(names);
    }
    Err(Failure::new(format!(
        "this system's package sources do not have {}",
        PACKAGES.join(", ")
    )))
}

/// The environment for Debian's packages below `root` (`/` where they are installed).
fn debian_environment(root: &Path) -> Outcome<BTreeMap<String, String>> {
    let rustc = existing(root.join("usr/bin/rustc"))?;
    let linker = existing(root.join("usr/bin/wasm-ld-19"))?;
    existing(root.join("usr/lib/rustlib/src/rust/library/std/Cargo.toml"))?;
    let mut environment = BTreeMap::from([
        ("RUSTC".to_owned(), rustc),
        ("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER".to_owned(), linker),
        // There is no std for the target to install, only its sources. Building it is behind this switch.
        ("RUSTC_BOOTSTRAP".to_owned(), "1".to_owned()),
        ("CARGO_UNSTABLE_BUILD_STD".to_owned(), "std,panic_abort".to_owned()),
    ]);
    if root != Path::new("/") {
        environment.insert("LD_LIBRARY_PATH".to_owned(), libraries(root)?);
    }
    Ok(environment)
}

/// The multi-architecture folder of unpacked libraries, such as `usr/lib/x86_64-linux-gnu`.
fn libraries(root: &Path) -> Outcome<String> {
    let parent = root.join("usr/lib");
    let entries = fs::read_dir(&parent).map_err(|error| Failure::at(&parent, &error))?;
    let found = entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.to_string_lossy().ends_with("-linux-gnu"));
    found
        .map(|path| path.display().to_string())
        .ok_or_else(|| Failure::new(format!("{} holds no libraries", parent.display())))
}

fn existing(path: PathBuf) -> Outcome<String> {
    if path.exists() {
        return Ok(path.display().to_string());
    }
    Err(Failure::new(format!("{} is missing", path.display())))
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .output()
        .is_ok_and(|output| output.status.success())
}

fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// The host's own compiler. What was found out about one says nothing about another.
struct Compiler {
    version: String,
    sysroot: PathBuf,
}

impl Compiler {
    fn ask() -> Outcome<Self> {
        let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let ask = |arguments: &[&str]| {
            let output = Command::new(&rustc).args(arguments).output();
            let output = output.map_err(|error| Failure::new(format!("{}: {error}", rustc.display())))?;
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        Ok(Self {
            version: ask(&["-vV"])?,
            sysroot: ask(&["--print", "sysroot"])?.into(),
        })
    }

    fn name(&self) -> String {
        format!("{}\nsysroot: {}", self.version, self.sysroot.display())
    }

    fn has_target(&self) -> bool {
        self.sysroot.join("lib/rustlib").join(TARGET).is_dir()
    }
}

/// The cached answer, unless something that it stands on is gone.
fn remembered(cache: &Path, compiler: &Compiler) -> Option<Toolchain> {
    let text = fs::read_to_string(cache).ok()?;
    let value: Value = serde_json::from_str(&text).ok()?;
    if value.get("format")?.as_u64()? != CACHE_FORMAT || value.get("compiler")?.as_str()? != compiler.name() {
        return None;
    }
    let way = Way::parse(value.get("way")?.as_str()?).ok()?;
    let variable = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
    let environment = value
        .get("environment")?
        .as_object()?
        .iter()
        .map(variable)
        .collect::<Option<BTreeMap<_, _>>>()?;
    let toolchain = Toolchain { way, environment };
    let mut paths = toolchain.environment.values().filter(|value| value.starts_with('/'));
    let still_there =
        paths.all(|path| Path::new(path).exists()) && (!toolchain.is_host_compiler() || compiler.has_target());
    still_there.then_some(toolchain)
}

fn remember(cache: &Path, compiler: &Compiler, toolchain: &Toolchain) -> Outcome {
    let value = json!({
        "format": CACHE_FORMAT,
        "compiler": compiler.name(),
        "way": toolchain.way.name(),
        "environment": toolchain.environment,
    });
    fs::write(cache, value.to_string()).map_err(|error| Failure::at(cache, &error))
}
