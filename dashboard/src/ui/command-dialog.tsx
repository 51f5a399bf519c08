// A command to the server, confirmed before it is sent.

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";

import { toApiError, type ApiError } from "../api/client.ts";
import { Dialog, Trouble } from "./parts.tsx";

/** A form that sends a command. A refusal stays in the dialog, with what was entered. */
export function CommandDialog(props: {
  title: string;
  button: string;
  isDangerous?: boolean;
  /** What shows whether a command has arrived whose answer is missing: "the run". */
  evidence: string;
  onClose: () => void;
  onDone: () => void;
  send: () => Promise<unknown>;
  children: ComponentChildren;
}) {
  const [error, setError] = useState<ApiError | null>(null);
  const [isSending, setSending] = useState(false);
  const submit = async (event: Event) => {
    event.preventDefault();
    setSending(true);
    setError(null);
    try {
      await props.send();
      props.onDone();
      props.onClose();
    } catch (error) {
      setSending(false);
      setError(toApiError(error));
    }
  };
  return (
    <Dialog title={props.title} onClose={props.onClose}>
      <form class="form" onSubmit={(event) => void submit(event)}>
        {props.children}
        <CommandTrouble error={error} evidence={props.evidence} />
        <div class="form-actions">
          <button type="button" onClick={props.onClose}>
            Close
          </button>
          <button type="submit" class={props.isDangerous ? "danger-filled" : "primary"} disabled={isSending}>
            {isSending ? "Sending…" : props.button}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

/** Why a command has failed. One that may have arrived is not sent again blindly. */
export function CommandTrouble({ error, evidence }: { error: ApiError | null; evidence: string }) {
  if (!error?.isUnreachable) return <Trouble error={error} />;
  return (
    <p class="notice bad" role="alert">
      The server was not reached. The command may or may not have arrived: look at {evidence} before you send it again.
    </p>
  );
}
