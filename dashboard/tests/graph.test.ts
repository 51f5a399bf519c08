import assert from "node:assert/strict";
import { test } from "node:test";

import type { GraphNode } from "../src/api/types.ts";
import { arrangeGrid, fit, layOut, linkLook, neighbour, outline, overlap, path, reveal, together, zoom, type LayoutInput } from "../src/model/graph.ts";
import { layered } from "../src/model/layered.ts";
import { simpleLayers } from "../src/model/simple-layers.ts";

const task = (name: string, within: string | null = null, kind = "task") => ({ name, kind, within });
const link = (from: string, to: string, back = false) => ({ from, to, back });

function laid(input: Partial<LayoutInput>) {
  return layOut({ nodes: [], links: [], direction: "right", ...input }, layered);
}

test("a link leads from left to right, or down", () => {
  const input = { nodes: [task("a"), task("b"), task("c")], links: [link("a", "b"), link("b", "c")] };
  const right = laid(input).nodes;
  assert.ok(right.get("a")!.x + right.get("a")!.width < right.get("b")!.x && right.get("b")!.x < right.get("c")!.x);
  const down = laid({ ...input, direction: "down" }).nodes;
  assert.ok(down.get("a")!.y + down.get("a")!.height < down.get("b")!.y);
});

test("a nested flow is a frame around what it contains", () => {
  const { nodes, links } = laid({
    nodes: [task("a"), task("f", null, "flow"), task("x", "f"), task("g", "f", "flow"), task("y", "g"), task("b")],
    links: [link("a", "f"), link("f", "b"), link("x", "g")],
  });
  const inside = (inner: string, outer: string) => {
    const [small, large] = [nodes.get(inner)!, nodes.get(outer)!];
    assert.ok(small.x > large.x && small.y > large.y, `${inner} in ${outer}`);
    assert.ok(small.x + small.width < large.x + large.width && small.y + small.height < large.y + large.height, `${inner} in ${outer}`);
  };
  inside("x", "f");
  inside("g", "f");
  inside("y", "g");
  assert.ok(!overlap(nodes.get("a")!, nodes.get("f")!) && !overlap(nodes.get("b")!, nodes.get("f")!));
  assert.equal(links.length, 3);
  assert.ok(links.every((points) => points.length >= 2));
});

test("tasks without links stand in a grid", () => {
  const names = Array.from({ length: 100 }, (_, index) => `t${index}`);
  const { nodes, width, height } = laid({ nodes: names.map((name) => task(name)) });
  assert.ok(width < height * 4 && height < width * 2, `${width} by ${height}`);
  const boxes = [...nodes.values()];
  for (const [index, box] of boxes.entries()) {
    for (const other of boxes.slice(index + 1)) assert.ok(!overlap(box, other));
  }
  assert.deepEqual([...arrangeGrid([], "right").nodes], []);
});

test("a cycle and a link to itself are drawn, and do not change the layers", () => {
  const { nodes, links } = laid({ nodes: [task("a"), task("b")], links: [link("a", "b"), link("b", "a", true), link("a", "a", true)] });
  assert.ok(nodes.get("a")!.x < nodes.get("b")!.x);
  assert.ok(links.every((points) => points.length >= 2));
});

test("a graph of 2,000 nodes is laid out in seconds", { timeout: 60_000 }, () => {
  const nodes = Array.from({ length: 2000 }, (_, index) => task(`t${index}`));
  const links = nodes.slice(1).flatMap((_, index) => {
    const to = index + 1;
    return [link(`t${Math.floor(to / 3)}`, `t${to}`), ...(to % 7 === 0 ? [link(`t${Math.max(0, to - 50)}`, `t${to}`)] : [])];
  });
  assert.equal(laid({ nodes, links }).nodes.size, 2000);
});

test("a chain of 2,000 tasks is laid out", { timeout: 60_000 }, () => {
  const nodes = Array.from({ length: 2000 }, (_, index) => task(`t${index}`));
  const links = nodes.slice(1).map((node, index) => link(`t${index}`, node.name));
  const { width } = laid({ nodes, links });
  assert.ok(width > 2000 * 188);
});

test("the plain layout has the same layers", () => {
  const nodes = ["a", "b", "c", "d"].map((name) => ({ name, width: 100, height: 40 }));
  const links = [link("a", "b"), link("a", "c"), link("b", "d"), link("c", "d"), link("a", "d")];
  for (const direction of ["right", "down"] as const) {
    const laid = simpleLayers(nodes, links, direction);
    const at = (name: string) => laid.nodes.get(name)!;
    const along = (name: string) => (direction === "right" ? at(name).x : at(name).y);
    assert.ok(along("a") < along("b") && along("b") === along("c") && along("c") < along("d"));
    assert.ok(!overlap(at("b"), at("c")));
    assert.ok(laid.links.every((points) => points.length === 2));
  }
  const cycle = simpleLayers(nodes.slice(0, 2), [link("a", "b"), link("b", "a")], "right");
  assert.equal(cycle.nodes.size, 2);
});

