//! Making one jail, in two steps: groups, the clone and its user before anything is known of its function; mounts
//! and limits when that is.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Signal, WaitIdOptions};

use super::{USER, Workshop, rootfs, users};
use crate::process::jail::cgroup::{Group, Late};
use crate::process::jail::image;
use crate::process::jail::init;
use crate::process::jail::sys::{self, Clone, Fork};
use crate::process::jail::wire::{self, Doing, Failure, FromJail, Furnishing, ToInit};

/// A jail as the launcher sees it.
pub(super) struct Instance {
    /// As the server calls it.
    pub(super) name: String,
    /// Of its pid 1.
    pub(super) pid: Pid,
    /// Of its pid 1: readable when nothing in it runs any more.
    pub(super) pidfd: OwnedFd,
    /// A copy of pid 1's end of the channel, to speak last on.
    pub(super) channel: OwnedFd,
    /// Its control groups.
    pub(super) group: Group,
    /// Readable when it runs out of memory, where the kernel leaves the rest to us.
    pub(super) out_of_memory: Option<OwnedFd>,
    /// To pid 1, while it waits.
    orders: Option<OwnedFd>,
}

impl Instance {
    /// Kills all of it: the kernel ends a pid namespace with its pid 1.
    pub(super) fn kill(&self) {
        // It may have ended by itself.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// The same without waiting until pid 1 gets to it. Where there are no groups, nothing holds pid 1 up: it has a share
    /// of the processor apart from the program's.
    pub(super) fn end(&self) {
        self.kill();
        self.group.end();
    }

    /// Takes the ended pid 1's status, so that it is no zombie.
    pub(super) fn reap(&self) {
        let id = rustix::process::WaitId::PidFd(self.pidfd.as_fd());
        let _ = rustix::process::waitid(id, WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    }
}

impl Workshop {
    /// Makes a jail that waits and tells the server, on the jail's channel. On failure nothing is left.
    pub(super) fn prepare(&mut self, jail: &str, channel: OwnedFd) -> Result<Instance, Failure> {
        check_name(jail).doing("naming the control group")?;
        let group = self.cgroups.create(jail).doing("making the control groups")?;
        match self.place(&group, &channel) {
            Ok(placed) => {
                let Placed { pid, pidfd, orders, out_of_memory } = placed;
                let (name, orders) = (jail.to_owned(), Some(orders));
                Ok(Instance { name, pid, pidfd, channel, group, out_of_memory, orders })
            }
            Err(failure) => {
                // Empty, or its one process is just dying: then the next start of the server removes it.
                let _ = group.remove();
                Err(failure)
            }
        }
    }

    /// Gives a waiting jail its limits and what it is to see. On failure it is to be killed.
    pub(super) fn furnish(&self, instance: &mut Instance, wanted: &Furnishing) -> Result<(), Failure> {
        let Some(orders) = &instance.orders else { return Ok(()) };
        let mounts = mounts(&wanted.mounts)?;
        let layered = wanted.layered.iter().map(|(host, name)| {
            // Its place is made by pid 1, in what is the jail's own: others must not see its name.
            rootfs::read_only_tree(host).doing(format!("showing {} at /opt/{name}", host.display()))
        });
        let layered = layered.collect::<Result<Vec<_>, _>>()?;
        let shared = self.shared(instance.pid, &wanted.shared)?;
        let late = match &wanted.bounds {
            Some(bounds) => self
                .cgroups
                .limit(&mut instance.group, bounds)
                .doing("setting the limits of the control groups")?,
            None => None,
        };
        let message = ToInit::Furnish {
            late_group: late.is_some(),
            targets: mounts.iter().map(|(_, inside)| inside.clone()).collect(),
            layered: wanted.layered.iter().map(|(_, name)| name.clone()).collect(),
            shared: wanted.shared.iter().map(|(_, name)| name.clone()).collect(),
            watch_memory: wanted
                .bounds
                .filter(|_| !self.cgroups.hold_memory())
                .map(|bounds| bounds.memory_bytes),
        };
        let late = late.iter().flat_map(|Late { join, take_in }| [join, take_in]);
        let trees = mounts.iter().map(|(tree, _)| tree).chain(&layered).chain(&shared);
        let descriptors: Vec<_> = late.chain(trees).map(AsFd::as_fd).collect();
        wire::send(orders, &message, &descriptors, SendFlags::DONTWAIT).doing("instructing pid 1")?;
        if wanted.bounds.is_some() {
            // That was the last it needs from us.
            instance.orders = None;
        }
        Ok(())
    }

    /// Opens the folders that a jail shares with others. Where each jail has a user of its own on the host, the mount
    /// shows the owner of what is on the disk as the jail's user: all instances then are one owner there.
    fn shared(&self, jail: Pid, wanted: &[(PathBuf, String)]) -> Result<Vec<OwnedFd>, Failure> {
        let mapped = self.users.are_separate();
        let open = |(host, _): &(PathBuf, String)| {
            rootfs::writable_folder(host, mapped.then_some(jail)).doing(format!("sharing {}", host.display()))
        };
        wanted.iter().map(open).collect()
    }

    fn place(&mut self, group: &Group, channel: &OwnedFd) -> Result<Placed, Failure> {
        let out_of_memory = group.out_of_memory_event().doing("watching the memory control group")?;
        let (pid, pidfd, orders) = self.clone_init(group)?;
        let told = self.introduce(pid, &orders, channel).and_then(|()| {
            let files = [group.peak_file(), group.freeze_file()].map(|file| file.map(OwnedFd::from));
            let [peak, freeze] = [0, 1].map(|index: usize| files[index].is_some());
            let descriptors: Vec<_> =
                [&pidfd].into_iter().chain(files.iter().flatten()).map(AsFd::as_fd).collect();
            wire::send(channel, &FromJail::Placed { peak, freeze }, &descriptors, SendFlags::DONTWAIT)
                .doing("reporting the placement")
        });
        if let Err(failure) = told {
            let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
            let id = rustix::process::WaitId::PidFd(pidfd.as_fd());
            let _ = rustix::process::waitid(id, WaitIdOptions::EXITED);
            return Err(failure);
        }
        Ok(Placed { pid, pidfd, orders, out_of_memory })
    }

    /// Has a helper take the image of a jail's stopped program, so that no other jail waits for it. The answer goes
    /// to `reply`; none if the helper cannot be made.
    pub(super) fn take_image(&self, init: Pid, reply: OwnedFd, wanted: image::Wanted) {
        match sys::fork(self.proof) {
            Ok(Fork::Child) => {
                // A copy of the copy: whoever adopts it will reap it, not us.
                if !matches!(sys::fork(self.proof), Ok(Fork::Child)) {
                    sys::exit(0);
                }
                let run = std::panic::AssertUnwindSafe(|| match sys::close_all_but(reply) {
                    Ok(reply) => image::help(&reply, init, wanted),
                    Err(_) => sys::exit(1),
                });
                let _ = std::panic::catch_unwind(run);
                sys::exit(1)
            }
            Ok(Fork::Parent(pid)) => {
                let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
            }
            // The server sees its end closed.
            Err(_) => {}
        }
    }

    /// Clones pid 1 into its namespaces and groups.
    fn clone_init(&self, group: &Group) -> Result<(Pid, OwnedFd, OwnedFd), Failure> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .doing("making pid 1's socket")?;
        let into = group.clone_into().doing("opening the control group")?;
        let joins = group.joins().doing("opening the control groups")?;
        let namespaces = libc::CLONE_NEWUSER
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWNET;
        let clone = || -> io::Result<_> {
            match sys::clone3(self.proof, namespaces, into.as_ref().map(AsFd::as_fd))? {
                Clone::Child => init::run(init::Start {
                    orders: theirs,
                    joins,
                    memory_is_watched: !self.cgroups.hold_memory(),
                    walls: &self.walls,
                    proof: self.proof,
                }),
                Clone::Parent(pid, pidfd) => Ok((pid, pidfd, ours)),
            }
        };
        self.views.in_jail(clone).doing("entering the jails' root")?.doing("making the namespaces")
    }

    /// Gives pid 1 its user and its end of the channel.
    fn introduce(&mut self, pid: Pid, orders: &OwnedFd, channel: &OwnedFd) -> Result<(), Failure> {
        let user = self.users.take();
        let group = if self.users.are_separate() { user } else { rustix::process::getegid().as_raw() };
        users::map(Some(pid), (USER, USER), (user, group)).doing("mapping the jail's user")?;
        wire::send(orders, &ToInit::Mapped, &[channel.as_fd()], SendFlags::DONTWAIT)
            .doing("instructing pid 1")
    }
}

/// A pid 1 that was cloned.
struct Placed {
    pid: Pid,
    pidfd: OwnedFd,
    orders: OwnedFd,
    out_of_memory: Option<OwnedFd>,
}

/// Opens what the jail is to see, while we may still read it.
fn mounts(wanted: &[(PathBuf, PathBuf)]) -> Result<Vec<(OwnedFd, PathBuf)>, Failure> {
    wanted.iter().map(|(host, inside)| Ok((open(host, inside)?, inside.clone()))).collect()
}

fn open(host: &Path, inside: &Path) -> Result<OwnedFd, Failure> {
    let doing = || format!("showing {} at {}", host.display(), inside.display());
    let is_dir = std::fs::metadata(host).doing(doing())?.is_dir();
    // An image becomes the root; it needs no place in the one that all share.
    if inside != Path::new("/") {
        rootfs::make_target(inside, is_dir).doing(doing())?;
    }
    rootfs::read_only_tree(host).doing(doing())
}

/// The name becomes a folder's.
fn check_name(name: &str) -> io::Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if (1..=64).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "an instance's name is not plain"))
}
