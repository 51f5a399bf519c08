//! The terminal as a whole screen: it is entered, left, and left in order whatever ends the process.
//!
//! Leaving is idempotent, and does not need the value that has entered: the panic hook leaves before it prints.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
};

use crossterm::terminal;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Signal, getpgrp, getpid, getsid, kill_current_process_group, kill_process},
    stdio::stdin,
};
use tokio::sync::mpsc;

use super::keys::{Key, KeyParser};
use crate::output;

/// Shows the alternate screen without a cursor, and marks pasted text.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[?2004h\x1b[2J";

/// Undoes it.
const LEAVE: &[u8] = b"\x1b[0m\x1b[?2004l\x1b[?25h\x1b[?1049l";

static IS_ENTERED: AtomicBool = AtomicBool::new(false);

/// The entered screen. It is left when this is dropped.
pub(crate) struct Screen(());

impl Screen {
    /// Enters the screen. A panic leaves it before its message is printed.
    ///
    /// # Errors
    /// The mode of the terminal cannot be changed.
    pub(crate) fn open() -> io::Result<Self> {
        enter()?;
        let screen = Self(());
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            leave();
            print(panic);
        }));
        Ok(screen)
    }

    /// Enters the screen again, after another process had the terminal, and may have changed its mode.
    ///
    /// # Errors
    /// As [`Screen::open`].
    pub(crate) fn reopen(&self) -> io::Result<()> {
        // Otherwise the mode counts as raw already.
        terminal::disable_raw_mode()?;
        enter()
    }

    /// Gives the terminal back and stops this process, until a shell continues it.
    ///
    /// # Errors
    /// As [`Screen::open`].
    pub(crate) fn stop(&self) -> io::Result<()> {
        leave();
        kill_process(getpid(), Signal::STOP)?;
        enter()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

fn enter() -> io::Result<()> {
    terminal::enable_raw_mode()?;
    IS_ENTERED.store(true, Ordering::SeqCst);
    output::bytes(ENTER);
    Ok(())
}

/// Leaves the screen, if it is entered.
fn leave() {
    if IS_ENTERED.swap(false, Ordering::SeqCst) {
        output::bytes(LEAVE);
        // The terminal may be gone.
        let _ = terminal::disable_raw_mode();
    }
}

/// Whether a shell would continue this process after a stop. In the group of its session's first process, it has no such shell, and
/// would wait for ever.
pub(crate) fn can_stop() -> bool {
    getsid(None).is_ok_and(|session| session != getpgrp())
}

/// Asks the processes of the shell's job to stop, as Ctrl-Z does at a terminal that is not raw. This process receives the signal too.
///
/// # Errors
/// The system refuses.
pub(crate) fn ask_to_stop() -> io::Result<()> {
    Ok(kill_current_process_group(Signal::TSTP)?)
}

/// The time in which the rest of a key follows an escape. Over a slow connection, too.
const ESCAPE_PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// The maximum number of keys that wait. Then the terminal waits.
const MAX_WAITING_KEYS: usize = 64;

/// Reads the keys of the terminal, until it is gone.
///
/// # Errors
/// The thread cannot be started.
pub(crate) fn read_keys() -> io::Result<mpsc::Receiver<Key>> {
    let (tx, keys) = mpsc::channel(MAX_WAITING_KEYS);
    // The thread blocks until the next key, and ends with the process at the latest.
    std::thread::Builder::new().name("keys".into()).spawn(move || send_keys(&tx))?;
    Ok(keys)
}

fn send_keys(tx: &mpsc::Sender<Key>) {
    let (mut parser, mut bytes) = (KeyParser::default(), [0; 1_024]);
    loop {
        let pause = parser.is_undecided().then_some(ESCAPE_PAUSE);
        let keys: Vec<Key> = match poll(&mut [PollFd::from_borrowed_fd(stdin(), PollFlags::IN)], pause.as_ref()) {
            Err(Errno::INTR) => continue,
            Err(_) => return,
            Ok(0) => parser.decide().into_iter().collect(),
            Ok(_) => match rustix::io::read(stdin(), &mut bytes[..]) {
                Err(Errno::INTR | Errno::AGAIN) => continue,
                Ok(0) | Err(_) => return,
                Ok(length) => parser.take(&bytes[..length]),
            },
        };
        for key in keys {
            if tx.blocking_send(key).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The modes that a text switches on (`h`) or off (`l`).
    fn modes(text: &[u8], switch: char) -> Vec<String> {
        let text = std::str::from_utf8(text).unwrap();
        let modes = text.split("\x1b[?").filter_map(|mode| mode.split_once(switch)).map(|(mode, _)| mode.to_owned());
        let mut modes: Vec<String> = modes.filter(|mode| mode.bytes().all(|byte| byte.is_ascii_digit())).collect();
        modes.sort();
        modes
    }

    #[test]
    fn leaving_undoes_what_entering_did() {
        assert_eq!(modes(ENTER, 'h'), modes(LEAVE, 'l'));
        assert_eq!(modes(ENTER, 'l'), modes(LEAVE, 'h'));
        assert_eq!(modes(ENTER, 'h').len() + modes(ENTER, 'l').len(), 3);
    }
}
