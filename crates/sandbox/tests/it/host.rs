//! What the host sees: users, groups, and what is left when servers die.
//!
//! Servers that die are processes of their own: this binary in the role `serve`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::task::Poll;
use std::time::{Duration, Instant};

use base::InstanceId;
use rustix::process::{Pid, Resource, Rlimit, Signal};
use sandbox::process::jail::{BootJob, Launcher, MissingLimits, Status};
use sandbox::{Error, StartError};

use crate::case;
use crate::world::{self, Case, PATIENCE, World, children, groups_named, lines_of, processes_with, until};

pub(crate) const CASES: &[Case] = &[
    case!(each_instance_has_its_user, needs_root),
    case!(the_launcher_is_apart_from_the_server),
    case!(the_report_says_what_is_held),
    case!(missing_limits_can_be_refused),
    case!(a_second_thread_is_refused),
    case!(a_killed_server_leaves_nothing),
    case!(a_killed_launcher_takes_its_jails_along),
    case!(a_launcher_killed_during_a_start_is_why_it_fails),
    case!(a_new_server_removes_what_is_left),
    case!(what_waits_dies_with_its_server),
    case!(shutdown_leaves_nothing),
    case!(a_launcher_without_room_for_descriptors_goes_on),
];

async fn each_instance_has_its_user(world: World) {
    let token = world.token();
    let first = world.spawn(world.script(&format!("exec sleep {token}"))).await.unwrap();
    let second = world.spawn(world.script(&format!("exec sleep {token}"))).await.unwrap();
    until(PATIENCE, || processes_with(&token).len() == 2).await;
    let mut users: Vec<u32> = processes_with(&token).into_iter().map(user_of).collect();
    users.dedup();
    assert!(users.len() == 2 && users.iter().all(|user| *user >= 2_000_000_000), "{users:?}");
    first.kill().await;
    second.kill().await;
}

