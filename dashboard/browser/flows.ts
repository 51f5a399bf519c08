// The flows of the tests.

/** The first task of flows that are watched: it waits until somebody watches. */
const GATE = `
[[task]]
name = "start"
wait = "somebody who watches"
`;

/** Two tasks that take a moment, the first of which writes to its log. */
export const ORDER = `
name = "order"
[modules]
hostile = "hostile"
[inputs]
text = "mixing the batter"
[[task]]
name = "mix"
use = "hostile#say"
with = { ms = 2500 }
provides = { said = "mixed" }
[[task]]
name = "bake"
use = "hostile#sleep"
with = { ms = 2500 }
provides = { slept_ms = "baked_ms" }
${GATE}
[[link]]
from = "start"
to = "mix"
[[link]]
from = "mix"
to = "bake"
`;

/** Three tasks with effects, and one that fails: the others are rolled back, slowly enough to watch. */
export const PROVISION = `
name = "provision"
[modules]
hostile = "hostile"
[[task]]
name = "network"
use = "hostile#stubborn"
with = { value = "10.0.0.0/16", rolls_back_at = 2 }
provides = { value = "network_range" }
retry = { attempts = 4, backoff = "fixed", initial = "3s", jitter = false }
[[task]]
name = "disk"
use = "hostile#stubborn"
with = { value = { gib = 40, kind = "ssd" }, rolls_back_at = 1 }
provides = { value = "disk_spec" }
[[task]]
name = "server"
use = "hostile#stubborn"
with = { value = "srv-1", rolls_back_at = 2 }
provides = { value = "server_id" }
retry = { attempts = 4, backoff = "fixed", initial = "3s", jitter = false }
[[task]]
name = "announce"
use = "hostile#fail"
with = { message = "the name example is taken" }
${GATE}
[[link]]
from = "start"
to = "network"
[[link]]
from = "start"
to = "disk"
[[link]]
from = "network"
to = "server"
[[link]]
from = "disk"
to = "server"
[[link]]
from = "server"
to = "announce"
`;

/** A rollback that fails for good: only a person can settle the run. */
export const STUCK = `
name = "stuck"
[modules]
hostile = "hostile"
[[task]]
name = "reserve"
use = "hostile#stubborn"
with = { value = "seat 12" }
[[task]]
name = "pay"
use = "hostile#fail"
with = { message = "the card was refused" }
[[link]]
from = "reserve"
to = "pay"
`;

/** A task that starts only for an answer that no rehearsal knows; the condition is a text that a page might obey. */
export const GUARDED = `
name = "guarded"
[modules]
hostile = "hostile"
[[task]]
name = "ask"
wait = "an answer"
provides = ["answer"]
[[task]]
name = "rarely"
use = "hostile#noop"
[[link]]
from = "ask"
to = "rarely"
when = "answer == '<img src=x onerror=alert(1)><script>alert(2)</script>'"
`;

/** A task that waits for a person. */
export const APPROVAL = `
name = "shop/approval"
[[task]]
name = "approve"
wait = "a manager's approval"
provides = ["by", "limit"]
`;

/** A settlement that fails and is rolled back if its account is closed. With another account, it waits for a person. */
export const SETTLE = `
name = "settle"
[modules]
hostile = "hostile"
[inputs]
account = "closed"
[[task]]
name = "reserve"
use = "hostile#stubborn"
with = { value = "seat 12", rolls_back_at = 1 }
provides = { value = "reserved" }
[[task]]
name = "refuse"
use = "hostile#fail"
with = { message = "the account is closed: give another account" }
[[task]]
name = "approve"
wait = "a manager's approval"
provides = ["by", "limit"]
[[task]]
name = "archive"
use = "hostile#noop"
[[link]]
from = "reserve"
to = "refuse"
when = "account == 'closed'"
reach = "task"
[[link]]
from = "refuse"
to = "approve"
[[link]]
from = "approve"
to = "archive"
`;

/** A flow that waits all the time, to be changed meanwhile. */
export const RELEASE = `
# A comment, which no later revision has.
name = "release"
[inputs]
version = "6.9"
[[task]]
name = "build"
wait = "the build"
[[task]]
name = "publish"
wait = "a word to publish"
[[link]]
from = "build"
to = "publish"
`;

