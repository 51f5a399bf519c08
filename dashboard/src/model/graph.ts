// The layout of the graph of a run. Each flow is laid out by itself, and a nested flow is one node of the flow that contains it.

import type { GraphLink, GraphNode } from "../api/types.ts";

/** Which way the links point. */
export type Direction = "right" | "down";

/** What the layout needs of a graph. */
export type LayoutInput = {
  nodes: { name: string; kind: string; within: string | null }[];
  links: { from: string; to: string; back: boolean }[];
  direction: Direction;
};

export type Box = { x: number; y: number; width: number; height: number };
export type Point = { x: number; y: number };

/** The places of nodes and links. Places are top left corners. */
export type Layout = {
  direction: Direction;
  width: number;
  height: number;
  nodes: Map<string, Box>;
  /** The points of each link, in the order of the input. */
  links: Point[][];
};

/** A layered layout of one flow. */
export type Layered = (
  nodes: { name: string; width: number; height: number }[],
  links: { from: string; to: string }[],
  direction: Direction,
) => { width: number; height: number; nodes: Map<string, Box>; links: Point[][] };

export const NODE = { width: 188, height: 46 };
const FRAME = { side: 14, top: 34, bottom: 14, width: 150 };
export const GAP = { rank: 44, node: 14, parts: 26 };

/** The input of the layout for a graph. */
export function layoutInput(nodes: GraphNode[], links: GraphLink[], direction: Direction): LayoutInput {
  return {
    nodes: nodes.map(({ name, kind, within }) => ({ name, kind, within: within ?? null })),
    links: links.map(({ from, to, back }) => ({ from, to, back: back ?? false })),
    direction,
  };
}

/** Lays a graph out. */
export function layOut(input: LayoutInput, layered: Layered): Layout {
  const children = new Map<string | null, string[]>();
  const parent = new Map<string, string | null>();
  const isFlow = new Set<string>();
  for (const node of input.nodes) {
    const list = children.get(node.within);
    if (list) list.push(node.name);
    else children.set(node.within, [node.name]);
    parent.set(node.name, node.within);
    if (node.kind === "flow") isFlow.add(node.name);
  }
  const linksOf = new Map<string | null, number[]>();
  input.links.forEach((link, index) => {
    const within = parent.get(link.from);
    if (within === undefined || parent.get(link.to) !== within) return;
    const list = linksOf.get(within);
    if (list) list.push(index);
    else linksOf.set(within, [index]);
  });
  const result: Layout = { direction: input.direction, width: 0, height: 0, nodes: new Map(), links: input.links.map(() => []) };
  // Each flow relative to its own corner; then everything is moved to its place.
  const inner = new Map<string | null, { width: number; height: number; nodes: Map<string, Box>; links: Map<number, Point[]> }>();
  const arrange = (flow: string | null) => {
    const names = children.get(flow) ?? [];
    for (const name of names) if (isFlow.has(name)) arrange(name);
    const sized = names.map((name) => ({ name, ...sizeOf(name) }));
    inner.set(flow, arrangeFlow(sized, linksOf.get(flow) ?? [], input, layered));
  };
  const sizeOf = (name: string) => {
    const content = isFlow.has(name) ? inner.get(name) : undefined;
    if (!content) return NODE;
    return {
      width: Math.max(FRAME.width, content.width + 2 * FRAME.side),
      height: content.height + FRAME.top + FRAME.bottom,
    };
  };
  const place = (flow: string | null, x: number, y: number) => {
    const content = inner.get(flow);
    if (!content) return;
    for (const [name, box] of content.nodes) {
      result.nodes.set(name, { ...box, x: box.x + x, y: box.y + y });
      if (isFlow.has(name)) {
        const nested = inner.get(name);
        const side = nested ? (box.width - nested.width) / 2 : FRAME.side;
        place(name, box.x + x + side, box.y + y + FRAME.top);
      }
    }
    for (const [index, points] of content.links) {
      result.links[index] = points.map((point) => ({ x: point.x + x, y: point.y + y }));
    }
  };
  arrange(null);
  place(null, 0, 0);
  const whole = inner.get(null);
  result.width = whole?.width ?? 0;
  result.height = whole?.height ?? 0;
  return result;
}

