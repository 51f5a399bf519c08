//! Functions of `wasi:http` with texts whose length `wasmtime-wasi-http` does not limit, or that make something whose number it does not limit:
//! they would let a guest fill the memory of the host. And one that keeps a handle: it would let a guest run out of handles.

use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource},
};
use wasmtime_wasi_http::{
    FieldMap, RequestOptions, WasiHttpView as _,
    p2::{
        HeaderResult,
        bindings::http::{
            outgoing_handler::Host as _,
            types::{
                ErrorCode, HeaderError, Host as _, HostFields, HostOutgoingRequest as _, Method, OutgoingRequest,
                Scheme,
            },
        },
        body::HostOutgoingBody,
        types::{HostFutureIncomingResponse, HostOutgoingResponse},
    },
};

use super::{HostState, keeping};

/// The interfaces, in the version that `wasmtime-wasi-http` links.
const TYPES: &str = "wasi:http/types@0.2.12";
const OUTGOING_HANDLER: &str = "wasi:http/outgoing-handler@0.2.12";

/// The maximum length of a text, in bytes. Servers refuse longer addresses.
const MAX_TEXT_BYTES: usize = 16 << 10;

type Fields = Resource<FieldMap>;
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
    types.func_wrap("[method]outgoing-request.body", body)?;
    types.func_wrap("[constructor]outgoing-response", outgoing_response)?;
    types.func_wrap("[static]fields.from-list", fields_from_list)?;
    types.func_wrap("[method]fields.set", set_field)?;
    types.func_wrap("[method]fields.append", append_field)?;
    types.func_wrap("[method]fields.clone", clone_fields)?;
    linker.instance(OUTGOING_HANDLER)?.func_wrap("handle", handle)?;
    linker.allow_shadowing(false);
    Ok(())
}

type NewBody = (Result<Resource<HostOutgoingBody>, ()>,);

/// Makes the body of a request. It has a place until it is read to its end, or dropped with its request.
fn body(mut store: Store<'_>, (request,): (Request,)) -> wasmtime::Result<NewBody> {
    let state = store.data_mut();
    let unread = state.http.requests.unread_body()?;
    let with_body = Resource::<OutgoingRequest>::new_borrow(request.rep());
    let body = state.http().body(request)?;
    if body.is_ok() {
        let request = state.table.get_mut(&with_body)?;
        request.body = request.body.take().map(|body| keeping(body, unread));
    }
    Ok((body,))
}

/// A guest receives no requests, so it has nothing to answer.
fn outgoing_response(_: Store<'_>, _: (Fields,)) -> wasmtime::Result<(Resource<HostOutgoingResponse>,)> {
    Err(wasmtime::Error::msg("it makes an HTTP response: a guest receives no requests that it could answer"))
}

type NewFields = (Result<Fields, HeaderError>,);

fn fields_from_list(mut store: Store<'_>, (entries,): (Vec<(String, Vec<u8>)>,)) -> wasmtime::Result<NewFields> {
    let state = store.data_mut();
    state.http.memory().add_headers(entries.iter().map(|(name, value)| (name.as_str(), value.as_slice())));
    let fields = HostFields::from_list(&mut state.http(), entries);
    to_guest(state, fields)
}

type Changed = (Result<(), HeaderError>,);

fn set_field(
    mut store: Store<'_>,
    (fields, name, values): (Fields, String, Vec<Vec<u8>>),
) -> wasmtime::Result<Changed> {
    let state = store.data_mut();
    state.http.memory().add_headers(values.iter().map(|value| (name.as_str(), value.as_slice())));
    let set = HostFields::set(&mut state.http(), fields, name, values);
    to_guest(state, set)
}

fn append_field(mut store: Store<'_>, (fields, name, value): (Fields, String, Vec<u8>)) -> wasmtime::Result<Changed> {
    let state = store.data_mut();
    state.http.memory().add_headers([(name.as_str(), value.as_slice())]);
    let appended = HostFields::append(&mut state.http(), fields, name, value);
    to_guest(state, appended)
}

fn clone_fields(mut store: Store<'_>, (fields,): (Fields,)) -> wasmtime::Result<(Fields,)> {
    let state = store.data_mut();
    state.http.memory().add_header_list();
    Ok((HostFields::clone(&mut state.http(), fields)?,))
}

/// Lets a guest know of an error, unless it has to be stopped.
fn to_guest<T>(state: &mut HostState, result: HeaderResult<T>) -> wasmtime::Result<(Result<T, HeaderError>,)> {
    match result {
        Ok(value) => Ok((Ok(value),)),
        Err(error) => Ok((Err(state.http().convert_header_error(error)?),)),
    }
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
