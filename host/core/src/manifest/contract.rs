//! The contract: what a component declares, as JSON for programs. `ambit inspect` prints it, and agents read it
//! beside the page of [`contract`](crate::contract).

use serde_json::{Value, json};

use super::{Function, Manifest};

impl Manifest {
    /// What it declares, with those of its functions that are `shown`.
    #[must_use]
    pub fn contract(&self, shown: impl Fn(&Function) -> bool) -> Value {
        let functions = self.functions.iter().filter(|function| shown(function));
        json!({
            "digest": self.digest,
            "package": self.package,
            "version": self.version,
            "world": self.world,
            "docs": self.docs,
            "imports": self.imports.iter().map(|import| json!({
                "label": import.label,
                "interface": import.interface,
                "scope": import.scope.as_ref().map(ToString::to_string),
                "docs": import.docs,
            })).collect::<Vec<_>>(),
            "functions": functions.map(Function::contract).collect::<Vec<_>>(),
        })
    }
}

impl Function {
    /// What it declares: tier, docs, and the schemas (2020-12) of its arguments, its value and its error.
    #[must_use]
    pub fn contract(&self) -> Value {
        json!({
            "id": self.id,
            "tier": self.declared.tier.to_string(),
            "undo": self.declared.undo,
            "idempotent": self.declared.idempotent,
            "docs": self.docs,
            "input_schema": self.input_schema,
            "output_schema": self.output_schema,
            "error_schema": self.error_schema,
        })
    }
}
