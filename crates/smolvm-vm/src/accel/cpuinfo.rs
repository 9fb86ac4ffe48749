//! [`CpuInfo`]: what `/proc/cpuinfo` tells of the host's processor (`proc_cpuinfo(5)`).

use std::io;

/// The parts of `/proc/cpuinfo` that matter for running guests, of the first processor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CpuInfo {
    /// The hardware virtualization that the flags show.
    pub(crate) virtualization: Option<Virtualization>,
    /// The rate of the time stamp counter, in kHz: the nominal one where the processor's name
    /// tells it, else the current one.
    pub(crate) clock_khz: Option<u64>,
}

/// A kind of hardware virtualization, by the flag that shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Virtualization {
    /// Intel's `vmx`.
    Vmx,
    /// AMD's `svm`.
    Svm,
}

impl CpuInfo {
    /// Of this host.
    pub(crate) fn read() -> io::Result<Self> {
        Ok(Self::parse(&fs_err::read_to_string("/proc/cpuinfo")?))
    }

    fn parse(text: &str) -> Self {
        let value = |key: &str| {
            text.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                (name.trim_end() == key).then(|| value.trim())
            })
        };
        let flags = value("flags").unwrap_or_default();
        let virtualization = flags.split_ascii_whitespace().find_map(|flag| match flag {
            "vmx" => Some(Virtualization::Vmx),
            "svm" => Some(Virtualization::Svm),
            _ => None,
        });
        let nominal = value("model name").and_then(nominal_khz);
        let current = || value("cpu MHz").and_then(|mhz| khz(mhz, 1e3));
        Self { virtualization, clock_khz: nominal.or_else(current) }
    }
}

/// The rate in a name such as `Intel(R) Xeon(R) CPU @ 2.20GHz`.
fn nominal_khz(name: &str) -> Option<u64> {
    khz(name.rsplit_once("@ ")?.1.strip_suffix("GHz")?, 1e6)
}

/// `number` times `unit`, where it can be the rate of a clock.
fn khz(number: &str, unit: f64) -> Option<u64> {
    let khz = number.trim().parse::<f64>().ok()? * unit;
    // No clock runs slower than 1 MHz or faster than 100 GHz.
    if !(1e3..=1e8).contains(&khz) {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range is checked above"
    )]
    let khz = khz.round() as u64;
    Some(khz)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Intel's server processors have their rate in the name.
    const INTEL: &str = "\
processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model name\t: Intel(R) Xeon(R) CPU E5-2676 v3 @ 2.40GHz
cpu MHz\t\t: 2900.125
flags\t\t: fpu vme de pse tsc msr pae mce lm vmx smx est tm2 ssse3
vmx flags\t: vnmi preemption_timer
bugs\t\t: cpu_meltdown

processor\t: 1
cpu MHz\t\t: 1200.000
";

    /// A virtual machine whose host does not allow nested virtualization: `vmmcall` and
    /// `svm_lock` are no `svm`.
    const NESTED_AMD: &str = "\
processor\t: 0
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC
cpu MHz\t\t: 2445.406
flags\t\t: fpu vme de pse tsc hypervisor lahf_lm vmmcall svm_lock
";

    #[test]
    fn the_flags_show_what_the_processor_can_do() {
        assert_eq!(CpuInfo::parse(INTEL).virtualization, Some(Virtualization::Vmx));
        assert_eq!(CpuInfo::parse(NESTED_AMD).virtualization, None);
        let amd = NESTED_AMD.replace("svm_lock", "svm");
        assert_eq!(CpuInfo::parse(&amd).virtualization, Some(Virtualization::Svm));
    }

    #[test]
    fn the_nominal_rate_counts_more_than_the_current_one() {
        assert_eq!(CpuInfo::parse(INTEL).clock_khz, Some(2_400_000));
        assert_eq!(CpuInfo::parse(NESTED_AMD).clock_khz, Some(2_445_406));
    }

    #[test]
    fn what_is_no_rate_is_left_out() {
        for mhz in ["", "fast", "-2400", "0", "nan", "inf", "1e300"] {
            let info = CpuInfo::parse(&format!("cpu MHz\t\t: {mhz}\n"));
            assert_eq!(info, CpuInfo { virtualization: None, clock_khz: None }, "{mhz:?}");
        }
        assert_eq!(CpuInfo::parse("").clock_khz, None);
    }

    #[test]
    fn this_host_tells_of_itself() {
        let info = CpuInfo::read().unwrap();
        println!("{info:?}");
        if cfg!(target_arch = "x86_64") {
            assert!(info.clock_khz.is_some());
        }
    }
}
