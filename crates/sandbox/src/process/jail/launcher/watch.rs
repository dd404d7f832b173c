//! The launcher's loop: requests in, ended jails out.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::net::{RecvFlags, SendFlags};

use super::spawn::Instance;
use super::{Workshop, overlay};
use crate::process::jail::sys;
use crate::process::jail::wire::{self, Failure, FromJail, Furnishing, Received, ToLauncher};

/// How often to try again what was busy.
const RETRY: Duration = Duration::from_millis(2);
/// How long a killed pid 1 is left to end its jail alone when everything ends.
const GRACE: Duration = Duration::from_millis(50);
/// For how long.
const PATIENCE: Duration = Duration::from_secs(5);
/// The event number of the server's socket; instances have the others, two each.
const SERVER: u64 = 0;

/// Serves until the server is gone.
pub(super) fn run(server: OwnedFd, workshop: Workshop) -> ! {
    let Ok(mut watch) = Watch::new(server, workshop) else { sys::exit(1) };
    while watch.turn().is_ok_and(|open| open) {}
    watch.end();
    sys::exit(0)
}

/// An instance that ran out of memory.
struct Suspect {
    id: u64,
    until: Instant,
}

/// An instance whose pid 1 is dead.
struct Ended {
    id: u64,
    until: Instant,
    out_of_memory: bool,
    peak_memory: u64,
}

struct Watch {
    server: OwnedFd,
    workshop: Workshop,
    epoll: OwnedFd,
    instances: HashMap<u64, Instance>,
    /// The jails that wait, by their names: what they are furnished by.
    waiting: HashMap<String, u64>,
    next_id: u64,
    /// Ran out of memory: the kernel tells us before it kills.
    suspects: Vec<Suspect>,
    /// Ended, with groups that are still busy.
    ended: Vec<Ended>,
}

