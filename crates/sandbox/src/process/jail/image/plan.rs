//! From what a process was to the system calls that make another one it. Pure.

use super::ORDERS;
use super::contents::{Range, Run};
use super::procfs::{Kind, Mapping, Places};
use super::restorer::{ADD_VDSO, END, EXPECT, Entry, MAY_FAIL, PAGE, SCRATCH, STORE, data_address};
use super::tracee::RestartableSequence;

/// The end of what a program may map without asking for more (47 bits, but for a page).
const TASK_END: u64 = 0x7fff_ffff_f000;
/// `PR_SET_MM` and its `PR_SET_MM_MAP`: unprivileged as long as the executable stays.
const SET_MM: u64 = 35;
const SET_MM_MAP: u64 = 14;
const PR_SET_NAME: u64 = 15;
/// MREMAP_MAYMOVE | MREMAP_FIXED.
const MOVE_TO: u64 = 3;
const WIPE_ON_FORK: u64 = 18;
/// MADV_POPULATE_WRITE, since Linux 5.14.
const POPULATE_WRITE: u64 = 23;
const ARCH_SET_FS: u64 = 0x1002;

/// The kernel's `struct sigaction`.
pub(super) type SignalAction = [u8; 32];

/// A mapping and what is kept of it.
#[derive(Debug, Clone)]
pub(super) struct Area {
    pub(super) mapping: Mapping,
    /// The number of the file behind it.
    pub(super) file: Option<usize>,
    /// Pages that the image holds.
    pub(super) runs: Vec<Run>,
    /// Whether they are read into memory of the instance's own, not mapped.
    pub(super) copy: bool,
}

/// An open file.
#[derive(Debug, Clone)]
pub(super) struct OpenFile {
    pub(super) number: i32,
    pub(super) what: Opened,
    pub(super) close_on_exec: bool,
}

/// What is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opened {
    /// The file of that number.
    File { number: usize, position: u64 },
    /// An `eventfd` that nobody shares, and the flags that it is made with.
    Counter { value: u32, flags: u64 },
}

/// A process without its memory.
#[derive(Debug)]
pub(super) struct State {
    pub(super) places: Places,
    pub(super) program_break: u64,
    pub(super) auxiliary: Vec<u8>,
    pub(super) name: String,
    pub(super) umask: u32,
    pub(super) folder: String,
    pub(super) blocked: u64,
    /// Those that are caught or ignored.
    pub(super) signals: Vec<(u64, SignalAction)>,
    /// `stack_t`
    pub(super) signal_stack: [u8; 24],
    pub(super) restartable: Option<RestartableSequence>,
    /// The base of the FS segment.
    pub(super) thread_area: u64,
    /// Where the C library keeps its thread's number.
    pub(super) thread_id: Option<u64>,
    pub(super) open: Vec<OpenFile>,
}

/// The calls, and what they read.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) entries: Vec<Entry>,
    pub(super) data: Vec<u8>,
}

/// Plans in the order in which the restorer goes about it. How many calls and how much data there are depends on
/// everything but the offsets of the runs. `written` is what every instance will write to at once: that memory is its
/// own from the beginning, in a call each instead of a fault a page.
pub(super) fn plan(areas: &[Area], state: &State, written: &[Range], report: i32) -> Plan {
    let mut planner = Planner { entries: Vec::new(), data: Vec::new(), references: Vec::new(), report };
    planner.clear(areas);
    areas.iter().for_each(|area| planner.map(area));
    for (start, bytes) in written {
        // Without it they come one by one.
        planner.call(libc::SYS_madvise, &[*start, *bytes, POPULATE_WRITE]).flags = MAY_FAIL;
    }
    planner.files(state);
    planner.process(state);
    planner.thread(state);
    planner.finish()
}

struct Planner {
    entries: Vec<Entry>,
    data: Vec<u8>,
    /// Arguments that are offsets in the data: entry, argument.
    references: Vec<(usize, usize)>,
    report: i32,
}

impl Planner {
    fn call(&mut self, call: i64, arguments: &[u64]) -> &mut Entry {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        self.entries.push(Entry { call: call as u32, flags: 0, arguments: all, word: 0 });
        let last = self.entries.len() - 1;
        &mut self.entries[last]
    }

