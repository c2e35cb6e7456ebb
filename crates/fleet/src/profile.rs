//! How each family of engine images is fed, as data, and the recipe that turns it into a container.
//!
//! A [`Profile`] says which image it is and how ports and flags reach the engine in it; a [`Recipe`] adds what the
//! operator chose once for all engines. [`Recipe::spec`] is pure: the same place, name and ports give the same
//! container.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use acemux_engine::Endpoint;
use serde::{Deserialize, Serialize};

use crate::ident::InstanceId;
use crate::spec::{EngineSpec, Limits, Network, label};

/// Most streams at a time that the open engine can be told; more, and it does not start.
const MOST_OUTPACE_STREAMS: usize = 256;

/// Labels that only the fleet gives: what it does not give to an engine, a request cannot give either.
const OUR_LABELS: [&str; 7] = [
    label::HTTP_PORT,
    label::HTTPS_PORT,
    label::HOST_HTTP_PORT,
    label::HOST_HTTPS_PORT,
    label::VARIANT,
    label::VPN_CONTAINER,
    label::FORWARDED,
];
const OUR_LABEL_PREFIX: &str = "io.acemux.";

/// Variables that carry ports and flags in one family or another. A request cannot set them in a family, or for an
/// engine, where the fleet does not.
const OUR_VARIABLES: [&str; 10] = [
    "CONF",
    "HTTP_PORT",
    "HTTPS_PORT",
    "BIND_ALL",
    "P2P_PORT",
    "ACESTREAM_ARGS",
    "EXTRA_FLAGS",
    "OUTPACE_PEER_LISTEN",
    "OUTPACE_ENABLE_INBOUND",
    "OUTPACE_RTMP_BIND",
];

/// Memory file system for engines with a read-only root: what a stream's cache needs, 100 to 250 MiB.
const CACHE_BYTES: u64 = 256 * 1024 * 1024;

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
    /// `ghcr.io/jamezrin/outpace`, the open engine.
    Outpace,
    /// Built from the custom variant's parameters.
    Custom,
}

/// What a machine's processor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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

const VARIANTS: [(&str, Variant); 10] = [
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

/// One way to run an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its display name, put into a label.
    pub name: String,
    /// Image reference.
    pub image: String,
    /// How ports and flags reach the engine.
    pub feed: Feed,
    /// Flags (or, for images without flags, nothing) that every engine gets.
    pub arguments: Vec<String>,
    /// Environment that every engine gets.
    pub env: Vec<(String, String)>,
    /// Directory that must be writable when the root file system is read-only; `None` when the image writes elsewhere
    /// too, so that its root stays writable.
    pub cache: Option<String>,
    /// The processor its image is for; `None` when there are images for all.
    pub platform: Option<Platform>,
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
    pub arm32: String,
    /// `ENGINE_ARM64_VERSION`.
    pub arm64: String,
}

