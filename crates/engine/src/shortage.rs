//! What this machine lacks itself: a failure of ours that looks like the other side's.

use std::fs::File;
use std::io;

/// No memory, no descriptor in the system, none in this process: the same numbers on every Unix.
const EVERYWHERE: [i32; 3] = [12, 23, 24];

/// No buffer for a socket.
const ENOBUFS: i32 = if cfg!(target_os = "linux") { 105 } else { 55 };

/// Whether something could not be opened or connected because this process or machine is short of descriptors or memory.
pub fn is_ours(error: &io::Error) -> bool {
    match error.raw_os_error() {
        Some(code) => is_shortage(code),
        // A name that is looked up without a free descriptor is "temporarily not known", in words without a number.
        None => File::open("/").is_err_and(|error| error.raw_os_error().is_some_and(is_shortage)),
    }
}

fn is_shortage(code: i32) -> bool {
    EVERYWHERE.contains(&code) || code == ENOBUFS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_other_side_does_is_no_shortage_of_ours() {
        for code in [12, 23, 24, ENOBUFS] {
            let error = io::Error::from_raw_os_error(code);
            assert!(is_ours(&error), "{error}");
        }
        // Refused, reset, timed out, no route, address in use, address not available.
        for code in [111, 104, 110, 113, 98, 99] {
            let error = io::Error::from_raw_os_error(code);
            assert!(!is_ours(&error), "{error}");
        }
        assert!(!is_ours(&io::Error::other("failed to lookup address information")));
    }
}