fn user_of(pid: u32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

async fn the_launcher_is_apart_from_the_server(world: World) {
    let server = Server::start(&world, "serve");
    let launcher = server.launcher();
    // Ctrl-C goes to the terminal's process group; a service manager's TERM to everybody.
    let group = rustix::process::getpgid(Pid::from_raw(launcher as i32)).unwrap();
    assert_eq!(group.as_raw_nonzero().get() as u32, launcher);
    kill(launcher, Signal::TERM);
    kill(launcher, Signal::INT);
    until(PATIENCE, || processes_with(&server.token).len() == 1).await;
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{launcher}/{file}")).unwrap_or_default();
    assert_eq!(read("comm"), "virga-launcher\n");
    assert_eq!(read("cmdline").trim_end_matches('\0'), "virga-launcher");
    assert!(!read("environ").contains(SECRET), "the server's environment is gone");
    server.end();
}

async fn the_report_says_what_is_held(world: World) {
    let report = world.launcher.report();
    assert!(report.usable());
    let status = |name: &str| report.checks.iter().find(|check| check.name == name).unwrap().status;
    assert_eq!(status("isolation"), Status::Ok);
    assert_eq!(status("process limit"), Status::Ok);
    // An ordinary user has control groups only where they were delegated.
    let held = if world.root { vec![Status::Ok] } else { vec![Status::Ok, Status::Degraded] };
    for limit in ["memory limit", "cpu limit"] {
        assert!(held.contains(&status(limit)), "{limit}");
        assert_eq!(report.complete(), status(limit) == Status::Ok);
    }
}

async fn missing_limits_can_be_refused(world: World) {
    let mut server = Server::command(&world, "strict");
    let output = server.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    if world.has_groups() {
        assert!(text.contains("started"), "{text}");
    } else {
        assert!(text.contains("refused") && text.contains("cpu limit"), "{text}");
    }
}

async fn a_second_thread_is_refused(world: World) {
    let error =
        Launcher::start(&world.data().join("other"), MissingLimits::Degrade).err().expect("it started");
    assert!(matches!(&error, Error::Unavailable(text) if text.contains("thread")), "{error}");
}

async fn a_killed_server_leaves_nothing(world: World) {
    let bystander = Server::start(&world, "serve");
    let server = Server::start(&world, "serve");
    let launcher = server.launcher();
    kill(server.child.id(), Signal::KILL);
    until(PATIENCE, || gone(launcher) && server.is_clean()).await;
    until(PATIENCE, || processes_with(&bystander.token).len() == 1).await;
    server.end();
    bystander.end();
}

async fn a_killed_launcher_takes_its_jails_along(world: World) {
    let server = Server::start(&world, "serve");
    let launcher = server.launcher();
    // `up` comes before the program is what it will be.
    until(PATIENCE, || processes_with(&server.token).len() == 1).await;
    kill(launcher, Signal::KILL);
    until(PATIENCE, || gone(launcher) && processes_with(&server.token).is_empty()).await;
    // The server says so when it next starts one.
    kill(server.child.id(), Signal::USR1);
    assert_eq!(server.line(), "asked");
    let text = server.line();
    assert!(text.contains("launcher has ended"), "{text}");
    server.end();
}

async fn a_launcher_killed_during_a_start_is_why_it_fails(world: World) {
    let server = Server::start(&world, "serve");
    let launcher = server.launcher();
    // Stopped, it takes no request before it dies.
    kill(launcher, Signal::STOP);
    kill(server.child.id(), Signal::USR1);
    assert_eq!(server.line(), "asked");
    kill(launcher, Signal::KILL);
    let text = server.line();
    assert!(text.contains("launcher has ended"), "{text}");
    server.end();
}

async fn a_new_server_removes_what_is_left(world: World) {
    let bystander = Server::start(&world, "serve");
    let mut first = Server::start(&world, "serve");
    let launcher = first.launcher();
    // Stopped, it cannot tidy up between the two.
    kill(launcher, Signal::STOP);
    kill(first.child.id(), Signal::KILL);
    first.child.wait().unwrap();
    kill(launcher, Signal::KILL);
    until(PATIENCE, || gone(launcher)).await;
    if world.has_groups() {
        assert!(!groups_named(&first.instance).is_empty(), "nothing was left to be removed");
    }
    let second = Server::start_at(&world, "serve", &first.data);
    assert_eq!(groups_named(&first.instance).len(), 0);
    assert_eq!(processes_with(&first.token), Vec::<u32>::new());
    until(PATIENCE, || processes_with(&second.token).len() == 1).await;
    until(PATIENCE, || processes_with(&bystander.token).len() == 1).await;
    second.end();
    bystander.end();
}

async fn what_waits_dies_with_its_server(world: World) {
    for dies in ["server", "launcher", "both"] {
        let mut server = Server::start(&world, "ahead");
        let launcher = server.launcher();
        // One runs a program, one waits, one waits with a runtime.
        let inits = children(launcher);
        assert_eq!(inits.len(), 3, "{inits:?}");
        let booted: Vec<u32> = inits.iter().flat_map(|init| children(*init)).collect();
        assert_eq!(booted.len(), 2, "{booted:?}");
        let folders = groups_named(&server.instance);
        let folders: Vec<_> = folders.iter().filter_map(|group| group.parent()).collect();
        assert_eq!(!folders.is_empty(), world.has_groups());
        match dies {
            "server" => kill(server.child.id(), Signal::KILL),
            "launcher" => kill(launcher, Signal::KILL),
            _ => {
                kill(launcher, Signal::STOP);
                kill(server.child.id(), Signal::KILL);
                server.child.wait().unwrap();
                kill(launcher, Signal::KILL);
            }
        }
        until(PATIENCE, || inits.iter().chain(&booted).all(|pid| gone(*pid))).await;
        if dies != "server" {
            // Its successor finds the groups.
            Server::start_at(&world, "serve", &server.data).end();
        }
        let left = || folders.iter().flat_map(std::fs::read_dir).flatten().flatten();
        until(PATIENCE, || left().filter(|entry| entry.path().is_dir()).count() == 0).await;
        server.end();
    }
}

async fn shutdown_leaves_nothing(world: World) {
    let server = Server::start(&world, "serve");
    let launcher = server.launcher();
    kill(server.child.id(), Signal::USR2);
    assert_eq!(server.line(), "shut down");
    assert!(gone(launcher) && server.is_clean());
    server.end();
}

async fn a_launcher_without_room_for_descriptors_goes_on(world: World) {
    let token = world.token();
    let mut jail = world.spawn(world.script(&format!("echo up; exec sleep {token}"))).await.unwrap();
    let _output = lines_of(&mut jail, "up").await;
    let launcher = Pid::from_raw(world.launcher_pid() as i32).unwrap();
    let open = std::fs::read_dir(format!("/proc/{}/fd", world.launcher_pid())).unwrap().count() as u64;
    let limit = |files: Option<u64>| {
        let old = rustix::process::getrlimit(Resource::Nofile).maximum;
        let limit = Rlimit { current: files.or(old), maximum: old };
        rustix::process::prlimit(Some(launcher), Resource::Nofile, limit).unwrap();
    };
    for files in 4..open + 16 {
        limit(Some(files));
        // One that has all it takes starts.
        drop(world.spawn(world.script("exit 0")).await);
    }
    limit(None);
    assert_eq!(world.sh("exit 5").await.exit, sandbox::Exit::Code(5));
    assert_eq!(processes_with(&token).len(), 1, "the others live");
    jail.kill().await;
}

fn kill(pid: u32, signal: Signal) {
    rustix::process::kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
}

fn gone(pid: u32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists() || world::is_zombie(pid)
}

/// In the environment of every server that these tests start.
const SECRET: &str = "not-for-the-launcher";

/// A server in a process of its own, with one jail.
struct Server {
    child: Child,
    lines: std::sync::Mutex<BufReader<ChildStdout>>,
    token: String,
    instance: String,
    data: std::path::PathBuf,
}

impl Server {
    fn command(world: &World, role: &str) -> Command {
        let mut command = Command::new("/proc/self/exe");
        let data = world.data().join(format!("server-{}", InstanceId::random()));
        command.args(["--role", role]).arg(data).arg(world.token()).env("VIRGA_TEST_SECRET", SECRET);
        command
    }

    fn start(world: &World, role: &str) -> Self {
        Self::start_at(world, role, &world.data().join(format!("server-{}", InstanceId::random())))
    }

    fn start_at(world: &World, role: &str, data: &Path) -> Self {
        let token = world.token();
        let mut child = Command::new("/proc/self/exe")
            .args(["--role", role])
            .arg(data)
            .arg(&token)
            .env("VIRGA_TEST_SECRET", SECRET)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).into();
        let mut server = Self { child, lines, token, instance: String::new(), data: data.to_owned() };
        let line = server.line();
        server.instance = line.strip_prefix("up ").unwrap_or_else(|| panic!("{line}")).to_owned();
        server
    }

    fn line(&self) -> String {
        let mut line = String::new();
        self.lines.lock().unwrap().read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn launcher(&self) -> u32 {
        let children = children(self.child.id());
        assert_eq!(children.len(), 1, "{children:?}");
        children[0]
    }

    /// Nothing of its jail is left.
    fn is_clean(&self) -> bool {
        processes_with(&self.token).is_empty() && groups_named(&self.instance).is_empty()
    }

    fn end(self) {
        drop(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The other side: what this binary does with `--role`.
pub(crate) fn play(arguments: &[String]) -> ExitCode {
    let [role, data, token] = arguments else { return ExitCode::FAILURE };
    let missing = if role == "strict" { MissingLimits::Refuse } else { MissingLimits::Degrade };
    let launcher = Launcher::start(Path::new(data), missing).unwrap();
    if role == "report" {
        launcher.report().checks.iter().for_each(|check| println!("{check:?}"));
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    match role.as_str() {
        "bench" => runtime.block_on(bench(launcher, Path::new(data))),
        _ => runtime.block_on(serve(launcher, Path::new(data), token)),
    }
    ExitCode::SUCCESS
}

async fn serve(launcher: Launcher, data: &Path, token: &str) {
    use tokio::signal::unix::{SignalKind, signal};
    let mut again = signal(SignalKind::user_defined1()).unwrap();
    let mut end = signal(SignalKind::user_defined2()).unwrap();
    let job = world::job(data, &format!("echo up; exec sleep {token}"));
    let instance = job.instance.clone();
    let mut jail = match launcher.spawn(job.clone()).await {
        Ok(jail) => jail,
        Err(StartError::Sandbox(error)) => return println!("refused: {error}"),
        Err(error) => return println!("failed: {error}"),
    };
    let _output = lines_of(&mut jail, "up").await;
    let _ahead = if std::env::args().any(|argument| argument == "ahead") {
        let (waits, mut booted) = (launcher.prepare().await.unwrap(), launcher.prepare().await.unwrap());
        booted
            .boot(BootJob { argv: job.argv.clone(), env: Vec::new(), mounts: Vec::new(), way_out: false })
            .await
            .unwrap();
        Some((waits, booted))
    } else {
        None
    };
    if std::env::args().any(|argument| argument == "strict") {
        return println!("started");
    }
    println!("up {instance}");
    loop {
        tokio::select! {
            _ = again.recv() => {
                let mut starting = launcher.spawn(job.clone());
                let first = std::future::poll_fn(|cx| Poll::Ready(starting.as_mut().poll(cx))).await;
                println!("asked");
                let started = match first {
                    Poll::Ready(started) => started,
                    Poll::Pending => starting.await,
                };
                println!("{}", started.map_or_else(|error| error.to_string(), |_| "started again".to_owned()));
            }
            _ = end.recv() => {
                launcher.shutdown();
                println!("shut down");
            }
        }
    }
}

/// The role `bench`, for people: `it --role bench DIR x` prints what a jail around `/bin/true` costs.
async fn bench(launcher: Launcher, data: &Path) {
    for way_out in [false, true] {
        println!("with a way out: {way_out}");
        bench_with(&launcher, data, way_out).await;
    }
}

async fn bench_with(launcher: &Launcher, data: &Path, way_out: bool) {
    let mut job = world::job(data, "");
    job.way_out = way_out;
    job.argv = vec!["/bin/true".to_owned()];
    // Real-time processes, which measure best on a busy host, cannot join a cpu group of version 1.
    job.limits.cpu_hundredths = None;
    let once = || async {
        let mut job = job.clone();
        job.instance = InstanceId::random();
        let start = Instant::now();
        let jail = launcher.spawn(job).await.unwrap();
        let started = start.elapsed();
        jail.exited().await;
        (started, start.elapsed())
    };
    let say = |what: &str, mut times: Vec<Duration>| {
        times.sort();
        println!(
            "{what}: least {:?}, median {:?}, 99th of 100 {:?}",
            times[0],
            times[times.len() / 2],
            times[times.len() * 99 / 100]
        );
    };
    let mut times = Vec::new();
    for _ in 0..200 {
        times.push(once().await);
    }
    say("one by one, to execve", times.iter().map(|(started, _)| *started).collect());
    say("one by one, to gone", times.iter().map(|(_, gone)| *gone).collect());
    let start = Instant::now();
    let mut times = Vec::new();
    for _ in 0..25 {
        times.extend(futures_util::future::join_all((0..8).map(|_| once())).await);
    }
    println!("eight at once: {:.0} a second", 200.0 / start.elapsed().as_secs_f64());
    say("eight at once, to execve", times.iter().map(|(started, _)| *started).collect());
}