impl Default for ArmTags {
    fn default() -> Self {
        Self { arm32: "arm32-v3.2.13".into(), arm64: "arm64-v3.2.13".into() }
    }
}

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
    /// The profile of a family. `slots` is for engines that must be told how many streams they may run. The custom
    /// variant's is made from its parameters; without any it is the machine's default.
    pub fn of(variant: Variant, tags: &ArmTags, slots: usize) -> Self {
        let (image, feed, arguments) = match variant {
            Variant::Krinkuto11Amd64 => {
                ("ghcr.io/krinkuto11/acestream-http-proxy:latest".to_owned(), Feed::Variables, "")
            }
            Variant::JopsisAmd64 => ("jopsis/acestream:x64".to_owned(), Feed::ArgumentString, JOPSIS_AMD64),
            Variant::JopsisArm32 => (format!("jopsis/acestream:{}", tags.arm32), Feed::Command, JOPSIS_ARM),
            Variant::JopsisArm64 => (format!("jopsis/acestream:{}", tags.arm64), Feed::Command, JOPSIS_ARM),
            Variant::AceServeAmd64 => (ace_serve("amd64"), Feed::Command, ACE_SERVE),
            Variant::AceServeArm32 => (ace_serve("arm32"), Feed::Command, ACE_SERVE),
            Variant::AceServeArm64 => (ace_serve("arm64"), Feed::Command, ACE_SERVE),
            Variant::AcestreamHttpProxy => {
                ("ghcr.io/martinbjeldbak/acestream-http-proxy:latest".to_owned(), Feed::ExtraFlags, "")
            }
            Variant::Outpace => ("ghcr.io/jamezrin/outpace:latest".to_owned(), Feed::Outpace, ""),
            Variant::Custom => return Self::of(Variant::default_for(Platform::here()), tags, slots),
        };
        let cache = (variant == Variant::Outpace).then(|| "/var/lib/outpace".to_owned());
        let name = variant.as_str().to_owned();
        let (arguments, env, platform) = (words(arguments), variant_env(variant, slots), variant.platform());
        Self { name, image, feed, arguments, env, cache, platform }
    }

    /// Whether its image is for `machine`.
    pub fn fits(&self, machine: Platform) -> Result<(), WrongPlatform> {
        fits(&self.name, self.platform, machine)
    }
}

fn ace_serve(platform: &str) -> String {
    format!("ghcr.io/krinkuto11/acestream:latest-{platform}")
}

fn variant_env(variant: Variant, slots: usize) -> Vec<(String, String)> {
    let slots = slots.clamp(1, MOST_OUTPACE_STREAMS).to_string();
    let pairs: &[(&str, &str)] = match variant {
        // Seconds of buffer and GB of cache, as the reference has them.
        Variant::Krinkuto11Amd64 => &[("INTERNAL_BUFFERING", "60"), ("CACHE_LIMIT", "1")],
        Variant::AcestreamHttpProxy => &[("ALLOW_REMOTE_ACCESS", "yes")],
        Variant::Outpace => &[
            ("OUTPACE_EXPERIMENTAL_ACE_COMPAT", "1"),
            ("OUTPACE_CACHE_TYPE", "memory"),
            // Its default holds the first media back for 30 s, which is a start's whole budget; we keep the history.
            ("OUTPACE_PREBUFFER_MS", "0"),
            ("OUTPACE_MAX_ACTIVE_UPSTREAMS", &slots),
            // The image opens its broadcast input to everybody who reaches the container. Nothing here uses it; its
            // own loopback, and a port that no engine of the same network namespace has.
            ("OUTPACE_RTMP_BIND", "127.0.0.1:0"),
        ],
        _ => &[],
    };
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The ports of one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnginePorts {
    /// Of its API: inside, and where it is reached.
    pub http: u16,
    /// Of its HTTPS API, inside.
    pub https: u16,
    /// For peers, when a VPN forwards one to it.
    pub p2p: Option<u16>,
}

/// What an operator adds to one engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extra {
    /// Labels; those of the fleet win.
    pub labels: BTreeMap<String, String>,
    /// Environment; that of the profile wins.
    pub env: BTreeMap<String, String>,
    /// The port it must have.
    pub port: Option<u16>,
}

/// How engines are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// We run on the host: their port is published on 127.0.0.1.
    Published,
    /// We run in a container of the same network: by their name.
    ByName,
}

/// Everything that engines of one fleet have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// What they are.
    pub profile: Profile,
    /// `ENGINE_IMAGE`: another image, fed the same way.
    pub image: Option<String>,
    /// What they may do and use.
    pub limits: Limits,
    /// Whether the root file system is read-only where the profile allows it.
    pub read_only: bool,
    /// Where they are attached.
    pub network: Network,
    /// How they are reached.
    pub reach: Reach,
    /// `ACE_MAP_HTTPS`: also publish the HTTPS port.
    pub map_https: bool,
    /// `CONTAINER_LABEL`.
    pub label: (String, String),
    /// Whose they are.
    pub instance: InstanceId,
}

