//! The table: commands that are easy to get wrong.

use std::time::Duration;

use smolvm_testkit::content::noise;

use super::row::{Row, argv, shell};

/// All rows that are run one after another, in this order: they share a directory.
pub(crate) fn rows() -> Vec<Row> {
    [ends(), output(), input(), processes(), environments(), arguments(), failures()].concat()
}

/// Rows that are run all at once: each with input, output and an end of its own.
pub(crate) fn at_once() -> Vec<Row> {
    let row = |number: u8| {
        let line = format!("cat; echo {number} >&2; sleep 0.2; exit {number}");
        shell(&format!("at once: {number}"), line)
            .stdin(noise(number.into(), 1000 * usize::from(number)))
    };
    (0..50).map(row).collect()
}

fn ends() -> Vec<Row> {
    vec![
        shell("exit 0", "exit 0"),
        argv("exit 1 of a program", ["false"]),
        shell("exit 3", "exit 3"),
        shell("exit 255", "exit 255"),
        shell("exit 256 wraps", "sh -c 'exit 256'; exit $(($? + 256))"),
        shell("killed by SIGKILL", "kill -9 $$"),
        shell("killed by SIGTERM", "kill -15 $$"),
        shell("killed by SIGSEGV", "ulimit -c 0; kill -SEGV $$"),
        shell("killed by a real-time signal", "kill -40 $$"),
        shell("killed by its child", "sh -c 'kill -TERM $PPID'; echo never"),
        shell("a killed child is 128 and more", "sh -c 'kill -9 $$'; exit $?").any_words(),
        shell("a subshell's code", "(exit 42); echo $?; (exit 7)"),
        shell("exec keeps the process", "exec sh -c 'echo in; exit 5'; echo never"),
        shell("a trap for EXIT", "trap 'echo bye' EXIT; echo on; exit 4"),
        shell("a trap for TERM", "trap 'echo caught; exit 9' TERM; kill -TERM $$; echo never"),
        shell("set -e", "set -e; echo a; false; echo never"),
        shell("set -u", "set -u; echo \"$not_set_at_all\"; echo never").any_words(),
        shell("a syntax error", "if then").any_words(),
        shell("an unknown program in a line", "no-such-program-at-all").any_words(),
        shell("a signal that is ignored", "trap '' TERM; kill -TERM $$; echo alive"),
    ]
}

fn output() -> Vec<Row> {
    vec![
        argv("no output", ["true"]),
        shell("an empty line", ""),
        shell("no newline at the end", "printf 'no newline'"),
        shell("only on standard error", "echo trouble >&2; exit 1"),
        shell("both streams in turns", "for i in 1 2 3 4 5; do echo o$i; echo e$i >&2; done"),
        shell("both streams in one", "echo out; echo err >&2; echo out; exec 2>&1; echo both >&2"),
        shell(
            "all 256 bytes",
            r#"i=0; while [ $i -lt 256 ]; do printf "\\$(printf %03o $i)"; i=$((i+1)); done"#,
        ),
        shell("NUL bytes", r"printf 'a\0b\0\0c'"),
        shell("text that is no UTF-8", r"printf '\377\376 \303'"),
        shell("carriage returns and no terminal", r"printf 'a\r\nb\rc'; test -t 1; echo $?"),
        shell("very many lines", "seq 1 200000"),
        shell("one very long line", "head -c 3000000 /dev/zero | tr '\\0' x"),
        shell("40 MB", "yes 'what is written again and again' | head -c 40000000"),
        shell(
            "5 MB on each stream",
            "(yes out | head -c 5000000) & yes err | head -c 5000000 >&2; wait",
        ),
        shell("standard output closed", "exec >&-; echo lost || exit 6").any_words(),
        shell("both outputs closed", "exec >&- 2>&-; sleep 0.2; exit 8"),
        shell("a device that is full", "head -c 10 /dev/zero >/dev/full").any_words(),
        shell("a pipe that breaks", "yes | head -1"),
        shell("SIGPIPE kills", "(yes; echo never >&2) | head -1"),
        shell("by the path /dev/stdout", "echo one >/dev/stdout; echo two >/dev/stderr"),
        shell("deep pipes", format!("echo deep {}", "| cat ".repeat(40))),
    ]
}

fn input() -> Vec<Row> {
    let megabyte = noise(1, 1 << 20);
    vec![
        argv("1 MiB both ways at once", ["cat"]).stdin(megabyte.clone()),
        // Not cksum, which takes it for granted that the kernel knows what the processor can.
        shell("1 MiB that is counted", "wc -c; sum").stdin(megabyte.clone()),
        shell("1 MiB to both streams", "tee /dev/stderr").stdin(megabyte),
        argv("all 256 bytes in and out", ["cat"]).stdin((0..=255).collect::<Vec<u8>>()),
        argv("10 MiB that nobody reads", ["true"]).stdin(vec![b'x'; 10 << 20]),
        argv("one byte of 10 MiB", ["head", "-c1"]).stdin(vec![b'y'; 10 << 20]),
        shell("input that is closed", "exec <&-; sleep 0.2; echo on").stdin(vec![b'z'; 1 << 20]),
        argv("input that was not given", ["cat"]),
        argv("input that is empty", ["wc", "-c"]).stdin([]),
        shell("read without a newline", "read x; echo \"$? $x\"").stdin("no newline"),
        shell("lines for two programs", "read x; echo \"first $x\"; cat").stdin("1\n2\n3\n"),
        argv("a program from its input", ["sh"]).stdin("echo from input\nexit 11\n"),
    ]
}

