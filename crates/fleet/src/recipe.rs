//! How an engine's container is made: what its family of images needs, and what the operator chose once for all.
//!
//! [`Recipe::spec`] is pure: the same place, name and ports give the same container.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use acemux_engine::Endpoint;

use crate::allowed::{Extra, HostPort, Labels, OperatorLabel, Variable};
use crate::ident::{DockerName, InstanceId};
use crate::image::ImageRef;
use crate::profile::{Feed, Profile};
use crate::spec::{EngineSpec, Limits, Network, label};
use crate::tunnel::Namespace;

/// Memory file system for engines with a read-only root: what a stream's cache needs, 100 to 250 MiB.
const CACHE_BYTES: u64 = 256 * 1024 * 1024;

/// The ports of one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnginePorts {
    /// Of its API: inside, and where it is reached.
    pub http: HostPort,
    /// Of its HTTPS API, inside.
    pub https: HostPort,
    /// For peers, when a VPN forwards one to it.
    pub p2p: Option<u16>,
    /// What else it listens on, where it shares a network with other engines.
    pub shared: Option<SharedPorts>,
}

/// Ports that every engine opens whether anybody uses them or not: in a shared network no two can have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedPorts {
    /// For peers, unless one is forwarded to it.
    pub p2p: u16,
    /// Of the closed engine's old API.
    pub api: u16,
}

impl EnginePorts {
    /// For peers, if it is not the engine's own choice.
    fn peers(&self) -> Option<u16> {
        self.p2p.or(self.shared.map(|shared| shared.p2p))
    }
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
    pub image: Option<ImageRef>,
    /// What they may do and use.
    pub limits: Limits,
    /// Whether the root file system is read-only where the profile allows it.
    pub read_only: bool,
    /// Where they are attached, when they hide behind nothing.
    pub network: Network,
    /// Whether they are attached to VPNs' networks and to nothing else.
    pub behind_vpn: bool,
    /// How they are reached.
    pub reach: Reach,
    /// `ACE_MAP_HTTPS`: also publish the HTTPS port.
    pub map_https: bool,
    /// `CONTAINER_LABEL`.
    pub label: OperatorLabel,
    /// Whose they are.
    pub instance: InstanceId,
}