impl Watch {
    fn new(server: OwnedFd, workshop: Workshop) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &server, EventData::new_u64(SERVER), EventFlags::IN)?;
        Ok(Self {
            server,
            workshop,
            epoll,
            instances: HashMap::new(),
            waiting: HashMap::new(),
            next_id: 1,
            suspects: Vec::new(),
            ended: Vec::new(),
        })
    }

    /// Waits for events and deals with them. `false`: the server is gone.
    fn turn(&mut self) -> io::Result<bool> {
        let busy = !self.suspects.is_empty() || !self.ended.is_empty();
        let timeout = busy.then(|| Timespec::try_from(RETRY).unwrap_or_default());
        let mut events = Vec::with_capacity(64);
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events {
            let token = event.data.u64();
            if token == SERVER {
                if !self.serve()? {
                    return Ok(false);
                }
            } else if token.is_multiple_of(2) {
                self.has_ended(token / 2);
            } else {
                self.out_of_memory(token / 2);
            }
        }
        self.look_at_suspects();
        self.bury();
        Ok(true)
    }

    fn serve(&mut self) -> io::Result<bool> {
        match wire::receive(&self.server, wire::REQUEST_LIMIT, RecvFlags::DONTWAIT) {
            Ok(Received::Message(ToLauncher::Prepare { jail }, mut descriptors)) => {
                if let Some(channel) = descriptors.pop() {
                    self.prepare(jail, channel);
                }
                Ok(true)
            }
            Ok(Received::Message(ToLauncher::Furnish(wanted), _)) => {
                self.furnish(&wanted);
                Ok(true)
            }
            Ok(Received::Message(ToLauncher::TakeImage { jail, wanted }, mut descriptors)) => {
                let template = self.instances.values().find(|template| template.name == jail);
                if let (Some(template), Some(reply)) = (template, descriptors.pop()) {
                    self.workshop.take_image(template.pid, reply, wanted);
                }
                Ok(true)
            }
            Ok(Received::Message(ToLauncher::Mount { folder }, descriptors)) => {
                overlay::answer(descriptors, overlay::mount(&folder).map(Some));
                Ok(true)
            }
            Ok(Received::Message(ToLauncher::Unmount { folder }, descriptors)) => {
                overlay::answer(descriptors, overlay::unmount(&folder).map(|()| None));
                Ok(true)
            }
            Ok(Received::Message(ToLauncher::End { jail }, _)) => {
                if let Some(instance) = self.instances.values().find(|instance| instance.name == jail) {
                    instance.end();
                }
                Ok(true)
            }
            Ok(Received::Closed) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn prepare(&mut self, jail: String, channel: OwnedFd) {
        let Ok(copy) = channel.try_clone() else { return };
        match self.workshop.prepare(&jail, channel) {
            Ok(instance) => {
                let id = self.next_id;
                self.next_id += 1;
                if self.follow(id, &instance).is_err() {
                    instance.kill();
                }
                self.instances.insert(id, instance);
                self.waiting.insert(jail, id);
            }
            Err(failure) => tell_failure(&copy, failure),
        }
    }

    /// A jail that is gone has told the server so already.
    fn furnish(&mut self, wanted: &Furnishing) {
        let Some(instance) = self.waiting.get(&wanted.jail).and_then(|id| self.instances.get_mut(id)) else {
            return;
        };
        if let Err(failure) = self.workshop.furnish(instance, wanted) {
            // The server may have given the jail up.
            let _ = wire::send(&instance.channel, &FromJail::Failed(failure), &[], SendFlags::DONTWAIT);
            instance.kill();
        }
        if wanted.bounds.is_some() {
            // That was the last it needed from us.
            self.waiting.remove(&wanted.jail);
        }
    }

    fn follow(&self, id: u64, instance: &Instance) -> io::Result<()> {
        epoll::add(&self.epoll, &instance.pidfd, EventData::new_u64(id * 2), EventFlags::IN)?;
        if let Some(event) = &instance.out_of_memory {
            epoll::add(&self.epoll, event, EventData::new_u64(id * 2 + 1), EventFlags::IN)?;
        }
        Ok(())
    }

    /// Pid 1 is dead, and with it everything in the jail.
    fn has_ended(&mut self, id: u64) {
        let Some(instance) = self.instances.get(&id) else { return };
        instance.reap();
        // Its descriptors stay open until the groups are gone; the events must not come again.
        let _ = epoll::delete(&self.epoll, &instance.pidfd);
        if let Some(event) = &instance.out_of_memory {
            let _ = epoll::delete(&self.epoll, event);
        }
        let out_of_memory = instance.group.out_of_memory_kills() > 0;
        let peak_memory = instance.group.peak();
        self.ended.push(Ended { id, until: deadline(), out_of_memory, peak_memory });
    }

    fn out_of_memory(&mut self, id: u64) {
        let Some(instance) = self.instances.get(&id) else { return };
        if let Some(event) = &instance.out_of_memory {
            // Resets the event.
            let _ = rustix::io::read(event, &mut [0_u8; 8]);
        }
        self.suspects.push(Suspect { id, until: deadline() });
    }

    /// The kernel kills one process of the group; its instance cannot go on without it.
    fn look_at_suspects(&mut self) {
        let instances = &self.instances;
        self.suspects.retain(|suspect| {
            let Some(instance) = instances.get(&suspect.id) else { return false };
            let killed = instance.group.out_of_memory_kills() > 0;
            if killed {
                instance.end();
            }
            !killed && now() < suspect.until
        });
    }

    /// Removes the groups of ended instances and reports them.
    fn bury(&mut self) {
        let (instances, waiting) = (&mut self.instances, &mut self.waiting);
        self.ended.retain(|ended| {
            let Ended { id, until, out_of_memory, peak_memory } = *ended;
            let Some(instance) = instances.get(&id) else { return false };
            if instance.group.remove().is_err() && now() < until {
                return true;
            }
            let ended = FromJail::Ended { out_of_memory, peak_memory };
            // The server may have dropped the jail, or be gone.
            let _ = wire::send(&instance.channel, &ended, &[], SendFlags::DONTWAIT);
            instances.remove(&id);
            waiting.retain(|_, waiting| *waiting != id);
            false
        });
    }

    /// Kills everything and removes what is left of it.
    fn end(&mut self) {
        self.instances.values().for_each(Instance::kill);
        // A closed socket is always readable.
        let _ = epoll::delete(&self.epoll, &self.server);
        let until = deadline();
        let mut late = Some(now() + GRACE);
        while !self.instances.is_empty() && now() < until {
            if late.is_some_and(|late| now() >= late) {
                late = None;
                self.instances.values().for_each(Instance::end);
            }
            let mut events = Vec::with_capacity(64);
            let timeout = Timespec::try_from(RETRY).ok();
            let _ = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref());
            for event in events.iter().map(|event| event.data.u64()).filter(|token| token.is_multiple_of(2)) {
                self.has_ended(event / 2);
            }
            self.bury();
        }
        self.workshop.cgroups.close();
    }
}

fn tell_failure(channel: &OwnedFd, failure: Failure) {
    let last = FromJail::Ended { out_of_memory: false, peak_memory: 0 };
    for message in [&FromJail::Failed(failure), &last] {
        // The server may have given the jail up.
        let _ = wire::send(channel, message, &[], SendFlags::DONTWAIT);
    }
}

#[allow(clippy::disallowed_methods)] // The launcher is a process of its own: no clock can be handed in.
fn now() -> Instant {
    Instant::now()
}

fn deadline() -> Instant {
    now() + PATIENCE
}
