//! What a machine consists of, as QEMU's arguments say it.
//!
//! A machine that is restored must have the same devices in the same places as the one that was kept; so all that may differ is in [`Shape`].

use serde::{Deserialize, Serialize};
use skerry_driver::Accelerator;

/// What the kernel itself and what it keeps for all take, beside the sandbox's own memory.
const KERNEL_MIB: u32 = 96;
/// Of the sandbox's memory, what describes each of its pages.
const PAGES_SHARE: u32 = 48;
/// Translated code, in MiB, where there is no hardware to run the guest's.
const TRANSLATED_MIB: u32 = 128;

/// What makes two machines of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Shape {
    /// QEMU, accelerator, kernel and first programs.
    pub(crate) engine: String,
    /// The base disk.
    pub(crate) base: String,
    pub(crate) vcpus: u32,
    /// The sandbox's own memory.
    pub(crate) memory_mb: u32,
    /// It has a network card.
    pub(crate) network: bool,
}

impl Shape {
    /// The machine's memory in bytes: the sandbox's and the kernel's.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let mib = self.memory_mb + KERNEL_MIB + self.memory_mb / PAGES_SHARE;
        u64::from(mib) << 20
    }
}

/// How it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    /// With its kernel.
    Boot,
    /// Where a machine of this shape was kept.
    Restore,
}

const KERNEL_ARGUMENTS: &str = "quiet loglevel=1 reboot=t panic=-1 tsc=reliable no_timer_check random.trust_cpu=on mitigations=off \
    cryptomgr.notests rcupdate.rcu_expedited=1 pci=lastbus=0 init_on_alloc=0 8250.nr_uarts=0 \
    lsm=landlock audit=0 psi=0 transparent_hugepage=madvise";

/// QEMU's arguments. Files are below `/m`; descriptors 3 to 5 are its sockets, 6 its network card.
pub(crate) fn arguments(shape: &Shape, accelerator: Accelerator, begin: Begin) -> Vec<String> {
    let mut args = Args::default();
    args.add("-M", "q35,vmport=off,hpet=off,smbus=off,sata=off,usb=off,suppress-vmdesc=on,memory-backend=memory");
    // What is kept is read by a QEMU of the same version with the same arguments, or not at all.
    args.add("-global", "migration.send-configuration=off");
    match accelerator {
        Accelerator::Kvm => args.add("-accel", "kvm").add("-cpu", "host"),
        Accelerator::Tcg => args
            .add(
                "-accel",
                format!("tcg,thread=multi,tb-size={TRANSLATED_MIB}"),
            )
            .add("-cpu", "max"),
    };
    args.add("-smp", shape.vcpus.to_string());
    let bytes = shape.memory_bytes();
    args.add("-m", format!("{}M", bytes >> 20));
    // Read only in the file, written in copies of its pages that are this process's own.
    args.add("-object", format!("memory-backend-file,id=memory,size={bytes},mem-path=/m/memory,share=off,readonly=on,rom=off"));
    for flag in ["-nodefaults", "-no-user-config", "-no-reboot"] {
        args.flag(flag);
    }
    args.add("-display", "none");
    for folder in ["/qemu/share/qemu", "/qemu/share/seabios"] {
        args.add("-L", folder);
    }
    args.add(
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    );
    ports(&mut args);
    disk(&mut args, "base", "3", "read-only=on");
    disk(&mut args, "disk", "4", "discard=unmap");
    if shape.network {
        args.add("-netdev", "tap,id=network,fd=6");
        args.add("-device", "virtio-net-pci,netdev=network,romfile=,addr=5");
    }
    args.add("-object", "rng-builtin,id=random");
    args.add("-device", "virtio-rng-pci,rng=random,addr=6");
    match begin {
        Begin::Boot => args
            .add("-kernel", "/m/kernel")
            .add("-initrd", "/m/initial-files")
            .add("-append", KERNEL_ARGUMENTS),
        Begin::Restore => args.add("-incoming", "file:/m/devices"),
    };
    args.0
}

/// What all machines on this accelerator have in common.
pub(crate) fn kind(accelerator: Accelerator) -> String {
    let any = Shape {
        engine: String::new(),
        base: String::new(),
        vcpus: 1,
        memory_mb: 1,
        network: true,
    };
    let [boot, restore] =
        [Begin::Boot, Begin::Restore].map(|begin| arguments(&any, accelerator, begin).join(" "));
    boot + &restore
}

fn ports(args: &mut Args) {
    args.add("-device", "virtio-serial-pci,max_ports=3,addr=2");
    for (number, name, fd) in [(1, "control", 3), (2, "agent", 4)] {
        args.add(
            "-chardev",
            format!("socket,id={name},fd={fd},server=on,wait=off"),
        );
        args.add(
            "-device",
            format!("virtserialport,chardev={name},name={name},nr={number}"),
        );
    }
    args.add("-chardev", "socket,id=monitor,fd=5,server=on,wait=off");
    args.add("-mon", "chardev=monitor,mode=control");
}

fn disk(args: &mut Args, name: &str, slot: &str, option: &str) {
    args.add(
        "-blockdev",
        format!("driver=file,node-name={name}-file,filename=/m/{name},locking=off,{option}"),
    );
    args.add(
        "-blockdev",
        format!("driver=raw,node-name={name},file={name}-file,{option}"),
    );
    args.add(
        "-device",
        format!("virtio-blk-pci,drive={name},addr={slot}"),
    );
}

#[derive(Default)]
struct Args(Vec<String>);

impl Args {
    fn add(&mut self, name: &str, value: impl Into<String>) -> &mut Self {
        self.0.extend([name.to_owned(), value.into()]);
        self
    }

    fn flag(&mut self, name: &str) {
        self.0.push(name.to_owned());
    }
}
