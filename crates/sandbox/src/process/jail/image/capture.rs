//! Taking an image: what a template must be like, and everything of it that is kept.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::process::Pid;

use super::contents::{Memory, Range};
use super::plan::{self, Area, OpenFile, Opened, SignalAction, State};
use super::procfs::{self, Kind, Mapping};
use super::restorer::{self, Context, PAGE};
use super::tracee::{self, Registers, Tracee};
use super::{FileIdentity, Manifest, ORDERS, Refusal, TEMPLATE_PID, Wanted, Why};

/// Seconds that taking an image may last.
const PATIENCE_S: u32 = 60;
/// Milliseconds that a rehearsal may take.
const REHEARSAL_MS: u32 = 2000;
/// Stretches of memory that are written to in a rehearsal and given to instances at once: the largest ones.
const WRITTEN_LIMIT: usize = 160;
/// Bytes of them.
const WRITTEN_BYTES: u64 = 2 << 20;
/// Milliseconds that a killed process may take to be gone.
const ENDING_MS: i64 = 1000;
/// Files that an image may need: mapped or open.
const FILE_LIMIT: usize = 400;
/// Bytes of a mapped library that are searched.
const SEARCH_LIMIT: u64 = 256 << 20;
/// Bytes of address space of mappings with a page in use: that much is looked through page by page.
const SPREAD_LIMIT: u64 = 1 << 40;
/// Libraries that give memory back to the kernel and do not count on getting it back empty.
const HARMLESS: [&str; 13] = [
    "libc.so.6",
    "libc-2.",
    "ld-linux",
    "libpython",
    "python3",
    "mmap.",
    "libcrypto",
    "_multiarray_umath",
    // Advice on large pages, on memory of stacks that is written before it is read, on core dumps.
    "php",
    "opcache.so",
    "libpcre2-",
    "libsodium.so",
    "libruby-",
];

type Taking<T> = Result<T, Refusal>;

/// Adds what was being done to a system error.
trait Doing<T> {
    fn doing(self, what: &str) -> Taking<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: &str) -> Taking<T> {
        self.map_err(|error| Refusal::BrokeOff(format!("the host failed at {what}: {}", error.into())))
    }
}

fn refuse<T>(why: Why, text: impl Into<String>) -> Taking<T> {
    Err(Refusal::Unfit(why, text.into()))
}

/// Takes the image of the stopped program of a jail.
pub(super) fn take(init: Pid, wanted: Wanted) -> Taking<(OwnedFd, Manifest)> {
    tracee::end_after(PATIENCE_S);
    let program = program_of(init)?;
    let taken = take_of(program, init, wanted);
    // What is found of a process that is being killed says nothing about it, and the host least of all.
    let patience_ms = match &taken {
        Ok(_) => return taken,
        Err(Refusal::Unfit(..)) => 0,
        Err(Refusal::BrokeOff(_)) => ENDING_MS,
    };
    if ends_within(program, patience_ms).doing("looking whether it lives")? { Err(ended()) } else { taken }
}

fn ends_within(process: Pid, milliseconds: i64) -> io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::process::{PidfdFlags, pidfd_open};
    let process = match pidfd_open(process, PidfdFlags::empty()) {
        Err(rustix::io::Errno::SRCH) => return Ok(true),
        opened => opened?,
    };
    let timeout = Timespec { tv_sec: milliseconds / 1000, tv_nsec: milliseconds % 1000 * 1_000_000 };
    Ok(poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&timeout))? > 0)
}

fn take_of(program: Pid, init: Pid, wanted: Wanted) -> Taking<(OwnedFd, Manifest)> {
    let subject = Subject::new(program);
    if subject.count("task")? != 1 {
        return refuse(Why::Threads, format!("it runs {} threads", subject.count("task")?));
    }
    let (_original, copy) = Tracee::copy_of(program).doing("stopping it")?;
    subject.check_company(copy.pid())?;
    let subject = Subject::new(copy.pid());
    subject.check_temporary()?;
    subject.check_filters(init)?;
    write(&subject, &copy, wanted)
}

