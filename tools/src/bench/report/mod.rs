//! The report as a page with plots, in a folder: `index.html`, an SVG file a plot, and
//! `report.json`.

mod page;
mod plots;
mod svg;

use std::fs;
use std::path::Path;

use super::error::Error;
use super::results::Report;

/// Writes it into `folder`, which is made where there is none. `command` is what was run.
pub fn write(report: &Report, folder: &Path, command: &str) -> Result<(), Error> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        |cause| Error::Report { path, cause }
    };
    fs::create_dir_all(folder).map_err(failed(folder))?;
    let plots = plots::plots(report);
    let save = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).map_err(failed(&path))
    };
    for plot in &plots {
        save(&format!("{}.svg", plot.file), &plot.svg)?;
    }
    save("index.html", &page::page(report, &plots, command))?;
    let json = serde_json::to_string(report).map_err(std::io::Error::from)?;
    save("report.json", &(json + "\n"))
}