fn processes() -> Vec<Row> {
    vec![
        // subprocess waits until nobody holds the pipes; ours is over when the command exits. The
        // results are the same where those who hold them say nothing.
        shell("a child in the background holds the pipes", "sleep 0.3 & echo now; exit 2"),
        shell("a child in the background is waited for", "(sleep 0.2; echo late) & echo now; wait"),
        shell("stopped and continued", "(sleep 0.3; kill -CONT $$) & kill -STOP $$; echo on; wait"),
        shell("a group that ends itself", "setsid sh -c 'kill -TERM 0; echo never'; echo $?")
            .any_words(),
        shell("ulimit", "ulimit -n 64; ulimit -n"),
        shell("umask", "umask 027; umask; : >umask-file; stat -c %a umask-file"),
        shell("no descriptors but three", "ls /proc/self/fd"),
        shell("no signals blocked", "grep SigBlk /proc/self/status"),
        shell("SIGPIPE is not ignored", "sh -c 'kill -PIPE $$'; echo $?").any_words(),
        // The words of what it wrote by then, and nothing of what would have come.
        shell("a time-out", "echo begun; echo too >&2; exec sleep 1234")
            .timeout(Duration::from_secs(2)),
    ]
}

fn environments() -> Vec<Row> {
    vec![
        argv("a value with newlines", ["printenv", "ODD"]).env("ODD", "one\ntwo\n\nthree\n"),
        argv("a value with equals signs", ["printenv", "ODD"]).env("ODD", "a=b==c"),
        argv("an empty value", ["printenv", "ODD"]).env("ODD", ""),
        argv("a variable that is not set", ["printenv", "ODD"]),
        argv("a value with quotes", ["printenv", "ODD"]).env("ODD", "'\"`$(echo no)`\\ *"),
        argv("a value that is no UTF-8", ["printenv", "ODD"]).env("ODD", b"\xff\x01\xfe"),
        argv("a name that is no identifier", ["printenv", "a.b-c d"]).env("a.b-c d", "odd"),
        argv("a variable that the login sets", ["printenv", "HOME"]).env("HOME", "/elsewhere"),
        argv("a program of another PATH", ["echo", "found"]).env("PATH", "/nowhere:/usr/bin"),
        argv("a program outside PATH", ["cat"]).env("PATH", "/nowhere"),
        argv("a directory", ["pwd"]).cwd("/usr/share"),
        argv("a directory with an odd name", ["pwd"]).cwd("odd *\n\"é"),
    ]
}

fn arguments() -> Vec<Row> {
    let each = |name: &str, arguments: &[&[u8]]| {
        let program: [&[u8]; 2] = [b"printf", b"[%s]"];
        argv(name, [&program, arguments].concat())
    };
    let many: Vec<String> = (0..500).map(|number| format!("argument {number}")).collect();
    let many: Vec<&[u8]> = many.iter().map(String::as_bytes).collect();
    vec![
        each("quotes", &[b"it's", b"\"so\"", b"`so`", b"\\", b"$HOME"]),
        each("spaces and newlines", &[b" a  b ", b"one\ntwo\n", b"\t"]),
        each(
            "what a shell would expand",
            &[b"*", b"~", b"{a,b}", b"$(echo no)", b"; exit 9", b"#"],
        ),
        each("Unicode", &["é ü 漢字 🦀".as_bytes(), "\u{202e}\u{feff}".as_bytes()]),
        each("no UTF-8", &[b"\xff\xfe", b"\xc3"]),
        each("empty ones", &[b"a", b"", b"", b"b", b""]),
        each("500", &many),
        each("50 KB in one", &[&vec![b'x'; 50_000]]),
        argv("one that looks like an option", ["echo", "--", "-n", "--version"]),
        shell("a line of many lines", "cat <<'E'\nit's \"so\"\nE\nexit 12\n"),
        shell("a line with Unicode", "echo 'é 漢字 🦀'"),
        shell("a line that is no UTF-8", b"printf %s '\xff\xfe'"),
    ]
}

fn failures() -> Vec<Row> {
    vec![
        argv("no such program", ["no-such-program-at-all"]),
        argv("no such program, by its path", ["/no/such/program"]),
        argv("a directory", ["/usr"]),
        argv("a file that is not executable", ["/etc/passwd"]),
        argv("a path through a file", ["/etc/passwd/program"]),
        shell("making what follows", "echo nonsense >nonsense; chmod 755 nonsense"),
        argv("a file of no known format", ["./nonsense"]),
        shell(
            "making what follows, again",
            "printf '#!/no/such/shell\\n' >orphan; chmod 755 orphan; \
             printf '#!/bin/sh\\necho \"$1\"; exit 13\\n' >script; chmod 755 script",
        ),
        argv("a script whose interpreter is missing", ["./orphan"]),
        argv("a script", ["./script", "its argument"]),
        argv("no such working directory", ["pwd"]).cwd("/no/such/directory"),
        argv("a working directory that is a file", ["pwd"]).cwd("/etc/passwd"),
    ]
}
