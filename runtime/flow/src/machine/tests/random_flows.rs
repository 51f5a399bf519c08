//! Random flows as text.

use crate::seeded_rng::SeededRng;

/// A random flow as text, nested up to three deep.
pub(super) fn random_flow(draw: &mut SeededRng) -> String {
    let mut text = controller(draw);
    text.push_str(draw.pick(&["", "", "", "", "expires = \"20s\"\n", "start_after = \"1s\"\n"]));
    let mut names = 0;
    body(draw, "", 0, &mut names, &mut text);
    text
}

fn controller(draw: &mut SeededRng) -> String {
    match draw.below(6) {
        0 => "retry = { times = 2 }\n".into(),
        1 => "retry = { for_each = [1, 2, 3] }\n".into(),
        2 => "retry = { always = \"rollback\" }\n".into(),
        3 => "retry = { times = 2, otherwise = \"rollback-all\" }\n".into(),
        _ => String::new(),
    }
}

fn body(draw: &mut SeededRng, prefix: &str, depth: u32, names: &mut u32, text: &mut String) {
    let linear = draw.below(2) == 0;
    let mut tasks = Vec::new();
    for _ in 0..draw.below(5) {
        *names += 1;
        if draw.below(8) == 0 {
            let deadline = draw.pick(&["", "deadline = \"5s\"\n"]);
            text.push_str(&format!("[[{prefix}task]]\nname = \"t{names}\"\nwait = \"word\"\n{deadline}"));
            tasks.push(*names);
            continue;
        }
        if draw.below(8) == 0 {
            for_each(draw, prefix, *names, "[]", text);
            tasks.push(*names);
            continue;
        }
        let guest = ["noop", "noop", "plain", "flaky", "fails", "five", "nasty", "stubborn"][draw.below(8)];
        let attempts = 1 + draw.below(3);
        text.push_str(&format!(
            "[[{prefix}task]]\nname = \"t{names}\"\nuse = \"g#{guest}\"\nprovides = []\n{}\
             retry = {{ attempts = {attempts}, initial = \"1s\" }}\npriority = {}\n",
            draw.pick(&["", "", "", "expires = \"2s\"\n"]),
            draw.below(3)
        ));
        tasks.push(*names);
    }
    if linear || tasks.len() < 2 {
        for pair in tasks.windows(2) {
            link(draw, prefix, &format!("t{}", pair[0]), &format!("t{}", pair[1]), text);
        }
    } else {
        for _ in 0..draw.below(4) {
            let (one, other) = (draw.below(tasks.len()), draw.below(tasks.len()));
            if one < other {
                link(draw, prefix, &format!("t{}", tasks[one]), &format!("t{}", tasks[other]), text);
            }
        }
    }
    if depth < 3 {
        for _ in 0..draw.below(3) {
            *names += 1;
            text.push_str(&format!("[[{prefix}flow]]\nname = \"n{names}\"\n{}", controller(draw)));
            text.push_str(draw.pick(&["", "", "start_after = \"3s\"\n"]));
            body(draw, &format!("{prefix}flow."), depth + 1, names, text);
        }
    }
}

/// A task that is called for each element of a list, which another task may provide.
fn for_each(draw: &mut SeededRng, prefix: &str, name: u32, empty: &str, text: &mut String) {
    let list = match draw.below(3) {
        0 => {
            text.push_str(&format!(
                "[[{prefix}task]]\nname = \"l{name}\"\nuse = \"g#list\"\nprovides = {{ list = \"list{name}\" }}\n"
            ));
            format!("\"list{name}\"")
        }
        _ => {
            let element = |draw: &mut SeededRng| draw.pick(&["1", "2", "\"slow\"", "\"slow\"", "\"large\"", "\"bad\""]);
            // Sometimes longer than the window.
            let length = if draw.below(6) == 0 { 20 } else { 6 };
            let elements: Vec<&str> = (0..draw.below(length)).map(|_| element(draw)).collect();
            if elements.is_empty() { empty.into() } else { format!("[{}]", elements.join(", ")) }
        }
    };
    let most = draw.pick(&["", "", "max_parallel = 1\n", "max_parallel = 2\n"]);
    text.push_str(&format!(
        "[[{prefix}task]]\nname = \"t{name}\"\nuse = \"g#make\"\nfor_each = {list}\nprovides = {{ made = \"made{name}\" }}\n\
         {most}retry = {{ attempts = {}, initial = \"1s\" }}\n",
        1 + draw.below(2)
    ));
}

