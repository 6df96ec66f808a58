//! Random histories: what readers see between any two operations, what leaks, and what a crash leaves behind.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::kernel::{Kernel, Meaning};
use super::world::{Step, World, any_steps, desired_of};
use super::{AMPLE, Bench};
use crate::name::ObjectName;
use crate::plan::{Audit, Capacity, Difference, Frontend, Operation, Planner, ServicePort, Snapshot};

/// Meanings that a set of Services should have, by frontend.
fn meanings(desired: &BTreeMap<ObjectName, Vec<ServicePort>>) -> BTreeMap<Frontend, Meaning> {
    desired.values().flatten().flat_map(Meaning::of_port).collect()
}

/// What an audit finds.
fn differences(desired: &BTreeMap<ObjectName, Vec<ServicePort>>, snapshot: &Snapshot) -> Vec<Difference> {
    let mut audit = Audit::of(snapshot);
    desired.values().flatten().for_each(|port| audit.check(port));
    audit.check_vips();
    audit.finish()
}

/// What the frontends of the old service ports mean once those ports have their new lists, though the frontends
/// may be about to move or to go.
fn passing_meanings(
    old: &BTreeMap<ObjectName, Vec<ServicePort>>,
    new: &BTreeMap<ObjectName, Vec<ServicePort>>,
) -> BTreeMap<Frontend, Meaning> {
    let same = |port: &&ServicePort| {
        let mut ports = new.get(&port.key.service).into_iter().flatten();
        ports
            .find(|other| other.key == port.key && other.uid == port.uid)
            .cloned()
    };
    let passing = |port: &ServicePort| {
        let new = same(&port).map(|new| ServicePort {
            frontends: port.frontends.clone(),
            ..new
        });
        new.iter().flat_map(Meaning::of_port).collect::<Vec<_>>()
    };
    old.values().flatten().flat_map(passing).collect()
}

/// Carries operations out one by one; between them every frontend means what it meant or what it will mean.
fn carry_out_watched(
    kernel: &mut Kernel,
    operations: &[Operation],
    expected: &BTreeMap<Frontend, Meaning>,
    passing: &BTreeMap<Frontend, Meaning>,
) {
    let before = kernel.meanings();
    let all: BTreeSet<Frontend> = before.keys().chain(expected.keys()).copied().collect();
    for operation in operations {
        kernel.carry_out(std::slice::from_ref(operation));
        let now = kernel.meanings();
        for frontend in &all {
            let (old, new) = (before.get(frontend), expected.get(frontend));
            let passing = passing.get(frontend);
            let allowed: Vec<&Meaning> = [old, new, passing].into_iter().flatten().collect();
            match now.get(frontend) {
                Some(now) => assert!(
                    now.is_made_of(&allowed),
                    "{frontend:?} after {operation:?}: {now:?}"
                ),
                None => assert!(
                    old.is_none() || new.is_none(),
                    "{frontend:?} is gone after {operation:?}"
                ),
            }
        }
    }
    assert_eq!(&kernel.meanings(), expected);
}

