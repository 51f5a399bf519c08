// The dialog that drains or resumes a worker.

import { post } from "../../api/client.ts";
import type { Worker, WorkerStateResponse } from "../../api/types.ts";
import { oneLine } from "../../model/text.ts";
import type { WorkerCommand } from "../../model/workers.ts";
import { CommandDialog } from "../../ui/command-dialog.tsx";
import { Line } from "../../ui/text.tsx";

const TEXTS: { [command in WorkerCommand]: { title: string; text: string; button: string } } = {
  drain: {
    title: "Drain the worker?",
    text: "It takes no new jobs, ends the calls that it has, and returns jobs that it has not begun. It stays until it is told to take jobs again.",
    button: "Drain the worker",
  },
  exit: {
    title: "Drain the worker, and let it exit?",
    text: "It takes no new jobs, ends the calls that it has, and then exits. It cannot be told to take jobs again: start it again for that.",
    button: "Drain, then exit",
  },
  resume: { title: "Resume the worker?", text: "It takes jobs again.", button: "Resume the worker" },
};

export function WorkerDialog(props: { worker: Worker; command: WorkerCommand; onClose: () => void; onDone: () => void }) {
  const { worker, command } = props;
  const { title, text, button } = TEXTS[command];
  const path = `/v1/workers/${encodeURIComponent(worker.name)}`;
  return (
    <CommandDialog
      title={title}
      button={button}
      isDangerous={command === "exit"}
      evidence="the worker"
      onClose={props.onClose}
      onDone={props.onDone}
      send={() =>
        command === "resume"
          ? post<WorkerStateResponse>(`${path}/resume`, null)
          : post<WorkerStateResponse>(`${path}/drain`, JSON.stringify({ exit: command === "exit" }))
      }
    >
      <p>
        <code>{oneLine(worker.name)}</code>
        {worker.host ? (
          <>
            {" "}
            on <Line text={worker.host} />
          </>
        ) : null}
      </p>
      <p>{text}</p>
    </CommandDialog>
  );
}