test("a layer of hundreds of nodes is folded", () => {
  const nodes = [task("start"), ...Array.from({ length: 600 }, (_, index) => task(`t${index}`)), task("end")];
  const links = nodes.slice(1, -1).flatMap(({ name }) => [link("start", name), link(name, "end")]);
  const { width, height, nodes: places } = laid({ nodes, links });
  assert.ok(width < height * 3 && height < width * 3, `${width} by ${height}`);
  const end = places.get("end")!;
  assert.ok([...places].every(([name, box]) => name === "end" || box.x + box.width < end.x));
});

test("names that mean something to JavaScript are names", () => {
  const { nodes } = laid({ nodes: [task("__proto__"), task("constructor"), task("0")], links: [link("constructor", "__proto__"), link("0", "constructor")] });
  assert.equal(nodes.size, 3);
});

test("a rollback runs along the links from their ends to their starts", () => {
  const looks = [
    ["pending", "pending", "idle"],
    ["success", "pending", "idle"],
    ["success", "running", "active"],
    ["success", "success", "passed"],
    ["success", "failure", "passed"],
    ["success", "rolling-back", "passed"],
    ["success", "rolled-back", "undoing"],
    ["rolling-back", "rolled-back", "undoing"],
    ["rolled-back", "rolled-back", "undone"],
    ["rolled-back", "failure", "undone"],
    ["retrying", "pending", "idle"],
  ] as const;
  for (const [from, to, look] of looks) assert.equal(linkLook(from, to), look, `${from} to ${to}`);
  assert.equal(together(["success", null, "ignored"]), "success");
  assert.equal(together(["success", "running"]), "running");
  assert.equal(together([]), null);
});

test("the view shows everything, zooms around a point, and reveals a node", () => {
  const window = { width: 800, height: 400 };
  const all = fit({ width: 1600, height: 100 }, window);
  assert.ok(all.scale < 0.5 && all.x >= 0);
  assert.equal(fit({ width: 10, height: 10 }, window).scale, 1, "nothing is enlarged");
  const at = { x: 100, y: 50 };
  const zoomed = zoom({ scale: 1, x: 10, y: 20 }, 2, at);
  assert.deepEqual([(at.x - zoomed.x) / zoomed.scale, (at.y - zoomed.y) / zoomed.scale], [at.x - 10, at.y - 20]);
  assert.ok(zoom({ scale: 1, x: 0, y: 0 }, 1e9, at).scale <= 2.5);
  const revealed = reveal({ scale: 1, x: 0, y: 0 }, { x: 2000, y: 10, width: 100, height: 40 }, window);
  assert.ok(2000 + revealed.x >= 0 && 2100 + revealed.x <= 800);
});

test("keys lead to the nearest node in their direction", () => {
  const { nodes } = laid({ nodes: [task("a"), task("b"), task("c")], links: [link("a", "b"), link("a", "c")] });
  const right = neighbour("ArrowRight", "a", nodes);
  assert.ok(right === "b" || right === "c");
  assert.equal(neighbour("ArrowLeft", "b", nodes), "a");
  assert.equal(neighbour("ArrowLeft", "a", nodes), null);
  assert.equal(neighbour("ArrowDown", "b", nodes) ?? neighbour("ArrowUp", "b", nodes), "c");
});

test("an outline has nested flows before what they contain", () => {
  const nodes = [task("f", null, "flow"), task("b"), task("x", "f"), task("g", "f", "flow"), task("y", "g")] as unknown as GraphNode[];
  assert.deepEqual(outline(nodes).map(({ node, depth }) => `${depth}${node.name}`), ["0f", "1x", "1g", "2y", "0b"]);
});

test("a path goes through its points", () => {
  const points = [{ x: 0, y: 0 }, { x: 10, y: 6 }];
  assert.equal(path([], "right"), "");
  assert.equal(path(points, null), "M0 0L10 6");
  assert.equal(path(points, "right"), "M0 0C5 0 5 6 10 6");
  assert.equal(path(points, "down"), "M0 0C0 3 10 3 10 6");
});

test("a link leads from the side of its source to that of its target", () => {
  const { nodes, links } = laid({ nodes: [task("a"), task("b"), task("c")], links: [link("a", "b"), link("a", "c"), link("b", "c")] });
  const [a, b] = [nodes.get("a")!, nodes.get("b")!];
  assert.deepEqual(links[0]?.at(0), { x: a.x + a.width, y: a.y + a.height / 2 });
  assert.deepEqual(links[0]?.at(-1), { x: b.x, y: b.y + b.height / 2 });
});
