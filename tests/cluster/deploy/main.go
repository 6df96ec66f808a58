// Command check reads files of deploy/ as their programs do, and says what those programs would say:
//
//	check dockerfile FILE     parses it as BuildKit does, with BuildKit's own rules for instructions
//	check kind FILE           decodes it as kind does, and prints the cluster as JSON
//	check kustomize FOLDER    renders it as kubectl does
package main

import (
	"fmt"
	"os"
)

var readers = map[string]func(path string) error{
	"dockerfile": dockerfile,
	"kind":       kind,
	"kustomize":  kustomize,
}

func main() {
	if len(os.Args) != 3 || readers[os.Args[1]] == nil {
		fail(fmt.Errorf("usage: check dockerfile|kind|kustomize PATH"))
	}
	if err := readers[os.Args[1]](os.Args[2]); err != nil {
		fail(fmt.Errorf("%s: %w", os.Args[2], err))
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "check:", err)
	os.Exit(1)
}
