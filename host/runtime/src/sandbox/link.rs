//! What a component's imports reach: `ambit:capability` by the embedder's `Effects`, WASI with nothing in it, and
//! everything else nothing at all.

use ambit_core::effect::{GuestBody, GuestRequest, GuestResponse, Method};
use ambit_core::error::{Code, Refusal, printable};
use ambit_core::manifest::Manifest;

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, HasSelf, InstancePre, Linker};

use super::call::State;
use super::{GuestHttpError, LogLevel, wasi};

wasmtime::component::bindgen!({
    path: "../../wit/capability.wit",
    inline: "
        package ambit:host;
        world host {
            import ambit:capability/http@0.1.0;
            import ambit:capability/log@0.1.0;
            import ambit:capability/progress@0.1.0;
            import ambit:capability/clock@0.1.0;
            import ambit:capability/random@0.1.0;
        }
    ",
    world: "ambit:host/host",
    imports: { default: trappable },
    named_imports: { "ambit:capability/http@0.1.0": u32 },
});

use self::ambit::capability::{clock, http, log, progress, random};
use self::named_imports::ambit::capability::http as named_http;

/// Most random bytes for one request, as `wit/capability.wit` promises.
const MAX_RANDOM_BYTES: u32 = 1 << 16;

/// Links a component to what it may import and nothing else.
///
/// # Errors
/// `load`, naming the import, where it is neither WASI 0.2 nor one of ours, or where it is of another shape than ours.
pub(super) fn link(component: &Component, manifest: &Manifest) -> Result<InstancePre<State>, Refusal> {
    let wants_wasi = check_imports(component)?;
    let mut linker = Linker::new(component.engine());
    define(&mut linker, component, manifest, wants_wasi)
        .and_then(|()| linker.instantiate_pre(component))
        .map_err(|error| {
            Refusal::new(
                Code::Load,
                format!(
                    "an import is not what the host offers under its name: {}",
                    printable(&format!("{error:#}"))
                ),
            )
            .advise("Build the component against this host's `wit/`.")
        })
}

fn define(
    linker: &mut Linker<State>,
    component: &Component,
    manifest: &Manifest,
    wants_wasi: bool,
) -> wasmtime::Result<()> {
    if wants_wasi {
        wasi::add_to_linker(linker)?;
    }
    log::add_to_linker::<_, HasSelf<State>>(linker, |state| state)?;
    progress::add_to_linker::<_, HasSelf<State>>(linker, |state| state)?;
    clock::add_to_linker::<_, HasSelf<State>>(linker, |state| state)?;
    random::add_to_linker::<_, HasSelf<State>>(linker, |state| state)?;
    let index_of = |label: &str| {
        let import = manifest.imports.iter().find(|import| import.label == label);
        import
            .map(|import| import.index)
            .ok_or_else(|| wasmtime::format_err!("`{label}` is not in the manifest"))
    };
    named_http::add_to_linker::<_, HasSelf<State>>(linker, component, index_of, |state| state)
}

/// Names the first import that nobody serves; says whether WASI is wanted.
fn check_imports(component: &Component) -> Result<bool, Refusal> {
    let engine = component.engine();
    let mut wants_wasi = false;
    for (name, import) in component.component_type().imports(engine) {
        let instance = match &import.ty {
            ComponentItem::ComponentInstance(instance) => instance,
            // A name for a type of the world. It brings nothing with it.
            ComponentItem::Type(_) => continue,
            _ => {
                return Err(unserved(
                    name,
                    "the host serves interfaces, not single functions or modules",
                ));
            }
        };
        let only_types = instance
            .exports(engine)
            .all(|(_, item)| matches!(item.ty, ComponentItem::Type(_)));
        let interface = import.implements.unwrap_or(name);
        if import.implements.is_none() && wasi::serves(name) {
            wants_wasi = true;
        } else if !only_types && !interface.starts_with("ambit:capability/") {
            return Err(unserved(name, why_unserved(interface)));
        }
    }
    Ok(wants_wasi)
}

