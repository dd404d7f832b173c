"""Tries to get out of the sandbox that it runs in, in as many ways as there are functions below.

Each probe runs in a process of its own, for some end it. It raises what the system answered, or returns what it
got; None is nothing. What each is for, and what must come of it, is in table.rs beside this file. System calls
without a wrapper go through the C library's `syscall`, by this machine's numbers.
"""

import ctypes
import errno
import mmap
import os
import platform
import resource
import select
import signal
import socket
import stat
import struct
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
X86 = platform.machine() == "x86_64"
PROBES = {}
GIVEN = {}

# Calls whose numbers differ between machines: x86_64, aarch64.
NUMBERS = {
    "unshare": (272, 97), "setns": (308, 268), "clone": (56, 220), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "chroot": (161, 51), "bpf": (321, 280), "perf_event_open": (298, 241),
    "userfaultfd": (323, 282), "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "kexec_load": (246, 104), "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "swapon": (167, 224), "swapoff": (168, 225), "reboot": (169, 142), "acct": (163, 89),
    "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264), "settimeofday": (164, 170),
    "clock_settime": (227, 112), "quotactl": (179, 60), "fanotify_init": (300, 262), "syslog": (103, 116),
    "personality": (135, 92), "sethostname": (170, 161), "setdomainname": (171, 162), "capset": (126, 91),
    "sync": (162, 81), "mq_open": (240, 180), "shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190),
    "ioprio_set": (251, 30), "move_pages": (279, 239), "process_madvise": (440, 440), "clone3": (435, 435),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "mount_setattr": (442, 442), "io_uring_setup": (425, 425),
}  # fmt: skip


def call(name, *arguments):
    """Makes a system call: its result, or the system's error."""
    number = name if isinstance(name, int) else NUMBERS[name][0 if X86 else 1]
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    ctypes.set_errno(0)
    result = LIBC.syscall(ctypes.c_long(number), *wide)
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return f"{name} returned {result}"


def probe(function):
    PROBES[function.__name__] = function
    return function


def simple(name, *arguments, of=None):
    """A probe that is one system call."""
    PROBES[name] = lambda: call(of or name, *arguments)


# Namespaces.
NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET, NEWCGROUP = (
    0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000, 0x2000000)  # fmt: skip
simple("unshare_user", NEWUSER, of="unshare")
simple("unshare_mounts", NEWNS, of="unshare")
simple("unshare_network", NEWNET, of="unshare")
simple("unshare_pids", NEWPID | NEWIPC | NEWUTS | NEWCGROUP, of="unshare")
simple("clone3", 0, 0)


@probe
def clone_user_namespace():
    got = call("clone", NEWUSER | signal.SIGCHLD, 0, 0, 0, 0)
    if got.endswith(" 0"):
        os._exit(0)
    return got


@probe
def setns_own_network():
    with open("/proc/self/ns/net") as space:
        return call("setns", space.fileno(), 0)


@probe
def setns_of_pid_1():
    return os.open("/proc/1/ns/mnt", os.O_RDONLY)


# Mounts.
simple("mount_tmpfs", b"none", b"/tmp", b"tmpfs", 0, None, of="mount")
simple("mount_proc", b"none", b"/tmp", b"proc", 0, None, of="mount")
simple("mount_cgroup", b"none", b"/tmp", b"cgroup2", 0, None, of="mount")
simple("remount_code_writable", None, b"/var/task", None, 0x1000 | 0x20, None, of="mount")
simple("mount_setattr", -100, b"/", 0, struct.pack("QQQQ", 0, 1, 0, 0), 32)
simple("unmask_proc", b"/proc/cmdline", 2, of="umount2")
simple("open_tree", -100, b"/", 1)
simple("move_mount", -100, b"/usr", -100, b"/tmp", 0)
simple("fsopen", b"tmpfs", 0)
simple("pivot_root", b"/tmp", b"/tmp")
simple("chroot", b"/tmp")


# Processes and /proc.
def opening(path, flags=os.O_RDONLY):
    return lambda: os.open(path, flags)


