//! Which faults are to show: always, by chance, or the next N matching requests.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::fault::{Fault, UnknownFault};

/// The faults of a sandbox beyond its profile's. In JSON:
///
/// ```json
/// {"on": ["search_lag"], "off": [], "rates": {"hang": 0.01},
///  "scripts": [{"fault": "cut_after_commit", "next": 2, "method": "POST", "path": "/fhir/Observation", "identifier": "0190"}]}
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct FaultPlan {
    /// Always shown, wherever they apply.
    pub on: BTreeSet<Fault>,
    /// Never shown, not even if the profile has them.
    pub off: BTreeSet<Fault>,
    /// Chance per request to which the fault applies, 0 to 1.
    pub rates: BTreeMap<Fault, f64>,
    /// In order; the first that matches a request and concerns it is spent on it.
    pub scripts: Vec<Script>,
}

/// A fault for the next matching requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Script {
    /// What to show.
    pub fault: Fault,
    /// How many more requests.
    #[serde(default = "one")]
    pub next: u32,
    /// Only this HTTP method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Only paths that begin so (`/fhir/Observation`, `/oauth/token`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Only requests in whose URL, condition or body this text stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identifier: Option<String>,
}

fn one() -> u32 {
    1
}

impl FaultPlan {
    /// No fault.
    pub fn none() -> FaultPlan {
        FaultPlan::default()
    }

    /// With this fault always on.
    pub fn always(mut self, fault: Fault) -> FaultPlan {
        self.on.insert(fault);
        self
    }

    /// With this fault never shown.
    pub fn never(mut self, fault: Fault) -> FaultPlan {
        self.off.insert(fault);
        self
    }

    /// With this chance per request.
    pub fn rate(mut self, fault: Fault, chance: f64) -> FaultPlan {
        self.rates.insert(fault, chance);
        self
    }

    /// With this fault for the next `next` requests that it concerns.
    pub fn next(self, fault: Fault, next: u32) -> FaultPlan {
        self.script(Script { fault, next, method: None, path: None, identifier: None })
    }

    /// With this script at the end.
    pub fn script(mut self, script: Script) -> FaultPlan {
        self.scripts.push(script);
        self
    }

    /// Adds another plan to this one: its switches and rates win, its scripts come after.
    pub fn add(&mut self, other: FaultPlan) {
        for fault in &other.on {
            self.off.remove(fault);
        }
        for fault in &other.off {
            self.on.remove(fault);
        }
        self.on.extend(other.on);
        self.off.extend(other.off);
        self.rates.extend(other.rates);
        self.scripts.extend(other.scripts);
    }
}

/// Faults as flags: `search_lag` (always), `hang=0.01` (chance), `cut_after_commit*2` (the next two), `-search_cache` (never, though the
/// profile has it); several with commas between.
impl FromStr for FaultPlan {
    type Err = BadFlag;

    fn from_str(text: &str) -> Result<FaultPlan, BadFlag> {
        let mut plan = FaultPlan::none();
        for flag in text.split(',').map(str::trim).filter(|flag| !flag.is_empty()) {
            let bad = || BadFlag::Number(flag.to_owned());
            if let Some(name) = flag.strip_prefix('-') {
                plan = plan.never(name.parse()?);
            } else if let Some((name, chance)) = flag.split_once('=') {
                let chance: f64 = chance.parse().map_err(|_| bad())?;
                if !(0.0..=1.0).contains(&chance) {
                    return Err(bad());
                }
                plan = plan.rate(name.parse()?, chance);
            } else if let Some((name, next)) = flag.split_once('*') {
                plan = plan.next(name.parse()?, next.parse().map_err(|_| bad())?);
            } else {
                plan = plan.always(flag.parse()?);
            }
        }
        Ok(plan)
    }
}

/// A flag that names no fault or no number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadFlag {
    /// No fault has this name.
    #[error(transparent)]
    Fault(#[from] UnknownFault),
    /// The number is missing or out of range.
    #[error("`{0}` is no fault flag; write NAME, NAME=CHANCE with a chance from 0 to 1, NAME*COUNT, or -NAME")]
    Number(String),
}

impl Script {
    /// Whether the script asks for something that only the body can tell.
    pub(crate) fn needs_content(&self) -> bool {
        self.identifier.is_some()
    }

    pub(crate) fn matches(&self, method: &str, path: &str, content: &[&str]) -> bool {
        self.next > 0
            && self.method.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(method))
            && self.path.as_deref().is_none_or(|wanted| path.starts_with(wanted))
            && self.identifier.as_deref().is_none_or(|wanted| content.iter().any(|text| text.contains(wanted)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_say_always_by_chance_next_and_never() {
        let plan: FaultPlan = "search_lag, hang=0.01,cut-after-commit*2,-search_cache".parse().unwrap();
        let expected =
            FaultPlan::none().always(Fault::SearchLag).rate(Fault::Hang, 0.01).next(Fault::CutAfterCommit, 2).never(Fault::SearchCache);
        assert_eq!(plan, expected);
        for bad in ["no_such", "hang=2", "hang=x", "hang*x"] {
            assert!(bad.parse::<FaultPlan>().is_err(), "{bad}");
        }
    }

    #[test]
    fn adding_a_plan_turns_its_faults_on_or_off() {
        let mut plan = FaultPlan::none().always(Fault::Hang).never(Fault::SearchLag);
        plan.add(FaultPlan::none().always(Fault::SearchLag).never(Fault::Hang));
        assert_eq!(plan, FaultPlan::none().always(Fault::SearchLag).never(Fault::Hang));
    }
}
