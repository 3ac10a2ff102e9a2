//! What can't be run on the model is refused before anything starts, with cause and fix; and an
//! ordinary user needs nothing of root's.

#![forbid(unsafe_code)]

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use conformance::host::note;
use conformance::skip;
use conformance::stack::{Stack, Tree};
use conformance::uverbs::{Ran, Uverbs};
use tempfile::TempDir;

/// The user `nobody` of every Linux.
const NOBODY: u32 = 65534;

/// Programs in a folder that everybody may enter, and a folder for what they write.
struct Place {
    folder: TempDir,
    uverbs: Uverbs,
}

impl Place {
    fn or_skip(test: &str) -> Option<Self> {
        let uverbs = Uverbs::build(test)?;
        let folder = tempfile::tempdir().unwrap();
        let place = Self { folder, uverbs };
        set_mode(place.folder.path(), 0o755);
        for (from, to) in [
            (place.uverbs.program(), "program"),
            (env::var_os("MANA_BIN").unwrap().into(), "mana"),
            (
                env::var_os("MANA_PRELOAD").unwrap().into(),
                "libmana_model_preload.so",
            ),
        ] {
            fs::copy(from, place.path(to)).unwrap();
            set_mode(&place.path(to), 0o755);
        }
        fs::create_dir(place.path("tmp")).unwrap();
        set_mode(&place.path("tmp"), 0o777);
        Some(place)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `mana model exec` with these words.
    fn exec<W: AsRef<OsStr>>(&self, words: &[W]) -> Command {
        let mut command = Command::new(self.path("mana"));
        command.args(["model", "exec"]).args(words);
        command.env("TMPDIR", self.path("tmp"));
        command.env_remove("MANA_PRELOAD").current_dir("/");
        command
    }

    /// The same of the user `nobody`, without any group or capability; of whoever runs the tests
    /// where that is not root.
    fn exec_as_nobody<W: AsRef<OsStr>>(&self, words: &[W]) -> Command {
        let mut command = self.exec(words);
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        set_mode(&path, 0o755);
        path
    }

    #[track_caller]
    fn assert_nothing_left(&self) {
        let left: Vec<_> = fs::read_dir(self.path("tmp")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }

    /// Both users are told these parts, and the program, which would write something, never runs.
    #[track_caller]
    fn assert_refused<W: AsRef<OsStr> + std::fmt::Debug>(
        &self,
        words: &[W],
        code: i32,
        parts: &[&str],
    ) {
        for command in [&mut self.exec(words), &mut self.exec_as_nobody(words)] {
            let ran = Ran::of(command);
            assert_eq!(ran.code, Some(code), "{words:?}: {ran:?}");
            assert_eq!(ran.out, "", "{words:?}: {ran:?}");
            assert_eq!(ran.err.lines().count(), 1, "{words:?}: {ran:?}");
            for part in parts {
                assert!(ran.err.contains(part), "no {part}: {words:?}: {ran:?}");
            }
            self.assert_nothing_left();
        }
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_program_in_which_nothing_can_be_preloaded_is_refused_with_cause_and_fix() {
    let test = "a_program_in_which_nothing_can_be_preloaded_is_refused_with_cause_and_fix";
    let Some(place) = Place::or_skip(test) else {
        return;
    };
    let refused = |program: &Path, parts: &[&str]| {
        let words = [OsStr::new("--"), program.as_os_str(), OsStr::new("threads")];
        let named = program.file_name().unwrap().to_str().unwrap();
        place.assert_refused(&words, 1, &[parts, &[named]].concat());
    };
    for (name, mode) in [("setuid", 0o4755), ("setgid", 0o2755)] {
        let path = place.path(name);
        fs::copy(place.path("program"), &path).unwrap();
        set_mode(&path, mode);
        refused(
            &path,
            &["is setuid or setgid", "run a copy of it without that bit"],
        );
        let script = place.script(&format!("{name}.sh"), &format!("#!{}\n", path.display()));
        refused(&script, &["its interpreter", "is setuid or setgid"]);
    }
    // Byte 4 of an ELF file is its class: 1 for 32 bits.
    let mut bytes = fs::read(place.path("program")).unwrap();
    bytes[4] = 1;
    let path = place.path("of-32-bits");
    fs::write(&path, bytes).unwrap();
    set_mode(&path, 0o755);
    refused(&path, &["is no 64-bit x86-64 program"]);

    // What `setcap cap_net_raw+ep` writes (linux/capability.h, vfs_cap_data of revision 2).
    let path = place.path("capable");
    fs::copy(place.path("program"), &path).unwrap();
    let words: [u32; 5] = [0x0200_0001, 1 << 13, 0, 0, 0];
    let value = words.map(u32::to_le_bytes).concat();
    let flags = rustix::fs::XattrFlags::empty();
    if rustix::fs::setxattr(&path, "security.capability", &value, flags).is_ok() {
        let words = [OsStr::new("--"), path.as_os_str(), OsStr::new("threads")];
        let ran = Ran::of(&mut place.exec_as_nobody(&words));
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{ran:?}");
        assert!(ran.err.contains("has capabilities"), "{ran:?}");
        place.assert_nothing_left();
    } else {
        note("stack: capabilities of files can't be set here: not shown that they are refused");
    }
}

#[test]
fn a_static_program_is_refused_with_cause_and_fix() {
    let test = "a_static_program_is_refused_with_cause_and_fix";
    let Some(path) = env::var_os("MANA_STATIC_BIN") else {
        skip(
            test,
            "MANA_STATIC_BIN names no program: `cargo xtask test --tier stack`",
        );
        return;
    };
    let Some(place) = Place::or_skip(test) else {
        return;
    };
    let linked = place.path("static");
    fs::copy(path, &linked).unwrap();
    set_mode(&linked, 0o755);
    let link = place.path("link");
    symlink(&linked, &link).unwrap();
    for path in [&linked, &link] {
        let words = [OsStr::new("--"), path.as_os_str(), OsStr::new("testpmd")];
        place.assert_refused(&words, 1, &["is statically linked", "link it dynamically"]);
    }
    let script = place.script("static.sh", &format!("#! {} testpmd\n", linked.display()));
    let words = [OsStr::new("--"), script.as_os_str()];
    place.assert_refused(&words, 1, &["its interpreter", "is statically linked"]);
}

#[test]
fn what_is_no_program_is_told_with_what_to_do() {
    let Some(place) = Place::or_skip("what_is_no_program_is_told_with_what_to_do") else {
        return;
    };
    let missing = place.path("missing");
    let missing = missing.to_str().unwrap();
    let interpreter = place.script("interpreter", &format!("#!{missing}\n"));
    let plain = place.script("plain", "echo ran\n");
    let empty = place.script("empty", "");
    let unmarked = place.script("unmarked", "#!/bin/sh\necho ran\n");
    set_mode(&unmarked, 0o644);
    let folder = place.path("tmp");
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    for (program, parts) in [
        (missing.to_owned(), &["No such file", "in PATH"]),
        (
            "no-such-program-anywhere".to_owned(),
            &["No such file", "in PATH"],
        ),
        (text(&interpreter), &["its interpreter", "No such file"]),
        (
            text(&plain),
            &["is no program, nor a script", "`#!/bin/sh`"],
        ),
        (
            text(&empty),
            &["is no program, nor a script", "`#!/bin/sh`"],
        ),
        (text(&unmarked), &["is not executable", "chmod +x"]),
        (text(&folder), &["is a folder", "name a program"]),
    ] {
        place.assert_refused(&["--", &program], 1, parts);
    }
    // Built for another C library: its loader is not there.
    let foreign = place.path("foreign");
    let mut bytes = fs::read(place.path("program")).unwrap();
    let loader = b"/ld-linux-x86-64.so.2\0";
    let at = bytes.windows(loader.len()).position(|it| it == loader);
    bytes[at.expect("a program of the GNU C library") + 1] = b'x';
    fs::write(&foreign, bytes).unwrap();
    set_mode(&foreign, 0o755);
    let parts = ["No such file", "dynamic loader that it names is not there"];
    place.assert_refused(&["--", &text(&foreign), "threads"], 1, &parts);
    for (words, parts) in [
        (&["ls"][..], &["put `--` before the program"][..]),
        (&["--"], &["expected a program behind `--`"]),
        (&["--", ""], &["expected a program behind `--`"]),
        (&[], &["expected `-- PROGRAM`"]),
        (
            &["--what=1", "--", "ls"],
            &["unknown option --what", "--vdev"],
        ),
    ] {
        place.assert_refused(words, 2, &[parts, &["mana model --help"]].concat());
    }
    for (device, part) in [
        ("model0,pci=7870", "dddd:bb:dd.f"),
        ("model0,kernel=4.4", "valid: 6.12"),
        ("eth0", "expected modelN"),
    ] {
        place.assert_refused(&["--vdev", device, "--", "ls"], 1, &[part]);
    }
    let two = [
        "--vdev=model0,pci=0001:02:03.4",
        "--vdev=model1,pci=0001:02:03.4",
        "--",
        "ls",
    ];
    place.assert_refused(&two, 1, &["two devices are called 0001:02:03.4", "pci="]);
    let ran = Ran::of(
        place
            .exec(&["--", "sh", "-c", "echo $0 $1", "--", "--help"])
            .env("PATH", "/bin"),
    );
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (Some(0), "-- --help\n"),
        "{ran:?}"
    );
    let script = place.script("fine", "#!/bin/sh\nexec \"$@\"\n");
    let words = [
        OsStr::new("--"),
        script.as_os_str(),
        place.path("program").as_os_str(),
    ]
    .map(OsStr::to_owned);
    let ran = Ran::of(place.exec(&words).arg("end").arg("0"));
    assert_eq!(ran.code, Some(3), "{ran:?}");
}

#[test]
fn a_folder_that_this_user_may_not_write_is_named_before_the_start() {
    let test = "a_folder_that_this_user_may_not_write_is_named_before_the_start";
    let Some(place) = Place::or_skip(test) else {
        return;
    };
    let folder = place.path("closed");
    fs::create_dir(&folder).unwrap();
    set_mode(&folder, 0o555);
    let mut command = place.exec_as_nobody(&["--", "echo", "ran"]);
    let ran = Ran::of(command.env("TMPDIR", &folder));
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{ran:?}");
    for part in ["Permission denied", "TMPDIR", "closed", "name a folder"] {
        assert!(ran.err.contains(part), "no {part}: {ran:?}");
    }
}

/// Whatever keeps the library out of a program is found out at the latest when it has run. The loader,
/// asked for a list, stands for such a program.
#[test]
fn a_program_that_ran_without_the_library_is_told_of() {
    let Some(place) = Place::or_skip("a_program_that_ran_without_the_library_is_told_of") else {
        return;
    };
    let loader = ["/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
    let Some(loader) = loader.iter().find(|path| path.is_file()) else {
        skip(
            "a_program_that_ran_without_the_library_is_told_of",
            "no loader of the GNU C library",
        );
        return;
    };
    // The loader itself only lists what it would load.
    let program = place.path("program");
    let words = [
        OsStr::new("--"),
        loader.as_os_str(),
        OsStr::new("--list"),
        program.as_os_str(),
    ];
    let ran = Ran::of(&mut place.exec(&words));
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.out.contains("libc.so"), "{ran:?}");
    assert!(ran.err.contains("was not loaded into it"), "{ran:?}");
    place.assert_nothing_left();
}

/// Without hugepages of its own, in a tree that it may only read.
#[test]
fn nobody_runs_debians_programs_and_ours_on_the_model() {
    let test = "nobody_runs_debians_programs_and_ours_on_the_model";
    let (Some(stack), Some(place)) = (Stack::or_skip(test), Place::or_skip(test)) else {
        return;
    };
    let copy = place.path("tree");
    let copied = Ran::of(
        Command::new("cp")
            .arg("-a")
            .args([&stack.rdma_core_44.root(), &copy]),
    );
    assert_eq!(copied.code, Some(0), "{copied:?}");
    let tree = Tree::at(&copy);
    let mut words = vec!["--vdev=model0,ports=2".into(), "--".into()];
    words.extend(tree.verbs_program("ibv_devinfo"));
    let ran = Ran::of(&mut place.exec_as_nobody(&words));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("phys_port_cnt:\t\t\t2"), "{ran:?}");
    place.assert_nothing_left();

    for provider in ["uverbs", "rdma-core"] {
        let line = format!(
            "testpmd --no-huge -l 0-1 --no-telemetry -a 7870:00:00.0,provider={provider} -- \
             --forward-mode=io --tx-first --total-num-mbufs=4096 --duration 0.3"
        );
        let mut words = vec!["--".into()];
        words.extend(tree.foreign(&place.path("mana")));
        words.extend(line.split_whitespace().map(Into::into));
        let ran = Ran::of(&mut place.exec_as_nobody(&words));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(
            ran.out.contains(&format!("provider: {provider}")),
            "{ran:?}"
        );
        place.assert_nothing_left();
    }
    let ran = Ran::of(
        place
            .exec_as_nobody(&["--"])
            .arg(place.path("program"))
            .args(["end", "0"]),
    );
    assert_eq!(ran.code, Some(3), "{ran:?}");
    place.assert_nothing_left();
}
