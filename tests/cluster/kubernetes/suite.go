// Package kubernetes pins what the cluster of the tests is built from; go.mod names the programs.
package kubernetes

import _ "k8s.io/kubernetes/test/e2e" // the e2e suite, built as a test binary
