//! What a program in a jail sees, may do, and how it ends.

use sandbox::Exit;

use crate::case;
use crate::world::{Case, World};

pub(crate) const CASES: &[Case] = &[case!(exits_with_its_status), case!(bench)];

async fn exits_with_its_status(world: World) {
    let outcome = world.sh("echo hello; echo there >&2; exit 7").await;
    assert_eq!((outcome.exit, outcome.output.as_str()), (Exit::Code(7), "hello\nthere\n"));
}

async fn bench(world: World) {
    let mut job = world.script("");
    job.argv = vec!["/bin/true".to_owned()];
    let job = || {
        let mut j = job.clone();
        j.instance = base::InstanceId::random();
        j
    };
    let mut spawn = Vec::new();
    let mut whole = Vec::new();
    for _ in 0..200 {
        let t = std::time::Instant::now();
        let jail = world.spawn(job()).await.unwrap();
        spawn.push(t.elapsed());
        jail.exited().await;
        whole.push(t.elapsed());
    }
    spawn.sort();
    whole.sort();
    eprintln!(
        "seq spawn p50 {:?} p99 {:?}; to gone p50 {:?} p99 {:?}",
        spawn[100], spawn[198], whole[100], whole[198]
    );
    let t = std::time::Instant::now();
    let mut lat = Vec::new();
    for _ in 0..25 {
        let all = (0..8).map(|_| async {
            let t = std::time::Instant::now();
            let j = world.spawn(job()).await.unwrap();
            let e = t.elapsed();
            j.exited().await;
            e
        });
        lat.extend(futures_util::future::join_all(all).await);
    }
    lat.sort();
    eprintln!("8 parallel: {:?} for 200; spawn p50 {:?} p99 {:?}", t.elapsed(), lat[100], lat[198]);
}