PROBES["pid_1_memory"] = opening("/proc/1/mem", os.O_RDWR)
PROBES["pid_1_environment"] = opening("/proc/1/environ")
PROBES["pid_1_maps"] = opening("/proc/1/maps")
PROBES["pid_1_root"] = lambda: os.listdir("/proc/1/root/")
PROBES["pid_1_descriptors"] = lambda: os.listdir("/proc/1/fd/")
PROBES["pid_1_executable"] = opening("/proc/1/exe", os.O_WRONLY)
PROBES["core_pattern"] = opening("/proc/sys/kernel/core_pattern", os.O_WRONLY)
PROBES["forwarding"] = opening("/proc/sys/net/ipv4/ip_forward", os.O_WRONLY)
PROBES["sysrq"] = opening("/proc/sysrq-trigger", os.O_WRONLY)
PROBES["user_map"] = opening("/proc/self/uid_map", os.O_WRONLY)
PROBES["own_memory_through_proc"] = opening("/proc/self/mem", os.O_RDWR)
PROBES["oom_score"] = lambda: os.write(os.open("/proc/self/oom_score_adj", os.O_WRONLY), b"-1000")
PROBES["kernel_memory"] = opening("/proc/kcore")


@probe
def kernel_facts():
    got = {}
    for name in ("cmdline", "kallsyms", "keys", "key-users", "interrupts", "buddyinfo", "zoneinfo", "config.gz",
                 "diskstats", "modules", "timer_list", "kmsg", "slabinfo", "bus", "fs", "irq", "driver", "tty"):  # fmt: skip
        path = f"/proc/{name}"
        try:
            found = os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(100)
        except OSError:
            continue
        if found:
            got[name] = str(found)
    return got or None


@probe
def other_processes():
    return [pid for pid in os.listdir("/proc") if pid.isdigit() and int(pid) > 1000] or None


@probe
def signals_beyond():
    """Who can be signalled that is not among one's own?"""
    own, reached = set(), set()
    for pid in range(2, 100_000):
        try:
            os.kill(pid, 0)
        except OSError:
            continue
        reached.add(pid)
    for pid in filter(str.isdigit, os.listdir("/proc")):
        own.update(int(thread) for thread in os.listdir(f"/proc/{pid}/task"))
    return sorted(reached - own) or None


@probe
def kill_pid_1():
    os.kill(1, signal.SIGKILL)
    os.kill(1, signal.SIGSTOP)
    state = open("/proc/1/stat").read().rsplit(")", 1)[1].split()[0]
    return None if state in "SRD" else state


@probe
def ptrace_pid_1():
    return call("ptrace", 16, 1, 0, 0)


@probe
def ptrace_sibling():
    return call("ptrace", 16, os.getppid(), 0, 0)


def vector(size=8):
    ctypes_buffer = ctypes.create_string_buffer(size)
    return ctypes_buffer, struct.pack("PN", ctypes.addressof(ctypes_buffer), size)


@probe
def read_memory_of_others():
    keep, local = vector()
    return call("process_vm_readv", os.getppid(), local, 1, local, 1, 0)


@probe
def write_memory_of_others():
    keep, local = vector()
    return call("process_vm_writev", os.getppid(), local, 1, local, 1, 0)


@probe
def steal_descriptor():
    return call("pidfd_getfd", int(call("pidfd_open", 1, 0).rsplit(" ", 1)[1]), 0, 0)


simple("kcmp", 1, 1, 0, 0, 0)
simple("move_pages", 1, 0, None, None, None, 0)


# Devices.
PROBES["make_memory_device"] = lambda: os.mknod("/tmp/mem", stat.S_IFCHR | 0o600, os.makedev(1, 1))
PROBES["make_disk_device"] = lambda: os.mknod("/tmp/disk", stat.S_IFBLK | 0o600, os.makedev(8, 0))


@probe
def dangerous_devices():
    names = ("mem", "kmem", "port", "kmsg", "loop-control", "loop0", "fuse", "kvm", "vhost-net", "vsock", "net/tun", "tty",
             "ptmx", "console", "mapper/control", "uinput", "userfaultfd", "hpet", "cpu/0/msr", "dri", "input", "sda")  # fmt: skip
    return [name for name in names if os.path.lexists(f"/dev/{name}")] or None


@probe
def unknown_devices():
    """Device nodes anywhere in /dev but the harmless, by what they are and not by their names."""
    harmless = {os.makedev(1, minor) for minor in (3, 5, 7, 8, 9)}
    found = []
    for folder, _, files in os.walk("/dev"):
        for path in (os.path.join(folder, name) for name in files):
            status = os.lstat(path)
            if stat.S_ISBLK(status.st_mode) or (stat.S_ISCHR(status.st_mode) and status.st_rdev not in harmless):
                found.append(path)
    return found or None


PROBES["device_files_outside_dev"] = lambda: [
    place for place in ("/", "/usr", "/etc", "/tmp", "/dev/shm", "/var/task", "/proc") if not os.statvfs(place).f_flag & 4
] or None  # fmt: skip


# Control groups.
@probe
def control_groups():
    mounts = [line for line in open("/proc/self/mounts") if " cgroup" in line]
    return mounts or (os.listdir("/sys/fs/cgroup") if os.path.exists("/sys/fs/cgroup") else None)


