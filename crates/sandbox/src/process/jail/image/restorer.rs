//! The restorer: a few dozen instructions that turn a process which has just executed an image into the process
//! that the image is of.
//!
//! An image begins as an ELF program: a page with the restorer and the registers to end with, then the table of
//! system calls that it makes. The kernel loads both at a low address where no interpreter has anything; the
//! restorer moves the vDSO out of the way, unmaps all that `execve` made, and makes the calls one by one, with
//! all it needs in registers. At its end it unmaps the table and leaves by `rt_sigreturn`. What stays of it is
//! its first page, readable and the same in every instance.
//!
//! A call that fails ends it: it writes the table's entry to the descriptor that the table names, then exits with
//! the error's number. Until then nothing of the image's code has run.

/// Where the image's own program is loaded. Above every sensible `vm.mmap_min_addr`, below every program.
pub(super) const BASE: u64 = 0x10_0000;
/// Where its table is.
pub(super) const TABLE: u64 = BASE + PAGE;
/// Where the vDSO waits while everything else goes.
pub(super) const SCRATCH: u64 = 0x1e_0000;
/// No mapping of a template begins below this.
pub(super) const END: u64 = 0x20_0000;
/// Bytes.
pub(super) const PAGE: u64 = 4096;

/// Offsets in the first page.
const CODE: usize = 0x100;
const FRAME: usize = 0x800;

/// Bits of an entry's flags: where the vDSO is when the restorer begins is added to the first argument.
pub(super) const ADD_VDSO: u32 = 1;
/// A failure is no failure.
pub(super) const MAY_FAIL: u32 = 2;
/// The result must be the entry's last word.
pub(super) const EXPECT: u32 = 4;
/// The result's lower half is stored at the address that the entry's last word is.
pub(super) const STORE: u32 = 8;
/// In place of a call's number: the end.
const LAST: u32 = u32::MAX;

#[allow(unsafe_code)] // Assembly, and the symbols at its ends.
mod assembly {
    use std::arch::global_asm;

    use super::*;

    // In a section of data: the server itself never runs it.
    global_asm!(
        ".pushsection .rodata.virga_restorer, \"a\"",
        ".balign 16",
        ".globl virga_restorer_begin",
        ".hidden virga_restorer_begin",
        "virga_restorer_begin:",
        // Past the arguments and the environment to the auxiliary vector, for the vDSO's address.
        "mov rsi, [rsp]",
        "lea rdi, [rsp + rsi * 8 + 16]",
        "2: mov rax, [rdi]",
        "add rdi, 8",
        "test rax, rax",
        "jnz 2b",
        "xor r15d, r15d",
        "3: mov rax, [rdi]",
        "test rax, rax",
        "jz 5f",
        "cmp rax, 33", // AT_SYSINFO_EHDR
        "jne 4f",
        "mov r15, [rdi + 8]",
        "4: add rdi, 16",
        "jmp 3b",
        "5: mov r14d, {table}",
        "lea r12, [r14 + {entry}]",
        "6: mov eax, [r12]",
        "mov ebx, [r12 + 4]",
        "mov rdi, [r12 + 8]",
        "mov rsi, [r12 + 16]",
        "mov rdx, [r12 + 24]",
        "mov r10, [r12 + 32]",
        "mov r8, [r12 + 40]",
        "mov r9, [r12 + 48]",
        "cmp eax, -1",
        "je 9f",
        "test ebx, {add_vdso}",
        "jz 7f",
        "add rdi, r15",
        "7: syscall",
        "test ebx, {may_fail}",
        "jnz 8f",
        "cmp rax, -4095",
        "jae 21f",
        "test ebx, {expect}",
        "jz 22f",
        "cmp rax, [r12 + 56]",
        "jne 20f",
        "22: test ebx, {store}",
        "jz 8f",
        "mov rcx, [r12 + 56]",
        "mov [rcx], eax",
        "8: add r12, {entry}",
        "jmp 6b",
        // The end: the table goes, the registers come.
        "9: mov eax, 11", // munmap
        "syscall",
        "mov esp, {frame} + 8",
        "mov eax, 15", // rt_sigreturn
        "syscall",
        "ud2",
        // A result that is not the one expected.
        "20: mov rax, -5", // EIO
        "21: mov r13, rax",
        "neg r13",
        "mov rdi, [r14]",
        "mov rsi, r12",
        "mov edx, 8",
        "mov eax, 1", // write
        "syscall",
        "mov rdi, r13",
        "mov eax, 231", // exit_group
        "syscall",
        "ud2",
        ".globl virga_restorer_end",
        ".hidden virga_restorer_end",
        "virga_restorer_end:",
        ".popsection",
        table = const TABLE,
        entry = const size_of::<Entry>(),
        add_vdso = const ADD_VDSO,
        may_fail = const MAY_FAIL,
        expect = const EXPECT,
        store = const STORE,
        frame = const BASE + FRAME as u64,
    );

    unsafe extern "C" {
        static virga_restorer_begin: u8;
        static virga_restorer_end: u8;
    }

    /// The instructions, which run wherever they are loaded.
    pub(super) fn code() -> &'static [u8] {
        // SAFETY: both symbols are of the block above, in this order, in one section that is never written.
        unsafe {
            let begin = &raw const virga_restorer_begin;
            std::slice::from_raw_parts(begin, (&raw const virga_restorer_end).offset_from_unsigned(begin))
        }
    }
}

/// One call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) call: u32,
    pub(super) flags: u32,
    pub(super) arguments: [u64; 6],
    /// By the flags: what to expect, or where to store.
    pub(super) word: u64,
}

