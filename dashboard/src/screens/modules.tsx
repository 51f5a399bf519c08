// The contents of the store: modules with their tags, and values that were too large for messages.

import { useEffect, useMemo, useState } from "preact/hooks";

import type { Module, Modules, StoredModule } from "../api/types.ts";
import { count, size } from "../model/text.ts";
import { setQuery, usePlace } from "../router.ts";
import { type Loaded, useLoaded } from "../ui/hooks.ts";
import { Icon } from "../ui/icons.tsx";
import { Empty, Fact, Facts, Opener, ScreenHead, TableBox, Trouble, Waiting } from "../ui/parts.tsx";
import { Digest, Line } from "../ui/text.tsx";
import { Ago, At } from "../ui/time.tsx";

/** The number of contents of a page, and the pause between two requests for it, in milliseconds. */
const PAGE = 500;
const INTERVAL = 15_000;

/** The number of contents of a list that are shown at first. */
const FIRST = 200;

/** The greatest number of tags that are shown of a module, and of its tasks. */
const TAGS = 20;
const TASKS = 200;

/** The keys of the page's address with the positions in the two lists. */
type Position = "tagged" | "others";

export function ModulesScreen() {
  const { query } = usePlace();
  const open = query.get("open") ?? "";
  const tagged = usePage("tagged", query.get("tagged") ?? "");
  const others = usePage("others", query.get("others") ?? "");
  useEffect(() => {
    document.title = "Modules · waft";
  }, []);
  const modules = tagged.data?.modules ?? [];
  const untagged = useMemo(() => (others.data?.modules ?? []).filter((module) => !module.tags.length), [others.data]);
  const [isFirst, isLast] = [!query.get("tagged") && !query.get("others"), !tagged.data?.next && !others.data?.next];
  return (
    <>
      <ScreenHead title="Modules">
        {tagged.data && others.data ? (
          <p class="quiet">
            {count(modules.length, "tagged module")}, {count(untagged.length, "other content")}
            {isFirst && isLast ? null : " on this page"}
          </p>
        ) : null}
      </ScreenHead>
      <Trouble error={tagged.error} onRetry={tagged.refresh} />
      {modules.length ? <Contents label="Tagged modules" modules={modules} open={open} /> : null}
      <Pages label="Pages of tagged modules" position="tagged" next={tagged.data?.next} />
      {untagged.length || query.get("others") || others.data?.next ? (
        <section>
          <h2>Without a tag</h2>
          <p class="quiet note">Modules that flows name by their digest, and values that were too large for messages.</p>
          {untagged.length ? <Contents label="Contents without a tag" modules={untagged} open={open} /> : null}
          <Pages label="Pages of contents without a tag" position="others" next={others.data?.next} />
        </section>
      ) : null}
      <Trouble error={others.error} onRetry={others.refresh} />
      {isFirst && isLast && tagged.data && others.data && !modules.length && !untagged.length ? (
        <Empty title="The store is empty">
          <code>waft push FILE --tag NAME</code> uploads a module.
        </Empty>
      ) : null}
      {(!tagged.data && tagged.isLoading) || (!others.data && others.isLoading) ? <Waiting /> : null}
    </>
  );
}

/** A page of contents behind a digest: those with a tag, or all. */
function usePage(which: Position, after: string): Loaded<Modules> {
  const query = new URLSearchParams({ limit: String(PAGE) });
  if (which === "tagged") query.set("tagged", "true");
  if (after) query.set("after", after);
  return useLoaded<Modules>(`${which} modules ${after}`, () => `/v1/modules?${query}`, { every: INTERVAL });
}

/** The way to the other pages of a list, if there are any. The order of digests says nothing about age. */
function Pages({ label, position, next }: { label: string; position: Position; next: string | null | undefined }) {
  const after = usePlace().query.get(position);
  if (!after && !next) return null;
  return (
    <nav class="pages" aria-label={label}>
      {after ? (
        <button type="button" onClick={() => setQuery({ [position]: "" })}>
          <Icon name="left" /> First page
        </button>
      ) : null}
      {next ? (
        <button type="button" onClick={() => setQuery({ [position]: next })}>
          Next page <Icon name="right" />
        </button>
      ) : null}
    </nav>
  );
}

