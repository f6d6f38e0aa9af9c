//! The results as a drawing: percentiles of latencies, and throughput by what was varied.
//!
//! A panel for each: latencies over an axis of nines, on which each step is a tenth of what is left to 100 %,
//! so that the tail is as wide as the middle; throughput over powers of two. Both scales of a panel are
//! logarithmic.

mod curves;
mod panel;

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use plotters::prelude::{IntoDrawingArea, SVGBackend, WHITE};
use plotters::style::{FontFamily, FontStyle, IntoTextStyle, TextStyle};
use tempfile::NamedTempFile;

use self::panel::Panel;
use super::report::Report;
use super::rounds::Outcome;
use super::sets::Stretch;
use super::tables;
use crate::exit::{Code, Failure};

const WIDTH: u32 = 1_000;
const TITLE: u32 = 84;
const PANEL: u32 = 480;

/// Where the drawing will be: a file beside it, until it is whole.
#[derive(Debug)]
pub(super) struct Canvas {
    path: PathBuf,
    file: NamedTempFile,
}

impl Canvas {
    /// Finds out whether there can be such a file.
    pub(super) fn open(path: &Path) -> Result<Canvas, Failure> {
        let failed = |e: std::io::Error| Failure::io(&format!("making {}", path.display()), &e);
        if path.is_dir() || path.file_name().is_none() {
            let message = format!("{} is a directory: --plot takes the name of a file", path.display());
            return Err(Failure::new(Code::Usage, message));
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let file = NamedTempFile::new_in(parent.unwrap_or(Path::new("."))).map_err(failed)?;
        // What the file may replace must be one that can be written to.
        match fs::File::options().append(true).open(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
        Ok(Canvas { path: path.to_owned(), file })
    }

    pub(super) fn draw(
        mut self,
        report: &Report,
        outcomes: &[Outcome],
        axes: &[Stretch],
    ) -> Result<(), Failure> {
        let panels = curves::panels(report, outcomes, axes);
        let svg = svg(&tables::title(report), &panels).map_err(|error| {
            Failure::new(Code::Failed, format!("drawing {}: {error}", self.path.display()))
        })?;
        let failed = |e: &std::io::Error| Failure::io(&format!("writing {}", self.path.display()), e);
        self.file.write_all(svg.as_bytes()).map_err(|e| failed(&e))?;
        // As any file that a user makes, not as a temporary one.
        fs::set_permissions(self.file.path(), Permissions::from_mode(0o644)).map_err(|e| failed(&e))?;
        self.file.persist(&self.path).map_err(|e| failed(&e.error))?;
        Ok(())
    }
}

/// Text of this size.
fn text(size: u32) -> TextStyle<'static> {
    (FontFamily::SansSerif, size).into_text_style(&(WIDTH, TITLE))
}

fn bold(size: u32) -> TextStyle<'static> {
    (FontFamily::SansSerif, size, FontStyle::Bold).into_text_style(&(WIDTH, TITLE))
}

fn svg(title: &[String; 2], panels: &[Panel]) -> Result<String, Box<dyn std::error::Error>> {
    let height = TITLE + PANEL * panels.len() as u32;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        root.fill(&WHITE).map_err(|e| e.to_string())?;
        root.draw_text("ringway bench", &bold(20), (24, 12)).map_err(|e| e.to_string())?;
        for (line, y) in title.iter().zip([40, 60]) {
            root.draw_text(line, &text(14), (24, y)).map_err(|e| e.to_string())?;
        }
        let (_, rest) = root.split_vertically(TITLE);
        for (panel, area) in panels.iter().zip(rest.split_evenly((panels.len(), 1))) {
            panel.draw(&area)?;
        }
        root.present().map_err(|e| e.to_string())?;
    }
    Ok(svg)
}
