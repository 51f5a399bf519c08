// The frame of the page: navigation, theme, token, and the screen.

import type { ComponentChildren } from "preact";
import { useEffect, useErrorBoundary, useRef, useState } from "preact/hooks";

import { forgetToken, giveToken, reachable, token, tokenWanted } from "./api/session.ts";
import { usePlace } from "./router.ts";
import { SCREENS, screenAt } from "./screens.tsx";
import { useStore } from "./store.ts";
import { chooseTheme, theme, type Theme } from "./theme.ts";
import { Icon, IconButton, type IconName } from "./ui/icons.tsx";
import { Dialog, Empty } from "./ui/parts.tsx";
import { LongText } from "./ui/text.tsx";

export function App() {
  const { path } = usePlace();
  const found = screenAt(path);
  const main = useRef<HTMLElement>(null);
  const isFirst = useRef(true);
  useEffect(() => {
    // A reader of the screen hears where a link has led; the first page is read from its start.
    if (!isFirst.current) main.current?.querySelector("h1")?.focus({ preventScroll: true });
    isFirst.current = false;
    scrollTo(0, 0);
  }, [path]);
  const Shown = found?.screen.component;
  const Item = found?.screen.item;
  return (
    <div class="frame">
      <a class="skip" href="#main" onClick={(event) => {
        event.preventDefault();
        main.current?.focus();
      }}>
        Skip to the content
      </a>
      <Side current={found?.screen.path ?? ""} />
      <div class="content">
        <Connection />
        <main id="main" ref={main} tabIndex={-1}>
          <Guarded key={path}>{found && found.id !== null && Item ? <Item key={found.id} id={found.id} /> : Shown ? <Shown /> : <Nowhere />}</Guarded>
        </main>
      </div>
      <TokenPrompt />
    </div>
  );
}

/** Shows a screen, and says so if it fails: the other screens stay. */
function Guarded({ children }: { children: ComponentChildren }) {
  const [error, reset] = useErrorBoundary((error) => console.error(error));
  if (!error) return <>{children}</>;
  return (
    <>
      <h1 tabIndex={-1}>This screen has failed</h1>
      <div class="notice bad" role="alert">
        <LongText text={String(error)} most={600} />
        <button type="button" onClick={reset}>
          Try again
        </button>
      </div>
    </>
  );
}

function Side({ current }: { current: string }) {
  const hasToken = useStore(token) !== "";
  const screens = useRef<HTMLElement>(null);
  useEffect(() => {
    // On a narrow screen the links are one line that scrolls: the current one is in view.
    const [line, link] = [screens.current, screens.current?.querySelector<HTMLElement>("[aria-current]")];
    if (line && link) line.scrollLeft = link.offsetLeft - line.offsetLeft - (line.clientWidth - link.offsetWidth) / 2;
  }, [current]);
  return (
    <header class="side">
      <a class="brand" href="/ui/runs" aria-label="waft: runs">
        <img src="/assets/icon.svg" width="22" height="22" alt="" />
        <span>waft</span>
      </a>
      <nav ref={screens} class="screens" aria-label="Screens">
        {SCREENS.map((screen) => (
          <a key={screen.path} href={screen.path} aria-current={screen.path === current ? "page" : undefined}>
            <Icon name={screen.icon} />
            <span>{screen.name}</span>
          </a>
        ))}
      </nav>
      <div class="side-end">
        {hasToken ? <IconButton name="key" label="Forget the token of this tab" onClick={forgetToken} /> : null}
        <ThemeSwitch />
      </div>
    </header>
  );
}

const THEMES: { theme: Theme; icon: IconName; label: string; next: Theme }[] = [
  { theme: "system", icon: "system", label: "Theme of the system; change to light", next: "light" },
  { theme: "light", icon: "sun", label: "Light theme; change to dark", next: "dark" },
  { theme: "dark", icon: "moon", label: "Dark theme; change to that of the system", next: "system" },
];

function ThemeSwitch() {
  const chosen = useStore(theme);
  const shown = THEMES.find((entry) => entry.theme === chosen);
  if (!shown) return null;
  return <IconButton name={shown.icon} label={shown.label} onClick={() => chooseTheme(shown.next)} />;
}

function Connection() {
  const isReachable = useStore(reachable);
  return (
    <div class="connection" role="status">
      {isReachable ? null : <p class="connection-lost">Connection lost, trying again…</p>}
    </div>
  );
}

/** Asks for a token above whatever is shown, which stays: with the token it goes on. */
function TokenPrompt() {
  const wanted = useStore(tokenWanted);
  const [text, setText] = useState("");
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => {
    if (wanted) field.current?.focus();
  }, [wanted]);
  if (!wanted) return null;
  const give = (event: Event) => {
    event.preventDefault();
    const given = text.trim();
    if (!given) return;
    setText("");
    giveToken(given);
  };
  return (
    <Dialog title="This server needs a token" onClose={() => undefined} fixed>
      <form class="form" onSubmit={give}>
        {wanted === "refused" ? (
          <p class="notice bad" role="alert">
            The token is wrong, revoked or expired.
          </p>
        ) : null}
        <label>
          Token
          <input
            ref={field}
            type="password"
            autocomplete="off"
            spellcheck={false}
            required
            value={text}
            onInput={(event) => setText(event.currentTarget.value)}
          />
        </label>
        <p class="quiet">
          The browser keeps it until this tab is closed. <code>waft token create NAME --scope read</code> makes one that may only read.
        </p>
        <div class="form-actions">
          {wanted === "refused" ? (
            <button type="button" onClick={() => giveToken("")}>
              Go on without a token
            </button>
          ) : null}
          <button type="submit" class="primary">
            Continue
          </button>
        </div>
      </form>
    </Dialog>
  );
}

function Nowhere() {
  return (
    <>
      <h1 tabIndex={-1}>Nothing here</h1>
      <Empty title="This page has no such screen">
        <a href="/ui/runs">All runs</a>
      </Empty>
    </>
  );
}
