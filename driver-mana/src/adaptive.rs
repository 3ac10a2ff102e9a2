//! Polling while busy, sleeping when idle: what a thread does between its bursts.
//!
//! A busy turn costs one load and one branch. After a while without packets the queues are armed,
//! looked at once more, and slept on; a packet, a [`Waker`], the control plane of a port, a watched
//! descriptor, a signal or the time ends the sleep.
//!
//! ```no_run
//! use std::time::Duration;
//! use mana_pmd::{Adaptive, AdaptiveConfig, Queues, RxBurst, Turn, TxBurst};
//! use pmd_api::{Batch, InterruptError};
//!
//! fn forward(mut queues: Queues, adaptive: &mut Adaptive) -> Result<Queues, InterruptError> {
//!     let mut batch = Batch::with_capacity(32);
//!     loop {
//!         let mut work = 0;
//!         for (rx, tx) in queues.rx.iter_mut().zip(&mut queues.tx) {
//!             work += rx.rx_burst(&mut batch);
//!             if batch.is_empty() {
//!                 // Brings sent buffers home before the sleep: no interrupt does.
//!                 work += tx.reclaim();
//!             } else {
//!                 drop(tx.tx_burst(&mut batch));
//!             }
//!         }
//!         if adaptive.turn(work, &mut queues.rx)? == Turn::Woken {
//!             return Ok(queues); // or look at what another thread wants
//!         }
//!     }
//! }
//!
//! # fn start() -> Result<Queues, mana_pmd::Error> { unimplemented!() }
//! let queues = start()?; // with `rx_interrupts` in the port's configuration
//! let mut adaptive = Adaptive::new(AdaptiveConfig::default())?;
//! let waker = adaptive.waker();
//! let thread = std::thread::spawn(move || forward(queues, &mut adaptive));
//! std::thread::sleep(Duration::from_secs(1));
//! waker.wake();
//! let queues = thread.join().expect("no panic")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::ops::AddAssign;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mana_verbs::{EventFd, PollSet, VerbsError, Waited};
use pmd_api::{Armed, InterruptError};

use crate::Error;
use crate::queue::{RxQueue, Sleep};

/// How long a queue that can't wake anybody at the moment is slept over: its pool is empty, or its
/// device is gone and the port has not noticed yet.
const MOMENT: Duration = Duration::from_millis(1);

/// When a thread stops polling, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdaptiveConfig {
    /// Turns in a row without work that are followed by another at once, without a look at the clock.
    pub idle_turns: u32,
    /// Time without work after these, before the thread sleeps. Twice what a wake-up costs at most is
    /// lost if it is about what a wake-up costs.
    pub idle_time: Duration,
    /// Longest sleep; `None` for as long as it takes.
    pub max_sleep: Option<Duration>,
    /// What is done about queues that have no interrupt, as on kernels without completion events: the
    /// thread sleeps that long between two looks, and [`Adaptive::napping`] says why. `None` refuses
    /// them.
    pub nap: Option<Duration>,
}

impl Default for AdaptiveConfig {
    /// 64 turns and 50 µs, then as long as it takes; queues without interrupt are refused.
    fn default() -> Self {
        Self {
            idle_turns: 64,
            idle_time: Duration::from_micros(50),
            max_sleep: None,
            nap: None,
        }
    }
}

/// What [`Adaptive::turn`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Turn {
    /// Nothing: poll again. After a nap, too.
    Poll,
    /// The queues were armed, perhaps slept on, and one of them has something.
    Packets,
    /// The thread slept for [`AdaptiveConfig::max_sleep`].
    Timeout,
    /// A [`Waker`], a watched descriptor, a signal or a port that wants its queues ended the sleep or
    /// kept the thread from it: look at what others want, and call each queue once, those that send
    /// included.
    Woken,
}

