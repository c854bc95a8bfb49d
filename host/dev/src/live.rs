//! Running other programs while showing that something happens.
//!
//! Output goes to a log file, never through a pipe: a program that outlives its time limit can't block us, and the whole
//! text is there afterwards. What is shown meanwhile is the last line of that file.

use std::fs::{self, File};
use std::io::{IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::{Failure, Outcome};
use crate::place::Place;

/// How often a line is printed where there is no terminal to repaint.
const BEAT: Duration = Duration::from_secs(20);
/// How often a running program is looked at.
const TICK: Duration = Duration::from_millis(25);
/// How often the line on a terminal is repainted.
const REPAINT: Duration = Duration::from_millis(200);
/// How much of a failed program's output is printed; the rest is in its log.
const SHOWN_LINES: usize = 120;

/// The time a compiler or test run may take before it counts as hanging.
pub(crate) const LONG: Duration = Duration::from_secs(40 * 60);

/// The line of a running step: on a terminal repainted in place, elsewhere printed now and then.
pub(crate) struct Live {
    label: String,
    started: Instant,
    shown: Instant,
    terminal: bool,
}

impl Live {
    pub(crate) fn new(label: impl Into<String>) -> Self {
        let now = Instant::now();
        Self {
            label: label.into(),
            started: now,
            shown: now,
            terminal: std::io::stdout().is_terminal(),
        }
    }

    /// A line that stays.
    pub(crate) fn say(&mut self, text: &str) {
        self.clear();
        println!("{}: {text}", self.label);
    }

    /// How long this step runs, in words.
    pub(crate) fn elapsed(&self) -> String {
        duration(self.started.elapsed())
    }

    /// Takes a repainted line away.
    pub(crate) fn clear(&self) {
        if self.terminal {
            print!("\r\x1b[K");
            // A closed terminal is no reason to stop building.
            let _ = std::io::stdout().flush();
        }
    }

    /// Shows what is happening, now and then.
    pub(crate) fn beat(&mut self, activity: &str) {
        let pause = if self.terminal { REPAINT } else { BEAT };
        if self.shown.elapsed() < pause {
            return;
        }
        self.shown = Instant::now();
        let line: String = format!("{}  {}  {activity}", self.label, self.elapsed())
            .chars()
            .take(78)
            .collect();
        if self.terminal {
            print!("\r\x1b[K{line}");
            let _ = std::io::stdout().flush();
        } else {
            println!("{line}");
        }
    }

    /// Runs `command` to its end and returns everything it printed.
    ///
    /// # Errors
    /// It could not start, ended with a failure (its last output is in the text), or took longer than `limit` (it is killed).
    pub(crate) fn run(&mut self, place: &Place, what: &str, command: &mut Command, limit: Duration) -> Outcome<String> {
        let log = place
            .scratch("log")?
            .join(format!("{}.log", what.replace([' ', '/'], "-")));
        let (status, text) = self.finish(what, command, &log, limit)?;
        if status.success() {
            return Ok(text);
        }
        Err(Failure::new(format!(
            "{what} failed ({status}); all of it is in {}\n\n{}",
            log.display(),
            tail(&text)
        )))
    }

    /// As [`Self::run`], for programs whose output says more than their status.
    pub(crate) fn run_any(
        &mut self,
        place: &Place,
        what: &str,
        command: &mut Command,
        limit: Duration,
    ) -> Outcome<(bool, String)> {
        let log = place
            .scratch("log")?
            .join(format!("{}.log", what.replace([' ', '/'], "-")));
        self.finish(what, command, &log, limit)
            .map(|(status, text)| (status.success(), text))
    }

    fn finish(
        &mut self,
        what: &str,
        command: &mut Command,
        log: &Path,
        limit: Duration,
    ) -> Outcome<(ExitStatus, String)> {
        let output = File::create(log).map_err(|error| Failure::at(log, &error))?;
        let errors = output.try_clone().map_err(|error| Failure::at(log, &error))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(|error| {
                Failure::new(format!(
                    "{what}: {} could not start: {error}",
                    command.get_program().display()
                ))
            })?;
        let status = self.wait(what, child, log, limit)?;
        self.clear();
        let text = fs::read(log).map_err(|error| Failure::at(log, &error))?;
        Ok((status, readable(&String::from_utf8_lossy(&text))))
    }

    fn wait(&mut self, what: &str, mut child: Child, log: &Path, limit: Duration) -> Outcome<ExitStatus> {
        let started = Instant::now();
        loop {
            let ended = child
                .try_wait()
                .map_err(|error| Failure::new(format!("{what}: {error}")))?;
            if let Some(status) = ended {
                return Ok(status);
            }
            if started.elapsed() > limit {
                // Both fail only when it ended by itself just now.
                let _ = child.kill();
                let _ = child.wait();
                self.clear();
                return Err(Failure::new(format!(
                    "{what} was stopped: not done after {}",
                    duration(limit)
                )));
            }
            self.beat(&activity(log));
            thread::sleep(TICK);
        }
    }
}

/// The last thing a log says, with cargo's progress bar shortened to `213/412: names`.
fn activity(log: &Path) -> String {
    let text = last_bytes(log).unwrap_or_default();
    let line = text
        .rsplit(['\r', '\n'])
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or("starting");
    match line.split_once("] ") {
        Some((bar, rest)) if bar.starts_with("Building [") => rest.to_owned(),
        _ => line.to_owned(),
    }
}

fn last_bytes(log: &Path) -> std::io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(4096)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What a terminal would show in the end: of each line only what follows its last carriage return.
fn readable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for line in text.lines() {
        let last = line.rsplit('\r').find(|part| !part.is_empty()).unwrap_or_default();
        let last = last.trim_start_matches("\u{1b}[K");
        if !last.trim_start().starts_with("Building [") {
            shown.push_str(last);
            shown.push('\n');
        }
    }
    shown
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(SHOWN_LINES);
    lines.get(from..).unwrap_or_default().join("\n")
}

/// `0.8 s` below a minute, `4 m 02 s` above.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 {
        return format!("{:.1} s", time.as_secs_f64());
    }
    format!("{} m {:02} s", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_bars_leave_no_trace() {
        let text = "   Compiling a v1\n\r    Building [==>  ] 1/2: b\r\u{1b}[K   Compiling b v1\nend\n";
        assert_eq!(readable(text), "   Compiling a v1\n   Compiling b v1\nend\n");
    }

    #[test]
    fn what_hangs_is_stopped() {
        let place = Place::find().unwrap();
        let started = Instant::now();
        let sleep = &mut Command::new("sleep");
        let failure = Live::new("test").run(&place, "a long sleep", sleep.arg("60"), Duration::from_millis(100));
        assert!(failure.unwrap_err().to_string().contains("was stopped"));
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_failure_shows_what_was_printed() {
        let place = Place::find().unwrap();
        let shell = &mut Command::new("sh");
        let failure = Live::new("test").run(&place, "a failing shell", shell.args(["-c", "echo seen; exit 3"]), LONG);
        assert!(failure.unwrap_err().to_string().contains("seen"));
    }

    #[test]
    fn long_times_are_minutes() {
        assert_eq!(duration(Duration::from_millis(840)), "0.8 s");
        assert_eq!(duration(Duration::from_secs(242)), "4 m 02 s");
    }
}
