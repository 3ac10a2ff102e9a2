//! Lines from a terminal, with history and completion, or from a pipe, as dpdk-testpmd reads them:
//! there the prompt is printed all the same, and each line after it.

use std::io::{self, BufRead, IsTerminal, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use rustyline::{Config, Editor};

use super::PROMPT;
use super::complete::Words;
use crate::testpmd::error::Error;
use crate::testpmd::run::say;

/// Bytes of a line at most: what is longer goes on in the next one.
const LINE: u64 = 4096;
/// Commands that are remembered.
const HISTORY: usize = 128;

/// What was typed.
pub enum Typed {
    /// A line without its end.
    Line(String),
    /// There is no more.
    End,
    /// Standard input can't be read.
    Failed(String),
}

/// A thread that reads a line whenever one is asked for. It ends with the program.
pub struct Input {
    ask: SyncSender<()>,
    typed: Receiver<Typed>,
    /// Whether prompt and lines must be printed.
    piped: bool,
    /// How the terminal was before.
    terminal: Option<Termios>,
}

impl Input {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// If there can be none.
    pub fn start() -> Result<Input, Error> {
        let piped = !(io::stdin().is_terminal() && io::stdout().is_terminal());
        let terminal = (!piped).then(|| tcgetattr(io::stdin()).ok()).flatten();
        let (ask, asked) = sync_channel(1);
        let (tell, typed) = sync_channel(1);
        let read = move || match piped {
            true => read_pipe(&asked, &tell),
            false => read_terminal(&asked, &tell),
        };
        let thread = thread::Builder::new().name("prompt".to_owned());
        thread.spawn(read).map_err(Error::Thread)?;
        Ok(Input {
            ask,
            typed,
            piped,
            terminal,
        })
    }

    /// Prompts for a line.
    ///
    /// # Errors
    ///
    /// If the prompt can't be printed.
    pub fn ask(&self) -> Result<(), Error> {
        if self.piped {
            say(PROMPT)?;
        }
        // A reader that is gone has said why.
        let _ = self.ask.send(());
        Ok(())
    }

    /// What was typed, if it was within `time`.
    pub fn wait(&self, time: Duration) -> Option<Typed> {
        let typed = match self.typed.recv_timeout(time) {
            Ok(typed) => typed,
            Err(RecvTimeoutError::Timeout) => return None,
            Err(RecvTimeoutError::Disconnected) => Typed::End,
        };
        if let (true, Typed::Line(line)) = (self.piped, &typed)
            && let Err(error) = say(&format!("{line}\r\n"))
        {
            return Some(Typed::Failed(error.to_string()));
        }
        Some(typed)
    }
}

impl Drop for Input {
    /// The thread may still read, with the terminal in raw mode.
    fn drop(&mut self) {
        if let Some(terminal) = &self.terminal {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, terminal);
        }
    }
}

fn read_pipe(asked: &Receiver<()>, tell: &SyncSender<Typed>) {
    let mut stdin = io::stdin().lock();
    while asked.recv().is_ok() {
        let mut bytes = Vec::new();
        let read = stdin.by_ref().take(LINE).read_until(b'\n', &mut bytes);
        let typed = match read {
            Ok(0) => Typed::End,
            Ok(_) => {
                let text = String::from_utf8_lossy(&bytes);
                Typed::Line(text.trim_end_matches(['\r', '\n']).to_owned())
            }
            Err(error) => Typed::Failed(error.to_string()),
        };
        if tell.send(typed).is_err() {
            return;
        }
    }
}

fn read_terminal(asked: &Receiver<()>, tell: &SyncSender<Typed>) {
    let mut editor = match editor() {
        Ok(editor) => editor,
        Err(error) => {
            let _ = tell.send(Typed::Failed(error.to_string()));
            return;
        }
    };
    while asked.recv().is_ok() {
        let typed = loop {
            match editor.readline(PROMPT) {
                Ok(line) => {
                    let _ = editor.add_history_entry(&line);
                    break Typed::Line(line);
                }
                // Ctrl-C leaves the line and prompts anew, as dpdk-testpmd's line editor does.
                Err(ReadlineError::Interrupted) => {}
                Err(ReadlineError::Eof) => break Typed::End,
                Err(error) => break Typed::Failed(error.to_string()),
            }
        };
        if tell.send(typed).is_err() {
            return;
        }
    }
}

fn editor() -> rustyline::Result<Editor<Words, MemHistory>> {
    // What a script that types into a pseudo-terminal reads back stays free of modes it never asked
    // for.
    let config = Config::builder()
        .max_history_size(HISTORY)?
        .bracketed_paste(false)
        .build();
    let history = MemHistory::with_config(&config);
    let mut editor = Editor::with_history(config, history)?;
    editor.set_helper(Some(Words));
    Ok(editor)
}
