// The parts that screens are made of.

import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

import type { ApiError } from "../api/client.ts";
import { look, type Look } from "../model/states.ts";
import { oneLine } from "../model/text.ts";
import { Icon, IconButton, StateIcon } from "./icons.tsx";
import { LongText } from "./text.tsx";

/** A state: its shape, its colour and its name. */
export function StateBadge({ state, as = look(state), strong = false }: { state: string; as?: Look; strong?: boolean }) {
  const name = oneLine(state);
  return (
    <span class={`state ${as}${strong ? " strong" : ""}`}>
      <StateIcon look={as} />
      {name}
    </span>
  );
}

/** Why something cannot be shown, and what to do about it. */
export function Trouble({ error, onRetry }: { error: ApiError | null; onRetry?: () => void }) {
  if (!error) return null;
  const isLost = error.isUnreachable;
  return (
    <div class={`notice ${isLost ? "warn" : "bad"}`} role="alert">
      <LongText text={isLost ? "Connection lost, trying again…" : error.message} most={600} />
      {error.hint ? <LongText class="quiet" text={error.hint} most={600} /> : null}
      {onRetry && !isLost ? (
        <button type="button" onClick={onRetry}>
          Try again
        </button>
      ) : null}
    </div>
  );
}

/** What stands in place of a list without entries. */
export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children ? <div class="quiet">{children}</div> : null}
    </div>
  );
}

/** What stands in place of something that is being read. It appears late: most answers come at once. */
export function Waiting() {
  const [late, setLate] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setLate(true), 400);
    return () => clearTimeout(timer);
  }, []);
  return <p class="loading quiet" role="status">{late ? "Loading…" : ""}</p>;
}

/** The heading of a screen. */
export function ScreenHead({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="screen-head">
      <h1 tabIndex={-1}>{title}</h1>
      <div class="screen-actions">{children}</div>
    </div>
  );
}

