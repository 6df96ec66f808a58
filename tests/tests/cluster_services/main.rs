//! A real Kubernetes with Shunt on its nodes: names resolved, an ingress controller, and calls that do not fail while pods and
//! the API server come and go.

mod change;
mod group;
mod ingress;
mod load;
mod names;
mod outage;
mod steps;
