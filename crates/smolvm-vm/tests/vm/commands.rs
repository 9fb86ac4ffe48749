//! Commands in a real guest: what goes in, what comes out, and how it ends.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use smolvm_vm::{Command, SessionError, Vm, VmError};

use super::images::{BARE, Image, Site, TINY};

/// One machine for many small questions.
fn with_vm(name: &str, ask: impl FnOnce(&Vm)) {
    let Some(image) = Image::find(name) else { return };
    let site = Site::new();
    let vm = Vm::boot(image.config(&site).env("FROM_CONFIG", "qX7 zK9")).unwrap();
    ask(&vm);
}

#[test]
fn streams_come_as_they_are_written() {
    with_vm(TINY, |vm| {
        let process =
            vm.popen(Command::shell("while read x; do echo got $x; done").stdin_piped()).unwrap();
        let mut input = process.take_stdin().unwrap();
        let mut output = process.take_stdout().unwrap();
        for word in ["one", "two"] {
            writeln!(input, "{word}").unwrap();
            let mut line = vec![0; format!("got {word}\n").len()];
            output.read_exact(&mut line).unwrap();
            assert_eq!(String::from_utf8(line).unwrap(), format!("got {word}\n"));
        }
        drop(input);
        assert!(process.wait().unwrap().ok());
    });
}

/// Behaviour 47: a time-out ends the command and all of its process group.
#[test]
fn a_timeout_ends_the_process_group() {
    with_vm(TINY, |vm| {
        let command = Command::shell("echo begun; sleep 1234 & sleep 1234");
        let error = vm.run(command.timeout(Duration::from_secs(1))).unwrap_err();
        let VmError::Session { source: SessionError::CommandTimeout { stdout, .. }, .. } = &error
        else {
            panic!("{error}")
        };
        assert_eq!(stdout, b"begun\n");
        let left = vm.run("ps | grep '[s]leep 1234' | wc -l").unwrap();
        assert_eq!(left.stdout().trim(), "0", "{left:?}");

        // So does a kill, whether or not somebody reads what was written.
        let process = vm.popen(Command::shell("yes & exec yes")).unwrap();
        assert_eq!(process.wait_timeout(Duration::from_secs(1)).unwrap(), None);
        process.kill().unwrap();
        assert_eq!(process.wait().unwrap().signal(), Some(9));
        let mut written = Vec::new();
        process.take_stdout().unwrap().read_to_end(&mut written).unwrap();
        assert!(written.len() > 256 * 1024, "{}", written.len());
    });
}

/// Behaviour 47: what is captured is bounded.
#[test]
fn too_much_output_is_an_error_and_the_machine_goes_on() {
    with_vm(TINY, |vm| {
        let error = vm.run(Command::shell("yes").max_output(1 << 20)).unwrap_err().to_string();
        assert!(error.contains("1048576") || error.contains("1 MiB"), "{error}");
        assert_eq!(vm.run("echo on").unwrap().stdout(), "on\n");
    });
}

#[test]
fn the_environment_is_that_of_the_machine_and_the_command() {
    with_vm(TINY, |vm| {
        let command = Command::shell("echo \"$FROM_CONFIG,$OWN,$HOME,$(pwd)\"").env("OWN", "c");
        assert_eq!(vm.run(command).unwrap().stdout(), "qX7 zK9,c,/root,/root\n");
        let command =
            Command::shell("echo \"$FROM_CONFIG\"; pwd").env("FROM_CONFIG", "d").cwd("/tmp");
        assert_eq!(vm.run(command).unwrap().stdout(), "d\n/tmp\n");
        let directory = vm.directory().to_owned();
        for entry in fs_err::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "qcow2" && extension != "raw") {
                let bytes = fs_err::read(&path).unwrap();
                assert!(!bytes.windows(7).any(|part| part == b"qX7 zK9"), "{}", path.display());
            }
        }
    });
}

#[test]
fn a_terminal_is_a_terminal_of_its_size() {
    with_vm(TINY, |vm| {
        let size = smolvm_vm::WindowSize { rows: 33, columns: 99 };
        let result =
            vm.run(Command::shell("test -t 0 && test -t 1 && stty size").terminal(size)).unwrap();
        assert_eq!(result.stdout(), "33 99\r\n", "{result:?}");
    });
}

/// Behaviour 47: fifty at once.
#[test]
fn fifty_commands_at_once() {
    with_vm(TINY, |vm| {
        std::thread::scope(|scope| {
            for number in 0..50 {
                scope.spawn(move || {
                    let line = format!("sleep 0.2; echo {number}; exit {number}");
                    let result =
                        vm.run(Command::shell(line).timeout(Duration::from_mins(1))).unwrap();
                    assert_eq!(
                        (result.stdout().trim(), result.exit_code),
                        (number.to_string().as_str(), number)
                    );
                });
            }
        });
    });
}

#[test]
fn busybox_alone_is_enough_of_a_userland() {
    with_vm(BARE, |vm| {
        assert_eq!(vm.run(["echo", "as a program"]).unwrap().stdout(), "as a program\n");
        assert_eq!(vm.run("exit 7").unwrap().exit_code, 7);
        let error = vm.run(["no-such-program"]).unwrap_err();
        let VmError::Session { source: SessionError::CommandNotFound { .. }, .. } = error else {
            panic!("{error}")
        };
    });
}
