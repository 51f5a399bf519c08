// Shows texts from outside: as text, with the names of characters that cannot be seen, and cut if they are long.

import { useState } from "preact/hooks";

import { count, cut, oneLine, parts, shortDigest } from "../model/text.ts";
import { IconButton } from "./icons.tsx";

/** Text with the names of hidden characters. Text of another direction does not change what stands around it. */
export function Text({ text }: { text: string }) {
  return (
    <bdi>
      {parts(text).map((part) => (part.hidden ? <span class="hidden-character">{part.text}</span> : part.text))}
    </bdi>
  );
}

/** A text on one line, which the style may cut; the whole of it is the tooltip. */
export function Line({ text, most = 400 }: { text: string; most?: number }) {
  const clean = oneLine(cut(text, most * 4).text);
  const shown = cut(clean, most);
  return (
    <bdi class="line-text" title={clean.length > 24 ? cut(clean, 1000).text : undefined}>
      {shown.text}
      {shown.isCut || text.length > most * 4 ? "…" : ""}
    </bdi>
  );
}

/** A text of several lines. A long one is cut until somebody wants all of it. */
export function LongText({ text, most = 2000, class: className = "" }: { text: string; most?: number; class?: string }) {
  const [shown, setShown] = useState(most);
  const part = cut(text, shown);
  return (
    <div class={`long-text ${className}`}>
      <pre>
        <Text text={part.text} />
      </pre>
      {part.isCut ? (
        <p class="more">
          <button type="button" class="link" onClick={() => setShown((shown) => Math.max(shown * 10, 100_000))}>
            Show more
          </button>{" "}
          <span class="quiet">{count(text.length - part.text.length, "character")} more</span>
        </p>
      ) : null}
    </div>
  );
}

/** A name or id in a fixed-width face, with a button that copies it. */
export function Copyable({ text, shown, label }: { text: string; shown?: string; label: string }) {
  const [copied, setCopied] = useState(false);
  // A browser has no clipboard for pages that come unencrypted from another machine.
  const clipboard = navigator.clipboard as Clipboard | undefined;
  const copy = () => {
    void clipboard?.writeText(text).then(
      () => {
        setCopied(true);
        setTimeout(() => setCopied(false), 1500);
      },
      () => undefined,
    );
  };
  return (
    <span class="copyable">
      <code title={oneLine(text)}>{oneLine(shown ?? text)}</code>
      {clipboard ? <IconButton name="copy" label={copied ? "Copied" : `Copy ${label}`} onClick={copy} /> : null}
      <span class="visually-hidden" role="status">
        {copied ? "Copied" : ""}
      </span>
    </span>
  );
}

export function Digest({ digest }: { digest: string }) {
  return <Copyable text={digest} shown={shortDigest(digest)} label="the digest" />;
}
