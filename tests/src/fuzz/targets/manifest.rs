use std::sync::LazyLock;

use ambit_core::json::{Json, Limits};
use ambit_core::manifest::{MAX_COMPONENT_BYTES, Manifest};

use crate::fuzz::Became;
use crate::wit;

pub(super) const WORDS: &[&str] = &[
    "\0asm\x0d\0\x01\0",
    "\0asm\x01\0\0\0",
    "ambit:capability/http@0.1.0",
    "ambit:capability/http@0.2.0",
    "wasi:cli/exit@0.2.0",
    "external-id",
    "implements",
    "[async]",
    "[method]",
    "[resource-drop]",
    "refunds",
    "create",
    "POST https://api.stripe.com/v1/refunds",
    "read",
    "commit",
    "undo(cancel)",
    "ambit-docs",
    "package-docs",
    "\u{1b}[2J",
];

/// Components of the worlds of seeds: with each kind of type, capabilities, documentation.
static COMPONENTS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let worlds = [
        include_str!("../../../fuzz/worlds/refunds.wit"),
        include_str!("../../../fuzz/worlds/types.wit"),
        include_str!("../../../fuzz/worlds/idle.wit"),
    ];
    worlds.iter().map(|world| wit::component(world)).collect()
});

pub(super) fn seeds() -> Vec<Vec<u8>> {
    COMPONENTS.clone()
}

/// What is read can be shown without driving a terminal, has a function for every name it lists, schemas that are JSON, and
/// differs in nothing from itself. Decoding that panics is caught by the host, and counts as refused.
pub(super) fn drive(bytes: &[u8]) -> Became {
    let manifest = Manifest::read(bytes).map_err(|refusal| {
        assert!(!refusal.message.contains(char::is_control), "{:?}", refusal.message);
        refusal.message
    })?;
    assert!(bytes.len() <= MAX_COMPONENT_BYTES);
    let text = manifest.to_string();
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    assert!(
        manifest.diff(&manifest).is_empty(),
        "differs from itself: {:?}",
        manifest.diff(&manifest)
    );
    for function in &manifest.functions {
        let found = manifest.function(&function.id).expect("a function by its id");
        assert_eq!(found, function, "another function by the id {}", function.id);
        for schema in [
            Some(&function.input_schema),
            Some(&function.output_schema),
            function.error_schema.as_ref(),
        ] {
            let Some(schema) = schema else { continue };
            let limits = Limits {
                depth: 256,
                bytes: 64 << 20,
            };
            assert_eq!(Json::parse(&schema.to_canonical(), limits).as_ref(), Ok(schema));
        }
    }
    for import in manifest.capabilities() {
        assert!(import.scope.is_some(), "the capability {} has no scope", import.label);
    }
    assert_eq!(Manifest::read(bytes).as_ref(), Ok(&manifest), "read twice");
    Ok(())
}