/// The child of pid 1 that has the template's number.
fn program_of(init: Pid) -> Taking<Pid> {
    let parent = init.as_raw_nonzero().get().to_string();
    for entry in fs::read_dir("/proc").doing("listing processes")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Ok(status) = fs::read_to_string(entry.path().join("status")) else { continue };
        let inside = procfs::status(&status, "NSpid").and_then(|pids| pids.split('\t').next_back());
        if procfs::status(&status, "PPid") == Some(&parent) && inside == Some(&TEMPLATE_PID.to_string()) {
            return Pid::from_raw(pid).ok_or_else(ended);
        }
    }
    Err(ended())
}

fn ended() -> Refusal {
    Refusal::BrokeOff("it has ended".to_owned())
}

/// A process, as `/proc` shows it.
struct Subject {
    folder: PathBuf,
}

impl Subject {
    fn new(pid: Pid) -> Self {
        Self { folder: PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero())) }
    }

    fn text(&self, name: &str) -> Taking<String> {
        let bytes = self.bytes(name)?;
        String::from_utf8(bytes).or_else(|_| refuse(Why::Files, "a path that it uses is not UTF-8"))
    }

    fn bytes(&self, name: &str) -> Taking<Vec<u8>> {
        fs::read(self.folder.join(name)).doing(&format!("reading its {name}"))
    }

    fn count(&self, folder: &str) -> Taking<usize> {
        Ok(fs::read_dir(self.folder.join(folder)).doing(&format!("listing its {folder}"))?.count())
    }

    /// A path as the process sees it.
    fn inside(&self, path: &Path) -> PathBuf {
        self.folder.join("root").join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Pid 1, the template and its copy: nobody else is in the jail.
    fn check_company(&self, copy: Pid) -> Taking<()> {
        let all = fs::read_dir(self.inside(Path::new("/proc"))).doing("listing its jail's processes")?;
        let all = all.flatten().filter(|entry| {
            entry.file_name().to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        });
        match all.count() {
            3 => {}
            others => {
                return refuse(
                    Why::Processes,
                    format!("it has started {} other processes", others.saturating_sub(3)),
                );
            }
        }
        match Subject::new(copy).count("task")? {
            1 => Ok(()),
            threads => refuse(Why::Threads, format!("it runs {threads} threads")),
        }
    }

    /// What it wrote would not be there in another jail.
    fn check_temporary(&self) -> Taking<()> {
        for folder in ["/tmp", "/dev/shm"] {
            let entries = fs::read_dir(self.inside(Path::new(folder))).doing("looking into its /tmp")?;
            if let Some(entry) = entries.flatten().next() {
                let name = entry.file_name();
                return refuse(Why::Files, format!("it has written {folder}/{}", name.to_string_lossy()));
            }
        }
        Ok(())
    }

    /// A program in a fresh jail has pid 1's filters and, where it has a way out, the one that watches that; and no
    /// features that a restored one would lack.
    fn check_filters(&self, init: Pid) -> Taking<()> {
        let (own, first) = (self.text("status")?, Subject::new(init).text("status")?);
        let filters = |status: &str| procfs::status(status, "Seccomp_filters")?.parse::<u32>().ok();
        let its_own = filters(&own).zip(filters(&first)).map(|(own, first)| own.saturating_sub(first));
        if its_own.is_none_or(|its_own| its_own > 1) {
            return refuse(Why::Other, "it filters its own system calls");
        }
        if procfs::status(&own, "x86_Thread_features").is_some_and(|features| !features.is_empty()) {
            return refuse(Why::Other, "it has a shadow stack");
        }
        Ok(())
    }

    fn identify(&self, path: &str) -> Taking<FileIdentity> {
        match fs::metadata(self.inside(Path::new(path))) {
            Ok(found) => Ok(FileIdentity::of(path.into(), &found)),
            // An ended process has no root.
            Err(_) if fs::metadata(self.inside(Path::new("/"))).is_err() => Err(ended()),
            Err(_) => refuse(Why::Files, format!("{path} is not there any more")),
        }
    }
}

