//! Compiling in a child, with this program as its own child: so it has a `main` of its own and no test harness.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test")]

use ambit_core::error::{Code, Refusal};
use ambit_runtime::sandbox::{COMPILE_CHILD, Compiler, LoadedTool, Sandbox, SandboxOptions, compile_child_main};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

fn main() {
    if std::env::args().nth(1).as_deref() == Some(COMPILE_CHILD) {
        std::process::exit(compile_child_main());
    }
    a_component_compiles();
    what_is_not_valid_is_refused();
    println!("compile_child: ok");
}

fn load(wasm: &[u8]) -> Result<LoadedTool, Refusal> {
    let mut options = SandboxOptions::new(Compiler::Child(std::env::current_exe().unwrap()));
    options.slots = 1;
    Sandbox::new(options)?.load(wasm)
}

/// A component whose function's body is `body`, valid or not.
fn component(body: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve
        .push_str(
            "guest.wit",
            "package test:guest; world tool { export go: func() -> u32; }",
        )
        .unwrap();
    let world = resolve.select_world(&[package], None).unwrap();
    let mut module = wat::parse_str(format!(r#"(module (func (export "go") (result i32) {body}))"#)).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
    let mut encoder = ComponentEncoder::default();
    encoder.validate(false).module(&module).unwrap().encode().unwrap()
}

fn a_component_compiles() {
    let tool = load(&component("(i32.const 7)")).unwrap();
    assert!(tool.manifest().function("go").is_ok());
}

fn what_is_not_valid_is_refused() {
    let refusal = load(&component("(i64.const 7)")).unwrap_err();
    assert_eq!(refusal.code, Code::Load, "{refusal:?}");
    assert!(refusal.message.contains("type mismatch"), "{refusal:?}");
}
