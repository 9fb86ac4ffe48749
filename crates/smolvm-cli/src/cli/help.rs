//! What stands below the options in `--help`: examples, exit codes, variables.

pub(super) const TOP: &str = "\
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
  HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY and NETRC (~/.netrc) are honoured.";

pub(super) const LIST: &str = "\
PINNED names the assets whose digest no registry states: what arrives for them the first time is
recorded and checked on every later use, but nothing vouches for it.

Examples:
  smolvm image list
  smolvm image list --json | jq -r '.images[] | select(.cached) | .name'";

pub(super) const PULL: &str = "\
A transfer that was broken off continues where it stopped. Ctrl-C ends it and keeps what arrived;
a second Ctrl-C ends it at once.

Examples:
  smolvm image pull hello
  smolvm image pull hello quickstart-x86_64 --quiet
  smolvm image pull hello --refresh         fetch what changed on the server, if not pinned
  smolvm image pull hello --json            digests, sizes, and how each asset was had";

pub(super) const VERIFY: &str = "\
Exit code 4 if anything is damaged; `smolvm image pull NAME` repairs it.

Examples:
  smolvm image verify
  smolvm image verify hello";

pub(super) const INSPECT: &str = "\
Examples:
  smolvm image inspect hello
  smolvm image inspect hello --json | jq -r '.image.assets[].digest'";

pub(super) const PATH: &str = "\
Prints kernel=/…, initrd=/… (where there is one) and rootfs=/…, one a line. Nothing is hashed: use
`smolvm image pull` or `verify` first where the bytes matter.

Examples:
  smolvm image path hello
  kernel=$(smolvm image path hello --asset kernel)";

pub(super) const PIN: &str = "\
The image is verified first. What is printed is a TOML entry for ~/.smolvm/registry.toml, with whole
URLs: secrets in them are shown.

Examples:
  smolvm image pin hello >> ~/.smolvm/registry.toml";

pub(super) const REMOVE: &str = "\
An image that is not in the cache is no error. One that a process or a VM uses stays, and the message
says who that is.

Examples:
  smolvm image rm hello
  smolvm image rm hello quickstart-x86_64";

pub(super) const PRUNE: &str = "\
Unfinished transfers and leavings go, unless somebody is at work on them, and images that no registry
names. An image counts as unregistered when none of the registries of this very command names it: give
the same --registry options as for `pull`. Images that a process or a VM uses stay. Bytes are counted as
`du` does, and the last use of an image is that by `run`, `vm create`, `pull` or `path`, of any user.

Examples:
  smolvm image prune --dry-run
  smolvm image prune --older-than 30d
  smolvm image prune --max-size 10GiB       least recently used first, until the rest fits
  smolvm image prune --unpinned --keep-unregistered";

pub(super) const COMPLETIONS: &str = "\
Examples:
  smolvm completions bash > ~/.local/share/bash-completion/completions/smolvm
  smolvm completions zsh > ~/.zfunc/_smolvm
  smolvm completions fish > ~/.config/fish/completions/smolvm.fish";

pub(super) const RUN: &str = "\
Standard input, output and error are those of the command, as they come. The guest cannot change the
cached image; what it writes is gone with it.

Examples:
  smolvm run hello -- echo hi
  smolvm run hello -it                      a shell in a terminal
  tar c . | smolvm run hello -- tar t       streams go both ways
  smolvm run hello --net none --mem 256 --timeout 60 -- sh -c 'untrusted code'
  smolvm run hello --allow '*.debian.org:80' --allow 10.20.0.0/16 -- apt-get update

What may be reached: no guest reaches this host, link-local addresses, or those at which clouds serve
metadata, whatever is allowed. With --allow it reaches what is named there alone; a name's addresses
are those that this host's name server tells the guest when it asks, and no other name has any.";

pub(super) const VM_CREATE: &str = "\
Examples:
  id=$(smolvm vm create hello)
  smolvm vm start $id
  smolvm vm exec $id -- uname -a
  smolvm vm rm $id";

pub(super) const VM_PRUNE: &str = "\
VMs that run stay, and so do those that a program has open which owns them. A VM has not run since it
ended, or since it was made if it was never started. Bytes are counted as `du` does: what a disk shares
with its image counts, too, and does not come free.

Examples:
  smolvm vm prune --dry-run
  smolvm vm prune --older-than 7d";

pub(super) const VM_EXEC: &str = "\
Examples:
  smolvm vm exec my-vm -- ls -l /
  smolvm vm exec my-vm -t -- top
  smolvm vm exec my-vm --user nobody --workdir /tmp --env A=b -- sh -c 'id; pwd; echo $A'";

pub(super) const VM_CP: &str = "\
Directories are copied with all that is in them. Into a directory that exists, a copy goes under its
own name.

Examples:
  smolvm vm cp ./project my-vm:/root/
  smolvm vm cp my-vm:/var/log ./logs";

pub(super) const VM_SNAPSHOT: &str = "\
The directory appears when it is whole. It holds all that the guest has in memory, secrets included:
keep it like those. The VM stands still while it is written, for a second or so.

Examples:
  smolvm vm snapshot my-vm ./prepared
  smolvm vm snapshot my-vm ./prepared --json | jq -r .snapshot.digest";

pub(super) const VM_RESTORE: &str = "\
As many VMs as are wanted go on from one snapshot, each with a disk, a name and random numbers of its
own. It takes the same image, the same version of the VMM and, under KVM, the same kind of processor;
what has been changed since is refused with exit code 4.

Examples:
  id=$(smolvm vm restore ./prepared)
  smolvm vm restore ./prepared --id worker-1
  smolvm vm exec worker-1 -- uname -a";

pub(super) const DOCTOR: &str = "\
Exit code 1 if something is missing without which nothing boots or nothing can be fetched.

Examples:
  smolvm doctor
  smolvm doctor --json | jq -r '.checks[] | select(.status != \"good\") | .remedy'";
