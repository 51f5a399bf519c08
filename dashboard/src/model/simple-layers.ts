// A plain layered layout, for graphs that dagre does not lay out well: those that are deeper than the stack, since it visits nodes by
// calling itself, and those with layers of hundreds of nodes, which would be columns without an end.

import { GAP, type Box, type Layered, type Point } from "./graph.ts";

/** How often the layers are ordered by their neighbours, there and back. */
const SWEEPS = 4;

export const simpleLayers: Layered = (nodes, links, direction) => {
  const index = new Map(nodes.map((node, index) => [node.name, index]));
  const edges = links.map(({ from, to }) => ({ from: index.get(from) ?? -1, to: index.get(to) ?? -1 }));
  const after: number[][] = nodes.map(() => []);
  const before: number[][] = nodes.map(() => []);
  for (const { from, to } of edges) {
    after[from]?.push(to);
    before[to]?.push(from);
  }
  const layers = inLayers(nodes.length, after, before);
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    for (let layer = 1; layer < layers.length; layer += 1) order(layers, layer, layer - 1, before);
    // The last word has the way there: what follows from one node stays together.
    if (sweep === SWEEPS - 1) break;
    for (let layer = layers.length - 2; layer >= 0; layer -= 1) order(layers, layer, layer + 1, after);
  }
  return place(nodes, edges, folded(nodes, layers, direction), direction);
};

/** The layers, with long ones folded into several, so that the whole is about as wide as it is high. */
function folded(nodes: { width: number; height: number }[], layers: number[][], direction: "right" | "down"): number[][] {
  const area = nodes.reduce((sum, { width, height }) => sum + (width + GAP.node) * (height + GAP.node), 0);
  const side = Math.sqrt(area * 1.2);
  return layers.flatMap((layer) => {
    const across = layer.reduce((sum, node) => sum + GAP.node + ((direction === "right" ? nodes[node]?.height : nodes[node]?.width) ?? 0), 0);
    const parts = Math.max(1, Math.min(layer.length, Math.ceil(across / Math.max(side, 600))));
    const each = Math.ceil(layer.length / parts);
    return Array.from({ length: Math.ceil(layer.length / each) || 1 }, (_, part) => layer.slice(part * each, (part + 1) * each));
  });
}

/** The number of layers, and of nodes in the longest one. */
export function extent(nodes: { name: string }[], links: { from: string; to: string }[]): { layers: number; longest: number } {
  const index = new Map(nodes.map((node, index) => [node.name, index]));
  const after: number[][] = nodes.map(() => []);
  const before: number[][] = nodes.map(() => []);
  for (const link of links) {
    const [from, to] = [index.get(link.from) ?? -1, index.get(link.to) ?? -1];
    after[from]?.push(to);
    before[to]?.push(from);
  }
  const layers = inLayers(nodes.length, after, before);
  return { layers: layers.length, longest: greatest(layers, (layer) => layer.length) };
}

/** The greatest of numbers; 0 if there is none. A list may be longer than what a function takes as arguments. */
function greatest<Item>(items: Item[], of: (item: Item) => number): number {
  return items.reduce((most, item) => Math.max(most, of(item)), 0);
}

/** The nodes in layers: each is one layer after the last of those before it. */
function inLayers(count: number, after: number[][], before: number[][]): number[][] {
  const left = before.map((list) => list.length);
  const rank = new Array<number>(count).fill(0);
  const ready = left.flatMap((number, node) => (number === 0 ? [node] : []));
  for (let at = 0; at < ready.length; at += 1) {
    const node = ready[at] as number;
    for (const next of after[node] ?? []) {
      rank[next] = Math.max(rank[next] ?? 0, (rank[node] ?? 0) + 1);
      left[next] = (left[next] ?? 0) - 1;
      if (left[next] === 0) ready.push(next);
    }
  }
  const layers: number[][] = [];
  rank.forEach((layer, node) => (layers[layer] ??= []).push(node));
  return Array.from(layers, (layer) => layer ?? []);
}

/** Orders a layer by the middle of the neighbours in the layer beside it. */
function order(layers: number[][], layer: number, beside: number, neighbours: number[][]): void {
  const place = new Map((layers[beside] ?? []).map((node, at) => [node, at]));
  const nodes = layers[layer] ?? [];
  const middle = new Map(
    nodes.map((node, at) => {
      const known = (neighbours[node] ?? []).flatMap((other) => place.get(other) ?? []);
      return [node, known.length ? known.reduce((sum, at) => sum + at, 0) / known.length : at];
    }),
  );
  nodes.sort((one, other) => (middle.get(one) ?? 0) - (middle.get(other) ?? 0));
}

function place(
  nodes: { name: string; width: number; height: number }[],
  edges: { from: number; to: number }[],
  layers: number[][],
  direction: "right" | "down",
): { width: number; height: number; nodes: Map<string, Box>; links: Point[][] } {
  const along = (node: number) => (direction === "right" ? nodes[node]?.width : nodes[node]?.height) ?? 0;
  const across = (node: number) => (direction === "right" ? nodes[node]?.height : nodes[node]?.width) ?? 0;
  const breadth = (layer: number[]) => layer.reduce((sum, node) => sum + across(node) + GAP.node, -GAP.node);
  const broadest = greatest(layers, breadth);
  const boxes: Box[] = [];
  let position = 0;
  for (const layer of layers) {
    const depth = greatest(layer, along);
    let offset = (broadest - breadth(layer)) / 2;
    for (const node of layer) {
      const [width, height] = [nodes[node]?.width ?? 0, nodes[node]?.height ?? 0];
      const shift = position + (depth - along(node)) / 2;
      boxes[node] = direction === "right" ? { x: shift, y: offset, width, height } : { x: offset, y: shift, width, height };
      offset += across(node) + GAP.node;
    }
    position += depth + GAP.rank;
  }
  const links = edges.map(({ from, to }) => {
    const [start, end] = [boxes[from], boxes[to]];
    if (!start || !end) return [];
    if (direction === "right") {
      return [{ x: start.x + start.width, y: start.y + start.height / 2 }, { x: end.x, y: end.y + end.height / 2 }];
    }
    return [{ x: start.x + start.width / 2, y: start.y + start.height }, { x: end.x + end.width / 2, y: end.y }];
  });
  const length = Math.max(0, position - GAP.rank);
  return {
    width: direction === "right" ? length : broadest,
    height: direction === "right" ? broadest : length,
    nodes: new Map(nodes.map((node, at) => [node.name, boxes[at] ?? { x: 0, y: 0, width: node.width, height: node.height }])),
    links,
  };
}
