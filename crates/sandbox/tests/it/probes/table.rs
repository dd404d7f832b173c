//! What each probe must come to: the system's word for the wall that it runs into, so that a wall that is gone shows
//! even where another still stands behind it.

use std::collections::{BTreeMap, BTreeSet};

/// Probes of one kind.
struct Theme {
    /// What they try: "a program that …".
    tries: &'static str,
    /// Names, and what may come of them: an error, a killing signal, or "nothing" for what finds nothing.
    probes: &'static [(&'static [&'static str], &'static [&'static str])],
}

const THEMES: &[Theme] = &[
    Theme {
        tries: "makes or enters namespaces",
        probes: &[
            (
                &[
                    "unshare_user",
                    "unshare_mounts",
                    "unshare_network",
                    "unshare_pids",
                    "clone_user_namespace",
                    "setns_own_network",
                ],
                &["EPERM"],
            ),
            (&["clone3"], &["ENOSYS"]),
            (&["setns_of_pid_1"], &["EACCES"]),
        ],
    },
    Theme {
        tries: "mounts, or changes what is mounted",
        probes: &[(
            &[
                "mount_tmpfs",
                "mount_proc",
                "mount_cgroup",
                "remount_code_writable",
                "mount_setattr",
                "unmask_proc",
                "open_tree",
                "move_mount",
                "fsopen",
                "pivot_root",
                "chroot",
            ],
            &["EPERM"],
        )],
    },
    Theme {
        tries: "looks into other processes, or steers them",
        probes: &[
            (
                &[
                    "pid_1_memory",
                    "pid_1_environment",
                    "pid_1_maps",
                    "pid_1_root",
                    "pid_1_descriptors",
                    "pid_1_executable",
                ],
                &["EACCES"],
            ),
            (
                &[
                    "ptrace_pid_1",
                    "ptrace_sibling",
                    "read_memory_of_others",
                    "write_memory_of_others",
                    "steal_descriptor",
                    "kcmp",
                    "move_pages",
                    "kill_pid_1",
                    "priority_of_pid_1",
                    "limits_of_pid_1",
                ],
                &["EPERM"],
            ),
            (&["other_processes", "signals_beyond"], &["nothing"]),
        ],
    },
    Theme {
        tries: "changes the kernel or itself through /proc",
        probes: &[
            (
                &["core_pattern", "forwarding", "user_map", "own_memory_through_proc", "oom_score"],
                &["EACCES"],
            ),
            (&["sysrq"], &["EACCES", "ENOENT"]),
        ],
    },
    Theme {
        tries: "reads of the kernel what is not its business",
        probes: &[
            (&["kernel_memory"], &["EACCES", "ENOENT"]),
            (&["kernel_facts"], &["nothing"]),
            (&["kernel_log"], &["EPERM"]),
        ],
    },
    Theme {
        tries: "makes or finds devices",
        probes: &[
            (&["make_memory_device", "make_disk_device"], &["EPERM"]),
            (&["dangerous_devices", "unknown_devices", "device_files_outside_dev"], &["nothing"]),
        ],
    },
    Theme {
        tries: "reaches control groups",
        probes: &[(&["control_groups"], &["nothing"]), (&["release_agent"], &["ENOENT"])],
    },
    Theme {
        tries: "uses the parts of the kernel with the worst record",
        probes: &[
            (
                &[
                    "bpf",
                    "perf_event_open",
                    "userfaultfd",
                    "io_uring_setup",
                    "keyctl",
                    "add_key",
                    "request_key",
                    "fanotify_init",
                    "name_to_handle_at",
                ],
                &["EPERM"],
            ),
            (&["segment_table", "x32_entry"], &["ENOSYS"]),
        ],
    },
    Theme {
        tries: "does what only an attack does",
        probes: &[(
            &[
                "kexec_load",
                "init_module",
                "finit_module",
                "delete_module",
                "swapon",
                "swapoff",
                "reboot",
                "acct",
                "open_by_handle_at",
                "port_access",
                "i386_entry",
            ],
            &["killed SIGSYS"],
        )],
    },
    Theme {
        tries: "changes the host for everybody",
        probes: &[(
            &[
                "settimeofday",
                "clock_settime",
                "quotactl",
                "personality",
                "sync",
                "sethostname",
                "setdomainname",
            ],
            &["EPERM"],
        )],
    },
    Theme {
        tries: "writes what it shares with others",
        probes: &[
            (
                &[
                    "write_code",
                    "write_usr",
                    "write_etc",
                    "write_root",
                    "write_runtime_client",
                    "code_through_a_link",
                    "rename_code",
                ],
                &["EROFS"],
            ),
            (&["overwrite_code"], &["EACCES", "EROFS"]),
            (&["overwrite_interpreter"], &["EACCES", "EROFS", "ETXTBSY"]),
            (&["hard_link_to_code"], &["EXDEV"]),
        ],
    },
    Theme {
        tries: "finds what was not meant for it",
        probes: &[
            (&["host_passwords"], &["ENOENT"]),
            (
                &[
                    "files_of_the_host",
                    "files_of_a_neighbour",
                    "descriptors_left_open",
                    "environment_of_the_server",
                ],
                &["nothing"],
            ),
        ],
    },
    Theme {
        tries: "gains privileges",
        probes: &[
            (&["privileges", "set_user_id_files"], &["nothing"]),
            (&["become_root", "leave_the_filter"], &["EINVAL"]),
            (&["join_groups", "gain_capabilities"], &["EPERM"]),
        ],
    },
    Theme {
        tries: "goes over its limits, or before others",
        probes: &[
            (&["real_time", "more_files", "more_processes", "core_files", "disk_priority"], &["EPERM"]),
            (&["priority"], &["EACCES", "EPERM"]),
            (&["endless_limits"], &["nothing"]),
        ],
    },
    Theme { tries: "types into a terminal", probes: &[(&["type_into_terminal"], &["EPERM"])] },
    Theme {
        tries: "opens sockets that reach into the kernel or past the network",
        probes: &[
            (
                &[
                    "packet_socket",
                    "vsock_socket",
                    "crypto_socket",
                    "raw_socket",
                    "audit_socket",
                    "firewall_socket",
                    "loopback_down",
                ],
                &["EPERM"],
            ),
            (&["rare_families"], &["nothing"]),
            (&["abstract_socket_of_the_host"], &["ECONNREFUSED", "EPERM"]),
        ],
    },
    Theme {
        tries: "reaches the host, its neighbours, or whoever answers for the cloud",
        probes: &[
            (
                &[
                    "host_loopback",
                    "host_loopback_mapped",
                    "host_loopback_elsewhere",
                    "host_loopback_as_a_number",
                    "host_as_no_address",
                    "neighbours_port",
                ],
                &["ECONNREFUSED"],
            ),
            (&["host_loopback_ipv6"], &["ECONNREFUSED", "EADDRNOTAVAIL", "EAFNOSUPPORT"]),
            (
                &[
                    "host_addresses",
                    "metadata",
                    "metadata_ipv6",
                    "metadata_mapped",
                    "private_ranges",
                    "private_ranges_ipv6",
                    "name_servers",
                ],
                &["nothing"],
            ),
            (&["multicast"], &["ENETUNREACH"]),
        ],
    },
];

/// Objects that programs share by name: a program of the host's interpreters has no such calls.
const SHARED: [&str; 4] =
    ["shared_memory_by_key", "message_queue_by_key", "semaphores_by_key", "message_queue_by_name"];

/// Those that Landlock alone stops, or stops first.
const LANDLOCK: [&str; 3] = ["kill_pid_1", "own_memory_through_proc", "user_map"];

/// What the host and the program are.
pub(super) struct Setting {
    /// The kernel has all of Landlock that is used.
    pub(super) landlock: bool,
    /// The program is of a class that may share objects by name, with nobody.
    pub(super) native: bool,
}

/// Every probe that did not come to what it must, one line each, and every one that was not there.
pub(super) fn compare(got: &BTreeMap<String, String>, setting: &Setting) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut known = BTreeSet::new();
    let mut check = |tries: &str, name: &'static str, expect: &[&str]| {
        known.insert(name);
        let outcome = got.get(name).map_or("was not made", String::as_str);
        if !expect.contains(&outcome) {
            wrong.push(format!("{name} ({tries}): {outcome} instead of {}", expect.join(" or ")));
        }
    };
    for theme in THEMES {
        for (names, expect) in theme.probes {
            names.iter().for_each(|name| check(theme.tries, name, expect));
        }
    }
    // Where memory is only watched, no program has those that hide it.
    let shared: &[&str] = if setting.native { &["ENOENT", "ENOSYS"] } else { &["ENOSYS"] };
    SHARED.into_iter().for_each(|name| check("shares objects by name", name, shared));
    wrong.retain(|line| setting.landlock || !LANDLOCK.iter().any(|name| line.starts_with(name)));
    let unknown = got.keys().filter(|name| !known.contains(name.as_str()));
    wrong.extend(unknown.map(|name| format!("{name}: is not in the table")));
    wrong
}
