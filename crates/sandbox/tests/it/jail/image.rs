//! Images of programs: taken in one jail, restored in others.

use std::path::Path;
use std::sync::Arc;

use sandbox::Exit;
use sandbox::process::jail::{Beginning, Image, Jail, Refusal, Wanted, Why};

use crate::case;
use crate::world::{Case, Outcome, World, read_all};

pub(crate) const CASES: &[Case] = &[
    case!(a_program_goes_on_in_other_jails),
    case!(memory_given_back_comes_back_empty),
    case!(what_the_kernel_knows_of_a_process_is_restored),
    case!(memory_is_what_it_was_to_the_byte),
    case!(a_template_killed_while_its_image_is_taken_is_not_unfit),
    case!(what_is_too_large_is_not_copied),
    case!(memory_spread_wide_is_not_looked_through, needs_root),
    case!(a_file_written_over_is_another_file),
    case!(what_a_rehearsal_writes_to_is_there_from_the_beginning),
];

/// Stops, and goes on as the child of a fork.
const STOP: &str = "
def stop():
    import os, signal, gc
    gc.collect(); gc.freeze()
    os.kill(os.getpid(), signal.SIGSTOP)
    if os.fork():
        while True: signal.pause()
    return os.read(3, 100000).decode()
";

/// Enough for all of a test.
const PLAIN: Wanted = Wanted { most_bytes: 1 << 30, rehearse: false };

/// Takes the image of a Python program that calls `stop()`.
async fn image_of(world: &World, program: &str, code: &Path) -> Result<Arc<Image>, Refusal> {
    image_within(PLAIN, world, program, code).await
}

async fn image_within(
    wanted: Wanted,
    world: &World,
    program: &str,
    code: &Path,
) -> Result<Arc<Image>, Refusal> {
    let jail = stopped(world, program, code).await;
    let image = world.launcher.take_image(&jail, wanted).await.map(Arc::new);
    jail.kill().await;
    image
}

/// A Python program that has called `stop()`.
async fn stopped(world: &World, program: &str, code: &Path) -> Jail {
    let mut job = world.python(&format!("{STOP}{program}"));
    job.beginning = Beginning::Template;
    job.code = code.to_owned();
    let mut jail = world.spawn(job).await.unwrap();
    tokio::select! {
        () = jail.stopped() => {}
        exit = jail.exited() => panic!("it ended: {exit:?} {}", read_all(&mut jail).await),
    }
    jail
}

/// Restores it and waits for its end.
async fn restore(world: &World, image: &Arc<Image>, code: &Path) -> Outcome {
    let mut job = world.python("");
    job.code = code.to_owned();
    job.beginning = Beginning::Restored(image.clone());
    world.run(job).await
}

async fn a_program_goes_on_in_other_jails(world: World) {
    let program = "
import os, sys, random, ssl
held = [os.getpid(), 'state']
ssl.RAND_bytes(4)
orders = stop()
print(os.getpid(), held, len(orders) > 10, ssl.RAND_bytes(8).hex(), random.random(), os.listdir('/tmp'))
open('/tmp/mine', 'w').write('x')
sys.exit(7)
";
    let code = world.code(&[]);
    let image = image_of(&world, program, &code).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let outcome = restore(&world, &image, &code).await;
        assert_eq!(outcome.exit, Exit::Code(7), "{}", outcome.output);
        assert!(outcome.output.starts_with("3 [2, 'state'] True "), "{}", outcome.output);
        assert!(outcome.output.trim_end().ends_with("[]"), "{}", outcome.output);
        assert!(!seen.contains(&outcome.output));
        seen.push(outcome.output);
    }
}

