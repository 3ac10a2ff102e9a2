//! Model checks of the gate: whatever an owner does, the interior is reached by one side at a time
//! and nothing put into it is lost. `RUSTFLAGS="--cfg mana_loom" cargo test -p mana-pmd --release
//! --lib loom`.
//!
//! loom's cell finds every access of one side that is not ordered after the other's. The interior
//! counts what was done to it: bursts of the owner in its first number, a new interior starts at 100.

use ::loom::sync::{Arc, Condvar, Mutex};
use ::loom::thread;

use super::*;

/// An eventfd: rung counts until it is read; who waits for it sleeps.
#[derive(Clone)]
struct Bell(Arc<(Mutex<bool>, Condvar)>);

impl Bell {
    fn new() -> Self {
        Self(Arc::new((Mutex::new(false), Condvar::new())))
    }

    fn ring(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn wait(&self) {
        let mut rung = self.0.0.lock().unwrap();
        while !*rung {
            rung = self.0.1.wait(rung).unwrap();
        }
        *rung = false;
    }
}

/// One burst; tells the control plane where it gives the interior up.
fn burst(owner: &mut Owner<u32>, control: &Bell) -> bool {
    let entered = owner.enter(|n| *n += 1).is_some();
    if !entered && owner.acknowledge() {
        control.ring();
    }
    entered
}

/// The control plane takes the interior as soon as it is told that it may have it.
fn take(control: &mut Control<u32>, told: &Bell) -> u32 {
    loop {
        if let Some(interior) = control.take() {
            return interior;
        }
        told.wait();
    }
}

#[test]
fn a_polling_owner_gives_the_interior_up_between_two_bursts_and_goes_on_with_the_new_one() {
    ::loom::model(|| {
        let (mut owner, mut control) = gate(0);
        let told = Bell::new();
        let recovery = thread::spawn({
            let told = told.clone();
            move || {
                control.want();
                let bursts = take(&mut control, &told);
                control.open(100).unwrap();
                bursts
            }
        });
        let before = u32::from(burst(&mut owner, &told));
        while owner.look(|n| *n < 100) != Some(false) {
            burst(&mut owner, &told);
            thread::yield_now();
        }
        assert!(owner.enter(|n| *n) >= Some(100));
        let bursts = recovery.join().unwrap();
        assert!(bursts >= before, "a burst was lost");
    });
}

#[test]
fn a_silent_owner_is_waited_for_without_a_touch_of_what_it_has() {
    ::loom::model(|| {
        let (mut owner, mut control) = gate(0);
        let silent = thread::spawn(move || {
            let entered = owner.enter(|n| *n += 1).is_some();
            // Silent from here on, for as long as the control plane looks.
            (owner, entered)
        });
        control.want();
        // The control plane goes on with other things: it does not wait, and does not get it.
        assert!(!control.is_held());
        assert_eq!(control.take(), None);
        assert_eq!(control.open(100), Err(100));
        let (mut owner, entered) = silent.join().unwrap();
        assert!(owner.acknowledge());
        assert_eq!(control.take(), Some(u32::from(entered)));
    });
}

#[test]
fn a_dropped_handle_acknowledges_whether_before_during_or_after_the_request() {
    ::loom::model(|| {
        let (mut owner, mut control) = gate(0);
        let told = Bell::new();
        let dropping = thread::spawn({
            let told = told.clone();
            move || {
                let entered = burst(&mut owner, &told);
                drop(owner);
                told.ring();
                entered
            }
        });
        control.want();
        let bursts = take(&mut control, &told);
        control.open(100).unwrap();
        let entered = dropping.join().unwrap();
        assert_eq!(bursts, u32::from(entered));
        // The new interior is home: nobody is left to use it.
        assert!(control.is_held());
        assert_eq!(control.take(), Some(100));
    });
}

#[test]
fn an_owner_asleep_in_a_wait_is_woken_to_give_the_interior_up_and_again_to_go_on() {
    ::loom::model(|| {
        let (mut owner, mut control) = gate(0);
        let (told, wake) = (Bell::new(), Bell::new());
        let sleeper = thread::spawn({
            let (told, wake) = (told.clone(), wake.clone());
            move || {
                // No packet ever comes: only the gate wakes it.
                while owner.look(|n| *n) != Some(100) {
                    if owner.acknowledge() {
                        told.ring();
                    }
                    wake.wait();
                }
                owner.enter(|n| *n += 1)
            }
        });
        control.want();
        wake.ring();
        assert_eq!(take(&mut control, &told), 0);
        control.open(100).unwrap();
        wake.ring();
        assert_eq!(sleeper.join().unwrap(), Some(()));
        assert_eq!(control.take(), Some(101));
    });
}

#[test]
fn a_forgotten_owner_keeps_the_interior_and_nobody_waits_for_it() {
    ::loom::model(|| {
        let (mut owner, mut control) = gate(0);
        let forgetful = thread::spawn(move || {
            owner.enter(|n| *n += 1);
            std::mem::ManuallyDrop::new(owner)
        });
        control.want();
        assert_eq!(control.take(), None);
        let owner = forgetful.join().unwrap();
        assert_eq!(control.take(), None);
        drop(control);
        // loom counts what leaks; a forgotten handle of the real thing is never seen again.
        drop(std::mem::ManuallyDrop::into_inner(owner));
    });
}

#[test]
fn the_control_plane_may_go_first_while_the_owner_acknowledges() {
    ::loom::model(|| {
        let (mut owner, mut control) = gate(0);
        let closing = thread::spawn(move || {
            control.want();
            drop(control);
        });
        let told = Bell::new();
        for _ in 0..2 {
            burst(&mut owner, &told);
        }
        closing.join().unwrap();
        assert!(!burst(&mut owner, &told), "nobody opens it any more");
        drop(owner);
    });
}

#[test]
fn two_resets_in_a_row_find_an_owner_that_saw_neither_or_one_or_both() {
    ::loom::model(|| {
        let (mut owner, mut control) = gate(0);
        let told = Bell::new();
        let recovery = thread::spawn({
            let told = told.clone();
            move || {
                let mut before = 0;
                for new in [100, 200] {
                    control.want();
                    let found = take(&mut control, &told);
                    assert!(found >= before && found < before + 100);
                    control.open(new).unwrap();
                    before = new;
                }
            }
        });
        while owner.look(|n| *n >= 200) != Some(true) {
            burst(&mut owner, &told);
            thread::yield_now();
        }
        recovery.join().unwrap();
    });
}
