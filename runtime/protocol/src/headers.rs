//! The ids that travel in the clear, so that an operator can read a queue.

use std::collections::BTreeMap;

use flow::{Action, Attempt, CallId, Firing, NodeName, RunId};

/// The id of a call's messages: the same whenever they are sent again.
#[must_use]
pub fn message_id(call: &CallId) -> String {
    call.to_string()
}

/// The headers of a call's messages.
#[must_use]
pub fn headers(call: &CallId) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("run".into(), call.run.to_string()),
        ("task".into(), call.task.to_string()),
        ("firing".into(), call.firing.to_string()),
        ("attempt".into(), call.attempt.to_string()),
        ("call".into(), call.action.to_string()),
    ])
}

/// The call that headers tell of; `None` where they are not those of a call.
#[must_use]
pub fn call_of(headers: &BTreeMap<String, String>) -> Option<CallId> {
    let header = |name: &str| headers.get(name).map(String::as_str);
    let action = match header("call")? {
        word if word == Action::Apply.as_str() => Action::Apply,
        word if word == Action::Rollback.as_str() => Action::Rollback,
        _ => return None,
    };
    Some(CallId {
        run: RunId::new(header("run")?).ok()?,
        task: NodeName::new(header("task")?).ok()?,
        firing: Firing::new(header("firing")?.parse().ok()?),
        attempt: Attempt::new(header("attempt")?.parse().ok()?),
        action,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_known_again_by_its_headers() {
        let call = CallId {
            run: "r".parse().unwrap(),
            task: "bake".parse().unwrap(),
            firing: Firing::new(7),
            attempt: Attempt::new(3),
            action: Action::Rollback,
        };
        assert_eq!(call_of(&headers(&call)), Some(call.clone()));
        for missing in ["run", "task", "firing", "attempt", "call"] {
            let mut headers = headers(&call);
            headers.remove(missing);
            assert_eq!(call_of(&headers), None, "without {missing}");
        }
    }
}
