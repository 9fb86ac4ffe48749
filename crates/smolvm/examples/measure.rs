//! How long machines take, and what they cost, beside a bare QEMU on the same files.
//!
//! ```sh
//! cargo xtask images
//! cargo run --release --example measure -- target/images/debian-tiny
//! cargo run --release --example measure -- target/images/debian-tiny warm
//! cargo run --release --example measure -- target/images/debian-tiny boots 200
//! cargo run --release --example measure -- target/images/debian-tiny restore 10
//! ```
//!
//! The image must be one that `cargo xtask images` makes: its own init greets and resets when the
//! kernel's command line says so, by which the bare QEMU is timed.

#![allow(clippy::disallowed_methods, reason = "an example is read without this project's crates")]

use std::error::Error;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command as Program, Stdio};
use std::time::{Duration, Instant};

use smolvm::{Command, Digest, RestoreConfig, SmolVm, Vm, VmConfig};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What the image's own init prints.
const GREETING: &str = "Hello from SmolVM!";

/// The files of an image.
struct Image {
    kernel: PathBuf,
    rootfs: PathBuf,
    initrd: PathBuf,
}

impl Image {
    fn config(&self) -> VmConfig {
        VmConfig::new(&self.kernel, &self.rootfs).initrd(&self.initrd)
    }

    fn digest(&self) -> Result<Digest> {
        Ok(Digest::of(&std::fs::read(&self.rootfs)?))
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().ok_or("name the directory of an image")?;
    let directory = Path::new(&directory).canonicalize()?;
    let image = Image {
        kernel: directory.join("vmlinuz"),
        rootfs: directory.join("rootfs.ext4"),
        initrd: directory.join("initrd.img"),
    };
    let before = image.digest()?;
    let what = arguments.next();
    let count = arguments.next().map(|count| count.parse()).transpose()?;
    let is_chosen = |part| what.as_deref().is_none_or(|what| what == part);
    if let Some(what) = what.as_deref()
        && !["first", "warm", "many", "boots", "restore"].contains(&what)
    {
        return Err("usage: measure IMAGE_DIRECTORY [first|warm|many|boots|restore [COUNT]]".into());
    }
    println!("| what | median | least | most |\n|---|---|---|---|");
    if is_chosen("first") {
        first_answer(&image, count.unwrap_or(10))?;
    }
    if is_chosen("warm") {
        warm_commands(&image, count.unwrap_or(1000))?;
    }
    if is_chosen("many") {
        many(&image, count.unwrap_or(20))?;
    }
    if what.as_deref() == Some("boots") {
        boots(&image, count.unwrap_or(200))?;
    }
    if what.as_deref() == Some("restore") {
        restore(&image, count.unwrap_or(10))?;
    }
    if image.digest()? != before {
        return Err("the image has changed".into());
    }
    println!("\nThe image is as it was.");
    Ok(())
}

/// From the making of a machine to its first answer, in turn with a bare QEMU up to its init.
fn first_answer(image: &Image, rounds: usize) -> Result<()> {
    let (mut ours, mut bare, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let started = Instant::now();
        let vm = Vm::boot(image.config())?;
        vm.run(["true"])?;
        ours.push(started.elapsed());
        drop(vm);
        bare.push(bare_qemu(image)?);
        let last = |times: &[Duration]| times.last().map_or(0.0, Duration::as_secs_f64);
        ratios.push(last(&ours) / last(&bare));
    }
    row("Vm::boot to the first answer", &mut ours);
    row("bare QEMU to its init", &mut bare);
    ratio_row(&mut ratios);
    Ok(())
}

/// From the making of a machine to its first answer: one that boots, in turn with one that goes on
/// from a snapshot.
fn restore(image: &Image, rounds: usize) -> Result<()> {
    let directory = std::env::temp_dir().join(format!("smolvm-measure-{}", std::process::id()));
    std::fs::create_dir(&directory)?;
    let measured = restore_in(image, rounds, &directory);
    std::fs::remove_dir_all(&directory)?;
    measured
}

fn restore_in(image: &Image, rounds: usize, directory: &Path) -> Result<()> {
    let (mut boots, mut restores, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut snapshots, mut after) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let started = Instant::now();
        let vm = Vm::boot(image.config())?;
        vm.run(["true"])?;
        boots.push(started.elapsed());

        let started = Instant::now();
        let snapshot = vm.snapshot(directory.join(round.to_string()))?;
        snapshots.push(started.elapsed());
        let started = Instant::now();
        vm.run(["true"])?;
        after.push(started.elapsed());
        drop(vm);

        let started = Instant::now();
        let vm = Vm::restore(&snapshot, RestoreConfig::new())?;
        vm.run(["true"])?;
        restores.push(started.elapsed());
        drop(vm);
        std::fs::remove_dir_all(snapshot.path())?;
        let last = |times: &[Duration]| times.last().map_or(0.0, Duration::as_secs_f64);
        ratios.push(last(&restores) / last(&boots));
    }
    row("Vm::boot to the first answer", &mut boots);
    row("Vm::restore to the first answer", &mut restores);
    ratio_row(&mut ratios);
    row("Vm::snapshot", &mut snapshots);
    row("run true, just after it", &mut after);
    Ok(())
}

