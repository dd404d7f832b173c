//! Limits, and what happens at them.

use std::time::{Duration, Instant};

use sandbox::Exit;
use sandbox::process::jail::ProgramClass;

use crate::case;
use crate::world::{Case, World, lines_of};

/// Within this a bomb is gone once it is killed, on a busy host too. It takes a tenth of a second; waiting for pid 1's
/// turns took a minute.
const GONE: Duration = Duration::from_secs(5);

pub(crate) const CASES: &[Case] = &[
    case!(memory_ends_the_instance),
    case!(memory_of_a_child_ends_the_instance),
    case!(tmp_counts_as_memory),
    case!(page_tables_count_as_memory),
    case!(memory_out_of_sight_is_bounded),
    case!(memory_within_the_limit_is_fine),
    case!(processes_are_bounded),
    case!(a_bomb_is_gone_without_a_turn_of_its_pid_1),
    case!(processor_time_is_bounded, needs_root),
    case!(peak_memory_is_measured),
];

/// Takes memory a mebibyte at a time and touches it.
const HOG: &str = "import time\nheld = []\nfor _ in range(1024):\n  held.append(bytearray(b'x' * (1 << 20)))\n  time.sleep(0.001)\n";

async fn memory_ends_the_instance(world: World) {
    let mut job = world.python(HOG);
    job.limits.memory_bytes = 96 << 20;
    assert_eq!(world.run(job).await.exit, Exit::OutOfMemory);
}

async fn memory_of_a_child_ends_the_instance(world: World) {
    let program =
        format!("import os, time\nif os.fork() == 0:\n  exec({HOG:?})\nelse:\n  time.sleep(1000)\n");
    let mut job = world.python(&program);
    job.limits.memory_bytes = 96 << 20;
    assert_eq!(world.run(job).await.exit, Exit::OutOfMemory);
}

async fn tmp_counts_as_memory(world: World) {
    let mut job =
        world.script("cd /tmp; for i in $(seq 200); do head -c 1M /dev/zero >> file; done; sleep 1000");
    job.limits.memory_bytes = 96 << 20;
    job.limits.tmp_bytes = 512 << 20;
    assert_eq!(world.run(job).await.exit, Exit::OutOfMemory);
}

async fn page_tables_count_as_memory(world: World) {
    // Pages of zeros that are only read are the kernel's one; the tables that lead to it are not.
    let program = "import mmap, time\nsize = 96 << 30\nflags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS\n\
                   m = mmap.mmap(-1, size, flags=flags, prot=mmap.PROT_READ)\nfor at in range(0, size, 2 << 20): m[at]\n\
                   time.sleep(1000)\n";
    let mut job = world.python(program);
    job.limits.memory_bytes = 96 << 20;
    assert_eq!(world.run(job).await.exit, Exit::OutOfMemory);
}

async fn memory_out_of_sight_is_bounded(world: World) {
    // Held by keys: a gigabyte of semaphores, messages, a segment. Where a control group counts, it counts them.
    let calls = [libc::SYS_semget, libc::SYS_msgget, libc::SYS_shmget];
    let program = format!(
        "import ctypes as c\nlibc = c.CDLL(None, use_errno=True)\nfor n in {calls:?}:\n  c.set_errno(0)\n  \
         print(libc.syscall(n, 0, 1, 0o600) < 0 and c.get_errno())\n"
    );
    let mut job = world.python(&program);
    job.class = ProgramClass::Native;
    let outcome = world.run(job).await;
    let expect =
        if world.has_groups() { "False\n".repeat(3) } else { format!("{}\n", libc::ENOSYS).repeat(3) };
    assert_eq!(outcome.output, expect);
}

async fn memory_within_the_limit_is_fine(world: World) {
    let mut job = world.python("held = bytearray(b'x' * (64 << 20))\nprint(len(held))");
    job.limits.memory_bytes = 256 << 20;
    let outcome = world.run(job).await;
    assert_eq!((outcome.exit, outcome.output.as_str()), (Exit::Code(0), "67108864\n"));
}

async fn processes_are_bounded(world: World) {
    let program = "import os, time\nmade = 0\ntry:\n  while made < 500:\n    if os.fork() == 0: time.sleep(1000)\n    made += 1\n\
                   except OSError as error: print(error.errno)\nprint(made, flush=True)\n";
    let mut job = world.python(program);
    job.limits.pids = 20;
    let outcome = world.run(job).await;
    let mut lines = outcome.output.lines();
    assert_eq!(lines.next(), Some("11"), "{}", outcome.output);
    // The first process is one of the twenty.
    assert_eq!(lines.next(), Some("19"));
    // A bomb of processes that do not wait is bounded too, and ends with one kill.
    let mut job = world.script("bomb() { bomb | bomb & }; bomb; sleep 1000");
    job.limits.pids = 20;
    let jail = world.spawn(job).await.unwrap();
    jail.kill().await;
}

/// Hundreds of processes share a tenth of a core, so that pid 1, which has to have several turns to die, would have one
/// every few seconds. Where nothing limits the processor they are many all the same.
async fn a_bomb_is_gone_without_a_turn_of_its_pid_1(world: World) {
    let program = "import os\nprint('up', flush=True)\nwhile True:\n  try: os.fork()\n  except OSError: break\n\
                   print('full', flush=True)\nwhile True: pass\n";
    let mut job = world.python(program);
    job.limits.pids = 400;
    job.limits.cpu_hundredths = world.has_groups().then_some(10);
    if !world.has_groups() {
        // What copies share is counted for each.
        job.limits.memory_bytes = 64 << 30;
    }
    let mut jail = world.spawn(job).await.unwrap();
    let _output = lines_of(&mut jail, "full").await;
    let killed = Instant::now();
    jail.kill().await;
    println!("gone {:?} after it was killed", killed.elapsed());
    assert!(killed.elapsed() < GONE, "{:?}", killed.elapsed());
}

async fn processor_time_is_bounded(world: World) {
    let program = "import time\nbefore = time.process_time()\nend = time.monotonic() + 1\n\
                   while time.monotonic() < end: pass\nprint(time.process_time() - before)\n";
    let mut job = world.python(program);
    job.limits.cpu_hundredths = Some(20);
    let used: f64 = world.run(job).await.output.trim().parse().unwrap();
    assert!(used < 0.5, "{used}");
}

async fn peak_memory_is_measured(world: World) {
    let program =
        "import time\nheld = bytearray(b'x' * (80 << 20))\nprint('held', flush=True)\ntime.sleep(1000)\n";
    let mut job = world.python(program);
    job.limits.memory_bytes = 256 << 20;
    let jail = world.spawn(job).await.unwrap();
    // The watch that counts without cgroups looks every 50 ms.
    crate::world::until(Duration::from_secs(20), || jail.peak_memory() > 80 << 20).await;
    jail.kill().await;
    let peak = jail.peak_memory();
    assert!((80 << 20..200 << 20).contains(&peak), "{peak}");
}
