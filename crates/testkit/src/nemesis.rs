//! Trouble by seed: the same number gives the same trouble, so that what it finds can be found again.
//!
//! A [`Nemesis`] only decides; [`Nemesis::haunt`] does it to one engine and to the network before it, one blow after the
//! other, each with its end. Nothing that it does changes the packets themselves: a viewer that gets anything wrong got
//! it from the program.

use std::time::Duration;

use acemux_sim::{Fault, SimEngine, Target};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::{Instant, sleep};

use crate::faultproxy::{Cut, FaultProxy, How, Toxics};

/// Decides what goes wrong, and when.
#[derive(Debug)]
pub struct Nemesis {
    dice: StdRng,
}

/// One thing that goes wrong for a while.
#[derive(Clone, Debug, PartialEq)]
pub enum Blow {
    /// The engine dies and comes back afterwards.
    Crash,
    /// The engine deviates from a healthy one.
    Fault(Fault),
    /// The network before the engine does.
    Network(Toxics),
}

impl Nemesis {
    /// The same seed decides the same.
    pub fn seeded(seed: u64) -> Self {
        Self { dice: StdRng::seed_from_u64(seed) }
    }

    /// A time between these, milliseconds.
    pub fn time(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.dice.random_range(range))
    }

    /// One of so many.
    pub fn one_of(&mut self, count: usize) -> usize {
        self.dice.random_range(0..count)
    }

    /// What goes wrong next, and for how long.
    pub fn blow(&mut self) -> (Blow, Duration) {
        let lasting = self.time(200..6_000);
        let blow = match self.one_of(4) {
            0 => Blow::Crash,
            1 => Blow::Network(self.toxics()),
            _ => Blow::Fault(self.fault()),
        };
        (blow, lasting)
    }

    fn toxics(&mut self) -> Toxics {
        let after = self.dice.random_range(0..2_000_000);
        let cut = |how| Toxics { cut: Some(Cut { after, how }), ..Toxics::default() };
        match self.one_of(6) {
            0 => Toxics { latency: self.time(5..400), jitter: self.time(1..200), ..Toxics::default() },
            1 => Toxics { bandwidth: Some(self.dice.random_range(20_000..400_000)), ..Toxics::default() },
            2 => Toxics { slice: true, ..Toxics::default() },
            3 => cut(How::Reset),
            4 => cut(How::Close),
            _ => cut(How::Silence),
        }
    }

    fn fault(&mut self) -> Fault {
        let after_bytes = self.dice.random_range(0..4_000_000);
        let faults = [
            Fault::Refuse,
            Fault::HangAll,
            Fault::HangStatus,
            Fault::HangStop,
            Fault::SlowStop { ms: 700 },
            Fault::SlowStart { json_ms: 300, headers_ms: 500, first_byte_ms: 700 },
            Fault::FailedToLoad,
            Fault::StartTimeout,
            Fault::PlaybackStatus { status: 500 },
            Fault::PrebufSilent,
            Fault::HangFirstByte,
            Fault::NoPeers,
            Fault::BurstThenStall { after_bytes },
            Fault::Trickle { kbps: 400 },
            Fault::Oscillate { on_ms: 600, off_ms: 1_500 },
            Fault::Eof { after_bytes },
            Fault::Reset { after_bytes },
            Fault::MidPacketCut { after_bytes },
            Fault::Dribble,
        ];
        let which = self.one_of(faults.len());
        faults.into_iter().nth(which).expect("it is one of them")
    }

    /// Strikes one engine and its network until then, and leaves both healthy. Tells what it did.
    pub async fn haunt(mut self, engine: &SimEngine, network: &FaultProxy, until: Instant) -> Vec<String> {
        let mut diary = Vec::new();
        while Instant::now() < until {
            sleep(self.time(300..4_000)).await;
            let (blow, lasting) = self.blow();
            diary.push(format!("{blow:?} for {lasting:?}"));
            strike(&blow, engine, network, lasting).await;
        }
        diary
    }
}

async fn strike(blow: &Blow, engine: &SimEngine, network: &FaultProxy, lasting: Duration) {
    match blow {
        Blow::Crash => {
            engine.crash().await;
            sleep(lasting).await;
            engine.restart().await;
        }
        Blow::Fault(fault) => {
            engine.set_fault(Target::All, fault.clone());
            sleep(lasting).await;
            engine.clear_faults();
        }
        Blow::Network(toxics) => {
            network.set_both(*toxics);
            sleep(lasting).await;
            network.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_is_the_same_trouble_and_another_one_is_not() {
        let trouble = |seed| {
            let mut nemesis = Nemesis::seeded(seed);
            (0..50).map(|_| nemesis.blow()).collect::<Vec<_>>()
        };
        assert_eq!(trouble(7), trouble(7));
        assert_ne!(trouble(7), trouble(8));
        let kinds = trouble(7);
        assert!(kinds.iter().any(|(blow, _)| *blow == Blow::Crash));
        assert!(kinds.iter().any(|(blow, _)| matches!(blow, Blow::Network(_))));
    }
}
