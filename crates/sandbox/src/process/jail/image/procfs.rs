//! Reading what `/proc` says about a process. Pure: texts in, facts out.

/// A mapping, from `smaps` (proc_pid_smaps(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) start: u64,
    pub(super) end: u64,
    /// `PROT_*`.
    pub(super) protection: u64,
    pub(super) shared: bool,
    pub(super) offset: u64,
    pub(super) inode: u64,
    /// A path, a name in brackets, or nothing.
    pub(super) name: String,
    /// Whether any page of it is in memory or swapped out.
    pub(super) in_use: bool,
    /// Two letters each, from `VmFlags`.
    pub(super) flags: Vec<String>,
}

impl Mapping {
    pub(super) fn bytes(&self) -> u64 {
        self.end - self.start
    }

    pub(super) fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|other| other == flag)
    }

    pub(super) fn kind(&self) -> Kind {
        match self.name.as_str() {
            "" | "[heap]" => Kind::Anonymous,
            "[stack]" => Kind::Stack,
            "[vdso]" => Kind::Vdso,
            "[vsyscall]" => Kind::Fixed,
            name if name.starts_with("[vvar") => Kind::Vdso,
            name if name.starts_with("[anon:") => Kind::Anonymous,
            name if name.starts_with('/') && !name.ends_with(" (deleted)") && self.inode != 0 => Kind::File,
            _ => Kind::Other,
        }
    }
}

/// What is behind a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Anonymous,
    Stack,
    /// The kernel's own pages that move with the process: code and data of the vDSO.
    Vdso,
    /// The kernel's, in the same place in every process.
    Fixed,
    File,
    /// Deleted files, devices, memory descriptors: nothing that could be mapped again.
    Other,
}

/// Reads `smaps`. `None`: not as documented.
pub(super) fn mappings(text: &str) -> Option<Vec<Mapping>> {
    let mut mappings: Vec<Mapping> = Vec::new();
    for line in text.lines() {
        let first = line.split(' ').next().unwrap_or_default();
        if first.ends_with(':') {
            let last = mappings.last_mut()?;
            if let Some(flags) = line.strip_prefix("VmFlags:") {
                last.flags = flags.split_ascii_whitespace().map(str::to_owned).collect();
            } else if let Some(size) = line.strip_prefix("Rss:").or_else(|| line.strip_prefix("Swap:")) {
                last.in_use |= size.split_ascii_whitespace().next() != Some("0");
            }
        } else {
            mappings.push(mapping(line)?);
        }
    }
    Some(mappings)
}

fn mapping(line: &str) -> Option<Mapping> {
    let mut rest = line;
    let mut field = || {
        let (field, after) = rest.split_once(' ').unwrap_or((rest, ""));
        rest = after;
        field
    };
    let (range, permissions, offset, _device, inode) = (field(), field(), field(), field(), field());
    let (start, end) = range.split_once('-')?;
    let hexadecimal = |text: &str| u64::from_str_radix(text, 16).ok();
    let permissions = permissions.as_bytes();
    let bit = |index: usize, letter: u8, value: u64| {
        permissions.get(index).map(|found| if *found == letter { value } else { 0 })
    };
    Some(Mapping {
        start: hexadecimal(start)?,
        end: hexadecimal(end)?,
        protection: bit(0, b'r', 1)? | bit(1, b'w', 2)? | bit(2, b'x', 4)?,
        shared: permissions.get(3) == Some(&b's'),
        offset: hexadecimal(offset)?,
        inode: inode.parse().ok()?,
        name: rest.trim_start_matches(' ').to_owned(),
        in_use: false,
        flags: Vec::new(),
    })
}

/// A line of `status` (proc_pid_status(5)).
pub(super) fn status<'a>(text: &'a str, field: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':').map(str::trim))
}

/// A mask of signals in `status`.
pub(super) fn mask(text: &str, field: &str) -> Option<u64> {
    u64::from_str_radix(status(text, field)?, 16).ok()
}

