// The contents of the store: modules with their tags, and values that were too large for messages.

import { useEffect, useMemo, useState } from "preact/hooks";

import type { Module, Modules, StoredModule } from "../api/types.ts";
import { count, size } from "../model/text.ts";
import { setQuery, usePlace } from "../router.ts";
import { useLoaded } from "../ui/hooks.ts";
import { Empty, Fact, Facts, Opener, ScreenHead, TableBox, Trouble, Waiting } from "../ui/parts.tsx";
import { Digest, Line } from "../ui/text.tsx";
import { Ago, At } from "../ui/time.tsx";

/** The number of contents of a list that are shown at first. */
const FIRST = 200;

/** The greatest number of tags that are shown of a module, and of its tasks. */
const TAGS = 20;
const TASKS = 200;

export function ModulesScreen() {
  const { query } = usePlace();
  const open = query.get("open") ?? "";
  const { data, error, isLoading, refresh } = useLoaded<Modules>("modules", () => "/v1/modules", { every: 15_000 });
  useEffect(() => {
    document.title = "Modules · waft";
  }, []);
  const tagged = useMemo(() => (data?.modules ?? []).filter((module) => module.tags.length), [data]);
  const others = useMemo(() => (data?.modules ?? []).filter((module) => !module.tags.length), [data]);
  return (
    <>
      <ScreenHead title="Modules">
        {data ? (
          <p class="quiet">
            {count(tagged.length, "tagged module")}, {count(others.length, "other content")}
          </p>
        ) : null}
      </ScreenHead>
      <Trouble error={error} onRetry={refresh} />
      {tagged.length ? <Contents label="Tagged modules" modules={tagged} open={open} /> : null}
      {others.length ? (
        <section>
          <h2>Without a tag</h2>
          <p class="quiet note">Modules that flows name by their digest, and values that were too large for messages.</p>
          <Contents label="Contents without a tag" modules={others} open={open} />
        </section>
      ) : null}
      {data && !data.modules.length ? (
        <Empty title="The store is empty">
          <code>waft push FILE --tag NAME</code> uploads a module.
        </Empty>
      ) : null}
      {!data && isLoading ? <Waiting /> : null}
    </>
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
