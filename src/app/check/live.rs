//! `check --live`: buys one small picture a model, and proves the whole chain with it.

use super::report::{Report, Row, Section, Verdict};
use crate::config::Config;
use crate::lifecycle::StopSignals;

mod after;
mod observed;
mod picture;
mod plan;
mod purchase;
mod rows;
mod shape;

pub(in crate::app::check) use plan::Plan;

/// Makes the planned purchases one after the other, and adds a section for each.
///
/// # Errors
///
/// When the process cannot listen for signals.
pub(super) async fn check(config: &Config, plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    // From now on Ctrl-C ends the check, and the journal keeps what was bought.
    let mut signals = StopSignals::listen()?;
    let mut sections = Vec::new();
    for (number, planned) in (0_u8..).zip(&plan.purchases) {
        eprintln!("{}", planned.title());
        let made = purchase::make(config, planned, number, &mut signals).await;
        let section = made.unwrap_or_else(|error| {
            let mut section = Section::new(planned.title());
            section.add(Row::new(Verdict::Fault, "purchase", format!("nothing was bought: {error:#}"), ""));
            section
        });
        let stop = section.worst() == Verdict::Unresolved;
        sections.push((planned.method.is_some(), section));
        if stop {
            // Before more is bought, a person looks at it.
            break;
        }
    }
    forgive_refused_methods(&mut sections);
    for (_, section) in sections {
        report.add(section);
    }
    Ok(())
}

/// Turns the faults of single input methods into warnings where another one works: one is enough to serve.
fn forgive_refused_methods(sections: &mut [(bool, Section)]) {
    let works = sections.iter().any(|(single, section)| *single && section.worst() < Verdict::Fault);
    let single = sections.iter_mut().filter(|(single, _)| *single && works);
    for row in single.flat_map(|(_, section)| section.rows.iter_mut()) {
        if row.verdict == Verdict::Fault {
            row.verdict = Verdict::Warning;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(verdict: Verdict) -> Section {
        let mut section = Section::new("gpt-image-2");
        section.add(Row::new(verdict, "purchase", "", ""));
        section
    }

    #[test]
    fn one_input_method_that_works_is_enough() {
        let mut sections = [(true, section(Verdict::Fault)), (true, section(Verdict::Good))];
        forgive_refused_methods(&mut sections);
        assert_eq!(sections[0].1.worst(), Verdict::Warning);
        let mut sections = [(true, section(Verdict::Fault)), (true, section(Verdict::Unresolved))];
        forgive_refused_methods(&mut sections);
        assert_eq!(sections[0].1.worst(), Verdict::Fault);
        let mut sections = [(false, section(Verdict::Fault)), (true, section(Verdict::Good))];
        forgive_refused_methods(&mut sections);
        assert_eq!(sections[0].1.worst(), Verdict::Fault, "an ordinary purchase is not one of the methods");
    }
}