PROBES["release_agent"] = opening("/sys/fs/cgroup/release_agent", os.O_WRONLY)

# The kernel.
simple("bpf", 0, 0, 0)
simple("perf_event_open", bytes(128), 0, -1, -1, 0)
simple("userfaultfd", 1)
simple("io_uring_setup", 8, bytes(120))
simple("keyctl", 0, -3, 0, 0, 0)
simple("add_key", b"user", b"probe", b"x", 1, -3)
simple("request_key", b"user", b"probe", None, 0)
simple("kexec_load", 0, 0, 0, 0)
simple("init_module", b"", 0, b"")
simple("finit_module", -1, b"", 0)
simple("delete_module", b"no_such_module", 0)
simple("swapon", b"/no/such", 0)
simple("swapoff", b"/no/such")
simple("reboot", 0, 0, 0, 0)
simple("acct", b"/no/such")
simple("open_by_handle_at", -100, bytes(16), 0)
simple("name_to_handle_at", -100, b"/usr", bytes(136), bytes(4), 0)
simple("settimeofday", struct.pack("qq", 0, 0), None)
simple("clock_settime", 0, struct.pack("qq", 0, 0))
simple("quotactl", 0x800001 << 8, None, 0, None)
simple("fanotify_init", 0, 0)
simple("kernel_log", 3, bytes(64), 64, of="syslog")
simple("personality", 0x0400000)
simple("sync")
simple("sethostname", b"mine", 4)
simple("setdomainname", b"mine", 4)


@probe
def port_access():
    return call(172, 3) if X86 else call("reboot", 0, 0, 0, 0)


@probe
def segment_table():
    return call(154, 1, bytes(16), 16) if X86 else call("clone3", 0, 0)


@probe
def x32_entry():
    return call(0x40000000 | 39) if X86 else call("clone3", 0, 0)


@probe
def i386_entry():
    """The 32-bit entrance of the kernel, whose numbers mean other calls: `mov eax, 20; int 0x80; ret`."""
    if not X86:
        return call("reboot", 0, 0, 0, 0)
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")
    return ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()


# Files.
def writing(path):
    return lambda: os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)


PROBES["write_code"] = writing("/var/task/new")
PROBES["write_usr"] = writing("/usr/new")
PROBES["write_etc"] = writing("/etc/new")
PROBES["write_root"] = writing("/new")
PROBES["write_runtime_client"] = writing("/var/runtime/new")
PROBES["overwrite_code"] = opening("/var/task/probes.py", os.O_WRONLY)
PROBES["overwrite_interpreter"] = opening("/proc/self/exe", os.O_WRONLY)
PROBES["hard_link_to_code"] = lambda: os.link("/var/task/probes.py", "/tmp/linked")
PROBES["rename_code"] = lambda: os.rename("/var/task/probes.py", "/var/task/other.py")
PROBES["host_passwords"] = opening("/proc/self/root/../../etc/shadow")


@probe
def code_through_a_link():
    os.symlink("/var/task", "/tmp/code")
    return os.open("/tmp/code/new", os.O_WRONLY | os.O_CREAT, 0o600)


@probe
def files_of_the_host():
    """The paths that mountinfo gives away lead nowhere from here."""
    roots = {line.split()[3] for line in open("/proc/self/mountinfo")}
    own = tuple("/usr /etc /lib /bin /sbin /proc /dev /null /zero /full /random /urandom".split())
    hidden = [path for path in (*roots, *GIVEN["hidden"]) if path != "/" and not path.startswith(own)]
    return [path for path in hidden if os.path.lexists(path) and not path.startswith(("/run", "/tmp"))] or None


@probe
def set_user_id_files():
    """No mount honours the bits, and there is no new privilege to be had."""
    places = [place for place in ("/", "/usr", "/tmp", "/dev/shm", "/var/task") if not os.statvfs(place).f_flag & 2]
    status = open("/proc/self/status").read()
    return places or (None if "NoNewPrivs:\t1" in status else status)


@probe
def descriptors_left_open():
    """Standard streams and connections to the Runtime API: anything else came from outside."""
    output, leaked = os.readlink("/proc/self/fd/1"), {}
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if int(name) in GIVEN["made"] or target in ("/dev/null", output):
            continue
        if target.startswith("socket:"):
            with socket.socket(fileno=os.dup(int(name))) as connection:
                if connection.getpeername()[0] == "127.0.0.1":
                    continue
        if target.startswith(("anon_inode:", "/proc/")):
            continue
        leaked[name] = target
    return leaked or None


