// The graph of a run, drawn and live: it can be moved and zoomed, with the mouse, fingers or keys.

import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";

import type { GraphLink, GraphNode, RunGraph } from "../../api/types.ts";
import {
  firstView,
  fit,
  linkLook,
  neighbour,
  overlap,
  path,
  reveal,
  together,
  visible,
  zoom,
  type Box,
  type Direction,
  type Layout,
  type LinkLook,
  type Point,
  type View,
} from "../../model/graph.ts";
import { linkKey, type Mark } from "../../model/revisions.ts";
import { cut, oneLine, shortName } from "../../model/text.ts";
import { useIsNarrow, useSize } from "../../ui/hooks.ts";
import { IconButton, Shape } from "../../ui/icons.tsx";
import { Waiting } from "../../ui/parts.tsx";
import { useLayout } from "./layout.ts";
import type { NodeView, RunData } from "./use-run.ts";

/** Below this scale nodes have no text: nobody could read it. */
const READABLE = 0.38;

/** What the window showed when the graph was last drawn. */
type Drawn = { window: Box; isReadable: boolean };

/** What the graph shows of a run. */
export type GraphData = Pick<RunData, "run" | "node">;

/** The parts of a graph that differ from another graph, each by its name or by the key of a link. */
export type Marks = { nodes: ReadonlyMap<string, Mark>; links: ReadonlyMap<string, Mark> };

type GraphProps = {
  data: GraphData;
  graph: RunGraph;
  selected: string;
  onSelect: (name: string) => void;
  /** The name of the graph for those who do not see it. */
  label?: string;
  marks?: Marks;
};

export function GraphView(props: GraphProps) {
  const isNarrow = useIsNarrow();
  const { drawable, error } = useLayout(props.graph, isNarrow ? "down" : "right");
  if (error) return <p class="notice bad">The graph cannot be drawn: {oneLine(error)}</p>;
  if (!drawable) {
    return (
      <div class="graph">
        <Waiting />
      </div>
    );
  }
  const { graph, layout } = drawable;
  return <Drawing {...props} key={layout.direction} graph={graph} layout={layout} />;
}

