// The screens of the page. A new screen is one line here, and a file in `screens/`.

import type { ComponentType } from "preact";

import type { IconName } from "./ui/icons.tsx";
import { AuditScreen } from "./screens/audit.tsx";
import { FlowsScreen } from "./screens/flows.tsx";
import { HealthScreen } from "./screens/health.tsx";
import { ModulesScreen } from "./screens/modules.tsx";
import { QuarantineScreen } from "./screens/quarantine.tsx";
import { QueuesScreen } from "./screens/queues.tsx";
import { RunScreen } from "./screens/run.tsx";
import { RunsScreen } from "./screens/runs.tsx";
import { SchedulesScreen } from "./screens/schedules.tsx";
import { WorkersScreen } from "./screens/workers.tsx";

export type Screen = {
  /** The beginning of its address. */
  path: string;
  name: string;
  icon: IconName;
  component: ComponentType;
  /** What is below its address: the rest of the path names it. */
  item?: ComponentType<{ id: string }>;
};

export const SCREENS: Screen[] = [
  { path: "/ui/runs", name: "Runs", icon: "runs", component: RunsScreen, item: RunScreen },
  { path: "/ui/flows", name: "Flows", icon: "flows", component: FlowsScreen },
  { path: "/ui/schedules", name: "Schedules", icon: "schedules", component: SchedulesScreen },
  { path: "/ui/queues", name: "Queues", icon: "queues", component: QueuesScreen },
  { path: "/ui/workers", name: "Workers", icon: "workers", component: WorkersScreen },
  { path: "/ui/modules", name: "Modules", icon: "modules", component: ModulesScreen },
  { path: "/ui/quarantine", name: "Quarantine", icon: "quarantine", component: QuarantineScreen },
  { path: "/ui/audit", name: "Audit", icon: "audit", component: AuditScreen },
  { path: "/ui/health", name: "Health", icon: "health", component: HealthScreen },
];

/** The screen at a path, and the name of what it shows, if it shows one thing. */
export function screenAt(path: string): { screen: Screen; id: string | null } | null {
  for (const screen of SCREENS) {
    if (path === screen.path || path === `${screen.path}/`) return { screen, id: null };
    if (screen.item && path.startsWith(`${screen.path}/`)) {
      try {
        return { screen, id: decodeURIComponent(path.slice(screen.path.length + 1)) };
      } catch {
        return null;
      }
    }
  }
  return null;
}