impl Recipe {
    /// One engine's container.
    pub fn spec(&self, place: usize, name: &str, ports: EnginePorts, extra: &Extra) -> EngineSpec {
        let (env, command) = self.fed(ports);
        let mut all_env = extra.env.clone();
        all_env.retain(|name, _| {
            !OUR_VARIABLES.contains(&name.as_str()) && !env.iter().any(|(ours, _)| ours == name)
        });
        let env = all_env.into_iter().chain(env).collect();
        let mut publish = Vec::new();
        if self.publishes() {
            publish.push(ports.http);
            publish.extend(self.map_https.then_some(ports.https));
        }
        let mut labels = extra.labels.clone();
        labels.retain(|name, _| !OUR_LABELS.contains(&name.as_str()) && !name.starts_with(OUR_LABEL_PREFIX));
        labels.extend(self.labels(place, ports));
        EngineSpec {
            name: name.to_owned(),
            image: self.image().to_owned(),
            env,
            command,
            labels,
            http_port: ports.http,
            https_port: ports.https,
            publish,
            network: self.network.clone(),
            limits: self.limits(),
        }
    }

    /// The image engines are made from.
    pub fn image(&self) -> &str {
        self.image.as_deref().unwrap_or(&self.profile.image)
    }

    /// Tells engines made from this recipe from others: same text, same engine. What they run, may do and are reached
    /// by is in it; ports, names, labels and the instance are not. It is kept in a label across restarts and releases,
    /// where another text would replace every engine. So it is a hash that is written down (FNV-1a, 64 bits; the
    /// standard library's may change with the compiler) of fields that are listed here, not of their debug form.
    pub fn fingerprint(&self) -> String {
        let (env, command) = self.fed(EnginePorts { http: 0, https: 0, p2p: None });
        let Limits { memory, nano_cpus, pids, read_only, tmpfs, capabilities, new_privileges } =
            self.limits();
        let network = match &self.network {
            Network::Named { name, .. } => format!("named {name}"),
            Network::Container(name) => format!("container {name}"),
            Network::Host => "host".to_owned(),
        };
        let mut print = Fingerprint::new();
        print.texts([self.image(), &network]);
        print.texts(env.iter().flat_map(|(name, value)| [name.as_str(), value]));
        print.texts(command.iter().map(String::as_str));
        print.texts(capabilities.iter().map(String::as_str));
        print.texts(tmpfs.iter().map(|(path, bytes)| format!("{path} {bytes}")));
        print.texts(
            [memory.map(|bytes| bytes.to_string()), nano_cpus.map(|cpus| cpus.to_string())]
                .map(Option::unwrap_or_default),
        );
        print.texts([pids.to_string()]);
        print.texts(
            [read_only, new_privileges, self.publishes(), self.map_https].map(|flag| flag.to_string()),
        );
        print.to_string()
    }

    /// Where the engine of an existing container is reached.
    pub fn endpoint(&self, labels: &BTreeMap<String, String>, name: &str) -> Option<Endpoint> {
        let port: u16 =
            labels.get(label::HOST_HTTP_PORT).or_else(|| labels.get(label::HTTP_PORT))?.parse().ok()?;
        let host = match (self.reach, &self.network) {
            (Reach::Published, _) | (_, Network::Host) => "127.0.0.1",
            // In another container's network it has no name of its own.
            (Reach::ByName, _) => labels.get(label::VPN_CONTAINER).map_or(name, String::as_str),
        };
        format!("{host}:{port}").parse().ok()
    }

    /// Docker publishes ports of containers that have a network of their own. Behind a VPN it is the VPN's container
    /// that publishes them.
    fn publishes(&self) -> bool {
        self.reach == Reach::Published && matches!(self.network, Network::Named { .. })
    }