function Drawing(props: GraphProps & { layout: Layout }) {
  const { data, graph, layout, selected, onSelect, label = "Graph of the run" } = props;
  const [attach, size] = useSize<HTMLDivElement>();
  const box = useRef<HTMLDivElement | null>(null);
  const attachWindow = useCallback(
    (element: HTMLDivElement | null) => {
      box.current = element;
      attach(element);
    },
    [attach],
  );
  const moving = useRef<SVGGElement>(null);
  const view = useRef<View>({ scale: 1, x: 0, y: 0 });
  const hasMoved = useRef(false);
  const [drawn, setDrawn] = useState<Drawn | null>(null);
  const [current, setCurrent] = useState<string>("");

  const show = useCallback(
    (next: View) => {
      view.current = next;
      moving.current?.setAttribute("transform", `translate(${next.x} ${next.y}) scale(${next.scale})`);
      const isReadable = next.scale >= READABLE;
      setDrawn((before) => {
        const wanted = visible(next, size);
        // The margin is half a window: a little movement needs no new drawing.
        const seen = { x: wanted.x + wanted.width / 4, y: wanted.y + wanted.height / 4, width: wanted.width / 2, height: wanted.height / 2 };
        const isInside =
          before !== null &&
          before.isReadable === isReadable &&
          before.window.x <= seen.x &&
          before.window.y <= seen.y &&
          before.window.x + before.window.width >= seen.x + seen.width &&
          before.window.y + before.window.height >= seen.y + seen.height &&
          before.window.width <= wanted.width * 3;
        return isInside ? before : { window: wanted, isReadable };
      });
    },
    [size],
  );
  const fitAll = useCallback(() => {
    hasMoved.current = false;
    show(fit(layout, size));
  }, [layout, size, show]);
  useEffect(() => {
    if (!size.width) return;
    if (hasMoved.current) show(view.current);
    else show(firstView(layout, size, READABLE * 0.6, layout.nodes.get(interesting(data, graph)) ?? null));
    // Only another layout or size makes another view: a change of the run moves nothing.
  }, [layout, size, show]);
  const move = useCallback(
    (next: View) => {
      hasMoved.current = true;
      show(next);
    },
    [show],
  );
  const zoomBy = (factor: number) => move(zoom(view.current, factor, { x: size.width / 2, y: size.height / 2 }));

  usePointers(box, view, move, size.width > 0);

  const goTo = (name: string) => {
    setCurrent(name);
    const place = layout.nodes.get(name);
    if (place) move(reveal(view.current.scale < READABLE ? zoom(view.current, READABLE / view.current.scale, { x: size.width / 2, y: size.height / 2 }) : view.current, place, size));
  };
  const tasks = useMemo(() => {
    const flows = new Set(graph.nodes.filter((node) => node.kind === "flow").map((node) => node.name));
    return new Map([...layout.nodes].filter(([name]) => !flows.has(name)));
  }, [layout, graph]);
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = 80;
    const { scale, x, y } = view.current;
    const pans: { [key: string]: View } = {
      ArrowLeft: { scale, x: x + step, y },
      ArrowRight: { scale, x: x - step, y },
      ArrowUp: { scale, x, y: y + step },
      ArrowDown: { scale, x, y: y - step },
    };
    const pan = pans[event.key];
    if (pan && event.shiftKey) move(pan);
    else if (pan) {
      const from = tasks.has(current) ? current : "";
      const next = from ? neighbour(event.key, from, tasks) : (selected && tasks.has(selected) ? selected : graph.nodes.find((node) => node.kind !== "flow")?.name);
      if (next) goTo(next);
    } else if (event.key === "+" || event.key === "=") zoomBy(1.25);
    else if (event.key === "-") zoomBy(0.8);
    else if (event.key === "0") fitAll();
    else if ((event.key === "Enter" || event.key === " ") && current) onSelect(current);
    else if (event.key === "Escape" && selected) onSelect("");
    else return;
    event.preventDefault();
  };
  const currentNode = graph.nodes.find((node) => node.name === current);
  return (
    <div class="graph">
      <div
        class="graph-window"
        ref={attachWindow}
        tabIndex={0}
        role="application"
        aria-label={`${label}. Arrow keys go from task to task, Enter shows a task, plus and minus zoom, 0 shows everything. The list has the same tasks.`}
        aria-activedescendant={current && drawn?.isReadable ? nodeId(graph, current) : undefined}
        onKeyDown={onKeyDown}
        onClick={(event) => {
          if (drawn?.isReadable !== false) return;
          const corner = event.currentTarget.getBoundingClientRect();
          const { scale, x, y } = view.current;
          const at = { x: (event.clientX - corner.left - x) / scale, y: (event.clientY - corner.top - y) / scale, width: 0, height: 0 };
          const hit = [...tasks].find(([, box]) => overlap(box, at));
          if (hit) {
            setCurrent(hit[0]);
            onSelect(hit[0]);
          }
        }}
      >
        <svg class="graph-drawing" width="100%" height="100%" aria-hidden={false}>
          <g ref={moving}>
            {drawn ? (
              <Content
                data={data}
                graph={graph}
                layout={layout}
                drawn={drawn}
                marks={props.marks}
                selected={selected}
                current={current}
                onSelect={(name) => {
                  setCurrent(name);
                  onSelect(name);
                }}
              />
            ) : null}
          </g>
        </svg>
      </div>
      <p class="visually-hidden" role="status">
        {currentNode ? describeNode(currentNode, data.node(current, currentNode)) : ""}
      </p>
      <div class="graph-tools" role="group" aria-label="Zoom">
        <IconButton name="plus" label="Zoom in" onClick={() => zoomBy(1.25)} />
        <IconButton name="minus" label="Zoom out" onClick={() => zoomBy(0.8)} />
        <IconButton name="fit" label="Show everything" onClick={fitAll} />
      </div>
    </div>
  );
}