/** A dialog above the page. The browser keeps the focus in it, and Escape closes it. */
export function Dialog(props: {
  title: string;
  onClose: () => void;
  children: ComponentChildren;
  wide?: boolean;
  /** Whether only its own form closes it. */
  fixed?: boolean;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  const isGone = useRef(false);
  // Before the first frame, so that no key goes to the page below.
  useLayoutEffect(() => {
    const element = dialog.current;
    const before = document.activeElement;
    element?.showModal();
    return () => {
      isGone.current = true;
      if (element?.open) element.close();
      if (before instanceof HTMLElement) before.focus();
    };
  }, []);
  return (
    <dialog
      ref={dialog}
      class={props.wide ? "wide" : ""}
      aria-label={props.title}
      onCancel={(event) => {
        event.preventDefault();
        props.onClose();
      }}
      onClose={() => {
        // This event comes later: the page may have opened another dialog since.
        if (isGone.current) return;
        // A second Escape closes a dialog whatever the page says.
        if (props.fixed) dialog.current?.showModal();
        else props.onClose();
      }}
      onClick={(event) => {
        if (event.target === dialog.current) props.onClose();
      }}
    >
      <div class="dialog-body">
        <div class="dialog-head">
          <h2>{props.title}</h2>
          {props.fixed ? null : <IconButton name="close" label="Close" onClick={props.onClose} />}
        </div>
        {props.children}
      </div>
    </dialog>
  );
}

/** Names with values, side by side. */
export function Facts({ children }: { children: ComponentChildren }) {
  return <dl class="facts">{children}</dl>;
}

export function Fact({ name, children }: { name: string; children: ComponentChildren }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

/** A table that may be wider than its place. A reader without a mouse scrolls it with the arrow keys. */
export function TableBox({ label, children }: { label: string; children: ComponentChildren }) {
  const box = useRef<HTMLDivElement>(null);
  const [isCut, setIsCut] = useState(false);
  useEffect(() => {
    const element = box.current;
    if (!element) return undefined;
    const observer = new ResizeObserver(() => setIsCut(element.scrollWidth > element.clientWidth));
    observer.observe(element);
    // Its rows may grow while the place stays.
    if (element.firstElementChild) observer.observe(element.firstElementChild);
    return () => observer.disconnect();
  }, []);
  return (
    <div ref={box} class="table-box" role={isCut ? "group" : undefined} aria-label={isCut ? label : undefined} tabIndex={isCut ? 0 : undefined}>
      {children}
    </div>
  );
}

/** A button that shows and hides details below its row. */
export function Opener(props: { name: string; isOpen: boolean; onToggle: () => void; children: ComponentChildren }) {
  return (
    <button
      type="button"
      class="link opener"
      aria-expanded={props.isOpen}
      aria-label={`${props.isOpen ? "Hide" : "Show"} ${oneLine(props.name)}`}
      onClick={props.onToggle}
    >
      <span class={`turning ${props.isOpen ? "turned" : ""}`}>
        <Icon name="right" />
      </span>
      {props.children}
    </button>
  );
}

/** Links to the first and to the next page of a list; nothing if the list has one page. */
export function Pages(props: {
  label: string;
  /** The address of the first page, on any other page. */
  first: string | null;
  firstName: string;
  next: string | null;
  nextName: string;
  children?: ComponentChildren;
}) {
  if (props.first === null && props.next === null) return null;
  return (
    <nav class="pages" aria-label={props.label}>
      {props.first !== null ? (
        <a class="button" href={props.first}>
          <Icon name="left" /> {props.firstName}
        </a>
      ) : null}
      <span class="quiet">{props.children}</span>
      {props.next !== null ? (
        <a class="button" href={props.next}>
          {props.nextName} <Icon name="right" />
        </a>
      ) : null}
    </nav>
  );
}

/** Links between views of one thing. */
export function Views(props: { label: string; views: { key: string; name: string; address: string }[]; current: string }) {
  return (
    <nav class="views" aria-label={props.label}>
      {props.views.map((view) => (
        <a key={view.key} href={view.address} aria-current={view.key === props.current ? "page" : undefined}>
          {view.name}
        </a>
      ))}
    </nav>
  );
}

/** A list of rows with one height, of which only the visible ones are drawn. */
export function Rows<Item>(props: {
  items: Item[];
  height: number;
  label: string;
  keyOf: (item: Item) => string | number;
  row: (item: Item) => ComponentChildren;
  /** Whether the list stays at its end when rows are added. */
  follow?: boolean;
  class?: string;
}) {
  const { items, height } = props;
  const box = useRef<HTMLDivElement>(null);
  const [view, setView] = useState({ top: 0, height: 600 });
  const atEnd = useRef(true);
  const measure = () => {
    const element = box.current;
    if (!element) return;
    atEnd.current = element.scrollHeight - element.scrollTop - element.clientHeight < height * 1.5;
    setView((before) =>
      before.top === element.scrollTop && before.height === element.clientHeight
        ? before
        : { top: element.scrollTop, height: element.clientHeight },
    );
  };
  useEffect(() => {
    const element = box.current;
    if (!element) return undefined;
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  useEffect(() => {
    const element = box.current;
    if (element && props.follow && atEnd.current) element.scrollTop = element.scrollHeight;
    measure();
  }, [items, props.follow]);
  const first = Math.max(0, Math.floor(view.top / height) - 8);
  const last = Math.min(items.length, Math.ceil((view.top + view.height) / height) + 8);
  return (
    <div
      ref={box}
      class={`rows ${props.class ?? ""}`}
      tabIndex={0}
      role="list"
      aria-label={props.label}
      onScroll={measure}
    >
      <div class="rows-space" role="presentation" style={{ height: `${items.length * height}px` }}>
        {items.slice(first, last).map((item, index) => (
          <div
            key={props.keyOf(item)}
            class="row"
            role="listitem"
            aria-setsize={items.length}
            aria-posinset={first + index + 1}
            style={{ top: `${(first + index) * height}px`, height: `${height}px` }}
          >
            {props.row(item)}
          </div>
        ))}
      </div>
    </div>
  );
}
