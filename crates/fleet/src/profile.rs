//! How each family of engine images is fed, as data: which image it is, and how ports and flags reach the engine in it.
//! [`crate::recipe`] makes containers of it.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::allowed::Variable;
use crate::image::{ImageRef, Tag};
use crate::proxy::Proxy;

/// A family of engine images (`ENGINE_VARIANT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Variant {
    /// `ghcr.io/krinkuto11/acestream-http-proxy`.
    Krinkuto11Amd64,
    /// `jopsis/acestream:x64`.
    JopsisAmd64,
    /// `jopsis/acestream`, 32-bit ARM.
    JopsisArm32,
    /// `jopsis/acestream`, 64-bit ARM.
    JopsisArm64,
    /// `ghcr.io/krinkuto11/acestream:latest-amd64`.
    AceServeAmd64,
    /// `ghcr.io/krinkuto11/acestream:latest-arm32`.
    AceServeArm32,
    /// `ghcr.io/krinkuto11/acestream:latest-arm64`.
    AceServeArm64,
    /// `ghcr.io/martinbjeldbak/acestream-http-proxy`.
    AcestreamHttpProxy,
    /// `ghcr.io/outpace-stream/outpace-engine`, the open engine.
    Outpace,
    /// Built from the custom variant's parameters.
    Custom,
}

/// What a machine's processor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    /// 64-bit Intel and AMD.
    Amd64,
    /// 32-bit ARM.
    Arm32,
    /// 64-bit ARM.
    Arm64,
}

/// Not a variant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an engine variant: {0}")]
pub struct UnknownVariant(String);

/// No engine image is made for this processor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no engine image is made for the processor {0}; amd64, arm64 and arm32 are known")]
pub struct UnknownPlatform(String);

/// An image is for another processor than the machine's. It runs under emulation at best, so this is worth a warning
/// and no refusal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} is for {} and this machine is {}", .made_for.as_str(), .machine.as_str())]
pub struct WrongPlatform {
    /// The variant.
    pub name: String,
    /// What it is for.
    pub made_for: Platform,
    /// What there is.
    pub machine: Platform,
}

pub(crate) const VARIANTS: [(&str, Variant); 10] = [
    ("krinkuto11-amd64", Variant::Krinkuto11Amd64),
    ("jopsis-amd64", Variant::JopsisAmd64),
    ("jopsis-arm32", Variant::JopsisArm32),
    ("jopsis-arm64", Variant::JopsisArm64),
    ("AceServe-amd64", Variant::AceServeAmd64),
    ("AceServe-arm32", Variant::AceServeArm32),
    ("AceServe-arm64", Variant::AceServeArm64),
    ("acestream-http-proxy", Variant::AcestreamHttpProxy),
    ("outpace", Variant::Outpace),
    ("custom", Variant::Custom),
];

impl Platform {
    /// This machine's; 64-bit Intel, as the reference has it, when no image is made for it. [`Self::from_str`] of
    /// [`std::env::consts::ARCH`] tells the two apart.
    pub fn here() -> Self {
        std::env::consts::ARCH.parse().unwrap_or(Self::Amd64)
    }

    /// Whether programs for `other` run here. Most 64-bit ARM boards run 32-bit programs too.
    pub fn runs(self, other: Self) -> bool {
        self == other || (self, other) == (Self::Arm64, Self::Arm32)
    }

    /// As the custom variant's pages say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm32 => "arm32",
            Self::Arm64 => "arm64",
        }
    }
}