/** Arranges the nodes directly in a flow. Nodes without links stand in a grid below the others: a layer of them would be endless. */
function arrangeFlow(
  nodes: { name: string; width: number; height: number }[],
  indices: number[],
  input: LayoutInput,
  layered: Layered,
): { width: number; height: number; nodes: Map<string, Box>; links: Map<number, Point[]> } {
  // Back edges do not order the tasks: they are drawn around the nodes, and do not change the layers.
  const forward = indices.filter((index) => !input.links[index]?.back && input.links[index]?.from !== input.links[index]?.to);
  const linked = new Set<string>();
  for (const index of forward) {
    const link = input.links[index];
    if (!link) continue;
    linked.add(link.from);
    linked.add(link.to);
  }
  const placed = new Map<string, Box>();
  const points = new Map<number, Point[]>();
  const inLayers = nodes.filter((node) => linked.has(node.name));
  const alone = nodes.filter((node) => !linked.has(node.name));
  let width = 0;
  let height = 0;
  if (inLayers.length) {
    const links = forward.flatMap((index) => input.links[index] ?? []);
    const drawn = layered(inLayers, links, input.direction);
    for (const [name, box] of drawn.nodes) placed.set(name, box);
    forward.forEach((index, position) => {
      const [from, to] = [placed.get(input.links[index]?.from ?? ""), placed.get(input.links[index]?.to ?? "")];
      if (from && to) points.set(index, throughPorts(drawn.links[position] ?? [], from, to, input.direction));
    });
    width = drawn.width;
    height = drawn.height;
  }
  if (alone.length) {
    const grid = arrangeGrid(alone, input.direction);
    const top = height ? height + GAP.parts : 0;
    for (const [name, box] of grid.nodes) placed.set(name, { ...box, y: box.y + top });
    width = Math.max(width, grid.width);
    height = top + grid.height;
  }
  let bottom = height;
  for (const index of indices) {
    const link = input.links[index];
    if (!link || points.has(index)) continue;
    const from = placed.get(link.from);
    const to = placed.get(link.to);
    if (!from || !to) continue;
    const around = aroundBelow(from, to, height);
    points.set(index, around);
    bottom = Math.max(bottom, ...around.map((point) => point.y + 6));
  }
  return { width, height: bottom, nodes: placed, links: points };
}

/** Rows of nodes, about as wide as they are high on a screen. */
export function arrangeGrid(
  nodes: { name: string; width: number; height: number }[],
  direction: Direction,
): { width: number; height: number; nodes: Map<string, Box> } {
  const area = nodes.reduce((sum, node) => sum + (node.width + GAP.node) * (node.height + GAP.node), 0);
  const shape = direction === "right" ? 1.9 : 0.7;
  const widest = nodes.reduce((most, node) => Math.max(most, node.width), 0);
  const limit = Math.max(widest, Math.sqrt(area * shape));
  const placed = new Map<string, Box>();
  let x = 0;
  let y = 0;
  let row = 0;
  let width = 0;
  for (const node of nodes) {
    if (x > 0 && x + node.width > limit) {
      x = 0;
      y += row + GAP.node;
      row = 0;
    }
    placed.set(node.name, { x, y, width: node.width, height: node.height });
    x += node.width + GAP.node;
    row = Math.max(row, node.height);
    width = Math.max(width, x - GAP.node);
  }
  return { width, height: y + row, nodes: placed };
}

/** The points of a back edge: out at the bottom of its source, below everything, and into the bottom of its target. */
function aroundBelow(from: Box, to: Box, height: number): Point[] {
  const low = height + 16;
  const start = { x: from.x + from.width * 0.6, y: from.y + from.height };
  const end = { x: to.x + to.width * 0.4, y: to.y + to.height };
  return [start, { x: start.x, y: low }, { x: end.x, y: low }, end];
}

/** The points of a link from the middle of a side of its source to the middle of a side of its target. */
function throughPorts(points: Point[], from: Box, to: Box, direction: Direction): Point[] {
  const [start, end] =
    direction === "right"
      ? [{ x: from.x + from.width, y: from.y + from.height / 2 }, { x: to.x, y: to.y + to.height / 2 }]
      : [{ x: from.x + from.width / 2, y: from.y + from.height }, { x: to.x + to.width / 2, y: to.y }];
  // Between neighbouring layers nothing is in the way.
  const between = points.slice(1, -1);
  return between.length > 1 ? [start, ...between, end] : [start, end];
}

/** A smooth path through points, for the attribute `d`. It leaves and reaches each point along the direction of the layers; `null` is for
 * corners of their own. */
