//! How much memory a process took at most: for tests of what a hostile peer can make it take.

use std::fs;

/// Watches this process's memory from here on. A test that uses it shares its process with no other that runs meanwhile.
#[derive(Debug)]
pub struct Peak {
    resident_kib: u64,
}

impl Peak {
    /// Forgets the peak so far. `None` where the system does not say (it is Linux's `/proc` that does).
    #[must_use]
    pub fn watch() -> Option<Self> {
        fs::write("/proc/self/clear_refs", "5").ok()?;
        Some(Self { resident_kib: status("VmRSS:")? })
    }

    /// By how much the resident memory grew at most since then, MiB.
    #[must_use]
    pub fn grown_mib(&self) -> u64 {
        status("VmHWM:").unwrap_or(u64::MAX).saturating_sub(self.resident_kib) / 1024
    }
}

fn status(name: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    text.lines().find_map(|line| line.strip_prefix(name))?.trim().strip_suffix(" kB")?.trim().parse().ok()
}
