//! From bytes to the component's type, with every way in which that fails.

use super::{docs, words};
use crate::error::{Code, Refusal, printable};
use crate::guard;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use wit_component::DecodedWasm;
use wit_parser::{Resolve, WorldId};

/// The largest component that is looked at: 32 MiB, enough for a Python interpreter.
pub const MAX_COMPONENT_BYTES: usize = 32 << 20;

/// A component's type, as a WIT world.
pub(super) struct Decoded {
    pub(super) resolve: Resolve,
    /// Named `root:component/root` by the decoder: a component does not carry its world's name.
    pub(super) world: WorldId,
    /// The world that it says it was made from, such as `acme:refunds/tool@1.2.0`.
    pub(super) origin: Option<String>,
}

/// Decodes the type of a component, with its documentation, fit to be shown.
pub(super) fn decode(component: &[u8]) -> Result<Decoded, Refusal> {
    let mut decoded = decode_type(component)?;
    docs::attach(component, &mut decoded)?;
    words::clean(&mut decoded);
    Ok(decoded)
}

/// Validates the component and decodes its type.
pub(super) fn decode_type(component: &[u8]) -> Result<Decoded, Refusal> {
    if !guard!("sandbox.component-size", component.len() <= MAX_COMPONENT_BYTES) {
        let size = component.len();
        return Err(Refusal::new(
            Code::Load,
            format!("the file has {size} bytes; a component has at most {MAX_COMPONENT_BYTES}"),
        )
        .advise("build without debug information, or leave large data out of the component"));
    }
    check_kind(component)?;
    check_sections(component)?;
    match panic_free(|| wit_component::decode(component)) {
        Ok(DecodedWasm::Component(resolve, world)) => Ok(Decoded {
            resolve,
            world,
            origin: None,
        }),
        Ok(DecodedWasm::WitPackage(..)) => Err(Refusal::new(
            Code::Load,
            "the file is a WIT package in binary form: it has types but no code",
        )
        .advise("give the component that `ambit build` made")),
        Err(error) => Err(invalid(&error)),
    }
}

fn invalid(why: &str) -> Refusal {
    Refusal::new(
        Code::Load,
        format!("the component does not validate: {}", printable(why)),
    )
    .advise("the file may be cut short or damaged; build or fetch it again")
}

/// Refuses a section that says it is longer than the file. The decoder reads as from a stream and would make room for it first:
/// a file of a few bytes could take 4 GiB.
pub(super) fn check_sections(component: &[u8]) -> Result<(), Refusal> {
    for payload in wasmparser::Parser::new(0).parse_all(component) {
        let whole = payload.map(drop);
        if !guard!("sandbox.component-sections", whole.is_ok()) {
            return Err(invalid(&whole.err().map(|error| error.to_string()).unwrap_or_default()));
        }
    }
    Ok(())
}

/// Tells apart what is not a component at all, because each has a way out of its own.
fn check_kind(bytes: &[u8]) -> Result<(), Refusal> {
    const BUILD: &str = "give the component that `ambit build` made";
    let (message, advice) = match bytes {
        [b'\0', b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => return Ok(()),
        [b'\0', b'a', b's', b'm', 1, 0, 0, 0, ..] => (
            "the file is a core WebAssembly module, not a component",
            "make a component of it with `ambit build --module FILE`",
        ),
        [b'\0', b'a', b's', b'm', _, _, 1, 0, ..] => (
            "the file is a component of another version of the binary format",
            "build it again with current tools",
        ),
        [] => ("the file is empty, not a component", BUILD),
        _ if b"\0asm\x0d\0\x01\0".starts_with(bytes) => (
            "the file ends within its first eight bytes: it is cut short",
            "build or fetch it again",
        ),
        _ => ("the file is not a WebAssembly component", BUILD),
    };
    Err(Refusal::new(Code::Load, message).advise(advice))
}

/// Runs a decoder that was written for well-meant input. A panic in it is an error here, not the end of the host.
pub(super) fn panic_free<T, E: Display>(decode: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(decode)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(format!("{error:#}")),
        Err(_) => Err("its type could not be decoded".into()),
    }
}
