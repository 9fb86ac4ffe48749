//! The story of the supervisor: one loop that waits for the owner, the VMM, the guest and the
//! clients, and does what they want until the VM is to end.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use crate::arguments::{Arguments, Mode};
use crate::control::{How, Order, Report, Setting};
use crate::directories::{ClaimError, Directories};
use crate::machine::{LOOK_AGAIN, Machine, Output};
use crate::mux::{End, Mux};
use crate::owner::{Link, Owner};
use crate::poll::{PollSet, Ready};
use crate::signals::Signals;
use crate::state::{self, Agent, Process, State, Status};

/// One VM and all that belongs to it.
pub(crate) struct Supervisor {
    owner: Owner,
    signals: Signals,
    directories: Directories,
    machine: Machine,
    mux: Option<Mux>,
    state: State,
}

/// Whose descriptor it is that is ready.
#[derive(Debug, Clone, Copy)]
enum Token {
    Owner(Link),
    Signals,
    Machine(Output),
    Mux(End),
}

/// Whether the loop goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    /// Nothing is to be left of the VM.
    Delete,
    /// The VM is to end and stay.
    Leave,
}

/// Supervises one VM, from its making until nothing is to be done for it any more.
pub(crate) fn run(arguments: Arguments) -> io::Result<()> {
    let Arguments { state, runtime, mode, owner, files, control } = arguments;
    let signals = Signals::catch()?;
    let mut owner = Owner::new(control, owner);
    let mut directories = match Directories::claim(&state, &runtime, mode) {
        Ok(directories) => directories,
        Err(error) => {
            owner.tell(&match error {
                ClaimError::Exists => Report::Exists,
                ClaimError::NotFound => Report::NotFound,
                error @ ClaimError::Io(..) => Report::Failed(error.to_string()),
            });
            return Ok(());
        }
    };
    let state = match first_state(mode, &state, runtime) {
        Ok(state) => state,
        Err(error) => {
            let why = format!("{}: {error}", directories.state.join(state::FILE).display());
            owner.tell(&Report::Failed(why));
            return if mode == Mode::Adopt {
                directories.remove_runtime()
            } else {
                directories.remove().map_err(io::Error::other)
            };
        }
    };
    let machine = Machine::new(&directories.state, files);
    owner.tell(&Report::Ready);
    Supervisor { owner, signals, directories, machine, mux: None, state }.run()
}

/// The state of a VM that does not run; how it ended is kept when it is adopted.
fn first_state(mode: Mode, directory: &std::path::Path, runtime: PathBuf) -> io::Result<State> {
    let pid = std::process::id();
    let supervisor = Process::find(pid).unwrap_or(Process { pid, start_time: 0 });
    let past = if mode == Mode::Adopt { State::read(directory)? } else { None };
    let status = match past.as_ref().map(|past| past.status) {
        Some(ended @ Status::Ended { .. }) => ended,
        // The supervisor that could have seen its end was killed, and the VMM with it.
        Some(Status::Running(_)) => Status::Ended { how: How::Signal(9), at: state::now() },
        Some(Status::Created) | None => Status::Created,
    };
    let state = State {
        status,
        supervisor,
        runtime,
        helpers: Vec::new(),
        started: past.and_then(|past| past.started),
        agent: Agent::Awaited,
        session: None,
    };
    state.write(directory)?;
    Ok(state)
}

impl Supervisor {
    fn run(mut self) -> io::Result<()> {
        loop {
            match self.turn()? {
                Next::GoOn => {}
                Next::Delete => {
                    self.delete();
                    return Ok(());
                }
                Next::Leave => return self.leave(),
            }
        }
    }

    /// Waits until something happens, and does what follows from it.
    fn turn(&mut self) -> io::Result<Next> {
        // Looked at before waiting: it may have gone while it was told something.
        let next = self.without_owner();
        if next != Next::GoOn {
            return Ok(next);
        }
        let mut set = PollSet::new();
        self.owner.listen(&mut set, Token::Owner);
        set.add(&self.signals, Token::Signals, true, false);
        self.machine.listen(&mut set, Token::Machine);
        if let Some(mux) = &self.mux {
            mux.listen(&mut set, Token::Mux);
        }
        for (token, ready) in set.wait(self.patience())? {
            let next = self.serve(token, ready);
            if next != Next::GoOn {
                return Ok(next);
            }
        }
        self.launch();
        if let Some(mux) = &mut self.mux {
            mux.dial();
            mux.flush();
            if *mux.agent() != self.state.agent {
                self.state.agent = mux.agent().clone();
                self.state.session = mux.nonce();
                if self.state.agent == Agent::Ready {
                    self.machine.forget_copies();
                }
                self.write_state();
            }
        }
        Ok(Next::GoOn)
    }

