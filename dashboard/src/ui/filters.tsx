// Fields that filter lists.

import { useEffect, useState } from "preact/hooks";

import { oneLine } from "../model/text.ts";

/** Periods before now in which something started. */
export const PERIODS = [
  { value: "", name: "Any time" },
  { value: "15m", name: "Last 15 minutes" },
  { value: "1h", name: "Last hour" },
  { value: "24h", name: "Last 24 hours" },
  { value: "7d", name: "Last 7 days" },
  { value: "30d", name: "Last 30 days" },
];

/** A text that filters once it is entered: by the key Enter, or on leaving the field. */
export function TextFilter(props: {
  label: string;
  value: string;
  placeholder?: string;
  /** Whether the text is added to others, and leaves the field. */
  isAdded?: boolean;
  onChange: (value: string) => void;
}) {
  const { label, value, placeholder = "any", isAdded = false, onChange } = props;
  const [text, setText] = useState(value);
  useEffect(() => setText(value), [value]);
  const enter = () => {
    if (text.trim() === value) return;
    onChange(text.trim());
    if (isAdded) setText("");
  };
  return (
    <label class="filter">
      <span>{label}</span>
      <input
        type="search"
        spellcheck={false}
        autocomplete="off"
        placeholder={placeholder}
        value={text}
        onInput={(event) => setText(event.currentTarget.value)}
        onBlur={enter}
        onSearch={enter}
        onKeyDown={(event) => {
          if (event.key === "Enter") enter();
        }}
      />
    </label>
  );
}

/** The period before now in which runs started; empty for any time. */
export function PeriodFilter({ value, onChange }: { value: string; onChange: (value: string) => void }) {
  const isListed = PERIODS.some((period) => period.value === value);
  return (
    <label class="filter">
      <span>Started</span>
      <select value={value} onChange={(event) => onChange(event.currentTarget.value)}>
        {PERIODS.map((period) => (
          <option key={period.value} value={period.value}>
            {period.name}
          </option>
        ))}
        {isListed ? null : <option value={value}>Since {oneLine(value)}</option>}
      </select>
    </label>
  );
}
