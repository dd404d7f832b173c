//! What a guest's end means to its caller.

use sandbox::{Exit, Fault};
use wasmtime::{Error, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::memory::Memory;

/// Bytes of a trap's text: a deep recursion has a long backtrace.
const MAX_TEXT: usize = 4 << 10;

/// How a guest ended that did not return.
pub(crate) enum Ending {
    /// It called `exit` with 0.
    Exited,
    /// It failed.
    Fault(Fault),
}

pub(crate) fn ending(error: &Error, memory: &Memory) -> Ending {
    match error.downcast_ref::<I32Exit>() {
        Some(I32Exit(0)) => Ending::Exited,
        Some(I32Exit(status)) => Ending::Fault(Fault::Exited(Exit::Code(*status))),
        None => Ending::Fault(Fault::Trap(text(error, memory))),
    }
}

/// The cause first, then what is known of the place.
fn text(error: &Error, memory: &Memory) -> String {
    let mut text = match error.downcast_ref::<Trap>() {
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    if memory.refused {
        text.push_str("; it had asked for more memory than its limit allows");
    }
    if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
        text.push('\n');
        text.push_str(backtrace.to_string().trim_end());
    }
    if text.len() > MAX_TEXT {
        text.truncate(text.floor_char_boundary(MAX_TEXT));
        text.push_str(" …");
    }
    text
}
