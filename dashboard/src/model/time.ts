// Times: absolute, relative, and how long something took.

/** The milliseconds of an RFC 3339 time; `null` if it is none. */
export function parse(time: string | null | undefined): number | null {
  if (!time) return null;
  const value = Date.parse(time);
  return Number.isNaN(value) ? null : value;
}

/** How long something took: `0.4s`, `12.3s`, `4m 05s`, `3h 12m`, `2d 4h`. */
export function duration(milliseconds: number): string {
  const total = Math.max(0, milliseconds) / 1000;
  if (total < 60) {
    const tenths = Math.floor(total * 10) / 10;
    return total < 0.1 ? `${Math.round(total * 1000)}ms` : `${tenths.toFixed(1)}s`;
  }
  const seconds = Math.floor(total);
  const two = (value: number) => String(value).padStart(2, "0");
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m ${two(seconds % 60)}s`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)}h ${two(Math.floor((seconds % 3600) / 60))}m`;
  return `${Math.floor(seconds / 86_400)}d ${Math.floor((seconds % 86_400) / 3600)}h`;
}

/** How long ago a time was, or how long until it comes. */
export function relative(time: number, now: number): string {
  const distance = Math.abs(now - time);
  if (distance < 1500) return "now";
  const text = coarse(distance);
  return time < now ? `${text} ago` : `in ${text}`;
}

function coarse(distance: number): string {
  const seconds = Math.floor(distance / 1000);
  if (seconds < 60) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}m`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours}h`;
  return `${Math.floor(hours / 24)}d`;
}

/** The milliseconds after which the relative text of a time may change. */
export function changesIn(time: number, now: number): number {
  const distance = Math.abs(now - time);
  if (distance < 60_000) return 1000;
  return distance < 3_600_000 ? 15_000 : 60_000;
}

/** The time in the reader's zone: `14:03:07` today, `Nov 30, 14:03:07` this year, with the year before. */
export function local(time: number, now: number, locale?: string, zone?: string): string {
  const day: Intl.DateTimeFormatOptions = { year: "numeric", month: "short", day: "numeric", timeZone: zone };
  const clock: Intl.DateTimeFormatOptions = { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false, timeZone: zone };
  const on = (value: number) => new Intl.DateTimeFormat(locale, day).format(value);
  const at = new Intl.DateTimeFormat(locale, clock).format(time);
  if (on(time) === on(now)) return at;
  const year = (value: number) => new Intl.DateTimeFormat(locale, { year: "numeric", timeZone: zone }).format(value);
  if (year(time) === year(now)) delete day.year;
  return `${on(time)}, ${at}`;
}

/** The exact time, in UTC, for a tooltip. */
export function exact(time: string): string {
  return time.replace("T", " ").replace(/Z$/, " UTC");
}

/** A period before now, as `15m`, `24h` or `7d`; in milliseconds. */
export function parsePeriod(text: string): number | null {
  const match = /^([1-9]\d{0,4})([mhd])$/.exec(text);
  if (!match) return null;
  const unit = { m: 60_000, h: 3_600_000, d: 86_400_000 }[match[2] as "m" | "h" | "d"];
  return Number(match[1]) * unit;
}

/** Distances between marks of a time axis, in milliseconds. */
const STEPS = [
  1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000, 900_000,
  1_800_000, 3_600_000, 7_200_000, 10_800_000, 21_600_000, 43_200_000, 86_400_000, 172_800_000, 604_800_000, 2_592_000_000,
  31_536_000_000,
];

/** The marks of an axis over a span, at most this many, as milliseconds after its start. */
export function marks(span: number, most: number): number[] {
  if (!(span > 0)) return [0];
  const step = STEPS.find((step) => span / step <= most) ?? Math.ceil(span / most);
  return Array.from({ length: Math.floor(span / step) + 1 }, (_, index) => index * step);
}