    /// Adds data, aligned; its offset.
    fn keep(&mut self, bytes: &[u8]) -> u64 {
        self.data.resize(self.data.len().next_multiple_of(8), 0);
        let offset = self.data.len() as u64;
        self.data.extend_from_slice(bytes);
        offset
    }

    /// A call one of whose arguments is the address of data.
    fn call_with(&mut self, call: i64, arguments: &[u64], argument: usize, data: &[u8]) -> &mut Entry {
        let offset = self.keep(data);
        self.references.push((self.entries.len(), argument));
        let entry = self.call(call, arguments);
        entry.arguments[argument] = offset;
        entry
    }

    fn image(&self) -> u64 {
        self.report as u64 + 1
    }

    fn file(&self, number: usize) -> u64 {
        self.report as u64 + 2 + number as u64
    }

    /// The vDSO goes aside, everything else of `execve` away, the vDSO to where it was.
    fn clear(&mut self, areas: &[Area]) {
        let own: Vec<&Mapping> =
            areas.iter().map(|area| &area.mapping).filter(|mapping| mapping.kind() == Kind::Vdso).collect();
        let code = own.iter().find(|mapping| mapping.name == "[vdso]").map_or(0, |mapping| mapping.start);
        let first = own.first().map_or(0, |mapping| mapping.start);
        for mapping in &own {
            let aside = SCRATCH + (mapping.start - first);
            // Relative to where this process has its code.
            let from = mapping.start.wrapping_sub(code);
            let bytes = mapping.bytes();
            let moved = [from, bytes, bytes, MOVE_TO, aside];
            self.call(libc::SYS_mremap, &moved).flags = ADD_VDSO;
        }
        self.call(libc::SYS_munmap, &[END, TASK_END - END]);
        for mapping in &own {
            let aside = SCRATCH + (mapping.start - first);
            let bytes = mapping.bytes();
            self.call(libc::SYS_mremap, &[aside, bytes, bytes, MOVE_TO, mapping.start]);
        }
    }