/** Moves and zooms the graph by pointers and by the wheel. */
function usePointers(box: { current: HTMLDivElement | null }, view: { current: View }, move: (view: View) => void, isThere: boolean): void {
  const mover = useRef(move);
  mover.current = move;
  useEffect(() => {
    const element = box.current;
    if (!element) return undefined;
    const pointers = new Map<number, Point>();
    let travelled = 0;
    const at = (event: { clientX: number; clientY: number }) => {
      const corner = element.getBoundingClientRect();
      return { x: event.clientX - corner.left, y: event.clientY - corner.top };
    };
    const down = (event: PointerEvent) => {
      if (event.button !== 0) return;
      if (!pointers.size) travelled = 0;
      pointers.set(event.pointerId, at(event));
    };
    const moved = (event: PointerEvent) => {
      const before = pointers.get(event.pointerId);
      if (!before) return;
      // The button was let go outside of the window.
      if (!event.buttons) {
        up(event);
        return;
      }
      const now = at(event);
      travelled += Math.abs(now.x - before.x) + Math.abs(now.y - before.y);
      const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
      pointers.set(event.pointerId, now);
      // A click does not move the graph.
      if (travelled < 4) return;
      if (!element.hasPointerCapture(event.pointerId)) element.setPointerCapture(event.pointerId);
      element.classList.add("moving");
      if (!other) {
        const { scale, x, y } = view.current;
        mover.current({ scale, x: x + now.x - before.x, y: y + now.y - before.y });
        return;
      }
      const distance = (one: Point, two: Point) => Math.hypot(one.x - two.x, one.y - two.y) || 1;
      const middle = { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 };
      mover.current(zoom(view.current, distance(now, other) / distance(before, other), middle));
    };
    const up = (event: PointerEvent) => {
      pointers.delete(event.pointerId);
      if (!pointers.size) element.classList.remove("moving");
    };
    // The click at the end of a movement selects nothing.
    const click = (event: MouseEvent) => {
      if (travelled >= 4) event.stopPropagation();
      travelled = 0;
    };
    const wheel = (event: WheelEvent) => {
      event.preventDefault();
      const { scale, x, y } = view.current;
      if (event.shiftKey) {
        mover.current({ scale, x: x - (event.deltaX || event.deltaY), y });
        return;
      }
      const lines = event.deltaMode === 1 ? 16 : 1;
      const by = Math.max(-200, Math.min(200, event.deltaY * lines));
      mover.current(zoom(view.current, Math.exp(-by * (event.ctrlKey ? 0.01 : 0.0018)), at(event)));
    };
    element.addEventListener("pointerdown", down);
    element.addEventListener("pointermove", moved);
    element.addEventListener("pointerup", up);
    element.addEventListener("pointercancel", up);
    element.addEventListener("click", click, true);
    element.addEventListener("wheel", wheel, { passive: false });
    return () => {
      element.removeEventListener("pointerdown", down);
      element.removeEventListener("pointermove", moved);
      element.removeEventListener("pointerup", up);
      element.removeEventListener("pointercancel", up);
      element.removeEventListener("click", click, true);
      element.removeEventListener("wheel", wheel);
    };
  }, [isThere]);
}

/** The task that somebody who opens a large graph probably wants to see. */
function interesting(data: GraphData, graph: RunGraph): string {
  const tasks = graph.nodes.filter((node) => node.kind !== "flow");
  const first = (...states: string[]) => tasks.find((node) => states.includes(data.node(node.name, node).state));
  const found = first("failure", "rollback-failure") ?? first("running", "rolling-back", "retrying", "waiting") ?? tasks[0];
  return found?.name ?? "";
}