/// What an [`Adaptive`] did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AdaptiveStats {
    /// Times that a queue was armed.
    pub arms: u64,
    /// Times that the thread slept.
    pub sleeps: u64,
    /// Sleeps that ended with nothing to be found, and were gone on with.
    pub spurious: u64,
    /// Sleeps cut short because a queue could not wake the thread.
    pub naps: u64,
}

impl AddAssign for AdaptiveStats {
    fn add_assign(&mut self, other: Self) {
        self.arms += other.arms;
        self.sleeps += other.sleeps;
        self.spurious += other.spurious;
        self.naps += other.naps;
    }
}

/// Lets one thread poll its receive queues while they are busy and sleep on all of them when they
/// are idle; see the module's example.
///
/// The queues stay the thread's own and are passed with each turn; they may be of several ports, and
/// others from turn to turn. They survive a recovery of their port as they do everywhere: the thread
/// is woken to give them up, sleeps while they are away, and is woken when they are back. Somebody
/// must drive the port ([`crate::Port::drive`]), be it this thread itself, with
/// [`Adaptive::watch`] on [`crate::Port::event_fd`].
///
/// Completions of transmission wake nobody: reclaim before a turn without work, and count what came
/// home as work.
#[derive(Debug)]
pub struct Adaptive {
    config: AdaptiveConfig,
    /// Turns in a row without work.
    idle: u32,
    /// When `idle` went beyond what needs no clock.
    idle_since: Option<Instant>,
    bell: Arc<Bell>,
    /// Readable for the bell, the members and `others`.
    set: PollSet,
    /// Descriptors of the application's own.
    others: PollSet,
    /// What is in the set for the queues of the last sleep.
    members: Vec<Arc<Sleep>>,
    stats: AdaptiveStats,
    napping: Option<InterruptError>,
}

impl Adaptive {
    /// For the queues of one thread.
    ///
    /// # Errors
    ///
    /// [`Error::Verbs`] where the process has no file descriptors left.
    pub fn new(config: AdaptiveConfig) -> Result<Self, Error> {
        let bell = Arc::new(Bell {
            rung: AtomicBool::new(false),
            event: EventFd::new()?,
        });
        let others = PollSet::new(&[])?;
        Ok(Self {
            config,
            idle: 0,
            idle_since: None,
            set: PollSet::new(&[bell.event.as_fd(), others.as_fd()])?,
            bell,
            others,
            members: Vec::new(),
            stats: AdaptiveStats::default(),
            napping: None,
        })
    }

