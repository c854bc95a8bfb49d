//! `ambit build`: from a tool's source to its component.
//!
//! Compiles the crate for `wasm32-unknown-unknown`, makes a component of it, adds the world's documentation, and reads the
//! result back as a host would: what would be refused at load is refused here. The same source in the same place gives
//! the same bytes, and no path of the machine is among them.

use ambit_core::error::{Code, Refusal};
use ambit_core::manifest::{self, Manifest};
use serde::Deserialize;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use wasm_encoder::ComponentSection as _;
use wit_component::ComponentEncoder;
use wit_parser::{PackageId, Resolve, WorldId};

/// The only target: a component built for it imports nothing but its world.
const TARGET: &str = "wasm32-unknown-unknown";

/// The host's own package, so that a tool needs no copy of it.
const CAPABILITY: &str = include_str!("../../../wit/capability.wit");

/// What to build, and where it goes.
#[derive(Clone, Debug)]
pub(crate) struct BuildOptions {
    /// The tool's folder: a crate, with the world in its `wit` folder.
    pub(crate) crate_dir: PathBuf,
    /// The component's file. Without it, `components/<name>.wasm` in the crate's target folder.
    pub(crate) output: Option<PathBuf>,
    /// A core module or component made by other means, to be taken instead of compiling the crate.
    pub(crate) module: Option<PathBuf>,
    /// What compiles.
    pub(crate) toolchain: Toolchain,
}

/// Which programs compile, and with which flags. [`Toolchain::from_env`] is what the command line uses.
#[derive(Clone, Debug)]
pub(crate) struct Toolchain {
    /// Cargo.
    pub(crate) cargo: OsString,
    /// The compiler, where it is not the one Cargo would take.
    pub(crate) rustc: Option<OsString>,
    /// Flags for `cargo build`, such as `-Zbuild-std=std,panic_abort`.
    pub(crate) flags: Vec<String>,
}

impl Toolchain {
    /// `AMBIT_GUEST_CARGO` (else `CARGO`, else `cargo`), `AMBIT_GUEST_RUSTC` (else `RUSTC`), and `AMBIT_GUEST_FLAGS`,
    /// flags for `cargo build` separated by spaces. Further variables of Cargo's own, such as `CARGO_TARGET_DIR` or
    /// `CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER`, reach it as they are.
    #[must_use]
    pub(crate) fn from_env() -> Self {
        let var = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let flags = std::env::var("AMBIT_GUEST_FLAGS").unwrap_or_default();
        Self {
            cargo: var("AMBIT_GUEST_CARGO")
                .or_else(|| var("CARGO"))
                .unwrap_or_else(|| "cargo".into()),
            rustc: var("AMBIT_GUEST_RUSTC").or_else(|| var("RUSTC")),
            flags: flags.split_whitespace().map(str::to_owned).collect(),
        }
    }

    fn builds_std(&self) -> bool {
        std::env::var_os("CARGO_UNSTABLE_BUILD_STD").is_some()
            || self.flags.iter().any(|flag| flag.starts_with("-Zbuild-std"))
    }

    fn rustc(&self) -> Command {
        Command::new(self.rustc.clone().unwrap_or_else(|| "rustc".into()))
    }

    fn cargo(&self) -> Command {
        let mut cargo = Command::new(&self.cargo);
        if let Some(rustc) = &self.rustc {
            cargo.env("RUSTC", rustc);
        }
        cargo
    }

    /// Folder of the compiler's own files.
    fn sysroot(&self) -> Result<PathBuf, Refusal> {
        let output = self.rustc().args(["--print", "sysroot"]).output();
        let output = output.ok().filter(|output| output.status.success()).ok_or_else(|| {
            failed("the Rust compiler could not be run")
                .advise("install Rust from https://rustup.rs, or set AMBIT_GUEST_RUSTC")
        })?;
        Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
    }
}

/// A component that was built.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Its size in bytes.
    pub(crate) size: usize,
    /// What it declares.
    pub(crate) manifest: Manifest,
}

/// What was made, then what it declares.
impl fmt::Display for Built {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({} bytes)", self.path.display(), self.size)?;
        write!(f, "{}", self.manifest)
    }
}

/// Builds one component. Nothing is written unless a host would load it.
///
/// Cargo's progress and the compiler's messages go to stderr as they come.
///
/// # Errors
/// [`Code::Load`] if the crate cannot be compiled, the module cannot be made a component, or a host would not load it.
pub(crate) fn build(options: &BuildOptions) -> Result<Built, Refusal> {
    let (module, own) = match &options.module {
        Some(module) => (
            module.clone(),
            options.crate_dir.join("target/components").join(file_name(module)),
        ),
        None => {
            let found = Crate::find(&options.crate_dir, &options.toolchain)?;
            let module = found.compile(&options.toolchain)?;
            let own = found.target_dir.join("components").join(file_name(&module));
            (module, own)
        }
    };
    let bytes = documented(&read(&module)?, &options.crate_dir.join("wit"))?;
    let manifest = Manifest::read(&bytes)?;
    let path = options.output.clone().unwrap_or(own);
    write(&path, &bytes)?;
    Ok(Built {
        path,
        size: bytes.len(),
        manifest,
    })
}

