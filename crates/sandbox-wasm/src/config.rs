//! `wasi:config/store`: a function's environment variables, under the interface's own name.
//!
//! The interface has no final release; what is bound is 0.2.0-rc.1, as other hosts have it. It never fails.

use wasmtime::component::{HasSelf, Linker};

use crate::host::Guest;

/// What a component that uses it imports.
pub(crate) const STORE: &str = "wasi:config/store@0.2.0-rc.1";

#[allow(unsafe_code, unreachable_pub, reason = "what the bindings are generated to is not up to us")]
mod generated {
    wasmtime::component::bindgen!({
        inline: "
            package wasi:config@0.2.0-rc.1;
            interface store {
                variant error { upstream(string), io(string) }
                get: func(key: string) -> result<option<string>, error>;
                get-all: func() -> result<list<tuple<string, string>>, error>;
            }
            world imports { import store; }
        ",
        world: "imports",
    });
}

use generated::wasi::config::store::{self, Error};

impl store::Host for Guest {
    fn get(&mut self, key: String) -> Result<Option<String>, Error> {
        Ok(self.environment().iter().rev().find(|(name, _)| *name == key).map(|(_, value)| value.clone()))
    }

    fn get_all(&mut self) -> Result<Vec<(String, String)>, Error> {
        Ok(self.environment().to_vec())
    }
}

pub(crate) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    store::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)
}
