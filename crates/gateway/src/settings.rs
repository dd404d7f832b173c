//! The gateway's own settings.

use std::time::Duration;

use api_aws::body::Patience;

/// Bounds on what clients may do, and what this gateway answers for.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The region in function URLs' hosts.
    pub region: base::Region,
    /// Connections at once, upgraded ones included; more wait in the listener's backlog.
    pub max_connections: usize,
    /// How long a request's head may take to arrive; an idle connection is closed after as long.
    pub header_timeout: Duration,
    /// How long a body may take that is read whole (events and API requests; a streamed one is bounded by
    /// the function's own `Timeout`).
    pub patience: Patience,
    /// How long requests under way may go on once the server stops.
    pub grace: Duration,
}

impl Settings {
    /// The defaults for a region.
    pub fn new(region: base::Region) -> Self {
        Self {
            region,
            max_connections: 10_000,
            header_timeout: Duration::from_secs(30),
            patience: Patience::default(),
            grace: Duration::from_secs(10),
        }
    }
}
