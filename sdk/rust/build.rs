//! Writes the `generate!` macro with the place of Ambit's own WIT filled in, so that a tool needs no copy of it.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let folder = |name| env::var_os(name).map(PathBuf::from).ok_or(io::ErrorKind::NotFound);
    let wit = folder("CARGO_MANIFEST_DIR")?.join("../../wit").canonicalize()?;
    fs::write(folder("OUT_DIR")?.join("generate.rs"), generate_macro(&wit))?;
    println!("cargo::rerun-if-changed={}", wit.display());
    Ok(())
}

fn generate_macro(wit: &Path) -> String {
    format!(
        r#"/// Generates the bindings of a tool's world: `wit_bindgen::generate!` with Ambit's defaults.
///
/// The world is read from the crate's `wit` folder and named with its package; `ambit:capability` is found without a
/// copy of it. Any option of `wit_bindgen::generate!` can follow, except `path`, `runtime_path` and `generate_all`,
/// which are set:
///
/// ```text
/// ambit_sdk::generate!({{ world: "acme:refunds/tool" }});
/// ```
#[macro_export]
macro_rules! generate {{
    ({{ $($options:tt)* }}) => {{
        $crate::wit_bindgen::generate!({{
            path: [{wit:?}, "wit"],
            runtime_path: "::ambit_sdk::wit_bindgen::rt",
            generate_all,
            $($options)*
        }});
    }};
}}
"#
    )
}
