//! The texts of `--help`, which name every option, exit code and variable.

use crate::site::{Site, assert_prints};

#[test]
fn top() {
    assert_prints!(Site::new().run("--help"), @"
    exit: 0
    ----- stdout -----
    Run untrusted code in microVMs, from images that are fetched, cached and validated

    Usage: smolvm [OPTIONS] <COMMAND>

    Commands:
      run          Run a command in a VM of its own, which is gone afterwards
      vm           Make VMs that stay, run commands in them, end them
      image        List, fetch, check and remove images
      doctor       Say what this host has and lacks for booting and fetching
      completions  Print a completion script for a shell
      help         Print this message or the help of the given subcommand(s)

    Options:
      -h, --help     Print help
      -V, --version  Print version

    Global options:
          --cache-dir <DIR>       Keep images in this directory; blank means ~/.smolvm/images
          --vms-dir <DIR>         Keep VMs in this directory; blank means ~/.smolvm/vms
          --registry <FILE>       Read images from this TOML or JSON file too; repeatable, the last wins
          --offline               Never use the network; what is not cached is an error
          --verify <WHEN>         Hash what is cached: always, or only what may have changed (changed)
          --fs-verity             Have the kernel keep cached files from changing, where it can (fs-verity)
          --json                  Print one JSON object on standard output and nothing else there
      -q, --quiet                 Print only what was asked for, and errors
      -v, --verbose...            Say more on standard error; twice for the details
          --color <WHEN>          Use colours: auto (on a terminal, without `NO_COLOR`), always or never
          --attempts <N>          Try a transfer that breaks this many times in all
          --stall-timeout <SECS>  Give an attempt up after this many seconds without a byte
          --ca-file <FILE>        Trust the certificates in this PEM file too, beside the system's
          --max-size <SIZE>       Refuse larger assets: bytes, or a number with KiB, MiB, GiB or TiB

    An image is a kernel, a root file system and, where it has one, an initial RAM disk. Each is fetched
    once, checked against its SHA-256 digest, and checked again on every use.

    Examples:
      smolvm run hello -- echo hi               one command in a VM of its own
      smolvm doctor                             what this host lacks for that
      smolvm image list                         what there is, and what is cached
      smolvm image pull hello                   fetch an image, or check that it is whole
      smolvm --registry my.toml image pull dev  an image of your own
      smolvm image path hello --asset rootfs    one path, for a script

    Exit codes:
      0    done
      1    failed: the disk, the cache, a registry file
      2    usage: the command line, or a malformed name
      3    unknown image
      4    verification failed
      5    network: a server, a proxy, or no network allowed
      6    unknown VM
      130  interrupted
      `run` and `vm exec` end with the exit code of the command in the guest, 128 and the number of the
      signal that ended it, 124 where --timeout did, 125 where they failed themselves, 126 where the
      command cannot be executed, 127 where the guest has none of that name.
      With several names the others are still done; the code is that of the first failure.

    Environment:
      SMOLVM_CACHE_DIR  as --cache-dir
      SMOLVM_VMS_DIR    as --vms-dir
      SMOLVM_ACCEL      auto, kvm or tcg: what guests run on
      SMOLVM_REGISTRY   a registry file, read before those of --registry
      SMOLVM_OFFLINE    as --offline: 1, true or yes; 0, false, no and blank mean off
      SMOLVM_VERIFY     as --verify
      SMOLVM_FS_VERITY  as --fs-verity, with the values of SMOLVM_OFFLINE
      SMOLVM_CA_FILE    as --ca-file
      NO_COLOR          no colours unless --color says otherwise
      SMOLVM_BEARER_TOKENS
                        host=token[,host:port=token]: each is sent to its host alone
      HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY and NETRC (~/.netrc) are honoured.
    ----- stderr -----
    ");
}

#[test]
fn image() {
    assert_prints!(Site::new().run("image --help"), @"
    exit: 0
    ----- stdout -----
    List, fetch, check and remove images

    Usage: smolvm image [OPTIONS] <COMMAND>

    Commands:
      list     List the images that are known or cached [alias: ls]
      pull     Fetch images, or check that they are cached and whole
      verify   Hash cached images, all of them if none is named; fetch and change nothing
      inspect  Show all that is known of an image; hash and fetch nothing
      path     Print where the files of a cached image lie; verify nothing
      pin      Print the registry entry of a cached image with the digests that were seen
      rm       Remove images from the cache [alias: remove]
      prune    Remove what the cache can do without, and old or superfluous images; never what is in use
      help     Print this message or the help of the given subcommand(s)

    Options:
      -h, --help  Print help

    Global options:
          --cache-dir <DIR>       Keep images in this directory; blank means ~/.smolvm/images
          --vms-dir <DIR>         Keep VMs in this directory; blank means ~/.smolvm/vms
          --registry <FILE>       Read images from this TOML or JSON file too; repeatable, the last wins
          --offline               Never use the network; what is not cached is an error
          --verify <WHEN>         Hash what is cached: always, or only what may have changed (changed)
          --fs-verity             Have the kernel keep cached files from changing, where it can (fs-verity)
          --json                  Print one JSON object on standard output and nothing else there
      -q, --quiet                 Print only what was asked for, and errors
      -v, --verbose...            Say more on standard error; twice for the details
          --color <WHEN>          Use colours: auto (on a terminal, without `NO_COLOR`), always or never
          --attempts <N>          Try a transfer that breaks this many times in all
          --stall-timeout <SECS>  Give an attempt up after this many seconds without a byte
          --ca-file <FILE>        Trust the certificates in this PEM file too, beside the system's
          --max-size <SIZE>       Refuse larger assets: bytes, or a number with KiB, MiB, GiB or TiB
    ----- stderr -----
    ");
}

#[test]
fn pull() {
    assert_prints!(Site::new().run("image pull --help"), @"
    exit: 0
    ----- stdout -----
    Fetch images, or check that they are cached and whole

    Usage: smolvm image pull [OPTIONS] <NAME>...

    Arguments:
      <NAME>...  The images to fetch

    Options:
          --refresh  Ask the server whether an asset without a pin has changed, and fetch it if so
          --sync     Have the disk confirm every file before it counts as cached (slower)
      -h, --help     Print help

    Global options:
          --cache-dir <DIR>       Keep images in this directory; blank means ~/.smolvm/images
          --vms-dir <DIR>         Keep VMs in this directory; blank means ~/.smolvm/vms
          --registry <FILE>       Read images from this TOML or JSON file too; repeatable, the last wins
          --offline               Never use the network; what is not cached is an error
          --verify <WHEN>         Hash what is cached: always, or only what may have changed (changed)
          --fs-verity             Have the kernel keep cached files from changing, where it can (fs-verity)
          --json                  Print one JSON object on standard output and nothing else there
      -q, --quiet                 Print only what was asked for, and errors
      -v, --verbose...            Say more on standard error; twice for the details
          --color <WHEN>          Use colours: auto (on a terminal, without `NO_COLOR`), always or never
          --attempts <N>          Try a transfer that breaks this many times in all
          --stall-timeout <SECS>  Give an attempt up after this many seconds without a byte
          --ca-file <FILE>        Trust the certificates in this PEM file too, beside the system's
          --max-size <SIZE>       Refuse larger assets: bytes, or a number with KiB, MiB, GiB or TiB

    A transfer that was broken off continues where it stopped. Ctrl-C ends it and keeps what arrived;
    a second Ctrl-C ends it at once.

    Examples:
      smolvm image pull hello
      smolvm image pull hello quickstart-x86_64 --quiet
      smolvm image pull hello --refresh         fetch what changed on the server, if not pinned
      smolvm image pull hello --json            digests, sizes, and how each asset was had
    ----- stderr -----
    ");
}

#[test]
fn no_command_is_a_usage_error_with_the_help() {
    let finished = Site::new().run("image");
    assert_eq!(finished.code, Some(2));
    assert!(finished.stdout.is_empty());
    assert!(finished.stderr.contains("Usage: smolvm image"), "{finished}");
}

#[test]
fn examples_parse() {
    for command in ["list", "pull", "verify", "inspect", "path", "pin", "rm", "prune"] {
        let help = Site::new().run(&format!("image {command} --help")).stdout;
        let examples = help.split("Examples:\n").nth(1).unwrap();
        assert!(examples.lines().all(|line| line.contains("smolvm image ")), "{examples}");
        for line in examples.lines() {
            let words = line.split("smolvm ").nth(1).unwrap().split("  ").next().unwrap();
            let words = words.split([')', '|', '>']).next().unwrap();
            let finished = Site::new().run(&format!("{words} --offline"));
            assert_ne!(finished.code, Some(2), "{words}: {finished}");
        }
    }
}

#[test]
fn completions_are_scripts_of_all_commands() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let finished = Site::new().run(&format!("completions {shell}"));
        assert_eq!(finished.code, Some(0));
        assert!(finished.stdout.contains("inspect"), "{finished}");
    }
}
