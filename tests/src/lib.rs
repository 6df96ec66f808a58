//! The lab: two nodes, their pods, a network between and a client outside, as network namespaces.
