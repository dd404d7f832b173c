//! What a start was made of: the phases of a cold start, and what was there already.

use std::time::Duration;

/// From what an instance was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Origin {
    /// Nothing was there.
    #[default]
    Cold,
    /// A sandbox made ahead; the program was started in it.
    Sandbox,
    /// A sandbox made ahead with its runtime booted; the code was loaded into it.
    Runtime,
    /// A template of the same version: initialisation had run already.
    Template,
}

impl Origin {
    /// A word for metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Sandbox => "sandbox",
            Self::Runtime => "runtime",
            Self::Template => "template",
        }
    }
}

/// How long each phase of a start took. What was made ahead took nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Phases {
    /// What was there already.
    pub origin: Origin,
    /// Namespaces, control groups, mounts: until the program was executed.
    pub sandbox: Duration,
    /// Until the runtime began with the function's own code. Zero where the program does not tell.
    pub runtime: Duration,
    /// The function's own initialisation, until it could take a call.
    pub init: Duration,
}

/// Something kept in memory so that starts are fast: a pool or a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resident {
    /// What it is, for operators: `sandboxes`, `runtime nodejs20.x`, `template NAME:VERSION`.
    pub name: String,
    /// How many of it there are.
    pub count: u32,
    /// Bytes that they hold together.
    pub bytes: u64,
}
