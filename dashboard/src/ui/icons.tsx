// Icons, each on a field of 16 by 16. The shape of a state tells it without its colour.

import type { ComponentChildren } from "preact";

import type { Look } from "../model/states.ts";

/** The lines of the icon of each state. */
export const SHAPES: { [look in Look]: { stroke?: string; fill?: string; dashed?: boolean } } = {
  pending: { stroke: "M8 2.5a5.5 5.5 0 1 1 0 11a5.5 5.5 0 1 1 0-11" },
  running: { stroke: "M8 2a6 6 0 1 1 0 12a6 6 0 1 1 0-12", fill: "M6.4 5.2v5.6L11 8z" },
  waiting: { stroke: "M8 2a6 6 0 1 1 0 12a6 6 0 1 1 0-12M8 4.8V8l2.2 1.6" },
  success: { stroke: "M8 2a6 6 0 1 1 0 12a6 6 0 1 1 0-12M5.2 8.2l2 2 3.7-4.2" },
  failure: { stroke: "M8 2a6 6 0 1 1 0 12a6 6 0 1 1 0-12M5.8 5.8l4.4 4.4m0-4.4l-4.4 4.4" },
  "rolling-back": { stroke: "M8 2a6 6 0 1 1 0 12a6 6 0 1 1 0-12", fill: "M9.6 5.2v5.6L5 8z" },
  "rolled-back": { stroke: "M5.5 3L2.8 5.7l2.7 2.7M3 5.7h6.3a3.7 3.7 0 0 1 0 7.4H5.5" },
  "rollback-failure": { stroke: "M5.5 1.8h5L14.2 5.5v5L10.5 14.2h-5L1.8 10.5v-5zM8 4.8v4M8 11v.4" },
  ignored: { stroke: "M8 2.5a5.5 5.5 0 1 1 0 11a5.5 5.5 0 1 1 0-11M4.3 11.7l7.4-7.4", dashed: true },
  retrying: { stroke: "M13.3 6.2A5.6 5.6 0 1 0 13.6 9M13.7 2.8v3.6h-3.6" },
  suspended: { stroke: "M8 2a6 6 0 1 1 0 12a6 6 0 1 1 0-12M6.4 5.8v4.4M9.6 5.8v4.4" },
  unknown: { stroke: "M8 2a6 6 0 1 1 0 12a6 6 0 1 1 0-12M6.4 6.5a1.6 1.6 0 1 1 2.3 1.4c-.5.3-.7.6-.7 1.2M8 11v.3" },
};

/** The shape of a state, as parts of a drawing. */
export function Shape({ look }: { look: Look }) {
  const { stroke, fill } = SHAPES[look];
  return (
    <>
      {stroke ? <path class="line" d={stroke} /> : null}
      {fill ? <path class="area" d={fill} /> : null}
    </>
  );
}

export function StateIcon({ look }: { look: Look }) {
  return (
    <svg class="icon" viewBox="0 0 16 16" aria-hidden="true">
      <Shape look={look} />
    </svg>
  );
}

const PATHS = {
  runs: "M2.5 4h11M2.5 8h11M2.5 12h7",
  flows: "M2.5 2.5h4.5v3.5H2.5zM9 10h4.5v3.5H9zM4.7 6v5.8H9",
  schedules: "M8 2a6 6 0 1 1 0 12a6 6 0 1 1 0-12M8 4.6V8l2.4 1.5",
  queues: "M2.5 4v8M5.5 4v8M8.5 4v8M11 8h3M12.4 6.2L14.2 8l-1.8 1.8",
  quarantine: "M8 1.8l5 1.8v4c0 3-2.1 5.4-5 6.6c-2.9-1.2-5-3.6-5-6.6v-4zM8 5v3.4M8 10.8v.2",
  audit: "M4 2h5.5L12.5 5v9H4zM6.3 7.2h4M6.3 9.6h4M6.3 12h2.4",
  workers: "M3 3.5h10v4H3zM3 8.5h10v4H3zM5.5 5.5h.2M5.5 10.5h.2",
  modules: "M8 1.8l5.4 3v6.4L8 14.2l-5.4-3V4.8zM2.8 4.9L8 7.8l5.2-2.9M8 7.8v6.2",
  health: "M1.8 8.5h3l1.7-4.5 3 8 1.7-3.5h3",
  sun: "M8 5a3 3 0 1 1 0 6a3 3 0 1 1 0-6M8 1.2v1.6M8 13.2v1.6M1.2 8h1.6M13.2 8h1.6M3.2 3.2l1.1 1.1M11.7 11.7l1.1 1.1M3.2 12.8l1.1-1.1M11.7 4.3l1.1-1.1",
  moon: "M13.2 9.4A5.6 5.6 0 0 1 6.6 2.8a5.6 5.6 0 1 0 6.6 6.6z",
  system: "M2 3h12v8H2zM6 13.5h4M8 11v2.5",
  copy: "M5.5 5.5h7v8h-7zM10.5 5.5v-3h-7v8h2",
  close: "M4 4l8 8M12 4l-8 8",
  plus: "M8 3v10M3 8h10",
  minus: "M3 8h10",
  fit: "M2.5 6v-3.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10",
  right: "M6 3.5L10.5 8 6 12.5",
  left: "M10 3.5L5.5 8l4.5 4.5",
  key: "M10.5 2.5a3 3 0 1 1 0 6a3 3 0 1 1 0-6M8.3 7.7L3 13v1h2.5v-1.5H7V11",
  download: "M8 2.5v7.5M4.8 7L8 10.2 11.2 7M3 13.5h10",
  search: "M7 2.5a4.5 4.5 0 1 1 0 9a4.5 4.5 0 1 1 0-9M10.3 10.3L13.8 13.8",
  refresh: "M13.3 6.2A5.6 5.6 0 1 0 13.6 9M13.7 2.8v3.6h-3.6",
};

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 16 16" aria-hidden="true">
      <path class="line" d={PATHS[name]} />
    </svg>
  );
}

/** A button with an icon and a name for those who do not see it. */
export function IconButton(props: {
  name: IconName;
  label: string;
  onClick: () => void;
  pressed?: boolean;
  children?: ComponentChildren;
}) {
  return (
    <button type="button" class="icon-button" aria-label={props.label} title={props.label} aria-pressed={props.pressed} onClick={props.onClick}>
      <Icon name={props.name} />
      {props.children}
    </button>
  );
}
