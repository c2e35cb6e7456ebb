//! The simulated engine over real sockets, as a stranger sees it: nothing here uses its HTTP code or its packet code.

#![expect(clippy::unwrap_used, reason = "helpers of tests, too, report by panicking")]

mod client;
mod control;
mod faults;
mod gluetun;
mod media;
mod outpace;
mod recordings;
mod seam;
mod sessions;
mod starts;
