//! The page.

use std::fmt::Write as _;

use super::super::results::{Ratios, Report};
use super::super::stacks::Stack;
use super::super::table;
use super::plots::{Plot, title};
use super::svg::escape;

const STYLE: &str = "\
body{font:16px/1.5 Helvetica,Arial,sans-serif;max-width:820px;margin:2em auto;padding:0 1em;color:#222;background:#fff}\
h1{font-size:1.6em}h2{font-size:1.2em;margin-top:2em}\
table{border-collapse:collapse;margin:1em 0}th,td{padding:.25em .9em;text-align:right;border-bottom:1px solid #ddd}\
th:first-child,td:first-child,.on td,.on th{text-align:left}\
figure{margin:1.6em 0}img{max-width:100%;border:1px solid #ddd}figcaption{color:#555;font-size:.9em}\
pre{overflow-x:auto;font-size:.72em;line-height:1.35;background:#f6f6f6;padding:1em}code{background:#f6f6f6}";

/// How it is measured.
const METHOD: &str = "\
<p>Every driver runs on the same device model with the same rings, on the same core, in a process of \
its own. A timed region is one burst: everything the driver does to send or receive it, earlier completions \
and the refilling of the ring included. Packets are made and freed, and the device works, between the regions. \
A sample is as many bursts as make 256 packets, less what as many empty regions cost; a pass gives the median \
of its samples; passes of the drivers alternate, and what is shown is the median of the passes. Ratios \
are taken within each round, so that a busy machine hits both sides alike.</p>\
<p>The <b>C PMD</b> is DPDK's own, in a program that does nothing else. <b>Ours</b> is this driver, over \
rdma-core's libraries or over the kernel's own interface; the two differ in how queues are made, not in what a \
burst does. The <b>floor</b> does only what any driver must: read or write one metadata line, a WQE, a \
completion, move buffers from and to a cache in bulk, ring the doorbell between two fences; without a single check. It reads a completion in every burst it \
sends; a driver that leaves them until the ring fills can be below it where reading them is dear.</p>";

/// What the figures do not show.
const LIMITS: &str = "\
<ul>\
<li>There is no device: the doorbell is ordinary memory, not a write-combining register behind PCIe, and \
nothing is transferred. What hardware adds, it adds to every driver.</li>\
<li>The model runs on the same core between the bursts, so rings, completions and packets are in its caches, \
unless a figure says that completions were moved away. Only completions are moved; a driver that reads \
packets' bytes, or an application that does, pays for misses that are not here.</li>\
<li>One thread on one core. Nothing contends for rings, pools or caches; the application does nothing with \
its packets, so the driver has the first cache to itself.</li>\
<li>Cycles are those of the time-stamp counter, whose rate is not the core's. Below some ten cycles the \
placement of code alone moves a figure by a tenth. Instructions do not move.</li>\
<li>Counters of the processor (core cycles, misses) are shown where it has some and programs may read them; \
in virtual machines it mostly has none. They are taken in a pass of its own, as switching them is a system call \
on either side of every burst.</li>\
<li>Ours does <b>more</b> than C: it checks each completion's owner, queue, type and length against its own \
state and never trusts the device; it keeps an exact order of what was not sent; it counts bursts, empty \
polls, doorbells and errors; it rings the completion queue's doorbell once a lap, which C never does; it looks \
at a flag once a burst, so that a port can recover under its queues. C does two atomic exchanges a burst \
for that.</li>\
<li>Ours does <b>less</b> than C: a pool's key is found once a burst, not by a search for every segment, \
because pools are named when a port is configured (C registers memory when it first meets it); packets that \
are owned alone are recognised when they are sent, so that freeing them does not look at them again; \
what the device said of a received packet stays in one word, which is translated when somebody asks, \
while C writes flags and packet type for every packet. An application that asks for all of it pays then.</li>\
<li>Memory is what a start of the port adds to the resident memory of the process, divided by its \
queues. It is without packet buffers, but holds what libraries and the model allocate for queues.</li>\
</ul>";

