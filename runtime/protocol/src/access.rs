//! What a flow asks for a call, in messages: numbers with texts, so that a new kind of access changes no message that does not
//! ask for it.

use std::time::Duration;

use flow::{Access, AccessTooLarge, DirectoryUse, Memo, Recording};

use crate::{
    codec,
    wire::{Invalid, invalid, micros},
};

/// All that is asked for: the number of its kind, and a text where the kind has one. A number is never reused.
pub(crate) type WireAccess = Vec<(u8, String)>;

const HTTP: u8 = 1;
const CLOCK: u8 = 2;
const RANDOM: u8 = 3;
const SECRET: u8 = 4;
const CONFIG: u8 = 5;
const VARIABLE: u8 = 6;
const READ_DIRECTORY: u8 = 7;
const WRITE_DIRECTORY: u8 = 8;
const SOCKET: u8 = 9;
/// The arguments are in their order.
const ARGUMENT: u8 = 10;
const RECORD_NOTHING: u8 = 11;
/// The results are remembered; its text is the number of microseconds for which, or nothing for an unlimited time.
const MEMO: u8 = 12;
/// The guest sees the fixed call of a task with `memo`, and no result is remembered.
const MEMO_NEVER: u8 = 13;

/// The maximum number of texts beside arguments: one of each part, and the time of `memo`.
const MAX_PART_TEXTS: usize = Access::MAX_PARTS + 1;

/// The access as a message contains it.
pub(crate) fn access_to_wire(access: &Access) -> WireAccess {
    let Access { http, secrets, config, variables, directories, sockets, arguments, clock, random, record, memo } =
        access;
    let http = http.iter().map(|pattern| (HTTP, pattern.to_string()));
    let secrets = secrets.iter().map(|name| (SECRET, name.to_string()));
    let config = config.iter().map(|name| (CONFIG, name.to_string()));
    let variables = variables.iter().map(|name| (VARIABLE, name.to_string()));
    let directories = directories.iter().map(|(name, directory_use)| {
        let number = match directory_use {
            DirectoryUse::Read => READ_DIRECTORY,
            DirectoryUse::Write => WRITE_DIRECTORY,
        };
        (number, name.to_string())
    });
    let sockets = sockets.iter().map(|pattern| (SOCKET, pattern.to_string()));
    let arguments = arguments.iter().map(|argument| (ARGUMENT, argument.clone()));
    let memo = memo.map(|memo| match memo {
        Memo::Unlimited => (MEMO, String::new()),
        Memo::For(time) => (MEMO, micros(time).to_string()),
        Memo::Never => (MEMO_NEVER, String::new()),
    });
    let flags = [(CLOCK, *clock), (RANDOM, *random), (RECORD_NOTHING, *record == Recording::None)];
    let flags = flags.into_iter().filter(|(_, is_set)| *is_set).map(|(number, _)| (number, String::new()));
    http.chain(secrets)
        .chain(config)
        .chain(variables)
        .chain(directories)
        .chain(sockets)
        .chain(arguments)
        .chain(flags)
        .chain(memo)
        .collect()
}

/// The access of a message.
///
/// # Errors
/// Why it is invalid. A call must not run without what it asks for. No flow asks for more than [`Access::check_size`] allows.
pub(crate) fn access_from_wire(wire: WireAccess) -> Result<Access, Invalid> {
    // The texts are read only if they are few: each is parsed.
    let parts = wire.iter().filter(|(number, text)| *number != ARGUMENT && !text.is_empty()).count();
    if parts > MAX_PART_TEXTS {
        return Err(AccessTooLarge::Parts { count: parts }.to_string());
    }
    let mut access = Access::default();
    for (number, text) in wire {
        match number {
            HTTP => drop(access.http.insert(text.parse().map_err(invalid)?)),
            SECRET => drop(access.secrets.insert(text.parse().map_err(invalid)?)),
            CONFIG => drop(access.config.insert(text.parse().map_err(invalid)?)),
            VARIABLE => drop(access.variables.insert(text.parse().map_err(invalid)?)),
            READ_DIRECTORY => drop(access.directories.insert(text.parse().map_err(invalid)?, DirectoryUse::Read)),
            WRITE_DIRECTORY => drop(access.directories.insert(text.parse().map_err(invalid)?, DirectoryUse::Write)),
            SOCKET => drop(access.sockets.insert(text.parse().map_err(invalid)?)),
            ARGUMENT if text.contains('\0') => return Err(invalid("an argument with a zero byte")),
            ARGUMENT => access.arguments.push(text),
            CLOCK => access.clock = true,
            RANDOM => access.random = true,
            RECORD_NOTHING => access.record = Recording::None,
            MEMO => access.memo = Some(memo_from_wire(&text)?),
            MEMO_NEVER => access.memo = Some(Memo::Never),
            unknown => return Err(codec::later(format!("access {unknown}"))),
        }
    }
    access.check_size().map_err(invalid)?;
    Ok(access)
}

