//! This machine: the data directory, descriptors, the clock, the kernel.

use std::error::Error;
use std::path::{Path, PathBuf};

use acemux_fleet::profile::{Platform, Variant};
use acemux_store::OpenError;
use jiff::SignedDuration;
use tokio::join;

use super::probes::Probes;
use super::report::{Finding, Outcome};
use crate::config::Config;
use crate::http::limits::Shares;
use crate::record::archive::NOWHERE;

const DATA: &str = "data";
const DESCRIPTORS: &str = "descriptors";
const CLOCK: &str = "clock";
const PAGES: &str = "page_size";

/// With fewer viewers it is no service for a household any more.
const A_HOUSEHOLD: usize = 100;
/// Clocks are set back by so much for good reasons.
const SET_BACK: SignedDuration = SignedDuration::from_mins(5);
/// Pages that every program can live with, in bytes.
const USUAL_PAGE: usize = 4096;

pub(super) async fn look(config: &Config, probes: &impl Probes) -> Vec<Finding> {
    let data = Finding::of(DATA, data(config, probes));
    let rest = async { (descriptors(config, probes), clock(probes), pages(config, probes)) };
    let (data, (descriptors, clock, pages)) = join!(data, rest);
    let rest = [(DESCRIPTORS, Some(descriptors)), (CLOCK, Some(clock)), (PAGES, pages)];
    let rest = rest.into_iter().filter_map(|(check, outcome)| Some(Finding::new(check, outcome?)));
    std::iter::once(data).chain(rest).collect()
}

/// The folder that the database lies in.
pub(crate) fn folder(config: &Config) -> Option<PathBuf> {
    if config.db_path == Path::new(NOWHERE) {
        return None;
    }
    let folder = config.db_path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    Some(std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()))
}

async fn data(config: &Config, probes: &impl Probes) -> Outcome {
    let Some(folder) = folder(config) else {
        return Outcome::fine(format!("DB_PATH={NOWHERE}: nothing is kept"));
    };
    let shown = folder.display();
    match probes.try_folder(&folder).await {
        Ok(()) => Outcome::fine(format!("{shown} can be written")),
        Err(error) => Outcome::fault(
            format!("the data directory {}", reason(&error)),
            format!(
                "let the user that acemux runs as own {shown} (`chown`), free its disk, or change DB_PATH"
            ),
        ),
    }
}

/// With its innermost cause, which says what is wrong.
fn reason(error: &OpenError) -> String {
    let mut cause: &dyn Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    format!("{error}: {cause}")
}

fn descriptors(config: &Config, probes: &impl Probes) -> Outcome {
    let (descriptors, wanted) = (probes.descriptors(), config.viewers.max);
    let viewers = Shares::of(descriptors, wanted, config.listen.max_connections).viewers;
    if viewers >= wanted {
        return Outcome::fine(format!("enough for MAX_VIEWERS={wanted}"));
    }
    let wrong = format!(
        "{descriptors} files may be open at once: that is enough for {viewers} of MAX_VIEWERS={wanted}"
    );
    let remedy = "raise the hard limit (`ulimit -Hn`, LimitNOFILE= in systemd, `ulimits: nofile` in Compose), or lower \
                  MAX_VIEWERS";
    if viewers < A_HOUSEHOLD { Outcome::fault(wrong, remedy) } else { Outcome::warning(wrong, remedy) }
}

fn clock(probes: &impl Probes) -> Outcome {
    let (now, has_been) = (probes.now(), probes.has_been());
    if now.duration_since(has_been) >= -SET_BACK {
        return Outcome::fine(format!("it is {now:.0}"));
    }
    Outcome::fault(
        format!("this machine's clock says {now:.0}, and it has been {has_been:.0} already"),
        "set the clock and keep it right (`timedatectl set-ntp true`): certificates, ages and the history depend on it",
    )
}

/// The closed engine's ARM builds are repackaged Android programs, which cannot be loaded with larger pages: they end at
/// once, again and again.
fn pages(config: &Config, probes: &impl Probes) -> Option<Outcome> {
    let (platform, page) = (probes.platform(), probes.page_size());
    let is_arm = matches!(platform, Platform::Arm64 | Platform::Arm32);
    if !config.fleet.is_docker || !is_arm {
        return None;
    }
    let variant = config.fleet.engine.variant.unwrap_or_else(|| Variant::default_for(platform));
    if page <= USUAL_PAGE || variant == Variant::Outpace {
        return Some(Outcome::fine(format!("{} KiB", page / 1024)));
    }
    Some(Outcome::fault(
        format!(
            "this kernel's memory pages have {} KiB, and the engine of ENGINE_VARIANT={} is built for 4 KiB: it ends as \
             soon as it is started",
            page / 1024,
            variant.as_str()
        ),
        "start a kernel with 4 KiB pages (on a Raspberry Pi 5 the line kernel=kernel8.img in /boot/firmware/config.txt), or \
         set ENGINE_VARIANT=outpace",
    ))
}