/// The whole page.
pub fn page(report: &Report, plots: &[Plot], command: &str) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>mana bench</title>\
         <style>{STYLE}</style></head><body>\n<h1>What a packet costs: mana-pmd beside DPDK's driver for MANA</h1>\n"
    );
    let mut push = |text: &str| {
        page.push_str(text);
        page.push('\n');
    };
    push(&headline(report));
    push(&machine(report, command));
    for (index, plot) in plots.iter().enumerate() {
        if index == 2 {
            push("<h2>Away from the base point</h2>");
        }
        push(&format!(
            "<figure><img src=\"{0}.svg\" alt=\"{1}\"><figcaption>{1}</figcaption></figure>",
            plot.file,
            escape(&plot.caption)
        ));
    }
    push("<h2>How it is measured</h2>");
    push(METHOD);
    push("<h2>What it does not show</h2>");
    push(LIMITS);
    push("<h2>All figures</h2>");
    push(&format!("<pre>{}</pre>", escape(&table::text(report))));
    push("</body></html>");
    page
}

/// The ratios.
fn headline(report: &Report) -> String {
    let mut rows = String::new();
    for (direction, ratios) in &report.ratios {
        let Ratios {
            cycles_vs_c,
            instructions_vs_c,
            cycles_vs_floor,
        } = ratios;
        let part = |ratio: &Option<f64>| match ratio {
            Some(ratio) => format!("{ratio:.3} <small>({:.1} times less)</small>", 1.0 / ratio),
            None => "not measured".to_owned(),
        };
        let floor =
            cycles_vs_floor.map_or("not measured".to_owned(), |ratio| format!("{ratio:.2}"));
        // Writing to a String does not fail.
        let _always = write!(
            rows,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{floor}</td></tr>",
            title(*direction),
            part(cycles_vs_c),
            part(instructions_vs_c)
        );
    }
    format!(
        "<p>Ours, over the kernel's own interface, as a part of what the C PMD takes for the same packets \
         (bursts of 32, 60 bytes, rings of 256), and as a multiple of the floor:</p>\
         <table><tr><th></th><th>cycles of C's</th><th>instructions of C's</th><th>cycles of the floor's</th></tr>{rows}</table>"
    )
}

fn machine(report: &Report, command: &str) -> String {
    let machine = &report.machine;
    let mut text = format!(
        "<p>{}, time-stamp counter {:.0} MHz, Linux {}, core {}, {} pages, load {:.1} when it began; \
         mana-pmd {}, {} rounds, {:.0} seconds. Made by <code>{}</code>.</p>",
        escape(machine.processor.trim()),
        machine.tsc_mhz,
        escape(&machine.kernel),
        machine.core,
        machine.pages,
        machine.load,
        report.version,
        report.rounds,
        report.seconds,
        escape(command)
    );
    text.push_str(
        "<table class=\"on\"><tr><th></th><th>runs on</th><th>memory of a pair of queues</th></tr>",
    );
    for about in &report.stacks {
        let memory = about.kib_per_queue_pair;
        let memory = memory.map_or("".to_owned(), |kib| format!("{kib:.1} KiB"));
        let libraries = match about.stack {
            Stack::C => about.libraries.join(", "),
            _ => String::new(),
        };
        let _always = write!(
            text,
            "<tr><td>{}</td><td>{}{}{}</td><td>{memory}</td></tr>",
            about.stack.title(),
            escape(&about.provider),
            if libraries.is_empty() {
                ""
            } else {
                "; mapped: "
            },
            escape(&libraries)
        );
    }
    text.push_str("</table>");
    for skipped in &report.skipped {
        let _always = write!(
            text,
            "<p>Not measured: {}: {}</p>",
            escape(&skipped.what),
            escape(&skipped.reason)
        );
    }
    text
}
