//! Makes a component of a core module whose exports follow a WIT world: `componentize WIT CORE OUT`.
//!
//! The build script of examples/hello-wasm uses it, so that no further tool has to be installed.

use anyhow::{Context, bail};
use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [wit, core, out] = arguments.as_slice() else { bail!("usage: componentize WIT CORE OUT") };
    let mut module = std::fs::read(core).with_context(|| format!("reading {core}"))?;
    let mut resolve = Resolve::default();
    let package = resolve.push_source(wit, &std::fs::read_to_string(wit)?)?;
    let world = resolve.select_world(&[package], None)?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    let component = sandbox_wasm::componentize(&module)?;
    std::fs::write(out, component).with_context(|| format!("writing {out}"))
}
