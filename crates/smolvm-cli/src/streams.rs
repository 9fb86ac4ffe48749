//! Between a process in a guest and this process's own standard streams: bytes as they come,
//! signals, the size of the terminal.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::Signals;
use smolvm::{ExitStatus, Process, SessionError};

use crate::raw_terminal;

/// What is sent on to the process when this one gets it.
const PASSED_ON: [i32; 6] = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2];

/// What moves at once.
const BUFFER: usize = 64 * 1024;

/// Passes everything on until the process has ended, and returns how it ended; `None` where it was
/// killed because that took longer than `timeout`.
pub(crate) fn pass_on(
    process: Process,
    timeout: Option<Duration>,
) -> Result<Option<ExitStatus>, SessionError> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let input = process.take_stdin();
    let output = process.take_stdout();
    let errors = process.take_stderr();
    let process = Arc::new(process);
    pass_signals_on(&process);
    if let Some(mut input) = input {
        // This thread may wait for a person at a terminal when all else has ended, so that nobody
        // waits for it.
        thread::spawn(move || copy(&mut io::stdin().lock(), &mut input));
    }
    thread::scope(|scope| {
        if let Some(mut errors) = errors {
            scope.spawn(move || copy(&mut errors, &mut io::stderr()));
        }
        if let Some(mut output) = output {
            scope.spawn(move || copy(&mut output, &mut io::stdout()));
        }
        let Some(deadline) = deadline else { return process.wait().map(Some) };
        let left = deadline.saturating_duration_since(Instant::now());
        if let Some(status) = process.wait_timeout(left)? {
            return Ok(Some(status));
        }
        process.kill()?;
        Ok(None)
    })
}

/// Copies until either side ends. A reader of ours that has gone ends its stream alone, as with
/// any command in a pipe.
fn copy(from: &mut impl Read, to: &mut impl Write) {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                if to.write_all(&buffer[..count]).and_then(|()| to.flush()).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// Sends the signals of this process on to the other, and the new size of the terminal.
fn pass_signals_on(process: &Arc<Process>) {
    let Ok(mut signals) = Signals::new(PASSED_ON.into_iter().chain([SIGWINCH])) else {
        return;
    };
    let process = Arc::downgrade(process);
    thread::spawn(move || {
        for signal in signals.forever() {
            let Some(process) = process.upgrade() else { return };
            let passed = match raw_terminal::size() {
                Some(size) if signal == SIGWINCH => process.resize(size),
                _ if signal == SIGWINCH => Ok(()),
                _ => u8::try_from(signal).map_or(Ok(()), |signal| process.signal(signal)),
            };
            if passed.is_err() {
                return;
            }
        }
    });
}
