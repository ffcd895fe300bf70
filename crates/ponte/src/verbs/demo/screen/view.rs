//! The live view of a terminal: counters, a curve, what the EHR holds, the last events.

use super::Totals;
use crate::talk;
use crate::verbs::status::length;
use ratatui::backend::CrosstermBackend;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph, Sparkline};
use ratatui::{Frame, Terminal, TerminalOptions, Viewport};
use sandbox::Ledger;
use std::io::Stdout;

/// Rows that the view takes beneath what was printed before, so that the token and the commands stay where they can be copied.
const HEIGHT: u16 = 18;

/// An open view.
pub struct View {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    colour: bool,
}

impl View {
    /// Opens it; `None` where the terminal will not do.
    pub fn open() -> Option<Self> {
        let options = TerminalOptions { viewport: Viewport::Inline(HEIGHT) };
        let terminal = Terminal::with_options(CrosstermBackend::new(std::io::stdout()), options).ok()?;
        Some(Self { terminal, colour: talk::colour(talk::data_is_seen()) })
    }

    /// Draws a frame.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn draw(&mut self, totals: &Totals, ehr: &Ledger) -> std::io::Result<()> {
        let colour = self.colour;
        self.terminal.draw(|frame| draw(frame, totals, ehr, colour)).map(drop)
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let _ = self.terminal.show_cursor();
    }
}

fn draw(frame: &mut Frame<'_>, totals: &Totals, ehr: &Ledger, colour: bool) {
    let paint = |color: Color| if colour { Style::new().fg(color) } else { Style::new() };
    let [counters, curve, hospital, events] =
        Layout::vertical([Constraint::Length(3), Constraint::Length(3), Constraint::Length(2), Constraint::Min(3)]).areas(frame.area());

    let count = |word: &'static str, many: u64, style: Style| {
        [Span::raw(format!(" {word} ")), Span::styled(many.to_string(), style.add_modifier(Modifier::BOLD)), Span::raw("  ")]
    };
    let line: Vec<Span<'_>> = [
        count("created", totals.created, Style::new()),
        count("sent", totals.sent, Style::new()),
        count("retried", totals.retried, paint(Color::Yellow)),
        count("uncertain", totals.uncertain, paint(Color::Yellow)),
        count("delivered", totals.delivered, paint(Color::Green)),
        count("dead", totals.dead, paint(if totals.dead > 0 { Color::Red } else { Color::Reset })),
        count("pulled", totals.pulled_created + totals.pulled_updated, paint(Color::Cyan)),
    ]
    .into_iter()
    .flatten()
    .collect();
    frame.render_widget(Paragraph::new(Line::from(line)).block(Block::new().borders(Borders::ALL).title(" the ledger ")), counters);

    let rates: Vec<u64> = totals.per_second.iter().copied().collect();
    let title = format!(" delivered each second; the longest way took {} ", length(totals.slowest_ms));
    frame.render_widget(
        Sparkline::default().data(rates).style(paint(Color::Green)).block(Block::new().borders(Borders::TOP).title(title)),
        curve,
    );

    let held = ehr.resources.iter().filter(|held| held.resource_type == "Observation" && !held.deleted);
    let (ours, own): (Vec<_>, Vec<_>) = held.partition(|held| {
        held.sent_identifiers
            .iter()
            .chain(&held.identifiers)
            .any(|id| id.system.as_deref().is_some_and(|system| system.starts_with("urn:ponte:")))
    });
    let doubled = ehr.doubled().len();
    let mut faults: Vec<(&String, &u64)> = ehr.faults.iter().collect();
    faults.sort_by(|a, b| b.1.cmp(a.1));
    let shown: Vec<String> = faults.iter().take(5).map(|(name, many)| format!("{name} {many}")).collect();
    let text = vec![
        Line::from(vec![
            Span::raw(format!(" the EHR holds {} observations of ours and {} of its own; doubled: ", ours.len(), own.len())),
            Span::styled(doubled.to_string(), paint(if doubled == 0 { Color::Green } else { Color::Red }).add_modifier(Modifier::BOLD)),
        ]),
        Line::raw(format!(" its faults so far: {}", if shown.is_empty() { "none".to_owned() } else { shown.join(", ") })),
    ];
    frame.render_widget(Paragraph::new(text), hospital);

    let lines: Vec<Line<'_>> = totals.last.iter().map(|line| Line::raw(format!(" {line}"))).collect();
    frame.render_widget(Paragraph::new(lines).block(Block::new().borders(Borders::TOP).title(" just now (Ctrl-C ends the demo) ")), events);
}
