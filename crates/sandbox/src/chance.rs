//! Which faults a request meets: the profile's and the switched-on ones, those drawn by chance, and those that a script has for it.

use http::Method;
use rand::Rng;

use crate::call::Interaction;
use crate::fault::{Concerns, Fault, FaultSet, Stage};
use crate::twin::Twin;

/// The faults of one request.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Met {
    pub(crate) manners: FaultSet,
    /// The one that ends it.
    pub(crate) ending: Option<Fault>,
}

/// A request as far as its head tells.
pub(crate) struct Head<'a> {
    pub(crate) method: &'a Method,
    /// The whole path, `/fhir` included.
    pub(crate) path: &'a str,
    pub(crate) interaction: Interaction,
}

impl Twin {
    /// Draws for a FHIR request. Each rate takes one number from the seed, whether it hits or not.
    pub(crate) fn draw(&mut self, head: &Head<'_>) -> Met {
        let mut met = Met::default();
        let mut endings = Vec::new();
        let mut meet = |fault: Fault, manners: &mut FaultSet| match fault.stage() {
            Stage::Manner => manners.insert(fault),
            Stage::Ending => endings.push(fault),
        };
        for fault in self.quirks.always.iter().chain(&self.plan.on).copied() {
            let concerned = fault.stage() == Stage::Manner || concerns(fault, head.interaction);
            if concerned && !self.plan.off.contains(&fault) {
                meet(fault, &mut met.manners);
            }
        }
        for (fault, rate) in &self.plan.rates {
            if *rate > 0.0 && concerns(*fault, head.interaction) && self.chance.random::<f64>() < *rate && !self.plan.off.contains(fault) {
                meet(*fault, &mut met.manners);
            }
        }
        met.ending = match endings.as_slice() {
            [] => None,
            [one] => Some(*one),
            several => Some(several[self.chance.random_range(0..several.len())]),
        };
        self.spend(head, None, &mut met);
        met
    }

    /// Spends the scripts that this request matches: first those that need only the head, later those that look at the content.
    pub(crate) fn spend(&mut self, head: &Head<'_>, content: Option<&[&str]>, met: &mut Met) {
        for script in &mut self.plan.scripts {
            let turn = script.needs_content() == content.is_some();
            if !turn
                || !script.matches(head.method.as_str(), head.path, content.unwrap_or_default())
                || !concerns(script.fault, head.interaction)
            {
                continue;
            }
            match script.fault.stage() {
                Stage::Manner => met.manners.insert(script.fault),
                // One ending per request: a second script waits for the next.
                Stage::Ending if met.ending.is_some_and(|ending| ending != script.fault) && scripted(met) => continue,
                Stage::Ending => {
                    met.ending = Some(script.fault);
                    met.manners.insert(script.fault);
                }
            }
            script.next -= 1;
        }
        self.plan.scripts.retain(|script| script.next > 0);
    }
}

fn scripted(met: &Met) -> bool {
    met.ending.is_some_and(|ending| met.manners.has(ending))
}

fn concerns(fault: Fault, interaction: Interaction) -> bool {
    use Interaction as I;
    match fault.concerns() {
        Concerns::Any => true,
        Concerns::Writes => interaction.writes(),
        Concerns::Single => matches!(interaction, I::Create | I::Update),
        Concerns::Creates => interaction == I::Create,
        Concerns::Deletes => matches!(interaction, I::Delete | I::Read),
        Concerns::Bundles => interaction == I::Bundle,
        Concerns::Searches => interaction == I::Search,
        Concerns::Resources => interaction != I::Other,
    }
}
