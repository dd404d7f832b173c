//! Turns a core module into a component: a plain preview-1 program, or one that carries its component type.
//!
//! The adapter knows only "exit well" and "exit badly". So that a program's exit status survives, its
//! `proc_exit` is pointed at `wasi:cli/exit#exit-with-code` before the adapter sees it: both take one i32.

use sandbox::Error;
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME as PREVIEW1, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER as COMMAND,
    WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER as REACTOR,
};
use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{ImportSection, Module, RawSection};
use wasmparser::{ImportSectionReader, Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::inspect::{Outline, listed};

const EXIT_INTERFACE: &str = "wasi:cli/exit@0.2.12";
const EXIT_FUNCTION: &str = "exit-with-code";
const EXIT_WORLD: &str = "
    package virga:adapt;
    world exits { import wasi:cli/exit@0.2.12; }
    package wasi:cli@0.2.12 { interface exit { exit-with-code: func(status-code: u8); } }
";

/// Makes a component of a core module.
pub fn componentize(module: &[u8]) -> Result<Vec<u8>, Error> {
    let outline = Outline::read(module)?;
    if outline.component {
        return Ok(module.to_vec());
    }
    let command = outline.exports.iter().any(|name| name == "_start");
    let handler = outline.exports.iter().any(|name| name.contains('#'));
    if !command && !handler {
        return Err(Error::Invalid(format!(
            "the module is neither a WASI command (no _start) nor made for a component; it exports {}",
            listed(&outline.exports)
        )));
    }
    encode(module, if command { COMMAND } else { REACTOR }).map_err(|error| {
        Error::Invalid(format!("the module cannot be made a component: {}", chain(error.as_ref())))
    })
}

/// An error with what it was caused by.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn encode(module: &[u8], adapter: &[u8]) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
    let module = keep_exit_status(module)?;
    let component =
        ComponentEncoder::default().validate(true).module(&module)?.adapter(PREVIEW1, adapter)?.encode()?;
    Ok(component)
}

/// Points the import of `proc_exit` at the function that takes a status, and says so in the module's type.
fn keep_exit_status(binary: &[u8]) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
    let mut module = Module::new();
    let mut renamed = false;
    for payload in Parser::new(0).parse_all(binary) {
        let payload = payload?;
        if let Payload::ImportSection(section) = payload {
            module.section(&rename_exit(section, &mut renamed)?);
        } else if let Some((id, range)) = payload.as_section() {
            let data = binary.get(range).ok_or("a section reaches past the end of the file")?;
            module.section(&RawSection { id, data });
        }
    }
    if !renamed {
        return Ok(binary.to_vec());
    }
    let mut bytes = module.finish();
    let mut resolve = Resolve::default();
    let package = resolve.push_source("exits.wit", EXIT_WORLD)?;
    let world = resolve.select_world(&[package], None)?;
    embed_component_metadata(&mut bytes, &resolve, world, StringEncoding::UTF8)?;
    Ok(bytes)
}

fn rename_exit(
    section: ImportSectionReader<'_>,
    renamed: &mut bool,
) -> Result<ImportSection, Box<dyn std::error::Error + Send + Sync>> {
    let mut imports = ImportSection::new();
    for import in section.into_imports() {
        let import = import?;
        let kind = RoundtripReencoder.entity_type(import.ty)?;
        if import.module == PREVIEW1 && import.name == "proc_exit" {
            *renamed = true;
            imports.import(EXIT_INTERFACE, EXIT_FUNCTION, kind);
        } else {
            imports.import(import.module, import.name, kind);
        }
    }
    Ok(imports)
}
