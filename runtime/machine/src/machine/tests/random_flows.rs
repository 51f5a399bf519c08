//! Random flows as text.

use crate::seeded_rng::SeededRng;

/// A random flow as text, nested up to three deep.
pub(super) fn random_flow(rng: &mut SeededRng) -> String {
    let mut text = controller(rng);
    text.push_str(rng.pick(&["", "", "", "", "expires = \"20s\"\n", "start_after = \"1s\"\n"]));
    let mut names = 0;
    body(rng, "", 0, &mut names, &mut text);
    text
}

fn controller(rng: &mut SeededRng) -> String {
    match rng.below(6) {
        0 => "retry = { times = 2 }\n".into(),
        1 => "retry = { for_each = [1, 2, 3] }\n".into(),
        2 => "retry = { always = \"rollback\" }\n".into(),
        3 => "retry = { times = 2, otherwise = \"rollback-all\" }\n".into(),
        _ => String::new(),
    }
}

fn body(rng: &mut SeededRng, prefix: &str, depth: u32, names: &mut u32, text: &mut String) {
    let linear = rng.below(2) == 0;
    let mut tasks = Vec::new();
    for _ in 0..rng.below(5) {
        *names += 1;
        if rng.below(8) == 0 {
            let deadline = rng.pick(&["", "deadline = \"5s\"\n"]);
            text.push_str(&format!("[[{prefix}task]]\nname = \"t{names}\"\nwait = \"word\"\n{deadline}"));
            tasks.push(*names);
            continue;
        }
        if rng.below(8) == 0 {
            for_each(rng, prefix, *names, "[]", text);
            tasks.push(*names);
            continue;
        }
        let guest = ["noop", "noop", "plain", "flaky", "fails", "five", "nasty", "stubborn"][rng.below(8)];
        let attempts = 1 + rng.below(3);
        text.push_str(&format!(
            "[[{prefix}task]]\nname = \"t{names}\"\nuse = \"g#{guest}\"\nprovides = []\n{}\
             retry = {{ attempts = {attempts}, initial = \"1s\" }}\npriority = {}\n",
            rng.pick(&["", "", "", "expires = \"2s\"\n"]),
            rng.below(3)
        ));
        tasks.push(*names);
    }
    if linear || tasks.len() < 2 {
        for pair in tasks.windows(2) {
            link(rng, prefix, &format!("t{}", pair[0]), &format!("t{}", pair[1]), text);
        }
    } else {
        for _ in 0..rng.below(4) {
            let (one, other) = (rng.below(tasks.len()), rng.below(tasks.len()));
            if one < other {
                link(rng, prefix, &format!("t{}", tasks[one]), &format!("t{}", tasks[other]), text);
            }
        }
    }
    if depth < 3 {
        for _ in 0..rng.below(3) {
            *names += 1;
            text.push_str(&format!("[[{prefix}flow]]\nname = \"n{names}\"\n{}", controller(rng)));
            text.push_str(rng.pick(&["", "", "start_after = \"3s\"\n"]));
            body(rng, &format!("{prefix}flow."), depth + 1, names, text);
        }
    }
}

/// A task that is called for each element of a list, which another task may provide.
fn for_each(rng: &mut SeededRng, prefix: &str, name: u32, empty: &str, text: &mut String) {
    let list = match rng.below(3) {
        0 => {
            text.push_str(&format!(
                "[[{prefix}task]]\nname = \"l{name}\"\nuse = \"g#list\"\nprovides = {{ list = \"list{name}\" }}\n"
            ));
            format!("\"list{name}\"")
        }
        _ => {
            let element = |rng: &mut SeededRng| rng.pick(&["1", "2", "\"slow\"", "\"slow\"", "\"large\"", "\"bad\""]);
            // Sometimes longer than the window.
            let length = if rng.below(6) == 0 { 20 } else { 6 };
            let elements: Vec<&str> = (0..rng.below(length)).map(|_| element(rng)).collect();
            if elements.is_empty() { empty.into() } else { format!("[{}]", elements.join(", ")) }
        }
    };
    let max_parallel = rng.pick(&["", "", "max_parallel = 1\n", "max_parallel = 2\n"]);
    text.push_str(&format!(
        "[[{prefix}task]]\nname = \"t{name}\"\nuse = \"g#make\"\nfor_each = {list}\nprovides = {{ made = \"made{name}\" }}\n\
         {max_parallel}retry = {{ attempts = {}, initial = \"1s\" }}\n",
        1 + rng.below(2)
    ));
}