    fn map(&mut self, area: &Area) {
        let Area { mapping, file, runs, copy } = area;
        if mapping.kind() == Kind::Vdso {
            return;
        }
        let anonymous =
            (libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE) as u64;
        let (start, bytes, protection) = (mapping.start, mapping.bytes(), mapping.protection);
        // What is read into it must be writable meanwhile.
        let open = if *copy && !runs.is_empty() { protection | 2 } else { protection };
        let covered = !copy && matches!(runs.as_slice(), [run] if run.length == bytes);
        match file {
            Some(number) => {
                let shared = if mapping.shared { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
                let flags = (shared | libc::MAP_FIXED) as u64;
                let descriptor = self.file(*number);
                self.call(libc::SYS_mmap, &[start, bytes, protection, flags, descriptor, mapping.offset]);
            }
            None if covered => {}
            None => {
                let grows =
                    if mapping.has("gd") { (libc::MAP_GROWSDOWN | libc::MAP_STACK) as u64 } else { 0 };
                self.call(libc::SYS_mmap, &[start, bytes, open, anonymous | grows, u64::MAX, 0]);
            }
        }
        if mapping.has("wf") {
            self.call(libc::SYS_madvise, &[start, bytes, WIPE_ON_FORK]);
        }
        for run in runs {
            self.fill(run, protection, *copy);
        }
        if open != protection {
            self.call(libc::SYS_mprotect, &[start, bytes, protection]);
        }
    }

    fn fill(&mut self, run: &Run, protection: u64, copy: bool) {
        let image = self.image();
        if copy {
            let entry = self.call(libc::SYS_pread64, &[image, run.start, run.length, run.offset]);
            (entry.flags, entry.word) = (EXPECT, run.length);
        } else {
            let flags = (libc::MAP_PRIVATE | libc::MAP_FIXED) as u64;
            self.call(libc::SYS_mmap, &[run.start, run.length, protection, flags, image, run.offset]);
        }
    }

    fn files(&mut self, state: &State) {
        let mut taken: Vec<u64> = (0..=ORDERS as u64).collect();
        for open in &state.open {
            let number = open.number as u64;
            let flags = if open.close_on_exec { libc::O_CLOEXEC as u64 } else { 0 };
            match open.what {
                Opened::File { number: file, position } => {
                    let file = self.file(file);
                    self.call(libc::SYS_dup3, &[file, number, flags]);
                    self.call(libc::SYS_lseek, &[number, position, libc::SEEK_SET as u64]);
                }
                Opened::Counter { value, flags: of_its_own } => {
                    // The kernel gives the lowest number that is free.
                    let given = (0..).find(|free| !taken.contains(free)).unwrap_or(number);
                    let entry = self.call(libc::SYS_eventfd2, &[u64::from(value), of_its_own | flags]);
                    (entry.flags, entry.word) = (EXPECT, given);
                    if given != number {
                        self.call(libc::SYS_dup3, &[given, number, flags]);
                        self.call(libc::SYS_close, &[given]);
                    }
                }
            }
            taken.push(number);
        }
        if state.folder != "/var/task" {
            let folder = terminated(&state.folder);
            self.call_with(libc::SYS_chdir, &[], 0, &folder);
        }
        self.call(libc::SYS_umask, &[u64::from(state.umask)]);
    }

    /// What the kernel knows of the process beside its mappings.
    fn process(&mut self, state: &State) {
        let Places { code, data, brk, stack, arguments, environment } = state.places;
        let auxiliary = self.keep(&state.auxiliary);
        let mut map = Vec::with_capacity(104);
        let ends = [arguments.0, arguments.1, environment.0, environment.1];
        let words = [code.0, code.1, data.0, data.1, brk, state.program_break, stack];
        for word in words.into_iter().chain(ends) {
            map.extend(word.to_le_bytes());
        }
        // The auxiliary vector's address is filled in with the others.
        map.extend(auxiliary.to_le_bytes());
        map.extend((state.auxiliary.len() as u32).to_le_bytes());
        map.extend(u32::MAX.to_le_bytes());
        self.call_with(libc::SYS_prctl, &[SET_MM, SET_MM_MAP, 0, map.len() as u64], 2, &map);
        let name = terminated(&state.name);
        self.call_with(libc::SYS_prctl, &[PR_SET_NAME, 0], 1, &name);
        for (signal, action) in &state.signals {
            self.call_with(libc::SYS_rt_sigaction, &[*signal, 0, 0, 8], 1, action);
        }
    }

    fn thread(&mut self, state: &State) {
        self.call(libc::SYS_arch_prctl, &[ARCH_SET_FS, state.thread_area]);
        if let Some(address) = state.thread_id {
            let entry = self.call(libc::SYS_set_tid_address, &[address]);
            (entry.flags, entry.word) = (STORE, address);
        }
        if let Some(sequence) = state.restartable {
            let (length, signature) = (u64::from(sequence.length), u64::from(sequence.signature));
            self.call(libc::SYS_rseq, &[sequence.address, length, 0, signature]);
        }
    }

    fn finish(mut self) -> Plan {
        // All but what is the program's own; the end of the report is the sign that all went well.
        self.call(libc::SYS_close_range, &[self.report as u64 + 1, u64::from(u32::MAX), 0]);
        self.call(libc::SYS_close, &[self.report as u64]).flags = MAY_FAIL;
        let base = data_address(self.entries.len());
        for (entry, argument) in self.references {
            let entry = &mut self.entries[entry];
            if entry.call == libc::SYS_prctl as u32 && entry.arguments[0] == SET_MM {
                // The eleventh word of `struct prctl_mm_map`.
                let at = entry.arguments[argument] as usize + 11 * 8;
                let word = &mut self.data[at..at + 8];
                let offset = u64::from_le_bytes(word.try_into().unwrap_or_default());
                word.copy_from_slice(&(base + offset).to_le_bytes());
            }
            entry.arguments[argument] += base;
        }
        Plan { entries: self.entries, data: self.data }
    }
}

fn terminated(text: &str) -> Vec<u8> {
    text.bytes().chain([0]).collect()
}

const _: () = assert!(ORDERS > 2 && SCRATCH < END && SCRATCH.is_multiple_of(PAGE));
