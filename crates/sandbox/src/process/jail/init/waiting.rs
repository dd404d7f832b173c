//! Pid 1 between a jail's making and its program: what may come, and what is done with it.
//!
//! A runtime that is booted here runs before anything is known of its function: it sees what all jails see and the
//! interpreter, it is locked as a program is, and nothing of its start depends on a function. Pid 1 keeps its
//! capabilities for as long, since it has mounts to make; no user code runs until it has dropped them.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvFlags, SendFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Resource, WaitOptions};

use super::network::WayOut;
use super::program::{self, Start, Told, WORKING_DIRECTORY};
use super::{Init, Running, data_headroom, host, limit, lock, mounts, network, oom_victim, show_as};
use crate::process::jail::image::restore::{Ends, skip_template_pid};
use crate::process::jail::seccomp::ProgramClass;
use crate::process::jail::sys;
use crate::process::jail::wire::{self, Boot, Doing, Failure, FromJail, Program, Received, ToInit, ToJail};

/// A runtime that waits for its orders.
struct Booted {
    pid: Pid,
    signals: OwnedFd,
    /// Its environment goes in here.
    orders: OwnedFd,
}

/// What came from the launcher for the next step.
struct Furnished {
    /// The two files of a control group to join, if there is one.
    late_group: Vec<OwnedFd>,
    mounts: Vec<(OwnedFd, PathBuf)>,
    /// By their names below `/opt`.
    layered: Vec<(OwnedFd, String)>,
    /// Writable, by their names below `/mnt`.
    shared: Vec<(OwnedFd, String)>,
    watch_memory: Option<u64>,
}

/// What comes with a job for the program's beginning.
enum Given {
    Nothing,
    /// What it finds as descriptor 3.
    Place(OwnedFd),
    Image(Ends),
}

impl Given {
    fn of(program: &Program, mut descriptors: impl Iterator<Item = OwnedFd>) -> Result<Self, Failure> {
        if program.template {
            return Ok(Self::Place(File::open("/dev/null").doing("opening /dev/null")?.into()));
        }
        if !program.handed && program.image.is_none() {
            return Ok(Self::Nothing);
        }
        let mut next = || descriptors.next().ok_or_else(|| host("the job came without its descriptors"));
        let first = next()?;
        if program.handed {
            return Ok(Self::Place(first));
        }
        Ok(Self::Image(Ends { image: first, orders: next()? }))
    }
}