function nodeId(graph: RunGraph, name: string): string {
  return `node-${graph.nodes.findIndex((node) => node.name === name)}`;
}

function describeNode(node: GraphNode, now: NodeView): string {
  const words = [oneLine(node.name), now.state];
  if (now.attempt && now.attempt > 1) words.push(`attempt ${now.attempt}`);
  if (now.elements) words.push(`${now.elements.succeeded} of ${now.elements.count} elements`);
  return words.join(", ");
}

function Content(props: {
  data: GraphData;
  graph: RunGraph;
  layout: Layout;
  drawn: Drawn;
  marks: Marks | undefined;
  selected: string;
  current: string;
  onSelect: (name: string) => void;
}) {
  const { data, graph, layout, drawn, marks } = props;
  const seen = graph.nodes.flatMap((node, index) => {
    const box = layout.nodes.get(node.name);
    return box && overlap(box, drawn.window) ? [{ node, box, index }] : [];
  });
  const failures = data.run?.failures ?? null;
  const flows = seen.filter(({ node }) => node.kind === "flow");
  const tasks = seen.filter(({ node }) => node.kind !== "flow");
  return (
    <>
      {flows.map(({ node, box, index }) => (
        <Frame
          key={node.name}
          id={`node-${index}`}
          node={node}
          now={data.node(node.name, node)}
          box={box}
          mark={marks?.nodes.get(node.name)}
          isReadable={drawn.isReadable}
        />
      ))}
      <Links data={data} graph={graph} layout={layout} drawn={drawn} marks={marks} />
      {drawn.isReadable ? null : <FarTasks data={data} tasks={tasks} marks={marks} selected={props.selected} />}
      {(drawn.isReadable ? tasks : []).map(({ node, box, index }) => (
        <TaskNode
          key={node.name}
          id={`node-${index}`}
          node={node}
          now={data.node(node.name, node)}
          box={box}
          mark={marks?.nodes.get(node.name)}
          isSelected={node.name === props.selected}
          isCurrent={node.name === props.current}
          isCulprit={failures !== null && Object.hasOwn(failures, node.name)}
          onSelect={props.onSelect}
        />
      ))}
    </>
  );
}

function TaskNode(props: {
  id: string;
  node: GraphNode;
  now: NodeView;
  box: Box;
  mark: Mark | undefined;
  isSelected: boolean;
  isCurrent: boolean;
  /** Whether the run failed because of it. */
  isCulprit: boolean;
  onSelect: (name: string) => void;
}) {
  const { node, now, box } = props;
  const classes = ["node", now.look];
  if (props.isSelected) classes.push("selected");
  if (props.isCurrent) classes.push("current");
  if (props.isCulprit) classes.push("culprit");
  if (node.removed) classes.push("removed");
  if (props.mark) classes.push(`mark-${props.mark}`);
  if (node.is_failure_handler) classes.push("handler");
  const share = now.elements?.count ? now.elements.succeeded / now.elements.count : null;
  return (
    <g
      id={props.id}
      class={classes.join(" ")}
      transform={`translate(${box.x} ${box.y})`}
      role="img"
      aria-label={describeNode(node, now)}
      onClick={() => props.onSelect(node.name)}
    >
      {node.kind === "for-each" ? <rect class="node-stack" x="5" y="5" width={box.width} height={box.height} rx="9" /> : null}
      <rect class="node-box" width={box.width} height={box.height} rx="9" />
      {share === null ? null : (
        <>
          <rect class="node-progress-track" x="10" y={box.height - 5} width={box.width - 20} height="2" rx="1" />
          <rect class="node-progress" x="10" y={box.height - 5} width={(box.width - 20) * share} height="2" rx="1" />
        </>
      )}
      <g class="node-icon" transform="translate(10 14) scale(1.1)">
        <Shape look={now.look} />
      </g>
      <text class="node-name" x="36" y="20">
        {shortName(node.name, now.mark?.order ? 19 - now.mark.order.length : 21)}
      </text>
      <text class="node-state" x="36" y="35">
        {cut(secondLine(node, now, props.isCulprit), 27).text}
      </text>
      {props.isCulprit ? <circle class="node-mark" cx={box.width - 12} cy="13" r="4" /> : null}
      {now.mark?.order ? (
        <text class="node-order" x={box.width - 8} y="20">
          {now.mark.order}
        </text>
      ) : null}
      <title>{oneLine(node.name)}</title>
    </g>
  );
}