    /// How long nothing needs to be done unless something happens.
    fn patience(&self) -> Option<Duration> {
        let launching = self.machine.is_launching().then_some(LOOK_AGAIN);
        launching.into_iter().chain(self.mux.as_ref().and_then(Mux::dials_again)).min()
    }

    fn serve(&mut self, token: Token, ready: Ready) -> Next {
        match token {
            Token::Owner(link) => {
                for order in self.owner.hear(link) {
                    if let Next::Delete = self.obey(order) {
                        return Next::Delete;
                    }
                }
            }
            Token::Signals => {
                if self.signals.take() {
                    return self.end();
                }
                if let Some(how) = self.machine.reap() {
                    self.ended(how);
                }
            }
            Token::Machine(output) => self.machine.hear(output),
            Token::Mux(end) => {
                if let Some(mux) = &mut self.mux {
                    mux.serve(end, ready);
                }
            }
        }
        Next::GoOn
    }

    fn obey(&mut self, order: Order) -> Next {
        match order {
            Order::Launch(programs) => {
                if let Err(why) = self.machine.launch(programs) {
                    self.owner.tell(&Report::Failed(why));
                }
            }
            Order::Kill => {
                let was_launching = self.machine.is_launching();
                self.machine.kill();
                if was_launching {
                    self.owner.tell(&Report::Failed("the launch was given up".into()));
                }
            }
            Order::Delete => return Next::Delete,
        }
        Next::GoOn
    }

    /// Goes on with a launch that is under way.
    fn launch(&mut self) {
        if !self.machine.is_launching() {
            return;
        }
        let socket = self.directories.runtime.join(state::AGENT_SOCKET);
        let paused = self.directories.state.join(state::PAUSED);
        let mux = &mut self.mux;
        let launched = self.machine.proceed(|vmm| {
            if let Some(vsock) = &vmm.socket {
                *mux = Some(Mux::over_vsock(&socket, vsock, paused.clone())?);
                return Ok(None);
            }
            let (host, guest) = UnixStream::pair()?;
            let succeeds = vmm.settings.iter().find_map(|setting| match setting {
                Setting::Succeeds(nonce) => Some(*nonce),
                _ => None,
            });
            *mux = Some(Mux::new(&socket, host, succeeds)?);
            Ok(Some(guest))
        });
        match launched {
            Ok(None) => {}
            Ok(Some(vmm)) => {
                self.state.status = Status::Running(vmm);
                self.state.helpers = self.machine.helpers();
                self.state.started = Some(state::now());
                self.state.agent = Agent::Awaited;
                self.state.session = None;
                self.write_state();
                self.owner.tell(&Report::Launched(vmm.pid));
            }
            Err(why) => {
                self.mux = None;
                self.directories.clear_runtime();
                self.owner.tell(&Report::Failed(why));
            }
        }
    }

    /// The VMM has ended.
    fn ended(&mut self, how: How) {
        if let Some(mux) = self.mux.take() {
            mux.finish();
        }
        self.directories.clear_runtime();
        self.state.status = Status::Ended { how, at: state::now() };
        self.state.helpers.clear();
        self.state.session = None;
        self.write_state();
        self.owner.tell(&Report::Ended(how));
    }

    /// What to do if the owner is not there any more.
    fn without_owner(&self) -> Next {
        if self.owner.is_there() || self.machine.is_busy() && self.directories.are_kept() {
            Next::GoOn
        } else {
            self.end()
        }
    }

    /// What becomes of a VM that is to end.
    fn end(&self) -> Next {
        if self.directories.are_kept() { Next::Leave } else { Next::Delete }
    }

    fn delete(mut self) {
        self.mux = None;
        if let Some(how) = self.machine.end() {
            self.owner.tell(&Report::Ended(how));
        }
        let report = match self.directories.remove() {
            Ok(()) => Report::Deleted,
            Err(error) => Report::Failed(error.to_string()),
        };
        self.owner.tell(&report);
    }

    fn leave(mut self) -> io::Result<()> {
        if let Some(how) = self.machine.end() {
            self.ended(how);
        }
        self.directories.remove_runtime()
    }

    /// Others then see the old state: a full disk is no reason to end a VM.
    fn write_state(&self) {
        let _ = self.state.write(&self.directories.state);
    }
}