impl Recipe {
    /// One engine's container.
    pub fn spec(&self, place: usize, name: &str, ports: EnginePorts, extra: &Extra) -> EngineSpec {
        let (env, command) = self.fed(ports);
        let is_asked = |ours: &Variable| extra.env.iter().any(|asked| asked.name() == ours.name());
        let env = extra.env.iter().cloned().chain(env.into_iter().filter(|ours| !is_asked(ours))).collect();
        let mut publish = Vec::new();
        if self.publishes() {
            publish.push(ports.http);
            publish.extend(self.map_https.then_some(ports.https));
        }
        let mut labels = extra.labels.clone();
        self.label(&mut labels, place, ports);
        labels.put(label::NAME, name.to_owned());
        EngineSpec {
            name: name.to_owned(),
            image: self.image().clone(),
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

    /// One engine's container in a VPN's network.
    pub fn spec_inside(
        &self,
        (vpn, namespace): (&DockerName, &Namespace),
        (place, name): (usize, &str),
        ports: EnginePorts,
        extra: &Extra,
    ) -> EngineSpec {
        let mut spec = self.spec(place, name, ports, extra);
        spec.network = Network::Container(namespace.id().clone());
        // It is the VPN's container that publishes ports.
        spec.publish.clear();
        spec.labels.put(label::VPN_CONTAINER, vpn.as_str().to_owned());
        spec.labels.put(label::NAMESPACE, namespace.to_string());
        spec
    }

    /// The image engines are made from.
    pub fn image(&self) -> &ImageRef {
        self.image.as_ref().unwrap_or(&self.profile.image)
    }

    /// Tells engines made from this recipe from others: same text, same engine. What they run, may do and are reached
    /// by is in it; ports, names, labels and the instance are not. It is kept in a label across restarts and releases,
    /// where another text would replace every engine. So it is a hash that is written down (FNV-1a, 64 bits; the
    /// standard library's may change with the compiler) of fields that are listed here, not of their debug form.
    pub fn fingerprint(&self) -> String {
        let (http, https) = (HostPort::ANY, HostPort::ANY);
        let (env, command) = self.fed(EnginePorts { http, https, p2p: None, shared: None });
        let Limits { memory, nano_cpus, pids, read_only, tmpfs, capabilities, new_privileges } =
            self.limits();
        let network = match &self.network {
            // In whose network each is stands in its label; a VPN that is made anew does not make another recipe.
            _ if self.behind_vpn => "vpn".to_owned(),
            Network::Named { name, .. } => format!("named {}", name.as_str()),
            Network::Container(id) => format!("container {}", id.as_str()),
            Network::Host => "host".to_owned(),
        };
        let mut print = Fingerprint::new();
        print.texts([self.image().as_str(), &network]);
        print.texts(env.iter().flat_map(|variable| [variable.name(), variable.value()]));
        print.texts(command.iter().map(String::as_str));
        print.texts(capabilities.iter().map(|capability| capability.as_str()));
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

    /// Where the engine of an existing container is reached. Behind a VPN that is at the VPN's address: in that network it
    /// has none of its own, and the VPN's name need not be known where we are.
    pub fn endpoint(
        &self,
        labels: &BTreeMap<String, String>,
        name: &str,
        vpn: Option<IpAddr>,
    ) -> Option<Endpoint> {
        let port: u16 =
            labels.get(label::HOST_HTTP_PORT).or_else(|| labels.get(label::HTTP_PORT))?.parse().ok()?;
        if labels.contains_key(label::VPN_CONTAINER) {
            return SocketAddr::new(vpn?, port).to_string().parse().ok();
        }
        let host = match (self.reach, &self.network) {
            (Reach::Published, _) | (_, Network::Host) => "127.0.0.1",
            (Reach::ByName, _) => name,
        };
        format!("{host}:{port}").parse().ok()
    }

    /// Docker publishes ports of containers that have a network of their own. Behind a VPN it is the VPN's container
    /// that publishes them.
    fn publishes(&self) -> bool {
        let has_own = matches!(self.network, Network::Named { .. }) && !self.behind_vpn;
        self.reach == Reach::Published && has_own
    }

    fn limits(&self) -> Limits {
        let mut limits = self.limits.clone();
        if let (true, Some(cache)) = (self.read_only, &self.profile.cache) {
            limits.read_only = true;
            limits.tmpfs.extend([(cache.clone(), CACHE_BYTES), ("/tmp".to_owned(), CACHE_BYTES / 4)]);
        }
        limits
    }

    fn label(&self, labels: &mut Labels, place: usize, ports: EnginePorts) {
        labels.put_operators(&self.label);
        for (name, value) in [
            (label::HTTP_PORT, ports.http.to_string()),
            (label::HTTPS_PORT, ports.https.to_string()),
            (label::HOST_HTTP_PORT, ports.http.to_string()),
            (label::VARIANT, self.profile.name.clone()),
            (label::PRODUCT, label::PRODUCT_ENGINE.to_owned()),
            (label::INSTANCE, self.instance.to_string()),
            (label::PLACE, place.to_string()),
            (label::RECIPE, self.fingerprint()),
        ] {
            labels.put(name, value);
        }
        if self.map_https && self.publishes() {
            labels.put(label::HOST_HTTPS_PORT, ports.https.to_string());
        }
        if ports.p2p.is_some() {
            labels.put(label::FORWARDED, "true".to_owned());
        }
        if let Some(port) = ports.peers() {
            labels.put(label::P2P_PORT, port.to_string());
        }
    }

    /// Environment and command with this engine's ports in them.
    fn fed(&self, ports: EnginePorts) -> (Vec<Variable>, Vec<String>) {
        let EnginePorts { http, https, p2p: forwarded, shared } = ports;
        let p2p = ports.peers();
        let mut env = self.profile.env.clone();
        let mut set = |name: &'static str, value: String| env.push(Variable::ours(name, value));
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
        if let Some(SharedPorts { api, .. }) = shared {
            remove_flag(&mut flags, "--api-port");
            flags.extend(["--api-port".to_owned(), api.to_string()]);
        }
        let mut command = Vec::new();
        match self.profile.feed {
            Feed::Variables => {
                let mut conf = format!("--http-port={http}\n--https-port={https}\n--bind-all");
                if let Some(SharedPorts { p2p, api }) = shared {
                    let p2p = forwarded.unwrap_or(p2p);
                    conf = format!("{conf}\n--port={p2p}\n--api-port={api}");
                }
                set("CONF", conf);
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
                match forwarded {
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
mod tests;
