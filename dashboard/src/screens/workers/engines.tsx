// The engines that share the runs, and the shards that each drives.

import type { Engine, Engines } from "../../api/types.ts";
import { count, oneLine } from "../../model/text.ts";
import { runsInMemory } from "../../model/workers.ts";
import { setQuery } from "../../router.ts";
import { useLoaded } from "../../ui/hooks.ts";
import { Empty, Opener, TableBox, Trouble, Waiting } from "../../ui/parts.tsx";
import { Line } from "../../ui/text.tsx";
import { At } from "../../ui/time.tsx";

/** The pause between two questions, in milliseconds. Each asks the drivers of all shards. */
const INTERVAL = 10_000;

/** The greatest number of shards without an answer that are named. */
const UNANSWERED = 50;

export function AllEngines({ open }: { open: string }) {
  const { data, error, isLoading, refresh } = useLoaded<Engines>("engines", () => "/v1/engines", { every: INTERVAL });
  const unanswered = data?.unanswered ?? [];
  return (
    <section class="screen-part" aria-labelledby="engines-head">
      <h2 id="engines-head">Engines</h2>
      <Trouble error={error} onRetry={refresh} />
      {unanswered.length ? (
        <div class="notice warn">
          <p>No engine has answered for {count(unanswered.length, "shard")}. An engine may just take one over.</p>
          <ul class="tags">
            {unanswered.slice(0, UNANSWERED).map((shard) => (
              <li key={shard}>
                <Line text={shard} />
              </li>
            ))}
            {unanswered.length > UNANSWERED ? <li>and {unanswered.length - UNANSWERED} more</li> : null}
          </ul>
        </div>
      ) : null}
      {data?.engines.length ? (
        <TableBox label="Engines">
          <table class="table engines-table" aria-label="Engines">
            <thead>
              <tr>
                <th scope="col">Engine</th>
                <th scope="col" class="end">Shards</th>
                <th scope="col" class="end">Runs in memory</th>
                <th scope="col">Machine</th>
                <th scope="col" class="end">Process</th>
                <th scope="col" class="end">Version</th>
              </tr>
            </thead>
            <tbody>
              {data.engines.map((engine) => (
                <EngineRow key={engine.engine} engine={engine} isOpen={engine.engine === open} />
              ))}
            </tbody>
          </table>
        </TableBox>
      ) : null}
      {data && !data.engines.length ? <Empty title="No engine answers">Runs go on once one drives their shards.</Empty> : null}
      {!data && isLoading ? <Waiting /> : null}
    </section>
  );
}

function EngineRow({ engine, isOpen }: { engine: Engine; isOpen: boolean }) {
  return (
    <>
      <tr>
        <td class="wide-cell mono">
          <Opener name={engine.engine} isOpen={isOpen} onToggle={() => setQuery({ engine: isOpen ? "" : engine.engine }, "replace")}>
            <Line text={engine.engine} />
          </Opener>
        </td>
        <td class="end number">{engine.shards.length}</td>
        <td class="end number">{runsInMemory(engine).toLocaleString("en-US")}</td>
        <td>
          <Line text={engine.host ?? "–"} />
        </td>
        <td class="end number">{engine.process ?? "–"}</td>
        <td class="end mono">
          <Line text={engine.version ?? "–"} />
        </td>
      </tr>
      {isOpen ? (
        <tr class="detail-row">
          <td colSpan={6}>
            {engine.shards.length ? (
              <ul class="calls" aria-label={`Shards of ${oneLine(engine.engine)}`}>
                {engine.shards.map(({ shard, since, runs }) => (
                  <li key={shard}>
                    <span>
                      shard <Line text={shard} />
                    </span>
                    <span>{count(runs, "run")} in memory</span>
                    <span class="quiet">
                      since <At time={since} />
                    </span>
                  </li>
                ))}
              </ul>
            ) : (
              <p class="quiet">It drives no shard, and takes one over when another engine ends.</p>
            )}
          </td>
        </tr>
      ) : null}
    </>
  );
}
