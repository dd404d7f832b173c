//! What a binary is, imports and exports, read before anything is compiled.

use sandbox::{Error, Speaks};
use wasmparser::{Encoding, Parser, Payload};

/// Interfaces that a guest may import, of WASI 0.2.
const PROVIDED: [&str; 7] = [
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:filesystem/",
    "wasi:http/",
    "wasi:io/",
    "wasi:random/",
    "wasi:sockets/",
];
/// How many names an error lists.
const MAX_NAMES: usize = 20;

/// The outside of a module or component.
pub(crate) struct Outline {
    /// A component, not a core module.
    pub(crate) component: bool,
    /// Names of what it imports: interfaces of a component, modules of a core module.
    pub(crate) imports: Vec<String>,
    /// Names of what it exports.
    pub(crate) exports: Vec<String>,
}

impl Outline {
    /// Reads the outermost imports and exports.
    pub(crate) fn read(binary: &[u8]) -> Result<Self, Error> {
        if !binary.starts_with(b"\0asm") {
            return Err(Error::Invalid("the file is not WebAssembly: it does not start with \\0asm".into()));
        }
        Self::walk(binary)
            .map_err(|error| Error::Invalid(format!("the file is not valid WebAssembly: {error}")))
    }

    fn walk(binary: &[u8]) -> Result<Self, wasmparser::BinaryReaderError> {
        let mut outline = Self { component: false, imports: Vec::new(), exports: Vec::new() };
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(binary) {
            match payload? {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                _ if depth > 0 => {}
                Payload::Version { encoding, .. } => outline.component = encoding == Encoding::Component,
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        push(&mut outline.imports, import?.module);
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        push(&mut outline.exports, export?.name);
                    }
                }
                Payload::ComponentImportSection(section) => {
                    for import in section {
                        push(&mut outline.imports, import?.name.name);
                    }
                }
                Payload::ComponentExportSection(section) => {
                    for export in section {
                        push(&mut outline.exports, export?.name.name);
                    }
                }
                _ => {}
            }
        }
        Ok(outline)
    }

    /// What a component is called with; a component that cannot be called is its owner's to mend.
    pub(crate) fn speaks(&self) -> Result<Speaks, Error> {
        if self.exports.iter().any(|name| is_0_2(name, "wasi:http/incoming-handler")) {
            return Ok(Speaks::Http);
        }
        if self.exports.iter().any(|name| is_0_2(name, "wasi:cli/run")) {
            return Ok(Speaks::Events);
        }
        Err(Error::Invalid(format!(
            "the component exports neither wasi:http/incoming-handler@0.2 nor wasi:cli/run@0.2, but {}",
            listed(&self.exports)
        )))
    }

    /// Refuses a component that imports what is not there, before anything is compiled.
    pub(crate) fn check_imports(&self) -> Result<(), Error> {
        let known = |name: &String| {
            name == crate::config::STORE
                || PROVIDED.iter().any(|interface| name.starts_with(interface))
                    && version(name).is_some_and(of_0_2)
        };
        let unknown: Vec<String> = self.imports.iter().filter(|name| !known(name)).cloned().collect();
        if unknown.is_empty() {
            return Ok(());
        }
        Err(Error::Invalid(format!("the component imports what is not provided here: {}", listed(&unknown))))
    }
}

fn push(names: &mut Vec<String>, name: &str) {
    if names.last().is_none_or(|last| last != name) {
        names.push(name.to_owned());
    }
}

fn version(name: &str) -> Option<&str> {
    name.rsplit_once('@').map(|(_, version)| version)
}

fn of_0_2(version: &str) -> bool {
    version
        .strip_prefix("0.2.")
        .is_some_and(|patch| !patch.is_empty() && patch.bytes().all(|b| b.is_ascii_digit()))
}

fn is_0_2(name: &str, interface: &str) -> bool {
    name.strip_prefix(interface).and_then(|rest| rest.strip_prefix('@')).is_some_and(of_0_2)
}

/// Names for an error text.
pub(crate) fn listed(names: &[String]) -> String {
    if names.is_empty() {
        return "nothing".into();
    }
    let mut text = names.iter().take(MAX_NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > MAX_NAMES {
        text.push_str(&format!(" and {} more", names.len() - MAX_NAMES));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_released_0_2_counts() {
        assert!(is_0_2("wasi:cli/run@0.2.3", "wasi:cli/run"));
        for name in [
            "wasi:cli/run@0.3.0",
            "wasi:cli/run@0.2.0-rc-2023-11-10",
            "wasi:cli/run",
            "wasi:cli/runner@0.2.0",
        ] {
            assert!(!is_0_2(name, "wasi:cli/run"), "{name}");
        }
    }

    #[test]
    fn inner_modules_are_not_the_outside() {
        let binary = wat::parse_str(
            r#"(component (core module (import "secret" "f" (func)) (export "g" (func 0)))
                 (import "wasi:cli/exit@0.2.0" (instance)) (core module (import "other" "f" (func))))"#,
        )
        .unwrap();
        let outline = Outline::read(&binary).unwrap();
        assert!(outline.component);
        assert_eq!(outline.imports, ["wasi:cli/exit@0.2.0"]);
        assert!(outline.exports.is_empty());
    }
}