    /// What ends the thread's sleep from any other thread.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.bell))
    }

    /// The thread is woken while `fd` is readable, too. A descriptor that stays readable keeps it
    /// from sleeping; one that is closed is forgotten.
    ///
    /// # Errors
    ///
    /// [`Error::Verbs`] for descriptors that can't be polled, such as regular files.
    pub fn watch(&self, fd: BorrowedFd<'_>) -> Result<(), Error> {
        Ok(self.others.add(fd)?)
    }

    /// `fd` wakes the thread no more.
    pub fn unwatch(&self, fd: BorrowedFd<'_>) {
        self.others.remove(fd);
    }

    /// What happened so far.
    #[must_use]
    pub fn stats(&self) -> AdaptiveStats {
        self.stats
    }

    /// Why the last sleep was a nap of [`AdaptiveConfig::nap`]; `None` where it was none.
    #[must_use]
    pub fn napping(&self) -> Option<&InterruptError> {
        self.napping.as_ref()
    }

    /// Called after each round over the thread's queues with the `work` that was done: packets
    /// received, sent and come home, or whatever keeps the thread busy. Makes no system call unless
    /// the thread has been idle as long as [`AdaptiveConfig`] says, or was woken.
    ///
    /// `queues` are those that are slept on: all receive queues of this thread.
    ///
    /// # Errors
    ///
    /// * [`InterruptError::NotEnabled`] for a queue without interrupt, unless
    ///   [`AdaptiveConfig::nap`] says otherwise;
    /// * [`InterruptError::QueueFailed`], and [`InterruptError::DeviceRemoved`] where the port has
    ///   given up its recovery;
    /// * [`InterruptError::System`].
    ///
    /// A device that is away, and a queue whose pool is empty, are waited for in steps of a
    /// millisecond.
    #[inline]
    pub fn turn<'q>(
        &mut self,
        work: usize,
        queues: impl IntoIterator<Item = &'q mut RxQueue>,
    ) -> Result<Turn, InterruptError> {
        if work > 0 && !self.bell.is_rung() {
            self.idle = 0;
            return Ok(Turn::Poll);
        }
        if !self.shall_sleep(work) {
            return Ok(Turn::Poll);
        }
        self.sleep(work, queues.into_iter().collect())
    }

    /// Counts a turn without work. True if that was the last one before a sleep, or a waker was used.
    fn shall_sleep(&mut self, work: usize) -> bool {
        if self.bell.is_rung() {
            return true;
        }
        debug_assert_eq!(work, 0);
        self.idle = self.idle.saturating_add(1);
        if self.idle == 1 {
            self.idle_since = None;
        }
        if self.idle > self.config.idle_turns {
            let since = *self.idle_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= self.config.idle_time {
                return true;
            }
        }
        std::hint::spin_loop();
        false
    }

    #[cold]
    fn sleep(
        &mut self,
        work: usize,
        mut queues: Vec<&mut RxQueue>,
    ) -> Result<Turn, InterruptError> {
        if work > 0 {
            self.idle = 0;
        }
        if self.bell.take() {
            return Ok(Turn::Woken);
        }
        let index = queues.first().map_or(0, |queue| queue.index());
        let system = |error: VerbsError| InterruptError::System {
            queue: index,
            cause: Box::new(error),
        };
        self.join(&queues).map_err(system)?;
        // A time that no clock reaches is none.
        let deadline = self.config.max_sleep;
        let deadline = deadline.and_then(|longest| Instant::now().checked_add(longest));
        loop {
            let nap = match self.arm(&mut queues)? {
                Err(turn) => return Ok(turn),
                Ok(nap) => nap,
            };
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            self.stats.sleeps += 1;
            self.stats.naps += u64::from(nap.is_some());
            let waited = self.set.wait(nap.into_iter().chain(left).min());
            let waited = waited.map_err(system)?;
            if self.bell.take() {
                return Ok(Turn::Woken);
            }
            if queues.iter().any(|queue| queue.has_something()) {
                return Ok(Turn::Packets);
            }
            let late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            match waited {
                Waited::Signal => return Ok(Turn::Woken),
                _ if late => return Ok(Turn::Timeout),
                Waited::TimedOut => return Ok(Turn::Poll),
                Waited::Event | Waited::Closed => {}
            }
            let other = self.others.wait(Some(Duration::ZERO)).map_err(system)?;
            if matches!(other, Waited::Event | Waited::Closed) {
                return Ok(Turn::Woken);
            }
            // An event without a packet (a late one of an earlier arm, or of something that a burst
            // took meanwhile), the gate of a queue, which arming looks at, or a waker that was used
            // before the last time the bell was taken and rings only now.
            self.stats.spurious += 1;
            if self.bell.silence() {
                return Ok(Turn::Woken);
            }
        }
    }

    /// Lets the set be that of these queues.
    fn join(&mut self, queues: &[&mut RxQueue]) -> Result<(), VerbsError> {
        let sleeps = || queues.iter().filter_map(|queue| queue.sleeps_on());
        let same = sleeps().count() == self.members.len()
            && (sleeps().zip(&self.members)).all(|(new, old)| Arc::ptr_eq(new, old));
        if same {
            return Ok(());
        }
        // What is not slept on now must not end the sleep.
        for member in self.members.drain(..) {
            self.set.remove(member.as_fd());
        }
        for sleep in sleeps() {
            self.set.add(sleep.as_fd())?;
            self.members.push(Arc::clone(sleep));
        }
        Ok(())
    }

    /// Arms every queue. `Err` if the thread must not sleep, otherwise how long it may at most, where
    /// a queue can't wake it.
    #[allow(clippy::type_complexity, reason = "an error is one, a turn is none")]
    fn arm(
        &mut self,
        queues: &mut [&mut RxQueue],
    ) -> Result<Result<Option<Duration>, Turn>, InterruptError> {
        let mut nap: Option<Duration> = None;
        self.napping = None;
        for queue in queues {
            let longest = match queue.try_arm() {
                Ok(Some(Armed::Sleep)) => {
                    self.stats.arms += 1;
                    continue;
                }
                Ok(Some(Armed::Ready)) => return Ok(Err(Turn::Packets)),
                Ok(None) => return Ok(Err(Turn::Woken)),
                Err(error @ InterruptError::NotEnabled { .. }) => {
                    let Some(longest) = self.config.nap else {
                        return Err(error);
                    };
                    if queue.has_something() {
                        return Ok(Err(Turn::Packets));
                    }
                    self.napping = Some(error);
                    longest
                }
                Err(InterruptError::NoBuffers { .. }) => MOMENT,
                Err(InterruptError::DeviceRemoved { .. }) if !queue.is_lost() => {
                    // Its channel is at its end, so it would be readable for ever.
                    self.leave(queue);
                    MOMENT
                }
                Err(error) => return Err(error),
            };
            nap = nap.into_iter().chain([longest]).min();
        }
        Ok(Ok(nap))
    }

    /// The queue does not wake the thread until the next sleep.
    fn leave(&mut self, queue: &RxQueue) {
        if let Some(sleep) = queue.sleeps_on() {
            self.set.remove(sleep.as_fd());
            self.members.retain(|member| !Arc::ptr_eq(member, sleep));
        }
    }
}