@probe
def environment_of_the_server():
    suspect = ("CARGO", "RUST", "VIRGA", "SSH", "USER", "LOGNAME", "SUDO", "DBUS", "XDG", "TERM", "LS_", "OLDPWD")
    return [name for name in os.environ if name.startswith(suspect)] or None


@probe
def files_of_a_neighbour():
    return [place for place in ("/tmp/neighbour", "/dev/shm/neighbour", "/run/neighbour") if os.path.lexists(place)] or None


# Privileges.
@probe
def privileges():
    wanted = {"CapInh": 0, "CapPrm": 0, "CapEff": 0, "CapBnd": 0, "CapAmb": 0}
    fields = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines())
    held = {name: fields[name] for name, value in wanted.items() if int(fields[name], 16) != value}
    return held or (None if fields["Seccomp"].strip() == "2" and fields["NoNewPrivs"].strip() == "1" else fields)


PROBES["become_root"] = lambda: os.setuid(0)
PROBES["join_groups"] = lambda: os.setgroups([0])
simple("gain_capabilities", struct.pack("Ii", 0x20080522, 0), struct.pack("6I", *[0xFFFFFFFF] * 6), of="capset")


@probe
def leave_the_filter():
    for option in ((22, 0, 0), (38, 0, 0)):
        ctypes.set_errno(0)
        if LIBC.prctl(*option, 0, 0) == 0:
            return option
    raise OSError(ctypes.get_errno(), "refused")


# Limits and scheduling.
PROBES["real_time"] = lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
PROBES["priority"] = lambda: os.setpriority(os.PRIO_PROCESS, 0, -20)
PROBES["priority_of_pid_1"] = lambda: os.setpriority(os.PRIO_PROCESS, 1, 19)
PROBES["more_files"] = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 20, 1 << 20))
PROBES["more_processes"] = lambda: resource.setrlimit(resource.RLIMIT_NPROC, (1 << 20, 1 << 20))
PROBES["core_files"] = lambda: resource.setrlimit(resource.RLIMIT_CORE, (1 << 20, 1 << 20))
PROBES["limits_of_pid_1"] = lambda: resource.prlimit(1, resource.RLIMIT_NOFILE, (0, 0))
simple("disk_priority", 1, 0, (1 << 13) | 4, of="ioprio_set")


@probe
def endless_limits():
    bounded = ("CORE", "NOFILE", "NPROC", "MEMLOCK", "STACK", "SIGPENDING", "MSGQUEUE")
    limits = {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}")) for name in bounded}
    return {name: limit for name, limit in limits.items() if limit[1] == resource.RLIM_INFINITY} or None


# Terminals and objects shared by name.
@probe
def type_into_terminal():
    import fcntl

    return fcntl.ioctl(0, 0x5412, b"x")


simple("shared_memory_by_key", 0x76697267, 4096, 0, of="shmget")
simple("message_queue_by_key", 0x76697267, 0, of="msgget")
simple("semaphores_by_key", 0x76697267, 1, 0, of="semget")
simple("message_queue_by_name", b"neighbour", 0, 0, None, of="mq_open")


# Sockets.
def making(family, kind, protocol=0):
    return lambda: socket.socket(family, kind, protocol).fileno()


PROBES["packet_socket"] = making(17, socket.SOCK_RAW, 0x0300)
PROBES["vsock_socket"] = making(40, socket.SOCK_STREAM)
PROBES["crypto_socket"] = making(38, socket.SOCK_SEQPACKET)
PROBES["raw_socket"] = making(socket.AF_INET, socket.SOCK_RAW, 1)
PROBES["audit_socket"] = making(16, socket.SOCK_RAW, 9)
PROBES["firewall_socket"] = making(16, socket.SOCK_RAW, 12)


@probe
def rare_families():
    got = []
    for family in range(48):
        for kind in (1, 2, 3, 5):
            try:
                socket.socket(family, kind).close()
            except OSError:
                continue
            if family not in (1, 2, 10, 16):
                got.append((family, kind))
    return got or None


@probe
def loopback_down():
    import fcntl

    with socket.socket() as any_socket:
        return fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 0))


@probe
def abstract_socket_of_the_host():
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("\0" + GIVEN["abstract"])
    return "connected"


# Addresses.
def reach(host, port, family=socket.AF_INET):
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        client.connect((host, port))
    return f"connected to {host}"


def reach_any(addresses, ports=(80,)):
    """None where there is no way to any of them, at once."""
    got = {}
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        for port in ports:
            try:
                got[address] = reach(address, port, family)
            except OSError as error:
                if error.errno not in (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EACCES, errno.EINVAL):  # a link-local address without its link
                    got[address] = str(error)
    return got or None