/// An allocator that gives pages back counts on finding them empty: beneath them must not be the image.
async fn memory_given_back_comes_back_empty(world: World) {
    let program = "
import ctypes, mmap, os
file = os.open('/var/task/allocator.so', os.O_RDONLY)
held = mmap.mmap(file, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_EXEC)
os.close(file)
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
size = 1 << 20
place = libc.mmap(None, size, 3, 0x22, -1, 0)
ctypes.memset(place, 7, size)
stop()
before = ctypes.string_at(place, size)
assert libc.madvise(place, size // 2, 4) == 0
after = ctypes.string_at(place, size)
print(before == b'\\7' * size, after == b'\\0' * (size // 2) + b'\\7' * (size // 2))
";
    // As the table of a library's symbols has it.
    let code = world.code(&[("allocator.so", 0o755, "before\0madvise\0after")]);
    let image = image_of(&world, program, &code).await.unwrap();
    assert_eq!(restore(&world, &image, &code).await.output, "True True\n");
}

async fn what_the_kernel_knows_of_a_process_is_restored(world: World) {
    let program = "
import os, signal, sys
def state():
    fields = open('/proc/self/stat').read().rsplit(')', 1)[1].split()
    status = dict(line.split(':', 1) for line in open('/proc/self/status').read().splitlines())
    names = ('Name', 'Umask', 'SigBlk', 'SigIgn', 'SigCgt', 'Seccomp_filters', 'NoNewPrivs')
    # Code, stack, data, heap, arguments, environment.
    return [fields[23:26], fields[42:49], [status[n] for n in names], os.getcwd(), open('/proc/self/cmdline').read(),
            sorted(open('/proc/self/auxv', 'rb').read()), sys.argv]
heard = []
signal.signal(signal.SIGUSR1, lambda *_: heard.append('usr1'))
signal.signal(signal.SIGUSR2, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])
os.umask(0o077); os.chdir('/usr/share')
before = state()
stop()
after = state()
os.kill(os.getpid(), signal.SIGUSR1); os.kill(os.getpid(), signal.SIGUSR2)
print(before == after, heard, os.readlink('/proc/self/exe').startswith('/memfd:'))
if before != after: print(before, after)
grown = [bytearray(1 << 20) for _ in range(20)]
";
    let code = world.code(&[]);
    let image = image_of(&world, program, &code).await.unwrap();
    let outcome = restore(&world, &image, &code).await;
    assert_eq!((outcome.output.as_str(), outcome.exit), ("True ['usr1'] True\n", Exit::Code(0)));
}

async fn memory_is_what_it_was_to_the_byte(world: World) {
    let program = "
import hashlib, os
def areas():
    found = []
    for line in open('/proc/self/maps'):
        place, kind = line.split()[:2]
        start, end = (int(part, 16) for part in place.split('-'))
        if 'r' in kind and '[' not in line and start >= 0x200000: found.append((start, end, kind))
    # What lies side by side under different names may be one or two.
    joined = []
    for start, end, kind in found:
        if joined and joined[-1][1] == start and joined[-1][2] == kind: joined[-1] = (joined[-1][0], end, kind)
        else: joined.append((start, end, kind))
    return joined
def content(areas):
    out = []
    with open('/proc/self/mem', 'rb', 0) as memory:
        for start, end, kind in areas:
            if 'w' in kind: continue
            memory.seek(start); out.append(hashlib.sha256(memory.read(end - start)).hexdigest())
    return out
first = areas(); digests = content(first)
stop()
again = content(first)
print(len(digests) > 5, digests == again)
";
    let code = world.code(&[]);
    let image = image_of(&world, program, &code).await.unwrap();
    assert_eq!(restore(&world, &image, &code).await.output, "True True\n");
}

/// As a server's end kills it. Whatever the helper was looking at then, the template is not to blame.
async fn a_template_killed_while_its_image_is_taken_is_not_unfit(world: World) {
    let code = world.code(&[]);
    let mut broken_off = 0;
    for round in 0..30 {
        let jail = stopped(&world, "import ctypes, ssl, decimal\nstop()", &code).await;
        let killed = async {
            tokio::time::sleep(std::time::Duration::from_millis(round * 2)).await;
            jail.kill().await;
        };
        let (image, ()) = tokio::join!(world.launcher.take_image(&jail, PLAIN), killed);
        let Err(refusal) = image else { continue };
        let ended = matches!(&refusal, Refusal::BrokeOff(text) if text == "it has ended");
        assert!(ended, "after {} ms: {refusal:?}", round * 2);
        broken_off += 1;
    }
    assert!(broken_off > 0, "every image was taken before its template was killed");
}

async fn what_is_too_large_is_not_copied(world: World) {
    let program = "held = os.urandom(32 << 20) if (os := __import__('os')) else None\nstop()";
    let code = world.code(&[]);
    let refusal =
        image_within(Wanted { most_bytes: 16 << 20, ..PLAIN }, &world, program, &code).await.unwrap_err();
    assert!(
        matches!(&refusal, Refusal::Unfit(Why::Memory, text) if text.ends_with("than the 16 MiB that images may hold")),
        "{refusal}"
    );
    image_within(Wanted { most_bytes: 128 << 20, ..PLAIN }, &world, program, &code).await.unwrap();
}

/// A page here and there in terabytes would keep the helper busy for minutes, and every other template waiting.
async fn memory_spread_wide_is_not_looked_through(world: World) {
    let program = "
import ctypes
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
def reserve(size):
    place = libc.mmap(None, size, 3, 0x4022, -1, 0)
    assert place and place != 2 ** 64 - 1
    return place
reserve(64 << 40)
";
    let code = world.code(&[]);
    image_of(&world, &format!("{program}\nstop()"), &code).await.expect("what is not in use costs nothing");
    let used = format!("{program}\nctypes.memset(reserve(2 << 40), 7, 1)\nstop()");
    let refusal = image_of(&world, &used, &code).await.unwrap_err();
    assert_eq!(refusal, Refusal::Unfit(Why::Memory, "its memory is spread too wide".to_owned()));
}

/// Written in place, of the same length and with the times that it had: as some ways to install a file do.
async fn a_file_written_over_is_another_file(world: World) {
    let code = world.code(&[("data", 0o644, "before")]);
    let program = "file = open('/var/task/data')\nstop()\nprint(file.read())";
    let image = image_of(&world, program, &code).await.unwrap();
    assert_eq!(restore(&world, &image, &code).await.output, "before\n");
    let path = code.join("data");
    let times = std::fs::metadata(&path).unwrap().modified().unwrap();
    std::fs::write(&path, "after!").unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(times).unwrap();
    let mut job = world.python("");
    job.code = code.clone();
    job.beginning = Beginning::Restored(image.clone());
    let error = world.spawn(job).await.err().expect("it was restored");
    assert!(error.to_string().contains("a file has changed since"), "{error}");
}

async fn what_a_rehearsal_writes_to_is_there_from_the_beginning(world: World) {
    let program = |rehearsal: &str| {
        format!(
            "
import ctypes, mmap, os, signal, struct
held = mmap.mmap(-1, 64 * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
held.write(b'x' * len(held))
place = ctypes.addressof(ctypes.c_char.from_buffer(held))
if not stop():
    for page in range(32): held[page * 4096] = 121
    {rehearsal}
with open('/proc/self/pagemap', 'rb', 0) as pagemap:
    pagemap.seek(place // 4096 * 8)
    entries = struct.unpack('64Q', pagemap.read(64 * 8))
own = [entry >> 63 == 1 and not entry >> 61 & 1 for entry in entries]
print(own.count(True), all(own[:32]), held[:] == b'x' * len(held))
"
        )
    };
    let wanted = Wanted { rehearse: true, ..PLAIN };
    let code = world.code(&[]);
    // The last waits for an end that does not come; it is no reason to have no image.
    for (rehearsal, wanted, expect) in [
        ("os.kill(os.getpid(), signal.SIGSTOP)", wanted, "32 True True\n"),
        ("os.kill(os.getpid(), signal.SIGSTOP)", PLAIN, "0 False True\n"),
        ("signal.pause()", wanted, "0 False True\n"),
    ] {
        let image = image_within(wanted, &world, &program(rehearsal), &code).await.unwrap();
        assert_eq!(restore(&world, &image, &code).await.output, expect, "{rehearsal}");
    }
}
