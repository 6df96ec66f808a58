//! What is told, for people.

use std::fmt;

use super::report::{AffinityChange, BackendChange, Conflict, FrontendChange, Moved, Preview};

impl fmt::Display for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            frontends,
            backends,
            affinity,
            conflicts,
            warnings,
            moved,
            unknown,
            writes,
        } = self;
        if *writes == 0 {
            writeln!(f, "nothing changes on this node")?;
        }
        for change in frontends {
            let FrontendChange { frontend, kind, .. } = change;
            let before = change.before.as_deref().unwrap_or_default();
            let after = change.after.as_deref().unwrap_or_default();
            let guard = if change.guarded {
                ", open to its source ranges alone"
            } else {
                ""
            };
            match change.change {
                "moved" => writeln!(
                    f,
                    "frontend moved    {frontend} ({kind}): from {before} to {after}{guard}"
                )?,
                "removed" => writeln!(f, "frontend removed  {frontend} ({kind}): of {before}")?,
                change => writeln!(f, "frontend {change:<8} {frontend} ({kind}): of {after}{guard}")?,
            }
        }
        for BackendChange {
            service,
            list,
            added,
            removed,
        } in backends
        {
            write!(f, "backends          {service}, {list} list:")?;
            added.iter().try_for_each(|backend| write!(f, " +{backend}"))?;
            removed.iter().try_for_each(|backend| write!(f, " -{backend}"))?;
            writeln!(f)?;
        }
        for Moved { of, list, percent } in moved {
            writeln!(
                f,
                "flows that move   {percent} % of the new ones to {of}, {list} list"
            )?;
        }
        for AffinityChange {
            service,
            before,
            after,
        } in affinity
        {
            writeln!(f, "affinity          {service}: {before} s now, {after} s then")?;
        }
        for Conflict {
            frontend,
            winner,
            losers,
        } in conflicts
        {
            let losers = losers.join(", ");
            writeln!(
                f,
                "conflict          {frontend}: {winner} has it, as the oldest; {losers} without"
            )?;
        }
        for warning in warnings {
            writeln!(f, "warning           {warning}")?;
        }
        for unknown in unknown {
            writeln!(f, "not known         {unknown}")?;
        }
        if *writes != 0 {
            writeln!(f, "writes to maps    {writes}")?;
        }
        Ok(())
    }
}