/// A component is called as its module is.
fn file_name(module: &Path) -> OsString {
    module.file_name().unwrap_or_default().to_owned()
}

/// The component with its documentation, as far as there is WIT to take it from.
fn documented(module: &[u8], wit: &Path) -> Result<Vec<u8>, Refusal> {
    let (mut component, world) = encode(module)?;
    if !wit.is_dir() {
        return Ok(component);
    }
    let (resolve, package) = parse(wit)?;
    let world = select(&resolve, package, world.as_deref())?;
    for section in manifest::sections(&component, &resolve, world)? {
        wasm_encoder::CustomSection {
            name: section.name.into(),
            data: section.contents.as_slice().into(),
        }
        .append_to_component(&mut component);
    }
    Ok(component)
}

/// What Cargo says of a workspace: the parts that are used.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    crate_types: Vec<String>,
}

/// A crate to be compiled.
struct Crate {
    folder: PathBuf,
    package: String,
    workspace: PathBuf,
    target_dir: PathBuf,
}

impl Crate {
    fn find(source: &Path, toolchain: &Toolchain) -> Result<Self, Refusal> {
        let folder = source.canonicalize().map_err(|error| unreadable(source, &error))?;
        let manifest = folder.join("Cargo.toml");
        if !manifest.is_file() {
            let message = format!("the folder `{}` has no Cargo.toml", source.display());
            return Err(failed(message).advise("give the folder of a tool's crate"));
        }
        let mut cargo = toolchain.cargo();
        cargo
            .args(["metadata", "--format-version=1", "--no-deps", "--manifest-path"])
            .arg(&manifest);
        let metadata: Metadata = read_json(&run(cargo, "cargo metadata")?)?;
        let package = metadata
            .packages
            .into_iter()
            .find(|package| package.manifest_path == manifest);
        let makes_module = |target: &Target| target.crate_types.iter().any(|kind| kind == "cdylib");
        let Some(package) = package.filter(|package| package.targets.iter().any(makes_module)) else {
            let message = format!("the crate in `{}` is no tool: it makes no module", source.display());
            return Err(failed(message).advise("add `[lib] crate-type = [\"cdylib\"]` to its Cargo.toml"));
        };
        Ok(Self {
            folder,
            package: package.name,
            workspace: metadata.workspace_root,
            target_dir: metadata.target_directory,
        })
    }

    /// Compiles to a core module, and returns where it is.
    fn compile(&self, toolchain: &Toolchain) -> Result<PathBuf, Refusal> {
        check_target(toolchain)?;
        let manifest = self.folder.join("Cargo.toml");
        let mut cargo = toolchain.cargo();
        cargo.args([
            "build",
            "--release",
            "--target",
            TARGET,
            "--message-format=json-render-diagnostics",
        ]);
        cargo
            .arg("--manifest-path")
            .arg(&manifest)
            .args(["--package", &self.package])
            .args(&toolchain.flags);
        cargo.env("CARGO_ENCODED_RUSTFLAGS", rustflags(&self.workspace, toolchain)?);
        cargo.stderr(Stdio::inherit());
        let messages = run(cargo, "cargo build")?;
        for line in messages.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let message: Message = read_json(line)?;
            let wasm = message
                .filenames
                .into_iter()
                .find(|file| file.extension().is_some_and(|end| end == "wasm"));
            if let Some(wasm) = wasm.filter(|_| message.manifest_path.as_deref() == Some(&manifest)) {
                return Ok(wasm);
            }
        }
        Err(failed(format!("Cargo made no module of `{}`", self.package)))
    }
}

/// Says in one sentence what the compiler would say in many.
fn check_target(toolchain: &Toolchain) -> Result<(), Refusal> {
    let library = toolchain.sysroot()?.join("lib/rustlib").join(TARGET).join("lib");
    if toolchain.builds_std() || library.is_dir() {
        return Ok(());
    }
    Err(
        failed(format!("the Rust compiler has no standard library for {TARGET}")).advise(format!(
            "run `rustup target add {TARGET}`; where rustup cannot, set AMBIT_GUEST_CARGO, AMBIT_GUEST_RUSTC and \
         AMBIT_GUEST_FLAGS to a toolchain that builds its own"
        )),
    )
}

/// One line of what Cargo reports.
#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    manifest_path: Option<PathBuf>,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

