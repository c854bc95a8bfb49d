//! Components without code, made from WIT: each function is there with its type and traps when called.

use wasm_encoder::{
    CodeSection, EntityType, ExportKind, ExportSection, Function, FunctionSection, ImportSection, Instruction,
    MemorySection, MemoryType, Module, TypeSection, ValType,
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::abi::{AbiVariant, WasmSignature, WasmType};
use wit_parser::{
    LiftLowerAbi, ManglingAndAbi, Resolve, WasmExport, WasmExportKind, WasmImport, WorldId, WorldItem, WorldKey,
};

const MANGLING: ManglingAndAbi = ManglingAndAbi::Legacy(LiftLowerAbi::Sync);

/// The component of the only world in `wit`, importing and exporting all of it.
pub(super) fn component(wit: &str) -> Vec<u8> {
    let (resolve, world) = parse(wit);
    encode(&resolve, world)
}

/// Parses `wit` beside the host's own package; the only world in it.
pub(super) fn parse(wit: &str) -> (Resolve, WorldId) {
    let mut resolve = Resolve::default();
    resolve
        .push_source("capability.wit", include_str!("../../../../../wit/capability.wit"))
        .unwrap();
    let package = resolve.push_source("test.wit", wit).unwrap();
    let world = resolve.select_world(&[package], None).unwrap();
    (resolve, world)
}

pub(super) fn encode(resolve: &Resolve, world: WorldId) -> Vec<u8> {
    let mut module = Core::default().build(resolve, world);
    embed_component_metadata(&mut module, resolve, world, StringEncoding::UTF8, false).unwrap();
    ComponentEncoder::default()
        .module(&module)
        .unwrap()
        .validate(true)
        .encode()
        .unwrap()
}

/// A core module in the making. Imports come before functions, as in its index space.
#[derive(Default)]
struct Core {
    types: TypeSection,
    imports: ImportSection,
    functions: FunctionSection,
    exports: ExportSection,
    code: CodeSection,
    imported: u32,
}

impl Core {
    fn build(mut self, resolve: &Resolve, world: WorldId) -> Vec<u8> {
        let world = &resolve.worlds[world];
        for (interface, function) in functions(resolve, &world.imports) {
            let name = resolve.wasm_import_name(
                MANGLING,
                WasmImport::Func {
                    interface,
                    func: function,
                },
            );
            let ty = self.ty(&resolve.wasm_signature(AbiVariant::GuestImport, function));
            self.imports.import(&name.0, &name.1, EntityType::Function(ty));
            self.imported += 1;
        }
        for (interface, func) in functions(resolve, &world.exports) {
            let export = WasmExport::Func {
                interface,
                func,
                kind: WasmExportKind::Normal,
            };
            let ty = self.ty(&resolve.wasm_signature(AbiVariant::GuestExport, func));
            self.export(&resolve.wasm_export_name(MANGLING, export), ty);
        }
        let i32x4 = [ValType::I32; 4];
        self.types.ty().function(i32x4, [ValType::I32]);
        self.export(
            &resolve.wasm_export_name(MANGLING, WasmExport::Realloc),
            self.types.len() - 1,
        );
        let mut memories = MemorySection::new();
        memories.memory(MemoryType {
            minimum: 0,
            maximum: None,
            memory64: false,
            shared: false,
            page_size_log2: None,
        });
        self.exports.export(
            &resolve.wasm_export_name(MANGLING, WasmExport::Memory),
            ExportKind::Memory,
            0,
        );
        let mut module = Module::new();
        module
            .section(&self.types)
            .section(&self.imports)
            .section(&self.functions)
            .section(&memories);
        module.section(&self.exports).section(&self.code);
        module.finish()
    }

    fn ty(&mut self, signature: &WasmSignature) -> u32 {
        let of = |types: &[WasmType]| -> Vec<ValType> { types.iter().map(val_type).collect() };
        self.types.ty().function(of(&signature.params), of(&signature.results));
        self.types.len() - 1
    }

    fn export(&mut self, name: &str, ty: u32) {
        self.exports
            .export(name, ExportKind::Func, self.imported + self.functions.len());
        self.functions.function(ty);
        let mut body = Function::new([]);
        body.instruction(&Instruction::Unreachable)
            .instruction(&Instruction::End);
        self.code.function(&body);
    }
}

fn val_type(ty: &WasmType) -> ValType {
    match ty {
        WasmType::I32 | WasmType::Pointer | WasmType::Length => ValType::I32,
        WasmType::I64 | WasmType::PointerOrI64 => ValType::I64,
        WasmType::F32 => ValType::F32,
        WasmType::F64 => ValType::F64,
    }
}

type Items = wit_parser::IndexMap<WorldKey, WorldItem>;

fn functions<'a>(resolve: &'a Resolve, items: &'a Items) -> Vec<(Option<&'a WorldKey>, &'a wit_parser::Function)> {
    let of = |(key, item): (&'a WorldKey, &'a WorldItem)| match item {
        WorldItem::Function(function) => vec![(None, function)],
        WorldItem::Interface { id, .. } => resolve.interfaces[*id]
            .functions
            .values()
            .map(|function| (Some(key), function))
            .collect(),
        WorldItem::Type { .. } => Vec::new(),
    };
    items.iter().flat_map(of).collect()
}