/// A link, which may listen to a failure or have a condition.
fn link(rng: &mut SeededRng, prefix: &str, from: &str, to: &str, text: &mut String) {
    text.push_str(&format!("[[{prefix}link]]\nfrom = \"{from}\"\nto = \"{to}\"\n"));
    match rng.below(12) {
        0 => text.push_str("on = \"failure\"\n"),
        1 => text.push_str("on = \"any\"\n"),
        2 => text.push_str("on = \"failure\"\nwhen = \"failure.message == 'woot'\"\n"),
        3 => {
            let condition = rng.pick(&["true", "false", "false", "1 / 0 == 0"]);
            let reach = rng.pick(&["all", "flow", "neighbors", "task"]);
            text.push_str(&format!("when = \"{condition}\"\nreach = \"{reach}\"\n"));
        }
        _ => {}
    }
}

/// A flow that fires more than once: some tasks of the whole flow have back edges, and some join any.
pub(super) fn random_triggered_flow(rng: &mut SeededRng) -> String {
    let persistent = rng.below(2) == 0;
    let mut text = format!(
        "{} = true\nmax_firings = {}\nmax_parallel = {}\n",
        if persistent { "persistent" } else { "cyclic" },
        2 + rng.below(4),
        1 + rng.below(3)
    );
    if persistent && rng.below(3) == 0 {
        text.push_str("cyclic = true\n");
    }
    text.push_str(rng.pick(&["", "", "retry = { times = 2 }\n"]));
    text.push_str("inputs = { none = [] }\n");
    let tasks = 1 + rng.below(5);
    for task in 0..tasks {
        if rng.below(4) == 0 {
            let one = u32::try_from(task).unwrap();
            match rng.below(3) {
                0 if persistent => text.push_str(&format!(
                    "[[task]]\nname = \"t{one}\"\nuse = \"g#make\"\nfor_each = \"items{one}\"\nas = \"item\"\nprovides = {{ made = \"made{one}\" }}\n"
                )),
                // A cycle in which every list is empty fires too, if the file does not show that itself.
                _ => for_each(rng, "", one, "\"none\"", &mut text),
            }
            continue;
        }
        let guest = rng.pick(&["noop", "noop", "plain", "flaky", "fails", "nasty", "add", "next"]);
        let requires = if persistent || guest != "add" { "" } else { "with = { ip = 1 }\n" };
        let provides = if guest == "next" { format!("{{ count = \"c{task}\" }}") } else { "[]".into() };
        let requires = if guest == "next" { "with = { count = 1 }\n" } else { requires };
        text.push_str(&format!(
            "[[task]]\nname = \"t{task}\"\nuse = \"g#{guest}\"\nprovides = {provides}\n{requires}retry = {{ attempts = {}, initial = \"1s\" }}\n",
            1 + rng.below(3),
        ));
    }
    for _ in 0..=rng.below(5) {
        let (one, other) = (rng.below(tasks), rng.below(tasks));
        let (from, to) = if text.contains("cyclic = true") { (one, other) } else { (one.min(other), one.max(other)) };
        if from != to || text.contains("cyclic = true") {
            let join = rng.pick(&["", "", "", "join = \"any\"\n"]);
            text.push_str(&format!("[[link]]\nfrom = \"t{from}\"\nto = \"t{to}\"\n{join}"));
        }
    }
    if persistent && rng.below(3) == 0 {
        let overlap = rng.pick(&["skip", "queue", "allow"]);
        let missed = rng.pick(&["once", "skip", "all"]);
        text.push_str(&format!(
            "[[schedule]]\ncron = \"*/20 * * * * *\"\nto = \"t0\"\noverlap = \"{overlap}\"\nmissed = \"{missed}\"\n"
        ));
    }
    text
}