impl Variant {
    /// All of them, with their names as in `ENGINE_VARIANT`.
    pub const NAMED: [(&'static str, Self); 10] = VARIANTS;

    /// What a machine gets that names none. The closed engine's ARM builds are repackaged Android code that fails on
    /// 16 KiB pages (Raspberry Pi 5); the open engine has images for both ARMs.
    pub fn default_for(platform: Platform) -> Self {
        match platform {
            Platform::Amd64 => Self::Krinkuto11Amd64,
            Platform::Arm32 | Platform::Arm64 => Self::Outpace,
        }
    }

    /// As in `ENGINE_VARIANT`.
    pub fn as_str(self) -> &'static str {
        VARIANTS.iter().find(|(_, variant)| *variant == self).map_or("custom", |(name, _)| name)
    }

    /// The processor its image is for; `None` when there are images for all.
    pub fn platform(self) -> Option<Platform> {
        match self {
            Self::Krinkuto11Amd64 | Self::JopsisAmd64 | Self::AceServeAmd64 | Self::AcestreamHttpProxy => {
                Some(Platform::Amd64)
            }
            Self::JopsisArm32 | Self::AceServeArm32 => Some(Platform::Arm32),
            Self::JopsisArm64 | Self::AceServeArm64 => Some(Platform::Arm64),
            Self::Outpace | Self::Custom => None,
        }
    }

    /// Whether its image is for `machine`.
    pub fn fits(self, machine: Platform) -> Result<(), WrongPlatform> {
        fits(self.as_str(), self.platform(), machine)
    }
}

fn fits(name: &str, made_for: Option<Platform>, machine: Platform) -> Result<(), WrongPlatform> {
    match made_for.filter(|made_for| !machine.runs(*made_for)) {
        Some(made_for) => Err(WrongPlatform { name: name.to_owned(), made_for, machine }),
        None => Ok(()),
    }
}

impl FromStr for Platform {
    type Err = UnknownPlatform;

    /// The names of the custom variant's pages, of `uname` and of Rust.
    fn from_str(text: &str) -> Result<Self, UnknownPlatform> {
        match text.to_ascii_lowercase().as_str() {
            "amd64" | "x86_64" => Ok(Self::Amd64),
            "arm64" | "aarch64" => Ok(Self::Arm64),
            other if other.starts_with("arm") => Ok(Self::Arm32),
            _ => Err(UnknownPlatform(text.to_owned())),
        }
    }
}

impl FromStr for Variant {
    type Err = UnknownVariant;

    fn from_str(text: &str) -> Result<Self, UnknownVariant> {
        let found = VARIANTS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        found.map(|(_, variant)| *variant).ok_or_else(|| UnknownVariant(text.to_owned()))
    }
}

/// One way to run an engine: of a family, or of a checked custom variant. Nothing else makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its display name, put into a label.
    pub(crate) name: String,
    /// Image reference.
    pub(crate) image: ImageRef,
    /// How ports and flags reach the engine.
    pub(crate) feed: Feed,
    /// Flags (or, for images without flags, nothing) that every engine gets.
    pub(crate) arguments: Vec<String>,
    /// Environment that every engine gets.
    pub(crate) env: Vec<Variable>,
    /// Directory that must be writable when the root file system is read-only; `None` when the image writes elsewhere
    /// too, so that its root stays writable.
    pub(crate) cache: Option<String>,
    /// The processor its image is for; `None` when there are images for all.
    pub(crate) platform: Option<Platform>,
}

/// How ports and flags reach an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feed {
    /// `HTTP_PORT`, `HTTPS_PORT`, `BIND_ALL`, `P2P_PORT`, and `CONF` for images before 2025-09-20.
    Variables,
    /// One string of flags in `ACESTREAM_ARGS`, split by a shell without quoting.
    ArgumentString,
    /// One string of flags in `EXTRA_FLAGS`.
    ExtraFlags,
    /// The container's command.
    Command,
    /// `OUTPACE_*` variables.
    Outpace,
}

/// Tags of the ARM images.
#[derive(Clone, Debug)]
pub struct ArmTags {
    /// `ENGINE_ARM32_VERSION`.
    pub arm32: Tag,
    /// `ENGINE_ARM64_VERSION`.
    pub arm64: Tag,
}

impl Default for ArmTags {
    fn default() -> Self {
        Self { arm32: Tag::known("arm32-v3.2.13"), arm64: Tag::known("arm64-v3.2.13") }
    }
}

