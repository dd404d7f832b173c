//! How an image says it is run (OCI image spec: Image Configuration).

use std::collections::HashSet;

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
        let variables = given.env.unwrap_or_default();
        let mut names = HashSet::new();
        let mut env: Vec<(String, String)> = Vec::new();
        // The last one counts.
        for variable in variables.iter().rev() {
            let Some((name, value)) = variable.split_once('=') else { continue };
            if !name.is_empty() && !variable.contains('\0') && names.insert(name) {
                env.push((name.to_owned(), value.to_owned()));
            }
        }
        env.reverse();
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn of(env: &[String]) -> Execution {
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let text = serde_json::json!({
            "os": "linux", "architecture": architecture, "rootfs": { "diff_ids": [] }, "config": { "Env": env },
        });
        Execution::of(&Config::parse(text.to_string().as_bytes(), 0).unwrap())
    }

    #[test]
    fn the_last_of_a_name_counts() {
        let env = of(&["A=1", "B=2", "A=3", "=4", "C", "D=\0"].map(str::to_owned)).env;
        assert_eq!(env, [("B".to_owned(), "2".to_owned()), ("A".to_owned(), "3".to_owned())]);
    }

    #[test]
    fn an_environment_of_many_names_takes_no_time() {
        let many: Vec<String> = (0..300_000).map(|number| format!("{number}=")).collect();
        let began = Instant::now();
        assert_eq!(of(&many).env.len(), many.len());
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    }
}
