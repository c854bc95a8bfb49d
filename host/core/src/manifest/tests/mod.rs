#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod component;

use super::*;
use crate::json::{Json, Limits};
use component::{component, encode, parse};
use expect_test::{Expect, expect};

const SCOPE: &str = "POST https://api.stripe.com/v1/refunds fields(charge, amount) reads(id, status)";

fn refunds(body: &str) -> String {
    format!(
        r#"package acme:refunds@1.2.0;

        /// Refunds, and nothing else.
        world tool {{
          /// The Stripe API.
          @external-id("{SCOPE}")
          import stripe: ambit:capability/http@0.1.0;
          import ambit:capability/log@0.1.0;
          export refunds;
        }}
        interface refunds {{
          record refund {{ id: string, status: string }}
          {body}
        }}"#
    )
}

const CREATE: &str = r#"
    /// Refund a charge.
    ///
    /// - `charge`: id of the charge,
    ///   starting with `ch_`
    @external-id("commit undo(cancel)")
    create: func(charge: string, amount: option<u64>) -> result<refund, string>;
    /// Take it back.
    cancel: func(id: string) -> result<_, string>;
    @external-id("read")
    get: func(id: string) -> option<refund>;
"#;

/// A component with its documentation, as `ambit build` makes it.
fn documented(wit: &str) -> Vec<u8> {
    let (resolve, world) = parse(wit);
    let mut bytes = encode(&resolve, world);
    for section in sections(&bytes, &resolve, world).unwrap() {
        append(&mut bytes, section.name, &section.contents);
    }
    bytes
}

fn append(component: &mut Vec<u8>, name: &str, contents: &[u8]) {
    use wasm_encoder::ComponentSection as _;
    wasm_encoder::CustomSection {
        name: name.into(),
        data: contents.into(),
    }
    .append_to_component(component);
}

fn manifest(wit: &str) -> Manifest {
    Manifest::read(&documented(wit)).unwrap()
}

/// The component of `wit` is refused, with this message and advice.
fn refused(wit: &str, expected: &Expect) {
    check_refusal(&component(wit), expected);
}

fn check_refusal(bytes: &[u8], expected: &Expect) {
    let refusal = Manifest::read(bytes).unwrap_err();
    assert_eq!(refusal.code, Code::Load);
    expected.assert_eq(&format!(
        "{}\n{}\n",
        refusal.message,
        refusal.advice.unwrap_or_default()
    ));
}

#[test]
fn a_component_says_what_it_is() {
    let manifest = manifest(&refunds(CREATE));
    assert_eq!(manifest.package.as_deref(), Some("acme:refunds"));
    assert_eq!(manifest.version.as_deref(), Some("1.2.0"));
    assert_eq!(manifest.world, "tool");
    assert_eq!(manifest.docs.as_deref(), Some("Refunds, and nothing else."));
    let import = manifest.capabilities().next().unwrap();
    assert_eq!(
        (import.label.as_str(), import.interface.as_str()),
        ("stripe", "ambit:capability/http@0.1.0")
    );
    assert_eq!(import.docs.as_deref(), Some("The Stripe API."));
    assert_eq!(import.scope_text, SCOPE);
    assert_eq!(manifest.imports[1].kind, ImportKind::Plain(Plain::Log));
    assert_eq!(
        manifest.imports.iter().map(|import| import.index).collect::<Vec<_>>(),
        [0, 1]
    );
    let create = manifest.function("create").unwrap();
    assert_eq!(create.id, "refunds.create");
    assert_eq!(create.export.interface.as_deref(), Some("acme:refunds/refunds@1.2.0"));
    let undo = Undo {
        function: "refunds.cancel".into(),
        params: vec![("id".into(), Source::Result)],
    };
    assert_eq!(create.undo, Some(undo));
    assert!(create.docs.as_ref().unwrap().starts_with("Refund a charge."));
}