/// A link, which may listen to a failure or have a condition.
fn link(draw: &mut SeededRng, prefix: &str, from: &str, to: &str, text: &mut String) {
    text.push_str(&format!("[[{prefix}link]]\nfrom = \"{from}\"\nto = \"{to}\"\n"));
    match draw.below(12) {
        0 => text.push_str("on = \"failure\"\n"),
        1 => text.push_str("on = \"any\"\n"),
        2 => text.push_str("on = \"failure\"\nwhen = \"failure.message == 'woot'\"\n"),
        3 => {
            let condition = draw.pick(&["true", "false", "false", "1 / 0 == 0"]);
            let reach = draw.pick(&["all", "flow", "neighbors", "task"]);
            text.push_str(&format!("when = \"{condition}\"\nreach = \"{reach}\"\n"));
        }
        _ => {}
    }
}

/// A flow that fires more than once: some tasks of the whole flow have back edges, and some join any.
pub(super) fn random_triggered_flow(draw: &mut SeededRng) -> String {
    let persistent = draw.below(2) == 0;
    let mut text = format!(
        "{} = true\nmax_firings = {}\nmax_parallel = {}\n",
        if persistent { "persistent" } else { "cyclic" },
        2 + draw.below(4),
        1 + draw.below(3)
    );
    if persistent && draw.below(3) == 0 {
        text.push_str("cyclic = true\n");
    }
    text.push_str(draw.pick(&["", "", "retry = { times = 2 }\n"]));
    text.push_str("inputs = { none = [] }\n");
    let tasks = 1 + draw.below(5);
    for task in 0..tasks {
        if draw.below(4) == 0 {
            let one = u32::try_from(task).unwrap();
            match draw.below(3) {
                0 if persistent => text.push_str(&format!(
                    "[[task]]\nname = \"t{one}\"\nuse = \"g#make\"\nfor_each = \"items{one}\"\nas = \"item\"\nprovides = {{ made = \"made{one}\" }}\n"
                )),
                // A cycle in which every list is empty fires too, if the file does not show that itself.
                _ => for_each(draw, "", one, "\"none\"", &mut text),
            }
            continue;
        }
        let guest = draw.pick(&["noop", "noop", "plain", "flaky", "fails", "nasty", "add", "next"]);
        let requires = if persistent || guest != "add" { "" } else { "with = { ip = 1 }\n" };
        let provides = if guest == "next" { format!("{{ count = \"c{task}\" }}") } else { "[]".into() };
        let requires = if guest == "next" { "with = { count = 1 }\n" } else { requires };
        text.push_str(&format!(
            "[[task]]\nname = \"t{task}\"\nuse = \"g#{guest}\"\nprovides = {provides}\n{requires}retry = {{ attempts = {}, initial = \"1s\" }}\n",
            1 + draw.below(3),
        ));
    }
    for _ in 0..=draw.below(5) {
        let (one, other) = (draw.below(tasks), draw.below(tasks));
        let (from, to) = if text.contains("cyclic = true") { (one, other) } else { (one.min(other), one.max(other)) };
        if from != to || text.contains("cyclic = true") {
            let join = draw.pick(&["", "", "", "join = \"any\"\n"]);
            text.push_str(&format!("[[link]]\nfrom = \"t{from}\"\nto = \"t{to}\"\n{join}"));
        }
    }
    if persistent && draw.below(3) == 0 {
        let overlap = draw.pick(&["skip", "queue", "allow"]);
        let missed = draw.pick(&["once", "skip", "all"]);
        text.push_str(&format!(
            "[[schedule]]\ncron = \"*/20 * * * * *\"\nto = \"t0\"\noverlap = \"{overlap}\"\nmissed = \"{missed}\"\n"
        ));
    }
    text
}
