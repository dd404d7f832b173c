//! Whether an instance has calls, and whether it is suspended: never both.
//!
//! A call marks itself with one atomic addition; only one that finds the instance suspended, and whoever suspends,
//! take the lock. So a call that comes while the instance is being suspended waits for that to be done and undoes it.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

/// The bit of the state that says suspended, or about to be; the others count calls.
const SUSPENDED: u32 = 1 << 31;

/// The state of one instance.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    state: AtomicU32,
    /// Held while the processes are suspended or resumed.
    turn: Mutex<()>,
}

/// A call under way.
#[derive(Debug)]
pub(crate) struct UnderWay<'a>(&'a Activity);

impl Activity {
    /// Marks the beginning of a call; `resume` is called where the instance is suspended.
    pub(crate) fn begin(&self, resume: impl FnOnce() -> io::Result<()>) -> io::Result<UnderWay<'_>> {
        let before = self.state.fetch_add(1, Ordering::AcqRel);
        let call = UnderWay(self);
        if before & SUSPENDED != 0 {
            let _turn = self.turn.lock();
            // Another call may have been first.
            if self.state.load(Ordering::Acquire) & SUSPENDED != 0 {
                resume()?;
                self.state.fetch_and(!SUSPENDED, Ordering::AcqRel);
            }
        }
        Ok(call)
    }

    /// Calls `suspend` unless a call is under way or the instance is suspended already.
    pub(crate) fn suspend(&self, suspend: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let _turn = self.turn.lock();
        if self.state.compare_exchange(0, SUSPENDED, Ordering::AcqRel, Ordering::Acquire).is_err() {
            return Ok(());
        }
        let done = suspend();
        if done.is_err() {
            self.state.fetch_and(!SUSPENDED, Ordering::AcqRel);
        }
        done
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.state.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use super::*;

    #[test]
    fn an_idle_instance_is_suspended_once_and_resumed_by_a_call() {
        let (activity, count) = (Activity::default(), AtomicU32::new(0));
        let counted = || {
            count.fetch_add(1, Ordering::Relaxed);
            Ok(())
        };
        activity.suspend(counted).unwrap();
        activity.suspend(counted).unwrap();
        assert_eq!(count.load(Ordering::Relaxed), 1);
        let first = activity.begin(counted).unwrap();
        let second = activity.begin(counted).unwrap();
        assert_eq!(count.load(Ordering::Relaxed), 2);
        drop(first);
        activity.suspend(counted).unwrap();
        assert_eq!(count.load(Ordering::Relaxed), 2, "a call is under way");
        drop(second);
        activity.suspend(counted).unwrap();
        assert_eq!(count.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn what_fails_can_be_tried_again() {
        let activity = Activity::default();
        let broken = || Err(io::ErrorKind::Other.into());
        activity.suspend(broken).unwrap_err();
        activity.begin(|| panic!("it is not suspended")).unwrap();
        activity.suspend(|| Ok(())).unwrap();
        activity.begin(broken).unwrap_err();
        let mut resumed = false;
        activity
            .begin(|| {
                resumed = true;
                Ok(())
            })
            .unwrap();
        assert!(resumed, "the call that failed to resume it left no trace");
    }

    #[test]
    fn no_call_runs_while_suspended() {
        let (activity, suspended) = (Activity::default(), AtomicBool::new(false));
        let set = |value| {
            suspended.store(value, Ordering::SeqCst);
            Ok(())
        };
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let call = activity.begin(|| set(false)).unwrap();
                        assert!(!suspended.load(Ordering::SeqCst));
                        drop(call);
                    }
                });
            }
            scope.spawn(|| {
                for _ in 0..20_000 {
                    activity.suspend(|| set(true)).unwrap();
                }
            });
        });
    }
}