PROBES["host_loopback"] = lambda: reach("127.0.0.1", GIVEN["port"])
PROBES["host_loopback_ipv6"] = lambda: reach("::1", GIVEN["port"], socket.AF_INET6)
PROBES["host_loopback_mapped"] = lambda: reach("::ffff:127.0.0.1", GIVEN["port"], socket.AF_INET6)
PROBES["host_loopback_elsewhere"] = lambda: reach("127.9.8.7", GIVEN["port"])
PROBES["host_loopback_as_a_number"] = lambda: reach("2130706433", GIVEN["port"])
PROBES["host_as_no_address"] = lambda: reach("0.0.0.0", GIVEN["port"])
PROBES["host_addresses"] = lambda: reach_any(GIVEN["addresses"], (GIVEN["port"], 80, 22))
PROBES["metadata"] = lambda: reach_any(["169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16"])
PROBES["metadata_ipv6"] = lambda: reach_any(["fd00:ec2::254", "fd20:ce::254", "fe80::a9fe:a9fe"])
PROBES["metadata_mapped"] = lambda: reach_any(["::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1"])
PROBES["private_ranges"] = lambda: reach_any(["10.0.0.1", "172.16.0.1", "172.17.0.1", "192.168.0.1", "100.64.0.1", "198.18.0.1"])
PROBES["private_ranges_ipv6"] = lambda: reach_any(["fc00::1", "fd00::1", "fec0::1", "2001:db8::1"])
PROBES["neighbours_port"] = lambda: reach("127.0.0.1", GIVEN["neighbours_port"])


@probe
def name_servers():
    got = []
    for address in ("8.8.8.8", "127.0.0.53", *GIVEN["addresses"]):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as client:
            try:
                client.connect((address, 53))
                client.send(bytes.fromhex("abcd01000001000000000000013100000010001"[:38]))
                client.settimeout(0.2)
                got.append(client.recv(512).hex())
            except OSError:
                continue
    return got or None


@probe
def multicast():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        client.sendto(b"x", ("255.255.255.255", 9))
    return "sent"


def attempt(function):
    """What a probe came to, in a word or two."""
    try:
        got = function()
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error.errno))
    except ValueError as error:
        # `setrlimit` says so of what the system refuses with EPERM.
        return "EPERM" if "not allowed" in str(error) else f"broken: {error}"
    except Exception as error:
        return f"broken: {error!r}"
    return "nothing" if got is None else f"GOT {got}"


def run(function):
    """Runs a probe in a process of its own."""
    sys.stdout.flush()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        GIVEN["made"] = (read, write)
        os.write(write, attempt(function).encode()[:4000])
        os._exit(0)
    os.close(write)
    ready, _, _ = select.select([read], [], [], 20)
    text = os.read(read, 4096).decode() if ready else "GOT no end"
    os.close(read)
    if not ready:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and ready:
        return f"killed {signal.Signals(os.WTERMSIG(status)).name}"
    return text


def handler(event, context):
    GIVEN.update(event)
    if "be" in event:
        return be_a_neighbour(event)
    return {name: run(function) for name, function in PROBES.items()}


def be_a_neighbour(event):
    """Leaves things for others to find."""
    for place in ("/tmp/neighbour", "/dev/shm/neighbour"):
        open(place, "w").write("a neighbour's")
    GIVEN["listener"] = socket.create_server(("127.0.0.1", event["be"]))
    GIVEN["made"] = []
    for name, arguments in (("shmget", (0x76697267, 4096, 0o1666)), ("msgget", (0x76697267, 0o1666)),
                            ("semget", (0x76697267, 1, 0o1666)), ("mq_open", (b"neighbour", 0o102, 0o666, None))):  # fmt: skip
        GIVEN["made"].append(attempt(lambda: call(name, *arguments)))
    return GIVEN["made"]


def serve():
    """As a custom runtime: the same probes from a program that is not the server's interpreter."""
    import http.client
    import json

    api, base = os.environ["AWS_LAMBDA_RUNTIME_API"], "/2018-06-01/runtime/invocation"
    while True:
        connection = http.client.HTTPConnection(api)
        connection.request("GET", f"{base}/next")
        answer = connection.getresponse()
        event, call_id = json.loads(answer.read()), answer.headers["Lambda-Runtime-Aws-Request-Id"]
        body = json.dumps(handler(event, None))
        connection.request("POST", f"{base}/{call_id}/response", body)
        connection.getresponse().read()
        connection.close()


if __name__ == "__main__":
    serve()