/// Wakes the thread of an [`Adaptive`]: if it sleeps, at once; otherwise its next
/// [`Adaptive::turn`] is [`Turn::Woken`], whether it is busy or not. Wakes that come before that turn
/// are one. What was written before is seen by the thread after that turn.
#[derive(Debug, Clone)]
pub struct Waker(Arc<Bell>);

impl Waker {
    /// Wakes it. One system call, none if it is awake and was woken already.
    pub fn wake(&self) {
        // Release: what the caller did is seen by who takes the bell; acquire is not needed. Whoever
        // finds it rung leaves it to the first, whose ring may still be on its way: the thread looks
        // at the flag before it sleeps, or sleeps until that ring.
        if !self.0.rung.swap(true, Ordering::Release) {
            self.0.event.ring();
        }
    }
}

/// A flag that a busy thread sees without a system call, and an event for one that sleeps.
///
/// The event is rung after the flag was set and cleared before the flag is taken, so a thread that
/// finds the flag not set after it last cleared the event is woken by whoever sets it.
#[derive(Debug)]
struct Bell {
    rung: AtomicBool,
    event: EventFd,
}

impl Bell {
    #[inline]
    fn is_rung(&self) -> bool {
        self.rung.load(Ordering::Relaxed)
    }

    /// True if it was rung; it is silent afterwards.
    fn take(&self) -> bool {
        self.is_rung() && self.silence()
    }

