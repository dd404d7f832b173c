//! Images of programs: taken in one jail, restored in others.

use std::sync::Arc;

use sandbox::Exit;
use sandbox::process::jail::{Beginning, Image, Refusal};

use crate::case;
use crate::world::{Case, Outcome, World, read_all};

pub(crate) const CASES: &[Case] = &[case!(a_program_goes_on_in_other_jails)];

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
async fn image_of(world: &World, program: &str) -> Result<Arc<Image>, Refusal> {
    let mut job = world.python(&format!("{STOP}{program}"));
    job.beginning = Beginning::Template;
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
async fn restore(world: &World, image: &Arc<Image>) -> Outcome {
    let mut job = world.python("");
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
    let image = image_of(&world, program).await.unwrap();
    println!("image of {} bytes", image.bytes());
    let mut seen = Vec::new();
    for _ in 0..3 {
        let begun = std::time::Instant::now();
        let outcome = restore(&world, &image).await;
        println!("{:?} {outcome:?}", begun.elapsed());
        assert_eq!(outcome.exit, Exit::Code(7), "{}", outcome.output);
        assert!(outcome.output.starts_with("3 [2, 'state'] True "), "{}", outcome.output);
        assert!(outcome.output.trim_end().ends_with("[]"), "{}", outcome.output);
        assert!(!seen.contains(&outcome.output));
        seen.push(outcome.output);
    }
}