export function path(points: Point[], direction: Direction | null): string {
  const [first, ...rest] = points;
  if (!first || !rest.length) return "";
  let text = `M${round(first.x)} ${round(first.y)}`;
  if (direction === null) {
    return text + rest.map((point) => `L${round(point.x)} ${round(point.y)}`).join("");
  }
  let before = first;
  for (const point of rest) {
    const [dx, dy] = direction === "right" ? [(point.x - before.x) / 2, 0] : [0, (point.y - before.y) / 2];
    text += `C${round(before.x + dx)} ${round(before.y + dy)} ${round(point.x - dx)} ${round(point.y - dy)} ${round(point.x)} ${round(point.y)}`;
    before = point;
  }
  return text;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

/** How a link looks while its run goes on and is rolled back. */
export type LinkLook = "idle" | "passed" | "active" | "undoing" | "undone";

/** The look of a link between nodes in these states: a rollback runs from its target back to its source. */
export function linkLook(from: string | null | undefined, to: string | null | undefined): LinkLook {
  if (from === "rolling-back") return "undoing";
  if (to === "rolling-back") return "passed";
  if (from === "rolled-back" || (to === "rolled-back" && from !== "success" && from !== "started")) return "undone";
  if (to === "rolled-back") return "undoing";
  if (from === "success" || from === "started") return to === "running" || to === "waiting" || to === "retrying" ? "active" : isUnreached(to) ? "idle" : "passed";
  return "idle";
}

/** The state of a flow for its links, from the states of what it contains. */
export function together(states: (string | null)[]): string | null {
  let all: string | null = null;
  for (const state of states) {
    if (state === null || state === "ignored") continue;
    if (state === "rolling-back" || state === "running" || state === "waiting") return state;
    if (all === null) all = state;
    else if (all !== state) all = all === "rolled-back" || state === "rolled-back" ? "rolling-back" : "running";
  }
  return all;
}

function isUnreached(state: string | null | undefined): boolean {
  return !state || state === "pending" || state === "ignored";
}

/** The view of a graph: a scale, and where its corner is. */
export type View = { scale: number; x: number; y: number };

/** The view that shows everything. */
export function fit(content: { width: number; height: number }, window: { width: number; height: number }, margin = 24): View {
  const across = (window.width - 2 * margin) / Math.max(1, content.width);
  const down = (window.height - 2 * margin) / Math.max(1, content.height);
  const scale = Math.max(0.02, Math.min(1, across, down));
  return {
    scale,
    x: (window.width - content.width * scale) / 2,
    y: Math.max(margin, (window.height - content.height * scale) / 2),
  };
}

/** The view for the beginning: everything if it can be read, else what is of interest. */
export function firstView(content: { width: number; height: number }, window: { width: number; height: number }, readable: number, interest: Box | null): View {
  const all = fit(content, window);
  if (all.scale >= readable || !interest) return all;
  const scale = Math.max(readable, 0.6);
  return {
    scale,
    x: window.width / 2 - (interest.x + interest.width / 2) * scale,
    y: window.height / 2 - (interest.y + interest.height / 2) * scale,
  };
}

/** The view after zooming by a factor around a point of the window. */
export function zoom(view: View, factor: number, at: Point): View {
  const scale = Math.max(0.02, Math.min(2.5, view.scale * factor));
  const by = scale / view.scale;
  return { scale, x: at.x - (at.x - view.x) * by, y: at.y - (at.y - view.y) * by };
}

/** The view that brings a box into the window, unchanged if it is there. */
export function reveal(view: View, box: Box, window: { width: number; height: number }, margin = 32): View {
  const left = box.x * view.scale + view.x;
  const top = box.y * view.scale + view.y;
  const right = left + box.width * view.scale;
  const bottom = top + box.height * view.scale;
  let { x, y } = view;
  if (left < margin) x += margin - left;
  else if (right > window.width - margin) x -= Math.min(right - window.width + margin, left - margin);
  if (top < margin) y += margin - top;
  else if (bottom > window.height - margin) y -= Math.min(bottom - window.height + margin, top - margin);
  return { scale: view.scale, x, y };
}

/** The part of the graph that a window shows, with a margin of half a window on each side. */
export function visible(view: View, window: { width: number; height: number }): Box {
  const width = window.width / view.scale;
  const height = window.height / view.scale;
  return { x: -view.x / view.scale - width / 2, y: -view.y / view.scale - height / 2, width: width * 2, height: height * 2 };
}

/** Whether two boxes have a point in common. */
export function overlap(one: Box, other: Box): boolean {
  return one.x < other.x + other.width && other.x < one.x + one.width && one.y < other.y + other.height && other.y < one.y + one.height;
}

/** The nodes in the order of an outline, each with its depth: a nested flow stands before what it contains. */
export function outline(nodes: GraphNode[]): { node: GraphNode; depth: number }[] {
  const children = new Map<string | null, GraphNode[]>();
  for (const node of nodes) {
    const within = node.within ?? null;
    const list = children.get(within);
    if (list) list.push(node);
    else children.set(within, [node]);
  }
  const found: { node: GraphNode; depth: number }[] = [];
  const visit = (within: string | null, depth: number) => {
    for (const node of children.get(within) ?? []) {
      found.push({ node, depth });
      if (node.kind === "flow") visit(node.name, depth + 1);
    }
  };
  visit(null, 0);
  return found;
}

/** The node that a key leads to from another one. */
export function neighbour(
  key: string,
  from: string,
  places: ReadonlyMap<string, Box>,
): string | null {
  const here = places.get(from);
  if (!here) return null;
  const middle = (box: Box) => ({ x: box.x + box.width / 2, y: box.y + box.height / 2 });
  const start = middle(here);
  let best: string | null = null;
  let least = Infinity;
  for (const [name, box] of places) {
    if (name === from) continue;
    const { x, y } = middle(box);
    const [dx, dy] = [x - start.x, y - start.y];
    const along = { ArrowRight: dx, ArrowLeft: -dx, ArrowDown: dy, ArrowUp: -dy }[key];
    if (along === undefined || along <= 1) continue;
    const across = key === "ArrowRight" || key === "ArrowLeft" ? Math.abs(dy) : Math.abs(dx);
    if (across > along * 2.5 + 40) continue;
    const cost = along + across * 2;
    if (cost < least) [least, best] = [cost, name];
  }
  return best;
}
