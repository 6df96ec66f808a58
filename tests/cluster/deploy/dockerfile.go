package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

func dockerfile(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	tree, err := parser.Parse(file)
	if err != nil {
		return err
	}
	var found []error
	for _, warning := range tree.Warnings {
		found = append(found, errors.New(warning.Short))
	}
	rules := linter.New(&linter.Config{
		Warn: func(rule, _, _, message string, location []parser.Range) {
			line := 0
			if len(location) > 0 {
				line = location[0].Start.Line
			}
			found = append(found, fmt.Errorf("line %d: %s: %s", line, rule, message))
		},
	})
	stages, _, err := instructions.Parse(tree.AST, rules)
	if err != nil {
		return err
	}
	for _, stage := range stages {
		fmt.Println(stage.Name, stage.BaseName)
	}
	return errors.Join(found...)
}
