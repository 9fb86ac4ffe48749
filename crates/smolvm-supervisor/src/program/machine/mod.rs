//! The VMM and the programs beside it: started in order, listened to, and ended together.

mod child;
mod group;
mod launch;
mod listening;
mod settings;

use std::os::fd::RawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use self::child::{Child, Endowment};
pub(crate) use self::launch::LOOK_AGAIN;
use self::launch::{Launch, Progress, cannot_start};
use crate::control::{How, Program};
use crate::log::{Log, Pump};
use crate::poll::PollSet;
use crate::state::{self, Process};
use crate::tap;

/// The most bytes of each of the two files of the console's log.
const CONSOLE_LIMIT: u64 = 1024 * 1024;
/// The most bytes of each of the two files of the VMM's log.
const VMM_LIMIT: u64 = 256 * 1024;

/// The programs of one VM.
pub(crate) struct Machine {
    helpers: Vec<Child>,
    launch: Option<Launch>,
    vmm: Option<Child>,
    console: Option<Pump>,
    console_log: Log,
    vmm_log: Log,
    files: std::ops::Range<RawFd>,
}

/// What a descriptor of the machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// The guest's console.
    Console,
    /// What the VMM says about itself.
    Vmm,
    /// What one of the programs beside it says.
    Helper(usize),
}

impl Machine {
    /// A machine whose logs are in this directory and whose VMM gets these files.
    pub(crate) fn new(directory: &Path, files: std::ops::Range<RawFd>) -> Self {
        Self {
            helpers: Vec::new(),
            launch: None,
            vmm: None,
            console: None,
            console_log: Log::new(directory.join(state::CONSOLE_LOG), CONSOLE_LIMIT),
            vmm_log: Log::new(directory.join(state::VMM_LOG), VMM_LIMIT),
            files,
        }
    }

    /// Whether something runs or is being started.
    pub(crate) fn is_busy(&self) -> bool {
        self.vmm.is_some() || self.launch.is_some()
    }

    /// Whether [`proceed`](Self::proceed) is to be called.
    pub(crate) fn is_launching(&self) -> bool {
        self.launch.is_some()
    }

    /// Begins to start these programs.
    pub(crate) fn launch(&mut self, programs: Vec<Program>) -> Result<(), String> {
        if self.is_busy() {
            return Err("the VMM runs already".into());
        }
        self.launch = Some(Launch::new(programs).ok_or("there is no program to start")?);
        Ok(())
    }

    /// Goes on with the launch. Returns the VMM once it runs. `channel` makes the agent's channel
    /// for that program, and returns the guest's end of it, where the VMM is to have that.
    pub(crate) fn proceed(
        &mut self,
        channel: impl FnOnce(&Program) -> std::io::Result<Option<UnixStream>>,
    ) -> Result<Option<Process>, String> {
        let Some(mut launch) = self.launch.take() else { return Ok(None) };
        match launch.proceed(&mut self.helpers) {
            Ok(Progress::Waiting) => {
                self.launch = Some(launch);
                return Ok(None);
            }
            Ok(Progress::Ready) => {}
            Err(why) => {
                let last_words = self.end_helpers();
                return Err(if last_words.is_empty() {
                    why
                } else {
                    format!("{why}: {last_words}")
                });
            }
        }
        let started = channel(&launch.vmm).and_then(|agent| {
            let neighbour = self.helpers.last().map(|helper| helper.process);
            Child::vmm(&launch.vmm, Endowment { agent, files: self.files.clone(), neighbour })
        });
        match started {
            Ok((vmm, console)) => {
                let process = vmm.process;
                (self.vmm, self.console) = (Some(vmm), Some(console));
                Ok(Some(process))
            }
            Err(error) => {
                self.end_helpers();
                Err(cannot_start(&launch.vmm, &error))
            }
        }
    }

    /// The guest runs: gives back the memory of what its VMM needed to start it.
    pub(crate) fn forget_copies(&mut self) {
        if let Some(vmm) = &mut self.vmm {
            vmm.forget_copies();
        }
    }

    /// The programs beside the VMM.
    pub(crate) fn helpers(&self) -> Vec<Process> {
        self.helpers.iter().map(|helper| helper.process).collect()
    }

    /// Adds what the programs write to.
    pub(crate) fn listen<T: Copy>(&self, set: &mut PollSet<T>, token: impl Fn(Output) -> T) {
        let vmm = self.vmm.iter().map(|vmm| (Output::Vmm, &vmm.messages));
        let helpers = self.helpers.iter().enumerate();
        let helpers = helpers.map(|(index, helper)| (Output::Helper(index), &helper.messages));
        let console = self.console.iter().map(|console| (Output::Console, console));
        for (output, pump) in console.chain(vmm).chain(helpers) {
            if !pump.is_over {
                set.add(pump, token(output), true, false);
            }
        }
    }

    /// Writes down what a program has said.
    pub(crate) fn hear(&mut self, output: Output) {
        let (pump, log) = match output {
            Output::Console => (self.console.as_mut(), &mut self.console_log),
            Output::Vmm => (self.vmm.as_mut().map(|vmm| &mut vmm.messages), &mut self.vmm_log),
            Output::Helper(index) => {
                let helper = self.helpers.get_mut(index);
                (helper.map(|helper| &mut helper.messages), &mut self.vmm_log)
            }
        };
        if let Some(pump) = pump {
            pump.run(log);
        }
    }

    /// Looks whether the VMM has ended; then everything else is ended as well.
    pub(crate) fn reap(&mut self) -> Option<How> {
        for helper in &mut self.helpers {
            helper.ended();
        }
        let how = self.vmm.as_mut()?.ended()?.into();
        self.settle();
        Some(how)
    }

    /// Ends the VMM at once; [`reap`](Self::reap) tells when it has ended. A launch that is under
    /// way is given up.
    pub(crate) fn kill(&mut self) {
        if self.launch.take().is_some() {
            self.end_helpers();
        }
        if let Some(vmm) = &mut self.vmm {
            vmm.kill();
        }
    }

    /// Ends everything at once and waits for it. Returns how the VMM ended, if it ran.
    pub(crate) fn end(&mut self) -> Option<How> {
        self.launch = None;
        let how = self.vmm.as_mut().map(|vmm| vmm.end().map_or(How::Signal(9), How::from));
        self.settle();
        how
    }

    /// Takes the last words of a VMM that has ended, and ends the programs beside it.
    fn settle(&mut self) {
        if let Some(mut console) = self.console.take() {
            console.drain(&mut self.console_log);
        }
        if let Some(mut vmm) = self.vmm.take() {
            vmm.messages.drain(&mut self.vmm_log);
        }
        self.end_helpers();
    }

    /// Returns the last line that the one that was started last has said.
    fn end_helpers(&mut self) -> String {
        let mut last_words = String::new();
        for mut helper in self.helpers.drain(..) {
            helper.end();
            helper.messages.drain(&mut self.vmm_log);
            tap::tidy(&helper.arguments);
            last_words = helper.messages.last_line();
        }
        last_words
    }
}