/** Tasks from far away, a path for each look. */
function FarTasks(props: { data: GraphData; tasks: { node: GraphNode; box: Box }[]; marks: Marks | undefined; selected: string }) {
  const { data, tasks, marks, selected } = props;
  const paths = new Map<string, string>();
  for (const { node, box } of tasks) {
    const mark = marks?.nodes.get(node.name);
    const key = node.name === selected ? "selected" : mark ? `mark-${mark}` : data.node(node.name, node).look;
    paths.set(key, `${paths.get(key) ?? ""}M${box.x} ${box.y}h${box.width}v${box.height}h${-box.width}z`);
  }
  return (
    <g class="far">
      {[...paths].map(([key, d]) => (
        <path key={key} class={key} d={d} />
      ))}
    </g>
  );
}

/** The state of a task, and the most important fact about it. */
function secondLine(node: GraphNode, now: NodeView, isCulprit: boolean): string {
  if (now.mark) return now.mark.short;
  const words: string[] = isCulprit && !now.state.includes("failure") ? ["failed", now.state] : [now.state];
  if (now.elements) words.push(`${now.elements.succeeded} of ${now.elements.count}`);
  if (now.attempt && now.attempt > 1) words.push(`#${now.attempt}`);
  if (now.retryIn !== null && now.state === "failure") words.push(`again in ${now.retryIn.toFixed(1)}s`);
  if (node.removed) words.push("removed");
  else if (node.is_failure_handler && now.state === "pending") words.push("on failure");
  return words.join(" · ");
}

function Frame(props: { id: string; node: GraphNode; now: NodeView; box: Box; mark: Mark | undefined; isReadable: boolean }) {
  const { node, now, box, mark } = props;
  return (
    <g id={props.id} class={`flow-frame ${node.state ? now.look : "pending"} ${mark ? `mark-${mark}` : ""}`} transform={`translate(${box.x} ${box.y})`} role="img" aria-label={`flow ${describeNode(node, now)}`}>
      <rect class="frame-box" width={box.width} height={box.height} rx="12" />
      {props.isReadable ? (
        <text class="frame-name" x="14" y="21">
          {shortName(node.name, Math.max(12, Math.floor(box.width / 11)))}
          {mark ? <tspan class="frame-mark"> {mark}</tspan> : null}
          {node.retry ? <tspan class="frame-retry"> {cut(oneLine(node.retry), 40).text}</tspan> : null}
        </text>
      ) : null}
    </g>
  );
}

