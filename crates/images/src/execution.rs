//! How an image says it is run (OCI image spec: Image Configuration).

use crate::manifest::Config;

/// What a configuration says of its program. What it leaves out is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Execution {
    /// `USER[:GROUP]`, names or numbers; empty is root.
    pub user: String,
    /// Environment, in order; a name comes once.
    pub env: Vec<(String, String)>,
    /// Comes before the command.
    pub entry_point: Vec<String>,
    /// Program, or arguments of the entry point.
    pub command: Vec<String>,
    /// Absolute; empty is the root.
    pub working_directory: String,
    /// TCP ports that it says it listens on, in order.
    pub ports: Vec<u16>,
}

impl Execution {
    pub(crate) fn of(config: &Config) -> Self {
        let given = config.config.clone().unwrap_or_default();
        let mut env: Vec<(String, String)> = Vec::new();
        for variable in given.env.unwrap_or_default() {
            let Some((name, value)) = variable.split_once('=') else { continue };
            if name.is_empty() || variable.contains('\0') {
                continue;
            }
            // The last one counts.
            env.retain(|(other, _)| other != name);
            env.push((name.to_owned(), value.to_owned()));
        }
        let ports = given.exposed_ports.unwrap_or_default();
        let port = |port: &String| {
            let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
            number.parse().ok().filter(|_| protocol == "tcp")
        };
        let mut ports: Vec<u16> = ports.keys().filter_map(port).collect();
        ports.sort_unstable();
        Self {
            user: given.user.unwrap_or_default(),
            env,
            entry_point: given.entrypoint.unwrap_or_default(),
            command: given.cmd.unwrap_or_default(),
            working_directory: given.working_dir.unwrap_or_default(),
            ports,
        }
    }
}
