//! What functions hear of an image that is not all there and whose missing parts cannot be had.
//!
//! The instance itself sees a read that fails, which says nothing of why. So it is said in the function's log, in a stream
//! of its own: whoever waited for the bytes may be any of its instances.

use crate::report::Lines;
use crate::service::Functions;
use crate::{environment, image};

impl Functions {
    /// Says in the logs of an image's functions what went wrong. `id` is the store's.
    pub fn image_trouble(&self, id: &str, text: &str) {
        let (key, host) = (image::key(id), &self.inner.host);
        for (_, function) in self.inner.registry.all() {
            for version in function.versions().filter(|version| version.digests().contains(&key)) {
                let configuration = &version.configuration;
                let happened = format!("A part of the function's image could not be fetched: {text}");
                let Some(line) = Lines::of(configuration, &*host.clock).fault(happened) else { continue };
                let (name, date) = (&function.arn.name, host.clock.now().to_date_path());
                // A group that several functions may share says whose it is.
                let whose = configuration.log_group.as_ref().map_or("", |_| name);
                let stream = format!("{date}/{whose}[{}]image", configuration.version);
                let group = environment::log_group(name, configuration);
                let log = host.logs.stream(&function.arn.account, &group, &stream);
                log.line(&line);
            }
        }
    }
}