/// The caller's flags, and names for the folders whose paths would otherwise be in the component: they stand in the
/// messages of panics, and differ from machine to machine.
fn rustflags(workspace: &Path, toolchain: &Toolchain) -> Result<String, Refusal> {
    let mut flags: Vec<String> = match (std::env::var("CARGO_ENCODED_RUSTFLAGS"), std::env::var("RUSTFLAGS")) {
        (Ok(encoded), _) => encoded.split('\u{1f}').map(str::to_owned).collect(),
        (_, Ok(plain)) => plain.split_whitespace().map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    flags.retain(|flag| !flag.is_empty());
    let home = |name| std::env::var_os(name).map(PathBuf::from);
    let cargo_home = home("CARGO_HOME").or_else(|| Some(home("HOME")?.join(".cargo")));
    // A workspace's members may lie beside it, and so may the WIT: the folder that holds them all is named.
    let source = workspace.parent().unwrap_or(workspace);
    let names = [
        (Some(source.to_owned()), "/source"),
        (cargo_home, "/cargo"),
        (Some(toolchain.sysroot()?), "/rust"),
    ];
    for (folder, name) in names {
        if let Some(folder) = folder {
            flags.push(format!("--remap-path-prefix={}={name}", folder.display()));
        }
    }
    Ok(flags.join("\u{1f}"))
}

/// Makes a component of a core module, and tells the name of the world that its bindings were made from. A component
/// stays as it is.
fn encode(bytes: &[u8]) -> Result<(Vec<u8>, Option<String>), Refusal> {
    if wasm_encoder::Component::HEADER == bytes.get(..8).unwrap_or_default() {
        return Ok((bytes.to_vec(), None));
    }
    let unfit = |error: &dyn fmt::Display| {
        failed(format!("the module cannot be made a component: {error}"))
            .advise("generate its bindings with `ambit_sdk::generate!`, and export its type with `export!`")
    };
    let (bound, bindings) =
        wit_component::metadata::decode(bytes).map_err(|error| unfit(&format_args!("{error:#}")))?;
    if bound.is_none() {
        return Err(unfit(&"it does not say which world it is for"));
    }
    let world = bindings
        .resolve
        .worlds
        .get(bindings.world)
        .map(|world| world.name.clone());
    let mut encoder = ComponentEncoder::default();
    let component = encoder.validate(true).module(bytes).and_then(ComponentEncoder::encode);
    Ok((component.map_err(|error| unfit(&format_args!("{error:#}")))?, world))
}

fn parse(wit: &Path) -> Result<(Resolve, PackageId), Refusal> {
    let mut resolve = Resolve::default();
    let pushed = resolve
        .push_source("ambit:capability", CAPABILITY)
        .and_then(|_| resolve.push_path(wit));
    let (package, _) = pushed.map_err(|error| failed(format!("`{}` cannot be read: {error:#}", wit.display())))?;
    Ok((resolve, package))
}

/// The world by its name, or the package's only one.
fn select(resolve: &Resolve, package: PackageId, name: Option<&str>) -> Result<WorldId, Refusal> {
    let selected = resolve
        .select_world(&[package], name)
        .or_else(|_| resolve.select_world(&[package], None));
    selected.map_err(|error| failed(format!("the component's world is not in its WIT: {error:#}")))
}

fn run(mut command: Command, name: &str) -> Result<Vec<u8>, Refusal> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| {
        failed(format!("`{name}` could not be run: {error}"))
            .advise("install Rust from https://rustup.rs, or set AMBIT_GUEST_CARGO")
    })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim();
    let message = if said.is_empty() {
        format!("`{name}` failed")
    } else {
        format!("`{name}` failed: {said}")
    };
    Err(failed(message))
}

fn read_json<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, Refusal> {
    serde_json::from_slice(text).map_err(|error| failed(format!("what Cargo reports cannot be read: {error}")))
}

fn read(path: &Path) -> Result<Vec<u8>, Refusal> {
    std::fs::read(path).map_err(|error| unreadable(path, &error))
}

/// Writes the whole file or nothing.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Refusal> {
    let unwritable = |error: std::io::Error| failed(format!("`{}` cannot be written: {error}", path.display()));
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(unwritable)?;
    }
    let unfinished = path.with_extension(format!("wasm.{}", std::process::id()));
    std::fs::write(&unfinished, bytes)
        .and_then(|()| std::fs::rename(&unfinished, path))
        .map_err(unwritable)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Refusal {
    failed(format!("`{}` cannot be read: {error}", path.display()))
}