/** A table of contents, the newest first. */
function Contents({ label, modules, open }: { label: string; modules: StoredModule[]; open: string }) {
  const [most, setMost] = useState(FIRST);
  const newest = useMemo(() => [...modules].sort((one, other) => (one.stored_at < other.stored_at ? 1 : one.stored_at > other.stored_at ? -1 : 0)), [modules]);
  return (
    <>
      <ContentTable label={label} modules={newest.slice(0, most)} open={open} />
      {newest.length > most ? (
        <button type="button" onClick={() => setMost(most * 5)}>
          Show more of {newest.length}
        </button>
      ) : null}
    </>
  );
}

function ContentTable({ label, modules, open }: { label: string; modules: StoredModule[]; open: string }) {
  return (
    <TableBox label={label}>
      <table class="table" aria-label={label}>
        <thead>
          <tr>
            <th scope="col">Tags</th>
            <th scope="col">Digest</th>
            <th scope="col" class="end">Size</th>
            <th scope="col" class="end">Signatures</th>
            <th scope="col" class="end">Stored</th>
          </tr>
        </thead>
        <tbody>
          {modules.map((module) => (
            <Content key={module.digest} module={module} isOpen={module.digest === open} />
          ))}
        </tbody>
      </table>
    </TableBox>
  );
}

function Content({ module, isOpen }: { module: StoredModule; isOpen: boolean }) {
  const name = module.tags[0] ?? module.digest;
  return (
    <>
      <tr>
        <td class="wide-cell">
          <Opener name={name} isOpen={isOpen} onToggle={() => setQuery({ open: isOpen ? "" : module.digest }, "replace")}>
            {module.tags.length ? (
              <span class="tags">
                {module.tags.slice(0, TAGS).map((tag) => (
                  <span key={tag}>
                    <Line text={tag} />
                  </span>
                ))}
                {module.tags.length > TAGS ? <span>and {module.tags.length - TAGS} more</span> : null}
              </span>
            ) : (
              <span class="quiet">no tag</span>
            )}
          </Opener>
        </td>
        <td>
          <Digest digest={module.digest} />
        </td>
        <td class="end number">{size(module.size)}</td>
        <td class="end number">{module.signatures?.length || ""}</td>
        <td class="end">
          <Ago time={module.stored_at} />
        </td>
      </tr>
      {isOpen ? (
        <tr class="detail-row">
          <td colSpan={5}>
            <ModuleDetails module={module} />
          </td>
        </tr>
      ) : null}
    </>
  );
}

function ModuleDetails({ module }: { module: StoredModule }) {
  const path = `/v1/modules/${encodeURIComponent(module.digest)}`;
  const { data, error, isLoading, refresh } = useLoaded<Module>(path, () => path);
  return (
    <div class="module-details">
      <Trouble error={error} onRetry={refresh} />
      {isLoading && !data ? <Waiting /> : null}
      {data ? (
        <Facts>
          <Fact name={count(data.tasks.length, "task")}>
            {data.tasks.length ? (
              <ul class="tags">
                {data.tasks.slice(0, TASKS).map((task) => (
                  <li key={task} class="mono">
                    <Line text={task} />
                  </li>
                ))}
                {data.tasks.length > TASKS ? <li>and {data.tasks.length - TASKS} more</li> : null}
              </ul>
            ) : (
              "It is a WASI command: the module itself is the task."
            )}
          </Fact>
          {data.signatures?.length ? (
            <Fact name="Signed by">
              <ul class="plain">
                {data.signatures.map((signature) => (
                  <li key={`${signature.signer} ${signature.tag}`}>
                    <span class="mono">
                      <Line text={signature.key_id} />
                    </span>{" "}
                    {signature.tag ? (
                      <>
                        for <Line text={signature.tag} />
                      </>
                    ) : null}{" "}
                    <span class="quiet">
                      <At time={signature.signed_at} />
                    </span>
                  </li>
                ))}
              </ul>
            </Fact>
          ) : null}
        </Facts>
      ) : null}
    </div>
  );
}