    fn silence(&self) -> bool {
        self.event.clear();
        // Acquire pairs with the release of `wake`.
        self.rung.swap(false, Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const NONE: [&mut RxQueue; 0] = [];

    fn impatient() -> AdaptiveConfig {
        AdaptiveConfig {
            idle_turns: 0,
            idle_time: Duration::ZERO,
            max_sleep: Some(Duration::from_secs(20)),
            nap: None,
        }
    }

    #[test]
    fn a_thread_is_idle_after_so_many_turns_and_so_much_time() {
        let mut adaptive = Adaptive::new(AdaptiveConfig {
            idle_turns: 3,
            max_sleep: Some(Duration::ZERO),
            ..impatient()
        })
        .unwrap();
        for _ in 0..3 {
            for work in [0, 0, 0, 9] {
                assert_eq!(adaptive.turn(work, NONE).unwrap(), Turn::Poll);
            }
        }
        assert_eq!(adaptive.stats(), AdaptiveStats::default());
        for turn in [Turn::Poll, Turn::Poll, Turn::Poll, Turn::Timeout] {
            assert_eq!(adaptive.turn(0, NONE).unwrap(), turn);
        }
        // Still idle: it goes on sleeping.
        assert_eq!(adaptive.turn(0, NONE).unwrap(), Turn::Timeout);
        assert_eq!(adaptive.stats().sleeps, 2);
        assert_eq!(adaptive.turn(1, NONE).unwrap(), Turn::Poll);
        let start = Instant::now();
        adaptive.config.idle_time = Duration::from_millis(2);
        while adaptive.turn(0, NONE).unwrap() == Turn::Poll {}
        assert!(start.elapsed() >= Duration::from_millis(2));
    }

    #[test]
    fn a_waker_is_seen_by_a_busy_thread_by_one_about_to_sleep_and_by_one_that_sleeps() {
        let mut adaptive = Adaptive::new(impatient()).unwrap();
        let waker = adaptive.waker();
        for work in [5, 0] {
            waker.wake();
            waker.wake();
            assert_eq!(adaptive.turn(work, NONE).unwrap(), Turn::Woken);
        }
        assert_eq!(adaptive.turn(1, NONE).unwrap(), Turn::Poll);
        assert_eq!(adaptive.stats().sleeps, 0);
        let (other, sleeping) = (waker.clone(), Arc::new(AtomicBool::new(false)));
        let about_to = Arc::clone(&sleeping);
        let thread = thread::spawn(move || {
            while !about_to.load(Ordering::Acquire) {
                thread::yield_now();
            }
            thread::sleep(Duration::from_millis(5));
            other.wake();
        });
        sleeping.store(true, Ordering::Release);
        assert_eq!(adaptive.turn(0, NONE).unwrap(), Turn::Woken);
        thread.join().unwrap();
        // The ring of a waker that was seen by its flag alone ends no later sleep.
        waker.0.event.ring();
        adaptive.config.max_sleep = Some(Duration::from_millis(3));
        assert_eq!(adaptive.turn(0, NONE).unwrap(), Turn::Timeout);
        assert_eq!(adaptive.stats().spurious, 1);
    }

    #[test]
    fn no_wake_is_lost_however_it_meets_the_sleep() {
        let mut adaptive = Adaptive::new(impatient()).unwrap();
        let asked = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let wakers = (0..2).map(|_| (adaptive.waker(), Arc::clone(&asked)));
        let threads: Vec<_> = wakers
            .map(|(waker, asked)| {
                thread::spawn(move || {
                    for _ in 0..2000 {
                        asked.fetch_add(1, Ordering::Relaxed);
                        waker.wake();
                    }
                })
            })
            .collect();
        // A lost one would end in a timeout, because nobody wakes after the last.
        let mut seen = 0;
        while seen < 4000 {
            assert_eq!(adaptive.turn(0, NONE).unwrap(), Turn::Woken, "after {seen}");
            seen = asked.load(Ordering::Relaxed);
        }
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    }

    #[test]
    fn a_watched_descriptor_wakes_while_it_is_readable() {
        let mut adaptive = Adaptive::new(impatient()).unwrap();
        let event = EventFd::new().unwrap();
        adaptive.watch(event.as_fd()).unwrap();
        event.ring();
        for _ in 0..2 {
            assert_eq!(adaptive.turn(0, NONE).unwrap(), Turn::Woken);
        }
        event.clear();
        adaptive.config.max_sleep = Some(Duration::ZERO);
        assert_eq!(adaptive.turn(0, NONE).unwrap(), Turn::Timeout);
        event.ring();
        adaptive.unwatch(event.as_fd());
        assert_eq!(adaptive.turn(0, NONE).unwrap(), Turn::Timeout);
    }
}