fn failed(message: impl Into<String>) -> Refusal {
    Refusal::new(Code::Load, message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use std::fs;
    use tempfile::TempDir;
    use wasm_encoder::{
        CodeSection, ExportKind, ExportSection, Function, FunctionSection, Instruction, Module, TypeSection,
    };
    use wit_component::{StringEncoding, embed_component_metadata};

    const WIT: &str = "package acme:idle@1.0.0;

        /// Does nothing.
        world tool {
          /// Says so.
          @external-id(\"read\")
          export go: func();
        }";

    /// A tool's folder with this world, and a core module beside it that exports `go`.
    fn tool(wit: &str, bound: bool) -> (TempDir, BuildOptions) {
        let folder = tempfile::tempdir().unwrap();
        let crate_dir = folder.path().to_owned();
        fs::create_dir(crate_dir.join("wit")).unwrap();
        fs::write(crate_dir.join("wit/world.wit"), wit).unwrap();
        let mut bytes = module();
        if bound {
            let (resolve, package) = parse(&crate_dir.join("wit")).unwrap();
            let world = select(&resolve, package, None).unwrap();
            embed_component_metadata(&mut bytes, &resolve, world, StringEncoding::UTF8, false).unwrap();
        }
        let module = crate_dir.join("idle.wasm");
        fs::write(&module, bytes).unwrap();
        let toolchain = Toolchain {
            cargo: "cargo".into(),
            rustc: None,
            flags: Vec::new(),
        };
        (
            folder,
            BuildOptions {
                crate_dir,
                output: None,
                module: Some(module),
                toolchain,
            },
        )
    }

    fn module() -> Vec<u8> {
        let (mut types, mut functions) = (TypeSection::new(), FunctionSection::new());
        let (mut exports, mut code) = (ExportSection::new(), CodeSection::new());
        types.ty().function([], []);
        functions.function(0);
        exports.export("go", ExportKind::Func, 0);
        code.function(Function::new([]).instruction(&Instruction::End));
        let mut module = Module::new();
        module
            .section(&types)
            .section(&functions)
            .section(&exports)
            .section(&code);
        module.finish()
    }

    /// The build fails with this message, and leaves nothing behind.
    fn check_refused(options: &BuildOptions, message: &str) {
        let refusal = build(options).unwrap_err();
        assert!(refusal.message.contains(message), "{refusal}");
        assert!(!options.crate_dir.join("target").exists());
    }

    #[test]
    fn a_module_becomes_a_documented_component() {
        let (_folder, options) = tool(WIT, true);
        let built = build(&options).unwrap();
        assert_eq!(built.path, options.crate_dir.join("target/components/idle.wasm"));
        assert_eq!(fs::read(&built.path).unwrap().len(), built.size);
        assert_eq!(built.manifest.docs.as_deref(), Some("Does nothing."));
        assert_eq!(built.manifest.function("go").unwrap().docs.as_deref(), Some("Says so."));
        let first = fs::read(&built.path).unwrap();
        assert_eq!(fs::read(build(&options).unwrap().path).unwrap(), first);
        let shown = built.to_string();
        assert!(
            shown.contains("acme:idle/tool@1.0.0") && shown.contains("go  read"),
            "{shown}"
        );
    }

    #[test]
    fn a_component_is_documented_as_it_is() {
        let (_folder, options) = tool(WIT, true);
        let (component, _) = encode(&fs::read(options.module.as_ref().unwrap()).unwrap()).unwrap();
        fs::write(options.module.as_ref().unwrap(), &component).unwrap();
        let built = build(&options).unwrap();
        assert_eq!(built.manifest.world, "tool");
        assert!(fs::read(&built.path).unwrap().starts_with(&component));
    }

    #[test]
    fn a_module_without_bindings_is_refused() {
        let (_folder, options) = tool(WIT, false);
        check_refused(&options, "it does not say which world it is for");
    }

    #[test]
    fn what_a_host_would_not_load_is_not_built() {
        let (_folder, options) = tool(&WIT.replace("read", "look"), true);
        check_refused(&options, "the declaration of the function `go` does not parse");
    }

    #[test]
    fn a_wit_folder_that_does_not_parse_is_refused() {
        let (_folder, options) = tool(WIT, true);
        fs::write(
            options.crate_dir.join("wit/world.wit"),
            "package acme:idle; wrold tool {}",
        )
        .unwrap();
        check_refused(&options, "cannot be read");
    }

    #[test]
    fn a_folder_that_is_no_tool_is_refused() {
        let (folder, mut options) = tool(WIT, true);
        options.module = None;
        check_refused(&options, "has no Cargo.toml");
        let package = "[package]\nname = \"idle\"\nedition = \"2024\"\n[workspace]\n";
        fs::write(folder.path().join("Cargo.toml"), package).unwrap();
        fs::create_dir(folder.path().join("src")).unwrap();
        fs::write(folder.path().join("src/lib.rs"), "").unwrap();
        check_refused(&options, "it makes no module");
    }
}