/// The files that an image needs, each once.
#[derive(Default)]
struct Files {
    all: Vec<FileIdentity>,
    known: BTreeMap<String, usize>,
}

impl Files {
    /// The number of a mapped file.
    fn mapped(&mut self, subject: &Subject, mapping: &Mapping) -> Taking<usize> {
        if let Some(known) = self.known.get(&mapping.name) {
            return Ok(*known);
        }
        let identity = subject.identify(&mapping.name)?;
        if identity.inode != mapping.inode {
            return refuse(Why::Files, format!("{} was replaced after it was loaded", mapping.name));
        }
        let number = self.add(identity)?;
        self.known.insert(mapping.name.clone(), number);
        Ok(number)
    }

    fn add(&mut self, identity: FileIdentity) -> Taking<usize> {
        if self.all.len() == FILE_LIMIT {
            return refuse(Why::Files, format!("it has loaded more than {FILE_LIMIT} files"));
        }
        self.all.push(identity);
        Ok(self.all.len() - 1)
    }
}

fn write(subject: &Subject, copy: &Tracee, wanted: Wanted) -> Taking<(OwnedFd, Manifest)> {
    let mut files = Files::default();
    let memory = Memory {
        memory: File::open(subject.folder.join("mem")).doing("opening its memory")?,
        pagemap: File::open(subject.folder.join("pagemap")).doing("opening its page map")?,
    };
    if !copy.is_at_a_call(&memory.memory).doing("looking at its code")? {
        return refuse(Why::Other, "it was not stopped where it was expected");
    }
    let mappings = procfs::mappings(&subject.text("smaps")?).ok_or_else(|| {
        Refusal::Unfit(Why::Other, "the kernel describes its memory in another way".to_owned())
    })?;
    let open = open_files(subject, &mut files)?;
    let mut areas = areas(subject, &mappings, &memory, &mut files)?;
    let state = state(subject, copy, &memory.memory, open)?;
    let report = 1 + state.open.iter().map(|open| open.number).max().unwrap_or(0).max(ORDERS);
    if report as usize + 2 + files.all.len() > 1000 {
        return refuse(Why::Files, "it has opened too many files");
    }
    let own: u64 = mappings.iter().filter(|own| own.kind() == Kind::Vdso).map(Mapping::bytes).sum();
    let (head_bytes, content) = lay_out(&mut areas, &state, report);
    if restorer::BASE + head_bytes > restorer::SCRATCH || restorer::SCRATCH + own > restorer::END {
        return refuse(Why::Memory, "its memory is in too many pieces");
    }
    let context = context(&copy.registers().doing("reading its registers")?, &state);
    let image = memory_file().doing("making a memory file")?;
    image.set_len(head_bytes + content).doing("writing the image")?;
    let mut bytes = head_bytes;
    for run in areas.iter().flat_map(|area| &area.runs) {
        let room = wanted.most_bytes.saturating_sub(bytes);
        bytes += memory.copy(run, &image, room).doing("copying its memory")?;
        if bytes > wanted.most_bytes {
            let most = wanted.most_bytes >> 20;
            return refuse(
                Why::Memory,
                format!("it holds more memory than the {most} MiB that images may hold"),
            );
        }
    }
    let written = if wanted.rehearse { rehearsal(copy, &areas, &memory) } else { Vec::new() };
    let plan = plan::plan(&areas, &state, &written, report);
    let head = restorer::head(&plan.entries, &plan.data, &context, report, head_bytes);
    image.write_all_at(&head, 0).doing("writing the image")?;
    let manifest = Manifest { bytes, report, files: files.all };
    Ok((seal(image).doing("sealing the image")?, manifest))
}