pub(crate) const JOPSIS: &str = "jopsis/acestream";
const ACE_SERVE_IMAGE: &str = "ghcr.io/krinkuto11/acestream";

/// The reference's, without `--service-remote-access` and the well-known tokens `acestream` and `root`: with them
/// anybody who reaches the port controls the engine's settings.
const JOPSIS_AMD64: &str = "--client-console --bind-all --stats-report-peers --live-cache-type memory \
    --live-cache-size 209715200 --vod-cache-type memory --cache-dir /acestream/.ACEStream --vod-drop-max-age 120 \
    --max-file-size 2147483648 --live-buffer 25 --vod-buffer 10 --max-connections 500 --max-peers 50 \
    --max-upload-slots 50 --auto-slots 0 --download-limit 0 --upload-limit 0 --stats-report-interval 2 \
    --slots-manager-use-cpu-limit 1 --core-skip-have-before-playback-pos 1 --core-dlr-periodic-check-interval 5 \
    --check-live-pos-interval 5 --refill-buffer-interval 1 --webrtc-allow-outgoing-connections 1 --log-debug 0 \
    --log-max-size 15000000 --log-backup-count 1";
const JOPSIS_ARM: &str = "python main.py --bind-all --client-console --live-cache-type memory \
    --live-mem-cache-size 104857600 --disable-sentry --log-stdout --disable-upnp";
const ACE_SERVE: &str = "python main.py --bind-all --live-cache-type memory --live-mem-cache-size 104857600 \
    --live-buffer 25 --disable-sentry --log-stdout --disable-upnp";

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

impl Profile {
    /// The profile of a family. The custom variant's is made from its parameters; without any it is the machine's default.
    pub fn of(variant: Variant, tags: &ArmTags) -> Self {
        let (image, feed, arguments) = match variant {
            Variant::Krinkuto11Amd64 => {
                (known("ghcr.io/krinkuto11/acestream-http-proxy", "latest"), Feed::Variables, "")
            }
            Variant::JopsisAmd64 => (known(JOPSIS, "x64"), Feed::ArgumentString, JOPSIS_AMD64),
            Variant::JopsisArm32 => (ImageRef::known(JOPSIS, &tags.arm32), Feed::Command, JOPSIS_ARM),
            Variant::JopsisArm64 => (ImageRef::known(JOPSIS, &tags.arm64), Feed::Command, JOPSIS_ARM),
            Variant::AceServeAmd64 => (known(ACE_SERVE_IMAGE, "latest-amd64"), Feed::Command, ACE_SERVE),
            Variant::AceServeArm32 => (known(ACE_SERVE_IMAGE, "latest-arm32"), Feed::Command, ACE_SERVE),
            Variant::AceServeArm64 => (known(ACE_SERVE_IMAGE, "latest-arm64"), Feed::Command, ACE_SERVE),
            Variant::AcestreamHttpProxy => {
                (known("ghcr.io/martinbjeldbak/acestream-http-proxy", "latest"), Feed::ExtraFlags, "")
            }
            Variant::Outpace => (known("ghcr.io/outpace-stream/outpace-engine", "latest"), Feed::Outpace, ""),
            Variant::Custom => return Self::of(Variant::default_for(Platform::here()), tags),
        };
        let cache = (variant == Variant::Outpace).then(|| "/var/lib/outpace".to_owned());
        let name = variant.as_str().to_owned();
        let (arguments, env, platform) = (words(arguments), variant_env(variant), variant.platform());
        Self { name, image, feed, arguments, env, cache, platform }
    }

    /// Whose engines reach the swarm through a proxy and not at all without it. Only the open engine knows proxies, from
    /// 1.2.0 on. `on` and not its `fallback`, which begins with this machine's own address. Its announcements and its own
    /// listener are off then by themselves; a router is told nothing either.
    #[must_use]
    pub fn through(mut self, proxy: &Proxy) -> Self {
        if self.feed == Feed::Outpace {
            self.env.extend([
                Variable::ours("OUTPACE_PROXY", proxy.reveal()),
                Variable::ours("OUTPACE_PROXY_MODE", "on"),
                Variable::ours("OUTPACE_ENABLE_PORT_MAPPING", "0"),
            ]);
        }
        self
    }

