//! Which faults the EHR shows, and how often: each by chance, until each was shown often enough by its own count.

use sandbox::{Fault, FaultPlan, Sandbox};

/// Faults that break the identifier by which everything is found: who meets them can only show a person what he has. They
/// have a play of their own.
pub const WITHOUT_IDENTIFIER: &[Fault] = &[Fault::EmptySearch, Fault::DropIdentifier, Fault::IdentifierRecased];
/// Once shown, Ponte asks that EHR otherwise, and what belongs to the old way is not seen again: in the play of the bare EHR
/// these always hold.
pub const BARE: &[Fault] = &[Fault::NoUpdateCreate, Fault::NoConditionalCreate, Fault::NoBatch];
/// The chance that a request meets some fault that ends it badly.
const BAD: f64 = 0.3;

/// The faults of a play.
pub struct Weather {
    pub wanted: Vec<Fault>,
    /// So often each.
    pub times: u64,
    /// More of them, as long as it lasts.
    pub rates: Vec<(Fault, f64)>,
}

impl Weather {
    /// Every fault under which the promise holds whole.
    pub fn everything(times: u64) -> Self {
        let not_here = [WITHOUT_IDENTIFIER, BARE].concat();
        let wanted = Fault::ALL.iter().copied().filter(|fault| !not_here.contains(fault)).collect();
        // Own ids are refused here and there, so that conditional creates are made too.
        Self { wanted, times, rates: vec![(Fault::NoUpdateCreate, 0.1)] }
    }

    /// What every EHR shows now and then.
    pub fn ordinary() -> Self {
        let rates = vec![
            (Fault::CutBeforeCommit, 0.03),
            (Fault::CutAfterCommit, 0.03),
            (Fault::LateCommit, 0.03),
            (Fault::HangAfterCommit, 0.01),
            (Fault::Status503Outcome, 0.01),
            (Fault::GatewayTimeout504, 0.02),
            (Fault::Html200, 0.01),
            (Fault::TruncatedJson, 0.02),
            (Fault::BatchEntryFails, 0.05),
            (Fault::BatchWrongCount, 0.05),
        ];
        Self { wanted: Vec::new(), times: 0, rates }
    }

    /// What was not yet shown often enough, and how often it was.
    fn missing(&self, sandbox: &Sandbox) -> Vec<(Fault, u64)> {
        let ledger = sandbox.ledger_since(u64::MAX);
        self.wanted.iter().map(|fault| (*fault, ledger.shown(*fault))).filter(|(_, shown)| *shown < self.times).collect()
    }

    /// The plan for the next while, with more of what is missing; what is.
    pub fn turn(&self, sandbox: &Sandbox) -> Vec<(Fault, u64)> {
        let missing = self.missing(sandbox);
        sandbox.set_faults(self.plan(&missing));
        missing
    }

    fn plan(&self, missing: &[(Fault, u64)]) -> FaultPlan {
        #[allow(clippy::cast_precision_loss, reason = "a few dozen")]
        let (each, seldom) = (BAD / missing.len().max(1) as f64, if missing.len() > 10 { 0.25 } else { 0.6 });
        let mut plan = FaultPlan::none();
        for (fault, rate) in &self.rates {
            plan = plan.rate(*fault, *rate);
        }
        for (fault, _) in missing.iter().copied() {
            plan = match fault {
                Fault::SearchLag | Fault::SearchCache | Fault::ConditionalCreateRace => plan.always(fault),
                fault if rare(fault) => plan.rate(fault, seldom),
                fault => plan.rate(fault, each.max(0.01)),
            };
        }
        plan
    }
}

/// It shows only where something else comes together.
fn rare(fault: Fault) -> bool {
    matches!(
        fault,
        Fault::BatchEntryFails
            | Fault::BatchWrongCount
            | Fault::BatchStatusWithoutDigits
            | Fault::EntriesWithoutResource
            | Fault::IgnoreIfNoneExist
            | Fault::DecimalsRounded
            | Fault::WrongPatientRow
            | Fault::DuplicatePageRows
            | Fault::RelativeNext
            | Fault::ForeignNext
            | Fault::PageLoop
            | Fault::RowsChangeWhilePaged
            | Fault::PartialSearch
            | Fault::IgnoreIdentifier
            | Fault::TotalLies
            | Fault::Subsetted
            | Fault::Redirect303
            | Fault::DeleteAs404
            | Fault::Precondition409
            | Fault::IfMatchIgnored
            | Fault::TooManyEntries413
            | Fault::LinksExpire
    )
}
