//! The roles of a broker's users, and the permissions that each needs: RabbitMQ compares three regular expressions with the
//! names of exchanges and queues.
//!
//! To publish needs write on the exchange; to consume, read on the queue; to declare or delete, configure. A binding needs
//! write on the queue and read on the exchange, so whoever may read an exchange can receive a copy of each of its messages.
//! A dead-letter exchange needs write on it, and read on the queue. The names are in `protocol::topology`.
//!
//! The same names are for queues and for exchanges: whoever may declare, write to and read a queue may also declare a topic exchange of
//! this name, bind it behind an exchange of engines, and slow engines down with patterns of many `#`. So workers and operators have
//! [private queues](crate::QueueKind::Private) only: no user can declare an exchange whose name begins with `amq.`.

use flow::QueueName;
use protocol::topology as names;

/// What a user of the broker is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Drives runs: `waft serve` and `waft run`.
    Engine,
    /// Makes calls: `waft worker`.
    Worker,
    /// Receives notifications: a program that is no part of waft.
    Listener,
    /// Looks after the rest: `waft workers`, `waft quarantine` and `waft doctor`.
    Operator,
}

/// What a role is limited to. An empty list is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoleLimits {
    /// The queues that a worker takes jobs from.
    pub queues: Vec<QueueName>,
    /// The listeners whose queues a program may consume, as `waft broker setup` has declared them.
    pub listeners: Vec<QueueName>,
}

/// The permissions of a user, as regular expressions over the names of exchanges and queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    /// What it may declare and delete.
    pub configure: String,
    /// What it may publish to, and bind to exchanges.
    pub write: String,
    /// What it may consume, and bind queues to.
    pub read: String,
}

/// A regular expression that matches no name.
const NOTHING: &str = "^$";

/// The prefix of the names that a broker gives to private queues.
const PRIVATE_PREFIX: &str = "amq.gen-";

/// The prefix of the names of the queues that `waft doctor` declares and deletes.
pub const DOCTOR_PREFIX: &str = "waft.doctor.";

impl Role {
    /// All roles.
    pub const ALL: [Self; 4] = [Self::Engine, Self::Worker, Self::Listener, Self::Operator];

    /// Its name in commands and documentation.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Worker => "worker",
            Self::Listener => "listener",
            Self::Operator => "operator",
        }
    }

    /// What a user with its permissions can do, as a sentence.
    #[must_use]
    pub const fn can(self) -> &'static str {
        match self {
            Self::Engine => {
                "An engine (waft serve, waft run) can declare, use and delete every exchange and queue of waft, and can do what a \
                 worker and an operator can."
            }
            Self::Worker => {
                "A worker (waft worker) can take the jobs of its queues, report about calls, fetch and store content, publish the \
                 lines of guests, answer pings, and put messages into the quarantine."
            }
            Self::Listener => {
                "A listener (a program that receives notifications) can take the notifications from its queues, which waft broker \
                 setup --listener declares."
            }
            Self::Operator => {
                "An operator (waft workers, waft quarantine, waft doctor) can ping and drain workers, read the quarantine and \
                 release its messages to any queue, and ask engines for content."
            }
        }
    }

    /// What a user with its permissions cannot do, as a sentence.
    #[must_use]
    pub const fn cannot(self) -> &'static str {
        match self {
            Self::Engine => "It cannot use the default exchange, or names that do not begin with waft.",
            Self::Worker => {
                "It cannot publish jobs, run commands, control messages, replies or notifications; receive copies of jobs; read \
                 the queues of engines or the quarantine; or declare or delete exchanges, or queues of jobs and of engines."
            }
            Self::Listener => "It cannot declare, bind or publish anything, and cannot read anything else of waft.",
            Self::Operator => {
                "It cannot take jobs, read or forge reports, publish run commands or notifications, or delete queues of others."
            }
        }
    }
}

