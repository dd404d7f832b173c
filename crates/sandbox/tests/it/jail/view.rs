//! What a program sees and may do.

use std::path::{Path, PathBuf};

use sandbox::Exit;
use sandbox::process::jail::{Job, Mount, Root};

use crate::case;
use crate::world::{Case, World, write};

pub(crate) const CASES: &[Case] = &[
    case!(starts_as_a_program_expects),
    case!(holds_no_privilege),
    case!(files_are_read_only),
    case!(tmp_is_its_own),
    case!(sees_nothing_of_the_host),
    case!(pid_1_cannot_be_touched),
    case!(pid_1_is_closed_from_the_start),
    case!(finds_what_programs_need),
    case!(mounts_appear_read_only),
    case!(has_loopback_only),
    case!(an_image_is_the_whole_of_what_is_seen),
    case!(an_image_leads_nowhere_else),
    case!(an_images_user_is_shown),
];

async fn starts_as_a_program_expects(world: World) {
    let mut job =
        world.script("pwd; cat; ls -l /proc/self/fd | wc -l; env | sort; umask; trap; ulimit -n; ulimit -c");
    job.env.push(("GREETING".to_owned(), "hello = world".to_owned()));
    let outcome = world.run(job).await;
    // `ls` shows a total, its three streams and the folder it reads.
    let expect = "/var/task\n5\nGREETING=hello = world\nPATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin\n\
                  PWD=/var/task\n0022\n1024\n0\n";
    assert_eq!((outcome.exit, outcome.output.as_str()), (Exit::Code(0), expect));
    let signals = world.sh("grep -E '^(SigBlk|SigIgn)' /proc/self/status").await;
    assert_eq!(signals.output, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

async fn holds_no_privilege(world: World) {
    let fields = "CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp|Groups";
    // The program and pid 1.
    for process in ["self", "1"] {
        let outcome = world.sh(&format!("grep -E '^({fields}):' /proc/{process}/status")).await;
        let none = "0000000000000000";
        for (field, expect) in [
            ("CapInh", none),
            ("CapPrm", none),
            ("CapEff", none),
            ("CapBnd", none),
            ("CapAmb", none),
            ("NoNewPrivs", "1"),
            ("Seccomp", "2"),
        ] {
            let line = format!("{field}:\t{expect}\n");
            assert!(outcome.output.contains(&line), "{process} {field}: {}", outcome.output);
        }
    }
    let outcome =
        world.sh("id -u; id -g; id -un; hostname; cat /proc/self/oom_score_adj /proc/1/oom_score_adj").await;
    assert_eq!(outcome.output, "993\n993\nsandbox\nvirga\n1000\n0\n");
}

async fn files_are_read_only(world: World) {
    let mut job = world.script(
        "cat file; for place in . /usr /etc /opt /var /dev / /usr/bin; do \
         touch $place/new 2>&1 | grep -c 'Read-only file system'; done; echo > file; chmod 777 file",
    );
    job.code = world.code(&[("file", 0o644, "content\n")]);
    let code = job.code.clone();
    let outcome = world.run(job).await;
    assert!(outcome.output.starts_with("content\n1\n1\n1\n1\n1\n1\n1\n1\n"), "{}", outcome.output);
    assert_eq!(outcome.exit, Exit::Code(1));
    assert_eq!(std::fs::read_to_string(code.join("file")).unwrap(), "content\n");
}

async fn tmp_is_its_own(world: World) {
    let first = world
        .sh("ls -A /tmp | wc -l; echo mine > /tmp/file && cat /tmp/file; cp /bin/true /tmp && /tmp/true")
        .await;
    assert_eq!((first.exit, first.output.as_str()), (Exit::Code(0), "0\nmine\n"));
    let second = world
        .sh("ls -A /tmp; ls -A /dev/shm; mkdir /tmp/a && echo ok > /dev/shm/x && stat -c '%a %u' /tmp")
        .await;
    assert_eq!((second.exit, second.output.as_str()), (Exit::Code(0), "1777 993\n"));
    // 8 MiB and 2,048 inodes.
    let full = world.sh("head -c 9M /dev/zero > /tmp/file; stat -c %s /tmp/file").await;
    assert!(full.output.contains("No space left") && full.output.ends_with("\n8388608\n"), "{}", full.output);
    let many = world
        .sh("mkdir /tmp/d; cd /tmp/d; for i in $(seq 3000); do touch $i || break; done; ls | wc -l")
        .await;
    let made: u32 = many.output.lines().last().unwrap().parse().unwrap();
    assert!((2000..2048).contains(&made), "{}", many.output);
}

async fn sees_nothing_of_the_host(world: World) {
    let data = world.data();
    let script = format!(
        "ls -A /; seen=$(ls /proc); echo \"$seen\" | grep -cE '^[0-9]+$'; test -e {0} || echo no data; test -e /etc/shadow || echo no shadow; \
         ls /sys /root 2>/dev/null; grep -c . /proc/self/mounts; ls /dev | tr '\\n' ' '",
        data.display()
    );
    let outcome = world.sh(&script).await;
    let top: Vec<_> = outcome.output.lines().take_while(|line| line.parse::<u32>().is_err()).collect();
    for name in &top {
        let expected = [
            "bin", "dev", "etc", "home", "lib", "lib32", "lib64", "libx32", "mnt", "opt", "proc", "run",
            "sbin", "tmp", "usr", "var",
        ];
        assert!(expected.contains(name), "{name}");
    }
    // Pid 1, the shell and `ls`.
    assert!(outcome.output.contains("\n3\nno data\nno shadow\n"), "{}", outcome.output);
    let devices = "fd full null random shm stderr stdin stdout urandom zero ";
    assert!(outcome.output.ends_with(devices), "{}", outcome.output);
    // Of the host's mounts, those that are shown and no other.
    let mounts = world.sh("cut -d' ' -f2 /proc/self/mounts | sort -u").await.output;
    for place in mounts.lines() {
        let ours = ["/", "/proc", "/tmp", "/dev/shm", "/var/task", "/bin", "/sbin"];
        let shown = ["/usr", "/etc/", "/dev/", "/lib", "/proc/"];
        assert!(ours.contains(&place) || shown.iter().any(|prefix| place.starts_with(prefix)), "{place}");
    }
}

async fn pid_1_cannot_be_touched(world: World) {
    let outcome = world
        .sh("cat /proc/1/comm; cat /proc/1/environ /proc/1/maps 2>&1 | grep -c denied; ls /proc/1/fd /proc/1/root 2>&1 | \
             grep -c denied; tr -d '\\0' < /proc/1/cmdline; echo; (kill -9 1; kill -TERM 1; kill -STOP 1) 2>/dev/null; echo alive")
        .await;
    assert_eq!(outcome.output, "virga-init\n2\n2\nvirga-launcher\nalive\n");
    let limits = "import resource\ntry:\n  resource.prlimit(1, resource.RLIMIT_NOFILE, (0, 0))\n  print('changed')\n\
                  except PermissionError: print('refused')\n";
    assert_eq!(world.run(world.python(limits)).await.output, "refused\n");
}

async fn pid_1_is_closed_from_the_start(world: World) {
    // Its memory is a copy of the launcher's. The first thing that the program does is to try.
    let attempt = "exec 3<>/proc/1/mem && echo open";
    for _ in 0..8 {
        let runs = (0..16).map(|_| world.sh(attempt));
        for outcome in futures_util::future::join_all(runs).await {
            assert!(!outcome.output.contains("open\n"), "{}", outcome.output);
        }
    }
}

async fn finds_what_programs_need(world: World) {
    let outcome = world
        .sh("getent hosts localhost | tr -s ' '; getent passwd 993; test -c /dev/null && echo x > /dev/null && \
             head -c 4 /dev/urandom | wc -c; echo piped | cat /dev/stdin; date +%Z > /dev/null && echo dated; \
             for link in /etc/alternatives/*; do target=$(readlink -f $link); test -e $target || echo $link; done | grep -v /usr/share/man | head -3")
        .await;
    assert!(
        outcome.output.starts_with(
            "127.0.0.1 localhost virga\nsandbox:x:993:993::/tmp:/sbin/nologin\n4\npiped\ndated\n"
        ),
        "{}",
        outcome.output
    );
    let certificates = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];
    let here: Vec<_> = certificates.into_iter().filter(|path| std::path::Path::new(path).exists()).collect();
    for path in here {
        let outcome = world.sh(&format!("grep -c BEGIN {path}")).await;
        assert_eq!(outcome.exit, Exit::Code(0), "{path}: {}", outcome.output);
    }
}

async fn mounts_appear_read_only(world: World) {
    let folder = world.code(&[("inner", 0o644, "of a folder\n")]);
    let file = world.data().join("single");
    write(&file, 0o644, b"of a file\n");
    let mut job = world
        .script("cat /opt/some/where/inner /opt/file /usr/share/doc/inner; echo x > /opt/some/where/inner");
    let to = |host: &PathBuf, inside: &str| Mount { host: host.clone(), inside: inside.into() };
    job.mounts = vec![to(&folder, "/opt/some/where"), to(&file, "/opt/file"), to(&folder, "/usr/share/doc")];
    let outcome = world.run(job).await;
    assert!(outcome.output.starts_with("of a folder\nof a file\nof a folder\n"), "{}", outcome.output);
    assert!(outcome.output.contains("Read-only file system"), "{}", outcome.output);
    // Another jail sees the name, never what was there.
    let other = world.sh("ls -A /opt/some/where").await;
    assert_eq!(other.output, "");
    let mut job = world.script("true");
    job.mounts = vec![to(&folder, "/usr/no/such/place")];
    assert!(world.spawn(job).await.is_err());
}

async fn has_loopback_only(world: World) {
    let outcome = world
        .sh("tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '; tail -n +2 /proc/net/route | wc -l; \
             bash -c 'echo > /dev/tcp/192.0.2.1/80' 2>&1 | grep -om1 'Network is unreachable'; \
             bash -c 'echo > /dev/tcp/127.0.0.1/9' 2>&1 | grep -om1 'Connection refused'")
        .await;
    assert_eq!(outcome.output, "lo\n0\nNetwork is unreachable\nConnection refused\n");
}

/// A job in an image with a few programs of the host and what they load.
fn in_image(world: &World, script: &str) -> Job {
    let root = world.code(&[("secret", 0o644, "the image's own\n")]);
    for folder in ["proc", "dev", "tmp", "srv", "bin"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    for program in ["sh", "ls", "cat", "id", "touch", "mkdir", "readlink"] {
        let found = ["/usr/bin", "/bin"].map(|folder| Path::new(folder).join(program));
        let host = found.into_iter().find(|path| path.exists()).unwrap();
        copy(&host, &root.join("bin").join(program));
        let listed = std::process::Command::new("ldd").arg(&host).output().unwrap().stdout;
        for library in
            String::from_utf8(listed).unwrap().split_whitespace().filter(|word| word.starts_with('/'))
        {
            copy(Path::new(library), &root.join(&library[1..]));
        }
    }
    let mut job = world.script(script);
    job.code = root;
    job.root = Some(Root { folder: "/srv".to_owned(), user: None });
    job.env = vec![("PATH".to_owned(), "/bin".to_owned())];
    job
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    std::fs::copy(from, to).unwrap();
}

async fn an_image_is_the_whole_of_what_is_seen(world: World) {
    let script = "pwd; cat /secret; ls /; id -u; ls /usr/share /etc /var 2>/dev/null; \
                  touch /new /srv/new 2>/dev/null || echo read-only; touch /tmp/new && ls /tmp; \
                  cat /dev/null && ls /dev/shm && touch /dev/shm/x && ls /proc/self/exe";
    let outcome = world.run(in_image(&world, script)).await;
    let lines: Vec<&str> =
        outcome.output.lines().filter(|line| !line.starts_with("lib") && *line != "usr").collect();
    let expect = [
        "/srv",
        "the image's own",
        "bin",
        "dev",
        "proc",
        "secret",
        "srv",
        "tmp",
        "993",
        "read-only",
        "new",
        "/proc/self/exe",
    ];
    assert_eq!(lines, expect, "{}", outcome.output);
}

async fn an_image_leads_nowhere_else(world: World) {
    let script = "cd /; cd ../../../..; ls; cat /proc/1/root/etc/passwd /proc/self/root/../etc/passwd; ls /proc/1/cwd/; \
                  mkdir /proc/sys/x; readlink /proc/self/root; cat /proc/self/mountinfo";
    let outcome = world.run(in_image(&world, script)).await;
    let seen = &outcome.output;
    assert!(!seen.contains("sandbox:x") && !seen.contains("nsswitch"), "{seen}");
    // Only what the image has: its root, and what is mounted in it.
    for line in seen.lines().filter(|line| line.contains(" - ")) {
        let place = line.split(' ').nth(4).unwrap();
        let own =
            ["/", "/tmp"].contains(&place) || ["/proc", "/dev"].iter().any(|own| place.starts_with(own));
        assert!(own, "{line}");
        assert!(place != "/" || line.contains(" ro,nosuid,nodev"), "{line}");
    }
    let script = "while read name value; do echo \"$name$value\"; done < /proc/self/status";
    let outcome = world.run(in_image(&world, script)).await;
    for expect in ["CapEff:0000000000000000", "CapBnd:0000000000000000", "NoNewPrivs:1", "Seccomp:2"] {
        assert!(outcome.output.contains(expect), "{expect}: {}", outcome.output);
    }
}

async fn an_images_user_is_shown(world: World) {
    let script = "id -u; id -g; touch /tmp/x && ls -n /tmp/x | { read a b user group rest; echo $user $group; }; \
                  touch /bin/x; mkdir /proc/sys/x; while read name value; do echo \"$name$value\"; done < /proc/self/status";
    let mut job = in_image(&world, script);
    job.root = Some(Root { folder: "/".to_owned(), user: Some((1234, 5678)) });
    let outcome = world.run(job).await;
    let seen = &outcome.output;
    assert!(seen.starts_with("1234\n5678\n1234 5678\n"), "{seen}");
    assert!(seen.contains("/bin/x': Read-only file system"), "{seen}");
    for expect in
        ["CapPrm:0000000000000000", "CapEff:0000000000000000", "CapBnd:0000000000000000", "Seccomp:2"]
    {
        assert!(seen.contains(expect), "{expect}: {seen}");
    }
    let mut job = in_image(&world, "true");
    job.root = Some(Root { folder: "/".to_owned(), user: Some((0, 0)) });
    assert!(world.spawn(job).await.is_err(), "nothing runs as root");
}
