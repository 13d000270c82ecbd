//! What is shown of a build while it runs: one bar for the whole of a stage, and of the long one how far each part is.

use crate::cli::progress::{Progress, Unit, duration, grouped};
use crate::cli::screen::Screen;
use crate::kb::build::{Flow, Stage};
use crate::kb::{BuildEvent, KbError};

/// Shows how far a build is.
pub(super) fn watched<T>(
    screen: &Screen,
    work: impl FnOnce(&mut dyn FnMut(BuildEvent)) -> Result<T, KbError>,
) -> Result<T, KbError> {
    let mut progress = Progress::new(screen, "embedding", Unit::Bytes);
    work(&mut |event| show_stage(&mut progress, event))
}

/// Shows one event of a build.
pub fn show_stage(progress: &mut Progress, event: BuildEvent) {
    match event {
        BuildEvent::Note(text) => progress.note(&text),
        BuildEvent::Progress { stage, done, total } => {
            let (label, unit) = match stage {
                Stage::Fetch => ("fetching its archive", Unit::Bytes),
                Stage::Copy => ("copying", Unit::Things("points")),
                Stage::Embed(_) => ("embedding", Unit::Bytes),
                Stage::Remove => ("removing", Unit::Things("points")),
                Stage::Index if total.is_some() => ("indexing", Unit::Things("vectors")),
                Stage::Index => ("indexing", Unit::Things("")),
                Stage::Verify => ("reading back", Unit::Things("points")),
                Stage::Hash => ("hashing", Unit::Bytes),
            };
            progress.rename(label, unit);
            match stage {
                Stage::Embed(flow) => progress.set_with(done, total, vec![counts(&flow), busy(&flow)]),
                _ => progress.set(done, total),
            }
        }
    }
}

/// How far each stage is.
fn counts(flow: &Flow) -> String {
    let Flow { read, embedded, stored, durable, .. } = *flow;
    let [read, embedded, stored, durable] = [read, embedded, stored, durable].map(grouped);
    let rate = flow.embedded_per_s();
    // A slow model is told by the tenth.
    let decimals = usize::from(rate < 10.0);
    format!("read {read} records, embedded {embedded} ({rate:.decimals$}/s), stored {stored} ({durable} durable)")
}

/// How much each stage has to do: the one near 100 % is what the others wait for.
fn busy(flow: &Flow) -> String {
    let shares = flow.busy().map(|(name, share)| format!("{name} {:.0} %", share * 100.0));
    format!("busy: {} of {}", shares.join(", "), duration(flow.elapsed.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::kb::build::Timings;

    #[test]
    fn each_stage_says_how_far_it_is_and_how_busy() {
        let seconds = Duration::from_secs;
        let timings = Timings {
            read: seconds(8),
            prepare: seconds(2),
            embed: seconds(388),
            store: seconds(20),
            ..Timings::default()
        };
        let (read, embedded, stored, durable) = (12_000, 11_400, 11_264, 11_008);
        let flow = Flow { read, embedded, embedded_before: 0, stored, durable, elapsed: seconds(400), timings };
        assert_eq!(counts(&flow), "read 12,000 records, embedded 11,400 (28/s), stored 11,264 (11,008 durable)");
        assert_eq!(busy(&flow), "busy: read 2 %, prepare 0 %, embed 97 %, store 5 %, index 0 % of 7 min");
        // Of a run that went on, the rate is its own.
        let resumed = Flow { embedded_before: 11_000, ..flow };
        assert_eq!(counts(&resumed), "read 12,000 records, embedded 11,400 (1.0/s), stored 11,264 (11,008 durable)");
    }
}
