//! CPU time and memory of a process, as Linux reports them.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result};
use rustix::param::clock_ticks_per_second;

/// The CPU time of the process so far, all of its threads, user and system together. To a hundredth of a second.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("can't read {path}"))?;
    let ticks = ticks(&stat).with_context(|| format!("{path} isn't as expected"))?;
    Ok(Duration::from_secs_f64(ticks as f64 / clock_ticks_per_second() as f64))
}

/// The CPU time of the threads that the process has now. Finer than [`cpu_time`], for what is over soon; where the kernel
/// doesn't count it, that one.
pub fn scheduled_time(pid: u32) -> Result<Duration> {
    if !Path::new(&format!("/proc/{pid}/schedstat")).exists() {
        return cpu_time(pid);
    }
    let dir = format!("/proc/{pid}/task");
    let mut nanoseconds = 0;
    for thread in fs::read_dir(&dir).with_context(|| format!("can't read {dir}"))? {
        // A thread may end between being listed and being read: its file is gone, or can't be read any more.
        let Ok(stat) = thread.and_then(|thread| fs::read_to_string(thread.path().join("schedstat"))) else { continue };
        let on_cpu = stat.split_ascii_whitespace().next().and_then(|field| field.parse::<u64>().ok());
        nanoseconds += on_cpu.with_context(|| format!("{dir} isn't as expected"))?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// The memory of the process that is in RAM, in bytes.
pub fn resident_memory(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("can't read {path}"))?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
    let kib: u64 = kib.with_context(|| format!("{path} isn't as expected"))?;
    Ok(kib * 1024)
}

/// `utime` and `stime` of proc_pid_stat(5). The command's name may hold anything, so they are counted from its end.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_may_have_any_name() {
        let stat = "42 (a) (b c) S 1 42 42 0 -1 4194304 100 0 0 0 250 30 0 0 20 0 1 0 12345";

        assert_eq!(ticks(stat), Some(280));
        assert_eq!(ticks("42 (cut off"), None);
    }

    #[test]
    fn this_process_has_used_something() {
        assert!(cpu_time(std::process::id()).is_ok());
        let threads_that_end = std::thread::spawn(|| (0..200).for_each(|_| drop(std::thread::spawn(|| ()).join())));
        while !threads_that_end.is_finished() {
            assert!(scheduled_time(std::process::id()).is_ok());
        }
        assert!(resident_memory(std::process::id()).unwrap() > 0);
    }
}