impl Init<'_> {
    /// Waits for the job and starts it; with how much memory pid 1 is to watch over. Ends the process when the
    /// server or a booted runtime is gone.
    pub(super) fn wait(&self, way_out: WayOut) -> Result<(Running, Option<u64>), Failure> {
        let mut booted = None;
        loop {
            match self.next(booted.as_ref()) {
                (ToJail::Boot(boot), descriptors) if booted.is_none() => {
                    booted = Some(self.boot(boot, descriptors)?);
                    self.say(&FromJail::Waits)?;
                }
                (ToJail::Job(program), descriptors) => {
                    return self.start(program, descriptors, booted, way_out);
                }
                // Nothing else makes sense here.
                _ => sys::exit(1),
            }
        }
    }

    /// The next message of the server.
    fn next(&self, booted: Option<&Booted>) -> (ToJail, Vec<OwnedFd>) {
        if let Some(booted) = booted {
            self.watch_over(booted);
        }
        match wire::receive(&self.channel, wire::JOB_LIMIT, RecvFlags::empty()) {
            Ok(Received::Message(message, descriptors)) => (message, descriptors),
            Ok(Received::Closed) | Err(_) => sys::exit(0),
        }
    }

    /// Returns when the server has something to say; a runtime that ends before ends the jail.
    fn watch_over(&self, booted: &Booted) {
        loop {
            let mut descriptors =
                [PollFd::new(&self.channel, PollFlags::IN), PollFd::new(&booted.signals, PollFlags::IN)];
            // An interrupted wait shows nothing ready.
            let _ = poll(&mut descriptors, None);
            let [channel, signals] = descriptors.map(|descriptor| !descriptor.revents().is_empty());
            if signals {
                let mut information = [0_u8; 1024];
                while rustix::io::read(&booted.signals, &mut information).is_ok_and(|read| read > 0) {}
                while let Ok(Some((pid, _))) = rustix::process::wait(WaitOptions::NOHANG) {
                    if pid == booted.pid {
                        sys::exit(1);
                    }
                }
            }
            if channel {
                return;
            }
        }
    }

    /// Waits for what the launcher gives for the next step.
    fn furnished(&self) -> Result<Furnished, Failure> {
        let message = wire::receive(&self.orders, wire::REQUEST_LIMIT, RecvFlags::empty());
        let Received::Message(
            ToInit::Furnish { late_group, targets, layered, shared, watch_memory },
            mut descriptors,
        ) = message.doing("waiting for the mounts")?
        else {
            return Err(host("the launcher gave the jail up"));
        };
        let groups = if late_group { 2 } else { 0 };
        let read_only = groups + targets.len() + layered.len();
        if descriptors.len() != read_only + shared.len() {
            return Err(host("the mounts came without their descriptors"));
        }
        let shared = descriptors.split_off(read_only).into_iter().zip(shared).collect();
        let layered = descriptors.split_off(groups + targets.len()).into_iter().zip(layered).collect();
        let mounts = descriptors.split_off(groups).into_iter().zip(targets).collect();
        Ok(Furnished { late_group: descriptors, mounts, layered, shared, watch_memory })
    }

    /// Starts a runtime that will wait for its orders.
    fn boot(&self, boot: Boot, descriptors: Vec<OwnedFd>) -> Result<Booted, Failure> {
        let output = descriptors.into_iter().next().ok_or_else(|| host("a boot came without its output"))?;
        let mounts = self.furnished()?.mounts;
        mounts::make_rooms(&mounts)?;
        mounts::attach_all(&mounts)?;
        let rules = self.rules(&mounts, &[PathBuf::from(mounts::SHARED)])?;
        let (theirs, orders) = pipe_with(PipeFlags::CLOEXEC).doing("making the orders' pipe")?;
        let victim = oom_victim()?;
        let signals = sys::signal_descriptor(&[libc::SIGCHLD]).doing("watching for ended processes")?;
        // What is booted ahead is an interpreter of the host's.
        let filter = self.walls.filters.for_jail(ProgramClass::Interpreter, self.memory_is_watched);
        let start = Start {
            argv: &boot.argv,
            env: &boot.env,
            output: &output,
            orders: Some(&theirs),
            folder: "/",
            lock: Some(&|| lock(filter, ProgramClass::Interpreter)),
            image: None,
            rules: rules.as_ref(),
            told: boot.way_out.then_some(self.told()),
        };
        let pid = program::start(&start, self.proof)?;
        victim.spare_pid_1()?;
        Ok(Booted { pid, signals, orders })
    }

    /// Completes the jail, locks it and starts the program.
    fn start(
        &self,
        program: Program,
        descriptors: Vec<OwnedFd>,
        booted: Option<Booted>,
        way_out: WayOut,
    ) -> Result<(Running, Option<u64>), Failure> {
        let mut descriptors = descriptors.into_iter();
        let peak = Some(descriptors.next().ok_or_else(|| host("the job came without its memory file"))?);
        let Furnished { late_group, mounts, layered, shared, watch_memory } = self.furnished()?;
        join_late(late_group, booted.as_ref())?;
        mounts::resize_tmp(program.tmp_bytes)?;
        let rules = match (&program.root, &mounts[..]) {
            (Some(_), [(tree, _)]) => {
                mounts::change_root(tree)?;
                self.walls.landlock.rules_of_image().doing("making Landlock's rules")?
            }
            (Some(_), _) => return Err(host("an image came with other mounts")),
            (None, _) => {
                mounts::attach_all(&mounts)?;
                if booted.is_none() {
                    let shared = mounts::attach_shared(&shared)?;
                    self.rules(&mounts, &shared)?
                } else {
                    mounts::furnish(mounts::LAYERS, &layered)?;
                    mounts::furnish(mounts::SHARED, &shared)?;
                    None
                }
            }
        };
        // Or what is shown could not be let go of while the program runs.
        drop((mounts, layered, shared));
        let meeting = self.hand_out(&program, way_out)?;
        // Pid 1 is of the same user and counts.
        let bounds = [
            (Resource::Nproc, Some(u64::from(program.pids) + 1)),
            (Resource::Data, watch_memory.map(|bytes| bytes.saturating_add(data_headroom(program.class)))),
        ];
        for (resource, value) in bounds {
            let Some(value) = value else { continue };
            limit(resource, value)?;
            if let Some(booted) = &booted {
                let now = rustix::process::getrlimit(resource);
                rustix::process::prlimit(Some(booted.pid), resource, now)
                    .doing(format!("setting the booted runtime's limit {resource:?}"))?;
            }
        }
        let running = match booted {
            None => {
                let output = descriptors.next().ok_or_else(|| host("the job came without its output"))?;
                let given = Given::of(&program, descriptors)?;
                self.start_program(&program, &output, rules.as_ref(), peak, given, meeting)?
            }
            Some(booted) => self.give_orders(&program, booted, peak, meeting)?,
        };
        Ok((running, watch_memory))
    }

    /// Hands the sockets out that the server serves; what stays is the meeting port's.
    fn hand_out(&self, program: &Program, way_out: WayOut) -> Result<Vec<OwnedFd>, Failure> {
        let mut sockets = network::listen(&program.listen)?;
        let WayOut { names, meeting } = way_out;
        if program.way_out {
            sockets.extend(names);
        }
        let borrowed: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
        wire::send(&self.channel, &FromJail::Listening, &borrowed, SendFlags::empty())
            .doing("handing the listeners out")?;
        Ok(meeting)
    }

    fn told(&self) -> Told<'_> {
        Told { filter: self.walls.filters.for_way_out(), channel: &self.channel }
    }

    /// Landlock's rules for a program that also sees what is mounted.
    fn rules(&self, mounts: &[(OwnedFd, PathBuf)], shared: &[PathBuf]) -> Result<Option<OwnedFd>, Failure> {
        let seen = mounts.iter().map(|(_, inside)| inside.as_path());
        self.walls.landlock.rules(seen, shared).doing("making Landlock's rules")
    }

    fn start_program(
        &self,
        program: &Program,
        output: &OwnedFd,
        rules: Option<&OwnedFd>,
        peak: Option<OwnedFd>,
        given: Given,
        meeting: Vec<OwnedFd>,
    ) -> Result<Running, Failure> {
        let victim = oom_victim()?;
        if program.image.is_some() {
            skip_template_pid().doing("skipping the template's pid")?;
        }
        let (place, ends) = match given {
            Given::Nothing => (None, None),
            Given::Place(descriptor) => (Some(descriptor), None),
            Given::Image(ends) => (None, Some(ends)),
        };
        program.user.map(show_as).transpose()?;
        lock(self.walls.filters.for_jail(program.class, self.memory_is_watched), program.class)?;
        let signals = sys::signal_descriptor(&[libc::SIGCHLD]).doing("watching for ended processes")?;
        let start = Start {
            argv: &program.argv,
            env: &program.env,
            output,
            orders: place.as_ref(),
            folder: program.root.as_deref().unwrap_or(WORKING_DIRECTORY),
            lock: None,
            image: program.image.as_ref().zip(ends.as_ref()),
            rules,
            told: program.way_out.then_some(self.told()),
        };
        let pid = program::start(&start, self.proof)?;
        victim.spare_pid_1()?;
        self.say(&FromJail::Started)?;
        Ok(Running { pid, signals, peak, template: program.template, meeting })
    }

    /// The booted runtime becomes the program: from the first byte of its orders on it runs user code.
    fn give_orders(
        &self,
        program: &Program,
        booted: Booted,
        peak: Option<OwnedFd>,
        meeting: Vec<OwnedFd>,
    ) -> Result<Running, Failure> {
        let Booted { pid, signals, orders } = booted;
        let env = program.env.iter().map(|(name, value)| (name.clone(), value.clone().into()));
        let text = serde_json::Value::Object(env.collect()).to_string();
        lock(self.walls.filters.for_jail(program.class, self.memory_is_watched), program.class)?;
        self.say(&FromJail::Started)?;
        // A runtime that has ended is seen by whoever supervises it.
        let _ = File::from(orders).write_all(text.as_bytes());
        Ok(Running { pid, signals, peak, template: false, meeting })
    }
}

fn join_late(group: Vec<OwnedFd>, booted: Option<&Booted>) -> Result<(), Failure> {
    let mut files = group.into_iter().map(File::from);
    let (Some(mut join), Some(mut take_in)) = (files.next(), files.next()) else { return Ok(()) };
    join.write_all(b"0").doing("joining a control group")?;
    if let Some(booted) = booted {
        let pid = booted.pid.as_raw_nonzero().to_string();
        take_in.write_all(pid.as_bytes()).doing("moving the runtime into a control group")?;
    }
    Ok(())
}
