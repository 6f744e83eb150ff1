//! What the database knows about the work as a whole, asked from time to time.

use super::{Engine, EngineError};
use crate::domain::TickKind;
use crate::telemetry::Survey;

impl Engine {
    /// Asks the database how much waits, and since when the ticks have done nothing. A few statements, whatever is stored.
    pub async fn survey(&self) -> Result<Survey, EngineError> {
        let (reader, now) = (self.store.surveyor(), self.clock.now());
        let backlog = reader.backlog(now).await?;
        let mut survey = Survey {
            backlog: backlog.due,
            oldest_due: backlog
                .oldest
                .map(|at| now - at)
                .unwrap_or_default()
                .to_std()
                .unwrap_or_default(),
            holds: reader.count_holds(now).await?,
            ..Survey::default()
        };
        for kind in [TickKind::Process, TickKind::Advance] {
            let last = reader.last_whole_tick(kind).await?;
            survey.last_ticks.extend(last.map(|at| (kind, at)));
        }
        let circuits = reader.circuits().await?;
        let open = circuits.iter().filter(|circuit| !circuit.is_closed());
        survey.open_circuits = open.map(|circuit| circuit.channel).collect();
        Ok(survey)
    }
}
