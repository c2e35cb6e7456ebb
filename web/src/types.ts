// What the API tells, as far as this page reads it.

export interface Track { pid: number; codec: string; language: string | null; width: number | null; height: number | null; fps: number | null; scan: string | null; sample_rate: number | null; channels: number | null }

export interface Stream {
  stream_id: string; infohash: string | null; state: string; verdict: string; verdict_reason: string; is_live: boolean; client_count: number;
  container_id: string | null; engine_host: string | null; engine_port: number | null; created_at: string; started_at: string | null;
  status: string | null; peers: number | null; speed_down: number | null; speed_up: number | null; bitrate_bps: number | null; arriving_bps: number | null;
  runway_seconds: number | null; bytes_received: number; bytes_sent: number; resolution: string | null; fps: number | null; scan: string | null;
  video_codec: string | null; audio_codec: string | null; tracks: Track[]; error: string | null;
}

export interface Engine {
  container_id: string; container_name: string; host: string; port: number; health_status: string; trust: string; trust_reason: string | null;
  runaway: string | null; vpn_container: string | null; engine_variant: string | null; version: string | null; forwarded: boolean; forwarded_port: number | null;
  cordoned: boolean; slots_used: number; slots_total: number; streams: string[]; first_seen: string; last_seen: string | null; platform: string | null;
}

export interface Vpn {
  container: string; health: string; connected: boolean; forwarded_port: number | null; public_ip: string | null; country?: string | null; city?: string | null;
  provider?: string | null; state: string; reason: string | null; state_seconds: number; engines: string[]; blamed: string | null; advice: string[];
  last_check: string | null; forwarded_port_since: string | null; leak: unknown;
}

export interface Totals {
  streams: number; viewers: number; waiting: number; bytes_in: number; bytes_out: number; engines: number; engines_healthy: number;
  slots_used: number; slots_total: number; slots_waiting: number;
}

export interface Happened {
  id?: number; timestamp: string; event_type: string; category: string; message: string; details: Record<string, unknown>;
  container_id: string | null; stream_id: string | null;
}

export interface Viewer {
  id: number; address: string; user_agent: string; player?: string; name?: string | null; connected_at: string; playing: boolean; bytes_sent: number; skips: number; skipped_bytes: number;
  lag_chunks: number; first_byte_ms: number | null; verdict: string; verdict_reason: string;
}

export interface LoginState { operator: boolean; by: string | null; possible: boolean }
export interface Login { id: string; created_at: string; used_at: string; address: string; user_agent: string; this: boolean }

export interface Plan {
  next: string[]; waits: string[]; min: number; max: number; min_replicas: number;
  containers: { id: string; name: string; state: string }[];
  failures?: { at: string; name: string; why: string }[];
}

export interface Figure { min: number; mean: number; max: number }
export interface HistoryPage {
  step_seconds: number;
  points: ({ at: string } & Record<'bytes_in_per_second' | 'bytes_out_per_second' | 'streams' | 'viewers', Figure | undefined>)[];
}

export interface Status {
  provisioning: { can_provision: boolean; blocked_reason: string | null; circuit_breaker_state: string; blocked_reason_details: { code: string } | null };
  docker: { state: string; why?: string; reason?: string }; warnings: string[];
  capacity: { max_replicas: number; min_replicas: number };
}

export interface EngineStats { container_id: string; cpu_percent: number; memory_usage: number; memory_limit: number; memory_percent: number }

export interface Setting {
  name: string; group: string; meaning: string; accepts: string; unit: string | null; range: string | null; choices: string[]; default: string | null;
  value: string | null; source: string; place: string; applies: string; changeable: boolean; why_not: string | null; overridden: boolean; secret: boolean;
  alias_of: string | null; coming: { value: string | null } | null;
}