fn ratio_row(ratios: &mut [f64]) {
    ratios.sort_by(f64::total_cmp);
    println!(
        "| the ratio of the two, in pairs | {:.2} | {:.2} | {:.2} |",
        ratios[ratios.len() / 2],
        ratios[0],
        ratios[ratios.len() - 1]
    );
}

/// The same kernel, initrd and disk on a QEMU that nobody looks after.
fn bare_qemu(image: &Image) -> Result<Duration> {
    let drive = format!("id=root,if=none,format=raw,snapshot=on,file={}", image.rootfs.display());
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo")?;
    let mhz = cpuinfo.lines().find_map(|line| line.strip_prefix("cpu MHz")?.split_once(": "));
    let khz = mhz.map_or(2e6, |(_, mhz)| mhz.parse::<f64>().unwrap_or(2000.0) * 1e3);
    let started = Instant::now();
    let mut qemu = Program::new("qemu-system-x86_64")
        .args(["-M", "microvm", "-accel", "tcg", "-cpu", "max", "-m", "512", "-nodefaults"])
        .args(["-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio"])
        .arg("-kernel")
        .arg(&image.kernel)
        .arg("-initrd")
        .arg(&image.initrd)
        .args(["-drive", &drive, "-device", "virtio-blk-device,drive=root", "-append"])
        .arg(format!(
            "console=ttyS0 quiet reboot=t panic=-1 root=/dev/vda rw tsc_early_khz={khz:.0} \
             smolvm.test=hello-and-reset"
        ))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = qemu.stdout.take().ok_or("QEMU has no output")?;
    let greeted =
        BufReader::new(output).lines().any(|line| line.is_ok_and(|line| line.contains(GREETING)));
    let took = started.elapsed();
    qemu.kill()?;
    qemu.wait()?;
    if greeted { Ok(took) } else { Err("the bare QEMU's guest did not greet".into()) }
}

/// A small command in a machine that runs.
fn warm_commands(image: &Image, count: usize) -> Result<()> {
    let vm = Vm::boot(image.config())?;
    let (mut wall, mut guest, mut added) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..count {
        let result = vm.run(["true"])?;
        wall.push(result.duration);
        guest.push(result.guest_duration);
        added.push(result.duration.saturating_sub(result.guest_duration));
    }
    row("run true, warm", &mut wall);
    println!("| its 99th percentile | {} | | |", millis(wall[wall.len() * 99 / 100]));
    row("of that inside the guest", &mut guest);
    row("what we add", &mut added);
    println!("| its 99th percentile | {} | | |", millis(added[added.len() * 99 / 100]));
    let started = Instant::now();
    let line = "dd if=/dev/zero bs=1M count=100 2>/dev/null";
    let result = vm.run(Command::shell(line).max_output(200 << 20))?;
    let rate = result.stdout.len() as f64 / 1e6 / started.elapsed().as_secs_f64();
    println!("| 100 MiB of output | {rate:.0} MB/s | | |");
    Ok(())
}

/// Many machines at once of one image, and what each costs.
fn many(image: &Image, count: usize) -> Result<()> {
    let mut vms = Vec::new();
    for _ in 0..count {
        vms.push(Vm::boot(image.config().mem_size_mib(192))?);
    }
    let mut memory: Vec<u64> = Vec::new();
    let mut disk: Vec<u64> = Vec::new();
    for vm in &vms {
        vm.run("echo written > /file && sync")?;
        memory.push(memory_of(vm)?);
        let used = Program::new("du").args(["-sk"]).arg(vm.directory()).output()?;
        let used = String::from_utf8_lossy(&used.stdout).into_owned();
        disk.push(used.split('\t').next().unwrap_or("0").parse()?);
    }
    for (what, values) in [("memory of a VM", &mut memory), ("disk of a VM", &mut disk)] {
        values.sort_unstable();
        let mebibytes = |at: usize| values[at] as f64 / 1024.0;
        println!(
            "| {what}, {count} at once | {:.1} MiB | {:.1} MiB | {:.1} MiB |",
            mebibytes(values.len() / 2),
            mebibytes(0),
            mebibytes(values.len() - 1)
        );
    }
    Ok(())
}

/// The memory of a machine's VMM in KiB, what it shares with others counted in part.
fn memory_of(vm: &SmolVm) -> Result<u64> {
    let process = vm.info().process.ok_or("the machine does not run")?;
    let rollup = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB"));
    Ok(pss.ok_or("no Pss")?.trim().parse()?)
}

/// One machine after the other, each with a command.
fn boots(image: &Image, count: usize) -> Result<()> {
    let mut times = Vec::new();
    for number in 1..=count {
        let started = Instant::now();
        let vm = Vm::boot(image.config())?;
        let said = vm.run("echo up")?;
        if said.stdout() != "up\n" {
            return Err(format!("boot {number}: {said:?}").into());
        }
        times.push(started.elapsed());
    }
    row(&format!("{count} boots, none failed"), &mut times);
    Ok(())
}

fn row(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |index: usize| millis(times[index]);
    println!("| {what} | {} | {} | {} |", at(times.len() / 2), at(0), at(times.len() - 1));
}

fn millis(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}
