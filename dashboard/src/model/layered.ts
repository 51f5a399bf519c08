// A layered layout of one flow by dagre.

import { Graph, layout } from "@dagrejs/dagre";

import { GAP, type Box, type Layered, type Point } from "./graph.ts";
import { extent, simpleLayers } from "./simple-layers.ts";

/** The number of nodes and links from which a faster and less tidy way to choose the layers is used. */
const MANY = 400;

/** The number of nodes and links above which dagre takes many seconds. */
const MOST = 2400;

/** The number of nodes in a layer above which it is folded. */
const LONG_LAYER = 40;

/** The number of layers above which dagre is slow, and in the end deeper than the stack. */
const DEEP = 300;

export const layered: Layered = (nodes, links, direction) => {
  const { layers, longest } = extent(nodes, links);
  const isFor = nodes.length + links.length <= MOST && layers <= DEEP && longest <= LONG_LAYER;
  if (!isFor) return simpleLayers(nodes, links, direction);
  try {
    return byDagre(nodes, links, direction);
  } catch (error) {
    // How deep the stack is depends on the browser.
    if (error instanceof RangeError) return simpleLayers(nodes, links, direction);
    throw error;
  }
};

const byDagre: Layered = (nodes, links, direction) => {
  const graph = new Graph({ multigraph: true });
  graph.setGraph({
    rankdir: direction === "right" ? "LR" : "TB",
    ranksep: GAP.rank,
    nodesep: GAP.node,
    edgesep: 8,
    marginx: 0,
    marginy: 0,
    ranker: nodes.length + links.length > MANY ? "longest-path" : "network-simplex",
  });
  graph.setDefaultEdgeLabel(() => ({}));
  // Names of nodes come from people; numbers cannot collide with names that dagre invents.
  const number = new Map(nodes.map((node, index) => [node.name, String(index)]));
  for (const [index, node] of nodes.entries()) {
    graph.setNode(String(index), { width: node.width, height: node.height });
  }
  links.forEach((link, index) => {
    const [from, to] = [number.get(link.from), number.get(link.to)];
    if (from !== undefined && to !== undefined) graph.setEdge(from, to, {}, String(index));
  });
  layout(graph);
  const placed = new Map<string, Box>();
  for (const [index, node] of nodes.entries()) {
    const at = graph.node(String(index)) as { x: number; y: number; width: number; height: number };
    placed.set(node.name, { x: at.x - at.width / 2, y: at.y - at.height / 2, width: at.width, height: at.height });
  }
  const drawn = links.map((link, index) => {
    const [from, to] = [number.get(link.from), number.get(link.to)];
    const edge = from === undefined || to === undefined ? undefined : graph.edge({ v: from, w: to, name: String(index) });
    return ((edge as { points?: Point[] } | undefined)?.points ?? []).map(({ x, y }) => ({ x, y }));
  });
  const whole = graph.graph() as { width?: number; height?: number };
  return { width: whole.width ?? 0, height: whole.height ?? 0, nodes: placed, links: drawn };
};
