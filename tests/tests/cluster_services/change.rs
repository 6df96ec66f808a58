//! Servers come and go under load.

use crate::load::FromPod;
use crate::steps::standing;

#[test]
fn no_call_fails_while_a_deployment_is_scaled_up_and_down() {
    let standing = standing().unwrap();
    standing.scale(1).unwrap();
    standing.wait_for_answers_of(1).unwrap();
    let load = FromPod::start(&standing).unwrap();
    standing.scale(20).unwrap();
    standing.wait_for_answers_of(20).unwrap();
    standing.scale(1).unwrap();
    standing.wait_for_answers_of(1).unwrap();
    let calls = load.end(&standing).unwrap();
    assert!(calls > 100, "only {calls} calls were made");
}

#[test]
fn no_call_fails_while_a_deployment_is_rolled_over() {
    let standing = standing().unwrap();
    standing.scale(4).unwrap();
    standing.wait_for_answers_of(4).unwrap();
    let before = standing.answers(64).unwrap();
    let load = FromPod::start(&standing).unwrap();
    standing
        .kubectl(&["rollout", "restart", "deployment/server"])
        .unwrap();
    standing.roll_out("deployment/server").unwrap();
    standing.wait_for_answers_of(4).unwrap();
    let after = standing.answers(64).unwrap();
    let calls = load.end(&standing).unwrap();
    assert!(calls > 100, "only {calls} calls were made");
    assert!(before.is_disjoint(&after), "{before:?} and {after:?}");
}
