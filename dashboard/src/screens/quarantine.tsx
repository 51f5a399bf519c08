// The messages in quarantine: what they are, and the commands that release or drop them.

import { useEffect, useState } from "preact/hooks";

import { post, remove } from "../api/client.ts";
import type { Quarantine, QuarantinedMessage, QuarantineResult } from "../api/types.ts";
import {
  dropPath,
  messageKey,
  namedRun,
  reasonText,
  releaseBody,
  resultTexts,
  selectedCount,
  type QuarantineCommand,
  type Selected,
} from "../model/quarantine.ts";
import { count, size } from "../model/text.ts";
import { runAddress, setQuery, usePlace } from "../router.ts";
import { CommandDialog } from "../ui/command-dialog.tsx";
import { useLoaded } from "../ui/hooks.ts";
import { Empty, Fact, Facts, Opener, ScreenHead, TableBox, Trouble, Waiting } from "../ui/parts.tsx";
import { Line, LongText } from "../ui/text.tsx";

/** The number of messages that are shown at first. */
const FIRST = 100;

type Act = { command: QuarantineCommand; selected: Selected };

export function QuarantineScreen() {
  const { query } = usePlace();
  const open = query.get("open") ?? "";
  // Read once: the server takes the messages out of the queue and puts them back each time.
  const { data, error, isLoading, refresh } = useLoaded<Quarantine>("quarantine", () => "/v1/quarantine");
  useEffect(() => {
    document.title = "Quarantine · waft";
  }, []);
  const [act, setAct] = useState<Act | null>(null);
  const [told, setTold] = useState<string[]>([]);
  const [most, setMost] = useState(FIRST);
  const messages = data?.messages ?? [];
  return (
    <>
      <ScreenHead title="Quarantine">
        <button type="button" disabled={isLoading} onClick={refresh}>
          {isLoading ? "Reading…" : "Read again"}
        </button>
        {messages.length ? (
          <>
            <button type="button" onClick={() => setAct({ command: "release", selected: "all" })}>
              Release all…
            </button>
            <button type="button" class="danger" onClick={() => setAct({ command: "drop", selected: "all" })}>
              Drop all…
            </button>
          </>
        ) : null}
      </ScreenHead>
      <p class="quiet">Messages that no engine and no worker could handle. They stay here until somebody releases or drops them.</p>
      <div role="status">
        {told.length ? (
          <div class="notice">
            {told.map((text) => (
              <p key={text}>{text}</p>
            ))}
          </div>
        ) : null}
      </div>
      <Trouble error={error} onRetry={refresh} />
      {data?.unread ? (
        <p class="notice info">{count(data.unread, "more message follows", "more messages follow")} these. They are read once some of these are gone.</p>
      ) : null}
      {messages.length ? (
        <TableBox label="Messages in quarantine">
          <table class="table quarantine-table" aria-label="Messages in quarantine">
            <thead>
              <tr>
                <th scope="col">Message</th>
                <th scope="col">From queue</th>
                <th scope="col">Reason</th>
                <th scope="col" class="end">Size</th>
              </tr>
            </thead>
            <tbody>
              {messages.slice(0, most).map((message, index) => (
                // Several messages may have the same id.
                <Message key={`${index} ${message.id}`} message={message} isOpen={messageKey(message) === open} act={setAct} />
              ))}
            </tbody>
          </table>
        </TableBox>
      ) : null}
      {messages.length > most ? (
        <button type="button" onClick={() => setMost(most * 5)}>
          Show more of {messages.length}
        </button>
      ) : null}
      {data && !messages.length ? <Empty title="The quarantine is empty" /> : null}
      {!data && isLoading ? <Waiting /> : null}
      {act ? (
        <ActDialog
          act={act}
          messages={messages}
          onClose={() => setAct(null)}
          onDone={(texts) => {
            setTold(texts);
            refresh();
          }}
        />
      ) : null}
    </>
  );
}

function Message({ message, isOpen, act }: { message: QuarantinedMessage; isOpen: boolean; act: (act: Act) => void }) {
  const key = messageKey(message);
  return (
    <>
      <tr>
        <td class="wide-cell">
          <Opener name={key} isOpen={isOpen} onToggle={() => setQuery({ open: isOpen ? "" : key }, "replace")}>
            <span class="mono">
              <Line text={key} most={120} />
            </span>
          </Opener>
        </td>
        <td class="mono">{message.queue ? <Line text={message.queue} most={60} /> : "–"}</td>
        <td class="wide-cell">
          <Line text={reasonText(message)} most={160} />
        </td>
        <td class="end number">{size(message.size)}</td>
      </tr>
      {isOpen ? (
        <tr class="detail-row">
          <td colSpan={4}>
            <Details message={message} act={act} />
          </td>
        </tr>
      ) : null}
    </>
  );
}

function Details({ message, act }: { message: QuarantinedMessage; act: (act: Act) => void }) {
  const headers = Object.entries(message.headers ?? {});
  const run = namedRun(message);
  return (
    <div class="details">
      <LongText text={reasonText(message)} most={1000} />
      {headers.length || message.more_headers ? (
        <Facts>
          {headers.map(([name, value]) => (
            <div key={name}>
              <dt>
                <Line text={name} most={60} />
              </dt>
              <dd class="mono">
                <Line text={value} most={200} />
              </dd>
            </div>
          ))}
          {message.more_headers ? <Fact name="Left out">{count(message.more_headers, "header")}</Fact> : null}
        </Facts>
      ) : null}
      {run ? (
        <p>
          <a href={runAddress(run.run, run.task ? { task: run.task } : {})}>Open the run that it names</a>
        </p>
      ) : null}
      <div class="detail-actions">
        <button type="button" onClick={() => act({ command: "release", selected: { id: message.id } })}>
          Release…
        </button>
        <button type="button" class="danger" onClick={() => act({ command: "drop", selected: { id: message.id } })}>
          Drop…
        </button>
      </div>
    </div>
  );
}

function ActDialog(props: { act: Act; messages: QuarantinedMessage[]; onClose: () => void; onDone: (texts: string[]) => void }) {
  const { command, selected } = props.act;
  // The list may be read again while the dialog is open: it stays about what was chosen.
  const [number] = useState(() => selectedCount(props.messages, selected));
  const what = selected === "all" ? "all messages" : number === 1 ? "the message" : count(number, "message");
  const isRelease = command === "release";
  return (
    <CommandDialog
      title={`${isRelease ? "Release" : "Drop"} ${what}?`}
      button={`${isRelease ? "Release" : "Drop"} ${what}`}
      isDangerous={!isRelease}
      evidence="the quarantine"
      onClose={props.onClose}
      onDone={() => undefined}
      send={async () => {
        const result = isRelease
          ? await post<QuarantineResult>("/v1/quarantine/release", releaseBody(selected))
          : await remove<QuarantineResult>(dropPath(selected));
        props.onDone(resultTexts(command, result));
      }}
    >
      {selected === "all" ? (
        <p>{count(number, "message is", "messages are")} listed. Those that arrive before the command are part of it, too.</p>
      ) : (
        <p>
          <code>
            <Line text={selected.id || "(no id)"} most={200} />
          </code>
        </p>
      )}
      {selected !== "all" && number > 1 ? <p>They all have this id.</p> : null}
      {isRelease ? (
        <p>
          A released message goes to the queue that it came from. Whoever may publish to the quarantine can have forged it, so release only what you
          recognize.
        </p>
      ) : (
        <p>A dropped message cannot be brought back. If it is a job for which a call still waits, the call is not made.</p>
      )}
    </CommandDialog>
  );
}