impl Entry {
    fn write(&self, into: &mut Vec<u8>) {
        into.extend(self.call.to_le_bytes());
        into.extend(self.flags.to_le_bytes());
        self.arguments.iter().for_each(|argument| into.extend(argument.to_le_bytes()));
        into.extend(self.word.to_le_bytes());
    }
}

/// What a thread goes on with: `struct sigcontext` without what is the same for all, in the kernel's order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context {
    /// r8 to r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags.
    pub(super) registers: [u64; 18],
    pub(super) code_segment: u16,
    pub(super) stack_segment: u16,
    /// Blocked signals.
    pub(super) blocked: u64,
    /// Address, flags, size of the stack for signals.
    pub(super) signal_stack: (u64, i32, u64),
}

/// Bytes of the program and its table, with `data` of that size.
pub(super) fn head_bytes(entries: usize, data: usize) -> u64 {
    PAGE + ((entries + 2) * size_of::<Entry>() + data).next_multiple_of(PAGE as usize) as u64
}

/// Where data behind a table of so many entries is.
pub(super) fn data_address(entries: usize) -> u64 {
    TABLE + ((entries + 2) * size_of::<Entry>()) as u64
}

/// The image's beginning: program, table, and the data that the table's calls read; `length` is what
/// [`head_bytes`] says, or more.
pub(super) fn head(entries: &[Entry], data: &[u8], context: &Context, report: i32, length: u64) -> Vec<u8> {
    let mut head = elf(length);
    head.resize(CODE, 0);
    head.extend_from_slice(assembly::code());
    debug_assert!(head.len() <= FRAME, "the restorer has outgrown its place");
    head.resize(FRAME, 0);
    frame(context, &mut head);
    head.resize(PAGE as usize, 0);
    head.extend((report as u64).to_le_bytes());
    head.resize(PAGE as usize + size_of::<Entry>(), 0);
    entries.iter().for_each(|entry| entry.write(&mut head));
    let table = [TABLE, length - PAGE, 0, 0, 0, 0];
    Entry { call: LAST, flags: 0, arguments: table, word: 0 }.write(&mut head);
    head.extend_from_slice(data);
    head.resize(length as usize, 0);
    head
}

/// The ELF header and two segments: the first page to run, the rest to read (elf(5)).
fn elf(length: u64) -> Vec<u8> {
    const PROGRAM_HEADER: u16 = 56;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let mut put = |value: u64, bytes: usize| elf.extend(&value.to_le_bytes()[..bytes]);
    // ET_EXEC, EM_X86_64, EV_CURRENT; entry; program headers follow this one; no sections, no flags.
    for (value, bytes) in [(2, 2), (62, 2), (1, 4), (BASE + CODE as u64, 8), (64, 8), (0, 8), (0, 4)] {
        put(value, bytes);
    }
    for value in [64, u64::from(PROGRAM_HEADER), 3, 64, 0, 0] {
        put(value, 2);
    }
    // Type (PT_LOAD, PT_GNU_STACK), flags (X 1, W 2, R 4), offset, address, address, in file, in memory, alignment.
    for (kind, flags, offset, length) in
        [(1, 5, 0, PAGE), (1, 4, PAGE, length - PAGE), (0x6474_e551_u64, 6, 0, 0)]
    {
        put(kind, 4);
        put(flags, 4);
        put(offset, 8);
        let address = if kind == 1 { BASE + offset } else { 0 };
        for value in [address, address, length, length, if kind == 1 { PAGE } else { 16 }] {
            put(value, 8);
        }
    }
    elf
}

/// `struct rt_sigframe`: a return address, `struct ucontext`, and a `siginfo` that is not read.
fn frame(context: &Context, into: &mut Vec<u8>) {
    /// The stack segment is to be restored as given (UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS).
    const FLAGS: u64 = 2 | 4;
    let mut put = |value: u64| into.extend(value.to_le_bytes());
    let (stack, stack_flags, stack_size) = context.signal_stack;
    for value in [0, FLAGS, 0, stack, stack_flags as u32 as u64, stack_size] {
        put(value);
    }
    context.registers.iter().for_each(|register| put(*register));
    put(u64::from(context.code_segment) | u64::from(context.stack_segment) << 48);
    // err, trapno, oldmask, cr2; no floating point state: the kernel then resets it; eight reserved words.
    for _ in 0..13 {
        put(0);
    }
    put(context.blocked);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_has_its_parts_where_the_code_expects_them() {
        let entry = Entry { call: 39, flags: EXPECT, arguments: [1, 2, 3, 4, 5, 6], word: 7 };
        let context = Context {
            registers: std::array::from_fn(|index| index as u64),
            code_segment: 0x33,
            stack_segment: 0x2b,
            blocked: 0xff00,
            signal_stack: (0, 2, 0),
        };
        let head = head(&[entry], b"data", &context, 77, head_bytes(1, 4));
        let word = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().unwrap());
        assert_eq!(head.len(), 8192);
        assert_eq!(head.len() as u64, head_bytes(1, 4));
        assert_eq!(word(24), BASE + CODE as u64);
        assert_eq!(&head[CODE..CODE + assembly::code().len()], assembly::code());
        assert!(CODE + assembly::code().len() <= FRAME);
        assert_eq!(word(4096), 77);
        assert_eq!(word(4096 + 64), 39 | u64::from(EXPECT) << 32);
        assert_eq!(word(4096 + 64 + 56), 7);
        assert_eq!(word(4096 + 128) as u32, LAST);
        let data = (data_address(1) - BASE) as usize;
        assert_eq!(&head[data..data + 4], b"data");
        // The instruction pointer in `struct sigcontext` after `pretcode` and the head of `struct ucontext`.
        assert_eq!(word(FRAME + 8 + 40 + 16 * 8), 16);
        assert_eq!(word(FRAME + 8 + 40 + 256), 0xff00);
    }
}
