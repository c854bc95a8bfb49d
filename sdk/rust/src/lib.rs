//! Write Ambit tools in Rust.
//!
//! A tool is a WebAssembly component. Its world, in the crate's `wit` folder, says what it offers and, import by import,
//! the most it may ever touch. This crate turns the world into Rust ([`generate!`]), gives every labelled HTTP import
//! the same small client ([`connection!`], [`http`]), and installs an allocator that makes a fresh instance cheap: an
//! arena of 256 KiB inside the memory the instance is born with, and `memory.grow` only beyond it.
//!
//! ```text
//! ambit_sdk::generate!({ world: "acme:refunds/tool" });
//! ambit_sdk::connection!(Stripe => stripe);
//!
//! use ambit_sdk::http::{Connection, Error};
//! use exports::acme::refunds::refunds::{Guest, Refund};
//!
//! struct Tool;
//!
//! impl Guest for Tool {
//!     fn get(id: String) -> Result<Refund, String> {
//!         let answer = Stripe.get(&format!("/v1/refunds/{}", ambit_sdk::http::segment(&id)));
//!         let refund = answer.and_then(|answer| answer.json()).map_err(|error| error.to_string())?;
//!         Ok(Refund { id: refund["id"].as_str().unwrap_or_default().to_owned() })
//!     }
//! }
//!
//! export!(Tool);
//! ```
//!
//! Build it with `ambit build`, which compiles for `wasm32-unknown-unknown`, checks every scope and adds the world's
//! documentation to the component. A tool built so imports nothing but what its world names.
//!
//! # What a tool can rely on
//!
//! - **Each call is a fresh instance.** A `static` never carries a value from one call to the next.
//! - **One thing at a time.** There are no threads; an import returns when its answer is there.
//! - **Time and chance come from imports** (`ambit:capability/clock`, `…/random`). `std::time` and `std::fs` have
//!   nothing behind them on this target: they panic or return errors.
//! - **A panic ends the call**, and the caller learns that the tool trapped. Return an error for what can go wrong.

#[cfg(any(target_arch = "wasm32", test))]
mod arena;
pub mod http;

pub use serde_json as json;
pub use wit_bindgen;

include!(concat!(env!("OUT_DIR"), "/generate.rs"));

#[cfg(target_arch = "wasm32")]
#[global_allocator]
static ALLOCATOR: arena::Arena = arena::Arena::new();
