//! Making one jail: groups, mounts, the clone, its user.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Signal, WaitIdOptions};

use super::{USER, Workshop, rootfs, users};
use crate::process::jail::cgroup::{Bounds, Group};
use crate::process::jail::init;
use crate::process::jail::sys::{self, Clone};
use crate::process::jail::wire::{self, Doing, Failure, FromJail, Request, ToInit};

/// A jail as the launcher sees it.
pub(super) struct Instance {
    /// Of its pid 1: readable when nothing in it runs any more.
    pub(super) pidfd: OwnedFd,
    /// A copy of pid 1's end of the channel, to speak last on.
    pub(super) channel: OwnedFd,
    /// Its control groups.
    pub(super) group: Group,
    /// Readable when it runs out of memory, where the kernel leaves the rest to us.
    pub(super) out_of_memory: Option<OwnedFd>,
}

impl Instance {
    /// Kills all of it: the kernel ends a pid namespace with its pid 1.
    pub(super) fn kill(&self) {
        // It may have ended by itself.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Takes the ended pid 1's status, so that it is no zombie.
    pub(super) fn reap(&self) {
        let id = rustix::process::WaitId::PidFd(self.pidfd.as_fd());
        let _ = rustix::process::waitid(id, WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    }
}

impl Workshop {
    /// Makes a jail's pid 1 and tells the server, on the jail's channel. On failure nothing is left.
    pub(super) fn spawn(&mut self, request: &Request, channel: OwnedFd) -> Result<Instance, Failure> {
        check_name(&request.instance).doing("naming the control group")?;
        let mounts = mounts(request)?;
        let group = self
            .cgroups
            .create(&request.instance, request.cpu_hundredths.is_some())
            .doing("making the control groups")?;
        let placed = self.place(request, &group, &mounts, &channel);
        match placed {
            Ok((pidfd, out_of_memory)) => Ok(Instance { pidfd, channel, group, out_of_memory }),
            Err(failure) => {
                // Empty, or its one process is just dying: then the next start of the server removes it.
                let _ = group.remove();
                Err(failure)
            }
        }
    }

    fn place(
        &mut self,
        request: &Request,
        group: &Group,
        mounts: &[(OwnedFd, PathBuf)],
        channel: &OwnedFd,
    ) -> Result<(OwnedFd, Option<OwnedFd>), Failure> {
        let bounds = Bounds {
            memory_bytes: request.memory_bytes,
            cpu_hundredths: request.cpu_hundredths,
            // One is pid 1.
            pids: request.pids.saturating_add(1),
        };
        group.limit(&bounds).doing("setting the limits of the control groups")?;
        let out_of_memory = group.out_of_memory_event().doing("watching the memory control group")?;
        let (pid, pidfd, orders) = self.clone_init(request.host_network, group)?;
        let told = self.instruct(request, pid, &orders, mounts, channel).and_then(|()| {
            let peak = group.peak_file().map(OwnedFd::from);
            let descriptors: Vec<_> =
                [Some(&pidfd), peak.as_ref()].into_iter().flatten().map(AsFd::as_fd).collect();
            wire::send(channel, &FromJail::Placed, &descriptors, SendFlags::DONTWAIT)
                .doing("reporting the placement")
        });
        if let Err(failure) = told {
            let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
            let id = rustix::process::WaitId::PidFd(pidfd.as_fd());
            let _ = rustix::process::waitid(id, WaitIdOptions::EXITED);
            return Err(failure);
        }
        Ok((pidfd, out_of_memory))
    }

    /// Clones pid 1 into its namespaces and groups.
    fn clone_init(&self, host_network: bool, group: &Group) -> Result<(Pid, OwnedFd, OwnedFd), Failure> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .doing("making pid 1's socket")?;
        let into = group.clone_into().doing("opening the control group")?;
        let joins = group.joins().doing("opening the control groups")?;
        let own_network = if host_network { 0 } else { libc::CLONE_NEWNET };
        let namespaces = libc::CLONE_NEWUSER
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS
            | own_network;
        let clone = || -> io::Result<_> {
            match sys::clone3(self.proof, namespaces, into.as_ref().map(AsFd::as_fd))? {
                Clone::Child => init::run(init::Start {
                    orders: theirs,
                    joins,
                    filters: &self.filters,
                    proof: self.proof,
                }),
                Clone::Parent(pid, pidfd) => Ok((pid, pidfd, ours)),
            }
        };
        self.views.in_jail(clone).doing("entering the jails' root")?.doing("making the namespaces")
    }

    /// Gives pid 1 its user and its orders.
    fn instruct(
        &mut self,
        request: &Request,
        pid: Pid,
        orders: &OwnedFd,
        mounts: &[(OwnedFd, PathBuf)],
        channel: &OwnedFd,
    ) -> Result<(), Failure> {
        let user = self.users.take();
        let group = if self.users.are_separate() { user } else { rustix::process::getegid().as_raw() };
        users::map(Some(pid), USER, user, group).doing("mapping the jail's user")?;
        let send = |message: &ToInit, descriptors: &[_]| {
            wire::send(orders, message, descriptors, SendFlags::DONTWAIT).doing("instructing pid 1")
        };
        send(&ToInit::Mapped, &[])?;
        let targets = mounts.iter().map(|(_, inside)| inside.clone()).collect();
        let watch_memory = (!self.cgroups.hold_memory()).then_some(request.memory_bytes);
        let descriptors: Vec<_> =
            [channel].into_iter().chain(mounts.iter().map(|(tree, _)| tree)).map(AsFd::as_fd).collect();
        send(&ToInit::Go { targets, watch_memory }, &descriptors)
    }
}

/// Opens what the jail is to see, while we may still read it.
fn mounts(request: &Request) -> Result<Vec<(OwnedFd, PathBuf)>, Failure> {
    let mut wanted: Vec<(&Path, &Path)> =
        request.mounts.iter().map(|(host, inside)| (host.as_path(), inside.as_path())).collect();
    if request.host_network {
        // Its names are resolved as the host does it.
        let files = ["/etc/resolv.conf", "/etc/hosts"].map(Path::new);
        wanted.extend(files.into_iter().filter(|file| file.exists()).map(|file| (file, file)));
    }
    wanted.into_iter().map(|(host, inside)| Ok((open(host, inside)?, inside.to_owned()))).collect()
}

fn open(host: &Path, inside: &Path) -> Result<OwnedFd, Failure> {
    let doing = || format!("showing {} at {}", host.display(), inside.display());
    let is_dir = std::fs::metadata(host).doing(doing())?.is_dir();
    rootfs::make_target(inside, is_dir).doing(doing())?;
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
