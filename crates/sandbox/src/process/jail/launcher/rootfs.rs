//! The root that every jail sees, built once in the launcher's own mount namespace.
//!
//! A small tmpfs with read-only views of the host's `/usr` and of the few files in `/etc` that programs
//! expect: certificates, alternatives, the loader's cache, the time zone. Users, name service and hosts are
//! generated. A jail gets a copy of these mounts, read-only, and mounts its own `/proc`, `/tmp`,
//! `/dev/shm`, code and further folders over them.
//!
//! The launcher's working directory is the root's folder; all paths here are relative to it.

use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::mount::{MoveMountFlags, OpenTreeFlags};
use rustix::process::Pid;

use crate::process::jail::sys::{self, attribute};
use crate::process::jail::wire::{Doing, Failure};

/// The name that a jail has for itself.
pub(in crate::process::jail) const HOSTNAME: &str = "virga";
/// User and group of programs, as in Lambda.
pub(in crate::process::jail) const USER: u32 = 993;

/// Folders that are there, empty, for jails to mount on and programs to expect.
const FOLDERS: [&str; 16] = [
    "proc",
    "tmp",
    "var",
    "var/task",
    "var/runtime",
    "var/lang",
    "var/lib",
    "opt",
    "dev",
    "dev/shm",
    "etc",
    "run",
    "run/masked",
    "run/masked/folder",
    "home",
    "mnt",
];

/// What distributions keep at the top or link into `/usr`.
const TOP: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// Of the host's `/etc`, where it exists. Certificates are in `ssl`, `ca-certificates` or `pki` depending on
/// the distribution; Java reads its security settings from there too, PHP which
/// extensions it has.
const ETC: [&str; 22] = [
    "alternatives",
    "ca-certificates",
    "ca-certificates.conf",
    "crypto-policies",
    "fonts",
    "gai.conf",
    "java-11-openjdk",
    "java-17-openjdk",
    "java-21-openjdk",
    "java-25-openjdk",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "os-release",
    "perl",
    "php",
    "pki",
    "protocols",
    "services",
    "ssl",
];

const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];

const LINKS: [(&str, &str); 6] = [
    ("dev/fd", "/proc/self/fd"),
    ("dev/stdin", "/proc/self/fd/0"),
    ("dev/stdout", "/proc/self/fd/1"),
    ("dev/stderr", "/proc/self/fd/2"),
    ("etc/mtab", "/proc/self/mounts"),
    ("var/tmp", "/tmp"),
];

/// Mounts the root at `place` and makes it the working directory.
pub(super) fn build(place: &Path) -> Result<(), Failure> {
    let target = CString::new(place.as_os_str().as_bytes()).map_err(|_| Failure {
        cause: crate::process::jail::wire::Cause::Host,
        context: "the data directory's path has a zero byte".to_owned(),
        errno: 0,
    })?;
    sys::mount_new(c"tmpfs", &target, libc::MS_NOSUID | libc::MS_NODEV, c"mode=755,size=4m,nr_inodes=16k")
        .doing("mounting a tmpfs")?;
    std::env::set_current_dir(place).doing("entering the new root")?;
    for folder in FOLDERS {
        make_dir(Path::new(folder)).doing(format!("making /{folder}"))?;
    }
    for (link, target) in LINKS {
        symlink(target, link).doing(format!("linking /{link}"))?;
    }
    generate().doing("writing the root's /etc")?;
    for name in DEVICES {
        bind_device(name).doing(format!("binding /dev/{name}"))?;
    }
    show(Path::new("/usr")).doing("binding /usr")?;
    for name in TOP {
        mirror(Path::new("/").join(name)).doing(format!("binding /{name}"))?;
    }
    for name in ETC {
        mirror(Path::new("/etc").join(name)).doing(format!("binding /etc/{name}"))?;
    }
    Ok(())
}

/// A detached, read-only copy of the host's mount tree at `host`.
pub(super) fn read_only_tree(host: &Path) -> io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let tree = rustix::mount::open_tree(CWD, host, flags)?;
    sys::restrict_mount(tree.as_fd(), attribute::READ_ONLY | attribute::NO_SUID | attribute::NO_DEV, true)?;
    Ok(tree)
}