/** All links, a path for each look: thousands of single paths would be slow. */
function Links(props: { data: GraphData; graph: RunGraph; layout: Layout; drawn: Drawn; marks: Marks | undefined }) {
  const { data, graph, layout, drawn, marks } = props;
  const boxes = useMemo(() => layout.links.map(bounds), [layout]);
  const lines = new Map<string, { look: LinkLook; kind: string; line: string; heads: string }>();
  const labels: { key: number; at: Point; text: string }[] = [];
  const endState = linkStates(data, graph);
  graph.links.forEach((link, index) => {
    const points = layout.links[index];
    const box = boxes[index];
    if (!points?.length || !box || !overlap(box, drawn.window)) return;
    const now = linkLook(endState(link.from), endState(link.to));
    const mark = marks?.links.get(linkKey(link));
    const kind = `${link.back ? "back" : link.conditions?.length ? "conditional" : "plain"}${mark ? ` mark-${mark}` : ""}`;
    const key = `${now} ${kind}`;
    let drawing = lines.get(key);
    if (!drawing) {
      drawing = { look: now, kind, line: "", heads: "" };
      lines.set(key, drawing);
    }
    drawing.line += path(points, link.back ? null : layout.direction);
    if (drawn.isReadable) {
      drawing.heads += arrow(now === "undoing" || now === "undone" ? [...points].reverse() : points, link.back ? null : layout.direction);
      const text = [...(mark ? [mark] : []), ...(linkText(link) ? [linkText(link)] : [])].join(", ");
      const middle = middleOf(points);
      if (text) labels.push({ key: index, at: middle, text });
    }
  });
  return (
    <g class="links" aria-hidden="true">
      {[...lines].map(([key, { look, kind, line, heads }]) => (
        <g key={key} class={`link-group ${look} ${kind}`}>
          <path class="link-line" d={line} />
          <path class="link-head" d={heads} />
        </g>
      ))}
      {labels.map(({ key, at, text }) => (
        <text key={key} class="link-label" x={at.x} y={at.y - 5}>
          {text}
        </text>
      ))}
    </g>
  );
}

/** Finds the states of the ends of links. That of a nested flow follows from what is in it. */
function linkStates(data: GraphData, graph: RunGraph): (name: string) => string | null {
  const byName = new Map(graph.nodes.map((node) => [node.name, node]));
  const inner = new Map<string, string[]>();
  for (const node of graph.nodes) {
    if (node.within == null) continue;
    const list = inner.get(node.within);
    if (list) list.push(node.name);
    else inner.set(node.within, [node.name]);
  }
  const known = new Map<string, string | null>();
  const find = (name: string): string | null => {
    const before = known.get(name);
    if (before !== undefined) return before;
    const node = byName.get(name);
    const state = !node ? null : node.kind === "flow" ? together((inner.get(name) ?? []).map(find)) : data.node(name, node).look;
    known.set(name, state);
    return state;
  };
  return find;
}

function linkText(link: GraphLink): string {
  const words = (link.conditions ?? []).flatMap(({ on, when }) => [
    ...(on === "success" ? [] : [`on ${on}`]),
    ...(when ? [`when ${when}`] : []),
  ]);
  return cut(oneLine(words.join(", ")), 26).text;
}

/** The point in the middle of a link. */
function middleOf(points: Point[]): Point {
  const [one, two] = [points[Math.floor((points.length - 1) / 2)], points[Math.ceil((points.length - 1) / 2)]];
  return { x: ((one?.x ?? 0) + (two?.x ?? 0)) / 2, y: ((one?.y ?? 0) + (two?.y ?? 0)) / 2 };
}

function bounds(points: Point[]): Box | null {
  if (!points.length) return null;
  const [xs, ys] = [points.map(({ x }) => x), points.map(({ y }) => y)];
  const [x, y] = [Math.min(...xs), Math.min(...ys)];
  return { x, y, width: Math.max(1, Math.max(...xs) - x), height: Math.max(1, Math.max(...ys) - y) };
}

/** The head of an arrow at the end of a path. */
function arrow(points: Point[], direction: Direction | null): string {
  const end = points.at(-1);
  const before = points.at(-2);
  if (!end || !before) return "";
  const [dx, dy] = [end.x - before.x, end.y - before.y];
  // A path reaches its end along the direction of the layers.
  const angle = direction === "right" ? Math.atan2(0, dx) : direction === "down" ? Math.atan2(dy, 0) : Math.atan2(dy, dx);
  const corner = (turn: number) => {
    const x = end.x - 7 * Math.cos(angle + turn);
    const y = end.y - 7 * Math.sin(angle + turn);
    return `${x.toFixed(1)} ${y.toFixed(1)}`;
  };
  return `M${end.x.toFixed(1)} ${end.y.toFixed(1)}L${corner(0.45)}L${corner(-0.45)}Z`;
}
