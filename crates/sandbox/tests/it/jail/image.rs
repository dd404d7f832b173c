//! Images of programs: taken in one jail, restored in others.

use std::path::Path;
use std::sync::Arc;

use sandbox::Exit;
use sandbox::process::jail::{Beginning, Image, Refusal};

use crate::case;
use crate::world::{Case, Outcome, World, read_all};

pub(crate) const CASES: &[Case] = &[
    case!(a_program_goes_on_in_other_jails),
    case!(memory_given_back_comes_back_empty),
    case!(what_the_kernel_knows_of_a_process_is_restored),
    case!(memory_is_what_it_was_to_the_byte),
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

/// Takes the image of a Python program that calls `stop()`.
async fn image_of(world: &World, program: &str, code: &Path) -> Result<Arc<Image>, Refusal> {
    let mut job = world.python(&format!("{STOP}{program}"));
    job.beginning = Beginning::Template;
    job.code = code.to_owned();
    let mut jail = world.spawn(job).await.unwrap();
    tokio::select! {
        () = jail.stopped() => {}
        exit = jail.exited() => panic!("it ended: {exit:?} {}", read_all(&mut jail).await),
    }
    let image = world.launcher.take_image(&jail).await.map(Arc::new);
    jail.kill().await;
    image
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