/// A detached copy of the mount at a folder of the host, without what is mounted below it, writable. `mapped` is a
/// process with a user namespace of its own: what [`USER`] owns on the disk is then owned by that one's [`USER`].
pub(super) fn writable_folder(host: &Path, mapped: Option<Pid>) -> io::Result<OwnedFd> {
    if !fs::symlink_metadata(host)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(CWD, host, flags)?;
    sys::restrict_mount(tree.as_fd(), attribute::NO_SUID | attribute::NO_DEV, false)?;
    if let Some(pid) = mapped {
        let users = fs::File::open(format!("/proc/{}/ns/user", pid.as_raw_nonzero()))?;
        sys::map_mount(tree.as_fd(), users.as_fd())?;
    }
    Ok(tree)
}

/// Makes sure that a mount can go to `inside`: makes the folders or the file on the way, in the root that all
/// jails share. What a mount of the host covers must have the place already.
pub(super) fn make_target(inside: &Path, is_dir: bool) -> io::Result<()> {
    let relative: PathBuf = inside.components().filter(|part| matches!(part, Component::Normal(_))).collect();
    if exists_in_root(&relative) || relative.starts_with("var/task") {
        return Ok(());
    }
    let parents = if is_dir { relative.as_path() } else { relative.parent().unwrap_or(Path::new("")) };
    make_dir(parents)?;
    if !is_dir {
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o644).open(&relative)?;
    }
    Ok(())
}

/// Looks a path up as a jail would: absolute links start at the root's folder.
fn exists_in_root(relative: &Path) -> bool {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::openat2(CWD, relative, flags, Mode::empty(), ResolveFlags::IN_ROOT).is_ok()
}

fn make_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path)
}

/// What every root has in its `/etc`, an image's too: the network that a jail has is not the one of whoever made the image.
pub fn image_files() -> [(&'static str, String); 3] {
    [
        ("etc/hosts", format!("127.0.0.1 localhost {HOSTNAME}\n::1 ip6-localhost ip6-loopback\n")),
        ("etc/hostname", format!("{HOSTNAME}\n")),
        // Virga answers there, where there is a way out; elsewhere the kernel refuses at once.
        ("etc/resolv.conf", "nameserver 127.0.0.1\n".to_owned()),
    ]
}

/// A jail's user and group, as lines of the files that list such.
pub fn image_users() -> [(&'static str, String); 2] {
    let user = USER;
    [
        ("etc/passwd", format!("sandbox:x:{user}:{user}::/tmp:/sbin/nologin")),
        ("etc/group", format!("sandbox:x:{user}:")),
    ]
}

fn generate() -> io::Result<()> {
    let [(passwd, user), (groups, group)] = image_users();
    let files = [
        (passwd, format!("root:x:0:0:root:/root:/sbin/nologin\n{user}\n")),
        (groups, format!("root:x:0:\n{group}\n")),
        ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n".to_owned()),
        ("run/masked/file", String::new()),
    ];
    for (path, text) in files.into_iter().chain(image_files()) {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        file.write_all(text.as_bytes())?;
        // Not left to the server's umask.
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
    }
    for folder in FOLDERS {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Shows a path of the host at the same place, as a link where that leads into `/usr`.
fn mirror(host: PathBuf) -> io::Result<()> {
    let Ok(found) = fs::symlink_metadata(&host) else { return Ok(()) };
    if !found.is_symlink() {
        return show(&host);
    }
    let Ok(real) = fs::canonicalize(&host) else { return Ok(()) };
    if real.starts_with("/usr") {
        return symlink(real, relative(&host));
    }
    show_as(&real, relative(&host))
}

fn show(host: &Path) -> io::Result<()> {
    show_as(host, relative(host))
}

fn show_as(host: &Path, target: &Path) -> io::Result<()> {
    make_place(host, target)?;
    attach(&read_only_tree(host)?, target)
}

fn bind_device(name: &str) -> io::Result<()> {
    let (host, target) = (Path::new("/dev").join(name), Path::new("dev").join(name));
    make_place(&host, &target)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(CWD, &host, flags)?;
    sys::restrict_mount(tree.as_fd(), attribute::NO_SUID | attribute::NO_EXEC, false)?;
    attach(&tree, &target)
}

fn make_place(host: &Path, target: &Path) -> io::Result<()> {
    if fs::metadata(host)?.is_dir() {
        return make_dir(target);
    }
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o644).open(target).map(drop)
}

fn attach(tree: &OwnedFd, target: &Path) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(tree, c"", CWD, target, flags).map_err(Into::into)
}

fn relative(host: &Path) -> &Path {
    host.strip_prefix("/").unwrap_or(host)
}
