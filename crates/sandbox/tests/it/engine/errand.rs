//! Programs that are run to their end.

use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sandbox::egress::Network;
use sandbox::process::{Ended, Errand, Errands, SHARED_OWNER};
use sandbox::{Egress, Exit, FileSystem, Limits};

use super::Kept;
use crate::case;
use crate::world::{Case, PATIENCE, World, processes_with};

pub(super) const CASES: &[Case] =
    &[case!(it_ends_with_its_code_and_leaves_what_it_wrote), case!(it_takes_no_more_than_it_is_given)];

/// Runs a shell's line in a folder that it may write to; with that folder.
async fn run(world: &World, line: &str, time: Duration) -> (Ended, String, PathBuf) {
    let folder = world.code(&[("there", 0o644, "before")]);
    if world.launcher.report().separate_users {
        for path in [folder.clone(), folder.join("there")] {
            chown(path, Some(SHARED_OWNER), Some(SHARED_OWNER)).unwrap();
        }
    }
    let errands = Errands::new(world.launcher.clone(), Network::new(Vec::new()), world.code(&[]));
    let errand = Errand {
        words: ["sh", "-c", line].map(str::to_owned).into(),
        env: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
        folders: vec![FileSystem { folder: folder.clone(), name: "here".to_owned() }],
        mounts: Vec::new(),
        limits: Limits {
            memory_bytes: 64 << 20,
            cpu_hundredths: None,
            tmp_bytes: 1 << 20,
            pids: 32,
            answer_bytes: 0,
        },
        time,
        egress: Egress::None,
    };
    let log = Arc::new(Kept::default());
    let ended = errands.run(errand, log.clone()).await.unwrap();
    (ended, log.text(), folder)
}

async fn it_ends_with_its_code_and_leaves_what_it_wrote(world: World) {
    let line = "pwd; cat there; echo after >there; touch /var/task/x || echo refused >&2; exit 7";
    let (ended, printed, folder) = run(&world, line, PATIENCE).await;
    assert_eq!(ended, Ended::Exit(Exit::Code(7)));
    assert!(printed.starts_with("/mnt/here\nbefore") && printed.ends_with("refused\n"), "{printed}");
    assert_eq!(std::fs::read_to_string(folder.join("there")).unwrap(), "after\n");
    let (ended, printed, _) = run(&world, "exec /no/such", PATIENCE).await;
    assert_eq!(ended, Ended::Exit(Exit::Code(127)), "{printed}");
}

async fn it_takes_no_more_than_it_is_given(world: World) {
    let token = world.token();
    let line = format!("echo began; sleep {token} & sleep {token}");
    let (ended, printed, _) = run(&world, &line, Duration::from_secs(1)).await;
    assert_eq!((ended, printed.as_str()), (Ended::TimedOut, "began\n"));
    assert_eq!(processes_with(&token), Vec::<u32>::new(), "it went with all that it had started");
    let (ended, printed, _) = run(&world, "exec tail /dev/zero", PATIENCE).await;
    if world.has_groups() {
        assert_eq!(ended, Ended::Exit(Exit::OutOfMemory), "{printed}");
    } else {
        assert!(!matches!(ended, Ended::TimedOut | Ended::Exit(Exit::Code(0))), "{ended:?} {printed}");
    }
}
