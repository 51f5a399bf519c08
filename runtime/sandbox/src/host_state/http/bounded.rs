//! Functions of `wasi:http` with texts whose length `wasmtime-wasi-http` does not limit: they would let a guest fill the memory of the host.
//! And one that keeps a handle: it would let a guest run out of handles.

use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource},
};
use wasmtime_wasi_http::{
    RequestOptions, WasiHttpView as _,
    p2::{
        bindings::http::{
            outgoing_handler::Host as _,
            types::{ErrorCode, Host as _, HostOutgoingRequest as _, Method, OutgoingRequest, Scheme},
        },
        types::HostFutureIncomingResponse,
    },
};

use super::HostState;

/// The interfaces, in the version that `wasmtime-wasi-http` links.
const TYPES: &str = "wasi:http/types@0.2.12";
const OUTGOING_HANDLER: &str = "wasi:http/outgoing-handler@0.2.12";

/// The maximum length of a text, in bytes. Servers refuse longer addresses.
const MAX_TEXT_BYTES: usize = 16 << 10;

type Request = Resource<OutgoingRequest>;
type Store<'a> = StoreContextMut<'a, HostState>;
/// The result of a function that sets something.
type Set = (Result<(), ()>,);

/// Replaces the functions that `wasmtime-wasi-http` has linked.
pub(super) fn link(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut types = linker.instance(TYPES)?;
    types.func_wrap(
        "[method]outgoing-request.set-method",
        |mut store: Store<'_>, (request, method): (Request, Method)| -> wasmtime::Result<Set> {
            let is_long = matches!(&method, Method::Other(name) if name.len() > MAX_TEXT_BYTES);
            if is_long { Ok((Err(()),)) } else { Ok((store.data_mut().http().set_method(request, method)?,)) }
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-scheme",
        |mut store: Store<'_>, (request, scheme): (Request, Option<Scheme>)| -> wasmtime::Result<Set> {
            let is_long = matches!(&scheme, Some(Scheme::Other(name)) if name.len() > MAX_TEXT_BYTES);
            if is_long { Ok((Err(()),)) } else { Ok((store.data_mut().http().set_scheme(request, scheme)?,)) }
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-authority",
        |mut store: Store<'_>, (request, text): (Request, Option<String>)| -> wasmtime::Result<Set> {
            if is_long(text.as_ref()) {
                return Ok((Err(()),));
            }
            Ok((store.data_mut().http().set_authority(request, text)?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-path-with-query",
        |mut store: Store<'_>, (request, text): (Request, Option<String>)| -> wasmtime::Result<Set> {
            if is_long(text.as_ref()) {
                return Ok((Err(()),));
            }
            Ok((store.data_mut().http().set_path_with_query(request, text)?,))
        },
    )?;
    linker.instance(OUTGOING_HANDLER)?.func_wrap("handle", handle)?;
    linker.allow_shadowing(false);
    Ok(())
}

type Handled = (Result<Resource<HostFutureIncomingResponse>, ErrorCode>,);

/// Sends a request, and drops its options, which the guest has given away.
fn handle(
    mut store: Store<'_>,
    (request, options): (Request, Option<Resource<RequestOptions>>),
) -> wasmtime::Result<Handled> {
    let state = store.data_mut();
    let kept = options.as_ref().map(|options| Resource::<RequestOptions>::new_own(options.rep()));
    let sent = state.http().handle(request, options);
    if let Some(kept) = kept {
        state.table.delete(kept)?;
    }
    match sent {
        Ok(response) => Ok((Ok(response),)),
        Err(error) => Ok((Err(state.http().convert_error_code(error)?),)),
    }
}

fn is_long(text: Option<&String>) -> bool {
    text.is_some_and(|text| text.len() > MAX_TEXT_BYTES)
}
