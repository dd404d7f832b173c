//! Starts one jail for real, before anybody asks: what the report says was done, not guessed.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use base::InstanceId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags};

use super::host::{HostReport, Status};
use super::launcher::Process;
use super::seccomp::ProgramClass;
use super::start::{self, Plan};
use super::wire::{self, Cause, FromJail, Received};
use super::{Beginning, Job};
use crate::Limits;

/// For each step; a host that needs longer is not fit.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tries. `Some`: nothing can be started, and why.
pub(super) fn run(process: &Process, report: &mut HostReport) -> Option<String> {
    let names = "user, mount, pid, ipc, uts and net namespaces, seccomp (calls of connect told), no_new_privs, no capabilities";
    match attempt(process) {
        Ok(()) => {
            report.add("isolation", Status::Ok, format!("{names}: a program was started under all of them"));
            None
        }
        Err(why) => {
            let text = format!("processes cannot be isolated here: {why}");
            report.add("isolation", Status::Missing, text.clone());
            Some(text)
        }
    }
}

fn attempt(process: &Process) -> Result<(), String> {
    let job = job();
    let text = |error: crate::Error| error.to_string();
    let name = job.instance.as_str();
    let plan = Plan::new(name, &job).map_err(text)?;
    let (channel, init) = start::channel().map_err(text)?;
    let (output, output_end) = start::output_pipe().map_err(text)?;
    let text = |error: std::io::Error| error.to_string();
    let preparing = start::preparing(name).map_err(|error| error.to_string())?;
    process.send(&preparing, &[init.as_fd()]).map_err(text)?;
    process.send(&plan.furnishing, &[]).map_err(text)?;
    let descriptors = [plan.peak.as_fd(), output_end.as_fd()];
    wire::send_bytes(&channel, &plan.job, &descriptors, SendFlags::DONTWAIT).map_err(text)?;
    // Or its end would never be seen.
    drop((init, output_end));
    let mut outcome = Err("pid 1 ended before it started the program".to_owned());
    loop {
        let timeout = Timespec::try_from(PATIENCE).ok();
        let ready = poll(&mut [PollFd::new(&channel, PollFlags::IN)], timeout.as_ref());
        if !ready.is_ok_and(|count| count > 0) {
            return Err("starting a program takes too long".to_owned());
        }
        match wire::receive(channel.as_fd(), wire::REPLY_LIMIT, RecvFlags::DONTWAIT) {
            Ok(Received::Message(FromJail::Started, _)) => outcome = Ok(()),
            // As far as `execve`: everything that isolates was in force.
            Ok(Received::Message(FromJail::Failed(failure), _)) if failure.cause == Cause::Entrypoint => {
                outcome = Ok(());
            }
            Ok(Received::Message(FromJail::Failed(failure), _)) => outcome = Err(failure.text()),
            Ok(Received::Message(FromJail::Ended { .. }, _) | Received::Closed) => {
                drop(output);
                return outcome;
            }
            Ok(Received::Message(_, _)) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}

fn job() -> Job {
    Job {
        instance: InstanceId::random(),
        argv: vec!["/bin/true".to_owned()],
        env: Vec::new(),
        class: ProgramClass::Interpreter,
        code: PathBuf::from("/usr/share"),
        root: None,
        mounts: Vec::new(),
        layered: Vec::new(),
        shared: Vec::new(),
        limits: Limits {
            memory_bytes: 64 << 20,
            cpu_hundredths: Some(100),
            tmp_bytes: 1 << 20,
            pids: 16,
            answer_bytes: 0,
        },
        // As functions have.
        way_out: true,
        listen: Vec::new(),
        beginning: Beginning::Executed,
    }
}
