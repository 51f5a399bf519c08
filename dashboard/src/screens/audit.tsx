// The audit log: the requests that did more than read, or were refused.

import { useEffect } from "preact/hooks";

import type { AuditEntry, AuditLog } from "../api/types.ts";
import { shownSubject, statusLook } from "../model/audit.ts";
import { address, runAddress, setQuery, usePlace } from "../router.ts";
import { TextFilter } from "../ui/filters.tsx";
import { useLoaded } from "../ui/hooks.ts";
import { Empty, Pages, ScreenHead, TableBox, Trouble, Waiting } from "../ui/parts.tsx";
import { Line } from "../ui/text.tsx";
import { At } from "../ui/time.tsx";

/** The pause between two requests for the newest entries, in milliseconds. Older ones do not change. */
const INTERVAL = 10_000;

/** The number of entries on a page. */
const PAGE = 100;

export function AuditScreen() {
  const { query } = usePlace();
  const subject = query.get("subject")?.trim() ?? "";
  const after = query.get("after") ?? "";
  const filter: [string, string][] = subject ? [["subject", subject]] : [];
  const page = (after: string) => address("/ui/audit", new URLSearchParams(after ? [...filter, ["after", after]] : filter));
  const request = new URLSearchParams([...filter, ["limit", String(PAGE)]]);
  if (after) request.set("after", after);
  const { data, error, isLoading, refresh } = useLoaded<AuditLog>(`audit?${request}`, () => `/v1/audit?${request}`, { every: after ? 0 : INTERVAL });
  useEffect(() => {
    document.title = "Audit · waft";
  }, []);
  return (
    <>
      <ScreenHead title="Audit" />
      <p class="quiet">Requests that did more than read, and those that were refused.</p>
      <div class="filters" role="group" aria-label="Filters">
        <TextFilter label="About" value={subject} placeholder="run, module, tag or token" onChange={(subject) => setQuery({ subject, after: "" })} />
        {subject ? (
          <a class="clear" href="/ui/audit">
            Clear
          </a>
        ) : null}
      </div>
      <Trouble error={error} onRetry={refresh} />
      {data?.entries.length ? <Entries entries={data.entries} /> : null}
      {data && !data.entries.length ? (
        <Empty title={subject ? "No entry is about this" : "Nothing was done yet"}>{subject ? <a href="/ui/audit">Show all entries</a> : null}</Empty>
      ) : null}
      {!data && isLoading ? <Waiting /> : null}
      <Pages
        label="Pages"
        first={data && after ? page("") : null}
        firstName="Newest"
        next={data?.next ? page(data.next) : null}
        nextName="Older"
      />
    </>
  );
}

function Entries({ entries }: { entries: AuditEntry[] }) {
  return (
    <TableBox label="Audit log">
      <table class="table audit-table" aria-label="Audit log">
        <thead>
          <tr>
            <th scope="col">When</th>
            <th scope="col">Who</th>
            <th scope="col">Action</th>
            <th scope="col">About</th>
            <th scope="col" class="end">Status</th>
            <th scope="col">Detail</th>
            <th scope="col">From</th>
          </tr>
        </thead>
        <tbody>
          {entries.map((entry, index) => (
            // Entries have no number of their own.
            <tr key={`${index} ${entry.at}`}>
              <td>
                <At time={entry.at} />
              </td>
              <td>
                <Line text={entry.caller} most={60} />
              </td>
              <td class="mono">
                <Line text={entry.action} most={40} />
              </td>
              <td class="wide-cell">
                <Subject entry={entry} />
              </td>
              <td class="end number">
                <span class={`state ${statusLook(entry.status)}`}>{entry.status}</span>
              </td>
              <td class="wide-cell">{entry.detail ? <Line text={entry.detail} /> : null}</td>
              <td class="mono">
                <Line text={entry.peer} most={60} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </TableBox>
  );
}

function Subject({ entry }: { entry: AuditEntry }) {
  const shown = shownSubject(entry);
  const text = <Line text={entry.subject ?? ""} most={120} />;
  if (!shown) return text;
  return <a href={shown.kind === "run" ? runAddress(shown.id) : address("/ui/modules", new URLSearchParams({ open: shown.id }))}>{text}</a>;
}
