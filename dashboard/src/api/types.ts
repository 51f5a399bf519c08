// The types of the API, by short names. `npm run types` makes `schema.ts` from docs/openapi.json.

import type { components } from "./schema.ts";

type Schemas = components["schemas"];

export type Problem = Schemas["Problem"];
export type Run = Schemas["Run"];
export type RunSummary = Schemas["Summary"];
export type Runs = Schemas["Runs"];
export type RunNode = Schemas["Node"];
export type Failure = Schemas["Failure"];
export type RunGraph = Schemas["RunGraph"];
export type GraphNode = Schemas["GraphNode"];
export type GraphLink = Schemas["GraphLink"];
export type Timeline = Schemas["Timeline"];
export type TimelineAttempt = Schemas["TimelineAttempt"];
export type Elements = Schemas["Elements"];
export type EventPayload = Schemas["EventPayload"];
export type LogEvent = Schemas["LogEvent"];
export type RunStateResponse = Schemas["RunStateResponse"];
export type Workers = Schemas["Workers"];
export type Worker = Schemas["Worker"];
export type Modules = Schemas["Modules"];
export type StoredModule = Schemas["StoredModule"];
export type Module = Schemas["Module"];
export type Checks = Schemas["Checks"];
export type Check = Schemas["Check"];