fn memo_from_wire(text: &str) -> Result<Memo, Invalid> {
    if text.is_empty() {
        return Ok(Memo::Unlimited);
    }
    let time = text.parse().map(Duration::from_micros).map_err(invalid)?;
    if time.is_zero() { Err(invalid("a result that is remembered for no time")) } else { Ok(Memo::For(time)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_access_has_a_number() {
        assert_eq!(access_to_wire(&Access::default()), []);
        let http = ["GET http://localhost:81/a/**", "PUT https://b.example/*"];
        let http = http.map(|pattern| pattern.parse().unwrap()).into();
        let access = Access {
            http,
            secrets: ["LB_TOKEN".parse().unwrap()].into(),
            config: ["region".parse().unwrap()].into(),
            variables: ["TZ".parse().unwrap()].into(),
            directories: [("data", DirectoryUse::Write), ("menu", DirectoryUse::Read)]
                .map(|(name, own)| (name.parse().unwrap(), own))
                .into(),
            sockets: ["db.example:5432".parse().unwrap()].into(),
            arguments: vec!["-b".into(), "-a".into()],
            clock: true,
            random: true,
            record: Recording::None,
            memo: Some(Memo::For(Duration::from_secs(60))),
        };
        let wire = access_to_wire(&access);
        let expected = [
            (1, "GET http://localhost:81/a/**"),
            (1, "PUT https://b.example/*"),
            (4, "LB_TOKEN"),
            (5, "region"),
            (6, "TZ"),
            (8, "data"),
            (7, "menu"),
            (9, "db.example:5432"),
            (10, "-b"),
            (10, "-a"),
            (2, ""),
            (3, ""),
            (11, ""),
            (12, "60000000"),
        ];
        assert_eq!(wire.iter().map(|(number, text)| (*number, text.as_str())).collect::<Vec<_>>(), expected);
        assert_eq!(access_from_wire(wire).unwrap(), access);
        let unlimited = Access { memo: Some(Memo::Unlimited), ..Access::default() };
        assert_eq!(access_from_wire(vec![(12, String::new())]).unwrap(), unlimited);
        assert_eq!(access_to_wire(&unlimited), [(12, String::new())]);
        let never = Access { memo: Some(Memo::Never), ..Access::default() };
        assert_eq!(access_from_wire(vec![(13, String::new())]).unwrap(), never);
        assert_eq!(access_to_wire(&never), [(13, String::new())]);
    }

    #[test]
    fn more_access_than_a_flow_may_ask_for_is_refused() {
        let http = |count: usize| (0..count).map(|number| (HTTP, format!("GET http://localhost/{number}"))).collect();
        assert_eq!(access_from_wire(http(256)).unwrap().http.len(), 256);
        let error = access_from_wire(http(257)).unwrap_err();
        assert_eq!(error, "257 patterns and names in \"allow\", and the maximum is 256");
        // It is refused before a text of it is parsed.
        let error = access_from_wire(vec![(HTTP, "nowhere".into()); 300]).unwrap_err();
        assert!(error.starts_with("300 patterns and names"), "{error}");
        let long =
            (0..40).map(|number| (HTTP, format!("GET http://localhost/{number}/{}", "x".repeat(1_900)))).collect();
        assert!(access_from_wire(long).unwrap_err().contains("bytes of patterns and names"));
        let argument = |bytes: usize| vec![(ARGUMENT, "x".repeat(bytes))];
        assert!(access_from_wire(argument((64 << 10) - 1)).is_ok());
        assert!(access_from_wire(argument(64 << 10)).unwrap_err().contains("arguments of 65537 bytes"));
    }

    #[test]
    fn unknown_access_is_refused() {
        let error = access_from_wire(vec![(200, String::new())]).unwrap_err();
        assert_eq!(error, "access 200 is not known here: a later waft wrote it, so upgrade this one");
        assert!(access_from_wire(vec![(1, "GET nowhere".into())]).is_err());
        assert!(access_from_wire(vec![(12, "0".into())]).is_err());
    }
}