    fn limits(&self) -> Limits {
        let mut limits = self.limits.clone();
        if let (true, Some(cache)) = (self.read_only, &self.profile.cache) {
            limits.read_only = true;
            limits.tmpfs.extend([(cache.clone(), CACHE_BYTES), ("/tmp".to_owned(), CACHE_BYTES / 4)]);
        }
        limits
    }

    fn labels(&self, place: usize, ports: EnginePorts) -> BTreeMap<String, String> {
        let mut labels: BTreeMap<String, String> = [
            (self.label.0.as_str(), self.label.1.clone()),
            (label::HTTP_PORT, ports.http.to_string()),
            (label::HTTPS_PORT, ports.https.to_string()),
            (label::HOST_HTTP_PORT, ports.http.to_string()),
            (label::VARIANT, self.profile.name.clone()),
            (label::PRODUCT, label::PRODUCT_ENGINE.to_owned()),
            (label::INSTANCE, self.instance.to_string()),
            (label::PLACE, place.to_string()),
            (label::RECIPE, self.fingerprint()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let mut label = |name: &str, value: String| labels.insert(name.to_owned(), value);
        if self.map_https && self.publishes() {
            label(label::HOST_HTTPS_PORT, ports.https.to_string());
        }
        if let Network::Container(vpn) = &self.network {
            label(label::VPN_CONTAINER, vpn.clone());
        }
        if ports.p2p.is_some() {
            label(label::FORWARDED, "true".to_owned());
        }
        labels
    }

    /// Environment and command with this engine's ports in them.
    fn fed(&self, ports: EnginePorts) -> (Vec<(String, String)>, Vec<String>) {
        let EnginePorts { http, https, p2p } = ports;
        let mut env = self.profile.env.clone();
        let mut set = |name: &str, value: String| env.push((name.to_owned(), value));
        let mut flags = self.profile.arguments.clone();
        flags.extend([
            "--http-port".to_owned(),
            http.to_string(),
            "--https-port".to_owned(),
            https.to_string(),
        ]);
        if let Some(p2p) = p2p {
            // A custom variant may name one for all engines; the forwarded one is the only one that peers reach.
            remove_flag(&mut flags, "--port");
            flags.extend(["--port".to_owned(), p2p.to_string()]);
        }
        let mut command = Vec::new();
        match self.profile.feed {
            Feed::Variables => {
                set("CONF", format!("--http-port={http}\n--https-port={https}\n--bind-all"));
                set("HTTP_PORT", http.to_string());
                set("HTTPS_PORT", https.to_string());
                set("BIND_ALL", "true".to_owned());
                if let Some(p2p) = p2p {
                    set("P2P_PORT", p2p.to_string());
                }
            }
            Feed::ArgumentString => set("ACESTREAM_ARGS", flags.join(" ")),
            Feed::ExtraFlags => set("EXTRA_FLAGS", flags.join(" ")),
            Feed::Command => command = flags,
            Feed::Outpace => {
                set("OUTPACE_BIND", format!("0.0.0.0:{http}"));
                match p2p {
                    Some(p2p) => set("OUTPACE_PEER_LISTEN", format!("0.0.0.0:{p2p}")),
                    // Peers reach no port that nobody forwards, and an engine that cannot have its peer port, because
                    // another one in the same network namespace has it, does not start.
                    None => set("OUTPACE_ENABLE_INBOUND", "0".to_owned()),
                }
            }
        }
        (env, command)
    }
}

/// Removes a flag that has a value.
fn remove_flag(flags: &mut Vec<String>, name: &str) {
    if let Some(at) = flags.iter().position(|flag| flag == name) {
        flags.drain(at..flags.len().min(at + 2));
    }
}

/// FNV-1a, 64 bits, over lists of texts.
struct Fingerprint(u64);

impl Fingerprint {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// Each text and the list have an end that no text contains, so that nothing moves from one into the next unseen.
    fn texts<T: AsRef<str>>(&mut self, texts: impl IntoIterator<Item = T>) {
        for text in texts {
            self.bytes(text.as_ref().as_bytes());
            self.bytes(&[0xff]);
        }
        self.bytes(&[0xfe]);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORTS: EnginePorts = EnginePorts { http: 19_001, https: 45_001, p2p: None };

    fn recipe(variant: Variant) -> Recipe {
        Recipe {
            profile: Profile::of(variant, &ArmTags::default(), 3),
            image: None,
            limits: Limits::default(),
            read_only: true,
            network: Network::Named { name: "acemux".into(), own: true },
            reach: Reach::Published,
            map_https: false,
            label: ("orchestrator.managed".into(), "acestream".into()),
            instance: "test".parse().unwrap(),
        }
    }

    fn fed(variant: Variant) -> String {
        let spec = recipe(variant).spec(1, "acestream-1", PORTS, &Extra::default());
        let env: Vec<String> = spec.env.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        format!("{}\n{}\n{}", spec.image, env.join(" "), spec.command.join(" "))
    }

    #[test]
    fn every_family_is_fed_its_own_way() {
        insta::assert_snapshot!(fed(Variant::Krinkuto11Amd64), @r#"
        ghcr.io/krinkuto11/acestream-http-proxy:latest
        INTERNAL_BUFFERING="60" CACHE_LIMIT="1" CONF="--http-port=19001\n--https-port=45001\n--bind-all" HTTP_PORT="19001" HTTPS_PORT="45001" BIND_ALL="true"
        "#);
        insta::assert_snapshot!(fed(Variant::JopsisArm64), @r"
        jopsis/acestream:arm64-v3.2.13

        python main.py --bind-all --client-console --live-cache-type memory --live-mem-cache-size 104857600 --disable-sentry --log-stdout --disable-upnp --http-port 19001 --https-port 45001
        ");
        insta::assert_snapshot!(fed(Variant::AceServeAmd64), @r"
        ghcr.io/krinkuto11/acestream:latest-amd64

        python main.py --bind-all --live-cache-type memory --live-mem-cache-size 104857600 --live-buffer 25 --disable-sentry --log-stdout --disable-upnp --http-port 19001 --https-port 45001
        ");
        insta::assert_snapshot!(fed(Variant::AcestreamHttpProxy), @r#"
        ghcr.io/martinbjeldbak/acestream-http-proxy:latest
        ALLOW_REMOTE_ACCESS="yes" EXTRA_FLAGS="--http-port 19001 --https-port 45001"
        "#);
        insta::assert_snapshot!(fed(Variant::Outpace), @r#"
        ghcr.io/jamezrin/outpace:latest
        OUTPACE_EXPERIMENTAL_ACE_COMPAT="1" OUTPACE_CACHE_TYPE="memory" OUTPACE_PREBUFFER_MS="0" OUTPACE_MAX_ACTIVE_UPSTREAMS="3" OUTPACE_RTMP_BIND="127.0.0.1:0" OUTPACE_BIND="0.0.0.0:19001" OUTPACE_ENABLE_INBOUND="0"
        "#);
        insta::assert_snapshot!(fed(Variant::JopsisAmd64), @r#"
        jopsis/acestream:x64
        ACESTREAM_ARGS="--client-console --bind-all --stats-report-peers --live-cache-type memory --live-cache-size 209715200 --vod-cache-type memory --cache-dir /acestream/.ACEStream --vod-drop-max-age 120 --max-file-size 2147483648 --live-buffer 25 --vod-buffer 10 --max-connections 500 --max-peers 50 --max-upload-slots 50 --auto-slots 0 --download-limit 0 --upload-limit 0 --stats-report-interval 2 --slots-manager-use-cpu-limit 1 --core-skip-have-before-playback-pos 1 --core-dlr-periodic-check-interval 5 --check-live-pos-interval 5 --refill-buffer-interval 1 --webrtc-allow-outgoing-connections 1 --log-debug 0 --log-max-size 15000000 --log-backup-count 1 --http-port 19001 --https-port 45001"
        "#);
    }

    #[test]
    fn families_of_several_platforms_differ_in_their_image_only() {
        let image_of =
            |variant| fed(variant).split_once('\n').map(|(image, rest)| (image.to_owned(), rest.to_owned()));
        let (jopsis, ace_serve) =
            (image_of(Variant::JopsisArm64).unwrap().1, image_of(Variant::AceServeAmd64).unwrap().1);
        for (variant, image, rest) in [
            (Variant::JopsisArm32, "jopsis/acestream:arm32-v3.2.13", &jopsis),
            (Variant::AceServeArm32, "ghcr.io/krinkuto11/acestream:latest-arm32", &ace_serve),
            (Variant::AceServeArm64, "ghcr.io/krinkuto11/acestream:latest-arm64", &ace_serve),
        ] {
            assert_eq!(image_of(variant), Some((image.to_owned(), rest.clone())));
        }
        let tags = ArmTags { arm32: "a".into(), arm64: "b".into() };
        assert_eq!(Profile::of(Variant::JopsisArm32, &tags, 3).image, "jopsis/acestream:a");
        assert_eq!(Profile::of(Variant::JopsisArm64, &tags, 3).image, "jopsis/acestream:b");
        let default = Profile::of(Variant::default_for(Platform::here()), &tags, 3);
        assert_eq!(Profile::of(Variant::Custom, &tags, 3), default);
    }

    #[test]
    fn the_open_engine_is_told_as_many_streams_as_it_takes() {
        for (slots, told) in [(0, "1"), (1, "1"), (10, "10"), (256, "256"), (257, "256")] {
            let profile = Profile::of(Variant::Outpace, &ArmTags::default(), slots);
            let named = profile.env.iter().find(|(name, _)| name == "OUTPACE_MAX_ACTIVE_UPSTREAMS");
            assert_eq!(named.map(|(_, value)| value.as_str()), Some(told));
        }
    }

    #[test]
    fn the_open_engine_listens_to_peers_on_a_forwarded_port_only() {
        let env_of =
            |p2p| recipe(Variant::Outpace).spec(1, "a", EnginePorts { p2p, ..PORTS }, &Extra::default()).env;
        let has = |p2p, name: &str, value: &str| env_of(p2p).contains(&(name.to_owned(), value.to_owned()));
        assert!(
            has(Some(51_413), "OUTPACE_PEER_LISTEN", "0.0.0.0:51413")
                && !has(Some(1), "OUTPACE_ENABLE_INBOUND", "0")
        );
        assert!(has(None, "OUTPACE_ENABLE_INBOUND", "0"));
        assert!(!env_of(None).iter().any(|(name, _)| name == "OUTPACE_PEER_LISTEN"));
    }

    #[test]
    fn only_images_that_keep_to_their_folder_get_a_read_only_root() {
        for (name, variant) in VARIANTS {
            let limits = recipe(variant).spec(1, "acestream-1", PORTS, &Extra::default()).limits;
            let is_outpace = recipe(variant).profile.feed == Feed::Outpace;
            assert_eq!((limits.read_only, limits.tmpfs.is_empty()), (is_outpace, !is_outpace), "{name}");
        }
        let limits = recipe(Variant::Outpace).spec(1, "acestream-1", PORTS, &Extra::default()).limits;
        let tmpfs = [("/var/lib/outpace".to_owned(), 256 << 20), ("/tmp".to_owned(), 64 << 20)];
        assert_eq!(limits.tmpfs, tmpfs);
    }

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
                assert_eq!(Profile::of(variant, &ArmTags::default(), 3).fits(machine).is_ok(), fits);
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
    fn no_family_opens_the_engine_to_everybody_who_knows_the_usual_tokens() {
        for (name, variant) in VARIANTS {
            let fed = fed(variant);
            assert!(!fed.contains("token") && !fed.contains("service-remote-access"), "{name}");
        }
    }

    #[test]
    fn a_forwarded_port_reaches_every_family() {
        for (name, variant) in VARIANTS {
            let ports = EnginePorts { p2p: Some(51_413), ..PORTS };
            let spec = recipe(variant).spec(1, "acestream-1", ports, &Extra::default());
            let all = format!("{:?} {:?}", spec.env, spec.command);
            assert!(all.contains("51413"), "{name}");
        }
    }

    #[test]
    fn an_operators_labels_and_variables_never_replace_ours() {
        let extra = Extra {
            labels: [label::INSTANCE, label::FORWARDED, label::VPN_CONTAINER, "io.acemux.later", "mine"]
                .map(|name| (name.to_owned(), "1".to_owned()))
                .into(),
            env: [
                ("HTTP_PORT", "1"),
                ("P2P_PORT", "1"),
                ("ACESTREAM_ARGS", "1"),
                ("CACHE_LIMIT", "9"),
                ("TZ", "UTC"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
            port: None,
        };
        let spec = recipe(Variant::Krinkuto11Amd64).spec(1, "acestream-1", PORTS, &extra);
        assert_eq!((spec.labels[label::INSTANCE].as_str(), spec.labels["mine"].as_str()), ("test", "1"));
        for ours in [label::FORWARDED, label::VPN_CONTAINER, "io.acemux.later"] {
            assert_eq!(spec.labels.get(ours), None);
        }
        let plain = recipe(Variant::Krinkuto11Amd64).spec(1, "acestream-1", PORTS, &Extra::default());
        let timezone = ("TZ".to_owned(), "UTC".to_owned());
        assert_eq!(spec.env, [vec![timezone], plain.env].concat());
    }

    #[test]
    fn every_engine_carries_what_the_fleet_must_know_of_it_after_a_restart() {
        let recipe = recipe(Variant::AceServeAmd64);
        let mut labels = recipe.spec(2, "acestream-7", PORTS, &Extra::default()).labels;
        assert_eq!(labels.remove(label::RECIPE), Some(recipe.fingerprint()));
        let shown: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        insta::assert_snapshot!(shown.join("\n"), @r"
        acestream.engine_variant=AceServe-amd64
        acestream.http_port=19001
        acestream.https_port=45001
        host.http_port=19001
        io.acemux.instance=test
        io.acemux.place=2
        io.acemux.role=engine
        orchestrator.managed=acestream
        ");
    }

    #[test]
    fn ports_are_published_for_containers_with_a_network_of_their_own() {
        let published = |network: &Network, reach, map_https| {
            let recipe = Recipe { network: network.clone(), reach, map_https, ..recipe(Variant::Outpace) };
            let spec = recipe.spec(1, "acestream-1", PORTS, &Extra::default());
            (spec.publish, spec.labels.get(label::HOST_HTTPS_PORT).cloned())
        };
        let bridge = Network::Named { name: "acemux".into(), own: true };
        assert_eq!(published(&bridge, Reach::Published, false), (vec![19_001], None));
        assert_eq!(
            published(&bridge, Reach::Published, true),
            (vec![19_001, 45_001], Some("45001".to_owned()))
        );
        for (network, reach) in [
            (&bridge, Reach::ByName),
            (&Network::Host, Reach::Published),
            (&Network::Container("gluetun".into()), Reach::Published),
        ] {
            assert_eq!(published(network, reach, true), (Vec::new(), None), "{network:?}");
        }
    }

    #[test]
    fn an_engine_behind_a_vpn_is_reached_by_the_vpns_name() {
        let network = Network::Container("gluetun".into());
        let recipe = Recipe { network, reach: Reach::ByName, ..recipe(Variant::AceServeAmd64) };
        let ports = EnginePorts { p2p: Some(51_413), ..PORTS };
        let labels = recipe.spec(1, "acestream-1", ports, &Extra::default()).labels;
        assert_eq!(
            (labels[label::VPN_CONTAINER].as_str(), labels[label::FORWARDED].as_str()),
            ("gluetun", "true")
        );
        let at = |labels| recipe.endpoint(labels, "acestream-1").map(|at| at.to_string());
        assert_eq!(at(&labels).as_deref(), Some("gluetun:19001"));
        let other = [(label::VPN_CONTAINER, "gluetun-2"), (label::HTTP_PORT, "19002")];
        let other = other.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(
            at(&other).as_deref(),
            Some("gluetun-2:19002"),
            "its label counts, not the recipe of today"
        );
    }

    #[test]
    fn the_fingerprint_changes_with_what_matters_and_with_nothing_else() {
        let one = recipe(Variant::Outpace);
        assert_eq!(one.fingerprint(), "bb5cca548d0cc838", "it stands in labels of running engines");
        let other = Recipe { instance: "other".parse().unwrap(), ..one.clone() };
        let named = Profile { name: "Evening".into(), ..one.profile.clone() };
        let unseen = [
            other,
            Recipe { profile: named, ..one.clone() },
            Recipe { label: ("a".into(), "b".into()), ..one.clone() },
            Recipe { network: Network::Named { name: "acemux".into(), own: false }, ..one.clone() },
        ];
        for same in unseen {
            assert_eq!(one.fingerprint(), same.fingerprint());
        }
        let labels = one.spec(3, "other", EnginePorts { p2p: Some(1), ..PORTS }, &Extra::default()).labels;
        assert_eq!(labels[label::RECIPE], one.fingerprint());
        let limited = |limits| Recipe { limits, ..one.clone() };
        let slots = Profile::of(Variant::Outpace, &ArmTags::default(), 4);
        for changed in [
            limited(Limits { nano_cpus: Some(1), ..Limits::default() }),
            limited(Limits { pids: 1, ..Limits::default() }),
            limited(Limits { capabilities: vec!["CHOWN".into()], ..Limits::default() }),
            limited(Limits { new_privileges: true, ..Limits::default() }),
            limited(Limits { tmpfs: vec![("/x".into(), 1)], ..Limits::default() }),
            Recipe { profile: slots, ..one.clone() },
            Recipe { reach: Reach::ByName, ..one.clone() },
            Recipe { map_https: true, ..one.clone() },
            Recipe { network: Network::Named { name: "host".into(), own: true }, ..one.clone() },
            Recipe { network: Network::Container("acemux".into()), ..one.clone() },
            Recipe { image: Some("else".into()), ..one.clone() },
            Recipe { limits: Limits { memory: Some(1), ..Limits::default() }, ..one.clone() },
            Recipe { network: Network::Host, ..one.clone() },
            Recipe { read_only: false, ..one.clone() },
            recipe(Variant::JopsisArm64),
        ] {
            assert_ne!(one.fingerprint(), changed.fingerprint());
        }
    }

    #[test]
    fn an_existing_container_is_reached_as_its_labels_say() {
        let published = recipe(Variant::Outpace);
        let by_name = Recipe { reach: Reach::ByName, ..published.clone() };
        let labels = published.spec(1, "acestream-1", PORTS, &Extra::default()).labels;
        let at = |recipe: &Recipe| recipe.endpoint(&labels, "acestream-1").map(|at| at.to_string());
        assert_eq!(at(&published).as_deref(), Some("127.0.0.1:19001"));
        assert_eq!(at(&by_name).as_deref(), Some("acestream-1:19001"));
        assert_eq!(published.endpoint(&BTreeMap::new(), "acestream-1"), None);
    }

    #[test]
    fn the_fingerprint_is_the_published_hash() {
        let mut print = Fingerprint::new();
        print.bytes(b"foobar");
        assert_eq!(print.to_string(), "85944171f73967e8");
        let of = |lists: &[&[&str]]| {
            let mut print = Fingerprint::new();
            for list in lists {
                print.texts(*list);
            }
            print.to_string()
        };
        assert_ne!(of(&[&["ab", "c"]]), of(&[&["a", "bc"]]));
        assert_ne!(of(&[&["a"], &["b"]]), of(&[&["a", "b"], &[]]));
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
