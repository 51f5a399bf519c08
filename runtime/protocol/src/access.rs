//! What a flow asks for a call, in messages: numbers with texts, so that a new kind of access changes no message that does not
//! ask for it.

use std::time::Duration;

use flow::{Access, DirectoryUse, Memo, Recording};

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
/// Why it is invalid. A call must not run without what it asks for.
pub(crate) fn access_from_wire(wire: WireAccess) -> Result<Access, Invalid> {
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
    fn unknown_access_is_refused() {
        let error = access_from_wire(vec![(200, String::new())]).unwrap_err();
        assert_eq!(error, "access 200 is not known here: a later waft wrote it, so upgrade this one");
        assert!(access_from_wire(vec![(1, "GET nowhere".into())]).is_err());
        assert!(access_from_wire(vec![(12, "0".into())]).is_err());
    }
}