/// Lets the copy, whose memory was taken, go on as an instance would: what it writes to, the longest stretches first.
/// It is no part of what the image is, so nothing that comes in between is a reason to have none.
fn rehearsal(copy: &Tracee, areas: &[Area], memory: &Memory) -> Vec<Range> {
    if !copy.run_until_it_stops(REHEARSAL_MS).unwrap_or(false) {
        return Vec::new();
    }
    let own = areas.iter().filter(|area| {
        // What is copied is its own in any case; what grows is mapped anew and may have moved.
        let mapping = &area.mapping;
        mapping.protection & 2 != 0 && !mapping.shared && !area.copy && mapping.in_use
    });
    let mut written: Vec<Range> =
        own.filter_map(|area| memory.written(&area.mapping).ok()).flatten().collect();
    written.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    written.truncate(WRITTEN_LIMIT);
    let mut room = WRITTEN_BYTES;
    written.retain(|(_, bytes)| {
        room = room.saturating_sub(*bytes);
        room > 0
    });
    written.sort_unstable();
    written
}

/// Gives every run its place behind the image's head; how many bytes that and they are.
fn lay_out(areas: &mut [Area], state: &State, report: i32) -> (u64, u64) {
    // The size of the head depends on how many calls there are, not on the offsets in them.
    let most = [(0, 0); WRITTEN_LIMIT];
    let sized = plan::plan(areas, state, &most, report);
    let first = restorer::head_bytes(sized.entries.len(), sized.data.len());
    let mut offset = first;
    for run in areas.iter_mut().flat_map(|area| &mut area.runs) {
        run.offset = offset;
        offset += run.length;
    }
    (first, offset - first)
}

fn memory_file() -> io::Result<File> {
    const EXECUTABLE: MemfdFlags = MemfdFlags::from_bits_retain(0x10);
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Before Linux 6.3 all are.
    let file = rustix::fs::memfd_create("image", flags | EXECUTABLE).or_else(|error| match error {
        rustix::io::Errno::INVAL => rustix::fs::memfd_create("image", flags),
        other => Err(other),
    })?;
    Ok(file.into())
}

/// Nobody writes it any more; returns it opened for reading.
fn seal(image: File) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    rustix::fs::fcntl_add_seals(
        &image,
        SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL,
    )?;
    Ok(File::open(format!("/proc/self/fd/{}", image.as_raw_fd()))?.into())
}

/// Its mappings, with what is to be kept of each.
fn areas(subject: &Subject, mappings: &[Mapping], memory: &Memory, files: &mut Files) -> Taking<Vec<Area>> {
    let mut areas = Vec::with_capacity(mappings.len());
    let looked_through = mappings.iter().filter(|mapping| mapping.in_use).map(Mapping::bytes);
    if looked_through.fold(0, u64::saturating_add) > SPREAD_LIMIT {
        return refuse(Why::Memory, "its memory is spread too wide");
    }
    let copied = returns_memory(subject, mappings)?;
    for mapping in mappings {
        let kind = mapping.kind();
        let writable = mapping.protection & 2 != 0;
        if kind == Kind::Fixed {
            continue;
        }
        let device = kind != Kind::Vdso && ["ht", "pf", "io"].iter().any(|flag| mapping.has(flag));
        if mapping.start < restorer::END || device {
            return refuse(
                Why::Memory,
                format!("it has memory at {:x} of a kind that cannot be kept", mapping.start),
            );
        }
        if kind == Kind::Other || (mapping.shared && (writable || kind != Kind::File || mapping.has("mw"))) {
            let name = if mapping.name.is_empty() { "memory" } else { &mapping.name };
            return refuse(Why::Memory, format!("it shares {name} with others"));
        }
        let file = if kind == Kind::File { Some(files.mapped(subject, mapping)?) } else { None };
        let runs = match kind {
            Kind::Vdso => Vec::new(),
            _ if mapping.shared || !mapping.in_use => Vec::new(),
            _ => memory.runs(mapping).doing("reading its page map")?,
        };
        // Memory that somebody expects to get back empty must not have the image beneath it.
        let copy = kind == Kind::Stack || (copied && kind == Kind::Anonymous && mapping.name.is_empty());
        areas.push(Area { mapping: mapping.clone(), file, runs, copy });
    }
    Ok(areas)
}

