// What the API tells, by the names that this page uses. `api.d.ts` is made of openapi.json (`npm run build` in web/types).
import type { components } from './api';

type Schemas = components['schemas'];

export type Track = Schemas['Track'];
export type Stream = Schemas['ProxySession'];
export type Engine = Schemas['EngineState'];
export type Vpn = Schemas['Vpn'];
export type Totals = Schemas['LiveTotals'];
export type Picture = Schemas['LiveSnapshot'];
export type LoginState = Schemas['LoginState'];
export type Login = Schemas['Login'];
export type Plan = Schemas['FleetPlan'];
export type Figure = Schemas['HistoryFigure'];
export type HistoryPage = Schemas['History'];
export type Status = Schemas['OrchestratorStatus'];
export type EngineStats = Schemas['EngineStats'];
export type LeakProof = Schemas['LeakProof'];
export type Parameter = Schemas['VariantParameter'];
export type Variant = Schemas['VariantConfig'];
export type TemplateList = Schemas['TemplateList'];

/** An entry of the history; one that has only just happened may have no number yet. */
export type Happened = Omit<Schemas['Event'], 'id' | 'details'> & { id?: number; details: Record<string, unknown> };
/** With the name that operators gave it, where the service keeps names. */
export type Viewer = Schemas['ProxyViewer'] & { player?: string; name?: string | null };

/** `GET /api/v1/settings`. */
export interface Setting {
  name: string; group: string; meaning: string; accepts: string; unit: string | null; range: string | null; choices: string[]; default: string | null;
  value: string | null; source: string; place: string; applies: string; changeable: boolean; why_not: string | null; overridden: boolean; secret: boolean;
  alias_of: string | null; coming: { value: string | null } | null;
}