#[test]
fn what_is_declared_is_shown_whole() {
    let mut shown = manifest(&refunds(CREATE)).to_string();
    let digest = shown.lines().nth(1).unwrap().to_owned();
    shown = shown.replace(&digest, "sha256:…");
    expect![[r#"
        acme:refunds/tool@1.2.0
        sha256:…
        Refunds, and nothing else.

        can reach:
          stripe  (ambit:capability/http@0.1.0)
            POST https://api.stripe.com/v1/refunds fields(amount, charge) reads(id, status)
        also imports: `ambit:capability/log@0.1.0`

        offers:
          refunds.create  commit undo(cancel)   Refund a charge.
          refunds.cancel  commit                Take it back.
          refunds.get     read
    "#]]
    .assert_eq(&shown);
}

#[test]
fn silence_is_commit() {
    use crate::scope::Tier;
    let manifest = manifest(&refunds(CREATE));
    let tiers: Vec<Tier> = manifest
        .functions
        .iter()
        .map(|function| function.declared.tier)
        .collect();
    assert_eq!(tiers, [Tier::Commit, Tier::Commit, Tier::Read]);
}

#[test]
fn without_a_documentation_section_the_type_alone_is_read() {
    let manifest = Manifest::read(&component(&refunds(CREATE))).unwrap();
    assert_eq!(
        (manifest.package.as_deref(), manifest.world.as_str()),
        (Some("acme:refunds"), "root")
    );
    assert_eq!(manifest.docs, None);
    assert_eq!(manifest.functions.len(), 3);
}

#[test]
fn other_tools_still_read_a_documented_component() {
    let decoded = wit_component::decode(&documented(&refunds(CREATE))).unwrap();
    let wit_component::DecodedWasm::Component(resolve, world) = decoded else {
        panic!("not a component")
    };
    assert_eq!(
        resolve.worlds[world].docs.contents.as_deref(),
        Some("Refunds, and nothing else.")
    );
}

#[test]
fn the_same_component_has_the_same_bytes() {
    assert_eq!(documented(&refunds(CREATE)), documented(&refunds(CREATE)));
}

#[test]
fn schemas_say_what_json_is_taken() {
    let create = manifest(&refunds(CREATE)).function("create").unwrap().clone();
    expect![[r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","additionalProperties":false,"description":"Refund a charge.\n\n- `charge`: id of the charge,\n  starting with `ch_`","properties":{"amount":{"anyOf":[{"maximum":18446744073709551615,"minimum":0,"pattern":"^(0|[1-9][0-9]{0,19})$","type":["integer","string"]},{"type":"null"}]},"charge":{"description":"id of the charge, starting with `ch_`","type":"string"}},"required":["charge"],"type":"object"}"#]].assert_eq(&create.input_schema.to_canonical());
    expect![[r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","additionalProperties":false,"properties":{"id":{"type":"string"},"status":{"type":"string"}},"required":["id","status"],"type":"object"}"#]].assert_eq(&create.output_schema.to_canonical());
    expect![[r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"string"}"#]]
        .assert_eq(&create.error_schema.unwrap().to_canonical());
}

/// The schema of one parameter of the type `ty` takes these values and refuses those.
fn check(types: &str, ty: &str, taken: &[&str], refused: &[&str]) {
    let wit = format!("package a:b; world w {{ export i; }} interface i {{ {types} f: func(v: {ty}) -> {ty}; }}");
    let manifest = manifest(&wit);
    let function = &manifest.functions[0];
    let validator = validator(&function.input_schema);
    let output = self::validator(&function.output_schema);
    for (values, expected) in [(taken, true), (refused, false)] {
        for value in values {
            let arguments: serde_json::Value = serde_json::from_str(&format!(r#"{{"v":{value}}}"#)).unwrap();
            assert_eq!(
                validator.is_valid(&arguments),
                expected,
                "{ty} from {value}: {}",
                function.input_schema
            );
            assert_eq!(
                output.is_valid(&arguments["v"]),
                expected,
                "{ty} as {value}: {}",
                function.output_schema
            );
        }
    }
}

/// Checks the schema against its dialect as well.
fn validator(schema: &Json) -> jsonschema::Validator {
    let schema = serde_json::from_str(&schema.to_canonical()).unwrap();
    jsonschema::draft202012::meta::validate(&schema).unwrap();
    jsonschema::draft202012::new(&schema).unwrap()
}

#[test]
fn trap_18_integers_have_their_range() {
    check("", "u8", &["0", "255"], &["-1", "256", "1.5", "\"1\"", "null", "true"]);
    check("", "s8", &["-128", "127"], &["-129", "128"]);
    check("", "u16", &["65535"], &["65536", "-1"]);
    check("", "s16", &["-32768"], &["32768"]);
    check("", "u32", &["4294967295"], &["4294967296", "-1"]);
    check("", "s32", &["-2147483648"], &["2147483648"]);
    let most = "18446744073709551615";
    check(
        "",
        "u64",
        &["0", most, "\"18446744073709551615\"", "\"0\""],
        &[
            "-1",
            "18446744073709551616",
            "\"-1\"",
            "\"01\"",
            "\"\"",
            "\"1e3\"",
            "1.5",
        ],
    );
    check(
        "",
        "s64",
        &["-9223372036854775808", "\"-9223372036854775808\""],
        &["9223372036854775808", "\"-0\"", "\"+1\""],
    );
}

#[test]
fn plain_values() {
    check("", "bool", &["true"], &["1", "\"true\"", "null"]);
    check(
        "",
        "f64",
        &["1", "-2.5", "1e300", "\"NaN\"", "\"-Infinity\"", "\"-0\""],
        &["\"1\"", "\"nan\"", "null"],
    );
    check("", "f32", &["0.5", "\"Infinity\""], &["\"+Infinity\""]);
    check("", "char", &["\"x\"", "\"é\"", "\"😀\""], &["\"\"", "\"ab\"", "1"]);
    check("", "string", &["\"\"", "\"x\""], &["1", "null"]);
    check(
        "",
        "list<u8>",
        &["\"\"", "\"aGk=\"", "\"aGkx\"", "\"AA==\""],
        &["\"a\"", "\"aGk\"", "[1]", "\"aGk-\""],
    );
    check("type byte = u8;", "list<byte>", &["\"aGk=\""], &["[1]"]);
}

#[test]
fn compound_values() {
    check("", "list<u16>", &["[]", "[1,2]"], &["[70000]", "\"\"", "null"]);
    check(
        "",
        "tuple<string, bool>",
        &["[\"a\",true]"],
        &["[\"a\"]", "[\"a\",true,1]", "[true,\"a\"]"],
    );
    let point = "record point { x: s32, y: option<s32>, description: string }";
    check(
        point,
        "point",
        &[
            r#"{"x":1,"y":2,"description":""}"#,
            r#"{"x":1,"description":""}"#,
            r#"{"x":1,"y":null,"description":""}"#,
        ],
        &[
            r#"{"y":1,"description":""}"#,
            r#"{"x":1,"description":"","z":1}"#,
            r#"{"x":null,"description":""}"#,
            "[1]",
        ],
    );
    check("", "option<u8>", &["null", "1"], &["256", "{\"some\":1}"]);
    check(
        "",
        "option<option<u8>>",
        &["null", "{\"some\":1}", "{\"some\":null}"],
        &["1", "{}", "{\"some\":256}"],
    );
    check(
        "type maybe = option<u8>;",
        "option<maybe>",
        &["null", "{\"some\":null}"],
        &["1"],
    );
    check(
        "variant shape { nothing, dot(u8), maybe(option<u8>) }",
        "shape",
        &["\"nothing\"", "{\"dot\":1}", "{\"maybe\":null}"],
        &[
            "\"dot\"",
            "{\"nothing\":null}",
            "{\"dot\":1,\"maybe\":1}",
            "{}",
            "null",
            "\"other\"",
        ],
    );
    check(
        "enum colour { red, dark-green }",
        "colour",
        &["\"red\"", "\"dark-green\""],
        &["\"blue\"", "0", "{\"red\":null}"],
    );
    check(
        "flags access { read, write }",
        "access",
        &["[]", "[\"write\",\"read\"]"],
        &["[\"read\",\"read\"]", "[\"run\"]", "\"read\""],
    );
    check(
        "",
        "tuple<result<u8, string>>",
        &["[{\"ok\":1}]", "[{\"err\":\"x\"}]"],
        &["[1]", "[{\"ok\":1,\"err\":\"x\"}]", "[{}]"],
    );
    check(
        "",
        "tuple<result>",
        &["[{\"ok\":null}]", "[{\"err\":null}]"],
        &["[{\"ok\":1}]", "[{}]"],
    );
}

#[test]
fn docs_become_descriptions() {
    let wit = r#"package a:b; world w { export i; } interface i {
        /// What may be done.
        flags access {
          /// Look at it.
          read,
          write,
        }
        /// One file.
        record file {
          /// Its path.
          path: string,
          access: access,
        }
        /// Opens it.
        open: func(file: file);
    }"#;
    let schema = manifest(wit).functions[0].input_schema.clone();
    let at = |path: &[&str]| {
        let found = path.iter().try_fold(&schema, |at, name| at.get(name));
        found
            .and_then(|at| at.get("description"))
            .and_then(Json::as_str)
            .map(str::to_owned)
    };
    assert_eq!(at(&[]).as_deref(), Some("Opens it."));
    assert_eq!(at(&["properties", "file"]).as_deref(), Some("One file."));
    assert_eq!(
        at(&["properties", "file", "properties", "path"]).as_deref(),
        Some("Its path.")
    );
    let access = at(&["properties", "file", "properties", "access"]);
    assert_eq!(access.as_deref(), Some("What may be done.\n- `read`: Look at it."));
}

#[test]
fn a_parameter_is_described_in_its_functions_docs() {
    let create = manifest(&refunds(CREATE)).function("create").unwrap().clone();
    let charge = &create.params[0];
    assert_eq!(charge.0, "charge");
    assert_eq!(
        charge.1.get("description").and_then(Json::as_str),
        Some("id of the charge, starting with `ch_`")
    );
}

#[test]
fn schemas_are_strict_json() {
    for function in manifest(&refunds(CREATE)).functions {
        let text = function.input_schema.to_canonical();
        assert_eq!(Json::parse(&text, Limits::default()).unwrap(), function.input_schema);
    }
}

#[test]
fn names_find_functions() {
    let two = "package a:b; world w { export x; export y; export go: func(); }
        interface x { get: func(); set: func(); } interface y { get: func(); }";
    let manifest = manifest(two);
    let found = |name: &str| manifest.function(name).map(|function| function.id.clone());
    assert_eq!(found("x.get").as_deref(), Ok("x.get"));
    assert_eq!(found("set").as_deref(), Ok("x.set"));
    assert_eq!(found("go").as_deref(), Ok("go"));
    let refusal = found("get").unwrap_err();
    assert_eq!(
        (refusal.code, refusal.message.as_str()),
        (Code::Function, "`get` is the name of several functions")
    );
    assert_eq!(refusal.advice.as_deref(), Some("call one of `x.get`, `y.get`"));
    let refusal = found("x.gte").unwrap_err();
    assert_eq!(refusal.message, "there is no function `x.gte`");
    assert!(refusal.advice.unwrap().starts_with("did you mean `x.get`"));
}

/// A section of 3 GiB in a file of 14 bytes: nobody makes room for it.
#[test]
fn a_section_longer_than_the_file() {
    let long = b"\0asm\x0d\0\x01\0\x06\xf0\x9f\x92\xb6\x0c";
    // The decoder finds it too, once the room is made.
    assert!(decode::check_sections(long).is_err());
    check_refusal(
        long,
        &expect![[r#"
        the component does not validate: unexpected end-of-file (at offset 0xe)
        the file may be cut short or damaged; build or fetch it again
    "#]],
    );
}

#[test]
fn what_is_not_a_component_is_refused() {
    let core = wasm_encoder::Module::new().finish();
    let whole = component(&refunds(CREATE));
    check_refusal(
        b"",
        &expect![[r#"
            the file is empty, not a component
            give the component that `ambit build` made
        "#]],
    );
    check_refusal(
        b"#!/bin/sh\n",
        &expect![[r#"
            the file is not a WebAssembly component
            give the component that `ambit build` made
        "#]],
    );
    check_refusal(
        &core,
        &expect![[r#"
            the file is a core WebAssembly module, not a component
            make a component of it with `ambit build --module FILE`
        "#]],
    );
    check_refusal(
        &whole[..6],
        &expect![[r#"
        the file ends within its first eight bytes: it is cut short
        build or fetch it again
    "#]],
    );
    check_refusal(
        b"\0asm\x0a\0\x01\0",
        &expect![[r#"
        the file is a component of another version of the binary format
        build it again with current tools
    "#]],
    );
    check_refusal(
        &whole[..whole.len() / 2],
        &expect![[r#"
        the component does not validate: unexpected end-of-file (at offset 0x589)
        the file may be cut short or damaged; build or fetch it again
    "#]],
    );
}

#[test]
fn a_component_cut_or_damaged_anywhere_is_refused_or_another() {
    let whole = documented(&refunds(CREATE));
    let manifest = Manifest::read(&whole).unwrap();
    let scopes = |manifest: &Manifest| -> Vec<String> {
        let scope = |import: &CapabilityImport| import.scope_text.clone();
        manifest.imports.iter().map(scope).collect()
    };
    for end in (8..whole.len()).step_by(7) {
        if let Ok(cut) = Manifest::read(&whole[..end]) {
            assert_eq!(
                scopes(&cut),
                scopes(&manifest),
                "cut at {end}: only documentation may be missing"
            );
        }
    }
    for at in (8..whole.len()).step_by(11) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x55;
        if let Ok(read) = Manifest::read(&damaged) {
            assert_ne!(read.digest, manifest.digest);
        }
    }
}

#[test]
fn a_wit_package_is_not_a_component() {
    let (resolve, world) = parse(&refunds(CREATE));
    let package = resolve.worlds[world].package.unwrap();
    check_refusal(
        &wit_component::encode(&resolve, package, false).unwrap(),
        &expect![[r#"
            the file is a WIT package in binary form: it has types but no code
            give the component that `ambit build` made
        "#]],
    );
}

#[test]
fn a_huge_file_is_refused_before_it_is_read() {
    let mut bytes = component(&refunds(CREATE));
    bytes.resize(MAX_COMPONENT_BYTES + 1, 0);
    check_refusal(
        &bytes,
        &expect![[r#"
        the file has 33554433 bytes; a component has at most 33554432
        build without debug information, or leave large data out of the component
    "#]],
    );
}

#[test]
fn an_import_nobody_serves_is_refused() {
    refused(
        "package a:b; interface secrets { get: func() -> string; } world w { import secrets; export go: func(); }",
        &expect![[r#"
            this host does not serve the import `a:b/secrets`
            served are http (under a label, with a scope) and log, progress, clock, random of ambit:capability@0.1.0, and these packages of WASI 0.2, with nothing in them: cli, clocks, filesystem, io, random, sockets
        "#]],
    );
    refused(
        "package a:b; world w { import exec: func(command: string); export go: func(); }",
        &expect![[r#"
            this host does not serve the import `exec`, a function outside any interface
            served are http (under a label, with a scope) and log, progress, clock, random of ambit:capability@0.1.0, and these packages of WASI 0.2, with nothing in them: cli, clocks, filesystem, io, random, sockets
        "#]],
    );
    refused(
        "package a:b; world w { import x: interface { exec: func(); } export go: func(); }",
        &expect![[r#"
            this host does not serve the import `x`, an interface of its own
            served are http (under a label, with a scope) and log, progress, clock, random of ambit:capability@0.1.0, and these packages of WASI 0.2, with nothing in them: cli, clocks, filesystem, io, random, sockets
        "#]],
    );
    let wasi = "package wasi:http@0.2.3; interface outgoing-handler { handle: func(); }
        world w { import outgoing-handler; export go: func(); }";
    refused(
        wasi,
        &expect![[r#"
            this host does not serve the import `wasi:http/outgoing-handler@0.2.3`
            served are http (under a label, with a scope) and log, progress, clock, random of ambit:capability@0.1.0, and these packages of WASI 0.2, with nothing in them: cli, clocks, filesystem, io, random, sockets
        "#]],
    );
    let preview3 = "package wasi:cli@0.3.0; interface environment { get: func(); }
        world w { import environment; export go: func(); }";
    refused(
        preview3,
        &expect![[r#"
            this host does not serve the import `wasi:cli/environment@0.3.0`
            served are http (under a label, with a scope) and log, progress, clock, random of ambit:capability@0.1.0, and these packages of WASI 0.2, with nothing in them: cli, clocks, filesystem, io, random, sockets
        "#]],
    );
}

#[test]
fn wasi_is_served_empty() {
    let wasi = "package wasi:cli@0.2.6; interface environment { get-arguments: func() -> list<string>; }
        world w { import environment; export go: func(); }";
    let manifest = Manifest::read(&component(wasi)).unwrap();
    assert_eq!(
        manifest.imports[0].kind,
        ImportKind::Wasi("wasi:cli/environment@0.2.6".into())
    );
    assert_eq!(manifest.capabilities().count(), 0);
}

#[test]
fn types_alone_ask_for_nothing() {
    let shared = "package a:b; interface types { record r { x: u8 } } interface i { use types.{r}; f: func(r: r); }
        world w { export i; }";
    let manifest = Manifest::read(&component(shared)).unwrap();
    assert!(manifest.imports.iter().all(|import| import.kind == ImportKind::Types));
}

#[test]
fn a_capability_says_what_it_is_for() {
    let with = |import: &str| format!("package a:b; world w {{ {import} export go: func(); }}");
    refused(
        &with("import ambit:capability/http@0.1.0;"),
        &expect![[r#"
        the import `ambit:capability/http@0.1.0` has no label: nothing could be bound to it
        declare it as `@external-id("GET https://api.example.com/v1/things/{id} reads(id)") import example: ambit:capability/http@0.1.0;`
    "#]],
    );
    refused(
        &with("import stripe: ambit:capability/http@0.1.0;"),
        &expect![[r#"
        the import `stripe` has no scope: it does not say what it needs of ambit:capability/http@0.1.0
        declare it as `@external-id("GET https://api.example.com/v1/things/{id} reads(id)") import example: ambit:capability/http@0.1.0;`
    "#]],
    );
    refused(
        &with(r#"@external-id("") import s: ambit:capability/http@0.1.0;"#),
        &expect![[r#"
            the scope of the import `s` does not parse: expected a rule (at `⟨here⟩`)
            a rule is `METHOD origin/path`, as in `GET https://api.example.com/v1/things/{id} reads(name)`
        "#]],
    );
    refused(
        &with(
            r#"@external-id("GET https://api.example.com/x reads(id) anything(y)") import s: ambit:capability/http@0.1.0;"#,
        ),
        &expect![[r#"
            the scope of the import `s` does not parse: `anything` is not a part of a rule (at `example.com/x reads(id) ⟨here⟩anything(y)`)
            after the path come `query(…)`, `fields(…)`, `reads(…)` and `headers(…)`; rules are separated by `;`
        "#]],
    );
    let label = format!(
        r#"@external-id("{SCOPE}") import s{}: ambit:capability/http@0.1.0;"#,
        "-s".repeat(40)
    );
    refused(
        &with(&label),
        &expect![[r#"
        the import `s-s-s-s-s-s-s-s-s-s-s-s-s-s-s-s-s-s-s-s-s-s-s-s-s-s-s-s-s-s-s-s-s-s-s-s-s-s-s-s-s` has a label of more than 64 characters
        give it a shorter one
    "#]],
    );
}

#[test]
fn trap_16_a_scope_where_none_is_read_is_refused() {
    refused(
        r#"package a:b; world w { @external-id("nothing") import ambit:capability/log@0.1.0; export go: func(); }"#,
        &expect![[r#"
            the import `ambit:capability/log@0.1.0` has a scope, but takes none
            remove its `@external-id`
        "#]],
    );
    refused(
        r#"package a:b; world w { @external-id("read") export i; } interface i { f: func(); }"#,
        &expect![[r#"
            the exported interface `a:b/i` has an `@external-id`, but takes none
            write it on each of its functions
        "#]],
    );
}

#[test]
fn a_function_without_json_form_is_refused_by_name() {
    let with = |body: &str| format!("package a:b; world w {{ export i; }} interface i {{ {body} }}");
    refused(
        &with("f: func(s: stream<u8>);"),
        &expect![[r#"
            the function `i.f` cannot be called with JSON: it has a stream, which has no JSON form
            use records, variants, lists and plain values, and leave resources and streams inside the component
        "#]],
    );
    refused(
        &with("f: func() -> future<u8>;"),
        &expect![[r#"
            the function `i.f` cannot be called with JSON: it has a future, which has no JSON form
            use records, variants, lists and plain values, and leave resources and streams inside the component
        "#]],
    );
    refused(
        &with("f: func(v: list<u8, 4>);"),
        &expect![[r#"
            the function `i.f` cannot be called with JSON: it has a fixed-length list, which has no JSON form
            use records, variants, lists and plain values, and leave resources and streams inside the component
        "#]],
    );
    refused(
        &with("f: func(v: map<string, u8>);"),
        &expect![[r#"
            the function `i.f` cannot be called with JSON: it has a map, which has no JSON form
            use records, variants, lists and plain values, and leave resources and streams inside the component
        "#]],
    );
    refused(
        &with("f: async func();"),
        &expect![[r#"
        the function `i.f` cannot be called with JSON: it is asynchronous, or belongs to a resource
        use records, variants, lists and plain values, and leave resources and streams inside the component
    "#]],
    );
    refused(
        &with("resource r { m: func(); }"),
        &expect![[r#"
        the function `i.[method]r.m` cannot be called with JSON: it is asynchronous, or belongs to a resource
        use records, variants, lists and plain values, and leave resources and streams inside the component
    "#]],
    );
    let resource =
        "package a:b; world w { import r; export f: func(v: borrow-v); use r.{v}; type borrow-v = borrow<v>; }
        interface r { resource v; }";
    refused(
        resource,
        &expect![[r#"
            the function `f` cannot be called with JSON: it has a borrow (`borrow-v`), which has no JSON form
            use records, variants, lists and plain values, and leave resources and streams inside the component
        "#]],
    );
}

#[test]
fn a_type_that_grows_without_end_is_refused() {
    let pairs: String = (1..17)
        .map(|n| format!("type t{n} = tuple<t{}, t{}>;", n - 1, n - 1))
        .collect();
    let wit =
        format!("package a:b; world w {{ export i; }} interface i {{ type t0 = u8; {pairs} f: func(v: list<t16>); }}");
    refused(
        &wit,
        &expect![[r#"
        the function `i.f` cannot be called with JSON: its types with their names and docs, written out where they are used, and those of the functions before it, have more than 1048576 bytes
        use records, variants, lists and plain values, and leave resources and streams inside the component
    "#]],
    );
    let lists: String = (1..90).map(|n| format!("type t{n} = list<t{}>;", n - 1)).collect();
    let wit =
        format!("package a:b; world w {{ export i; }} interface i {{ type t0 = string; {lists} f: func(v: t89); }}");
    refused(
        &wit,
        &expect![[r#"
        the function `i.f` cannot be called with JSON: a type in it nests deeper than 64
        use records, variants, lists and plain values, and leave resources and streams inside the component
    "#]],
    );
}

/// One text of 3 KiB, or one long name, used ten thousand times would be tens of megabytes for whoever reads the component.
#[test]
fn what_is_used_often_does_not_fill_the_memory() {
    let text = "word ".repeat(600);
    let long = format!("n{}", "x".repeat(3_000));
    let repeated = |item: &str| (0..500).map(|n| format!("fn{n}: func(v: {item});")).collect::<String>();
    for (types, item) in [
        (format!("/// {text}\n type t = u32;"), "tuple<t, t, t, t, t, t, t, t>"),
        (format!("record r {{ {long}: u8 }}"), "tuple<r, r, r, r, r, r, r, r>"),
        (format!("enum e {{ {long}, b }}"), "tuple<e, e, e, e, e, e, e, e>"),
        (format!("flags e {{ {long}, b }}"), "tuple<e, e, e, e, e, e, e, e>"),
        (
            format!("variant e {{ {long}(u8), b }}"),
            "tuple<e, e, e, e, e, e, e, e>",
        ),
        (
            format!("enum e {{ /// {text}\n a, b }}"),
            "tuple<e, e, e, e, e, e, e, e>",
        ),
    ] {
        let wit = format!(
            "package a:b; world w {{ export i; }} interface i {{ {types} {} }}",
            repeated(item)
        );
        let refusal = Manifest::read(&documented(&wit)).expect_err("too much");
        assert!(
            refusal.message.contains("have more than 1048576 bytes"),
            "{}",
            refusal.message
        );
    }
    // As much as anybody needs is taken.
    let wit = format!(
        "package a:b; world w {{ export i; }} interface i {{ /// {text}\n type t = u32; {} }}",
        (0..50).map(|n| format!("fn{n}: func(v: t);")).collect::<String>()
    );
    assert_eq!(manifest(&wit).functions.len(), 50);
}

/// Whoever shows docs shows these: the contract, schemas, and what they are made into elsewhere.
#[test]
fn docs_hide_nothing_wherever_they_are() {
    let hidden: Vec<char> = "\u{e0041}\u{fe01}\u{e0100}\u{34f}\u{3164}\u{2800}\u{1d173}\u{200b}\u{180b}"
        .chars()
        .collect();
    let words = |n: usize| format!("/// a{}b\n", hidden[n % hidden.len()]);
    let wit = format!(
        "package acme:things@1.0.0;
        {} world tool {{ {} @external-id(\"{SCOPE}\") import stripe: ambit:capability/http@0.1.0; export things; }}
        {} interface things {{
            {} record r {{ {} a: u8 }}
            {} variant v {{ {} a, {} b(u8) }}
            {} enum e {{ {} a, b }}
            {} flags f {{ {} a, b }}
            {} type t = string;
            {}
            /// - `x`: one \u{e0042}
            go: func(x: r, y: v, z: e, f: f, t: t) -> result<r, e>;
        }}",
        words(0),
        words(1),
        words(2),
        words(3),
        words(4),
        words(5),
        words(6),
        words(7),
        words(8),
        words(0),
        words(1),
        words(2),
        words(3),
        words(4),
    );
    let manifest = manifest(&wit);
    let contract = manifest.contract(|_| true).to_string();
    assert!(!contract.contains(crate::error::is_hidden), "{contract}");
    assert!(contract.contains("a\\\\u{e0041}b"), "{contract}");
    assert!(contract.contains("one \\\\u{e0042}"), "{contract}");
    let shown = format!("{manifest}{:?}", manifest.functions);
    assert!(hidden.iter().all(|c| !shown.contains(*c)), "{shown}");
}

#[test]
fn trap_18_two_functions_of_one_name_are_refused() {
    let wit = "package a:b; interface x { f: func(); } world w { export x; export y:x-y/x; }
        package y:x-y { interface x { f: func(); } }";
    refused(
        wit,
        &expect![[r#"
        two functions would both be called `x.f`: one of a:b/x, one of y:x-y/x
        rename one of the interfaces
    "#]],
    );
}

#[test]
fn nothing_to_call_is_refused() {
    refused(
        "package a:b; world w { import ambit:capability/log@0.1.0; }",
        &expect![[r#"
            the component exports no function: there is nothing to call
            export an interface or a function from its world
        "#]],
    );
}

#[test]
fn a_function_declaration_must_parse() {
    refused(
        r#"package a:b; world w { @external-id("writes") export go: func(); }"#,
        &expect![[r#"
            the declaration of the function `go` does not parse: `writes` says nothing about a function (at `⟨here⟩writes`)
            a function is `read`, `draft` or `commit`, then `undo(function)` and `idempotent` where they hold
        "#]],
    );
}

#[test]
fn an_undo_is_one_that_can_be_called() {
    let with = |cancel: &str| {
        refunds(&format!(
            r#"@external-id("commit undo(cancel)") create: func(charge: string, amount: u64) -> result<refund, string>; {cancel}"#
        ))
    };
    refused(
        &with(""),
        &expect![[r#"
        `refunds.create` says undo(cancel), but there is no other function `cancel` beside it
        name a function of the same interface
    "#]],
    );
    refused(
        &with("cancel: func(id: string, why: string);"),
        &expect![[r#"
        `refunds.create` says undo(cancel), but the parameter `why` of `cancel` is neither among its arguments nor in its result
        the parameters of an undo are found by name and type in the function's arguments and its ok value
    "#]],
    );
    refused(
        &with("cancel: func(id: u64);"),
        &expect![[r#"
        `refunds.create` says undo(cancel), but the parameter `id` of `cancel` has another type there
        the parameters of an undo are found by name and type in the function's arguments and its ok value
    "#]],
    );
    refused(
        &refunds(r#"@external-id("commit undo(create)") create: func(charge: string);"#),
        &expect![[r#"
            `refunds.create` says undo(create), but there is no other function `create` beside it
            name a function of the same interface
        "#]],
    );
    for (cancel, params) in [
        (
            "cancel: func(id: string, charge: string);",
            vec![("id", Source::Result), ("charge", Source::Argument)],
        ),
        (
            "cancel: func(id: string, why: option<string>);",
            vec![("id", Source::Result)],
        ),
        ("cancel: func();", vec![]),
    ] {
        let manifest = manifest(&with(cancel));
        let undo = manifest.function("create").unwrap().undo.clone().unwrap();
        let expected: Vec<(String, Source)> = params.into_iter().map(|(name, source)| (name.into(), source)).collect();
        assert_eq!((undo.function.as_str(), undo.params), ("refunds.cancel", expected));
    }
}

#[test]
fn documentation_that_does_not_fit_is_refused() {
    let mut twice = documented(&refunds(CREATE));
    append(&mut twice, SECTION, br#"{"world":"a:b/c","packages":{}}"#);
    check_refusal(
        &twice,
        &expect![[r#"
        the component's `ambit-docs` section does not fit the component: it is there twice
        build it again with `ambit build`
    "#]],
    );
    for contents in [
        r#"{"world":"a:b/c","packages":{"x:y":{}}}"#,
        "{",
        r#"{"world":"a:b/c","packages":{"acme:refunds@1.2.0":{"interfaces":{"nope":{"docs":"x"}}}}}"#,
    ] {
        let mut bytes = component(&refunds(CREATE));
        append(&mut bytes, SECTION, contents.as_bytes());
        let refusal = Manifest::read(&bytes).unwrap_err();
        assert!(refusal.message.contains("does not fit the component"), "{refusal}");
    }
}

#[test]
fn a_documentation_section_inside_a_module_is_not_the_components() {
    let (resolve, world) = parse(&refunds(CREATE));
    let outer = encode(&resolve, world);
    let mut bytes = outer.clone();
    let inner = {
        let mut module = wasm_encoder::Module::new();
        module.section(&wasm_encoder::CustomSection {
            name: SECTION.into(),
            data: b"{"[..].into(),
        });
        module.finish()
    };
    use wasm_encoder::{ComponentSection as _, RawSection};
    RawSection { id: 1, data: &inner }.append_to_component(&mut bytes);
    assert!(Manifest::read(&bytes).is_ok());
}

fn changes(before: &str, after: &str, expected: &Expect) {
    let (before, after) = (manifest(before), manifest(after));
    let lines = before
        .diff(&after)
        .iter()
        .map(|change| format!("{}{change}\n", if change.widens() { "wider: " } else { "other: " }))
        .collect::<String>();
    expected.assert_eq(&lines);
}

#[test]
fn an_update_is_shown_as_what_it_changes() {
    let base = refunds(CREATE);
    changes(&base, &base, &expect![[""]]);
    changes(
        &base,
        &base.replace("fields(charge, amount)", "fields(charge, amount, reason)"),
        &expect![[r#"
            wider: scope of `stripe` widened: was POST https://api.stripe.com/v1/refunds fields(amount, charge) reads(id, status), is POST https://api.stripe.com/v1/refunds fields(amount, charge, reason) reads(id, status)
        "#]],
    );
    changes(
        &base,
        &base.replace("fields(charge, amount)", "fields(charge)"),
        &expect![[r#"
            other: scope of `stripe` narrowed: was POST https://api.stripe.com/v1/refunds fields(amount, charge) reads(id, status), is POST https://api.stripe.com/v1/refunds fields(charge) reads(id, status)
        "#]],
    );
    changes(
        &base,
        &base.replace(
            "import ambit:capability/log@0.1.0;",
            "import ambit:capability/clock@0.1.0;",
        ),
        &expect![[r#"
            other: new import `ambit:capability/clock@0.1.0` of ambit:capability/clock@0.1.0
            other: import `ambit:capability/log@0.1.0` is gone
        "#]],
    );
    changes(
        &base,
        &base.replace("import stripe:", "import paypal:"),
        &expect![[r#"
            wider: new import `paypal` of ambit:capability/http@0.1.0: POST https://api.stripe.com/v1/refunds fields(amount, charge) reads(id, status)
            other: import `stripe` is gone
        "#]],
    );
    changes(
        &base,
        &base.replace(r#"@external-id("read")"#, ""),
        &expect![[r#"
            wider: function `refunds.get` was read, is commit
        "#]],
    );
    changes(
        &base,
        &base.replace("commit undo(cancel)", "draft"),
        &expect![[r#"
            wider: function `refunds.create` promised `commit undo(cancel)`, now `draft`
            other: function `refunds.create` was commit, is draft
        "#]],
    );
    changes(
        &base,
        &base.replace("get: func(id: string)", "fetch: func(id: string)"),
        &expect![[r#"
            other: new function `refunds.fetch` (read)
            other: function `refunds.get` is gone
        "#]],
    );
    changes(
        &base,
        &base.replace("Refund a charge.", "Refund a charge. Always call this first."),
        &expect![[r#"
            other: function `refunds.create` is described in other words
        "#]],
    );
    changes(
        &base,
        &base.replace("amount: option<u64>", "amount: u64"),
        &expect![[r#"
            other: function `refunds.create` takes or returns something else
        "#]],
    );
}
