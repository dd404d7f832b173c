//! The walls behind namespaces and mounts: Landlock, what `/proc` keeps to itself, limits, open descriptors.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use base::InstanceId;
use sandbox::Exit;
use sandbox::process::jail::Mount;

use crate::case;
use crate::world::{Case, World, write};

pub(crate) const CASES: &[Case] = &[
    case!(landlock_decides_again_what_runs),
    case!(abstract_sockets_of_the_hosts_network_are_out_of_reach),
    case!(proc_keeps_what_programs_read_and_nothing_else),
    case!(only_the_standard_streams_are_open),
    case!(every_limit_is_set),
    case!(a_forbidden_call_ends_the_program),
];

async fn landlock_decides_again_what_runs(world: World) {
    // What is mounted below /etc may be read. That it could be executed, its mount would not mind.
    let script = world.data().join("script");
    write(&script, 0o755, b"#!/bin/sh\necho executed\n");
    let mut job = world.script("cat /etc/script | tail -1; /etc/script 2>&1 | grep -o 'denied'; /opt/script");
    let at = |inside: &str| Mount { host: script.clone(), inside: inside.into() };
    job.mounts = vec![at("/etc/script"), at("/opt/script")];
    let expect = if world.has_landlock() { "denied\n" } else { "" };
    assert_eq!(world.run(job).await.output, format!("echo executed\n{expect}executed\n"));
}

async fn abstract_sockets_of_the_hosts_network_are_out_of_reach(world: World) {
    // Their names belong to a network namespace, and Landlock keeps them apart once more.
    let name = format!("virga-{}", InstanceId::random());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    let program = format!(
        "import socket\nsocket.socket(socket.AF_UNIX).bind('\\0{name}-mine')\n\
         try: socket.socket(socket.AF_UNIX).connect('\\0{name}')\n\
         except (PermissionError, ConnectionRefusedError): print('refused')\nelse: print('connected')\n"
    );
    assert_eq!(world.run(world.python(&program)).await.output, "refused\n");
}

async fn proc_keeps_what_programs_read_and_nothing_else(world: World) {
    let read = "cpuinfo meminfo stat uptime loadavg version filesystems cgroups swaps vmstat sys/kernel/osrelease \
                sys/vm/overcommit_memory sys/kernel/random/uuid sys/net/core/somaxconn self/maps self/status net/tcp mounts";
    let outcome =
        world.sh(&format!("cd /proc; for f in {read}; do test -n \"$(cat $f)\" || echo $f; done")).await;
    assert_eq!(outcome.output, "");
    // Everything else at the top is a process, empty, or closed.
    let script = "cd /proc; for f in *; do case $f in [0-9]*|self|thread-self|net|mounts|sys) continue;; esac; \
                  if [ -d $f ]; then test -z \"$(ls -A $f)\" || echo $f; \
                  else test -z \"$(head -c 64 $f 2>/dev/null | tr -d '\\0')\" || echo $f; fi; done";
    let found = world.sh(script).await.output;
    let kept: Vec<_> = found.lines().collect();
    let known = [
        "cgroups",
        "consoles",
        "cpuinfo",
        "crypto",
        "devices",
        "dma",
        "execdomains",
        "filesystems",
        "iomem",
        "ioports",
        "loadavg",
        "locks",
        "meminfo",
        "misc",
        "stat",
        "swaps",
        "sysvipc",
        "uptime",
        "version",
        "vmstat",
    ];
    assert!(kept.iter().all(|name| known.contains(name)), "{kept:?}");
    assert!(kept.contains(&"meminfo"), "{kept:?}");
}

async fn only_the_standard_streams_are_open(world: World) {
    // This process and the launcher hold dozens.
    let program = "import os\nown = os.open('/proc/self/fd', os.O_RDONLY)\n\
                   names = sorted((int(n) for n in os.listdir('/proc/self/fd')))\n\
                   print([(n, os.readlink(f'/proc/self/fd/{n}').split(':')[0]) for n in names if n < own])\n\
                   print(os.fstat(1) == os.fstat(2), max(names) <= own + 1)\n";
    let outcome = world.run(world.python(program)).await;
    assert_eq!(outcome.output, "[(0, '/dev/null'), (1, 'pipe'), (2, 'pipe')]\nTrue True\n");
}

async fn every_limit_is_set(world: World) {
    let program = "import resource as r\nfor name in 'CORE NOFILE MEMLOCK STACK SIGPENDING MSGQUEUE NICE RTPRIO NPROC'.split():\n  \
                   print(name, *r.getrlimit(getattr(r, 'RLIMIT_' + name)))\n";
    let outcome = world.run(world.python(program)).await;
    let own = ulimits();
    for (name, soft, hard) in [
        ("CORE", 0, 0),
        ("NOFILE", 1024, 1024),
        ("MEMLOCK", 65_536, 65_536),
        ("STACK", 8 << 20, 1 << 30),
        ("SIGPENDING", 4096, 4096),
        ("MSGQUEUE", 819_200, 819_200),
        ("NICE", 0, 0),
        ("RTPRIO", 0, 0),
        ("NPROC", 65, 65),
    ] {
        // Less where the host gives this process less.
        let most = |value: u64| own.get(name).map_or(value, |own| value.min(*own));
        let line = format!("{name} {} {}\n", most(soft), most(hard));
        assert!(outcome.output.contains(&line), "{line}{}", outcome.output);
    }
}

/// The hard limits of this process where one may be lower than a jail's.
fn ulimits() -> std::collections::HashMap<&'static str, u64> {
    use rustix::process::{Resource, getrlimit};
    let resources =
        [("STACK", Resource::Stack), ("SIGPENDING", Resource::Sigpending), ("NOFILE", Resource::Nofile)];
    let limits = resources.into_iter().map(|(name, resource)| (name, getrlimit(resource).maximum));
    limits.filter_map(|(name, limit)| Some((name, limit?))).collect()
}

async fn a_forbidden_call_ends_the_program(world: World) {
    let program = format!(
        "import ctypes\nprint('still here', flush=True)\nctypes.CDLL(None).syscall({}, 0, 0, 0)\nprint('and now')\n",
        libc::SYS_kexec_load
    );
    let outcome = world.run(world.python(&program)).await;
    assert_eq!((outcome.exit, outcome.output.as_str()), (Exit::Signal(libc::SIGSYS), "still here\n"));
}