/** Edits of a release: a task that was forgotten. */
export const REVIEW = `[[edit]]
add_text = '''
[[task]]
name = "review"
wait = "a look at the release"
'''
[[edit]]
link = ["build", "review"]
`;

/** A flow whose runs stay open, and call nothing. */
export function waiting(name: string): string {
  return `name = "${name}"\n[[task]]\nname = "w"\nwait = "a word"\n`;
}

/** A call that does not end, of a task that only one call may make at a time. */
export const ENDLESS = `
name = "endless"
[modules]
hostile = "hostile"
[[task]]
name = "hold"
use = "hostile#sleep"
with = { ms = 600000 }
provides = []
timeout = "20m"
max_running = 1
`;

/** A call that is given up when its server is killed once. It ends before it would get a lease. */
export const DEADLY = `
name = "deadly"
[modules]
hostile = "hostile"
[[task]]
name = "kill"
use = "hostile#sleep"
with = { ms = 9000 }
provides = []
delivery_limit = 1
`;

/** A task that fires each second, and is under way all the time: most times fire nothing. */
export const CLOCK = `
name = "clock"
persistent = true
[modules]
hostile = "hostile"
[[task]]
name = "tick"
use = "hostile#sleep"
with = { ms = 600000 }
provides = []
timeout = "20m"
[[schedule]]
cron = "* * * * * *"
zone = "Europe/Berlin"
to = "tick"
`;

/** A task that fires each night. */
export const NIGHTLY = `
name = "nightly"
persistent = true
[modules]
hostile = "hostile"
[[task]]
name = "tidy"
use = "hostile#noop"
[[schedule]]
cron = "0 3 * * *"
to = "tidy"
`;

/** A nested flow, a list, a handler of failures and a condition. */
export const SHOWCASE = `
name = "nightly-report"
[modules]
hostile = "hostile"
[inputs]
regions = [600, 900, 1200, 700, 1500, 800, 1100, 950]
[[task]]
name = "fetch-orders"
use = "hostile#sleep"
with = { ms = 700 }
provides = { slept_ms = "orders" }
[[task]]
name = "fetch-prices"
use = "hostile#fail-until"
with = { attempt = 2 }
retry = { attempts = 3, backoff = "fixed", initial = "1s", jitter = false }
provides = { attempts = "prices" }
[[task]]
name = "per-region"
use = "hostile#sleep"
for_each = "regions"
as = "ms"
max_parallel = 3
provides = { slept_ms = "region_reports" }
[[flow]]
name = "publish"
retry = { times = 2 }
[[flow.task]]
name = "render"
use = "hostile#say"
with = { ms = 800, text = "rendering 8 regions" }
provides = { said = "page" }
[[flow.task]]
name = "review"
wait = "a look at the page"
provides = ["approved"]
[[flow.link]]
from = "render"
to = "review"
[[task]]
name = "alert"
use = "hostile#say"
with = { ms = 10, text = "somebody should look at this" }
provides = { said = "alerted" }
[[link]]
from = "fetch-orders"
to = "per-region"
[[link]]
from = "fetch-prices"
to = "per-region"
[[link]]
from = "per-region"
to = "publish"
[[link]]
from = "per-region"
to = "alert"
on = "failure"
`;

/** Texts that a page might obey. */
export const HOSTILE_TEXT = '<img src=x onerror="alert(1)"><script>alert(2)</script>\u001b[31mred\u001b[0m\u202Egnp.exe\u0000';

/** A flow whose guest writes and returns such texts, and then fails with one. */
export const HOSTILE = `
name = "hostile"
[modules]
hostile = "hostile"
[[task]]
name = "talk"
use = "hostile#say"
with = { ms = 0 }
provides = { said = "said" }
[[task]]
name = "fall"
use = "hostile#fail"
[[link]]
from = "talk"
to = "fall"
`;

/** A flow with many tasks. */
export function wide(tasks: number): string {
  const lines = ['name = "wide"', '[modules]', 'hostile = "hostile"'];
  for (let number = 0; number < tasks; number += 1) {
    lines.push("[[task]]", `name = "t${number}"`, 'wait = "a word"');
    if (number > 0) lines.push("[[link]]", `from = "t${Math.floor((number - 1) / 3)}"`, `to = "t${number}"`);
  }
  return lines.join("\n");
}
