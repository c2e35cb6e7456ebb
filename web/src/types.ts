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
export type Viewer = Schemas['ProxyViewer'];
export type Watched = Schemas['LiveViewers'];
export type Setting = Schemas['Setting'];
export type SettingList = Schemas['Settings'];
export type ChannelNames = Schemas['GivenNames'];
export type Health = Schemas['Health'];
export type Provisioned = Schemas['Provisioned'];