impl Permissions {
    /// The permissions of a role.
    #[must_use]
    pub fn of(role: Role, limits: &RoleLimits) -> Self {
        let private = below(PRIVATE_PREFIX);
        match role {
            Role::Engine => {
                let all = any_of(&[below("waft."), below(names::LISTENER_PREFIX), private]);
                Self { configure: all.clone(), write: all.clone(), read: all }
            }
            Role::Worker => {
                let sent =
                    [names::REPORTS, names::CONTENT, names::STATUS, names::LOGS, names::DEAD_LETTERS].map(exactly);
                let received = [names::CONTROL, names::REPLIES].map(exactly);
                let jobs = queues(names::JOBS_PREFIX, &limits.queues);
                Self {
                    // It may neither write to these queues nor read them: they only reserve names.
                    configure: any_of(&[below(names::WORKER_LOCK_PREFIX), private.clone()]),
                    write: any_of(&[&sent[..], std::slice::from_ref(&private)].concat()),
                    read: any_of(&[&received[..], &[private], &jobs].concat()),
                }
            }
            Role::Listener => Self {
                configure: NOTHING.to_owned(),
                write: NOTHING.to_owned(),
                read: any_of(&queues(names::LISTENER_PREFIX, &limits.listeners)),
            },
            Role::Operator => {
                let own = [below(DOCTOR_PREFIX), private];
                let sent = [names::CONTROL, names::CONTENT, names::RELEASED, names::STATUS].map(exactly);
                let received = [names::QUARANTINE, names::REPLIES, names::STATUS, names::RELEASED].map(exactly);
                Self {
                    configure: any_of(&own),
                    write: any_of(&[&sent[..], &own].concat()),
                    read: any_of(&[&received[..], &own].concat()),
                }
            }
        }
    }
}

/// Expressions for some queues with a prefix, or for all.
fn queues(prefix: &str, names: &[QueueName]) -> Vec<String> {
    match names {
        [] => vec![below(prefix)],
        names => names.iter().map(|name| exactly(&format!("{prefix}{name}"))).collect(),
    }
}

/// An expression for one name. Names have no other characters with a meaning in expressions than dots.
fn exactly(name: &str) -> String {
    name.replace('.', r"\.")
}

/// An expression for all names with a prefix.
fn below(prefix: &str) -> String {
    format!("{}.+", exactly(prefix))
}

fn any_of(expressions: &[String]) -> String {
    match expressions {
        [one] => format!("^{one}$"),
        several => format!("^({})$", several.join("|")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_reads_only_its_own_queues_and_writes_to_no_exchange_of_engines() {
        let limits =
            RoleLimits { queues: vec!["ovens".parse().unwrap(), "default".parse().unwrap()], ..RoleLimits::default() };
        let worker = Permissions::of(Role::Worker, &limits);
        assert_eq!(worker.configure, r"^(waft\.worker\..+|amq\.gen-.+)$");
        assert_eq!(
            worker.write,
            r"^(waft\.reports|waft\.content|waft\.status|waft\.logs|waft\.dead-letters|amq\.gen-.+)$"
        );
        assert_eq!(worker.read, r"^(waft\.control|waft\.replies|amq\.gen-.+|waft\.jobs\.ovens|waft\.jobs\.default)$");
    }

    #[test]
    fn no_role_but_the_engine_may_write_to_what_engines_send_with() {
        for role in [Role::Worker, Role::Listener, Role::Operator] {
            let write = Permissions::of(role, &RoleLimits::default()).write;
            for exchange in [names::JOBS, names::ENGINES, names::REPLIES, names::NOTIFICATIONS, names::RUNS] {
                let expression = exactly(exchange);
                let allows = |part: &str| {
                    part == expression || part.strip_suffix(".+").is_some_and(|start| expression.starts_with(start))
                };
                let is_named = write.trim_matches(['^', '$', '(', ')']).split('|').any(allows);
                assert!(!is_named, "{}: {write}", role.as_str());
            }
            assert!(!write.contains(r"amq\.default"), "{write}");
        }
    }

    #[test]
    fn what_a_role_may_configure_is_no_name_of_an_exchange_that_it_can_use() {
        for role in [Role::Worker, Role::Listener] {
            let Permissions { configure, write, read } = Permissions::of(role, &RoleLimits::default());
            let parts =
                |of: &str| of.trim_matches(['^', '$', '(', ')']).split('|').map(str::to_owned).collect::<Vec<_>>();
            for part in parts(&configure).iter().filter(|part| !part.is_empty() && !part.starts_with(r"amq\.gen-")) {
                assert!(!parts(&write).contains(part) && !parts(&read).contains(part), "{}: {part}", role.as_str());
            }
        }
    }

    #[test]
    fn a_listener_only_consumes() {
        let limits = RoleLimits { listeners: vec!["dashboard".parse().unwrap()], ..RoleLimits::default() };
        let listener = Permissions::of(Role::Listener, &limits);
        let nothing = NOTHING.to_owned();
        let read = r"^listen\.dashboard$".to_owned();
        assert_eq!(listener, Permissions { configure: nothing.clone(), write: nothing, read });
    }
}