/// Whether a library is loaded that gives memory back with `madvise`, perhaps to find it empty afterwards: an
/// allocator of its own.
fn returns_memory(subject: &Subject, mappings: &[Mapping]) -> Taking<bool> {
    let mut seen: Vec<&str> = Vec::new();
    for mapping in
        mappings.iter().filter(|mapping| mapping.kind() == Kind::File && mapping.protection & 4 != 0)
    {
        let file_name = mapping.name.rsplit('/').next().unwrap_or_default();
        let harmless = HARMLESS.iter().any(|known| file_name.starts_with(known));
        if harmless || seen.contains(&mapping.name.as_str()) {
            continue;
        }
        seen.push(&mapping.name);
        let path = subject.inside(Path::new(&mapping.name));
        let bytes = fs::metadata(&path).doing("looking at a library")?.len();
        if bytes > SEARCH_LIMIT {
            return Ok(true);
        }
        let text = fs::read(&path).doing("reading a library")?;
        if contains(&text, b"\0madvise\0") {
            return Ok(true);
        }
    }
    Ok(false)
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window == wanted)
}

/// Its open files beside the standard streams, and the place of the orders.
fn open_files(subject: &Subject, files: &mut Files) -> Taking<Vec<OpenFile>> {
    let mut open = Vec::new();
    let mut counters = Vec::new();
    let mut output = None;
    for entry in fs::read_dir(subject.folder.join("fd")).doing("listing its open files")?.flatten() {
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let target = fs::read_link(entry.path()).doing("reading an open file")?;
        let target = target.to_string_lossy().into_owned();
        match number {
            0 | ORDERS if target == "/dev/null" => {}
            1 | 2 if target.starts_with("pipe:") && output.as_ref().is_none_or(|other| *other == target) => {
                output = Some(target);
            }
            0..=ORDERS => {
                return refuse(Why::Files, format!("it has put {target} in the place of a standard stream"));
            }
            _ => {
                let fdinfo = subject.text(&format!("fdinfo/{number}"))?;
                let (position, flags) = procfs::open_file(&fdinfo).ok_or_else(|| {
                    Refusal::Unfit(Why::Other, "the kernel describes open files in another way".to_owned())
                })?;
                let what = if target == "anon_inode:[eventfd]" {
                    counter(&fdinfo, flags, &mut counters)?
                } else {
                    let number = opened(subject, &entry.path(), &target, flags, files)?;
                    Opened::File { number, position }
                };
                open.push(OpenFile { number, what, close_on_exec: flags & libc::O_CLOEXEC as u64 != 0 });
            }
        }
    }
    // The restorer makes them in this order.
    open.sort_unstable_by_key(|open| open.number);
    Ok(open)
}

/// An event counter, such as Ruby has for its signals, can be made again: no other process is there that could share
/// it. Two descriptors of one would become two.
fn counter(fdinfo: &str, flags: u64, known: &mut Vec<String>) -> Taking<Opened> {
    let id = procfs::status(fdinfo, "eventfd-id").unwrap_or_default().to_owned();
    let Some(value) = procfs::counter(fdinfo).filter(|_| !id.is_empty() && !known.contains(&id)) else {
        return refuse(Why::Other, "it has an event counter of a kind that cannot be made again");
    };
    known.push(id);
    Ok(Opened::Counter { value, flags: flags & libc::O_NONBLOCK as u64 })
}

/// A regular file that is only read can be opened again.
fn opened(subject: &Subject, link: &Path, target: &str, flags: u64, files: &mut Files) -> Taking<usize> {
    let found = fs::metadata(link).doing("looking at an open file")?;
    if !found.is_file() {
        let what = target.split(':').next().unwrap_or(target);
        return refuse(
            Why::Sockets,
            match what {
                "socket" => "it has an open socket".to_owned(),
                "pipe" => "it has an open pipe".to_owned(),
                _ => format!("it has opened {target}"),
            },
        );
    }
    if flags & (libc::O_ACCMODE as u64) != libc::O_RDONLY as u64 {
        return refuse(Why::Files, format!("it has opened {target} for writing"));
    }
    let identity = FileIdentity::of(target.into(), &found);
    if target.ends_with(" (deleted)") || subject.identify(target)? != identity {
        return refuse(Why::Files, format!("it has opened {target}, which is not there any more"));
    }
    files.add(identity)
}