/// Where the parts of a program are: `stat`'s fields of these names (proc_pid_stat(5)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) code: (u64, u64),
    pub(super) data: (u64, u64),
    pub(super) brk: u64,
    pub(super) stack: u64,
    pub(super) arguments: (u64, u64),
    pub(super) environment: (u64, u64),
}

/// Reads `stat`.
pub(super) fn places(stat: &str) -> Option<Places> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    // The first of these is the third of the documented list, which counts from one.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Places {
        code: (field(26)?, field(27)?),
        stack: field(28)?,
        data: (field(45)?, field(46)?),
        brk: field(47)?,
        arguments: (field(48)?, field(49)?),
        environment: (field(50)?, field(51)?),
    })
}

/// An open file's `fdinfo` (proc_pid_fdinfo(5)): its position and flags.
pub(super) fn open_file(fdinfo: &str) -> Option<(u64, u64)> {
    let position = status(fdinfo, "pos")?.parse().ok()?;
    Some((position, u64::from_str_radix(status(fdinfo, "flags")?, 8).ok()?))
}

/// The value of an `eventfd`, from `fdinfo`; `None` also for a semaphore.
pub(super) fn counter(fdinfo: &str) -> Option<u32> {
    if status(fdinfo, "eventfd-semaphore").is_some_and(|semaphore| semaphore != "0") {
        return None;
    }
    u32::from_str_radix(status(fdinfo, "eventfd-count")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
55d0c0a00000-55d0c0a21000 rw-p 00000000 00:00 0                          [heap]
Size:                132 kB
Rss:                   0 kB
Swap:                  4 kB
VmFlags: rd wr mr mw me ac
7f0000000000-7f0000001000 r-xp 00002000 fe:00 4711                       /usr/lib/a b.so
Size:                  4 kB
Rss:                   0 kB
SwapPss:               4 kB
ProtectionKey:         0
VmFlags: rd ex mr mw me
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]
VmFlags: rd wr mr mw me gd ac
7ffc00031000-7ffc00033000 r--p 00000000 00:00 0                          [vvar_vclock]
7ffc00041000-7ffc00043000 rw-s 00000000 00:01 7                          /dev/shm/x (deleted)
";

    #[test]
    fn mappings_are_read() {
        let all = mappings(SMAPS).unwrap();
        let kinds: Vec<_> = all.iter().map(Mapping::kind).collect();
        assert_eq!(kinds, [Kind::Anonymous, Kind::File, Kind::Stack, Kind::Vdso, Kind::Other]);
        assert_eq!((all[1].protection, all[1].offset, all[1].inode), (5, 0x2000, 4711));
        assert_eq!(all[1].name, "/usr/lib/a b.so");
        assert!(all[2].has("gd") && !all[0].has("gd"));
        assert!(all[4].shared && !all[0].shared);
        assert_eq!(all[0].bytes(), 0x21000);
        assert!(all[0].in_use && !all[1].in_use);
        assert_eq!(mappings("nonsense"), None);
    }

    #[test]
    fn status_and_stat_are_read() {
        let text = "Name:\tpython3\nSigBlk:\t0000000000000002\nThreads:\t3\n";
        assert_eq!(status(text, "Threads"), Some("3"));
        assert_eq!(mask(text, "SigBlk"), Some(2));
        assert_eq!(status(text, "Nothing"), None);
        let numbers: Vec<String> = (4..=52).map(|number| number.to_string()).collect();
        let places = places(&format!("7 (a) b) S {}", numbers.join(" "))).unwrap();
        assert_eq!((places.code, places.brk, places.environment), ((26, 27), 47, (50, 51)));
        let eventfd = "pos:\t0\nflags:\t02004002\neventfd-count:               1f\neventfd-id: 4\n";
        assert_eq!(counter(eventfd), Some(0x1f));
        assert_eq!(counter(&format!("{eventfd}eventfd-semaphore: 1\n")), None);
        assert_eq!(open_file("pos:\t12\nflags:\t0100000\nmnt_id:\t1\n"), Some((12, 0o100_000)));
    }
}
