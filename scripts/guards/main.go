// Command guards proves that the guards against losing or doubling a row bite:
// it takes each away in turn, by a change of one line that is never written to
// the tree, and runs the tests that must fail then. docs/correctness.md has the
// same table. Arguments name guards to try; none means all.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// guard is one guard, and what shows that it is needed.
type guard struct {
	name     string
	file     string // where it stands
	line     string // a piece of one line, there once
	disabled string // what stands there without the guard
	pkg      string
	test     string // the test that fails then, for go test -run
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "guards:", err)
		os.Exit(1)
	}
}

func run(names []string) error {
	dir, err := os.MkdirTemp("", "guards")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	failed := 0
	for _, g := range guards {
		if len(names) > 0 && !slices.Contains(names, g.name) {
			continue
		}
		if err := g.try(dir); err != nil {
			failed++
			fmt.Printf("%-28s %v\n", g.name, err)
			continue
		}
		fmt.Printf("%-28s bites: %s fails without it\n", g.name, g.test)
	}
	if failed > 0 {
		return fmt.Errorf("%d guards do not bite", failed)
	}
	return nil
}

// try runs the guard's test on a program without the guard.
func (g guard) try(dir string) error {
	source, err := os.ReadFile(g.file)
	if err != nil {
		return err
	}
	if n := bytes.Count(source, []byte(g.line)); n != 1 {
		return fmt.Errorf("its line stands %d times in %s: %s", n, g.file, g.line)
	}
	changed := filepath.Join(dir, "changed.go")
	if err := os.WriteFile(changed, bytes.Replace(source, []byte(g.line), []byte(g.disabled), 1), 0o600); err != nil {
		return err
	}
	file, err := filepath.Abs(g.file)
	if err != nil {
		return err
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {file: changed}})
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(path, overlay, 0o600); err != nil {
		return err
	}
	out, err := exec.CommandContext(context.Background(), "go", "test", "-count=1", "-vet=off", "-timeout=120s", "-overlay="+path, "-run", g.test, g.pkg).CombinedOutput()
	switch {
	case err == nil && bytes.Contains(out, []byte("no tests to run")):
		return fmt.Errorf("there is no test %s in %s", g.test, g.pkg)
	case err == nil:
		return fmt.Errorf("does NOT bite: %s passes without it", g.test)
	case bytes.Contains(out, []byte("[build failed]")) || !bytes.Contains(out, []byte("--- FAIL")):
		text := strings.TrimSpace(string(out))
		return fmt.Errorf("could not be tried: %s", text[:min(len(text), 500)])
	}
	return nil
}
