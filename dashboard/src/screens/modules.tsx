// The contents of the store: modules with their tags, and values that were too large for messages.

import { useEffect, useState } from "preact/hooks";

import type { Module, Modules, StoredModule } from "../api/types.ts";
import { count, size } from "../model/text.ts";
import { setQuery, usePlace } from "../router.ts";
import { useLoaded } from "../ui/hooks.ts";
import { Icon } from "../ui/icons.tsx";
import { Empty, Fact, Facts, ScreenHead, Trouble, Waiting } from "../ui/parts.tsx";
import { Digest, Line } from "../ui/text.tsx";
import { Ago, At } from "../ui/time.tsx";

/** The number of contents that are shown at first. */
const FIRST = 200;

export function ModulesScreen() {
  const { query } = usePlace();
  const open = query.get("open") ?? "";
  const [most, setMost] = useState(FIRST);
  const { data, error, isLoading, refresh } = useLoaded<Modules>("modules", () => "/v1/modules", { every: 15_000 });
  useEffect(() => {
    document.title = "Modules · waft";
  }, []);
  const all = data?.modules ?? [];
  const tagged = all.filter((module) => module.tags.length);
  const others = all.filter((module) => !module.tags.length);
  const newest = (list: StoredModule[]) => [...list].sort((one, other) => other.stored_at.localeCompare(one.stored_at));
  const untagged = newest(others);
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
      {tagged.length ? <Contents label="Tagged modules" modules={newest(tagged)} open={open} /> : null}
      {untagged.length ? (
        <section>
          <h2>Without a tag</h2>
          <p class="quiet note">Modules that flows name by their digest, and values that were too large for messages.</p>
          <Contents label="Contents without a tag" modules={untagged.slice(0, most)} open={open} />
          {untagged.length > most ? (
            <button type="button" onClick={() => setMost(most * 5)}>
              Show more of {untagged.length}
            </button>
          ) : null}
        </section>
      ) : null}
      {data && !all.length ? (
        <Empty title="The store is empty">
          <code>waft push FILE --tag NAME</code> uploads a module.
        </Empty>
      ) : null}
      {!data && isLoading ? <Waiting /> : null}
    </>
  );
}

function Contents({ label, modules, open }: { label: string; modules: StoredModule[]; open: string }) {
  return (
    <div class="table-box">
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
    </div>
  );
}

function Content({ module, isOpen }: { module: StoredModule; isOpen: boolean }) {
  const name = module.tags[0] ?? module.digest;
  return (
    <>
      <tr>
        <td class="wide-cell">
          <button
            type="button"
            class="link opener"
            aria-expanded={isOpen}
            aria-label={`${isOpen ? "Hide" : "Show"} ${name}`}
            onClick={() => setQuery({ open: isOpen ? "" : module.digest }, "replace")}
          >
            <span class={`turning ${isOpen ? "turned" : ""}`}>
              <Icon name="right" />
            </span>
            {module.tags.length ? (
              <span class="tags">
                {module.tags.map((tag) => (
                  <span key={tag}>
                    <Line text={tag} />
                  </span>
                ))}
              </span>
            ) : (
              <span class="quiet">no tag</span>
            )}
          </button>
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
                {data.tasks.map((task) => (
                  <li key={task} class="mono">
                    <Line text={task} />
                  </li>
                ))}
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