fn run(capacity: Capacity, steps: Vec<Step>) {
    let mut bench = Bench::new(capacity);
    let mut installed: BTreeMap<ObjectName, Vec<ServicePort>> = BTreeMap::new();
    let mut tokens = Vec::new();
    for step in steps {
        match step {
            Step::Change(world) => {
                let desired = desired_of(&world);
                let names: BTreeSet<ObjectName> = desired.keys().chain(installed.keys()).cloned().collect();
                let ports = |name: &ObjectName| desired.get(name).cloned().unwrap_or_default();
                let batch: Vec<_> = names
                    .into_iter()
                    .map(|name| (name.clone(), ports(&name)))
                    .collect();
                let plan = bench.planner.apply(&batch);
                let failed: BTreeSet<_> = plan.failed.iter().map(|error| error.service.clone()).collect();
                let taken: BTreeSet<Frontend> = batch
                    .iter()
                    .filter(|(name, _)| !failed.contains(name))
                    .flat_map(|(_, ports)| ports.iter().flat_map(|port| &port.frontends))
                    .map(|(frontend, _)| *frontend)
                    .collect();
                let old = installed.clone();
                for (name, ports) in batch {
                    if failed.contains(&name) {
                        for port in installed.get_mut(&name).into_iter().flatten() {
                            port.frontends.retain(|(frontend, _)| !taken.contains(frontend));
                        }
                    } else if ports.is_empty() {
                        installed.remove(&name);
                    } else {
                        installed.insert(name, ports);
                    }
                }
                let passing = passing_meanings(&old, &installed);
                carry_out_watched(
                    &mut bench.kernel,
                    &plan.operations,
                    &meanings(&installed),
                    &passing,
                );
                tokens.extend(plan.token);
                assert_eq!(differences(&installed, &bench.kernel.snapshot()), []);
            }
            Step::Grace => {
                for token in &tokens {
                    bench.planner.grace_passed(*token);
                }
                bench.kernel.grace();
            }
            Step::Sweep => {
                let Some(last) = tokens.last().copied() else {
                    continue;
                };
                tokens.clear();
                bench.planner.grace_passed(last);
                bench.kernel.grace();
                let operations = bench.planner.swept(last);
                carry_out_watched(
                    &mut bench.kernel,
                    &operations,
                    &meanings(&installed),
                    &BTreeMap::new(),
                );
            }
            Step::Restart => {
                bench.kernel.grace();
                let (planner, repairs) = Planner::adopt(&bench.kernel.snapshot(), capacity);
                assert_eq!(repairs, []);
                bench.planner = planner;
                let batch: Vec<_> = installed.clone().into_iter().collect();
                let plan = bench.planner.apply(&batch);
                assert_eq!((plan.operations, plan.failed), (Vec::new(), Vec::new()));
                let plan = bench.planner.prune();
                assert_eq!(plan.operations, []);
                tokens = Vec::from_iter(plan.token);
            }
        }
    }
    let plan = bench.planner.apply(
        &installed
            .keys()
            .map(|name| (name.clone(), Vec::new()))
            .collect::<Vec<_>>(),
    );
    bench.kernel.carry_out(&plan.operations);
    tokens.extend(plan.token);
    if let Some(last) = tokens.last() {
        bench.planner.grace_passed(*last);
        bench.kernel.grace();
        let operations = bench.planner.swept(*last);
        bench.kernel.carry_out(&operations);
    }
    assert!(bench.kernel.is_empty(), "{:?}", bench.kernel);
    let planner = &bench.planner;
    let left = (planner.slots.free(), planner.backends.left(), planner.ids.left());
    let all = (
        capacity.slots,
        capacity.backends as usize - 1,
        capacity.services as usize - 1,
    );
    assert_eq!(left, all, "nothing leaks");
}

/// The agent dies after any operation; its successor finishes the work.
fn crash(worlds: [World; 2], after: prop::sample::Index) {
    let mut bench = Bench::new(AMPLE);
    let [old, new] = worlds.map(|world| desired_of(&world));
    let everything = |from: &BTreeMap<ObjectName, _>, to: &BTreeMap<ObjectName, Vec<ServicePort>>| {
        let names: BTreeSet<ObjectName> = from.keys().chain(to.keys()).cloned().collect();
        let ports = |name: &ObjectName| to.get(name).cloned().unwrap_or_default();
        names
            .into_iter()
            .map(|name| (name.clone(), ports(&name)))
            .collect::<Vec<_>>()
    };
    let plan = bench.planner.apply(&everything(
        &BTreeMap::<ObjectName, Vec<ServicePort>>::new(),
        &old,
    ));
    bench.kernel.carry_out(&plan.operations);
    let plan = bench.planner.apply(&everything(&old, &new));
    let done = if plan.operations.is_empty() {
        0
    } else {
        after.index(plan.operations.len())
    };
    bench.kernel.carry_out(&plan.operations[..done]);

    bench.kernel.grace();
    let (mut planner, repairs) = Planner::adopt(&bench.kernel.snapshot(), AMPLE);
    assert_eq!(repairs, []);
    let plan = planner.apply(&new.clone().into_iter().collect::<Vec<_>>());
    assert_eq!(plan.failed, []);
    bench.kernel.carry_out(&plan.operations);
    let pruned = planner.prune();
    bench.kernel.carry_out(&pruned.operations);
    assert_eq!(bench.kernel.meanings(), meanings(&new));
    let all_gone = planner.apply(
        &new.keys()
            .map(|name| (name.clone(), Vec::new()))
            .collect::<Vec<_>>(),
    );
    bench.kernel.carry_out(&all_gone.operations);
    for token in [plan.token, pruned.token, all_gone.token].into_iter().flatten() {
        planner.grace_passed(token);
        bench.kernel.grace();
        bench.kernel.carry_out(&planner.swept(token));
    }
    assert!(bench.kernel.is_empty(), "{:?}", bench.kernel);
    assert_eq!(planner.slots.free(), AMPLE.slots);
    assert_eq!(planner.backends.left(), AMPLE.backends as usize - 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn readers_see_the_old_or_the_new_and_nothing_leaks(steps in any_steps()) {
        run(AMPLE, steps);
    }

    #[test]
    fn with_little_room_each_service_changes_whole_or_not_at_all(
        steps in any_steps(),
        services in 2..10_u32, backends in 2..14_u32, slots in 1..20_u32, frontends in 1..8_u32
    ) {
        run(Capacity { services, backends, slots, frontends4: frontends, frontends6: frontends, ranges4: 3, ranges6: 2 }, steps);
    }

    #[test]
    fn a_crash_after_any_operation_is_made_good(worlds: [World; 2], after: prop::sample::Index) {
        crash(worlds, after);
    }
}