fn why_unserved(interface: &str) -> &'static str {
    if interface.starts_with("wasi:http/") {
        "requests leave through `ambit:capability/http`, imported under a label with its scope"
    } else if interface.starts_with("wasi:") {
        "of WASI, the packages cli, clocks, filesystem, io, random and sockets of version 0.2 are served"
    } else {
        "the host serves `ambit:capability` and, with nothing in it, WASI 0.2"
    }
}

fn unserved(name: &str, why: &str) -> Refusal {
    Refusal::new(
        Code::Load,
        format!("the component imports `{}`, which nobody serves", printable(name)),
    )
    .advise(why)
}

impl named_http::Host for State {
    fn send(&mut self, import: u32, request: http::Request) -> wasmtime::Result<Result<http::Response, http::Error>> {
        let answer = self.outside(|effects| effects.http(import, request.into()))?;
        Ok(answer.map(Into::into).map_err(Into::into))
    }
}

impl From<http::Request> for GuestRequest {
    fn from(request: http::Request) -> GuestRequest {
        GuestRequest {
            method: match request.method {
                http::Method::Get => Method::Get,
                http::Method::Head => Method::Head,
                http::Method::Post => Method::Post,
                http::Method::Put => Method::Put,
                http::Method::Patch => Method::Patch,
                http::Method::Delete => Method::Delete,
            },
            path: request.path,
            query: pairs(request.query),
            headers: pairs(request.headers),
            body: match request.body {
                http::Body::None => GuestBody::None,
                http::Body::Json(text) => GuestBody::Json(text),
                http::Body::Form(form) => GuestBody::Form(pairs(form)),
            },
        }
    }
}

fn pairs(pairs: Vec<http::Pair>) -> Vec<(String, String)> {
    pairs.into_iter().map(|pair| (pair.name, pair.value)).collect()
}

impl From<GuestResponse> for http::Response {
    fn from(response: GuestResponse) -> http::Response {
        let pair = |(name, value)| http::Pair { name, value };
        http::Response {
            status: response.status,
            headers: response.headers.into_iter().map(pair).collect(),
            body: response.body,
        }
    }
}

impl From<GuestHttpError> for http::Error {
    fn from(error: GuestHttpError) -> http::Error {
        match error {
            GuestHttpError::Refused(refusal) => http::Error::Refused(http::Refusal {
                code: refusal.code.to_string(),
                message: refusal.message,
            }),
            GuestHttpError::Failed(why) => http::Error::Failed(why),
        }
    }
}

impl log::Host for State {
    fn log(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            log::Level::Trace => LogLevel::Trace,
            log::Level::Debug => LogLevel::Debug,
            log::Level::Info => LogLevel::Info,
            log::Level::Warn => LogLevel::Warn,
            log::Level::Error => LogLevel::Error,
        };
        self.log_budget.take(message.len(), 1)?;
        Ok(self.effects.log(level, &message)?)
    }
}

impl progress::Host for State {
    fn report(&mut self, done: u64, total: u64, message: String) -> wasmtime::Result<()> {
        self.log_budget.take(message.len(), 1)?;
        Ok(self.effects.progress(done, total, &message)?)
    }
}

impl clock::Host for State {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.effects.now()?)
    }
}

impl random::Host for State {
    fn bytes(&mut self, len: u32) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(u64::from(len))
    }

    fn number(&mut self) -> wasmtime::Result<u64> {
        let mut bytes = [0; 8];
        self.effects.random(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
}

impl State {
    /// Random bytes, at most [`MAX_RANDOM_BYTES`], for ours and for WASI's interface.
    pub(super) fn random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        let within = u32::try_from(len)
            .ok()
            .filter(|&len| ambit_core::guard!("sandbox.random", len <= MAX_RANDOM_BYTES));
        let Some(len) = within else {
            let refusal = Refusal::new(
                Code::Limit,
                format!("the tool asked for {len} random bytes at once; {MAX_RANDOM_BYTES} is the most"),
            );
            return Err(refusal.into());
        };
        let mut bytes = vec![0; len as usize];
        self.effects.random(&mut bytes)?;
        Ok(bytes)
    }
}