/// Everything but memory.
fn state(subject: &Subject, copy: &Tracee, memory: &File, open: Vec<OpenFile>) -> Taking<State> {
    let status = subject.text("status")?;
    let stat = subject.text("stat")?;
    let unknown = || Refusal::Unfit(Why::Other, "the kernel describes processes in another way".to_owned());
    let folder = fs::read_link(subject.folder.join("cwd")).doing("reading its working directory")?;
    let caught = procfs::mask(&status, "SigCgt").ok_or_else(unknown)?;
    let ignored = procfs::mask(&status, "SigIgn").ok_or_else(unknown)?;
    let scratch = copy.scratch().doing("reading its registers")?;
    let mut signals = Vec::new();
    for signal in (1..=64).filter(|signal| (caught | ignored) >> (signal - 1) & 1 != 0) {
        copy.call(libc::SYS_rt_sigaction, [signal, 0, scratch, 8]).doing("asking for its signals")?;
        let mut action: SignalAction = [0; 32];
        memory.read_exact_at(&mut action, scratch).doing("reading its signals")?;
        signals.push((signal, action));
    }
    copy.call(libc::SYS_sigaltstack, [0, scratch, 0, 0]).doing("asking for its signal stack")?;
    let mut signal_stack = [0_u8; 24];
    memory.read_exact_at(&mut signal_stack, scratch).doing("reading its signal stack")?;
    let registers = copy.registers().doing("reading its registers")?;
    let umask = procfs::status(&status, "Umask").and_then(|mask| u32::from_str_radix(mask, 8).ok());
    Ok(State {
        places: procfs::places(&stat).ok_or_else(unknown)?,
        program_break: copy.call(libc::SYS_brk, [0; 4]).doing("asking for its heap")?,
        auxiliary: subject.bytes("auxv")?,
        name: procfs::status(&status, "Name").unwrap_or("program").to_owned(),
        umask: umask.ok_or_else(unknown)?,
        folder: folder.to_string_lossy().into_owned(),
        blocked: procfs::mask(&status, "SigBlk").ok_or_else(unknown)?,
        signals,
        signal_stack,
        restartable: copy.restartable_sequence(),
        thread_area: registers.fs_base,
        thread_id: thread_id(&registers)?,
        open,
    })
}

/// Where the C library has asked to be told its thread's number: the arguments of the `clone` that made the copy.
fn thread_id(registers: &Registers) -> Taking<Option<u64>> {
    if registers.orig_rax == libc::SYS_fork as u64 {
        return Ok(None);
    }
    if registers.orig_rax != libc::SYS_clone as u64 {
        return refuse(Why::Other, "its C library copies processes in a way that is not known");
    }
    let asked = libc::CLONE_CHILD_SETTID as u64 | libc::CLONE_CHILD_CLEARTID as u64;
    Ok((registers.rdi & asked != 0).then_some(registers.r10))
}

fn context(registers: &Registers, state: &State) -> Context {
    let r = registers;
    let word = |at: usize| u64::from_ne_bytes(state.signal_stack[at..at + 8].try_into().unwrap_or_default());
    Context {
        registers: [
            r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, r.rdi, r.rsi, r.rbp, r.rbx, r.rdx, r.rax,
            r.rcx, r.rsp, r.rip, r.eflags,
        ],
        code_segment: r.cs as u16,
        stack_segment: r.ss as u16,
        blocked: state.blocked,
        signal_stack: (word(0), word(8) as i32, word(16)),
    }
}

const _: () = assert!(PAGE == 4096, "x86-64 has one size of page");