    /// Whether its image is for `machine`.
    pub fn fits(&self, machine: Platform) -> Result<(), WrongPlatform> {
        fits(&self.name, self.platform, machine)
    }
}

fn known(repository: &'static str, tag: &'static str) -> ImageRef {
    ImageRef::known(repository, &Tag::known(tag))
}

fn variant_env(variant: Variant) -> Vec<Variable> {
    let pairs: &[(&'static str, &str)] = match variant {
        // Seconds of buffer and GB of cache, as the reference has them.
        Variant::Krinkuto11Amd64 => &[("INTERNAL_BUFFERING", "60"), ("CACHE_LIMIT", "1")],
        Variant::AcestreamHttpProxy => &[("ALLOW_REMOTE_ACCESS", "yes")],
        Variant::Outpace => &[
            // The routes of the closed engine; the second name is that of versions before 1.0.
            ("OUTPACE_ACE_COMPAT", "1"),
            ("OUTPACE_EXPERIMENTAL_ACE_COMPAT", "1"),
            ("OUTPACE_CACHE_TYPE", "memory"),
            // Its default holds the first media back for 30 s, which is a start's whole budget; we keep the history.
            ("OUTPACE_PREBUFFER_MS", "0"),
            // Without it a stream begins 0.4 s behind the broadcast, and one that replaces another has nothing in common
            // with what viewers have seen.
            ("OUTPACE_PREFETCH_PIECES", "64"),
            // The image opens its broadcast input to everybody who reaches the container. Nothing here uses it; its
            // own loopback, and a port that no engine of the same network namespace has.
            ("OUTPACE_RTMP_BIND", "127.0.0.1:0"),
        ],
        _ => &[],
    };
    pairs.iter().map(|(name, value)| Variable::ours(name, *value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_for_another_processor_is_named() {
        use Platform::{Amd64, Arm32, Arm64};
        for (variant, amd64, arm64, arm32) in [
            (Variant::Krinkuto11Amd64, true, false, false),
            (Variant::AceServeArm64, false, true, false),
            (Variant::JopsisArm32, false, true, true),
            (Variant::Outpace, true, true, true),
        ] {
            for (machine, fits) in [(Amd64, amd64), (Arm64, arm64), (Arm32, arm32)] {
                assert_eq!(variant.fits(machine).is_ok(), fits, "{variant:?} on {machine:?}");
                assert_eq!(Profile::of(variant, &ArmTags::default()).fits(machine).is_ok(), fits);
            }
        }
        let problem = Variant::JopsisAmd64.fits(Arm64).unwrap_err();
        assert_eq!(problem.to_string(), "jopsis-amd64 is for amd64 and this machine is arm64");
        for machine in [Amd64, Arm64, Arm32] {
            assert!(Variant::default_for(machine).fits(machine).is_ok());
        }
    }

    #[test]
    fn processors_are_known_by_all_their_names() {
        for (platform, names) in [
            (Platform::Amd64, ["x86_64", "AMD64"]),
            (Platform::Arm64, ["aarch64", "arm64"]),
            (Platform::Arm32, ["armv7l", "arm32"]),
        ] {
            assert_eq!(names.map(str::parse), [Ok(platform), Ok(platform)]);
            assert_eq!(platform.as_str().parse(), Ok(platform));
        }
        for unknown in ["riscv64", "x86", "mips", ""] {
            assert_eq!(unknown.parse::<Platform>(), Err(UnknownPlatform(unknown.to_owned())));
        }
    }

    #[test]
    fn variants_are_read_as_they_are_written() {
        for (name, variant) in VARIANTS {
            assert_eq!(name.parse::<Variant>().unwrap(), variant);
            assert_eq!(variant.as_str(), name);
        }
        assert!("acestream".parse::<Variant>().is_err());
    }
}
