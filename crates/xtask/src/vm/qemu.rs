//! QEMU's command line.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use super::options::Accel;
use super::packages::Trees;
use super::server::Server;

const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
/// Files of a run's folder, which is QEMU's working directory: paths of sockets may be short.
pub const INITRAMFS: &str = "initramfs";
pub const CONSOLE: &str = "console.log";
pub const LOG: &str = "kernel.log";
pub const STDOUT: &str = "stdout";
pub const STDERR: &str = "stderr";
pub const CONTROL: &str = "control";

/// The kernel's parameters. From warnings on, everything goes over the slow serial line as well. A busy
/// machine looks to the watchdog like a hanging guest; one that hangs runs into the limit. Where a processor
/// is imitated, tests of ciphers and clearing memory that is overwritten anyway take a good part of the
/// boot.
const PARAMETERS: &str =
    "console=ttyS0 loglevel=5 panic=-1 nowatchdog cryptomgr.notests init_on_alloc=0";

/// What is run.
pub struct Machine<'a> {
    pub folder: &'a Path,
    pub accel: Accel,
    /// MiB.
    pub memory: u32,
    pub hugepages: u32,
    /// The kernel's program or image.
    pub kernel: &'a Path,
    /// Whether there is a socket of a device in the folder.
    pub device: bool,
    /// Whether there is one of its model's control.
    pub control: bool,
    pub shell: bool,
}

impl Machine<'_> {
    /// The command.
    pub fn command(&self, trees: &Trees) -> Command {
        let tree = &trees.qemu;
        let libraries = tree.join(LIBRARIES);
        let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
        command
            .current_dir(self.folder)
            .env("QEMU_MODULE_DIR", libraries.join("qemu"))
            .env_remove("LD_PRELOAD")
            .env_remove("LD_LIBRARY_PATH")
            .arg("--library-path")
            .arg(&libraries)
            .arg(tree.join("usr/bin/qemu-system-x86_64"));
        for folder in ["usr/share/qemu", "usr/share/seabios"] {
            command.arg("-L").arg(tree.join(folder));
        }
        // What the device reads and writes must be shared, or it would be told no memory.
        let backend = format!(
            "memory-backend-memfd,id=memory,size={}M,share=on",
            self.memory
        );
        command
            .args(["-no-user-config", "-nodefaults", "-no-reboot"])
            .args(["-display", "none"])
            .args(["-run-with", "exit-with-parent=on"])
            .args(["-machine", "q35,memory-backend=memory", "-object", &backend])
            .args(["-m", &format!("{}M", self.memory)])
            .args(match self.accel {
                Accel::Kvm => ["-accel", "kvm"],
                Accel::Tcg => ["-accel", "tcg,thread=multi"],
            })
            // A fifth level of page tables would only be walked.
            .args(["-cpu", "max,la57=off", "-smp", "2"])
            .arg("-kernel")
            .arg(self.kernel)
            .args(["-initrd", INITRAMFS])
            .args([
                "-append",
                &format!("{PARAMETERS} hugepages={}", self.hugepages),
            ])
            .args(["-chardev", &format!("file,id=console,path={CONSOLE}")])
            .args(["-serial", "chardev:console"])
            .args(["-device", "virtio-serial-pci"]);
        for (name, file) in [
            ("log", LOG),
            ("control", CONTROL),
            ("stdout", STDOUT),
            ("stderr", STDERR),
        ] {
            command
                .args(["-chardev", &format!("file,id={name},path={file}")])
                .args([
                    "-device",
                    &format!("virtserialport,chardev={name},name={name}"),
                ]);
        }
        if self.shell {
            command
                .args(["-chardev", "stdio,id=terminal,mux=on,signal=off"])
                .args(["-device", "virtconsole,chardev=terminal"]);
        }
        if self.control {
            let path = Server::CONTROL;
            command
                .args(["-chardev", &format!("socket,id=model,path={path}")])
                .args(["-device", "virtserialport,chardev=model,name=model"]);
        }
        if self.device {
            let device = serde_json::json!({
                // The guest finds it at 0000:00:04.0.
                "driver": "vfio-user-pci", "rombar": 0, "addr": "04.0",
                "socket": {"type": "unix", "path": Server::SOCKET},
            });
            command.args(["-device", &device.to_string()]);
        }
        command
    }
}

/// KVM where it can be opened and the processor has what it is meant for: without, it may be there
/// and stumble over the first instruction that it must emulate.
pub fn accel() -> Accel {
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let hardware = flags
        .split_whitespace()
        .any(|flag| flag == "vmx" || flag == "svm");
    let opened = File::options().read(true).write(true).open("/dev/kvm");
    match hardware && opened.is_ok() {
        true => Accel::Kvm,
        false => Accel::Tcg,
    }
}

/// Words as one line of a shell.
pub fn quoted(words: &[String]) -> String {
    let quote = |word: &String| format!("'{}'", word.replace('\'', "'\\''"));
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_words_in_a_shell() {
        let words = ["a b", "it's", "$HOME"].map(str::to_owned);
        assert_eq!(quoted(&words), r"'a b' 'it'\''s' '$HOME'");
    }
}
